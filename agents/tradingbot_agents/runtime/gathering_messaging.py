"""Evidence of RabbitMQ: what waits in each queue, who reads it, and what was set aside.

Asked by AMQP alone, by declarations that make nothing: the management API is a plugin that a broker may not have, and
one more secret. A look changes nothing, but that dead letters are out of sight of others while it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import timedelta

from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity

from tradingbot_agents.bus import DependencyUnavailable, QueueSpec
from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox
from tradingbot_agents.bus.rabbitmq_link import LinkLost, apart, closed_channel, new_connection, opened_channel
from tradingbot_agents.bus.rabbitmq_topology import GENERATIONS, Names, is_durable
from tradingbot_agents.clock import Clock
from tradingbot_agents.reality.evidence import Known, Letter, MessagingEvidence, Missing, QueueEvidence

LETTERS = 50
"""Dead letters that are read; of the others it is said how many they are. Each is a message in memory."""

CLOSING = 2.0
"""Seconds for a goodbye: what was asked for is there by then, or there is nobody to say it to."""


async def messaging_evidence(
    url: Callable[[], str], bot: str, topology: Iterable[QueueSpec], *, clock: Clock, limit: timedelta
) -> Known[MessagingEvidence]:
    """Within ``limit`` and a moment. Raises nothing: what is wrong is ``Missing``, without an address or a secret."""
    try:
        # A broker that is frozen in the middle of an answer makes the library wait, also for its own end: what it is
        # still busy with then is left behind.
        return await apart(_look(url, bot, tuple(topology), clock, limit), limit.total_seconds())
    except (LinkLost, DependencyUnavailable) as error:
        return Missing(f"RabbitMQ could not be asked: {error}")
    except Exception as error:
        # Its text is the library's, and may hold the address with its password.
        return Missing(f"RabbitMQ could not be asked: {type(error).__name__}")


async def _look(
    url: Callable[[], str], bot: str, topology: tuple[QueueSpec, ...], clock: Clock, limit: timedelta
) -> MessagingEvidence:
    names = Names(bot)
    connection = new_connection(url(), f"{bot} reality check")
    try:
        await apart(connection.connect(timeout=limit.total_seconds()), limit.total_seconds())
        found = {spec.name: await _queue(connection, names, spec) for spec in topology}
        waiting, _ = await _passively(connection, names.dead_letters) or (0, 0)
    finally:
        with suppress(LinkLost):
            await apart(connection.close(), CLOSING)
    letters = await DeadLetterBox(url, bot, topology, limit).list(LETTERS) if waiting else ()
    return MessagingEvidence(
        read_at=clock.now(),
        queues=tuple(each for each in found.values() if each is not None),
        absent=tuple(name for name, each in found.items() if each is None),
        dead_letters=tuple(
            Letter(queue=each.queue, message_id=each.message_id, reason=each.reason, at=each.at) for each in letters
        ),
        dead_letters_waiting=max(waiting, len(letters)),
    )


async def _queue(connection: AbstractConnection, names: Names, spec: QueueSpec) -> QueueEvidence | None:
    """All of its generations together: which one is read is known to its consumer only, and it empties the others."""
    found: list[tuple[int, int]] = []
    for generation in range(1, GENERATIONS + 1):
        counts = await _passively(connection, names.queue(spec.name, generation))
        if counts is not None:
            found.append(counts)
        elif found:
            break
    if not found:
        return None
    return QueueEvidence(
        name=spec.name,
        owner=spec.owner,
        messages=sum(messages for messages, _ in found),
        consumers=sum(consumers for _, consumers in found),
        durable=is_durable(spec),
    )


async def _passively(connection: AbstractConnection, name: str) -> tuple[int, int] | None:
    """Messages that wait, and consumers; ``None``: there is no such queue."""
    channel = await opened_channel(connection)
    try:
        queue = await apart(channel.declare_queue(name, passive=True))
    except ChannelNotFoundEntity:
        # Which has closed the channel as well.
        return None
    await closed_channel(channel)
    return int(queue.declaration_result.message_count or 0), int(queue.declaration_result.consumer_count or 0)
