"""Every spot exchange of ccxt behind our two ports: market data without a key, trading with one.

It talks to the exchange and decides nothing: what an answer or a failure means is in ``ccxt_mapping`` and
``ccxt_errors``, what differs between exchanges in ``ccxt_dialects``. It never sends an order twice by itself.

ccxt is run with numbers as strings, with the one class that is needed, and with the markets of the bot's symbols
only. What ccxt says is cleaned before it goes anywhere: its errors hold addresses with signatures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import from_millis, to_millis
from tradingbot_agents.exchange.ccxt_call import MILLISECOND, TRACE, NoTurn, Trace, make_exchange
from tradingbot_agents.exchange.ccxt_dialects import LookUp, OrderTrades, dialect_of
from tradingbot_agents.exchange.ccxt_errors import (
    Failure,
    clean,
    is_key_refused,
    is_rate_limit,
    is_unknown_order,
    outcome_of_cancel,
    outcome_of_create,
    outcome_of_read,
    retry_after,
)
from tradingbot_agents.exchange.ccxt_mapping import (
    Raw,
    Unreadable,
    account_trades_of,
    balances_of,
    candles_of,
    capabilities_of,
    newest,
    order_arguments,
    order_of,
    request_problem,
    rules_of,
    ticker_of,
    trades_of,
)
from tradingbot_agents.exchange.ccxt_preflight import KEY_QUESTIONS, AccountFacts, AccountReport, merged, report_of
from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    Capabilities,
    ExchangeBalance,
    ExchangeError,
    ExchangeOrder,
    ExchangeOrderState,
    ExchangeTrade,
    NotListed,
    OrderRejected,
    OrderRequest,
)

T = TypeVar("T")

_TRADES_BEFORE = timedelta(minutes=1)
"""How much earlier than an order's own time its trades are asked for, where they are asked for by time."""
_TRADES_AFTER = timedelta(minutes=1)
"""How far beyond now trades are asked for: clocks differ, and a trade may come while it is asked."""


class ExchangeKeys(msgspec.Struct, frozen=True):
    """A key of the exchange, as its Secret has it. Never shown."""

    api_key: str
    secret: str
    password: str | None = None

    def __repr__(self) -> str:
        return "ExchangeKeys(***)"

    __str__ = __repr__

    def secrets(self) -> tuple[str, ...]:
        return tuple(part for part in (self.api_key, self.secret, self.password) if part)


class CcxtSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What a bot's spec says of its exchange."""

    exchange: str
    """ccxt's id."""
    symbols: tuple[str, ...]
    endpoint: str | None
    """Base address in place of the exchange's own; paths stay as they are."""
    testnet: bool
    request_timeout: timedelta
    """The longest wait for an answer, and the longest that a call waits for its turn before it is sent."""
    receive_window: timedelta

    def __post_init__(self) -> None:
        for name, value in (("request_timeout", self.request_timeout), ("receive_window", self.receive_window)):
            if value <= timedelta(0):
                raise ValueError(f"{name} is {value}; it must be above 0")


class _Failed(Exception):
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


