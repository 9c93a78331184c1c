"""ccxt's dictionaries become our values, by their text, and nothing that is missing is made up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.replay import order
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Precision, PrecisionMode
from tradingbot_agents.domain.values import OrderType, Side, TimeInForce
from tradingbot_agents.exchange.ccxt_call import redirected
from tradingbot_agents.exchange.ccxt_dialects import DIALECTS, dialect_of
from tradingbot_agents.exchange.ccxt_mapping import (
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
from tradingbot_agents.exchange.port import Capabilities, ExchangeBalance, ExchangeOrderState, OrderRequest

DECIMAL_PLACES, SIGNIFICANT_DIGITS, TICK_SIZE = 2, 3, 4
BTC = "BTC/USDT"
NOW = datetime(2025, 11, 25, 14, 0, tzinfo=UTC)
AT = 1764079200000
"""``NOW`` in milliseconds."""

MARKET: dict[str, Any] = {
    "id": "BTCUSDT",
    "symbol": BTC,
    "base": "BTC",
    "quote": "USDT",
    "spot": True,
    "active": True,
    "maker": "0.001",
    "taker": "0.0015",
    "precision": {"amount": "0.00001000", "price": "0.01000000"},
    "limits": {
        "amount": {"min": "0.00001000", "max": "9000.00000000"},
        "price": {"min": "0.01000000", "max": "1000000.00000000"},
        "cost": {"min": "5.00000000", "max": "9000000.00000000"},
        "market": {"min": "0.00000000", "max": "116.52300000"},
    },
    "info": {"orderTypes": ["LIMIT", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT"]},
}


def d(value: object) -> Decimal:
    return Decimal(str(value))


# Market rules


def test_rules_have_steps_limits_and_fees() -> None:
    rules = rules_of(MARKET, TICK_SIZE, FeeCurrency.GET)
    assert (rules.symbol, rules.base, rules.quote, rules.active) == (BTC, "BTC", "USDT", True)
    assert rules.amount == Precision(PrecisionMode.TICK_SIZE, d("0.00001"))
    assert rules.price == Precision(PrecisionMode.TICK_SIZE, d("0.01"))
    assert (rules.min_amount, rules.max_amount, rules.max_market_amount) == (d("0.00001"), 9000, d("116.523"))
    assert (rules.min_notional, rules.max_notional) == (5, 9_000_000)
    assert (rules.fees.maker, rules.fees.taker, rules.fees.currency) == (d("0.001"), d("0.0015"), FeeCurrency.GET)


@pytest.mark.parametrize(
    ("mode", "amount", "price", "near", "floored"),
    [
        (TICK_SIZE, "0.00001", "0.01", "0.123456789", "0.12345"),
        (DECIMAL_PLACES, "5", "2", "0.123456789", "0.12345"),
        (DECIMAL_PLACES, "-1", "2", "128", "120"),
        (SIGNIFICANT_DIGITS, "3", "5", "0.0123456789", "0.0123"),
    ],
)
def test_each_precision_mode_is_understood(mode: int, amount: str, price: str, near: str, floored: str) -> None:
    market = MARKET | {"precision": {"amount": amount, "price": price}}
    rules = rules_of(market, mode, FeeCurrency.GET)
    assert rules.floor_amount(d(near)) == d(floored)


def test_limits_that_an_exchange_has_not_are_none() -> None:
    limits = {"amount": {"min": None, "max": "0"}, "cost": {"min": None}, "market": None}
    rules = rules_of(MARKET | {"limits": limits}, TICK_SIZE, FeeCurrency.GET)
    assert (rules.min_amount, rules.min_notional) == (0, 0)
    assert (rules.max_amount, rules.max_notional, rules.max_market_amount) == (None, None, None)


@pytest.mark.parametrize(("active", "expected"), [(True, True), (False, False), (None, True)])
def test_only_what_the_exchange_calls_inactive_is_so(active: bool | None, expected: bool) -> None:
    assert rules_of(MARKET | {"active": active}, TICK_SIZE, FeeCurrency.GET).active == expected


def test_the_accounts_own_fees_and_the_markets_fee_side_count_first() -> None:
    rules = rules_of(MARKET | {"feeSide": "quote"}, TICK_SIZE, FeeCurrency.GET, (d("0.0001"), d("0.0002")))
    assert (rules.fees.maker, rules.fees.taker, rules.fees.currency) == (d("0.0001"), d("0.0002"), FeeCurrency.QUOTE)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"precision": {"amount": None, "price": "0.01"}}, "BTC/USDT, precision has no amount"),
        ({"precision": {"amount": "0", "price": "0.01"}}, "BTC/USDT: a tick size must be above zero"),
        ({"precision": {"amount": "many", "price": "0.01"}}, "'many', not a number"),
        ({"taker": None}, "BTC/USDT has no taker"),
        ({"base": None}, "BTC/USDT has no base"),
    ],
)
def test_rules_that_lack_something_are_refused(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        rules_of(MARKET | broken, TICK_SIZE, FeeCurrency.GET)
    with pytest.raises(Unreadable, match="precision mode 9"):
        rules_of(MARKET, 9, FeeCurrency.GET)


def test_stops_are_offered_where_every_market_takes_them() -> None:
    binance = dialect_of("binance")
    both = Capabilities(stop_market=True, stop_limit=True, client_order_ids=True)
    assert capabilities_of(binance, []) == both
    assert capabilities_of(binance, [MARKET, MARKET | {"info": {}}]) == both
    without = MARKET | {"info": {"orderTypes": ["LIMIT", "STOP_LOSS_LIMIT"]}}
    assert capabilities_of(binance, [MARKET, without]) == msgspec.structs.replace(both, stop_market=False)
    assert capabilities_of(dialect_of("bitstamp"), [MARKET]) == Capabilities(
        stop_market=False, stop_limit=False, client_order_ids=False
    )


# Candles and tickers


def test_candles_are_closed_ones_in_order_and_each_once() -> None:
    step = 300_000
    rows = [[AT - place * step, "100.10", "101", "99", "100.5", "2.5"] for place in (1, 2, 0, 2)]
    bars = candles_of(rows, BTC, "5m", NOW)
    assert [bar.open_time for bar in bars] == [NOW - timedelta(minutes=10), NOW - timedelta(minutes=5)]
    assert (bars[0].open, bars[0].high, bars[0].low, bars[0].close, bars[0].volume) == (
        d("100.10"),
        101,
        99,
        d("100.5"),
        d("2.5"),
    )


@pytest.mark.parametrize("row", [[AT - 600_000, "1", "1", "1", "1"], [AT - 600_000, "1", "1", None, "1", "1"]])
def test_a_bar_that_lacks_something_is_refused(row: list[Any]) -> None:
    with pytest.raises(Unreadable, match="BTC/USDT"):
        candles_of([row], BTC, "5m", NOW)


def test_a_ticker_is_the_last_price_and_its_time() -> None:
    told = ticker_of({"last": "121556.65", "timestamp": AT - 1000}, BTC, NOW)
    assert (told.symbol, told.last, told.at) == (BTC, d("121556.65"), NOW - timedelta(seconds=1))
    assert ticker_of({"last": "1", "timestamp": None}, BTC, NOW).at == NOW
    with pytest.raises(Unreadable, match="no last"):
        ticker_of({"last": None}, BTC, NOW)


# Balances


def test_balances_are_what_is_there_and_what_was_asked_for() -> None:
    raw = {
        "free": {"USDT": "17.68", "BTC": "0", "DUST": "0"},
        "used": {"USDT": "66.86", "BTC": "0.5", "DUST": "0"},
        "total": {"USDT": "84.54", "BTC": "0.5", "DUST": "0"},
    }
    assert balances_of(raw, {"ETH"}) == {
        "USDT": ExchangeBalance(d("17.68"), d("66.86")),
        "BTC": ExchangeBalance(d(0), d("0.5")),
        "ETH": ExchangeBalance(d(0), d(0)),
    }


@pytest.mark.parametrize(
    ("free", "used", "total", "expected"),
    [
        ("1", None, "3", (1, 2)),
        (None, "2", "3", (1, 2)),
        (None, None, "3", (3, 0)),
        ("1", None, None, (1, 0)),
    ],
)
def test_what_is_left_out_of_a_balance_follows_from_the_rest(
    free: str | None, used: str | None, total: str | None, expected: tuple[int, int]
) -> None:
    raw = {"free": {"BTC": free}, "used": {"BTC": used}, "total": {"BTC": total}}
    told = balances_of(raw, ())["BTC"]
    assert (told.free, told.used) == expected


# Orders

ORDER: dict[str, Any] = {
    "id": "5403233939",
    "clientOrderId": "tbabc",
    "timestamp": AT,
    "symbol": BTC,
    "type": "limit",
    "side": "buy",
    "price": "121800.00",
    "amount": "0.00055",
    "filled": "0.00055",
    "remaining": "0",
    "cost": "66.8561575",
    "average": "121556.65",
    "status": "closed",
    "triggerPrice": None,
}


def test_an_order_is_told_whole() -> None:
    told = order_of(ORDER, now=NOW)
    assert (told.exchange_order_id, told.client_order_id, told.symbol) == ("5403233939", "tbabc", BTC)
    assert (told.side, told.type, told.state) == (Side.BUY, OrderType.LIMIT, ExchangeOrderState.CLOSED)
    assert (told.amount, told.filled, told.cost) == (d("0.00055"), d("0.00055"), d("66.8561575"))
    assert (told.limit_price, told.stop_price, told.at) == (d(121800), None, NOW)


@pytest.mark.parametrize(
    ("status", "filled", "expected"),
    [
        ("open", "0", ExchangeOrderState.OPEN),
        ("canceling", "0.0001", ExchangeOrderState.OPEN),
        (None, "0", ExchangeOrderState.OPEN),
        ("closed", "0.00055", ExchangeOrderState.CLOSED),
        ("closed", "0.0003", ExchangeOrderState.CANCELLED),
        ("canceled", "0.0003", ExchangeOrderState.CANCELLED),
        ("expired", "0", ExchangeOrderState.CANCELLED),
        ("rejected", "0", ExchangeOrderState.REJECTED),
    ],
)
def test_each_state_is_understood(status: str | None, filled: str, expected: ExchangeOrderState) -> None:
    raw = ORDER | {"status": status, "filled": filled}
    assert order_of(raw, now=NOW).state is expected


@pytest.mark.parametrize(
    ("kind", "trigger", "expected"),
    [
        ("market", None, OrderType.MARKET),
        ("limit", None, OrderType.LIMIT),
        ("market", "115478.82", OrderType.STOP_MARKET),
        ("limit", "115478.82", OrderType.STOP_LIMIT),
        ("stop-loss", None, OrderType.STOP_MARKET),
        ("stop-loss-limit", "115478.82", OrderType.STOP_LIMIT),
        ("limit", "0", OrderType.LIMIT),
        (None, None, OrderType.MARKET),
    ],
)
def test_each_order_type_is_understood(kind: str | None, trigger: str | None, expected: OrderType) -> None:
    told = order_of(ORDER | {"type": kind, "triggerPrice": trigger}, now=NOW)
    assert told.type is expected
    assert (told.limit_price is not None) == (expected in (OrderType.LIMIT, OrderType.STOP_LIMIT))


def test_what_an_exchange_leaves_out_of_a_new_order_is_taken_from_the_request() -> None:
    request = order("tbabc", Side.SELL, "0.5", stop=90, limit=89)
    told = order_of({"id": "7"}, symbol=BTC, client_order_id="tbabc", request=request, now=NOW)
    assert (told.side, told.type, told.state) == (Side.SELL, OrderType.STOP_LIMIT, ExchangeOrderState.OPEN)
    assert (told.amount, told.filled, told.cost) == (d("0.5"), 0, 0)
    assert (told.limit_price, told.stop_price, told.at) == (89, 90, NOW)


def test_an_answer_to_a_cancel_is_of_the_order_that_was_cancelled() -> None:
    told = order_of(ORDER | {"clientOrderId": "the-cancel"}, symbol=BTC, client_order_id="tbabc", now=NOW)
    assert told.client_order_id == "tbabc"


def test_cost_and_filled_follow_from_what_is_told() -> None:
    assert order_of(ORDER | {"cost": None}, now=NOW).cost == d("66.8561575")
    raw = ORDER | {"filled": None, "remaining": "0.00015", "status": "canceled"}
    assert order_of(raw, now=NOW).filled == d("0.0004")
    raw = ORDER | {"amount": None, "filled": "0.0004", "remaining": "0.00015"}
    assert order_of(raw, now=NOW).amount == d("0.00055")


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        ({"id": None}, "has no id"),
        ({"side": None}, "side is None"),
        ({"status": "sleeping"}, "state is 'sleeping'"),
        ({"amount": None, "remaining": None}, "no amount"),
        ({"filled": None, "remaining": None, "status": "canceled"}, "no filled amount"),
        ({"filled": "NaN"}, "not a number"),
    ],
)
def test_an_order_that_lacks_something_is_refused(broken: dict[str, Any], said: str) -> None:
    with pytest.raises(Unreadable, match=said):
        order_of(ORDER | broken, now=NOW)


def test_the_newest_of_an_id_is_found() -> None:
    rows = [ORDER | {"id": "1", "timestamp": 5}, ORDER | {"id": "2", "timestamp": 9}, ORDER | {"clientOrderId": "x"}]
    found = newest(rows, "tbabc")
    assert found is not None
    assert found["id"] == "2"
    assert newest(rows, "tbnone") is None


# Trades

TRADE: dict[str, Any] = {
    "id": "28457",
    "order": "5403233939",
    "timestamp": AT,
    "symbol": BTC,
    "side": "buy",
    "price": "121556.65",
    "amount": "0.00055",
    "fee": {"cost": "0.00000055", "currency": "BTC"},
    "fees": [{"cost": "0.00000055", "currency": "BTC"}],
}


@pytest.mark.parametrize(
    ("fees", "expected"),
    [
        ({}, Fee("BTC", d("0.00000055"))),
        ({"fees": [], "fee": {"cost": "0.066", "currency": "USDT"}}, Fee("USDT", d("0.066"))),
        ({"fees": [{"cost": "0.00008", "currency": "BNB"}]}, Fee("BNB", d("0.00008"))),
        ({"fees": [{"cost": "0.1", "currency": "KFEE"}] * 2}, Fee("KFEE", d("0.2"))),
        ({"fees": [{"cost": "0.1", "currency": "USD"}, {"cost": "0", "currency": "BTC"}]}, Fee("USD", d("0.1"))),
        ({"fees": [], "fee": {"cost": "-0.01", "currency": "USDT"}}, Fee("USDT", d("-0.01"))),
        ({"fees": [], "fee": {"cost": None, "currency": None}}, None),
        ({"fees": None, "fee": None}, None),
    ],
)
def test_a_trade_has_its_fee_in_whatever_asset(fees: dict[str, Any], expected: Fee | None) -> None:
    (told,) = trades_of([TRADE | fees], BTC, "5403233939", asked_by_order=True)
    assert told.fee == expected
    assert (told.exchange_trade_id, told.exchange_order_id, told.symbol) == ("28457", "5403233939", BTC)
    assert (told.side, told.price, told.amount, told.at) == (Side.BUY, d("121556.65"), d("0.00055"), NOW)


def test_fees_in_two_assets_are_not_made_one() -> None:
    fees = [{"cost": "1", "currency": "USD"}, {"cost": "1", "currency": "BTC"}]
    with pytest.raises(Unreadable, match="BTC, USD"):
        trades_of([TRADE | {"fees": fees}], BTC, "5403233939", asked_by_order=True)


def test_trades_are_those_of_the_order_oldest_first() -> None:
    rows = [
        TRADE | {"id": "10", "timestamp": AT},
        TRADE | {"id": "9", "timestamp": AT},
        TRADE | {"id": "11", "timestamp": AT - 1},
        TRADE | {"id": "8", "order": "another"},
        TRADE | {"id": "7", "order": None, "timestamp": AT + 1},
    ]
    told = trades_of(rows, BTC, "5403233939", asked_by_order=True)
    assert [trade.exchange_trade_id for trade in told] == ["11", "9", "10", "7"]
    told = trades_of(rows, BTC, "5403233939", asked_by_order=False)
    assert [trade.exchange_trade_id for trade in told] == ["11", "9", "10"]


def test_trades_of_the_account_name_their_orders() -> None:
    told = account_trades_of([TRADE, TRADE | {"id": "2", "order": "another", "timestamp": AT - 1}], BTC)
    assert [trade.exchange_order_id for trade in told] == ["another", "5403233939"]
    with pytest.raises(Unreadable, match="no order"):
        account_trades_of([TRADE | {"order": None}], BTC)


@pytest.mark.parametrize("field", ["id", "price", "amount", "timestamp", "side"])
def test_a_trade_that_lacks_something_is_refused(field: str) -> None:
    with pytest.raises(Unreadable, match="trade"):
        trades_of([TRADE | {field: None}], BTC, "5403233939", asked_by_order=True)


# Requests

RULES = rules_of(MARKET, TICK_SIZE, FeeCurrency.GET)
ALL = Capabilities(stop_market=True, stop_limit=True, client_order_ids=True)
NONE = Capabilities(stop_market=False, stop_limit=False, client_order_ids=True)
BINANCE, OKX = DIALECTS["binance"], DIALECTS["okx"]


def good(side: Side = Side.SELL, **prices: Any) -> OrderRequest:
    return order("tbabc", side, "0.5", **prices)


@pytest.mark.parametrize(
    "request_",
    [good(), good(Side.BUY), good(limit="100.01"), good(limit=100, ioc=True), good(stop=90), good(stop=90, limit=89)],
)
def test_a_good_request_has_no_problem(request_: OrderRequest) -> None:
    assert request_problem(request_, RULES, ALL, BINANCE) is None


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (order("tbabc", Side.BUY, "0.000001"), "off_amount_step"),
        (order("tbabc", Side.BUY, "0"), "below_minimum_amount"),
        (order("tbabc", Side.BUY, "-1"), "below_minimum_amount"),
        (order("tbabc", Side.BUY, "NaN"), "below_minimum_amount"),
        (good(limit="100.001"), "off_price_tick"),
        (good(stop="100.001"), "off_price_tick"),
        (good(limit="0"), "bad_price"),
        (good(limit="Infinity"), "bad_price"),
        (good(stop=90, ioc=True), "order_type_not_supported"),
        # ccxt would read the price of a market order as a wish to spend a sum.
        (msgspec.structs.replace(good(), limit_price=d(100)), "bad_price"),
        (msgspec.structs.replace(good(limit=100), limit_price=None), "bad_price"),
        (msgspec.structs.replace(good(limit=100), stop_price=d(90)), "bad_price"),
    ],
)
def test_a_request_that_would_not_arrive_as_it_was_decided_is_refused(request_: OrderRequest, code: str) -> None:
    problem = request_problem(request_, RULES, ALL, BINANCE)
    assert problem is not None
    assert problem.code == code


def test_what_an_exchange_does_not_take_is_refused() -> None:
    for request, capabilities, dialect in (
        (good(stop=90), NONE, BINANCE),
        (good(stop=90, limit=89), NONE, BINANCE),
        (good(Side.BUY), ALL, OKX),
    ):
        problem = request_problem(request, RULES, capabilities, dialect)
        assert problem is not None
        assert problem.code == "order_type_not_supported"
    assert request_problem(good(), RULES, ALL, OKX) is None


def test_limits_are_left_to_the_exchange() -> None:
    """Our rules may be older than the exchange's: refusing by them could keep a good exit from being sent."""
    assert request_problem(order("tbabc", Side.SELL, 9999, limit=1), RULES, ALL, BINANCE) is None
    halted = msgspec.structs.replace(RULES, active=False)
    assert request_problem(good(), halted, ALL, BINANCE) is None


