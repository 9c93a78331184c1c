"""The bus of one process, driven in lockstep: one message at a time, in the order they were published.

It keeps the promises of the port without a server, so that the replay, the tests and a laptop run the agents
that a cluster runs. It does nothing by itself: a driver calls ``step`` until nothing is left, and only then
moves time on. That, and one order over all queues, is what makes one seed one run.

Messages are immutable, so the queues of a topic share one entry instead of copies.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from tradingbot_agents.bus.port import (
    BatchHandler,
    DeadLetter,
    DependencyUnavailable,
    Handler,
    HandlerFailed,
    QueueSpec,
    Reject,
    RequestTimedOut,
    Responder,
    Unroutable,
)
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.messages import Message

RETRY_DELAY = timedelta(seconds=1)
"""How long a queue rests after ``DependencyUnavailable``: a database that restarts is back within seconds, and
asking more often would only lengthen the fault."""

Entry = tuple[int, datetime, Message]
"""Place in the order of all publishes, when it was published, and the message."""


class _Queue:
    __slots__ = (
        "away",
        "discarded",
        "entries",
        "failures",
        "handler",
        "max_length",
        "retry_at",
        "spec",
        "ttl",
        "window",
    )

    def __init__(self, spec: QueueSpec) -> None:
        self.spec = spec
        self.ttl = spec.ttl
        self.max_length = spec.max_length
        self.entries: deque[Entry] = deque()
        self.handler: Callable[[Any], Awaitable[None]] | None = None
        self.window: timedelta | None = None
        """How long a batch is collected from its first message on; ``None``: messages are delivered one by one."""
        self.retry_at: datetime | None = None
        self.away: DependencyUnavailable | None = None
        """Why it was paused last."""
        self.failures: dict[int, int] = {}
        """Failed deliveries by place: they outlive the consumer, or a poison message would restart its agent
        for ever."""
        self.discarded = 0

    def put(self, entry: Entry) -> None:
        self.entries.append(entry)
        if self.max_length is not None and len(self.entries) > self.max_length:
            self._discard_oldest()

    def put_back(self, entries: list[Entry]) -> None:
        """To the places they had: in front, so that nothing of their key overtakes them."""
        self.entries.extendleft(reversed(entries))
        while self.max_length is not None and len(self.entries) > self.max_length:
            self._discard_oldest()

    def take(self) -> list[Entry]:
        """The next delivery: the oldest message, or what came within its window. A message that failed before is
        delivered alone, so that a poison one takes no other with it to the dead letters."""
        taken = [self.entries.popleft()]
        if self.window is not None and taken[0][0] not in self.failures:
            closes = taken[0][1] + self.window
            while self.entries and self.entries[0][1] <= closes and self.entries[0][0] not in self.failures:
                taken.append(self.entries.popleft())
        return taken

    def discard_expired(self, now: datetime) -> None:
        while self.ttl is not None and self.entries and now - self.entries[0][1] >= self.ttl:
            self._discard_oldest()

    def _discard_oldest(self) -> None:
        place, _, _ = self.entries.popleft()
        self.failures.pop(place, None)
        self.discarded += 1


class EmbeddedBus:
    """Queues in memory. Nothing survives the process: the ledger is the truth, and messages only wake."""

    def __init__(
        self,
        clock: Clock,
        topology: Iterable[QueueSpec],
        on_dead_letter: Callable[[DeadLetter], None] | None = None,
        retry_delay: timedelta = RETRY_DELAY,
    ) -> None:
        """``on_dead_letter`` is told of each message that is set aside; it must not raise."""
        self._clock = clock
        self._on_dead_letter = on_dead_letter
        self._retry_delay = retry_delay
        self._queues: dict[str, _Queue] = {}
        self._bindings: dict[str, list[_Queue]] = {}
        for spec in topology:
            if spec.name in self._queues:
                raise ValueError(f"queue {spec.name!r} is declared twice in the topology")
            queue = self._queues[spec.name] = _Queue(spec)
            for topic in dict.fromkeys(spec.topics):
                self._bindings.setdefault(topic, []).append(queue)
        self._ready: list[_Queue] = []
        """Queues with a consumer that are not paused, in the topology's order: it decides between two queues
        that hold the same message."""
        self._paused = False
        self._place = 0
        self._delivering = False
        self._dead: list[DeadLetter] = []
        self._responders: dict[str, tuple[str, Responder]] = {}
        self._responder_failures: deque[HandlerFailed] = deque()

    # What agents use: the port.

    async def publish(self, message: Message) -> None:
        queues = self._bindings.get(message.topic)
        if queues is None:
            raise Unroutable(message.topic, message.id)
        self._place += 1
        entry = (self._place, self._clock.now(), message)
        for queue in queues:
            queue.put(entry)

    async def consume(self, queue: str, handler: Handler) -> None:
        self._attach(queue, handler, None)

    async def consume_batches(self, queue: str, handler: BatchHandler, window: timedelta) -> None:
        self._attach(queue, handler, window)

    def _attach(self, queue: str, handler: Handler | BatchHandler, window: timedelta | None) -> None:
        target = self._named(queue)
        target.handler = handler
        target.window = window
        self._sort_out()

    async def respond(self, owner: str, topic: str, responder: Responder) -> None:
        self._responders[topic] = (owner, responder)

    async def request(self, message: Message, timeout: timedelta) -> Message:
        """The responder runs at once, within the caller's wait: while a handler waits for its answer nothing
        else is delivered, so nobody else could answer later either. For the same reason a missing responder
        is a ``RequestTimedOut`` at once. An answer that took longer than ``timeout`` by the clock is refused
        when it comes; the call is not cut short, for a limit in wall time would make a replay depend on the
        machine.

        A responder that fails looks like silence to the caller, as it would from another process; its own
        agent ends by the next ``step``.
        """
        found = self._responders.get(message.topic)
        if found is None:
            raise RequestTimedOut(f"nobody answers {message.topic} (request {message.id})")
        owner, responder = found
        asked_at = self._clock.now()
        try:
            reply = await responder(message)
        except DependencyUnavailable as error:
            raise RequestTimedOut(f"{owner} can not answer {message.topic} now: {error}") from error
        except Exception as error:
            failure = HandlerFailed(owner, message.topic, message.id)
            failure.__cause__ = error
            self._responder_failures.append(failure)
            raise RequestTimedOut(f"{owner} failed on request {message.id} of {message.topic}") from error
        took = self._clock.now() - asked_at
        if took > timeout:
            raise RequestTimedOut(
                f"{owner} took {took.total_seconds():g} s to answer {message.topic},"
                f" longer than {timeout.total_seconds():g} s"
            )
        return reply

    async def detach(self, owner: str) -> None:
        for queue in self._queues.values():
            if queue.spec.owner == owner:
                queue.handler = None
                queue.retry_at = None
        self._responders = {topic: found for topic, found in self._responders.items() if found[0] != owner}
        self._responder_failures = deque(f for f in self._responder_failures if f.owner != owner)
        self._sort_out()

    # What the driver uses.

    async def step(self) -> bool:
        """Deliver the oldest message that has a consumer (or the batch that it begins, once its window is over),
        and wait for its handler; ``False`` when there is none. Raises ``HandlerFailed`` after the message is back
        in its place (or among the dead letters)."""
        if self._responder_failures:
            raise self._responder_failures.popleft()
        if self._delivering:
            raise RuntimeError("step() was called while a message is being delivered: one driver, one at a time")
        if self._paused:
            self._wake(self._clock.now())
        while True:
            queue: _Queue | None = None
            first = 0
            for candidate in self._ready:
                if candidate.entries:
                    place, published, _ = candidate.entries[0]
                    if (queue is None or place < first) and (
                        candidate.window is None or self._clock.now() - published >= candidate.window
                    ):
                        queue, first = candidate, place
            if queue is None or queue.handler is None:
                return False
            if queue.ttl is None or self._clock.now() - queue.entries[0][1] < queue.ttl:
                break
            queue.discard_expired(self._clock.now())
        entries = queue.take()
        self._delivering = True
        try:
            if queue.window is None:
                await queue.handler(entries[0][2])
            else:
                await queue.handler([message for _, _, message in entries])
        except Reject as error:
            for entry in entries:
                self._set_aside(queue, entry, str(error), queue.failures.pop(entry[0], 0) + 1)
        except DependencyUnavailable as error:
            queue.put_back(entries)
            if queue.handler is not None:
                queue.away = error
                queue.retry_at = self._clock.now() + self._retry_delay
                self._sort_out()
        except Exception as error:
            queue.put_back([entry for entry in entries if not self._is_over(queue, entry, error)])
            raise HandlerFailed(queue.spec.owner, queue.spec.name, entries[0][2].id) from error
        except BaseException:
            # Cancelled in the middle of it: not acknowledged, so it comes again.
            queue.put_back(entries)
            raise
        else:
            if queue.failures:
                for entry in entries:
                    queue.failures.pop(entry[0], None)
        finally:
            self._delivering = False
        return True

    def next_due(self) -> datetime | None:
        """When there is something to deliver that could not be delivered before: the first batch whose window
        ends, or the first paused queue that is tried again; ``None`` when there is neither."""
        windows = (
            queue.entries[0][1] + queue.window for queue in self._ready if queue.window is not None and queue.entries
        )
        retry = self.next_retry() if self._paused else None
        return min((due for due in (*windows, retry) if due is not None), default=None)

    def next_retry(self) -> datetime | None:
        """When the first paused queue that holds something is tried again, or ``None``."""
        paused = [queue for queue in self._queues.values() if queue.retry_at is not None]
        for queue in paused:
            queue.discard_expired(self._clock.now())
        return min((q.retry_at for q in paused if q.entries and q.retry_at is not None), default=None)

    @property
    def held_up_by(self) -> DependencyUnavailable | None:
        """Why something waits in a queue that is paused, or ``None`` when nothing does."""
        if not self._paused:
            return None
        return next((q.away for q in self._queues.values() if q.retry_at is not None and q.entries), None)

    def resume(self, owner: str | None = None) -> None:
        """End the pause of an agent's queues (or of all) now: what they need is back."""
        for queue in self._queues.values():
            if owner is None or queue.spec.owner == owner:
                queue.retry_at = None
        self._sort_out()

    # What people and the status use.

    def depths(self) -> dict[str, int]:
        """Messages that wait, by queue."""
        now = self._clock.now()
        for queue in self._queues.values():
            queue.discard_expired(now)
        return {name: len(queue.entries) for name, queue in self._queues.items()}

    def discarded(self) -> dict[str, int]:
        """Messages that a queue dropped by its own promise (too old, too many, no redelivery), by queue."""
        return {name: queue.discarded for name, queue in self._queues.items()}

    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """What was set aside, oldest first."""
        return tuple(self._dead)

    def requeue_dead_letter(self, queue: str, message_id: str) -> None:
        """Give one another chance, in that queue only, as if published now. Raises ``LookupError``."""
        target = self._named(queue)
        letter = next((d for d in self._dead if d.queue == queue and d.message.id == message_id), None)
        if letter is None:
            raise LookupError(f"no dead letter {message_id!r} of queue {queue!r}: see dead_letters()")
        self._dead.remove(letter)
        self._place += 1
        target.put((self._place, self._clock.now(), letter.message))

    def _named(self, name: str) -> _Queue:
        queue = self._queues.get(name)
        if queue is None:
            raise ValueError(f"queue {name!r} is not in the topology: it has {', '.join(self._queues)}")
        return queue

    def _sort_out(self) -> None:
        consumed = [queue for queue in self._queues.values() if queue.handler is not None]
        self._ready = [queue for queue in consumed if queue.retry_at is None]
        self._paused = len(self._ready) < len(consumed)

    def _wake(self, now: datetime) -> None:
        due = [q for q in self._queues.values() if q.retry_at is not None and q.retry_at <= now]
        for queue in due:
            queue.retry_at = None
        if due:
            self._sort_out()

    def _is_over(self, queue: _Queue, entry: Entry, error: Exception) -> bool:
        """Count a failed delivery; ``True`` when it was the last one, and the message is dropped or set aside."""
        limit = queue.spec.delivery_limit
        failures = queue.failures.pop(entry[0], 0) + 1
        if limit is None:
            queue.discarded += 1
            return True
        if failures >= limit:
            self._set_aside(queue, entry, f"{type(error).__name__}: {error}", failures)
            return True
        queue.failures[entry[0]] = failures
        return False

    def _set_aside(self, queue: _Queue, entry: Entry, reason: str, deliveries: int) -> None:
        letter = DeadLetter(
            queue=queue.spec.name, message=entry[2], reason=reason, deliveries=deliveries, at=self._clock.now()
        )
        self._dead.append(letter)
        if self._on_dead_letter is not None:
            self._on_dead_letter(letter)
