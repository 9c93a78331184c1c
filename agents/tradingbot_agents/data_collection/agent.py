"""The shell: asks the exchange when a bar is due, and publishes what the tracker lets through.

One timer serves all symbols. It is aligned to the bar's close; while a bar that should be there is not, it
comes again every poll interval. The exchange's errors never end the agent: it asks again, and a feed that has
been silent for too long is said so once, with the last error.
"""

from __future__ import annotations

import contextlib
from datetime import datetime, timedelta

from tradingbot_agents.bus import Bus
from tradingbot_agents.bus.topology import DATA_COLLECTION
from tradingbot_agents.clock import Clock, TimerHandle, Timers
from tradingbot_agents.data_collection.settings import Settings
from tradingbot_agents.data_collection.tracker import Recovery, Silence, Tracker
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import CandleGap, CandleRefused, FeedRecovered, FeedStale
from tradingbot_agents.domain.messages import CandleClosed, TickerReply, TickerRequest
from tradingbot_agents.domain.values import ZERO, floor_time
from tradingbot_agents.exchange import ExchangeError, MarketFeed, RateLimited
from tradingbot_agents.marketdata import CandleStore, CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.telemetry import Sink

NO_TIME = timedelta(0)

PAGE = 500
"""Bars in one request: what most exchanges give at most. An exchange that gives fewer is asked more often."""


