"""What a comparison of the account with the exchange means."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.execution import NOW, SYMBOL, D, order, stop_order
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import OrderType, Side
from tradingbot_agents.exchange.port import ExchangeBalance, ExchangeOrder, ExchangeOrderState
from tradingbot_agents.execution.reconcile import (
    Doubt,
    compared,
    contradiction,
    differences,
    holds_differ,
    in_flight,
    judge,
    margin_now,
    match,
    movement_cause,
    next_try,
    outside_holds,
    same_balances,
    trades_since,
    undoubted_holds,
    unsettled,
)
from tradingbot_agents.ledger.port import Balance, Books

MARGIN = timedelta(seconds=60)
ZERO = D(0)


def balance(asset: str, total: str, *, aside: str = "0", holds: str = "0", reserved: str = "0") -> Balance:
    return Balance(asset=asset, total=D(total), reserved=D(reserved), outside_holds=D(holds), set_aside=D(aside))


def balances(**totals: str) -> dict[str, Balance]:
    return {asset: balance(asset, total) for asset, total in totals.items()}


def shown(**totals: str | tuple[str, str]) -> dict[str, ExchangeBalance]:
    """Free, or free and used."""
    return {
        asset: ExchangeBalance(*map(D, told if isinstance(told, tuple) else (told, "0")))
        for asset, told in totals.items()
    }


def books(*, newest_at: datetime | None = NOW, newest_entry: int = 7, **totals: str) -> Books:
    return Books(
        opened_at=NOW - timedelta(days=1),
        newest_entry=newest_entry,
        newest_at=newest_at,
        balances=balances(**totals),
        live=(),
    )


def open_order(**changes: object) -> ExchangeOrder:
    plain = ExchangeOrder(
        exchange_order_id="7",
        client_order_id="tb-stop",
        symbol=SYMBOL,
        side=Side.SELL,
        type=OrderType.STOP_MARKET,
        state=ExchangeOrderState.OPEN,
        amount=D(1),
        filled=ZERO,
        stop_price=D(95),
        at=NOW,
    )
    return msgspec.structs.replace(plain, **changes)


# --- what keeps it from being compared


@pytest.mark.parametrize("state", [OrderState.SUBMITTING, OrderState.UNRESOLVED, OrderState.CANCELLING])
def test_an_order_that_is_under_way_keeps_the_account_from_being_compared(state: OrderState) -> None:
    assert in_flight([stop_order()]) is None
    assert in_flight([stop_order(), order(state=state)]) == f"order tb-entry of majors is {state.value}"


def test_an_open_order_must_have_all_of_its_fills_in_the_books() -> None:
    assert unsettled(stop_order(), open_order()) is None
    assert unsettled(stop_order(), open_order(filled=D("0.3"))) == (
        "order tb-stop of majors has filled 0.3 on the exchange, 0 in the books"
    )
    assert unsettled(stop_order(), None) == (
        "order tb-stop of majors is open in the books, and the exchange does not show it"
    )


def test_an_order_that_ended_with_all_of_its_fills_booked_is_no_obstacle() -> None:
    assert unsettled(stop_order(), open_order(state=ExchangeOrderState.CANCELLED)) is None


def test_an_ended_order_that_is_open_on_the_exchange_is_one() -> None:
    assert contradiction(stop_order(state=OrderState.CANCELLED)) == (
        "order tb-stop of majors is open on the exchange, and cancelled in the books"
    )


def test_our_orders_are_known_by_either_id() -> None:
    ours, nameless, others = open_order(), open_order(client_order_id=None), open_order(exchange_order_id="9")
    other = msgspec.structs.replace(others, client_order_id="web_1")
    assert match([stop_order()], [other, ours]) == ([(stop_order(), ours)], [other])
    assert match([stop_order()], [nameless]) == ([(stop_order(), nameless)], [])
    assert match([stop_order()], [other]) == ([(stop_order(), None)], [other])
    # Exchanges such as Binance number the orders of each symbol by themselves.
    elsewhere = msgspec.structs.replace(nameless, symbol="SOL/USDT")
    assert match([stop_order()], [elsewhere]) == ([(stop_order(), None)], [elsewhere])
    unsent = stop_order(exchange_order_id=None, client_order_id="tb-other")
    assert match([unsent], [nameless]) == ([(unsent, None)], [nameless])


def test_balances_are_the_same_whether_nothing_is_listed_or_not() -> None:
    assert same_balances(shown(USDT="5", BTC="0"), shown(USDT="5.00"))
    assert not same_balances(shown(USDT="5"), shown(USDT=("4", "1")))
    assert not same_balances(shown(USDT="5", BTC="1"), shown(USDT="5"))


# --- differences


def test_totals_are_compared_and_nothing_else() -> None:
    ours = {"USDT": balance("USDT", "100", holds="7", reserved="50"), "BTC": balance("BTC", "1")}
    assert differences(ours, shown(USDT=("60", "40"), BTC="1")) == {}
    assert differences(ours, shown(USDT=("60", "45"), BNB="3", XRP="0")) == {
        "USDT": D(5),
        "BTC": D(-1),
        "BNB": D(3),
    }
    assert compared(ours, shown(BNB="3", XRP="0")) == ["BNB", "BTC", "USDT"]


def test_differences_are_exact_beyond_pythons_default_precision() -> None:
    ours = {"SHIB": balance("SHIB", "123456789012345678901234.000000001")}
    assert differences(ours, shown(SHIB="123456789012345678901234.000000002")) == {"SHIB": D("0.000000001")}


def test_a_difference_is_booked_when_it_is_the_same_after_the_margin() -> None:
    first = judge({"USDT": D(5)}, {}, NOW, MARGIN)
    assert first == ({}, {"USDT": Doubt(D(5), NOW)})
    soon = NOW + timedelta(seconds=59)
    assert judge({"USDT": D(5)}, first[1], soon, MARGIN) == first
    assert judge({"USDT": D(5)}, first[1], NOW + MARGIN, MARGIN) == ({"USDT": D(5)}, {})


def test_a_difference_that_changes_begins_anew_and_one_that_goes_is_forgotten() -> None:
    doubts = {"USDT": Doubt(D(5), NOW), "BTC": Doubt(D(1), NOW)}
    later = NOW + MARGIN
    assert judge({"USDT": D(6)}, doubts, later, MARGIN) == ({}, {"USDT": Doubt(D(6), later)})


def test_at_a_start_one_look_is_enough_unless_something_was_booked_a_moment_ago() -> None:
    calm = books(newest_at=NOW - MARGIN)
    assert margin_now(calm, NOW, MARGIN, starting=True) == timedelta(0)
    assert margin_now(books(newest_at=None), NOW, MARGIN, starting=True) == timedelta(0)
    assert margin_now(calm, NOW, MARGIN, starting=False) == MARGIN
    assert margin_now(books(newest_at=NOW - timedelta(seconds=59)), NOW, MARGIN, starting=True) == MARGIN
    assert judge({"USDT": D(5)}, {}, NOW, timedelta(0)) == ({"USDT": D(5)}, {})


amounts = st.decimals(min_value=-5, max_value=5, places=1, allow_nan=False)


@given(
    looks=st.lists(
        st.tuples(st.integers(1, 90), st.dictionaries(st.sampled_from(("USDT", "BTC")), amounts.filter(bool))),
        max_size=12,
    )
)
def test_whatever_is_booked_was_there_for_the_whole_margin(
    looks: list[tuple[int, dict[str, Decimal]]],
) -> None:
    now, doubts = NOW, {}
    since: dict[str, tuple[Decimal, datetime]] = {}
    for seconds, found in looks:
        now += timedelta(seconds=seconds)
        for asset in ("USDT", "BTC"):
            if asset not in found:
                since.pop(asset, None)
            elif since.get(asset, (None, now))[0] != found[asset]:
                since[asset] = (found[asset], now)
        movements, doubts = judge(found, doubts, now, MARGIN)
        assert movements == {asset: amount for asset, (amount, at) in since.items() if now - at >= MARGIN}
        assert movements.keys() | doubts.keys() == found.keys()
        for asset in movements:
            del since[asset]


def test_movements_are_named_by_who_found_them_the_books_and_the_amounts() -> None:
    moved = {"USDT": D(5), "BTC": D("-0.1")}
    cause = movement_cause("majors", books(), moved)
    assert cause == movement_cause("majors", books(), dict(reversed(moved.items())))
    others = (
        movement_cause("minors", books(), moved),
        movement_cause("majors", books(newest_entry=8), moved),
        movement_cause("majors", books(), {"USDT": D(5)}),
        movement_cause("majors", books(), {**moved, "BTC": D("0.1")}),
    )
    assert cause not in others
    assert len(set(others)) == 4


# --- what others lock


def test_others_lock_what_is_locked_and_not_by_us() -> None:
    ours = [stop_order(filled=D("0.25"))]
    there = shown(BTC=("2", "1"), USDT=("10", "90"), BNB=("1", "0"))
    assert outside_holds(ours, there) == {"BTC": D("0.25"), "USDT": D(90)}
    assert outside_holds([], there) == {"BTC": D(1), "USDT": D(90)}


def test_others_never_lock_less_than_nothing() -> None:
    """Not every exchange locks for a stop."""
    assert outside_holds([stop_order()], shown(BTC=("2", "0"))) == {}


def test_our_resting_purchase_locks_its_limit_price() -> None:
    resting = order(state=OrderState.OPEN, filled=D("0.5"))
    assert outside_holds([resting], shown(USDT=("10", "61"))) == {"USDT": D("10.5")}


def test_holds_are_written_only_when_they_differ() -> None:
    ours = {"USDT": balance("USDT", "100", holds="5"), "BTC": balance("BTC", "1", aside="1", holds="1")}
    assert not holds_differ(ours, {"USDT": D(5)})
    assert not holds_differ(ours, {"USDT": D(5), "BTC": D("0.5")}), "what was set aside is held anyway"
    assert holds_differ(ours, {"USDT": D(6)})
    assert holds_differ(ours, {})
    assert holds_differ(ours, {"USDT": D(5), "BTC": D(2)})
    assert holds_differ(ours, {"USDT": D(5), "XRP": D(2)})


# --- when


def test_trades_are_read_from_what_was_booked_last() -> None:
    window = timedelta(hours=1)
    assert trades_since(books(), None, window, NOW + timedelta(days=3)) == NOW - window
    assert trades_since(books(), NOW + timedelta(hours=5), window, NOW) == NOW + timedelta(hours=4)
    assert trades_since(books(newest_at=None), None, window, NOW) == NOW - timedelta(days=1) - window


@given(attempts=st.integers(1, 1000))
def test_tries_come_ever_later_up_to_a_limit(attempts: int) -> None:
    spacing = timedelta(seconds=2)
    delay = next_try(attempts, spacing, MARGIN)
    assert spacing <= delay <= MARGIN
    assert next_try(attempts + 1, spacing, MARGIN) >= delay


def test_the_first_tries() -> None:
    delays = [next_try(attempt, timedelta(seconds=2), MARGIN).total_seconds() for attempt in range(1, 8)]
    assert delays == [2, 4, 8, 16, 32, 60, 60]


def test_what_is_held_of_an_asset_in_doubt_stays_until_its_total_agrees() -> None:
    """A balance that lags shows what an order of ours locked: held as somebody's, the ended order would look like an
    overcommitment."""

    def balance(asset: str, held: str) -> Balance:
        return Balance(asset=asset, total=D(100), reserved=D(0), outside_holds=D(held))

    books = {asset: balance(asset, held) for asset, held in (("USDT", "7"), ("BTC", "0"), ("ETH", "3"))}
    told = {"USDT": D(50), "BTC": D(1), "BNB": D(2)}
    assert undoubted_holds(told, books, {"USDT", "BTC", "XRP"}) == {"USDT": D(7), "BNB": D(2)}
    assert undoubted_holds(told, books, ()) == told
