"""A fill: one trade of one order, known by the exchange's trade id and counted once."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.values import ZERO, Side, split_symbol


class Fee(msgspec.Struct, frozen=True):
    asset: str
    amount: Decimal
    quote_value: Decimal | None = None
    """The fee in quote currency at a dated price, for a third asset. ``None``: not valued, and said so."""


class Fill(msgspec.Struct, frozen=True, kw_only=True):
    exchange_trade_id: str
    client_order_id: str
    symbol: str
    side: Side
    price: Decimal
    amount: Decimal
    at: datetime
    fee: Fee | None = None

    @property
    def cost(self) -> Decimal:
        return self.price * self.amount

    @property
    def fee_in_quote(self) -> Decimal:
        """The fee valued in quote currency; zero for a third asset without a price."""
        if self.fee is None:
            return ZERO
        base, quote = split_symbol(self.symbol)
        if self.fee.asset == quote:
            return self.fee.amount
        if self.fee.asset == base:
            return self.fee.amount * self.price
        return self.fee.quote_value or ZERO

    def balance_changes(self) -> dict[str, Decimal]:
        """What the fill does to the account, per asset: both sides of the trade and the fee."""
        base, quote = split_symbol(self.symbol)
        sign = 1 if self.side is Side.BUY else -1
        changes = {base: sign * self.amount, quote: -sign * self.cost}
        if self.fee is not None and self.fee.amount:
            changes[self.fee.asset] = changes.get(self.fee.asset, ZERO) - self.fee.amount
        return changes
