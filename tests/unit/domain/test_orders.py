"""Every transition of orders and reservations, legal and illegal."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from itertools import product

import msgspec
import pytest

from tradingbot_agents.domain.orders import (
    RESERVATION_TRANSITIONS,
    TRANSITIONS,
    IllegalReservation,
    IllegalTransition,
    Order,
    OrderEvent,
    OrderState,
    Reservation,
    ReservationEvent,
    ReservationState,
    next_state,
)
from tradingbot_agents.domain.values import Leg, OrderType, Side, TimeInForce

D = Decimal
S = OrderState
E = OrderEvent

# Written down a second time, state by state, so that a change of the table has to be meant.
LEGAL = {
    S.APPROVED: {E.CLAIM: S.SUBMITTING, E.DENY: S.DENIED},
    S.SUBMITTING: {
        E.ACKNOWLEDGE: S.OPEN,
        E.DENY: S.DENIED,
        E.REJECT: S.REJECTED,
        E.LOSE_CONTACT: S.UNRESOLVED,
        E.FILL: S.OPEN,
        E.COMPLETE: S.FILLED,
        E.END_CANCELLED: S.CANCELLED,
    },
    S.OPEN: {
        E.FILL: S.OPEN,
        E.COMPLETE: S.FILLED,
        E.REQUEST_CANCEL: S.CANCELLING,
        E.END_CANCELLED: S.CANCELLED,
        E.REJECT: S.REJECTED,
        E.LOSE_CONTACT: S.UNRESOLVED,
    },
    S.CANCELLING: {
        E.FILL: S.CANCELLING,
        E.COMPLETE: S.FILLED,
        E.END_CANCELLED: S.CANCELLED,
        E.REJECT: S.REJECTED,
        E.LOSE_CONTACT: S.UNRESOLVED,
    },
    S.UNRESOLVED: {
        E.ACKNOWLEDGE: S.OPEN,
        E.FILL: S.UNRESOLVED,
        E.COMPLETE: S.FILLED,
        E.END_CANCELLED: S.CANCELLED,
        E.REJECT: S.REJECTED,
        E.NOT_FOUND: S.NOT_FOUND,
    },
    S.NOT_FOUND: {E.REAPPEAR: S.OPEN, E.FILL: S.NOT_FOUND},
    S.FILLED: {E.FILL: S.FILLED},
    S.CANCELLED: {E.FILL: S.CANCELLED},
    S.REJECTED: {E.FILL: S.REJECTED},
    S.DENIED: {E.FILL: S.DENIED},
}


@pytest.mark.parametrize(("state", "event"), list(product(S, E)))
def test_every_pair_of_state_and_event(state: OrderState, event: OrderEvent) -> None:
    if event in LEGAL[state]:
        assert next_state("entry-1", state, event) is LEGAL[state][event]
        return
    with pytest.raises(
        IllegalTransition, match=f"order entry-1 is {state.value} and can not {event.value}"
    ) as raised:
        next_state("entry-1", state, event)
    assert (raised.value.client_order_id, raised.value.state, raised.value.event) == ("entry-1", state, event)


def test_a_state_is_approved_live_or_final() -> None:
    assert [state for state in S if not state.is_live and not state.is_final] == [S.APPROVED]
    assert not [state for state in S if state.is_live and state.is_final]


def test_every_state_can_be_reached_and_every_live_one_can_end() -> None:
    reached = {S.APPROVED}
    for _ in S:
        reached |= {after for (before, _), after in TRANSITIONS.items() if before in reached}
    assert reached == set(S)
    ending = {state for state in S if state.is_final}
    for _ in S:
        ending |= {before for (before, _), after in TRANSITIONS.items() if after in ending}
    assert ending == set(S)


def test_only_a_reappearance_leaves_a_final_state() -> None:
    left = [
        (before, event) for (before, event), after in TRANSITIONS.items() if before.is_final and not after.is_final
    ]
    assert left == [(S.NOT_FOUND, E.REAPPEAR)]


def test_remaining_and_average_price() -> None:
    order = Order(
        client_order_id="entry-1",
        bot="majors",
        symbol="BTC/USDT",
        side=Side.BUY,
        leg=Leg.ENTRY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        amount=D("0.5"),
        limit_price=D(100),
        stop_price=None,
        state=S.OPEN,
        cause="intent-1",
        attempt=0,
        correlation_id="candle-1",
        created_at=datetime(2025, 10, 9, tzinfo=UTC),
        expires_at=None,
    )
    assert order.remaining == D("0.5")
    assert order.average_price is None
    half = msgspec.structs.replace(order, filled=D("0.2"), cost=D("19.8"))
    assert half.remaining == D("0.3")
    assert half.average_price == D(99)


def test_a_reservation_is_drawn_settled_and_revived() -> None:
    held = Reservation(client_order_id="entry-1", asset="USDT", amount=D("67.63"))
    assert held.held == D("67.63")
    drawn = held.draw(D("66.90"))
    assert drawn.held == D("0.73")
    settled = drawn.settle()
    assert settled.held == 0
    assert settled.revive().held == D("0.73")


def test_a_reservation_never_holds_less_than_nothing() -> None:
    beyond = Reservation(client_order_id="entry-1", asset="USDT", amount=D("67.63")).draw(D("70"))
    assert beyond.drawn == D("70")
    assert beyond.held == 0


def test_a_late_draw_on_a_settled_reservation_only_counts() -> None:
    settled = Reservation(client_order_id="entry-1", asset="USDT", amount=D("67.63")).settle().draw(D(5))
    assert settled.state is ReservationState.SETTLED
    assert (settled.drawn, settled.held) == (D(5), D(0))
    assert settled.revive().held == D("62.63")


def test_every_transition_of_a_reservation() -> None:
    assert RESERVATION_TRANSITIONS == {
        (ReservationState.HELD, ReservationEvent.DRAW): ReservationState.HELD,
        (ReservationState.HELD, ReservationEvent.SETTLE): ReservationState.SETTLED,
        (ReservationState.SETTLED, ReservationEvent.DRAW): ReservationState.SETTLED,
        (ReservationState.SETTLED, ReservationEvent.REVIVE): ReservationState.HELD,
    }


def test_a_reservation_refuses_what_is_no_transition() -> None:
    held = Reservation(client_order_id="entry-1", asset="USDT", amount=D("67.63"))
    with pytest.raises(IllegalReservation, match="of order entry-1 is held and can not revive"):
        held.revive()
    with pytest.raises(IllegalReservation, match="of order entry-1 is settled and can not settle"):
        held.settle().settle()
