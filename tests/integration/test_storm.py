"""Every agent and every server is killed again and again while intents come, and nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import pytest

from support.influxdb import InfluxServer
from support.market import PRICES
from support.process import postmaster_of
from support.rabbitmq import NEXT_AND_THEN_ALL, RabbitServer
from support.stack import NAME, Stack, running_stack
from support.wishes import Wishes
from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox
from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.runtime.wiring import bus_queues

pytestmark = pytest.mark.parametrize("rabbitmq_server", NEXT_AND_THEN_ALL, indirect=True)

SECONDS = float(os.environ.get("TRADINGBOT_STORM_SECONDS", "20"))
SEED = int(os.environ.get("TRADINGBOT_STORM_SEED", "1"))
BEAT = 0.25


async def test_a_storm_loses_and_doubles_nothing(own_rabbitmq: RabbitServer, own_influx: InfluxServer) -> None:
    dice = random.Random(SEED)
    async with running_stack(own_rabbitmq, own_influx, {"runtime.restartDelay": "200ms"}) as stack, _logs_kept(stack):
        stack.start()
        await stack.ready()
        wishes = Wishes(stack, dice)
        async with wishes.bus:
            done = await _storm(stack, wishes, dice)
            assert len(set(done)) == len(BLOWS), f"not everything was hit: {done}"
            await _everything_runs(stack)
            await wishes.all_decided()
        await stack.settled(limit=90)
        letters = await DeadLetterBox(
            lambda: own_rabbitmq.url, NAME, bus_queues(stack.bot), timedelta(seconds=10)
        ).list()
        assert letters == (), "no good message was set aside"
        await stack.stop()
        await stack.compare()
        assert len(stack.exchange.books.trades) > 5, "it traded through the storm"
        print(
            f"storm of {SECONDS:g} s: {len(done)} blows, {len(wishes.sent)} intents,"
            f" {len(stack.exchange.books.orders)} orders, {len(stack.exchange.books.trades)} trades"
        )


@asynccontextmanager
async def _logs_kept(stack: Stack) -> AsyncIterator[None]:
    """Where ``TRADINGBOT_STORM_LOGS`` names a folder, what the agents told is in it afterwards."""
    try:
        yield
    finally:
        folder = os.environ.get("TRADINGBOT_STORM_LOGS")
        for agent in stack.agents.values() if folder else ():
            lives = [life.out + life.err for life in agent.lives]
            lives += [agent.process.output] if agent.running else []
            (Path(folder or ".") / f"{agent.name}.log").write_text("\n--- killed\n".join(lives))


# --- blows


def _agent(name: str) -> Callable[[Stack], Awaitable[None]]:
    async def blow(stack: Stack) -> None:
        agent = stack.agents[name]
        await agent.kill()
        agent.start()

    return blow


async def _rabbitmq(stack: Stack) -> None:
    stack.rabbitmq.kill()
    await asyncio.to_thread(stack.rabbitmq.start)


async def _influx(stack: Stack) -> None:
    await asyncio.to_thread(stack.influx.stop, signal.SIGKILL)
    await asyncio.to_thread(stack.influx.start)


async def _postgres(stack: Stack) -> None:
    os.kill(postmaster_of(stack.folder / "ledger"), signal.SIGKILL)
    await stack.postgres.ensure_running()


async def _frozen(stack: Stack) -> None:
    stack.rabbitmq.freeze()
    await asyncio.sleep(1.0)
    stack.rabbitmq.thaw()


BLOWS: dict[str, Callable[[Stack], Awaitable[None]]] = {
    **{name: _agent(name) for name in AGENTS},
    "rabbitmq": _rabbitmq,
    "influxdb": _influx,
    "postgresql": _postgres,
    "rabbitmq frozen": _frozen,
}


async def _storm(stack: Stack, wishes: Wishes, dice: random.Random) -> list[str]:
    """Blows, wishes and prices at once; returns what was hit."""
    loop = asyncio.get_running_loop()
    end = loop.time() + SECONDS
    done: list[str] = []

    async def strike() -> None:
        # Each once in any order, and then as it falls.
        todo = list(BLOWS)
        dice.shuffle(todo)
        while loop.time() < end or todo:
            name = todo.pop() if todo else dice.choice(tuple(BLOWS))
            await BLOWS[name](stack)
            done.append(name)
            await asyncio.sleep(dice.uniform(0.2, 2.5))

    async def wish() -> None:
        while loop.time() < end:
            await wishes.send()
            await asyncio.sleep(BEAT * dice.uniform(0.5, 1.5))

    async def shake() -> None:
        """Prices fall below their stops for a moment, and come back."""
        while loop.time() < end:
            symbol = dice.choice(tuple(PRICES))
            if dice.random() < 0.3:
                await stack.market.dip(symbol)
            await asyncio.sleep(dice.uniform(0.5, 1.5))

    await asyncio.gather(strike(), wish(), shake())
    return done


async def _everything_runs(stack: Stack) -> None:
    await stack.postgres.ensure_running()
    stack.start()
    await stack.ready()