class CcxtExchange:
    """``MarketFeed`` and ``TradingVenue`` on a real exchange. Nothing is asked before the first call.

    Without ``keys`` only what the market tells can be asked. Must be closed.
    """

    def __init__(
        self, *, settings: CcxtSettings, clock: Clock, keys: ExchangeKeys | None = None, streams: bool = False
    ) -> None:
        """``streams``: ``watch_candles`` and ``watch_ticker`` are wanted (see ``ccxt_streams``).

        Raises ``UnknownExchange``, ``NoStreams``, or ``ExchangeError`` when the exchange has no testnet.
        """
        self._settings = settings
        self._clock = clock
        self._keys = keys
        self._dialect = dialect_of(settings.exchange)
        self._ccxt = make_exchange(
            settings.exchange,
            dialect=self._dialect,
            clock=clock,
            endpoint=settings.endpoint,
            testnet=settings.testnet,
            patience=settings.request_timeout,
            receive_window=settings.receive_window,
            streams=streams,
        )
        self._use(keys)
        self._opening = asyncio.Lock()
        self._opened = False
        self._clock_is_known = False
        self._not_before = clock.now()
        self._difference = timedelta(0)
        self._wanted = set(settings.symbols)
        self._markets: dict[str, Raw] = {}
        """Of the symbols that were asked for, as ccxt has them."""
        self._gone: set[str] = set()
        """Symbols that were listed, and are not any more."""
        self._names: dict[str, str] = {}
        """Symbols by the exchange's own ids, of all spot markets that were told of."""
        self._fees: tuple[Decimal, Decimal] | None = None
        self._rules: dict[str, SymbolRules] = {}

    def __repr__(self) -> str:
        return f"CcxtExchange({self._settings.exchange})"

    async def close(self) -> None:
        """Let go of its connections. Safe to repeat."""
        await self._ccxt.close()

    def use_keys(self, keys: ExchangeKeys) -> None:
        """From the next request on; what is under way ends with the old ones."""
        self._keys = keys
        self._use(keys)

    def _use(self, keys: ExchangeKeys | None) -> None:
        self._ccxt.apiKey = keys.api_key if keys else ""
        self._ccxt.secret = keys.secret if keys else ""
        self._ccxt.password = (keys.password or "") if keys else ""
        # ccxt's memory that the key has worked: with it, a refused key of Binance is taken for a ban.
        self._ccxt.options.pop("hasAlreadyAuthenticatedSuccessfully", None)

    # --- market data

    @property
    def timeframes(self) -> tuple[str, ...]:
        """Of the bars that it has."""
        return tuple(self._ccxt.timeframes or ())

    @property
    def capabilities(self) -> Capabilities:
        """Of all symbols together, as far as their markets are known."""
        return capabilities_of(self._dialect, self._markets.values())

    @property
    def clock_difference(self) -> timedelta:
        """How far our clock is ahead of the exchange's, as measured last."""
        return self._difference

    @property
    def tells_time(self) -> bool:
        """Whether ``clock_difference`` is measured at all."""
        return bool(self._ccxt.has.get("fetchTime"))

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        """Reads them anew. A symbol that was listed and is not any more, or is halted, is not ``active``."""
        self._wanted |= set(symbols)
        try:
            if self._opened:
                # When that fails, what was read before still holds: an exit must not wait for a list of markets.
                async with self._opening:
                    await self._traced(self._measure_clock)
                    await self._traced(self._load_markets)
            else:
                await self._open_or_fail()
        except _Failed as failed:
            raise outcome_of_read(failed.failure, self._dialect.rate_codes) from None
        missing = [symbol for symbol in symbols if symbol not in self._rules]
        if missing:
            raise NotListed(missing, f"{self._settings.exchange}'s spot market")
        return {symbol: self._rules[symbol] for symbol in symbols}

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        async def ask() -> list[Candle]:
            self._known(symbol)
            if timeframe not in self.timeframes:
                known = ", ".join(self.timeframes)
                raise Unreadable(f"{self._settings.exchange} has no bars of {timeframe}; it has {known}")
            begin = None if since is None else to_millis(since)
            # One more without a begin: the newest bar is not closed.
            rows = await self._ccxt.fetch_ohlcv(symbol, timeframe, begin, limit if begin is not None else limit + 1)
            bars = candles_of(rows, symbol, timeframe, self._exchange_time())
            if since is None:
                return bars[-limit:]
            return [bar for bar in bars if bar.open_time >= since][:limit]

        return await self._read(ask)

    async def ticker(self, symbol: str) -> Ticker:
        async def ask() -> Ticker:
            self._known(symbol)
            raw = await self._ccxt.fetch_ticker(symbol)
            return ticker_of(raw, symbol, self._exchange_time())

        return await self._read(ask)

    # --- streams

    async def watch_candles(self, symbol: str, timeframe: str) -> list[Candle]:
        """Waits for the next news of the symbol's bars, and tells those that it is about: also the one that is not
        closed. Raises ``ExchangeError`` when the stream ends."""

        async def ask() -> list[Candle]:
            self._known(symbol)
            rows = await _until_ended(self._ccxt.watch_ohlcv(symbol, timeframe))
            # Some come as floats here, whatever ccxt was told; their shortest text is the exchange's.
            return candles_of(rows, symbol, timeframe, None)

        return await self._read(ask)

    async def watch_ticker(self, symbol: str) -> Ticker:
        """Waits for the next price. Raises ``ExchangeError`` when the stream ends."""

        async def ask() -> Ticker:
            self._known(symbol)
            raw = await _until_ended(self._ccxt.watch_ticker(symbol))
            return ticker_of(raw, symbol, self._exchange_time())

        return await self._read(ask)

    async def drop_streams(self) -> None:
        """End all connections of streams, and forget what they brought; who watches next makes a new one."""
        await self._ccxt.close_ws_clients()
        self._ccxt.ohlcvs = {}

    @property
    def stream_connections(self) -> int:
        """How many connections of streams there have been: when it has grown, something may have been missed."""
        count: int = self._ccxt.stream_connections
        return count

    @property
    def exchange_time(self) -> datetime:
        """Now, by the exchange's clock as far as it is known."""
        return self._exchange_time()

    # --- the account

    async def balances(self) -> Mapping[str, ExchangeBalance]:
        async def ask() -> Mapping[str, ExchangeBalance]:
            assets = {asset for rules in self._rules.values() for asset in (rules.base, rules.quote)}
            return balances_of(await self._ccxt.fetch_balance(dict(self._dialect.balance_parameters)), assets)

        return await self._read(ask)

    async def check_account(self, expected_account: str | None = None) -> AccountReport:
        """What the exchange tells of the key, and what speaks against trading with it.

        ``expected_account``: the id that the books have of it. Raises ``ExchangeError`` or ``RateLimited`` when the
        exchange could not be asked.
        """
        facts: dict[str, Any] = {}
        if self._keys is not None:
            try:
                facts = merged(await self._read_answers())
            except _Failed as failed:
                if not is_key_refused(failed.failure, self._dialect.codes):
                    raise outcome_of_read(failed.failure, self._dialect.rate_codes) from None
                facts = {"key_problem": failed.failure.text}
        else:
            await self._open()
        return report_of(
            AccountFacts(
                exchange=self._settings.exchange,
                client_order_ids=self._dialect.create_id is not None,
                has_key=self._keys is not None,
                clock_difference=self._difference,
                **facts,
            ),
            self._settings.receive_window,
            expected_account,
        )

    async def _read_answers(self) -> list[dict[str, Any]]:
        questions = KEY_QUESTIONS.get(self._settings.exchange)
        if questions is None:
            await self._ask(self._ccxt.fetch_balance)
            return []
        asked = [question for question in questions if question.on_testnet or not self._settings.testnet]
        return [question.read(await self._ask(getattr(self._ccxt, question.method))) for question in asked]

    # --- orders

    async def create_order(self, request: OrderRequest) -> ExchangeOrder:
        if self._dialect.create_id is None:
            raise OrderRejected("order_type_not_supported", f"{self._settings.exchange} is used for market data only")
        try:
            await self._open_or_fail()
        except _Failed as failed:
            # Nothing of the order has left yet, and nothing of it will.
            if is_rate_limit(failed.failure, self._dialect.rate_codes):
                raise outcome_of_read(failed.failure, self._dialect.rate_codes) from None
            raise OrderRejected("exchange_away", f"not sent: {failed.failure.text}") from None
        rules = self._rules.get(request.symbol)
        if rules is None:
            raise OrderRejected("unknown_symbol", f"{request.symbol} is not listed on {self._settings.exchange}")
        problem = request_problem(request, rules, self.capabilities, self._dialect)
        if problem is not None:
            raise problem
        arguments = order_arguments(request, self._dialect)

        async def ask() -> ExchangeOrder:
            raw = await self._ccxt.create_order(
                arguments.symbol,
                arguments.type,
                arguments.side,
                arguments.amount,
                arguments.price,
                dict(arguments.params),
            )
            return order_of(
                raw,
                symbol=request.symbol,
                client_order_id=request.client_order_id,
                request=request,
                now=self._exchange_time(),
            )

        try:
            return await self._traced(ask)
        except _Failed as failed:
            raise outcome_of_create(failed.failure, self._dialect.codes, self._dialect.rate_codes) from None

    async def cancel_order(self, symbol: str, client_order_id: str) -> ExchangeOrder:
        exchange_order_id: str | None = None
        params: dict[str, Any] = {}
        if self._dialect.cancel_id is not None:
            params[self._dialect.cancel_id] = client_order_id
        else:
            try:
                found = await self.order_by_client_id(symbol, client_order_id)
            except ExchangeError as error:
                raise _not_cancelled(error) from None
            if found is None:
                raise CancelRefused(f"{symbol} has no order {client_order_id}: look it up")
            if found.state is not ExchangeOrderState.OPEN:
                raise CancelRefused(f"order {client_order_id} is {found.state.value}: look it up")
            exchange_order_id = found.exchange_order_id

        async def ask() -> ExchangeOrder | None:
            self._known(symbol)
            raw = await self._ccxt.cancel_order(exchange_order_id, symbol, params)
            if not isinstance(raw, Mapping) or raw.get("status") is None:
                return None
            return order_of(raw, symbol=symbol, client_order_id=client_order_id, now=self._exchange_time())

        try:
            cancelled = await self._ask(ask)
        except _Failed as failed:
            raise outcome_of_cancel(failed.failure, self._dialect.codes, self._dialect.rate_codes) from None
        if cancelled is not None:
            return cancelled
        # Many exchanges only say that they heard it.
        try:
            found = await self.order_by_client_id(symbol, client_order_id)
        except ExchangeError as error:
            raise Ambiguous(f"it was cancelled, and could not be looked up after: {error}") from None
        if found is None:
            raise Ambiguous("it was cancelled, and is not shown any more")
        return found

    async def order_by_client_id(self, symbol: str, client_order_id: str) -> ExchangeOrder | None:
        dialect = self._dialect
        params = {dialect.look_up_id: client_order_id} if dialect.look_up_id is not None else {}

        async def ask() -> ExchangeOrder | None:
            self._known(symbol)
            if dialect.look_up is LookUp.BY_CLIENT_ID:
                raw: Raw | None = await self._ccxt.fetch_order(None, symbol, params)
            else:
                raw = newest(await self._ccxt.fetch_open_orders(symbol, None, None, dict(params)), client_order_id)
                if raw is None:
                    ended = getattr(self._ccxt, dialect.ended_orders)
                    raw = newest(await ended(symbol, None, None, dict(params)), client_order_id)
            if raw is None:
                return None
            return order_of(raw, symbol=symbol, client_order_id=client_order_id, now=self._exchange_time())

        try:
            return await self._ask(ask)
        except _Failed as failed:
            if is_unknown_order(failed.failure, dialect.unknown_order_code):
                return None
            raise outcome_of_read(failed.failure, dialect.rate_codes) from None

    async def open_orders(self) -> list[ExchangeOrder]:
        async def ask() -> list[ExchangeOrder]:
            page = self._dialect.open_orders_page
            told: list[Raw] = await self._ccxt.fetch_open_orders(None, None, page)
            if page is not None and len(told) >= page:
                raise Unreadable(f"there are {page} open orders or more, and the exchange tells no more at once")
            await self._learn({str(raw.get("symbol")) for raw in told} - self._markets.keys())
            return [
                order_of(raw, symbol=self._names.get(str(raw.get("symbol"))), now=self._exchange_time())
                for raw in told
            ]

        return await self._read(ask)

    async def trades_of_order(self, symbol: str, exchange_order_id: str) -> list[ExchangeTrade]:
        async def ask() -> list[ExchangeTrade]:
            self._known(symbol)
            if self._dialect.trades is OrderTrades.BY_ORDER_ID:
                page = self._dialect.trades_page
                limit = page if self._dialect.trades_limit else None
                rows = await self._ccxt.fetch_order_trades(exchange_order_id, symbol, None, limit)
                if len(rows) < page:
                    return trades_of(rows, symbol, exchange_order_id, asked_by_order=True)
            order: Raw = await self._ccxt.fetch_order(exchange_order_id, symbol)
            if order.get("timestamp") is None:
                raise Unreadable(f"order {exchange_order_id}: the exchange tells no time")
            since = from_millis(int(order["timestamp"])) - _TRADES_BEFORE
            rows = await self._account_trades(symbol, since)
            return trades_of(rows, symbol, exchange_order_id, asked_by_order=False)

        return await self._read(ask)

    async def trades(self, symbol: str, since: datetime) -> list[ExchangeTrade]:
        async def ask() -> list[ExchangeTrade]:
            self._known(symbol)
            told = account_trades_of(await self._account_trades(symbol, since), symbol)
            return [trade for trade in told if trade.at >= since]

        return await self._read(ask)

    async def _account_trades(self, symbol: str, since: datetime) -> list[Raw]:
        """All since then, each once. The exchanges page in different ways; what holds for all is that a page which
        is not full is whole, so a full one is asked for again in halves."""
        page = self._dialect.trades_page
        limit = page if self._dialect.trades_limit else None
        rows: dict[str, Raw] = {}
        end = to_millis(self._exchange_time() + _TRADES_AFTER)
        begin = to_millis(since)
        if self._dialect.newest_trades:
            newest_page: list[Raw] = await self._ccxt.fetch_my_trades(symbol, None, limit)
            rows.update({str(row["id"]): row for row in newest_page})
            if len(newest_page) < page:
                return list(rows.values())
            end = min(end, min(int(row["timestamp"]) for row in newest_page))
        span = self._dialect.trades_span // MILLISECOND
        spans = [(first, min(first + span, end)) for first in range(begin, end + 1, span)]
        while spans:
            first, last = spans.pop()
            asked_for = None if self._dialect.trades_of_all else symbol
            told: list[Raw] = await self._ccxt.fetch_my_trades(asked_for, first, limit, {"until": last})
            rows.update({str(row["id"]): row for row in told if row.get("symbol") == symbol})
            if len(told) < page:
                continue
            if last - first < 2:
                raise Unreadable(f"{symbol} has more trades in a moment than the exchange tells at once")
            middle = (first + last) // 2
            spans += [(first, middle), (middle, last)]
        return list(rows.values())

    # --- asking

    def _exchange_time(self) -> datetime:
        return self._clock.now() - self._difference

    def _known(self, symbol: str) -> None:
        if symbol not in self._markets:
            raise Unreadable(f"{symbol} is not listed on {self._settings.exchange}'s spot market; check spec.symbols")

    async def _read(self, ask: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._ask(ask)
        except _Failed as failed:
            raise outcome_of_read(failed.failure, self._dialect.rate_codes) from None

    async def _ask(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Raises ``_Failed`` for whatever goes wrong, and nothing else but a cancellation."""
        await self._open_or_fail()
        return await self._traced(ask)

    async def _traced(self, ask: Callable[[], Awaitable[T]]) -> T:
        self._check_wait()
        trace = Trace()
        token = TRACE.set(trace)
        try:
            return await ask()
        except Exception as error:
            failure = self._failure(error, trace)
        finally:
            TRACE.reset(token)
        if failure.code == "-1021":
            self._clock_is_known = False
        if trace.sent_any and failure.retry_after is not None and is_rate_limit(failure, self._dialect.rate_codes):
            self._not_before = max(self._not_before, self._clock.now() + failure.retry_after)
        raise _Failed(failure) from None

    def _check_wait(self) -> None:
        """The exchange said when to come again: who asks before is banned in the end, with a position open."""
        wait = self._not_before - self._clock.now()
        if wait > timedelta(0):
            text = f"not sent: the exchange asked to wait, for {wait.total_seconds():.3g} s from now"
            raise _Failed(Failure(classes=("RateLimitExceeded",), text=text, sent=False, retry_after=wait))

    def _failure(self, error: Exception, trace: Trace) -> Failure:
        names = tuple(kind.__name__ for kind in type(error).__mro__)
        secrets = self._keys.secrets() if self._keys is not None else ()
        body = trace.body if isinstance(trace.body, Mapping) else {}
        text = str(body.get("msg") or error) or type(error).__name__
        code = self._dialect.code_of(body)
        told = f"{code} {text}" if code is not None and str(code) not in text else text
        if not isinstance(error, Unreadable | NoTurn):
            told = f"{type(error).__name__}: {told}"
        header = next((value for name, value in trace.headers.items() if name.lower() == "retry-after"), None)
        wait = retry_after(header, self._clock.now())
        if isinstance(error, NoTurn):
            names, wait = ("RateLimitExceeded",), self._settings.request_timeout
        return Failure(
            classes=names,
            text=clean(told, secrets),
            sent=trace.sent,
            judged=trace.judged or body.get("success") is False,
            followed=trace.followed,
            status=trace.status,
            code=None if code is None else str(code),
            retry_after=wait,
        )

    # --- opening

    async def _open(self) -> None:
        """Raises ``ExchangeError`` or ``RateLimited``."""
        try:
            await self._open_or_fail()
        except _Failed as failed:
            raise outcome_of_read(failed.failure, self._dialect.rate_codes) from None

    async def _open_or_fail(self) -> None:
        if self._opened and self._clock_is_known:
            return
        async with self._opening:
            if not self._clock_is_known:
                await self._traced(self._measure_clock)
                self._clock_is_known = True
            if not self._opened:
                await self._traced(self._load_markets)
                self._opened = True

    async def _measure_clock(self) -> None:
        if not self.tells_time:
            return
        before = self._clock.now()
        told = await self._ccxt.fetch_time()
        after = self._clock.now()
        if told is None:
            raise Unreadable("the exchange told no time")
        self._difference = before + (after - before) / 2 - from_millis(int(told))
        # What ccxt stamps its requests with.
        self._ccxt.options["timeDifference"] = self._difference // MILLISECOND

    async def _load_markets(self) -> None:
        listed = await self._listed(self._wanted)
        found: dict[str, Raw] = {}
        for market in listed:
            if market.get("spot") and market.get("symbol"):
                self._names[str(market["id"])] = str(market["symbol"])
                if market["symbol"] in self._wanted:
                    found[str(market["symbol"])] = market
        self._gone = (self._gone | self._markets.keys()) - found.keys()
        self._markets.update(found)
        # Orders of a symbol that is gone can still be asked for.
        self._ccxt.set_markets(list(self._markets.values()))
        if self._keys is not None and self._settings.exchange in _ACCOUNT_FEES:
            method, read = _ACCOUNT_FEES[self._settings.exchange]
            self._fees = read(await getattr(self._ccxt, method)())
        for symbol in self._markets:
            rules = rules_of(
                self._ccxt.markets[symbol], self._ccxt.precisionMode, self._dialect.fee_currency, self._fees
            )
            self._rules[symbol] = msgspec.structs.replace(rules, active=False) if symbol in self._gone else rules

    async def _listed(self, symbols: Iterable[str]) -> list[Raw]:
        """Markets of ccxt: all, or where the exchange can be asked so only those of ``symbols``."""
        narrow = self._dialect.market_parameters
        if narrow is None:
            return list(await self._ccxt.fetch_markets())
        ids = sorted(symbol.replace("/", "") for symbol in symbols)
        try:
            return list(await self._ccxt.fetch_markets(dict(narrow(ids))))
        except Exception as error:
            if "BadSymbol" not in (kind.__name__ for kind in type(error).__mro__):
                raise
            # One of them is not listed, and so none was told.
            return list(await self._ccxt.fetch_markets())

    async def _learn(self, ids: set[str]) -> None:
        """The symbols of markets that other people's orders are on, where only their ids are told."""
        unknown = {market_id for market_id in ids if "/" not in market_id and market_id not in self._names}
        if unknown and self._dialect.market_parameters is not None:
            for market in await self._listed(unknown):
                self._names[str(market["id"])] = str(market["symbol"])
            # What is not listed any more keeps its id, and is not asked for again.
            self._names.update({market_id: market_id for market_id in unknown - self._names.keys()})


async def _until_ended(news: Awaitable[T]) -> T:
    """ccxt ends the waits of a stream that is closed as if their callers had been cancelled."""
    try:
        return await news
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        raise Unreadable("the stream was ended with the others") from None


def _binance_fees(raw: Raw) -> tuple[Decimal, Decimal] | None:
    rates = raw.get("commissionRates")
    if not isinstance(rates, Mapping) or "maker" not in rates or "taker" not in rates:
        return None
    return Decimal(str(rates["maker"])), Decimal(str(rates["taker"]))


_ACCOUNT_FEES: Mapping[str, tuple[str, Callable[[Raw], tuple[Decimal, Decimal] | None]]] = {
    "binance": ("privateGetAccount", _binance_fees),
    "binanceus": ("privateGetAccount", _binance_fees),
}
"""Where the account's own fees are told: maker and taker, as fractions. Elsewhere the market's usual ones count."""


def _not_cancelled(error: ExchangeError) -> ExchangeError:
    return error if type(error) is not ExchangeError else Ambiguous(f"it was not cancelled: {error}")
