"""What a reality check sees of the real RabbitMQ, and that it says so when it sees nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import aio_pika
import pytest

from support.asking import ask
from support.bus_contract import QUEUES, Reader
from support.messages import an_intent
from support.rabbit_bus import Rig, a_bot, until
from support.rabbitmq import RabbitServer
from support.silent_server import silent_server
from support.tcp_line import tcp_line_to
from tradingbot_agents.bus import QueueSpec, Reject
from tradingbot_agents.bus.rabbitmq_topology import Names
from tradingbot_agents.clock.system import SystemClock
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.evidence import Known, MessagingEvidence, Missing, QueueEvidence
from tradingbot_agents.runtime import gathering_messaging
from tradingbot_agents.runtime.gathering_messaging import messaging_evidence

LIMIT = timedelta(seconds=20)
SHORT = timedelta(seconds=1)


@pytest.fixture
async def bot(rabbitmq: str) -> AsyncIterator[str]:
    async with a_bot(rabbitmq) as name:
        yield name


async def look(
    url: str, bot: str, queues: tuple[QueueSpec, ...] = QUEUES, limit: timedelta = LIMIT
) -> Known[MessagingEvidence]:
    return await messaging_evidence(lambda: url, bot, queues, clock=SystemClock(), limit=limit)


async def seen(url: str, bot: str, queues: tuple[QueueSpec, ...] = QUEUES) -> MessagingEvidence:
    found = await look(url, bot, queues)
    assert not isinstance(found, Missing), found.why
    return found


def of(found: MessagingEvidence, queue: str) -> QueueEvidence:
    (one,) = [each for each in found.queues if each.name == queue]
    return one


async def refuse(message: Message) -> None:
    raise Reject(f"not {message.id}")


async def test_a_bot_that_never_ran_has_no_queue_and_none_is_made(rabbitmq: str, bot: str) -> None:
    for _ in range(2):
        found = await seen(rabbitmq, bot)
        assert found.queues == ()
        assert found.absent == tuple(spec.name for spec in QUEUES)
        assert (found.dead_letters, found.dead_letters_waiting) == ((), 0)


async def test_what_waits_and_who_reads(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        for number in range(3):
            await rig.bus.publish(an_intent(number))
        await rig.bus.consume("risk.candles", Reader())
        # The broker counts in its own time.
        async with asyncio.timeout(30):
            found = await seen(rabbitmq, bot)
            while not of(found, "risk.intents").messages or not of(found, "risk.candles").consumers:
                found = await seen(rabbitmq, bot)
        assert of(found, "risk.intents") == QueueEvidence(
            name="risk.intents", owner="risk", messages=3, consumers=0, durable=True
        )
        assert of(found, "risk.candles").consumers == 1
        assert found.absent == ()
        assert abs(datetime.now(UTC) - found.read_at) < timedelta(minutes=1)


async def test_a_consumer_that_is_gone_is_found(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        for spec in QUEUES:
            await rig.bus.consume(spec.name, Reader())
        async with asyncio.timeout(30):
            while ask("agents.queues", messaging=await seen(rabbitmq, bot))[0] is not Status.PASSED:
                continue
        await rig.bus.detach("risk")
        async with asyncio.timeout(30):
            status, told = ask("agents.queues", messaging=await seen(rabbitmq, bot))
            while len(told) != sum(spec.owner == "risk" for spec in QUEUES):
                status, told = ask("agents.queues", messaging=await seen(rabbitmq, bot))
        assert status is Status.FAILED
        assert "risk.intents: nobody reads it, 0 wait; risk should" in told


async def test_a_queue_that_was_deleted_is_absent(rabbitmq: str, bot: str) -> None:
    async with Rig(rabbitmq, bot) as rig:
        await rig.bus.until_connected()
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(Names(bot).queue("risk.intents"))
        found = await seen(rabbitmq, bot)
        assert found.absent == ("risk.intents",)
        assert len(found.queues) == len(QUEUES) - 1


async def test_generations_are_counted_together(rabbitmq: str) -> None:
    def version(ttl: timedelta | None) -> tuple[QueueSpec, ...]:
        return (QueueSpec(name="risk.intents", owner="risk", topics=("trade.intent",), ttl=ttl),)

    old, new = version(None), version(timedelta(hours=1))
    async with a_bot(rabbitmq, old) as bot:
        async with Rig(rabbitmq, bot, old) as before:
            await before.bus.publish(an_intent(1))
        async with Rig(rabbitmq, bot, new) as after:
            await after.bus.publish(an_intent(2))
            # The second one came to both: the older is still bound, for nobody has read the newer.
            async with asyncio.timeout(30):
                found = await seen(rabbitmq, bot, new)
                while of(found, "risk.intents").messages != 3:
                    found = await seen(rabbitmq, bot, new)
        connection = await aio_pika.connect(rabbitmq)
        async with connection, connection.channel() as channel:
            await channel.queue_delete(Names(bot).queue("risk.intents"))
        found = await seen(rabbitmq, bot, new)
        assert (found.absent, of(found, "risk.intents").messages) == ((), 1)


async def test_dead_letters_are_seen_and_stay(rabbitmq: str, bot: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering_messaging, "LETTERS", 2)
    async with Rig(rabbitmq, bot) as rig:
        for number in range(3):
            await rig.bus.publish(an_intent(number))
        await rig.bus.consume("risk.intents", refuse)
        await until(lambda: rig.bus.settled().get("risk.intents") == 3)
        for _ in range(3):
            found = await seen(rabbitmq, bot)
            async with asyncio.timeout(30):
                # The broker gives back what was looked at a moment later.
                while found.dead_letters_waiting != 3 or len(found.dead_letters) != 2:
                    found = await seen(rabbitmq, bot)
            assert [(each.queue, each.message_id, each.reason) for each in found.dead_letters] == [
                ("risk.intents", "intent-0", "not intent-0"),
                ("risk.intents", "intent-1", "not intent-1"),
            ]
        assert len(await rig.box.list()) == 3


async def test_a_broker_that_is_away_or_refuses_is_missing_and_no_secret_is_told(rabbitmq: str, bot: str) -> None:
    there = rabbitmq.rpartition("@")[2]
    for url in ("amqp://guest:sesame@127.0.0.1:1/", f"amqp://guest:sesame@{there}", "sesame"):
        found = await look(url, bot)
        assert isinstance(found, Missing)
        assert found.wanted
        assert found.why.startswith("RabbitMQ could not be asked: ")
        assert "sesame" not in found.why


async def test_a_server_that_takes_the_call_and_is_silent_costs_the_limit_only() -> None:
    async with silent_server() as server:
        began = time.monotonic()
        found = await look(f"amqp://guest:sesame@127.0.0.1:{server.port}/", "bot", limit=SHORT)
        assert time.monotonic() - began < 5
    assert isinstance(found, Missing)
    assert "no answer within 1 s" in found.why


async def test_a_broker_that_freezes_in_the_middle_costs_the_limit_only(own_rabbitmq: RabbitServer) -> None:
    async with a_bot(own_rabbitmq.url) as bot, tcp_line_to("127.0.0.1", own_rabbitmq.port) as line:
        url = f"amqp://guest:guest@127.0.0.1:{line.port}/"
        looking = asyncio.create_task(look(url, bot, limit=timedelta(seconds=3)))
        await until(lambda: line.carried > 1500)
        own_rabbitmq.freeze()
        try:
            began = time.monotonic()
            found = await looking
            assert time.monotonic() - began < 8
        finally:
            own_rabbitmq.thaw()
    assert isinstance(found, Missing)


async def test_who_cancels_is_obeyed() -> None:
    async with silent_server() as server:
        looking = asyncio.create_task(look(f"amqp://guest:guest@127.0.0.1:{server.port}/", "bot"))
        await server.called.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
