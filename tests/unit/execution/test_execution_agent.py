"""The agent with one order at a time: claimed, sent, looked up, booked, given up."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from support.execution import LOOK_UP, NOW, SETTINGS, SYMBOL, D
from support.execution_rig import Rig
from support.failing_ledger import FailingLedger
from support.fake_venue import RETRY_AFTER, Spoil
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import BotState, Leg
from tradingbot_agents.ledger.port import Fenced, LedgerUnavailable, Role

NOT_FOUND_AFTER = LOOK_UP.send_limit + LOOK_UP.receive_window + LOOK_UP.margin
GIVEN_UP = (NOT_FOUND_AFTER + 2 * LOOK_UP.spacing).total_seconds()


async def available(rig: Rig) -> object:
    return (await rig.ledger.balances())["USDT"].available


async def test_an_approved_entry_is_sent_booked_and_protected(rig: Rig) -> None:
    name = await rig.approve()
    order = await rig.order(name)
    assert order.state is OrderState.FILLED
    assert order.exchange_order_id == "1"
    assert len(await rig.ledger.fills()) == 2
    held = await rig.position()
    assert held.state is PositionState.OPEN
    assert held.amount == D("0.999"), "the fee was taken in base currency"

    (stop,) = await rig.legs(Leg.STOP)
    assert (stop.state, stop.amount, stop.stop_price) == (OrderState.OPEN, D("0.999"), D(95))
    assert (stop.cause, stop.attempt, stop.correlation_id) == (held.trade_id, 0, "candle-1")
    assert rig.venue.named(stop.client_order_id).amount == D("0.999")
    assert await rig.ledger.reservations() == []
    assert rig.bus.depths()["strategy.reports"] == 1
    assert rig.events() == ["fill_booked", "fill_booked"], "a stop that follows at once leaves no gap to speak of"
    await rig.check()


async def test_a_partly_filled_entry_is_protected_for_its_part(rig: Rig) -> None:
    rig.venue.liquidity = D("0.4")
    name = await rig.approve()
    order = await rig.order(name)
    assert (order.state, order.filled) == (OrderState.CANCELLED, D("0.4"))
    assert [stop.amount for stop in await rig.legs(Leg.STOP)] == [D("0.3996")]
    assert await available(rig) == D(1000) - D(40), "the rest of the budget is free again"
    await rig.check()


async def test_an_entry_that_finds_no_seller_leaves_nothing(rig: Rig) -> None:
    rig.venue.prices[SYMBOL] = D(102)
    name = await rig.approve()
    assert (await rig.order(name)).state is OrderState.CANCELLED
    assert await available(rig) == D(1000)
    assert await rig.legs(Leg.STOP) == []
    await rig.check()


async def test_a_refusal_of_the_exchange_is_final(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.REFUSED)
    name = await rig.approve()
    order = await rig.order(name)
    assert order.state is OrderState.REJECTED
    assert "the test said so" in (order.reason or "")
    assert rig.events() == ["order_rejected"]
    assert await available(rig) == D(1000)
    await rig.run(60)
    assert rig.venue.calls.count("create_order") == 1
    await rig.check()


async def test_a_rate_limited_entry_is_sent_after_the_pause(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.RATE_LIMITED)
    name = await rig.approve()
    assert (await rig.order(name)).state is OrderState.SUBMITTING
    assert rig.venue.sent == []
    await rig.run(RETRY_AFTER.total_seconds() - 0.1)
    assert rig.venue.sent == []
    await rig.run(0.2)
    assert (await rig.order(name)).state is OrderState.FILLED
    assert len(rig.venue.sent) == 2, "the entry and its stop"
    await rig.check()


async def test_an_entry_that_is_held_up_for_too_long_is_denied(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.RATE_LIMITED, times=3)
    name = await rig.approve()
    await rig.run(60)
    order = await rig.order(name)
    assert order.state is OrderState.DENIED
    assert "rate_limited" in (order.reason or "")
    assert rig.venue.sent == []
    assert rig.events() == ["order_rejected"]
    assert await available(rig) == D(1000)
    await rig.check()


async def test_a_lost_reply_is_looked_up_and_never_sent_again(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.LOST_REPLY)
    name = await rig.approve()
    assert (await rig.order(name)).state is OrderState.UNRESOLVED
    await rig.run(LOOK_UP.spacing.total_seconds())
    assert (await rig.order(name)).state is OrderState.FILLED
    assert [request.client_order_id for request in rig.venue.sent].count(name) == 1
    assert rig.events() == ["order_unresolved", "fill_booked", "fill_booked", "order_resolved"]
    assert len(await rig.legs(Leg.STOP)) == 1
    await rig.check()


async def test_a_lost_request_is_not_found_only_after_the_whole_schedule(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.LOST_REQUEST)
    name = await rig.approve()
    await rig.run_until(NOW + NOT_FOUND_AFTER - timedelta(seconds=1))
    assert (await rig.order(name)).state is OrderState.UNRESOLVED
    assert await available(rig) < D(1000), "until then the capital stays held"
    await rig.run(1 + LOOK_UP.spacing.total_seconds())
    assert (await rig.order(name)).state is OrderState.NOT_FOUND
    assert await available(rig) == D(1000)
    assert rig.venue.sent == []
    assert rig.events() == ["order_unresolved", "order_resolved"]
    await rig.check()


async def test_an_order_that_appears_after_all_is_taken_up_again(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.LOST_REPLY)
    rig.venue.spoil("order_by_client_id", Spoil.NOT_VISIBLE, times=3)
    name = await rig.approve()
    await rig.run(GIVEN_UP)
    assert (await rig.order(name)).state is OrderState.NOT_FOUND
    await rig.run(120)
    assert (await rig.order(name)).state is OrderState.FILLED
    assert "order_reappeared" in rig.events()
    assert len(await rig.legs(Leg.STOP)) == 1
    await rig.check()


async def test_an_order_that_was_not_found_is_looked_for_after_a_restart(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.LOST_REPLY)
    rig.venue.spoil("order_by_client_id", Spoil.NOT_VISIBLE, times=3)
    name = await rig.approve()
    await rig.run(GIVEN_UP)
    assert (await rig.order(name)).state is OrderState.NOT_FOUND
    await rig.start()
    assert (await rig.order(name)).state is OrderState.FILLED
    await rig.check()


async def test_an_expired_entry_is_not_sent(rig: Rig) -> None:
    name = await rig.approve(announce=False, expires_at=NOW + timedelta(seconds=1))
    rig.clock.advance_to(NOW + timedelta(seconds=2))
    await rig.run(60)
    assert (await rig.order(name)).state is OrderState.DENIED
    assert rig.events() == ["order_rejected"]
    assert rig.venue.sent == []
    await rig.check()


@pytest.mark.parametrize("state", [state for state in BotState if state is not BotState.RUNNING])
async def test_no_other_state_sends_entries(rig: Rig, state: BotState) -> None:
    rig.state = state
    name = await rig.approve()
    order = await rig.order(name)
    assert order.state is OrderState.DENIED
    assert "not_tradable_state" in (order.reason or "")
    assert rig.venue.sent == []
    assert await available(rig) == D(1000)
    await rig.check()


async def test_a_held_up_entry_is_denied_when_the_bot_is_paused_meanwhile(rig: Rig) -> None:
    rig.venue.spoil("create_order", Spoil.RATE_LIMITED)
    name = await rig.approve()
    rig.state = BotState.PAUSED
    await rig.run(5)
    assert (await rig.order(name)).state is OrderState.DENIED
    assert rig.venue.sent == []


async def test_an_entry_that_hangs_is_cancelled_at_its_time_limit(rig: Rig) -> None:
    rig.venue.slow = True
    name = await rig.approve()
    await rig.run(SETTINGS.order_time_limit.total_seconds() - 1)
    assert (await rig.order(name)).state is OrderState.OPEN
    await rig.run(2)
    assert (await rig.order(name)).state is OrderState.CANCELLED
    assert await available(rig) == D(1000)
    await rig.check()


async def test_reduce_only_cancels_an_open_entry_and_keeps_what_it_bought(rig: Rig) -> None:
    rig.venue.slow = True
    name = await rig.approve()
    rig.venue.fill(name, D("0.5"))
    rig.state = BotState.REDUCE_ONLY
    await rig.run(11)
    order = await rig.order(name)
    assert (order.state, order.filled) == (OrderState.CANCELLED, D("0.5"))
    (stop,) = await rig.legs(Leg.STOP)
    assert (stop.state, stop.amount) == (OrderState.OPEN, D("0.4995"))
    await rig.check()


async def test_an_end_waits_for_trades_that_are_late(rig: Rig) -> None:
    rig.venue.spoil("trades_of_order", Spoil.LATE_TRADES)
    name = await rig.approve()
    order = await rig.order(name)
    assert (order.state, order.filled) == (OrderState.OPEN, D("0.5"))
    assert [stop.amount for stop in await rig.legs(Leg.STOP)] == [D("0.4995")], "what is there is protected"
    await rig.run(LOOK_UP.spacing.total_seconds())
    assert (await rig.order(name)).state is OrderState.FILLED
    assert [(stop.state, stop.amount) for stop in await rig.legs(Leg.STOP)] == [
        (OrderState.CANCELLED, D("0.4995")),
        (OrderState.OPEN, D("0.999")),
    ]
    await rig.check()


async def test_repeated_trades_are_counted_once(rig: Rig) -> None:
    rig.venue.spoil("trades_of_order", Spoil.DUPLICATED)
    await rig.approve()
    assert len(await rig.ledger.fills()) == 2
    await rig.check()


async def test_an_entry_that_no_message_announced_is_swept_up(rig: Rig) -> None:
    name = await rig.approve(announce=False)
    await rig.run(59)
    assert (await rig.order(name)).state is OrderState.APPROVED
    await rig.run(2)
    assert (await rig.order(name)).state is OrderState.FILLED
    await rig.check()


async def test_a_message_that_comes_twice_changes_nothing(rig: Rig) -> None:
    await rig.approve()
    await rig.ask_exit()
    sent = list(rig.venue.sent)
    rig._numbers = 0
    message = rig._message("order.intent-1", SYMBOL, rig.venue.sent[0].side, Leg.ENTRY, sent[0].client_order_id)
    for leg in (Leg.ENTRY, Leg.EXIT):
        await rig.bus.publish(msgspec.structs.replace(message, leg=leg))
    await rig.drain()
    assert rig.venue.sent == sent
    await rig.check()


async def test_a_fenced_process_says_so_and_ends(rig: Rig) -> None:
    await rig.ledger.raise_epoch(Role.EXECUTION, rig.clock.now())
    with pytest.raises(Fenced):
        await rig.approve()
    assert rig.events() == ["fenced_off"]
    assert rig.venue.sent == []


async def test_a_newer_epoch_stops_an_order_that_is_about_to_be_sent(rig: Rig) -> None:
    ledger = FailingLedger(rig.ledger)
    await rig.start(ledger)
    ledger.fail("check_epoch", Fenced(rig.agent._desk.epoch, 99))  # type: ignore[union-attr]
    with pytest.raises(Fenced):
        await rig.approve()
    assert rig.venue.sent == []


async def test_a_fee_in_a_third_asset_is_valued_at_the_price_of_its_time(rig: Rig) -> None:
    rig.venue.fee_asset = "BNB"
    await rig.approve()
    assert {fill.fee.quote_value for fill in await rig.ledger.fills() if fill.fee} == {None}, "nobody has a price"
    rig.venue.prices["BNB/USDT"] = D(600)
    await rig.candle("111")
    sold = [fill for fill in await rig.ledger.fills() if fill.price == D(111)]
    assert {fill.fee.quote_value for fill in sold if fill.fee} == {D("0.3")}


# --- the ledger is away ----------------------------------------------------------------------------------


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize(
    "call", ["orders_to_send", "claim", "check_epoch", "acknowledge", "book", "submit_leg", "unpublished", "order"]
)
async def test_nothing_is_doubled_or_lost_while_the_ledger_is_away(rig: Rig, call: str, done: bool) -> None:
    ledger = FailingLedger(rig.ledger)
    rig.settings = msgspec.structs.replace(
        SETTINGS, look_up=msgspec.structs.replace(LOOK_UP, immediate_not_found=True)
    )
    await rig.start(ledger)
    ledger.fail(call, LedgerUnavailable("the test said so"), done=done)
    name = await rig.approve()
    await rig.run(30)
    assert (await rig.order(name)).state is OrderState.FILLED
    assert [request.client_order_id for request in rig.venue.sent].count(name) == 1
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.OPEN]
    assert rig.bus.depths()["strategy.reports"] == 1
    assert rig.bus.depths()["execution.orders"] == 0
    await rig.check()


@pytest.mark.parametrize("done", [False, True], ids=["not done", "done"])
@pytest.mark.parametrize("call", ["request_exit", "request_cancel", "book", "submit_leg", "positions", "live_orders"])
async def test_an_exit_survives_a_ledger_that_is_away(rig: Rig, call: str, done: bool) -> None:
    ledger = FailingLedger(rig.ledger)
    rig.settings = msgspec.structs.replace(
        SETTINGS, look_up=msgspec.structs.replace(LOOK_UP, immediate_not_found=True)
    )
    await rig.start(ledger)
    await rig.approve()
    ledger.fail(call, LedgerUnavailable("the test said so"), done=done)
    rig.venue.prices[SYMBOL] = D(112)
    await rig.run(120)
    assert (await rig.position()).state is PositionState.FLAT
    assert [trade.leg for trade in await rig.ledger.trades()] == [Leg.TARGET]
    await rig.check()


async def test_a_start_without_a_ledger_fails_and_the_next_one_works(rig: Rig) -> None:
    ledger = FailingLedger(rig.ledger)
    ledger.fail("raise_epoch", LedgerUnavailable("the test said so"))
    with pytest.raises(LedgerUnavailable):
        await rig.start(ledger)
    await rig.start()
    await rig.approve()
    await rig.check()
