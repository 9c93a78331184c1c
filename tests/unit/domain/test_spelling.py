"""How values leave us: decimals as plain strings, times ISO 8601."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

import pytest

from tradingbot_agents.domain.spelling import spelled


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("1E+3"), "1000"),
        (Decimal("1E-12"), "0.000000000001"),
        (Decimal("0.00348360"), "0.00348360"),
        (datetime(2024, 3, 1, tzinfo=UTC), "2024-03-01T00:00:00Z"),
        (Colour.RED, "red"),
        ({"a": (Decimal("1E+1"), None)}, {"a": ["10", None]}),
        (7, 7),
        (True, True),
    ],
)
def test_spelled(value: object, expected: object) -> None:
    assert spelled(value) == expected
