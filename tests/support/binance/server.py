"""Binance's spot REST API on loopback, over the books of ``books``.

It checks what the real one checks: signatures, the time and the receive window, keys and their rights, parameters,
filters, limits. It can be told to fail before or after it did what was asked, to lag and to repeat itself.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl

from aiohttp import web

from support.binance.books import Balance, BinanceBooks, BinanceOrder, BinanceTrade, Refused
from support.binance.control import add_control
from support.binance.faults import AFTER, Fault, FaultKind, Faults
from support.binance.streams import Streams, candle_message, ticker_message
from support.binance.symbols import MAJORS, BinanceSymbol, eight
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import TIMEFRAMES, to_millis

DAY = 86_400_000
"""In milliseconds."""
Handler = Callable[[dict[str, str]], Any]


@dataclass
class ApiKey:
    """A key of the account, and what it may."""

    key: str = "the-key-of-the-tests"
    secret: str = "the-secret-of-the-tests"
    trade: bool = True
    read: bool = True
    withdraw: bool = False
    ip_restricted: bool = True


READER = ApiKey(key="the-key-that-may-read", secret="the-secret-that-may-read", trade=False)
"""A second key of the account, for an audit."""


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    request: str
    """Method and path, such as ``POST order``."""
    params: dict[str, str]
    status: int


@dataclass
class Lag:
    """How often something is not told yet, though it is there."""

    left: int


@dataclass(frozen=True)
class _Route:
    handler: Handler
    signed: bool = False
    trade: bool = False
    sapi: bool = False
    weight: int = 1


@dataclass
class _Window:
    begin: float = 0.0
    used: int = 0


class BinanceServer:
    """``async with BinanceServer() as server``: listens on a free port of loopback until the end.

    ``books`` are its books, ``move`` changes a price, ``add_candles`` adds bars, ``faults.plan`` makes it fail.
    """

    def __init__(
        self,
        *,
        symbols: Iterable[BinanceSymbol] | None = None,
        balances: dict[str, Decimal] | None = None,
        key: ApiKey | None = None,
        testnet: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        """``testnet``: without the wallet's paths (sapi), as on Binance's own testnet. ``port`` 0: a free one."""
        opening = {"USDT": Decimal("84.54")} if balances is None else balances
        self.books = BinanceBooks(MAJORS() if symbols is None else symbols, opening)
        self.key = key or ApiKey()
        self.keys = {self.key.key: self.key}
        self._asks = self.key
        self.faults = Faults()
        self.seen: list[Seen] = []
        self.skew = timedelta(0)
        """How far its clock is ahead of the machine's."""
        self.weight_limit: int | None = None
        """Weight that one may use in ``weight_window`` seconds; then 429."""
        self.weight_window = 60.0
        self.account_id = 354937868
        self.page = 1000
        """The most trades in one answer."""
        self.repeat_trades = False
        """Every trade is told twice."""
        self.streams = Streams()
        self._testnet = testnet
        self._candles: dict[tuple[str, str], dict[int, Candle]] = {}
        self._hidden: dict[str, Lag] = {}
        self._late: Lag = Lag(0)
        self._frozen: dict[str, Balance] | None = None
        self._window = _Window()
        self._runner: web.AppRunner | None = None
        self._host = host
        self._port = port
        self._stopping = asyncio.Event()
        self._arrived = asyncio.Event()
        self._routes = self._make_routes()

    # --- life

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    async def start(self) -> None:
        """Again after ``stop``: on the same port, with the same books."""
        self._stopping.clear()
        application = web.Application()
        application.router.add_get("/ws/{number}", self.streams.answer)
        add_control(application, self)
        application.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._host, self._port)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self._stopping.set()
        await self.streams.cut()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what a test does

    def now(self) -> int:
        """Its time in milliseconds."""
        return int(time.time() * 1000) + self.skew // timedelta(milliseconds=1)

    def move(self, symbol: str, price: str, liquidity: str | None = None) -> None:
        """The last price of ``BTC/USDT`` is now ``price``; ``liquidity`` is what the market takes at it."""
        taken = None if liquidity is None else Decimal(liquidity)
        self.books.move(symbol.replace("/", ""), Decimal(price), self.now(), taken)

    async def push_ticker(self, symbol: str) -> int:
        """Send the last price of ``BTC/USDT`` to those who listen; to how many."""
        market = symbol.replace("/", "")
        return await self.streams.push(
            f"{market.lower()}@miniTicker", ticker_message(market, self.books.prices[market], self.now())
        )

    async def push_candle(self, candle: Candle) -> int:
        """Send a bar, as far as it has come, to those who listen; to how many. REST tells it from now on too."""
        self.add_candles([candle])
        market = candle.symbol.replace("/", "")
        return await self.streams.push(
            f"{market.lower()}@kline_{candle.timeframe}", candle_message(candle, market, self.now())
        )

    def add_candles(self, candles: Iterable[Candle]) -> None:
        """Bars, also such as are not closed yet. The same bar again replaces it."""
        for candle in candles:
            bars = self._candles.setdefault((candle.symbol.replace("/", ""), candle.timeframe), {})
            bars[to_millis(candle.open_time)] = candle

    def candle(self, symbol: str, timeframe: str, opened: datetime) -> Candle:
        """The bar of ``BTC/USDT`` that opened then."""
        return self._candles[(symbol.replace("/", ""), timeframe)][to_millis(opened)]

    def market(self, symbol: str) -> BinanceSymbol:
        """The market of ``BTC/USDT``, to be changed."""
        return self.books.symbols[symbol.replace("/", "")]

    def delist(self, symbol: str) -> None:
        del self.books.symbols[symbol.replace("/", "")]

    def hide_order(self, client_order_id: str, requests: int) -> None:
        """For so many look-ups the order is not known, nor on any list: an index that lags."""
        self._hidden[client_order_id] = Lag(requests)

    def trades_are_late(self, requests: int) -> None:
        """For so many questions no trades are told."""
        self._late = Lag(requests)

    def freeze_balances(self) -> None:
        """Balances are told as they are now until ``thaw_balances``."""
        self._frozen = {
            asset: Balance(balance.free, balance.locked) for asset, balance in self.books.balances.items()
        }

    def thaw_balances(self) -> None:
        self._frozen = None

    def count(self, request: str) -> int:
        """How often a request (such as ``POST order``) has arrived."""
        return sum(seen.request == request for seen in self.seen)

    async def until(self, request: str, times: int = 1) -> None:
        """Wait until a request has arrived so often. Raises ``TimeoutError`` after some seconds."""
        async with asyncio.timeout(10):
            while self.count(request) < times:
                self._arrived.clear()
                await self._arrived.wait()

    # --- a request

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        for prefix in ("/api/v3/", "/sapi/v1/"):
            if path.startswith(prefix):
                name = path.removeprefix(prefix)
                break
        else:
            name = path
        called = f"{request.method} {name}"
        route = self._routes.get(called)
        body = await request.text()
        params = dict(parse_qsl(request.rel_url.raw_query_string, keep_blank_values=True))
        params.update(parse_qsl(body, keep_blank_values=True))
        if route is None or (route.sapi and self._testnet) or route.sapi != path.startswith("/sapi/"):
            return self._reply(called, params, 404, "<html><body>404 Not found</body></html>", "text/html")
        fault = self.faults.take(called)
        if fault is not None and fault.kind not in AFTER:
            return await self._fail(request, called, params, fault, "")
        try:
            self._weigh(route.weight)
            if route.signed:
                self._asks = self._authenticate(request, body, params, route)
            content = json.dumps(route.handler(params))
            status, headers = 200, {}
        except Refused as refused:
            content = json.dumps({"code": refused.code, "msg": refused.message})
            status = refused.status
            headers = {"Retry-After": str(self._retry_after())} if status == 429 else {}
        if fault is not None:
            return await self._fail(request, called, params, fault, content)
        return self._reply(called, params, status, content, "application/json", headers)

    def _reply(
        self,
        called: str,
        params: dict[str, str],
        status: int,
        content: str,
        kind: str,
        headers: dict[str, str] | None = None,
    ) -> web.Response:
        self._note(Seen(called, params, status))
        return web.Response(
            status=status,
            text=content,
            content_type=kind,
            headers={"x-mbx-used-weight-1m": str(self._window.used), **(headers or {})},
        )

    def _note(self, seen: Seen) -> None:
        self.seen.append(seen)
        self._arrived.set()

    async def _fail(
        self, request: web.Request, called: str, params: dict[str, str], fault: Fault, content: str
    ) -> web.StreamResponse:
        if fault.kind in (FaultKind.ERROR_BEFORE, FaultKind.ERROR_AFTER):
            headers = {} if fault.retry_after is None else {"Retry-After": fault.retry_after}
            kind = "application/json" if fault.body.startswith("{") else "text/html"
            return self._reply(called, params, fault.status, fault.body, kind, headers)
        self._note(Seen(called, params, 0))
        if fault.kind in (FaultKind.HANG_BEFORE, FaultKind.HANG_AFTER):
            await self._stopping.wait()
        elif fault.kind is FaultKind.CUT_BODY_AFTER:
            response = web.StreamResponse(headers={"Content-Length": str(len(content) + 100)})
            response.content_type = "application/json"
            await response.prepare(request)
            await response.write(content[: len(content) // 2].encode())
            if request.transport is not None:
                request.transport.close()
            return response
        if request.transport is not None:
            request.transport.abort()
        return web.Response()

    def _weigh(self, weight: int) -> None:
        if self.weight_limit is None:
            return
        now = time.monotonic()
        if now - self._window.begin >= self.weight_window:
            self._window = _Window(now)
        if self._window.used + weight > self.weight_limit:
            raise Refused(-1003, f"Too much request weight used; current limit is {self.weight_limit}.", 429)
        self._window.used += weight

    def _retry_after(self) -> int:
        return max(1, round(self.weight_window - (time.monotonic() - self._window.begin)))

    def _authenticate(self, request: web.Request, body: str, params: dict[str, str], route: _Route) -> ApiKey:
        """The key that asks. Raises ``Refused``."""
        given = request.headers.get("X-MBX-APIKEY", "")
        if not given:
            raise Refused(-2014, "API-key format invalid.", 401)
        key = self.keys.get(given)
        if key is None or not key.read or (route.trade and not key.trade):
            raise Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        if "signature" not in params:
            raise Refused(-1102, "Mandatory parameter 'signature' was not sent, was empty/null, or malformed.")
        signed = request.rel_url.raw_query_string + body
        signed = signed.rpartition("&signature=")[0]
        wanted = hmac.new(key.secret.encode(), signed.encode(), hashlib.sha256).hexdigest()
        if not hmac.compare_digest(wanted, params["signature"]):
            raise Refused(-1022, "Signature for this request is not valid.")
        if not params.get("timestamp", "").isdecimal():
            raise Refused(-1102, "Mandatory parameter 'timestamp' was not sent, was empty/null, or malformed.")
        window = _number(params, "recvWindow") or Decimal(5000)
        if window > 60_000:
            raise Refused(-1131, "recvWindow must be less than 60000")
        stamp, now = int(params["timestamp"]), self.now()
        if stamp > now + 1000:
            raise Refused(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now - stamp > window:
            raise Refused(-1021, "Timestamp for this request is outside of the recvWindow.")
        return key

    # --- routes

    def _make_routes(self) -> dict[str, _Route]:
        return {
            "GET ping": _Route(lambda params: {}),
            "GET time": _Route(lambda params: {"serverTime": self.now()}),
            "GET exchangeInfo": _Route(self._exchange_info, weight=20),
            "GET klines": _Route(self._klines, weight=2),
            "GET ticker/24hr": _Route(self._ticker, weight=2),
            "GET ticker/price": _Route(self._ticker_price, weight=2),
            "GET ticker/bookTicker": _Route(self._book_ticker, weight=2),
            "GET depth": _Route(self._depth, weight=5),
            "GET account": _Route(self._account, signed=True, weight=20),
            "POST order": _Route(self._create, signed=True, trade=True),
            "GET order": _Route(self._query, signed=True, weight=4),
            "DELETE order": _Route(self._cancel, signed=True, trade=True),
            "GET openOrders": _Route(self._open_orders, signed=True, weight=6),
            "GET allOrders": _Route(self._all_orders, signed=True, weight=20),
            "GET myTrades": _Route(self._my_trades, signed=True, weight=20),
            "GET account/apiRestrictions": _Route(self._restrictions, signed=True, sapi=True),
            "GET bnbBurn": _Route(
                lambda params: {"spotBNBBurn": self.books.fees_in_bnb, "interestBNBBurn": False},
                signed=True,
                sapi=True,
            ),
            "GET asset/tradeFee": _Route(self._trade_fees, signed=True, sapi=True),
            "GET system/status": _Route(lambda params: {"status": 0, "msg": "normal"}, sapi=True),
            "GET capital/config/getall": _Route(self._coins, signed=True, sapi=True, weight=10),
            "GET margin/allPairs": _Route(lambda params: [], signed=True, sapi=True),
            "GET margin/isolated/allPairs": _Route(lambda params: [], signed=True, sapi=True),
        }

    def _exchange_info(self, params: dict[str, str]) -> Any:
        wanted = list(self.books.symbols)
        if "symbol" in params:
            wanted = [params["symbol"]]
        elif "symbols" in params:
            wanted = json.loads(params["symbols"])
        return {
            "timezone": "UTC",
            "serverTime": self.now(),
            "rateLimits": [
                {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000},
                {"rateLimitType": "ORDERS", "interval": "SECOND", "intervalNum": 10, "limit": 100},
            ],
            "exchangeFilters": [],
            "symbols": [self.books.market(symbol).info() for symbol in wanted],
        }

    def _klines(self, params: dict[str, str]) -> Any:
        market = self.books.market(_required(params, "symbol"))
        interval = _required(params, "interval")
        if interval not in TIMEFRAMES:
            raise Refused(-1120, "Invalid interval.")
        length = TIMEFRAMES[interval] // timedelta(milliseconds=1)
        limit = min(int(_number(params, "limit") or 500), 1000)
        begin, end = _number(params, "startTime"), _number(params, "endTime")
        bars = sorted(self._candles.get((market.id, interval), {}).items())
        chosen = [(at, bar) for at, bar in bars if (begin is None or at >= begin) and (end is None or at <= end)]
        chosen = chosen[:limit] if begin is not None else chosen[-limit:]
        return [
            [
                at,
                eight(bar.open),
                eight(bar.high),
                eight(bar.low),
                eight(bar.close),
                eight(bar.volume),
                at + length - 1,
                eight(bar.volume * bar.close),
                100,
                eight(bar.volume / 2),
                eight(bar.volume * bar.close / 2),
                "0",
            ]
            for at, bar in chosen
        ]

    def _last(self, params: dict[str, str]) -> tuple[str, Decimal]:
        market = self.books.market(_required(params, "symbol"))
        return market.id, self.books.prices.get(market.id, Decimal(0))

    def _ticker(self, params: dict[str, str]) -> Any:
        symbol, last = self._last(params)
        now = self.now()
        return {
            "symbol": symbol,
            "priceChange": eight(Decimal(0)),
            "priceChangePercent": "0.000",
            "weightedAvgPrice": eight(last),
            "prevClosePrice": eight(last),
            "lastPrice": eight(last),
            "lastQty": eight(Decimal("0.001")),
            "bidPrice": eight(last),
            "bidQty": eight(Decimal(1)),
            "askPrice": eight(last),
            "askQty": eight(Decimal(1)),
            "openPrice": eight(last),
            "highPrice": eight(last),
            "lowPrice": eight(last),
            "volume": eight(Decimal(1000)),
            "quoteVolume": eight(last * 1000),
            "openTime": now - DAY,
            "closeTime": now,
            "firstId": 1,
            "lastId": 2,
            "count": 2,
        }

    def _ticker_price(self, params: dict[str, str]) -> Any:
        symbol, last = self._last(params)
        return {"symbol": symbol, "price": eight(last)}

    def _book_ticker(self, params: dict[str, str]) -> Any:
        symbol, last = self._last(params)
        amount = eight(self.books.liquidity.get(symbol, Decimal(1)))
        return {
            "symbol": symbol,
            "bidPrice": eight(last),
            "bidQty": amount,
            "askPrice": eight(last),
            "askQty": amount,
        }

    def _depth(self, params: dict[str, str]) -> Any:
        symbol, last = self._last(params)
        side = [[eight(last), eight(self.books.liquidity.get(symbol, Decimal(1)))]]
        return {"lastUpdateId": self.now(), "bids": side, "asks": side}

    def _account(self, params: dict[str, str]) -> Any:
        balances = self.books.balances if self._frozen is None else self._frozen
        key_may = self.key
        rate = eight(self.books.fee)
        return {
            "makerCommission": int(self.books.fee * 10_000),
            "takerCommission": int(self.books.fee * 10_000),
            "buyerCommission": 0,
            "sellerCommission": 0,
            "commissionRates": {
                "maker": rate,
                "taker": rate,
                "buyer": eight(Decimal(0)),
                "seller": eight(Decimal(0)),
            },
            "canTrade": key_may.trade,
            "canWithdraw": True,
            "canDeposit": True,
            "brokered": False,
            "requireSelfTradePrevention": False,
            "preventSor": False,
            "updateTime": self.now(),
            "accountType": "SPOT",
            "balances": [
                {"asset": asset, "free": eight(balance.free), "locked": eight(balance.locked)}
                for asset, balance in sorted(balances.items())
            ],
            "permissions": ["SPOT"],
            "uid": self.account_id,
        }

    def _create(self, params: dict[str, str]) -> Any:
        quantity = _number(params, "quantity")
        if quantity is None and "quoteOrderQty" in params:
            raise Refused(-1106, "Parameter 'quoteOrderQty' sent when not required.")
        order = self.books.place(
            symbol=_required(params, "symbol"),
            side=_required(params, "side"),
            type=_required(params, "type"),
            time_in_force=params.get("timeInForce"),
            quantity=quantity,
            price=_number(params, "price"),
            stop_price=_number(params, "stopPrice"),
            client_order_id=params.get("newClientOrderId") or f"web_{len(self.books.orders)}",
            now=self.now(),
        )
        told: dict[str, Any] = {
            "symbol": order.symbol,
            "orderId": order.id,
            "orderListId": -1,
            "clientOrderId": order.client_order_id,
            "transactTime": order.at,
        }
        style = params.get("newOrderRespType", "ACK" if order.type.startswith("STOP") else "FULL")
        if style == "ACK":
            return told
        told.update(_told(order))
        told["fills"] = [
            {
                "price": eight(trade.price),
                "qty": eight(trade.amount),
                "commission": eight(trade.fee),
                "commissionAsset": trade.fee_asset,
                "tradeId": trade.id,
            }
            for trade in order.trades
        ]
        if style == "RESULT":
            del told["fills"]
        return told

    def _query(self, params: dict[str, str]) -> Any:
        order = self.books.find(*self._named(params))
        if self._is_hidden(order):
            raise Refused(-2013, "Order does not exist.")
        return self._row(order)

    def _cancel(self, params: dict[str, str]) -> Any:
        symbol, order_id, client_order_id = self._named(params)
        order = self.books.cancel(symbol, order_id, client_order_id, self.now())
        told = self._row(order)
        told["origClientOrderId"] = order.client_order_id
        told["clientOrderId"] = params.get("newClientOrderId") or "the-cancel-itself"
        told["transactTime"] = order.updated
        for name in ("time", "updateTime", "isWorking", "workingTime"):
            del told[name]
        return told

    def _open_orders(self, params: dict[str, str]) -> Any:
        symbol = params.get("symbol")
        if symbol is not None:
            self.books.market(symbol)
        return [
            self._row(order)
            for order in self.books.open_orders
            if (symbol is None or order.symbol == symbol) and not self._is_hidden(order)
        ]

    def _all_orders(self, params: dict[str, str]) -> Any:
        market = self.books.market(_required(params, "symbol"))
        first = int(_number(params, "orderId") or 0)
        begin = int(_number(params, "startTime") or 0)
        limit = min(int(_number(params, "limit") or 500), 1000)
        mine = [
            order
            for order in self.books.orders
            if order.symbol == market.id and order.id >= first and order.at >= begin and not self._is_hidden(order)
        ]
        chosen = mine[:limit] if first or begin else mine[-limit:]
        return [self._row(order) for order in chosen]

    def _my_trades(self, params: dict[str, str]) -> Any:
        market = self.books.market(_required(params, "symbol"))
        order_id = _number(params, "orderId")
        first = int(_number(params, "fromId") or 0)
        begin = int(_number(params, "startTime") or 0)
        end = _number(params, "endTime")
        if begin and end is not None and end - begin > DAY:
            raise Refused(-1127, "More than 24 hours between startTime and endTime.")
        last = begin + DAY if begin and end is None else int(end) if end is not None else None
        limit = min(int(_number(params, "limit") or 500), self.page)
        if self._late.left > 0:
            self._late.left -= 1
            return []
        mine = [
            trade
            for trade in self.books.trades
            if trade.symbol == market.id
            and (order_id is None or trade.order_id == order_id)
            and trade.id >= first
            and trade.at >= begin
            and (last is None or trade.at <= last)
        ]
        chosen = mine[:limit] if first or begin or order_id is not None else mine[-limit:]
        return [_trade(trade) for trade in chosen for _ in range(2 if self.repeat_trades else 1)]

    def _restrictions(self, params: dict[str, str]) -> Any:
        key = self._asks
        return {
            "ipRestrict": key.ip_restricted,
            "createTime": 1_764_000_000_000,
            "enableReading": key.read,
            "enableWithdrawals": key.withdraw,
            "enableInternalTransfer": False,
            "enableMargin": False,
            "enableFutures": False,
            "permitsUniversalTransfer": False,
            "enableVanillaOptions": False,
            "enableFixApiTrade": False,
            "enableFixReadOnly": False,
            "enableSpotAndMarginTrading": key.trade,
            "enablePortfolioMarginTrading": False,
        }

    def _trade_fees(self, params: dict[str, str]) -> Any:
        wanted = [params["symbol"]] if "symbol" in params else list(self.books.symbols)
        rate = str(self.books.fee)
        return [
            {"symbol": self.books.market(symbol).id, "makerCommission": rate, "takerCommission": rate}
            for symbol in wanted
        ]

    def _coins(self, params: dict[str, str]) -> Any:
        coins = {asset for symbol in self.books.symbols.values() for asset in (symbol.base, symbol.quote)}
        return [
            {
                "coin": coin,
                "name": coin,
                "free": "0",
                "locked": "0",
                "trading": True,
                "depositAllEnable": True,
                "withdrawAllEnable": True,
                "isLegalMoney": False,
                "networkList": [],
            }
            for coin in sorted(coins)
        ]

    # --- helpers

    def _named(self, params: dict[str, str]) -> tuple[str, int | None, str | None]:
        order_id, name = _number(params, "orderId"), params.get("origClientOrderId")
        if order_id is None and not name:
            raise Refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
        return _required(params, "symbol"), None if order_id is None else int(order_id), name

    def _is_hidden(self, order: BinanceOrder) -> bool:
        lag = self._hidden.get(order.client_order_id)
        if lag is None or lag.left <= 0:
            return False
        lag.left -= 1
        return True

    def _row(self, order: BinanceOrder) -> dict[str, Any]:
        return {
            "symbol": order.symbol,
            "orderId": order.id,
            "orderListId": -1,
            "clientOrderId": order.client_order_id,
            **_told(order),
            "icebergQty": eight(Decimal(0)),
            "time": order.at,
            "updateTime": order.updated,
            "isWorking": not order.type.startswith("STOP") or order.triggered,
            "workingTime": order.at,
            "origQuoteOrderQty": eight(Decimal(0)),
        }


def _told(order: BinanceOrder) -> dict[str, Any]:
    return {
        "price": eight(order.price),
        "origQty": eight(order.amount),
        "executedQty": eight(order.filled),
        "cummulativeQuoteQty": eight(order.cost),
        "status": order.status,
        "timeInForce": order.time_in_force,
        "type": order.type,
        "side": order.side,
        "stopPrice": eight(order.stop_price),
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }


def _trade(trade: BinanceTrade) -> dict[str, Any]:
    return {
        "symbol": trade.symbol,
        "id": trade.id,
        "orderId": trade.order_id,
        "orderListId": -1,
        "price": eight(trade.price),
        "qty": eight(trade.amount),
        "quoteQty": eight(trade.price * trade.amount),
        "commission": eight(trade.fee),
        "commissionAsset": trade.fee_asset,
        "time": trade.at,
        "isBuyer": trade.side == "BUY",
        "isMaker": trade.maker,
        "isBestMatch": True,
    }


def _required(params: dict[str, str], name: str) -> str:
    if not params.get(name):
        raise Refused(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return params[name]


def _number(params: dict[str, str], name: str) -> Decimal | None:
    text = params.get(name)
    if text is None:
        return None
    try:
        number = Decimal(text)
    except InvalidOperation:
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'.") from None
    if not number.is_finite() or number < 0:
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'.")
    return number
