"""What agents need of an exchange, in two halves: data collection sees the market, execution trades.

A command has four outcomes: confirmed (it returns), rejected (``OrderRejected``: definitely not done),
refused by us (nothing was sent, so nothing is here), and unresolved (``Ambiguous``: nobody knows yet).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import ZERO, OrderType, Side, TimeInForce


class ExchangeError(Exception):
    """Base of what an exchange answers instead of a result."""


class OrderRejected(ExchangeError):
    """The exchange said no: the order does not exist there. ``code`` is one of the reason codes or the
    exchange's own."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class InsufficientFunds(OrderRejected):
    def __init__(self, detail: str) -> None:
        super().__init__("insufficient_funds", detail)


class CancelRefused(ExchangeError):
    """The order can not be cancelled: it is final already, or unknown there. Look it up."""


class RateLimited(ExchangeError):
    """Not processed; ask again after ``retry_after``."""

    def __init__(self, retry_after: timedelta) -> None:
        super().__init__(f"too many requests: ask again after {retry_after.total_seconds():g} s")
        self.retry_after = retry_after


class NotListed(ExchangeError):
    """The exchange does not have these symbols."""

    def __init__(self, symbols: Sequence[str], where: str) -> None:
        super().__init__(f"{', '.join(symbols)}: not listed on {where}; check spec.symbols")
        self.symbols = tuple(symbols)


class Ambiguous(ExchangeError):
    """A timeout, a 5xx, a cut connection: it may or may not have been done."""


class ExchangeBalance(msgspec.Struct, frozen=True):
    free: Decimal
    used: Decimal
    """Locked by open orders."""

    @property
    def total(self) -> Decimal:
        return self.free + self.used


class OrderRequest(msgspec.Struct, frozen=True, kw_only=True):
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    amount: Decimal
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    time_in_force: TimeInForce = TimeInForce.GTC


class ExchangeOrderState(StrEnum):
    OPEN = "open"
    CLOSED = "closed"
    """Completely filled."""
    CANCELLED = "cancelled"
    """Ended with a remainder, by us or by the exchange (IOC, expiry)."""
    REJECTED = "rejected"


class ExchangeOrder(msgspec.Struct, frozen=True, kw_only=True):
    """An order as the exchange tells it. ``filled`` in base, ``cost`` in quote currency."""

    exchange_order_id: str
    client_order_id: str | None
    symbol: str
    side: Side
    type: OrderType
    state: ExchangeOrderState
    amount: Decimal
    filled: Decimal
    cost: Decimal = ZERO
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    at: datetime

    def is_of(self, order: Order) -> bool:
        """Whether it is that order of ours. By its number in its symbol only: exchanges such as Binance number the
        orders of each symbol by themselves."""
        if self.client_order_id == order.client_order_id:
            return True
        return (self.symbol, self.exchange_order_id) == (order.symbol, order.exchange_order_id)


class ExchangeTrade(msgspec.Struct, frozen=True, kw_only=True):
    exchange_trade_id: str
    exchange_order_id: str
    symbol: str
    side: Side
    price: Decimal
    amount: Decimal
    at: datetime
    fee: Fee | None = None


class Capabilities(msgspec.Struct, frozen=True, kw_only=True):
    stop_market: bool
    stop_limit: bool
    client_order_ids: bool


class MarketFeed(Protocol):
    """What data collection reads. Needs no key."""

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        """The rules of the symbols. Raises ``NotListed``, or ``ExchangeError``."""
        ...

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        """Closed bars, oldest first: the first ``limit`` that open at or after ``since``, or the newest
        ``limit`` without it."""
        ...

    async def ticker(self, symbol: str) -> Ticker: ...


class TradingVenue(Protocol):
    """What execution does. Amounts and prices must already lie on the symbol's grid."""

    @property
    def capabilities(self) -> Capabilities: ...

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]: ...

    async def balances(self) -> Mapping[str, ExchangeBalance]: ...

    async def create_order(self, request: OrderRequest) -> ExchangeOrder:
        """Raises ``OrderRejected``, ``RateLimited`` (not done), or ``Ambiguous``."""
        ...

    async def cancel_order(self, symbol: str, client_order_id: str) -> ExchangeOrder:
        """The order as it is afterwards. Raises ``CancelRefused``, ``RateLimited`` or ``Ambiguous``."""
        ...

    async def order_by_client_id(self, symbol: str, client_order_id: str) -> ExchangeOrder | None:
        """The newest order of that client id, or ``None`` when the exchange knows none."""
        ...

    async def open_orders(self) -> list[ExchangeOrder]: ...

    async def trades_of_order(self, symbol: str, exchange_order_id: str) -> list[ExchangeTrade]:
        """All trades of one order, oldest first."""
        ...

    async def trades(self, symbol: str, since: datetime) -> list[ExchangeTrade]:
        """All trades of the account in a symbol, whoever made them, at or after ``since``: all pages, oldest
        first."""
        ...

    async def ticker(self, symbol: str) -> Ticker: ...
