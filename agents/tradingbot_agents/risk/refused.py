"""The answer "no" of every decision in this room: a stable code, and the figures behind it."""

from __future__ import annotations

import msgspec

from tradingbot_agents.domain.events import Reason


class Refused(msgspec.Struct, frozen=True):
    reason: Reason
    detail: str
    """For people: the figures that decided."""
