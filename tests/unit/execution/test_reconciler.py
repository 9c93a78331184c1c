"""The agent compares its account with an exchange on which others trade as well, and which tells some things late."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from support.execution import NOW, SYMBOL, D
from support.execution_rig import Rig
from support.failing_ledger import FailingLedger
from support.fake_venue import Spoil
from support.ledger import entry
from support.ledger_model import LedgerModel, ModelAccount
from support.reconciling import (
    INTERVAL,
    MARGIN,
    PERIOD,
    RECONCILING,
    Comparer,
    agree,
    half_filled,
    outside,
    told,
)
from tradingbot_agents.domain.events import (
    LateFillBooked,
    OutsideMovementBooked,
    OutsideMovementReversed,
    Reconciled,
    ReconciliationDelayed,
)
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import Leg, Side
from tradingbot_agents.ledger.port import LedgerUnavailable, Role

from .conftest import RigFactory

CALM = timedelta(hours=1)


@pytest.fixture
async def late(make_rig: RigFactory) -> Rig:
    """An account that was opened an hour ago; the agent is not started."""
    rig = await make_rig(settings=RECONCILING)
    rig.clock.advance_to(rig.clock.now() + CALM)
    return rig


@pytest.fixture
async def running(late: Rig) -> Rig:
    await late.start()
    return late


def seen_by(rig: Rig, bot: str) -> LedgerModel:
    """The account's ledger for another bot."""
    account: ModelAccount = rig.ledger.account  # type: ignore[attr-defined]
    return LedgerModel(account, bot)


# --- the start


async def test_a_start_compares_the_account_and_says_so(running: Rig) -> None:
    (done,) = told(running, Reconciled)
    assert (done.assets, done.symbols, done.fills, done.movements, done.outside_orders) == (1, 0, 0, 0, 0)
    await running.approve()
    assert len(running.venue.sent) == 2, "the entry and its stop"


async def test_a_deposit_of_the_time_that_we_were_away_is_booked_at_the_start(late: Rig) -> None:
    late.venue.purse["USDT"] += D(50)
    late.venue.purse["BNB"] = D("0.1")
    await late.start()
    assert await outside(late.ledger) == [("outside", "BNB", "0.1"), ("outside", "USDT", "50")]
    assert [(one.asset, one.amount) for one in told(late, OutsideMovementBooked)] == [
        ("BNB", D("0.1")),
        ("USDT", D(50)),
    ]
    assert told(late, Reconciled)[0].movements == 2
    await agree(late)


async def test_right_after_a_booking_a_start_looks_twice(make_rig: RigFactory) -> None:
    """The exchange's balances may not have what was booked a moment ago."""
    rig = await make_rig(settings=RECONCILING)
    rig.venue.purse["USDT"] -= D(1)
    await rig.start()
    assert (await outside(rig.ledger), told(rig, Reconciled)) == ([], [])
    await rig.approve()
    assert rig.venue.sent == []
    await rig.run(MARGIN)
    assert await outside(rig.ledger) == [("outside", "USDT", "-1")]
    assert len(told(rig, Reconciled)) == 1
    assert len(rig.venue.sent) == 2


async def test_no_entry_is_sent_before_the_account_was_compared(late: Rig) -> None:
    late.venue.spoil("balances", Spoil.LOST_REQUEST, times=3)
    await late.start()
    name = await late.approve()
    assert (await late.order(name)).state is OrderState.APPROVED
    await late.run(15)
    assert (late.venue.sent, told(late, Reconciled)) == ([], [])
    await late.run(40)
    assert len(told(late, Reconciled)) == 1
    assert (await late.order(name)).state is OrderState.FILLED


async def test_an_entry_that_became_too_old_meanwhile_is_denied(late: Rig) -> None:
    late.venue.spoil("balances", Spoil.LOST_REQUEST, times=4)
    await late.start()
    name = await late.approve()
    await late.run(120)
    assert (await late.order(name)).state is OrderState.DENIED
    assert late.venue.sent == []
    assert (await late.ledger.balances())["USDT"].reserved == 0


async def test_positions_are_protected_and_sold_all_the_same(running: Rig) -> None:
    await running.approve()
    (stop,) = await running.legs(Leg.STOP)
    running.venue.cancel_by_hand(stop.client_order_id)
    running.venue.spoil("balances", Spoil.LOST_REQUEST, times=100)
    await running.start()
    await running.run(3)
    assert [leg.state for leg in await running.legs(Leg.STOP)] == [OrderState.CANCELLED, OrderState.OPEN]
    await running.ask_exit()
    await running.run(30)
    assert [leg.state for leg in await running.legs(Leg.EXIT)] == [OrderState.FILLED]


