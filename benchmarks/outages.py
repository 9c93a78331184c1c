"""How soon trading goes on after RabbitMQ, PostgreSQL or InfluxDB was away, and whether anything was lost.

    python benchmarks/outages.py [--seconds N]

Five agent processes on real servers trade on an exchange on loopback; intents come five times a second all the time.
One server after the other is killed, stays away for ``--seconds`` and is started again. Counted from when it answers:
the first approval and the first fill after that. At the end every intent that RabbitMQ had confirmed has its one
decision, and the exchange's books say what the ledger's say.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.influxdb import InfluxServer
from support.process import postmaster_of
from support.rabbitmq import RabbitServer
from support.stack import Stack, running_stack, servers_of_a_benchmark
from support.wishes import Wishes

GOAL = 5.0
"""Seconds."""
BETWEEN = 0.2
LIMIT = 60.0

Act = Callable[[Stack], Awaitable[None]]


async def kill_rabbitmq(stack: Stack) -> None:
    stack.rabbitmq.kill()


async def start_rabbitmq(stack: Stack) -> None:
    await asyncio.to_thread(stack.rabbitmq.start)


async def kill_postgresql(stack: Stack) -> None:
    os.kill(postmaster_of(stack.folder / "ledger"), signal.SIGKILL)


async def start_postgresql(stack: Stack) -> None:
    await stack.postgres.ensure_running()


async def kill_influxdb(stack: Stack) -> None:
    await asyncio.to_thread(stack.influx.stop, signal.SIGKILL)


async def start_influxdb(stack: Stack) -> None:
    await asyncio.to_thread(stack.influx.start)


SERVERS: dict[str, tuple[Act, Act]] = {
    "RabbitMQ": (kill_rabbitmq, start_rabbitmq),
    "PostgreSQL": (kill_postgresql, start_postgresql),
    "InfluxDB": (kill_influxdb, start_influxdb),
}


async def first_after(stack: Stack, agent: str, event: str, moment: datetime) -> float:
    """Seconds from ``moment`` to the first such event after it."""
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        times = [datetime.fromisoformat(told["at"]) for told in stack.agents[agent].events if told["event"] == event]
        later = [at for at in times if at > moment]
        if later:
            return (min(later) - moment).total_seconds()
        await asyncio.sleep(0.05)
    raise SystemExit(f"no {event} within {LIMIT:g} s: {stack.agents[agent].process.output[-3000:]}")


async def measure(stack: Stack, seconds: float) -> None:
    stack.start()
    await stack.ready()
    wishes = Wishes(stack, random.Random(1), sells=0.5)

    async def wish() -> None:
        while True:
            await wishes.send()
            await asyncio.sleep(BETWEEN)

    print(f"{'away for ' + format(seconds, 'g') + ' s':<16}{'first approval':>16}{'first fill':>14}{'goal':>8}")
    async with wishes.bus:
        wishing = asyncio.create_task(wish())
        await first_after(stack, "execution", "fill_booked", datetime.now(UTC))
        for name, (kill, start) in SERVERS.items():
            await kill(stack)
            await asyncio.sleep(seconds)
            await start(stack)
            back = datetime.now(UTC)
            approved = await first_after(stack, "risk", "trade_approved", back)
            filled = await first_after(stack, "execution", "fill_booked", back)
            print(f"{name:<16}{approved:>14.1f} s{filled:>12.1f} s{GOAL:>6.0f} s", flush=True)
            await stack.ready()
        wishing.cancel()
        await asyncio.gather(wishing, return_exceptions=True)
        await wishes.all_decided()
    await stack.settled()
    await stack.stop()
    await stack.compare()
    print(
        f"{len(wishes.sent)} intents, each decided once; {len(stack.exchange.books.orders)} orders and"
        f" {len(stack.exchange.books.trades)} trades, the same in both books"
    )


async def run(rabbitmq: RabbitServer, influx: InfluxServer, seconds: float) -> None:
    async with running_stack(rabbitmq, influx) as stack:
        await measure(stack, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0, help="that each server is away (default 60)")
    seconds = parser.parse_args().seconds
    with servers_of_a_benchmark() as (rabbitmq, influx):
        asyncio.run(run(rabbitmq, influx, seconds))


if __name__ == "__main__":
    main()
