"""What a bot's objects are called in a cluster, as the operator names them: both sides know the names, neither knows
the other."""

from __future__ import annotations

API = "tradingbot.dev/v1alpha1"
KIND = "TradingBot"
PLURAL = "tradingbots"

BOT = "tradingbot.dev/bot"
COMPONENT = "app.kubernetes.io/component"
"""Labels. An agent's pod has its name as component, and so has its container."""

REVISION = "tradingbot.dev/revision"
"""An annotation of pods: the pinned revision that they run."""


def bot_path(namespace: str, bot: str) -> str:
    return f"/apis/{API}/namespaces/{namespace}/{PLURAL}/{bot}"


def pods_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/pods"


def events_path(namespace: str) -> str:
    return f"/api/v1/namespaces/{namespace}/events"


def log_path(namespace: str, pod: str) -> str:
    return f"{pods_path(namespace)}/{pod}/log"
