"""What to make of the exchange's answer about one order. Pure: the answers, the time and the look-ups so far
are arguments.

An order ends in the books only when the exchange says that it is final *and* all its trades are there: their
lists lag behind the order's state on most exchanges, and an end without its fills would release money that is
spent. An order that is not found is believed to be missing only after the send limit, the receive window, and
several look-ups spread over a margin; one that the exchange once confirmed is never believed to be missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

import msgspec

from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import ZERO
from tradingbot_agents.exchange.port import ExchangeOrder, ExchangeOrderState, ExchangeTrade
from tradingbot_agents.execution.settings import LookUpSettings


class LookUps(msgspec.Struct, frozen=True):
    """Look-ups of one order that did not find it, as far as they count."""

    misses: int = 0
    first: datetime | None = None


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """What is known now, and what follows. At most one of the three last fields says something."""

    exchange_order_id: str | None = None
    """The exchange has the order under this id."""
    trades: tuple[ExchangeTrade, ...] = ()
    """To be booked; those that are booked already do no harm."""
    final: OrderState | None = None
    look_again: datetime | None = None
    """The outcome, or a part of it, is open until then at least."""
    lost: bool = False
    """A confirmed order is not shown any more: its outcome is open."""
    not_found: bool = False
    """It never arrived."""


def distinct(trades: Iterable[ExchangeTrade]) -> tuple[ExchangeTrade, ...]:
    """Exchanges repeat trades; each counts once."""
    return tuple({trade.exchange_trade_id: trade for trade in trades}.values())


def has_news(order: Order, found: ExchangeOrder) -> bool:
    """Whether the trades of the order must be read: the exchange filled more than is booked."""
    return found.filled > order.filled


def final_state(order: Order, found: ExchangeOrder) -> OrderState | None:
    """The state in the books of an order that ended on the exchange, or ``None`` while it lives."""
    if found.state is ExchangeOrderState.OPEN:
        return None
    if found.filled >= order.amount:
        return OrderState.FILLED
    if (
        found.state is ExchangeOrderState.REJECTED
        and found.filled == ZERO
        and order.state is not OrderState.CANCELLING
    ):
        return OrderState.REJECTED
    return OrderState.CANCELLED


def resolve_found(
    order: Order, found: ExchangeOrder, trades: Sequence[ExchangeTrade], now: datetime, settings: LookUpSettings
) -> Resolution:
    """The exchange shows the order; ``trades`` are all that it tells of it (empty when there is no news)."""
    once = distinct(trades)
    told = max(sum((trade.amount for trade in once), ZERO), order.filled)
    complete = told >= found.filled
    return Resolution(
        exchange_order_id=found.exchange_order_id,
        trades=once,
        final=final_state(order, found) if complete else None,
        look_again=None if complete else now + settings.spacing,
    )


def resolve_missing(
    order: Order, look_ups: LookUps, now: datetime, settings: LookUpSettings
) -> tuple[Resolution, LookUps]:
    """The exchange shows no such order. The second value is the history for the next time."""
    confirmed = order.exchange_order_id is not None or order.filled > ZERO
    if not confirmed and settings.immediate_not_found:
        return Resolution(not_found=True), look_ups
    again = Resolution(look_again=now + settings.spacing)
    claimed = order.claimed_at or order.created_at
    if now < claimed + settings.send_limit + settings.receive_window:
        return again, look_ups
    first = look_ups.first or now
    look_ups = LookUps(look_ups.misses + 1, first)
    if look_ups.misses < settings.attempts or now - first < settings.margin:
        return again, look_ups
    if not confirmed:
        return Resolution(not_found=True), look_ups
    if order.state is OrderState.UNRESOLVED:
        return again, look_ups
    return Resolution(lost=True, look_again=now + settings.spacing), look_ups


def send_problem(order: Order, now: datetime, settings: LookUpSettings, taken_up: bool) -> str | None:
    """Why a claimed order must not be sent any more, in words.

    ``taken_up``: a new process took the order up and the exchange's authoritative answer is that it is not
    there; then only its expiry counts, for the old process is fenced off and nothing of it is under way.
    """
    if order.expires_at is not None and now > order.expires_at:
        return f"stale_intent: it expired at {order.expires_at.isoformat()}"
    claimed = order.claimed_at or order.created_at
    if not taken_up and now > claimed + settings.send_limit:
        limit = settings.send_limit.total_seconds()
        return f"send_limit: it was claimed at {claimed.isoformat()} and not sent within {limit:g} s"
    return None
