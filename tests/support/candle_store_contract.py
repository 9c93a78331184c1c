"""What every store of candles must do, as tests that any implementation can inherit.

A subclass gives a fixture ``store``: an empty ``CandleStore`` that keeps at least 100 bars of a symbol.
"""

from __future__ import annotations

import random

from support.messages import a_candle, a_ticker
from tradingbot_agents.marketdata import CandleStore


class CandleStoreContract:
    async def test_an_empty_store_has_nothing(self, store: CandleStore) -> None:
        assert await store.last("BTC/USDT", "5m") is None
        assert await store.latest("BTC/USDT", "5m", 10) == []

    async def test_what_was_written_is_read_as_it_was(self, store: CandleStore) -> None:
        candle = a_candle(close="61234.56000001")
        await store.write([candle])
        assert await store.last("BTC/USDT", "5m") == candle
        assert await store.latest("BTC/USDT", "5m", 10) == [candle]

    async def test_the_newest_come_oldest_first(self, store: CandleStore) -> None:
        candles = [a_candle(index) for index in range(8)]
        for candle in candles:
            await store.write([candle])
        assert await store.latest("BTC/USDT", "5m", 3) == candles[-3:]
        assert await store.latest("BTC/USDT", "5m", 100) == candles
        assert await store.last("BTC/USDT", "5m") == candles[-1]

    async def test_none_is_asked_for_none_is_given(self, store: CandleStore) -> None:
        await store.write([a_candle()])
        assert await store.latest("BTC/USDT", "5m", 0) == []

    async def test_a_bar_that_is_there_is_replaced(self, store: CandleStore) -> None:
        await store.write([a_candle(0), a_candle(1), a_candle(2)])
        await store.write([a_candle(2, close="200")])
        await store.write([a_candle(0, close="300"), a_candle(1)])
        assert await store.latest("BTC/USDT", "5m", 10) == [
            a_candle(0, close="300"),
            a_candle(1),
            a_candle(2, close="200"),
        ]

    async def test_late_bars_go_where_they_belong(self, store: CandleStore) -> None:
        await store.write([a_candle(0), a_candle(5)])
        await store.write([a_candle(3), a_candle(1)])
        await store.write([a_candle(2), a_candle(4), a_candle(6)])
        assert await store.latest("BTC/USDT", "5m", 10) == [a_candle(index) for index in range(7)]

    async def test_any_order_gives_the_same_history(self, store: CandleStore) -> None:
        candles = [a_candle(index) for index in range(60)]
        shuffled = random.Random(7).sample(candles, len(candles))
        for begin in range(0, 60, 7):
            await store.write(shuffled[begin : begin + 7])
        assert await store.latest("BTC/USDT", "5m", 100) == candles

    async def test_symbols_and_timeframes_are_apart(self, store: CandleStore) -> None:
        btc, eth, hourly = a_candle(3), a_candle(1, "ETH/USDT"), a_candle(0, timeframe="1h")
        await store.write([btc, eth, hourly])
        assert await store.latest("BTC/USDT", "5m", 10) == [btc]
        assert await store.latest("ETH/USDT", "5m", 10) == [eth]
        assert await store.last("BTC/USDT", "1h") == hourly

    async def test_a_mixed_batch_of_late_bars_is_sorted_out(self, store: CandleStore) -> None:
        await store.write([a_candle(2), a_candle(2, "ETH/USDT")])
        await store.write([a_candle(0), a_candle(0, "ETH/USDT"), a_candle(0, "SOL/USDT"), a_candle(1)])
        assert await store.latest("BTC/USDT", "5m", 10) == [a_candle(index) for index in range(3)]
        assert await store.latest("ETH/USDT", "5m", 10) == [a_candle(0, "ETH/USDT"), a_candle(2, "ETH/USDT")]
        assert await store.latest("SOL/USDT", "5m", 10) == [a_candle(0, "SOL/USDT")]

    async def test_the_newest_ticker_is_kept_of_each_symbol(self, store: CandleStore) -> None:
        assert await store.last_ticker("BTC/USDT") is None
        first, second = (a_ticker(seconds=at, last=last) for at, last in ((0, "61234.56000001"), (30, "61235.1")))
        await store.write_tickers([first, a_ticker("ETH/USDT", last="3000")])
        await store.write_tickers([second])
        # One that comes late replaces nothing.
        await store.write_tickers([a_ticker(seconds=10, last="5")])
        assert await store.last_ticker("BTC/USDT") == second
        assert await store.last_ticker("ETH/USDT") == a_ticker("ETH/USDT", last="3000")

    async def test_tickers_are_no_candles(self, store: CandleStore) -> None:
        await store.write_tickers([a_ticker()])
        assert await store.last("BTC/USDT", "5m") is None
        await store.write([a_candle()])
        assert await store.latest("BTC/USDT", "5m", 10) == [a_candle()]
