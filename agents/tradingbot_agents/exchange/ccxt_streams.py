"""Market data by websocket, with REST behind it: what ``feed: websocket`` gives data collection.

A stream that is connected and silent looks like a quiet market, and that is how a bot once traded blind. So every
stream has a watchdog of its own: what brings nothing for a while is dropped, told, and made anew, and until it is
back the questions go to REST. Nobody who asks has to know: it is the same port.

A bar of the stream is believed to be closed only when the next one has begun in the same unbroken stream. A cut may
have taken a bar's last trades with it, so after one nothing that was heard before is believed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import TIMEFRAMES, floor_time
from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange
from tradingbot_agents.exchange.port import ExchangeError

_SILENCES = 5
"""After so many silences in a row of one stream, all connections are made anew though other streams speak."""


class StreamKind(StrEnum):
    CANDLES = "candles"
    TICKER = "ticker"


class StreamNotice(msgspec.Struct, frozen=True, kw_only=True):
    """A stream stopped or came back; for events, logs and metrics. Each change is told once."""

    symbol: str
    kind: StreamKind
    at: datetime
    working: bool
    why: str = ""
    """Why it stopped."""
    silent: timedelta | None = None
    """How long nothing was heard, when it came back; ``None`` for the first time."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True):
    symbols: tuple[str, ...]
    timeframe: str
    silent_after: timedelta
    """A stream that brings nothing for so long is taken for dead."""
    retry: timedelta
    """The pause before it is made anew."""


class CandleBook:
    """The bars of one unbroken stream. Pure: it is fed, and asked."""

    def __init__(self, timeframe: str, keep: int) -> None:
        self._bar = TIMEFRAMES[timeframe]
        self._keep = keep
        self._bars: dict[datetime, Candle] = {}

    def take(self, candles: Sequence[Candle]) -> None:
        """News of the stream, oldest first. What came before a gap is forgotten."""
        for candle in candles:
            newest = max(self._bars, default=None)
            if newest is not None and candle.open_time > newest + self._bar:
                self._bars.clear()
            self._bars[candle.open_time] = candle
        while len(self._bars) > self._keep:
            del self._bars[min(self._bars)]

    def clear(self) -> None:
        self._bars.clear()

    def closed(self, newest_open: datetime, since: datetime | None, limit: int) -> list[Candle] | None:
        """What ``MarketFeed.candles`` answers, or ``None`` when the stream does not know all of it.

        ``newest_open``: when the newest bar that is closed by the clock has opened.
        """
        known = [at for at in sorted(self._bars) if at + self._bar in self._bars and at <= newest_open]
        if not known or known[-1] != newest_open:
            return None
        if since is None:
            return [self._bars[at] for at in known[-limit:]] if len(known) >= limit else None
        if since > newest_open:
            return []
        if known[0] > since:
            return None
        return [self._bars[at] for at in known if at >= since][:limit]


class _Stream:
    """One subscription and what is known of it."""

    def __init__(self) -> None:
        self.working = False
        self.told_down = False
        self.heard: datetime | None = None
        self.silences = 0
        """In a row."""


