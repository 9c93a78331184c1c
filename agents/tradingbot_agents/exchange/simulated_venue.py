"""A spot exchange for one account, without a market: books, orders, matching, and what a kill must not take.

Where its prices come from is a subclass's: candle files that are played by a virtual clock (``simulated``), or a real
exchange's market as it goes on (``paper``). Before every call it plays what has happened since the last one. What it
answers is a function of the prices, the seed, the settings and the calls with their times; randomness belongs to an
event (seed, order, number of the fill), never to a stream, so a process that is killed and starts again goes on as if
nothing had happened. Books are durable before a caller learns of them (see ``state``).
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, OrderType, Side, TimeInForce, from_millis
from tradingbot_agents.exchange.books import BookOrder, Books, BookTrade
from tradingbot_agents.exchange.faults import Fault, Faults
from tradingbot_agents.exchange.matching import Match, chance, distance, match_at_once, match_in_bar
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
)
from tradingbot_agents.exchange.state import ExchangeStateError, StateStore, Taken

_CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")

_EPOCH = from_millis(0)


class SimulatedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated exchange behaves. Fractions are fractions of one."""

    initial_balances: Mapping[str, Decimal]
    """What the account holds before the first bar, by asset."""
    credit: bool = False
    """Orders that the account can not pay for are taken all the same. For an account whose bots trade on an exchange
    each: none of these has all of it, and whoever sends the orders keeps the books."""
    fees: Fees | None
    """Instead of each symbol's own fees; ``None`` keeps them."""
    slippage: Decimal
    """The most by which an order that takes liquidity is filled worse than the last price."""
    latency: timedelta
    """How long the exchange takes to receive an order or a cancel."""
    participation: Decimal
    """The share of a bar's volume that all orders of the account together may take; above 0, at most 1."""
    rate_limit: int | None
    """Calls in a ``rate_window``; ``None``: as many as one likes."""
    rate_window: timedelta
    lost_calls: Decimal
    """The chance that an order or a cancel ends ``Ambiguous``: half of them before it is done, half after."""
    history: int
    """Bars of a symbol that are kept in memory; older ones are read from the file again."""
    capabilities: Capabilities

    def __post_init__(self) -> None:
        problems = [
            (ZERO <= self.slippage < ONE, f"slippage is {self.slippage}; it must be at least 0 and below 1"),
            (ZERO < self.participation <= ONE, f"participation is {self.participation}; it must be in 0..1, not 0"),
            (ZERO <= self.lost_calls <= ONE, f"lost_calls is {self.lost_calls}; it must be in 0..1"),
            (self.latency >= timedelta(0), f"latency is {self.latency}; it must not be negative"),
            (self.rate_limit is None or self.rate_limit > 0, f"rate_limit is {self.rate_limit}; it must be above 0"),
            (self.rate_window > timedelta(0), f"rate_window is {self.rate_window}; it must be above 0"),
            (self.history > 0, f"history is {self.history}; it must be above 0"),
            (
                self.fees is None or self.fees.currency is not FeeCurrency.OTHER,
                "fees in a third asset can not be simulated; use get, base or quote",
            ),
            (
                all(amount.is_finite() and amount >= ZERO for amount in self.initial_balances.values()),
                "initial_balances must not be negative",
            ),
        ]
        if wrong := [problem for good, problem in problems if not good]:
            raise ValueError("; ".join(wrong))


