"""What happens to the books around one order: pure functions, so that every rule is written once and tested alone.

A ``Folio`` is the page of the books that an order is on. A change takes a folio and gives the folio afterwards;
what differs between the two is what the database writes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal, localcontext

import msgspec

from tradingbot_agents.domain import ids
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.messages import ExecutionReport
from tradingbot_agents.domain.orders import Order, OrderEvent, OrderState, Reservation, ReservationState, next_state
from tradingbot_agents.domain.position import Position, PositionState, apply_fill
from tradingbot_agents.domain.values import ZERO, Leg, Side, cut, split_symbol
from tradingbot_agents.ledger.port import Reversal, Trade

EXACT = Context(prec=60)
"""Python's default of 28 digits would round what SQL's numeric keeps."""

FINAL_EVENTS = {
    OrderState.FILLED: OrderEvent.COMPLETE,
    OrderState.CANCELLED: OrderEvent.END_CANCELLED,
    OrderState.REJECTED: OrderEvent.REJECT,
}
"""How an exchange ends an order."""

EXECUTION = "execution"
"""The producer of reports."""


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A position with the round trip in progress."""

    position: Position
    bought: Decimal = ZERO
    """Base currency that the round trip received, a fee in base taken off."""
    bought_cost: Decimal = ZERO
    """What that was paid, fees included."""
    last_order: str | None = None
    """The order whose fill was the last to change it."""
    indicators: tuple[str, ...] = ()
    """Of the entry that opened it."""

    def finished(self, at: datetime, leg: Leg) -> Trade:
        """The round trip as it ends now."""
        position = self.position
        if position.trade_id is None or position.opened_at is None:
            raise ValueError(f"{position.symbol} is {position.state.value}: no round trip is in progress")
        return Trade(
            trade_id=position.trade_id,
            symbol=position.symbol,
            opened_at=position.opened_at,
            closed_at=at,
            bought=self.bought,
            cost=self.bought_cost,
            profit=position.trade_realised,
            fees=position.trade_fees,
            leg=leg,
            indicators=self.indicators,
        )

    def closed(self, state: PositionState) -> Holding:
        """The position without a round trip, FLAT or DUST. What its live exit legs hold stays held."""
        position = msgspec.structs.replace(
            self.position,
            state=state,
            trade_id=None,
            entry_order=None,
            opened_at=None,
            stop_price=None,
            target_price=None,
            high_water=None,
            closing_reason=None,
            exit_attempts=0,
            trade_realised=ZERO,
            trade_fees=ZERO,
        )
        return Holding(position=position, last_order=self.last_order)


class Folio(msgspec.Struct, frozen=True, kw_only=True):
    order: Order
    reservation: Reservation | None
    """Of entries."""
    protect_stop: Decimal | None
    protect_target: Decimal | None
    """What an entry's position shall be protected with."""
    holding: Holding
    other_remainders: Decimal
    """What the other live exit legs of the position may still sell."""
    moved_at: datetime | None = None
    """When an outside movement of the account was booked last."""


class BookedEntry(msgspec.Struct, frozen=True):
    asset: str
    amount: Decimal
    kind: str
    cause: str
    at: datetime


class Movement(msgspec.Struct, frozen=True):
    """An outside movement that stands."""

    cause: str
    at: datetime
    amounts: Mapping[str, Decimal]


def advance(folio: Folio, event: OrderEvent, at: datetime | None, reason: str | None = None) -> Folio:
    """The folio after a transition of the order; ``at`` is needed by those that end it.

    Raises ``IllegalTransition``.
    """
    order = folio.order
    state = next_state(order.client_order_id, order.state, event)
    order = msgspec.structs.replace(
        order,
        state=state,
        reason=order.reason if event is OrderEvent.FILL else reason,
        claimed_at=at if event is OrderEvent.CLAIM else order.claimed_at,
        finished_at=(order.finished_at or at) if state.is_final else None,
    )
    reservation = folio.reservation
    if reservation is not None:
        settled = reservation.state is ReservationState.SETTLED
        if state.is_final and not settled:
            reservation = reservation.settle()
        elif settled and not state.is_final:
            reservation = reservation.revive()
    return with_hold(msgspec.structs.replace(folio, order=order, reservation=reservation))


