"""The paper exchange: real prices as they come, and orders that are matched with nothing that was before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.execution import stop_order
from support.replay import SETTINGS, START, order
from support.venue_contract import (
    BTC,
    BUY,
    CANCELLED,
    CLOSED,
    OPEN,
    SELL,
    OpenVenue,
    Price,
    VenueContract,
    VenueUnderTest,
    d,
)
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.exchange.market_rules import load_market_rules, rules_of
from tradingbot_agents.exchange.paper import PAGE, PaperExchange
from tradingbot_agents.exchange.port import ExchangeError, NotListed, OrderRejected, TradingVenue
from tradingbot_agents.exchange.state import ExchangeStateError, ExchangeStateInUse

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
ETH = "ETH/USDT"


class Feed:
    """A real exchange's market as the test writes it. Bars show when they have closed."""

    def __init__(self, clock: VirtualClock) -> None:
        self._clock = clock
        self.bars: dict[str, list[Candle]] = {BTC: [], ETH: []}
        self.price: dict[str, Decimal] = {}
        self.away = False
        self.asked: list[str] = []

    def add(self, *bars: tuple[object, object, object, object], volume: object = 1000, symbol: str = BTC) -> None:
        """Bars of a minute, each after the one before: open, high, low, close."""
        known = self.bars[symbol]
        for prices in bars:
            opened = known[-1].close_time if known else START
            known.append(Candle(symbol, "1m", opened, *(d(number) for number in (*prices, volume))))

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        self._ask("rules")
        if missing := [symbol for symbol in symbols if symbol not in self.bars]:
            raise NotListed(missing, "the feed")
        return rules_of(load_market_rules(), symbols, None)

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        self._ask("candles")
        assert timeframe == "1m"
        closed = [bar for bar in self.bars[symbol] if bar.close_time <= self._clock.now()]
        if since is None:
            return closed[-limit:]
        return [bar for bar in closed if bar.open_time >= since][:limit]

    async def ticker(self, symbol: str) -> Ticker:
        self._ask("ticker")
        closed = [bar for bar in self.bars[symbol] if bar.close_time <= self._clock.now()]
        return Ticker(symbol, self.price.get(symbol, closed[-1].close), self._clock.now())

    def _ask(self, what: str) -> None:
        self.asked.append(what)
        if self.away:
            raise ExchangeError("no answer")


class Paper:
    """A paper exchange, its clock and its market; ``open`` again is what a new process finds."""

    opened: list[PaperExchange]

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.clock = VirtualClock(START)
        self.feed = Feed(self.clock)
        self.settings = msgspec.structs.replace(SETTINGS, **settings)
        self.opened = []

    async def open(self, account: str = "paper/binance/main, bot a", folder: str = "paper") -> PaperExchange:
        self.venue = PaperExchange.open(
            self.folder / folder,
            account=account,
            feed=self.feed,
            timeframe="1m",
            clock=self.clock,
            settings=self.settings,
        )
        self.opened.append(self.venue)
        return self.venue

    async def killed(self) -> PaperExchange:
        """What is in memory is gone."""
        self.venue.close()
        return await self.open()

    def at(self, minutes: int, seconds: int = 0) -> None:
        self.clock.advance_to(START + minutes * MINUTE + seconds * SECOND)

    def close(self) -> None:
        for venue in self.opened:
            venue.close()


@pytest.fixture
def paper(tmp_path: Path) -> Iterator[Paper]:
    paper = Paper(tmp_path)
    yield paper
    paper.close()


async def opened(paper: Paper, *bars: tuple[object, object, object, object]) -> PaperExchange:
    """After one bar at 100, with 1 BTC less its fee; then ``bars`` come."""
    paper.feed.add((100, 100, 100, 100), *bars)
    paper.at(1)
    venue = await paper.open()
    await venue.market_rules([BTC])
    await venue.create_order(order("tb-entry", BUY, 1))
    return venue


# ------------------------------------------------------------------------------------------------- the contract


class PaperUnderTest:
    def __init__(self, paper: Paper, venue: PaperExchange) -> None:
        self._paper = paper
        self._minutes = 1
        self.venue: TradingVenue = venue

    async def next_price(self) -> None:
        self._minutes += 1
        self._paper.at(self._minutes)


