"""What a position needs next: a stop, a higher stop, its sale, or nothing. Pure: time and prices are arguments.

``next_step`` looks at the position, its orders and the price, and names one step; the caller takes it and asks
again, until the answer is ``Rest``. So a step that was interrupted (a crash, a rate limit) is simply named
again by the next look, and what happens does not depend on what a process remembers.

The rules of selling: all exits share one hold, so a resting stop is withdrawn, and its final state and fills
known, before anything else is sold. Stops only ever rise.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, TIMEFRAMES, ZERO, BotState, Leg, OrderType, Side, floor_time
from tradingbot_agents.exchange.port import Capabilities
from tradingbot_agents.execution.settings import Settings, TrailingSettings

STOP_TYPES = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)

_REFUSED_FOR_GOOD = frozenset({"order_type_not_supported", "unknown_symbol"})
"""Reason codes with which an exchange refuses the same order whenever it is asked. Any other refusal, such as a
balance that is not there yet or a symbol that is halted, may pass."""


class Observation(msgspec.Struct, frozen=True, gc=False):
    """Prices of one look at the market, all seen while the position was held."""

    last: Decimal
    low: Decimal
    high: Decimal


class Trail(msgspec.Struct, frozen=True):
    """The trailing stop's new high-water mark, and the stop that it asks for."""

    high_water: Decimal
    stop_price: Decimal | None


class Terms(msgspec.Struct, frozen=True, kw_only=True):
    """What the exchange takes and what was set, for one symbol."""

    rules: SymbolRules
    capabilities: Capabilities
    settings: Settings


class Rest(msgspec.Struct, frozen=True):
    """Nothing to do now."""

    why: str = ""
    """Why the position has no stop on the exchange, for people; empty when it has one or needs none there."""
    until: datetime | None = None
    """Look again then; ``None``: the next candle or watch is soon enough."""


class Protect(msgspec.Struct, frozen=True, kw_only=True):
    """Put a stop on the exchange."""

    type: OrderType
    amount: Decimal
    stop_price: Decimal
    limit_price: Decimal | None


class Withdraw(msgspec.Struct, frozen=True):
    """Cancel the order."""

    order: Order
    why: str


class Leave(msgspec.Struct, frozen=True):
    """Ask for the exit of the whole position."""

    leg: Leg
    why: str


class Sell(msgspec.Struct, frozen=True):
    """Sell at market."""

    leg: Leg
    amount: Decimal


class Dust(msgspec.Struct, frozen=True):
    """What is left can not be sold."""

    leg: Leg


Step = Rest | Protect | Withdraw | Leave | Sell | Dust


def observe_candle(candle: Candle, opened_at: datetime | None) -> Observation | None:
    """What the bar says of a position that was opened at ``opened_at``: a bar before the one that it was
    opened in says nothing, and that one only its close, for its low and high may be of before the entry."""
    if opened_at is not None and candle.open_time < opened_at:
        if candle.open_time < floor_time(opened_at, TIMEFRAMES[candle.timeframe]):
            return None
        return Observation(candle.close, candle.close, candle.close)
    return Observation(candle.close, candle.low, candle.high)


def follow(
    position: Position, seen: Observation, trailing: TrailingSettings, rules: SymbolRules
) -> tuple[Observation, Trail | None]:
    """Follow the price with the trailing stop: what is left to test of ``seen``, and what is to be kept.

    A bar's low is tested against the stop as it was before the bar, for nobody knows whether the low came
    before or after the high that raised it. A bar whose high *is* the mark has set it, perhaps before a crash:
    its low is not tested again.
    """
    mark = position.high_water
    stop = position.stop_price
    if mark is not None and seen.high <= mark:
        return (Observation(seen.last, seen.last, seen.high) if seen.high == mark else seen), None
    if stop is not None and seen.low <= stop:
        return seen, None
    higher = _trailing_stop(position, seen.high, trailing, rules)
    return Observation(seen.last, seen.last, seen.high), Trail(seen.high, stop if higher is None else higher)


def _trailing_stop(
    position: Position, high: Decimal, trailing: TrailingSettings, rules: SymbolRules
) -> Decimal | None:
    """The stop that a high asks for, on the tick, when it is enough above the one that stands."""
    entry = position.average_cost
    if entry is not None and trailing.activate_at is not None and high < entry * (ONE + trailing.activate_at):
        return None
    wanted = rules.safe_price(Side.SELL, high * (ONE - trailing.distance))
    stop = position.stop_price
    if stop is not None and (wanted <= stop or wanted < stop * (ONE + trailing.step)):
        return None
    return wanted


def closing_leg(position: Position) -> Leg:
    """The leg that a closing position is sold by. Books of earlier versions may hold the strategy's own words
    instead, even the name of a leg that buys: those are an ``exit``."""
    try:
        leg = Leg(position.closing_reason or "")
    except ValueError:
        return Leg.EXIT
    return leg if leg.is_exit else Leg.EXIT


