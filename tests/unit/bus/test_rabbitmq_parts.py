"""The parts of the RabbitMQ bus that need no broker."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from aio_pika.exceptions import ChannelNotFoundEntity

from tradingbot_agents.bus.port import QueueSpec
from tradingbot_agents.bus.rabbitmq_consumer import COUNTED, FailureCounts
from tradingbot_agents.bus.rabbitmq_link import LinkLost, Pauses, apart, handed_over, new_connection
from tradingbot_agents.bus.rabbitmq_topology import NO_LIMIT, Names, is_durable, queue_arguments, routing_key
from tradingbot_agents.bus.topology import topology

NAMES = Names("majors")

Call = Callable[[Awaitable[Any]], Awaitable[Any]]


def test_pauses_grow_and_end_growing() -> None:
    pauses = Pauses(timedelta(milliseconds=200), timedelta(seconds=5))
    assert [pauses.pause(attempt).total_seconds() for attempt in range(1, 8)] == [0.2, 0.4, 0.8, 1.6, 3.2, 5, 5]
    assert pauses.pause(1_000_000) == timedelta(seconds=5)


def test_a_key_is_one_word_of_the_routing_key() -> None:
    assert routing_key("trade.intent", "BTC/USDT") == "trade.intent.BTC/USDT"
    assert routing_key("trade.intent", "ABC.D/USDT") == "trade.intent.ABC_D/USDT"


def test_everything_of_a_bot_has_its_name() -> None:
    assert NAMES.queue("risk.intents") == "tradingbot.majors.risk.intents"
    assert NAMES.queue("risk.intents", 2) == "tradingbot.majors.risk.intents.2"
    assert NAMES.dead_letters == "tradingbot.majors.dead-letters"


def test_intents_orders_and_reports_are_durable_and_market_data_is_bounded() -> None:
    queues = topology(market_time_to_live=timedelta(seconds=90), market_length=500, delivery_limit=5)
    assert [queue.name for queue in queues if is_durable(queue)] == [
        "risk.intents",
        "execution.orders",
        "strategy.reports",
        "risk.reports",
    ]
    for queue in queues:
        arguments = queue_arguments(queue, NAMES)
        if is_durable(queue):
            assert arguments["x-queue-type"] == "quorum"
            assert arguments["x-delivery-limit"] == NO_LIMIT, "the broker counts kills and outages too"
            assert arguments["x-dead-letter-strategy"] == "at-least-once"
            assert "x-max-length" not in arguments
            assert "x-message-ttl" not in arguments
        else:
            assert (arguments["x-message-ttl"], arguments["x-max-length"]) == (90_000, 500)
            assert arguments["x-overflow"] == "drop-head"


def test_a_queue_with_one_bound_only_has_that_one() -> None:
    short = queue_arguments(QueueSpec(name="a", owner="b", topics=("c",), max_length=3), NAMES)
    assert short["x-max-length"] == 3
    assert "x-message-ttl" not in short


def test_failures_are_counted_by_queue_and_message() -> None:
    counts = FailureCounts("risk")
    counts.add("risk.intents", "one", "first")
    counts.add("risk.intents", "one", "second")
    counts.add("risk.reports", "one", "other")
    assert counts.of("risk.intents", "one") == (2, "second")
    assert counts.of("risk.reports", "one") == (1, "other")
    assert counts.forget("risk.intents", "one")
    assert not counts.forget("risk.intents", "one")
    assert counts.of("risk.intents", "one") == (0, "")


def test_failures_that_are_never_settled_do_not_pile_up() -> None:
    counts = FailureCounts("risk")
    for number in range(COUNTED + 1):
        counts.add("risk.candles", str(number), "gone")
    assert counts.of("risk.candles", "0") == (0, "")
    assert counts.of("risk.candles", str(COUNTED)) == (1, "gone")


@pytest.mark.parametrize("url", ["amqp://bot:s3cret@[broker", "amqp://bot:s3cret@broker:port/", "s3cret"])
async def test_an_address_that_can_not_be_understood_is_not_shown(url: str) -> None:
    with pytest.raises(LinkLost) as caught:
        new_connection(url, "test")
    assert "write amqp://" in str(caught.value)
    assert "s3cret" not in str(caught.value)
    assert caught.value.__context__ is None, "the first error may hold the address"


@pytest.mark.parametrize("call", [apart, handed_over])
class TestCallsOfTheLibrary:
    async def test_give_their_result(self, call: Call) -> None:
        async def work() -> int:
            return 7

        assert await call(work()) == 7

    async def test_what_the_library_cancels_is_a_lost_connection_and_not_a_cancelled_caller(self, call: Call) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(future.cancel)
        with pytest.raises(LinkLost):
            await call(future)

    @pytest.mark.parametrize("error", [RuntimeError("closed"), OSError("reset"), TimeoutError(), Exception("other")])
    async def test_errors_of_the_connection_are_a_lost_connection(self, call: Call, error: Exception) -> None:
        async def fail() -> None:
            raise error

        with pytest.raises(LinkLost):
            await call(fail())

    @pytest.mark.parametrize("error", [ChannelNotFoundEntity("no queue"), ZeroDivisionError()])
    async def test_other_errors_are_what_they_are(self, call: Call, error: Exception) -> None:
        async def fail() -> None:
            raise error

        with pytest.raises(type(error)):
            await call(fail())

    async def test_a_cancelled_caller_takes_the_call_with_it(self, call: Call) -> None:
        begun, ended = asyncio.Event(), asyncio.Event()

        async def work() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        caller = asyncio.ensure_future(call(work()))
        await begun.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await asyncio.wait_for(ended.wait(), 5)

    async def test_a_lost_connection_is_seen_by_one_that_was_cancelled_before(self, call: Call) -> None:
        """As when what it holds is closed at its end."""
        seen: list[LinkLost] = []

        async def caller() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                asyncio.get_running_loop().call_soon(lost.cancel)
                try:
                    await call(lost)
                except LinkLost as error:
                    seen.append(error)

        task = asyncio.create_task(caller())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(seen) == 1


async def test_silence_is_a_lost_connection() -> None:
    with pytest.raises(LinkLost, match="no answer within 0 s"):
        await apart(asyncio.Event().wait(), 0)


async def test_one_that_does_not_end_when_cancelled_holds_nobody_up() -> None:
    end = asyncio.Event()

    async def stubborn() -> None:
        while not end.is_set():
            with suppress(asyncio.CancelledError):
                await end.wait()

    call = asyncio.ensure_future(stubborn())
    with pytest.raises(LinkLost):
        await apart(call, 0.01)
    end.set()
    await call
