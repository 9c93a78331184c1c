"""Time that moves only when it is told to.

A handler that sleeps moves the clock itself: while it runs, nothing else does, so its wait is simply time that
has passed. Timers that came due meanwhile fire after it, in order of their time; one that came due several
times fires once, and keeps its beat.
"""

from __future__ import annotations

import heapq
from datetime import UTC, datetime, timedelta

from tradingbot_agents.clock.port import TimerHandler

COMPACT_FROM = 64
"""Below so many timers, cancelled ones are not worth sweeping out."""


def _utc(when: datetime) -> datetime:
    if when.tzinfo is UTC:
        return when
    if when.tzinfo is None:
        raise ValueError(f"the clock needs an aware time, not {when.isoformat()}: give it a zone, such as UTC")
    return when.astimezone(UTC)


class VirtualClock:
    def __init__(self, start: datetime) -> None:
        self._now = _utc(start)

    def now(self) -> datetime:
        return self._now

    async def sleep(self, delay: timedelta) -> None:
        if delay > timedelta(0):
            self._now += delay

    def advance_to(self, when: datetime) -> None:
        """Move to ``when``; a moment that is already past changes nothing."""
        when = _utc(when)
        if when > self._now:
            self._now = when


class _Timer:
    __slots__ = ("cancelled", "handler", "interval", "owner", "when")

    def __init__(self, owner: str, when: datetime, handler: TimerHandler, interval: timedelta | None) -> None:
        self.owner = owner
        self.when = when
        self.handler = handler
        self.interval = interval
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class TimerFailed(Exception):
    """A timer's handler raised: ``owner`` names the agent, the cause is chained."""

    def __init__(self, owner: str) -> None:
        super().__init__(f"a timer of {owner} failed")
        self.owner = owner


class VirtualTimers:
    """Timers in order of their time, and of their making where that is equal."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self._heap: list[tuple[datetime, int, _Timer]] = []
        self._made = 0
        self._compact_at = COMPACT_FROM

    def at(self, owner: str, when: datetime, handler: TimerHandler) -> _Timer:
        return self._push(_Timer(owner, _utc(when), handler, None))

    def every(self, owner: str, interval: timedelta, handler: TimerHandler, first: datetime | None = None) -> _Timer:
        if interval <= timedelta(0):
            raise ValueError(f"a timer's interval must be above zero, not {interval}")
        first = self._clock.now() + interval if first is None else _utc(first)
        return self._push(_Timer(owner, first, handler, interval))

    def cancel_all(self, owner: str) -> None:
        for _, _, timer in self._heap:
            if timer.owner == owner:
                timer.cancelled = True
        self._compact()

    def next_due(self) -> datetime | None:
        """When the next timer fires, or ``None``."""
        while self._heap and self._heap[0][2].cancelled:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    async def fire_next(self) -> bool:
        """Run the next timer that is due now; ``False`` when there is none. Raises ``TimerFailed``."""
        due = self.next_due()
        if due is None or due > self._clock.now():
            return False
        _, _, timer = heapq.heappop(self._heap)
        if timer.interval is not None:
            # Beats that were missed are not made up for, and the next keeps its phase: a poll aligned to the
            # bar's close stays aligned however long a handler slept.
            missed = (self._clock.now() - timer.when) // timer.interval
            timer.when += (missed + 1) * timer.interval
            self._push(timer)
        try:
            await timer.handler()
        except Exception as error:
            raise TimerFailed(timer.owner) from error
        return True

    def _push(self, timer: _Timer) -> _Timer:
        if len(self._heap) >= self._compact_at:
            self._compact()
        self._made += 1
        heapq.heappush(self._heap, (timer.when, self._made, timer))
        return timer

    def _compact(self) -> None:
        """Cancelled timers far ahead would otherwise pile up, with all that their handlers hold."""
        self._heap = [item for item in self._heap if not item[2].cancelled]
        heapq.heapify(self._heap)
        self._compact_at = max(COMPACT_FROM, 2 * len(self._heap))
