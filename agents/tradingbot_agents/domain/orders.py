"""Orders, their reservations, and every transition that either may make.

An order's life is written down before it is acted on: ``approved`` (reserved, not sent) → ``submitting``
(claimed; it may be in flight) → ``open`` → final. An unknown outcome is a state of its own, ``unresolved``,
and so is the answer "not found", from which an order may still be taken up again.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from tradingbot_agents.domain.values import ZERO, Leg, OrderType, Side, TimeInForce


class OrderState(StrEnum):
    APPROVED = "approved"
    """Reserved in the ledger, not sent."""
    SUBMITTING = "submitting"
    """Claimed by execution: it may have reached the exchange."""
    OPEN = "open"
    """The exchange has it."""
    CANCELLING = "cancelling"
    """A cancel was written down and may have reached the exchange."""
    UNRESOLVED = "unresolved"
    """A timeout, a 5xx or a crash: looked up by client order id, never sent again blindly."""
    FILLED = "filled"
    CANCELLED = "cancelled"
    """Final with a remainder: cancelled by us, or the remainder of an IOC order dropped by the exchange."""
    REJECTED = "rejected"
    """The exchange refused it."""
    DENIED = "denied"
    """Refused by us after the approval, before it was sent."""
    NOT_FOUND = "not_found"
    """The exchange says it never had it. Final, unless the order appears after all."""

    @property
    def is_final(self) -> bool:
        return self in _FINAL

    @property
    def is_live(self) -> bool:
        """The exchange may have it: its remainder counts against a hold."""
        return self in _LIVE


_FINAL = frozenset(
    {OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED, OrderState.DENIED, OrderState.NOT_FOUND}
)
_LIVE = frozenset({OrderState.SUBMITTING, OrderState.OPEN, OrderState.CANCELLING, OrderState.UNRESOLVED})


class OrderEvent(StrEnum):
    """The names of the transitions."""

    CLAIM = "claim"
    DENY = "deny"
    ACKNOWLEDGE = "acknowledge"
    REJECT = "reject"
    LOSE_CONTACT = "lose_contact"
    FILL = "fill"
    """A fill that leaves a remainder: the state stays, the filled amount grows."""
    COMPLETE = "complete"
    REQUEST_CANCEL = "request_cancel"
    END_CANCELLED = "end_cancelled"
    NOT_FOUND = "not_found"
    REAPPEAR = "reappear"


_S = OrderState
_E = OrderEvent
TRANSITIONS: dict[tuple[OrderState, OrderEvent], OrderState] = {
    (_S.APPROVED, _E.CLAIM): _S.SUBMITTING,
    (_S.APPROVED, _E.DENY): _S.DENIED,
    (_S.SUBMITTING, _E.ACKNOWLEDGE): _S.OPEN,
    (_S.SUBMITTING, _E.DENY): _S.DENIED,
    (_S.SUBMITTING, _E.REJECT): _S.REJECTED,
    (_S.SUBMITTING, _E.LOSE_CONTACT): _S.UNRESOLVED,
    (_S.SUBMITTING, _E.FILL): _S.OPEN,
    (_S.SUBMITTING, _E.COMPLETE): _S.FILLED,
    (_S.SUBMITTING, _E.END_CANCELLED): _S.CANCELLED,
    (_S.OPEN, _E.FILL): _S.OPEN,
    (_S.OPEN, _E.COMPLETE): _S.FILLED,
    (_S.OPEN, _E.REQUEST_CANCEL): _S.CANCELLING,
    (_S.OPEN, _E.END_CANCELLED): _S.CANCELLED,
    (_S.OPEN, _E.REJECT): _S.REJECTED,
    (_S.OPEN, _E.LOSE_CONTACT): _S.UNRESOLVED,
    (_S.CANCELLING, _E.FILL): _S.CANCELLING,
    (_S.CANCELLING, _E.COMPLETE): _S.FILLED,
    (_S.CANCELLING, _E.END_CANCELLED): _S.CANCELLED,
    (_S.CANCELLING, _E.REJECT): _S.REJECTED,
    (_S.CANCELLING, _E.LOSE_CONTACT): _S.UNRESOLVED,
    (_S.UNRESOLVED, _E.ACKNOWLEDGE): _S.OPEN,
    (_S.UNRESOLVED, _E.FILL): _S.UNRESOLVED,
    (_S.UNRESOLVED, _E.COMPLETE): _S.FILLED,
    (_S.UNRESOLVED, _E.END_CANCELLED): _S.CANCELLED,
    (_S.UNRESOLVED, _E.REJECT): _S.REJECTED,
    (_S.UNRESOLVED, _E.NOT_FOUND): _S.NOT_FOUND,
    (_S.NOT_FOUND, _E.REAPPEAR): _S.OPEN,
    # A fill that arrives after the end is still booked ("every fill counted once"), and changes no state.
    (_S.FILLED, _E.FILL): _S.FILLED,
    (_S.CANCELLED, _E.FILL): _S.CANCELLED,
    (_S.REJECTED, _E.FILL): _S.REJECTED,
    (_S.DENIED, _E.FILL): _S.DENIED,
    (_S.NOT_FOUND, _E.FILL): _S.NOT_FOUND,
}
"""Every transition there is. What is not here is refused."""


class IllegalTransition(Exception):
    """An order was asked to do what its state does not allow: a bug, or two writers."""

    def __init__(self, client_order_id: str, state: OrderState, event: OrderEvent) -> None:
        super().__init__(f"order {client_order_id} is {state.value} and can not {event.value}")
        self.client_order_id = client_order_id
        self.state = state
        self.event = event


def next_state(client_order_id: str, state: OrderState, event: OrderEvent) -> OrderState:
    """The state after ``event``. Raises ``IllegalTransition``."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise IllegalTransition(client_order_id, state, event) from None


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the ledger knows it. ``amount`` and ``filled`` in base, ``cost`` in quote currency."""

    client_order_id: str
    bot: str
    symbol: str
    side: Side
    leg: Leg
    type: OrderType
    time_in_force: TimeInForce
    amount: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    state: OrderState
    cause: str
    """The intent (entries, exits) or the trade (stops, targets, flatten) that made it."""
    attempt: int
    correlation_id: str
    created_at: datetime
    expires_at: datetime | None
    """An entry is not sent after this moment."""
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    exchange_order_id: str | None = None
    claimed_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    """Why it was rejected, denied, or cancelled."""

    @property
    def remaining(self) -> Decimal:
        return self.amount - self.filled

    @property
    def average_price(self) -> Decimal | None:
        return self.cost / self.filled if self.filled else None


class ReservationState(StrEnum):
    HELD = "held"
    SETTLED = "settled"
    """Its order is final: what fills drew is spent, the rest is available again."""


class ReservationEvent(StrEnum):
    DRAW = "draw"
    """A fill or fee spends a part of what is held."""
    SETTLE = "settle"
    REVIVE = "revive"
    """The order appeared after all: what is left of the budget is held again."""


RESERVATION_TRANSITIONS: dict[tuple[ReservationState, ReservationEvent], ReservationState] = {
    (ReservationState.HELD, ReservationEvent.DRAW): ReservationState.HELD,
    (ReservationState.HELD, ReservationEvent.SETTLE): ReservationState.SETTLED,
    # A late fill is booked after the end: it changes what was drawn, and holds nothing again.
    (ReservationState.SETTLED, ReservationEvent.DRAW): ReservationState.SETTLED,
    (ReservationState.SETTLED, ReservationEvent.REVIVE): ReservationState.HELD,
}
"""Every transition there is. What is not here is refused."""


class IllegalReservation(Exception):
    """A reservation was asked to do what its state does not allow: a bug, or two writers."""

    def __init__(self, client_order_id: str, state: ReservationState, event: ReservationEvent) -> None:
        super().__init__(f"the reservation of order {client_order_id} is {state.value} and can not {event.value}")
        self.client_order_id = client_order_id
        self.state = state
        self.event = event


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """Quote currency that an entry may spend. The budget stays held until the order is final."""

    client_order_id: str
    asset: str
    amount: Decimal
    drawn: Decimal = ZERO
    """What fills have spent of it; more than ``amount`` only when an exchange filled beyond the limit."""
    state: ReservationState = ReservationState.HELD

    @property
    def held(self) -> Decimal:
        """What still counts as reserved."""
        if self.state is ReservationState.SETTLED:
            return ZERO
        return max(self.amount - self.drawn, ZERO)

    def draw(self, spent: Decimal) -> Reservation:
        """A fill is always booked: drawing on a settled reservation changes only what was drawn."""
        return msgspec.structs.replace(self._after(ReservationEvent.DRAW), drawn=self.drawn + spent)

    def settle(self) -> Reservation:
        """Raises ``IllegalReservation`` when it is settled already."""
        return self._after(ReservationEvent.SETTLE)

    def revive(self) -> Reservation:
        """Raises ``IllegalReservation`` when it is held already."""
        return self._after(ReservationEvent.REVIVE)

    def _after(self, event: ReservationEvent) -> Reservation:
        state = RESERVATION_TRANSITIONS.get((self.state, event))
        if state is None:
            raise IllegalReservation(self.client_order_id, self.state, event)
        return msgspec.structs.replace(self, state=state)
