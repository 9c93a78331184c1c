"""A spot exchange in memory with books of its own: both halves of the port, stops, locks, and its mistakes.

It knows nothing of the agents. Prices and what was promised for later are played up to now by each call, in order of
time, so it needs no events of its own. What it complains of (an id used twice, money that is not there) is never the
bot's right: ``complaints`` are violations.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from random import Random

import msgspec

from support.simulation.faults import Fault
from support.simulation.market import BAR, COIN, COIN_PRICE, COIN_SYMBOL, QUOTE, SYMBOLS, Market, Point
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import ZERO, OrderType, Side, TimeInForce, cut
from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    Capabilities,
    ExchangeBalance,
    ExchangeOrder,
    ExchangeOrderState,
    ExchangeTrade,
    InsufficientFunds,
    OrderRejected,
    OrderRequest,
    RateLimited,
    Ticker,
)

replace = msgspec.structs.replace

RATE = Decimal("0.001")
LATENCY = timedelta(milliseconds=30)
STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
LAG = timedelta(seconds=20)
"""How long balances may be those before a change: less than the time for which a difference must stand."""
MOST_HIDDEN = 2
"""How often one order is not shown: fewer times than look-ups that make "not found" an answer."""
LIQUIDITY = (1, 1, 1, 1, 1, 1, 2, 2, 0)
"""An order that takes finds all of its amount, half of it, or nothing."""

STEPS = {"BTC/USDT": "0.00001", "ETH/USDT": "0.0001", "SOL/USDT": "0.001"}


def rules_of(symbol: str, currency: FeeCurrency) -> SymbolRules:
    base, _, quote = symbol.partition("/")
    return SymbolRules(
        symbol=symbol,
        base=base,
        quote=quote,
        amount=Precision(PrecisionMode.TICK_SIZE, Decimal(STEPS[symbol])),
        price=Precision(PrecisionMode.TICK_SIZE, Decimal("0.01")),
        fees=Fees(maker=RATE, taker=RATE, currency=currency),
        min_amount=Decimal(STEPS[symbol]),
        min_notional=Decimal(5),
    )


class _Hanging(msgspec.Struct):
    """An order that hangs, until when."""

    order: str
    until: datetime


class SimulatedVenue:
    """``MarketFeed`` and ``TradingVenue``."""

    def __init__(
        self,
        market: Market,
        clock: VirtualClock,
        dice: Random,
        opening: Mapping[str, Decimal],
        currency: FeeCurrency,
        capabilities: Capabilities,
        on_accept: Callable[[OrderRequest], None],
    ) -> None:
        """``on_accept`` is told of each order that reaches the exchange, before it is judged."""
        self._market = market
        self._clock = clock
        self._dice = dice
        self._currency = currency
        self._on_accept = on_accept
        self.capabilities = capabilities
        self.rules = {symbol: rules_of(symbol, currency) for symbol in SYMBOLS}
        self.totals: dict[str, Decimal] = dict(opening)
        self.prices: dict[str, Decimal] = {}
        self.orders: dict[str, ExchangeOrder] = {}
        """By the exchange's id."""
        self.by_client: dict[str, list[str]] = {}
        self.open: dict[str, ExchangeOrder] = {}
        self.done: list[ExchangeTrade] = []
        """All trades, oldest first."""
        self.complaints: list[str] = []
        self.calm = False
        """The trouble is over: every order finds a market."""
        self._played = 0
        self._later: list[tuple[datetime, int, OrderRequest | _Hanging]] = []
        self._numbers = 0
        self._triggered: set[str] = set()
        self._hidden: dict[str, int] = {}
        self._of_order: dict[str, list[ExchangeTrade]] = {}
        self._changed_at = clock.now()
        self._before_change: dict[str, ExchangeBalance] = self._balances()

    # --- time ------------------------------------------------------------------------------------------

    def play(self) -> None:
        """Everything up to now happens."""
        now = self._clock.now()
        points = self._market.points
        while True:
            later = self._later[0][0] if self._later else None
            point = points[self._played] if self._played < len(points) else None
            if later is not None and later <= now and (point is None or later < point.at):
                _, _, what = heapq.heappop(self._later)
                if isinstance(what, _Hanging):
                    self._settle(what)
                else:
                    self._arrive_late(what, later)
            elif point is not None and point.at <= now:
                self._played += 1
                self.prices[point.symbol] = point.price
                for order in list(self.open.values()):
                    if order.stop_price is not None and order.symbol == point.symbol:
                        self._touch(order, point)
            else:
                return

    def _touch(self, order: ExchangeOrder, point: Point) -> None:
        """A stop sees a price. Once triggered, one with a limit rests there with what the market did not take."""
        assert order.stop_price is not None
        if point.price > order.stop_price and order.exchange_order_id not in self._triggered:
            return
        self._triggered.add(order.exchange_order_id)
        if order.limit_price is None:
            self._end(self._take(order, point.price, point.at))
        elif point.price >= order.limit_price:
            order = self._take(order, point.price, point.at)
            if order.filled == order.amount:
                self._end(order)

    def _promise(self, at: datetime, what: OrderRequest | _Hanging) -> None:
        self._numbers += 1
        heapq.heappush(self._later, (at, self._numbers, what))

    def _settle(self, hanging: _Hanging) -> None:
        order = self.open.get(hanging.order)
        if order is None:
            return
        price = self.prices[order.symbol]
        if order.limit_price is None or order.limit_price >= price:
            order = self._take(order, price, hanging.until)
        self._end(order)

    def _arrive_late(self, request: OrderRequest, at: datetime) -> None:
        try:
            self._accept(request, at)
        except OrderRejected:
            # Nobody listens any more: such an order never was.
            return

    # --- the market ------------------------------------------------------------------------------------

    async def market_rules(self, symbols: Sequence[str], fault: Fault | None = None) -> Mapping[str, SymbolRules]:
        self._asked(fault)
        return {symbol: self.rules[symbol] for symbol in symbols}

    async def candles(
        self,
        symbol: str,
        timeframe: str,
        since: datetime | None = None,
        limit: int = 500,
        fault: Fault | None = None,
    ) -> list[Candle]:
        self._asked(fault)
        bars = self._market.candles[symbol]
        closed = bars[: max((self._clock.now() - bars[0].open_time) // BAR, 0)]
        if since is None:
            return closed[-limit:]
        first = max(-((bars[0].open_time - since) // BAR), 0)
        return closed[first : first + limit]

    async def ticker(self, symbol: str, fault: Fault | None = None) -> Ticker:
        self._asked(fault)
        self.play()
        return Ticker(symbol, COIN_PRICE if symbol == COIN_SYMBOL else self.prices[symbol], self._clock.now())

    # --- orders ----------------------------------------------------------------------------------------

    async def balances(self, fault: Fault | None = None) -> Mapping[str, ExchangeBalance]:
        self._asked(fault)
        self.play()
        stale = fault is Fault.STALE_BALANCE and self._clock.now() - self._changed_at < LAG
        return self._before_change if stale else self._balances()

    async def create_order(self, request: OrderRequest, fault: Fault | None = None) -> ExchangeOrder:
        await self._clock.sleep(LATENCY)
        self._asked(fault)
        if fault is Fault.REQUEST_LOST:
            raise Ambiguous("the request was lost")
        if fault is Fault.ORDER_REFUSED:
            raise OrderRejected("halted", f"{request.symbol} does not trade for a moment")
        if fault is Fault.REQUEST_LATE:
            # Counted from the sending: the exchange takes nothing that is older than its receive window.
            self._promise(self._clock.now() + timedelta(milliseconds=self._dice.randint(100, 4900)), request)
            raise Ambiguous("the request timed out")
        self.play()
        order = self._accept(request, self._clock.now(), hangs=fault is Fault.ORDER_HANGS)
        if fault is Fault.REPLY_LOST:
            raise Ambiguous("the reply was lost")
        return order

    async def cancel_order(self, symbol: str, client_order_id: str, fault: Fault | None = None) -> ExchangeOrder:
        await self._clock.sleep(LATENCY)
        self._asked(fault)
        if fault is Fault.CANCEL_LOST:
            raise Ambiguous("the request was lost")
        self.play()
        order = next((order for order in self.open.values() if order.client_order_id == client_order_id), None)
        if order is not None and fault is Fault.CANCEL_OVERTAKEN:
            order = self._take(order, self.prices[symbol], self._clock.now())
            if order.filled == order.amount:
                self._end(order)
                order = None
        if order is None:
            raise CancelRefused(f"no open order {client_order_id}")
        order = self._end(order)
        if fault is Fault.CANCEL_REPLY_LOST:
            raise Ambiguous("the reply was lost")
        return order

    async def order_by_client_id(
        self, symbol: str, client_order_id: str, fault: Fault | None = None
    ) -> ExchangeOrder | None:
        self._asked(fault)
        self.play()
        if fault is Fault.ORDER_NOT_SHOWN and self._hide(client_order_id):
            return None
        found = self.by_client.get(client_order_id)
        return self.orders[found[-1]] if found else None

    async def open_orders(self, fault: Fault | None = None) -> list[ExchangeOrder]:
        self._asked(fault)
        self.play()
        return [] if fault is Fault.ORDER_NOT_SHOWN else list(self.open.values())

    async def trades_of_order(
        self, symbol: str, exchange_order_id: str, fault: Fault | None = None
    ) -> list[ExchangeTrade]:
        self._asked(fault)
        self.play()
        return _as_told(self._of_order.get(exchange_order_id, []), fault)

    async def trades(self, symbol: str, since: datetime, fault: Fault | None = None) -> list[ExchangeTrade]:
        self._asked(fault)
        self.play()
        return _as_told([trade for trade in self.done if trade.symbol == symbol and trade.at >= since], fault)

    # --- inside ----------------------------------------------------------------------------------------

    def _asked(self, fault: Fault | None) -> None:
        if fault is Fault.RATE_LIMITED:
            raise RateLimited(timedelta(milliseconds=self._dice.choice((500, 2000, 7000))))
        if fault is Fault.QUESTION_LOST:
            raise Ambiguous("no answer")

    def _hide(self, client_order_id: str) -> bool:
        times = self._hidden[client_order_id] = self._hidden.get(client_order_id, 0) + 1
        return times <= MOST_HIDDEN

    def _balances(self) -> dict[str, ExchangeBalance]:
        locked = {asset: self.locked(asset) for asset in self.totals}
        return {asset: ExchangeBalance(total - locked[asset], locked[asset]) for asset, total in self.totals.items()}

    def locked(self, asset: str) -> Decimal:
        """What open orders lock."""
        locked = ZERO
        for order in self.open.values():
            base, _, quote = order.symbol.partition("/")
            if order.side is Side.SELL and base == asset:
                locked += order.amount - order.filled
            elif order.side is Side.BUY and quote == asset and order.limit_price is not None:
                locked += (order.amount - order.filled) * order.limit_price
        return locked

    def _accept(self, request: OrderRequest, at: datetime, hangs: bool = False) -> ExchangeOrder:
        self._on_accept(request)
        symbol, rules = request.symbol, self.rules[request.symbol]
        price = self.prices[symbol]
        if request.client_order_id in self.by_client:
            self.complaints.append(f"order {request.client_order_id} was sent twice")
        problem = rules.order_problem(
            request.type, request.amount, request.limit_price or request.stop_price or price
        )
        if problem is not None:
            raise OrderRejected(problem.reason, str(problem))
        if request.stop_price is not None and price <= request.stop_price:
            raise OrderRejected("stop_would_trigger_immediately", f"{request.stop_price} at {price}")
        asset = rules.base if request.side is Side.SELL else rules.quote
        needed = request.amount * (1 if request.side is Side.SELL else request.limit_price or price)
        free = self.totals.get(asset, ZERO) - self.locked(asset)
        if needed > free:
            self.complaints.append(f"order {request.client_order_id} needs {needed} {asset}, {free} are free")
            raise InsufficientFunds(f"{needed} of {free}")
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
            at=at,
        )
        self.by_client.setdefault(request.client_order_id, []).append(order.exchange_order_id)
        self._keep(order)
        if request.type in STOPS:
            return order
        if hangs:
            until = at + timedelta(milliseconds=self._dice.choice((200, 1500, 6000, 25_000, 60_000)))
            self._promise(until, _Hanging(order.exchange_order_id, until))
            if self._dice.random() < 0.5 and (order.limit_price is None or order.limit_price >= price):
                order = self._trade(order, price, rules.floor_amount(order.amount / 3), at)
            return order
        if request.limit_price is None or request.limit_price >= price:
            order = self._take(order, price, at)
        ends = request.type is OrderType.MARKET or request.time_in_force is TimeInForce.IOC
        return self._end(order) if ends else order

    def _take(self, order: ExchangeOrder, price: Decimal, at: datetime) -> ExchangeOrder:
        """What the market has for it, in two trades."""
        rules = self.rules[order.symbol]
        left = order.amount - order.filled
        share = 1 if self.calm else self._dice.choice(LIQUIDITY)
        amount = rules.floor_amount(left / share) if share else ZERO
        first = rules.floor_amount(amount / 2)
        for part in (first, amount - first):
            order = self._trade(order, price, part, at)
        return order

    def _trade(self, order: ExchangeOrder, price: Decimal, amount: Decimal, at: datetime) -> ExchangeOrder:
        if amount <= ZERO:
            return order
        rules = self.rules[order.symbol]
        buys = order.side is Side.BUY
        worth = amount * price
        if self._currency is FeeCurrency.OTHER:
            fee = Fee(COIN, cut(worth * RATE / COIN_PRICE))
        elif self._currency is FeeCurrency.QUOTE or not buys:
            fee = Fee(rules.quote, worth * RATE)
        else:
            fee = Fee(rules.base, amount * RATE)
        trade = ExchangeTrade(
            exchange_trade_id=str(len(self.done) + 1),
            exchange_order_id=order.exchange_order_id,
            symbol=order.symbol,
            side=order.side,
            price=price,
            amount=amount,
            at=at,
            fee=fee,
        )
        self._changes()
        self.done.append(trade)
        self._of_order.setdefault(order.exchange_order_id, []).append(trade)
        changes = (
            (rules.base, amount if buys else -amount),
            (QUOTE, -worth if buys else worth),
            (fee.asset, -fee.amount),
        )
        for asset, change in changes:
            self.totals[asset] = self.totals.get(asset, ZERO) + change
        return self._keep(replace(order, filled=order.filled + amount, cost=order.cost + worth))

    def _end(self, order: ExchangeOrder) -> ExchangeOrder:
        filled = order.filled == order.amount
        return self._keep(replace(order, state=ExchangeOrderState.CLOSED if filled else ExchangeOrderState.CANCELLED))

    def _changes(self) -> None:
        """Balances are about to change: what they were before this moment is what a stale answer tells."""
        if self._changed_at < self._clock.now():
            self._changed_at = self._clock.now()
            self._before_change = self._balances()

    def _keep(self, order: ExchangeOrder) -> ExchangeOrder:
        self._changes()
        self.orders[order.exchange_order_id] = order
        if order.state is ExchangeOrderState.OPEN:
            self.open[order.exchange_order_id] = order
        else:
            self.open.pop(order.exchange_order_id, None)
        return order


def _as_told(trades: list[ExchangeTrade], fault: Fault | None) -> list[ExchangeTrade]:
    if fault is Fault.FILL_LATE:
        return trades[:-1]
    return [*trades, *trades] if fault is Fault.FILL_TWICE else list(trades)