class TestPaperExchangeKeepsTheContract(VenueContract):
    @pytest.fixture
    def open_venue(self, paper: Paper) -> OpenVenue:
        async def open_venue(prices: Sequence[Price]) -> VenueUnderTest:
            for price, volume in prices:
                paper.feed.add((price, price, price, price), volume=volume)
            paper.at(1)
            venue = await paper.open()
            await venue.market_rules([BTC])
            return PaperUnderTest(paper, venue)

        return open_venue


# --------------------------------------------------------------------------------------- only what comes after


async def test_an_order_that_takes_is_filled_at_the_price_of_now_and_not_at_the_last_bars(paper: Paper) -> None:
    paper.feed.add((100, 100, 100, 100))
    paper.at(1, 40)
    venue = await paper.open()
    await venue.market_rules([BTC])
    paper.feed.price[BTC] = d(103)
    bought = await venue.create_order(order("tb-a", BUY, 1))
    assert (bought.state, bought.cost) == (CLOSED, 103)


async def test_a_low_before_the_order_does_not_set_off_its_stop(paper: Paper) -> None:
    """Of the bar in which the order came the close alone is known to be after it."""
    venue = await opened(paper, (100, 101, 90, 100), (100, 101, 99, 100))
    paper.at(1, 30)
    paper.feed.price[BTC] = d(100)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    paper.at(3)
    found = await venue.order_by_client_id(BTC, "tb-stop")
    assert found is not None
    assert found.state is OPEN


async def test_a_close_after_the_order_does(paper: Paper) -> None:
    venue = await opened(paper, (100, 101, 90, 94))
    paper.at(1, 30)
    paper.feed.price[BTC] = d(100)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    paper.at(2)
    found = await venue.order_by_client_id(BTC, "tb-stop")
    assert found is not None
    assert (found.state, found.cost) == (CLOSED, 47)


async def test_a_whole_bar_after_the_order_sets_off_its_stop_at_the_stop(paper: Paper) -> None:
    venue = await opened(paper, (100, 100, 100, 100), (100, 101, 90, 100))
    paper.at(1, 30)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    paper.at(3)
    found = await venue.order_by_client_id(BTC, "tb-stop")
    assert found is not None
    assert (found.state, found.cost) == (CLOSED, d("47.5"))


async def test_a_price_that_is_asked_for_between_two_bars_reaches_what_rests(paper: Paper) -> None:
    venue = await opened(paper)
    await venue.create_order(order("tb-stop", SELL, "0.4", stop=95))
    await venue.create_order(order("tb-target", SELL, "0.4", limit=110))
    paper.at(1, 10)
    paper.feed.price[BTC] = d(96)
    assert (await venue.ticker(BTC)).last == 96
    assert len(await venue.open_orders()) == 2
    paper.feed.price[BTC] = d(94)
    await venue.ticker(BTC)
    (left,) = await venue.open_orders()
    assert left.client_order_id == "tb-target"
    (trade,) = await venue.trades_of_order(
        BTC, "".join(o.exchange_order_id for o in [await _found(venue, "tb-stop")])
    )
    assert (trade.price, trade.amount, trade.at) == (94, d("0.4"), START + MINUTE + 10 * SECOND)


async def _found(venue: PaperExchange, client_order_id: str) -> Any:
    found = await venue.order_by_client_id(BTC, client_order_id)
    assert found is not None
    return found


async def test_slippage_and_the_share_of_a_bars_volume_hold_for_prices_between_bars_too(tmp_path: Path) -> None:
    paper = Paper(tmp_path, participation=d("0.1"), slippage=d("0.05"))
    try:
        paper.feed.add((100, 120, 80, 100), volume=10)
        paper.at(1)
        venue = await paper.open()
        await venue.market_rules([BTC])
        bought = await venue.create_order(order("tb-entry", BUY, 3, limit=110, ioc=True))
        assert bought.filled == 1, "a tenth of the bar's volume"
        assert 100 < bought.cost <= 105
        await venue.create_order(order("tb-stop", SELL, "0.9", stop=95))
        paper.at(1, 20)
        paper.feed.price[BTC] = d(90)
        await venue.ticker(BTC)
        assert (await _found(venue, "tb-stop")).filled == 0, "of that bar nothing is left"
        paper.feed.add((90, 95, 85, 90), volume=10)
        paper.at(2)
        sold = await _found(venue, "tb-stop")
        assert (sold.state, sold.filled) == (CLOSED, d("0.9"))
        assert d("0.9") * 85 <= sold.cost < d("0.9") * 90
    finally:
        paper.close()


