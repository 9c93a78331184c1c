"""Rules that stop entries for a while: drawdown, daily loss, cooldown, stop-loss guard. Exits always work.

Each is a function of the ledger's rows (finished trades, equity points) and of now, with a bounded look back.
Nothing is remembered here, so that a restart changes nothing. A pause still holds at its very last moment: a loss
at the close of one bar and a decision at the close of another lie whole bars apart, and the moments that orders
take must not decide.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.spelling import percent, plain
from tradingbot_agents.domain.values import ONE, ZERO, Leg, floor_time
from tradingbot_agents.ledger.port import EquityPoint, Trade
from tradingbot_agents.risk.exposure import unit_values
from tradingbot_agents.risk.settings import Cooldown, DailyLoss, MaxDrawdown, Protections, StopLossGuard

DAY = timedelta(days=1)
EQUITY_DELAY = timedelta(seconds=1)
"""How long after a multiple of the interval the equity is recorded: what the bars that close with it set off is
done by then, so that neither the order of timers nor a restart changes what is recorded."""


class Active(msgspec.Struct, frozen=True):
    """A protection in force."""

    protection: str
    """Its name in the spec."""
    symbol: str | None
    """``None``: it holds for all symbols."""
    until: datetime
    detail: str

    def __str__(self) -> str:
        return f"{self.protection} until {self.until:%Y-%m-%d %H:%M:%SZ}: {self.detail}"

    def binds(self, symbol: str) -> bool:
        return self.symbol is None or self.symbol == symbol


def equity_since(settings: Protections, now: datetime) -> datetime | None:
    """From when equity points are needed; ``None``: not at all."""
    since = []
    if settings.max_drawdown is not None:
        since.append(now - settings.max_drawdown.pause - settings.max_drawdown.lookback)
    if settings.daily_loss is not None:
        since.append(floor_time(now, DAY) - DAY)
    return min(since, default=None)


def trades_since(settings: Protections, now: datetime) -> datetime | None:
    """From when finished trades are needed; ``None``: not at all."""
    since = []
    if settings.cooldown is not None:
        since.append(now - settings.cooldown.pause)
    if settings.stop_loss_guard is not None:
        since.append(now - settings.stop_loss_guard.pause - settings.stop_loss_guard.lookback)
    return min(since, default=None)


def active_protections(
    settings: Protections, now: datetime, *, trades: Sequence[Trade], equity: Sequence[EquityPoint]
) -> list[Active]:
    """All that are in force at ``now``. ``trades`` and ``equity`` oldest first, the equity of now included;
    outside movements count neither as loss nor as gain."""
    found: list[Active] = []
    if settings.max_drawdown is not None:
        found += max_drawdown(settings.max_drawdown, now, equity)
    if settings.daily_loss is not None:
        found += daily_loss(settings.daily_loss, now, equity)
    if settings.cooldown is not None:
        found += cooldown(settings.cooldown, now, trades)
    if settings.stop_loss_guard is not None:
        found += stop_loss_guard(settings.stop_loss_guard, now, trades)
    return found


class _Unit(msgspec.Struct, frozen=True):
    """A point, and what a share of the account was worth then."""

    at: datetime
    gross: Decimal
    value: Decimal

    def in_its_money(self, other: _Unit) -> Decimal:
        """What ``other`` would have been, had the money that came or went since been there or gone already."""
        return other.value * self.gross / self.value if self.value > ZERO else other.gross


def _units(equity: Sequence[EquityPoint]) -> list[_Unit]:
    return [_Unit(point.at, point.gross, value) for point, value in zip(equity, unit_values(equity), strict=True)]


def max_drawdown(settings: MaxDrawdown, now: datetime, equity: Sequence[EquityPoint]) -> list[Active]:
    """In force for ``pause`` after the last point that was ``limit`` or more below the highest of the
    ``lookback`` before it. While the account stays that deep the pause begins anew, so it ends at the latest
    ``pause`` after the high is forgotten."""
    highs: deque[_Unit] = deque()
    breach: tuple[_Unit, _Unit] | None = None
    for unit in _units(equity):
        while highs and highs[-1].value <= unit.value:
            highs.pop()
        highs.append(unit)
        while highs[0].at < unit.at - settings.lookback:
            highs.popleft()
        high = highs[0]
        if high.value > ZERO and unit.value <= high.value * (ONE - settings.limit):
            breach = (unit, high)
    if breach is None or breach[0].at + settings.pause <= now:
        return []
    low, high = breach
    detail = (
        f"equity of {plain(low.gross)} was {percent(ONE - low.value / high.value)} below the"
        f" {plain(low.in_its_money(high))} of {high.at:%Y-%m-%d %H:%MZ}, limit {percent(settings.limit)}"
    )
    return [Active("maxDrawdown", None, low.at + settings.pause, detail)]


def daily_loss(settings: DailyLoss, now: datetime, equity: Sequence[EquityPoint]) -> list[Active]:
    """In force until the next day (UTC) once the day's lowest equity is ``limit`` or more below the one it
    began with: the point of midnight, which has all that yesterday's last bar set off; without it (nobody was
    there) the last one of the day before, or else the first of this one."""
    midnight = floor_time(now, DAY)
    units = _units(equity)
    before = [unit for unit in units if midnight - DAY <= unit.at < midnight]
    today = [unit for unit in units if midnight <= unit.at <= now]
    if not today:
        return []
    start = before[-1] if before and today[0].at > midnight + EQUITY_DELAY else today[0]
    lowest = min(today, key=lambda unit: unit.value)
    if start.value <= ZERO or lowest.value > start.value * (ONE - settings.limit):
        return []
    detail = (
        f"the day began with {plain(lowest.in_its_money(start))} and fell to {plain(lowest.gross)},"
        f" {percent(ONE - lowest.value / start.value)} less, limit {percent(settings.limit)}"
    )
    return [Active("dailyLoss", None, midnight + DAY, detail)]


def cooldown(settings: Cooldown, now: datetime, trades: Sequence[Trade]) -> list[Active]:
    """In force for ``pause`` after a trade closed with a loss, for its symbol or for all."""
    last: dict[str | None, Trade] = {}
    for trade in trades:
        if trade.profit < ZERO:
            last[trade.symbol if settings.per_symbol else None] = trade
    return [
        Active("cooldown", symbol, until, f"{trade.symbol} closed with a loss of {plain(-trade.profit)}")
        for symbol, trade in last.items()
        if (until := trade.closed_at + settings.pause) >= now
    ]


def stop_loss_guard(settings: StopLossGuard, now: datetime, trades: Sequence[Trade]) -> list[Active]:
    """In force for ``pause`` after the last of ``count`` stop-losses that lie within ``lookback``. A stop that
    was trailed into profit is none."""
    stops: dict[str | None, list[Trade]] = {}
    for trade in trades:
        if trade.leg is Leg.STOP and trade.profit < ZERO:
            stops.setdefault(trade.symbol if settings.per_symbol else None, []).append(trade)
    found = []
    for symbol, hit in stops.items():
        for index in range(len(hit) - 1, settings.count - 2, -1):
            last, first = hit[index], hit[index - settings.count + 1]
            if last.closed_at - first.closed_at <= settings.lookback:
                until = last.closed_at + settings.pause
                if until >= now:
                    span = f"{first.closed_at:%Y-%m-%d %H:%MZ} and {last.closed_at:%Y-%m-%d %H:%MZ}"
                    detail = f"{settings.count} stop-losses between {span}"
                    found.append(Active("stopLossGuard", symbol, until, detail))
                break
    return found


class Announcer:
    """Remembers what was told, so that an activation is one event however many intents it refuses."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str | None], datetime] = {}

    def news(self, active: Iterable[Active], now: datetime) -> list[Active]:
        """Those of ``active`` that were not in force when last asked."""
        fresh = []
        for each in active:
            key = (each.protection, each.symbol)
            told = self._told.get(key)
            if told is None or told <= now:
                fresh.append(each)
            self._told[key] = each.until
        return fresh
