"""The adapter on the loopback exchange, with short limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from support.binance.server import ApiKey, BinanceServer
from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange, CcxtSettings, ExchangeKeys

SETTINGS = CcxtSettings(
    exchange="binance",
    symbols=("BTC/USDT", "ETH/USDT", "SOL/USDT"),
    endpoint=None,
    testnet=False,
    request_timeout=timedelta(seconds=5),
    receive_window=timedelta(seconds=5),
)


class SkewedClock:
    """The machine's time, and how far it is off."""

    def __init__(self) -> None:
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead

    async def sleep(self, delay: timedelta) -> None:
        raise AssertionError("the adapter does not wait")


def keys_of(key: ApiKey) -> ExchangeKeys:
    return ExchangeKeys(key.key, key.secret)


@asynccontextmanager
async def adapter_on(
    server: BinanceServer,
    *,
    keys: ExchangeKeys | None = None,
    without_keys: bool = False,
    clock: SkewedClock | None = None,
    **settings: Any,
) -> AsyncIterator[CcxtExchange]:
    """Closed at the end. By default with the server's key."""
    chosen = msgspec.structs.replace(SETTINGS, endpoint=server.url, **settings)
    used = None if without_keys else keys or keys_of(server.key)
    exchange = CcxtExchange(settings=chosen, clock=clock or SkewedClock(), keys=used)
    try:
        yield exchange
    finally:
        await exchange.close()
