"""What the reality check writes on its TradingBot: the condition, the last result, and when it is worth an Event."""

from __future__ import annotations

import asyncio
import socket
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from structlog.testing import capture_logs

from support.reports import HALF_HOUR, finding, report
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Report
from tradingbot_agents.runtime.api_server import ClusterAccess
from tradingbot_agents.runtime.reality_status import (
    CONDITION,
    LONGEST_MESSAGE,
    Bot,
    event_of,
    is_news,
    status_of,
    tell_status,
)

REVISION = "0123456789ab"
EARLIER = "2026-03-01T08:00:00Z"


def before(*conditions: dict[str, Any], revision: str = REVISION) -> Bot:
    status = {"revision": revision, "conditions": list(conditions)}
    return msgspec.convert({"metadata": {"uid": "u-1"}, "status": status}, Bot)


def shown(status: str, reason: str) -> dict[str, Any]:
    return {"type": CONDITION, "status": status, "reason": reason, "lastTransitionTime": EARLIER}


def drift(status: str = "False", generation: int = 7) -> dict[str, Any]:
    return {"type": "ConfigDrift", "status": status, "reason": "Applied", "observedGeneration": generation}


def passing(**changes: Any) -> Report:
    return report(finding("feed.age", Status.PASSED, before=Status.PASSED), **changes)


def failing(was: Status | None = Status.FAILED, severity: Severity = Severity.WARNING, **changes: Any) -> Report:
    return report(
        finding("feed.age", Status.PASSED, before=Status.PASSED),
        finding("prices.fallbacks", Status.FAILED, before=was, severity=severity),
        **changes,
    )


def blind() -> Report:
    """The ledger is away: nobody knows what was before."""
    return report(finding("feed.age", Status.FAILED), finding("orders.unknown", Status.UNKNOWN))


def condition(of: Report, bot: Bot, revision: str | None = REVISION) -> dict[str, Any]:
    [found] = status_of(of, bot, revision)["conditions"]
    return dict(found)


@pytest.mark.parametrize(
    ("told", "status", "reason"),
    [
        (passing(), "True", "Passed"),
        (failing(), "False", "Failed"),
        (failing(severity=Severity.SEVERE), "False", "InvariantBroken"),
        (report(finding("feed.age", Status.UNKNOWN)), "Unknown", "EvidenceMissing"),
    ],
)
def test_the_verdict_is_a_condition(told: Report, status: str, reason: str) -> None:
    found = condition(told, before())
    assert (found["type"], found["status"], found["reason"]) == ("RealityCheckPassed", status, reason)
    assert found["lastTransitionTime"] == "2026-03-01T12:00:00Z"


def test_the_message_is_the_summary_with_the_first_reasons() -> None:
    found = condition(failing(hold="ReduceOnly, by the reality check"), before())["message"]
    assert found == (
        "1 failed, 1 passed: prices.fallbacks; ReduceOnly, by the reality check; "
        "prices.fallbacks: prices.fallbacks says why"
    )
    long = condition(report(finding("feed.age", Status.FAILED, told=("x" * 5000,))), before())["message"]
    assert len(long) == LONGEST_MESSAGE
    assert long.endswith("…")


def test_its_time_is_that_of_the_last_change_of_its_status() -> None:
    bot = before(shown("False", "Failed"))
    assert condition(failing(), bot)["lastTransitionTime"] == EARLIER
    # Worse, and still not passed.
    assert condition(failing(severity=Severity.SEVERE), bot)["lastTransitionTime"] == EARLIER
    assert condition(passing(), bot)["lastTransitionTime"] == "2026-03-01T12:00:00Z"


def test_the_generation_is_told_only_when_it_is_known_to_be_what_was_checked() -> None:
    assert condition(passing(), before(drift()))["observedGeneration"] == 7
    for bot, revision in (
        (before(drift(), revision="ba9876543210"), REVISION),
        (before(drift("True")), REVISION),
        (before(), REVISION),
        (before(drift()), None),
    ):
        assert "observedGeneration" not in condition(passing(), bot, revision)


def test_the_last_check_is_told_with_since_when_it_says_so() -> None:
    at = datetime(2026, 3, 1, 12, 0, 4, 678901, tzinfo=UTC)
    found = status_of(failing(at=at, since=at - 3 * HALF_HOUR, runs=4), before(), REVISION)["lastRealityCheck"]
    assert found == {
        "at": "2026-03-01T12:00:04Z",
        "result": "failed",
        "summary": "1 failed, 1 passed: prices.fallbacks",
        "since": "2026-03-01T10:30:04Z",
    }


@pytest.mark.parametrize(
    ("told", "bot", "news"),
    [
        (passing(), before(), True),
        (passing(), before(shown("True", "Passed")), False),
        (failing(), before(shown("True", "Passed")), True),
        (failing(), before(shown("False", "Failed")), False),
        (failing(was=Status.PASSED), before(shown("False", "Failed")), True),
        (failing(severity=Severity.SEVERE), before(shown("False", "Failed")), True),
        (passing(), before(shown("False", "Failed")), True),
        (blind(), before(shown("True", "Passed")), True),
        (blind(), before(shown("False", "Failed")), False),
    ],
)
def test_an_event_is_for_what_has_changed(told: Report, bot: Bot, news: bool) -> None:
    assert is_news(told, bot) is news


def test_an_event_names_the_checks() -> None:
    told = report(
        finding("feed.age", Status.PASSED, before=Status.FAILED),
        finding("lots.legal", Status.FAILED, before=Status.FAILED),
        finding("prices.fallbacks", Status.FAILED, before=Status.PASSED),
        finding("orders.unknown", Status.UNKNOWN, before=Status.PASSED),
    )
    event = event_of(told, before(), "trading", "majors", unique="1")
    assert event["message"] == (
        "fails now: prices.fallbacks; not known now: orders.unknown; passes again: feed.age; "
        "2 failed, 1 unknown, 1 passed: lots.legal, prices.fallbacks, orders.unknown"
    )
    assert (event["type"], event["reason"]) == ("Warning", "RealityCheckFailed")
    assert event["involvedObject"] == {
        "apiVersion": "tradingbot.dev/v1alpha1",
        "kind": "TradingBot",
        "name": "majors",
        "namespace": "trading",
        "uid": "u-1",
    }


def test_an_event_of_a_passed_check_is_no_warning() -> None:
    event = event_of(passing(), before(), "trading", "majors", unique="1")
    assert (event["type"], event["reason"]) == ("Normal", "RealityCheckPassed")
    assert event["message"] == "1 passed"


def test_an_api_server_that_is_away_fails_nothing_and_is_told(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("a token")
    with socket.socket() as nobody_listens:
        nobody_listens.bind(("127.0.0.1", 0))
        port = nobody_listens.getsockname()[1]
        access = ClusterAccess(
            server=f"https://127.0.0.1:{port}", namespace="trading", folder=tmp_path, revision=REVISION
        )
        with capture_logs() as lines:
            asyncio.run(tell_status(access, "majors", passing()))
    assert [(each["event"], each["log_level"]) for each in lines] == [("reality_status_not_written", "warning")]
    assert lines[0]["why"]
