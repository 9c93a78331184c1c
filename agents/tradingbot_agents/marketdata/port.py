"""What a store of candles and tickers promises."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.ticker import Ticker


class CandleStoreUnavailable(Exception):
    """The store does not answer now; what is asked for may be there. Ask again later."""


class CandleStoreRefused(Exception):
    """The store answers, and says no: waiting does not mend that. The message has the remedy, and no secret."""


class CandleStore(Protocol):
    async def write(self, candles: Sequence[Candle]) -> None:
        """Keep the bars; one that is there already is replaced by itself. A store that is away or refuses keeps them
        aside, and tells it by an event."""
        ...

    async def write_tickers(self, tickers: Sequence[Ticker]) -> None:
        """Keep them likewise, one a symbol and second."""
        ...

    async def last_ticker(self, symbol: str) -> Ticker | None:
        """The newest, or ``None``. Raises ``CandleStoreUnavailable`` or ``CandleStoreRefused``."""
        ...

    async def last(self, symbol: str, timeframe: str) -> Candle | None:
        """The newest bar, or ``None``. Raises ``CandleStoreUnavailable`` or ``CandleStoreRefused``."""
        ...

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        """The newest ``limit`` bars, oldest first. Raises ``CandleStoreUnavailable`` or ``CandleStoreRefused``."""
        ...
