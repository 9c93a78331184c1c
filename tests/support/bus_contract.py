"""What every bus must do, as tests that any implementation can inherit.

A subclass gives a fixture ``bus`` that returns a ``BusUnderTest``: the bus with the topology of ``QUEUES``, and
the few handles that a test needs to make time pass and to see what was set aside.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Protocol

import pytest

from support.messages import a_candle, a_candle_message, a_ticker_request, an_intent
from tradingbot_agents.bus import (
    Bus,
    DeadLetter,
    DependencyUnavailable,
    HandlerFailed,
    QueueSpec,
    Reject,
    RequestTimedOut,
    Unroutable,
)
from tradingbot_agents.domain.messages import Message, TickerReply

TTL = timedelta(minutes=5)
MAX_LENGTH = 4
DELIVERY_LIMIT = 3
WINDOW = timedelta(milliseconds=250)

QUEUES = (
    QueueSpec(
        name="analysis.candles",
        owner="analysis",
        topics=("market.candle",),
        ttl=TTL,
        max_length=MAX_LENGTH,
        delivery_limit=DELIVERY_LIMIT,
    ),
    QueueSpec(name="risk.candles", owner="risk", topics=("market.candle",), delivery_limit=DELIVERY_LIMIT),
    QueueSpec(name="risk.intents", owner="risk", topics=("trade.intent",), delivery_limit=DELIVERY_LIMIT),
)


class BusUnderTest(Protocol):
    bus: Bus

    async def deliver(self) -> list[HandlerFailed]:
        """Deliver until nothing is left that can be delivered now; the failures of handlers on the way."""
        ...

    async def advance(self, by: timedelta) -> None: ...

    async def after_retry(self) -> None:
        """Wait until paused queues are tried again."""
        ...

    async def dead_letters(self) -> Sequence[DeadLetter]: ...

    async def requeue(self, letter: DeadLetter) -> None: ...


class Reader:
    """A consumer that notes what it gets, and raises what it was told to, in turn."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.got: list[str] = []
        self._outcomes = list(outcomes)

    async def __call__(self, message: Message) -> None:
        self.got.append(message.id)
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if outcome is not None:
            raise outcome


class BatchReader:
    """A consumer of batches, likewise."""

    def __init__(self, *outcomes: Exception | None) -> None:
        self.got: list[list[str]] = []
        self._outcomes = list(outcomes)

    async def __call__(self, messages: list[Message]) -> None:
        self.got.append([message.id for message in messages])
        outcome = self._outcomes.pop(0) if self._outcomes else None
        if outcome is not None:
            raise outcome


