"""What several checks ask of the market: its rules, its bars, and the price that an approval must have rested on."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, Leg
from tradingbot_agents.reality.evidence import Evidence, LedgerEvidence, MarketEvidence, known

CLOCKS = timedelta(seconds=5)
"""By which two clocks may differ before it is a finding. It is the exchange's usual window for a signed request."""


def rules_of(evidence: Evidence, symbol: str) -> SymbolRules | None:
    """By the exchange itself, or else as the ledger has them."""
    if isinstance(evidence.market, MarketEvidence) and symbol in evidence.market.rules:
        return evidence.market.rules[symbol]
    if isinstance(evidence.ledger, LedgerEvidence) and symbol in evidence.ledger.rules:
        return evidence.ledger.rules[symbol].rules
    return None


def is_halted(evidence: Evidence, symbol: str) -> bool:
    """Whether the exchange says that it does not trade the symbol."""
    rules = rules_of(evidence, symbol)
    return rules is not None and not rules.active


def tick_of(evidence: Evidence, symbol: str, price: Decimal) -> Decimal:
    """The distance between two prices there; zero when nobody knows it."""
    rules = rules_of(evidence, symbol)
    return ZERO if rules is None else rules.price.step(price)


def overlapping(candles: Sequence[Candle], begin: datetime, end: datetime) -> list[Candle]:
    """Bars that were under way at some moment from ``begin`` to ``end``. ``candles`` are of one length, in order."""
    first = bisect_left(candles, begin, key=lambda each: each.close_time)
    return list(candles[first : bisect_right(candles, end, lo=first, key=lambda each: each.open_time)])


class Decided(msgspec.Struct, frozen=True, kw_only=True):
    """An entry, and the price that it was decided on. No column has that: it follows from the limit, which is the
    price and the slippage, rounded down to the tick. So it is known to a tick: from ``lowest`` to ``highest``."""

    order: Order
    limit: Decimal
    lowest: Decimal
    highest: Decimal


def decided(evidence: Evidence, agent: str) -> list[Decided]:
    """Entries of this bot, oldest first, that were made while what ``agent`` says counts."""
    found: list[Decided] = []
    since = evidence.counts_from(agent)
    factor = ONE + evidence.settings.slippage
    for order in sorted(known(evidence.ledger).orders, key=lambda each: each.created_at):
        limit = order.limit_price
        if (
            order.bot != evidence.settings.bot
            or order.leg is not Leg.ENTRY
            or limit is None
            or order.created_at < since
        ):
            continue
        tick = tick_of(evidence, order.symbol, limit)
        found.append(Decided(order=order, limit=limit, lowest=limit / factor, highest=(limit + tick) / factor))
    return found
