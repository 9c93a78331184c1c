"""Fills, fees, positions and round trips: what happened on the exchange is booked, once and to the last digit."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest

from support.ledger import NOW, connect, entry, exit_leg, exit_request, fill, opened, sale
from tradingbot_agents.domain import ids
from tradingbot_agents.domain.messages import ExecutionReport
from tradingbot_agents.domain.orders import IllegalTransition, OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger import pages
from tradingbot_agents.ledger.port import Adoption, Epoch, LedgerError, Performance, Role
from tradingbot_agents.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.postgres

D = Decimal
S = OrderState
LATER = NOW + timedelta(minutes=30)


async def assert_sound(ledger: PostgresLedger) -> None:
    violated = {rule.name: rule.violations for rule in await ledger.invariants() if rule.violations}
    assert not violated


async def sent(dsn: str, usdt: str = "84.54") -> tuple[PostgresLedger, Epoch, Epoch]:
    """An entry of 0.00055 BTC at 121,556.65 that the exchange has."""
    ledger, risk, execution = await opened(dsn, usdt)
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    await ledger.acknowledge(execution, "entry-btc", "x-1")
    return ledger, risk, execution


async def test_a_round_trip_of_the_example(ledger_dsn: str) -> None:
    ledger, risk, execution = await sent(ledger_dsn)
    bought = fill("entry-btc", "t1", fee=("BTC", "0.00000055"))
    booking = await ledger.book("entry-btc", [bought], S.FILLED, NOW)
    assert booking.new_fills == (bought,)
    assert (booking.order.state, booking.order.filled, booking.order.cost) == (
        S.FILLED,
        D("0.00055"),
        D("66.8561575"),
    )
    position = booking.position
    assert (position.state, position.amount, position.cost) == (PositionState.OPEN, D("0.00054945"), D("66.8561575"))
    assert (position.stop_price, position.target_price) == (D("115478.82"), D("133712.32"))
    assert (position.high_water, position.opened_at, position.entry_order) == (D("121556.65"), NOW, "entry-btc")
    assert position.trade_id == ids.trade_id("majors", "BTC/USDT", "entry-btc")
    balances = await ledger.balances()
    # The rest of the budget is available again.
    assert (balances["USDT"].total, balances["USDT"].reserved) == (D("17.6838425"), 0)
    assert (balances["BTC"].total, balances["BTC"].reserved) == (D("0.00054945"), 0)

    await ledger.request_exit(risk, exit_request("intent-sell"))
    await ledger.submit_leg(execution, exit_leg("exit", "0.00054945"))
    assert (await ledger.balances())["BTC"].available == 0
    sold = sale("exit", "t2", "0.00054945", "130000", fee=("USDT", "0.07"), at=LATER)
    booking = await ledger.book("exit", [sold], S.FILLED, LATER)
    trade = booking.closed_trade
    assert trade is not None
    assert (trade.opened_at, trade.closed_at, trade.leg) == (NOW, LATER, Leg.EXIT)
    assert (trade.bought, trade.cost) == (D("0.00054945"), D("66.8561575"))
    assert trade.profit == D("71.4285") - D("0.07") - D("66.8561575")
    assert trade.fees == D("0.00000055") * D("121556.65") + D("0.07")
    assert (booking.position.state, booking.position.amount, booking.position.cost) == (PositionState.FLAT, 0, 0)
    assert (booking.position.trade_id, booking.position.stop_price, booking.position.closing_reason) == (None,) * 3
    assert await ledger.trades() == [trade]
    assert await ledger.trades(LATER) == [trade]
    assert await ledger.trades(LATER + timedelta(seconds=1)) == []
    assert await ledger.performance() == {name: Performance(name, 1, 0) for name in ("emaCross", "rsi")}
    assert [one.exchange_trade_id for one in await ledger.fills()] == ["t2", "t1"]
    assert (await ledger.balances())["USDT"].total == D("17.6838425") + D("71.4285") - D("0.07")
    last = (await ledger.unpublished(Role.EXECUTION))[-1].message
    assert isinstance(last, ExecutionReport)
    assert (last.closed_trade, last.profit, last.average_price) == (trade.trade_id, trade.profit, D(130000))
    await assert_sound(ledger)
    await ledger.close()


async def test_a_loss_counts_against_its_indicators(ledger_dsn: str) -> None:
    ledger, _, execution = await sent(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    await ledger.submit_leg(execution, exit_leg("stop", leg=Leg.STOP))
    booking = await ledger.book("stop", [sale("stop", "t2", price="115478.82")], S.FILLED, LATER)
    assert booking.closed_trade is not None
    assert booking.closed_trade.leg is Leg.STOP
    assert booking.closed_trade.profit < 0
    assert (await ledger.performance())["rsi"] == Performance("rsi", 0, 1)
    await ledger.close()


async def test_partial_fills_draw_on_the_reservation(ledger_dsn: str) -> None:
    ledger, _, _ = await sent(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1", "0.0002", "120000", fee=("USDT", "0.024"))], None, NOW)
    [reservation] = await ledger.reservations()
    assert (reservation.drawn, reservation.held) == (D("24.024"), D("43.606"))
    usdt = (await ledger.balances())["USDT"]
    assert (usdt.total, usdt.reserved, usdt.available) == (D("60.516"), D("43.606"), D("16.91"))
    # The same fill again, with another: it is counted once.
    again = [fill("entry-btc", "t1", "0.0002", "120000"), fill("entry-btc", "t2", "0.0001", "120000")]
    booking = await ledger.book("entry-btc", [*again, again[1]], S.CANCELLED, LATER, "expired")
    assert [one.exchange_trade_id for one in booking.new_fills] == ["t2"]
    assert (booking.order.state, booking.order.reason, booking.order.filled) == (S.CANCELLED, "expired", D("0.0003"))
    assert await ledger.reservations() == []
    assert (await ledger.balances())["USDT"].reserved == 0
    await assert_sound(ledger)
    await ledger.close()


async def test_a_late_fill_of_an_ended_entry(ledger_dsn: str) -> None:
    ledger, _, _ = await sent(ledger_dsn)
    await ledger.book("entry-btc", [], S.CANCELLED, NOW, "expired")
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, LATER)
    assert (booking.order.state, booking.order.finished_at) == (S.CANCELLED, NOW)
    assert booking.position.state is PositionState.OPEN
    usdt = (await ledger.balances())["USDT"]
    assert (usdt.total, usdt.reserved) == (D("17.6838425"), 0)
    reports = [row.message for row in await ledger.unpublished(Role.EXECUTION)]
    assert [report.filled for report in reports if isinstance(report, ExecutionReport)] == [0, D("0.00055")]
    await assert_sound(ledger)
    await ledger.close()


async def test_a_late_fill_after_the_round_trip_opens_another(ledger_dsn: str) -> None:
    ledger, _, execution = await sent(ledger_dsn)
    for number in range(3):
        booking = await ledger.book("entry-btc", [fill("entry-btc", f"t{number}", "0.0001")], S.CANCELLED, NOW)
        assert booking.position.state is PositionState.OPEN
        await ledger.submit_leg(execution, exit_leg(f"exit-{number}", "0.0001"))
        await ledger.book(f"exit-{number}", [sale(f"exit-{number}", f"s{number}", "0.0001")], S.FILLED, NOW)
    trades = await ledger.trades()
    assert len({trade.trade_id for trade in trades}) == 3
    assert trades[0].trade_id == ids.trade_id("majors", "BTC/USDT", "entry-btc")
    await assert_sound(ledger)
    await ledger.close()


async def test_a_fill_beyond_the_budget_is_booked_and_told(ledger_dsn: str) -> None:
    ledger, risk, _ = await sent(ledger_dsn)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1", price="160000")], S.FILLED, NOW)
    [usdt] = booking.overdrawn
    assert (usdt.asset, usdt.total) == ("USDT", D("84.54") - 88)
    # Below zero nothing more is promised.
    refused = await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="0.01"))
    assert refused.detail == "0.01 USDT are needed, -3.46 are available"
    await assert_sound(ledger)
    # A deposit makes good for it, and only for it.
    await ledger.book_outside_movement("USDT", D(5), "deposit", NOW)
    decision = await ledger.reserve(risk, entry("sol", "SOL/USDT", budget="1.55"))
    assert decision.available_after == D("1.54")
    assert (await ledger.reserve(risk, entry("ada", "ADA/USDT", budget="1.54"))).available_after == 0
    await assert_sound(ledger)
    await ledger.close()


async def test_a_fee_in_a_third_asset(ledger_dsn: str) -> None:
    ledger, _, _ = await sent(ledger_dsn)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1", fee=("BNB", "0.0001"))], S.FILLED, NOW)
    assert [(balance.asset, balance.total) for balance in booking.overdrawn] == [("BNB", D("-0.0001"))]
    assert booking.position.fees == 0
    assert (await ledger.fills())[0].fee == fill("entry-btc", "t1", fee=("BNB", "0.0001")).fee
    await assert_sound(ledger)
    await ledger.close()


async def test_an_oversold_position_is_flat_and_below_zero(ledger_dsn: str) -> None:
    ledger, risk, execution = await sent(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    await ledger.submit_leg(execution, exit_leg("exit"))
    booking = await ledger.book("exit", [sale("exit", "t2", "0.0006")], S.FILLED, NOW)
    assert (booking.position.state, booking.position.amount) == (PositionState.FLAT, D("-0.00005"))
    assert [balance.asset for balance in booking.overdrawn] == ["BTC"]
    assert booking.closed_trade is not None
    # What is bought next covers it first.
    await ledger.reserve(risk, entry("again", budget="10"))
    await ledger.claim(execution, "entry-again", NOW)
    booking = await ledger.book("entry-again", [fill("entry-again", "t3", "0.00005", "100")], None, NOW)
    assert (booking.position.state, booking.position.amount) == (PositionState.FLAT, 0)
    booking = await ledger.book("entry-again", [fill("entry-again", "t4", "0.00002", "100")], S.FILLED, NOW)
    assert (booking.position.state, booking.position.amount) == (PositionState.OPEN, D("0.00002"))
    await assert_sound(ledger)
    await ledger.close()


async def test_an_exit_with_its_fee_in_base(ledger_dsn: str) -> None:
    ledger, _, execution = await sent(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    await ledger.submit_leg(execution, exit_leg("exit", "0.0005"))
    booking = await ledger.book("exit", [sale("exit", "t2", "0.0003", fee=("BTC", "0.0000003"))], None, NOW)
    assert booking.position.amount == D("0.0002497")
    assert booking.position.exit_hold == D("0.0002")
    assert (await ledger.balances())["BTC"].reserved == D("0.0002")
    await assert_sound(ledger)
    await ledger.close()


async def test_dust_is_a_state_and_ends_the_round_trip(ledger_dsn: str) -> None:
    ledger, risk, execution = await sent(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    await ledger.submit_leg(execution, exit_leg("exit", "0.00054"))
    booking = await ledger.book("exit", [sale("exit", "t2", "0.00054")], S.FILLED, NOW)
    # It never becomes dust by itself: what can not be sold, only execution knows.
    assert (booking.position.state, booking.closed_trade) == (PositionState.OPEN, None)
    trade = await ledger.mark_dust(execution, "BTC/USDT", Leg.EXIT, LATER)
    assert trade is not None
    assert (trade.leg, trade.closed_at) == (Leg.EXIT, LATER)
    assert trade.profit > 0
    assert await ledger.mark_dust(execution, "BTC/USDT", Leg.EXIT, LATER) == trade
    assert await ledger.trades() == [trade]
    assert (await ledger.performance())["rsi"] == Performance("rsi", 1, 0)
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.state, position.amount, position.exit_hold) == (PositionState.DUST, D("0.00001"), 0)
    reports = [row.message for row in await ledger.unpublished(Role.EXECUTION)]
    assert isinstance(reports[-1], ExecutionReport)
    assert (reports[-1].closed_trade, reports[-1].profit) == (trade.trade_id, trade.profit)
    assert len({report.id for report in reports}) == len(reports)
    # A later entry takes it along.
    await ledger.reserve(risk, entry("again", budget="20"))
    await ledger.claim(execution, "entry-again", NOW)
    await ledger.book("entry-again", [fill("entry-again", "t3", "0.0001", "100000")], S.FILLED, LATER)
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.state, position.amount) == (PositionState.OPEN, D("0.00011"))
    assert position.trade_realised == 0
    await ledger.submit_leg(execution, exit_leg("exit-2", "0.00011"))
    booking = await ledger.book("exit-2", [sale("exit-2", "t4", "0.00011")], S.FILLED, LATER)
    assert booking.position.state is PositionState.FLAT
    assert booking.closed_trade is not None
    assert booking.closed_trade.bought == D("0.0001")
    await assert_sound(ledger)
    await ledger.close()


async def test_no_dust_without_a_position(ledger_dsn: str) -> None:
    ledger, _, execution = await sent(ledger_dsn)
    assert await ledger.mark_dust(execution, "BTC/USDT", Leg.EXIT, NOW) is None
    await ledger.close()


async def test_holdings_at_the_start_are_adopted_or_set_aside(ledger_dsn: str) -> None:
    ledger = await connect(ledger_dsn)
    opening = {"USDT": D(100), "BTC": D("0.5"), "DOGE": D(7)}
    too_much = [
        Adoption(symbol="BTC/USDT", amount=D("0.4"), price=D(100000), stop_price=D(95000), target_price=D(120000)),
        Adoption(symbol="BTC/EUR", amount=D("0.2"), price=D(90000)),
    ]
    with pytest.raises(LedgerError, match=r"0\.6 BTC is to be adopted, the account has 0\.5: adopt less"):
        await ledger.open_account(opening, too_much, NOW, quote="USDT")
    assert await ledger.open_account(opening, too_much[:1], NOW, quote="USDT")
    execution = await ledger.raise_epoch(Role.EXECUTION, NOW)
    balances = await ledger.balances()
    assert {asset: (balance.total, balance.available) for asset, balance in balances.items()} == {
        "BTC": (D("0.5"), D("0.4")),
        "DOGE": (7, 0),
        "USDT": (100, 100),
    }
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.state, position.amount, position.average_cost) == (PositionState.OPEN, D("0.4"), D(100000))
    assert (position.entry_order, position.opened_at) == (None, NOW)
    assert (position.stop_price, position.target_price) == (95000, 120000)
    await assert_sound(ledger)
    await ledger.submit_leg(execution, exit_leg("exit", "0.4"))
    booking = await ledger.book("exit", [sale("exit", "t1", "0.4", "110000")], S.FILLED, LATER)
    assert booking.closed_trade is not None
    assert (booking.closed_trade.profit, booking.closed_trade.indicators) == (4000, ())
    assert (await ledger.balances())["BTC"].available == 0
    await assert_sound(ledger)
    await ledger.close()


async def test_adopted_dust_without_any_order(ledger_dsn: str) -> None:
    ledger = await connect(ledger_dsn)
    adoption = Adoption(symbol="BTC/USDT", amount=D("0.000001"), price=D(100000))
    await ledger.open_account({"BTC": D("0.000001")}, [adoption], NOW, quote="USDT")
    execution = await ledger.raise_epoch(Role.EXECUTION, NOW)
    trade = await ledger.mark_dust(execution, "BTC/USDT", Leg.EXIT, NOW)
    assert trade is not None
    assert trade.profit == 0
    assert await ledger.unpublished(Role.EXECUTION) == []
    await assert_sound(ledger)
    await ledger.close()


async def test_the_trailing_stop_of_a_position(ledger_dsn: str) -> None:
    ledger, _, execution = await sent(ledger_dsn)
    await ledger.watch(execution, "BTC/USDT", D(125000), D(122500))
    assert await ledger.positions() == {}
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    await ledger.watch(execution, "BTC/USDT", D(125000), D(122500))
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.high_water, position.stop_price) == (D(125000), D(122500))
    await ledger.watch(execution, "BTC/USDT", D(125000), None)
    assert (await ledger.positions())["BTC/USDT"].stop_price is None
    await ledger.close()


@pytest.mark.parametrize("statement", ["write_fills", "write_entries", "save", "write_trade", "post"])
async def test_a_booking_that_breaks_off_anywhere_leaves_nothing(
    ledger_dsn: str, statement: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger, _, execution = await sent(ledger_dsn)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    await ledger.submit_leg(execution, exit_leg("exit"))

    async def state() -> tuple[Any, ...]:
        return await ledger.balances(), await ledger.positions(), await ledger.orders(), await ledger.entries()

    before = await state()

    async def crash(*_: Any, **__: Any) -> None:
        raise RuntimeError("the process is gone")

    with monkeypatch.context() as patch:
        patch.setattr(pages, statement, crash)
        with pytest.raises(RuntimeError):
            await ledger.book("exit", [sale("exit", "t2")], S.FILLED, LATER)
    assert before == (
        await ledger.balances(),
        await ledger.positions(),
        await ledger.orders(),
        await ledger.entries(),
    )
    assert await ledger.trades() == []
    await assert_sound(ledger)
    booking = await ledger.book("exit", [sale("exit", "t2")], S.FILLED, LATER)
    assert booking.closed_trade is not None
    await assert_sound(ledger)
    await ledger.close()


async def test_the_answer_of_a_commit_gets_lost(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection dies after the commit: the call is repeated, and finds it done."""
    ledger, _, execution = await sent(ledger_dsn)
    database = ledger._database
    whole = database._on_writer
    deaths = []

    async def dies_once(work: Any) -> Any:
        answer = await whole(work)
        if not deaths:
            deaths.append(answer)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return answer

    monkeypatch.setattr(database, "_on_writer", dies_once)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    assert [one.exchange_trade_id for one in deaths[0].new_fills] == ["t1"]
    assert booking.new_fills == ()
    assert (booking.order, booking.position) == (deaths[0].order, deaths[0].position)
    await ledger.submit_leg(execution, exit_leg("exit"))
    await assert_sound(ledger)
    await ledger.close()


