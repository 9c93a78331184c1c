"""What an exchange accepts for a symbol, and rounding towards the safe side (the lesson DEV-67).

The rules are those that every spot exchange of ccxt gives: a precision for amounts and for prices in one of
ccxt's three modes, minimum and maximum amounts and notionals, and fees. Nothing here knows a symbol by name.
"""

from __future__ import annotations

from decimal import Context, Decimal
from enum import StrEnum

import msgspec

from tradingbot_agents.domain.values import ONE, ZERO, OrderType, Side

_EXACT = Context(prec=200)
"""Rounding to a grid must itself round nothing: with the usual 28 digits, 0.99… of many digits would "floor" to 1."""


class PrecisionMode(StrEnum):
    TICK_SIZE = "tickSize"
    """``value`` is the step itself, such as 0.00001."""
    DECIMAL_PLACES = "decimalPlaces"
    """``value`` is a number of places after the point; a negative one rounds to tens, hundreds …"""
    SIGNIFICANT_DIGITS = "significantDigits"
    """``value`` is a number of leading digits; the step depends on the number that is rounded."""


class Precision(msgspec.Struct, frozen=True):
    """A grid on which amounts or prices must lie."""

    mode: PrecisionMode
    value: Decimal

    def __post_init__(self) -> None:
        if self.mode is PrecisionMode.TICK_SIZE:
            if not self.value.is_finite() or self.value <= ZERO:
                raise ValueError(f"a tick size must be above zero, not {self.value}")
        elif not self.value.is_finite() or self.value != self.value.to_integral_value():
            raise ValueError(f"precision {self.mode.value} must be a whole number, not {self.value}")
        elif self.mode is PrecisionMode.SIGNIFICANT_DIGITS and self.value < ONE:
            raise ValueError(f"significant digits must be at least 1, not {self.value}")

    def step(self, near: Decimal) -> Decimal:
        """The distance between two allowed values around ``near``."""
        if self.mode is PrecisionMode.TICK_SIZE:
            return self.value
        if self.mode is PrecisionMode.DECIMAL_PLACES:
            return ONE.scaleb(-int(self.value))
        if near == ZERO:
            return ONE
        return ONE.scaleb(near.adjusted() - int(self.value) + 1)

    def floor(self, value: Decimal) -> Decimal:
        """The highest allowed value that is not above ``value``."""
        step = self.step(value)
        beyond = _EXACT.remainder(value, step)
        if beyond < ZERO:
            beyond = _EXACT.add(beyond, step)
        return _plain(_EXACT.subtract(value, beyond))

    def ceil(self, value: Decimal) -> Decimal:
        """The lowest allowed value that is not below ``value``."""
        step = self.step(value)
        beyond = _EXACT.remainder(value, step)
        if beyond > ZERO:
            beyond = _EXACT.subtract(beyond, step)
        return _plain(_EXACT.subtract(value, beyond))

    def holds(self, value: Decimal) -> bool:
        """Whether ``value`` lies on the grid."""
        return _EXACT.remainder(value, self.step(value)) == ZERO


def _plain(value: Decimal) -> Decimal:
    """Without zeros at the end, and without an exponent for whole numbers: one value, one text."""
    return _EXACT.add(_EXACT.normalize(value), ZERO)


class FeeCurrency(StrEnum):
    """In what a fee is taken: ``get`` is what the order receives (base of a BUY, quote of a SELL)."""

    GET = "get"
    BASE = "base"
    QUOTE = "quote"
    OTHER = "other"
    """A third asset, such as an exchange's own coin."""


class Fees(msgspec.Struct, frozen=True):
    """Fees as fractions of what is traded: 0.001 is 0.1 %."""

    maker: Decimal
    taker: Decimal
    currency: FeeCurrency = FeeCurrency.GET

    def may_cost_base_on_buy(self) -> bool:
        return self.currency in (FeeCurrency.GET, FeeCurrency.BASE)


