"""A closed bar of market history, and the checks that keep a broken one out."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.values import TIMEFRAMES, ZERO


class Candle(msgspec.Struct, frozen=True, gc=False):
    """One closed bar. Prices are in quote currency, ``volume`` in base currency, ``open_time`` in UTC."""

    symbol: str
    timeframe: str
    open_time: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal

    @property
    def close_time(self) -> datetime:
        """The first moment at which the bar is complete."""
        return self.open_time + TIMEFRAMES[self.timeframe]

    @property
    def id(self) -> str:
        """Names the bar for ever: the same bar read twice has the same id."""
        return f"{self.symbol}.{self.timeframe}.{self.open_time.isoformat()[:16]}Z"


def candle_problem(candle: Candle) -> str | None:
    """What is wrong with the bar's numbers, in words, or ``None``."""
    for name in ("open", "high", "low", "close"):
        price: Decimal = getattr(candle, name)
        if not price.is_finite():
            return f"{name} is {price}, not a number"
        if price <= ZERO:
            return f"{name} is {price}, but a price must be above zero"
    if not candle.volume.is_finite():
        return f"volume is {candle.volume}, not a number"
    if candle.volume < ZERO:
        return f"volume is {candle.volume}, but it must not be negative"
    if candle.high < max(candle.open, candle.close, candle.low):
        return f"high {candle.high} is below another price of the bar"
    if candle.low > min(candle.open, candle.close):
        return f"low {candle.low} is above another price of the bar"
    return None