class BusContract:
    async def test_a_message_reaches_every_queue_bound_to_its_topic_once(self, bus: BusUnderTest) -> None:
        analysis, risk, intents = Reader(), Reader(), Reader()
        await bus.bus.consume("analysis.candles", analysis)
        await bus.bus.consume("risk.candles", risk)
        await bus.bus.consume("risk.intents", intents)
        message = a_candle_message(a_candle())
        await bus.bus.publish(message)
        assert await bus.deliver() == []
        assert analysis.got == risk.got == [message.id]
        assert intents.got == []

    async def test_the_message_arrives_as_it_was_sent(self, bus: BusUnderTest) -> None:
        got: list[Message] = []

        async def keep(message: Message) -> None:
            got.append(message)

        await bus.bus.consume("risk.intents", keep)
        await bus.bus.publish(an_intent(1))
        await bus.deliver()
        assert got == [an_intent(1)]

    async def test_messages_wait_for_their_consumer_in_order(self, bus: BusUnderTest) -> None:
        for number in range(3):
            await bus.bus.publish(an_intent(number))
        await bus.deliver()
        reader = Reader()
        await bus.bus.consume("risk.intents", reader)
        await bus.deliver()
        assert reader.got == ["intent-0", "intent-1", "intent-2"]

    async def test_a_topic_without_a_queue_is_refused(self, bus: BusUnderTest) -> None:
        with pytest.raises(Unroutable, match=r"no queue is bound to topic 'market\.ticker\.request'"):
            await bus.bus.publish(a_ticker_request())

    async def test_a_queue_outside_the_topology_can_not_be_consumed(self, bus: BusUnderTest) -> None:
        with pytest.raises(ValueError, match=r"'risk\.orders' is not in the topology"):
            await bus.bus.consume("risk.orders", Reader())

    async def test_a_second_consumer_replaces_the_first(self, bus: BusUnderTest) -> None:
        first, second = Reader(), Reader()
        await bus.bus.consume("risk.intents", first)
        await bus.bus.consume("risk.intents", second)
        await bus.bus.publish(an_intent(1))
        await bus.deliver()
        assert (first.got, second.got) == ([], ["intent-1"])

    async def test_a_failed_delivery_comes_again_in_its_place(self, bus: BusUnderTest) -> None:
        reader = Reader(ZeroDivisionError("a bug"))
        await bus.bus.consume("risk.intents", reader)
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(an_intent(2))
        failures = await bus.deliver()
        assert reader.got == ["intent-1", "intent-1", "intent-2"]
        (failure,) = failures
        assert (failure.owner, failure.queue, failure.message_id) == ("risk", "risk.intents", "intent-1")
        assert not await bus.dead_letters()

    async def test_a_message_that_fails_up_to_the_limit_is_set_aside_and_the_rest_goes_on(
        self, bus: BusUnderTest
    ) -> None:
        reader = Reader(*[ValueError("no such symbol")] * DELIVERY_LIMIT)
        await bus.bus.consume("risk.intents", reader)
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(an_intent(2))
        assert len(await bus.deliver()) == DELIVERY_LIMIT
        assert reader.got == ["intent-1"] * DELIVERY_LIMIT + ["intent-2"]
        (letter,) = await bus.dead_letters()
        assert letter.queue == "risk.intents"
        assert letter.message == an_intent(1)
        assert letter.deliveries == DELIVERY_LIMIT
        assert "no such symbol" in letter.reason

    async def test_failed_deliveries_count_across_consumers(self, bus: BusUnderTest) -> None:
        """A poison message must not restart its agent for ever."""

        async def end(message: Message) -> None:
            await bus.bus.detach("risk")
            raise ValueError("poison")

        await bus.bus.publish(an_intent(1))
        for _ in range(DELIVERY_LIMIT):
            await bus.bus.consume("risk.intents", end)
            assert len(await bus.deliver()) == 1
        assert [letter.message.id for letter in await bus.dead_letters()] == ["intent-1"]

    async def test_a_rejected_message_is_set_aside_at_once_with_its_reason(self, bus: BusUnderTest) -> None:
        reader = Reader(Reject("version 9 is not known"))
        await bus.bus.consume("risk.intents", reader)
        await bus.bus.publish(an_intent(1))
        assert await bus.deliver() == []
        assert reader.got == ["intent-1"]
        (letter,) = await bus.dead_letters()
        assert (letter.reason, letter.deliveries) == ("version 9 is not known", 1)

    async def test_only_the_queue_that_failed_sets_a_message_aside(self, bus: BusUnderTest) -> None:
        risk = Reader()
        await bus.bus.consume("analysis.candles", Reader(Reject("no")))
        await bus.bus.consume("risk.candles", risk)
        await bus.bus.publish(a_candle_message(a_candle()))
        await bus.deliver()
        assert risk.got == [a_candle().id]
        assert [letter.queue for letter in await bus.dead_letters()] == ["analysis.candles"]

    async def test_a_dead_letter_can_be_given_another_chance(self, bus: BusUnderTest) -> None:
        await bus.bus.consume("risk.intents", Reader(Reject("not yet")))
        await bus.bus.publish(an_intent(1))
        await bus.deliver()
        reader = Reader(*[ValueError("again")] * (DELIVERY_LIMIT - 1))
        await bus.bus.consume("risk.intents", reader)
        (letter,) = await bus.dead_letters()
        await bus.requeue(letter)
        await bus.deliver()
        assert reader.got == ["intent-1"] * DELIVERY_LIMIT, "its deliveries are counted anew"
        assert not await bus.dead_letters()

    async def test_a_missing_dependency_pauses_the_queue_and_counts_nothing(self, bus: BusUnderTest) -> None:
        outages = DELIVERY_LIMIT + 2
        reader = Reader(*[DependencyUnavailable("the ledger is away")] * outages)
        await bus.bus.consume("risk.intents", reader)
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(an_intent(2))
        for attempt in range(outages):
            assert await bus.deliver() == []
            assert reader.got == ["intent-1"] * (attempt + 1), "one try, then the queue rests"
            await bus.after_retry()
        await bus.deliver()
        assert reader.got == ["intent-1"] * (outages + 1) + ["intent-2"]
        assert not await bus.dead_letters()

    async def test_other_queues_go_on_while_one_is_paused(self, bus: BusUnderTest) -> None:
        candles = Reader()
        await bus.bus.consume("risk.intents", Reader(DependencyUnavailable("the ledger is away")))
        await bus.bus.consume("risk.candles", candles)
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(a_candle_message(a_candle()))
        await bus.deliver()
        assert candles.got == [a_candle().id]

    async def test_old_messages_are_dropped_where_the_queue_says_so(self, bus: BusUnderTest) -> None:
        await bus.bus.publish(a_candle_message(a_candle(0)))
        await bus.advance(TTL)
        await bus.bus.publish(a_candle_message(a_candle(1)))
        analysis, risk = Reader(), Reader()
        await bus.bus.consume("analysis.candles", analysis)
        await bus.bus.consume("risk.candles", risk)
        await bus.deliver()
        assert analysis.got == [a_candle(1).id]
        assert risk.got == [a_candle(0).id, a_candle(1).id]
        assert not await bus.dead_letters()

    async def test_age_counts_from_publishing_also_after_a_redelivery(self, bus: BusUnderTest) -> None:
        reader = Reader(DependencyUnavailable("away"))
        await bus.bus.consume("analysis.candles", reader)
        await bus.bus.publish(a_candle_message(a_candle(0)))
        await bus.deliver()
        await bus.advance(TTL)
        await bus.deliver()
        assert reader.got == [a_candle(0).id]

    async def test_the_oldest_are_dropped_beyond_the_length(self, bus: BusUnderTest) -> None:
        for index in range(MAX_LENGTH + 2):
            await bus.bus.publish(a_candle_message(a_candle(index)))
        reader = Reader()
        await bus.bus.consume("analysis.candles", reader)
        await bus.deliver()
        assert reader.got == [a_candle(index).id for index in range(2, MAX_LENGTH + 2)]

    async def test_queues_of_orders_drop_nothing(self, bus: BusUnderTest) -> None:
        for number in range(50):
            await bus.bus.publish(an_intent(number))
        await bus.advance(timedelta(days=30))
        reader = Reader()
        await bus.bus.consume("risk.intents", reader)
        await bus.deliver()
        assert reader.got == [f"intent-{number}" for number in range(50)]

    async def test_a_detached_agent_gets_nothing_and_its_queues_keep_what_comes(self, bus: BusUnderTest) -> None:
        old, other = Reader(), Reader()
        await bus.bus.consume("risk.intents", old)
        await bus.bus.consume("analysis.candles", other)
        await bus.bus.detach("risk")
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(a_candle_message(a_candle()))
        await bus.deliver()
        assert old.got == []
        assert other.got == [a_candle().id]
        new = Reader()
        await bus.bus.consume("risk.intents", new)
        await bus.deliver()
        assert new.got == ["intent-1"]

    async def test_what_a_handler_publishes_is_delivered_too(self, bus: BusUnderTest) -> None:
        async def strategy(message: Message) -> None:
            await bus.bus.publish(an_intent(7))

        intents = Reader()
        await bus.bus.consume("risk.candles", strategy)
        await bus.bus.consume("risk.intents", intents)
        await bus.bus.publish(a_candle_message(a_candle()))
        await bus.deliver()
        assert intents.got == ["intent-7"]

    async def test_what_came_within_a_window_is_one_batch(self, bus: BusUnderTest) -> None:
        reader = BatchReader()
        await bus.bus.consume_batches("risk.intents", reader, WINDOW)
        await bus.bus.publish(an_intent(1))
        await bus.advance(WINDOW / 2)
        await bus.bus.publish(an_intent(2))
        await bus.deliver()
        assert reader.got == [], "the window is still open"
        await bus.advance(WINDOW / 4)
        await bus.bus.publish(an_intent(3))
        await bus.advance(WINDOW / 2)
        await bus.bus.publish(an_intent(4))
        await bus.deliver()
        assert reader.got == [["intent-1", "intent-2", "intent-3"]]
        await bus.advance(WINDOW)
        await bus.deliver()
        assert reader.got[1:] == [["intent-4"]]

    async def test_a_failed_batch_comes_again_one_by_one(self, bus: BusUnderTest) -> None:
        """One poison message takes no other with it to the dead letters."""

        class Poisoned(BatchReader):
            async def __call__(self, messages: list[Message]) -> None:
                await super().__call__(messages)
                if "intent-2" in self.got[-1]:
                    raise ValueError("poison")

        reader = Poisoned()
        await bus.bus.consume_batches("risk.intents", reader, WINDOW)
        for number in (1, 2, 3):
            await bus.bus.publish(an_intent(number))
        await bus.advance(WINDOW)
        failures = await bus.deliver()
        assert len(failures) == DELIVERY_LIMIT
        assert reader.got == [
            ["intent-1", "intent-2", "intent-3"],
            ["intent-1"],
            *[["intent-2"]] * (DELIVERY_LIMIT - 1),
            ["intent-3"],
        ]
        assert [letter.message.id for letter in await bus.dead_letters()] == ["intent-2"]

    async def test_a_message_that_failed_comes_again_alone_though_others_wait(self, bus: BusUnderTest) -> None:
        class Failing(BatchReader):
            async def __call__(self, messages: list[Message]) -> None:
                await super().__call__(messages)
                if len(self.got) == 1:
                    await bus.bus.publish(an_intent(2))
                    raise ValueError("once")

        reader = Failing()
        await bus.bus.consume_batches("risk.intents", reader, WINDOW)
        await bus.bus.publish(an_intent(1))
        await bus.advance(WINDOW)
        await bus.deliver()
        await bus.advance(WINDOW)
        await bus.deliver()
        assert reader.got == [["intent-1"], ["intent-1"], ["intent-2"]]

    async def test_a_rejected_batch_is_set_aside_message_by_message(self, bus: BusUnderTest) -> None:
        await bus.bus.consume_batches("risk.intents", BatchReader(Reject("no")), WINDOW)
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(an_intent(2))
        await bus.advance(WINDOW)
        assert await bus.deliver() == []
        assert [letter.message.id for letter in await bus.dead_letters()] == ["intent-1", "intent-2"]

    async def test_a_batch_without_its_dependency_comes_again_whole(self, bus: BusUnderTest) -> None:
        reader = BatchReader(*[DependencyUnavailable("the ledger is away")] * (DELIVERY_LIMIT + 1))
        await bus.bus.consume_batches("risk.intents", reader, WINDOW)
        await bus.bus.publish(an_intent(1))
        await bus.bus.publish(an_intent(2))
        await bus.advance(WINDOW)
        for _ in range(DELIVERY_LIMIT + 1):
            await bus.deliver()
            await bus.after_retry()
        await bus.deliver()
        assert reader.got == [["intent-1", "intent-2"]] * (DELIVERY_LIMIT + 2)
        assert not await bus.dead_letters()

    async def test_a_request_gets_its_answer(self, bus: BusUnderTest) -> None:
        async def answer(request: Message) -> Message:
            return TickerReply(
                id="reply",
                correlation_id=request.correlation_id,
                causation_id=request.id,
                bot=request.bot,
                producer="analysis",
                at=request.at,
                symbol=request.key,
                price=None,
                priced_at=None,
                error="the exchange is away",
            )

        await bus.bus.respond("analysis", "market.ticker.request", answer)
        reply = await bus.bus.request(a_ticker_request("ETH/USDT"), timedelta(seconds=2))
        assert isinstance(reply, TickerReply)
        assert (reply.symbol, reply.causation_id) == ("ETH/USDT", "ticker.ETH/USDT")

    async def test_a_handler_can_ask_while_it_is_waited_for(self, bus: BusUnderTest) -> None:
        answers: list[str] = []

        async def answer(request: Message) -> Message:
            return an_intent(9)

        async def risk(message: Message) -> None:
            answers.append((await bus.bus.request(a_ticker_request(), timedelta(seconds=2))).id)

        await bus.bus.respond("analysis", "market.ticker.request", answer)
        await bus.bus.consume("risk.intents", risk)
        await bus.bus.publish(an_intent(1))
        assert await bus.deliver() == []
        assert answers == ["intent-9"]

    async def test_nobody_answers(self, bus: BusUnderTest) -> None:
        with pytest.raises(RequestTimedOut):
            await bus.bus.request(a_ticker_request(), timedelta(milliseconds=50))

    async def test_a_detached_responder_answers_no_more(self, bus: BusUnderTest) -> None:
        async def answer(request: Message) -> Message:
            return an_intent(9)

        await bus.bus.respond("analysis", "market.ticker.request", answer)
        await bus.bus.detach("analysis")
        with pytest.raises(RequestTimedOut):
            await bus.bus.request(a_ticker_request(), timedelta(milliseconds=50))

    async def test_a_responder_without_its_dependency_is_silence(self, bus: BusUnderTest) -> None:
        async def answer(request: Message) -> Message:
            raise DependencyUnavailable("the exchange is away")

        await bus.bus.respond("analysis", "market.ticker.request", answer)
        with pytest.raises(RequestTimedOut):
            await bus.bus.request(a_ticker_request(), timedelta(milliseconds=50))
        assert await bus.deliver() == []

    async def test_a_responder_with_a_bug_is_silence_and_ends_its_own_agent(self, bus: BusUnderTest) -> None:
        async def answer(request: Message) -> Message:
            raise ZeroDivisionError("a bug")

        async def risk(message: Message) -> None:
            with pytest.raises(RequestTimedOut):
                await bus.bus.request(a_ticker_request(), timedelta(milliseconds=500))

        await bus.bus.respond("analysis", "market.ticker.request", answer)
        await bus.bus.consume("risk.intents", risk)
        await bus.bus.publish(an_intent(1))
        assert [failure.owner for failure in await bus.deliver()] == ["analysis"]
