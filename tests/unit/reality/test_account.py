"""Orders of ours among the exchange's: found as ``ExchangeOrder.is_of`` says, one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from support.evidence import BITCOIN, ETHER, entry, open_stop
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.exchange.port import ExchangeOrder
from tradingbot_agents.reality.account import Shown

NAMES = st.sampled_from(["tba", "tbb", "tbc"])
NUMBERS = st.sampled_from(["1", "2"])
SYMBOLS = st.sampled_from([BITCOIN, ETHER])
OURS = st.builds(
    lambda name, symbol, number: entry(name, symbol=symbol, exchange_order_id=number),
    NAMES,
    SYMBOLS,
    st.none() | NUMBERS,
)
THEIRS = st.builds(
    lambda name, symbol, number: open_stop(client_order_id=name, symbol=symbol, exchange_order_id=number),
    st.none() | NAMES,
    SYMBOLS,
    NUMBERS,
)


@given(OURS, st.lists(THEIRS, max_size=5))
def test_an_order_is_found_if_any_of_them_is_of_it(order: Order, orders: list[ExchangeOrder]) -> None:
    found = Shown(orders).of(order)
    assert (found is None) == (not any(each.is_of(order) for each in orders))
    assert found is None or found.is_of(order)


@given(OURS, THEIRS)
def test_its_name_counts_more_than_its_number(order: Order, other: ExchangeOrder) -> None:
    named = open_stop(client_order_id=order.client_order_id, exchange_order_id="9")
    assert Shown([other, named]).of(order) is (other if other.client_order_id == order.client_order_id else named)
