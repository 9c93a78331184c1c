"""A RabbitMQ that is killed, late, full, or refuses: agents wait for it, and nothing is lost."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from support.bus_contract import Reader
from support.messages import a_ticker_request, an_intent
from support.rabbit_bus import Rig, new_bot, until
from support.rabbitmq import NEXT_AND_THEN_ALL, RabbitServer
from tradingbot_agents.bus import DependencyUnavailable, RequestTimedOut
from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox
from tradingbot_agents.domain.events import DependencyAway
from tradingbot_agents.domain.messages import Message

pytestmark = pytest.mark.parametrize("rabbitmq_server", NEXT_AND_THEN_ALL, indirect=True)

SHORT = timedelta(milliseconds=300)


@pytest.fixture
def bot() -> str:
    """Nothing of it is taken away: the server is ours, and deleting after a kill takes it seconds."""
    return new_bot()


async def publish_for_sure(rig: Rig, message: Message) -> None:
    """As an outbox does: until it is confirmed."""
    while True:
        with suppress(DependencyUnavailable):
            return await rig.bus.publish(message)


async def test_a_broker_killed_while_messages_flow_loses_no_confirmed_one(
    own_rabbitmq: RabbitServer, bot: str
) -> None:
    symbols = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
    confirmed: list[str] = []
    got: list[str] = []
    enough = asyncio.Event()

    async def keep(message: Message) -> None:
        got.append(message.id)

    async def publish_all(publisher: Rig) -> None:
        number = 0
        while not enough.is_set():
            message = an_intent(number, symbols[number % len(symbols)])
            await publish_for_sure(publisher, message)
            confirmed.append(message.id)
            number += 1

    async with Rig(own_rabbitmq.url, bot, publish_limit=SHORT) as publisher, Rig(own_rabbitmq.url, bot) as consumer:
        await consumer.bus.consume("risk.intents", keep)
        publishing = asyncio.create_task(publish_all(publisher))
        for _ in range(2):
            before = len(confirmed)
            await until(lambda: len(confirmed) > before + 50)  # noqa: B023
            own_rabbitmq.kill()
            await until(lambda: not consumer.bus.connected and not publisher.bus.connected)
            await asyncio.to_thread(own_rabbitmq.start)
        after = len(confirmed)
        await until(lambda: len(confirmed) > after + 50)
        enough.set()
        await publishing
        await until(lambda: set(confirmed) <= set(got))
        assert list(dict.fromkeys(got)) == confirmed, "in order, apart from those that came twice"
        assert await consumer.box.list() == ()
        away = [event for event in consumer.sink.events if isinstance(event, DependencyAway)]
        assert away
        assert {event.what for event in away} == {"messaging"}
        assert consumer.failures == []


async def test_agents_that_start_before_the_broker_wait_for_it(own_rabbitmq: RabbitServer, bot: str) -> None:
    own_rabbitmq.kill()
    reader = Reader()

    async def answer(request: Message) -> Message:
        return a_ticker_request(request.key)

    async with Rig(own_rabbitmq.url, bot, publish_limit=SHORT) as rig:
        await rig.bus.consume("risk.intents", reader)
        await rig.bus.respond("analysis", "market.ticker.request", answer)
        assert not rig.bus.connected
        with pytest.raises(
            DependencyUnavailable, match=r"did not confirm a message within 0\.3 s: it is not connected"
        ):
            await rig.bus.publish(an_intent(1))
        with pytest.raises(RequestTimedOut):
            await rig.bus.request(a_ticker_request(), SHORT)
        with pytest.raises(DependencyUnavailable):
            await rig.bus.depths()
        with pytest.raises(DependencyUnavailable):
            await rig.box.list()
        await until(lambda: len(away_of(rig)) >= 4)
        assert sorted({event.attempt for event in away_of(rig)})[:3] == [1, 2, 4], "told ever more seldom"
        await asyncio.to_thread(own_rabbitmq.start)
        await publish_for_sure(rig, an_intent(2))
        await until(lambda: bool(reader.got))
        assert reader.got == ["intent-2"]
        while True:
            with suppress(RequestTimedOut):
                assert (await rig.bus.request(a_ticker_request("ETH/USDT"), timedelta(seconds=5))).key == "ETH/USDT"
                break
        assert rig.bus.connected


async def test_a_broker_short_of_memory_makes_publishers_wait_and_consumers_go_on(
    own_rabbitmq: RabbitServer, bot: str
) -> None:
    reader = Reader()
    async with Rig(own_rabbitmq.url, bot, publish_limit=timedelta(seconds=2)) as rig:
        for number in range(3):
            await rig.bus.publish(an_intent(number))
        await asyncio.to_thread(own_rabbitmq.control, "set_vm_memory_high_watermark", "absolute", "1")
        try:
            with pytest.raises(DependencyUnavailable, match="did not confirm a message within 2 s"):
                await rig.bus.publish(an_intent(3))
            with pytest.raises(DependencyUnavailable, match="short of memory or of disk"):
                await rig.bus.publish(an_intent(3))
            await rig.bus.consume("risk.intents", reader)
            await until(lambda: len(reader.got) >= 3)
        finally:
            await asyncio.to_thread(own_rabbitmq.control, "set_vm_memory_high_watermark", "0.6")
        await publish_for_sure(rig, an_intent(3))
        await publish_for_sure(rig, an_intent(4))
        await until(lambda: "intent-4" in reader.got)
        assert reader.got.count("intent-3") <= 2, "one copy was on its way, and none for each later attempt"


async def test_a_broker_that_hangs_makes_publish_end_within_its_limit(own_rabbitmq: RabbitServer, bot: str) -> None:
    async with Rig(own_rabbitmq.url, bot, publish_limit=timedelta(seconds=1)) as rig:
        await rig.bus.publish(an_intent(1))
        own_rabbitmq.freeze()
        try:
            with pytest.raises(DependencyUnavailable, match="it gives no answer"):
                await rig.bus.publish(an_intent(2))
        finally:
            own_rabbitmq.thaw()
        await publish_for_sure(rig, an_intent(2))


async def test_a_wrong_password_is_told_without_the_password(
    own_rabbitmq: RabbitServer, bot: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    password = "wr0ng-s3cret"
    url = own_rabbitmq.url.replace("guest:guest", f"guest:{password}")
    async with Rig(url, bot, publish_limit=SHORT) as rig:
        with pytest.raises(DependencyUnavailable) as caught:
            await rig.bus.publish(an_intent(1))
        await until(lambda: bool(away_of(rig)))
        with pytest.raises(DependencyUnavailable) as box:
            await DeadLetterBox(lambda: url, bot, (), timedelta(seconds=10)).list()
        told: list[Any] = [away_of(rig), chain(caught.value), chain(box.value), rig.bus, vars(rig.bus), caplog.text]
        assert "ACCESS_REFUSED" in str(told[0])
        assert password not in str(told)


async def test_a_rotated_password_is_taken_up(own_rabbitmq: RabbitServer, bot: str) -> None:
    url = own_rabbitmq.url.replace("guest:guest", "guest:old")

    def now() -> str:
        return url

    async with Rig(now, bot, publish_limit=SHORT) as rig:
        with pytest.raises(DependencyUnavailable):
            await rig.bus.publish(an_intent(1))
        url = own_rabbitmq.url
        await publish_for_sure(rig, an_intent(1))


def away_of(rig: Rig) -> list[DependencyAway]:
    return [event for event in rig.sink.events if isinstance(event, DependencyAway)]


def chain(error: BaseException | None) -> list[str]:
    told = []
    while error is not None:
        told.append(repr(error))
        error = error.__cause__ or error.__context__
    return told
