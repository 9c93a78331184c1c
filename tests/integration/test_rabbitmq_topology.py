"""The topology on the real broker: declared by everybody, again and again, and by versions that differ."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import aio_pika
import pytest
from aio_pika.abc import AbstractChannel
from aio_pika.exceptions import ChannelNotFoundEntity

from support.bus_contract import Reader
from support.messages import a_ticker_request, an_intent
from support.rabbit_bus import LIMIT, Rig, a_bot, until
from tradingbot_agents.bus import QueueSpec, Reject
from tradingbot_agents.bus.rabbitmq_topology import Names
from tradingbot_agents.bus.topology import topology
from tradingbot_agents.domain.messages import Message


def version(ttl: timedelta | None = None, max_length: int | None = None) -> tuple[QueueSpec, ...]:
    return (
        QueueSpec(name="risk.intents", owner="risk", topics=("trade.intent",), ttl=ttl, max_length=max_length),
        QueueSpec(name="risk.candles", owner="risk", topics=("market.candle",)),
    )


DURABLE = version()
BOUNDED = version(ttl=timedelta(hours=1))
OTHER = version(ttl=timedelta(hours=2))


@pytest.fixture
async def bot(rabbitmq: str) -> AsyncIterator[str]:
    async with a_bot(rabbitmq, DURABLE) as name:
        yield name


@pytest.fixture
async def channel(rabbitmq: str) -> AsyncIterator[AbstractChannel]:
    connection = await aio_pika.connect(rabbitmq)
    async with connection, connection.channel() as channel:
        yield channel


async def test_agents_declare_all_of_it_at_the_same_time_and_again(rabbitmq: str) -> None:
    queues = topology(market_time_to_live=timedelta(minutes=5), market_length=100, delivery_limit=5)
    async with a_bot(rabbitmq, queues) as bot:
        for _ in range(2):
            rigs = [Rig(rabbitmq, bot, queues) for _ in range(5)]
            for rig in rigs:
                rig.bus.start()
            await asyncio.gather(*(rig.bus.until_connected() for rig in rigs))
            assert await rigs[0].bus.depths() == {queue.name: 0 for queue in queues}
            for rig in rigs:
                await rig.bus.close()


@pytest.mark.parametrize(("old", "new"), [(DURABLE, BOUNDED), (BOUNDED, DURABLE), (BOUNDED, OTHER)])
async def test_a_version_with_other_arguments_takes_over_what_the_old_one_left(
    rabbitmq: str, bot: str, old: tuple[QueueSpec, ...], new: tuple[QueueSpec, ...]
) -> None:
    async with Rig(rabbitmq, bot, old) as before:
        for number in range(3):
            await before.bus.publish(an_intent(number))
    reader = Reader()
    async with Rig(rabbitmq, bot, new) as after:
        await after.bus.consume("risk.intents", reader)
        await until(lambda: len(reader.got) >= 3)
        await until(lambda: after.bus.settled() == {"risk.intents": 3})
        for number in range(3, 6):
            await after.bus.publish(an_intent(number))
        await until(lambda: "intent-5" in reader.got)
        assert list(dict.fromkeys(reader.got)) == [f"intent-{number}" for number in range(6)]
        assert await after.bus.depths() == {"risk.intents": 0, "risk.candles": 0}


async def test_the_old_version_finds_its_own_queue_again(rabbitmq: str, bot: str) -> None:
    for number, queues in enumerate((DURABLE, BOUNDED, DURABLE, BOUNDED)):
        reader = Reader()
        async with Rig(rabbitmq, bot, queues) as rig:
            await rig.bus.publish(an_intent(number))
            await rig.bus.consume("risk.intents", reader)
            await until(lambda: f"intent-{number}" in reader.got)  # noqa: B023
    connection = await aio_pika.connect(rabbitmq)
    async with connection:
        with pytest.raises(ChannelNotFoundEntity):
            async with connection.channel() as channel:
                await channel.declare_queue(Names(bot).queue("risk.intents", 3), passive=True)


async def test_what_an_old_process_still_has_comes_when_it_ends(rabbitmq: str, bot: str) -> None:
    """The new version's consumer has found the old queue empty by then."""
    held: list[str] = []
    give_up = asyncio.Event()

    async def hold(message: Message) -> None:
        held.append(message.id)
        with suppress(TimeoutError):
            await asyncio.wait_for(give_up.wait(), LIMIT)
        raise Reject("the old version gives up")

    reader = Reader()
    async with Rig(rabbitmq, bot, DURABLE) as old:
        await old.bus.consume("risk.intents", hold)
        await old.bus.publish(an_intent(1))
        await old.bus.publish(an_intent(2))
        await until(lambda: held == ["intent-1"])
        async with Rig(rabbitmq, bot, BOUNDED) as new:
            await new.bus.consume("risk.intents", reader)
            await new.bus.publish(an_intent(3))
            await until(lambda: "intent-3" in reader.got)
            give_up.set()
            await old.bus.close()
            # It had both in hand, and dealt with the first.
            await until(lambda: "intent-2" in reader.got)
            assert [letter.message_id for letter in await new.box.list()] == ["intent-1"]


async def test_queues_beside_the_topology_are_used_as_another_version_made_them(
    rabbitmq: str, bot: str, channel: AbstractChannel
) -> None:
    names = Names(bot)
    topic = "market.ticker.request"
    for name in (names.dead_letters, names.failures("risk"), names.requests(topic)):
        await channel.declare_queue(name, durable=True, arguments={"x-queue-type": "quorum", "x-max-length": 50})

    async def handle(message: Message) -> None:
        if message.id == "intent-1":
            raise Reject("no")
        raise ValueError("a bug")

    async def answer(request: Message) -> Message:
        return request

    async with Rig(rabbitmq, bot, DURABLE) as rig:
        await rig.bus.publish(an_intent(1))
        await rig.bus.publish(an_intent(2))
        await rig.bus.consume("risk.intents", handle)
        await until(lambda: bool(rig.failures))
        assert [letter.message_id for letter in await rig.box.list()] == ["intent-1"]
        await rig.bus.respond("analysis", topic, answer)
        assert (await rig.bus.request(a_ticker_request("ETH/USDT"), timedelta(seconds=20))).key == "ETH/USDT"


async def test_a_symbol_with_a_dot_is_routed_like_any_other(rabbitmq: str, bot: str) -> None:
    reader = Reader()
    async with Rig(rabbitmq, bot, DURABLE) as rig:
        await rig.bus.publish(an_intent(1, symbol="ABC.D/USDT"))
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: bool(reader.got))


async def test_bots_hear_nothing_of_each_other(rabbitmq: str, bot: str) -> None:
    async with (
        a_bot(rabbitmq, DURABLE) as other,
        Rig(rabbitmq, bot, DURABLE) as one,
        Rig(rabbitmq, other, DURABLE) as two,
    ):
        await two.bus.until_connected()
        await one.bus.publish(an_intent(1))
        assert (await one.bus.depths())["risk.intents"] == 1
        assert (await two.bus.depths())["risk.intents"] == 0
