"""The candle: its id and close, and every kind of broken bar."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import msgspec
import pytest

from tradingbot_agents.domain.candle import Candle, candle_problem
from tradingbot_agents.domain.values import floor_time, from_millis, to_millis

GOOD = Candle(
    "BTC/USDT",
    "5m",
    datetime(2024, 3, 1, 12, 5, tzinfo=UTC),
    Decimal("100"),
    Decimal("110"),
    Decimal("90"),
    Decimal("105"),
    Decimal("7.5"),
)


def test_a_bar_closes_when_its_timeframe_is_over() -> None:
    assert GOOD.close_time == datetime(2024, 3, 1, 12, 10, tzinfo=UTC)


def test_a_bar_has_one_name_for_ever() -> None:
    assert GOOD.id == "BTC/USDT.5m.2024-03-01T12:05Z"


def test_a_good_bar_has_no_problem() -> None:
    assert candle_problem(GOOD) is None


def test_a_flat_bar_without_volume_is_good() -> None:
    price = Decimal("3")
    assert (
        candle_problem(
            msgspec.structs.replace(GOOD, open=price, high=price, low=price, close=price, volume=Decimal(0))
        )
        is None
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"open": Decimal("NaN")}, "open is NaN, not a number"),
        ({"close": Decimal("Infinity")}, "close is Infinity, not a number"),
        ({"low": Decimal("0")}, "low is 0, but a price must be above zero"),
        ({"close": Decimal("-1")}, "close is -1, but a price must be above zero"),
        ({"volume": Decimal("NaN")}, "volume is NaN, not a number"),
        ({"volume": Decimal("-0.1")}, "volume is -0.1, but it must not be negative"),
        ({"high": Decimal("104")}, "high 104 is below another price of the bar"),
        ({"high": Decimal("99"), "close": Decimal("95")}, "high 99 is below another price of the bar"),
        ({"low": Decimal("101")}, "low 101 is above another price of the bar"),
        ({"low": Decimal("106"), "open": Decimal("108")}, "low 106 is above another price of the bar"),
    ],
)
def test_a_broken_bar_says_what_is_wrong(change: dict[str, Decimal], problem: str) -> None:
    assert candle_problem(msgspec.structs.replace(GOOD, **change)) == problem


def test_millis_and_times_are_each_other() -> None:
    assert to_millis(from_millis(1_704_067_200_123)) == 1_704_067_200_123
    assert from_millis(1_704_067_200_000) == datetime(2024, 1, 1, tzinfo=UTC)


def test_a_bar_opens_on_the_grid_of_its_timeframe() -> None:
    at = datetime(2024, 3, 1, 12, 7, 59, 999999, tzinfo=UTC)
    assert floor_time(at, GOOD.close_time - GOOD.open_time) == GOOD.open_time
