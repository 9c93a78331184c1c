"""Writes what an agent knows on its TradingBot, where it runs in a Kubernetes cluster.

Trading never waits for it: the API server may be away, or refuse, for as long as it likes. That is told once, and
tried on with growing pauses. Each write makes its own connection, for there is one in minutes at rest, and so a token
or a CA that was exchanged in the mounted folder is taken up by itself. It is one request, so no Kubernetes client is
loaded for it.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec

from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import DependencyAway, DependencyBack
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.runtime.connections import ConnectionsInvalid
from tradingbot_agents.runtime.facts import Report, Worth, is_due, status_of
from tradingbot_agents.telemetry import Sink, get_logger

KUBERNETES = "kubernetes"
"""As a part that may be away."""

TELLERS = (RISK, EXECUTION)
"""The agents that write; each has a field manager of its own, and only its own fields."""

_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a cluster mounts the token and the CA of a pod's service account."""

_ANSWER_SECONDS = 10.0
_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=5)
"""Between two attempts while the API server does not take it."""

_SETTLE_SECONDS = 1.0
"""For handlers to end that began in another state; one that takes longer is waited for again at the next beat."""

_LONGEST_MESSAGE = 300


class ApiUnavailable(Exception):
    """The API server did not take it. The text says why, and holds no secret."""


class ClusterAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How this process reaches its TradingBot."""

    server: str
    """``https://HOST:PORT``"""
    namespace: str
    folder: Path
    """Has ``token`` and ``ca.crt``."""
    revision: str | None
    """The pinned revision that the pod runs."""