async def test_it_is_told_when_it_cannot_be_done_for_long(late: Rig) -> None:
    late.venue.spoil("open_orders", Spoil.RATE_LIMITED, times=1)
    late.venue.spoil("balances", Spoil.LOST_REQUEST, times=100)
    began = late.clock.now()
    await late.start()
    await late.run(MARGIN - 1)
    assert told(late, ReconciliationDelayed) == []
    await late.run(600)
    (delayed,) = told(late, ReconciliationDelayed)
    assert (delayed.since, delayed.entries_held) == (began, True)
    assert delayed.why == "the request was lost"
    late.venue.spoils.clear()
    await late.run(MARGIN)
    assert len(told(late, Reconciled)) == 1
    late.venue.spoil("balances", Spoil.LOST_REQUEST, times=100)
    await late.run(900)
    (_, again) = told(late, ReconciliationDelayed)
    assert not again.entries_held
    await late.approve()
    assert len(late.venue.sent) == 2


async def test_a_ledger_that_is_away_is_asked_again(late: Rig) -> None:
    ledger = FailingLedger(late.ledger)
    ledger.fail("account_books", LedgerUnavailable("away"))
    with pytest.raises(LedgerUnavailable):
        await late.start(ledger)
    await late.start(ledger)
    assert len(told(late, Reconciled)) == 1
    ledger.fail("account_books", LedgerUnavailable("away"))
    await late.run(PERIOD + 5)
    assert len(told(late, Reconciled)) == 1
    await late.run(MARGIN)
    assert len(told(late, Reconciled)) == 2


async def test_an_order_whose_outcome_is_open_is_waited_for(late: Rig) -> None:
    await late.start()
    late.venue.spoil("create_order", Spoil.LOST_REPLY)
    late.venue.spoil("order_by_client_id", Spoil.NOT_VISIBLE, times=2)
    await late.approve()
    await late.start()
    assert len(told(late, Reconciled)) == 1, "the first start's"
    await late.run(60)
    assert len(told(late, Reconciled)) == 2
    assert await outside(late.ledger) == []
    await late.check()


async def test_an_account_that_is_not_open_is_not_compared(make_rig: RigFactory) -> None:
    rig = await make_rig(open_account=False, settings=RECONCILING)
    await rig.start()
    await rig.run(2 * MARGIN)
    assert (await outside(rig.ledger), told(rig, Reconciled)) == ([], [])
    assert "not open" in told(rig, ReconciliationDelayed)[0].why
    assert "balances" not in rig.venue.calls
    await rig.open()
    await rig.run(MARGIN)
    assert len(told(rig, Reconciled)) == 1
    assert await outside(rig.ledger) == []


# --- while it runs


async def test_it_is_done_again_and_again(running: Rig) -> None:
    await running.run(3 * PERIOD)
    assert [one.at - NOW - CALM for one in told(running, Reconciled)] == [INTERVAL * n for n in range(4)]


async def test_a_difference_must_be_the_same_twice(running: Rig) -> None:
    running.venue.purse["USDT"] += D(50)
    await running.run(PERIOD)
    assert await outside(running.ledger) == []
    running.venue.purse["USDT"] += D(1)
    await running.run(MARGIN)
    assert await outside(running.ledger) == []
    await running.run(MARGIN)
    assert await outside(running.ledger) == [("outside", "USDT", "51")]
    await agree(running)


async def test_a_balance_that_lags_is_no_movement(running: Rig) -> None:
    await running.run(PERIOD - 5)
    await running.approve()
    running.venue.purse["USDT"] += D("100.1")
    await running.run(10)
    running.venue.purse["USDT"] -= D("100.1")
    await running.run(2 * PERIOD)
    assert await outside(running.ledger) == []
    await agree(running)


async def test_nothing_is_booked_when_another_bot_trades_meanwhile(running: Rig) -> None:
    """It claims an order between the two snapshots of the books."""
    running.venue.purse["USDT"] += D(50)
    await running.run(PERIOD)
    minors = seen_by(running, "minors")
    risk = await minors.raise_epoch(Role.RISK, running.clock.now())
    execution = await minors.raise_epoch(Role.EXECUTION, running.clock.now())
    ask = running.venue.open_orders

    async def claims_meanwhile() -> Any:
        shown = await ask()
        now = running.clock.now()
        await minors.reserve(risk, entry("other", "ETH/USDT", at=now))
        await minors.claim(execution, "entry-other", now)
        return shown

    running.venue.open_orders = claims_meanwhile  # type: ignore[method-assign]
    await running.run(MARGIN)
    assert [order.state for order in await minors.live_orders()] == [OrderState.SUBMITTING]
    assert await outside(running.ledger) == []
    running.venue.open_orders = ask  # type: ignore[method-assign]
    await minors.book("entry-other", [], OrderState.REJECTED, running.clock.now())
    await running.run(PERIOD)
    assert await outside(running.ledger) == [("outside", "USDT", "50")]


