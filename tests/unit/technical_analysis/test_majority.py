from __future__ import annotations

from decimal import Decimal

import pytest

from support.analysis import a_reading
from tradingbot_agents.domain.messages import Direction
from tradingbot_agents.technical_analysis.signal import average_true_range, majority


def said(*scores: float) -> tuple[Direction, float]:
    return majority([a_reading(str(index), score) for index, score in enumerate(scores)])


def test_more_of_those_that_speak_decide() -> None:
    assert said(0.75, 0.5, -0.9) == (Direction.UP, 1.25 / 3)
    assert said(-0.75, -0.5, 0.9, 0.0) == (Direction.DOWN, 1.25 / 3)
    assert said(0.5, 0.75) == (Direction.UP, 0.625)


@pytest.mark.parametrize("scores", [(), (0.0, 0.0), (0.9, -0.1), (0.2, 0.2, -0.9, -0.9, 0.0)])
def test_a_tie_is_neutral(scores: tuple[float, ...]) -> None:
    assert said(*scores) == (Direction.NEUTRAL, 0.0)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        (0.1 + 0.2, "0.3"),
        (350.123456789012, "350.1234568"),
        (1.2345678901234e-9, "1.23456789E-9"),
        (121556.65, "121556.65"),
    ],
)
def test_the_range_as_money_has_no_noise_of_a_float(unit: float, expected: str) -> None:
    found = average_true_range(unit)
    assert found == Decimal(expected)
    assert str(found) == expected


@pytest.mark.parametrize("unit", [0.0, -1.0, float("nan"), float("inf")])
def test_a_range_that_measures_nothing_is_none(unit: float) -> None:
    assert average_true_range(unit) is None
