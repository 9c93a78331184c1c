"""Starts agents in the right order, restarts one that fails, and stops them in the right order.

Consumers start before producers, so that nothing is said before somebody listens; producers stop first. An
agent that fails is taken apart completely and a new one is built: it recovers from the ledger, so nothing that
the old one held in memory is needed. While an agent is down, the driver of a replay moves neither time nor messages.

Where parts are outside of the process, one that is away is nobody's failure: an agent that met it is started again
when it is back, however long that takes, and only what is its own counts.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import Protocol

import msgspec

from tradingbot_agents.bus import Bus
from tradingbot_agents.bus.topology import DATA_COLLECTION, EXECUTION, RISK, STRATEGY, TECHNICAL_ANALYSIS
from tradingbot_agents.clock import Clock, Timers
from tradingbot_agents.domain.events import AgentRestarted, DependencyAway
from tradingbot_agents.ledger.port import Fenced, LedgerError
from tradingbot_agents.telemetry import Sink, worth_telling

DEPENDENCY = "database"

START_ORDER = (EXECUTION, RISK, STRATEGY, TECHNICAL_ANALYSIS, DATA_COLLECTION)
"""Execution first: it takes up every unfinished order and position before anything new can happen."""


class Agent(Protocol):
    name: str

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Backoff(msgspec.Struct, frozen=True):
    """Pauses between restarts of one agent, in real time."""

    first: timedelta
    longest: timedelta
    attempts: int
    """Restarts, each within ``calm`` of the one before, after which the run gives up."""
    calm: timedelta
    """An agent that ran for so long without failing starts to count anew."""

    def pause(self, attempt: int) -> timedelta:
        """Before restart number ``attempt`` (from 1): doubled each time, up to the longest."""
        # The exponent is bounded, for an outage may last for days.
        return min(self.first * int(2 ** min(attempt - 1, 30)), self.longest)


class AgentGaveUp(Exception):
    """An agent failed again and again. The ledger has all that happened: the same command goes on from there."""

    def __init__(self, agent: str, attempts: int, error: BaseException) -> None:
        last = f"{type(error).__name__}: {error}".rstrip(".")
        super().__init__(
            f"the {agent} failed {attempts + 1} times in a row, last with {last}. "
            "Nothing is lost: mend the cause and start the same command again"
        )
        self.agent = agent


class Supervisor:
    def __init__(
        self,
        factories: Mapping[str, Callable[[], Agent]],
        *,
        bus: Bus,
        timers: Timers,
        clock: Clock,
        sink: Sink,
        backoff: Backoff,
        restore: Callable[[], Awaitable[None]],
        order: Sequence[str] = START_ORDER,
        fatal: tuple[type[Exception], ...] = (),
        outage: Callable[[BaseException], str | None] = lambda error: None,
        settle: Callable[[], Awaitable[None]] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``restore`` brings back what agents depend on before a restart, or waits for it. ``order`` is that of the
        start. After ``fatal`` errors, and after ``Fenced``, only another process can go on. ``outage`` names the part
        that is away when an error says so. ``settle`` waits for handlers of an agent that has been detached."""
        missing = set(order) - set(factories)
        if missing:
            raise ValueError(f"no factory for {', '.join(sorted(missing))}")
        self._factories = factories
        self._bus = bus
        self._timers = timers
        self._clock = clock
        self._sink = sink
        self._backoff = backoff
        self._restore = restore
        self._order = tuple(order)
        self._fatal: tuple[type[Exception], ...] = (Fenced, *fatal)
        self._outage = outage
        self._settle = settle
        self._sleep = sleep
        self._monotonic = monotonic
        self._running: dict[str, Agent] = {}
        self._failures: dict[str, tuple[int, float]] = {}

    async def start(self) -> None:
        for name in self._order:
            try:
                await self._start(name)
            except Exception as error:
                await self.recover(name, error)

    async def recover(self, name: str, error: BaseException) -> None:
        """Replace a failed agent. Raises what no new agent would mend (``Fenced``: another process took over), or
        ``AgentGaveUp``."""
        while True:
            await self._take_apart(name)
            if isinstance(error, self._fatal):
                raise error
            away = self._outage(error)
            attempt = self._count_failure(name if away is None else away)
            if away is not None:
                if worth_telling(attempt):
                    self._tell_away(away, attempt, error)
            elif attempt > self._backoff.attempts:
                raise AgentGaveUp(f"{name} agent", attempt - 1, error) from error
            else:
                self._sink.emit(
                    AgentRestarted(
                        at=self._clock.now(),
                        agent="supervisor",
                        restarted=name,
                        attempt=attempt,
                        error=f"{type(error).__name__}: {error}",
                    )
                )
            await self._sleep(self._backoff.pause(attempt).total_seconds())
            try:
                await self._restore()
                await self._start(name)
                return
            except Exception as again:
                error = again

    async def bring_back(self, error: Exception) -> None:
        """Something that agents need is away, as ``error`` says, and they are not to blame: restore it, with growing
        pauses. Raises ``AgentGaveUp`` when that does not help."""
        cause = error.__cause__ or error
        attempt = self._count_failure(DEPENDENCY)
        if attempt > self._backoff.attempts:
            raise AgentGaveUp(DEPENDENCY, attempt - 1, cause) from error
        self._tell_away(DEPENDENCY, attempt, cause)
        await self._sleep(self._backoff.pause(attempt).total_seconds())
        try:
            await self._restore()
        except LedgerError as again:
            if attempt >= self._backoff.attempts:
                raise AgentGaveUp(DEPENDENCY, attempt - 1, again) from again

    def _tell_away(self, what: str, attempt: int, error: BaseException) -> None:
        self._sink.emit(
            DependencyAway(
                at=self._clock.now(),
                agent="supervisor",
                what=what,
                attempt=attempt,
                why=f"{type(error).__name__}: {error}",
            )
        )

    def _count_failure(self, name: str) -> int:
        now = self._monotonic()
        attempts, last = self._failures.get(name, (0, now))
        attempts = 1 if now - last > self._backoff.calm.total_seconds() else attempts + 1
        self._failures[name] = (attempts, now)
        return attempts

    async def stop(self) -> None:
        """Producers first; every agent is given the chance to stop, even when another one fails to."""
        errors: list[Exception] = []
        for name in reversed(self._order):
            try:
                await self._take_apart(name)
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("agents failed to stop", errors)

    async def _start(self, name: str) -> None:
        agent = self._factories[name]()
        self._running[name] = agent
        await agent.start()

    async def _take_apart(self, name: str) -> None:
        await self._bus.detach(name)
        self._timers.cancel_all(name)
        if self._settle is not None:
            await self._settle()
        agent = self._running.pop(name, None)
        if agent is not None:
            await agent.stop()
