"""What technical analysis is told: which indicators, over how many candles. Defaults live in the spec's types."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

import msgspec


class IndicatorSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One indicator. ``indicators.CATALOGUE`` says which parameters each name takes, and their units."""

    id: str
    """Unique in the bot: readings and the record of past performance go by it."""
    name: str
    """``emaCross``, ``macd``, ``rsi``, ``bollinger``, ``atr``, ``adx``, ``obv`` or ``vwap``."""
    parameters: Mapping[str, int | float | Decimal]


class TechnicalAnalysisSettings(msgspec.Struct, frozen=True, kw_only=True):
    timeframe: str
    """Of the candles, such as ``5m``. A candle of another one is refused."""
    window: int
    """Candles that the indicators see. A signal is a function of exactly these."""
    indicators: tuple[IndicatorSettings, ...]
    atr_period: int
    """Candles of the average true range that every signal carries for sizing."""
    warmup_signals: int
    """Signals raised for the last of the candles that were missed on the bus and read from the store: as many
    as the strategy remembers, so that it decides as if it had missed nothing."""
