"""The agent that decides: signals in, intents out.

``fusion`` makes one direction of many readings, ``decide`` says when that is a trade, ``plugin`` puts a strategy of
one's own in the fusion's place; ``agent`` feeds them.
"""

from tradingbot_agents.strategy.plugin import PluginError, Strategy
from tradingbot_agents.strategy.settings import (
    BayesianSettings,
    ConsensusSettings,
    FusionMethod,
    FusionSettings,
    HybridSettings,
    PluginSettings,
    StrategySettings,
    TimeDecaySettings,
)
from tradingbot_agents.strategy.view import View, Wish

__all__ = [
    "BayesianSettings",
    "ConsensusSettings",
    "FusionMethod",
    "FusionSettings",
    "HybridSettings",
    "PluginError",
    "PluginSettings",
    "Strategy",
    "StrategySettings",
    "TimeDecaySettings",
    "View",
    "Wish",
]
