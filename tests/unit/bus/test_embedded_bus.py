"""The embedded bus: the contract of every bus, and what only the lockstep promises."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import pytest

from support.bus_contract import QUEUES, TTL, WINDOW, BatchReader, BusContract, BusUnderTest, Reader
from support.messages import START, a_candle, a_candle_message, a_ticker_request, an_intent
from support.queues import BOT_QUEUES
from tradingbot_agents.bus import (
    DeadLetter,
    DependencyUnavailable,
    EmbeddedBus,
    HandlerFailed,
    QueueSpec,
    Reject,
    RequestTimedOut,
)
from tradingbot_agents.bus.embedded import RETRY_DELAY
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.messages import Message


class Embedded:
    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.bus = EmbeddedBus(self.clock, QUEUES)

    async def deliver(self) -> list[HandlerFailed]:
        failures = []
        while True:
            try:
                if not await self.bus.step():
                    return failures
            except HandlerFailed as failure:
                failures.append(failure)

    async def advance(self, by: timedelta) -> None:
        await self.clock.sleep(by)

    async def after_retry(self) -> None:
        due = self.bus.next_retry()
        assert due is not None
        self.clock.advance_to(due)

    async def dead_letters(self) -> Sequence[DeadLetter]:
        return self.bus.dead_letters()

    async def requeue(self, letter: DeadLetter) -> None:
        self.bus.requeue_dead_letter(letter.queue, letter.message.id)


@pytest.fixture
def embedded() -> Embedded:
    return Embedded()


class TestEmbeddedBusKeepsTheContract(BusContract):
    @pytest.fixture
    def bus(self) -> BusUnderTest:
        return Embedded()


async def test_messages_are_delivered_in_the_order_of_publishing_over_all_queues(embedded: Embedded) -> None:
    order: list[str] = []

    def noting(queue: str) -> Reader:
        class Noting(Reader):
            async def __call__(self, message: Message) -> None:
                order.append(f"{queue} {message.id}")

        return Noting()

    # Attached against the topology's order: that must not matter.
    for queue in ("risk.intents", "risk.candles", "analysis.candles"):
        await embedded.bus.consume(queue, noting(queue))
    await embedded.bus.publish(an_intent(1))
    await embedded.bus.publish(a_candle_message(a_candle()))
    await embedded.bus.publish(an_intent(2))
    await embedded.deliver()
    assert order == [
        "risk.intents intent-1",
        f"analysis.candles {a_candle().id}",
        f"risk.candles {a_candle().id}",
        "risk.intents intent-2",
    ]


async def test_a_step_delivers_one_message_and_says_when_nothing_is_left(embedded: Embedded) -> None:
    reader = Reader()
    await embedded.bus.consume("risk.intents", reader)
    assert await embedded.bus.step() is False
    await embedded.bus.publish(an_intent(1))
    await embedded.bus.publish(an_intent(2))
    assert await embedded.bus.step() is True
    assert reader.got == ["intent-1"]
    assert await embedded.bus.step() is True
    assert await embedded.bus.step() is False


async def test_all_queues_share_the_message_itself(embedded: Embedded) -> None:
    got: list[Message] = []

    async def keep(message: Message) -> None:
        got.append(message)

    await embedded.bus.consume("analysis.candles", keep)
    await embedded.bus.consume("risk.candles", keep)
    message = a_candle_message(a_candle())
    await embedded.bus.publish(message)
    await embedded.deliver()
    assert got[0] is message
    assert got[1] is message


async def test_the_failure_carries_its_cause(embedded: Embedded) -> None:
    await embedded.bus.consume("risk.intents", Reader(ZeroDivisionError("a bug")))
    await embedded.bus.publish(an_intent(1))
    with pytest.raises(HandlerFailed, match=r"risk failed on message intent-1 of risk\.intents") as failure:
        await embedded.bus.step()
    assert isinstance(failure.value.__cause__, ZeroDivisionError)


async def test_a_cancelled_delivery_is_not_acknowledged(embedded: Embedded) -> None:
    started = asyncio.Event()
    got: list[str] = []

    async def hang(message: Message) -> None:
        got.append(message.id)
        started.set()
        await asyncio.Event().wait()

    await embedded.bus.consume("risk.intents", hang)
    await embedded.bus.publish(an_intent(1))
    pump = asyncio.create_task(embedded.bus.step())
    await started.wait()
    pump.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pump
    reader = Reader()
    await embedded.bus.consume("risk.intents", reader)
    await embedded.deliver()
    assert got == reader.got == ["intent-1"]


async def test_a_handler_must_not_drive_the_bus(embedded: Embedded) -> None:
    async def drive(message: Message) -> None:
        await embedded.bus.step()

    await embedded.bus.consume("risk.intents", drive)
    await embedded.bus.publish(an_intent(1))
    with pytest.raises(HandlerFailed) as failure:
        await embedded.bus.step()
    assert "one at a time" in str(failure.value.__cause__)


async def test_a_paused_queue_is_tried_again_after_the_delay(embedded: Embedded) -> None:
    reader = Reader(DependencyUnavailable("away"))
    await embedded.bus.consume("risk.intents", reader)
    assert embedded.bus.next_retry() is None
    await embedded.bus.publish(an_intent(1))
    await embedded.deliver()
    assert embedded.bus.next_retry() == START + RETRY_DELAY
    await embedded.advance(RETRY_DELAY - timedelta(microseconds=1))
    await embedded.deliver()
    assert reader.got == ["intent-1"]
    await embedded.advance(timedelta(microseconds=1))
    await embedded.deliver()
    assert reader.got == ["intent-1", "intent-1"]
    assert embedded.bus.next_retry() is None


@pytest.mark.parametrize(("owner", "goes_on"), [(None, True), ("risk", True), ("analysis", False)])
async def test_the_driver_can_end_a_pause_without_time_passing(
    embedded: Embedded, owner: str | None, goes_on: bool
) -> None:
    reader = Reader(DependencyUnavailable("away"))
    await embedded.bus.consume("risk.intents", reader)
    await embedded.bus.publish(an_intent(1))
    await embedded.deliver()
    embedded.bus.resume(owner)
    await embedded.deliver()
    assert len(reader.got) == (2 if goes_on else 1)


async def test_what_holds_a_queue_up_is_known_until_it_goes_on(embedded: Embedded) -> None:
    away = DependencyUnavailable("away")
    await embedded.bus.consume("risk.intents", Reader(away))
    assert embedded.bus.held_up_by is None
    await embedded.bus.publish(an_intent(1))
    await embedded.deliver()
    assert embedded.bus.held_up_by is away
    embedded.bus.resume()
    assert embedded.bus.held_up_by is None
    await embedded.deliver()
    assert embedded.bus.held_up_by is None


async def test_a_new_consumer_does_not_wait_for_the_old_ones_pause(embedded: Embedded) -> None:
    await embedded.bus.consume("risk.intents", Reader(DependencyUnavailable("away")))
    await embedded.bus.publish(an_intent(1))
    await embedded.deliver()
    await embedded.bus.detach("risk")
    reader = Reader()
    await embedded.bus.consume("risk.intents", reader)
    await embedded.deliver()
    assert reader.got == ["intent-1"]


async def test_a_message_lives_until_its_time_to_live_and_not_longer(embedded: Embedded) -> None:
    reader = Reader()
    await embedded.bus.publish(a_candle_message(a_candle(0)))
    await embedded.advance(TTL - timedelta(microseconds=1))
    await embedded.bus.publish(a_candle_message(a_candle(1)))
    await embedded.bus.consume("analysis.candles", reader)
    await embedded.bus.step()
    assert reader.got == [a_candle(0).id]
    await embedded.advance(TTL)
    assert await embedded.bus.step() is False
    assert reader.got == [a_candle(0).id]


async def test_what_is_dropped_is_counted_and_what_waits_is_shown(embedded: Embedded) -> None:
    for index in range(5):
        await embedded.bus.publish(a_candle_message(a_candle(index)))
    assert embedded.bus.depths() == {"analysis.candles": 4, "risk.candles": 5, "risk.intents": 0}
    assert embedded.bus.discarded() == {"analysis.candles": 1, "risk.candles": 0, "risk.intents": 0}
    await embedded.advance(TTL)
    assert embedded.bus.depths() == {"analysis.candles": 0, "risk.candles": 5, "risk.intents": 0}
    assert embedded.bus.discarded() == {"analysis.candles": 5, "risk.candles": 0, "risk.intents": 0}


async def test_a_full_queue_keeps_its_length_when_a_message_comes_back(embedded: Embedded) -> None:
    async def fill_up_and_fail(message: Message) -> None:
        for index in range(1, 5):
            await embedded.bus.publish(a_candle_message(a_candle(index)))
        raise ValueError("after four more")

    await embedded.bus.consume("analysis.candles", fill_up_and_fail)
    await embedded.bus.publish(a_candle_message(a_candle(0)))
    with pytest.raises(HandlerFailed):
        await embedded.bus.step()
    reader = Reader()
    await embedded.bus.consume("analysis.candles", reader)
    await embedded.deliver()
    assert reader.got == [a_candle(index).id for index in range(1, 5)], "the oldest is the one that came back"


async def test_a_queue_without_redelivery_drops_a_failed_message_at_once() -> None:
    bus = EmbeddedBus(
        VirtualClock(START), [QueueSpec(name="q", owner="risk", topics=("trade.intent",), delivery_limit=None)]
    )
    reader = Reader(ValueError("once"))
    await bus.consume("q", reader)
    await bus.publish(an_intent(1))
    with pytest.raises(HandlerFailed):
        await bus.step()
    assert await bus.step() is False
    assert bus.dead_letters() == ()
    assert bus.discarded() == {"q": 1}


async def test_dead_letters_are_told_of_and_can_be_given_back_only_where_they_are() -> None:
    told: list[DeadLetter] = []
    clock = VirtualClock(START)
    bus = EmbeddedBus(clock, QUEUES, told.append)
    await bus.consume("risk.intents", Reader(Reject("no")))
    await bus.publish(an_intent(1))
    clock.advance_to(START + timedelta(seconds=3))
    await bus.step()
    assert bus.dead_letters() == tuple(told)
    assert told[0].at == START + timedelta(seconds=3)
    with pytest.raises(LookupError, match=r"no dead letter 'intent-1' of queue 'risk\.candles'"):
        bus.requeue_dead_letter("risk.candles", "intent-1")
    bus.requeue_dead_letter("risk.intents", "intent-1")
    with pytest.raises(LookupError):
        bus.requeue_dead_letter("risk.intents", "intent-1")


async def test_the_driver_is_told_when_a_batch_is_complete_or_a_pause_over(embedded: Embedded) -> None:
    bus = embedded.bus
    await bus.consume_batches("risk.intents", BatchReader(), WINDOW)
    assert bus.next_due() is None
    await bus.publish(an_intent(1))
    assert await bus.step() is False
    assert bus.next_due() == START + WINDOW
    await bus.consume("risk.candles", Reader(DependencyUnavailable("away")))
    await bus.publish(a_candle_message(a_candle()))
    await bus.step()
    assert bus.next_due() == START + WINDOW
    await embedded.advance(WINDOW)
    assert await bus.step() is True
    assert bus.next_due() == START + RETRY_DELAY


async def test_a_window_ends_with_its_last_moment(embedded: Embedded) -> None:
    reader = BatchReader()
    await embedded.bus.consume_batches("risk.intents", reader, WINDOW)
    await embedded.bus.publish(an_intent(1))
    await embedded.advance(WINDOW)
    await embedded.bus.publish(an_intent(2))
    await embedded.advance(timedelta(microseconds=1))
    await embedded.bus.publish(an_intent(3))
    await embedded.deliver()
    assert reader.got == [["intent-1", "intent-2"]]


async def test_an_answer_that_took_too_long_by_the_clock_is_refused(embedded: Embedded) -> None:
    async def slow(request: Message) -> Message:
        await embedded.clock.sleep(timedelta(seconds=3))
        return an_intent(1)

    await embedded.bus.respond("analysis", "market.ticker.request", slow)
    with pytest.raises(RequestTimedOut, match="took 3 s"):
        await embedded.bus.request(a_ticker_request(), timedelta(seconds=2))
    assert (await embedded.bus.request(a_ticker_request(), timedelta(seconds=3))).id == "intent-1"


async def test_an_agent_that_was_detached_is_not_ended_a_second_time(embedded: Embedded) -> None:
    async def broken(request: Message) -> Message:
        raise ZeroDivisionError("a bug")

    await embedded.bus.respond("analysis", "market.ticker.request", broken)
    for _ in range(2):
        with pytest.raises(RequestTimedOut):
            await embedded.bus.request(a_ticker_request(), timedelta(seconds=2))
    with pytest.raises(HandlerFailed):
        await embedded.bus.step()
    await embedded.bus.detach("analysis")
    assert await embedded.bus.step() is False


def test_a_queue_can_not_be_declared_twice() -> None:
    with pytest.raises(ValueError, match=r"'risk\.intents' is declared twice"):
        EmbeddedBus(VirtualClock(START), [*QUEUES, QUEUES[2]])


async def test_the_real_topology_has_a_queue_for_every_message_that_is_published() -> None:
    bus = EmbeddedBus(VirtualClock(START), BOT_QUEUES)
    await bus.publish(a_candle_message(a_candle()))
    await bus.publish(an_intent(1))
    waiting = {name for name, depth in bus.depths().items() if depth}
    assert waiting == {"technical-analysis.candles", "risk.candles", "execution.candles", "risk.intents"}
