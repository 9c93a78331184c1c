"""What the adapter reads of the market and the account: the real ccxt class against the loopback exchange."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from support.binance import MAJORS, ApiKey, BinanceServer, BinanceSymbol, Fault, FaultKind
from support.binance.adapter import SkewedClock, adapter_on
from support.replay import order
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.values import TIMEFRAMES, Side, floor_time
from tradingbot_agents.exchange.ccxt_exchange import ExchangeKeys
from tradingbot_agents.exchange.port import (
    ExchangeBalance,
    ExchangeError,
    ExchangeOrderState,
    OrderRejected,
)

BTC, ETH = "BTC/USDT", "ETH/USDT"
STEP = TIMEFRAMES["5m"]


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with BinanceServer() as server:
        server.move(BTC, "121556.65")
        yield server


def bar(open_time: datetime, close: object = 100) -> Candle:
    price = Decimal(str(close))
    return Candle(BTC, "5m", open_time, price, price + 1, price - 1, price, Decimal("2.5"))


# Candles


def in_the_middle_of_a_bar(server: BinanceServer) -> tuple[SkewedClock, datetime]:
    """Our clock and the exchange's, set so that no bar ends meanwhile, and when the current bar opened."""
    now = datetime.now(UTC)
    clock = SkewedClock()
    clock.ahead = server.skew = floor_time(now, STEP) + STEP / 2 - now
    return clock, floor_time(clock.now(), STEP)


async def test_only_closed_bars_are_told_oldest_first(server: BinanceServer) -> None:
    clock, current = in_the_middle_of_a_bar(server)
    server.add_candles(bar(current - place * STEP, 100 + place) for place in range(5))
    async with adapter_on(server, without_keys=True, clock=clock) as feed:
        bars = await feed.candles(BTC, "5m")
        assert bars == [bar(current - place * STEP, 100 + place) for place in (4, 3, 2, 1)]
        assert await feed.candles(BTC, "5m", limit=2) == bars[-2:]
        assert await feed.candles(BTC, "5m", since=current - 3 * STEP, limit=2) == bars[1:3]
        assert await feed.candles(BTC, "5m", since=current) == []
        assert await feed.candles(ETH, "5m") == []


async def test_a_bar_is_closed_by_the_exchanges_clock(server: BinanceServer) -> None:
    clock, current = in_the_middle_of_a_bar(server)
    clock.ahead += STEP
    server.add_candles([bar(current - STEP), bar(current)])
    async with adapter_on(server, without_keys=True, clock=clock) as feed:
        assert [told.open_time for told in await feed.candles(BTC, "5m")] == [current - STEP]


async def test_an_unknown_timeframe_or_symbol_is_named(server: BinanceServer) -> None:
    async with adapter_on(server, without_keys=True) as feed:
        with pytest.raises(ExchangeError, match="7m"):
            await feed.candles(BTC, "7m")
        with pytest.raises(ExchangeError, match="ABC/USDT"):
            await feed.candles("ABC/USDT", "5m")


