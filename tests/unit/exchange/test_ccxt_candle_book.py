"""A bar of a stream is believed to be closed only when the next one has begun in the same unbroken stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.exchange.ccxt_streams import CandleBook

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
STEP = timedelta(minutes=5)


def bar(place: int, close: object = 100) -> Candle:
    price = Decimal(str(close))
    return Candle("BTC/USDT", "5m", START + place * STEP, price, price, price, price, Decimal(1))


def book(*places: int, keep: int = 100) -> CandleBook:
    made = CandleBook("5m", keep)
    made.take([bar(place) for place in places])
    return made


def told(from_: CandleBook, newest: int, since: int | None = None, limit: int = 500) -> list[int] | None:
    bars = from_.closed(START + newest * STEP, None if since is None else START + since * STEP, limit)
    return None if bars is None else [(found.open_time - START) // STEP for found in bars]


def test_closed_bars_are_told_when_all_of_them_are_known() -> None:
    assert told(book(0, 1, 2, 3), newest=2, since=0) == [0, 1, 2]
    assert told(book(0, 1, 2, 3), newest=2, since=1) == [1, 2]
    assert told(book(0, 1, 2, 3), newest=2, since=0, limit=2) == [0, 1]
    assert told(book(0, 1, 2, 3), newest=2, limit=2) == [1, 2]


def test_the_newest_bar_is_not_closed_before_the_next_has_begun() -> None:
    assert told(book(0, 1, 2), newest=2, since=0) is None
    assert told(book(0, 1, 2), newest=1, since=0) == [0, 1]


def test_a_stream_that_is_ahead_of_the_clock_tells_no_bar_too_early() -> None:
    assert told(book(0, 1, 2, 3), newest=1, since=0) == [0, 1]


def test_what_is_older_than_the_stream_is_not_known() -> None:
    assert told(book(2, 3, 4), newest=3, since=1) is None
    assert told(book(2, 3, 4), newest=3, limit=3) is None
    assert told(book(), newest=3, since=3) is None


def test_there_is_nothing_after_the_newest_closed_bar() -> None:
    assert told(book(2, 3, 4), newest=3, since=4) == []


def test_a_bar_is_as_it_was_told_last() -> None:
    made = book(0)
    made.take([bar(0, 105)])
    made.take([bar(1)])
    (closed,) = made.closed(START, START, 1) or []
    assert closed.close == 105


def test_a_gap_makes_what_was_before_it_unknown() -> None:
    made = book(0, 1)
    made.take([bar(3)])
    made.take([bar(4)])
    assert told(made, newest=3, since=0) is None
    assert told(made, newest=3, since=3) == [3]


def test_nothing_is_known_after_it_was_cleared() -> None:
    made = book(0, 1, 2)
    made.clear()
    assert told(made, newest=1, since=1) is None
    made.take([bar(2), bar(3)])
    assert told(made, newest=2, since=2) == [2]


@pytest.mark.parametrize("keep", [2, 3, 10])
def test_only_so_many_bars_are_kept(keep: int) -> None:
    made = book(*range(20), keep=keep)
    assert told(made, newest=18, limit=keep - 1) == list(range(20 - keep, 19))
    assert told(made, newest=18, limit=keep) is None
