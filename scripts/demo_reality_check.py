"""The story that the reality check was made for, played on a bot that runs.

    make demo-reality-check

Five agents, RabbitMQ, InfluxDB, PostgreSQL, and an exchange on loopback with money that is nobody's. A first check
finds nothing. Then InfluxDB hangs, stops sell the positions, and risk buys again at fallback prices: the second check
fails, and says so. InfluxDB is mended and a new revision of the spec is started: the third check passes, though the
lines of before are still in the log, for they are not of the revision that runs. What the balance lock refused is
told as the lock at work.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from decimal import Decimal
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from support.market import PRICES
from support.process import LIMIT
from support.stack import Stack, running_stack, servers_of_a_benchmark

WINDOW = "--window=5m"
"""The agents have candles of the time before they were started for so long."""


async def main() -> int:
    with servers_of_a_benchmark() as (rabbitmq, influx):
        async with running_stack(rabbitmq, influx, {"realityCheck.onSevere": "Report"}) as stack:
            say("five agents are started; they buy what their strategy wishes for with each candle")
            stack.start()
            await stack.ready()
            await stack.agents["execution"].tells("fill_booked", count=len(PRICES))
            await stack.settled()
            codes = [await check(stack)]

            say("InfluxDB hangs; the market falls, the stops sell, and risk decides on what prices there are")
            influx.send(signal.SIGSTOP)
            for symbol, price in list(stack.market.prices.items()):
                stack.market.move(symbol, price * Decimal("0.94"))
            await stack.agents["risk"].tells("price_fallback_used", limit=2 * LIMIT)
            codes.append(await check(stack))

            say("InfluxDB is mended, and a new revision of the spec is started")
            influx.send(signal.SIGCONT)
            await stack.stop()
            stack.change_spec({"risk.maxPriceAge": "100s"})
            stack.start()
            await stack.ready()
            await stack.agents["data-collection"].tells("candles_delivered", limit=LIMIT)
            await stack.settled()
            codes.append(await check(stack))

            old = stack.write_log().read_text().count('"price_fallback_used"')
            say(f"the old lines are still there: price_fallback_used is {old} times in the log")
            say(f"the three checks ended with {', '.join(map(str, codes))}: passed, failed, passed is 0, 7, 0")
            return 0 if codes == [0, 7, 0] else 1


async def check(stack: Stack) -> int:
    finished = await stack.check(WINDOW, "--output=text")
    print(finished.out, flush=True)
    return finished.code


def say(words: str) -> None:
    print(f"\n=== {words}\n", flush=True)


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
