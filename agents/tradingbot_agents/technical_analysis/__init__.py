"""The agent that reads the market: indicators over a rolling window, one signal per candle.

``window`` and ``indicators`` are pure functions of the last N candles; ``agent`` feeds them.
"""

from tradingbot_agents.technical_analysis.agent import TechnicalAnalysisAgent
from tradingbot_agents.technical_analysis.settings import IndicatorSettings, TechnicalAnalysisSettings

__all__ = ["IndicatorSettings", "TechnicalAnalysisAgent", "TechnicalAnalysisSettings"]
