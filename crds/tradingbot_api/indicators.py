"""An indicator of the spec, its parameters, and how many candles it needs.

Indicators are a list of objects with a name and optional parameters, because a structural schema can say that. Which
parameters an indicator takes, and their defaults, is the catalogue in `defaults.INDICATOR_PARAMETERS`.
"""

from decimal import Decimal
from typing import Annotated, Literal

import msgspec

from . import defaults
from .decimals import PositiveDecimal, format_decimal
from .model import DERIVED, Model, doc, settle
from .names import Identifier

IndicatorName = Literal["emaCross", "macd", "rsi", "bollinger", "atr", "adx", "obv", "vwap"]

_Candles = Annotated[int, msgspec.Meta(ge=2, le=1000)]
_Level = Annotated[int, msgspec.Meta(ge=1, le=99)]

# A derived id names what makes two indicators of a name different; levels and weights do not.
_SHAPE = ("fast", "slow", "signal", "period", "std_dev", "multiple")

# Candles over which an average with endless memory forgets all but a thousandth of its start, in periods: an EMA
# keeps 1 - 2/(p+1) a candle, Wilder's average 1 - 1/p.
_EMA_PERIODS = 3.5
_WILDER_PERIODS = 7.0


class Indicator(Model, frozen=True, kw_only=True):
    """One indicator. Parameters that its name does not take are None, all others have a value once it is made."""

    name: Annotated[
        IndicatorName,
        doc("Trend: emaCross, macd, adx. Momentum: rsi. Volatility: bollinger, atr. Volume: obv, vwap."),
    ]
    id: Annotated[Identifier, doc("Unique in this bot; by default its name and periods, such as emaCross-12-26.")] = (
        DERIVED
    )
    weight: Annotated[PositiveDecimal, doc("Its weight in a fusion, relative to the others.")] = (
        defaults.INDICATOR_WEIGHT
    )
    fast: Annotated[_Candles | None, doc("emaCross, macd: period of the fast average, in candles.")] = None
    slow: Annotated[_Candles | None, doc("emaCross, macd: period of the slow average, in candles.")] = None
    signal: Annotated[_Candles | None, doc("macd: period of the signal line, in candles.")] = None
    period: Annotated[_Candles | None, doc("rsi, bollinger, atr, adx, obv, vwap: period in candles.")] = None
    std_dev: Annotated[
        PositiveDecimal | None, doc("bollinger, vwap: width of the bands, in standard deviations.")
    ] = None
    multiple: Annotated[
        PositiveDecimal | None, doc("atr: a move of this many average true ranges is a breakout.")
    ] = None
    oversold: Annotated[_Level | None, doc("rsi: at or below this level, of 1..99, it says buy.")] = None
    overbought: Annotated[_Level | None, doc("rsi: at or above this level, of 1..99, it says sell.")] = None
    threshold: Annotated[_Level | None, doc("adx: from this strength on, of 1..99, there is a trend.")] = None

    def __post_init__(self) -> None:
        for parameter, value in defaults.INDICATOR_PARAMETERS[self.name].items():
            if getattr(self, parameter) is None:
                msgspec.structs.force_setattr(self, parameter, value)
        settle(self, "id", self._readable_id())

    def _readable_id(self) -> str:
        shape = [getattr(self, parameter) for parameter in _SHAPE]
        texts = [format_decimal(value) if isinstance(value, Decimal) else str(value) for value in shape if value]
        return "-".join([self.name, *texts])[:63]


def minimum_candles(indicator: Indicator) -> int:
    """Candles for the indicator's first two values: with fewer, no change can be seen."""
    return _first_value(indicator) + 1


def settled_candles(indicator: Indicator) -> int:
    """Candles from which the values no longer depend on where the window begins (to a thousandth)."""
    if indicator.name in ("emaCross", "macd"):
        settling = _EMA_PERIODS * (indicator.slow or 0)
    elif indicator.name in ("rsi", "atr", "adx"):
        settling = _WILDER_PERIODS * (indicator.period or 0)
    else:
        settling = 0.0
    return minimum_candles(indicator) + round(settling)


def _first_value(indicator: Indicator) -> int:
    """Candles that TA-Lib takes in for its first value."""
    period, slow, signal = indicator.period or 0, indicator.slow or 0, indicator.signal or 0
    match indicator.name:
        case "emaCross":
            return slow
        case "macd":
            return slow + signal - 1
        case "rsi" | "atr":
            return period + 1
        case "adx":
            return 2 * period
        case "bollinger" | "obv" | "vwap":
            return period
