"""Evidence of InfluxDB: the bars that the agents read there. It only reads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import TIMEFRAMES
from tradingbot_agents.marketdata.influx import InfluxCandleStore, InfluxSettings
from tradingbot_agents.marketdata.port import CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.reality.evidence import CandleEvidence, Known, Missing
from tradingbot_agents.telemetry import MemorySink

MOST = 2000
"""Bars of a symbol: a day of the finest ones and some more. A bar is half a kilobyte here, and more in an answer."""


async def candle_evidence(
    url: Callable[[], str],
    token: Callable[[], str],
    settings: InfluxSettings,
    symbols: Sequence[str],
    timeframe: str,
    *,
    since: datetime,
    clock: Clock,
    limit: timedelta,
) -> Known[CandleEvidence]:
    """The bars that opened from ``since`` on, within ``limit``. Raises nothing: what is wrong is ``Missing``, without
    a secret."""
    settings = msgspec.structs.replace(settings, timeout=min(settings.timeout, limit))
    try:
        async with asyncio.timeout(limit.total_seconds()):
            store = InfluxCandleStore.open(
                url(), token(), settings, spool=None, clock=clock, sink=MemorySink(), agent="reality-check"
            )
            try:
                return await _look(store, symbols, timeframe, since, clock)
            finally:
                await store.close()
    except (CandleStoreUnavailable, CandleStoreRefused) as error:
        return Missing(f"the candle store could not be read: {error}")
    except TimeoutError:
        return Missing(f"InfluxDB did not answer all that was asked within {limit.total_seconds():g} s")
    except Exception as error:
        return Missing(f"the candle store could not be read: {type(error).__name__}")


async def _look(
    store: InfluxCandleStore, symbols: Sequence[str], timeframe: str, since: datetime, clock: Clock
) -> CandleEvidence:
    bar = TIMEFRAMES[timeframe]
    # A bar of the future is a finding, too: one that opens now is not over before a bar, and clocks differ.
    end = clock.now() + 2 * bar
    since = max(since, end - MOST * bar)
    candles: dict[str, Sequence[Candle]] = {}
    for symbol in symbols:
        found = await store.between(symbol, timeframe, since, end, MOST)
        candles[symbol] = found or await store.latest(symbol, timeframe, 1)
    return CandleEvidence(read_at=clock.now(), candles=candles, since=since)
