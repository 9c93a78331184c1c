"""Drives a replay in lockstep: one message or timer at a time, and time moves only when there is none left.

That makes a run a function of the candles, the spec and the seed: however slow the database is, and wherever
the process was killed and started again, the same things happen in the same order. ``speed`` only says how
long to wait, in real time, before time moves on.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum

from tradingbot_agents.bus import HandlerFailed
from tradingbot_agents.bus.embedded import EmbeddedBus
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.clock.virtual import TimerFailed
from tradingbot_agents.runtime.supervisor import Supervisor

SETTLE = timedelta(seconds=5)
"""Virtual time after the last candle, or after a stop was asked for, in which decisions that were begun are
finished: longer than an approval window and an order's latency, shorter than any bar."""

BREATH = 0.05
"""Seconds of real time between two looks at what is not part of the replay: signals, the view, the spec file."""


class Ending(StrEnum):
    FINISHED = "finished"
    """The candles are used up."""
    UNTIL = "until"
    """The time that was asked for is reached."""
    STOPPED = "stopped"
    """A person or the system asked to stop."""


async def wait_until_set(event: asyncio.Event, seconds: float) -> None:
    """Real time passes: ``seconds`` of it, or less when the event comes first."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


class ReplayDriver:
    def __init__(
        self,
        *,
        clock: VirtualClock,
        timers: VirtualTimers,
        bus: EmbeddedBus,
        supervisor: Supervisor,
        end: datetime,
        until: datetime | None,
        next_close: Callable[[], datetime | None],
        speed: float | None,
        housekeeping: Callable[[], Awaitable[None]],
        stop: asyncio.Event,
        monotonic: Callable[[], float] = time.monotonic,
        wait: Callable[[asyncio.Event, float], Awaitable[None]] = wait_until_set,
    ) -> None:
        """``end`` is when the last candle closes, ``next_close`` says when the next one does; ``speed`` is
        virtual seconds a real one (``None``: no wait); ``housekeeping`` runs between two steps, about every
        ``BREATH`` seconds; ``monotonic`` and ``wait`` are real time."""
        self._clock = clock
        self._timers = timers
        self._bus = bus
        self._supervisor = supervisor
        self._end = end
        self._until = until
        self._next_close = next_close
        self._speed = speed
        self._housekeeping = housekeeping
        self._stop = stop
        self._monotonic = monotonic
        self._wait = wait
        self._breathed = monotonic()
        self._anchor = (monotonic(), clock.now())

    async def run(self) -> Ending:
        """Until the candles end, ``until`` is reached, or a stop is asked for."""
        last = self._end if self._until is None else min(self._end, self._until)
        while True:
            await self._drain()
            if self._stop.is_set():
                await self._settle(self._clock.now())
                return Ending.STOPPED
            due = self._next_due()
            if due is None or due > last:
                self._clock.advance_to(last)
                await self._settle(last)
                return Ending.FINISHED if last >= self._end else Ending.UNTIL
            if not await self._wait_for(due):
                continue
            self._clock.advance_to(due)
            await self._fire()

    def _next_due(self) -> datetime | None:
        dues = [due for due in (self._timers.next_due(), self._bus.next_due()) if due is not None]
        return min(dues) if dues else None

    async def _settle(self, since: datetime) -> None:
        """Finish what was begun by ``since``, and begin nothing with a later candle."""
        deadline = since + SETTLE
        while (due := self._next_due()) is not None and due <= deadline:
            close = self._next_close()
            if close is not None and due >= close:
                return
            self._clock.advance_to(due)
            await self._fire()
            await self._drain()

    async def _drain(self) -> None:
        """Deliver all there is. While something that a handler needs is away, neither messages nor time move."""
        await self._deliver()
        while (error := self._bus.held_up_by) is not None:
            await self._supervisor.bring_back(error)
            self._bus.resume()
            await self._deliver()

    async def _deliver(self) -> None:
        while True:
            if self._monotonic() - self._breathed >= BREATH:
                await self._breathe()
            try:
                if not await self._bus.step():
                    return
            except HandlerFailed as failure:
                await self._supervisor.recover(failure.owner, failure.__cause__ or failure)

    async def _fire(self) -> None:
        try:
            await self._timers.fire_next()
        except TimerFailed as failure:
            await self._supervisor.recover(failure.owner, failure.__cause__ or failure)

    async def _breathe(self) -> None:
        await asyncio.sleep(0)
        await self._housekeeping()
        self._breathed = self._monotonic()

    async def _wait_for(self, due: datetime) -> bool:
        """Wait, in real time, until ``due`` has its turn. ``False``: a stop was asked for meanwhile."""
        if self._speed is None:
            return True
        began, virtual = self._anchor
        turn = began + (due - virtual).total_seconds() / self._speed
        while (left := turn - self._monotonic()) > 0:
            await self._wait(self._stop, min(left, BREATH))
            if self._stop.is_set():
                return False
            await self._breathe()
        return True
