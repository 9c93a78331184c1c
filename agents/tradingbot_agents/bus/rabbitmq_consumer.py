"""Reads one queue of RabbitMQ: one message after the other, or batches, each acknowledged when its handler returned.

What the broker has sent stays unacknowledged **in hand** until it is dealt with. A message that failed, or whose
dependency is away, is tried again from there and never given back: it keeps its place in front of those behind it,
and the broker, which counts whatever it gets back, counts nothing. When the process dies or the connection is lost,
the broker gives all of it, in order, to the next consumer.

**Failures are counted by us** (``FailureCounts``): the broker can not tell a handler that failed from a consumer that
was killed. The counts outlive the process, or a poison message would restart its agent for ever. A message that kills
the process itself is counted by nobody: no good message is ever set aside for an outage or a kill.

A message is set aside by publishing it to the dead letters, waiting for the confirmation, and only then acknowledging
it: a crash in between sets it aside twice, and never loses it.
"""

from __future__ import annotations

import asyncio
import hashlib
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Self

import msgspec
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from aiormq.abc import DeliveredMessage

from tradingbot_agents.bus.port import (
    BatchHandler,
    DependencyUnavailable,
    Handler,
    HandlerFailed,
    QueueSpec,
    Reject,
    Responder,
)
from tradingbot_agents.bus.rabbitmq_link import (
    TELLS,
    Link,
    LinkLost,
    Pauses,
    apart,
    closed_channel,
    handed_over,
    opened_channel,
    why,
)
from tradingbot_agents.bus.rabbitmq_publisher import Publisher, Returned
from tradingbot_agents.bus.rabbitmq_topology import (
    LAST_ONLY,
    REQUESTS,
    Names,
    declare_helper,
    declare_queue,
    is_durable,
    other_generations,
    waiting_messages,
)
from tradingbot_agents.clock import Clock
from tradingbot_agents.clock.system import Turns
from tradingbot_agents.domain.events import DependencyAway, MessageDeadLettered
from tradingbot_agents.domain.messages import Message, decode, encode
from tradingbot_agents.telemetry import Sink, worth_telling

PUBLISHED = "published"
"""Header: when, in milliseconds since 1970. The broker drops what is too old while it has it; we, what is in hand."""

IN_HAND = 64
"""Unacknowledged messages of a durable queue: enough to hide the way to the broker, few to come again after a
crash."""

IN_HAND_MARKET = 8
"""Few: what is in hand can not be dropped by the queue's bound."""

IN_HAND_BATCHES = 256
"""A larger batch is cut."""

LONGEST_REASON = 1000
"""Characters: an error may quote anything."""

COUNTED = 1000
"""Failed messages of one queue that are remembered. Those that the broker dropped for their age are never settled."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at whether the other generations are empty."""


class Reading(StrEnum):
    """What a consumer is doing."""

    STARTING = "starting"
    """No connection yet, or the queue is being looked after."""
    WAITING = "waiting"
    COLLECTING = "collecting"
    """A batch whose window is open."""
    HANDLING = "handling"
    PAUSED = "paused"
    """A dependency is away."""
    HALTED = "halted"
    """A handler of its agent has failed."""


class ConsumerStatus(msgspec.Struct, frozen=True):
    reading: Reading
    in_hand: int
    """Messages that the broker has sent and that are not acknowledged."""


class Surroundings(msgspec.Struct, frozen=True):
    """What every consumer of a bus shares."""

    names: Names
    link: Link
    declared: Callable[[], Awaitable[object]]
    """Waits until this process has declared the topology. Two of its connections must not do so at once: 4.0 may
    answer that a binding is there already before it routes by it."""
    publisher: Publisher
    clock: Clock
    turns: Turns
    sink: Sink
    agent: str
    retry: Pauses
    reconnect: Pauses
    on_failure: Callable[[HandlerFailed], None]
    settled: dict[str, int]
    """Messages that each queue is rid of: acknowledged, dropped, or set aside."""


