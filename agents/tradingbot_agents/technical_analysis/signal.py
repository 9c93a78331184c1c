"""From readings to one signal: the plain majority, and the average true range as money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from tradingbot_agents.domain.messages import Direction, Reading

ATR_DIGITS = 10
"""Significant digits of the average true range: far more than sizing needs, for any price, and none of the noise of
a float."""


def majority(readings: Sequence[Reading]) -> tuple[Direction, float]:
    """The direction that more indicators give, and the sum of their confidences over the number of all that are not
    neutral. A tie is neutral, with confidence 0. This is the view for people; the strategy fuses by its own rules.
    """
    up = [reading.confidence for reading in readings if reading.direction is Direction.UP]
    down = [reading.confidence for reading in readings if reading.direction is Direction.DOWN]
    if len(up) == len(down):
        return Direction.NEUTRAL, 0.0
    direction, agreeing = (Direction.UP, up) if len(up) > len(down) else (Direction.DOWN, down)
    return direction, round(math.fsum(agreeing) / (len(up) + len(down)), 6)


def average_true_range(unit: float) -> Decimal | None:
    """A window's unit in quote currency, as money. ``None`` when prices do not move: then it measures nothing."""
    return Decimal(f"{unit:.{ATR_DIGITS}g}") if 0 < unit < math.inf else None
