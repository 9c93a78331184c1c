"""The live view on a terminal: progress, equity, positions with their stops, and the last decisions.

``Dashboard`` collects (it is a sink for events); ``render`` is a pure function of what it collected, and of the
width: a narrow terminal shows less, and nothing that is cut in the middle of a number.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
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
    PositionProtected,
    PositionUnprotected,
    Severity,
    TradeApproved,
    TradeClosed,
    TradeRejected,
)
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.values import ZERO, BotState, split_symbol
from tradingbot_agents.ledger.port import Balance, Hold

RECENT = 9
"""Decisions and warnings that are shown."""

MOST_POSITIONS = 8
"""Rows of positions: more would push the decisions off the screen."""

MIDDLE, WIDE = 76, 96
"""Columns from which there is room for a position's target, and from which for its average cost, and for the balance
beside the equity."""

_HEADINGS = ("amount", "average cost", "price", "stop", "target", "unrealised")

SPARKS = "▁▂▃▄▅▆▇█"


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """What the view shows besides events. Money in quote currency."""

    bot: str
    account: str
    quote: str
    state: BotState
    hold: Hold | None
    at: datetime
    candles: int
    candles_in_all: int
    rate: float
    """Candles a second, in real time."""
    equity_start: Decimal
    equity: Decimal
    realised: Decimal
    fees: Decimal
    balances: Mapping[str, Balance]
    positions: Mapping[str, Position]
    prices: Mapping[str, Decimal]


class Dashboard:
    """Keeps the last events and the equity's course, since this process began."""

    def __init__(self) -> None:
        self.recent: deque[Line] = deque(maxlen=RECENT)
        self.approved = 0
        self.refused: dict[str, int] = {}
        self.course: list[Decimal] = []

    def emit(self, event: Event) -> None:
        if isinstance(event, TradeApproved):
            self.approved += 1
        elif isinstance(event, TradeRejected):
            self.refused[event.reason.value] = self.refused.get(event.reason.value, 0) + 1
        elif isinstance(event, PositionProtected):
            # A stop that moves is away for a moment. That is news only for as long as it stays away.
            self._take(f"{PositionUnprotected.name} {event.symbol}")
        line = describe(event)
        if line is not None:
            # The same refusal at each candle would push everything else out.
            before = self._take(line.text) if line.repeats else None
            self.recent.append(line if before is None else msgspec.structs.replace(line, times=before.times + 1))

    def _take(self, text: str) -> Line | None:
        found = next((line for line in self.recent if line.text == text), None)
        if found is not None:
            self.recent.remove(found)
        return found

    def note_equity(self, equity: Decimal, most: int = 240) -> None:
        self.course.append(equity)
        if len(self.course) > most:
            self.course = self.course[::2]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One event for people."""

    at: datetime
    word: str
    style: str
    text: str
    detail: str = ""
    repeats: bool = False
    """Whether the same again is only counted."""
    times: int = 1

    def as_text(self) -> Text:
        line = Text.assemble(
            (f"{self.at:%m-%d %H:%M} ", "dim"),
            (f"{self.word:<9}", self.style),
            self.text,
            (f" ×{self.times}" if self.times > 1 else "", "bold"),
            (f"  {self.detail}" if self.detail else "", "dim"),
        )
        line.no_wrap = True
        line.overflow = "ellipsis"
        return line


def describe(event: Event) -> Line | None:
    """One line for people, or ``None`` for what is not worth one."""
    if isinstance(event, TradeApproved):
        size = f"{event.amount:f}" if event.amount is not None else "the whole position"
        price = f" up to {event.limit_price:f}" if event.limit_price is not None else ""
        reserved = f"reserves {event.reserved:f}" if event.reserved is not None else ""
        return Line(
            at=event.at,
            word="approved",
            style="green",
            text=f"{event.side.value} {event.symbol} {size}{price}",
            detail=reserved,
        )
    if isinstance(event, TradeRejected):
        return Line(
            at=event.at,
            word="refused",
            style="yellow",
            text=f"{event.side.value} {event.symbol} {event.reason.value}",
            detail=event.detail,
            repeats=True,
        )
    if isinstance(event, FillBooked):
        return Line(
            at=event.at,
            word="filled",
            style="cyan",
            text=f"{event.side.value} {event.symbol} {event.amount:f} at {event.price:f}",
            detail=event.leg.value,
        )
    if isinstance(event, TradeClosed):
        return Line(
            at=event.at,
            word="closed",
            style="green" if event.profit > ZERO else "red",
            text=f"{event.symbol} by {event.leg.value} {event.profit:+.2f}",
        )
    if event.severity is Severity.INFO:
        return None
    about = getattr(event, "symbol", None)
    return Line(
        at=event.at,
        word="severe" if event.severity is Severity.SEVERE else "warning",
        style="bold red" if event.severity is Severity.SEVERE else "magenta",
        text=f"{event.name} {about}" if about else event.name,
        detail=next((str(value) for name in ("why", "detail", "error") if (value := getattr(event, name, None))), ""),
        repeats=True,
    )


def sparkline(course: Sequence[Decimal], width: int) -> str:
    """The course of the equity in at most ``width`` characters; the last one is its latest value."""
    if not course or width < 1:
        return ""
    stride = -(-len(course) // width)
    values = course[::-1][::stride][::-1]
    low, high = min(values), max(values)
    span = high - low
    if span == ZERO:
        return SPARKS[0] * len(values)
    return "".join(SPARKS[int((value - low) / span * (len(SPARKS) - 1))] for value in values)


def render(snapshot: Snapshot, dashboard: Dashboard, width: int) -> RenderableType:
    """``width`` is the terminal's, in columns."""
    parts: list[RenderableType] = [_progress(snapshot)]
    if snapshot.hold is not None:
        hold = snapshot.hold
        parts.append(Text(f"held at {hold.state.value} by {hold.by}: {hold.reason}", style="bold yellow"))
    parts += [
        Text(""),
        *_equity(snapshot, dashboard, width),
        Text(""),
        *_positions(snapshot, width),
        Text(""),
        *_decisions(dashboard),
    ]
    running = snapshot.state is BotState.RUNNING
    return Panel(
        Group(*parts),
        title=Text.assemble(
            (snapshot.bot, "bold"),
            f" · {snapshot.account} · " if width >= WIDE else " · ",
            (snapshot.state.value, "green" if running else "bold yellow"),
        ),
        subtitle=Text("Ctrl-C stops; the same command goes on", style="dim"),
        border_style="green" if running else "yellow",
        width=width,
    )


