"""What the broker is asked for: one topic exchange for each bot, the queues of the topology, and the dead letters.

Every agent declares all of it, and may again at any time.

**Durable queues** (no time to live, no bound) are quorum queues. Their delivery limit is as high as it can be, for
the broker counts every redelivery towards it: a requeue, and also a lost connection or a killed consumer, in 3.10 as
in 4.0, whose limit is 20 where none is given. A restart loop or an outage would set aside messages that are good.
Failures of handlers are counted by the consumer. ``-1``, for no limit, would not do: 3.10 sets a message aside at its
first return then, and 4.0 puts a returned one at the end of the queue. The dead-letter arguments are for what others
reject, such as a person.

**Queues of market data** are classic, with a time to live, a bound, and messages that are not written to disk: a
stale one is worthless, and so is a copy of it on every node.

One consumer at a time is active (``x-single-active-consumer``), so that order holds while an old pod ends.

**Generations.** The arguments of a queue can not be changed, and a queue that is deleted takes its messages with it.
A version, or a spec, that asks for other arguments than a queue has takes the next generation, ``<name>.2`` and so
on: the first one that has them or is free. The consumer of the queue unbinds the other generations, deals with what
is left in them, and then reads its own as well. They stay there, empty: an older version finds its own again. While
versions are mixed a message may be in two generations, and is then delivered twice.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from aio_pika import ExchangeType
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractQueue
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from pamqp.common import FieldTable

from tradingbot_agents.bus.port import QueueSpec
from tradingbot_agents.bus.rabbitmq_link import LinkLost, apart, closed_channel, opened_channel

NO_LIMIT = 2**31 - 1
"""Deliveries: more than there ever are."""

GENERATIONS = 32
"""More than a queue's settings change in a bot's life; each costs declaring once."""

REQUESTS_EXPIRE = 60_000
"""Milliseconds after which the queue of a request that nobody answers or asks any more is taken away."""


class Names(msgspec.Struct, frozen=True):
    """What everything of one bot is called at the broker."""

    bot: str

    @property
    def exchange(self) -> str:
        return f"tradingbot.{self.bot}"

    @property
    def dead_letters(self) -> str:
        return f"{self.exchange}.dead-letters"

    def queue(self, name: str, generation: int = 1) -> str:
        return f"{self.exchange}.{name}" if generation == 1 else f"{self.exchange}.{name}.{generation}"

    def requests(self, topic: str) -> str:
        return f"{self.exchange}.requests.{topic}"

    def failures(self, owner: str) -> str:
        return f"{self.exchange}.failures.{owner}"


def routing_key(topic: str, key: str) -> str:
    """The key is one word: ``*`` in a binding is then this topic and no longer one that begins like it."""
    return f"{topic}.{key.replace('.', '_')}"


def is_durable(spec: QueueSpec) -> bool:
    return spec.ttl is None and spec.max_length is None


def queue_arguments(spec: QueueSpec, names: Names) -> FieldTable:
    if is_durable(spec):
        return {
            "x-queue-type": "quorum",
            "x-single-active-consumer": True,
            "x-delivery-limit": NO_LIMIT,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": names.dead_letters,
            "x-dead-letter-strategy": "at-least-once",
            # At least once needs it; nothing is refused, for there is no bound.
            "x-overflow": "reject-publish",
        }
    arguments: FieldTable = {
        "x-queue-type": "classic",
        "x-single-active-consumer": True,
        "x-overflow": "drop-head",
    }
    if spec.ttl is not None:
        arguments["x-message-ttl"] = round(spec.ttl.total_seconds() * 1000)
    if spec.max_length is not None:
        arguments["x-max-length"] = spec.max_length
    return arguments


KEPT: FieldTable = {"x-queue-type": "quorum", "x-delivery-limit": NO_LIMIT}
"""Of the dead letters: nothing drops them."""

REQUESTS: FieldTable = {"x-queue-type": "classic", "x-expires": REQUESTS_EXPIRE}
"""Of the requests of one topic, each with a time limit of its own."""

LAST_ONLY: FieldTable = {**KEPT, "x-max-length": 1, "x-overflow": "drop-head"}
"""Of a queue that is a place for one value: each replaces the one before."""


async def declare_helper(channel: AbstractChannel, name: str, arguments: FieldTable) -> AbstractQueue:
    """A queue outside the topology. One that another version made with other arguments is used as it is, for what it
    holds counts more than how. Raises ``LinkLost``."""
    try:
        return await apart(channel.declare_queue(name, durable=True, arguments=arguments))
    except ChannelPreconditionFailed:
        await apart(channel.reopen())
        return await apart(channel.get_queue(name, ensure=False))


async def declare_bot(connection: AbstractConnection, names: Names, topology: Iterable[QueueSpec]) -> dict[str, str]:
    """Everything; returns what each queue is called. Raises ``LinkLost``."""
    channel = await opened_channel(connection)
    await apart(channel.declare_exchange(names.exchange, ExchangeType.TOPIC, durable=True))
    await declare_helper(channel, names.dead_letters, KEPT)
    await closed_channel(channel)
    return {spec.name: await declare_queue(connection, names, spec) for spec in topology}


async def declare_queue(connection: AbstractConnection, names: Names, spec: QueueSpec) -> str:
    """The generation that has the arguments of ``spec``, bound to its topics. Raises ``LinkLost``."""
    for generation in range(1, GENERATIONS + 1):
        name = names.queue(spec.name, generation)
        channel = await opened_channel(connection)
        try:
            queue = await apart(channel.declare_queue(name, durable=True, arguments=queue_arguments(spec, names)))
        except ChannelPreconditionFailed:
            continue
        for topic in spec.topics:
            await apart(queue.bind(names.exchange, f"{topic}.*"))
        await closed_channel(channel)
        return name
    raise LinkLost(
        f"queue {names.queue(spec.name)} is there {GENERATIONS} times with other arguments:"
        " delete those that are empty"
    )


async def other_generations(connection: AbstractConnection, names: Names, spec: QueueSpec, own: str) -> list[str]:
    """What else there is of a queue, oldest first; from now on nothing new comes there. Raises ``LinkLost``."""
    found: list[str] = []
    for generation in range(1, GENERATIONS + 1):
        name = names.queue(spec.name, generation)
        if name == own:
            continue
        channel = await opened_channel(connection)
        try:
            queue = await apart(channel.declare_queue(name, passive=True))
        except ChannelNotFoundEntity:
            # Generations are made one after the other: the first that is missing ends them.
            return found
        for topic in spec.topics:
            await apart(queue.unbind(names.exchange, f"{topic}.*"))
        await closed_channel(channel)
        found.append(name)
    return found


async def waiting_messages(channel: AbstractChannel, name: str) -> int:
    """That wait in a queue, and are with no consumer. Raises ``LinkLost``, or ``ChannelNotFoundEntity`` when it is
    gone."""
    queue = await apart(channel.declare_queue(name, passive=True))
    return int(queue.declaration_result.message_count or 0)
