"""The indicators: pure functions from a window to a score, behind one catalogue.

Each returns ``(score, value)``. The score lies in -1..1: its sign is the direction (above zero: up), its size
the confidence. The value is the figure that people know the indicator by. A score grows with what it measures,
without jumps, and starts at zero where the indicator begins to mean something. Distances are measured in units
of the market itself (average true ranges, standard deviations, mean volumes), never in prices, so that a score
means the same for every symbol and at every price level.

Prices that do not move, no volume, and numbers too large for a float have nothing to say: the reading is neutral,
its confidence 0, and never NaN.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from math import isfinite
from typing import Annotated, Any, NamedTuple, TypeAlias

import msgspec
import numpy as np
import talib

from tradingbot_agents.domain.messages import Direction, Reading
from tradingbot_agents.technical_analysis.settings import IndicatorSettings
from tradingbot_agents.technical_analysis.window import Bars

Score: TypeAlias = tuple[float, float]

SILENT: Score = (0.0, 0.0)

CONFIDENCE_STEPS = 1e6
"""Confidences are rounded to a millionth: beyond lies only what one processor's arithmetic has and another's has not.
Not by ``round``, which takes as long as an indicator."""

HISTOGRAM_UNIT = 0.25
"""Average true ranges that a large MACD histogram has. It is the deviation of a difference of averages from its own
average, and so a fraction of a range: on 5-minute candles of BTC and SOL three in four lie below this."""

STILL = 1e-8
"""A standard deviation below this fraction of the price is rounding, not movement."""

_UP, _DOWN, _NEUTRAL = Direction.UP, Direction.DOWN, Direction.NEUTRAL

_Candles = Annotated[int, msgspec.Meta(ge=2)]
_Positive = Annotated[float, msgspec.Meta(gt=0)]
_Level = Annotated[float, msgspec.Meta(gt=0, lt=100)]


class EmaCross(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Periods in candles."""

    fast: _Candles
    slow: _Candles