# ------------------------------------------------------------------------------------------ kills and restarts


async def test_what_rests_is_matched_with_the_bars_that_nobody_saw(paper: Paper) -> None:
    """A real exchange does not wait for us either."""
    quiet = [(100, 101, 99, 100)] * (PAGE + 10)
    venue = await opened(paper, *quiet, (100, 100, 94, 97), *quiet)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    paper.at(3)
    assert (await _found(venue, "tb-stop")).state is OPEN
    paper.at(2 * PAGE + 22)
    again = await paper.killed()
    sold = await _found(again, "tb-stop")
    assert (sold.state, sold.cost) == (CLOSED, d("47.5"))
    (trade,) = await again.trades_of_order(BTC, sold.exchange_order_id)
    assert trade.at == START + (PAGE + 12) * MINUTE


async def test_a_bar_that_filled_in_part_fills_no_more_after_a_kill(tmp_path: Path) -> None:
    paper = Paper(tmp_path, participation=d("0.1"))
    try:
        paper.feed.add((100, 100, 100, 100))
        paper.feed.add((100, 100, 90, 95), volume=2)
        paper.at(1)
        venue = await paper.open()
        await venue.market_rules([BTC])
        await venue.create_order(order("tb-entry", BUY, 1))
        await venue.create_order(order("tb-stop", SELL, "0.9", stop=95))
        paper.at(2)
        assert (await _found(venue, "tb-stop")).filled == d("0.2")
        for _ in range(3):
            venue = await paper.killed()
            assert (await _found(venue, "tb-stop")).filled == d("0.2")
        await venue.ticker(BTC)
        assert (await _found(venue, "tb-stop")).filled == d("0.2"), "nor by a price of that bar's time"
        paper.feed.add((95, 95, 95, 95), volume=100)
        paper.at(3)
        assert (await _found(venue, "tb-stop")).state is CLOSED
        assert sum(trade.amount for trade in venue.all_trades() if trade.side is SELL) == d("0.9")
    finally:
        paper.close()


async def test_books_are_there_again_and_ids_go_on(paper: Paper) -> None:
    venue = await opened(paper)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    before = await venue.balances()
    again = await paper.killed()
    assert await again.balances() == before
    assert [found.client_order_id for found in await again.open_orders()] == ["tb-stop"]
    third = await again.create_order(order("tb-target", SELL, "0.1", limit=120))
    assert int(third.exchange_order_id) == int((await _found(again, "tb-stop")).exchange_order_id) + 1


async def test_what_rested_in_books_that_were_lost_counts_as_cancelled_once(paper: Paper) -> None:
    venue = await opened(paper)
    known = await venue.create_order(order("tb-known", SELL, "0.5", stop=95))
    lost = stop_order(client_order_id="tb-lost", symbol=BTC, filled=d("0.1"), exchange_order_id="17")
    assert venue.give_up(lost)
    found = await _found(venue, "tb-lost")
    assert (found.state, found.amount, found.filled) == (CANCELLED, lost.amount, d("0.1"))
    for _ in range(2):
        assert not venue.give_up(lost)
        assert not venue.give_up(stop_order(client_order_id="tb-known", symbol=BTC))
        venue = await paper.killed()
    assert [each.client_order_id for each in await venue.open_orders()] == [known.client_order_id]


async def test_a_start_does_not_ask_for_bars_that_were_played_long_ago(paper: Paper) -> None:
    venue = await opened(paper, *[(100, 101, 99, 100)] * 6000)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    for hours in range(1, 80):
        paper.at(60 * hours)
        await venue.open_orders()
    paper.feed.asked.clear()
    again = await paper.killed()
    paper.at(60 * 80)
    await again.open_orders()
    assert paper.feed.asked == ["candles"], "one page"


