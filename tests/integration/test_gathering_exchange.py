"""What a reality check sees of an exchange: by a real one's protocol, at execution's page, in the books of a run."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.asking import only
from support.binance import ApiKey, BinanceServer, Fault, FaultKind
from support.binance.adapter import SkewedClock
from support.evidence import account as an_account
from support.evidence import ledger as a_ledger
from support.evidence import stop
from support.replay import SETTINGS, START, STEP, flat, order, write_bars
from support.silent_server import silent_server
from support.specs import LIVE, PAPER, REMOVED, bot_of
from tradingbot_agents.clock import Clock, VirtualClock
from tradingbot_agents.clock.system import SystemClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.symbol_rules import FeeCurrency
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import Side, floor_time
from tradingbot_agents.exchange.candle_source import find_candles
from tradingbot_agents.exchange.market_rules import load_market_rules
from tradingbot_agents.exchange.paper import PaperExchange
from tradingbot_agents.exchange.port import ExchangeOrderState
from tradingbot_agents.exchange.replay_feed import ReplayFeed
from tradingbot_agents.exchange.simulated import SimulatedExchange
from tradingbot_agents.ledger.port import Balance, Books, LedgerUnavailable
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.evidence import AccountEvidence, Known, MarketEvidence, Missing
from tradingbot_agents.runtime import gathering_exchange, paper_page
from tradingbot_agents.runtime.connections import Connections, Secret, Variable
from tradingbot_agents.runtime.gathering_exchange import (
    Address,
    account_evidence,
    account_of_bot,
    market_evidence,
    replayed_account,
    replayed_market,
    replayed_until,
    unshared,
)
from tradingbot_agents.runtime.health import HealthServer, Page
from tradingbot_agents.runtime.identity import account_key
from tradingbot_api import TradingBot

BTC, ETH, SOL = "BTC/USDT", "ETH/USDT", "SOL/USDT"
WITHIN = timedelta(seconds=20)
SHORT = timedelta(seconds=1)
NO_PAUSE = timedelta(0)
NOWHERE = Path("bot.yaml")
NO_KEYS = Connections({})


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with BinanceServer() as server:
        server.move(BTC, "121556.65")
        server.move(ETH, "4000")
        yield server


def live_bot(server: BinanceServer, **changes: Any) -> TradingBot:
    return bot_of(LIVE, exchange__endpoint=server.url, timeframe="5m", symbols=[BTC, ETH], **changes)


def seen(found: Known[Any]) -> Any:
    assert not isinstance(found, Missing), found.why
    return found


# ------------------------------------------------------------------------------------------------- the market


def bar(opened: datetime, close: int = 100, symbol: str = BTC) -> Candle:
    price = Decimal(close)
    return Candle(symbol, "5m", opened, price, price + 1, price - 1, price, Decimal("2.5"))


def in_the_middle_of_a_bar(server: BinanceServer) -> tuple[SkewedClock, datetime]:
    """So that no bar ends meanwhile; and when the current one opened."""
    now = datetime.now(UTC)
    clock = SkewedClock()
    clock.ahead = server.skew = floor_time(now, STEP) + STEP / 2 - now
    return clock, floor_time(clock.now(), STEP)


async def market_of(
    bot: TradingBot, clock: Clock, since: datetime, within: timedelta = WITHIN
) -> Known[MarketEvidence]:
    return await market_evidence(bot, NOWHERE, since=since, clock=clock, within=within)


async def test_closed_bars_of_the_window_rules_and_what_orders_it_takes(
    server: BinanceServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering_exchange, "PAGE", 3)
    clock, current = in_the_middle_of_a_bar(server)
    bars = [bar(current - place * STEP, 100 + place) for place in range(12, -1, -1)]
    server.add_candles([*bars, bar(current - STEP, 4000, ETH)])
    found = seen(await market_of(live_bot(server), clock, current - 10 * STEP))
    assert found.candles == {BTC: bars[2:-1], ETH: [bar(current - STEP, 4000, ETH)]}
    assert set(found.rules) == {BTC, ETH}
    assert found.rules[BTC].min_notional == 5
    assert found.capabilities.stop_limit
    assert current < found.read_at <= clock.now()
    assert not any(request.request in ("GET account", "GET openOrders") for request in server.seen)
    assert not any("signature" in request.params for request in server.seen)


async def test_bars_are_bounded(server: BinanceServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering_exchange, "MOST", 4)
    clock, current = in_the_middle_of_a_bar(server)
    server.add_candles(bar(current - place * STEP) for place in range(50))
    found = seen(await market_of(live_bot(server), clock, current - 40 * STEP))
    assert [each.open_time for each in found.candles[BTC]] == [current - place * STEP for place in (3, 2, 1)]


@pytest.mark.parametrize("ahead", [-90, 90])
async def test_the_exchanges_clock_is_told_against_ours(server: BinanceServer, ahead: int) -> None:
    server.skew = timedelta(seconds=ahead)
    found = seen(await market_of(live_bot(server), SkewedClock(), datetime.now(UTC)))
    assert abs(found.clock_offset - server.skew) < timedelta(seconds=2)
    words = "ahead of" if ahead > 0 else "behind"
    status, told = only("agents.clock", market=found)
    assert (status, told.endswith(f" s {words} ours")) == (Status.FAILED, True)


async def test_a_symbol_that_is_not_listed_is_not_among_them(server: BinanceServer) -> None:
    server.delist(ETH)
    found = seen(await market_of(live_bot(server), SkewedClock(), datetime.now(UTC)))
    assert (set(found.rules), set(found.candles)) == ({BTC}, {BTC})
    server.delist(BTC)
    missing = await market_of(live_bot(server), SkewedClock(), datetime.now(UTC))
    assert isinstance(missing, Missing)
    assert "BTC/USDT, ETH/USDT: not listed on binance" in missing.why


async def test_paper_on_a_real_market_has_the_fees_of_the_paper_exchange(server: BinanceServer) -> None:
    bot = live_bot(
        server,
        mode="paper",
        liveConfirmation=REMOVED,
        exchange__credentialsSecretRef=REMOVED,
        exchange__simulated={"fees": {"maker": "0.0002", "taker": "0.0004"}, "feeCurrency": "quote"},
        account__paperBalances={"USDT": "1000"},
    )
    fees = seen(await market_of(bot, SkewedClock(), datetime.now(UTC))).rules[BTC].fees
    assert (fees.maker, fees.taker, fees.currency) == (Decimal("0.0002"), Decimal("0.0004"), FeeCurrency.QUOTE)


async def test_an_exchange_that_is_away_fails_or_is_silent_is_missing_in_time(server: BinanceServer) -> None:
    bot = live_bot(server)
    server.faults.plan("GET klines", Fault(FaultKind.ERROR_BEFORE, 503))
    found = await market_of(bot, SkewedClock(), datetime.now(UTC) - STEP)
    assert isinstance(found, Missing)
    assert found.wanted
    assert found.why.startswith("binance could not be asked: ")
    await server.stop()
    found = await market_of(bot, SkewedClock(), datetime.now(UTC))
    assert isinstance(found, Missing)
    async with silent_server() as silent:
        began = time.monotonic()
        bot = bot_of(LIVE, exchange__endpoint=f"http://127.0.0.1:{silent.port}")
        found = await market_of(bot, SkewedClock(), datetime.now(UTC), SHORT)
        assert time.monotonic() - began < 4
    assert isinstance(found, Missing)


async def test_an_exchange_that_nobody_knows_is_missing() -> None:
    bot = bot_of(LIVE)
    bot = msgspec.structs.replace(
        bot,
        spec=msgspec.structs.replace(bot.spec, exchange=msgspec.structs.replace(bot.spec.exchange, name="nowhere")),
    )
    found = await market_of(bot, SkewedClock(), datetime.now(UTC))
    assert isinstance(found, Missing)
    assert "nowhere" in found.why


async def test_a_tape_is_read_as_the_bot_hears_it(tmp_path: Path) -> None:
    clock = VirtualClock(datetime(2026, 3, 1, 12, 2, 30, tzinfo=UTC))
    spec_file, bot = replayed_spec(tmp_path)
    since = clock.now() - 7 * STEP
    found = seen(await market_evidence(bot, spec_file, since=since, clock=clock, within=WITHIN))
    source = find_candles(tmp_path / "candles", [BTC], "5m")
    heard = ReplayFeed(source=source, rules=load_market_rules(), clock=clock, history=50)
    assert found.candles == {BTC: await heard.candles(BTC, "5m", since=since)}
    assert len(found.candles[BTC]) == 6
    assert found.clock_offset is None
    assert found.capabilities.stop_market
    (tmp_path / "candles" / "BTC_USDT-5m.csv").unlink()
    missing = await market_evidence(bot, spec_file, since=since, clock=clock, within=WITHIN)
    assert isinstance(missing, Missing)
    assert "no file is BTC/USDT 5m" in missing.why


# ------------------------------------------------------------------------------------------- the account, by key


class Ledger:
    """Books that may change with each look."""

    def __init__(self, *live: Order, changes: int = 0, traded: Sequence[str] = ()) -> None:
        self._live = live
        self._changes = changes
        self._traded = traded
        self.looks = 0

    async def __call__(self) -> Ledger:
        return self

    async def account_books(self) -> Books:
        self.looks += 1
        usdt = Balance(asset="USDT", total=Decimal(1), reserved=Decimal(0), outside_holds=Decimal(0))
        return Books(
            opened_at=START,
            newest_entry=min(self.looks, self._changes),
            newest_at=START,
            balances={"USDT": usdt},
            live=self._live,
        )

    async def symbols_traded(self, since: datetime) -> list[str]:
        return list(self._traded)


async def no_ledger() -> Ledger:
    raise LedgerUnavailable("the database does not answer")


def connections(key: ApiKey) -> Connections:
    return Connections({Variable.EXCHANGE_API_KEY: Secret(key.key), Variable.EXCHANGE_SECRET: Secret(key.secret)})


async def account_of(
    bot: TradingBot,
    given: Connections,
    ledger: Callable[[], Awaitable[Ledger]],
    *,
    execution: Callable[[], Awaitable[Address]] | None = None,
    since: datetime | None = None,
    within: timedelta = WITHIN,
) -> Known[AccountEvidence]:
    return await account_evidence(
        account_of_bot(bot, given, execution),
        ledger,
        since=since or datetime.now(UTC) - timedelta(hours=1),
        clock=SystemClock(),
        within=within,
        pause=NO_PAUSE,
    )


def place(server: BinanceServer, symbol: str, side: str, amount: str, price: str, name: str) -> None:
    server.books.place(
        symbol=symbol,
        side=side,
        type="LIMIT",
        time_in_force="GTC",
        quantity=Decimal(amount),
        price=Decimal(price),
        stop_price=None,
        client_order_id=name,
        now=server.now(),
    )


async def test_balances_open_orders_trades_and_what_became_of_a_live_order(server: BinanceServer) -> None:
    server.key.trade = False
    place(server, "BTCUSDT", "BUY", "0.0002", "122000", "tb-bought")
    place(server, "ETHUSDT", "BUY", "0.005", "3000", "tb-rests")
    place(server, "BTCUSDT", "BUY", "0.0002", "100000", "tb-cancelled")
    server.books.cancel("BTCUSDT", None, "tb-cancelled", server.now())
    named = {name: str(server.books.orders_of(name)[0].id) for name in ("tb-rests", "tb-cancelled")}
    ledger = Ledger(
        stop("tb-another-name", symbol=ETH, exchange_order_id=named["tb-rests"]),
        stop("tb-cancelled", exchange_order_id=named["tb-cancelled"]),
        stop("tb-never", exchange_order_id=None),
    )
    found = seen(await account_of(live_bot(server), connections(server.key), ledger))
    assert {asset: each.total for asset, each in found.balances.items() if each.total} == server.books.totals()
    assert found.balances["USDT"].used == 15
    assert [each.client_order_id for each in found.open_orders] == ["tb-rests"]
    assert {name: each and each.state for name, each in found.looked_up.items()} == {
        "tb-cancelled": ExchangeOrderState.CANCELLED,
        "tb-never": None,
    }
    (trade,) = found.trades
    assert (trade.symbol, trade.amount, trade.price) == (BTC, Decimal("0.0002"), Decimal("121556.65"))
    assert ledger.looks == 2
    assert not any(request.request in ("POST order", "DELETE order") for request in server.seen)


async def test_an_order_by_hand_without_a_name_hides_none_that_was_never_confirmed(server: BinanceServer) -> None:
    place(server, "ETHUSDT", "BUY", "0.005", "3000", "by-hand")
    # Not of Binance, but other exchanges tell none.
    server.books.orders_of("by-hand")[0].client_order_id = ""
    found = seen(
        await account_of(live_bot(server), connections(server.key), Ledger(stop("tb-never", exchange_order_id=None)))
    )
    assert [each.client_order_id for each in found.open_orders] == [None]
    assert found.looked_up == {"tb-never": None}


async def test_trades_are_those_of_the_window_in_all_symbols_of_the_account(server: BinanceServer) -> None:
    server.move(SOL, "100")
    for symbol, amount, price in (("BTCUSDT", "0.0002", "122000"), ("SOLUSDT", "0.1", "100")):
        place(server, symbol, "BUY", amount, price, f"tb-{symbol}")
    place(server, "ETHUSDT", "BUY", "0.002", "4000", "tb-early")
    server.books.trades[-1].at -= 7_200_000
    bot = live_bot(server)
    found = seen(await account_of(bot, connections(server.key), Ledger(traded=[SOL])))
    assert {trade.symbol for trade in found.trades} == {BTC, SOL}
    server.delist("SOL/USDT")
    # What can not be asked for any more does not hide the rest.
    found = seen(await account_of(bot, connections(server.key), Ledger(traded=[SOL])))
    assert {trade.symbol for trade in found.trades} == {BTC}


async def test_it_is_looked_at_anew_until_the_ledger_stands_still(server: BinanceServer) -> None:
    calm, restless = Ledger(changes=4), Ledger(changes=1000)
    seen(await account_of(live_bot(server), connections(server.key), calm))
    assert calm.looks == 6
    found = await account_of(live_bot(server), connections(server.key), restless)
    assert restless.looks == 2 * gathering_exchange.ROUNDS
    status, told = only("positions.holdings", account=found)
    assert (status, "can not be compared" in told) == (Status.UNKNOWN, True)


async def test_without_a_key_it_was_not_asked_for(server: BinanceServer) -> None:
    for bot in (live_bot(server), live_bot(server, mode="testnet", liveConfirmation=REMOVED)):
        found = await account_of(bot, NO_KEYS, no_ledger)
        assert isinstance(found, Missing)
        assert not found.wanted
        assert "realityCheck.credentialsSecretRef" in found.why
    assert server.seen == []


async def test_a_key_that_is_refused_is_told_without_it(
    server: BinanceServer, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    stranger = ApiKey("a-key-of-a-stranger", "a-secret-of-a-stranger")
    for key in (stranger, ApiKey(server.key.key, "a-secret-of-a-stranger")):
        found = await account_of(live_bot(server), connections(key), Ledger())
        assert isinstance(found, Missing)
        assert found.wanted
        assert "the exchange does not accept the key" in found.why
        told = capsys.readouterr()
        for text in (found.why, caplog.text, told.out, told.err):
            assert not any(secret in text for secret in (key.key, key.secret, server.key.secret))


async def test_a_key_that_may_do_more_than_read_is_told(
    server: BinanceServer, capsys: pytest.CaptureFixture[str]
) -> None:
    server.key.withdraw = True
    seen(await account_of(live_bot(server), connections(server.key), Ledger()))
    told = capsys.readouterr().out
    assert "the key of the reality check may trade: give it one that may only read" in told
    assert "the key of the reality check may withdraw" in told
    assert server.key.key not in told
    server.key.withdraw = server.key.trade = False
    seen(await account_of(live_bot(server), connections(server.key), Ledger()))
    assert "may" not in capsys.readouterr().out


async def test_a_key_that_was_exchanged_is_used_at_the_next_look(server: BinanceServer, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("an-old-one")
    given = Connections(
        {Variable.EXCHANGE_API_KEY: Secret(server.key.key), Variable.EXCHANGE_SECRET: Secret("an-old-one", file)}
    )
    assert isinstance(await account_of(live_bot(server), given, Ledger()), Missing)
    file.write_text(server.key.secret)
    seen(await account_of(live_bot(server), given, Ledger()))


async def test_an_account_that_can_not_be_asked_is_missing_in_time(server: BinanceServer) -> None:
    bot, given = live_bot(server), connections(server.key)
    found = await account_of(bot, given, no_ledger)
    assert isinstance(found, Missing)
    assert found.why == "the ledger could not be read, to compare binance with it: the database does not answer"
    server.faults.plan("GET openOrders", Fault(FaultKind.ERROR_BEFORE, 503))
    found = await account_of(bot, given, Ledger())
    assert isinstance(found, Missing)
    server.faults.plan("GET openOrders", Fault(FaultKind.HANG_BEFORE))
    began = time.monotonic()
    found = await account_of(bot, given, Ledger(), within=SHORT)
    assert time.monotonic() - began < 4
    assert isinstance(found, Missing)
    assert "signature" not in found.why


async def test_who_cancels_is_obeyed(server: BinanceServer) -> None:
    async with silent_server() as silent:
        bot = bot_of(LIVE, exchange__endpoint=f"http://127.0.0.1:{silent.port}")
        looking = asyncio.create_task(account_of(bot, connections(server.key), Ledger()))
        await silent.called.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking


# --------------------------------------------------------------------------------------------- the paper account


class NoMarket:
    """Nothing rests that would need a price."""

    async def market_rules(self, symbols: Sequence[str]) -> dict[str, Any]:
        found = load_market_rules()
        return {symbol: found[symbol] for symbol in symbols}

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        return [bar(START, symbol=symbol)]

    async def ticker(self, symbol: str) -> Ticker:
        return Ticker(symbol, Decimal(100), START + STEP)


PAPER_BOT = bot_of(PAPER)


@asynccontextmanager
async def execution(
    folder: Path, pages: dict[str, Any] | None = None
) -> AsyncIterator[tuple[PaperExchange, Address]]:
    """Its paper exchange, and its page."""
    venue = PaperExchange.open(
        folder,
        account=f"{account_key(PAPER_BOT)}, bot {PAPER_BOT.metadata.name}",
        feed=NoMarket(),
        timeframe="5m",
        clock=VirtualClock(START + STEP),
        settings=SETTINGS,
    )
    asked = {paper_page.PATH: lambda query: paper_page.answer(venue, query)} if pages is None else pages
    listening = HealthServer({"/live": lambda: Page(200, b"alive\n")}, asked)
    port = await listening.start("127.0.0.1", 0)
    try:
        yield venue, ("127.0.0.1", port)
    finally:
        await listening.stop()
        venue.close()


def at(address: Address) -> Callable[[], Awaitable[Address]]:
    async def told() -> Address:
        return address

    return told


async def test_the_paper_exchange_is_asked_at_executions_page(tmp_path: Path) -> None:
    async with execution(tmp_path) as (venue, address):
        await venue.market_rules([BTC])
        await venue.create_order(order("tb-entry", Side.BUY, 1))
        await venue.create_order(order("tb-stop", Side.SELL, "0.5", stop=90))
        await venue.create_order(order("tb-gone", Side.SELL, "0.1", stop=90))
        await venue.cancel_order(BTC, "tb-gone")
        ledger = Ledger(stop("tb-stop"), stop("tb-gone"), stop("tb-never"))
        found = seen(await account_of(PAPER_BOT, NO_KEYS, ledger, execution=at(address), since=START))
        assert found.balances == await venue.balances()
        assert found.balances["BTC"].used == Decimal("0.5")
        assert list(found.open_orders) == await venue.open_orders()
        assert list(found.trades) == venue.all_trades()
        assert {name: each and each.state for name, each in found.looked_up.items()} == {
            "tb-gone": ExchangeOrderState.CANCELLED,
            "tb-never": None,
        }
        assert found.trades_since == START


async def test_of_many_orders_those_that_are_not_open_are_looked_up(tmp_path: Path) -> None:
    many = [f"tb-{number}" for number in range(paper_page.MOST_ORDERS)]
    async with execution(tmp_path) as (venue, address):
        await venue.market_rules([BTC])
        for name in many:
            await venue.create_order(order(name, Side.BUY, 1, limit=10))
        await venue.create_order(order("tb-gone", Side.BUY, 1, limit=10))
        await venue.cancel_order(BTC, "tb-gone")
        ledger = Ledger(*(stop(name) for name in [*many, "tb-gone", "tb-never"]))
        found = seen(await account_of(PAPER_BOT, NO_KEYS, ledger, execution=at(address), since=START))
    assert len(found.open_orders) == len(many)
    assert {name: each and each.state for name, each in found.looked_up.items()} == {
        "tb-gone": ExchangeOrderState.CANCELLED,
        "tb-never": None,
    }


async def test_a_page_that_says_something_else_is_missing_with_what_it_says(tmp_path: Path) -> None:
    answers = {
        "says 503: not open yet": Page(503, b"not open yet\n"),
        "the books are of version 2": Page(200, b'{"version": 2}'),
        "the books are not understood": Page(200, b"<html>"),
        "are longer than": Page(200, b" " * (2**23 + 1)),
    }
    for words, page in answers.items():
        async with execution(tmp_path, {paper_page.PATH: lambda query, page=page: page}) as (_, address):
            found = await account_of(PAPER_BOT, NO_KEYS, Ledger(), execution=at(address))
            assert isinstance(found, Missing)
            assert found.wanted
            assert words in found.why
    async with execution(tmp_path, {}) as (_, address):
        found = await account_of(PAPER_BOT, NO_KEYS, Ledger(), execution=at(address))
        assert isinstance(found, Missing)
        assert "says 404: there is /live" in found.why


async def test_another_bots_books_are_not_taken_for_this_ones(tmp_path: Path) -> None:
    other = msgspec.structs.replace(PAPER_BOT, metadata=msgspec.structs.replace(PAPER_BOT.metadata, name="other"))
    async with execution(tmp_path) as (_, address):
        found = await account_of(other, NO_KEYS, Ledger(), execution=at(address))
    assert isinstance(found, Missing)
    assert f"has the books of {account_key(PAPER_BOT)}, bot paper" in found.why


async def test_an_execution_that_is_away_or_silent_or_nowhere_is_missing() -> None:
    found = await account_of(PAPER_BOT, NO_KEYS, Ledger(), execution=at(("127.0.0.1", 1)))
    assert isinstance(found, Missing)
    assert "execution does not answer at 127.0.0.1:1" in found.why
    async with silent_server() as silent:
        began = time.monotonic()
        found = await account_of(PAPER_BOT, NO_KEYS, Ledger(), execution=at(("127.0.0.1", silent.port)), within=SHORT)
        assert time.monotonic() - began < 4
    assert isinstance(found, Missing)
    found = await account_of(PAPER_BOT, NO_KEYS, Ledger())
    assert isinstance(found, Missing)
    assert (found.wanted, "--agent execution=HOST:PORT" in found.why) == (False, True)


def test_a_paper_account_that_bots_share_is_not_judged_by_the_books_of_one() -> None:
    alone, shared = a_ledger(bots=("paper",)), a_ledger(bots=("other", "paper"))
    account = an_account()
    assert unshared(PAPER_BOT, account, alone) is account
    assert unshared(bot_of(LIVE), account, shared) is account
    assert unshared(PAPER_BOT, account, Missing("away")) is account
    found = unshared(PAPER_BOT, account, shared)
    assert isinstance(found, Missing)
    assert (found.wanted, "shared with other," in found.why) == (False, True)
    missing = Missing("away")
    assert unshared(PAPER_BOT, missing, shared) is missing


# ----------------------------------------------------------------------------------------------- a tradingbot run


def replayed_spec(folder: Path, bars: int = 10) -> tuple[Path, TradingBot]:
    bot = bot_of(PAPER, timeframe="5m")
    spec_file = folder / "bot.yaml"
    (folder / "candles").mkdir()
    write_bars(folder / "candles", BTC, [flat(100 + number) for number in range(bars)])
    return spec_file, bot


class Run:
    """What ``tradingbot run`` leaves of its simulated exchange."""

    def __init__(self, folder: Path) -> None:
        self.spec_file, self.bot = replayed_spec(folder)
        self.data_dir = folder / "data"
        self.clock = VirtualClock(START)
        self.venue = SimulatedExchange.open(
            self.data_dir / "exchange",
            source=find_candles(folder / "candles", [BTC], "5m"),
            rules=load_market_rules(),
            clock=self.clock,
            seed=1,
            settings=SETTINGS,
        )

    async def play(self, bars: int) -> None:
        self.clock.advance_to(START + bars * STEP)
        await self.venue.ticker(BTC)

    async def market(self, since: datetime = START, candles: Path | None = None) -> Known[MarketEvidence]:
        return await replayed_market(
            self.data_dir, self.bot, self.spec_file, since=since, clock=self.clock, within=WITHIN, candles=candles
        )

    async def account(self, ledger: Callable[[], Awaitable[Ledger]]) -> Known[AccountEvidence]:
        return await replayed_account(
            self.data_dir, ledger, since=START, clock=self.clock, within=WITHIN, pause=NO_PAUSE
        )


async def test_the_market_of_a_run_is_as_old_as_its_exchange(tmp_path: Path) -> None:
    run = Run(tmp_path)
    try:
        assert replayed_until(run.data_dir) is None
        assert seen(await run.market()).candles == {BTC: []}
        await run.play(6)
        assert replayed_until(run.data_dir) == START + 6 * STEP
        found = seen(await run.market(START + 2 * STEP))
        assert [int(each.close) for each in found.candles[BTC]] == [102, 103, 104, 105]
        assert found.candles == {BTC: await run.venue.candles(BTC, "5m", since=START + 2 * STEP)}
        assert (set(found.rules), found.clock_offset, found.read_at) == ({BTC}, None, START + 6 * STEP)
        assert found.capabilities == SETTINGS.capabilities
    finally:
        run.venue.close()


async def test_the_account_of_a_run_is_in_its_exchanges_books(tmp_path: Path) -> None:
    run = Run(tmp_path)
    try:
        await run.play(1)
        await run.venue.create_order(order("tb-entry", Side.BUY, 1))
        await run.venue.create_order(order("tb-stop", Side.SELL, "0.5", stop=50))
        ledger = Ledger(stop("tb-entry"), stop("tb-stop"))
        found = seen(await run.account(ledger))
        assert found.balances == await run.venue.balances()
        assert [each.client_order_id for each in found.open_orders] == ["tb-stop"]
        assert list(found.looked_up) == ["tb-entry"]
        assert list(found.trades) == run.venue.all_trades()
    finally:
        run.venue.close()
    assert seen(await run.account(ledger)) == found, "when it has ended, too"


async def test_a_run_of_other_candles_or_none_is_missing(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.venue.close()
    (tmp_path / "others").mkdir()
    write_bars(tmp_path / "others", BTC, [flat(7)])
    found = await run.market(candles=tmp_path / "others")
    assert isinstance(found, Missing)
    assert "plays other candles" in found.why
    assert isinstance(await run.market(candles=tmp_path / "candles"), MarketEvidence)
    run.data_dir = tmp_path / "nothing"
    for missing in (await run.market(), await run.account(Ledger())):
        assert isinstance(missing, Missing)
        assert "there are no books of a simulated exchange" in missing.why
