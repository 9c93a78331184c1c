"""The clock and the timers that agents are given."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Protocol

TimerHandler = Callable[[], Awaitable[None]]


class Clock(Protocol):
    def now(self) -> datetime:
        """Aware UTC."""
        ...

    async def sleep(self, delay: timedelta) -> None:
        """Wait inside a handler, for as short as a network call takes. Anything longer is a timer."""
        ...


class TimerHandle(Protocol):
    def cancel(self) -> None:
        """It will not fire again. Safe to repeat."""
        ...


class Timers(Protocol):
    """Handlers that run later. ``owner`` is the agent: a handler that raises ends that agent, loudly."""

    def at(self, owner: str, when: datetime, handler: TimerHandler) -> TimerHandle:
        """Once, at ``when`` (at once if that is past)."""
        ...

    def every(
        self, owner: str, interval: timedelta, handler: TimerHandler, first: datetime | None = None
    ) -> TimerHandle:
        """Again and again; the first time at ``first``, or an interval from now. Runs never overlap: beats that
        were missed make one run together, and the next keeps its phase."""
        ...

    def cancel_all(self, owner: str) -> None:
        """Forget every timer of an agent that has ended."""
        ...
