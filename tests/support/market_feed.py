"""A market feed that shows a test's candles when it says, as badly as it says."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.exchange import ExchangeError, Ticker


class ScriptedFeed:
    """Shows each bar from its close on (plus ``late_by``), oldest first, unless told otherwise."""

    def __init__(self, clock: Clock, candles: Sequence[Candle] = (), page_limit: int = 1_000_000) -> None:
        self._clock = clock
        self.page_limit = page_limit
        self._bars: dict[str, dict[datetime, Candle]] = {}
        self.late_by: dict[tuple[str, datetime], timedelta] = {}
        self.errors: deque[ExchangeError] = deque()
        """Raised by the next calls, one each."""
        self.failing: Callable[[str, datetime], ExchangeError | None] = lambda symbol, now: None
        self.mangle: Callable[[list[Candle]], list[Candle]] = lambda page: page
        """What is done to each page before it is shown."""
        self.prices: dict[str, Decimal] = {}
        self.asked: list[tuple[str, datetime | None, int]] = []
        """Symbol, since and limit of each request for candles."""
        self.asked_at: list[datetime] = []
        self.takes = timedelta(0)
        """How long each request takes."""
        self.add(candles)

    def add(self, candles: Sequence[Candle]) -> None:
        """Further bars; one of the same time replaces the other."""
        for candle in candles:
            self._bars.setdefault(candle.symbol, {})[candle.open_time] = candle

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        raise AssertionError("data collection has no use for market rules")

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        self.asked.append((symbol, since, limit))
        self.asked_at.append(self._clock.now())
        await self._clock.sleep(self.takes)
        now = self._clock.now()
        error = self.errors.popleft() if self.errors else self.failing(symbol, now)
        if error is not None:
            raise error
        bars = self._bars.get(symbol, {})
        shown = [
            bars[opened]
            for opened in sorted(bars)
            if bars[opened].close_time + self.late_by.get((symbol, opened), timedelta(0)) <= now
            and (since is None or opened >= since)
        ]
        limit = min(limit, self.page_limit)
        return self.mangle(shown[-limit:] if since is None else shown[:limit])

    async def ticker(self, symbol: str) -> Ticker:
        error = self.errors.popleft() if self.errors else None
        if error is not None:
            raise error
        return Ticker(symbol, self.prices[symbol], self._clock.now())
