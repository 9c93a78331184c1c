"""Average cost, profit, fees in each currency, and what an oversold position is."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.position import Position, PositionState, apply_fill
from tradingbot_agents.domain.values import Side

D = Decimal
AT = datetime(2025, 10, 9, tzinfo=UTC)
FLAT = Position(symbol="BTC/USDT")


def fill(side: Side, amount: str, price: str, fee: Fee | None = None) -> Fill:
    return Fill(
        exchange_trade_id="1",
        client_order_id="entry-1",
        symbol="BTC/USDT",
        side=side,
        price=D(price),
        amount=D(amount),
        at=AT,
        fee=fee,
    )


def buy(amount: str, price: str, fee: Fee | None = None) -> Fill:
    return fill(Side.BUY, amount, price, fee)


def sell(amount: str, price: str, fee: Fee | None = None) -> Fill:
    return fill(Side.SELL, amount, price, fee)


def test_buys_add_up_to_an_average_cost() -> None:
    position = apply_fill(apply_fill(FLAT, buy("1", "100")), buy("3", "120"))
    assert (position.amount, position.cost, position.average_cost) == (4, 460, 115)
    assert position.unrealised(D(125)) == 40
    assert position.realised == 0


def test_a_sale_takes_out_its_share_of_the_cost() -> None:
    position = apply_fill(apply_fill(FLAT, buy("4", "115")), sell("1", "130"))
    assert (position.amount, position.cost) == (3, 345)
    assert position.realised == position.trade_realised == 15


def test_selling_everything_leaves_no_cost_behind() -> None:
    third = apply_fill(FLAT, buy("3", "33.333333333333"))
    position = apply_fill(apply_fill(apply_fill(third, sell("1", "40")), sell("1", "40")), sell("1", "40"))
    assert (position.amount, position.cost) == (0, 0)
    assert position.realised == D(120) - D("99.999999999999")


def test_a_buy_fee_in_base_lessens_the_amount() -> None:
    position = apply_fill(FLAT, buy("1", "100", Fee("BTC", D("0.001"))))
    assert (position.amount, position.cost) == (D("0.999"), 100)
    assert position.fees == position.trade_fees == D("0.1")


def test_a_buy_fee_in_quote_adds_to_the_cost() -> None:
    position = apply_fill(FLAT, buy("1", "100", Fee("USDT", D("0.1"))))
    assert (position.amount, position.cost, position.fees) == (1, D("100.1"), D("0.1"))


def test_a_fee_in_a_third_asset_counts_at_its_value() -> None:
    position = apply_fill(FLAT, buy("1", "100", Fee("BNB", D("0.0001"), D("0.07"))))
    assert (position.amount, position.cost, position.fees) == (1, D("100.07"), D("0.07"))


def test_a_fee_in_a_third_asset_without_a_price_counts_nothing() -> None:
    position = apply_fill(FLAT, buy("1", "100", Fee("BNB", D("0.0001"))))
    assert (position.cost, position.fees) == (100, 0)


def test_a_sale_fee_is_taken_off_the_profit() -> None:
    bought = apply_fill(FLAT, buy("1", "100", Fee("USDT", D("0.1"))))
    position = apply_fill(bought, sell("1", "110", Fee("USDT", D("0.11"))))
    assert position.realised == D("110") - D("0.11") - D("100.1")
    assert position.fees == D("0.21")


def test_a_sale_fee_in_base_is_sold_too() -> None:
    position = apply_fill(apply_fill(FLAT, buy("1", "100")), sell("0.5", "110", Fee("BTC", D("0.1"))))
    assert position.amount == D("0.4")
    assert position.cost == 40
    assert position.realised == 55 - 60


def test_an_oversold_position_is_booked_below_zero() -> None:
    position = apply_fill(apply_fill(FLAT, buy("1", "100")), sell("1.5", "110"))
    assert (position.amount, position.cost) == (D("-0.5"), 0)
    assert position.realised == 65


@pytest.mark.parametrize(
    ("state", "held"),
    [
        (PositionState.FLAT, False),
        (PositionState.OPEN, True),
        (PositionState.CLOSING, True),
        (PositionState.DUST, False),
    ],
)
def test_what_is_to_be_protected_and_sold(state: PositionState, held: bool) -> None:
    assert Position(symbol="BTC/USDT", state=state).is_held is held


amounts = st.decimals("0.00001", "100", places=5)
quotes = st.decimals("0.01", "200000", places=2)


@given(st.lists(st.tuples(st.booleans(), amounts, quotes), max_size=12))
def test_money_is_conserved(trades: list[tuple[bool, Decimal, Decimal]]) -> None:
    """What was paid is in the cost that is left or in the profit that was made, to the last digit."""
    position = FLAT
    paid = received = Decimal(0)
    for is_buy, amount, price in trades:
        side = Side.BUY if is_buy or position.amount < amount else Side.SELL
        one = fill(side, str(amount), str(price))
        position = apply_fill(position, one)
        if side is Side.BUY:
            paid += one.cost
        else:
            received += one.cost
    assert received - paid == position.realised - position.cost
    assert position.amount >= 0
    assert position.cost >= 0
