"""What is known of one symbol's candles, and what follows from a new answer of the exchange.

A state machine without I/O: time comes as an argument. It is offered whatever was fetched, in any order and any
number of times; it lets each closed bar out once, in order, and says which never came.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

import msgspec

from tradingbot_agents.domain.candle import Candle, candle_problem
from tradingbot_agents.domain.values import TIMEFRAMES, floor_time


class Refused(msgspec.Struct, frozen=True):
    """A bar whose numbers make no sense. It counts as missing until the exchange has a better one."""

    open_time: datetime
    why: str


class Gap(msgspec.Struct, frozen=True):
    """``missing`` bars between the two open times that the exchange does not have."""

    after: datetime
    before: datetime
    missing: int


class Silence(msgspec.Struct, frozen=True):
    """The feed has gone silent. ``age`` is that of the newest candle; both are ``None`` when there never was
    one."""

    last_close: datetime | None
    age: timedelta | None


class Recovery(msgspec.Struct, frozen=True):
    """Candles are fresh again after ``silent``."""

    silent: timedelta


class Tracker:
    def __init__(self, symbol: str, timeframe: str, since: datetime, started: datetime) -> None:
        """``since`` is the open time of the oldest bar that is wanted; silence counts from ``started`` until
        there is a candle."""
        self.symbol = symbol
        self.timeframe = timeframe
        self._bar = TIMEFRAMES[timeframe]
        self._started = started
        self._last: datetime | None = None
        self._next_open = since
        self._held: dict[datetime, Candle] = {}
        """Good bars that are not let out yet: an older one may still come."""
        self._refused: dict[datetime, str] = {}
        """What was refused and said so: the same broken bar comes with every poll."""
        self._silent_since: datetime | None = None

    @property
    def next_open(self) -> datetime:
        """Open time of the bar that comes next."""
        return self._next_open

    def is_behind(self, closed: datetime) -> bool:
        """Whether a bar that closed by ``closed`` (a bar boundary) is still to come."""
        return self._last is None or self._next_open < closed

    def first_missing(self, since: datetime) -> datetime:
        """Open time of the first bar from ``since`` on that is neither let out nor held."""
        missing = max(since, self._next_open)
        while missing in self._held:
            missing += self._bar
        return missing

    def offer(self, candles: Iterable[Candle], now: datetime) -> tuple[datetime | None, list[Refused]]:
        """Take what was fetched. Returns how far the answer reached (the newest closed bar in it, whatever
        became of it) and what is newly refused. Bars that are known, or not closed by ``now``, are dropped."""
        reached: datetime | None = None
        refused: list[Refused] = []
        latest_open = now - self._bar
        for candle in candles:
            opened = candle.open_time
            if opened > latest_open:
                continue
            if reached is None or opened > reached:
                reached = opened
            if opened < self._next_open or opened in self._held:
                continue
            why = self._problem(candle)
            if why is None:
                self._held[opened] = candle
            elif self._refused.get(opened) != why:
                self._refused[opened] = why
                refused.append(Refused(opened, why))
        return reached, refused

    def release(self, asked: bool) -> tuple[list[Candle], list[Gap]]:
        """Let out the bars whose turn it is, oldest first. ``asked`` says that the exchange was asked for
        everything that is missing: only then does a hole become a gap, else the bars behind it wait."""
        if not self._held:
            return [], []
        out: list[Candle] = []
        gaps: list[Gap] = []
        for opened in sorted(self._held):
            if self._last is not None and opened > self._next_open:
                if not asked:
                    break
                missing = (opened - self._next_open) // self._bar
                gaps.append(Gap(self._last, opened, missing))
            out.append(self._held.pop(opened))
            self._last = opened
            self._next_open = opened + self._bar
        if self._refused:
            self._refused = {at: why for at, why in self._refused.items() if at >= self._next_open}
        return out, gaps

    def watch(self, now: datetime, stale_after: timedelta) -> Silence | Recovery | None:
        """The change between heard and silent, once each."""
        last_close = None if self._last is None else self._next_open
        if self._silent_since is None:
            heard = last_close or self._started
            if now - heard < stale_after:
                return None
            self._silent_since = heard
            return Silence(last_close, None if last_close is None else now - last_close)
        if last_close is None or now - last_close >= stale_after:
            return None
        silent = now - self._silent_since
        self._silent_since = None
        return Recovery(silent)

    def _problem(self, candle: Candle) -> str | None:
        if candle.symbol != self.symbol or candle.timeframe != self.timeframe:
            return f"it is a candle of {candle.symbol} {candle.timeframe}, not of {self.symbol} {self.timeframe}"
        if candle.open_time != floor_time(candle.open_time, self._bar):
            return f"open time {candle.open_time.isoformat()} is not the start of a bar of {self.timeframe}"
        return candle_problem(candle)