class Owner:
    """An agent: whether it goes on, and what its messages have failed."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.failures = FailureCounts(name)


class FailureCounts:
    """How often each message of an agent's queues has failed, and how: in memory, and as the one message of a
    queue of its own."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self._counts: dict[str, dict[str, tuple[int, str]]] = {}
        self._loaded = False
        self._loading = asyncio.Lock()

    def of(self, queue: str, message_id: str) -> tuple[int, str]:
        return self._counts.get(queue, {}).get(message_id, (0, ""))

    def add(self, queue: str, message_id: str, reason: str) -> None:
        count, _ = self.of(queue, message_id)
        counts = self._counts.setdefault(queue, {})
        counts[message_id] = (count + 1, reason)
        if len(counts) > COUNTED:
            del counts[next(iter(counts))]

    def forget(self, queue: str, message_id: str) -> bool:
        """Whether there was anything."""
        return self._counts.get(queue, {}).pop(message_id, None) is not None

    async def load(self, connection: AbstractConnection, names: Names) -> None:
        """What an earlier process kept, once. Raises ``LinkLost``."""
        async with self._loading:
            if self._loaded:
                return
            channel = await opened_channel(connection)
            queue = await declare_helper(channel, names.failures(self._owner), LAST_ONLY)
            found = await apart(queue.get(fail=False))
            # Not acknowledged: closing the channel puts it back.
            await closed_channel(channel)
            if found is not None:
                with suppress(msgspec.MsgspecError):
                    # Counts that another version wrote in another way are lost, and begin anew.
                    self._counts = msgspec.json.decode(found.body, type=dict[str, dict[str, tuple[int, str]]])
            self._loaded = True

    async def save(self, publisher: Publisher, names: Names) -> None:
        # While the broker is away they are kept in memory, and saved with the next change.
        with suppress(DependencyUnavailable, Returned):
            await publisher.send(msgspec.json.encode(self._counts), to=names.failures(self._owner))


def for_a_header(text: str) -> str:
    """Short, and text that can be sent: the broker ends the connection over headers that are too long."""
    return text[:LONGEST_REASON].encode(errors="replace").decode()


class Delivery:
    """A message in hand."""

    __slots__ = ("arrived", "body", "id", "message", "problem", "published", "raw")

    def __init__(self, raw: DeliveredMessage, arrived: datetime) -> None:
        self.raw = raw
        self.arrived = arrived
        self.body = raw.body
        self.message: Message | None = None
        self.problem = ""
        """Why it can not be read."""
        try:
            self.message = decode(raw.body)
            self.id = self.message.id
        except msgspec.MsgspecError as error:
            self.problem = f"it can not be read: {error}"
            self.id = f"unreadable-{hashlib.sha256(raw.body).hexdigest()[:16]}"
        stamp = (raw.header.properties.headers or {}).get(PUBLISHED)
        self.published: datetime | None = None
        if isinstance(stamp, int):
            # Anybody may write a header; what is out of range is as good as none.
            with suppress(ValueError, OverflowError, OSError):
                self.published = datetime.fromtimestamp(stamp / 1000, UTC)

    async def acknowledge(self) -> None:
        """Raises ``LinkLost``."""
        # Written, not waited for: whether the broker got it shows only in what comes again.
        await handed_over(self.raw.channel.basic_ack(self.raw.delivery_tag or 0, wait=False))


