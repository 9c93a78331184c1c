"""The lines that events become. Their fields are an interface: alerts, dashboards and the reality check read them."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, get_type_hints

import msgspec
import pytest

from tradingbot_agents.domain.events import (
    EVENTS,
    AgentRestarted,
    Event,
    Overdrawn,
    PriceFallbackUsed,
    Reason,
    TradeApproved,
    TradeRejected,
)
from tradingbot_agents.domain.values import Leg, Side
from tradingbot_agents.telemetry import FanOut, LogSink, MemorySink, configure_logging

AT = datetime(2024, 3, 1, 0, 5, tzinfo=UTC)
REJECTED = TradeRejected(
    at=AT,
    agent="risk",
    correlation_id="BTC/USDT.5m.2024-03-01T00:00Z",
    symbol="BTC/USDT",
    side=Side.BUY,
    reason=Reason.INSUFFICIENT_AVAILABLE_BALANCE,
    detail="67.63 wanted, 16.91 available",
    confidence=Decimal("0.7500"),
)
RESTARTED = AgentRestarted(at=AT, agent="supervisor", restarted="risk", attempt=1, error="ValueError: a bug")
OVERDRAWN = Overdrawn(at=AT, agent="execution", asset="BNB", total=Decimal("-1E-8"))


def never_lost() -> None:
    raise AssertionError("no line should be lost")


def written(output: Any, *events: Event, level: Any = "info") -> list[str]:
    stream = io.StringIO()
    configure_logging(output, level, stream)
    sink = LogSink("majors", never_lost)
    for event in events:
        sink.emit(event)
    return stream.getvalue().splitlines()


def test_a_json_line_says_what_happened_to_whom_when_and_why() -> None:
    (line,) = written("json", REJECTED)
    fields = json.loads(line)
    written_at = datetime.fromisoformat(fields.pop("timestamp"))
    assert written_at.utcoffset() == AT.utcoffset()
    assert fields == {
        "event": "trade_rejected",
        "level": "info",
        "bot": "majors",
        "agent": "risk",
        "at": "2024-03-01T00:05:00Z",
        "correlation_id": "BTC/USDT.5m.2024-03-01T00:00Z",
        "symbol": "BTC/USDT",
        "side": "buy",
        "reason": "insufficient_available_balance",
        "detail": "67.63 wanted, 16.91 available",
        "confidence": "0.7500",
    }


@pytest.mark.parametrize(
    ("event", "level"), [(REJECTED, "info"), (RESTARTED, "warning"), (OVERDRAWN, "error")], ids=lambda each: str(each)
)
def test_severity_is_the_level(event: Event, level: str) -> None:
    (line,) = written("json", event)
    assert json.loads(line)["level"] == level


def test_only_the_level_that_was_asked_for_and_above_is_written() -> None:
    lines = written("json", REJECTED, RESTARTED, OVERDRAWN, level="warning")
    assert [json.loads(line)["event"] for line in lines] == ["agent_restarted", "overdrawn"]
    assert len(written("json", REJECTED, RESTARTED, OVERDRAWN, level="debug")) == 3


def test_readable_lines_carry_the_same_and_no_colours_where_nobody_sees_them() -> None:
    (line,) = written("text", REJECTED)
    assert "\x1b" not in line
    assert "trade_rejected" in line
    for field in ("bot=majors", "agent=risk", "symbol=BTC/USDT", "reason=insufficient_available_balance"):
        assert field in line
    assert "detail='67.63 wanted, 16.91 available'" in line


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_readable_lines_have_colours_on_a_terminal() -> None:
    stream = _Terminal()
    configure_logging("text", "info", stream)
    LogSink("majors", never_lost).emit(RESTARTED)
    assert "\x1b[" in stream.getvalue()


def test_an_error_over_several_lines_stays_one_json_line() -> None:
    several = msgspec.structs.replace(RESTARTED, error="ValueError: first\nsecond")
    (line,) = written("json", several)
    assert json.loads(line)["error"] == "ValueError: first\nsecond"


class _Gone(io.StringIO):
    def write(self, _text: str) -> int:
        raise BrokenPipeError


def test_a_reader_that_has_gone_is_told_once_and_fails_no_agent() -> None:
    configure_logging("json", "info", _Gone())
    told: list[str] = []
    sink = LogSink("majors", on_lost=lambda: told.append("lost"))
    sink.emit(REJECTED)
    sink.emit(RESTARTED)
    assert told == ["lost"]


def test_a_fan_out_hands_each_event_to_every_sink_in_order() -> None:
    first, second = MemorySink(), MemorySink()
    fan_out = FanOut([first, second])
    for event in (REJECTED, RESTARTED):
        fan_out.emit(event)
    assert first.events == second.events == [REJECTED, RESTARTED]
    assert first.named("agent_restarted") == [RESTARTED]


PLAIN = {str, int, float, bool, Decimal, datetime, type(None), Side, Leg, Reason, ...}


@pytest.mark.parametrize("name", sorted(EVENTS))
def test_no_event_can_carry_an_object_in_which_a_secret_could_hide(name: str) -> None:
    """Every field is one named value. There is no open mapping, no settings, no request: a secret would have to be
    given a field of its own."""
    event = EVENTS[name]
    hints = get_type_hints(event)
    for field in msgspec.structs.fields(event):
        parts = getattr(hints[field.name], "__args__", (hints[field.name],))
        assert set(parts) <= PLAIN, f"{name}.{field.name} is {hints[field.name]}"
        assert not any(word in field.name for word in ("key", "secret", "password", "token", "credential", "dsn"))


def test_an_optional_number_is_null_and_a_decimal_keeps_its_digits() -> None:
    approved = TradeApproved(
        at=AT,
        agent="risk",
        symbol="BTC/USDT",
        side=Side.SELL,
        confidence=Decimal("0.60"),
        client_order_id=None,
        amount=None,
        limit_price=None,
        reserved=Decimal("67.63"),
        available_after=Decimal("16.91"),
    )
    fallback = PriceFallbackUsed(at=AT, agent="risk", symbol="BTC/USDT", source="bus", why="42 s old")
    first, second = (json.loads(line) for line in written("json", approved, fallback))
    assert (first["amount"], first["reserved"], first["correlation_id"]) == (None, "67.63", None)
    assert second["source"] == "bus"