class StreamedFeed:
    """``MarketFeed`` by streams and REST. ``exchange`` must have been made with ``streams=True``; it stays the
    caller's to close, after ``stop``."""

    def __init__(
        self,
        *,
        exchange: CcxtExchange,
        settings: StreamSettings,
        clock: Clock,
        notice: Callable[[StreamNotice], None],
        keep: int = 1000,
    ) -> None:
        """``keep``: bars of a symbol that are kept in memory."""
        self._exchange = exchange
        self._settings = settings
        self._clock = clock
        self._notice = notice
        self._books = {symbol: CandleBook(settings.timeframe, keep) for symbol in settings.symbols}
        self._tickers: dict[str, Ticker] = {}
        self._streams = {(symbol, kind): _Stream() for symbol in settings.symbols for kind in StreamKind}
        self._connections: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Begin to listen. Until a stream speaks, REST answers."""
        for symbol, kind in self._streams:
            self._tasks.append(asyncio.create_task(self._listen(symbol, kind), name=f"{kind.value} of {symbol}"))

    async def stop(self) -> None:
        """Safe to repeat."""
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._exchange.drop_streams()

    def is_working(self, symbol: str, kind: StreamKind) -> bool:
        return self._streams[symbol, kind].working

    async def until(self, symbol: str, kind: StreamKind, working: bool) -> None:
        """Wait until the stream works, or does not."""
        while self._streams[symbol, kind].working is not working:
            self._changed.clear()
            await self._changed.wait()

    # MarketFeed

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        return await self._exchange.market_rules(symbols)

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        self._check()
        stream = self._streams.get((symbol, StreamKind.CANDLES))
        if stream is not None and stream.working and timeframe == self._settings.timeframe:
            bar = TIMEFRAMES[timeframe]
            newest_open = floor_time(self._exchange.exchange_time, bar) - bar
            known = self._books[symbol].closed(newest_open, since, limit)
            if known is not None:
                return known
        return await self._exchange.candles(symbol, timeframe, since, limit)

    async def ticker(self, symbol: str) -> Ticker:
        self._check()
        stream = self._streams.get((symbol, StreamKind.TICKER))
        if stream is not None and stream.working and symbol in self._tickers:
            return self._tickers[symbol]
        return await self._exchange.ticker(symbol)

    def _check(self) -> None:
        """A listener ends only when it is stopped. Whatever else ended it is the failure of who asks."""
        for task in self._tasks:
            if task.cancelled():
                raise RuntimeError(f"the listener to {task.get_name()} was ended")
            if task.done():
                task.result()

    # Listening

    async def _listen(self, symbol: str, kind: StreamKind) -> None:
        hear = self._hear_candles if kind is StreamKind.CANDLES else self._hear_ticker
        while True:
            why = await self._listen_until_it_ends(symbol, kind, hear)
            self._forget(symbol, kind)
            self._tell(symbol, kind, False, why)
            await asyncio.sleep(self._settings.retry.total_seconds())

    async def _listen_until_it_ends(
        self, symbol: str, kind: StreamKind, hear: Callable[[str], Awaitable[None]]
    ) -> str:
        """Why it ended."""
        limit = self._settings.silent_after.total_seconds()
        while True:
            try:
                async with asyncio.timeout(limit):
                    await hear(symbol)
            except TimeoutError:
                await self._stir(symbol, kind)
                return f"nothing was heard for {limit:g} s"
            except ExchangeError as error:
                return str(error)
            self._tell(symbol, kind, True, "")

    async def _stir(self, symbol: str, kind: StreamKind) -> None:
        """A silent stream may be a quiet market, a subscription that was lost, or a connection that looks alive and
        is not. New connections can tell, but they interrupt every stream: while others speak, they are made only
        now and then."""
        stream = self._streams[symbol, kind]
        stream.silences += 1
        others = any(other.working for other in self._streams.values() if other is not stream)
        if not others or stream.silences % _SILENCES == 0:
            await self._exchange.drop_streams()

    async def _hear_candles(self, symbol: str) -> None:
        candles = await self._exchange.watch_candles(symbol, self._settings.timeframe)
        # A connection that ended between two questions is made anew without a word.
        if self._connections.get(symbol) != self._exchange.stream_connections:
            self._connections[symbol] = self._exchange.stream_connections
            self._books[symbol].clear()
        self._books[symbol].take(candles)

    async def _hear_ticker(self, symbol: str) -> None:
        self._tickers[symbol] = await self._exchange.watch_ticker(symbol)

    def _forget(self, symbol: str, kind: StreamKind) -> None:
        if kind is StreamKind.CANDLES:
            self._books[symbol].clear()
        else:
            self._tickers.pop(symbol, None)

    def _tell(self, symbol: str, kind: StreamKind, working: bool, why: str) -> None:
        stream = self._streams[symbol, kind]
        now = self._clock.now()
        silent = None if stream.heard is None else now - stream.heard
        if working:
            stream.heard = now
            stream.silences = 0
        if stream.working is working and (working or stream.told_down):
            return
        stream.working = working
        stream.told_down = not working
        self._changed.set()
        self._notice(
            StreamNotice(
                symbol=symbol, kind=kind, at=now, working=working, why=why, silent=silent if working else None
            )
        )
