"""One symbol's candles: what is new, seen, broken or missing, and when the feed is silent."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec
import pytest

from support.messages import START, a_candle
from tradingbot_agents.data_collection.tracker import Gap, Recovery, Refused, Silence, Tracker

BAR = timedelta(minutes=5)
LATER = START + 100 * BAR


def tracker() -> Tracker:
    return Tracker("BTC/USDT", "5m", since=START, started=START)


def open_at(index: int) -> object:
    return a_candle(index).open_time


def test_each_bar_comes_out_once_and_in_order() -> None:
    one = tracker()
    one.offer([a_candle(2), a_candle(0), a_candle(1), a_candle(0)], LATER)
    assert one.release(asked=True) == ([a_candle(0), a_candle(1), a_candle(2)], [])
    one.offer([a_candle(1), a_candle(2), a_candle(3)], LATER)
    assert one.release(asked=True) == ([a_candle(3)], [])
    assert one.release(asked=True) == ([], [])
    assert one.next_open == open_at(4)


def test_a_bar_is_not_taken_before_it_is_closed() -> None:
    one = tracker()
    assert one.offer([a_candle(0)], a_candle(0).close_time - timedelta(microseconds=1)) == (None, [])
    assert one.release(asked=True) == ([], [])
    assert one.offer([a_candle(0)], a_candle(0).close_time) == (open_at(0), [])
    assert one.release(asked=True) == ([a_candle(0)], [])


def test_bars_from_before_what_is_wanted_are_dropped() -> None:
    one = tracker()
    one.offer([a_candle(-1), a_candle(0)], LATER)
    assert one.release(asked=True) == ([a_candle(0)], [])


def test_a_series_that_begins_late_has_no_gap_before_it() -> None:
    one = tracker()
    one.offer([a_candle(7)], LATER)
    assert one.release(asked=True) == ([a_candle(7)], [])


def test_a_hole_waits_until_the_exchange_was_asked() -> None:
    one = tracker()
    one.offer([a_candle(0), a_candle(3)], LATER)
    assert one.release(asked=False) == ([a_candle(0)], [])
    assert one.first_missing(one.next_open) == open_at(1)
    one.offer([a_candle(1), a_candle(2)], LATER)
    assert one.release(asked=True) == ([a_candle(1), a_candle(2), a_candle(3)], [])


def test_a_hole_that_the_exchange_can_not_fill_is_a_gap_once() -> None:
    one = tracker()
    one.offer([a_candle(0), a_candle(3), a_candle(5)], LATER)
    candles, gaps = one.release(asked=True)
    assert candles == [a_candle(0), a_candle(3), a_candle(5)]
    assert gaps == [
        Gap(a_candle(0).open_time, a_candle(3).open_time, 2),
        Gap(a_candle(3).open_time, a_candle(5).open_time, 1),
    ]
    one.offer([a_candle(1), a_candle(6)], LATER)
    assert one.release(asked=True) == ([a_candle(6)], []), "what was given up is not published out of order"


def test_missing_bars_are_found_behind_what_is_held() -> None:
    one = tracker()
    one.offer([a_candle(0), a_candle(1), a_candle(3)], LATER)
    assert one.first_missing(START) == open_at(2)
    assert one.first_missing(a_candle(3).open_time) == open_at(4)
    one.release(asked=True)
    assert one.first_missing(START) == open_at(4)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"high": Decimal("NaN")}, "high is NaN, not a number"),
        ({"close": Decimal(0)}, "close is 0, but a price must be above zero"),
        ({"low": Decimal(-1)}, "low is -1, but a price must be above zero"),
        ({"volume": Decimal(-1)}, "volume is -1, but it must not be negative"),
        ({"high": Decimal(90)}, "high 90 is below another price of the bar"),
        ({"symbol": "ETH/USDT"}, "it is a candle of ETH/USDT 5m, not of BTC/USDT 5m"),
        (
            {"open_time": START + timedelta(seconds=1)},
            "open time 2024-03-01T00:00:01+00:00 is not the start of a bar of 5m",
        ),
    ],
)
def test_a_broken_bar_is_refused_once_and_is_missing(change: dict[str, object], why: str) -> None:
    one = tracker()
    broken = msgspec.structs.replace(a_candle(0), **change)
    assert one.offer([broken], LATER) == (broken.open_time, [Refused(broken.open_time, why)])
    assert one.offer([broken], LATER) == (broken.open_time, []), "it comes again with every poll"
    assert one.release(asked=True) == ([], [])
    assert one.first_missing(START) == START


def test_a_broken_bar_can_be_put_right() -> None:
    one = tracker()
    one.offer([a_candle(0), msgspec.structs.replace(a_candle(1), volume=Decimal(-1)), a_candle(2)], LATER)
    one.offer([a_candle(1)], LATER)
    assert one.release(asked=True) == ([a_candle(0), a_candle(1), a_candle(2)], [])


def test_a_broken_bar_that_stays_broken_is_a_gap() -> None:
    one = tracker()
    one.offer([a_candle(0), msgspec.structs.replace(a_candle(1), volume=Decimal(-1)), a_candle(2)], LATER)
    candles, gaps = one.release(asked=True)
    assert candles == [a_candle(0), a_candle(2)]
    assert gaps == [Gap(a_candle(0).open_time, a_candle(2).open_time, 1)]


def test_the_answers_reach_counts_bars_that_are_known_or_broken() -> None:
    one = tracker()
    one.offer([a_candle(0)], LATER)
    one.release(asked=True)
    assert one.offer([a_candle(0)], LATER) == (open_at(0), [])
    reached, _ = one.offer([a_candle(1), msgspec.structs.replace(a_candle(4), volume=Decimal(-1))], LATER)
    assert reached == open_at(4)


def test_behind_means_a_closed_bar_is_to_come() -> None:
    one = tracker()
    assert one.is_behind(START), "nothing was ever seen"
    one.offer([a_candle(0)], LATER)
    one.release(asked=True)
    assert not one.is_behind(START + BAR)
    assert one.is_behind(START + 2 * BAR)


def test_silence_is_said_once_and_its_end_once() -> None:
    one = tracker()
    one.offer([a_candle(0)], LATER)
    one.release(asked=True)
    closed = a_candle(0).close_time
    limit = timedelta(minutes=12)
    assert one.watch(closed + limit - timedelta(seconds=1), limit) is None
    assert one.watch(closed + limit, limit) == Silence(closed, limit)
    assert one.watch(closed + 2 * limit, limit) is None
    one.offer([a_candle(9)], LATER)
    one.release(asked=True)
    back = a_candle(9).close_time
    assert one.watch(back, limit) == Recovery(back - closed)
    assert one.watch(back, limit) is None
    assert one.watch(back + limit, limit) == Silence(back, limit), "the next outage is said again"


def test_old_candles_do_not_end_a_silence() -> None:
    one = tracker()
    limit = timedelta(minutes=12)
    assert one.watch(START + limit, limit) == Silence(None, None)
    one.offer([a_candle(0)], LATER)
    one.release(asked=True)
    assert one.watch(START + 4 * limit, limit) is None
