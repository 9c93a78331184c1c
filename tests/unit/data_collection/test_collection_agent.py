"""The agent over a scripted feed: when it asks, what it publishes, what it says of gaps and silence."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from support.away_store import AwayStore
from support.collection import BTC, ETH, SOL, Collection, collection_settings
from support.messages import START, a_candle, a_ticker_request
from tradingbot_agents.bus import RequestTimedOut
from tradingbot_agents.clock.virtual import TimerFailed
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import CandleGap, CandleRefused, FeedRecovered, FeedStale
from tradingbot_agents.domain.messages import CandleClosed, TickerReply
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.exchange import Ambiguous, ExchangeError, RateLimited
from tradingbot_agents.marketdata import CandleStoreRefused, CandleStoreUnavailable

BAR = timedelta(minutes=5)
SECOND = timedelta(seconds=1)


def bars(first: int, end: int, symbol: str = BTC) -> list[Candle]:
    return [a_candle(index, symbol) for index in range(first, end)]


def candles(messages: list[CandleClosed]) -> list[Candle]:
    return [message.candle for message in messages]


def polls(collection: Collection) -> list[float]:
    """Seconds since the start at which the feed was asked."""
    return [(at - START).total_seconds() for at in collection.feed.asked_at]


def collecting(**changes: object) -> Collection:
    return Collection(START, collection_settings(**changes))


# Polls


async def test_each_bar_is_published_fresh_when_it_closes() -> None:
    one = collecting()
    one.feed.add(bars(0, 4))
    await one.start()
    await one.run_until(START + 3 * BAR)
    assert candles(one.published) == bars(0, 3)
    assert [message.backfill for message in one.published] == [False] * 3
    assert [message.at for message in one.published] == [bar.close_time for bar in bars(0, 3)]


async def test_the_message_says_what_it_is_about() -> None:
    one = collecting()
    one.feed.add(bars(0, 1))
    await one.start()
    await one.run_until(START + BAR)
    (message,) = one.published
    name = "BTC/USDT.5m.2024-03-01T00:00Z"
    assert (message.id, message.correlation_id, message.causation_id) == (name, name, name)
    assert (message.bot, message.producer, message.key) == ("bot", "data-collection", BTC)


async def test_one_poll_a_bar_while_all_goes_well() -> None:
    one = collecting()
    one.feed.add(bars(-1, 4))
    await one.start()
    await one.run_until(START + 3 * BAR)
    assert polls(one) == [0, 300, 600, 900]


async def test_the_exchange_is_given_time_to_settle() -> None:
    one = collecting(settle_delay=timedelta(seconds=2))
    one.feed.add(bars(-2, 4))
    await one.start()
    await one.run_until(START + 2 * BAR + 2 * SECOND)
    assert polls(one) == [0, 302, 602]
    assert not one.published[-1].backfill


async def test_a_bar_that_is_late_is_asked_for_until_it_is_there() -> None:
    one = collecting()
    one.feed.add(bars(-1, 3))
    one.feed.late_by[(BTC, a_candle(0).open_time)] = timedelta(seconds=70)
    await one.start()
    await one.run_until(START + 2 * BAR)
    assert polls(one) == [0, 300, 330, 360, 390, 600]
    assert candles(one.published) == bars(-1, 2)
    assert [message.backfill for message in one.published] == [False] * 3


async def test_a_poll_interval_longer_than_a_bar_does_not_skip_bars() -> None:
    one = collecting(poll_interval=timedelta(hours=1))
    one.feed.add([*bars(-1, 2), *bars(3, 5)])
    await one.start()
    await one.run_until(START + 5 * BAR)
    assert polls(one) == [0, 300, 600, 900, 1200, 1500]


async def test_only_symbols_that_are_behind_are_asked() -> None:
    one = collecting(symbols=(BTC, ETH))
    one.feed.add([*bars(-1, 2), *bars(-1, 2, ETH)])
    one.feed.late_by[(ETH, a_candle(0).open_time)] = timedelta(seconds=30)
    await one.start()
    one.feed.asked.clear()
    await one.run_until(START + BAR + 40 * SECOND)
    assert [symbol for symbol, _, _ in one.feed.asked] == [BTC, ETH, ETH]


async def test_the_bars_of_one_moment_come_in_the_specs_order() -> None:
    one = collecting(symbols=(SOL, BTC, ETH))
    for symbol in (BTC, ETH, SOL):
        one.feed.add(bars(0, 3, symbol))
    await one.start()
    await one.run_until(START + 2 * BAR)
    assert [(c.symbol, c) for c in candles(one.published)] == [
        (symbol, a_candle(index, symbol)) for index in (0, 1) for symbol in (SOL, BTC, ETH)
    ]


async def test_candles_are_in_the_store_before_anyone_hears_of_them() -> None:
    one = collecting()
    one.feed.add(bars(0, 2))
    stored: list[Candle | None] = []

    async def look(message: CandleClosed) -> None:
        stored.append(await one.store.last(BTC, "5m"))

    await one.start()
    await one.bus.consume("risk.candles", look)
    await one.run_until(START + 2 * BAR)
    assert stored == bars(0, 2)


async def test_a_symbol_that_is_not_listed_yet_holds_nobody_up() -> None:
    one = collecting(symbols=(SOL, BTC))
    one.feed.add([*bars(0, 6), *bars(4, 6, SOL)])
    await one.start()
    await one.run_until(START + 6 * BAR)
    assert [c for c in candles(one.published) if c.symbol == BTC] == bars(0, 6)
    assert [c for c in candles(one.published) if c.symbol == SOL] == bars(4, 6, SOL)
    assert one.sink.named("candle_gap") == []


# Gaps, duplicates, broken bars


async def test_a_gap_is_filled_from_the_exchange() -> None:
    one = collecting()
    one.feed.add(bars(0, 6))
    for index in (2, 3):
        one.feed.late_by[(BTC, a_candle(index).open_time)] = timedelta(minutes=7)
    one.feed.late_by[(BTC, a_candle(4).open_time)] = timedelta(minutes=2)
    await one.start()
    await one.run_until(START + 6 * BAR)
    assert candles(one.published) == bars(0, 6)
    assert one.sink.named("candle_gap") == []


async def test_a_gap_that_nobody_can_fill_is_said_once_and_the_rest_goes_on() -> None:
    one = collecting(stale_after=timedelta(hours=1))
    one.feed.add([*bars(0, 2), *bars(4, 7)])
    await one.start()
    await one.run_until(START + 7 * BAR)
    assert candles(one.published) == [*bars(0, 2), *bars(4, 7)]
    assert one.sink.events == [
        CandleGap(
            at=START + 5 * BAR,
            agent="data-collection",
            symbol=BTC,
            after=a_candle(1).open_time,
            before=a_candle(4).open_time,
            missing=2,
        )
    ]


async def test_what_was_missed_is_history_and_only_the_newest_is_fresh() -> None:
    one = collecting()
    one.feed.add(bars(-1, 4))
    await one.start()
    one.feed.failing = lambda symbol, now: ExchangeError("502") if now < START + 4 * BAR else None
    await one.run_until(START + 4 * BAR)
    assert [(m.candle, m.backfill) for m in one.published] == [
        (a_candle(-1), False),
        (a_candle(0), True),
        (a_candle(1), True),
        (a_candle(2), True),
        (a_candle(3), False),
    ]


async def test_a_gap_is_not_believed_while_the_exchange_fails() -> None:
    """The store has a hole, and the request that could fill it fails."""
    one = collecting(symbols=(BTC,), history=4)
    one.feed.add(bars(-4, 2))
    await one.store.write([a_candle(-4), a_candle(-1)])
    one.feed.errors.append(Ambiguous("timed out"))
    await one.start()
    assert candles(one.published) == [a_candle(-4)]
    await one.run_until(START + 30 * SECOND)
    assert candles(one.published) == bars(-4, 0)
    assert one.sink.named("candle_gap") == []


async def test_duplicates_and_disorder_do_not_matter() -> None:
    one = collecting()
    one.feed.add(bars(-5, 3))
    one.feed.mangle = lambda page: [*reversed(page), *page]
    await one.start()
    await one.run_until(START + 3 * BAR)
    assert candles(one.published) == bars(-5, 3)


async def test_a_feed_that_ignores_since_does_not_loop() -> None:
    one = collecting()
    one.feed.add(bars(-3, 1))
    await one.start()
    one.take()
    old = bars(-3, 0)
    one.feed.mangle = lambda page: old
    one.feed.asked.clear()
    await one.run_until(START + BAR)
    assert len(one.feed.asked) == 1
    assert one.published == []


async def test_a_bar_that_is_not_closed_is_not_published() -> None:
    one = collecting()
    one.feed.add(bars(-1, 1))
    running = a_candle(1)
    one.feed.mangle = lambda page: [*page, running]
    await one.start()
    await one.run_until(START + BAR)
    assert candles(one.published) == bars(-1, 1)


async def test_a_broken_bar_is_refused_once_and_taken_when_it_is_put_right() -> None:
    one = collecting()
    one.feed.add([a_candle(-1), msgspec.structs.replace(a_candle(0), close=Decimal("NaN"))])
    await one.start()
    await one.run_until(START + BAR + 60 * SECOND)
    assert one.sink.events == [
        CandleRefused(
            at=START + BAR,
            agent="data-collection",
            symbol=BTC,
            open_time=a_candle(0).open_time,
            why="close is NaN, not a number",
        )
    ]
    one.feed.add([a_candle(0)])
    await one.run_until(START + BAR + 90 * SECOND)
    assert candles(one.published) == bars(-1, 1)


async def test_a_broken_bar_that_stays_is_a_gap() -> None:
    one = collecting()
    one.feed.add([a_candle(-1), msgspec.structs.replace(a_candle(0), volume=Decimal(-1)), a_candle(1)])
    await one.start()
    await one.run_until(START + 2 * BAR)
    assert candles(one.published) == [a_candle(-1), a_candle(1)]
    assert [event.name for event in one.sink.events] == ["candle_refused", "candle_gap"]


# Start and restart


async def test_the_history_comes_first_in_order_of_time_and_the_newest_is_fresh() -> None:
    one = collecting(symbols=(BTC, ETH), history=3)
    one.feed.add([*bars(-10, 1), *bars(-2, 1, ETH)])
    await one.start()
    assert [(m.candle, m.backfill) for m in one.published] == [
        (a_candle(-3), True),
        (a_candle(-2), True),
        (a_candle(-2, ETH), True),
        (a_candle(-1), False),
        (a_candle(-1, ETH), False),
    ]
    assert one.sink.events == []


async def test_the_store_is_asked_before_the_exchange() -> None:
    one = collecting(history=5)
    one.feed.add(bars(-10, 1))
    await one.store.write(bars(-10, -2))
    await one.start()
    assert candles(one.published) == bars(-5, 0)
    assert one.feed.asked[0][1] == a_candle(-2).open_time
    assert await one.store.latest(BTC, "5m", 100) == bars(-10, 0)


async def test_a_store_that_has_all_saves_the_request() -> None:
    one = collecting(history=5)
    await one.store.write(bars(-10, 0))
    await one.start()
    assert candles(one.published) == bars(-5, 0)
    assert one.feed.asked == []


async def test_holes_of_the_store_are_filled_from_the_exchange() -> None:
    one = collecting(history=8)
    one.feed.add(bars(-8, 0))
    await one.store.write([a_candle(-7), a_candle(-4), a_candle(-3)])
    await one.start()
    assert candles(one.published) == bars(-8, 0)
    assert one.sink.events == []


@pytest.mark.parametrize("page_limit", [1, 7, 100])
async def test_a_long_history_is_fetched_page_by_page(page_limit: int) -> None:
    one = collecting(history=60)
    one.feed.page_limit = page_limit
    one.feed.add(bars(-100, 0))
    await one.start()
    assert candles(one.published) == bars(-60, 0)
    assert len(one.feed.asked) == -(-60 // page_limit)


async def test_a_restart_in_the_middle_of_a_bar_tells_the_newest_bar_again() -> None:
    one = collecting(history=3)
    one.feed.add(bars(-10, 10))
    await one.start()
    await one.run_until(START + 2 * BAR + timedelta(minutes=3))
    one.take()
    await one.restart()
    assert [(m.candle, m.backfill) for m in one.take()] == [
        (a_candle(-1), True),
        (a_candle(0), True),
        (a_candle(1), False),
    ]
    await one.run_until(START + 4 * BAR)
    assert candles(one.take()) == bars(2, 4)


async def test_an_exchange_that_is_away_at_the_start_is_caught_up_with() -> None:
    one = collecting(history=3)
    one.feed.add(bars(-10, 2))
    one.feed.errors.extend([ExchangeError("503"), Ambiguous("timed out")])
    await one.start()
    assert one.published == []
    await one.run_until(START + 59 * SECOND)
    assert one.published == []
    await one.run_until(START + 60 * SECOND)
    assert [(m.candle, m.backfill) for m in one.published] == [
        (a_candle(-3), True),
        (a_candle(-2), True),
        (a_candle(-1), False),
    ]
    assert one.agent.feed_errors == 2


async def test_nothing_is_left_after_a_stop() -> None:
    one = collecting()
    one.feed.add(bars(-1, 5))
    one.feed.prices[BTC] = Decimal(100)
    await one.start()
    await one.agent.stop()
    assert one.timers.next_due() is None
    with pytest.raises(RequestTimedOut):
        await one.bus.request(a_ticker_request(), SECOND)


async def test_stop_is_safe_before_start() -> None:
    await collecting().agent.stop()


# Errors of the exchange, and silence


async def test_a_rate_limit_is_waited_for_by_all_symbols() -> None:
    one = collecting(symbols=(BTC, ETH, SOL))
    for symbol in (BTC, ETH, SOL):
        one.feed.add(bars(-1, 2, symbol))
    await one.start()
    one.take()
    one.feed.asked.clear()
    over = START + BAR + 45 * SECOND
    one.feed.failing = lambda symbol, now: RateLimited(over - now) if symbol == ETH and now < over else None
    await one.run_until(START + BAR + 44 * SECOND)
    assert [symbol for symbol, _, _ in one.feed.asked] == [BTC, ETH]
    assert candles(one.take()) == [a_candle(0)]
    await one.run_until(START + BAR + 45 * SECOND)
    assert [symbol for symbol, _, _ in one.feed.asked] == [BTC, ETH, ETH, SOL]
    assert candles(one.take()) == [a_candle(0, ETH), a_candle(0, SOL)]


async def test_a_rate_limit_of_no_time_at_all_is_not_taken_at_its_word() -> None:
    one = collecting()
    one.feed.errors.extend([RateLimited(timedelta(0))] * 2)
    one.feed.add(bars(-1, 0))
    await one.start()
    await one.run_until(START + 59 * SECOND)
    assert one.agent.feed_errors == 2
    await one.run_until(START + 60 * SECOND)
    assert candles(one.published) == [a_candle(-1)]


async def test_one_symbols_error_is_not_anothers() -> None:
    one = collecting(symbols=(BTC, ETH))
    one.feed.add([*bars(-1, 2), *bars(-1, 2, ETH)])
    await one.start()
    one.take()
    one.feed.failing = lambda symbol, now: ExchangeError("502") if symbol == BTC else None
    await one.run_until(START + 2 * BAR)
    assert candles(one.take()) == bars(0, 2, ETH)


async def test_a_mistake_of_ours_ends_the_agent() -> None:
    one = collecting()
    one.feed.add(bars(-1, 0))
    await one.start()

    def bug(symbol: str, now: datetime) -> None:
        raise ZeroDivisionError("a bug")

    one.feed.failing = bug
    with pytest.raises(TimerFailed) as failure:
        await one.run_until(START + BAR)
    assert failure.value.owner == "data-collection"


async def test_silence_is_said_once_with_the_last_error_and_so_is_its_end() -> None:
    one = collecting(stale_after=timedelta(minutes=12))
    one.feed.add(bars(-1, 8))
    away = (START + BAR, START + timedelta(minutes=21))
    one.feed.failing = lambda symbol, now: ExchangeError("502 bad gateway") if away[0] <= now < away[1] else None
    await one.start()
    await one.run_until(START + 5 * BAR)
    assert one.sink.events == [
        FeedStale(
            at=START + timedelta(minutes=12),
            agent="data-collection",
            symbol=BTC,
            last_candle=START,
            age_seconds=720,
            error="502 bad gateway",
        ),
        FeedRecovered(at=START + timedelta(minutes=21), agent="data-collection", symbol=BTC, silent_seconds=21 * 60),
    ]
    assert candles(one.published) == bars(-1, 5)


async def test_a_feed_that_answers_with_nothing_is_silent_too() -> None:
    """The lesson DEV-71: a stream that connects and delivers nothing."""
    one = collecting(symbols=(BTC, ETH), stale_after=timedelta(minutes=12))
    one.feed.add(bars(-1, 100))
    await one.start()
    await one.run_until(START + 24 * BAR)
    assert one.sink.events == [
        FeedStale(
            at=START + timedelta(minutes=12),
            agent="data-collection",
            symbol=ETH,
            last_candle=None,
            age_seconds=None,
        )
    ]


async def test_a_healthy_feed_is_never_called_silent() -> None:
    one = collecting(settle_delay=timedelta(seconds=5), stale_after=BAR + timedelta(seconds=6))
    one.feed.add(bars(-3, 60))
    await one.start()
    await one.run_until(START + 50 * BAR)
    assert one.sink.events == []


async def test_slow_answers_do_not_move_the_beat() -> None:
    one = collecting(symbols=(BTC, ETH))
    one.feed.add([*bars(-1, 5), *bars(-1, 5, ETH)])
    one.feed.takes = timedelta(seconds=20)
    await one.start()
    await one.run_until(START + 3 * BAR + 40 * SECOND)
    assert [message.at for message in one.published[2:]] == [
        START + index * BAR + 40 * SECOND for index in (1, 1, 2, 2, 3, 3)
    ]
    assert not any(message.backfill for message in one.published)


# Ticker


async def ask(one: Collection, symbol: str = BTC) -> TickerReply:
    reply = await one.bus.request(a_ticker_request(symbol), SECOND)
    assert isinstance(reply, TickerReply)
    return reply


async def test_the_exchanges_last_price_is_told() -> None:
    one = collecting()
    one.feed.prices[BTC] = Decimal("61234.5")
    await one.start()
    reply = await ask(one)
    assert (reply.price, reply.priced_at, reply.error) == (Decimal("61234.5"), START, None)
    assert (reply.id, reply.correlation_id, reply.causation_id) == ("ticker.ticker.BTC/USDT", "c", "ticker.BTC/USDT")
    assert (reply.symbol, reply.producer) == (BTC, "data-collection")


async def test_an_error_of_the_exchange_is_told_too() -> None:
    one = collecting()
    await one.start()
    one.feed.errors.append(ExchangeError("BTC/USDT is not listed"))
    reply = await ask(one)
    assert (reply.price, reply.priced_at, reply.error) == (None, None, "BTC/USDT is not listed")


@pytest.mark.parametrize("price", ["0", "-1", "NaN"])
async def test_a_price_that_is_none_is_not_passed_on(price: str) -> None:
    one = collecting()
    one.feed.prices[BTC] = Decimal(price)
    await one.start()
    reply = await ask(one)
    assert reply.price is None
    assert reply.error == f"the exchange's last price of BTC/USDT is {price}"


@pytest.mark.parametrize("trouble", [CandleStoreUnavailable, CandleStoreRefused])
async def test_a_store_that_is_away_or_refuses_at_the_start_leaves_it_to_the_exchange(
    trouble: type[Exception],
) -> None:
    one = collecting()
    store = AwayStore(capacity=10_000)
    store.away, store.trouble = True, trouble
    one.store = store
    one.agent = one.new_agent()
    one.feed.add(bars(-10, 2))
    await one.start()
    assert candles(one.take()) == bars(-10, 0)
    await one.run_until(START + BAR)
    assert candles(one.take()) == bars(0, 1)
    store.away = False
    assert await store.latest(BTC, "5m", 100) == bars(-10, 1)


# --- last prices


def refuse_price(one: Collection, error: ExchangeError) -> list[str]:
    """Of BTC, always. Returns what is asked for."""
    asked = []
    ticker = one.feed.ticker

    async def instead(symbol: str) -> Ticker:
        asked.append(symbol)
        if symbol == BTC:
            raise error
        return await ticker(symbol)

    one.feed.ticker = instead  # type: ignore[method-assign]
    return asked


async def test_last_prices_are_read_now_and_then_and_kept() -> None:
    one = collecting(symbols=(BTC, ETH), ticker_interval=timedelta(seconds=30))
    one.feed.prices = {BTC: Decimal("60000.5"), ETH: Decimal(3000)}
    await one.start()
    await one.run_until(one.clock.now() + timedelta(seconds=31))
    kept = await one.store.last_ticker(BTC)
    assert kept is not None
    assert (kept.last, kept.at) == (Decimal("60000.5"), one.clock.now() - timedelta(seconds=1))
    assert await one.store.last_ticker(ETH) is not None


async def test_a_last_price_that_can_not_be_read_holds_up_no_other() -> None:
    one = collecting(symbols=(BTC, ETH, SOL), ticker_interval=timedelta(seconds=30))
    one.feed.prices = {BTC: Decimal(60000), ETH: Decimal("NaN"), SOL: Decimal(150)}
    refuse_price(one, ExchangeError("maintenance"))
    await one.start()
    await one.run_until(one.clock.now() + timedelta(seconds=31))
    assert await one.store.last_ticker(BTC) is None
    assert await one.store.last_ticker(ETH) is None, "it is no price"
    assert await one.store.last_ticker(SOL) is not None


async def test_too_many_requests_end_the_reading_of_last_prices_for_as_long_as_the_exchange_says() -> None:
    one = collecting(symbols=(BTC, ETH), ticker_interval=timedelta(seconds=30))
    one.feed.prices = {BTC: Decimal(60000), ETH: Decimal(3000)}
    asked = refuse_price(one, RateLimited(timedelta(seconds=50)))
    await one.start()
    # No bar is missing, so nothing else is asked.
    one.feed.add([a_candle(index, symbol=symbol, start=START) for index in range(-10, 1) for symbol in (BTC, ETH)])
    await one.run_until(one.clock.now() + timedelta(seconds=89))
    assert asked == [BTC], "and not again after 60 s"
    await one.run_until(one.clock.now() + timedelta(seconds=2))
    assert asked == [BTC, BTC]
    assert await one.store.last_ticker(ETH) is None
