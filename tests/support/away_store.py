"""A candle store that a test can take away: reads fail, and what is written is kept, as a spool does."""

from __future__ import annotations

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.marketdata import CandleStoreUnavailable, MemoryCandleStore


class AwayStore(MemoryCandleStore):
    away = False

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        if self.away:
            raise CandleStoreUnavailable("InfluxDB does not answer")
        return await super().latest(symbol, timeframe, limit)