async def test_fills_of_another_order_are_refused(ledger_dsn: str) -> None:
    ledger, risk, _ = await sent(ledger_dsn)
    for wrong in (
        fill("entry-eth", "t1"),
        fill("entry-btc", "t1", symbol="ETH/USDT"),
        sale("entry-btc", "t1"),
    ):
        with pytest.raises(ValueError, match="is not of order entry-btc, a buy of BTC/USDT"):
            await ledger.book("entry-btc", [wrong], None, NOW)
    with pytest.raises(ValueError, match="not as denied"):
        await ledger.book("entry-btc", [], S.DENIED, NOW)
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="1"))
    with pytest.raises(IllegalTransition):
        await ledger.book("entry-eth", [fill("entry-eth", "t1", symbol="ETH/USDT")], None, NOW)
    assert await ledger.fills() == []
    await ledger.close()


async def test_any_bot_of_the_account_may_tell_of_a_fill(ledger_dsn: str) -> None:
    ledger, _, _ = await sent(ledger_dsn)
    reconciler = await connect(ledger_dsn, "reconciler")
    await reconciler.raise_epoch(Role.EXECUTION, NOW)
    booking = await reconciler.book("entry-btc", [fill("entry-btc", "t1")], S.FILLED, NOW)
    assert booking.order.bot == "majors"
    assert await reconciler.positions() == {}
    assert (await ledger.positions())["BTC/USDT"].amount == D("0.00055")
    assert len(await ledger.unpublished(Role.EXECUTION)) == 1
    await assert_sound(ledger)
    for one in (ledger, reconciler):
        await one.close()


async def test_money_is_exact_beyond_pythons_default_precision(ledger_dsn: str) -> None:
    ledger, _, _ = await sent(ledger_dsn, "123456789012345678.12")
    fills = [fill("entry-btc", f"t{number}", "0.123456789012345678", "98765432.123456789012") for number in range(3)]
    booking = await ledger.book("entry-btc", fills, None, NOW)
    assert booking.order.cost == D("36579789.346136258922597168696168270408")
    await assert_sound(ledger)
    await ledger.close()