class SimulatedVenue(ABC):
    """``TradingVenue`` but for its market: a subclass plays the bars, and says what rules and prices are."""

    def __init__(
        self,
        *,
        store: StateStore,
        rules: dict[str, SymbolRules],
        clock: Clock,
        seed: int,
        settings: SimulatedSettings,
        faults: Faults | None,
        first_id: int = 0,
    ) -> None:
        """``rules`` may be added to in place. Ids of orders and trades begin after ``first_id``."""
        self._store = store
        self._rules = rules
        self._clock = clock
        self._seed = seed
        self._settings = settings
        self._faults = faults
        self._broken: Exception | None = None
        self._window = -1
        self._calls = 0

        self._books = Books(rules, settings.slippage, store.totals(), credit=settings.credit)
        for order in store.open_orders():
            self._books.restore(order)
        self._before_change = self._books.balances()
        self._last_order, self._last_trade = (max(first_id, last) for last in store.last_ids())
        self._taken: dict[str, Taken] = {}

    def close(self) -> None:
        """Let go of the directory. Safe to repeat."""
        self._store.close()

    @property
    def rules(self) -> Mapping[str, SymbolRules]:
        """The market rules of the symbols that are known."""
        return self._rules

    @property
    def capabilities(self) -> Capabilities:
        return self._settings.capabilities

    # Of a subclass

    @abstractmethod
    async def _catch_up(self, symbol: str | None) -> None:
        """Play what has happened by now, in ``symbol`` or (``None``) in all that have orders. Raises
        ``ExchangeError`` when that can not be known."""

    @abstractmethod
    async def _quote(self, symbol: str) -> Candle | None:
        """The last bar, closing at the price of now; ``None`` before the first."""

    def _match_in_bar(self, order: BookOrder, bar: Candle) -> Match:
        """What a bar that has closed does to a resting order."""
        return match_in_bar(order, bar, self._rules[bar.symbol], self._slip(order))

    # TradingVenue

    async def balances(self) -> Mapping[str, ExchangeBalance]:
        fault = await self._request("balances", "", None)
        return self._before_change if fault is Fault.STALE else self._books.balances()

    async def create_order(self, request: OrderRequest) -> ExchangeOrder:
        try:
            fault = await self._request("create_order", request.client_order_id, request.symbol)
            await self._clock.sleep(self._settings.latency)
            await self._catch_up(request.symbol)
            bar = await self._quote(request.symbol) if request.symbol in self._rules else None
        except (RateLimited, Ambiguous):
            raise
        except ExchangeError as error:
            raise OrderRejected("exchange_away", f"not sent: {error}") from error
        try:
            told = self._accept(request, bar).told()
        except OrderRejected as rejection:
            if fault is Fault.LOST_REPLY:
                raise Ambiguous(f"the reply to order {request.client_order_id} was lost") from rejection
            raise
        if fault is Fault.LOST_REPLY:
            raise Ambiguous(f"the reply to order {request.client_order_id} was lost")
        return told

    async def cancel_order(self, symbol: str, client_order_id: str) -> ExchangeOrder:
        fault = await self._request("cancel_order", client_order_id, symbol)
        await self._clock.sleep(self._settings.latency)
        await self._catch_up(symbol)
        order = self._books.open_by_client_id(client_order_id)
        if order is None or order.symbol != symbol:
            raise CancelRefused(f"{symbol} has no open order {client_order_id}: look it up")
        self._remember()
        self._books.end(order, ExchangeOrderState.CANCELLED)
        self._save([order], [], {}, {})
        if fault is Fault.LOST_REPLY:
            raise Ambiguous(f"the reply to the cancel of order {client_order_id} was lost")
        return order.told()

    async def order_by_client_id(self, symbol: str, client_order_id: str) -> ExchangeOrder | None:
        if await self._request("order_by_client_id", client_order_id, symbol) is Fault.NOT_VISIBLE:
            return None
        order = self._books.open_by_client_id(client_order_id)
        if order is None or order.symbol != symbol:
            order = self._store.newest_order(symbol, client_order_id)
        return None if order is None else order.told()

    async def open_orders(self) -> list[ExchangeOrder]:
        if await self._request("open_orders", "", None) is Fault.NOT_VISIBLE:
            return []
        return [order.told() for order in self._books.open.values()]

    async def trades_of_order(self, symbol: str, exchange_order_id: str) -> list[ExchangeTrade]:
        fault = await self._request("trades_of_order", exchange_order_id, symbol)
        if not exchange_order_id.isdecimal():
            raise ExchangeError(f"{exchange_order_id!r} is no order id of this exchange")
        trades = [trade.told() for trade in self._store.trades(symbol, int(exchange_order_id))]
        return [trade for trade in trades for _ in range(2)] if fault is Fault.DUPLICATED else trades

    async def trades(self, symbol: str, since: datetime) -> list[ExchangeTrade]:
        await self._request("trades", symbol, symbol)
        self._rules_of(symbol)
        return [trade.told() for trade in self._store.trades_since(symbol, since)]

    # A call arrives

    async def _request(self, call: str, key: str, symbol: str | None) -> Fault | None:
        """Play what has happened by now in ``symbol`` (``None``: in all), count the call, and let the faults have
        it."""
        if self._broken is not None:
            raise self._broken
        await self._catch_up(symbol)
        now = self._clock.now()
        if self._settings.rate_limit is not None:
            window, passed = divmod(now - _EPOCH, self._settings.rate_window)
            if window != self._window:
                self._window, self._calls = window, 0
            if self._calls >= self._settings.rate_limit:
                raise RateLimited(self._settings.rate_window - passed)
            self._calls += 1
        fault = None if self._faults is None else self._faults.take(call, key)
        if fault is None and self._settings.lost_calls and call in ("create_order", "cancel_order"):
            drawn = chance(self._seed, "lost", call, key, now.isoformat())
            if drawn < self._settings.lost_calls:
                fault = Fault.LOST_REQUEST if drawn * 2 < self._settings.lost_calls else Fault.LOST_REPLY
        if fault is Fault.RATE_LIMITED:
            raise RateLimited(self._settings.rate_window)
        if fault is Fault.LOST_REQUEST:
            raise Ambiguous(f"no answer to {call} {key}".rstrip())
        return fault

    def _play(self, bars: Sequence[Candle], at: datetime, facts: Mapping[str, str]) -> None:
        """Match the resting orders against bars that close together at ``at``: one event, whole. ``facts`` are
        written with it, if anything happens."""
        self._settle(
            (
                (order, bar, self._match_in_bar(order, bar))
                for bar in bars
                for order in sorted(
                    self._books.open_of(bar.symbol), key=lambda order: (distance(order, bar), order.id)
                )
            ),
            at,
            facts,
        )

    def _settle(
        self, matches: Iterable[tuple[BookOrder, Candle, Match]], at: datetime, facts: Mapping[str, str]
    ) -> None:
        """Trade what was matched, one after another, and make it durable: one event."""
        changed: list[BookOrder] = []
        trades: list[BookTrade] = []
        taken: dict[str, Taken] = {}
        for order, bar, match in matches:
            if match.price is None and not match.triggers:
                continue
            if not changed:
                self._remember()
            order.triggered = order.triggered or match.triggers
            changed.append(order)
            done = taken.get(bar.symbol) or self._taken_of(bar)
            taken[bar.symbol] = self._fill(order, match, bar, done, at, trades)
        if changed:
            self._save(changed, trades, taken, facts)

    def _fill(
        self, order: BookOrder, match: Match, bar: Candle, done: Taken, at: datetime, trades: list[BookTrade]
    ) -> Taken:
        """Trade what the bar's volume and the purse allow, at the match's price. Returns what is taken then."""
        if match.price is None:
            return done
        rules = self._rules[order.symbol]
        left = self._settings.participation * bar.volume - done.volume
        amount = min(order.remaining, rules.floor_amount(left))
        if amount <= ZERO:
            return done
        wanted, amount = amount, self._books.affordable(order, match.price, amount)
        if amount <= ZERO:
            self._books.end(order, ExchangeOrderState.CANCELLED)
            return done
        fee = self._books.fill(order, match.price, amount, match.maker)
        if amount < wanted:
            self._books.end(order, ExchangeOrderState.CANCELLED)
        self._last_trade += 1
        trades.append(
            BookTrade(
                id=self._last_trade,
                order_id=order.id,
                symbol=order.symbol,
                side=order.side,
                price=match.price,
                amount=amount,
                fee=fee,
                at=at,
            )
        )
        return Taken(done.bar, done.volume + amount)

    def _accept(self, request: OrderRequest, bar: Candle | None) -> BookOrder:
        """Refuse the order, or put it into the books; it is durable on return. ``bar``: see ``_quote``."""
        rules, bar = self._examine(request, bar)
        order = BookOrder(
            id=self._last_order + 1,
            client_order_id=request.client_order_id,
            symbol=request.symbol,
            side=request.side,
            type=request.type,
            time_in_force=request.time_in_force,
            amount=request.amount,
            limit_price=request.limit_price,
            stop_price=request.stop_price,
            at=self._clock.now(),
        )
        asset, need = self._books.need(order, self._books.worst_price(order, bar.close))
        if need > self._books.free(asset) and not self._settings.credit:
            raise InsufficientFunds(
                f"{request.side.value} {request.amount:f} {request.symbol} needs {need:f} {asset}, "
                f"but {self._books.free(asset):f} are free"
            )
        self._remember()
        self._last_order = order.id
        trades: list[BookTrade] = []
        taken: dict[str, Taken] = {}
        rests = order.type is not OrderType.MARKET and order.time_in_force is TimeInForce.GTC
        if rests:
            self._books.rest(order)
        if order.stop_price is None:
            match = match_at_once(order, bar, rules, self._slip(order))
            taken[order.symbol] = self._fill(order, match, bar, self._taken_of(bar), order.at, trades)
        if not rests and order.state is ExchangeOrderState.OPEN:
            self._books.end(order, ExchangeOrderState.CANCELLED)
        self._save([order], trades, taken, {})
        return order

    def _examine(self, request: OrderRequest, bar: Candle | None) -> tuple[SymbolRules, Candle]:
        """The symbol's rules and last bar, or ``OrderRejected`` with the reason that the exchange would give."""
        rules = self._rules.get(request.symbol)
        if rules is None:
            raise OrderRejected("unknown_symbol", f"{request.symbol} is not listed here")
        if bar is None:
            raise OrderRejected("symbol_not_trading", f"{request.symbol}: its first bar has not closed")
        if not _CLIENT_ORDER_ID.fullmatch(request.client_order_id):
            raise OrderRejected(
                "bad_client_order_id", f"{request.client_order_id!r} is not 1 to 36 of A-Z a-z 0-9 .:/_-"
            )
        if self._books.open_by_client_id(request.client_order_id) is not None:
            raise OrderRejected("duplicate_client_order_id", f"{request.client_order_id} is an open order")
        stops = request.type in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
        limits = request.type in (OrderType.LIMIT, OrderType.STOP_LIMIT)
        supported = {
            OrderType.STOP_MARKET: self.capabilities.stop_market,
            OrderType.STOP_LIMIT: self.capabilities.stop_limit,
        }
        if not supported.get(request.type, True) or (stops and request.time_in_force is not TimeInForce.GTC):
            raise OrderRejected(
                "order_type_not_supported", f"{request.type.value} {request.time_in_force.value} orders are not taken"
            )
        for name, price, wanted in (
            ("limit_price", request.limit_price, limits),
            ("stop_price", request.stop_price, stops),
        ):
            if (price is not None) != wanted:
                raise OrderRejected(
                    "bad_price", f"a {request.type.value} order {'needs a' if wanted else 'has no'} {name}"
                )
            if price is not None and (not price.is_finite() or price <= ZERO or not rules.price.holds(price)):
                raise OrderRejected(
                    "off_price_tick", f"{name} {price} is no multiple of {rules.price.step(abs(price)):f}"
                )
        if not request.amount.is_finite():
            raise OrderRejected("off_amount_step", f"amount {request.amount} is not a number")
        price = request.limit_price or request.stop_price or bar.close
        if problem := rules.order_problem(request.type, request.amount, price):
            raise OrderRejected(
                problem.reason, f"{problem.field} {problem.value:f} against {problem.limit:f} of {request.symbol}"
            )
        if request.stop_price is not None and (
            request.stop_price >= bar.close if request.side is Side.SELL else request.stop_price <= bar.close
        ):
            raise OrderRejected(
                "stop_would_trigger_immediately",
                f"{request.side.value} stop {request.stop_price:f} against the last price {bar.close:f}",
            )
        return rules, bar

    def _save(
        self,
        orders: Sequence[BookOrder],
        trades: Sequence[BookTrade],
        taken: Mapping[str, Taken],
        facts: Mapping[str, str],
    ) -> None:
        """Make an event durable. When that fails the books in memory are ahead of it: nothing more is answered."""
        assets = {trade.fee.asset for trade in trades}
        for trade in trades:
            assets |= {self._rules[trade.symbol].base, self._rules[trade.symbol].quote}
        try:
            self._store.write(
                totals={asset: self._books.totals[asset] for asset in sorted(assets)},
                orders=orders,
                trades=trades,
                taken=taken,
                facts=facts,
            )
        except ExchangeStateError as error:
            self._broken = error
            raise
        self._taken.update(taken)

    # Small helpers

    def _remember(self) -> None:
        if self._faults is not None:
            self._before_change = self._books.balances()

    def _slip(self, order: BookOrder) -> Decimal:
        if not self._settings.slippage:
            return ZERO
        return self._settings.slippage * chance(self._seed, "slip", order.client_order_id, order.fills)

    def _taken_of(self, bar: Candle) -> Taken:
        """What orders have taken of the volume of the symbol's last bar."""
        done = self._taken.get(bar.symbol)
        return Taken(bar.close_time, ZERO) if done is None or done.bar != bar.close_time else done

    def _rules_of(self, symbol: str) -> SymbolRules:
        try:
            return self._rules[symbol]
        except KeyError:
            raise ExchangeError(f"{symbol} is not listed here; there are {', '.join(self._rules)}") from None