class DataCollection:
    name = DATA_COLLECTION

    def __init__(
        self,
        *,
        bot: str,
        settings: Settings,
        clock: Clock,
        timers: Timers,
        bus: Bus,
        sink: Sink,
        feed: MarketFeed,
        store: CandleStore,
    ) -> None:
        self._bot = bot
        self._settings = settings
        self._bar = settings.bar
        self._clock = clock
        self._timers = timers
        self._bus = bus
        self._sink = sink
        self._feed = feed
        self._store = store
        self._trackers: list[Tracker] = []
        self._timer: TimerHandle | None = None
        self._not_before: datetime | None = None
        """Set when the exchange said to wait: its limits are for the caller, so all symbols wait."""
        self._last_error: dict[str, str] = {}
        self.feed_errors = 0
        """How often the exchange answered with an error instead of candles."""

    async def start(self) -> None:
        """Publish the last ``history`` bars of each symbol, from the store and, what is missing there or while it is
        away or refuses, from the exchange. If the exchange is away the polls catch up later."""
        await self._bus.respond(self.name, TickerRequest.topic, self._answer_ticker)
        now = self._clock.now()
        history = self._settings.history
        since = floor_time(now, self._bar) - history * self._bar
        self._trackers = [Tracker(symbol, self._settings.timeframe, since, now) for symbol in self._settings.symbols]
        for tracker in self._trackers:
            # What is missing then comes from the exchange and is written: that tells what is wrong with the store.
            with contextlib.suppress(CandleStoreUnavailable, CandleStoreRefused):
                self._offer(tracker, await self._store.latest(tracker.symbol, tracker.timeframe, history))
        await self._poll()
        if self._settings.ticker_interval is not None:
            self._timers.every(self.name, self._settings.ticker_interval, self._keep_tickers)

    async def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        await self._bus.detach(self.name)

    async def _poll(self) -> None:
        begin = self._clock.now()
        newest_close = floor_time(begin, self._bar)
        self._not_before = None
        candles: list[Candle] = []
        behind: list[Tracker] = []
        for tracker in self._trackers:
            if tracker.is_behind(newest_close):
                behind.append(tracker)
                if self._not_before is None:
                    candles += await self._catch_up(tracker, newest_close)
        if candles:
            await self._publish(candles, newest_close)
        if behind:
            self._watch(behind)
        self._arm()

    async def _catch_up(self, tracker: Tracker, newest_close: datetime) -> list[Candle]:
        """Ask for everything of the symbol that is missing, page by page, and return what can be published."""
        since = tracker.first_missing(tracker.next_open)
        asked = False
        try:
            while since < newest_close:
                page = await self._feed.candles(tracker.symbol, tracker.timeframe, since=since, limit=PAGE)
                reached = self._offer(tracker, page)
                if reached is None or reached < since:
                    break
                since = tracker.first_missing(floor_time(reached, self._bar) + self._bar)
            asked = True
            self._last_error.pop(tracker.symbol, None)
        except ExchangeError as error:
            # Also ``Ambiguous``: reading changes nothing, so it is simply read again.
            self.feed_errors += 1
            self._last_error[tracker.symbol] = str(error)
            if isinstance(error, RateLimited):
                # Some say to wait for zero seconds; asking again at once would be how to get banned.
                wait = error.retry_after if error.retry_after > NO_TIME else self._settings.poll_interval
                self._not_before = self._clock.now() + wait
        candles, gaps = tracker.release(asked)
        for gap in gaps:
            self._sink.emit(
                CandleGap(
                    at=self._clock.now(),
                    agent=self.name,
                    symbol=tracker.symbol,
                    after=gap.after,
                    before=gap.before,
                    missing=gap.missing,
                )
            )
        return candles

    def _offer(self, tracker: Tracker, candles: list[Candle]) -> datetime | None:
        if not candles:
            return None
        now = self._clock.now()
        reached, refused = tracker.offer(candles, now)
        for bad in refused:
            self._sink.emit(
                CandleRefused(at=now, agent=self.name, symbol=tracker.symbol, open_time=bad.open_time, why=bad.why)
            )
        return reached

    async def _publish(self, candles: list[Candle], newest_close: datetime) -> None:
        """In order of time, the bars of one moment together in the spec's order. What closed before the newest
        close is history: nobody trades on it."""
        if len(candles) > 1:
            candles.sort(key=lambda candle: candle.open_time)
        await self._store.write(candles)
        fresh_from = newest_close - self._bar
        now = self._clock.now()
        for candle in candles:
            candle_id = candle.id
            await self._bus.publish(
                CandleClosed(
                    id=candle_id,
                    correlation_id=candle_id,
                    causation_id=candle_id,
                    bot=self._bot,
                    producer=self.name,
                    at=now,
                    candle=candle,
                    backfill=candle.open_time < fresh_from,
                )
            )

    def _watch(self, trackers: list[Tracker]) -> None:
        now = self._clock.now()
        for tracker in trackers:
            change = tracker.watch(now, self._settings.stale_after)
            if isinstance(change, Silence):
                self._sink.emit(
                    FeedStale(
                        at=now,
                        agent=self.name,
                        symbol=tracker.symbol,
                        last_candle=change.last_close,
                        age_seconds=None if change.age is None else change.age.total_seconds(),
                        error=self._last_error.get(tracker.symbol),
                    )
                )
            elif isinstance(change, Recovery):
                self._sink.emit(
                    FeedRecovered(
                        at=now,
                        agent=self.name,
                        symbol=tracker.symbol,
                        silent_seconds=change.silent.total_seconds(),
                    )
                )

    def _arm(self) -> None:
        """The next poll: when the exchange lets us, when a late bar is asked for again, or when the next bar
        has closed and settled."""
        now = self._clock.now()
        if self._not_before is not None:
            when = self._not_before
        else:
            settled = floor_time(now - self._settings.settle_delay, self._bar)
            when = settled + self._bar + self._settings.settle_delay
            if any(tracker.is_behind(settled) for tracker in self._trackers):
                when = min(when, now + self._settings.poll_interval)
        self._timer = self._timers.at(self.name, when, self._poll)

    async def _keep_tickers(self) -> None:
        """What can not be read now is left out: the next reading is soon, and candles tell of a silent feed."""
        if self._not_before is not None and self._clock.now() < self._not_before:
            return
        tickers = []
        for symbol in self._settings.symbols:
            try:
                ticker = await self._feed.ticker(symbol)
            except RateLimited as error:
                self._not_before = self._clock.now() + max(error.retry_after, self._settings.poll_interval)
                break
            except ExchangeError:
                continue
            if ticker.last.is_finite() and ticker.last > ZERO:
                tickers.append(ticker)
        await self._store.write_tickers(tickers)

    async def _answer_ticker(self, request: TickerRequest) -> TickerReply:
        price, priced_at, problem = None, None, None
        try:
            ticker = await self._feed.ticker(request.symbol)
        except ExchangeError as error:
            problem = str(error)
        else:
            if ticker.last.is_finite() and ticker.last > ZERO:
                price, priced_at = ticker.last, ticker.at
            else:
                problem = f"the exchange's last price of {request.symbol} is {ticker.last}"
        return TickerReply(
            id="ticker." + request.id,
            correlation_id=request.correlation_id,
            causation_id=request.id,
            bot=self._bot,
            producer=self.name,
            at=self._clock.now(),
            symbol=request.symbol,
            price=price,
            priced_at=priced_at,
            error=problem,
        )
