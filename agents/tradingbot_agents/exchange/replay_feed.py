"""Candle files as a market that goes on: the tape is played in real time, and from its start again at its end.

Several processes read the same files and must see the same market, after any restart, without a word between them. So
where the tape stands is a function of the clock alone: its bars are moved by whole tapes to where now is. What it
tells is as old or as new as a real feed's, and what it is about is not: at the seam the price jumps from the tape's
last to its first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice, takewhile

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import TIMEFRAMES, floor_time
from tradingbot_agents.exchange.candle_source import CandleSource
from tradingbot_agents.exchange.market_rules import rules_of
from tradingbot_agents.exchange.port import ExchangeError, NotListed


class _Track:
    """One symbol's bars: the last that have closed, and where the tape goes on."""

    def __init__(self, closed: deque[Candle], ahead: Iterator[Candle]) -> None:
        self.closed = closed
        self._ahead = ahead
        self._next = next(ahead)

    def advance(self, now: datetime) -> None:
        while self._next.close_time <= now:
            self.closed.append(self._next)
            self._next = next(self._ahead)


class ReplayFeed:
    """``MarketFeed`` over candle files."""

    def __init__(self, *, source: CandleSource, rules: Mapping[str, SymbolRules], clock: Clock, history: int) -> None:
        """``history``: bars of a symbol that are kept at hand; older ones are told by their time only, from the file.

        Checks every candle. Raises ``CandleFileInvalid`` or ``NoMarketRules``.
        """
        self._source = source
        self._rules = rules_of(rules, source.symbols, None)
        self._clock = clock
        self._step = TIMEFRAMES[source.timeframe]
        reports = source.check()
        self._start = source.start_time
        self.length = max(report.last_open for report in reports) + self._step - self._start
        """Of the tape, from its first bar's opening to its last bar's close."""
        self._files = {file.symbol: file for file in source.files}
        since = floor_time(clock.now(), self._step) - history * self._step
        self._tracks = {symbol: _Track(deque(maxlen=history), self._bars(symbol, since)) for symbol in source.symbols}

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        missing = [symbol for symbol in symbols if symbol not in self._rules]
        if missing:
            raise NotListed(missing, "the tape")
        return {symbol: self._rules[symbol] for symbol in symbols}

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        if timeframe != self._source.timeframe:
            raise ExchangeError(f"the candles replayed are {self._source.timeframe}, not {timeframe}")
        closed = self._closed(symbol)
        if since is None:
            return list(closed)[-limit:]
        if closed and since >= closed[0].open_time:
            first = bisect_left(closed, since, key=lambda bar: bar.open_time)
            return list(islice(closed, first, first + limit))
        now = self._clock.now()
        return list(islice(takewhile(lambda bar: bar.close_time <= now, self._bars(symbol, since)), limit))

    async def ticker(self, symbol: str) -> Ticker:
        """The close of the last bar, at the time of that close."""
        closed = self._closed(symbol)
        if not closed:
            raise ExchangeError(f"{symbol} has no price now: the tape has a gap there")
        return Ticker(symbol, closed[-1].close, closed[-1].close_time)

    def _closed(self, symbol: str) -> deque[Candle]:
        track = self._tracks.get(symbol)
        if track is None:
            raise ExchangeError(f"{symbol} is not on the tape; there are {', '.join(self._tracks)}")
        track.advance(self._clock.now())
        return track.closed

    def _bars(self, symbol: str, since: datetime) -> Iterator[Candle]:
        """Those that open at or after ``since``, without an end. Reads the file as far as it is asked to."""
        lap = (since - self._start) // self.length
        while True:
            moved = lap * self.length
            for bar in self._files[symbol].rows(since - moved):
                yield msgspec.structs.replace(bar, open_time=bar.open_time + moved)
            lap += 1
