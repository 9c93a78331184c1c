"""Whatever goes wrong between the adapter and the exchange: an order's outcome is told as what is known of it.

The real ccxt class against the loopback exchange. An outcome other than ``Ambiguous`` is allowed only when the books
of the exchange agree with it, and no order is ever sent twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from random import Random

import pytest

from support.binance import BinanceServer, Fault, FaultKind
from support.binance.adapter import SkewedClock, adapter_on
from support.binance.faults import banned, rate_limited
from support.replay import order
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange, ExchangeKeys
from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    ExchangeError,
    ExchangeOrderState,
    InsufficientFunds,
    OrderRejected,
    OrderRequest,
    RateLimited,
)

BTC = "BTC/USDT"
SHORT = timedelta(milliseconds=300)
ENTRY = order("tbentry", Side.BUY, "0.00055", limit="121800", ioc=True)
RESTING = order("tbresting", Side.BUY, "0.0005", limit="110000")
INTERNAL = '{"code":-1000,"msg":"An unknown error occurred while processing the request."}'


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with BinanceServer() as server:
        server.move(BTC, "121556.65")
        yield server


@pytest.fixture
async def venue(server: BinanceServer) -> AsyncIterator[CcxtExchange]:
    async with adapter_on(server) as venue:
        await venue.market_rules([BTC])
        yield venue


@pytest.fixture
async def hasty(server: BinanceServer) -> AsyncIterator[CcxtExchange]:
    async with adapter_on(server, request_timeout=SHORT) as venue:
        await venue.market_rules([BTC])
        yield venue


AMBIGUOUS = [
    Fault(FaultKind.CUT_BEFORE),
    Fault(FaultKind.CUT_AFTER),
    Fault(FaultKind.CUT_BODY_AFTER),
    Fault(FaultKind.ERROR_BEFORE, 503),
    Fault(FaultKind.ERROR_AFTER, 503),
    Fault(FaultKind.ERROR_AFTER, 502, "<html>Bad gateway</html>"),
    Fault(FaultKind.ERROR_AFTER, 504, '{"code":-1007,"msg":"Timeout waiting for response from backend server."}'),
    Fault(FaultKind.ERROR_AFTER, 408, '{"code":-1007,"msg":"Send status unknown; execution status unknown."}'),
    Fault(FaultKind.ERROR_AFTER, 400, '{"code":-1006,"msg":"Execution status unknown."}'),
    Fault(FaultKind.ERROR_AFTER, 400, '{"code":-1001,"msg":"Internal error; unable to process your request."}'),
    Fault(FaultKind.ERROR_AFTER, 400, '{"code":-9876,"msg":"A code that nobody knows."}'),
    # A gateway's error that quotes the words of a refusal says nothing of the order.
    Fault(FaultKind.ERROR_AFTER, 503, '{"code":-1013,"msg":"Filter failure: LOT_SIZE"}'),
    Fault(FaultKind.ERROR_AFTER, 500, "PRICE_FILTER"),
    Fault(FaultKind.ERROR_AFTER, 200, "this is no JSON"),
    Fault(FaultKind.ERROR_AFTER, 200, "{}"),
    Fault(FaultKind.ERROR_AFTER, 403, "<html>Forbidden</html>"),
]


@pytest.mark.parametrize("fault", AMBIGUOUS, ids=lambda fault: f"{fault.kind.value}-{fault.status}-{fault.body[:14]}")
async def test_an_order_without_a_clear_answer_is_ambiguous(
    server: BinanceServer, venue: CcxtExchange, fault: Fault
) -> None:
    server.faults.plan("POST order", fault)
    with pytest.raises(Ambiguous):
        await venue.create_order(ENTRY)
    assert server.count("POST order") == 1
    found = await venue.order_by_client_id(BTC, "tbentry")
    if fault.kind.value.endswith("before"):
        assert found is None
        assert server.books.orders == []
    else:
        assert found is not None
        assert found.filled == Decimal("0.00055")
        assert len(server.books.orders) == 1


@pytest.mark.parametrize("kind", [FaultKind.HANG_BEFORE, FaultKind.HANG_AFTER])
async def test_an_order_without_any_answer_is_ambiguous(
    server: BinanceServer, hasty: CcxtExchange, kind: FaultKind
) -> None:
    server.faults.plan("POST order", Fault(kind))
    with pytest.raises(Ambiguous):
        await hasty.create_order(ENTRY)
    assert server.count("POST order") == 1
    found = await hasty.order_by_client_id(BTC, "tbentry")
    assert (found is None) == (kind is FaultKind.HANG_BEFORE)


async def test_an_exchange_that_is_away_is_no_outcome_of_an_order(server: BinanceServer, venue: CcxtExchange) -> None:
    await server.stop()
    with pytest.raises(Ambiguous):
        await venue.create_order(ENTRY)
    await server.start()
    assert await venue.order_by_client_id(BTC, "tbentry") is None


async def test_an_order_is_not_sent_when_nothing_is_known_of_the_markets(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        server.faults.plan("GET exchangeInfo", Fault(FaultKind.ERROR_BEFORE, 503))
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(ENTRY)
        assert refusal.value.code == "exchange_away"
        assert server.count("POST order") == 0
        assert (await venue.create_order(ENTRY)).state is ExchangeOrderState.CLOSED


TOO_MANY_ORDERS = Fault(
    FaultKind.ERROR_BEFORE, 429, '{"code":-1015,"msg":"Too many new orders; current limit is 100."}', "3"
)
CALLS: dict[str, Callable[[CcxtExchange], Awaitable[object]]] = {
    "POST order": lambda venue: venue.create_order(ENTRY),
    "DELETE order": lambda venue: venue.cancel_order(BTC, "tbentry"),
    "GET order": lambda venue: venue.order_by_client_id(BTC, "tbentry"),
    "GET openOrders": lambda venue: venue.open_orders(),
    "GET myTrades": lambda venue: venue.trades_of_order(BTC, "1001"),
    "GET account": lambda venue: venue.balances(),
    "GET ticker/24hr": lambda venue: venue.ticker(BTC),
    "GET klines": lambda venue: venue.candles(BTC, "5m"),
    "GET exchangeInfo": lambda venue: venue.market_rules([BTC]),
}


@pytest.mark.parametrize("request_", CALLS)
async def test_too_many_requests_are_told_by_every_call(
    server: BinanceServer, venue: CcxtExchange, request_: str
) -> None:
    server.faults.plan(request_, rate_limited("7"))
    with pytest.raises(RateLimited) as limited:
        await CALLS[request_](venue)
    assert limited.value.retry_after == timedelta(seconds=7)
    assert server.books.orders == []
    assert server.faults.left == 0


@pytest.mark.parametrize(
    ("fault", "wait"),
    [(banned("120"), 120), (rate_limited(None), 60), (rate_limited("0"), 0), (TOO_MANY_ORDERS, 3)],
)
async def test_too_many_requests_tell_when_to_come_again(
    server: BinanceServer, venue: CcxtExchange, fault: Fault, wait: int
) -> None:
    server.faults.plan("POST order", fault)
    with pytest.raises(RateLimited) as limited:
        await venue.create_order(ENTRY)
    assert limited.value.retry_after == timedelta(seconds=wait)


async def test_nothing_is_sent_before_the_exchange_wants_to_hear_of_us_again(server: BinanceServer) -> None:
    clock = SkewedClock()
    async with adapter_on(server, clock=clock) as venue:
        await venue.market_rules([BTC])
        server.faults.plan("GET account", rate_limited("7"))
        with pytest.raises(RateLimited):
            await venue.balances()
        before = len(server.seen)
        for call in CALLS.values():
            with pytest.raises(RateLimited) as limited:
                await call(venue)
            assert timedelta(seconds=6) < limited.value.retry_after <= timedelta(seconds=7)
        assert len(server.seen) == before
        clock.ahead += timedelta(seconds=7)
        server.skew += timedelta(seconds=7)
        assert (await venue.create_order(ENTRY)).state is ExchangeOrderState.CLOSED


async def test_the_exchanges_own_limit_is_told_with_its_wait(server: BinanceServer, venue: CcxtExchange) -> None:
    server.weight_limit = 3
    assert (await venue.create_order(RESTING)).state is ExchangeOrderState.OPEN
    with pytest.raises(RateLimited) as limited:
        await venue.order_by_client_id(BTC, "tbresting")
    assert timedelta(seconds=50) < limited.value.retry_after <= timedelta(seconds=60)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ('{"code":-1013,"msg":"Market is closed."}', "symbol_not_trading"),
        ('{"code":-2010,"msg":"Account has insufficient balance for requested action."}', "insufficient_funds"),
        ('{"code":-2010,"msg":"Duplicate order sent."}', "duplicate_client_order_id"),
        ('{"code":-2010,"msg":"Stop price would trigger immediately."}', "stop_would_trigger_immediately"),
        ('{"code":-2010,"msg":"This symbol is not permitted for this account."}', "not_permitted"),
        ('{"code":-2010,"msg":"Something that is new."}', "order_refused"),
        ('{"code":-1013,"msg":"Filter failure: LOT_SIZE"}', "off_amount_step"),
        ('{"code":-1013,"msg":"Filter failure: MARKET_LOT_SIZE"}', "above_maximum_amount"),
        ('{"code":-1013,"msg":"Filter failure: PRICE_FILTER"}', "off_price_tick"),
        ('{"code":-1013,"msg":"Filter failure: PERCENT_PRICE_BY_SIDE"}', "price_out_of_range"),
        ('{"code":-1013,"msg":"Filter failure: NOTIONAL"}', "below_minimum_notional"),
        ('{"code":-1013,"msg":"Filter failure: MAX_NUM_ALGO_ORDERS"}', "too_many_open_orders"),
        ('{"code":-1013,"msg":"Stop loss orders are not supported for this symbol."}', "order_type_not_supported"),
        ('{"code":-1111,"msg":"Parameter \'quantity\' has too much precision."}', "off_amount_step"),
        ('{"code":-1116,"msg":"Invalid orderType."}', "order_type_not_supported"),
        ('{"code":-1121,"msg":"Invalid symbol."}', "unknown_symbol"),
        ('{"code":-1102,"msg":"A mandatory parameter was not sent."}', "bad_request"),
    ],
)
async def test_a_refusal_has_the_reason_code_that_execution_acts_on(
    server: BinanceServer, venue: CcxtExchange, body: str, code: str
) -> None:
    server.faults.plan("POST order", Fault(FaultKind.ERROR_BEFORE, 400, body))
    with pytest.raises(OrderRejected) as refusal:
        await venue.create_order(ENTRY)
    assert refusal.value.code == code
    assert isinstance(refusal.value, InsufficientFunds) == (code == "insufficient_funds")


async def test_a_refused_key_is_a_refusal_also_after_it_has_worked(
    server: BinanceServer, venue: CcxtExchange
) -> None:
    assert (await venue.create_order(RESTING)).state is ExchangeOrderState.OPEN
    server.key.trade = False
    with pytest.raises(OrderRejected) as refusal:
        await venue.create_order(ENTRY)
    assert refusal.value.code == "not_permitted"
    with pytest.raises(CancelRefused):
        await venue.cancel_order(BTC, "tbresting")
    assert len(server.books.open_orders) == 1


# Reading


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.CUT_BEFORE),
        Fault(FaultKind.CUT_BODY_AFTER),
        Fault(FaultKind.ERROR_BEFORE, 503),
        Fault(FaultKind.ERROR_BEFORE, 400, INTERNAL),
        Fault(FaultKind.ERROR_BEFORE, 200, "this is no JSON"),
    ],
    ids=lambda fault: f"{fault.kind.value}-{fault.status}",
)
async def test_a_question_that_fails_is_an_error_and_no_answer(
    server: BinanceServer, venue: CcxtExchange, fault: Fault
) -> None:
    await venue.create_order(RESTING)
    names = ("GET order", "GET openOrders", "GET myTrades", "GET account", "GET ticker/24hr", "GET klines")
    for name in names:
        # aiohttp repeats a GET once when a kept connection ends under it.
        server.faults.plan(name, *[fault] * (2 if fault.kind is FaultKind.CUT_BEFORE else 1))
    calls = (
        lambda: venue.order_by_client_id(BTC, "tbresting"),
        lambda: venue.open_orders(),
        lambda: venue.trades_of_order(BTC, "1001"),
        lambda: venue.balances(),
        lambda: venue.ticker(BTC),
        lambda: venue.candles(BTC, "5m"),
    )
    for call in calls:
        with pytest.raises(ExchangeError) as failure:
            await call()
        assert type(failure.value) is ExchangeError
    assert server.faults.left == 0


async def test_an_order_that_the_index_does_not_show_yet_is_unknown_for_a_while(
    server: BinanceServer, venue: CcxtExchange
) -> None:
    await venue.create_order(ENTRY)
    server.hide_order("tbentry", 2)
    assert await venue.order_by_client_id(BTC, "tbentry") is None
    assert await venue.order_by_client_id(BTC, "tbentry") is None
    assert await venue.order_by_client_id(BTC, "tbentry") is not None


async def test_late_and_repeated_trades_are_told_as_they_are(server: BinanceServer, venue: CcxtExchange) -> None:
    server.books.parts = 3
    placed = await venue.create_order(ENTRY)
    server.trades_are_late(1)
    assert await venue.trades_of_order(BTC, placed.exchange_order_id) == []
    server.repeat_trades = True
    trades = await venue.trades_of_order(BTC, placed.exchange_order_id)
    assert [trade.exchange_trade_id for trade in trades] == ["5001", "5001", "5002", "5002", "5003", "5003"]


async def test_balances_that_are_behind_are_told_as_they_are(server: BinanceServer, venue: CcxtExchange) -> None:
    server.freeze_balances()
    await venue.create_order(ENTRY)
    assert (await venue.balances())["USDT"].free == Decimal("84.54")
    server.thaw_balances()
    assert (await venue.balances())["USDT"].free == Decimal("17.6838425")


# Cancelling


@pytest.mark.parametrize("fault", [*AMBIGUOUS[:5], AMBIGUOUS[10]], ids=lambda fault: fault.kind.value)
async def test_a_cancel_without_a_clear_answer_is_ambiguous(
    server: BinanceServer, venue: CcxtExchange, fault: Fault
) -> None:
    await venue.create_order(RESTING)
    # aiohttp repeats a DELETE once when a kept connection ends under it; to cancel twice does no harm.
    server.faults.plan("DELETE order", fault, fault)
    with pytest.raises((Ambiguous, CancelRefused)):
        await venue.cancel_order(BTC, "tbresting")
    found = await venue.order_by_client_id(BTC, "tbresting")
    assert found is not None
    expected = ExchangeOrderState.OPEN if fault.kind.value.endswith("before") else ExchangeOrderState.CANCELLED
    assert found.state is expected


async def test_a_cancel_that_meets_the_fill_is_refused(server: BinanceServer, venue: CcxtExchange) -> None:
    await venue.create_order(RESTING)
    server.move(BTC, "109999")
    with pytest.raises(CancelRefused):
        await venue.cancel_order(BTC, "tbresting")


# Time


async def test_a_clock_that_is_off_is_measured_and_made_up_for(server: BinanceServer) -> None:
    server.skew = timedelta(seconds=-40)
    async with adapter_on(server) as venue:
        assert (await venue.create_order(ENTRY)).state is ExchangeOrderState.CLOSED
        assert timedelta(seconds=39) < venue.clock_difference < timedelta(seconds=41)


async def test_a_clock_that_jumps_is_measured_again_after_the_refusal(
    server: BinanceServer, venue: CcxtExchange
) -> None:
    server.skew = timedelta(seconds=60)
    with pytest.raises(OrderRejected) as refusal:
        await venue.create_order(ENTRY)
    assert refusal.value.code == "clock_difference"
    assert server.books.orders == []
    assert (await venue.create_order(ENTRY)).state is ExchangeOrderState.CLOSED


# What we refuse ourselves


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (order("tba", Side.BUY, "0.000551", limit="121800", ioc=True), "off_amount_step"),
        (order("tba", Side.BUY, "0.00055", limit="121800.001", ioc=True), "off_price_tick"),
        (order("tba", Side.SELL, "0.00055", stop="100000.005"), "off_price_tick"),
        (order("tba", Side.BUY, "0", limit="121800"), "below_minimum_amount"),
    ],
)
async def test_an_order_that_ccxt_would_reshape_is_not_sent(
    server: BinanceServer, venue: CcxtExchange, request_: OrderRequest, code: str
) -> None:
    with pytest.raises(OrderRejected) as refusal:
        await venue.create_order(request_)
    assert refusal.value.code == code
    assert server.count("POST order") == 0


async def test_a_symbol_without_stops_takes_none(server: BinanceServer, venue: CcxtExchange) -> None:
    server.market(BTC).order_types = ("LIMIT", "MARKET", "STOP_LOSS_LIMIT")
    await venue.market_rules([BTC])
    assert not venue.capabilities.stop_market
    assert venue.capabilities.stop_limit
    with pytest.raises(OrderRejected) as refusal:
        await venue.create_order(order("tba", Side.SELL, "0.0005", stop="110000"))
    assert refusal.value.code == "order_type_not_supported"


# Secrets


async def test_no_error_and_no_log_holds_a_key_or_a_signature(
    server: BinanceServer, hasty: CcxtExchange, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    said = []
    for fault in (Fault(FaultKind.HANG_BEFORE), Fault(FaultKind.CUT_BEFORE), Fault(FaultKind.ERROR_BEFORE, 503)):
        server.faults.plan("POST order", fault)
        server.faults.plan("GET order", fault, fault)
        for call in (lambda: hasty.create_order(ENTRY), lambda: hasty.order_by_client_id(BTC, "tbentry")):
            with pytest.raises(ExchangeError) as failure:
                await call()
            assert failure.value.__suppress_context__
            said += [str(failure.value), repr(failure.value)]
    said += [repr(hasty), str(hasty), repr(ExchangeKeys("a-key", "a-secret", "a-password")), caplog.text]
    for text in said:
        assert "signature=" not in text
        assert "timestamp=" not in text
        for secret in (server.key.key, server.key.secret, "a-key", "a-secret", "a-password"):
            assert secret not in text


async def test_a_cancelled_call_leaves_nothing_behind(server: BinanceServer, venue: CcxtExchange) -> None:
    server.faults.plan("POST order", Fault(FaultKind.HANG_AFTER))
    call = asyncio.create_task(venue.create_order(ENTRY))
    await server.until("POST order")
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await venue.order_by_client_id(BTC, "tbentry") is not None


async def test_requests_are_stamped_with_the_clock_that_was_given(server: BinanceServer) -> None:
    clock = SkewedClock()
    clock.ahead = timedelta(minutes=10)
    async with adapter_on(server, clock=clock) as venue:
        assert (await venue.create_order(ENTRY)).state is ExchangeOrderState.CLOSED
        assert abs(venue.clock_difference - clock.ahead) < timedelta(seconds=1)


async def test_in_a_storm_no_certainty_is_ever_false(server: BinanceServer, venue: CcxtExchange) -> None:
    """Two hundred orders under random faults: what was told of each agrees with the exchange's books."""
    random = Random(7)
    server.books.balances["USDT"].free = Decimal(1_000_000)
    bodies = [INTERNAL, '{"code":-2010,"msg":"Duplicate order sent."}', '{"code":-1013,"msg":"LOT_SIZE"}', "<html>"]
    kinds = [kind for kind in FaultKind if not kind.value.startswith("hang")]
    told: dict[str, str] = {}
    for number in range(200):
        name = f"tbstorm{number}"
        kind = random.choice([*kinds, None, None])
        if kind is not None:
            # What an exchange says when it did it is never a 4xx with the code of a refusal.
            status = random.choice([500, 502, 503, 504] if kind is FaultKind.ERROR_AFTER else [400, 500, 503])
            server.faults.plan("POST order", Fault(kind, status, random.choice(bodies)))
        amount = random.choice(["0.00055", "0.00055", "0.00001", "9"])
        try:
            placed = await venue.create_order(order(name, Side.BUY, amount, limit="121800", ioc=True))
            told[name] = "confirmed"
            assert placed.filled == Decimal(amount)
        except OrderRejected:
            told[name] = "rejected"
        except Ambiguous:
            told[name] = "ambiguous"
    for name, outcome in told.items():
        there = server.books.orders_of(name)
        assert len(there) <= 1
        if outcome != "ambiguous":
            assert bool(there) == (outcome == "confirmed"), name
        found = await venue.order_by_client_id(BTC, name)
        assert (found is not None) == bool(there)
        if found is not None:
            assert (found.filled, found.cost) == (there[0].filled, there[0].cost)
    assert set(told.values()) == {"confirmed", "rejected", "ambiguous"}
    assert server.count("POST order") == 200
