"""What comes from outside: found by a comparison, booked once, and taken back by a fill that explains it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from support.ledger import NOW, connect, entry, exit_leg, fill, held_position, opened, sale
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger import pages
from tradingbot_agents.ledger.port import BookedSince, Ledger, Outcome, Reversal, Role
from tradingbot_agents.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.postgres

D = Decimal
LATER = NOW + timedelta(minutes=30)
SOON = NOW + timedelta(seconds=1)
BOUGHT = {"BTC": D("0.00055"), "USDT": D("-66.8561575")}
"""What the purchase of the example does to the account."""


async def outside(ledger: Ledger) -> list[tuple[str, str, Decimal, str]]:
    return [
        (entry.kind, entry.asset, entry.amount, entry.cause)
        for entry in reversed(await ledger.entries())
        if entry.kind in ("outside", "reversal")
    ]


async def totals(ledger: Ledger) -> dict[str, Decimal]:
    return {asset: balance.total for asset, balance in (await ledger.balances()).items()}


async def assert_sound(ledger: PostgresLedger) -> None:
    violated = {rule.name: rule.violations for rule in await ledger.invariants() if rule.violations}
    assert not violated


async def unknown_purchase(dsn: str) -> PostgresLedger:
    """The example's entry was not found, and its fills were booked as a movement."""
    ledger, risk, execution = await opened(dsn)
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    await ledger.lose_contact(execution, "entry-btc", "timeout", NOW)
    await ledger.not_found(execution, "entry-btc", NOW)
    assert await ledger.settle_outside(await ledger.account_books(), BOUGHT, {}, "compared", LATER)
    return ledger


# --- the books of an account


