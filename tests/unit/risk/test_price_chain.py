"""The price chain, step by step: fresh or not at all, bounded, and loud."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from support.messages import a_candle
from support.queues import BOT_QUEUES
from support.risk import SETTINGS
from tradingbot_agents.bus import EmbeddedBus
from tradingbot_agents.bus.topology import DATA_COLLECTION
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import PriceFallbackAlert, PriceFallbackUsed, Reason
from tradingbot_agents.domain.messages import TickerReply, TickerRequest
from tradingbot_agents.risk.price import Price, PriceSource
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.telemetry import MemorySink

BTC = "BTC/USDT"
SECOND = timedelta(seconds=1)
CLOSED = a_candle(0, close="100").close_time


class Store:
    """Counts the questions, and fails when it is told to."""

    def __init__(self) -> None:
        self.candle: Candle | None = None
        self.error: Exception | None = None
        self.asked = 0

    async def last(self, symbol: str, timeframe: str) -> Candle | None:
        self.asked += 1
        assert timeframe == "5m"
        if self.error is not None:
            raise self.error
        return self.candle if self.candle is not None and self.candle.symbol == symbol else None

    async def write(self, candles: Sequence[Candle]) -> None:
        raise AssertionError("risk writes no candles")

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        raise AssertionError("risk asks for the last candle only")


class Chain:
    """A price source in front of a store, a bus and a data collection that the test controls."""

    def __init__(self) -> None:
        self.clock = VirtualClock(CLOSED)
        self.bus = EmbeddedBus(self.clock, BOT_QUEUES)
        self.sink = MemorySink()
        self.store = Store()
        self.requests: list[TickerRequest] = []
        self.prices = PriceSource(
            SETTINGS.price,
            bot="bot",
            timeframe="5m",
            store=self.store,
            bus=self.bus,
            clock=self.clock,
            sink=self.sink,
        )

    def at(self, seconds: float) -> None:
        """Move to so many seconds after the first bar's close."""
        self.clock.advance_to(CLOSED + seconds * SECOND)

    async def answer_tickers(
        self,
        price: str | None,
        priced_at: datetime | None = None,
        *,
        symbol: str = BTC,
        error: str | None = None,
        takes: timedelta = timedelta(0),
    ) -> None:
        async def reply(request: TickerRequest) -> TickerReply:
            self.requests.append(request)
            await self.clock.sleep(takes)
            return TickerReply(
                id=f"reply.{request.id}",
                correlation_id=request.correlation_id,
                causation_id=request.id,
                bot="bot",
                producer=DATA_COLLECTION,
                at=self.clock.now(),
                symbol=symbol,
                price=None if price is None else Decimal(price),
                priced_at=priced_at,
                error=error,
            )

        await self.bus.respond(DATA_COLLECTION, "market.ticker.request", reply)

    async def fresh(self) -> Price:
        answer = await self.prices.fresh(BTC, "chain-1")
        assert isinstance(answer, Price)
        return answer

    async def refused(self) -> str:
        answer = await self.prices.fresh(BTC, "chain-1")
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NO_FRESH_PRICE
        return answer.detail

    def fallbacks(self) -> list[tuple[str, str]]:
        return [(event.source, event.why) for event in self.sink.events if isinstance(event, PriceFallbackUsed)]

    def alerts(self) -> list[PriceFallbackAlert]:
        return [event for event in self.sink.events if isinstance(event, PriceFallbackAlert)]


@pytest.fixture
def chain() -> Chain:
    return Chain()


class TestTheStore:
    async def test_its_last_close_is_silent_while_it_is_fresh(self, chain: Chain) -> None:
        chain.store.candle = a_candle(0, close="100")
        chain.at(90)
        assert await chain.fresh() == Price(Decimal(100), CLOSED, "store")
        assert chain.sink.events == []
        assert chain.prices.answers == {"store": 1}

    async def test_it_is_asked_once_per_symbol_and_interval(self, chain: Chain) -> None:
        chain.store.candle = a_candle(0, close="100")
        for seconds in (0, 1, 4.999):
            chain.at(seconds)
            await chain.fresh()
        assert chain.store.asked == 1
        chain.at(5)
        await chain.fresh()
        assert chain.store.asked == 2

    async def test_also_when_it_has_nothing_or_fails(self, chain: Chain) -> None:
        chain.store.error = ConnectionError("refused")
        await chain.refused()
        await chain.refused()
        assert chain.store.asked == 1


class TestTheBus:
    async def test_it_answers_when_the_store_is_stale(self, chain: Chain) -> None:
        chain.store.candle = a_candle(0, close="100")
        chain.at(300)
        chain.prices.saw(a_candle(1, close="101"))
        assert await chain.fresh() == Price(Decimal(101), CLOSED + 300 * SECOND, "bus")
        assert chain.fallbacks() == [("bus", "the candle store's last close is 300 s old, older than 90 s")]
        [event] = chain.sink.events
        assert (event.agent, event.correlation_id) == ("risk", "chain-1")

    async def test_it_answers_when_the_store_fails(self, chain: Chain) -> None:
        chain.store.error = ConnectionError("refused")
        chain.prices.saw(a_candle(0, close="100"))
        assert (await chain.fresh()).source == "bus"
        assert chain.fallbacks() == [("bus", "the candle store failed with ConnectionError: refused")]

    async def test_an_older_candle_does_not_replace_a_newer_one(self, chain: Chain) -> None:
        chain.prices.saw(a_candle(1, close="101"))
        chain.prices.saw(a_candle(0, close="100"))
        chain.at(300)
        assert (await chain.fresh()).value == Decimal(101)


