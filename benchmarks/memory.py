"""What five agent processes take, idle between two candles, on real servers.

    python benchmarks/memory.py [--markets N]

RabbitMQ, InfluxDB, PostgreSQL and an exchange on loopback that lists ``--markets`` markets, of which the bot trades
three. Each agent has handled history, traded and come to rest. PSS counts what processes share only once; the five
share the interpreter's pages. Then, for each agent, what the libraries cost that it imports: the resident size of a
fresh interpreter after each of them, in that order.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.binance import MAJORS, BinanceSymbol
from support.influxdb import InfluxServer
from support.rabbitmq import RabbitServer
from support.stack import Stack, running_stack, servers_of_a_benchmark
from tradingbot_agents.bus.topology import AGENTS

GOALS = {"RSS": 350.0, "PSS": 250.0}
"""MB, of the five together."""
CALM = 3.0
"""Seconds for the last collection of garbage and the last answer."""

BASE = ("asyncio", "msgspec", "tradingbot_agents.telemetry.sink", "tradingbot_api")
OWN = ("aio_pika", "prometheus_client")
LIBRARIES = {
    "data-collection": (*OWN, "tradingbot_agents.marketdata.influx_library", "@exchange"),
    "technical-analysis": (*OWN, "tradingbot_agents.marketdata.influx_library", "talib"),
    "strategy": (*OWN, "asyncpg"),
    "risk": (*OWN, "asyncpg", "tradingbot_agents.marketdata.influx_library"),
    "execution": (*OWN, "asyncpg", "@exchange"),
}
PROBE = """
NAMES = {
    "tradingbot_agents.telemetry.sink": "structlog",
    "tradingbot_agents.marketdata.influx_library": "influxdb_client",
    "talib": "talib and numpy",
}
import sys
def resident():
    return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith("VmRSS")) / 1024
print("interpreter", resident())
for name in sys.argv[1:]:
    if name == "@exchange":
        from tradingbot_agents.exchange.ccxt_import import exchange_class
        exchange_class("binance")
        name = "ccxt (one exchange)"
    else:
        __import__(name)
    print(NAMES.get(name, name), resident())
"""


def sizes(pid: int) -> dict[str, float]:
    """RSS and PSS in MB."""
    found = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("Rss", "Pss"):
            found[name.upper()] = int(value.split()[0]) / 1024
    return found


async def measure(stack: Stack) -> dict[str, dict[str, float]]:
    stack.start()
    await stack.ready()
    await stack.agents["execution"].tells("fill_booked", count=3)
    await stack.settled()
    await asyncio.sleep(CALM)
    return {name: sizes(stack.agents[name].process.pid) for name in AGENTS}


async def run(rabbitmq: RabbitServer, influx: InfluxServer, markets: int) -> dict[str, dict[str, float]]:
    async with running_stack(rabbitmq, influx) as stack:
        for number in range(markets - len(MAJORS())):
            symbol = BinanceSymbol(
                f"COIN{number}", "USDT", step=Decimal("0.01"), tick=Decimal("0.0001"), min_amount=Decimal("0.01")
            )
            stack.exchange.books.symbols[symbol.id] = symbol
        return await measure(stack)


def print_imports(agent: str) -> None:
    told = subprocess.run(
        [sys.executable, "-c", PROBE, *BASE, *LIBRARIES[agent]], capture_output=True, text=True, check=True
    ).stdout
    before = 0.0
    parts = []
    for line in told.splitlines():
        name, _, resident = line.rpartition(" ")
        parts.append(f"{name} {float(resident) - before:.1f}")
        before = float(resident)
    print(f"{agent:<20}{' + '.join(parts)} = {before:.0f} MB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--markets", type=int, default=3000, help="that the exchange lists (default 3000)")
    markets = parser.parse_args().markets
    with servers_of_a_benchmark() as (rabbitmq, influx):
        found = asyncio.run(run(rabbitmq, influx, markets))
    print(f"{'MB':<20}{'RSS':>9}{'PSS':>9}")
    for name, size in found.items():
        print(f"{name:<20}{size['RSS']:>9.1f}{size['PSS']:>9.1f}")
    for kind, goal in GOALS.items():
        total = sum(size[kind] for size in found.values())
        print(f"sum of {kind} with {markets} markets: {total:.0f} MB, goal {goal:.0f} ({total / goal:.0%})")
    print()
    for name in AGENTS:
        print_imports(name)


if __name__ == "__main__":
    main()