def with_hold(folio: Folio) -> Folio:
    """The position's hold covers what its live exit legs may still sell, and never more than there is to sell.

    Less than their remainders only when the position got smaller under them: by a fee in base currency, or by a
    late fill of another leg.
    """
    order, position = folio.order, folio.holding.position
    with localcontext(EXACT):
        remainders = folio.other_remainders
        if order.leg.is_exit and order.state.is_live:
            remainders += max(order.remaining, ZERO)
    hold = min(remainders, max(position.amount, ZERO))
    return _with_position(folio, msgspec.structs.replace(position, exit_hold=hold))


def book(
    folio: Folio,
    fills: Sequence[Fill],
    final: OrderState | None,
    at: datetime,
    reason: str | None,
    round_trips: int,
) -> tuple[Folio, Trade | None]:
    """The folio after fills that are new, and the end of the order; and the round trip that they finished.

    A final order stays what it is: late fills are booked all the same. ``round_trips`` is how many the order
    opened before. Raises ``IllegalTransition`` for an order that was never sent.
    """
    with localcontext(EXACT):
        for fill in fills:
            folio = _sold(folio, fill) if fill.side is Side.SELL else _bought(folio, fill, round_trips)
        if final is not None and not folio.order.state.is_final:
            folio = advance(folio, FINAL_EVENTS[final], at, reason)
        elif fills:
            folio = advance(folio, OrderEvent.FILL, at)
        if fills:
            told = msgspec.structs.replace(folio.holding, last_order=folio.order.client_order_id)
            folio = msgspec.structs.replace(folio, holding=told)
        holding = folio.holding
        if not (folio.order.leg.is_exit and holding.position.is_held and holding.position.amount <= ZERO):
            return folio, None
        trade = holding.finished(fills[-1].at, folio.order.leg)
        return msgspec.structs.replace(folio, holding=holding.closed(PositionState.FLAT)), trade


def _sold(folio: Folio, fill: Fill) -> Folio:
    return _with_position(_filled(folio, fill), apply_fill(folio.holding.position, fill))


def _bought(folio: Folio, fill: Fill, round_trips: int) -> Folio:
    if folio.reservation is not None:
        spent = fill.cost
        if fill.fee is not None and fill.fee.asset == folio.reservation.asset:
            spent += fill.fee.amount
        folio = msgspec.structs.replace(folio, reservation=folio.reservation.draw(spent))
    before = folio.holding
    # Below zero: it only covers what was sold too much.
    if not before.position.is_held and apply_fill(before.position, fill).amount > ZERO:
        before = _opened(folio, fill, round_trips)
    position = apply_fill(before.position, fill)
    after = msgspec.structs.replace(
        before,
        position=position,
        bought=before.bought + position.amount - before.position.amount,
        bought_cost=before.bought_cost + position.cost - before.position.cost,
    )
    return msgspec.structs.replace(_filled(folio, fill), holding=after)


def _filled(folio: Folio, fill: Fill) -> Folio:
    order = folio.order
    filled = msgspec.structs.replace(order, filled=order.filled + fill.amount, cost=order.cost + fill.cost)
    return msgspec.structs.replace(folio, order=filled)


def _opened(folio: Folio, fill: Fill, round_trips: int) -> Holding:
    """A new round trip. Dust that was left of an earlier one stays in amount and cost, and is sold with it."""
    order = folio.order
    opener = order.client_order_id if not round_trips else f"{order.client_order_id}+{round_trips}"
    position = msgspec.structs.replace(
        folio.holding.position,
        state=PositionState.OPEN,
        trade_id=ids.trade_id(order.bot, order.symbol, opener),
        entry_order=order.client_order_id,
        opened_at=fill.at,
        stop_price=folio.protect_stop,
        target_price=folio.protect_target,
        high_water=fill.price,
        trade_realised=ZERO,
        trade_fees=ZERO,
    )
    return Holding(position=position)


