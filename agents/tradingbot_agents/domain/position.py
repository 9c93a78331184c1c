"""A position of one bot in one symbol: average cost, profit, the hold of its exits, and its dust."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum

import msgspec

from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.values import ZERO, Side, cut, split_symbol


class PositionState(StrEnum):
    FLAT = "flat"
    OPEN = "open"
    CLOSING = "closing"
    """Something asked to sell it: stops are taken over, then the rest is sold."""
    DUST = "dust"
    """What is left is too little for the exchange to take. It is kept, shown, and not tried again; a later
    entry may make it sellable."""


class Position(msgspec.Struct, frozen=True, kw_only=True):
    """Amounts in base, money in quote currency. ``cost`` is what the amount held was paid, fees included."""

    symbol: str
    state: PositionState = PositionState.FLAT
    amount: Decimal = ZERO
    cost: Decimal = ZERO
    exit_hold: Decimal = ZERO
    """Held for all exit legs together: the sum of their live remainders never exceeds it."""
    trade_id: str | None = None
    """The round trip in progress, from its first entry to flat or dust."""
    entry_order: str | None = None
    opened_at: datetime | None = None
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    high_water: Decimal | None = None
    """The highest price since the entry, for the trailing stop."""
    closing_reason: str | None = None
    """The leg that the position is sold by, once it is closing."""
    exit_attempts: int = 0
    realised: Decimal = ZERO
    """Profit of all sales of this symbol, fees taken off."""
    fees: Decimal = ZERO
    trade_realised: Decimal = ZERO
    """Profit of the round trip in progress."""
    trade_fees: Decimal = ZERO

    @property
    def average_cost(self) -> Decimal | None:
        return cut(self.cost / self.amount) if self.amount else None

    @property
    def is_held(self) -> bool:
        """Whether there is something to protect and to sell."""
        return self.state in (PositionState.OPEN, PositionState.CLOSING)

    def unrealised(self, price: Decimal) -> Decimal:
        return self.amount * price - self.cost


def apply_fill(position: Position, fill: Fill) -> Position:
    """The position after ``fill``. Pure arithmetic: a fill is always booked, even one that oversells.

    A BUY adds its cost; a fee in base currency lessens the amount, any other fee adds to the cost.
    A SELL takes out its share of the cost, and its profit is the proceeds less that share and the fee.
    """
    base, _ = split_symbol(fill.symbol)
    fee_in_base = fill.fee.amount if fill.fee is not None and fill.fee.asset == base else ZERO
    fee_outside_base = ZERO if fee_in_base else fill.fee_in_quote
    fees = position.fees + fill.fee_in_quote
    trade_fees = position.trade_fees + fill.fee_in_quote
    if fill.side is Side.BUY:
        return msgspec.structs.replace(
            position,
            amount=position.amount + fill.amount - fee_in_base,
            cost=position.cost + fill.cost + fee_outside_base,
            fees=fees,
            trade_fees=trade_fees,
        )
    gone = fill.amount + fee_in_base
    cost_out = position.cost if gone >= position.amount else cut(position.cost * gone / position.amount)
    profit = fill.cost - fee_outside_base - cost_out
    return msgspec.structs.replace(
        position,
        amount=position.amount - gone,
        cost=position.cost - cost_out,
        fees=fees,
        trade_fees=trade_fees,
        realised=position.realised + profit,
        trade_realised=position.trade_realised + profit,
    )
