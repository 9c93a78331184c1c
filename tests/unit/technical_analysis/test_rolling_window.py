from __future__ import annotations

import itertools

import pytest

from support.analysis import random_candles
from tradingbot_agents.technical_analysis.window import RollingWindow


def test_holds_the_last_candles_oldest_first() -> None:
    candles = random_candles(57)
    window = RollingWindow(10, 3)
    for count, candle in enumerate(candles, 1):
        window.append(candle)
        assert window.full is (count >= 10)
        if not window.full:
            continue
        bars = window.bars()
        last = candles[count - 10 : count]
        assert bars.high.tolist() == [float(one.high) for one in last]
        assert bars.low.tolist() == [float(one.low) for one in last]
        assert bars.close.tolist() == [float(one.close) for one in last]
        assert bars.volume.tolist() == [float(one.volume) for one in last]
        assert all(row.flags.c_contiguous for row in bars[:4])


def test_a_new_window_of_the_last_candles_is_the_long_running_one_to_the_bit() -> None:
    candles = random_candles(93)
    old = RollingWindow(20, 14)
    for candle in candles:
        old.append(candle)
    new = RollingWindow(20, 14)
    for candle in candles[-20:]:
        new.append(candle)
    ours, theirs = old.bars(), new.bars()
    assert [row.tobytes() for row in ours[:4]] == [row.tobytes() for row in theirs[:4]]
    assert ours.unit.hex() == theirs.unit.hex()


def test_the_unit_is_the_average_true_range() -> None:
    candles = random_candles(40)
    window = RollingWindow(40, 5)
    for candle in candles:
        window.append(candle)
    ranges = [
        float(max(now.high, before.close) - min(now.low, before.close)) for before, now in itertools.pairwise(candles)
    ]
    average = sum(ranges[:5]) / 5
    for one in ranges[5:]:
        average += (one - average) / 5
    assert window.bars().unit == pytest.approx(average, rel=1e-12)


def test_a_window_that_is_not_full_has_no_bars() -> None:
    window = RollingWindow(10, 3)
    for candle in random_candles(9):
        window.append(candle)
    with pytest.raises(ValueError, match="holds 9 of 10 candles"):
        window.bars()


def test_a_window_shorter_than_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="raise the window to 15 or more"):
        RollingWindow(14, 14)