class Inbox:
    """What queues of the broker have sent us, on a channel of its own. Closing it gives back all that is in hand."""

    def __init__(self, channel: AbstractChannel, clock: Clock) -> None:
        self._channel = channel
        self._clock = clock
        self._changed = asyncio.Event()
        self.lost = False
        self.in_hand: deque[Delivery] = deque()

    @classmethod
    async def open(cls, connection: AbstractConnection, count: int, clock: Clock) -> Self:
        """``count`` is the most of a queue that is in hand. Raises ``LinkLost``."""
        channel = await opened_channel(connection)
        inbox = cls(channel, clock)
        channel.close_callbacks.add(inbox._lose)
        try:
            underlay = await apart(channel.get_underlay_channel())
            # A queue may be deleted while the channel stays.
            underlay.on_consumer_cancel_callbacks.add(inbox._lose)
            await apart(channel.set_qos(count))
        except BaseException:
            await inbox.close()
            raise
        return inbox

    async def read(self, name: str) -> None:
        """Also from this queue, from now on. Raises ``LinkLost``."""
        try:
            underlay = await apart(self._channel.get_underlay_channel())
            await apart(underlay.basic_consume(name, self._take))
        except (ChannelNotFoundEntity, ChannelPreconditionFailed) as error:
            raise LinkLost(why(error)) from error

    async def wait(self, limit: float | None = None) -> None:
        """Until there is something in hand, or ``limit`` seconds. Raises ``LinkLost``."""
        with suppress(TimeoutError):
            async with asyncio.timeout(limit):
                while not self.in_hand and not self.lost:
                    self._changed.clear()
                    await self._changed.wait()
        self.check()

    def check(self) -> None:
        """Raises ``LinkLost`` when what is in hand is no longer ours."""
        if self.lost:
            raise LinkLost("the queue's channel was closed")

    async def is_empty(self, names: Iterable[str]) -> bool:
        """Whether nothing is in hand, nor in these queues. Raises ``LinkLost``."""
        try:
            for name in names:
                if self.in_hand or await waiting_messages(self._channel, name):
                    return False
        except ChannelNotFoundEntity as error:
            raise LinkLost(why(error)) from error
        return not self.in_hand

    async def close(self) -> None:
        await closed_channel(self._channel)

    async def _take(self, raw: DeliveredMessage) -> None:
        self.in_hand.append(Delivery(raw, self._clock.now()))
        self._changed.set()

    def _lose(self, *_: Any) -> None:
        self.lost = True
        self._changed.set()


