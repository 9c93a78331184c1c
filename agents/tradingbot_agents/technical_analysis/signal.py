"""From readings to one signal: the plain majority, and the average true range as money."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

from tradingbot_agents.domain.messages import Direction, Reading

ATR_DIGITS = 10
"""Significant digits of the average true range: far more than sizing needs, for any price, and none of the noise of
a float."""

_UP, _DOWN = Direction.UP, Direction.DOWN


def majority(readings: Sequence[Reading]) -> tuple[Direction, float]:
    """The direction that more indicators give, and the sum of their confidences over the number of all that are not
    neutral. A tie is neutral, with confidence 0. This is the view for people; the strategy fuses by its own rules.
    """
    up = down = 0
    sum_up = sum_down = 0.0
    for reading in readings:
        if reading.direction is _UP:
            up += 1
            sum_up += reading.confidence
        elif reading.direction is _DOWN:
            down += 1
            sum_down += reading.confidence
    if up == down:
        return Direction.NEUTRAL, 0.0
    return (_UP, sum_up / (up + down)) if up > down else (_DOWN, sum_down / (up + down))


def average_true_range(unit: float) -> Decimal | None:
    """A window's unit in quote currency, as money. ``None`` when prices do not move: then it measures nothing."""
    return Decimal(f"{unit:.{ATR_DIGITS}g}") if 0 < unit < math.inf else None
