"""The adapter keeps the contract of every trading venue, with the real ccxt class on the loopback exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal

import pytest

from support.binance import BinanceServer
from support.binance.adapter import adapter_on
from support.venue_contract import OpenVenue, Price, VenueContract, VenueUnderTest
from tradingbot_agents.exchange.port import TradingVenue


class CcxtUnderTest:
    def __init__(self, server: BinanceServer, venue: TradingVenue, prices: Sequence[Price]) -> None:
        self.venue = venue
        self._server = server
        self._prices = list(prices)

    async def next_price(self) -> None:
        price, volume = self._prices.pop(0)
        self._server.move("BTC/USDT", str(price), str(volume))


class TestCcxtExchangeKeepsTheContract(VenueContract):
    @pytest.fixture
    async def open_venue(self) -> AsyncIterator[OpenVenue]:
        async with AsyncExitStack() as stack:

            async def open_venue(prices: Sequence[Price]) -> VenueUnderTest:
                server = await stack.enter_async_context(BinanceServer(balances={"USDT": Decimal(10_000)}))
                venue = await stack.enter_async_context(adapter_on(server))
                market = CcxtUnderTest(server, venue, prices)
                await market.next_price()
                return market

            yield open_venue
