"""A spot exchange for one account, played from candle files: the paper mode, the replay and the tests trade on it.

It is driven by the clock alone. Every call first plays the bars that have closed by ``clock.now()``: they are
matched against resting orders, one bar after the other, and only then become visible. What it answers is a
function of the candles, the seed, the settings and the calls with their times; randomness belongs to an event
(seed, order, number of the fill), never to a stream, so a process that is killed and starts again goes on as if
nothing had happened. Books and place are durable before a caller learns of them (see ``state``).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import islice, takewhile
from pathlib import Path

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import ONE, TIMEFRAMES, ZERO, OrderType, Side, TimeInForce, from_millis
from tradingbot_agents.exchange.books import BookOrder, Books, BookTrade
from tradingbot_agents.exchange.candle_files import CandleFileInvalid, CandleFileReport
from tradingbot_agents.exchange.candle_source import CandleSource, Tick, merged
from tradingbot_agents.exchange.faults import Fault, Faults
from tradingbot_agents.exchange.market_rules import rules_of
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


def _open_time(candle: Candle) -> datetime:
    return candle.open_time


_EPOCH = from_millis(0)

_FINISHED = "finished"


class SimulatedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated exchange behaves. Fractions are fractions of one."""

    initial_balances: Mapping[str, Decimal]
    """What the account holds before the first bar, by asset."""
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