def _is_our_end(error: BaseException) -> bool:
    """Whether the task that runs a handler is cancelled. A handler that something within it has cancelled must not
    end its consumer without a word."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0


class _Reader(ABC):
    """A task that reads from the broker until it is stopped, and through lost connections."""

    def __init__(self, surroundings: Surroundings, owner: Owner, source: str) -> None:
        self._s = surroundings
        self._owner = owner
        self._source = source
        """For people: a queue, or a topic of requests."""
        self._stopping = False
        self._handling = False
        self._attempt = 0
        """To read, in a row."""
        self.task = asyncio.create_task(self._run(), name=f"{owner.name} reads {source}")

    async def stop(self) -> None:
        """On return no handler runs and none will, except when one of them is the caller. What is in hand goes
        back."""
        self._stopping = True
        if self.task is asyncio.current_task():
            return
        if not self._handling:
            self.task.cancel()
        await asyncio.wait({self.task})

    async def _run(self) -> None:
        try:
            while not self._stopping:
                connection = await self._s.link.connection()
                try:
                    await self._read(connection)
                except (LinkLost, *TELLS) as error:
                    if self._stopping:
                        return
                    self._attempt += 1
                    await asyncio.sleep(self._s.reconnect.pause(self._attempt).total_seconds())
                    # Of a lost connection the link tells; this is about a queue that can not be read.
                    if worth_telling(self._attempt) and not connection.is_closed:
                        self._tell_away(self._attempt, error)
        except Exception as error:
            self._halt()
            self._report("-", error)

    @abstractmethod
    async def _read(self, connection: AbstractConnection) -> None:
        """Until it is stopped. Raises ``LinkLost``."""

    def _halt(self) -> None:
        """The agent's other handlers wait until it is detached or resumed. One that is detached already halts nobody:
        another may be in its place."""
        if not self._stopping:
            self._owner.goes_on.clear()

    def _report(self, message_id: str, error: BaseException) -> None:
        failure = HandlerFailed(self._owner.name, self._source, message_id)
        failure.__cause__ = error
        self._s.on_failure(failure)

    def _tell_away(self, attempt: int, error: BaseException) -> None:
        self._s.sink.emit(
            DependencyAway(
                at=self._s.clock.now(), agent=self._owner.name, what=self._source, attempt=attempt, why=why(error)
            )
        )

    def _tell_set_aside(self, delivery: Delivery, reason: str) -> None:
        self._s.sink.emit(
            MessageDeadLettered(
                at=self._s.clock.now(),
                agent=self._s.agent,
                correlation_id=None if delivery.message is None else delivery.message.correlation_id,
                queue=self._source,
                message_id=delivery.id,
                why=reason,
            )
        )

    async def _publish_dead_letter(self, delivery: Delivery, reason: str, deliveries: int) -> None:
        """Raises ``DependencyUnavailable``."""
        try:
            await self._s.publisher.send(
                delivery.body,
                to=self._s.names.dead_letters,
                headers={
                    "id": for_a_header(delivery.id),
                    "queue": self._source,
                    "reason": for_a_header(reason),
                    "deliveries": deliveries,
                    "at": self._s.clock.now().isoformat(),
                },
            )
        except Returned as error:
            raise DependencyUnavailable(
                "the queue of the dead letters is gone: restart an agent to have it made"
            ) from error


class Consumer(_Reader):
    """The one consumer of a queue."""

    def __init__(
        self,
        surroundings: Surroundings,
        owner: Owner,
        spec: QueueSpec,
        handler: Handler | BatchHandler,
        window: timedelta | None,
    ) -> None:
        self._spec = spec
        self._handler: Callable[[Any], Any] = handler
        self._window = window
        self._reading = Reading.STARTING
        self._inbox: Inbox | None = None
        self._away = 0
        """Times in a row that a dependency was not there."""
        super().__init__(surroundings, owner, spec.name)

    def status(self) -> ConsumerStatus:
        return ConsumerStatus(self._reading, len(self._inbox.in_hand) if self._inbox is not None else 0)

    async def _read(self, connection: AbstractConnection) -> None:
        self._reading = Reading.STARTING
        names = self._s.names
        await self._s.declared()
        # Once more, for it may have been deleted since.
        own = await declare_queue(connection, names, self._spec)
        await self._owner.failures.load(connection, names)
        others = await other_generations(connection, names, self._spec, own)
        one_by_one = IN_HAND if is_durable(self._spec) else IN_HAND_MARKET
        count = one_by_one if self._window is None else IN_HAND_BATCHES
        inbox = self._inbox = await Inbox.open(connection, count, self._s.clock)
        try:
            for name in others:
                await inbox.read(name)
            if others:
                await self._serve(inbox, until_empty=others)
            # The others are still read: what an older version's process had in hand comes back when it ends.
            await inbox.read(own)
            self._attempt = 0
            await self._serve(inbox)
        finally:
            self._inbox = None
            await inbox.close()

    async def _serve(self, inbox: Inbox, until_empty: Collection[str] = ()) -> None:
        while not self._stopping:
            self._reading = Reading.WAITING
            if not until_empty:
                await inbox.wait()
            elif await inbox.is_empty(until_empty):
                return
            else:
                await inbox.wait(LOOK_AGAIN)
            if not self._owner.goes_on.is_set():
                self._reading = Reading.HALTED
                await self._owner.goes_on.wait()
            inbox.check()
            if not inbox.in_hand:
                continue
            self._reading = Reading.HANDLING
            self._handling = True
            try:
                first = await self._sorted_out(inbox)
            except DependencyUnavailable as error:
                await self._pause(error)
                continue
            finally:
                self._handling = False
            if first is None or self._stopping:
                continue
            await self._window_over(inbox, first)
            inbox.check()
            await self._deliver(inbox)

    async def _sorted_out(self, inbox: Inbox) -> Delivery | None:
        """The first in hand; or ``None`` when it was one that no handler gets, and is settled."""
        first = inbox.in_hand[0]
        limit = self._spec.delivery_limit
        count, reason = self._owner.failures.of(self._spec.name, first.id)
        if self._is_stale(first):
            inbox.in_hand.popleft()
            await self._settle(first)
        elif first.message is None:
            inbox.in_hand.popleft()
            await self._set_aside(inbox, first, first.problem)
        elif limit is not None and count >= limit:
            # It was to be set aside when the broker was away, or the process ended.
            inbox.in_hand.popleft()
            await self._set_aside(inbox, first, reason, count)
        else:
            return first
        return None

    async def _window_over(self, inbox: Inbox, first: Delivery) -> None:
        if self._window is None or self._has_failed(first):
            return
        # Bounded from both sides: the wall clock may be set meanwhile.
        left = min(first.arrived + self._window - self._s.clock.now(), self._window)
        if left > timedelta(0):
            self._reading = Reading.COLLECTING
            await self._s.clock.sleep(left)

    def _take(self, inbox: Inbox) -> list[Delivery]:
        """The next delivery, as the embedded bus takes it: a message that failed before is delivered alone."""
        first = inbox.in_hand.popleft()
        taken = [first]
        if self._window is not None and not self._has_failed(first):
            closes = first.arrived + self._window
            while inbox.in_hand:
                following = inbox.in_hand[0]
                if following.arrived > closes or following.message is None or self._has_failed(following):
                    break
                taken.append(inbox.in_hand.popleft())
        return taken

    async def _deliver(self, inbox: Inbox) -> None:
        async with self._s.turns.turn(self._owner.name):
            if self._stopping or not self._owner.goes_on.is_set() or inbox.lost or not inbox.in_hand:
                return
            taken = self._take(inbox)
            self._handling = True
            self._reading = Reading.HANDLING
            error = await self._call(taken)
            failure = None if isinstance(error, (Reject, DependencyUnavailable)) else error
            if failure is not None:
                # Before the turn ends: no other handler of the agent may run after this.
                self._halt()
        away = error if isinstance(error, DependencyUnavailable) else None
        try:
            await self._deal_with(inbox, taken, error)
        except DependencyUnavailable as unavailable:
            away = unavailable
        finally:
            self._handling = False
            if failure is not None:
                # After it was counted: who is told may end the process.
                self._report(taken[0].id, failure)
        if away is not None:
            await self._pause(away)
        else:
            self._away = 0

    async def _call(self, taken: list[Delivery]) -> BaseException | None:
        try:
            if self._window is None:
                await self._handler(taken[0].message)
            else:
                await self._handler([each.message for each in taken])
        except (Exception, asyncio.CancelledError) as error:
            if _is_our_end(error):
                raise
            return error
        return None

    async def _deal_with(self, inbox: Inbox, taken: list[Delivery], error: BaseException | None) -> None:
        """What is not settled at the end is in hand again, in its place. Raises ``LinkLost``, and
        ``DependencyUnavailable`` when the broker does not take a dead letter."""
        left = deque(taken)
        try:
            if error is None:
                while left:
                    await self._settle(left.popleft())
            elif isinstance(error, Reject):
                while left:
                    count, _ = self._owner.failures.of(self._spec.name, left[0].id)
                    await self._set_aside(inbox, left[0], str(error), count + 1, in_hand=False)
                    left.popleft()
            elif not isinstance(error, DependencyUnavailable):
                await self._count(inbox, left, error)
        finally:
            inbox.in_hand.extendleft(reversed(left))

    async def _count(self, inbox: Inbox, left: deque[Delivery], error: BaseException) -> None:
        limit = self._spec.delivery_limit
        if limit is None:
            while left:
                await self._settle(left.popleft())
            return
        failures, queue = self._owner.failures, self._spec.name
        for each in left:
            failures.add(queue, each.id, for_a_header(why(error)))
        await failures.save(self._s.publisher, self._s.names)
        for each in list(left):
            count, reason = failures.of(queue, each.id)
            if count >= limit:
                await self._set_aside(inbox, each, reason, count, in_hand=False)
                left.remove(each)

    async def _set_aside(
        self, inbox: Inbox, delivery: Delivery, reason: str, deliveries: int = 1, *, in_hand: bool = True
    ) -> None:
        """``in_hand``: back into the hand when the broker does not take it. Raises ``DependencyUnavailable``, or
        ``LinkLost``."""
        try:
            await self._publish_dead_letter(delivery, reason, deliveries)
        except DependencyUnavailable:
            if in_hand:
                inbox.in_hand.appendleft(delivery)
            raise
        self._tell_set_aside(delivery, reason)
        await self._settle(delivery)

    async def _settle(self, delivery: Delivery) -> None:
        await delivery.acknowledge()
        self._s.settled[self._spec.name] = self._s.settled.get(self._spec.name, 0) + 1
        if self._owner.failures.forget(self._spec.name, delivery.id):
            await self._owner.failures.save(self._s.publisher, self._s.names)

    async def _pause(self, error: DependencyUnavailable) -> None:
        """What is in hand stays there."""
        self._away += 1
        if worth_telling(self._away):
            self._tell_away(self._away, error.__cause__ or error)
        self._reading = Reading.PAUSED
        if not self._stopping:
            await self._s.clock.sleep(self._s.retry.pause(self._away))

    def _has_failed(self, delivery: Delivery) -> bool:
        return self._owner.failures.of(self._spec.name, delivery.id)[0] > 0

    def _is_stale(self, delivery: Delivery) -> bool:
        ttl = self._spec.ttl
        return ttl is not None and delivery.published is not None and self._s.clock.now() - delivery.published >= ttl


class Answering(_Reader):
    """Answers the requests of one topic."""

    def __init__(self, surroundings: Surroundings, owner: Owner, topic: str, responder: Responder) -> None:
        self._responder = responder
        super().__init__(surroundings, owner, topic)

    async def _read(self, connection: AbstractConnection) -> None:
        name = self._s.names.requests(self._source)
        channel = await opened_channel(connection)
        await declare_helper(channel, name, REQUESTS)
        await closed_channel(channel)
        inbox = await Inbox.open(connection, IN_HAND_MARKET, self._s.clock)
        try:
            await inbox.read(name)
            self._attempt = 0
            while not self._stopping:
                await inbox.wait()
                await self._owner.goes_on.wait()
                inbox.check()
                await self._answer(inbox)
        finally:
            await inbox.close()

    async def _answer(self, inbox: Inbox) -> None:
        async with self._s.turns.turn(self._owner.name):
            if self._stopping or not self._owner.goes_on.is_set() or inbox.lost:
                return
            request = inbox.in_hand.popleft()
            self._handling = True
            reply: Message | None = None
            try:
                # First: who asked waits for a short time only, so a request never comes again.
                await request.acknowledge()
                if request.message is not None:
                    reply = await self._responder(request.message)
            except (DependencyUnavailable, LinkLost):
                # Silence: who asked has a time limit.
                pass
            except (Exception, asyncio.CancelledError) as error:
                if _is_our_end(error):
                    raise
                self._halt()
                self._report(request.id, error)
        try:
            if request.message is None:
                with suppress(DependencyUnavailable):
                    await self._publish_dead_letter(request, request.problem, 1)
                self._tell_set_aside(request, request.problem)
            elif reply is not None and (way := request.raw.header.properties).reply_to:
                # Who asked may be gone: nobody misses the answer then.
                with suppress(Returned, LinkLost):
                    await self._s.publisher.reply(
                        encode(reply), to=way.reply_to, correlation_id=way.correlation_id or ""
                    )
        finally:
            self._handling = False
