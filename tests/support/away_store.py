"""A candle store that a test can take away, or let refuse: reads fail, what is written is kept, as in a spool."""

from __future__ import annotations

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.marketdata import CandleStoreUnavailable, MemoryCandleStore


class AwayStore(MemoryCandleStore):
    away = False
    trouble: type[Exception] = CandleStoreUnavailable

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        if self.away:
            raise self.trouble("InfluxDB does not answer, or says no")
        return await super().latest(symbol, timeframe, limit)