def _with_position(folio: Folio, position: Position) -> Folio:
    return msgspec.structs.replace(folio, holding=msgspec.structs.replace(folio.holding, position=position))


def entries_of(fill: Fill) -> list[BookedEntry]:
    """Both sides of the trade and its fee, as lines of the books."""
    base, quote = split_symbol(fill.symbol)
    sign = 1 if fill.side is Side.BUY else -1
    cause = f"{fill.symbol}:{fill.exchange_trade_id}"
    with localcontext(EXACT):
        entries = [
            BookedEntry(base, sign * fill.amount, "fill", cause, fill.at),
            BookedEntry(quote, -sign * fill.cost, "fill", cause, fill.at),
        ]
    if fill.fee is not None and fill.fee.amount:
        entries.append(BookedEntry(fill.fee.asset, -fill.fee.amount, "fee", cause, fill.at))
    return entries


def explained(fills: Sequence[Fill], movements: Sequence[Movement]) -> tuple[tuple[Reversal, ...], tuple[str, ...]]:
    """What new ``fills`` take back of outside ``movements``, and the causes of those that may contain fills and stay.

    The exchange's balances had a fill when a later movement was booked from them. Only exactly its amounts, in all
    its assets, say that it was the movement: what is left over must not be guessed, and the next comparison finds it.
    """
    reversals: list[Reversal] = []
    others: list[Movement] = []
    left = list(fills)
    for movement in sorted(movements, key=lambda movement: (movement.at, movement.cause)):
        before = [fill for fill in left if fill.at <= movement.at]
        changes = _changes(before)
        if changes and all(movement.amounts.get(asset) == amount for asset, amount in changes.items()):
            reversals += [
                Reversal(asset=asset, amount=-amount, cause=movement.cause) for asset, amount in changes.items()
            ]
            left = [fill for fill in left if fill not in before]
        else:
            others.append(movement)
    doubtful = [
        movement.cause
        for movement in others
        if movement.amounts.keys() & _changes([fill for fill in left if fill.at <= movement.at]).keys()
    ]
    return tuple(reversals), tuple(doubtful)


def _changes(fills: Sequence[Fill]) -> dict[str, Decimal]:
    return changes_by([entry for fill in fills for entry in entries_of(fill)])


def changes_by(entries: Sequence[BookedEntry]) -> dict[str, Decimal]:
    """What entries do to the account's totals, by asset in order of their names; what cancels out is not in it."""
    changes: dict[str, Decimal] = {}
    with localcontext(EXACT):
        for entry in entries:
            changes[entry.asset] = changes.get(entry.asset, ZERO) + entry.amount
    return {asset: changes[asset] for asset in sorted(changes) if changes[asset]}


def report(order: Order, at: datetime, trade: Trade | None) -> ExecutionReport:
    """Tells what an order is now. Its id is a function of that, so that a repeated one is recognised."""
    parts: list[object] = [order.client_order_id, order.state.value, _plain(order.filled)]
    return ExecutionReport(
        id="report." + ids.digest(*parts),
        correlation_id=order.correlation_id,
        causation_id=order.client_order_id,
        bot=order.bot,
        producer=EXECUTION,
        at=at,
        symbol=order.symbol,
        side=order.side,
        leg=order.leg,
        client_order_id=order.client_order_id,
        state=order.state,
        filled=order.filled,
        average_price=None if order.average_price is None else cut(order.average_price),
        reason=order.reason,
        closed_trade=None if trade is None else trade.trade_id,
        profit=None if trade is None else trade.profit,
    )


def dust_report(order: Order, at: datetime, trade: Trade) -> ExecutionReport:
    """Tells that ``trade`` ended though something is left, by the last order that changed its position."""
    told = report(order, at, trade)
    return msgspec.structs.replace(told, id="report." + ids.digest(order.client_order_id, trade.trade_id, "dust"))


def _plain(value: Decimal) -> str:
    """0.50 and 0.5 are the same amount, and must give the same id."""
    with localcontext(EXACT):
        return f"{value.normalize():f}"