# --- fills that come late


async def test_a_fill_of_an_ended_order_is_found_booked_and_told(running: Rig) -> None:
    name = await half_filled(running)
    running.venue.fill_late(name, D("0.25"))
    await running.run(PERIOD)
    await running.run(MARGIN)
    assert "late_fill_booked" in running.events()
    assert (await running.position()).amount == D("0.74925")
    assert await outside(running.ledger) == []
    assert sum(one.fills for one in told(running, Reconciled)) == 2
    await running.check()
    await agree(running)


async def test_a_fill_of_the_time_that_we_were_away_is_found_at_the_start(running: Rig) -> None:
    name = await half_filled(running)
    await running.end()
    running.venue.fill_late(name, D("0.25"))
    running.clock.advance_to(running.clock.now() + timedelta(days=3))
    await running.start()
    assert (await running.position()).amount == D("0.74925")
    assert await outside(running.ledger) == []
    assert {stop.amount for stop in await running.legs(Leg.STOP) if stop.state.is_live} == {D("0.74925")}
    await agree(running)


async def test_a_fill_that_was_hidden_takes_its_movement_back(running: Rig) -> None:
    name = await half_filled(running)
    await running.run(120)
    running.venue.hidden.update(running.venue.fill_late(name, D("0.25")))
    await running.run(PERIOD)
    assert await outside(running.ledger) == [("outside", "BTC", "0.24975"), ("outside", "USDT", "-25")]
    await agree(running)
    assert (await running.position()).amount == D("0.4995"), "what came from outside is nobody's position"
    running.venue.hidden.clear()
    await running.run(PERIOD + MARGIN)
    assert (await outside(running.ledger))[2:] == [("reversal", "BTC", "-0.24975"), ("reversal", "USDT", "25")]
    assert [(one.asset, one.client_order_id) for one in told(running, OutsideMovementReversed)] == [
        ("BTC", name),
        ("USDT", name),
    ]
    assert (await running.position()).amount == D("0.74925")
    await running.run(3 * PERIOD)
    assert len(await outside(running.ledger)) == 4
    await agree(running)


async def test_a_movement_with_something_else_in_it_stays_and_the_next_comparison_mends(running: Rig) -> None:
    name = await half_filled(running)
    await running.run(120)
    running.venue.hidden.update(running.venue.fill_late(name, D("0.25")))
    running.venue.purse["USDT"] += D(7)
    await running.run(PERIOD)
    assert await outside(running.ledger) == [("outside", "BTC", "0.24975"), ("outside", "USDT", "-18")]
    running.venue.hidden.clear()
    await running.run(PERIOD + 3 * MARGIN)
    assert "outside_movement_doubtful" in running.events()
    assert (await outside(running.ledger))[2:] == [("outside", "BTC", "-0.24975"), ("outside", "USDT", "25")]
    await agree(running)


async def test_an_order_that_appears_after_all_takes_its_movement_back(running: Rig) -> None:
    """It was sent, its answer lost, and not found for as long as it takes to believe it. It had filled."""
    running.venue.spoil("create_order", Spoil.LOST_REPLY)
    running.venue.spoil("order_by_client_id", Spoil.NOT_VISIBLE, times=1000)
    name = await running.approve()
    await running.run(60)
    assert (await running.order(name)).state is OrderState.NOT_FOUND
    await running.run(PERIOD + 2 * MARGIN)
    assert await outside(running.ledger) == [("outside", "BTC", "0.999"), ("outside", "USDT", "-100")]
    running.venue.spoils.clear()
    await running.run(PERIOD)
    assert "order_reappeared" in running.events()
    assert len(told(running, OutsideMovementReversed)) == 2
    assert (await running.position()).amount == D("0.999")
    await running.run(2 * PERIOD)
    assert len(await outside(running.ledger)) == 4
    await agree(running)


# --- what others do


async def test_orders_of_others_are_held_counted_and_left_alone(running: Rig) -> None:
    running.venue.order_by_hand(SYMBOL, Side.BUY, "2", "90", "web_1")
    nameless = running.venue.order_by_hand(SYMBOL, Side.BUY, "1", "50")
    await running.run(PERIOD)
    assert (await running.ledger.balances())["USDT"].outside_holds == D(230)
    assert told(running, Reconciled)[-1].outside_orders == 2
    assert len(await running.venue.open_orders()) == 2
    running.venue.fill_by_hand(nameless)
    await running.run(PERIOD + 2 * MARGIN)
    usdt = (await running.ledger.balances())["USDT"]
    assert (usdt.outside_holds, usdt.total) == (D(180), D(950))
    assert await running.position() == msgspec.structs.replace(await running.position(), amount=D(0))
    await agree(running)