class SymbolRules(msgspec.Struct, frozen=True, kw_only=True):
    """The market rules of one symbol on one exchange. Limits that an exchange does not have are ``None``."""

    symbol: str
    base: str
    quote: str
    amount: Precision
    price: Precision
    fees: Fees
    min_amount: Decimal = ZERO
    max_amount: Decimal | None = None
    min_notional: Decimal = ZERO
    max_notional: Decimal | None = None
    max_market_amount: Decimal | None = None
    active: bool = True

    def floor_amount(self, amount: Decimal) -> Decimal:
        """Amounts are rounded down: never more than was decided or is held."""
        return self.amount.floor(amount)

    def safe_price(self, side: Side, price: Decimal) -> Decimal:
        """Sell prices up, buy prices down: never a worse price than was decided."""
        return self.price.ceil(price) if side is Side.SELL else self.price.floor(price)

    def order_problem(self, order_type: OrderType, amount: Decimal, price: Decimal) -> OrderProblem | None:
        """Why the exchange would refuse the order, or ``None``. ``price`` is the one that its notional is
        measured by: the limit, the stop, or the last price of a market order."""
        if not self.active:
            return OrderProblem("symbol_not_trading", "symbol", ZERO, ZERO)
        if amount < self.min_amount or amount <= ZERO:
            return OrderProblem("below_minimum_amount", "amount", amount, self.min_amount)
        if self.max_amount is not None and amount > self.max_amount:
            return OrderProblem("above_maximum_amount", "amount", amount, self.max_amount)
        if (
            order_type in (OrderType.MARKET, OrderType.STOP_MARKET)
            and self.max_market_amount is not None
            and amount > self.max_market_amount
        ):
            return OrderProblem("above_maximum_amount", "amount", amount, self.max_market_amount)
        if not self.amount.holds(amount):
            return OrderProblem("off_amount_step", "amount", amount, self.amount.step(amount))
        if order_type is not OrderType.MARKET and not self.price.holds(price):
            return OrderProblem("off_price_tick", "price", price, self.price.step(price))
        notional = amount * price
        if notional < self.min_notional:
            return OrderProblem("below_minimum_notional", "notional", notional, self.min_notional)
        if self.max_notional is not None and notional > self.max_notional:
            return OrderProblem("above_maximum_notional", "notional", notional, self.max_notional)
        return None

    def received_base(self, bought: Decimal) -> Decimal:
        """What a BUY of ``bought`` leaves in base currency in the worst case, fee taken."""
        return bought * (ONE - self.fees.taker) if self.fees.may_cost_base_on_buy() else bought

    def sellable(self, held: Decimal) -> Decimal:
        """What of ``held`` base currency can be sold in all: on the amount step, and less the sale's own fee
        where that is taken in base currency."""
        if self.fees.currency is FeeCurrency.BASE:
            held /= ONE + max(self.fees.maker, self.fees.taker)
        return self.floor_amount(max(held, ZERO))

    def exit_problem(self, bought: Decimal, exit_price: Decimal) -> OrderProblem | None:
        """Why a position of ``bought`` could not be sold at ``exit_price`` (the stop, slippage included).

        A size is refused when this is not ``None``: after the fees in base currency and a move to the stop,
        what is left must still be an order that the exchange takes.
        """
        sellable = self.sellable(self.received_base(bought))
        price = self.price.floor(exit_price)
        return self.order_problem(OrderType.MARKET, sellable, price)

    def is_dust(self, amount: Decimal, price: Decimal) -> bool:
        """Whether a holding of ``amount`` base currency is too little to be sold at ``price``."""
        sellable = self.sellable(amount)
        return sellable < self.min_amount or sellable <= ZERO or sellable * price < self.min_notional


class OrderProblem(msgspec.Struct, frozen=True):
    """A limit that an order breaks: the reason code, the field, its value, and the limit."""

    reason: str
    field: str
    value: Decimal
    limit: Decimal

    def __str__(self) -> str:
        return f"{self.reason}: {self.field} {self.value:f} against {self.limit:f}"


def floor_to(value: Decimal, step: Decimal) -> Decimal:
    """``value`` rounded down to a multiple of ``step`` (budgets are stated in the account's quote step)."""
    return _EXACT.multiply(_EXACT.divide_int(value, step), step)
