"""Timeframes: the lengths of candle that every exchange we know of serves, and a day holds a whole number of."""

from datetime import timedelta
from typing import Literal, get_args

from .durations import parse_duration

Timeframe = Literal["1m", "3m", "5m", "15m", "30m", "1h", "2h", "4h", "6h", "8h", "12h", "1d"]

TIMEFRAMES: tuple[Timeframe, ...] = get_args(Timeframe)

_LENGTHS = {name: parse_duration(name) for name in TIMEFRAMES}


def timeframe_length(timeframe: Timeframe) -> timedelta:
    """How long a candle lasts: `"5m"` → five minutes."""
    return _LENGTHS[timeframe]


def format_timeframe(length: timedelta) -> Timeframe:
    """The timeframe of that length. Raises ValueError when there is none."""
    for name, known in _LENGTHS.items():
        if known == length:
            return name
    raise ValueError(f"there is no timeframe of {length}; there are {', '.join(TIMEFRAMES)}")
