"""The answer "no" of every decision in this room: a stable code, and the figures behind it."""

from __future__ import annotations

from decimal import Context, Decimal

import msgspec

from tradingbot_agents.domain.events import Reason


class Refused(msgspec.Struct, frozen=True):
    reason: Reason
    detail: str
    """For people: the figures that decided."""


_SHOWN = Context(prec=8)


def plain(value: Decimal) -> str:
    """A figure for people: eight significant digits, no exponent."""
    return f"{_SHOWN.plus(value).normalize():f}"


def percent(fraction: Decimal) -> str:
    """``0.1534`` as ``15.34 %``."""
    return f"{(fraction * 100).quantize(Decimal('0.01')).normalize():f} %"
