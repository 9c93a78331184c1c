"""Market data by websocket with REST behind it: the real ccxt class against the loopback exchange's streams."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from support.binance import BinanceServer
from support.binance.adapter import SETTINGS, SkewedClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import TIMEFRAMES, floor_time
from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange
from tradingbot_agents.exchange.ccxt_import import NoStreams
from tradingbot_agents.exchange.ccxt_streams import StreamedFeed, StreamKind, StreamNotice, StreamSettings

BTC = "BTC/USDT"
KLINES, TICKER = "btcusdt@kline_5m", "btcusdt@miniTicker"
STEP = TIMEFRAMES["5m"]


class Rig:
    """A feed on the server, what it noticed, and bars around now."""

    def __init__(self, server: BinanceServer, silent_after: timedelta = timedelta(seconds=30)) -> None:
        self.server = server
        self.notices: list[StreamNotice] = []
        self._noticed = asyncio.Event()
        # In the middle of a bar, so that no test meets its end.
        self.clock = SkewedClock()
        now = datetime.now(UTC)
        self.clock.ahead = floor_time(now, STEP) + STEP / 2 - now
        server.skew = self.clock.ahead
        self.current = floor_time(self.clock.now(), STEP)
        settings = msgspec.structs.replace(SETTINGS, endpoint=server.url, symbols=(BTC,))
        self.exchange = CcxtExchange(settings=settings, clock=self.clock, streams=True)
        self.feed = StreamedFeed(
            exchange=self.exchange,
            settings=StreamSettings(
                symbols=(BTC,), timeframe="5m", silent_after=silent_after, retry=timedelta(milliseconds=20)
            ),
            clock=self.clock,
            notice=self._notice,
        )

    def _notice(self, notice: StreamNotice) -> None:
        self.notices.append(notice)
        self._noticed.set()

    def noticed(self, kind: StreamKind) -> list[StreamNotice]:
        return [notice for notice in self.notices if notice.kind is kind]

    async def until_noticed(self, kind: StreamKind, working: bool) -> StreamNotice:
        async with asyncio.timeout(10):
            while True:
                for notice in self.notices:
                    if notice.kind is kind and notice.working is working:
                        return notice
                self._noticed.clear()
                await self._noticed.wait()

    async def close(self) -> None:
        await self.feed.stop()
        await self.exchange.close()

    def bar(self, ago: int, close: object = 100) -> Candle:
        price = Decimal(str(close))
        return Candle(BTC, "5m", self.current - ago * STEP, price, price, price, price, Decimal("2.5"))

    async def subscribed(self, times: int = 1) -> None:
        await self.server.streams.until(KLINES, times)
        await self.server.streams.until(TICKER, times)

    async def until(self, kind: StreamKind, working: bool) -> None:
        async with asyncio.timeout(10):
            await self.feed.until(BTC, kind, working)

    async def push(self, *bars: Candle) -> None:
        """Bars by the stream, heard before this returns."""
        for bar in bars:
            assert await self.server.push_candle(bar) == 1
        await self.until(StreamKind.CANDLES, True)
        # The ticker goes the same way after them.
        assert await self.server.push_ticker(BTC) == 1
        await self.until(StreamKind.TICKER, True)


@pytest.fixture
async def server() -> AsyncIterator[BinanceServer]:
    async with BinanceServer() as server:
        server.move(BTC, "121556.65")
        yield server


@pytest.fixture
async def rig(server: BinanceServer) -> AsyncIterator[Rig]:
    rig = Rig(server)
    await rig.feed.start()
    await rig.subscribed()
    yield rig
    await rig.close()


@pytest.fixture
async def watched(server: BinanceServer) -> AsyncIterator[Rig]:
    rig = Rig(server, silent_after=timedelta(milliseconds=300))
    await rig.feed.start()
    await rig.subscribed()
    yield rig
    await rig.close()


async def test_bars_and_prices_come_by_the_stream_and_rest_is_not_asked(rig: Rig) -> None:
    await rig.push(rig.bar(2, "100.01"), rig.bar(1, 102), rig.bar(0, 103))
    bars = await rig.feed.candles(BTC, "5m", since=rig.current - 2 * STEP)
    assert bars == [rig.bar(2, "100.01"), rig.bar(1, 102)]
    assert (await rig.feed.ticker(BTC)).last == Decimal("121556.65")
    assert rig.server.count("GET klines") == 0
    assert rig.server.count("GET ticker/24hr") == 0
    assert sorted((notice.kind.value, notice.working) for notice in rig.notices) == [
        ("candles", True),
        ("ticker", True),
    ]


async def test_what_the_stream_does_not_know_is_asked_by_rest(rig: Rig) -> None:
    rig.server.add_candles([rig.bar(4), rig.bar(3)])
    await rig.push(rig.bar(2), rig.bar(1), rig.bar(0))
    bars = await rig.feed.candles(BTC, "5m", since=rig.current - 4 * STEP)
    assert bars == [rig.bar(ago) for ago in (4, 3, 2, 1)]
    assert rig.server.count("GET klines") == 1
    assert await rig.feed.candles(BTC, "15m") == []
    assert rig.server.count("GET klines") == 2


async def test_a_bar_that_is_not_over_is_not_told(rig: Rig) -> None:
    await rig.push(rig.bar(1), rig.bar(0, 50))
    assert await rig.feed.candles(BTC, "5m", since=rig.current - STEP) == [rig.bar(1)]
    assert await rig.feed.candles(BTC, "5m", since=rig.current) == []


async def test_without_a_stream_rest_answers_from_the_start(rig: Rig) -> None:
    rig.server.add_candles([rig.bar(1), rig.bar(0)])
    assert await rig.feed.candles(BTC, "5m", since=rig.current - STEP) == [rig.bar(1)]
    assert (await rig.feed.ticker(BTC)).last == Decimal("121556.65")
    assert (await rig.feed.market_rules([BTC]))[BTC].active


async def test_a_stream_that_is_connected_and_silent_is_noticed_replaced_and_comes_back(watched: Rig) -> None:
    watched.server.streams.silent = {"*"}
    lost = await watched.until_noticed(StreamKind.CANDLES, False)
    assert lost.why == "nothing was heard for 0.3 s"
    assert not (await watched.until_noticed(StreamKind.TICKER, False)).working
    watched.server.add_candles([watched.bar(1), watched.bar(0)])
    assert await watched.feed.candles(BTC, "5m", since=watched.current - STEP) == [watched.bar(1)]
    assert watched.server.count("GET klines") == 1
    watched.server.streams.silent = set()
    async with asyncio.timeout(10):
        while not watched.feed.is_working(BTC, StreamKind.CANDLES):
            await watched.server.streams.until(KLINES, watched.server.streams.subscribed[KLINES] + 1)
            await watched.server.push_candle(watched.bar(0))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(watched.feed.until(BTC, StreamKind.CANDLES, True), 0.2)
    assert [notice.working for notice in watched.noticed(StreamKind.CANDLES)][:2] == [False, True]


async def test_one_silent_stream_leaves_the_others_alone(server: BinanceServer) -> None:
    rig = Rig(server, silent_after=timedelta(seconds=1))
    await rig.feed.start()
    try:
        await rig.subscribed()
        connections = rig.exchange.stream_connections
        server.streams.silent = {KLINES}
        async with asyncio.timeout(10):
            while not rig.noticed(StreamKind.CANDLES):
                await server.push_ticker(BTC)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rig.until_noticed(StreamKind.CANDLES, False), 0.1)
        assert [notice.working for notice in rig.noticed(StreamKind.TICKER)] == [True]
        server.streams.silent = set()
        async with asyncio.timeout(10):
            while not rig.feed.is_working(BTC, StreamKind.CANDLES):
                assert await server.push_candle(rig.bar(0)) == 1
                assert await server.push_ticker(BTC) == 1
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(rig.feed.until(BTC, StreamKind.CANDLES, True), 0.1)
        assert rig.exchange.stream_connections == connections
    finally:
        await rig.close()


async def test_a_stream_that_is_cut_is_made_anew_and_what_it_may_have_missed_is_not_believed(rig: Rig) -> None:
    await rig.push(rig.bar(2), rig.bar(1, 90))
    await rig.server.streams.cut()
    await rig.until(StreamKind.CANDLES, False)
    # The last trades of the bar come while nobody listens.
    rig.server.add_candles([rig.bar(1, 95)])
    await rig.subscribed(2)
    await rig.push(rig.bar(0))
    assert await rig.feed.candles(BTC, "5m", since=rig.current - STEP) == [rig.bar(1, 95)]
    assert rig.server.count("GET klines") == 1
    candles = rig.noticed(StreamKind.CANDLES)
    assert [notice.working for notice in candles] == [True, False, True]
    assert candles[2].silent is not None


async def test_streams_that_are_refused_leave_rest_and_come_back(rig: Rig) -> None:
    await rig.push(rig.bar(1), rig.bar(0))
    rig.server.streams.refused = True
    await rig.server.streams.cut()
    await rig.until(StreamKind.CANDLES, False)
    await rig.until(StreamKind.TICKER, False)
    assert await rig.feed.candles(BTC, "5m", since=rig.current - STEP) == [rig.bar(1)]
    assert rig.server.count("GET klines") == 1
    rig.server.streams.refused = False
    await rig.subscribed(2)
    await rig.push(rig.bar(1), rig.bar(0))
    assert (await rig.feed.ticker(BTC)).last == Decimal("121556.65")
    assert rig.server.count("GET ticker/24hr") == 0


async def test_an_exchange_without_websockets_is_refused() -> None:
    settings = msgspec.structs.replace(SETTINGS, exchange="bitbank")
    with pytest.raises(NoStreams, match=r"exchange\.feed"):
        CcxtExchange(settings=settings, clock=SkewedClock(), streams=True)
