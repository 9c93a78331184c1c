"""Who the bot's pods are to the API server, and what they may do there.

Each has an identity of its own, and almost none may do anything: the agents speak to each other over RabbitMQ. Risk
and execution write what they know (equity, positions, the state that is reached) on the TradingBot; the reality
check reads pods and their logs as evidence, and writes its verdict. Nobody reads a Secret through the API: what a
pod needs is mounted.
"""

from __future__ import annotations

from tradingbot_api import TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import GROUP, PLURAL, PROGRAMS, Component

TELLERS = (Component.RISK, Component.EXECUTION)
"""Agents that write to the TradingBot; the others have no token of a service account."""


def has_token(component: Component) -> bool:
    return component in TELLERS or component is Component.REALITY_CHECK


def access(bot: TradingBot, namespace: str) -> list[Manifest]:
    """A ServiceAccount of each program, and a Role with its RoleBinding for each that may do something."""
    name = bot.metadata.name
    manifests = [_service_account(name, namespace, component) for component in PROGRAMS]
    for component in TELLERS:
        manifests += _role(name, namespace, component, _own_bot(name))
    manifests += _role(name, namespace, Component.REALITY_CHECK, [*_own_bot(name), *_evidence()])
    return manifests


def _own_bot(bot: str) -> list[Manifest]:
    """This TradingBot and no other. An apply of what exists is a patch, so nothing needs ``create`` or ``update``."""
    return [
        _rule(GROUP, [PLURAL], ["get"]) | {"resourceNames": [bot]},
        _rule(GROUP, [f"{PLURAL}/status"], ["get", "patch"]) | {"resourceNames": [bot]},
    ]


def _evidence() -> list[Manifest]:
    """RBAC knows no labels: the check may read the logs of every pod of the namespace, and asks for the bot's own."""
    return [
        _rule("", ["pods"], ["get", "list"]),
        _rule("", ["pods/log"], ["get"]),
        _rule("", ["events"], ["create"]),
    ]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Manifest:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _service_account(bot: str, namespace: str, component: Component) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": _metadata(bot, namespace, component),
        # A pod that needs its token says so itself.
        "automountServiceAccountToken": False,
    }


def _role(bot: str, namespace: str, component: Component, rules: list[Manifest]) -> list[Manifest]:
    name = names.child(bot, component)
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": _metadata(bot, namespace, component),
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": _metadata(bot, namespace, component),
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        },
    ]


def _metadata(bot: str, namespace: str, component: Component) -> Manifest:
    return pods.metadata(names.child(bot, component), namespace, names.bot_labels(bot, component))