async def test_the_books_show_all_bots_of_the_account(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    other = await connect(ledger_dsn, "minors")
    assert (await other.account_books()).opened_at == NOW, "also before it has a row of its own"
    other_risk = await other.raise_epoch(Role.RISK, NOW)
    await ledger.reserve(risk, entry("btc", budget="30"))
    await other.reserve(other_risk, entry("eth", "ETH/USDT", budget="30"))
    await ledger.claim(execution, "entry-btc", NOW)
    books = await other.account_books()
    assert [(order.client_order_id, order.bot) for order in books.live] == [("entry-btc", "majors")]
    assert books.balances["USDT"].reserved == 60
    assert books == await ledger.account_books()
    assert await other.symbols_traded(NOW) == ["BTC/USDT"], "an approved order was never sent"
    await ledger.close()
    await other.close()


async def test_the_mark_tells_a_change_that_may_move_a_balance(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    marks = [(await ledger.account_books()).mark]
    await ledger.reserve(risk, entry("btc"))
    assert (await ledger.account_books()).mark == marks[0], "what is reserved is no total"
    for change in (
        ledger.claim(execution, "entry-btc", NOW),
        ledger.acknowledge(execution, "entry-btc", "x-1"),
        ledger.book("entry-btc", [fill("entry-btc", "t1", "0.0002")], None, NOW),
        ledger.book("entry-btc", [], OrderState.CANCELLED, NOW),
        ledger.book_outside_movement("USDT", D(1), "deposit", NOW),
    ):
        await change
        marks.append((await ledger.account_books()).mark)
    assert len(set(marks)) == len(marks)
    await ledger.close()


async def test_symbols_traded_are_those_of_orders_that_had_not_ended(ledger_dsn: str) -> None:
    ledger, _, execution = await held_position(ledger_dsn)
    assert await ledger.symbols_traded(NOW) == ["BTC/USDT"]
    assert await ledger.symbols_traded(SOON) == []
    await ledger.submit_leg(execution, exit_leg("stop", leg=Leg.STOP))
    assert await ledger.symbols_traded(LATER) == ["BTC/USDT"]
    await ledger.close()


async def test_unbooked_trades_are_ours_and_in_no_book(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    await ledger.acknowledge(execution, "entry-btc", "x-1")
    await ledger.book("entry-btc", [fill("entry-btc", "t1", "0.0001")], OrderState.CANCELLED, NOW)
    other = await connect(ledger_dsn, "minors")
    told = {"t1": "x-1", "t2": "x-1", "t3": "x-9", "t4": "x-1"}
    found = await other.unbooked_trades("BTC/USDT", told)
    assert {name: order.client_order_id for name, order in found.items()} == {"t2": "entry-btc", "t4": "entry-btc"}
    assert found["t2"].bot == "majors"
    assert await ledger.unbooked_trades("ETH/USDT", told) == {}, "ids of trades and orders are a symbol's own"
    assert await ledger.unbooked_trades("BTC/USDT", {}) == {}
    await ledger.close()
    await other.close()


# --- one of several books


async def test_what_was_compared_is_booked_in_one_transaction(
    ledger_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    books = await ledger.account_books()

    async def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("the process is gone")

    for statement in ("move", "set_holds"):
        with monkeypatch.context() as patch:
            patch.setattr(pages, statement, crash)
            with pytest.raises(RuntimeError):
                await ledger.settle_outside(books, {"USDT": D(5)}, {"BNB": D(1)}, "compared", NOW)
        assert (await ledger.account_books()) == books
    assert await ledger.settle_outside(books, {"USDT": D(5), "BNB": D(2)}, {"BNB": D(1)}, "compared", NOW)
    assert await totals(ledger) == {"USDT": D("89.54"), "BNB": D(2)}
    assert (await ledger.balances())["BNB"].outside_holds == 1
    await assert_sound(ledger)
    await ledger.close()


async def test_of_two_that_compared_the_same_one_books(ledger_dsn: str) -> None:
    first, _, _ = await opened(ledger_dsn)
    ledgers = [first, *[await connect(ledger_dsn, f"bot-{number}") for number in range(3)]]
    books = [await ledger.account_books() for ledger in ledgers]
    movements = [{"USDT": D(5)}, {"USDT": D(5), "BTC": D(1)}, {"USDT": D(5), "BNB": D(1)}, {"BTC": D(1)}]
    done = await asyncio.gather(
        *(
            ledger.settle_outside(seen, moved, {}, f"compared-{number}", NOW)
            for number, (ledger, seen, moved) in enumerate(zip(ledgers, books, movements, strict=True))
        )
    )
    assert sorted(done) == [False, False, False, True]
    assert {cause for _, _, _, cause in await outside(first)} == {f"compared-{done.index(True)}"}
    await assert_sound(first)
    for ledger in ledgers:
        await ledger.close()


async def test_what_traded_meanwhile_voids_a_comparison(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc"))
    books = await ledger.account_books()
    await ledger.claim(execution, "entry-btc", NOW)
    assert not await ledger.settle_outside(books, {"USDT": D(5)}, {"USDT": D(1)}, "compared", NOW)
    books = await ledger.account_books()
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)
    assert not await ledger.settle_outside(books, {}, {"USDT": D(1)}, "compared", NOW)
    assert await outside(ledger) == []
    assert (await ledger.balances())["USDT"].outside_holds == 0
    await ledger.close()


async def test_a_repeated_call_is_answered_with_what_was_done(ledger_dsn: str) -> None:
    """As after a commit whose answer got lost: the books are other than they were by now."""
    ledger, _, _ = await opened(ledger_dsn)
    books = await ledger.account_books()
    for _ in range(2):
        assert await ledger.settle_outside(books, {"USDT": D(5)}, {}, "compared", NOW)
    assert await outside(ledger) == [("outside", "USDT", D(5), "compared")]
    assert not await ledger.settle_outside(books, {"USDT": D(5)}, {}, "compared anew", NOW)
    await ledger.close()


# --- what a fill takes back


async def test_a_late_fill_takes_back_what_was_booked_for_it(ledger_dsn: str) -> None:
    ledger = await unknown_purchase(ledger_dsn)
    before = await totals(ledger)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, LATER)
    assert booking.reversals == (
        Reversal(asset="BTC", amount=D("-0.00055"), cause="compared"),
        Reversal(asset="USDT", amount=D("66.8561575"), cause="compared"),
    )
    assert booking.doubtful == ()
    assert await totals(ledger) == before
    assert [kind for kind, *_ in await outside(ledger)] == ["outside", "outside", "reversal", "reversal"]
    assert (await ledger.holdings()).outside == {}
    assert (await ledger.positions())["BTC/USDT"].amount == D("0.00055")
    await assert_sound(ledger)
    again = await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, LATER)
    assert again.reversals == ()
    assert len(await outside(ledger)) == 4
    await ledger.close()


async def test_a_reservation_that_rests_on_what_was_before_is_refused(ledger_dsn: str) -> None:
    """Also when the fill and the movement that it takes back leave every total as it was."""
    ledger = await unknown_purchase(ledger_dsn)
    risk = await ledger.raise_epoch(Role.RISK, LATER)
    known = (await ledger.holdings()).bookings
    other = entry("eth", "ETH/USDT", budget="1")
    [decision] = await ledger.reserve_many(risk, [other], as_of=known)
    assert decision.outcome is Outcome.APPROVED
    assert (await ledger.holdings()).bookings == known
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, LATER)
    with pytest.raises(BookedSince):
        await ledger.reserve_many(risk, [entry("sol", "SOL/USDT", budget="1")], as_of=known)
    assert await ledger.decision("intent-sol", "entry-sol") is None
    known = (await ledger.holdings()).bookings
    assert (await ledger.reserve_many(risk, [other], as_of=known))[0].new is False
    await assert_sound(ledger)
    await ledger.close()


@pytest.mark.parametrize("statement", ["write_fills", "write_entries", "save", "post"])
async def test_the_fill_and_the_reversal_are_one_transaction(
    ledger_dsn: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await unknown_purchase(ledger_dsn)
    books, entries = await ledger.account_books(), await ledger.entries()

    async def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("the process is gone")

    with monkeypatch.context() as patch:
        patch.setattr(pages, statement, crash)
        with pytest.raises(RuntimeError):
            await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, LATER)
    assert (await ledger.account_books(), await ledger.entries()) == (books, entries)
    assert await ledger.positions() == {}
    await ledger.close()


async def test_several_fills_are_one_movement(ledger_dsn: str) -> None:
    ledger = await unknown_purchase(ledger_dsn)
    parts = [fill("entry-btc", "t1", "0.0002"), fill("entry-btc", "t2", "0.00035")]
    assert len((await ledger.book("entry-btc", parts, None, LATER)).reversals) == 2
    assert (await ledger.holdings()).outside == {}
    await ledger.close()


async def test_a_movement_of_other_amounts_stays_and_is_told(ledger_dsn: str) -> None:
    ledger = await unknown_purchase(ledger_dsn)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1", "0.0002")], None, LATER)
    assert (booking.reversals, booking.doubtful) == ((), ("compared",))
    assert [kind for kind, *_ in await outside(ledger)] == ["outside", "outside"]
    await assert_sound(ledger)
    await ledger.close()


async def test_of_several_movements_the_exact_one_is_taken_back(ledger_dsn: str) -> None:
    ledger = await unknown_purchase(ledger_dsn)
    for cause, moved in (
        ("deposit", {"USDT": D(500)}),
        ("by hand", {"BTC": D("0.00055"), "USDT": D("-66.86")}),
        ("the same again", BOUGHT),
    ):
        assert await ledger.settle_outside(await ledger.account_books(), moved, {}, cause, LATER)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, LATER)
    assert {back.cause for back in booking.reversals} == {"compared"}
    assert booking.doubtful == ()
    await ledger.close()


