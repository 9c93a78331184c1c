"""Every transition of an order through the real ledger, and that each call may be repeated."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from support.ledger import NOW, entry, exit_leg, exit_request, fill, held_position, opened, sale
from tradingbot_agents.domain.messages import ExecutionReport
from tradingbot_agents.domain.orders import TRANSITIONS, IllegalTransition, Order, OrderEvent, OrderState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger.port import Epoch, HoldExceeded, Role, UnknownOrder
from tradingbot_agents.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.postgres

D = Decimal
S = OrderState
E = OrderEvent
LATER = NOW + timedelta(seconds=7)

Call = Callable[[PostgresLedger, Epoch, str], Awaitable[Any]]

EVENTS: dict[OrderEvent, Call] = {
    E.CLAIM: lambda ledger, epoch, name: ledger.claim(epoch, name, LATER),
    E.DENY: lambda ledger, epoch, name: ledger.deny(epoch, name, "paused", LATER),
    E.ACKNOWLEDGE: lambda ledger, epoch, name: ledger.acknowledge(epoch, name, f"y-{name}"),
    E.REAPPEAR: lambda ledger, epoch, name: ledger.acknowledge(epoch, name, f"y-{name}"),
    E.REJECT: lambda ledger, epoch, name: ledger.book(name, [], S.REJECTED, LATER, "below minimum"),
    E.LOSE_CONTACT: lambda ledger, epoch, name: ledger.lose_contact(epoch, name, "timeout", LATER),
    E.FILL: lambda ledger, epoch, name: ledger.book(name, [small_fill(name)], None, LATER),
    E.COMPLETE: lambda ledger, epoch, name: ledger.book(name, [small_fill(name)], S.FILLED, LATER),
    E.REQUEST_CANCEL: lambda ledger, epoch, name: ledger.request_cancel(epoch, name, LATER),
    E.END_CANCELLED: lambda ledger, epoch, name: ledger.book(name, [], S.CANCELLED, LATER, "expired"),
    E.NOT_FOUND: lambda ledger, epoch, name: ledger.not_found(epoch, name, LATER),
}

WAY_TO: dict[OrderState, tuple[OrderEvent, ...]] = {
    S.APPROVED: (),
    S.SUBMITTING: (E.CLAIM,),
    S.OPEN: (E.CLAIM, E.ACKNOWLEDGE),
    S.CANCELLING: (E.CLAIM, E.ACKNOWLEDGE, E.REQUEST_CANCEL),
    S.UNRESOLVED: (E.CLAIM, E.LOSE_CONTACT),
    S.FILLED: (E.CLAIM, E.COMPLETE),
    S.CANCELLED: (E.CLAIM, E.ACKNOWLEDGE, E.END_CANCELLED),
    S.REJECTED: (E.CLAIM, E.REJECT),
    S.DENIED: (E.DENY,),
    S.NOT_FOUND: (E.CLAIM, E.LOSE_CONTACT, E.NOT_FOUND),
}

ANSWERED = {
    (S.DENIED, E.DENY),
    (S.UNRESOLVED, E.LOSE_CONTACT),
    (S.CANCELLING, E.REQUEST_CANCEL),
    (S.NOT_FOUND, E.NOT_FOUND),
}
"""Was done before: the call is answered with the order as it is."""


def small_fill(order: str) -> Any:
    return fill(order, f"t-{order}", "0.0001", "100", symbol=f"{order.removeprefix('entry-').upper()}/USDT")


async def assert_sound(ledger: PostgresLedger) -> None:
    violated = {rule.name: rule.violations for rule in await ledger.invariants() if rule.violations}
    assert not violated


async def bring(ledger: PostgresLedger, risk: Epoch, execution: Epoch, name: str, state: OrderState) -> Order:
    await ledger.reserve(risk, entry(name, f"{name.upper()}/USDT", budget="1"))
    for event in WAY_TO[state]:
        await EVENTS[event](ledger, execution, f"entry-{name}")
    order = await ledger.order(f"entry-{name}")
    assert order is not None
    assert order.state is state
    return order


@pytest.mark.parametrize("state", S)
async def test_every_event_in_every_state(ledger_dsn: str, state: OrderState) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    for number, event in enumerate(E):
        name = f"a{number}"
        before = await bring(ledger, risk, execution, name, state)
        order_id = before.client_order_id
        # One call makes both: acknowledging what was not found is its return.
        table = E.REAPPEAR if event is E.ACKNOWLEDGE and state is S.NOT_FOUND else event
        table = E.ACKNOWLEDGE if event is E.REAPPEAR and state is not S.NOT_FOUND else table
        told_again = state.is_final and event in (E.REJECT, E.END_CANCELLED)
        expected = before.state
        if (state, table) in TRANSITIONS:
            expected = TRANSITIONS[state, table]
            await EVENTS[event](ledger, execution, order_id)
        elif event is E.CLAIM:
            assert await ledger.claim(execution, order_id, LATER) is None
        elif (state, event) in ANSWERED or told_again or (state.is_final and event is E.COMPLETE):
            await EVENTS[event](ledger, execution, order_id)
        elif state in (S.OPEN, S.CANCELLING, S.CANCELLED) and table is E.ACKNOWLEDGE:
            # The exchange's id is known already: the same again is a repetition.
            await EVENTS[event](ledger, execution, order_id)
            with pytest.raises(IllegalTransition):
                await ledger.acknowledge(execution, order_id, "another")
        else:
            with pytest.raises(IllegalTransition, match=f"order {order_id} is {state.value} and can not"):
                await EVENTS[event](ledger, execution, order_id)
        after = await ledger.order(order_id)
        assert after is not None
        assert after.state is expected, event
        assert (after.finished_at is not None) is expected.is_final
        held = {reservation.client_order_id: reservation.held for reservation in await ledger.reservations()}
        assert (order_id in held) is (not expected.is_final)
    await assert_sound(ledger)
    await ledger.close()


@pytest.mark.parametrize("event", [event for event in E if event is not E.REAPPEAR])
async def test_a_call_twice_is_a_call_once(ledger_dsn: str, event: OrderEvent) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    source = next(state for (state, legal), _ in TRANSITIONS.items() if legal is event)
    await bring(ledger, risk, execution, "btc", source)
    await EVENTS[event](ledger, execution, "entry-btc")
    first = (
        await ledger.orders(),
        await ledger.balances(),
        await ledger.positions(),
        await ledger.entries(),
        await ledger.unpublished(Role.EXECUTION),
    )
    again = await EVENTS[event](ledger, execution, "entry-btc")
    assert first == (
        await ledger.orders(),
        await ledger.balances(),
        await ledger.positions(),
        await ledger.entries(),
        await ledger.unpublished(Role.EXECUTION),
    )
    if event is E.CLAIM:
        assert again is None
    elif isinstance(again, Order):
        assert [again] == first[0]
    else:
        assert again.new_fills == ()
        assert [again.order] == first[0]
    await assert_sound(ledger)
    await ledger.close()


async def test_an_entry_that_is_too_old_is_never_sent(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc", budget="10"))
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="10"))
    limit = NOW + timedelta(minutes=5)
    assert await ledger.claim(execution, "entry-btc", limit) is not None
    assert await ledger.claim(execution, "entry-eth", limit + timedelta(microseconds=1)) is None
    denied = await ledger.order("entry-eth")
    assert denied is not None
    assert (denied.state, denied.reason) == (S.DENIED, "stale_intent")
    assert (await ledger.balances())["USDT"].reserved == 10
    [row] = await ledger.unpublished(Role.EXECUTION)
    assert isinstance(row.message, ExecutionReport)
    assert (row.message.client_order_id, row.message.state) == ("entry-eth", S.DENIED)
    await assert_sound(ledger)
    await ledger.close()


async def test_an_order_that_was_not_found_appears_after_all(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await bring(ledger, risk, execution, "btc", S.NOT_FOUND)
    assert (await ledger.balances())["USDT"].reserved == 0
    # Somebody else took the money meanwhile: what is left of the reservation is held all the same.
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="84.54"))
    order = await ledger.acknowledge(execution, "entry-btc", "x-1")
    assert (order.state, order.exchange_order_id, order.finished_at) == (S.OPEN, "x-1", None)
    usdt = (await ledger.balances())["USDT"]
    assert (usdt.reserved, usdt.available) == (D("85.54"), -1)
    await ledger.book("entry-btc", [small_fill("entry-btc")], S.FILLED, NOW)
    assert (await ledger.balances())["USDT"].reserved == D("84.54")
    await assert_sound(ledger)
    await ledger.close()


async def test_an_order_that_nobody_knows(ledger_dsn: str) -> None:
    ledger, _, execution = await opened(ledger_dsn)
    assert await ledger.order("entry-none") is None
    for event, call in EVENTS.items():
        with pytest.raises(UnknownOrder, match="order entry-none is not in the ledger"):
            await call(ledger, execution, "entry-none")
        assert event in E
    await ledger.close()


async def test_what_is_to_be_sent_and_what_is_live(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    for number, state in enumerate(S):
        await bring(ledger, risk, execution, f"a{number}", state)
    assert [order.state for order in await ledger.orders_to_send()] == [S.APPROVED]
    assert {order.state for order in await ledger.live_orders()} == {state for state in S if state.is_live}
    newest = await ledger.orders(2)
    assert [order.client_order_id for order in newest] == ["entry-a9", "entry-a8"]
    await ledger.close()


async def test_exit_legs_share_one_hold(ledger_dsn: str) -> None:
    ledger, _, execution = await held_position(ledger_dsn)
    stop = await ledger.submit_leg(execution, exit_leg("stop", "0.0003", leg=Leg.STOP))
    assert (stop.state, stop.claimed_at, stop.stop_price) == (S.SUBMITTING, NOW, D("115478.82"))
    await ledger.submit_leg(execution, exit_leg("target", "0.00025", leg=Leg.TARGET))
    with pytest.raises(HoldExceeded, match=r"would sell 0\.00001 BTC/USDT: the position has 0\.00055"):
        await ledger.submit_leg(execution, exit_leg("exit", "0.00001"))
    assert await ledger.order("exit") is None
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.exit_hold, position.exit_attempts) == (D("0.00055"), 2)
    assert (await ledger.balances())["BTC"].reserved == D("0.00055")
    # Asked for again it is answered, though its hold would not fit twice.
    assert await ledger.submit_leg(execution, exit_leg("stop", "0.0003", leg=Leg.STOP)) == stop
    await ledger.acknowledge(execution, "stop", "x-stop")
    await ledger.book("stop", [], S.CANCELLED, NOW)
    assert (await ledger.positions())["BTC/USDT"].exit_hold == D("0.00025")
    await ledger.submit_leg(execution, exit_leg("exit", "0.0003"))
    await ledger.book("target", [sale("target", "t2", "0.0001")], None, NOW)
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.amount, position.exit_hold) == (D("0.00045"), D("0.00045"))
    await assert_sound(ledger)
    await ledger.close()


async def test_an_unresolved_exit_keeps_its_hold_until_it_is_known(ledger_dsn: str) -> None:
    ledger, _, execution = await held_position(ledger_dsn)
    await ledger.submit_leg(execution, exit_leg("exit"))
    await ledger.lose_contact(execution, "exit", "timeout", NOW)
    with pytest.raises(HoldExceeded):
        await ledger.submit_leg(execution, exit_leg("exit-2"))
    await ledger.not_found(execution, "exit", NOW)
    assert (await ledger.positions())["BTC/USDT"].exit_hold == 0
    await ledger.submit_leg(execution, exit_leg("exit-2", "0.0004"))
    # It is there after all. The hold can not cover both, and covers what there is.
    await ledger.acknowledge(execution, "exit", "x-1")
    assert (await ledger.positions())["BTC/USDT"].exit_hold == D("0.00055")
    await assert_sound(ledger)
    await ledger.close()


async def test_no_leg_without_a_position(ledger_dsn: str) -> None:
    ledger, _, execution = await opened(ledger_dsn)
    with pytest.raises(HoldExceeded):
        await ledger.submit_leg(execution, exit_leg("exit"))
    assert await ledger.positions() == {}
    await ledger.close()


async def test_a_sell_intent_closes_the_position_once(ledger_dsn: str) -> None:
    ledger, risk, _ = await held_position(ledger_dsn)
    await ledger.mark_published([row.number for row in await ledger.unpublished(Role.RISK)])
    decision = await ledger.request_exit(risk, exit_request("intent-sell"))
    assert (decision.reason, decision.detail, decision.new) == (None, "exit of intent-sell", True)
    position = (await ledger.positions())["BTC/USDT"]
    assert (position.state.value, position.closing_reason) == ("closing", "exit")
    again = await ledger.request_exit(risk, exit_request("intent-sell"))
    assert (again.outcome, again.new) == (decision.outcome, False)
    assert len(await ledger.unpublished(Role.RISK)) == 1
    # Another intent finds it closing, by the first one's leg.
    assert (await ledger.request_exit(risk, exit_request("intent-sell-2", leg=Leg.FLATTEN))).new
    assert (await ledger.positions())["BTC/USDT"].closing_reason == "exit"
    await ledger.close()


async def test_an_entry_is_no_exit(ledger_dsn: str) -> None:
    ledger, risk, execution = await held_position(ledger_dsn)
    with pytest.raises(ValueError, match="entry"):
        await ledger.request_exit(risk, exit_request("intent-sell", leg=Leg.ENTRY))
    with pytest.raises(ValueError, match="entry"):
        await ledger.submit_leg(execution, exit_leg("sell", leg=Leg.ENTRY))
    assert (await ledger.positions())["BTC/USDT"].state.value == "open"
    await ledger.close()


async def test_a_sell_intent_without_base_currency(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    decision = await ledger.request_exit(risk, exit_request("intent-sell"))
    assert decision.reason is not None
    assert decision.reason.value == "insufficient_base_balance"
    assert await ledger.refusals() == {"insufficient_base_balance": 1}
    assert await ledger.unpublished(Role.RISK) == []
    # Execution's own exits are no decisions.
    assert (await ledger.request_exit(execution, exit_request("trade-1"))).reason is decision.reason
    assert len(await ledger.decisions()) == 1
    await ledger.close()


async def test_execution_closes_a_position_of_itself(ledger_dsn: str) -> None:
    ledger, _, execution = await held_position(ledger_dsn)
    first = await ledger.request_exit(execution, exit_request("trade-1", leg=Leg.TARGET))
    again = await ledger.request_exit(execution, exit_request("trade-1", leg=Leg.TARGET))
    assert (first.reason, first.new, again.reason, again.new) == (None, True, None, False)
    assert [decision.intent_id for decision in await ledger.decisions()] == ["intent-btc"]
    await ledger.close()
