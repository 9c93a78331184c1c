"""A strategy that wishes often, so that there is always something to go wrong: a plug-in, pure as they must be."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b

from tradingbot_agents.domain.values import Side
from tradingbot_agents.strategy import View, Wish

PATH = "support.simulation.eager:Eager"


class Eager:
    """Decides by a hash of the candle's name and ``salt``; ``buy`` and ``sell`` are chances of 256."""

    def __init__(self, parameters: Mapping[str, str]) -> None:
        self.salt = parameters["salt"]
        self.buy = int(parameters["buy"])
        self.sell = int(parameters["sell"])

    def decide(self, view: View) -> Wish | None:
        hashed = blake2b(f"{self.salt}.{view.signals[-1].candle_id}".encode(), digest_size=2).digest()
        if hashed[0] < self.buy:
            side = Side.BUY
        elif hashed[0] < self.buy + self.sell:
            side = Side.SELL
        else:
            return None
        return Wish(side=side, confidence=0.5 + hashed[1] / 512, reason="eager", indicators=("rsi",))
