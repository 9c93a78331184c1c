"""Writes what an agent knows on its TradingBot, where it runs in a Kubernetes cluster.

Trading never waits for it: the API server may be away, or refuse, for as long as it likes. That is told once, and
tried on with growing pauses.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import DependencyAway, DependencyBack
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.runtime import cluster_names
from tradingbot_agents.runtime.api_server import ApiServer, ApiUnavailable, ClusterAccess, read_access
from tradingbot_agents.runtime.facts import Report, Worth, is_due, status_of
from tradingbot_agents.telemetry import Sink, get_logger

KUBERNETES = "kubernetes"
"""As a part that may be away."""

TELLERS = (RISK, EXECUTION)
"""The agents that write; each has a field manager of its own, and only its own fields."""

_FIRST_PAUSE = timedelta(seconds=5)
_LONGEST_PAUSE = timedelta(minutes=5)
"""Between two attempts while the API server does not take it."""

_SETTLE_SECONDS = 1.0
"""For handlers to end that began in another state; one that takes longer is waited for again at the next beat."""


def read_cluster(agent: str, environment: Mapping[str, str]) -> ClusterAccess | None:
    """How to reach the TradingBot; ``None`` where there is none to be told. Raises ``ConnectionsInvalid``."""
    return read_access(environment) if agent in TELLERS else None


class BotStatus:
    """The status of one TradingBot, as one agent writes it: server-side apply of its own fields."""

    def __init__(self, access: ClusterAccess, agent: str, bot: str) -> None:
        self._server = ApiServer(access)
        self._name = {"name": bot, "namespace": access.namespace}
        self._path = f"{cluster_names.bot_path(access.namespace, bot)}/status"
        self._query = {"fieldManager": f"tradingbot-{agent}", "force": "true"}

    async def apply(self, status: Mapping[str, Any]) -> None:
        """Raises ``ApiUnavailable``."""
        manifest = {
            "apiVersion": cluster_names.API,
            "kind": cluster_names.KIND,
            "metadata": self._name,
            "status": status,
        }
        await self._server.apply(self._path, self._query, manifest)


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