def _progress(snapshot: Snapshot) -> RenderableType:
    in_all = max(snapshot.candles_in_all, 1)
    line = Table.grid(expand=True, padding=(0, 2))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    for _ in range(2):
        line.add_column(no_wrap=True, justify="right")
    line.add_row(
        Text(f"{snapshot.at:%Y-%m-%d %H:%M} UTC", style="bold"),
        ProgressBar(total=in_all, completed=snapshot.candles, complete_style="green", finished_style="green"),
        f"{snapshot.candles * 100 // in_all} % of {snapshot.candles_in_all:,} candles",
        Text(f"{snapshot.rate:,.0f}/s", style="dim"),
    )
    return line


def _equity(snapshot: Snapshot, dashboard: Dashboard, width: int) -> list[RenderableType]:
    change = snapshot.equity - snapshot.equity_start
    fraction = change / snapshot.equity_start * 100 if snapshot.equity_start else ZERO
    style = "green" if change >= ZERO else "red"
    cash = snapshot.balances.get(snapshot.quote)
    equity = Text.assemble(
        "equity ", (f"{snapshot.equity:,.2f} {snapshot.quote}", "bold"), (f" {fraction:+.2f} %", style)
    )
    balance = Text(
        f"available {cash.available if cash else ZERO:,.2f} · reserved {cash.reserved if cash else ZERO:,.2f}"
    )
    result = Text.assemble(
        "realised ",
        (f"{snapshot.realised:+,.2f}", "green" if snapshot.realised >= ZERO else "red"),
        f" · fees {snapshot.fees:,.2f}",
    )
    # Borders, padding and the gaps between columns take 10.
    room = max(8, min(60, width - 10 - equity.cell_len - (balance.cell_len if width >= WIDE else 0)))
    course = Text(sparkline(dashboard.course, room), style=style, no_wrap=True)
    line = Table.grid(expand=True, padding=(0, 2))
    line.add_column(no_wrap=True)
    line.add_column(ratio=1)
    if width >= WIDE:
        line.add_column(no_wrap=True, justify="right")
        line.add_row(equity, course, balance)
        line.add_row(result, "", "")
        return [line]
    line.add_row(equity, course)
    return [line, balance, result]


