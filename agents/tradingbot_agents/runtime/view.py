"""The live view on a terminal: progress, equity, positions with their stops, and the last decisions.

``Dashboard`` collects (it is a sink for events); ``render`` is a pure function of what it collected.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tradingbot_agents.domain.events import (
    Event,
    FillBooked,
    Severity,
    TradeApproved,
    TradeClosed,
    TradeRejected,
)
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.values import ZERO, BotState
from tradingbot_agents.ledger.port import Balance

RECENT = 9
"""Decisions and warnings that are shown."""

SPARKS = "▁▂▃▄▅▆▇█"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the view shows besides events. Money in quote currency."""

    bot: str
    account: str
    quote: str
    state: BotState
    at: datetime
    end: datetime
    candles: int
    candles_in_all: int
    rate: float
    """Candles a second, in real time."""
    equity_start: Decimal
    equity: Decimal
    realised: Decimal
    balances: Mapping[str, Balance]
    positions: Mapping[str, Position]
    prices: Mapping[str, Decimal]


class Dashboard:
    """Keeps the last events and the equity's course."""

    def __init__(self) -> None:
        self.recent: deque[Text] = deque(maxlen=RECENT)
        self.approved = 0
        self.refused: dict[str, int] = {}
        self.course: list[Decimal] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, TradeApproved):
            self.approved += 1
        elif isinstance(event, TradeRejected):
            self.refused[event.reason.value] = self.refused.get(event.reason.value, 0) + 1
        line = describe(event)
        if line is not None:
            self.recent.append(line)

    def note_equity(self, equity: Decimal, most: int = 240) -> None:
        self.course.append(equity)
        if len(self.course) > most:
            self.course = self.course[::2]


def describe(event: Event) -> Text | None:
    """One line for people, or ``None`` for what is not worth one."""
    when = f"{event.at:%m-%d %H:%M} "
    if isinstance(event, TradeApproved):
        size = f"{event.amount:f}" if event.amount is not None else "whole position"
        price = f" ≤ {event.limit_price:f}" if event.limit_price is not None else ""
        return Text.assemble(
            (when, "dim"), ("approved ", "green"), f"{event.side.value} {event.symbol} {size}{price}"
        )
    if isinstance(event, TradeRejected):
        return Text.assemble(
            (when, "dim"),
            ("refused  ", "yellow"),
            f"{event.side.value} {event.symbol} ",
            (event.reason.value, "yellow"),
        )
    if isinstance(event, FillBooked):
        return Text.assemble(
            (when, "dim"),
            ("filled   ", "cyan"),
            f"{event.side.value} {event.symbol} {event.amount:f} at {event.price:f}",
        )
    if isinstance(event, TradeClosed):
        style = "green" if event.profit > ZERO else "red"
        return Text.assemble(
            (when, "dim"),
            ("closed   ", style),
            f"{event.symbol} by {event.leg.value} ",
            (f"{event.profit:+.2f}", style),
        )
    if event.severity is not Severity.INFO:
        style = "bold red" if event.severity is Severity.SEVERE else "magenta"
        return Text.assemble((when, "dim"), (event.name, style), f" {getattr(event, 'symbol', '') or ''}")
    return None


def sparkline(course: list[Decimal], width: int) -> str:
    """The course of the equity in ``width`` characters."""
    if not course or width < 1:
        return ""
    stride = max(1, -(-len(course) // width))
    values = course[::stride][-width:]
    low, high = min(values), max(values)
    span = high - low
    if span == ZERO:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[int((value - low) / span * (len(SPARKS) - 1))] for value in values)


def render(snapshot: Snapshot, dashboard: Dashboard, width: int) -> RenderableType:
    return Panel(
        Group(
            _progress(snapshot, width),
            Text(""),
            _equity(snapshot, dashboard, width),
            Text(""),
            _positions(snapshot),
            Text(""),
            _decisions(dashboard),
        ),
        title=f"[bold]{snapshot.bot}[/] · {snapshot.account} · {snapshot.state.value}",
        subtitle="Ctrl-C stops; the same command goes on",
        border_style="green" if snapshot.state is BotState.RUNNING else "yellow",
    )


def _progress(snapshot: Snapshot, width: int) -> RenderableType:
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text(f"{snapshot.at:%Y-%m-%d %H:%M} UTC", style="bold"),
        ProgressBar(total=max(snapshot.candles_in_all, 1), completed=snapshot.candles, width=max(10, width // 3)),
        f"{snapshot.candles:,} / {snapshot.candles_in_all:,} candles",
        Text(f"{snapshot.rate:,.0f}/s", style="dim"),
    )
    return line


def _equity(snapshot: Snapshot, dashboard: Dashboard, width: int) -> RenderableType:
    change = snapshot.equity - snapshot.equity_start
    fraction = change / snapshot.equity_start * 100 if snapshot.equity_start else ZERO
    style = "green" if change >= ZERO else "red"
    cash = snapshot.balances.get(snapshot.quote)
    line = Table.grid(padding=(0, 2))
    line.add_row(
        Text.assemble(
            "equity ",
            (f"{snapshot.equity:,.2f} {snapshot.quote}", "bold"),
            (f" {fraction:+.2f} %", style),
        ),
        Text(sparkline(dashboard.course, max(10, width // 3)), style=style),
        f"available {cash.available if cash else ZERO:,.2f}, reserved {cash.reserved if cash else ZERO:,.2f}",
    )
    return line


def _positions(snapshot: Snapshot) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for heading in ("position", "state"):
        table.add_column(heading)
    for heading in ("amount", "average cost", "price", "stop", "target", "unrealised"):
        table.add_column(heading, justify="right")
    held = [position for position in snapshot.positions.values() if position.amount]
    for position in sorted(held, key=lambda each: each.symbol):
        price = snapshot.prices.get(position.symbol)
        gain = position.unrealised(price) if price is not None else None
        average = position.average_cost
        table.add_row(
            position.symbol,
            position.state.value,
            f"{position.amount.normalize():f}",
            f"{average:,.4f}" if average is not None else "",
            f"{price:f}" if price is not None else "none",
            f"{position.stop_price:f}" if position.is_held and position.stop_price is not None else "",
            f"{position.target_price:f}" if position.is_held and position.target_price is not None else "",
            Text(f"{gain:+.2f}", style="green" if gain >= ZERO else "red") if gain is not None else "",
        )
    if not held:
        table.add_row("none", *[""] * 7, style="dim")
    return table


def _decisions(dashboard: Dashboard) -> RenderableType:
    refused = ", ".join(
        f"{reason} {count}" for reason, count in sorted(dashboard.refused.items(), key=lambda item: -item[1])[:4]
    )
    head = Text(
        f"decisions: {dashboard.approved} approved, {sum(dashboard.refused.values())} refused"
        + (f" ({refused})" if refused else ""),
        style="dim",
    )
    lines = list(dashboard.recent)
    lines += [Text("")] * (RECENT - len(lines))
    return Group(head, *lines)


class LiveView:
    """Draws on a terminal; ``update`` is cheap enough to be called some times a second."""

    def __init__(self, dashboard: Dashboard, console: Console | None = None) -> None:
        self._console = console or Console()
        self._dashboard = dashboard
        self._live = Live(console=self._console, auto_refresh=False, transient=True)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def update(self, snapshot: Snapshot) -> None:
        self._dashboard.note_equity(snapshot.equity)
        self._live.update(render(snapshot, self._dashboard, self._console.width), refresh=True)
