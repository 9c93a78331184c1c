"""A small exchange whose every answer a test can spoil. Prices move only when the test moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, OrderType, Side, TimeInForce
from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    Capabilities,
    ExchangeBalance,
    ExchangeError,
    ExchangeOrder,
    ExchangeOrderState,
    ExchangeTrade,
    InsufficientFunds,
    OrderRejected,
    OrderRequest,
    RateLimited,
    Ticker,
)

RETRY_AFTER = timedelta(seconds=2)
STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)


class Spoil(StrEnum):
    """What goes wrong with a call."""

    LOST_REQUEST = "lost_request"
    LOST_REPLY = "lost_reply"
    RATE_LIMITED = "rate_limited"
    REFUSED = "refused"
    NOT_VISIBLE = "not_visible"
    DUPLICATED = "duplicated"
    LATE_TRADES = "late_trades"
    """The newest trade of the order is not shown yet."""


SPOILS = {
    "create_order": (Spoil.LOST_REQUEST, Spoil.LOST_REPLY, Spoil.RATE_LIMITED, Spoil.REFUSED),
    "cancel_order": (Spoil.LOST_REQUEST, Spoil.LOST_REPLY, Spoil.RATE_LIMITED),
    "order_by_client_id": (Spoil.LOST_REQUEST, Spoil.RATE_LIMITED, Spoil.NOT_VISIBLE),
    "trades_of_order": (Spoil.LOST_REQUEST, Spoil.RATE_LIMITED, Spoil.DUPLICATED, Spoil.LATE_TRADES),
    "open_orders": (Spoil.LOST_REQUEST, Spoil.NOT_VISIBLE),
    "ticker": (Spoil.LOST_REQUEST,),
}
"""What may happen to which call."""


class FakeVenue:
    def __init__(
        self,
        clock: Clock,
        rules: Mapping[str, SymbolRules],
        prices: Mapping[str, Decimal],
        capabilities: Capabilities,
    ) -> None:
        self._clock = clock
        self.rules = dict(rules)
        self.prices = dict(prices)
        self.capabilities = capabilities
        self.orders: dict[str, ExchangeOrder] = {}
        """By the exchange's id."""
        self.trades: list[ExchangeTrade] = []
        self.base: dict[str, Decimal] = {}
        """Base currency held, by symbol."""
        self.liquidity: Decimal | None = None
        """The most that one order fills at once (``None``: all of it)."""
        self.fee_asset: str | None = None
        """A third asset in which fees are taken, at one part in a thousand of the amount."""
        self.slow = False
        """Orders that should end at once stay open and unfilled, until ``settle``."""
        self.spoils: list[tuple[str, Spoil]] = []
        """Each is used up by the next call of its name."""
        self.calls: list[str] = []
        self.sent: list[OrderRequest] = []
        """What reached the exchange."""

    # --- what a test does ------------------------------------------------------------------------------

    def spoil(self, call: str, kind: Spoil, times: int = 1) -> None:
        self.spoils += [(call, kind)] * times

    def move(self, symbol: str, price: Decimal) -> None:
        """The price moves, and stops that it reaches sell."""
        self.prices[symbol] = price
        for order in self.open(symbol):
            if order.type in STOPS and order.stop_price is not None and price <= order.stop_price:
                self._fill(order, price)

    def open(self, symbol: str) -> list[ExchangeOrder]:
        return [
            order
            for order in self.orders.values()
            if order.symbol == symbol and order.state is ExchangeOrderState.OPEN
        ]

    def named(self, client_order_id: str) -> ExchangeOrder:
        return next(order for order in self.orders.values() if order.client_order_id == client_order_id)

    def fill(self, client_order_id: str, amount: Decimal) -> None:
        """A part of an order that hung is filled at the last price."""
        order = self.named(client_order_id)
        self._fill(order, self.prices[order.symbol], amount)

    def settle(self, client_order_id: str) -> None:
        """An order that hung is filled as far as the liquidity allows, and ends."""
        order = self.named(client_order_id)
        order = self._fill(order, self.prices[order.symbol])
        if order.state is ExchangeOrderState.OPEN:
            self._end(order)

    def cancel_by_hand(self, client_order_id: str) -> None:
        """Somebody cancels it on the exchange."""
        self._end(self.named(client_order_id))

    # --- the port --------------------------------------------------------------------------------------

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        self._call("market_rules")
        return {symbol: self.rules[symbol] for symbol in symbols}

    async def balances(self) -> Mapping[str, ExchangeBalance]:
        self._call("balances")
        return {self.rules[symbol].base: ExchangeBalance(amount, ZERO) for symbol, amount in self.base.items()}

    async def ticker(self, symbol: str) -> Ticker:
        self._call("ticker")
        if symbol not in self.prices:
            raise ExchangeError(f"{symbol} is not listed")
        return Ticker(symbol, self.prices[symbol], self._clock.now())

    async def create_order(self, request: OrderRequest) -> ExchangeOrder:
        spoil = self._call("create_order")
        if spoil is Spoil.REFUSED:
            raise OrderRejected("refused", "the test said so")
        self.sent.append(request)
        order = self._accept(request)
        if spoil is Spoil.LOST_REPLY:
            raise Ambiguous("the reply was lost")
        return order

    async def cancel_order(self, symbol: str, client_order_id: str) -> ExchangeOrder:
        spoil = self._call("cancel_order")
        order = next((order for order in self.open(symbol) if order.client_order_id == client_order_id), None)
        if order is None:
            raise CancelRefused("no such open order")
        order = self._end(order)
        if spoil is Spoil.LOST_REPLY:
            raise Ambiguous("the reply was lost")
        return order

    async def order_by_client_id(self, symbol: str, client_order_id: str) -> ExchangeOrder | None:
        if self._call("order_by_client_id") is Spoil.NOT_VISIBLE:
            return None
        found = [order for order in self.orders.values() if order.client_order_id == client_order_id]
        return found[-1] if found else None

    async def open_orders(self) -> list[ExchangeOrder]:
        if self._call("open_orders") is Spoil.NOT_VISIBLE:
            return []
        return [order for order in self.orders.values() if order.state is ExchangeOrderState.OPEN]

    async def trades_of_order(self, symbol: str, exchange_order_id: str) -> list[ExchangeTrade]:
        spoil = self._call("trades_of_order")
        trades = [trade for trade in self.trades if trade.exchange_order_id == exchange_order_id]
        if spoil is Spoil.LATE_TRADES:
            return trades[:-1]
        return [*trades, *trades] if spoil is Spoil.DUPLICATED else trades

    # --- inside ----------------------------------------------------------------------------------------

    def _call(self, name: str) -> Spoil | None:
        self.calls.append(name)
        for place, (call, kind) in enumerate(self.spoils):
            if call == name:
                del self.spoils[place]
                if kind is Spoil.RATE_LIMITED:
                    raise RateLimited(RETRY_AFTER)
                if kind is Spoil.LOST_REQUEST:
                    raise Ambiguous("the request was lost")
                return kind
        return None

    def _accept(self, request: OrderRequest) -> ExchangeOrder:
        symbol = request.symbol
        rules = self.rules[symbol]
        price = request.limit_price or request.stop_price or self.prices[symbol]
        problem = rules.order_problem(request.type, request.amount, price)
        if problem is not None:
            raise OrderRejected(problem.reason, str(problem))
        if any(order.client_order_id == request.client_order_id for order in self.open(symbol)):
            raise OrderRejected("duplicate_client_order_id", request.client_order_id)
        if request.stop_price is not None and self.prices[symbol] <= request.stop_price:
            raise OrderRejected("stop_would_trigger_immediately", f"{request.stop_price}")
        if request.side is Side.SELL:
            locked = sum((order.amount - order.filled for order in self.open(symbol)), ZERO)
            if request.amount > self.base.get(symbol, ZERO) - locked:
                raise InsufficientFunds(f"{request.amount} of {self.base.get(symbol, ZERO)}, {locked} locked")
        order = ExchangeOrder(
            exchange_order_id=str(len(self.orders) + 1),
            client_order_id=request.client_order_id,
            symbol=symbol,
            side=request.side,
            type=request.type,
            state=ExchangeOrderState.OPEN,
            amount=request.amount,
            filled=ZERO,
            limit_price=request.limit_price,
            stop_price=request.stop_price,
            at=self._clock.now(),
        )
        self.orders[order.exchange_order_id] = order
        if request.type in STOPS or self.slow:
            return order
        if request.limit_price is None or request.limit_price >= self.prices[symbol]:
            order = self._fill(order, self.prices[symbol])
        ends = request.type is OrderType.MARKET or request.time_in_force is TimeInForce.IOC
        return self._end(order) if ends and order.state is ExchangeOrderState.OPEN else order

    def _fill(self, order: ExchangeOrder, price: Decimal, most: Decimal | None = None) -> ExchangeOrder:
        """In two trades, so that an order's trades are more than one."""
        amount = order.amount - order.filled
        for limit in (most, self.liquidity):
            if limit is not None:
                amount = min(amount, limit)
        rules = self.rules[order.symbol]
        first = rules.floor_amount(amount / 2)
        for part in (first, amount - first):
            if part <= ZERO:
                continue
            buys = order.side is Side.BUY
            rate = rules.fees.taker
            fee = Fee(rules.base, part * rate) if buys else Fee(rules.quote, part * price * rate)
            if self.fee_asset is not None:
                fee = Fee(self.fee_asset, part * rate)
            self.trades.append(
                ExchangeTrade(
                    exchange_trade_id=str(len(self.trades) + 1),
                    exchange_order_id=order.exchange_order_id,
                    symbol=order.symbol,
                    side=order.side,
                    price=price,
                    amount=part,
                    at=self._clock.now(),
                    fee=fee,
                )
            )
            change = part * (ONE if self.fee_asset else ONE - rate) if buys else -part
            self.base[order.symbol] = self.base.get(order.symbol, ZERO) + change
        filled = order.filled + amount
        state = ExchangeOrderState.CLOSED if filled == order.amount else ExchangeOrderState.OPEN
        return self._keep(
            msgspec.structs.replace(order, filled=filled, cost=order.cost + amount * price, state=state)
        )

    def _end(self, order: ExchangeOrder) -> ExchangeOrder:
        return self._keep(msgspec.structs.replace(order, state=ExchangeOrderState.CANCELLED))

    def _keep(self, order: ExchangeOrder) -> ExchangeOrder:
        self.orders[order.exchange_order_id] = order
        return order
