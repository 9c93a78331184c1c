"""Realised profit, counted again from the fills: by what was paid and what came back, and not sale by sale.

The books take a share of the cost out with each sale, and add up what each of them earned. Here it is counted from
the other end, so that a mistake of the one is not a mistake of both: all that came in, less all that was paid, and
what is left is still there at what it cost. It keeps a few figures of each symbol, however many fills there are.
"""

from __future__ import annotations

from decimal import Context, Decimal, localcontext

from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.values import ZERO, Side, split_symbol

_EXACT = Context(prec=60)
"""Of shares there is no exact figure: what is lost is far below what the books cut off."""


class Recount:
    """Takes what a bot adopted, and then its fills in the order in which they were booked."""

    def __init__(self) -> None:
        self._symbols: dict[str, _Symbol] = {}

    def adopt(self, symbol: str, amount: Decimal, cost: Decimal) -> None:
        """A holding that was there at the opening. ``amount`` in base, ``cost`` in quote currency."""
        with localcontext(_EXACT):
            self._of(symbol).gain(amount, cost)

    def take(self, fill: Fill) -> None:
        with localcontext(_EXACT):
            symbol = self._of(fill.symbol)
            in_base, in_quote = _fee(fill)
            traded = fill.price * fill.amount
            if fill.side is Side.BUY:
                symbol.gain(fill.amount - in_base, traded + in_quote)
            else:
                symbol.lose(fill.amount + in_base, traded - in_quote)

    @property
    def profit(self) -> Decimal:
        """Of all symbols, in quote currency, fees taken off."""
        with localcontext(_EXACT):
            return sum(self.by_symbol.values(), ZERO)

    @property
    def by_symbol(self) -> dict[str, Decimal]:
        with localcontext(_EXACT):
            return {name: each.received - each.paid + each.worth for name, each in sorted(self._symbols.items())}

    def _of(self, symbol: str) -> _Symbol:
        return self._symbols.setdefault(symbol, _Symbol())


class _Symbol:
    def __init__(self) -> None:
        self.paid = self.received = ZERO
        """All that ever was, in quote currency."""
        self._amount = ZERO
        self.worth = ZERO
        """What the amount that is left was paid."""

    def gain(self, amount: Decimal, cost: Decimal) -> None:
        self._amount += amount
        self.paid += cost
        self.worth += cost

    def lose(self, amount: Decimal, proceeds: Decimal) -> None:
        left = self._amount - amount
        self.received += proceeds
        # Of an amount that is sold out, or sold too much of, nothing is left that was paid for.
        self.worth = self.worth * left / self._amount if left > ZERO else ZERO
        self._amount = left


def _fee(fill: Fill) -> tuple[Decimal, Decimal]:
    """In base currency, which is taken from the amount, or in quote currency, by its value there: none where nobody
    valued it."""
    if fill.fee is None:
        return ZERO, ZERO
    base, quote = split_symbol(fill.symbol)
    if fill.fee.asset == base:
        return fill.fee.amount, ZERO
    return ZERO, fill.fee.amount if fill.fee.asset == quote else fill.fee.quote_value or ZERO
