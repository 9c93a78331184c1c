"""Market history: where candles are kept and asked for. In memory here; InfluxDB in a cluster."""

from tradingbot_agents.marketdata.memory import MemoryCandleStore
from tradingbot_agents.marketdata.port import CandleStore, CandleStoreRefused, CandleStoreUnavailable

__all__ = ["CandleStore", "CandleStoreRefused", "CandleStoreUnavailable", "MemoryCandleStore"]