class TestTheTicker:
    async def test_it_is_asked_of_data_collection(self, chain: Chain) -> None:
        chain.prices.saw(a_candle(0, close="100"))
        chain.at(200)
        await chain.answer_tickers("102.5", CLOSED + 199 * SECOND)
        assert await chain.fresh() == Price(Decimal("102.5"), CLOSED + 199 * SECOND, "ticker")
        [request] = chain.requests
        assert (request.symbol, request.bot, request.producer) == (BTC, "bot", "risk")
        why = "the candle store has no candle; the last close on the bus is 200 s old, older than 90 s"
        assert chain.fallbacks() == [("ticker", why)]
        assert chain.prices.answers == {"ticker": 1}

    async def test_its_age_counts_too(self, chain: Chain) -> None:
        chain.at(200)
        await chain.answer_tickers("102.5", CLOSED + 109 * SECOND)
        assert "the ticker is 91 s old, older than 90 s" in await chain.refused()

    async def test_the_wait_is_bounded(self, chain: Chain) -> None:
        await chain.answer_tickers("102.5", CLOSED, takes=3 * SECOND)
        assert "longer than 2 s" in await chain.refused()

    async def test_nobody_answers(self, chain: Chain) -> None:
        detail = await chain.refused()
        assert detail.startswith(
            "BTC/USDT: the candle store has no candle; no candle came over the bus; no ticker: nobody answers"
        )
        assert chain.fallbacks() == [("none", detail.removeprefix("BTC/USDT: "))]
        assert chain.prices.answers == {"none": 1}

    async def test_the_exchange_gives_no_price(self, chain: Chain) -> None:
        await chain.answer_tickers(None, error="the exchange is in maintenance")
        assert "no ticker: the exchange is in maintenance" in await chain.refused()

    @pytest.mark.parametrize("price", ["0", "-1", "NaN"])
    async def test_a_price_that_is_none(self, chain: Chain, price: str) -> None:
        await chain.answer_tickers(price, CLOSED)
        assert f"the ticker's price is {price}" in await chain.refused()

    async def test_the_answer_for_another_symbol(self, chain: Chain) -> None:
        await chain.answer_tickers("3000", CLOSED, symbol="ETH/USDT")
        assert "no ticker of this symbol" in await chain.refused()


class TestAlerts:
    async def test_after_so_many_in_a_row_once(self, chain: Chain) -> None:
        chain.prices.saw(a_candle(0, close="100"))
        for seconds in (0, 10, 20, 30, 40):
            chain.at(seconds)
            await chain.fresh()
        assert len(chain.fallbacks()) == 5
        [alert] = chain.alerts()
        assert (alert.in_a_row, alert.source, alert.at) == (3, "bus", CLOSED + 20 * SECOND)
        assert alert.severity == "severe"

    async def test_a_fresh_store_begins_the_count_anew(self, chain: Chain) -> None:
        chain.prices.saw(a_candle(0, close="100"))
        for seconds in (0, 10, 20, 30, 40):
            chain.store.candle = a_candle(0, close="100") if seconds == 20 else None
            chain.at(seconds)
            await chain.fresh()
        assert len(chain.fallbacks()) == 4
        assert chain.alerts() == []


class TestKnown:
    """For valuing what is held: the newest close that can be expected is enough, without an alarm."""

    async def test_the_last_close_serves_until_the_next_one_is_late(self, chain: Chain) -> None:
        chain.store.candle = a_candle(0, close="100")
        chain.at(390)
        assert await chain.prices.known(BTC) == Price(Decimal(100), CLOSED, "store")
        assert chain.sink.events == []

    async def test_the_newer_of_store_and_bus(self, chain: Chain) -> None:
        chain.store.candle = a_candle(0, close="100")
        chain.prices.saw(a_candle(1, close="101"))
        chain.at(300)
        assert await chain.prices.known(BTC) == Price(Decimal(101), CLOSED + 300 * SECOND, "bus")
        assert await chain.prices.newest("ETH/USDT") is None

    async def test_beyond_that_the_chain_is_asked(self, chain: Chain) -> None:
        chain.store.candle = a_candle(0, close="100")
        chain.at(391)
        assert isinstance(await chain.prices.known(BTC), Refused)
        assert [source for source, _ in chain.fallbacks()] == ["none"]


async def test_no_cache_at_all() -> None:
    chain = Chain()
    chain.prices = PriceSource(
        msgspec.structs.replace(SETTINGS.price, cache_for=timedelta(0)),
        bot="bot",
        timeframe="5m",
        store=chain.store,
        bus=chain.bus,
        clock=chain.clock,
        sink=chain.sink,
    )
    chain.store.candle = a_candle(0, close="100")
    await chain.fresh()
    await chain.fresh()
    assert chain.store.asked == 2
