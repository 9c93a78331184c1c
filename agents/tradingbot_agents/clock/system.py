"""The machine's time, and handlers that run by it, one at a time for each agent.

Agents are written for one handler at a time: what a handler reads before it waits must still be so after. In one
process the driver sees to that; where messages and timers come by themselves, ``Turns`` does, and everything that
runs an agent's handlers takes its turn there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

from tradingbot_agents.clock.port import Clock, TimerHandler

LONGEST_WAIT = timedelta(minutes=1)
"""The wall clock may be set while a timer waits: it is looked at again at least so often."""

OnFailure = Callable[[str, Exception], None]
"""Told which agent's handler raised what."""


class SystemClock:
    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep(self, delay: timedelta) -> None:
        await asyncio.sleep(max(delay.total_seconds(), 0))


class Turns:
    """Handlers of one owner run one after another, in the order in which they asked."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._began: dict[str, float] = {}
        self._monotonic = monotonic

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        async with self._locks.setdefault(owner, asyncio.Lock()):
            self._began[owner] = self._monotonic()
            try:
                yield
            finally:
                del self._began[owner]

    def longest(self) -> float:
        """Seconds that the longest turn of now has taken: one that never ends is an agent that does nothing more."""
        now = self._monotonic()
        return max((now - began for began in self._began.values()), default=0.0)

    async def settled(self) -> None:
        """Wait until every turn that has been asked for is over."""
        for lock in list(self._locks.values()):
            async with lock:
                pass


class _Timer:
    def __init__(self, owner: str, when: datetime, handler: TimerHandler, interval: timedelta | None) -> None:
        self.owner = owner
        self.when = when
        self.handler = handler
        self.interval = interval
        self.cancelled = False
        self.waiting: asyncio.TimerHandle | None = None

    def cancel(self) -> None:
        self.cancelled = True
        if self.waiting is not None:
            self.waiting.cancel()
            self.waiting = None


class SystemTimers:
    """Timers of the running event loop."""

    def __init__(self, clock: Clock, turns: Turns, on_failure: OnFailure) -> None:
        self._clock = clock
        self._turns = turns
        self._on_failure = on_failure
        self._timers: set[_Timer] = set()
        self._running: set[asyncio.Task[None]] = set()

    def at(self, owner: str, when: datetime, handler: TimerHandler) -> _Timer:
        return self._arm(_Timer(owner, when, handler, None))

    def every(self, owner: str, interval: timedelta, handler: TimerHandler, first: datetime | None = None) -> _Timer:
        if interval <= timedelta(0):
            raise ValueError(f"a timer's interval must be above zero, not {interval}")
        return self._arm(_Timer(owner, first or self._clock.now() + interval, handler, interval))

    def cancel_all(self, owner: str) -> None:
        for timer in [timer for timer in self._timers if timer.owner == owner]:
            timer.cancel()
            self._timers.discard(timer)

    async def settled(self) -> None:
        """Wait for the handlers that run."""
        while self._running:
            await asyncio.wait(self._running)

    def _arm(self, timer: _Timer) -> _Timer:
        self._timers = {known for known in self._timers if not known.cancelled}
        self._timers.add(timer)
        wait = min(timer.when - self._clock.now(), LONGEST_WAIT)
        loop = asyncio.get_running_loop()
        timer.waiting = loop.call_later(max(wait.total_seconds(), 0), self._ring, timer)
        return timer

    def _ring(self, timer: _Timer) -> None:
        timer.waiting = None
        if timer.when > self._clock.now():
            self._arm(timer)
            return
        self._start(self._run(timer))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _run(self, timer: _Timer) -> None:
        async with self._turns.turn(timer.owner):
            if timer.cancelled:
                return
            try:
                await timer.handler()
            except Exception as error:
                timer.cancel()
                self._on_failure(timer.owner, error)
        if timer.cancelled or timer.interval is None:
            self._timers.discard(timer)
            return
        # Beats that were missed are not made up for, and the next keeps its phase.
        missed = (self._clock.now() - timer.when) // timer.interval
        timer.when += (max(missed, 0) + 1) * timer.interval
        self._arm(timer)
