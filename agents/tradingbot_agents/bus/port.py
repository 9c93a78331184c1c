"""What every bus promises.

- A message that was published is delivered at least once to every queue bound to its topic; a queue delivers
  in order per key (the symbol).
- A handler that returns acknowledges. One that raises ``Reject`` sends the message to the dead letters with
  the reason. One that raises ``DependencyUnavailable`` gets it again later, and its delivery limit is not
  touched. Any other exception counts as a delivery, the message comes again up to the limit, and the agent
  that owns the queue ends loudly.
- Queues for candles and signals have a short time to live and a bounded length: a stale one is worthless, and
  the oldest is dropped first. Queues for intents, orders and reports drop nothing.
- Consumers are idempotent by message id: a redelivery is normal.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Any, Protocol

import msgspec

from tradingbot_agents.domain.messages import Message

Handler = Callable[[Any], Awaitable[None]]
"""Takes one message of the queue's topics."""

BatchHandler = Callable[[list[Any]], Awaitable[None]]
"""Takes the messages of one window."""

Responder = Callable[[Any], Awaitable[Message]]
"""Answers a request."""


class QueueSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One queue of the topology: who reads it, what is bound to it, and its promises."""

    name: str
    owner: str
    """The agent that consumes it."""
    topics: tuple[str, ...]
    ttl: timedelta | None = None
    """Older messages are dropped (``None``: never)."""
    max_length: int | None = None
    """The oldest are dropped beyond this (``None``: unbounded)."""
    delivery_limit: int | None = 5
    """After so many failed deliveries a message goes to the dead letters (``None``: it is dropped at once)."""


class DeadLetter(msgspec.Struct, frozen=True, kw_only=True):
    queue: str
    message: Message
    reason: str
    deliveries: int
    at: datetime


class Reject(Exception):
    """The message can never be handled: dead-letter it, with this reason."""


class DependencyUnavailable(Exception):
    """Something the handler needs is away: pause, deliver again, and do not count it against the message."""


class HandlerFailed(Exception):
    """A handler raised: ``owner`` names the agent that ends; the cause is chained."""

    def __init__(self, owner: str, queue: str, message_id: str) -> None:
        super().__init__(f"{owner} failed on message {message_id} of {queue}")
        self.owner = owner
        self.queue = queue
        self.message_id = message_id


class Unroutable(Exception):
    """No queue is bound to the message's topic: published into nothing, it would be lost without a word."""

    def __init__(self, topic: str, message_id: str) -> None:
        super().__init__(
            f"no queue is bound to topic {topic!r} of message {message_id}:"
            " bind one in the topology, or ask with request()"
        )
        self.topic = topic
        self.message_id = message_id


class RequestTimedOut(Exception):
    """Nobody answered a request in time."""


class Bus(Protocol):
    async def publish(self, message: Message) -> None:
        """Hand over one message. On return the bus has it (confirmed), in every queue bound to its topic.
        Raises ``Unroutable`` when there is none."""
        ...

    async def consume(self, queue: str, handler: Handler) -> None:
        """Attach the one consumer of a queue of the topology. Replaces an earlier consumer."""
        ...

    async def consume_batches(self, queue: str, handler: BatchHandler, window: timedelta) -> None:
        """Like ``consume``, but the handler gets what came within ``window`` of the first message as one
        list, in order, and all of it is acknowledged when it returns: nothing that waits is lost in a crash.
        What it raises holds for each message of the batch."""
        ...

    async def respond(self, owner: str, topic: str, responder: Responder) -> None:
        """Answer requests of a topic."""
        ...

    async def request(self, message: Message, timeout: timedelta) -> Message:
        """Ask, and wait for the answer. Raises ``RequestTimedOut``."""
        ...

    async def detach(self, owner: str) -> None:
        """Take away all consumers and responders of an agent; its queues keep what comes."""
        ...
