"""Each indicator against a plain calculation of its own, and what it says on markets that anyone can read."""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest

from support.analysis import PARAMETERS, all_indicators, bars_of, candles_of, random_candles
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.messages import Direction, Reading
from tradingbot_agents.technical_analysis.indicators import CATALOGUE, HISTOGRAM_UNIT, bind, read_all
from tradingbot_agents.technical_analysis.settings import IndicatorSettings

UP, DOWN, NEUTRAL = Direction.UP, Direction.DOWN, Direction.NEUTRAL


def read(name: str, candles: Sequence[Candle], **changes: Any) -> Reading:
    settings = IndicatorSettings(id=name, name=name, parameters={**PARAMETERS[name], **changes})
    return read_all(bind([settings], len(candles)), bars_of(candles))[0]


# Plain calculations, on lists of floats.


def ema(values: Sequence[float], period: int) -> list[float]:
    """From the first value that has ``period`` values behind it."""
    averages = [sum(values[:period]) / period]
    for value in values[period:]:
        averages.append(averages[-1] + 2 / (period + 1) * (value - averages[-1]))
    return averages


def wilder(values: Sequence[float], period: int) -> float:
    average = sum(values[:period]) / period
    for value in values[period:]:
        average += (value - average) / period
    return average


def true_ranges(candles: Sequence[Candle]) -> list[float]:
    return [
        float(max(now.high, before.close) - min(now.low, before.close)) for before, now in itertools.pairwise(candles)
    ]


def closes_of(candles: Sequence[Candle]) -> list[float]:
    return [float(candle.close) for candle in candles]


WALKS = [random_candles(250, seed) for seed in range(1, 7)]


@pytest.mark.parametrize("candles", WALKS)
def test_ema_cross(candles: list[Candle]) -> None:
    gap = ema(closes_of(candles), 12)[-1] - ema(closes_of(candles), 26)[-1]
    reading = read("emaCross", candles)
    assert reading.value == pytest.approx(gap, rel=1e-9)
    assert reading.direction is (UP if gap > 0 else DOWN)
    assert reading.confidence == pytest.approx(math.tanh(abs(gap) / wilder(true_ranges(candles), 14)), abs=1e-6)


@pytest.mark.parametrize("candles", WALKS)
def test_macd(candles: list[Candle]) -> None:
    closes = closes_of(candles)
    fast, slow = ema(closes, 12), ema(closes, 26)
    line = [a - b for a, b in zip(fast[-len(slow) :], slow, strict=True)]
    histogram = line[-1] - ema(line, 9)[-1]
    reading = read("macd", candles)
    assert reading.value == pytest.approx(histogram, rel=1e-8)
    assert reading.direction is (UP if histogram > 0 else DOWN)
    size = abs(histogram) / (HISTOGRAM_UNIT * wilder(true_ranges(candles), 14))
    assert reading.confidence == pytest.approx(math.tanh(size), abs=1e-6)


def rsi_of(closes: Sequence[float], period: int) -> float:
    moves = [now - before for before, now in itertools.pairwise(closes)]
    gain = wilder([max(move, 0.0) for move in moves], period)
    loss = wilder([max(-move, 0.0) for move in moves], period)
    return 100 * gain / (gain + loss)


@pytest.mark.parametrize("candles", WALKS)
def test_rsi(candles: list[Candle]) -> None:
    value = rsi_of(closes_of(candles), 14)
    reading = read("rsi", candles, oversold=45, overbought=55)
    assert reading.value == pytest.approx(value, rel=1e-9)
    if value < 45:
        assert reading.direction is UP
        assert reading.confidence == pytest.approx((45 - value) / 45, abs=1e-6)
    elif value > 55:
        assert reading.direction is DOWN
        assert reading.confidence == pytest.approx((value - 55) / 45, abs=1e-6)
    else:
        assert (reading.direction, reading.confidence) == (NEUTRAL, 0.0)


@pytest.mark.parametrize("candles", WALKS)
@pytest.mark.parametrize("width", ["0.1", "0.5", "2"])
def test_bollinger(candles: list[Candle], width: str) -> None:
    tail = closes_of(candles)[-20:]
    distance = (tail[-1] - statistics.fmean(tail)) / statistics.pstdev(tail)
    reading = read("bollinger", candles, std_dev=Decimal(width))
    assert reading.value == pytest.approx(distance, rel=1e-7)
    beyond = abs(distance) - float(width)
    if beyond <= 0:
        assert (reading.direction, reading.confidence) == (NEUTRAL, 0.0)
    else:
        assert reading.direction is (DOWN if distance > 0 else UP)
        assert reading.confidence == pytest.approx(min(beyond / float(width), 1.0), abs=1e-6)


