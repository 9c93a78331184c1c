"""The rolling window: the last N candles of a symbol, as the contiguous arrays that TA-Lib wants.

Nothing but the last N candles may reach an indicator. A window that was fed for months and one that was filled
a moment ago hold the same numbers, and so a restarted agent raises the same signals, to the bit.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

import numpy as np
import talib
from numpy.typing import NDArray

from tradingbot_agents.domain.candle import Candle

Series: TypeAlias = NDArray[np.float64]


class Bars(NamedTuple):
    """The last N candles, oldest first: four contiguous arrays of N floats, volume in base currency."""

    high: Series
    low: Series
    close: Series
    volume: Series
    unit: float
    """Average true range of the newest candle, in quote currency: the unit in which indicators measure distances.
    0 or NaN where it means nothing."""


class RollingWindow:
    """Holds ``length`` candles in arrays of twice that length, so that they are always in one piece: a candle is
    written behind the last one, and only when the end is reached do the newest move back to the front."""

    def __init__(self, length: int, atr_period: int) -> None:
        if length <= atr_period:
            raise ValueError(
                f"a window of {length} candles is too short for an average true range over {atr_period}:"
                f" raise the window to {atr_period + 1} or more"
            )
        self._length = length
        self._atr_period = atr_period
        self._end = 0
        self._rows = np.zeros((4, 2 * length))
        self._high, self._low, self._close, self._volume = self._rows

    @property
    def full(self) -> bool:
        return self._end >= self._length

    def append(self, candle: Candle) -> None:
        if self._end == 2 * self._length:
            keep = self._length - 1
            self._rows[:, :keep] = self._rows[:, -keep:]
            self._end = keep
        end = self._end
        self._high[end] = candle.high
        self._low[end] = candle.low
        self._close[end] = candle.close
        self._volume[end] = candle.volume
        self._end = end + 1

    def bars(self) -> Bars:
        """Views of the last ``length`` candles: valid until the next ``append``. Only of a full window."""
        end = self._end
        start = end - self._length
        if start < 0:
            raise ValueError(f"the window holds {end} of {self._length} candles: ask when it is full")
        high, low, close = self._high[start:end], self._low[start:end], self._close[start:end]
        unit = talib.ATR(high, low, close, self._atr_period).item(-1)
        return Bars(high, low, close, self._volume[start:end], unit)
