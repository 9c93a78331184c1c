"""Answers of other exchanges in the shapes that their documentation gives, served on loopback.

Not an exchange: it keeps no books. It shows that what ccxt sends for us carries our ids, types and prices under the
names of each exchange, and that each exchange's answers are understood.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web

MARKETS: dict[str, dict[str, Any]] = {
    "kraken": {
        "/0/public/AssetPairs": {
            "error": [],
            "result": {
                "XXBTZUSD": {
                    "altname": "XBTUSD",
                    "wsname": "XBT/USD",
                    "aclass_base": "currency",
                    "base": "XXBT",
                    "aclass_quote": "currency",
                    "quote": "ZUSD",
                    "cost_decimals": 5,
                    "pair_decimals": 1,
                    "lot_decimals": 8,
                    "lot_multiplier": 1,
                    "leverage_buy": [],
                    "leverage_sell": [],
                    "fees": [[0, 0.4], [10000, 0.35]],
                    "fees_maker": [[0, 0.25], [10000, 0.2]],
                    "fee_volume_currency": "ZUSD",
                    "ordermin": "0.00005",
                    "costmin": "0.5",
                    "tick_size": "0.1",
                    "status": "online",
                }
            },
        },
    },
    "okx": {
        "/api/v5/public/instruments": {
            "code": "0",
            "msg": "",
            "data": [
                {
                    "baseCcy": "BTC",
                    "instId": "BTC-USDT",
                    "instType": "SPOT",
                    "lotSz": "0.00000001",
                    "maxLmtAmt": "20000000",
                    "maxLmtSz": "9999999999",
                    "maxMktAmt": "1000000",
                    "maxMktSz": "1000000",
                    "minSz": "0.00001",
                    "quoteCcy": "USDT",
                    "state": "live",
                    "tickSz": "0.1",
                }
            ],
        },
    },
    "bybit": {
        "/v5/market/instruments-info": {
            "retCode": 0,
            "retMsg": "OK",
            "result": {
                "category": "spot",
                "list": [
                    {
                        "symbol": "BTCUSDT",
                        "baseCoin": "BTC",
                        "quoteCoin": "USDT",
                        "status": "Trading",
                        "marginTrading": "both",
                        "lotSizeFilter": {
                            "basePrecision": "0.000001",
                            "quotePrecision": "0.00000001",
                            "minOrderQty": "0.000048",
                            "maxOrderQty": "71.73956243",
                            "minOrderAmt": "1",
                            "maxOrderAmt": "4000000",
                        },
                        "priceFilter": {"tickSize": "0.01"},
                    }
                ],
            },
        },
        "/v5/user/query-api": {
            "retCode": 0,
            "retMsg": "OK",
            "result": {
                "userID": 24617703,
                "readOnly": 0,
                "uta": 1,
                "unified": 1,
                "ips": ["203.0.113.7"],
                "permissions": {"Spot": ["SpotTrade"], "Wallet": []},
            },
        },
        "/v5/account/info": {
            "retCode": 0,
            "retMsg": "OK",
            "result": {"unifiedMarginStatus": 5, "marginMode": "REGULAR_MARGIN"},
        },
    },
    "coinbase": {
        "/api/v3/brokerage/market/products": {
            "products": [
                {
                    "product_id": "BTC-USD",
                    "price": "100",
                    "base_increment": "0.00000001",
                    "quote_increment": "0.01",
                    "quote_min_size": "1",
                    "quote_max_size": "150000000",
                    "base_min_size": "0.00000001",
                    "base_max_size": "3400",
                    "status": "online",
                    "is_disabled": False,
                    "trading_disabled": False,
                    "product_type": "SPOT",
                    "quote_currency_id": "USD",
                    "base_currency_id": "BTC",
                    "price_increment": "0.01",
                }
            ],
            "num_products": 1,
        },
        "/api/v3/brokerage/transaction_summary": {
            "fee_tier": {"taker_fee_rate": "0.012", "maker_fee_rate": "0.006"},
        },
    },
}
"""What is asked for before anything else, by exchange and path."""

SYMBOLS = {"kraken": "BTC/USD", "okx": "BTC/USDT", "bybit": "BTC/USDT", "coinbase": "BTC/USD"}


def _time(exchange: str) -> tuple[str, dict[str, Any]]:
    now = time.time()
    millis = str(int(now * 1000))
    return {
        "kraken": ("/0/public/Time", {"error": [], "result": {"unixtime": round(now)}}),
        "okx": ("/api/v5/public/time", {"code": "0", "msg": "", "data": [{"ts": millis}]}),
        "bybit": ("/v5/market/time", {"retCode": 0, "retMsg": "OK", "result": {}, "time": int(millis)}),
        "coinbase": ("/v2/time", {"data": {"iso": "", "epoch": round(now)}}),
    }[exchange]


class CannedExchange:
    """``async with CannedExchange("kraken") as server``. ``answers`` is by path; what is not there is 503."""

    def __init__(self, exchange: str) -> None:
        self.answers: dict[str, Any] = dict(MARKETS[exchange])
        self.seen: list[tuple[str, str, str]] = []
        """Method, path with query, and body."""
        self._exchange = exchange
        self._runner: web.AppRunner | None = None
        self.url = ""

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_route("*", "/{tail:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    def sent(self, part: str) -> tuple[str, str, str]:
        """The last request whose path holds ``part``."""
        return next(seen for seen in reversed(self.seen) if part in seen[1])

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        self.seen.append((request.method, request.path_qs, await request.text()))
        path, told = _time(self._exchange)
        if request.path == path:
            return web.json_response(told)
        if request.path in self.answers:
            return web.json_response(self.answers[request.path])
        return web.Response(status=503, text="unavailable")
