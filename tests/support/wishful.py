"""A strategy that wishes to buy with every candle: a plug-in for tests of the whole."""

from __future__ import annotations

from collections.abc import Mapping

from tradingbot_agents.domain.values import Side
from tradingbot_agents.strategy import View, Wish

PATH = "support.wishful:Wishful"


class Wishful:
    def __init__(self, parameters: Mapping[str, str]) -> None:
        self._confidence = float(parameters["confidence"])

    def decide(self, view: View) -> Wish | None:
        return Wish(side=Side.BUY, confidence=self._confidence, reason="wishful", indicators=())
