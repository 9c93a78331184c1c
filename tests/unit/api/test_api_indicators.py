"""How many candles an indicator needs: our figures against the library that computes it."""

from decimal import Decimal

import msgspec
import numpy as np
import pytest
import talib

from tradingbot_agents.technical_analysis.indicators import CATALOGUE
from tradingbot_api import Indicator, defaults, minimum_candles, settled_candles
from tradingbot_api.indicators import IndicatorName

NAMES: list[IndicatorName] = ["emaCross", "macd", "rsi", "bollinger", "atr", "adx", "obv", "vwap"]


def values(indicator: Indicator, candles: int, start: float) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """What TA-Lib computes from the last `candles` of a fixed walk that begins at `start`."""
    walk = np.cumsum(np.sin(np.arange(5000.0) * 0.7) + np.cos(np.arange(5000.0) * 0.11)) + 500.0
    close = walk[-candles:].copy()
    close[0] = start
    high, low = close + 1.0, close - 1.0
    period, slow = indicator.period or 0, indicator.slow or 0
    match indicator.name:
        case "emaCross":
            return talib.EMA(close, slow)
        case "macd":
            return talib.MACD(close, indicator.fast or 0, slow, indicator.signal or 0)[2]
        case "rsi":
            return talib.RSI(close, period)
        case "atr":
            return talib.ATR(high, low, close, period)
        case "adx":
            return talib.ADX(high, low, close, period)
        case _:
            return talib.BBANDS(close, period, 2.0, 2.0)[1]


@pytest.mark.parametrize("name", NAMES)
def test_the_minimum_gives_two_values(name: IndicatorName) -> None:
    indicator = Indicator(name=name)
    minimum = minimum_candles(indicator)
    assert np.isfinite(values(indicator, minimum, 500.0)[-2:]).all()
    assert not np.isfinite(values(indicator, minimum - 1, 500.0)[-2:]).all()


@pytest.mark.parametrize("name", NAMES)
def test_settled_values_forgot_the_start(name: IndicatorName) -> None:
    indicator = Indicator(name=name)
    settled = settled_candles(indicator)
    one, other = (values(indicator, settled, start)[-1] for start in (500.0, 505.0))
    assert one == pytest.approx(other, rel=2e-3, abs=5e-2)


@pytest.mark.parametrize("name", NAMES)
def test_the_agent_takes_the_parameters_that_a_spec_gives(name: IndicatorName) -> None:
    entry = CATALOGUE[name]
    given = {
        key: float(value) if isinstance(value, Decimal) else value
        for key, value in defaults.INDICATOR_PARAMETERS[name].items()
    }
    assert set(given) == set(entry.parameters.__struct_fields__)
    parameters = msgspec.convert(given, entry.parameters)
    assert entry.needs(parameters) <= minimum_candles(Indicator(name=name))