class SimulatedExchange:
    """``MarketFeed`` and ``TradingVenue`` over candle files. Made by ``open``."""

    def __init__(
        self,
        *,
        store: StateStore,
        source: CandleSource,
        rules: Mapping[str, SymbolRules],
        clock: Clock,
        seed: int,
        settings: SimulatedSettings,
        faults: Faults | None,
    ) -> None:
        self._store = store
        self._source = source
        self._rules = rules
        self._clock = clock
        self._seed = seed
        self._settings = settings
        self._faults = faults
        self._files = {file.symbol: file for file in source.files}
        self._broken: Exception | None = None
        self._window = -1
        self._calls = 0

        self._books = Books(rules, settings.slippage, store.totals())
        for order in store.open_orders():
            self._books.restore(order)
        self._before_change = self._books.balances()
        self._last_order, self._last_trade = store.last_ids()

        place = store.place()
        self._place = source.start_time if place is None else place
        self._bars: dict[str, list[Candle]] = {}
        self._seen: dict[str, int] = {}
        streams: list[Iterator[Candle]] = []
        for file in source.files:
            self._seen[file.symbol], self._bars[file.symbol], stream = file.resume(self._place, settings.history)
            streams.append(stream)
        self._ticks = merged(streams, source.timeframe)
        self._tick: Tick | None = next(self._ticks, None)
        self._taken = {
            symbol: taken for symbol, taken in store.taken().items() if taken.bar == self._last_close(symbol)
        }

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        source: CandleSource,
        rules: Mapping[str, SymbolRules],
        clock: Clock,
        seed: int,
        settings: SimulatedSettings,
        faults: Faults | None = None,
    ) -> SimulatedExchange:
        """Begin a run in ``directory``, or go on with the one that is there.

        A new run checks every candle first, and writes nothing when one is bad. Raises ``CandleFileInvalid``,
        ``NoMarketRules``, or ``ExchangeStateError`` when the directory can not be used, another process has it, or
        it belongs to a run with another seed, other candles or other opening balances.
        """
        known = rules_of(rules, source.symbols, None)
        if settings.fees is not None:
            known = {symbol: msgspec.structs.replace(rule, fees=settings.fees) for symbol, rule in known.items()}
        opening = {asset: str(amount) for asset, amount in sorted(settings.initial_balances.items())}
        identity = {
            "seed": str(seed),
            "candles": source.fingerprint,
            "opening": msgspec.json.encode(opening).decode(),
        }
        store = StateStore(directory)
        if not StateStore.exists(directory):
            reports = msgspec.json.encode(source.check()).decode()
            store.create({**identity, "reports": reports}, settings.initial_balances)
        store.open()
        try:
            facts = store.facts()
            for name, told in (("seed", "seed"), ("candles", "candles"), ("opening", "opening balances")):
                if facts.get(name) != identity[name]:
                    raise ExchangeStateError(
                        f"{directory} belongs to a run with other {told} ({facts.get(name)}, now {identity[name]}); "
                        f"start with the same {told}, or use another data directory"
                    )
            source.trust(msgspec.json.decode(facts["reports"], type=tuple[CandleFileReport, ...]))
            return cls(
                store=store, source=source, rules=known, clock=clock, seed=seed, settings=settings, faults=faults
            )
        except BaseException:
            store.close()
            raise

    def close(self) -> None:
        """Let go of the directory. Safe to repeat."""
        self._store.close()

    # What the runtime asks

    @property
    def start_time(self) -> datetime:
        """When the first bar opens."""
        return self._source.start_time

    @property
    def end_time(self) -> datetime:
        """When the last bar closes."""
        return max(report.last_open for report in self.reports) + TIMEFRAMES[self._source.timeframe]

    @property
    def rules(self) -> Mapping[str, SymbolRules]:
        """The market rules of the symbols that are replayed."""
        return self._rules

    def last_price(self, symbol: str) -> Decimal | None:
        """The close of the last bar that was played, or ``None`` before the first. Asks nothing, counts no call."""
        bar = self._last_bar(symbol)
        return None if bar is None else bar.close

    def opening_price(self, symbol: str) -> Decimal | None:
        """The first bar's open, or ``None`` for a symbol that is not replayed."""
        file = self._files.get(symbol)
        return None if file is None else next(file.rows()).open

    @property
    def place(self) -> datetime:
        """The close of the last bar that has been played, or ``start_time``: a clock goes on here after a restart."""
        return self._place

    def next_close(self) -> datetime | None:
        """When the next bar closes, or ``None`` when all have been played."""
        return None if self._tick is None else self._tick.close_time

    @property
    def finished(self) -> bool:
        """Whether a run has said that it was done with the last bar. That all bars are played says less: what the
        last one sets off is decided after it was played, and a kill may come in between."""
        return _FINISHED in self._store.facts()

    def finish(self) -> None:
        """Nothing is left to be done with the last bar."""
        self._store.note(_FINISHED, self._place.isoformat())

    @property
    def progress(self) -> tuple[int, int]:
        """Bars played, and bars in all."""
        return sum(self._seen.values()), sum(report.bars for report in self.reports)

    @property
    def reports(self) -> Sequence[CandleFileReport]:
        """What is in the candle files: counts, times, gaps."""
        return self._source.check()

    def all_trades(self) -> list[ExchangeTrade]:
        """Every trade of the account, oldest first: for an audit against the ledger."""
        self._advance(self._clock.now())
        return [trade.told() for trade in self._store.all_trades()]

    # MarketFeed and TradingVenue

    @property
    def capabilities(self) -> Capabilities:
        return self._settings.capabilities

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        self._request("market_rules", "")
        return {symbol: self._rules_of(symbol) for symbol in symbols}

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        self._request("candles", symbol)
        if timeframe != self._source.timeframe:
            raise ExchangeError(f"the candles replayed are {self._source.timeframe}, not {timeframe}")
        if limit < 1:
            raise ExchangeError(f"limit is {limit}; it must be at least 1")
        self._rules_of(symbol)
        if since is None:
            return self.last_bars(symbol, limit)
        bars = self._bars[symbol]
        if self._seen[symbol] > len(bars) and since < bars[0].open_time:
            return list(islice(self._played(symbol, since), limit))
        first = bisect_left(bars, since, key=_open_time)
        return bars[first : first + limit]

    def last_bars(self, symbol: str, count: int) -> list[Candle]:
        """The newest visible ones, oldest first. Not a request: a report asks here, and meets no faults."""
        bars = self._bars[symbol]
        if self._seen[symbol] > len(bars) and len(bars) < count:
            return list(deque(self._played(symbol, None), maxlen=count))
        return bars[-count:]

    async def ticker(self, symbol: str) -> Ticker:
        """The close of the last bar, at the time of that close."""
        self._request("ticker", symbol)
        self._rules_of(symbol)
        bar = self._last_bar(symbol)
        if bar is None:
            raise ExchangeError(f"{symbol} has no price yet: its first bar has not closed")
        return Ticker(symbol, bar.close, bar.close_time)

    async def balances(self) -> Mapping[str, ExchangeBalance]:
        fault = self._request("balances", "")
        return self._before_change if fault is Fault.STALE else self._books.balances()

    async def create_order(self, request: OrderRequest) -> ExchangeOrder:
        fault = self._request("create_order", request.client_order_id)
        await self._clock.sleep(self._settings.latency)
        self._advance(self._clock.now())
        try:
            told = self._accept(request).told()
        except OrderRejected as rejection:
            if fault is Fault.LOST_REPLY:
                raise Ambiguous(f"the reply to order {request.client_order_id} was lost") from rejection
            raise
        if fault is Fault.LOST_REPLY:
            raise Ambiguous(f"the reply to order {request.client_order_id} was lost")
        return told

    async def cancel_order(self, symbol: str, client_order_id: str) -> ExchangeOrder:
        fault = self._request("cancel_order", client_order_id)
        await self._clock.sleep(self._settings.latency)
        self._advance(self._clock.now())
        order = self._books.open_by_client_id(client_order_id)
        if order is None or order.symbol != symbol:
            raise CancelRefused(f"{symbol} has no open order {client_order_id}: look it up")
        self._remember()
        self._books.end(order, ExchangeOrderState.CANCELLED)
        self._save([order], [], {})
        if fault is Fault.LOST_REPLY:
            raise Ambiguous(f"the reply to the cancel of order {client_order_id} was lost")
        return order.told()

    async def order_by_client_id(self, symbol: str, client_order_id: str) -> ExchangeOrder | None:
        if self._request("order_by_client_id", client_order_id) is Fault.NOT_VISIBLE:
            return None
        order = self._books.open_by_client_id(client_order_id)
        if order is None or order.symbol != symbol:
            order = self._store.newest_order(symbol, client_order_id)
        return None if order is None else order.told()

    async def open_orders(self) -> list[ExchangeOrder]:
        if self._request("open_orders", "") is Fault.NOT_VISIBLE:
            return []
        return [order.told() for order in self._books.open.values()]

    async def trades_of_order(self, symbol: str, exchange_order_id: str) -> list[ExchangeTrade]:
        fault = self._request("trades_of_order", exchange_order_id)
        if not exchange_order_id.isdecimal():
            raise ExchangeError(f"{exchange_order_id!r} is no order id of this exchange")
        trades = [trade.told() for trade in self._store.trades(symbol, int(exchange_order_id))]
        return [trade for trade in trades for _ in range(2)] if fault is Fault.DUPLICATED else trades

    async def trades(self, symbol: str, since: datetime) -> list[ExchangeTrade]:
        self._request("trades", symbol)
        self._rules_of(symbol)
        return [trade.told() for trade in self._store.trades_since(symbol, since)]

    # A call arrives

    def _request(self, call: str, key: str) -> Fault | None:
        """Play what has happened by now, count the call, and let the faults have it."""
        now = self._clock.now()
        self._advance(now)
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

    def _advance(self, now: datetime) -> None:
        """Play the bars that have closed by ``now``."""
        if self._broken is not None:
            raise self._broken
        tick = self._tick
        if tick is None or tick.close_time > now:
            return
        keep = self._settings.history
        try:
            while tick is not None and tick.close_time <= now:
                if self._books.open:
                    self._play(tick)
                for bar in tick.candles:
                    bars = self._bars[bar.symbol]
                    bars.append(bar)
                    self._seen[bar.symbol] += 1
                    if len(bars) >= 2 * keep:
                        del bars[:-keep]
                self._place = tick.close_time
                tick = self._tick = next(self._ticks, None)
            self._store.write_place(self._place)
        except (ExchangeStateError, CandleFileInvalid) as error:
            self._broken = error
            raise

    def _play(self, tick: Tick) -> None:
        """Match the resting orders against the bars of a tick: one event, whole."""
        changed: list[BookOrder] = []
        trades: list[BookTrade] = []
        taken: dict[str, Taken] = {}
        for bar in tick.candles:
            for order in sorted(self._books.open_of(bar.symbol), key=lambda order: (distance(order, bar), order.id)):
                match = match_in_bar(order, bar, self._rules[bar.symbol], self._slip(order))
                if match.price is None and not match.triggers:
                    continue
                if not changed:
                    self._remember()
                order.triggered = order.triggered or match.triggers
                changed.append(order)
                done = taken.get(bar.symbol, Taken(tick.close_time, ZERO))
                taken[bar.symbol] = self._fill(order, match, bar, done, tick.close_time, trades)
        if changed:
            self._save(changed, trades, taken, tick.close_time)

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

    def _accept(self, request: OrderRequest) -> BookOrder:
        """Refuse the order, or put it into the books; it is durable on return."""
        rules, bar = self._examine(request)
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
        if need > self._books.free(asset):
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
            done = self._taken.get(order.symbol)
            if done is None or done.bar != bar.close_time:
                done = Taken(bar.close_time, ZERO)
            taken[order.symbol] = self._fill(order, match, bar, done, order.at, trades)
        if not rests and order.state is ExchangeOrderState.OPEN:
            self._books.end(order, ExchangeOrderState.CANCELLED)
        self._save([order], trades, taken)
        return order

    def _examine(self, request: OrderRequest) -> tuple[SymbolRules, Candle]:
        """The symbol's rules and last bar, or ``OrderRejected`` with the reason that the exchange would give."""
        rules = self._rules.get(request.symbol)
        if rules is None:
            raise OrderRejected("unknown_symbol", f"{request.symbol} is not listed here")
        bar = self._last_bar(request.symbol)
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
        place: datetime | None = None,
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
                place=place,
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

    def _rules_of(self, symbol: str) -> SymbolRules:
        try:
            return self._rules[symbol]
        except KeyError:
            raise ExchangeError(f"{symbol} is not listed here; there are {', '.join(self._rules)}") from None

    def _last_bar(self, symbol: str) -> Candle | None:
        bars = self._bars[symbol]
        return bars[-1] if bars else None

    def _last_close(self, symbol: str) -> datetime | None:
        bar = self._last_bar(symbol) if symbol in self._bars else None
        return None if bar is None else bar.close_time

    def _played(self, symbol: str, since: datetime | None) -> Iterator[Candle]:
        """Bars that are visible, from the file."""
        last = self._place - TIMEFRAMES[self._source.timeframe]
        return takewhile(lambda bar: bar.open_time <= last, self._files[symbol].rows(since))