def entry_must_go(order: Order, position: Position | None, state: BotState, now: datetime, limit: Settings) -> str:
    """Why an entry that rests on the exchange is cancelled, or empty."""
    if not state.allows_exits:
        return ""
    if state.cancels_entries:
        return f"the bot is {state.value}"
    if position is not None and position.state is PositionState.CLOSING:
        return "its position is being sold"
    if now >= (order.claimed_at or order.created_at) + limit.order_time_limit:
        return f"it rested for longer than {limit.order_time_limit.total_seconds():g} s"
    return ""


def sellable(position: Position, rules: SymbolRules, price: Decimal | None) -> Decimal:
    """What one order may sell of the position: what ``SymbolRules.sellable`` leaves, within the largest order.
    ``price`` is the one that the order's notional is measured by; without it the largest notional is left to
    the exchange."""
    amount = rules.sellable(position.amount)
    limits = [rules.max_amount, rules.max_market_amount]
    if rules.max_notional is not None and price is not None and price > ZERO:
        limits.append(rules.max_notional / price)
    return rules.floor_amount(min([amount, *(limit for limit in limits if limit is not None)]))


def is_dust(position: Position, rules: SymbolRules, price: Decimal | None) -> bool:
    """Whether no order can sell what is left. Without a price only the amount is judged: the exchange judges
    the rest."""
    if price is None:
        amount = rules.sellable(position.amount)
        return amount <= ZERO or amount < rules.min_amount
    return rules.is_dust(position.amount, price)


def attempts_in_vain(history: Sequence[Order]) -> int:
    """How many of the last attempts, in a row, did nothing: sold nothing, or never rested as a stop."""
    count = 0
    for order in reversed(history):
        if order.filled or (order.type in STOP_TYPES and order.state is OrderState.CANCELLED):
            break
        count += 1
    return count


def retry_at(history: Sequence[Order], settings: Settings) -> datetime:
    """When the next attempt may follow the finished ones: a function of the ledger alone, so that a restart
    waits for the same moment."""
    last = history[-1]
    doublings = max(attempts_in_vain(history) - 1, 0)
    delay = settings.exit_retry
    while doublings and delay < settings.exit_retry_longest:
        delay *= 2
        doublings -= 1
    return (last.finished_at or last.created_at) + min(delay, settings.exit_retry_longest)


def next_step(
    position: Position,
    *,
    live: Sequence[Order],
    stops: Sequence[Order],
    sales: Sequence[Order],
    seen: Observation | None,
    price: Decimal | None,
    terms: Terms,
    state: BotState,
    now: datetime,
) -> Step:
    """The next step for a position that is held (open or closing).

    ``live`` are the symbol's live orders, oldest first. ``stops`` and ``sales`` are the round trip's finished
    stop orders and market sales, oldest first, and ``price`` is the last price known at all: these three matter
    only when no exit is live. ``seen`` is what the market showed just now.
    """
    if not terms.rules.active:
        # Withdrawn now, a stop could not be placed again; left there, it works when trading goes on.
        resting = any(order.leg.is_exit and order.state is OrderState.OPEN for order in live)
        return Rest("" if resting else "its symbol does not trade", now + terms.settings.exit_retry_longest)
    if position.state is PositionState.CLOSING:
        return _closing(position, live, sales, price, terms, state, now)
    exits = [order for order in live if order.leg.is_exit]
    if state is BotState.FLATTEN:
        return Leave(Leg.FLATTEN, "the bot is to be flat")
    if state.allows_exits and seen is not None and _target_reached(position, seen):
        return Leave(Leg.TARGET, f"{seen.last:f} reached the target {position.target_price:f}")
    if exits:
        return _resting(position, exits, seen, terms, state)
    return _unprotected(position, live, stops, seen, price, terms, state, now)


def _target_reached(position: Position, seen: Observation) -> bool:
    # By the last price, not the bar's high: a touch that is over would be sold at a worse price than was asked.
    return position.target_price is not None and seen.last >= position.target_price


def _stop_reached(position: Position, seen: Observation | None) -> bool:
    return seen is not None and position.stop_price is not None and seen.low <= position.stop_price


def _resting(
    position: Position, exits: Sequence[Order], seen: Observation | None, terms: Terms, state: BotState
) -> Step:
    """An open position with exits that the exchange has, or may have."""
    newest = exits[-1]
    if not state.allows_exits:
        return Rest() if newest.state is OrderState.OPEN else Rest("its stop's outcome is open")
    for older in exits[:-1]:
        if older.state is OrderState.OPEN:
            return Withdraw(older, "a newer stop replaces it")
    if newest.state is not OrderState.OPEN:
        if seen is not None and _stop_reached(position, seen):
            return Leave(Leg.STOP, f"{seen.low:f} reached the stop {position.stop_price:f}")
        return Rest("its stop's outcome is open")
    if seen is not None and (why := _stop_is_late(position, newest, seen)):
        return Leave(Leg.STOP, why)
    if newest.filled:
        return Rest()
    if position.stop_price is not None and newest.stop_price is not None and position.stop_price > newest.stop_price:
        return Withdraw(newest, f"its stop moves from {newest.stop_price:f} to {position.stop_price:f}")
    covered = sellable(position, terms.rules, newest.stop_price)
    if covered > newest.amount:
        return Withdraw(newest, f"its stop grows from {newest.amount:f} to {covered:f}")
    return Rest()