@pytest.mark.parametrize("candles", WALKS)
@pytest.mark.parametrize("multiple", ["0.05", "1.5"])
def test_atr(candles: list[Candle], multiple: str) -> None:
    ranges = true_ranges(candles)
    reading = read("atr", candles, multiple=Decimal(multiple))
    assert reading.value == pytest.approx(wilder(ranges, 14), rel=1e-9)
    move = float(candles[-1].close - candles[-2].close) / wilder(ranges[:-1], 14)
    beyond = abs(move) - float(multiple)
    if beyond <= 0:
        assert (reading.direction, reading.confidence) == (NEUTRAL, 0.0)
    else:
        assert reading.direction is (UP if move > 0 else DOWN)
        assert reading.confidence == pytest.approx(min(beyond / float(multiple), 1.0), abs=1e-6)


def directional_index(candles: Sequence[Candle], period: int) -> tuple[float, float, float]:
    """ADX, +DI and -DI, with Wilder's running sums."""
    ups, downs = [], []
    for before, now in itertools.pairwise(candles):
        up, down = float(now.high - before.high), float(before.low - now.low)
        ups.append(up if up > down and up > 0 else 0.0)
        downs.append(down if down > up and down > 0 else 0.0)
    ranges = true_ranges(candles)
    indexes = []
    for end in range(period, len(ranges) + 1):
        plus = 100 * wilder(ups[:end], period) / wilder(ranges[:end], period)
        minus = 100 * wilder(downs[:end], period) / wilder(ranges[:end], period)
        indexes.append(100 * abs(plus - minus) / (plus + minus))
    return wilder(indexes, period), plus, minus


@pytest.mark.parametrize("candles", WALKS)
def test_adx(candles: list[Candle]) -> None:
    value, plus, minus = directional_index(candles, 14)
    reading = read("adx", candles, threshold=5)
    # The averages begin in another way than TA-Lib's; after 235 candles that is all but forgotten.
    assert reading.value == pytest.approx(value, rel=1e-5)
    assert reading.direction is (UP if plus > minus else DOWN)
    assert reading.confidence == pytest.approx(min((value - 5) / 5, 1.0), abs=1e-4)


def test_adx_below_its_threshold_is_neutral() -> None:
    reading = read("adx", WALKS[0], threshold=99)
    assert (reading.direction, reading.confidence) == (NEUTRAL, 0.0)
    assert reading.value == pytest.approx(directional_index(WALKS[0], 14)[0], rel=1e-5)


@pytest.mark.parametrize("candles", WALKS)
def test_obv(candles: list[Candle]) -> None:
    balance = [float(candles[0].volume)]
    for before, now in itertools.pairwise(candles):
        step = (now.close > before.close) - (now.close < before.close)
        balance.append(balance[-1] + step * float(now.volume))
    flow = balance[-1] - ema(balance, 20)[-1]
    usual = statistics.fmean(float(candle.volume) for candle in candles[-20:])
    reading = read("obv", candles)
    assert reading.value == pytest.approx(flow, rel=1e-9)
    assert reading.direction is (UP if flow > 0 else DOWN)
    assert reading.confidence == pytest.approx(math.tanh(abs(flow) / (usual * math.sqrt(20))), abs=1e-6)


@pytest.mark.parametrize("candles", WALKS)
def test_vwap(candles: list[Candle]) -> None:
    tail = [(float(candle.high + candle.low + candle.close) / 3, float(candle.volume)) for candle in candles[-20:]]
    traded = sum(volume for _, volume in tail)
    average = sum(price * volume for price, volume in tail) / traded
    deviation = math.sqrt(sum(volume * (price - average) ** 2 for price, volume in tail) / traded)
    distance = float(candles[-1].close) - average
    reading = read("vwap", candles)
    assert reading.value == pytest.approx(distance, rel=1e-7)
    assert reading.direction is (UP if distance > 0 else DOWN)
    assert reading.confidence == pytest.approx(min(abs(distance) / (2 * deviation), 1.0), abs=1e-5)


# What they say.

RISE = candles_of([100 + 0.5 * index for index in range(250)])
FALL = candles_of([300 - 0.5 * index for index in range(250)])

# A trend that gets steeper: only then does the MACD line leave its own average.
FASTER_RISE = candles_of([100 + 0.002 * index**2 for index in range(250)])
FASTER_FALL = candles_of([300 - 0.002 * index**2 for index in range(250)])


@pytest.mark.parametrize("name", ["emaCross", "macd", "adx", "obv", "vwap"])
def test_those_that_follow_go_with_the_trend(name: str) -> None:
    rising, falling = read(name, FASTER_RISE), read(name, FASTER_FALL)
    assert (rising.direction, falling.direction) == (UP, DOWN)
    assert rising.confidence > 0.2
    assert falling.confidence > 0.2


