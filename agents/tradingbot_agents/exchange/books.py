"""The simulated exchange's books: balances, locks and open orders, and what a trade does to them.

Nothing here knows of time, files or candles. The invariants: no balance is below zero, what is used is the sum of
the locks of open orders, and balances are the opening ones plus every trade. Only credit lets the first go.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import ROUND_DOWN, Decimal

import msgspec

from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import FeeCurrency, SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, OrderType, Side, TimeInForce
from tradingbot_agents.exchange.port import ExchangeBalance, ExchangeOrder, ExchangeOrderState, ExchangeTrade

_FEE_PLACES = Decimal("1e-8")
"""Fees are charged to eight places of an asset; the rest is dropped."""


class BookOrder(msgspec.Struct, kw_only=True):
    """An order with what only the exchange knows of it. Mutable while it is open."""

    id: int
    client_order_id: str
    symbol: str
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    amount: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    at: datetime
    state: ExchangeOrderState = ExchangeOrderState.OPEN
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    fills: int = 0
    triggered: bool = False
    """Its stop price was reached: from now on it is a market or a limit order."""
    locked: Decimal = ZERO

    @property
    def remaining(self) -> Decimal:
        return self.amount - self.filled

    def told(self) -> ExchangeOrder:
        """As the exchange tells it."""
        return ExchangeOrder(
            exchange_order_id=str(self.id),
            client_order_id=self.client_order_id,
            symbol=self.symbol,
            side=self.side,
            type=self.type,
            state=self.state,
            amount=self.amount,
            filled=self.filled,
            cost=self.cost,
            limit_price=self.limit_price,
            stop_price=self.stop_price,
            at=self.at,
        )


class Books:
    """``slippage`` is the fraction by which a market order may cost more than the price it is sent at. With
    ``credit`` an account may spend what it does not have, and balances may be below zero."""

    def __init__(
        self,
        rules: Mapping[str, SymbolRules],
        slippage: Decimal,
        totals: Mapping[str, Decimal],
        *,
        credit: bool = False,
    ) -> None:
        self._rules = rules
        self._slippage = slippage
        self._credit = credit
        self.totals: dict[str, Decimal] = dict(totals)
        self.used: dict[str, Decimal] = {}
        self.open: dict[int, BookOrder] = {}
        self._symbols: dict[str, dict[int, BookOrder]] = {}
        self._client_ids: dict[str, int] = {}

    def balances(self) -> dict[str, ExchangeBalance]:
        return {asset: ExchangeBalance(self.free(asset), self.used.get(asset, ZERO)) for asset in sorted(self.totals)}

    def free(self, asset: str) -> Decimal:
        return self.totals.get(asset, ZERO) - self.used.get(asset, ZERO)

    def open_of(self, symbol: str) -> Iterable[BookOrder]:
        """The symbol's open orders, oldest first."""
        return self._symbols.get(symbol, {}).values()

    def open_by_client_id(self, client_order_id: str) -> BookOrder | None:
        found = self._client_ids.get(client_order_id)
        return None if found is None else self.open[found]

    def need(self, order: BookOrder, price: Decimal) -> tuple[str, Decimal]:
        """The asset that the order's remainder spends, and the most that it may cost at ``price``."""
        rules = self._rules[order.symbol]
        fee = max(rules.fees.maker, rules.fees.taker)
        if order.side is Side.SELL:
            return rules.base, order.remaining * (ONE + fee if rules.fees.currency is FeeCurrency.BASE else ONE)
        return rules.quote, order.remaining * price * (ONE + fee if rules.fees.currency is FeeCurrency.QUOTE else ONE)

    def worst_price(self, order: BookOrder, last: Decimal) -> Decimal:
        """The highest price that the order may be expected to pay: its limit, or the slippage on its stop or on the
        last price."""
        if order.limit_price is not None:
            return order.limit_price
        return self._rules[order.symbol].price.ceil((order.stop_price or last) * (ONE + self._slippage))

    def rest(self, order: BookOrder) -> None:
        """The order stays in the book, and locks what its remainder spends."""
        self._enter(order)
        self._relock(order)

    def restore(self, order: BookOrder) -> None:
        """An open order, with its lock, as it was kept."""
        self._enter(order)
        asset, _ = self.need(order, ZERO)
        self.used[asset] = self.used.get(asset, ZERO) + order.locked

    def end(self, order: BookOrder, state: ExchangeOrderState) -> None:
        """The order is final: it leaves the book and frees what it locked."""
        order.state = state
        if self.open.pop(order.id, None) is not None:
            del self._symbols[order.symbol][order.id]
            del self._client_ids[order.client_order_id]
            self._relock(order)

    def affordable(self, order: BookOrder, price: Decimal, amount: Decimal) -> Decimal:
        """How much of ``amount`` the account can pay for at ``price``: a stop that buys after a jump may cost more
        than it locked."""
        asset, cost = self.need(order, price)
        purse = self.free(asset) + order.locked
        if cost <= purse or self._credit:
            return amount
        rules = self._rules[order.symbol]
        return rules.floor_amount(min(amount, (order.remaining * purse / cost).quantize(_FEE_PLACES, ROUND_DOWN)))

    def fee(self, order: BookOrder, price: Decimal, amount: Decimal, maker: bool) -> Fee:
        rules = self._rules[order.symbol]
        rate = rules.fees.maker if maker else rules.fees.taker
        currency = rules.fees.currency
        in_base = currency is FeeCurrency.BASE or (currency is FeeCurrency.GET and order.side is Side.BUY)
        asset, charged = (rules.base, amount) if in_base else (rules.quote, amount * price)
        return Fee(asset, (charged * rate).quantize(_FEE_PLACES, ROUND_DOWN))

    def fill(self, order: BookOrder, price: Decimal, amount: Decimal, maker: bool) -> Fee:
        """Book a trade: both assets, the fee, the order and its lock. Returns the fee."""
        rules = self._rules[order.symbol]
        fee = self.fee(order, price, amount, maker)
        sign = ONE if order.side is Side.BUY else -ONE
        for asset, change in (
            (rules.base, sign * amount),
            (rules.quote, -sign * amount * price),
            (fee.asset, -fee.amount),
        ):
            self.totals[asset] = self.totals.get(asset, ZERO) + change
        order.filled += amount
        order.cost += amount * price
        order.fills += 1
        if order.id in self.open:
            self._relock(order)
        if order.remaining <= ZERO:
            self.end(order, ExchangeOrderState.CLOSED)
        return fee

    def _enter(self, order: BookOrder) -> None:
        self.open[order.id] = order
        self._symbols.setdefault(order.symbol, {})[order.id] = order
        self._client_ids[order.client_order_id] = order.id

    def _relock(self, order: BookOrder) -> None:
        """Lock what the remainder needs, or what is left: after a jump a stop that buys pays more than it locked."""
        asset, need = self.need(order, self.worst_price(order, ZERO))
        most = need if self._credit else min(need, self.free(asset) + order.locked)
        locked = most if order.id in self.open else ZERO
        self.used[asset] = self.used.get(asset, ZERO) - order.locked + locked
        order.locked = locked


class BookTrade(msgspec.Struct, frozen=True, kw_only=True):
    """A trade as the exchange keeps it."""

    id: int
    order_id: int
    symbol: str
    side: Side
    price: Decimal
    amount: Decimal
    fee: Fee
    at: datetime

    def told(self) -> ExchangeTrade:
        return ExchangeTrade(
            exchange_trade_id=str(self.id),
            exchange_order_id=str(self.order_id),
            symbol=self.symbol,
            side=self.side,
            price=self.price,
            amount=self.amount,
            at=self.at,
            fee=self.fee,
        )
