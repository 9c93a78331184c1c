"""The bus of agents in processes of their own: the promises of the port on RabbitMQ, 3.10 and 4.

- **Nothing is lost.** ``publish`` returns when the broker has confirmed the message, in every queue. What is
  delivered is acknowledged after its handler returned.
- **Nothing good is set aside.** Neither an outage nor a kill counts towards the delivery limit: see
  ``rabbitmq_consumer`` for who counts what, and ``rabbitmq_topology`` for what the broker is asked for.
- **One at a time.** Handlers of one agent take turns (``Turns``), as they do in one process. After one of them
  failed none of its agent runs until it is detached, or ``resume`` is called.
- **The broker may be away**, at the start too: consumers wait for it and go on; ``publish`` waits up to its limit,
  and then raises ``DependencyUnavailable``, so that the caller keeps what it has. What was in hand comes again.
- **Requests** go to a queue of their topic, and the answer comes back to the channel that asked. Both are gone with
  the broker or with who asked.

Imported where it is used, for the library costs each process some megabytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Self

import msgspec
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity

from tradingbot_agents.bus.port import (
    BatchHandler,
    DependencyUnavailable,
    Handler,
    HandlerFailed,
    QueueSpec,
    Responder,
    Unroutable,
)
from tradingbot_agents.bus.rabbitmq_consumer import (
    PUBLISHED,
    Answering,
    Consumer,
    ConsumerStatus,
    Owner,
    Surroundings,
)
from tradingbot_agents.bus.rabbitmq_link import (
    Link,
    LinkLost,
    Pauses,
    closed_channel,
    opened_channel,
    why,
)
from tradingbot_agents.bus.rabbitmq_publisher import Publisher, Returned
from tradingbot_agents.bus.rabbitmq_topology import Names, declare_bot, is_durable, routing_key, waiting_messages
from tradingbot_agents.clock import Clock
from tradingbot_agents.clock.system import Turns
from tradingbot_agents.domain.events import DependencyAway
from tradingbot_agents.domain.messages import Message, encode
from tradingbot_agents.telemetry import Sink, worth_telling

MESSAGING = "messaging"
"""What events of an outage call the broker."""


class RabbitSettings(msgspec.Struct, frozen=True, kw_only=True):
    bot: str
    agent: str
    """The process: it names its connections, and is told as the source of events."""
    connect_limit: timedelta
    """For one attempt to connect."""
    publish_limit: timedelta
    """Within which a message is confirmed, outages included."""
    reconnect: Pauses
    retry: Pauses
    """Of a queue whose handler raised ``DependencyUnavailable``."""


class RabbitBus:
    """Implements ``Bus``. ``start`` it within a running loop, and ``close`` it."""

    def __init__(
        self,
        url: Callable[[], str],
        topology: Iterable[QueueSpec],
        settings: RabbitSettings,
        *,
        clock: Clock,
        turns: Turns,
        sink: Sink,
        on_failure: Callable[[HandlerFailed], None],
    ) -> None:
        """``url`` is ``amqp://`` or ``amqps://``, asked before each attempt to connect and shown nowhere.
        ``on_failure`` is told of each handler that raised; it must not raise, and its agent has to be detached."""
        self._topology = {spec.name: spec for spec in topology}
        self._durable = {topic for spec in self._topology.values() if is_durable(spec) for topic in spec.topics}
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._names = Names(settings.bot)
        self._called: dict[str, str] = {}
        """Queues as the broker calls them."""
        self._owners: dict[str, Owner] = {}
        self._consumers: dict[str, Consumer] = {}
        self._answering: dict[str, tuple[str, Answering]] = {}
        self._ending: set[asyncio.Task[None]] = set()

        def link(
            name: str,
            on_away: Callable[[int, str], None],
            prepare: Callable[[AbstractConnection], Awaitable[None]] | None = None,
        ) -> Link:
            return Link(
                url,
                f"{settings.bot} {settings.agent} {name}",
                limit=settings.connect_limit,
                pauses=settings.reconnect,
                on_away=on_away,
                prepare=prepare,
            )

        self._writing = link("writes", self._tell_away, self._declare)
        self._reading = link("reads", self._tell_reading_away)
        self._publisher = Publisher(self._writing, settings.publish_limit)
        self._surroundings = Surroundings(
            names=self._names,
            link=self._reading,
            declared=self._writing.connection,
            publisher=self._publisher,
            clock=clock,
            turns=turns,
            sink=sink,
            agent=settings.agent,
            retry=settings.retry,
            reconnect=settings.reconnect,
            on_failure=on_failure,
            settled={},
        )

    def start(self) -> None:
        """Connect, and stay connected; on return nothing is connected yet."""
        self._writing.start()
        self._reading.start()

    async def close(self) -> None:
        """Handlers that run are waited for; what else is in hand goes back to its queues."""
        for name in list(self._owners):
            await self.detach(name)
        while self._ending:
            await asyncio.wait(set(self._ending))
        await self._reading.close()
        await self._writing.close()

    async def __aenter__(self) -> Self:
        self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # What agents use: the port.

    async def publish(self, message: Message) -> None:
        """Raises ``Unroutable``; ``DependencyUnavailable`` when the broker has not confirmed it within the limit: it
        may have it all the same, so publishing it again later may double it."""
        stamp = round(self._clock.now().timestamp() * 1000)
        try:
            await self._publisher.send(
                encode(message),
                exchange=self._names.exchange,
                to=routing_key(message.topic, message.key),
                headers={PUBLISHED: stamp},
                durable=message.topic in self._durable,
            )
        except Returned:
            raise Unroutable(message.topic, message.id) from None

    async def consume(self, queue: str, handler: Handler) -> None:
        """On return the consumer is known; messages come as soon as the broker is there."""
        await self._attach(queue, handler, None)

    async def consume_batches(self, queue: str, handler: BatchHandler, window: timedelta) -> None:
        await self._attach(queue, handler, window)

    async def _attach(self, queue: str, handler: Handler | BatchHandler, window: timedelta | None) -> None:
        spec = self._named(queue)
        earlier = self._consumers.pop(queue, None)
        if earlier is not None:
            await self._stop(earlier)
        self._consumers[queue] = Consumer(self._surroundings, self._owner(spec.owner), spec, handler, window)

    async def respond(self, owner: str, topic: str, responder: Responder) -> None:
        _, earlier = self._answering.pop(topic, (owner, None))
        if earlier is not None:
            await self._stop(earlier)
        self._answering[topic] = (owner, Answering(self._surroundings, self._owner(owner), topic, responder))

    async def request(self, message: Message, timeout: timedelta) -> Message:
        """A responder that fails, or that nobody has attached yet, is a ``RequestTimedOut``. So is a broker that is
        away: who asks has another way."""
        return await self._publisher.ask(message, self._names.requests(message.topic), timeout)

    async def detach(self, owner: str) -> None:
        """Handlers that run are waited for, unless one of them is the caller."""
        ends: list[Consumer | Answering] = [
            self._consumers.pop(name) for name in list(self._consumers) if self._topology[name].owner == owner
        ]
        topics = [topic for topic, (answers, _) in self._answering.items() if answers == owner]
        ends += [self._answering.pop(topic)[1] for topic in topics]
        for each in ends:
            await self._stop(each)
        self.resume(owner)

    # What the supervisor, people and the status use.

    def resume(self, owner: str) -> None:
        """After a failure, go on with the handlers that are attached."""
        if owner in self._owners:
            self._owners[owner].goes_on.set()

    @property
    def connected(self) -> bool:
        return self._reading.is_up and self._writing.is_up

    async def until_connected(self) -> None:
        await self._writing.connection()
        await self._reading.connection()

    async def depths(self) -> dict[str, int]:
        """Messages that wait at the broker, by queue. Raises ``DependencyUnavailable``."""
        if not self.connected:
            raise DependencyUnavailable("RabbitMQ is not connected")
        depths: dict[str, int] = {}
        try:
            connection = await self._reading.connection()
            for name, called in self._called.items():
                channel = await opened_channel(connection)
                with suppress(ChannelNotFoundEntity):
                    depths[name] = await waiting_messages(channel, called)
                    await closed_channel(channel)
        except LinkLost as error:
            raise DependencyUnavailable(f"RabbitMQ does not answer: {why(error)}") from error
        return depths

    def consumers(self) -> dict[str, ConsumerStatus]:
        """What reads each queue that has a consumer here."""
        return {name: consumer.status() for name, consumer in self._consumers.items()}

    def settled(self) -> dict[str, int]:
        """Messages that this process has rid each queue of: handled, dropped for their age, or set aside."""
        return dict(self._surroundings.settled)

    @property
    def ending(self) -> bool:
        """Whether something that was detached has not come to its end."""
        return bool(self._ending)

    async def _stop(self, reader: Consumer | Answering) -> None:
        self._ending.add(reader.task)
        reader.task.add_done_callback(self._ending.discard)
        await reader.stop()

    async def _declare(self, connection: AbstractConnection) -> None:
        self._called = await declare_bot(connection, self._names, self._topology.values())

    def _owner(self, name: str) -> Owner:
        return self._owners.setdefault(name, Owner(name))

    def _named(self, name: str) -> QueueSpec:
        spec = self._topology.get(name)
        if spec is None:
            raise ValueError(f"queue {name!r} is not in the topology: it has {', '.join(self._topology)}")
        return spec

    def _tell_away(self, attempt: int, reason: str) -> None:
        if worth_telling(attempt):
            self._sink.emit(
                DependencyAway(
                    at=self._clock.now(), agent=self._settings.agent, what=MESSAGING, attempt=attempt, why=reason
                )
            )

    def _tell_reading_away(self, attempt: int, reason: str) -> None:
        # One event, not two, when it is the broker that is away.
        if self._writing.is_up:
            self._tell_away(attempt, reason)


__all__ = ["MESSAGING", "ConsumerStatus", "Pauses", "RabbitBus", "RabbitSettings"]
