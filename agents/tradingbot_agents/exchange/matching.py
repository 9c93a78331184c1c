"""How a bar or the last price fills an order: pure functions of the order, the bar and a number in 0..1.

A bar does not tell the path of the price inside it, so every choice is the one that flatters the bot least:

- a resting limit order fills when the price trades *through* its limit; a touch is not enough, for nobody knows
  how many orders stood before it. It fills at its limit, or at the open when the bar already opened beyond it;
- a stop triggers when the bar touches it, and fills at its stop or, after a jump, at the open, less slippage;
- a stop-limit order whose limit the trigger has passed rests, and may fill from the next bar on;
- of a bar's volume all of an account's orders together get a share, those nearest to the open first.

Slippage is never in the order's favour, never passes its limit, and never leaves the bar's range.
"""

from __future__ import annotations

from decimal import Decimal
from hashlib import blake2b

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, OrderType, Side
from tradingbot_agents.exchange.books import BookOrder

_STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)


class Match(msgspec.Struct, frozen=True):
    """What a bar does to an order: the price at which it may fill (``None``: not at all), whether as maker, and
    whether its stop is reached."""

    price: Decimal | None
    maker: bool = False
    triggers: bool = False


NO_MATCH = Match(None)


def chance(seed: int, *parts: object) -> Decimal:
    """A number in 0..1 that depends on nothing but its arguments, so that a restart draws the same one."""
    joined = "\x1f".join(str(part) for part in (seed, *parts)).encode()
    return Decimal(int.from_bytes(blake2b(joined, digest_size=6).digest(), "big")) / Decimal(1 << 48)


def distance(order: BookOrder, bar: Candle) -> Decimal:
    """How far the bar's price must go from its open to reach the order: the nearest is served first."""
    if order.type is OrderType.STOP_MARKET and order.triggered:
        return ZERO
    price = order.stop_price if order.type in _STOPS and not order.triggered else order.limit_price
    return abs(bar.open - price) if price is not None else ZERO


def match_at_once(order: BookOrder, bar: Candle, rules: SymbolRules, slip: Decimal) -> Match:
    """A market or limit order that has just arrived, against the last closed bar. ``slip`` is the fraction by which
    it pays more, or gets less, than the last price."""
    if not _marketable(order, bar.close):
        return NO_MATCH
    return Match(_slipped(order, bar.close, bar, rules, slip))


def match_in_bar(order: BookOrder, bar: Candle, rules: SymbolRules, slip: Decimal) -> Match:
    """A resting order, against a bar that has just closed."""
    buys = order.side is Side.BUY
    if order.type in _STOPS and not order.triggered:
        stop = order.stop_price
        if stop is None or (bar.high < stop if buys else bar.low > stop):
            return NO_MATCH
        start = max(stop, bar.open) if buys else min(stop, bar.open)
        if order.type is OrderType.STOP_LIMIT and not _marketable(order, start):
            return Match(None, triggers=True)
        return Match(_slipped(order, start, bar, rules, slip), triggers=True)
    limit = order.limit_price
    if limit is None:
        return Match(_slipped(order, bar.open, bar, rules, slip))
    if bar.low < limit if buys else bar.high > limit:
        better = min(limit, bar.open) if buys else max(limit, bar.open)
        return Match(_on_tick(order.side, better, bar, rules), maker=True)
    return NO_MATCH


def match_at_price(order: BookOrder, bar: Candle, rules: SymbolRules, slip: Decimal) -> Match:
    """A resting order, against the close of ``bar`` alone: the rest of the bar may have been before the order."""
    buys, price = order.side is Side.BUY, bar.close
    if order.type in _STOPS and not order.triggered:
        stop = order.stop_price
        if stop is None or (price < stop if buys else price > stop):
            return NO_MATCH
        return Match(match_at_once(order, bar, rules, slip).price, triggers=True)
    limit = order.limit_price
    if limit is None:
        return match_at_once(order, bar, rules, slip)
    if price < limit if buys else price > limit:
        return Match(_on_tick(order.side, limit, bar, rules), maker=True)
    return NO_MATCH


def _marketable(order: BookOrder, price: Decimal) -> bool:
    if order.limit_price is None:
        return True
    return order.limit_price >= price if order.side is Side.BUY else order.limit_price <= price


def _slipped(order: BookOrder, start: Decimal, bar: Candle, rules: SymbolRules, slip: Decimal) -> Decimal:
    limit = order.limit_price
    if order.side is Side.BUY:
        price = _on_tick(Side.BUY, start * (ONE + slip), bar, rules)
        return price if limit is None else min(price, limit)
    price = _on_tick(Side.SELL, start * (ONE - slip), bar, rules)
    return price if limit is None else max(price, limit)


def _on_tick(side: Side, price: Decimal, bar: Candle, rules: SymbolRules) -> Decimal:
    """Rounded against the order, then moved back into the bar's range."""
    if side is Side.BUY:
        return min(rules.price.ceil(price), max(rules.price.floor(bar.high), rules.price.ceil(bar.low)))
    return max(rules.price.floor(price), min(rules.price.ceil(bar.low), rules.price.floor(bar.high)))
