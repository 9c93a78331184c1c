"""What a person reads on the terminal, on a wide one and on a narrow one."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from rich.cells import cell_len
from rich.console import Console

from tradingbot_agents.domain.events import (
    AgentRestarted,
    Event,
    ExposureMeasured,
    FillBooked,
    Overdrawn,
    PositionProtected,
    PositionUnprotected,
    Reason,
    TradeApproved,
    TradeClosed,
    TradeRejected,
)
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.values import BotState, Leg, Side
from tradingbot_agents.ledger.port import Balance, Hold
from tradingbot_agents.runtime.view import (
    MOST_POSITIONS,
    RECENT,
    SPARKS,
    Dashboard,
    LiveView,
    Snapshot,
    render,
    sparkline,
)

AT = datetime(2024, 3, 14, 22, 30, tzinfo=UTC)

BTC = Position(
    symbol="BTC/USDT",
    state=PositionState.OPEN,
    amount=Decimal("0.00350990"),
    cost=Decimal("251.40"),
    stop_price=Decimal("69398.60"),
    target_price=Decimal("75837.64"),
)
SOL = Position(
    symbol="SOL/USDT",
    state=PositionState.CLOSING,
    amount=Decimal("1.5"),
    cost=Decimal("252.90"),
    stop_price=Decimal("175.44"),
)
DUST = Position(symbol="ETH/USDT", state=PositionState.DUST, amount=Decimal("0.0000164"), cost=Decimal("0.05"))
FLAT = Position(symbol="ADA/USDT", realised=Decimal("4.34"))

SNAPSHOT = Snapshot(
    bot="majors",
    account="paper/simulated/main",
    quote="USDT",
    state=BotState.RUNNING,
    hold=None,
    at=AT,
    candles=11_975,
    candles_in_all=18_144,
    rate=3210.4,
    equity_start=Decimal(1000),
    equity=Decimal("1018.30"),
    realised=Decimal("4.34"),
    fees=Decimal("31.04"),
    balances={
        "USDT": Balance(asset="USDT", total=Decimal("503.17"), reserved=Decimal("67.63"), outside_holds=Decimal(0))
    },
    positions={each.symbol: each for each in (SOL, BTC, DUST, FLAT)},
    prices={"BTC/USDT": Decimal("71521.11"), "SOL/USDT": Decimal("178.30")},
)


def rejected(
    symbol: str = "BTC/USDT", reason: Reason = Reason.POSITION_ALREADY_OPEN, minutes: int = 0, detail: str = "why"
) -> TradeRejected:
    return TradeRejected(
        at=AT + timedelta(minutes=minutes),
        agent="risk",
        symbol=symbol,
        side=Side.BUY,
        reason=reason,
        detail=detail,
        confidence=Decimal("0.6"),
    )


APPROVED = TradeApproved(
    at=AT,
    agent="risk",
    symbol="BTC/USDT",
    side=Side.BUY,
    confidence=Decimal("0.6"),
    client_order_id="tb1",
    amount=Decimal("0.00351"),
    limit_price=Decimal("71913.76"),
    reserved=Decimal("254.57"),
    available_after=Decimal("503.17"),
)
SELL = msgspec.structs.replace(APPROVED, side=Side.SELL, amount=None, limit_price=None, reserved=None)
FILLED = FillBooked(
    at=AT,
    agent="execution",
    client_order_id="tb1",
    exchange_trade_id="1",
    symbol="BTC/USDT",
    side=Side.BUY,
    leg=Leg.ENTRY,
    amount=Decimal("0.00351"),
    price=Decimal("71555.98"),
    fee=Decimal("0.00000351"),
    fee_asset="BTC",
)
CLOSED = TradeClosed(
    at=AT, agent="execution", trade_id="t", symbol="SOL/USDT", leg=Leg.TARGET, profit=Decimal("14.344")
)
BARE = PositionUnprotected(at=AT, agent="execution", symbol="SOL/USDT", why="its stop moves from 170.5 to 171.5")
COVERED = PositionProtected(
    at=AT, agent="execution", symbol="SOL/USDT", stop_price=Decimal("171.5"), unprotected_seconds=0.1
)


def dashboard_of(*events: Event, course: tuple[int, ...] = (1000, 990, 1018)) -> Dashboard:
    dashboard = Dashboard()
    for event in events:
        dashboard.emit(event)
    for equity in course:
        dashboard.note_equity(Decimal(equity))
    return dashboard


def shown(width: int, *events: Event, **changes: Any) -> list[str]:
    """The lines of the view without its border."""
    console = Console(record=True, width=width, height=40, file=io.StringIO(), color_system=None)
    console.print(render(msgspec.structs.replace(SNAPSHOT, **changes), dashboard_of(*events), width))
    lines = console.export_text().splitlines()
    assert {cell_len(line) for line in lines} == {width}, "a line is longer or shorter than the terminal"
    return [lines[0], *(line.strip("│").strip() for line in lines[1:])]


def words(line: str) -> list[str]:
    return line.split()


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_progress_equity_and_positions_are_there_at_every_width(width: int) -> None:
    lines = shown(width)
    text = "\n".join(lines)
    assert "majors" in lines[0]
    assert "Running" in lines[0]
    assert "2024-03-14 22:30 UTC" in lines[1]
    assert "65 % of 18,144 candles" in lines[1]
    assert "3,210/s" in lines[1]
    assert "equity 1,018.30 USDT +1.83 %" in text
    assert "available 435.54 · reserved 67.63" in text
    assert "realised +4.34 · fees 31.04" in text
    assert "Ctrl-C stops; the same command goes on" in lines[-1]
    assert "…" not in text, "nothing of it is cut"


def test_a_wide_terminal_shows_a_position_whole() -> None:
    lines = shown(100)
    head = next(index for index, line in enumerate(lines) if line.startswith("position"))
    assert lines[head].split("  ")[0] == "position"
    assert words(lines[head]) == ["position", "amount", "average", "cost", "price", "stop", "target", "unrealised"]
    assert words(lines[head + 1]) == [
        "BTC/USDT", "0.0035099", "71625.97", "71521.11", "69398.60", "75837.64", "-0.37",
    ]  # fmt: skip
    assert words(lines[head + 2]) == ["SOL/USDT", "closing", "1.5", "168.60", "178.30", "175.44", "+14.55"]
    assert lines[head + 3] == "too little to be sold: 0.0000164 ETH"
    assert "ADA" not in "\n".join(lines)


def test_a_narrow_terminal_shows_what_matters_most_of_a_position() -> None:
    lines = shown(60)
    head = next(index for index, line in enumerate(lines) if line.startswith("position"))
    assert words(lines[head]) == ["position", "amount", "price", "stop", "unrealised"]
    assert words(lines[head + 1]) == ["BTC/USDT", "0.0035099", "71521.11", "69398.60", "-0.37"]


def test_the_usual_terminal_shows_the_target_too() -> None:
    lines = shown(80)
    head = next(index for index, line in enumerate(lines) if line.startswith("position"))
    assert words(lines[head]) == ["position", "amount", "price", "stop", "target", "unrealised"]
    assert words(lines[head + 1]) == ["BTC/USDT", "0.0035099", "71521.11", "69398.60", "75837.64", "-0.37"]


def test_a_position_without_a_stop_or_a_price_says_so() -> None:
    bare = msgspec.structs.replace(BTC, stop_price=None)
    lines = shown(100, positions={"BTC/USDT": bare}, prices={})
    (line,) = [line for line in lines if line.startswith("BTC/USDT")]
    assert words(line) == ["BTC/USDT", "0.0035099", "71625.9722", "none", "75837.64", "no", "price"]


def test_more_positions_than_fit_are_counted() -> None:
    many = {f"C{i:02}/USDT": msgspec.structs.replace(BTC, symbol=f"C{i:02}/USDT") for i in range(MOST_POSITIONS + 3)}
    lines = shown(100, positions=many)
    assert sum(line.startswith("C") and "/USDT" in line for line in lines) == MOST_POSITIONS
    assert "and 3 more: tradingbot positions" in lines


def test_without_positions_or_balances_it_says_so() -> None:
    lines = shown(100, positions={}, balances={}, equity_start=Decimal(0), candles_in_all=0, candles=0)
    assert "no position" in lines
    assert "available 0.00 · reserved 0.00" in "\n".join(lines)


def test_a_restricted_state_and_who_holds_it_are_told() -> None:
    hold = Hold(state=BotState.REDUCE_ONLY, reason="a look [red]at the fees", by="command", at=AT)
    lines = shown(80, state=BotState.REDUCE_ONLY, hold=hold)
    assert "ReduceOnly" in lines[0]
    assert lines[2] == "held at ReduceOnly by command: a look [red]at the fees"


def test_decisions_are_told_with_their_reasons() -> None:
    lines = shown(120, APPROVED, SELL, rejected(detail="BTC/USDT has a position"), FILLED, CLOSED)
    at = next(index for index, line in enumerate(lines) if line.startswith("decisions"))
    assert lines[at : at + 6] == [
        "decisions 2 approved · 1 refused: position_already_open 1",
        "03-14 22:30 approved buy BTC/USDT 0.00351 up to 71913.76  reserves 254.57",
        "03-14 22:30 approved sell BTC/USDT the whole position",
        "03-14 22:30 refused  buy BTC/USDT position_already_open  BTC/USDT has a position",
        "03-14 22:30 filled   buy BTC/USDT 0.00351 at 71555.98  entry",
        "03-14 22:30 closed   SOL/USDT by target +14.34",
    ]


def test_a_refusal_that_comes_again_is_counted_at_its_latest_time() -> None:
    events = [rejected(minutes=0), FILLED, rejected(minutes=3), rejected("ETH/USDT", minutes=5), rejected(minutes=10)]
    lines = shown(120, *events)
    at = next(index for index, line in enumerate(lines) if line.startswith("decisions"))
    assert lines[at : at + 4] == [
        "decisions 0 approved · 4 refused: position_already_open 4",
        "03-14 22:30 filled   buy BTC/USDT 0.00351 at 71555.98  entry",
        "03-14 22:35 refused  buy ETH/USDT position_already_open  why",
        "03-14 22:40 refused  buy BTC/USDT position_already_open ×3  why",
    ]


def test_two_equal_fills_are_two_fills() -> None:
    assert len(dashboard_of(FILLED, FILLED).recent) == 2


def test_the_most_frequent_reasons_come_first() -> None:
    reasons = [Reason.NO_FRESH_PRICE] + [Reason.STALE_INTENT] * 3 + [Reason.NO_EDGE] * 2 + [Reason.MAX_OPEN_POSITIONS]
    lines = shown(120, *(rejected(reason=reason) for reason in reasons))
    assert "decisions 0 approved · 7 refused: stale_intent 3, no_edge 2, max_open_positions 1" in lines


def test_only_the_latest_are_kept_and_the_place_for_them_does_not_jump() -> None:
    many = [msgspec.structs.replace(FILLED, price=Decimal(price)) for price in range(RECENT + 5)]
    assert len(shown(100, *many)) == len(shown(100))
    assert [line.text.rpartition(" ")[2] for line in dashboard_of(*many).recent] == [
        str(price) for price in range(5, RECENT + 5)
    ]


def test_warnings_and_worse_are_told_and_measurements_are_not() -> None:
    restarted = AgentRestarted(at=AT, agent="supervisor", restarted="risk", attempt=1, error="ValueError: a bug")
    overdrawn = Overdrawn(at=AT, agent="execution", asset="BNB", total=Decimal("-1"))
    measured = ExposureMeasured(
        at=AT,
        agent="risk",
        equity=Decimal(1),
        exposure=Decimal(1),
        confidence=Decimal(1),
        value_at_risk=None,
        expected_shortfall=None,
        returns=0,
    )
    recent = dashboard_of(restarted, overdrawn, measured).recent
    assert [line.as_text().plain for line in recent] == [
        "03-14 22:30 warning  agent_restarted  ValueError: a bug",
        "03-14 22:30 severe   overdrawn",
    ]


def test_a_stop_that_is_away_is_news_only_for_as_long_as_it_is_away() -> None:
    assert [line.text for line in dashboard_of(BARE).recent] == ["position_unprotected SOL/USDT"]
    assert list(dashboard_of(BARE, COVERED).recent) == []
    other = msgspec.structs.replace(COVERED, symbol="BTC/USDT")
    assert len(dashboard_of(BARE, other).recent) == 1


@pytest.mark.parametrize("width", [1, 10, 20, 40])
def test_even_an_absurdly_narrow_terminal_breaks_nothing(width: int) -> None:
    console = Console(width=width, height=24, file=io.StringIO(), color_system=None)
    events = (APPROVED, rejected(detail="a long reason " * 20), CLOSED)
    console.print(render(SNAPSHOT, dashboard_of(*events), width))


def test_long_details_are_cut_at_the_edge_and_never_wrap() -> None:
    lines = shown(60, rejected(detail="a long reason " * 20))
    assert len(lines) == len(shown(60))
    (line,) = [line for line in lines if "refused  " in line]
    assert line.endswith("…")


@pytest.mark.parametrize(
    ("course", "width", "expected"),
    [
        ([], 5, ""),
        ([1, 2], 0, ""),
        ([5, 5, 5], 10, "▁▁▁"),
        ([0, 7], 10, "▁█"),
        ([0, 1, 2, 3, 4, 5, 6, 7], 8, SPARKS),
        ([0, 9, 1, 9, 2, 9, 3, 9, 4, 0], 5, "█████"[:4] + "▁"),
    ],
)
def test_sparkline(course: list[int], width: int, expected: str) -> None:
    assert sparkline([Decimal(value) for value in course], width) == expected


@pytest.mark.parametrize("points", range(1, 60))
def test_a_sparkline_never_is_wider_than_asked_and_ends_with_the_latest(points: int) -> None:
    course = [Decimal(0)] * (points - 1) + [Decimal(1)]
    line = sparkline(course, 7)
    assert 1 <= len(line) <= 7
    if points > 1:
        assert line[-1] == "█"


def test_the_course_is_thinned_out_and_keeps_its_latest_value() -> None:
    dashboard = Dashboard()
    for equity in range(1000):
        dashboard.note_equity(Decimal(equity), most=100)
        assert dashboard.course[-1] == equity
    assert len(dashboard.course) <= 100
    assert dashboard.course == sorted(dashboard.course)
    assert dashboard.course[0] == 0


def test_the_live_view_draws_on_a_terminal_and_leaves_nothing_behind() -> None:
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=100, height=40)
    with LiveView(dashboard_of(APPROVED), console) as view:
        view.update(SNAPSHOT)
        drawn = screen.getvalue()
        assert "majors" in drawn
        assert "\x1b[" in drawn
    assert screen.getvalue().endswith("\x1b[2K"), "the report that follows stands alone"
