"""The indicators' record as it was when a candle closed.

A candle's trades are booked while its signal is on the way, in an order that a crash can change. If the trades of
that very moment counted, a decision taken again after a restart could be another one. So they are taken off.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

import msgspec

from tradingbot_agents.domain.values import ZERO
from tradingbot_agents.ledger.port import Performance, Trade


class Record(msgspec.Struct, frozen=True):
    """What the ledger says now."""

    performance: Mapping[str, Performance]
    recent: tuple[Trade, ...]
    """Trades that ``performance`` has and that closed since before any candle that can still be decided on."""

    def as_of(self, at: datetime) -> Mapping[str, Performance]:
        """Without the trades that closed at ``at`` or later."""
        later = [trade for trade in self.recent if trade.closed_at >= at]
        if not later:
            return self.performance
        wins = Counter(indicator for trade in later if trade.profit > ZERO for indicator in trade.indicators)
        losses = Counter(indicator for trade in later if trade.profit <= ZERO for indicator in trade.indicators)
        return {
            indicator: Performance(
                indicator, max(record.wins - wins[indicator], 0), max(record.losses - losses[indicator], 0)
            )
            for indicator, record in self.performance.items()
        }
