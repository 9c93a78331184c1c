"""``python -m support.binance``: the loopback exchange as a process of its own, until it gets SIGTERM or SIGINT.

Its first line tells the address, the key and the secret. It is moved by HTTP, see ``control``; with ``--walk`` its
prices move by themselves.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import signal
from decimal import Decimal

from support.binance.server import READER, BinanceServer
from support.market import FALL, Market


def _pair(text: str) -> tuple[str, Decimal]:
    name, _, value = text.partition("=")
    return name, Decimal(value)


async def run(options: argparse.Namespace) -> None:
    server = BinanceServer(
        balances=dict(options.balance) or None, testnet=options.testnet, host=options.host, port=options.port
    )
    server.keys[READER.key] = READER
    stopping = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    async with server:
        for symbol, price in options.price:
            server.move(symbol, str(price))
        print(server.url, server.key.key, server.key.secret, flush=True)
        async with asyncio.TaskGroup() as tasks:
            moving = []
            if options.walk:
                market = Market(server)
                moving += [tasks.create_task(market.run()), tasks.create_task(market.broadcast())]
                if options.shake:
                    moving.append(tasks.create_task(market.shake(random.Random(1), options.shake, options.fall)))
            await stopping.wait()
            for task in moving:
                task.cancel()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m support.binance", description="An exchange that speaks Binance's API"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one")
    parser.add_argument("--balance", type=_pair, action="append", default=[], metavar="ASSET=AMOUNT")
    parser.add_argument("--price", type=_pair, action="append", default=[], metavar="BASE/QUOTE=PRICE")
    parser.add_argument("--walk", action="store_true", help="prices of three symbols walk, and make bars of a minute")
    parser.add_argument("--shake", type=float, metavar="SECONDS", help="how often one of them falls for a moment")
    parser.add_argument("--fall", type=Decimal, default=FALL, metavar="SHARE", help="what is left of it then")
    parser.add_argument("--testnet", action="store_true", help="without the wallet's paths")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
