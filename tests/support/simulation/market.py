"""Prices that are a function of the seed: a random walk per symbol, wild enough to reach stops and targets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import NamedTuple

from tradingbot_agents.domain.candle import Candle

START = datetime(2025, 1, 6, tzinfo=UTC)
BAR = timedelta(minutes=1)
TIMEFRAME = "1m"
POINTS = 6
"""Prices within a bar."""
SWING = 25
"""The most by which a price moves to the next, in ten thousandths."""
PENNY = Decimal("0.01")

HISTORY = 20
"""Bars before the agents start."""
BARS = 101
"""Bars that close while they run: more than 300 candles of three symbols."""

OPENING_CENTS = {"BTC/USDT": 6_000_000, "ETH/USDT": 250_000, "SOL/USDT": 15_000}
SYMBOLS = tuple(OPENING_CENTS)
QUOTE = "USDT"
COIN = "BNB"
"""The exchange's own coin, in which it may take fees."""
COIN_SYMBOL = f"{COIN}/{QUOTE}"
COIN_PRICE = Decimal(300)


class Point(NamedTuple):
    """A price that somebody traded at."""

    at: datetime
    symbol: str
    price: Decimal


class Market:
    """``points`` of all symbols in order of time, and the ``candles`` that they make."""

    def __init__(self, dice: Random) -> None:
        bars = HISTORY + BARS
        self.points: list[Point] = []
        self.candles: dict[str, list[Candle]] = {symbol: [] for symbol in SYMBOLS}
        self.starts = START + HISTORY * BAR
        """When the agents start."""
        self.ends = START + bars * BAR
        """When the last bar closes."""
        cents = dict(OPENING_CENTS)
        gap = BAR / POINTS
        for bar in range(bars):
            opened = START + bar * BAR
            for symbol in SYMBOLS:
                now = cents[symbol]
                path = [now]
                for _ in range(POINTS - 1):
                    now += now * dice.randint(-SWING, SWING) // 10_000
                    path.append(now)
                cents[symbol] = now + now * dice.randint(-SWING, SWING) // 10_000
                prices = [Decimal(price) * PENNY for price in path]
                self.points += [Point(opened + place * gap, symbol, price) for place, price in enumerate(prices)]
                self.candles[symbol].append(
                    Candle(
                        symbol=symbol,
                        timeframe=TIMEFRAME,
                        open_time=opened,
                        open=prices[0],
                        high=max(prices),
                        low=min(prices),
                        close=prices[-1],
                        volume=Decimal(1000),
                    )
                )
        self.points.sort(key=lambda point: point.at)
