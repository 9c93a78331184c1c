"""What may not be evicted while money depends on it.

A node is drained by evicting its pods. While a live bot holds positions, an eviction of risk or execution is refused,
so that a person first decides (``state: Flatten``, or the eviction in spite of it: docs say how). At any other time a
budget would only keep a node from being drained, so there is none.
"""

from __future__ import annotations

from tradingbot_api import TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import pods
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

_GUARDED = (Component.EXECUTION, Component.RISK)


def budgets(bot: TradingBot, namespace: str, *, has_positions: bool) -> list[Manifest]:
    """``has_positions``: as last reported."""
    if bot.spec.mode != "live" or not has_positions:
        return []
    name = bot.metadata.name
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": pods.metadata(names.child(name, component), namespace, names.bot_labels(name, component)),
            "spec": {
                "maxUnavailable": 0,
                "selector": {"matchLabels": names.bot_selector(name, component)},
                # One that does not work guards nothing: it may go to another node.
                "unhealthyPodEvictionPolicy": "AlwaysAllow",
            },
        }
        for component in _GUARDED
    ]
