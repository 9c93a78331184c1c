"""Durable events on their way to the ledger, where they outlive the logs."""

from __future__ import annotations

from collections import deque

from tradingbot_agents.domain.events import Event
from tradingbot_agents.ledger.port import Ledger

MOST = 10_000
"""That wait while the ledger is away; then the oldest are dropped. They are in the log as well."""


class EventRows:
    """A ``Sink`` that keeps durable events until they are written."""

    def __init__(self, most: int = MOST) -> None:
        self._waiting: deque[Event] = deque()
        self._most = most
        self.dropped = 0

    def emit(self, event: Event) -> None:
        if not event.durable:
            return
        self._waiting.append(event)
        if len(self._waiting) > self._most:
            self._waiting.popleft()
            self.dropped += 1

    async def write(self, ledger: Ledger) -> None:
        """Raises what the ledger raises; then they wait for the next call."""
        if not self._waiting:
            return
        waiting = list(self._waiting)
        dropped = self.dropped
        await ledger.record_events(waiting)
        # What was dropped for want of room meanwhile was among those that are written now.
        for _ in range(len(waiting) - (self.dropped - dropped)):
            self._waiting.popleft()