def test_arguments_are_texts_without_exponents() -> None:
    sent = order_arguments(order("tbabc", Side.BUY, "1E-5", limit="121800.00", ioc=True), BINANCE)
    assert (sent.symbol, sent.type, sent.side, sent.amount, sent.price) == (
        BTC,
        "limit",
        "buy",
        "0.00001",
        "121800.00",
    )
    assert sent.params == {"clientOrderId": "tbabc", "timeInForce": "IOC"}


def test_a_market_order_has_no_price_and_a_stop_its_own() -> None:
    market = order_arguments(msgspec.structs.replace(good(), time_in_force=TimeInForce.IOC), BINANCE)
    assert (market.type, market.price, market.params) == ("market", None, {"clientOrderId": "tbabc"})
    stop = order_arguments(good(stop=90), BINANCE)
    assert (stop.type, stop.price) == ("market", None)
    assert stop.params == {"clientOrderId": "tbabc", "stopLossPrice": "90"}
    limit = order_arguments(good(stop=90, limit=89), DIALECTS["coinbase"])
    assert (limit.type, limit.price) == ("limit", "89")
    assert limit.params == {"client_order_id": "tbabc", "stopLossPrice": "90"}


# Addresses


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/api/v3"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/api/v3"),
        ("https://proxy.example/binance/", "https://proxy.example/binance/api/v3"),
    ],
)
def test_every_address_is_redirected_with_its_path(endpoint: str, expected: str) -> None:
    tree = {"public": "https://api.binance.com/api/v3", "rest": {"private": "https://api.binance.com/api/v3"}, "x": 1}
    assert redirected(tree, endpoint) == {"public": expected, "rest": {"private": expected}, "x": 1}


def test_streams_stay_streams() -> None:
    assert redirected("wss://stream.binance.com:9443/ws", "http://127.0.0.1:1") == "ws://127.0.0.1:1/ws"
    assert redirected("wss://stream.binance.com:9443/ws", "https://a.example") == "wss://a.example/ws"
