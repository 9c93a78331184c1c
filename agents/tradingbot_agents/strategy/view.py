"""What a decision is made from, and what it is. A plug-in sees these two types and nothing else of the agent."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

import msgspec

from tradingbot_agents.domain.messages import SignalRaised
from tradingbot_agents.domain.values import Side
from tradingbot_agents.ledger.port import Performance


class View(msgspec.Struct, frozen=True):
    """Everything that a decision may depend on: no clock, no state, so that a restart decides the same."""

    signals: tuple[SignalRaised, ...]
    """Of one symbol, oldest first: one more than the memory. The last one's candle is decided on."""
    performance: Mapping[str, Performance]
    """Wins and losses of trades that an indicator supported, by its id, as they were when that candle closed. An
    indicator without any is not in it."""


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """To trade, now. Risk decides whether and how much."""

    side: Side
    confidence: float
    """In 0..1; it is rounded to four places."""
    reason: str
    """For people: what decided."""
    indicators: tuple[str, ...]
    """Ids of the indicators that support it: their record is written when the trade closes."""


class NoTrade(StrEnum):
    """Why a signal made no intent."""

    BACKFILL = "backfill"
    """History: it warms up, nobody trades on it."""
    DUPLICATE = "duplicate"
    """This candle was decided on already."""
    WARMING_UP = "warming_up"
    """Fewer signals than the memory and the one before."""
    STALE = "stale"
    """The candle closed too long ago."""
    NO_WISH = "no_wish"
    """The plug-in wishes nothing."""
    BELOW_THRESHOLD = "below_threshold"
    NO_EDGE = "no_edge"
    """The candle before said the same."""
    SELL_OFF = "sell_off"
    """A SELL, and the settings leave exits to stops and targets."""
