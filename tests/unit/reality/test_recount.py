"""Profit that is counted again from fills, against figures by hand and against the books' own arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal, localcontext

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.ledger import fill
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.position import Position, apply_fill
from tradingbot_agents.domain.values import ZERO, Side
from tradingbot_agents.ledger.booking import EXACT
from tradingbot_agents.reality import recount as module
from tradingbot_agents.reality.checks.accounting_profit import TICK
from tradingbot_agents.reality.recount import Recount

D = Decimal
ETHER = "ETH/USDT"


def bought(amount: str, price: str, fee: Fee | None = None, symbol: str = "BTC/USDT") -> Fill:
    return msgspec.structs.replace(fill("entry", "t", amount, price, symbol=symbol), fee=fee)


def sold(amount: str, price: str, fee: Fee | None = None, symbol: str = "BTC/USDT") -> Fill:
    return msgspec.structs.replace(bought(amount, price, fee, symbol), side=Side.SELL)


def counted(fills: Sequence[Fill], adopted: tuple[str, str] | None = None) -> Decimal:
    recount = Recount()
    if adopted is not None:
        recount.adopt("BTC/USDT", D(adopted[0]), D(adopted[1]))
    for each in fills:
        recount.take(each)
    return recount.profit


BASE, QUOTE = Fee("BTC", D("0.01")), Fee("USDT", D("0.5"))
VALUED, UNVALUED = Fee("BNB", D("0.002"), D("1.2")), Fee("BNB", D("0.002"))


@pytest.mark.parametrize(
    ("fills", "profit"),
    [
        ([], "0"),
        ([bought("1", "100")], "0"),
        ([bought("1", "100"), sold("1", "110")], "10"),
        # A quarter of the cost goes with it.
        ([bought("4", "100"), sold("1", "130")], "30"),
        # 2 for 300 are 150 each.
        ([bought("1", "100"), bought("1", "200"), sold("1", "180")], "30"),
        ([bought("1", "100", QUOTE), sold("1", "110", QUOTE)], "9"),
        # 0.99 are there for 100, and 0.99 are sold.
        ([bought("1", "100", BASE), sold("0.99", "110")], "8.9"),
        # A hundredth more than was sold is gone, and all of the cost with it.
        ([bought("1", "100"), sold("0.99", "110", BASE)], "8.9"),
        ([bought("1", "100", VALUED), sold("1", "110", VALUED)], "7.6"),
        ([bought("1", "100", UNVALUED), sold("1", "110", UNVALUED)], "10"),
        # A rebate.
        ([bought("1", "100", Fee("USDT", D("-1"))), sold("1", "110")], "11"),
        # What is left is worth what it cost, and is sold with the next.
        ([bought("1", "100"), sold("0.9", "110"), bought("0.9", "120"), sold("1", "130")], "21"),
        # What is sold too much was paid nothing; it is bought back later.
        ([bought("1", "100"), sold("1.5", "110"), bought("0.5", "90"), sold("0.1", "90")], "29"),
        ([bought("1", "100"), sold("1", "110"), bought("2", "10", symbol=ETHER), sold("1", "7", symbol=ETHER)], "7"),
    ],
)
def test_what_came_in_less_what_was_paid_and_what_is_left_at_its_cost(fills: list[Fill], profit: str) -> None:
    assert counted(fills) == D(profit)


def test_what_was_adopted_is_paid_for_at_the_price_of_the_opening() -> None:
    assert counted([], ("0.5", "50000")) == 0
    assert counted([sold("0.2", "120000")], ("0.5", "50000")) == D("4000")
    assert counted([sold("0.5", "120000")], ("0.5", "50000")) == D("10000")


def test_each_symbol_by_itself() -> None:
    recount = Recount()
    for each in (bought("1", "100"), bought("2", "10", symbol=ETHER), sold("1", "7", symbol=ETHER)):
        recount.take(each)
    assert recount.by_symbol == {"BTC/USDT": D(0), ETHER: D(-3)}


amounts = st.decimals(D("0.00001"), D(50), places=5)
fees = st.one_of(
    st.none(),
    st.builds(Fee, st.sampled_from(["BTC", "USDT", "BNB"]), st.decimals(D("-0.00001"), D("0.00001"), places=8)),
    st.builds(Fee, st.just("BNB"), st.decimals(ZERO, D(1), places=6), st.decimals(ZERO, D(9), places=6)),
)


@st.composite
def histories(draw: st.DrawFn) -> list[Fill]:
    """Any fills at all: also those that sell more than there is."""
    return [
        msgspec.structs.replace(
            fill("entry", str(number)),
            side=draw(st.sampled_from(Side)),
            amount=draw(amounts),
            price=draw(st.decimals(D("0.01"), D(200000), places=2)),
            fee=draw(fees),
        )
        for number in range(draw(st.integers(0, 40)))
    ]


@given(histories(), st.one_of(st.none(), st.tuples(amounts, amounts)))
def test_it_is_what_the_books_make_of_any_fills(fills: list[Fill], adopted: tuple[Decimal, Decimal] | None) -> None:
    position, recount = Position(symbol="BTC/USDT"), Recount()
    if adopted is not None:
        position = msgspec.structs.replace(position, amount=adopted[0], cost=adopted[1])
        recount.adopt("BTC/USDT", *adopted)
    with localcontext(EXACT):
        for each in fills:
            position = apply_fill(position, each)
            recount.take(each)
        difference = abs(recount.profit - position.realised)
    assert difference < TICK


def test_it_is_not_counted_by_what_books() -> None:
    names = vars(module)
    assert "apply_fill" not in names
    assert not any(getattr(each, "__module__", "").startswith("tradingbot_agents.ledger") for each in names.values())
