"""The dead letters on the real broker: looked at without loss, and given another chance."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aio_pika
import pytest
import yaml

from support.bus_contract import DELIVERY_LIMIT, QUEUES, Reader
from support.messages import a_candle, a_candle_message, an_intent
from support.process import Finished, Process
from support.rabbit_bus import Rig, a_bot, until
from support.specs import LIVE, changed
from support.tcp_line import tcp_line_to
from tradingbot_agents.bus import DependencyUnavailable, Reject
from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox
from tradingbot_agents.bus.rabbitmq_topology import Names
from tradingbot_agents.domain.messages import Message


@pytest.fixture
async def bot(rabbitmq: str) -> AsyncIterator[str]:
    async with a_bot(rabbitmq) as name:
        yield name


async def refuse(message: Message) -> None:
    raise Reject(f"not {message.id}")


async def some_letters(rig: Rig, count: int) -> None:
    for number in range(count):
        await rig.bus.publish(an_intent(number))
    await rig.bus.consume("risk.intents", refuse)
    await until(lambda: rig.bus.settled().get("risk.intents") == count)
    await rig.bus.detach("risk")


async def test_a_look_takes_nothing_away(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await some_letters(rig, 5)
        # More often than 4.0 lets a message of a queue that names no limit come back.
        first = await rig.box.list()
        for _ in range(25):
            assert await rig.box.list() == first
        assert [letter.message_id for letter in first] == [f"intent-{number}" for number in range(5)]
        letter = first[3]
        assert (letter.queue, letter.reason, letter.deliveries) == ("risk.intents", "not intent-3", 1)
        assert letter.message == an_intent(3)
        assert abs(datetime.now(UTC) - letter.at) < timedelta(minutes=5)


async def test_they_outlive_every_process(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await some_letters(rig, 2)
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.until_connected()
        assert len(await rig.box.list()) == 2


async def test_one_is_put_back_and_the_others_stay(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await some_letters(rig, 3)
        await rig.box.requeue("risk.intents", "intent-1")
        assert [letter.message_id for letter in await rig.box.list()] == ["intent-0", "intent-2"]
        reader = Reader()
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: bool(reader.got))
        assert reader.got == ["intent-1"]


async def test_one_that_was_put_back_goes_to_its_own_queue_only(rabbitmq: str, bot: str) -> None:
    analysis, risk = Reader(), Reader()
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.consume("analysis.candles", refuse)
        await rig.bus.consume("risk.candles", risk)
        await rig.bus.publish(a_candle_message(a_candle()))
        await until(lambda: rig.bus.settled() == {"analysis.candles": 1, "risk.candles": 1})
        await rig.bus.consume("analysis.candles", analysis)
        await rig.box.requeue("analysis.candles", a_candle().id)
        await until(lambda: bool(analysis.got))
        assert risk.got == [a_candle().id]


async def test_its_failures_are_counted_anew(rabbitmq: str, bot: str) -> None:
    async def fail(message: Message) -> None:
        raise ValueError("poison")

    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.publish(an_intent(1))
        for chance in range(2):
            for _ in range(DELIVERY_LIMIT):
                failed = len(rig.failures)
                await rig.bus.consume("risk.intents", fail)
                await until(lambda: len(rig.failures) > failed)  # noqa: B023
                await rig.bus.detach("risk")
            assert len(rig.failures) == DELIVERY_LIMIT * (chance + 1)
            (letter,) = await rig.box.list()
            assert letter.deliveries == DELIVERY_LIMIT
            await rig.box.requeue("risk.intents", "intent-1")
        assert await rig.box.list() == ()


async def test_what_is_not_there_can_not_be_put_back(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await some_letters(rig, 1)
        with pytest.raises(LookupError, match=r"no dead letter 'intent-9' of queue 'risk\.intents'"):
            await rig.box.requeue("risk.intents", "intent-9")
        with pytest.raises(LookupError, match=r"no dead letter 'intent-0' of queue 'risk\.candles'"):
            await rig.box.requeue("risk.candles", "intent-0")
        with pytest.raises(LookupError, match=r"'risk\.orders' is not in the topology"):
            await rig.box.requeue("risk.orders", "intent-0")
        assert len(await rig.box.list()) == 1


async def test_one_that_can_not_be_read_can_be_put_back_too(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.until_connected()
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            await channel.default_exchange.publish(aio_pika.Message(b"\xff"), Names(bot).queue("risk.intents"))
        reader = Reader()
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: rig.bus.settled() == {"risk.intents": 1})
        (letter,) = await rig.box.list()
        await rig.box.requeue("risk.intents", letter.message_id)
        await until(lambda: rig.bus.settled() == {"risk.intents": 2})
        (again,) = await rig.box.list()
        assert (again.message_id, again.body) == (letter.message_id, b"\xff")
        assert reader.got == []


async def test_what_somebody_else_rejects_is_kept_too(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.publish(an_intent(1))
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            queue = await channel.get_queue(Names(bot).queue("risk.intents"), ensure=False)
            async with queue.iterator() as messages:
                await (await anext(messages)).reject(requeue=False)
            letters = await rig.box.list()
            async with asyncio.timeout(30):
                while not letters:
                    letters = await rig.box.list()
        (letter,) = letters
        assert (letter.queue, letter.message_id) == ("risk.intents", "intent-1")
        assert letter.reason == "RabbitMQ set it aside: rejected"
        assert letter.at.year > 2000
        await rig.box.requeue("risk.intents", "intent-1")
        reader = Reader()
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: bool(reader.got))


async def test_a_bot_that_never_ran_has_none(rabbitmq: str, bot: str) -> None:
    box = DeadLetterBox(lambda: rabbitmq, bot, QUEUES, timedelta(seconds=20))
    assert await box.list() == ()
    with pytest.raises(LookupError):
        await box.requeue("risk.intents", "intent-1")


async def test_a_line_that_is_cut_in_the_middle_loses_none(rabbitmq: str, bot: str) -> None:
    host, _, port = rabbitmq.rpartition("@")[2].partition("/")[0].partition(":")
    async with Rig(rabbitmq, bot) as rig, tcp_line_to(host, int(port or 5672)) as line:
        await some_letters(rig, 50)
        there = f"{rabbitmq.rpartition('@')[0]}@127.0.0.1:{line.port}/"
        box = DeadLetterBox(lambda: there, bot, QUEUES, timedelta(seconds=20))
        looking = asyncio.create_task(box.list())
        await until(lambda: line.carried > 20_000)
        line.cut()
        with pytest.raises(DependencyUnavailable):
            await looking
        letters: tuple[object, ...] = ()
        async with asyncio.timeout(30):
            # The broker gives back what the lost connection had a moment later.
            while len(letters) < 50:
                letters = await rig.box.list()
        assert len(letters) == 50


async def test_old_ones_are_removed_for_good_and_younger_ones_stay(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await some_letters(rig, 3)
        second = (await rig.box.list())[1]
        assert await rig.box.remove(second.at, dry_run=True) == 1
        assert len(await rig.box.list()) == 3
        assert await rig.box.remove(second.at) == 1
        assert [letter.message_id for letter in await rig.box.list()] == ["intent-1", "intent-2"]


async def test_the_commands(rabbitmq: str, bot: str, ledger_dsn: str, tmp_path: Path) -> None:
    """List, put back, list again; and prune takes what is too old."""
    document = changed(LIVE, {})
    document["metadata"]["name"] = bot
    spec = tmp_path / "bot.yaml"
    spec.write_text(yaml.safe_dump(document))
    environment = {"TRADINGBOT_MESSAGING_URL": rabbitmq, "TRADINGBOT_DATABASE_URL": ledger_dsn}

    async def command(*arguments: str) -> Finished:
        process = Process([arguments[0], spec, *arguments[1:]], tmp_path, environment)
        return await asyncio.to_thread(process.finish)

    async with Rig(rabbitmq, bot) as rig:
        await some_letters(rig, 2)
        listed = await command("dead-letters", "--output", "json")
        assert [(each["queue"], each["id"], each["reason"]) for each in json.loads(listed.out)] == [
            ("risk.intents", "intent-0", "not intent-0"),
            ("risk.intents", "intent-1", "not intent-1"),
        ]
        assert "not intent-1" in (await command("dead-letters")).out
        back = await command("dead-letters", "--requeue", "risk.intents", "intent-1")
        assert (back.code, back.out) == (0, "intent-1 is in risk.intents again\n")
        wrong = await command("dead-letters", "--requeue", "risk.intents", "intent-1")
        assert wrong.code == 2
        assert "no dead letter 'intent-1' of queue 'risk.intents': list them first" in wrong.err
        reader = Reader()
        await rig.bus.consume("risk.intents", reader)
        await until(lambda: reader.got == ["intent-1"])
        assert "0 dead letters" in (await command("prune")).out
        document["spec"]["messaging"] = {"deadLetterRetention": "1ms"}
        spec.write_text(yaml.safe_dump(document))
        assert "1 dead letters" in (await command("prune")).out
        assert (await command("dead-letters")).out == "no dead letters\n"
