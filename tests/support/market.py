"""Prices that walk, and the bars they make, in real time: the market of the exchange on loopback."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from support.binance import BinanceServer
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import floor_time

BAR = timedelta(minutes=1)
HISTORY = 40
PRICES = {"BTC/USDT": "60000", "ETH/USDT": "3000", "SOL/USDT": "150"}

FALL = Decimal("0.93")
"""What is left of a price in a dip: less than a stop of 5 % bears."""


class Market:
    """``advance`` or ``run`` makes every bar that has closed; ``shake`` hits stops in addition."""

    def __init__(self, server: BinanceServer, seed: int = 1, history: int = HISTORY) -> None:
        """``history``: bars that are there at the start."""
        self._server = server
        self._dice = random.Random(seed)
        self.prices = {symbol: Decimal(price) for symbol, price in PRICES.items()}
        self._next = floor_time(datetime.now(UTC), BAR) - history * BAR
        self.advance()

    def advance(self) -> None:
        """Make every bar that has closed by now."""
        now = floor_time(datetime.now(UTC), BAR)
        while self._next < now:
            for symbol in self.prices:
                self._bar(symbol, self._next)
            self._next += BAR

    def move(self, symbol: str, price: Decimal) -> None:
        self.prices[symbol] = price.quantize(Decimal("0.01"))
        self._server.move(symbol, str(self.prices[symbol]))

    def _bar(self, symbol: str, opened: datetime) -> None:
        begin = self.prices[symbol]
        end = (begin * (1 + Decimal(self._dice.randint(-10, 10)) / 10_000)).quantize(Decimal("0.01"))
        self._server.add_candles(
            [Candle(symbol, "1m", opened, begin, max(begin, end), min(begin, end), end, volume=Decimal(10))]
        )
        self.move(symbol, end)

    async def run(self) -> None:
        while True:
            self.advance()
            await asyncio.sleep(0.05)

    async def broadcast(self) -> None:
        """Every second to those who listen: last prices, the bar that grows, and the one that has closed."""
        while True:
            self.advance()
            opened = self._next
            for symbol, price in self.prices.items():
                closed = self._server.candle(symbol, "1m", opened - BAR)
                growing = Candle(
                    symbol,
                    "1m",
                    opened,
                    closed.close,
                    max(closed.close, price),
                    min(closed.close, price),
                    price,
                    volume=Decimal(1),
                )
                await self._server.push_ticker(symbol)
                await self._server.push_candle(closed)
                if opened == self._next:
                    await self._server.push_candle(growing)
            await asyncio.sleep(1)

    async def dip(self, symbol: str, left: Decimal = FALL, seconds: float = 0.3) -> None:
        """The price falls for a moment to what is ``left`` of it, and comes back."""
        usual = self.prices[symbol]
        self.move(symbol, usual * left)
        await asyncio.sleep(seconds)
        self.move(symbol, usual)

    async def shake(self, dice: random.Random, every: float, left: Decimal) -> None:
        """A dip of one symbol every so many seconds, more or less."""
        while True:
            await asyncio.sleep(every * dice.uniform(0.5, 1.5))
            await self.dip(dice.choice(tuple(self.prices)), left)