class Macd(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Periods in candles."""

    fast: _Candles
    slow: _Candles
    signal: _Candles


class Rsi(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Period in candles; levels in 0..100."""

    period: _Candles
    oversold: _Level
    overbought: _Level


class Bands(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Period in candles; half the width of the bands in standard deviations."""

    period: _Candles
    std_dev: _Positive


class Breakout(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Period in candles; from ``multiple`` average true ranges on, a candle's move is a breakout."""

    period: _Candles
    multiple: _Positive


class Adx(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Period in candles; from ``threshold``, in 0..100, on there is a trend."""

    period: _Candles
    threshold: _Level


class Flow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Period in candles."""

    period: _Candles


def ema_cross(bars: Bars, parameters: EmaCross) -> Score:
    """Trend: which of two averages is above. The confidence is ``tanh`` of their distance in average true ranges.
    Value: the distance, fast minus slow."""
    close = bars.close
    gap = talib.EMA(close, parameters.fast).item(-1) - talib.EMA(close, parameters.slow).item(-1)
    return (math.tanh(gap / bars.unit), gap) if bars.unit > 0 else SILENT


def macd(bars: Bars, parameters: Macd) -> Score:
    """Trend's change: the sign of the histogram. The confidence is ``tanh`` of its size in units of
    ``HISTOGRAM_UNIT`` average true ranges. Value: the histogram."""
    histogram = talib.MACD(bars.close, parameters.fast, parameters.slow, parameters.signal)[2].item(-1)
    return (math.tanh(histogram / (HISTOGRAM_UNIT * bars.unit)), histogram) if bars.unit > 0 else SILENT


def rsi(bars: Bars, parameters: Rsi) -> Score:
    """Momentum that has gone too far: up below ``oversold``, down above ``overbought``, and the nearer to the end of
    the scale the surer. Value: the RSI."""
    close = bars.close
    # RSI of prices that stand still is an artefact: TA-Lib says 0, or the side of the last move that there was.
    if close.item(-1) == close.item(-2) and _still(close[-parameters.period - 1 :]):
        return SILENT
    value = talib.RSI(close, parameters.period).item(-1)
    if value < parameters.oversold:
        return (parameters.oversold - value) / parameters.oversold, value
    if value > parameters.overbought:
        return (parameters.overbought - value) / (100.0 - parameters.overbought), value
    return 0.0, value


def bollinger(bars: Bars, parameters: Bands) -> Score:
    """Volatility: a close outside the bands is expected to come back, so up below the lower band and down above the
    upper one. The confidence is 0 at the band and 1 at twice its distance. Value: the close's distance from the
    average in standard deviations."""
    period = parameters.period
    last = bars.close.item(-1)
    # Less the last close, so that the squares below keep their digits. TA-Lib's own deviation does not, and takes a
    # variance below 1e-14 for nothing, which would silence every coin of a small price.
    offset = bars.close[-period:] - last
    average = np.add.reduce(offset).item() / period
    variance = np.dot(offset, offset).item() / period - average * average
    if not variance > STILL * STILL * last * last:
        return SILENT
    distance = -average / math.sqrt(variance)
    beyond = abs(distance) - parameters.std_dev
    return (math.copysign(beyond / parameters.std_dev, -distance) if beyond > 0 else 0.0), distance


def atr(bars: Bars, parameters: Breakout) -> Score:
    """Volatility has no direction; a move out of it has. A close ``multiple`` or more average true ranges from the
    close before points where it went; the confidence is 0 there and 1 at twice that. The range is that of the candle
    before: the breakout must not raise its own measure. Value: the average true range, in quote currency."""
    ranges = talib.ATR(bars.high, bars.low, bars.close, parameters.period)
    value, before = ranges.item(-1), ranges.item(-2)
    if not before > 0:
        return 0.0, value
    move = (bars.close.item(-1) - bars.close.item(-2)) / before
    beyond = abs(move) - parameters.multiple
    return (math.copysign(beyond / parameters.multiple, move) if beyond > 0 else 0.0), value


def adx(bars: Bars, parameters: Adx) -> Score:
    """Strength of a trend: its direction is that of the larger of +DI and -DI. The confidence is 0 at ``threshold``
    and 1 at twice that (few trends come to 50). Value: the ADX."""
    high, low, close = bars.high, bars.low, bars.close
    value = talib.ADX(high, low, close, parameters.period).item(-1)
    beyond = value - parameters.threshold
    if not beyond > 0:
        return 0.0, value
    # +DI and -DI are these, both divided by the same true range.
    up = talib.PLUS_DM(high, low, parameters.period).item(-1)
    down = talib.MINUS_DM(high, low, parameters.period).item(-1)
    if up == down:
        return 0.0, value
    return math.copysign(beyond / parameters.threshold, up - down), value


def obv(bars: Bars, parameters: Flow) -> Score:
    """Volume: on-balance volume against its own average. The confidence is ``tanh`` of the difference in units of
    what coin tosses would move it by over the period (mean volume times the root of the period). Value: the
    difference, in base currency."""
    period = parameters.period
    balance = talib.OBV(bars.close, bars.volume)
    flow = balance.item(-1) - talib.EMA(balance, period).item(-1)
    unit = talib.SMA(bars.volume[-period:], period).item(-1) * math.sqrt(period)
    if not unit > 0:
        return SILENT
    return math.tanh(flow / unit), flow


def vwap(bars: Bars, parameters: Bands) -> Score:
    """Volume: whether the close is above or below what was paid on average over the period. The confidence is 1 from
    ``std_dev`` volume-weighted standard deviations on. Value: the distance, close minus average."""
    high, low, close, volume = (row[-parameters.period :] for row in bars[:4])
    last = close.item(-1)
    traded = np.add.reduce(volume).item()
    if not traded > 0:
        return SILENT
    # Three times the typical price, less three times the last close, so that the squares below keep their digits.
    offset = high + low
    offset += close
    offset -= 3.0 * last
    average = np.dot(offset, volume).item() / (3.0 * traded)
    offset *= offset
    variance = np.dot(offset, volume).item() / (9.0 * traded) - average * average
    if not variance > STILL * STILL * last * last:
        return 0.0, -average
    return -average / (parameters.std_dev * math.sqrt(variance)), -average


def _still(prices: np.ndarray[Any, Any]) -> bool:
    return bool(prices.min() == prices.max())


class Indicator(NamedTuple):
    """``needs`` says how many candles the window must hold for parameters."""

    parameters: type[msgspec.Struct]
    read: Callable[[Bars, Any], Score]
    needs: Callable[[Any], int]


CATALOGUE: dict[str, Indicator] = {
    "emaCross": Indicator(EmaCross, ema_cross, lambda p: max(p.fast, p.slow + 1)),
    "macd": Indicator(Macd, macd, lambda p: p.slow + p.signal),
    "rsi": Indicator(Rsi, rsi, lambda p: p.period + 1),
    "bollinger": Indicator(Bands, bollinger, lambda p: p.period),
    "atr": Indicator(Breakout, atr, lambda p: p.period + 2),
    "adx": Indicator(Adx, adx, lambda p: 2 * p.period),
    "obv": Indicator(Flow, obv, lambda p: p.period),
    "vwap": Indicator(Bands, vwap, lambda p: p.period),
}
"""Every indicator by its name in the spec."""


class Bound(NamedTuple):
    """An indicator with its parameters, ready to read."""

    id: str
    read: Callable[[Bars, Any], Score]
    parameters: msgspec.Struct


def bind(settings: Sequence[IndicatorSettings], window: int) -> tuple[Bound, ...]:
    """Check the settings and look the indicators up. Raises ``ValueError`` that names indicator, field and remedy."""
    seen: set[str] = set()
    return tuple(_bind(one, window, seen) for one in settings)


def _bind(settings: IndicatorSettings, window: int, seen: set[str]) -> Bound:
    if settings.id in seen:
        raise ValueError(f"indicator id {settings.id!r} is used twice: give each indicator an id of its own")
    seen.add(settings.id)
    found = CATALOGUE.get(settings.name)
    if found is None:
        raise ValueError(
            f"indicator {settings.id!r}: name {settings.name!r} is not known: use one of {', '.join(CATALOGUE)}"
        )
    label = f"indicator {settings.id!r} ({settings.name})"
    given = {key: float(value) if isinstance(value, Decimal) else value for key, value in settings.parameters.items()}
    try:
        parameters = msgspec.convert(given, found.parameters)
    except msgspec.ValidationError as error:
        fields = ", ".join(found.parameters.__struct_fields__)
        raise ValueError(f"{label}: {error}. It takes: {fields}") from None
    if isinstance(parameters, EmaCross | Macd) and parameters.fast >= parameters.slow:
        raise ValueError(
            f"{label}: fast {parameters.fast} must be smaller than slow {parameters.slow}: swap or change them"
        )
    if isinstance(parameters, Rsi) and parameters.oversold >= parameters.overbought:
        raise ValueError(
            f"{label}: oversold {parameters.oversold:g} must be below overbought {parameters.overbought:g}:"
            " swap or change them"
        )
    needs = found.needs(parameters)
    if needs > window:
        raise ValueError(
            f"{label} needs {needs} candles, and the window holds {window}: raise the window to {needs} or more,"
            " or shorten the period"
        )
    return Bound(settings.id, found.read, parameters)


def read_all(indicators: Iterable[Bound], bars: Bars) -> tuple[Reading, ...]:
    """What each indicator says about the newest candle, in their order."""
    readings = []
    # An overflow becomes infinite or NaN, and that becomes a neutral reading.
    with np.errstate(all="ignore"):
        for indicator, read, parameters in indicators:
            score, value = read(bars, parameters)
            if not (isfinite(score) and isfinite(value)):
                readings.append(Reading(indicator, _NEUTRAL, 0.0, 0.0))
                continue
            confidence = int(min(abs(score), 1.0) * CONFIDENCE_STEPS + 0.5) / CONFIDENCE_STEPS
            direction = _NEUTRAL if confidence == 0.0 else _UP if score > 0 else _DOWN
            readings.append(Reading(indicator, direction, confidence, value))
    return tuple(readings)
