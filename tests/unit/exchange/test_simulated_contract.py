"""The simulated exchange keeps the contract of every trading venue."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from support.replay import Replay, flat
from support.venue_contract import OpenVenue, Price, VenueContract, VenueUnderTest
from tradingbot_agents.exchange.port import TradingVenue


class SimulatedUnderTest:
    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._bars = 1
        self.venue: TradingVenue = replay.after(1)

    async def next_price(self) -> None:
        self._bars += 1
        self._replay.after(self._bars)


class TestSimulatedExchangeKeepsTheContract(VenueContract):
    @pytest.fixture
    def open_venue(self, tmp_path: Path) -> OpenVenue:
        async def open_venue(prices: Sequence[Price]) -> VenueUnderTest:
            bars = [flat(price, volume) for price, volume in prices]
            return SimulatedUnderTest(Replay(tmp_path, {"BTC/USDT": bars}, participation=Decimal(1)))

        return open_venue