async def test_what_ours_lock_is_not_held_twice(running: Rig) -> None:
    await running.approve()
    running.venue.order_by_hand(SYMBOL, Side.SELL, "0.2", "200")
    running.venue.base[SYMBOL] += D("0.2")
    await running.run(PERIOD + MARGIN)
    btc = (await running.ledger.balances())["BTC"]
    assert (btc.total, btc.reserved, btc.outside_holds) == (D("1.199"), D("0.999"), D("0.2"))


async def test_an_order_with_an_id_like_ours_that_nobody_knows_is_anothers(running: Rig) -> None:
    """As of a ledger that was restored from before it was sent."""
    running.venue.order_by_hand(SYMBOL, Side.BUY, "1", "90", "tbaaaaaaaaaaaaaaaa")
    await running.run(PERIOD)
    assert told(running, Reconciled)[-1].outside_orders == 1
    assert (await running.ledger.balances())["USDT"].outside_holds == D(90)


async def test_an_ended_order_that_is_open_on_the_exchange_is_waited_for(running: Rig) -> None:
    name = await half_filled(running)
    found = running.venue.named(name)
    running.venue.order_by_hand(SYMBOL, Side.BUY, "1", "90", name)
    del running.venue.orders[found.exchange_order_id]
    running.venue.purse["USDT"] += D(1)
    await running.run(3 * PERIOD)
    assert len(told(running, Reconciled)) == 1
    assert "open on the exchange, and cancelled in the books" in told(running, ReconciliationDelayed)[0].why
    assert await outside(running.ledger) == []


# --- several bots of an account


async def test_of_several_bots_one_books(late: Rig) -> None:
    late.venue.purse["USDT"] += D(50)
    comparers = [Comparer(late, seen_by(late, bot), bot) for bot in ("majors", "minors", "memes")]
    for comparer in comparers:
        await comparer.reconciler.run()
    assert await outside(late.ledger) == [("outside", "USDT", "50")]
    assert [one.movements for one in told(late, Reconciled)] == [1, 0, 0]


async def test_fills_of_another_bot_whose_process_is_gone_are_booked(running: Rig) -> None:
    await running.approve()
    await running.end()
    running.venue.move(SYMBOL, D(94))
    other = Comparer(running, seen_by(running, "minors"), "minors")
    await other.reconciler.run()
    assert not other.reconciler.done
    assert len(await running.ledger.live_orders()) == 1, "it may be about to book them itself"
    running.clock.advance_to(running.clock.now() + timedelta(seconds=MARGIN))
    await other.reconciler.run()
    assert other.reconciler.done
    assert (await running.position()).amount == 0
    assert await outside(running.ledger) == []
    (trade,) = await running.ledger.trades()
    assert trade.leg is Leg.STOP
    assert await other.ledger.positions() == {}
    await running.start()
    await running.check()
    await agree(running)


async def test_what_another_bot_booked_is_known_soon(running: Rig) -> None:
    """Its own stop sold, and somebody else told the books of it first."""
    await running.approve()
    running.venue.move(SYMBOL, D(94))
    running.clock.advance_to(running.clock.now() + timedelta(seconds=MARGIN))
    await Comparer(running, seen_by(running, "minors"), "minors").reconciler.run()
    assert await running.ledger.live_orders() == []
    await running.candle("94")
    assert (await running.position()).amount == 0
    running.venue.move(SYMBOL, D(100))
    await running.approve()
    assert (await running.position()).amount == D("0.999")
    await running.check()


async def test_a_fill_that_its_owner_books_meanwhile_is_not_told_as_late(running: Rig) -> None:
    name = await half_filled(running)
    running.venue.fill_late(name, D("0.25"))
    other = Comparer(running, seen_by(running, "minors"), "minors")
    find = other.ledger.unbooked_trades

    async def booked_meanwhile(symbol: str, orders: Mapping[str, str]) -> dict[str, Order]:
        found = await find(symbol, orders)
        await Comparer(running, running.ledger, "majors").reconciler.run()
        return found

    other.ledger.unbooked_trades = booked_meanwhile  # type: ignore[method-assign]
    await other.reconciler.run()
    assert [event.fills for event in told(running, LateFillBooked)] == [2]


# --- when the ledger is away


async def test_a_ledger_that_is_away_when_it_is_due_is_asked_again(running: Rig) -> None:
    """Also where the agent does not come as far as to compare, for its view must be read anew first."""
    ledger = FailingLedger(running.ledger)
    await running.start(ledger)
    before = len(told(running, Reconciled))
    await running.run(PERIOD - 1)
    for call in ("check_epoch", *["positions"] * 3):
        ledger.fail(call, LedgerUnavailable("away"))
    await running.run(2 * MARGIN)
    assert ledger.calls.count("positions") > 3
    await running.run(MARGIN)
    assert len(told(running, Reconciled)) == before + 1