async def test_newer_pythons_are_no_worse(server: BinanceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """There aiohttp warns of what ccxt asks of it, and a warning is an error here."""
    monkeypatch.setattr("aiohttp.connector.NEEDS_CLEANUP_CLOSED", False)
    async with adapter_on(server, without_keys=True) as feed:
        assert (await feed.ticker(BTC)).last == Decimal("121556.65")


# Market rules


async def test_rules_are_read_anew_when_asked(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        first = (await venue.market_rules([BTC, ETH]))[BTC]
        assert first.max_market_amount == 100
        server.market(BTC).step = Decimal("0.001")
        server.market(BTC).min_notional = Decimal(10)
        server.books.fee = Decimal("0.00075")
        second = (await venue.market_rules([BTC]))[BTC]
        assert (second.amount.value, second.min_notional) == (Decimal("0.001"), 10)
        assert second.fees.taker == Decimal("0.00075")
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        assert refusal.value.code == "off_amount_step"


async def test_filters_that_changed_since_they_were_read_are_refused_by_the_exchange(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        await venue.market_rules([BTC])
        server.market(BTC).step = Decimal("0.001")
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        assert refusal.value.code == "off_amount_step"
        assert server.count("POST order") == 1


async def test_a_halted_symbol_is_not_active_and_its_orders_are_refused(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        assert (await venue.market_rules([BTC]))[BTC].active
        server.market(BTC).status = "HALT"
        assert not (await venue.market_rules([BTC]))[BTC].active
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        assert refusal.value.code == "symbol_not_trading"
        server.market(BTC).status = "TRADING"
        assert (await venue.market_rules([BTC]))[BTC].active


async def test_a_delisted_symbol_is_not_active_and_the_others_are_still_read(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        await venue.market_rules([BTC, ETH])
        server.delist(ETH)
        rules = await venue.market_rules([BTC, ETH])
        assert rules[BTC].active
        assert not rules[ETH].active
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tba", Side.BUY, "0.01", symbol=ETH, limit=4000))
        assert refusal.value.code == "unknown_symbol"


async def test_a_symbol_that_was_never_listed_is_named(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        with pytest.raises(ExchangeError, match=r"ABC/USDT.*check spec\.symbols"):
            await venue.market_rules([BTC, "ABC/USDT"])
        assert (await venue.market_rules([BTC]))[BTC].active


async def test_of_many_markets_only_the_bots_are_kept() -> None:
    other = [
        BinanceSymbol(f"C{number}", "USDT", Decimal("0.1"), Decimal("0.01"), Decimal("0.1")) for number in range(500)
    ]
    async with BinanceServer(symbols=[*MAJORS(), *other]) as server, adapter_on(server) as venue:
        await venue.market_rules([BTC])
        assert [seen.params for seen in server.seen if seen.request == "GET exchangeInfo"] == [
            {"symbols": '["BTCUSDT","ETHUSDT","SOLUSDT"]'}
        ]


async def test_rules_that_can_not_be_read_anew_stay_as_they_were(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        await venue.market_rules([BTC])
        server.faults.plan("GET exchangeInfo", *[Fault(FaultKind.ERROR_BEFORE, 503)] * 2)
        with pytest.raises(ExchangeError):
            await venue.market_rules([BTC])
        bought = await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        assert bought.state is ExchangeOrderState.CLOSED


# The account


async def test_balances_tell_free_and_used(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        await venue.create_order(order("tba", Side.BUY, "0.0005", limit=110000))
        balances = await venue.balances()
        assert balances["USDT"] == ExchangeBalance(Decimal("29.54"), Decimal(55))
        assert balances["BTC"] == ExchangeBalance(Decimal(0), Decimal(0))


async def test_fees_in_a_third_asset_are_told_as_such(server: BinanceServer) -> None:
    server.move("BNB/USDT", "600")
    server.books.balances["BNB"] = type(server.books.balances["USDT"])(Decimal(1))
    server.books.fees_in_bnb = True
    async with adapter_on(server) as venue:
        bought = await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        (trade,) = await venue.trades_of_order(BTC, bought.exchange_order_id)
        assert trade.fee == Fee("BNB", Decimal("0.00008357"))
        assert (await venue.balances())["BNB"].free == Decimal("0.99991643")


async def test_orders_of_others_are_told_with_their_symbols(server: BinanceServer) -> None:
    server.move("BNB/USDT", "600")
    server.books.place(
        symbol="BNBUSDT",
        side="BUY",
        type="LIMIT",
        time_in_force="GTC",
        quantity=Decimal("0.1"),
        price=Decimal(500),
        stop_price=None,
        client_order_id="by-a-person",
        now=server.now(),
    )
    async with adapter_on(server) as venue:
        await venue.create_order(order("tba", Side.BUY, "0.0002", limit=110000))
        told = await venue.open_orders()
        assert [(shown.symbol, shown.client_order_id) for shown in told] == [
            ("BNB/USDT", "by-a-person"),
            (BTC, "tba"),
        ]


async def test_an_order_of_another_on_a_market_that_is_gone_is_told_with_its_id(server: BinanceServer) -> None:
    server.move("BNB/USDT", "600")
    server.books.place(
        symbol="BNBUSDT",
        side="BUY",
        type="LIMIT",
        time_in_force="GTC",
        quantity=Decimal("0.1"),
        price=Decimal(500),
        stop_price=None,
        client_order_id="by-a-person",
        now=server.now(),
    )
    server.delist("BNB/USDT")
    async with adapter_on(server) as venue:
        for _ in range(3):
            assert [shown.symbol for shown in await venue.open_orders()] == ["BNBUSDT"]
        # Once for our own, and for this one alone and then among all.
        assert server.count("GET exchangeInfo") == 3


async def test_trades_are_told_whole_though_they_come_in_pages() -> None:
    async with BinanceServer(balances={"USDT": Decimal(100_000)}) as server, adapter_on(server) as venue:
        server.move(BTC, "100")
        server.page = 1000
        server.books.parts = 700
        began = datetime.now(UTC) - timedelta(days=3)
        orders = [await venue.create_order(order(f"tb{number}", Side.BUY, 7)) for number in range(2)]
        # Older than a page, and of another day.
        for trade in server.books.trades[:700]:
            trade.at -= 2 * 86_400_000
        server.books.orders[0].at -= 2 * 86_400_000
        trades = await venue.trades(BTC, began)
        assert len(trades) == 1400
        assert len({trade.exchange_trade_id for trade in trades}) == 1400
        assert trades == sorted(trades, key=lambda trade: (trade.at, trade.exchange_trade_id))
        assert len(await venue.trades(BTC, began + timedelta(days=2))) == 700
        for placed in orders:
            mine = await venue.trades_of_order(BTC, placed.exchange_order_id)
            assert sum(trade.amount for trade in mine) == 7


async def test_the_trades_of_one_large_order_are_told_whole() -> None:
    async with BinanceServer(balances={"USDT": Decimal(100_000)}) as server, adapter_on(server) as venue:
        server.move(BTC, "100")
        server.books.parts = 1500
        bought = await venue.create_order(order("tba", Side.BUY, 15))
        for place, trade in enumerate(server.books.trades):
            trade.at += place
        trades = await venue.trades_of_order(BTC, bought.exchange_order_id)
        assert len(trades) == 1500
        assert sum(trade.amount for trade in trades) == 15


async def test_the_balances_add_up_with_the_books_of_the_exchange(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        bought = await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        (trade,) = await venue.trades_of_order(BTC, bought.exchange_order_id)
        assert trade.fee is not None
        held = trade.amount - trade.fee.amount
        stop = await venue.create_order(order("tbs", Side.SELL, "0.00054", stop="115478.82"))
        assert stop.state is ExchangeOrderState.OPEN
        server.move(BTC, "115000")
        (sale,) = await venue.trades_of_order(BTC, stop.exchange_order_id)
        assert sale.fee is not None
        told = {asset: balance.total for asset, balance in (await venue.balances()).items() if balance.total}
        assert told == server.books.totals()
        assert told["BTC"] == held - sale.amount
        assert told["USDT"] == Decimal("84.54") - bought.cost + sale.amount * sale.price - sale.fee.amount


# Keys


async def test_rotated_keys_are_used_from_the_next_request_on(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        await venue.balances()
        new = ApiKey("another-key", "another-secret")
        server.keys = {new.key: new}
        with pytest.raises(ExchangeError):
            await venue.balances()
        venue.use_keys(ExchangeKeys(new.key, new.secret))
        assert (await venue.balances())["USDT"].free == Decimal("84.54")


async def test_a_wrong_secret_is_told_without_it(server: BinanceServer) -> None:
    async with adapter_on(server, keys=ExchangeKeys(server.key.key, "a-wrong-secret")) as venue:
        report = await venue.check_account()
        assert [refusal.reason for refusal in report.refusals] == ["key_refused"]
        assert "a-wrong-secret" not in str(report)
        assert server.key.key not in str(report)


async def test_market_data_needs_no_key_and_trading_does(server: BinanceServer) -> None:
    async with adapter_on(server, without_keys=True) as venue:
        assert (await venue.ticker(BTC)).last == Decimal("121556.65")
        with pytest.raises(ExchangeError):
            await venue.balances()
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        assert refusal.value.code == "not_permitted"
        assert not any(seen.request.endswith(("order", "account")) for seen in server.seen)
        assert [refusal.reason for refusal in (await venue.check_account()).refusals] == ["no_key"]


# Before the start


async def test_a_good_key_is_accepted_with_its_account(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        report = await venue.check_account(expected_account=str(server.account_id))
        assert (report.refusals, report.notes) == ((), ())
        assert report.facts.account_id == "354937868"


async def test_what_speaks_against_a_key_is_told_at_once(server: BinanceServer) -> None:
    server.key.withdraw = True
    server.key.trade = False
    server.key.ip_restricted = False
    async with adapter_on(server) as venue:
        report = await venue.check_account(expected_account="1")
        assert [refusal.reason for refusal in report.refusals] == [
            "key_may_withdraw",
            "key_may_not_trade",
            "another_account",
        ]
        assert len(report.notes) == 1


async def test_an_unknown_key_is_refused(server: BinanceServer) -> None:
    async with adapter_on(server, keys=ExchangeKeys("no-key-of-theirs", "a-secret")) as venue:
        assert [refusal.reason for refusal in (await venue.check_account()).refusals] == ["key_refused"]


async def test_a_key_that_is_taken_away_is_refused_though_it_has_worked(server: BinanceServer) -> None:
    async with adapter_on(server) as venue:
        assert (await venue.check_account()).refusals == ()
        server.keys.clear()
        assert [refusal.reason for refusal in (await venue.check_account()).refusals] == ["key_refused"]
        with pytest.raises(ExchangeError) as failure:
            await venue.balances()
        assert type(failure.value) is ExchangeError


async def test_a_clock_that_is_far_off_is_refused(server: BinanceServer) -> None:
    server.skew = timedelta(seconds=4)
    async with adapter_on(server) as venue:
        (refusal,) = (await venue.check_account()).refusals
        assert refusal.reason == "clock_difference"
        assert "behind" in refusal.text


async def test_an_exchange_that_is_away_is_no_verdict_on_the_key(server: BinanceServer) -> None:
    server.faults.plan("GET account/apiRestrictions", Fault(FaultKind.ERROR_BEFORE, 503))
    async with adapter_on(server) as venue:
        with pytest.raises(ExchangeError):
            await venue.check_account()
        assert (await venue.check_account()).refusals == ()


async def test_a_testnet_tells_nothing_of_withdrawals() -> None:
    async with BinanceServer(testnet=True) as server, adapter_on(server, testnet=True) as venue:
        server.move(BTC, "121556.65")
        report = await venue.check_account()
        assert report.refusals == ()
        assert report.facts.may_withdraw is None
        assert "withdraw" in report.notes[0]
        bought = await venue.create_order(order("tba", Side.BUY, "0.00055", limit=121800, ioc=True))
        assert bought.state is ExchangeOrderState.CLOSED
