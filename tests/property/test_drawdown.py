"""The drawdown of the report, against its definition, written the slow way."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from tradingbot_agents.runtime.report import max_drawdown

EQUITY = st.decimals(min_value=0, max_value=10**9, places=2)


@given(st.lists(EQUITY, max_size=30))
def test_it_is_the_deepest_of_all_falls_from_an_earlier_point(curve: list[Decimal]) -> None:
    falls = [
        (before - after) / before
        for place, before in enumerate(curve)
        for after in curve[place:]
        if before > 0 and after < before
    ]
    assert abs(max_drawdown(curve) - max(falls, default=Decimal(0))) <= Decimal("0.00005")


@given(st.lists(EQUITY, min_size=1, max_size=30), st.integers(min_value=1, max_value=1000))
def test_it_is_a_fraction_and_does_not_depend_on_the_unit(curve: list[Decimal], factor: int) -> None:
    drawdown = max_drawdown(curve)
    assert 0 <= drawdown <= 1
    assert max_drawdown([equity * factor for equity in curve]) == drawdown
    assert max_drawdown(sorted(curve)) == 0
