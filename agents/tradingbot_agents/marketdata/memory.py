"""Candles of one process, in memory: the store of the replay, the tests and a laptop.

Bounded, for a process that runs for months must not grow: of each symbol and timeframe the newest are kept.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import islice

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.ticker import Ticker


class MemoryCandleStore:
    def __init__(self, capacity: int) -> None:
        """``capacity`` is the number of bars kept of each symbol and timeframe."""
        if capacity < 1:
            raise ValueError(f"capacity of the candle store is {capacity}, but it must keep at least 1 bar a symbol")
        self._capacity = capacity
        self._series: dict[tuple[str, str], deque[Candle]] = {}
        self._tickers: dict[str, Ticker] = {}

    async def write(self, candles: Sequence[Candle]) -> None:
        for index, candle in enumerate(candles):
            key = (candle.symbol, candle.timeframe)
            series = self._series.get(key)
            if series is None:
                series = self._series[key] = deque(maxlen=self._capacity)
            if not series or candle.open_time > series[-1].open_time:
                series.append(candle)
            elif candle.open_time == series[-1].open_time:
                series[-1] = candle
            else:
                self._merge(candles[index:])
                return

    async def write_tickers(self, tickers: Sequence[Ticker]) -> None:
        for ticker in tickers:
            known = self._tickers.get(ticker.symbol)
            if known is None or ticker.at >= known.at:
                self._tickers[ticker.symbol] = ticker

    async def last_ticker(self, symbol: str) -> Ticker | None:
        return self._tickers.get(symbol)

    async def last(self, symbol: str, timeframe: str) -> Candle | None:
        series = self._series.get((symbol, timeframe))
        return series[-1] if series else None

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        series = self._series.get((symbol, timeframe))
        if series is None or limit < 1:
            return []
        newest = list(islice(reversed(series), limit))
        newest.reverse()
        return newest

    def _merge(self, candles: Sequence[Candle]) -> None:
        """Back-filled bars go where they belong: all at once, for one by one would copy the series for each."""
        batches: dict[tuple[str, str], list[Candle]] = {}
        for candle in candles:
            batches.setdefault((candle.symbol, candle.timeframe), []).append(candle)
        for key, batch in batches.items():
            by_time = {candle.open_time: candle for candle in (*self._series.get(key, ()), *batch)}
            self._series[key] = deque((by_time[at] for at in sorted(by_time)), maxlen=self._capacity)
