"""What data collection is told by the spec. Defaults and their reasons are in the API types."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from tradingbot_agents.domain.values import TIMEFRAMES


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    symbols: tuple[str, ...]
    """In the spec's order: the candles of one moment are published in it."""
    timeframe: str
    """Length of a bar, such as ``5m``."""
    poll_interval: timedelta
    """How long to wait before asking again for a bar that should be there. A replay, whose bars are there at
    once or never, sets it to the timeframe: one poll a bar."""
    ticker_interval: timedelta | None
    """Between two readings of the last prices, which the store keeps (``None``: none are read, as in a replay)."""
    settle_delay: timedelta
    """How long after a bar's close to ask for it: exchanges publish it a moment later. Zero in a replay."""
    stale_after: timedelta
    """Age of the newest candle (from its close) at which a feed counts as silent. More than a bar, for the
    newest candle is a bar old when the next is due."""
    history: int
    """Bars of each symbol to have, and to publish as back-fill, on start."""

    def __post_init__(self) -> None:
        if not self.symbols:
            raise ValueError("symbols is empty: name at least one, such as BTC/USDT")
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError(f"symbols {', '.join(self.symbols)} name one twice: name each once")
        bar = TIMEFRAMES.get(self.timeframe)
        if bar is None:
            raise ValueError(f"timeframe {self.timeframe!r} is not known: use one of {', '.join(TIMEFRAMES)}")
        if self.poll_interval <= timedelta(0):
            raise ValueError(f"poll_interval is {self.poll_interval}, but it must be above zero")
        if not timedelta(0) <= self.settle_delay < bar:
            raise ValueError(f"settle_delay is {self.settle_delay}, but it must be within a bar of {self.timeframe}")
        if self.stale_after <= bar + self.settle_delay:
            raise ValueError(
                f"stale_after is {self.stale_after}, but a healthy feed's newest candle is up to"
                f" {bar + self.settle_delay} old (timeframe and settle_delay): make it longer"
            )
        if self.history < 1:
            raise ValueError(f"history is {self.history}, but it must be at least 1 bar")

    @property
    def bar(self) -> timedelta:
        return TIMEFRAMES[self.timeframe]
