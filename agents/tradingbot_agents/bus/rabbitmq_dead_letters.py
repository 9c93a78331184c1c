"""The dead letters of a bot: seen without taking them away, and put back one at a time.

A look takes all of them without an acknowledgement and gives them back at the end, so a process that dies meanwhile
loses none. One that is put back is confirmed in its queue before it leaves here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, PublishError

from tradingbot_agents.bus.port import DependencyUnavailable, QueueSpec
from tradingbot_agents.bus.rabbitmq_link import LinkLost, apart, closed_channel, new_connection, opened_channel
from tradingbot_agents.bus.rabbitmq_topology import Names, declare_queue
from tradingbot_agents.domain.messages import Message, decode


class StoredLetter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter as the broker keeps it."""

    queue: str
    message_id: str
    message: Message | None
    """``None`` when it can not be read."""
    body: bytes
    reason: str
    deliveries: int
    """Those that failed, and the one that was refused; 0 when the broker set it aside by itself."""
    at: datetime


HEADERS = frozenset({"id", "queue", "reason", "deliveries", "at"})
"""Of what an agent set aside."""

_Found = tuple[StoredLetter, AbstractIncomingMessage]


class DeadLetterBox:
    def __init__(self, url: Callable[[], str], bot: str, topology: Iterable[QueueSpec], limit: timedelta) -> None:
        """``limit`` is for connecting and for each answer. Every call has a connection of its own."""
        self._url = url
        self._names = Names(bot)
        self._topology = {spec.name: spec for spec in topology}
        self._limit = limit.total_seconds()

    async def list(self, most: int | None = None) -> tuple[StoredLetter, ...]:
        """Oldest first; with ``most`` no more than so many of them. Raises ``DependencyUnavailable``."""
        async with self._connected() as connection, self._all(connection, most) as found:
            return tuple(letter for letter, _ in found)

    async def requeue(self, queue: str, message_id: str) -> None:
        """Give one another chance, in that queue only; its failures are counted anew. One that was set aside twice
        comes once. Raises ``LookupError`` when there is none, or ``DependencyUnavailable``: then it is still here."""
        spec = self._topology.get(queue)
        if spec is None:
            raise LookupError(f"queue {queue!r} is not in the topology: it has {', '.join(self._topology)}")
        async with self._connected() as connection, self._all(connection) as found:
            chosen = [each for each in found if (each[0].queue, each[0].message_id) == (queue, message_id)]
            if not chosen:
                raise LookupError(f"no dead letter {message_id!r} of queue {queue!r}: list them first")
            called = await declare_queue(connection, self._names, spec)
            channel = await opened_channel(connection, confirms=True)
            message = AmqpMessage(
                chosen[0][0].body, delivery_mode=DeliveryMode.PERSISTENT, content_type="application/json"
            )
            try:
                await apart(channel.default_exchange.publish(message, called), self._limit)
            except PublishError:
                raise DependencyUnavailable(
                    f"queue {queue!r} is gone: start the bot's agents, they make it"
                ) from None
            for _, raw in chosen:
                await apart(raw.ack(), self._limit)
            await closed_channel(channel)

    async def remove(self, before: datetime, *, dry_run: bool = False) -> int:
        """Those set aside before that time, for good; how many they are. Raises ``DependencyUnavailable``."""
        async with self._connected() as connection, self._all(connection) as found:
            old = [raw for letter, raw in found if letter.at < before]
            if not dry_run:
                for raw in old:
                    await apart(raw.ack(), self._limit)
            return len(old)

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator[AbstractConnection]:
        try:
            connection = new_connection(self._url(), f"{self._names.bot} dead letters")
            try:
                await apart(connection.connect(timeout=self._limit), self._limit)
                yield connection
            finally:
                with suppress(LinkLost):
                    await apart(connection.close(), self._limit)
        except LinkLost as error:
            raise DependencyUnavailable(f"RabbitMQ does not answer: {error}") from error

    @asynccontextmanager
    async def _all(self, connection: AbstractConnection, most: int | None = None) -> AsyncIterator[Sequence[_Found]]:
        """What is there now, oldest first, held until the end."""
        channel = await opened_channel(connection)
        found = deque[_Found]()
        try:
            queue = await apart(channel.declare_queue(self._names.dead_letters, passive=True))
            while most is None or len(found) < most:
                raw = await apart(queue.get(fail=False), self._limit)
                if raw is None:
                    break
                found.append((self._read(raw), raw))
        except ChannelNotFoundEntity:
            # No agent of this bot has ever been connected.
            yield []
            return
        try:
            yield sorted(found, key=lambda each: each[0].at)
        finally:
            await closed_channel(channel)

    def _read(self, raw: AbstractIncomingMessage) -> StoredLetter:
        headers: dict[str, Any] = dict(raw.headers)
        message: Message | None = None
        with suppress(msgspec.MsgspecError):
            message = decode(raw.body)
        if headers.keys() >= HEADERS:
            queue, reason = str(headers["queue"]), str(headers["reason"])
            deliveries, at = int(headers["deliveries"]), datetime.fromisoformat(str(headers["at"]))
        else:
            # Not by an agent: somebody else rejected it, or the broker dropped it by a policy.
            queue = self._name_of(str(headers.get("x-first-death-queue", "")))
            reason = f"RabbitMQ set it aside: {headers.get('x-first-death-reason', 'no reason given')}"
            deliveries, at = 0, _when_of(headers)
        return StoredLetter(
            queue=queue,
            message_id=message.id if message is not None else str(headers.get("id") or raw.message_id or ""),
            message=message,
            body=raw.body,
            reason=reason,
            deliveries=deliveries,
            at=at,
        )

    def _name_of(self, called: str) -> str:
        """The topology's name for a queue of the broker, of any generation."""
        for name in self._topology:
            own = self._names.queue(name)
            if called == own or (called.startswith(f"{own}.") and called[len(own) + 1 :].isdigit()):
                return name
        return called


def _when_of(headers: dict[str, Any]) -> datetime:
    deaths = headers.get("x-death")
    when = deaths[0].get("time") if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else None
    return when.astimezone(UTC) if isinstance(when, datetime) else datetime.fromtimestamp(0, UTC)