def read_cluster(agent: str, environment: Mapping[str, str]) -> ClusterAccess | None:
    """How to reach the TradingBot; ``None`` where there is none to be told. Raises ``ConnectionsInvalid``."""
    if environment.get("TRADINGBOT_KUBERNETES") != "1" or agent not in TELLERS:
        return None
    names = ("TRADINGBOT_NAMESPACE", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise ConnectionsInvalid(
            f"TRADINGBOT_KUBERNETES is 1, but {', '.join(missing)} is not set: set it, or unset TRADINGBOT_KUBERNETES"
        )
    namespace, host, port = (environment[name] for name in names)
    return ClusterAccess(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace,
        folder=Path(environment.get("TRADINGBOT_SERVICE_ACCOUNT_DIR") or _FOLDER),
        revision=environment.get("TRADINGBOT_REVISION") or None,
    )


class BotStatus:
    """The status of one TradingBot, as one agent writes it: server-side apply of its own fields."""

    def __init__(self, access: ClusterAccess, agent: str, bot: str) -> None:
        self._access = access
        self._name = {"name": bot, "namespace": access.namespace}
        self._url = (
            f"{access.server}/apis/tradingbot.dev/v1alpha1/namespaces/{access.namespace}/tradingbots/{bot}/status"
        )
        self._query = {"fieldManager": f"tradingbot-{agent}", "force": "true"}

    async def apply(self, status: Mapping[str, Any]) -> None:
        """Raises ``ApiUnavailable``."""
        import aiohttp

        manifest = {
            "apiVersion": "tradingbot.dev/v1alpha1",
            "kind": "TradingBot",
            "metadata": self._name,
            "status": status,
        }
        try:
            token = (self._access.folder / "token").read_text(encoding="utf-8").strip()
            trusted = ssl.create_default_context(cafile=str(self._access.folder / "ca.crt"))
            async with (
                aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_SECONDS)) as session,
                session.patch(
                    self._url,
                    params=self._query,
                    data=msgspec.json.encode(manifest),
                    headers={
                        "Authorization": f"Bearer {token}",
                        "Content-Type": "application/apply-patch+yaml",
                        "Accept": "application/json",
                    },
                    ssl=trusted,
                    allow_redirects=False,
                ) as answer,
            ):
                if answer.status >= 300:
                    raise ApiUnavailable(f"the API server says {answer.status}: {_message(await answer.read())}")
        except TimeoutError as error:
            raise ApiUnavailable(f"the API server did not answer within {_ANSWER_SECONDS:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise ApiUnavailable(f"the API server's certificate is not trusted: {error.certificate_error}") from error
        except aiohttp.ClientConnectorError as error:
            raise ApiUnavailable(f"{self._access.server} can not be reached: {error.os_error}") from error
        # Also a missing token, a CA that is none, and a name that is not one of a host.
        except (OSError, ValueError, aiohttp.ClientError) as error:
            raise ApiUnavailable(f"{type(error).__name__}: {error}") from error


def _message(body: bytes) -> str:
    try:
        found = msgspec.json.decode(body, type=dict[str, Any]).get("message")
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    return str(found or "without a reason")[:_LONGEST_MESSAGE]


class Teller:
    """Tells what one agent knows, when it is worth a write. ``beat`` is called again and again."""

    def __init__(
        self,
        *,
        agent: str,
        revision: str | None,
        state: Callable[[], BotState],
        settled: Callable[[], Awaitable[None]],
        worth: Callable[[], Awaitable[Worth]] | None,
        look_interval: timedelta,
        apply: Callable[[Mapping[str, Any]], Awaitable[None]],
        clock: Clock,
        sink: Sink,
        up: Callable[[bool], None],
    ) -> None:
        """``settled`` waits until every handler that runs has ended. ``worth`` is looked at every ``look_interval``
        (``None``: this agent tells of its state alone). ``up`` is told whether the API server takes it."""
        self._agent = agent
        self._revision = revision
        self._state = state
        self._settled = settled
        self._look = worth
        self._look_interval = look_interval
        self._apply = apply
        self._clock = clock
        self._sink = sink
        self._up = up
        self._reached: BotState | None = None
        self._worth: Worth | None = None
        self._look_at: datetime | None = None
        self._told: Report | None = None
        self._told_at: datetime | None = None
        self._attempts = 0
        self._not_before: datetime | None = None
        self._away_since = 0.0

    async def beat(self) -> None:
        """Look, and write what is due. Never raises: that somebody is told is worth no trade."""
        try:
            await self._reach()
            await self._measure()
            report = self._report()
            if report is not None and self._is_due(report):
                await self._tell(report)
        except Exception as error:
            get_logger().exception("telling_failed", agent=self._agent, error=f"{type(error).__name__}: {error}")

    async def _reach(self) -> None:
        """A state is reached when no handler is left that began in another one."""
        state = self._state()
        if state is self._reached:
            return
        try:
            async with asyncio.timeout(_SETTLE_SECONDS):
                await self._settled()
        except TimeoutError:
            return
        self._reached = state

    async def _measure(self) -> None:
        now = self._clock.now()
        if self._look is None or (self._look_at is not None and now < self._look_at):
            return
        self._look_at = now + self._look_interval
        try:
            self._worth = await self._look()
        except LedgerUnavailable:
            # Its part tells that. What was seen last keeps its time, which tells how old it is.
            return

    def _report(self) -> Report | None:
        # Without a look, what an earlier process has told would be taken away.
        if self._reached is None or (self._look is not None and self._worth is None):
            return None
        return Report(self._reached, self._worth)

    def _is_due(self, report: Report) -> bool:
        now = self._clock.now()
        if self._not_before is not None and now < self._not_before:
            return False
        waited = timedelta.max if self._told_at is None else now - self._told_at
        return is_due(self._told, report, waited)

    async def _tell(self, report: Report) -> None:
        try:
            await self._apply(status_of(self._agent, self._revision, report))
        except ApiUnavailable as error:
            self._attempts += 1
            pause = min(_FIRST_PAUSE * 2 ** min(self._attempts - 1, 10), _LONGEST_PAUSE)
            self._not_before = self._clock.now() + pause
            if self._attempts == 1:
                self._away_since = time.monotonic()
                self._up(False)
                self._sink.emit(
                    DependencyAway(
                        at=self._clock.now(), agent=self._agent, what=KUBERNETES, attempt=1, why=str(error)
                    )
                )
            return
        if self._attempts:
            seconds = round(time.monotonic() - self._away_since, 3)
            self._sink.emit(DependencyBack(at=self._clock.now(), agent=self._agent, what=KUBERNETES, seconds=seconds))
        self._attempts = 0
        self._not_before = None
        self._up(True)
        self._told, self._told_at = report, self._clock.now()
