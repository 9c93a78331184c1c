"""The embedded bus against a small model of its promises, in whatever order things happen.

The model keeps plain lists. It knows what must be delivered next, what may be dropped and why, and counts every
copy of every message: it waits, was acknowledged, was set aside, or was dropped by its queue's own promise.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.coroutines import run_now
from support.messages import START, a_candle, a_candle_message, an_intent
from tradingbot_agents.bus import DependencyUnavailable, EmbeddedBus, HandlerFailed, QueueSpec, Reject
from tradingbot_agents.bus.embedded import RETRY_DELAY
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.messages import Message

TTL = timedelta(minutes=5)
QUEUES = (
    QueueSpec(name="short", owner="analysis", topics=("market.candle",), ttl=TTL, max_length=3, delivery_limit=2),
    QueueSpec(name="all", owner="risk", topics=("market.candle", "trade.intent"), delivery_limit=3),
    QueueSpec(name="intents", owner="risk", topics=("trade.intent",), delivery_limit=3),
    QueueSpec(name="once", owner="execution", topics=("trade.intent",), delivery_limit=None),
)
SPECS = {spec.name: spec for spec in QUEUES}
Windows = st.sampled_from((None, None, 0.0, 0.4, 60.0))
"""Seconds in which a consumer collects a batch; ``None``: it takes messages one by one."""
SYMBOLS = ("BTC/USDT", "ETH/USDT")


@dataclass
class Copy:
    place: int
    at: datetime
    message: Message
    failures: int = 0


@dataclass
class Model:
    spec: QueueSpec
    attached: bool = False
    window: timedelta | None = None
    paused_until: datetime | None = None
    waiting: list[Copy] = field(default_factory=list)
    received: int = 0
    acknowledged: list[Copy] = field(default_factory=list)
    dropped: int = 0

    def put(self, copy: Copy) -> None:
        self.received += 1
        self.waiting.append(copy)
        if self.spec.max_length is not None and len(self.waiting) > self.spec.max_length:
            self.waiting.pop(0)
            self.dropped += 1

    def expire(self, now: datetime) -> None:
        if self.spec.ttl is not None:
            alive = [copy for copy in self.waiting if now < copy.at + self.spec.ttl]
            self.dropped += len(self.waiting) - len(alive)
            self.waiting = alive


class BusMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.clock = VirtualClock(START)
        self.bus = EmbeddedBus(self.clock, QUEUES)
        self.model = {spec.name: Model(spec) for spec in QUEUES}
        self.dead: list[tuple[str, Message, int]] = []
        self.place = 0
        self.delivered: list[tuple[str, list[Message]]] = []
        self.outcome: Exception | None = None

    @initialize(windows=st.lists(Windows, min_size=len(QUEUES), max_size=len(QUEUES)))
    def begin_with_all_attached(self, windows: list[float | None]) -> None:
        for name, window in zip(SPECS, windows, strict=True):
            self.attach(name, window)

    def _put(self, queue: Model, message: Message) -> None:
        self.place += 1
        queue.put(Copy(self.place, self.clock.now(), message))

    def _publish(self, message: Message) -> None:
        run_now(self.bus.publish(message))
        for queue in self.model.values():
            if message.topic in queue.spec.topics:
                self._put(queue, message)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def publish_candle(self, symbol: str) -> None:
        self._publish(a_candle_message(a_candle(self.place, symbol)))

    @rule(symbol=st.sampled_from(SYMBOLS))
    def publish_intent(self, symbol: str) -> None:
        self._publish(an_intent(self.place, symbol))

    @rule(name=st.sampled_from(sorted(SPECS)), window=Windows)
    def attach(self, name: str, window: float | None) -> None:
        async def handle(message: Message) -> None:
            await handle_batch([message])

        async def handle_batch(messages: list[Message]) -> None:
            self.delivered.append((name, messages))
            if self.outcome is not None:
                raise self.outcome

        queue = self.model[name]
        queue.attached = True
        if window is None:
            queue.window = None
            run_now(self.bus.consume(name, handle))
        else:
            queue.window = timedelta(seconds=window)
            run_now(self.bus.consume_batches(name, handle_batch, queue.window))

    @rule(owner=st.sampled_from(("analysis", "risk", "execution")))
    def detach(self, owner: str) -> None:
        run_now(self.bus.detach(owner))
        for queue in self.model.values():
            if queue.spec.owner == owner:
                queue.attached = False
                queue.paused_until = None

    @rule(seconds=st.sampled_from((0.4, 1, 60, 299, 300)))
    def pass_time(self, seconds: float) -> None:
        run_now(self.clock.sleep(timedelta(seconds=seconds)))

    @rule(owner=st.sampled_from((None, "analysis", "risk")))
    def resume(self, owner: str | None) -> None:
        self.bus.resume(owner)
        for queue in self.model.values():
            if owner in (None, queue.spec.owner):
                queue.paused_until = None

    @precondition(lambda self: self.dead)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        name, message, _ = letter = data.draw(st.sampled_from(self.dead))
        self.bus.requeue_dead_letter(name, message.id)
        self.dead.remove(letter)
        self._put(self.model[name], message)

    def _next(self) -> tuple[Model, list[Copy]] | None:
        now = self.clock.now()
        for queue in self.model.values():
            queue.expire(now)
            if queue.paused_until is not None and queue.paused_until <= now:
                queue.paused_until = None
        able = [q for q in self.model.values() if q.attached and q.paused_until is None and q.waiting]
        able = [q for q in able if q.window is None or q.waiting[0].at + q.window <= now]
        if not able:
            return None
        queue = min(able, key=lambda q: q.waiting[0].place)
        first, *others = queue.waiting
        together = [first]
        if queue.window is not None and first.failures == 0:
            for copy in others:
                if copy.at > first.at + queue.window or copy.failures:
                    break
                together.append(copy)
        return queue, together

    @rule(
        outcome=st.one_of(
            st.none(),
            st.just(Reject("no")),
            st.just(DependencyUnavailable("away")),
            st.just(ValueError("a bug")),
            st.just(ValueError("a bug")),
        )
    )
    def step(self, outcome: Exception | None) -> None:
        expected = self._next()
        self.delivered.clear()
        self.outcome = outcome
        if expected is None:
            assert run_now(self.bus.step()) is False
            assert self.delivered == []
            return
        queue, copies = expected
        if isinstance(outcome, ValueError):
            with pytest.raises(HandlerFailed) as failed:
                run_now(self.bus.step())
            assert (failed.value.owner, failed.value.queue) == (queue.spec.owner, queue.spec.name)
        else:
            assert run_now(self.bus.step()) is True
        assert self.delivered == [(queue.spec.name, [copy.message for copy in copies])]
        if isinstance(outcome, DependencyUnavailable):
            queue.paused_until = self.clock.now() + RETRY_DELAY
            return
        for copy in copies:
            self._settle(queue, copy, outcome)

    def _settle(self, queue: Model, copy: Copy, outcome: Exception | None) -> None:
        limit = queue.spec.delivery_limit
        if outcome is None:
            queue.waiting.remove(copy)
            queue.acknowledged.append(copy)
            return
        copy.failures += 1
        if isinstance(outcome, Reject) or (limit is not None and copy.failures >= limit):
            queue.waiting.remove(copy)
            self.dead.append((queue.spec.name, copy.message, copy.failures))
        elif limit is None:
            queue.waiting.remove(copy)
            queue.dropped += 1

    @rule(times=st.integers(2, 4))
    def fail_again_and_again(self, times: int) -> None:
        for _ in range(times):
            self.step(ValueError("a bug"))

    @rule()
    def drain(self) -> None:
        while self._next() is not None:
            self.step(None)
        assert run_now(self.bus.step()) is False

    @rule()
    def every_copy_is_accounted_for(self) -> None:
        """Not after each step: looking sweeps out what is too old, and delivery must know that by itself."""
        depths, discarded = self.bus.depths(), self.bus.discarded()
        for name, queue in self.model.items():
            queue.expire(self.clock.now())
            assert depths[name] == len(queue.waiting)
            assert discarded[name] == queue.dropped

    @invariant()
    def what_is_set_aside_is_kept(self) -> None:
        letters = [(d.queue, d.message, d.deliveries) for d in self.bus.dead_letters()]
        assert letters == self.dead

    @invariant()
    def only_what_is_worthless_is_dropped(self) -> None:
        assert self.model["all"].dropped == 0
        assert self.model["intents"].dropped == 0
        assert len(self.model["short"].waiting) <= 3

    @invariant()
    def order_is_kept_by_key_and_nothing_is_acknowledged_twice(self) -> None:
        for queue in self.model.values():
            for symbol in SYMBOLS:
                places = [copy.place for copy in queue.acknowledged if copy.message.key == symbol]
                assert places == sorted(set(places))

    @invariant()
    def the_driver_knows_when_to_try_again(self) -> None:
        for queue in self.model.values():
            queue.expire(self.clock.now())
        waiting = [q.paused_until for q in self.model.values() if q.paused_until is not None and q.waiting]
        assert self.bus.next_retry() == min(waiting, default=None)


BusMachine.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestBusMachine = BusMachine.TestCase
