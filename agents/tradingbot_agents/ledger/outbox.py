"""The way from the outbox to the bus: what was committed is published, in order, and then marked."""

from __future__ import annotations

from typing import Protocol

from tradingbot_agents.domain.messages import Message
from tradingbot_agents.ledger.port import Ledger, Role

BATCH = 100
"""Rows read at a time: more than one transaction ever writes, and few enough to be read at once."""


class Publisher(Protocol):
    """What the relay needs of a bus."""

    async def publish(self, message: Message) -> None: ...


class OutboxRelay:
    """Publishes this bot's rows of one role. One relay a role, or two would publish the same rows."""

    def __init__(self, ledger: Ledger, role: Role, bus: Publisher) -> None:
        self._ledger = ledger
        self._role = role
        self._bus = bus

    async def flush(self) -> int:
        """Publish all that is unpublished; how many that were.

        A bus that fails leaves its message and the later ones for the next call. A crash before the mark
        publishes again what the bus has: consumers know the ids.
        """
        count = 0
        while rows := await self._ledger.unpublished(self._role, BATCH):
            published: list[int] = []
            try:
                for row in rows:
                    await self._bus.publish(row.message)
                    published.append(row.number)
            finally:
                if published:
                    await self._ledger.mark_published(published)
            count += len(published)
            if len(rows) < BATCH:
                break
        return count
