"""Markets that stand still, have no volume or no sane numbers: neutral, confidence 0, never NaN."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.analysis import all_indicators, bars_of, candles_of, random_candles
from support.messages import START
from tradingbot_agents.domain.candle import Candle, candle_problem
from tradingbot_agents.domain.messages import Direction, Reading
from tradingbot_agents.technical_analysis.indicators import bind, read_all
from tradingbot_agents.technical_analysis.window import RollingWindow

LENGTH = 50


def readings_of(candles: list[Candle]) -> dict[str, Reading]:
    found = read_all(bind(all_indicators(), len(candles)), bars_of(candles))
    return {reading.indicator: reading for reading in found}


def check(reading: Reading) -> None:
    assert 0.0 <= reading.confidence <= 1.0
    assert math.isfinite(reading.value)
    assert (reading.direction is Direction.NEUTRAL) is (reading.confidence == 0.0)


@pytest.mark.parametrize("price", [1e-8, 0.1, 100.1, 121556.65, 1e15])
@pytest.mark.parametrize("volume", [0.0, 12.3])
def test_constant_prices_say_nothing(price: float, volume: float) -> None:
    for reading in readings_of(candles_of([price] * LENGTH, spread=0.0, volumes=[volume] * LENGTH)).values():
        assert (reading.direction, reading.confidence) == (Direction.NEUTRAL, 0.0)
        check(reading)


@pytest.mark.parametrize("price", [1e-8, 0.1, 100.1, 121556.65])
@pytest.mark.parametrize("wick", [0.001, 0.03, 0.2])
def test_equal_candles_say_nothing_however_long_their_wicks(price: float, wick: float) -> None:
    """The typical price is off the close then, and its deviation is nothing but rounding."""
    one, tall = Decimal(repr(price)), Decimal(repr(price)) * Decimal(repr(1 + wick))
    candles = [
        Candle("BTC/USDT", "5m", START, one, tall, one, one, Decimal(index % 7 + 1)) for index in range(LENGTH)
    ]
    for name, reading in readings_of(candles).items():
        check(reading)
        assert reading.direction is Direction.NEUTRAL, name


@pytest.mark.parametrize("move", [0.01, 5.0, -5.0])
def test_prices_that_stopped_moving_leave_no_extreme_rsi(move: float) -> None:
    """Of a last tick up long ago, TA-Lib's RSI stays 100 for ever."""
    candles = candles_of([100.0, 100.0 + move] + [100.0 + move] * 48, spread=0.0)
    readings = readings_of(candles)
    assert readings["rsi"].direction is Direction.NEUTRAL
    assert readings["bollinger"].direction is Direction.NEUTRAL
    for reading in readings.values():
        check(reading)


def test_without_volume_those_of_volume_say_nothing() -> None:
    closes = [float(candle.close) for candle in random_candles(LENGTH)]
    readings = readings_of(candles_of(closes, volumes=[0.0] * LENGTH))
    assert readings["obv"].confidence == readings["vwap"].confidence == 0.0
    assert readings["emaCross"].confidence > 0.0


def test_volume_long_ago_is_no_volume_now() -> None:
    closes = [float(candle.close) for candle in random_candles(LENGTH)]
    readings = readings_of(candles_of(closes, volumes=[1e12] * 20 + [0.0] * 30))
    assert readings["vwap"].confidence == 0.0
    assert readings["obv"].confidence == 0.0


@pytest.mark.parametrize("scale", ["1e12", "1e150", "1e300", "1e400", "1e-300", "1e-400"])
def test_huge_and_tiny_numbers_never_become_nan(scale: str) -> None:
    factor = Decimal(scale)
    candles = [
        Candle(
            one.symbol,
            one.timeframe,
            one.open_time,
            one.open * factor,
            one.high * factor,
            one.low * factor,
            one.close * factor,
            one.volume * factor,
        )
        for one in random_candles(LENGTH)
    ]
    for reading in readings_of(candles).values():
        check(reading)


PRICES = st.one_of(
    st.sampled_from([Decimal(1), Decimal("1.01"), Decimal("100.1"), Decimal("1e-8"), Decimal("1e12")]),
    st.decimals("0.00000001", "1000000", places=8),
)
VOLUMES = st.one_of(st.just(Decimal(0)), st.decimals("0", "1000000000", places=3))


@st.composite
def any_candles(draw: st.DrawFn) -> list[Candle]:
    candles = []
    for _ in range(LENGTH):
        low, opened, close, high = (draw(PRICES) for _ in range(4))
        ordered = sorted((low, opened, close, high))
        bar = Candle("BTC/USDT", "5m", START, opened, ordered[-1], ordered[0], close, draw(VOLUMES))
        assert candle_problem(bar) is None
        candles.append(bar)
    return candles


@settings(max_examples=60, deadline=None)
@given(any_candles())
def test_any_valid_candles_give_sane_readings(candles: list[Candle]) -> None:
    for reading in readings_of(candles).values():
        check(reading)


def test_after_a_restart_every_reading_is_the_same_to_the_bit() -> None:
    candles = random_candles(400, seed=9)
    bound = bind(all_indicators(), LENGTH)
    old = RollingWindow(LENGTH, 14)
    for index, candle in enumerate(candles):
        old.append(candle)
        if index % 37 or not old.full:
            continue
        new = bars_of(candles[index + 1 - LENGTH : index + 1])
        for ours, theirs in zip(read_all(bound, old.bars()), read_all(bound, new), strict=True):
            assert ours == theirs
            assert ours.value.hex() == theirs.value.hex()


def test_the_opposite_market_says_the_opposite() -> None:
    """Mirrored around 100, so that each distance keeps its size."""
    candles = random_candles(LENGTH, seed=4)
    mirrored = [
        Candle(
            one.symbol, one.timeframe, one.open_time, 200 - one.open, 200 - one.low, 200 - one.high, 200 - one.close,
            one.volume,
        )
        for one in candles
    ]  # fmt: skip
    opposite = {Direction.UP: Direction.DOWN, Direction.DOWN: Direction.UP, Direction.NEUTRAL: Direction.NEUTRAL}
    there = readings_of(mirrored)
    # On-balance volume begins with the first candle's volume, whichever way that went.
    for name, reading in readings_of(candles).items():
        if name != "obv":
            assert there[name].direction is opposite[reading.direction]
            assert there[name].confidence == pytest.approx(reading.confidence, abs=1e-5)
