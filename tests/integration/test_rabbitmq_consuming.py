"""What consumers of the RabbitMQ bus are promised, beyond the contract: on the real broker, with real time."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import aio_pika
import pytest

from support.bus_contract import DELIVERY_LIMIT, QUEUES, Reader
from support.messages import a_candle, a_candle_message, a_ticker_request, an_intent
from support.rabbit_bus import LIMIT, Rig, a_bot, until
from support.tcp_line import tcp_line_to
from tradingbot_agents.bus import DependencyUnavailable, QueueSpec, Reject, RequestTimedOut, Unroutable
from tradingbot_agents.bus.rabbitmq import Pauses
from tradingbot_agents.bus.rabbitmq_consumer import IN_HAND_BATCHES, LONGEST_REASON, PUBLISHED
from tradingbot_agents.bus.rabbitmq_topology import Names
from tradingbot_agents.clock.system import SystemClock
from tradingbot_agents.domain.events import DependencyAway, MessageDeadLettered
from tradingbot_agents.domain.messages import Message

KILLS = 25
"""More than the 20 deliveries that 4.0 allows a message of a queue that names no limit."""


@pytest.fixture
async def bot(rabbitmq: str) -> AsyncIterator[str]:
    async with a_bot(rabbitmq) as name:
        yield name


async def test_a_good_message_survives_any_number_of_lost_consumers_in_its_place(rabbitmq: str, bot: str) -> None:
    begun: list[str] = []
    held, hold = asyncio.Event(), asyncio.Event()

    async def slow(message: Message) -> None:
        begun.append(message.id)
        held.set()
        await hold.wait()

    address = urlsplit(rabbitmq)
    assert address.hostname is not None
    async with tcp_line_to(address.hostname, address.port or 5672) as line, Rig(rabbitmq, bot) as publisher:
        for number in range(4):
            await publisher.bus.publish(an_intent(number))
        url = address._replace(netloc=f"guest:guest@127.0.0.1:{line.port}").geturl()
        for _ in range(KILLS):
            hold.clear()
            held.clear()
            async with Rig(url, bot) as victim:
                await victim.bus.consume("risk.intents", slow)
                await asyncio.wait_for(held.wait(), LIMIT)
                line.cut()
                # Its acknowledgement has no way any more, as that of a killed process.
                hold.set()
        assert begun == ["intent-0"] * KILLS
        reader = Reader()
        await publisher.bus.consume("risk.intents", reader)
        await until(lambda: len(reader.got) >= 4)
        assert reader.got == [f"intent-{number}" for number in range(4)]
        assert await publisher.box.list() == ()


async def test_pauses_begin_anew_after_each_success(rabbitmq: str, bot: str) -> None:
    """A line that is lost now and then must not make its agent ever slower."""
    reader = Reader()
    address = urlsplit(rabbitmq)
    assert address.hostname is not None
    async with tcp_line_to(address.hostname, address.port or 5672) as line:
        url = address._replace(netloc=f"guest:guest@127.0.0.1:{line.port}").geturl()
        pauses = Pauses(timedelta(milliseconds=20), timedelta(minutes=5))
        async with Rig(url, bot, reconnect=pauses) as rig, Rig(rabbitmq, bot) as publisher:
            await rig.bus.consume("risk.intents", reader)
            for number in range(12):
                await publisher.bus.publish(an_intent(number))
                await until(lambda: f"intent-{number}" in reader.got)  # noqa: B023
                line.cut()
            await publisher.bus.publish(an_intent(12))
            await until(lambda: "intent-12" in reader.got)


async def test_a_handler_that_is_cancelled_from_within_has_failed(rabbitmq: str, bot: str) -> None:
    async def cancelled(message: Message) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def answer(request: Message) -> Message:
        await cancelled(request)
        return request

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.publish(an_intent(1))
        await rig.bus.consume("risk.intents", cancelled)
        await rig.bus.respond("analysis", "market.ticker.request", answer)
        await until(lambda: bool(rig.failures))
        while len(rig.failures) < 2:
            with pytest.raises(RequestTimedOut):
                await rig.bus.request(a_ticker_request(), timedelta(milliseconds=100))
        assert [failure.owner for failure in rig.failures] == ["risk", "analysis"]


async def test_a_killed_process_loses_nothing_and_what_it_had_comes_again(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        for number in range(3):
            await rig.bus.publish(an_intent(number))
        for _ in range(2):
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "support.rabbit_victim", rabbitmq, bot, "risk.intents"),
                cwd=Path(__file__).parents[1],
                stdout=asyncio.subprocess.PIPE,
            )
            try:
                assert process.stdout is not None
                line = await asyncio.wait_for(process.stdout.readline(), LIMIT)
                assert line == b"intent-0\n"
            finally:
                os.kill(process.pid, signal.SIGKILL)
                await process.communicate()
        reader = Reader()
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: len(reader.got) >= 3)
        assert reader.got == ["intent-0", "intent-1", "intent-2"]
        assert await rig.box.list() == ()


async def test_a_poison_message_that_ends_its_process_each_time_is_set_aside(rabbitmq: str, bot: str) -> None:
    """Failures are counted through restarts; the good one behind it is handled."""
    good: list[str] = []

    async def handler(message: Message) -> None:
        if message.id == "intent-0":
            raise ValueError("no such symbol")
        good.append(message.id)

    for attempt in range(DELIVERY_LIMIT):
        async with Rig(rabbitmq, bot) as rig:
            if attempt == 0:
                await rig.bus.publish(an_intent(0))
                await rig.bus.publish(an_intent(1))
            await rig.bus.consume("risk.intents", handler)
            await until(lambda: bool(rig.failures))
            assert isinstance(rig.failures[0].__cause__, ValueError)
            assert good == [], "after a failure the agent does nothing more"
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.consume("risk.intents", handler)
        await until(lambda: bool(good))
        (letter,) = await rig.box.list()
        assert (letter.queue, letter.message_id, letter.deliveries) == ("risk.intents", "intent-0", DELIVERY_LIMIT)
        assert letter.reason == "ValueError: no such symbol"
        assert rig.failures == []


async def test_a_failed_agent_does_nothing_until_it_is_attached_anew(rabbitmq: str, bot: str) -> None:
    candles, others = Reader(), Reader()

    async def fail(message: Message) -> None:
        raise ValueError("a bug")

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.consume("risk.intents", fail)
        await rig.bus.consume("risk.candles", candles)
        await rig.bus.consume("analysis.candles", others)
        await rig.bus.publish(an_intent(1))
        await until(lambda: bool(rig.failures))
        await rig.bus.publish(a_candle_message(a_candle()))
        await until(lambda: bool(others.got))
        assert candles.got == [], "a handler of the agent that failed"
        assert len(rig.failures) == 1
        await rig.bus.detach("risk")
        await rig.bus.consume("risk.candles", candles)
        await until(lambda: bool(candles.got))


async def test_what_can_not_be_read_is_set_aside_with_the_reason(rabbitmq: str, bot: str) -> None:
    bodies = [b'{"type":"trade.intent"}', b"\x00\xff", b'{"type":"\xff"}', b"", b"[" * 100_000]
    reader = Reader()
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.until_connected()
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            for body in bodies:
                # Its headers are as odd.
                message = aio_pika.Message(body, headers={PUBLISHED: 2**62})
                await channel.default_exchange.publish(message, Names(bot).queue("risk.intents"))
        await rig.bus.publish(an_intent(1))
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: bool(reader.got))
        letters = await rig.box.list()
        assert {letter.body for letter in letters} == set(bodies)
        for letter in letters:
            assert letter.message is None
            assert letter.message_id.startswith("unreadable-")
            assert letter.reason.startswith("it can not be read: ")
        told = [event.message_id for event in rig.sink.events if isinstance(event, MessageDeadLettered)]
        assert sorted(told) == sorted(letter.message_id for letter in letters)
        assert rig.failures == []


@pytest.mark.parametrize("error", [Reject, ValueError])
async def test_a_reason_of_any_length_and_kind_can_be_kept(rabbitmq: str, bot: str, error: type[Exception]) -> None:
    """A broker ends the connection over a header that is longer than a frame, again and again."""
    reason = "\udc80" + "x" * 300_000

    async def fail(message: Message) -> None:
        raise error(reason)

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.publish(an_intent(1))
        for _ in range(1 if error is Reject else DELIVERY_LIMIT):
            failed = len(rig.failures)
            await rig.bus.consume("risk.intents", fail)
            await until(lambda: len(rig.failures) > failed or bool(rig.bus.settled()))  # noqa: B023
            await rig.bus.detach("risk")
        (letter,) = await rig.box.list()
        assert len(letter.reason) == LONGEST_REASON
        assert letter.reason.endswith("xxx")


async def test_a_long_outage_of_a_dependency_pauses_with_growing_pauses_and_keeps_order(
    rabbitmq: str, bot: str
) -> None:
    outages = 3 * DELIVERY_LIMIT
    reader = Reader(*[DependencyUnavailable("the ledger is away")] * outages)
    retry = Pauses(timedelta(milliseconds=2), timedelta(milliseconds=40))
    async with Rig(rabbitmq, bot, retry=retry) as rig:
        for number in range(3):
            await rig.bus.publish(an_intent(number))
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: len(reader.got) >= outages + 3)
        assert reader.got == ["intent-0"] * (outages + 1) + ["intent-1", "intent-2"]
        assert await rig.box.list() == ()
        told = [event for event in rig.sink.events if isinstance(event, DependencyAway)]
        assert [event.attempt for event in told] == [1, 2, 4, 8]
        assert "the ledger is away" in told[0].why


async def test_an_agent_has_one_handler_at_a_time(rabbitmq: str, bot: str) -> None:
    """Of its queues, its responders, and whoever else takes a turn, such as a timer."""
    running = 0
    most = 0
    ended = 0

    async def work(message: Message) -> Message:
        nonlocal running, most, ended
        running += 1
        most = max(most, running)
        for _ in range(10):
            await asyncio.sleep(0)
        running -= 1
        ended += 1
        return an_intent(99)

    async def handle(message: Message) -> None:
        await work(message)

    async with Rig(rabbitmq, bot) as rig:
        for number in range(10):
            await rig.bus.publish(an_intent(number))
            await rig.bus.publish(a_candle_message(a_candle(number)))
        await rig.bus.respond("risk", "market.ticker.request", work)
        await rig.bus.consume("risk.intents", handle)
        await rig.bus.consume("risk.candles", handle)
        async with rig.turns.turn("risk"):
            asked = [
                asyncio.create_task(rig.bus.request(a_ticker_request(), timedelta(seconds=20))) for _ in range(10)
            ]
            await until(lambda: all(c.in_hand == 10 for c in rig.bus.consumers().values()))
            assert ended == 0, "somebody else has the turn"
        for reply in await asyncio.gather(*asked):
            assert reply.id == "intent-99"
        await until(lambda: ended >= 30)
        assert (most, ended) == (1, 30)


async def test_requests_that_overlap_get_their_own_answers(rabbitmq: str, bot: str) -> None:
    async def answer(request: Message) -> Message:
        return a_ticker_request(request.key + "!")

    async with Rig(rabbitmq, bot) as asking, Rig(rabbitmq, bot) as answering:
        await answering.bus.respond("analysis", "market.ticker.request", answer)
        symbols = [f"S{number}/USDT" for number in range(20)]

        async def ask(symbol: str) -> str:
            return (await asking.bus.request(a_ticker_request(symbol), timedelta(seconds=20))).key

        assert await asyncio.gather(*map(ask, symbols)) == [f"{symbol}!" for symbol in symbols]


async def test_a_request_without_an_answer_in_time_times_out_and_is_never_answered_late(
    rabbitmq: str, bot: str
) -> None:
    asked: list[str] = []
    answer_now = asyncio.Event()

    async def slow(request: Message) -> Message:
        asked.append(request.key)
        await answer_now.wait()
        return a_ticker_request(request.key)

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.respond("analysis", "market.ticker.request", slow)
        while not asked:
            with pytest.raises(RequestTimedOut):
                await rig.bus.request(a_ticker_request("OLD/USDT"), timedelta(milliseconds=100))
        with pytest.raises(RequestTimedOut, match=r"no answer to market\.ticker\.request within 0\.1 s"):
            # It waits behind the first, and is too old when its turn comes.
            await rig.bus.request(a_ticker_request("STALE/USDT"), timedelta(milliseconds=100))
        answer_now.set()
        reply = await rig.bus.request(a_ticker_request("NEW/USDT"), timedelta(seconds=20))
        assert reply.key == "NEW/USDT"


async def test_a_handler_that_is_detached_is_waited_for_and_its_message_is_done(rabbitmq: str, bot: str) -> None:
    begun = asyncio.Event()
    go_on = asyncio.Event()
    ended: list[str] = []

    async def slow(message: Message) -> None:
        begun.set()
        await go_on.wait()
        ended.append(message.id)

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.publish(an_intent(1))
        await rig.bus.publish(an_intent(2))
        await rig.bus.consume("risk.intents", slow)
        await asyncio.wait_for(begun.wait(), LIMIT)
        detaching = asyncio.create_task(rig.bus.detach("risk"))
        await asyncio.sleep(0)
        assert not detaching.done()
        go_on.set()
        await detaching
        assert ended == ["intent-1"]
    async with Rig(rabbitmq, bot) as rig:
        reader = Reader()
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: bool(reader.got))
        assert reader.got == ["intent-2"]


async def test_closing_ends_with_a_rejecting_handler_that_closes_nothing(rabbitmq: str, bot: str) -> None:
    """What a handler raised is dealt with though its bus is being closed."""
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def refuse(message: Message) -> None:
        begun.set()
        await go_on.wait()
        raise Reject("too late")

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.publish(an_intent(1))
        await rig.bus.consume("risk.intents", refuse)
        await asyncio.wait_for(begun.wait(), LIMIT)
        closing = asyncio.create_task(rig.bus.close())
        go_on.set()
        await closing
        (letter,) = await rig.box.list()
        assert letter.reason == "too late"


class TestBatches:
    async def test_a_window_of_real_time_collects_what_comes_within_it(self, rabbitmq: str, bot: str) -> None:
        got: list[list[str]] = []
        clock = SystemClock()

        async def keep(messages: list[Message]) -> None:
            got.append([message.id for message in messages])

        async with Rig(rabbitmq, bot) as rig:
            await rig.bus.until_connected()
            await rig.bus.consume_batches("risk.intents", keep, timedelta(milliseconds=400))
            began = clock.now()
            for number in range(3):
                await rig.bus.publish(an_intent(number))
            await until(lambda: bool(got))
            assert clock.now() - began >= timedelta(milliseconds=400)
            assert got == [["intent-0", "intent-1", "intent-2"]]
            await until(lambda: rig.bus.settled() == {"risk.intents": 3})

    async def test_a_batch_is_cut_at_its_bound_and_loses_nothing(self, rabbitmq: str, bot: str) -> None:
        got: list[list[str]] = []

        async def keep(messages: list[Message]) -> None:
            got.append([message.id for message in messages])

        async with Rig(rabbitmq, bot) as rig:
            count = IN_HAND_BATCHES + 10
            await asyncio.gather(*(rig.bus.publish(an_intent(number)) for number in range(count)))
            await rig.bus.consume_batches("risk.intents", keep, timedelta(milliseconds=100))
            await until(lambda: sum(map(len, got)) >= count)
            assert len(got[0]) <= IN_HAND_BATCHES
            assert [each for batch in got for each in batch] == [f"intent-{number}" for number in range(count)]


class TestQueuesOfMarketData:
    async def test_the_broker_drops_what_is_too_old(self, rabbitmq: str) -> None:
        queues = (
            QueueSpec(
                name="analysis.candles",
                owner="analysis",
                topics=("market.candle",),
                ttl=timedelta(milliseconds=300),
                max_length=10,
            ),
            QUEUES[1],
        )
        async with a_bot(rabbitmq, queues) as bot, Rig(rabbitmq, bot, queues) as rig:
            for number in range(3):
                await rig.bus.publish(a_candle_message(a_candle(number)))
            deadline = asyncio.get_running_loop().time() + LIMIT
            while (depths := await rig.bus.depths())["analysis.candles"]:
                assert asyncio.get_running_loop().time() < deadline
            assert depths == {"analysis.candles": 0, "risk.candles": 3}
            assert await rig.box.list() == (), "it is dropped, and not set aside"

    async def test_the_broker_keeps_the_newest_up_to_the_bound(self, rabbitmq: str, bot: str) -> None:
        async with Rig(rabbitmq, bot) as rig:
            for number in range(10):
                await rig.bus.publish(a_candle_message(a_candle(number)))
            assert await rig.bus.depths() == {"analysis.candles": 4, "risk.candles": 10, "risk.intents": 0}


async def test_a_second_process_of_an_agent_waits_for_the_first(rabbitmq: str, bot: str) -> None:
    """So order holds while an old pod ends."""
    first, second = Reader(), Reader()
    async with Rig(rabbitmq, bot) as waiting:
        async with Rig(rabbitmq, bot) as active:
            await active.bus.consume("risk.intents", first)
            await active.bus.publish(an_intent(1))
            await until(lambda: first.got == ["intent-1"])
            await waiting.bus.consume("risk.intents", second)
            for number in range(2, 10):
                await active.bus.publish(an_intent(number))
            await until(lambda: len(first.got) == 9)
        await waiting.bus.publish(an_intent(10))
        await until(lambda: bool(second.got))
        assert second.got == ["intent-10"]


async def test_a_queue_that_is_deleted_is_made_again_by_its_consumer(rabbitmq: str, bot: str) -> None:
    reader = Reader()
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.consume("risk.intents", reader)
        await rig.bus.publish(an_intent(1))
        await until(lambda: bool(reader.got))
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(Names(bot).queue("risk.intents"))
        deadline = asyncio.get_running_loop().time() + LIMIT
        while len(reader.got) < 2:
            assert asyncio.get_running_loop().time() < deadline
            with suppress(Unroutable):
                await rig.bus.publish(an_intent(2))
        assert set(reader.got) == {"intent-1", "intent-2"}


async def test_a_deleted_exchange_is_told_and_made_again_with_the_next_connection(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot, publish_limit=timedelta(milliseconds=300)) as rig:
        await rig.bus.publish(an_intent(1))
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            await channel.exchange_delete(Names(bot).exchange)
        with pytest.raises(DependencyUnavailable, match="no exchange"):
            await rig.bus.publish(an_intent(2))
    reader = Reader()
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.consume("risk.intents", reader)
        await rig.bus.publish(an_intent(2))
        await until(lambda: len(reader.got) == 2)