async def test_books_of_two_bots_and_new_books_of_one_never_share_an_id(paper: Paper) -> None:
    """The ledger of their account counts a trade once by its id."""
    ids = set()
    paper.feed.add((100, 100, 100, 100))
    paper.at(1)
    for place, account in (("a", "main, bot a"), ("b", "main, bot b"), ("a-anew", "main, bot a")):
        venue = await paper.open(account, place)
        await venue.market_rules([BTC])
        bought = await venue.create_order(order("tb-entry", BUY, 1))
        ids.add(bought.exchange_order_id)
        paper.at(2)
    assert len(ids) == 3


async def test_the_books_of_another_bot_are_refused_and_those_in_use_waited_for(paper: Paper) -> None:
    first = await paper.open()
    with pytest.raises(ExchangeStateInUse, match="wait for it to end"):
        await paper.open()
    first.close()
    with pytest.raises(ExchangeStateError, match=r"has the books of paper/binance/main, bot a, and not of .* bot b"):
        await paper.open("paper/binance/main, bot b")


# ----------------------------------------------------------------------------------------------- what it asks


async def test_nothing_is_asked_of_the_market_while_nothing_rests(paper: Paper) -> None:
    venue = await opened(paper, *[(100, 101, 99, 100)] * 100)
    paper.feed.asked.clear()
    for minute in range(2, 60):
        paper.at(minute)
        await venue.balances()
        await venue.open_orders()
        await venue.order_by_client_id(BTC, "tb-entry")
        await venue.trades(BTC, START)
    assert paper.feed.asked == []


async def test_a_bar_that_is_not_told_of_yet_is_asked_for_again_after_a_pause(paper: Paper) -> None:
    venue = await opened(paper)
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    paper.feed.asked.clear()
    paper.at(2)
    for _ in range(10):
        await venue.open_orders()
    assert paper.feed.asked == ["candles"]
    paper.feed.add((100, 100, 94, 97))
    paper.at(2, 2)
    assert await venue.open_orders() == []
    assert paper.feed.asked == ["candles"] * 2


async def test_an_exchange_that_is_away_takes_no_order_and_tells_no_state(paper: Paper) -> None:
    venue = await opened(paper, (100, 100, 94, 97))
    await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
    paper.at(2)
    paper.feed.away = True
    with pytest.raises(OrderRejected) as refused:
        await venue.create_order(order("tb-b", SELL, "0.4"))
    assert refused.value.code == "exchange_away"
    for question in (
        venue.order_by_client_id(BTC, "tb-stop"),
        venue.open_orders(),
        venue.cancel_order(BTC, "tb-stop"),
        venue.ticker(BTC),
        venue.trades(BTC, START),
    ):
        with pytest.raises(ExchangeError, match="no answer"):
            await question
    paper.feed.away = False
    assert (await _found(venue, "tb-stop")).state is CLOSED
    assert await venue.order_by_client_id(BTC, "tb-b") is None


async def test_rules_are_the_feeds_with_the_fees_of_the_settings_and_outlive_a_delisting(tmp_path: Path) -> None:
    fees = msgspec.structs.replace(load_market_rules()[BTC].fees, taker=d("0.01"))
    paper = Paper(tmp_path, fees=fees)
    try:
        venue = await opened(paper)
        assert (await venue.market_rules([BTC]))[BTC].fees == fees
        (trade,) = venue.all_trades()
        assert trade.fee is not None
        assert trade.fee.amount == d("0.01")
        await venue.create_order(order("tb-stop", SELL, "0.5", stop=95))
        again = await paper.killed()
        del paper.feed.bars[ETH]
        with pytest.raises(NotListed):
            await again.market_rules([ETH])
        assert [found.client_order_id for found in await again.open_orders()] == ["tb-stop"]
    finally:
        paper.close()


async def test_with_credit_what_the_account_can_not_pay_for_is_taken(tmp_path: Path) -> None:
    """Another bot of the account has brought the money, on an exchange of its own."""
    paper = Paper(tmp_path, credit=True)
    try:
        venue = await opened(paper)
        bought = await venue.create_order(order("tb-more", BUY, 120))
        assert bought.state is CLOSED
        await venue.create_order(order("tb-stop", SELL, 125, stop=95))
        balances = await venue.balances()
        assert balances["USDT"].free == 10000 - 100 - 12000
        assert balances["BTC"].used == 125
        again = await paper.killed()
        assert await again.balances() == balances
        await again.cancel_order(BTC, "tb-stop")
        assert (await again.balances())["BTC"].used == 0
    finally:
        paper.close()