async def test_a_movement_from_before_the_fill_is_none_of_its(ledger_dsn: str) -> None:
    """Somebody bought the same by hand, and we later."""
    ledger, risk, execution = await opened(ledger_dsn, "200")
    assert await ledger.settle_outside(await ledger.account_books(), BOUGHT, {}, "by hand", NOW)
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1", at=SOON)], OrderState.FILLED, SOON)
    assert (booking.reversals, booking.doubtful) == ((), ())
    await ledger.close()


async def test_a_sale_with_a_fee_in_a_third_asset_is_taken_back_with_it(ledger_dsn: str) -> None:
    ledger, _, execution = await held_position(ledger_dsn)
    await ledger.submit_leg(execution, exit_leg("exit"))
    await ledger.lose_contact(execution, "exit", "timeout", NOW)
    await ledger.not_found(execution, "exit", NOW)
    sold = {"BTC": D("-0.00055"), "USDT": D("71.5"), "BNB": D("-0.0001"), "XRP": D(3)}
    assert await ledger.settle_outside(await ledger.account_books(), sold, {}, "compared", LATER)
    booking = await ledger.book("exit", [sale("exit", "t9", fee=("BNB", "0.0001"))], None, LATER)
    assert {back.asset: back.amount for back in booking.reversals} == {
        "BTC": D("0.00055"),
        "USDT": D("-71.5"),
        "BNB": D("0.0001"),
    }
    assert (await totals(ledger))["XRP"] == 3, "what else came is no part of it"
    await assert_sound(ledger)
    await ledger.close()


async def test_a_movement_is_taken_back_once(ledger_dsn: str) -> None:
    ledger = await unknown_purchase(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], None, LATER)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t2")], None, LATER)
    assert (booking.reversals, booking.doubtful) == ((), ())
    assert len(await outside(ledger)) == 4
    await assert_sound(ledger)
    await ledger.close()
