"""Kraken, OKX, Bybit and Coinbase: what the real ccxt classes send for us, and how their answers are understood."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.binance.adapter import SETTINGS, SkewedClock
from support.canned_exchanges import SYMBOLS, CannedExchange
from support.replay import order
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import FeeCurrency
from tradingbot_agents.domain.values import OrderType, Side
from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange, ExchangeKeys
from tradingbot_agents.exchange.ccxt_import import UnknownExchange
from tradingbot_agents.exchange.port import (
    Ambiguous,
    ExchangeError,
    ExchangeOrderState,
    InsufficientFunds,
    OrderRejected,
    OrderRequest,
)

ID = "tbabcdefghijklmnop"
EXCHANGES = sorted(SYMBOLS)


@asynccontextmanager
async def trading_on(exchange: str) -> AsyncIterator[tuple[CannedExchange, CcxtExchange]]:
    async with CannedExchange(exchange) as server:
        settings = msgspec.structs.replace(
            SETTINGS, exchange=exchange, symbols=(SYMBOLS[exchange],), endpoint=server.url
        )
        keys = ExchangeKeys("the-key-of-the-tests", "dGhlLXNlY3JldC14", "the-phrase")
        venue = CcxtExchange(settings=settings, clock=SkewedClock(), keys=keys)
        # Kraken's pace is a question in three seconds, and nothing here is learned from waiting.
        venue._ccxt.enableRateLimit = False
        try:
            await venue.market_rules([SYMBOLS[exchange]])
            yield server, venue
        finally:
            await venue.close()


def entry(exchange: str) -> OrderRequest:
    return order(ID, Side.BUY, "0.001", symbol=SYMBOLS[exchange], limit=100_000, ioc=True)


RULES: dict[str, tuple[str, str, str, str, str, FeeCurrency]] = {
    "kraken": ("0.00000001", "0.1", "0.00005", "0.5", "0.004", FeeCurrency.QUOTE),
    "okx": ("0.00000001", "0.1", "0.00001", "0", "0.0015", FeeCurrency.GET),
    "bybit": ("0.000001", "0.01", "0.000048", "1", "0.001", FeeCurrency.GET),
    "coinbase": ("0.00000001", "0.01", "0.00000001", "1", "0.012", FeeCurrency.QUOTE),
}
"""Amount step, price tick, minimum amount and notional, taker fee and its currency."""


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_the_market_rules_are_understood(exchange: str) -> None:
    async with trading_on(exchange) as (_, venue):
        rules = (await venue.market_rules([SYMBOLS[exchange]]))[SYMBOLS[exchange]]
        step, tick, amount, notional, taker, currency = RULES[exchange]
        assert (rules.amount.value, rules.price.value) == (Decimal(step), Decimal(tick))
        assert (rules.min_amount, rules.min_notional) == (Decimal(amount), Decimal(notional))
        assert (rules.fees.taker, rules.fees.currency, rules.active) == (Decimal(taker), currency, True)


SENT: dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "kraken": (
        "AddOrder",
        ("ordertype=limit", "timeinforce=IOC", f"cl_ord_id={ID}", "price=100000", "volume=0.001", "type=buy"),
        ("ordertype=market", f"cl_ord_id={ID}", "volume=0.001", "type=sell"),
    ),
    "okx": (
        "trade/batch-orders",
        ('"ordType":"ioc"', f'"clOrdId":"{ID}"', '"px":"100000"', '"sz":"0.001"', '"tdMode":"cash"'),
        ('"ordType":"market"', f'"clOrdId":"{ID}"', '"sz":"0.001"', '"tgtCcy":"base_ccy"'),
    ),
    "bybit": (
        "order/create",
        ('"timeInForce":"IOC"', f'"orderLinkId":"{ID}"', '"price":"100000"', '"qty":"0.001"', '"category":"spot"'),
        ('"orderType":"Market"', f'"orderLinkId":"{ID}"', '"qty":"0.001"'),
    ),
    "coinbase": (
        "brokerage/orders",
        ('"sor_limit_ioc"', f'"client_order_id":"{ID}"', '"limit_price":"100000"', '"base_size":"0.001"'),
        ('"market_market_ioc"', f'"client_order_id":"{ID}"', '"base_size":"0.001"'),
    ),
}
"""The path of a new order, and what an IOC limit and a market sale must hold."""


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_order_goes_out_with_our_id_and_as_it_was_decided(exchange: str) -> None:
    path, limit, market = SENT[exchange]
    async with trading_on(exchange) as (server, venue):
        with pytest.raises(Ambiguous):
            await venue.create_order(entry(exchange))
        body = server.sent(path)[2]
        assert [part for part in limit if part not in body] == []
        with pytest.raises(Ambiguous):
            await venue.create_order(order(ID, Side.SELL, "0.001", symbol=SYMBOLS[exchange]))
        body = server.sent(path)[2]
        assert [part for part in market if part not in body] == []
        assert sum(path in seen[1] for seen in server.seen) == 2


STOPS: dict[str, tuple[tuple[str, ...] | None, tuple[str, ...] | None]] = {
    "kraken": (
        ("ordertype=stop-loss", "price=90000", f"cl_ord_id={ID}"),
        ("ordertype=stop-loss-limit", "price=90000", "price2=89000", f"cl_ord_id={ID}"),
    ),
    "okx": (None, None),
    "bybit": (None, None),
    "coinbase": (
        None,
        ('"stop_limit_stop_limit_gtc"', '"stop_price":"90000"', '"limit_price":"89000"', "STOP_DIRECTION_STOP_DOWN"),
    ),
}
"""What a stop at market and a stop-limit must hold; ``None``: not taken, and so not sent."""


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_a_stop_goes_out_where_it_can_be_found_again(exchange: str) -> None:
    async with trading_on(exchange) as (server, venue):
        offered = (venue.capabilities.stop_market, venue.capabilities.stop_limit)
        for wanted, limit, taken in zip(STOPS[exchange], (None, 89_000), offered, strict=True):
            stop = order(ID, Side.SELL, "0.001", symbol=SYMBOLS[exchange], stop=90_000, limit=limit)
            assert taken == (wanted is not None)
            if wanted is None:
                with pytest.raises(OrderRejected) as refusal:
                    await venue.create_order(stop)
                assert refusal.value.code == "order_type_not_supported"
            else:
                with pytest.raises(Ambiguous):
                    await venue.create_order(stop)
                body = server.sent(SENT[exchange][0])[2]
                assert [part for part in wanted if part not in body] == []


@pytest.mark.parametrize("exchange", ["okx", "bybit", "coinbase"])
async def test_a_market_buy_that_would_be_by_cost_is_not_sent(exchange: str) -> None:
    async with trading_on(exchange) as (server, venue):
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order(ID, Side.BUY, "0.001", symbol=SYMBOLS[exchange]))
        assert refusal.value.code == "order_type_not_supported"
        assert not any(SENT[exchange][0] in seen[1] for seen in server.seen)


ACCEPTED: dict[str, tuple[str, dict[str, Any], str]] = {
    "kraken": (
        "/0/private/AddOrder",
        {"error": [], "result": {"descr": {"order": "buy 0.001 XBTUSD @ limit 100000"}, "txid": ["OUF4EM-FRGI2-M"]}},
        "OUF4EM-FRGI2-M",
    ),
    "okx": (
        "/api/v5/trade/batch-orders",
        {"code": "0", "msg": "", "data": [{"clOrdId": ID, "ordId": "312269865356", "sCode": "0", "sMsg": ""}]},
        "312269865356",
    ),
    "bybit": (
        "/v5/order/create",
        {"retCode": 0, "retMsg": "OK", "result": {"orderId": "1321003749386327552", "orderLinkId": ID}},
        "1321003749386327552",
    ),
    "coinbase": (
        "/api/v3/brokerage/orders",
        {
            "success": True,
            "success_response": {
                "order_id": "52cfe5e2",
                "product_id": "BTC-USD",
                "side": "BUY",
                "client_order_id": ID,
            },
            "order_configuration": {"sor_limit_ioc": {"base_size": "0.001", "limit_price": "100000"}},
        },
        "52cfe5e2",
    ),
}


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_accepted_order_is_open_as_far_as_is_known(exchange: str) -> None:
    path, answer, exchange_id = ACCEPTED[exchange]
    async with trading_on(exchange) as (server, venue):
        server.answers[path] = answer
        placed = await venue.create_order(entry(exchange))
        assert (placed.exchange_order_id, placed.client_order_id) == (exchange_id, ID)
        assert (placed.state, placed.filled, placed.amount) == (ExchangeOrderState.OPEN, 0, Decimal("0.001"))
        assert (placed.type, placed.side, placed.limit_price) == (OrderType.LIMIT, Side.BUY, 100_000)


def _okx(code: str, text: str) -> dict[str, Any]:
    return {"code": "1", "msg": "", "data": [{"clOrdId": ID, "ordId": "", "sCode": code, "sMsg": text}]}


def _coinbase(error: str) -> dict[str, Any]:
    return {"success": False, "error_response": {"error": error, "message": error}}


REFUSED: list[tuple[str, dict[str, Any], str]] = [
    ("kraken", {"error": ["EOrder:Insufficient funds"]}, "insufficient_funds"),
    ("kraken", {"error": ["EGeneral:Permission denied"]}, "not_permitted"),
    ("okx", _okx("51008", "Order failed. Insufficient USDT balance in account."), "insufficient_funds"),
    ("okx", _okx("51016", "Client order ID already exists."), "duplicate_client_order_id"),
    ("bybit", {"retCode": 170131, "retMsg": "Insufficient balance.", "result": {}}, "insufficient_funds"),
    ("bybit", {"retCode": 170141, "retMsg": "Duplicate clientOrderId", "result": {}}, "duplicate_client_order_id"),
    ("coinbase", _coinbase("INSUFFICIENT_FUND"), "insufficient_funds"),
]


@pytest.mark.parametrize(("exchange", "answer", "code"), REFUSED)
async def test_a_refusal_in_an_answer_of_200_is_understood(exchange: str, answer: dict[str, Any], code: str) -> None:
    async with trading_on(exchange) as (server, venue):
        server.answers[ACCEPTED[exchange][0]] = answer
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(entry(exchange))
        assert refusal.value.code == code
        assert isinstance(refusal.value, InsufficientFunds) == (code == "insufficient_funds")


UNCLEAR: list[tuple[str, dict[str, Any]]] = [
    ("kraken", {"error": ["EService:Unavailable"]}),
    ("kraken", {"error": ["EService:Timeout"]}),
    ("kraken", {"error": ["EGeneral:Internal error"]}),
    ("okx", {"code": "50001", "msg": "Service temporarily unavailable.", "data": []}),
    ("okx", {"code": "50004", "msg": "API endpoint request timeout.", "data": []}),
    ("bybit", {"retCode": 10016, "retMsg": "Server error.", "result": {}}),
    ("bybit", {"retCode": 170007, "retMsg": "Timeout waiting for response from backend server.", "result": {}}),
    ("coinbase", _coinbase("UNKNOWN_FAILURE_REASON")),
]


@pytest.mark.parametrize(("exchange", "answer"), UNCLEAR)
async def test_an_answer_that_says_neither_is_ambiguous(exchange: str, answer: dict[str, Any]) -> None:
    async with trading_on(exchange) as (server, venue):
        server.answers[ACCEPTED[exchange][0]] = answer
        with pytest.raises(Ambiguous):
            await venue.create_order(entry(exchange))


# Looking up


KRAKEN_ORDER = {
    "refid": None,
    "userref": None,
    "cl_ord_id": ID,
    "status": "canceled",
    "reason": "IOC",
    "opentm": 1764079200.3342,
    "closetm": 1764079200.365,
    "descr": {"pair": "XBTUSD", "type": "buy", "ordertype": "limit", "price": "100000.0", "price2": "0"},
    "vol": "0.00100000",
    "vol_exec": "0.00040000",
    "cost": "39.99",
    "fee": "0.1",
    "price": "99975.0",
    "misc": "",
    "oflags": "fciq",
}
OKX_ORDER = {
    "accFillSz": "0.0004",
    "avgPx": "99975",
    "cTime": "1764079200334",
    "clOrdId": ID,
    "fee": "-0.0000004",
    "feeCcy": "BTC",
    "instId": "BTC-USDT",
    "instType": "SPOT",
    "ordId": "312269865356",
    "ordType": "ioc",
    "px": "100000",
    "side": "buy",
    "state": "canceled",
    "sz": "0.001",
    "tgtCcy": "base_ccy",
}
BYBIT_ORDER = {
    "symbol": "BTCUSDT",
    "orderType": "Limit",
    "orderLinkId": ID,
    "orderId": "1321003749386327552",
    "orderStatus": "PartiallyFilledCanceled",
    "avgPrice": "99975",
    "cumExecValue": "39.99",
    "cumExecQty": "0.0004",
    "price": "100000",
    "qty": "0.001",
    "leavesQty": "0",
    "createdTime": "1764079200334",
    "side": "Buy",
    "timeInForce": "IOC",
    "cumExecFee": "0.0000004",
    "stopOrderType": "",
    "triggerPrice": "0.00",
}
COINBASE_ORDER = {
    "order_id": "52cfe5e2",
    "product_id": "BTC-USD",
    "client_order_id": ID,
    "side": "BUY",
    "status": "CANCELLED",
    "order_type": "LIMIT",
    "created_time": "2025-11-25T14:00:00.334Z",
    "completion_percentage": "40",
    "filled_size": "0.0004",
    "average_filled_price": "99975",
    "filled_value": "39.99",
    "total_fees": "0.1",
    "order_configuration": {"sor_limit_ioc": {"base_size": "0.001", "limit_price": "100000"}},
}

FOUND: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "kraken": (
        {
            "/0/private/OpenOrders": {"error": [], "result": {"open": {}}},
            "/0/private/ClosedOrders": {"error": [], "result": {"closed": {"OUF4EM": KRAKEN_ORDER}, "count": 1}},
        },
        {"/0/private/ClosedOrders": {"error": [], "result": {"closed": {}, "count": 0}}},
    ),
    "okx": (
        {"/api/v5/trade/order": {"code": "0", "msg": "", "data": [OKX_ORDER]}},
        {"/api/v5/trade/order": {"code": "51603", "msg": "Order does not exist", "data": []}},
    ),
    "bybit": (
        {
            "/v5/order/realtime": {"retCode": 0, "retMsg": "OK", "result": {"list": []}},
            "/v5/order/history": {"retCode": 0, "retMsg": "OK", "result": {"list": [BYBIT_ORDER]}},
        },
        {"/v5/order/history": {"retCode": 0, "retMsg": "OK", "result": {"list": []}}},
    ),
    "coinbase": (
        {"/api/v3/brokerage/orders/historical/batch": {"orders": [COINBASE_ORDER], "has_next": False, "cursor": ""}},
        {"/api/v3/brokerage/orders/historical/batch": {"orders": [], "has_next": False, "cursor": ""}},
    ),
}
"""Answers when the order is there, and those that differ when it is not."""


@pytest.mark.parametrize("exchange", EXCHANGES)
async def test_an_order_is_found_by_our_id(exchange: str) -> None:
    symbol = SYMBOLS[exchange]
    there, not_there = FOUND[exchange]
    async with trading_on(exchange) as (server, venue):
        server.answers.update(there)
        found = await venue.order_by_client_id(symbol, ID)
        assert found is not None
        assert (found.client_order_id, found.symbol, found.side) == (ID, symbol, Side.BUY)
        assert (found.state, found.amount, found.filled) == (
            ExchangeOrderState.CANCELLED,
            Decimal("0.001"),
            Decimal("0.0004"),
        )
        assert found.cost == Decimal("39.99")
        server.answers.update(not_there)
        assert await venue.order_by_client_id(symbol, ID) is None
        for path in there:
            del server.answers[path]
        with pytest.raises(ExchangeError):
            await venue.order_by_client_id(symbol, ID)


@pytest.mark.parametrize(
    ("exchange", "path", "part"),
    [
        ("kraken", "CancelOrder", f"cl_ord_id={ID}"),
        ("okx", "trade/cancel-order", f'"clOrdId":"{ID}"'),
        ("bybit", "order/cancel", f'"orderLinkId":"{ID}"'),
    ],
)
async def test_a_cancel_names_our_id(exchange: str, path: str, part: str) -> None:
    async with trading_on(exchange) as (server, venue):
        with pytest.raises(Ambiguous):
            await venue.cancel_order(SYMBOLS[exchange], ID)
        assert part in server.sent(path)[2]


async def test_krakens_trades_are_counted_before_they_are_told_apart() -> None:
    """A page holds trades of all symbols: one that is full is asked for again in halves, however few are ours."""
    async with trading_on("kraken") as (server, venue):
        now = venue.exchange_time
        since = now - timedelta(minutes=10)

        def trade(pair: str) -> dict[str, Any]:
            return {
                "ordertxid": "OUF4EM",
                "pair": pair,
                "time": (since + timedelta(minutes=5)).timestamp(),
                "type": "buy",
                "ordertype": "limit",
                "price": "99975.0",
                "cost": "39.99",
                "fee": "0.1",
                "vol": "0.0004",
            }

        ours = {"T0": trade("XXBTZUSD")}
        others = {f"T{number}": trade("XETHZUSD") for number in range(1, 50)}
        path = "/0/private/TradesHistory"
        server.answers[path] = {"error": [], "result": {"trades": ours | others, "count": 50}}
        with pytest.raises(ExchangeError, match="more trades in a moment"):
            await venue.trades("BTC/USD", since)
        server.answers[path] = {"error": [], "result": {"trades": ours, "count": 1}}
        (told,) = await venue.trades("BTC/USD", since)
        assert (told.exchange_trade_id, told.exchange_order_id, told.amount) == ("T0", "OUF4EM", Decimal("0.0004"))
        assert told.fee == Fee("USD", Decimal("0.1"))


async def test_more_open_orders_than_are_told_at_once_are_not_taken_for_all() -> None:
    async with trading_on("bybit") as (server, venue):
        rows = [BYBIT_ORDER | {"orderId": str(number), "orderStatus": "New"} for number in range(50)]
        server.answers["/v5/order/realtime"] = {"retCode": 0, "retMsg": "OK", "result": {"list": rows[:49]}}
        assert len(await venue.open_orders()) == 49
        server.answers["/v5/order/realtime"] = {"retCode": 0, "retMsg": "OK", "result": {"list": rows}}
        with pytest.raises(ExchangeError, match="50 open orders"):
            await venue.open_orders()


async def test_a_cancel_by_the_exchanges_id_looks_it_up_first() -> None:
    async with trading_on("coinbase") as (server, venue):
        batch = "/api/v3/brokerage/orders/historical/batch"
        server.answers[batch] = {"orders": [COINBASE_ORDER | {"status": "OPEN"}], "cursor": ""}
        with pytest.raises(Ambiguous):
            await venue.cancel_order("BTC/USD", ID)
        assert '"52cfe5e2"' in server.sent("orders/batch_cancel")[2]
        server.answers["/api/v3/brokerage/orders/batch_cancel"] = {
            "results": [{"success": True, "failure_reason": "UNKNOWN_CANCEL_FAILURE_REASON", "order_id": "52cfe5e2"}]
        }
        assert (await venue.cancel_order("BTC/USD", ID)).state is ExchangeOrderState.OPEN


async def test_another_exchange_gives_market_data_only() -> None:
    settings = msgspec.structs.replace(SETTINGS, exchange="bitstamp", symbols=("BTC/USD",))
    venue = CcxtExchange(settings=settings, clock=SkewedClock(), keys=ExchangeKeys("a-key", "a-secret"))
    try:
        assert not venue.capabilities.client_order_ids
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order(ID, Side.BUY, 1, symbol="BTC/USD", limit=1))
        assert refusal.value.code == "order_type_not_supported"
    finally:
        await venue.close()


@pytest.mark.parametrize("name", ["no_such_exchange", "", "../binance", "base", "Exchange", "abstract"])
def test_a_name_that_ccxt_does_not_know_is_refused(name: str) -> None:
    with pytest.raises(UnknownExchange, match=r"exchange\.name"):
        CcxtExchange(settings=msgspec.structs.replace(SETTINGS, exchange=name), clock=SkewedClock())


def test_an_exchange_without_a_testnet_is_refused() -> None:
    settings = msgspec.structs.replace(SETTINGS, exchange="kraken", testnet=True)
    with pytest.raises(ExchangeError, match="testnet"):
        CcxtExchange(settings=settings, clock=SkewedClock())