def _positions(snapshot: Snapshot, width: int) -> list[RenderableType]:
    held = sorted((each for each in snapshot.positions.values() if each.is_held), key=lambda each: each.symbol)
    dust = sorted(each.symbol for each in snapshot.positions.values() if each.state is PositionState.DUST)
    parts: list[RenderableType] = []
    if held:
        parts.append(_table_of(held, snapshot.prices, width))
    else:
        parts.append(Text("no position", style="dim"))
    if len(held) > MOST_POSITIONS:
        parts.append(Text(f"and {len(held) - MOST_POSITIONS} more: tradingbot positions", style="dim"))
    if dust:
        left = ", ".join(f"{_short(snapshot.positions[symbol].amount)} {split_symbol(symbol)[0]}" for symbol in dust)
        parts.append(Text(f"too little to be sold: {left}", style="dim", no_wrap=True, overflow="ellipsis"))
    return parts


def _table_of(held: Sequence[Position], prices: Mapping[str, Decimal], width: int) -> Table:
    left_out = {heading for heading, least in (("average cost", WIDE), ("target", MIDDLE)) if width < least}
    table = Table(box=None, padding=(0, 2 if width >= WIDE else 1, 0, 0), header_style="dim")
    table.add_column("position", no_wrap=True)
    for heading in _HEADINGS:
        if heading not in left_out:
            table.add_column(heading, justify="right", no_wrap=True)
    for position in held[:MOST_POSITIONS]:
        price = prices.get(position.symbol)
        name = Text(position.symbol)
        if position.state is not PositionState.OPEN:
            name.append(f" {position.state.value}", style="yellow")
        stop = position.stop_price
        cells = {
            "amount": _short(position.amount),
            "average cost": _like(position.average_cost, price),
            "price": _exact(price),
            "stop": _exact(stop) if stop is not None else Text("none", style="bold red"),
            "target": _exact(position.target_price),
            "unrealised": _gain(position, price),
        }
        table.add_row(name, *(cell for heading, cell in cells.items() if heading not in left_out))
    return table


def _gain(position: Position, price: Decimal | None) -> Text:
    if price is None:
        return Text("no price", style="dim")
    gain = position.unrealised(price)
    return Text(f"{gain:+,.2f}", style="green" if gain >= ZERO else "red")


def _short(amount: Decimal) -> str:
    return f"{amount.normalize():f}"


def _exact(price: Decimal | None) -> str:
    return "" if price is None else f"{price:f}"


def _like(value: Decimal | None, price: Decimal | None) -> str:
    """With as many places as the price, which is on the tick; four where there is none."""
    if value is None:
        return ""
    exponent = price.as_tuple().exponent if price is not None else -4
    return f"{value:.{-exponent if isinstance(exponent, int) and exponent < 0 else 0}f}"


def _decisions(dashboard: Dashboard) -> list[RenderableType]:
    most = sorted(dashboard.refused.items(), key=lambda item: (-item[1], item[0]))
    head = Text.assemble(
        ("decisions ", "dim"),
        f"{dashboard.approved} approved",
        (" · ", "dim"),
        f"{sum(dashboard.refused.values())} refused",
        (": " + ", ".join(f"{reason} {count}" for reason, count in most[:3]) if most else "", "dim"),
        no_wrap=True,
        overflow="ellipsis",
    )
    lines = [line.as_text() for line in dashboard.recent]
    return [head, *lines, *[Text("")] * (RECENT - len(lines))]


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
