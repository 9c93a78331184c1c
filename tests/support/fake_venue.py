"""A small exchange whose every answer a test can spoil. Prices move only when the test moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
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
LAG = timedelta(seconds=15)
"""The longest time for which balances are stale."""
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
    STALE = "stale"
    """Balances from before the last trade, if that was not long ago."""


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
        self.made: list[ExchangeTrade] = []
        """All trades."""
        self.base: dict[str, Decimal] = {}
        """Base currency held, by symbol."""
        self.purse: dict[str, Decimal] = {}
        """What the account has of other assets."""
        self._before_trade: dict[str, Decimal] = {}
        self._traded_at = clock.now()
        self.hidden: set[str] = set()
        """Trades, by their id, that no list shows."""
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

    def fill_late(self, client_order_id: str, amount: Decimal) -> list[str]:
        """An order that had ended has filled more than it said; its new trades."""
        known = len(self.made)
        order = self.named(client_order_id)
        self._end(self._fill(order, self.prices[order.symbol], amount))
        return [trade.exchange_trade_id for trade in self.made[known:]]

    def settle(self, client_order_id: str) -> None:
        """An order that hung is filled as far as the liquidity allows, and ends."""
        order = self.named(client_order_id)
        order = self._fill(order, self.prices[order.symbol])
        if order.state is ExchangeOrderState.OPEN:
            self._end(order)

    def cancel_by_hand(self, client_order_id: str) -> None:
        """Somebody cancels it on the exchange."""
        self._end(self.named(client_order_id))

    def order_by_hand(self, symbol: str, side: Side, amount: str, price: str, name: str | None = None) -> str:
        """Somebody else's order rests on the account; the exchange's id of it."""
        order = ExchangeOrder(
            exchange_order_id=str(len(self.orders) + 1),
            client_order_id=name,
            symbol=symbol,
            side=side,
            type=OrderType.LIMIT,
            state=ExchangeOrderState.OPEN,
            amount=Decimal(amount),
            filled=ZERO,
            limit_price=Decimal(price),
            at=self._clock.now(),
        )
        return self._keep(order).exchange_order_id

    def fill_by_hand(self, exchange_order_id: str) -> None:
        order = self.orders[exchange_order_id]
        self._fill(order, order.limit_price or self.prices[order.symbol])

    def totals(self) -> dict[str, Decimal]:
        """What the account has, free and used."""
        totals = dict(self.purse)
        for symbol, amount in self.base.items():
            base = self.rules[symbol].base
            totals[base] = totals.get(base, ZERO) + amount
        return totals

    # --- the port --------------------------------------------------------------------------------------

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        self._call("market_rules")
        return {symbol: self.rules[symbol] for symbol in symbols}

    async def balances(self) -> Mapping[str, ExchangeBalance]:
        stale = self._call("balances") is Spoil.STALE and self._clock.now() - self._traded_at < LAG
        used: dict[str, Decimal] = {}
        for order in self.orders.values():
            if order.state is ExchangeOrderState.OPEN:
                rules, left = self.rules[order.symbol], order.amount - order.filled
                asset = rules.base if order.side is Side.SELL else rules.quote
                left = left if order.side is Side.SELL else left * (order.limit_price or self.prices[order.symbol])
                used[asset] = used.get(asset, ZERO) + left
        return {
            asset: ExchangeBalance(total - used.get(asset, ZERO), used.get(asset, ZERO))
            for asset, total in (self._before_trade if stale else self.totals()).items()
        }

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
        trades = [trade for trade in self._shown() if trade.exchange_order_id == exchange_order_id]
        if spoil is Spoil.LATE_TRADES:
            return trades[:-1]
        return [*trades, *trades] if spoil is Spoil.DUPLICATED else trades

    async def trades(self, symbol: str, since: datetime) -> list[ExchangeTrade]:
        self._call("trades")
        return [trade for trade in self._shown() if trade.symbol == symbol and trade.at >= since]

    # --- inside ----------------------------------------------------------------------------------------

    def _shown(self) -> list[ExchangeTrade]:
        return [trade for trade in self.made if trade.exchange_trade_id not in self.hidden]

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
        self._before_trade, self._traded_at = self.totals(), self._clock.now()
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
            self.made.append(
                ExchangeTrade(
                    exchange_trade_id=str(len(self.made) + 1),
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
            paid = -part * price if buys else part * price
            self.purse[rules.quote] = self.purse.get(rules.quote, ZERO) + paid
            if fee.asset != rules.base:
                self.purse[fee.asset] = self.purse.get(fee.asset, ZERO) - fee.amount
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