def test_rsi_expects_an_end_of_a_move_without_pause() -> None:
    assert (read("rsi", RISE).direction, read("rsi", RISE).confidence) == (DOWN, 1.0)
    assert (read("rsi", FALL).direction, read("rsi", FALL).confidence) == (UP, 1.0)


def shock(size: float) -> list[Candle]:
    """A market that swings by 1, and then moves by ``size``."""
    closes = [100.0 + index % 2 for index in range(99)]
    return candles_of([*closes, closes[-1] + size])


@pytest.mark.parametrize(("size", "expected"), [(6.0, DOWN), (-6.0, UP)])
def test_bollinger_expects_a_shock_to_be_taken_back(size: float, expected: Direction) -> None:
    assert read("bollinger", shock(size)).direction is expected


@pytest.mark.parametrize(("size", "expected"), [(6.0, UP), (-6.0, DOWN)])
def test_atr_goes_with_a_breakout(size: float, expected: Direction) -> None:
    assert read("atr", shock(size)).direction is expected


@pytest.mark.parametrize(
    ("name", "smallest", "largest"),
    [("bollinger", 1, 15), ("atr", 1, 15), ("emaCross", 1, 15), ("macd", 1, 15), ("vwap", 0.6, 1)],
)
def test_a_larger_move_is_never_less_sure(name: str, smallest: float, largest: float) -> None:
    sizes = [smallest + (largest - smallest) * step / 40 for step in range(41)]
    confidences = [read(name, shock(size)).confidence for size in sizes]
    assert confidences == sorted(confidences)
    assert confidences[0] < confidences[-1]


@pytest.mark.parametrize("name", PARAMETERS)
def test_the_price_level_does_not_matter(name: str) -> None:
    """A coin at 0.00000100 is read as one at 100."""
    small = [
        Candle(
            candle.symbol,
            candle.timeframe,
            candle.open_time,
            *(price.scaleb(-8) for price in (candle.open, candle.high, candle.low, candle.close)),
            candle.volume,
        )
        for candle in WALKS[0]
    ]
    changes = {"threshold": 5} if name == "adx" else {"std_dev": Decimal("0.1")} if name == "bollinger" else {}
    here, there = read(name, WALKS[0], **changes), read(name, small, **changes)
    assert there.direction is here.direction
    assert there.confidence == pytest.approx(here.confidence, abs=1e-5)


# Bad settings.


@pytest.mark.parametrize(
    ("name", "parameters", "message"),
    [
        ("emaCros", {}, r"indicator 'x': name 'emaCros' is not known: use one of emaCross, macd"),
        ("emaCross", {"fast": 12}, r"indicator 'x' \(emaCross\): .*`slow`.* It takes: fast, slow"),
        ("emaCross", {"fast": 12, "slow": 26, "speed": 1}, r"unknown field `speed`"),
        ("emaCross", {"fast": 26, "slow": 12}, r"fast 26 must be smaller than slow 12"),
        ("emaCross", {"fast": 0, "slow": 12}, r">= 2 - at `\$\.fast`"),
        ("rsi", {"period": 14, "oversold": 70, "overbought": 30}, r"oversold 70 must be below overbought 30"),
        ("bollinger", {"period": 20, "std_dev": Decimal(0)}, r"> 0.0 - at `\$\.std_dev`"),
        ("adx", {"period": 126, "threshold": 25}, r"needs 252 candles, and the window holds 250: raise the window"),
    ],
)
def test_a_bad_setting_is_refused_by_name(name: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bind([IndicatorSettings(id="x", name=name, parameters=parameters)], 250)


def test_an_id_is_used_once() -> None:
    one = IndicatorSettings(id="fast", name="rsi", parameters=PARAMETERS["rsi"])
    with pytest.raises(ValueError, match="indicator id 'fast' is used twice"):
        bind([one, one], 250)


@pytest.mark.parametrize("name", CATALOGUE)
def test_the_shortest_window_that_is_allowed_is_enough(name: str) -> None:
    settings = IndicatorSettings(id=name, name=name, parameters=PARAMETERS[name])
    for window in range(15, 60):
        try:
            bound = bind([settings], window)
        except ValueError:
            continue
        assert window == 15 or window == _needs(name)
        candles = random_candles(window, seed=3)
        score, value = bound[0].read(bars_of(candles), bound[0].parameters)
        assert math.isfinite(score)
        assert math.isfinite(value)
        return
    pytest.fail("no window was long enough")


def _needs(name: str) -> int:
    return {"emaCross": 27, "macd": 35, "rsi": 15, "bollinger": 20, "atr": 16, "adx": 28, "obv": 20, "vwap": 20}[name]


def test_readings_come_in_the_order_of_the_settings() -> None:
    readings = read_all(bind(all_indicators(), 250), bars_of(WALKS[0]))
    assert [reading.indicator for reading in readings] == list(PARAMETERS)
