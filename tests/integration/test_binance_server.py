"""The loopback exchange itself: what the tests of the adapter do not reach, because ccxt never asks wrongly."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from yarl import URL

from support.binance import ApiKey, BinanceServer
from support.market import HISTORY, PRICES

SIGNED = {"symbol": "BTCUSDT", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC", "quantity": "0.0005"}
ORDER = SIGNED | {"price": "110000", "newClientOrderId": "tba"}


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with BinanceServer() as server:
        server.move("BTC/USDT", "121556.65")
        yield server


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as client:
        yield client


@dataclass
class Elsewhere:
    """A server in another process."""

    url: str
    key: ApiKey

    def now(self) -> int:
        return int(time.time() * 1000)


async def ask(
    client: aiohttp.ClientSession,
    server: BinanceServer | Elsewhere,
    method: str,
    path: str,
    params: dict[str, Any],
    *,
    secret: str | None = None,
    key: str | None = None,
    late: int = 0,
) -> tuple[int, Any]:
    """Status and content of a signed request."""
    query = urlencode({**params, "timestamp": server.now() - late})
    signature = hmac.new((secret or server.key.secret).encode(), query.encode(), hashlib.sha256).hexdigest()
    headers = {"X-MBX-APIKEY": server.key.key if key is None else key}
    url = URL(f"{server.url}/api/v3/{path}?{query}&signature={signature}", encoded=True)
    async with client.request(method, url, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_a_signed_order_is_taken(server: BinanceServer, client: aiohttp.ClientSession) -> None:
    status, told = await ask(client, server, "POST", "order", ORDER)
    assert (status, told["status"], told["clientOrderId"]) == (200, "NEW", "tba")
    assert [order.client_order_id for order in server.books.open_orders] == ["tba"]


@pytest.mark.parametrize(
    ("changed", "asking", "status", "code"),
    [
        ({}, {"secret": "another"}, 400, -1022),
        ({}, {"key": "another"}, 401, -2015),
        ({}, {"key": ""}, 401, -2014),
        ({}, {"late": 6000}, 400, -1021),
        ({}, {"late": -2000}, 400, -1021),
        ({"recvWindow": "70000"}, {}, 400, -1131),
        ({"symbol": "ABCUSDT"}, {}, 400, -1121),
        ({"side": "HOLD"}, {}, 400, -1117),
        ({"type": "ICEBERG"}, {}, 400, -1116),
        ({"timeInForce": "FOREVER"}, {}, 400, -1115),
        ({"price": ""}, {}, 400, -1100),
        ({"price": "abc"}, {}, 400, -1100),
        ({"newClientOrderId": "not allowed!"}, {}, 400, -1100),
        ({"quantity": "0.123456789"}, {}, 400, -1111),
        ({"quantity": "0.000005"}, {}, 400, -1013),
        ({"price": "110000.001"}, {}, 400, -1013),
        ({"price": "1000"}, {}, 400, -1013),
        ({"quantity": "0.00001"}, {}, 400, -1013),
        ({"quantity": "5"}, {}, 400, -2010),
        ({"stopPrice": "100000"}, {}, 400, -1106),
        ({"type": "STOP_LOSS_LIMIT"}, {}, 400, -1102),
        ({"type": "STOP_LOSS_LIMIT", "stopPrice": "120000"}, {}, 400, -2010),
    ],
)
async def test_a_wrong_order_is_refused_with_binances_code(
    server: BinanceServer,
    client: aiohttp.ClientSession,
    changed: dict[str, str],
    asking: dict[str, Any],
    status: int,
    code: int,
) -> None:
    answered, told = await ask(client, server, "POST", "order", ORDER | changed, **asking)
    assert (answered, told["code"]) == (status, code)
    assert server.books.orders == []
    assert server.books.totals() == {"USDT": Decimal("84.54")}


async def test_a_receive_window_of_ones_own_counts(server: BinanceServer, client: aiohttp.ClientSession) -> None:
    status, _ = await ask(client, server, "GET", "account", {"recvWindow": "10000"}, late=6000)
    assert status == 200


async def test_there_are_only_so_many_stops(server: BinanceServer, client: aiohttp.ClientSession) -> None:
    server.books.balances["BTC"] = type(server.books.balances["USDT"])(Decimal(1))
    stop = {"symbol": "BTCUSDT", "side": "SELL", "type": "STOP_LOSS", "quantity": "0.001", "stopPrice": "100000"}
    answers = [await ask(client, server, "POST", "order", stop | {"newClientOrderId": f"s{n}"}) for n in range(6)]
    assert [status for status, _ in answers] == [200] * 5 + [400]
    assert answers[5][1]["msg"] == "Filter failure: MAX_NUM_ALGO_ORDERS"


async def test_money_is_neither_made_nor_lost(server: BinanceServer, client: aiohttp.ClientSession) -> None:
    await ask(client, server, "POST", "order", ORDER)
    server.move("BTC/USDT", "109000", "0.0002")
    server.move("BTC/USDT", "109500", "0.0001")
    await ask(client, server, "DELETE", "order", {"symbol": "BTCUSDT", "origClientOrderId": "tba"})
    (order,) = server.books.orders
    assert (order.status, order.filled, order.locked) == ("CANCELED", Decimal("0.0003"), 0)
    fees = sum(trade.fee for trade in server.books.trades)
    assert server.books.totals() == {"USDT": Decimal("84.54") - order.cost, "BTC": order.filled - fees}
    assert all(balance.locked == 0 for balance in server.books.balances.values())


@asynccontextmanager
async def as_a_process(*options: str) -> AsyncIterator[Elsewhere]:
    """It runs meanwhile, and ends well when it is asked to."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "support.binance", *options),
        cwd=Path(__file__).parents[1],
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(20):
            url, key, secret = (await process.stdout.readline()).decode().split()
        yield Elsewhere(url, ApiKey(key, secret))
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(20):
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_process_of_its_own_is_moved_by_http(client: aiohttp.ClientSession) -> None:
    async with as_a_process("--price", "BTC/USDT=100000", "--balance", "USDT=1000") as far:

        async def control(name: str, body: Any) -> int:
            async with client.post(f"{far.url}/control/{name}", json=body) as answer:
                return answer.status

        async def books() -> Any:
            async with client.get(f"{far.url}/control/books") as answer:
                return await answer.json()

        assert await control("move", {"symbol": "BTC/USDT", "price": "90000", "liquidity": "0.001"}) == 200
        status, told = await ask(client, far, "POST", "order", ORDER | {"price": "95000", "quantity": "0.002"})
        assert (status, told["status"]) == (200, "PARTIALLY_FILLED")
        assert await control("faults", {"request": "GET account", "kind": "error_before", "status": 502}) == 200
        assert (await ask(client, far, "GET", "account", {}))[0] == 502
        assert await control("move", {"symbol": "BTC/USDT"}) == 400
        bar = {"symbol": "BTC/USDT", "timeframe": "5m", "open_time": "2026-03-01T12:00:00Z"}
        bar |= {"open": "1", "high": "2", "low": "1", "close": "2", "volume": "3"}
        assert await control("candles", [bar]) == 200
        async with client.get(f"{far.url}/api/v3/klines?symbol=BTCUSDT&interval=5m") as answer:
            assert (await answer.json())[0][4] == "2.00000000"
        told = await books()
        assert Decimal(told["balances"]["USDT"]) == 910
        assert (told["orders"][0]["status"], told["refused"]) == ("PARTIALLY_FILLED", 0)

        assert (await ask(client, far, "POST", "order", ORDER | {"quantity": "9"}))[0] == 400
        by_hand = {"symbol": "BTC/USDT", "quantity": "0.001", "price": "30000", "name": "tb-by-hand"}
        assert await control("hand", by_hand) == 200
        told = await books()
        assert (told["refused"], told["orders"][-1]["status"]) == (1, "NEW")
        assert await control("forget", {"name": "tb-by-hand"}) == 200
        assert len((await books())["orders"]) == 1


async def test_a_process_whose_market_moves_by_itself(client: aiohttp.ClientSession) -> None:
    async with as_a_process("--walk", "--shake=0.2") as far, asyncio.timeout(20):

        async def fallen(symbol: str) -> bool:
            async with client.get(f"{far.url}/api/v3/ticker/price?symbol={symbol.replace('/', '')}") as answer:
                return Decimal((await answer.json())["price"]) < Decimal(PRICES[symbol]) * Decimal("0.95")

        while not any([await fallen(symbol) for symbol in PRICES]):
            pass
        async with client.get(f"{far.url}/api/v3/klines?symbol=ETHUSDT&interval=1m") as answer:
            assert len(await answer.json()) >= HISTORY


async def test_a_clock_that_is_ahead_is_told(server: BinanceServer, client: aiohttp.ClientSession) -> None:
    before = server.now()
    server.skew = timedelta(minutes=1)
    async with client.get(f"{server.url}/api/v3/time") as answer:
        assert before + 60_000 <= (await answer.json())["serverTime"] < before + 70_000
