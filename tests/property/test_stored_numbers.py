"""InfluxDB keeps floats. What exchanges tell has at most 15 digits: such a number survives the way there and back."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tradingbot_agents.marketdata.influx import as_decimal, as_field


@given(digits=st.integers(0, 10**15 - 1), places=st.integers(0, 15))
def test_up_to_fifteen_digits_come_back_as_they_were(digits: int, places: int) -> None:
    number = Decimal(digits).scaleb(-places)
    assert as_decimal(as_field(number)) == number


@given(st.floats(min_value=0, allow_infinity=False, allow_nan=False))
def test_any_stored_number_is_read_as_its_shortest_text(stored: float) -> None:
    assert as_field(as_decimal(stored)) == stored