def _stop_is_late(position: Position, resting: Order, seen: Observation) -> str:
    """Why a stop that rests on the exchange does not do its work, or empty."""
    if resting.limit_price is not None and seen.last < resting.limit_price:
        return f"{seen.last:f} passed the limit {resting.limit_price:f} of its stop"
    if (
        position.stop_price is not None
        and resting.stop_price is not None
        and resting.stop_price < position.stop_price
        and seen.last <= position.stop_price
    ):
        return f"{seen.last:f} reached the stop {position.stop_price:f} before it could be moved there"
    return ""


def _unprotected(
    position: Position,
    live: Sequence[Order],
    stops: Sequence[Order],
    seen: Observation | None,
    price: Decimal | None,
    terms: Terms,
    state: BotState,
    now: datetime,
) -> Step:
    """An open position without an exit on the exchange."""
    rules, settings = terms.rules, terms.settings
    last = stops[-1] if stops else None
    stopped_out = last is not None and last.filled > ZERO
    if not live and is_dust(position, rules, price):
        return Dust(Leg.STOP if stopped_out else Leg.EXIT)
    if not state.allows_exits:
        return Rest(f"the bot is {state.value}")
    if stopped_out:
        return Leave(Leg.STOP, "its stop was filled in part")
    if position.stop_price is None:
        return Rest("the books have no stop price for it: only a signal, its target or Flatten sells it")
    if seen is not None and _stop_reached(position, seen):
        return Leave(Leg.STOP, f"{seen.low:f} reached the stop {position.stop_price:f}")
    kind = _stop_type(terms)
    if kind is None:
        return Rest()
    wanted = _stop_order(position, kind, terms)
    problem = rules.order_problem(kind, wanted.amount, wanted.stop_price)
    if problem is not None:
        return Rest(f"no stop of this size is accepted ({problem}): the price is watched")
    same = [order for order in stops if order.stop_price == wanted.stop_price and order.amount == wanted.amount]
    if last is not None and same and same[-1] is last:
        why = f"its stop is {last.state.value}"
        if last.state is OrderState.REJECTED:
            if price is not None and price <= position.stop_price:
                return Leave(Leg.STOP, f"{price:f} had passed the stop {position.stop_price:f} when it was placed")
            if _refusal(last) == "stop_would_trigger_immediately":
                return Leave(Leg.STOP, f"the price had passed the stop {position.stop_price:f} when it was placed")
            if _refusal(last) in _REFUSED_FOR_GOOD:
                return Rest(f"the exchange takes no such stop ({last.reason}): the price is watched")
            why = f"the exchange refused its stop ({last.reason})"
        again = retry_at(same, settings)
        if now < again:
            return Rest(f"{why}: it is placed again at {again.isoformat()}", again)
    return wanted


def _refusal(order: Order) -> str:
    """The code of ``exchange.port.OrderRejected``, which its reason in the books begins with."""
    return (order.reason or "").partition(":")[0]


def _stop_type(terms: Terms) -> OrderType | None:
    if not terms.settings.stops_on_exchange:
        return None
    if terms.capabilities.stop_market:
        return OrderType.STOP_MARKET
    return OrderType.STOP_LIMIT if terms.capabilities.stop_limit else None


def _stop_order(position: Position, kind: OrderType, terms: Terms) -> Protect:
    assert position.stop_price is not None
    rules = terms.rules
    stop = rules.safe_price(Side.SELL, position.stop_price)
    limit = None
    if kind is OrderType.STOP_LIMIT:
        limit = rules.safe_price(Side.SELL, stop * (ONE - terms.settings.stop_limit_offset))
    return Protect(type=kind, amount=sellable(position, rules, stop), stop_price=stop, limit_price=limit)


def _closing(
    position: Position,
    live: Sequence[Order],
    sales: Sequence[Order],
    price: Decimal | None,
    terms: Terms,
    state: BotState,
    now: datetime,
) -> Step:
    """A position that is to be sold: withdraw what rests, wait for its end, sell the rest."""
    if not state.allows_exits:
        return Rest(f"the bot is {state.value}")
    for order in live:
        if order.state is OrderState.OPEN and (order.leg is Leg.ENTRY or order.type in STOP_TYPES):
            return Withdraw(order, "its position is being sold")
    if live:
        return Rest("an order's end is waited for")
    leg = closing_leg(position)
    if is_dust(position, terms.rules, price):
        return Dust(leg)
    if sales:
        again = retry_at(sales, terms.settings)
        if now < again:
            # What the market did not take is offered again at the next look, when it has something new to say.
            refused = sales[-1].state not in (OrderState.FILLED, OrderState.CANCELLED)
            return Rest(f"its sale is {sales[-1].state.value}", again if refused else None)
    return Sell(leg, sellable(position, terms.rules, price))
