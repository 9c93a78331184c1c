"""What the account is worth and what it could lose: equity, exposure, value at risk, expected shortfall.

The latter two are historical: the returns of recent bars, at what is held now. They are reported and decide
nothing. They are statistics, so they are computed in floats; money stays ``Decimal``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext
from itertools import pairwise
from math import ceil

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import ONE, ZERO
from tradingbot_agents.ledger.booking import EXACT
from tradingbot_agents.ledger.port import Balance, EquityPoint


class Valuation(msgspec.Struct, frozen=True):
    """In quote currency."""

    equity: Decimal
    held: dict[str, Decimal]
    """The value of each symbol's base asset."""
    outside: Decimal = ZERO
    """What of it came from outside: neither profit nor loss."""

    @property
    def exposure(self) -> Decimal:
        return sum(self.held.values(), ZERO)


def held_symbols(balances: Mapping[str, Balance], symbols: Sequence[str], quote: str) -> list[str]:
    """The symbols whose base asset the account's bots hold: their prices are needed to value it."""
    return [symbol for symbol in symbols if (held := balances.get(_base(symbol, quote))) and held.own != ZERO]


def value_account(
    balances: Mapping[str, Balance], prices: Mapping[str, Decimal], symbols: Sequence[str], quote: str
) -> Valuation:
    """The totals at ``prices`` (by symbol), less what was set aside at the opening: nobody may spend that. An asset
    that no symbol of the bot is about has no price here and counts nothing: equity, and so every size, is never
    above what the bot can account for.

    Raises ``KeyError`` when the price of a held symbol is missing."""
    held = {
        symbol: balances[_base(symbol, quote)].own * prices[symbol]
        for symbol in held_symbols(balances, symbols, quote)
    }
    cash = balances[quote].own if quote in balances else ZERO
    return Valuation(cash + sum(held.values(), ZERO), held)


def outside_value(outside: Mapping[str, Decimal], prices: Mapping[str, Decimal], quote: str) -> Decimal:
    """What came from outside (by asset), in ``quote`` at ``prices`` (by symbol). An asset without a price counts as
    nothing, as it does in the equity."""
    with localcontext(EXACT):
        return sum(
            (
                amount * (ONE if asset == quote else prices.get(f"{asset}/{quote}", ZERO))
                for asset, amount in outside.items()
            ),
            ZERO,
        )


def unit_values(points: Sequence[EquityPoint]) -> list[Decimal]:
    """What a share of the account was worth at each point: as its equity was at the first, and from then on changed
    only by gains and losses, each as a fraction of the money that was at work. So money that comes or goes is
    neither, and a loss weighs as much as it hurts: of an account of 1000, 900 are withdrawn and 90 of the last 100
    are lost; that is 90 %."""
    values: list[Decimal] = []
    factor: Decimal | None = ONE
    value = ZERO
    before: EquityPoint | None = None
    for point in points:
        if before is not None and point.outside != before.outside and value > ZERO:
            at_work = before.gross + point.outside - before.outside
            factor = value / at_work if at_work > ZERO else None
        if factor is None and point.gross > ZERO:
            factor = value / point.gross
        if factor is not None:
            value = factor * point.gross
        # Without a factor all was taken away: nothing is at work, and nothing is lost.
        values.append(value)
        before = point
    return values


class TailRisk(msgspec.Struct, frozen=True):
    """Losses of one bar in quote currency, zero or above. ``None``: too few returns to know the tail."""

    value_at_risk: Decimal | None
    expected_shortfall: Decimal | None
    returns: int


class Closes:
    """The last closes of each symbol, as they come over the bus; bounded."""

    def __init__(self, lookback: int) -> None:
        self._lookback = lookback
        self._closes: dict[str, deque[tuple[datetime, float]]] = {}

    def add(self, candle: Candle) -> None:
        """A bar that is not newer than the last one of its symbol is left out."""
        closes = self._closes.get(candle.symbol)
        if closes is None:
            closes = self._closes[candle.symbol] = deque(maxlen=self._lookback + 1)
        if not closes or candle.open_time > closes[-1][0]:
            closes.append((candle.open_time, float(candle.close)))

    def returns(self, symbol: str) -> dict[datetime, float]:
        """Relative changes from close to close, by the bar's opening time."""
        closes = list(self._closes.get(symbol, ()))
        return {at: close / before - 1 for (_, before), (at, close) in pairwise(closes)}


def tail_risk(
    held: Mapping[str, Decimal], returns: Mapping[str, Mapping[datetime, float]], confidence: Decimal, step: Decimal
) -> TailRisk:
    """What ``held`` (value by symbol) would have lost in each of the past bars: the loss that is not exceeded
    with ``confidence``, and the mean of it and those beyond it, rounded to ``step``.

    Symbols are taken together bar by bar, so that what moves together counts together; a bar that a symbol
    does not have is no move of it. The tail must hold at least one bar."""
    if not held:
        return TailRisk(ZERO.quantize(step), ZERO.quantize(step), 0)
    moves: dict[datetime, float] = {}
    for symbol, value in held.items():
        weight = float(value)
        for at, change in returns.get(symbol, {}).items():
            moves[at] = moves.get(at, 0.0) - weight * change
    count = len(moves)
    if count * (1 - confidence) < 1:
        return TailRisk(None, None, count)
    losses = sorted(moves.values())
    tail = losses[ceil(count * confidence) - 1 :]
    return TailRisk(_money(tail[0], step), _money(sum(tail) / len(tail), step), count)


def _money(loss: float, step: Decimal) -> Decimal:
    return max(Decimal(repr(loss)), ZERO).quantize(step)


def _base(symbol: str, quote: str) -> str:
    return symbol.removesuffix(f"/{quote}")
