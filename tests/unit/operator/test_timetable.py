"""When a reality check is late, and what its metrics tell."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest

from support.specs import LIVE, changed
from tradingbot_operator.bots import owner
from tradingbot_operator.cluster import Cluster
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.metrics import Metrics
from tradingbot_operator.timetable import Checked, checked, runs

MADE = datetime(2026, 3, 1, 11, 50, tzinfo=UTC)


def a_bot(status: Manifest | None = None, **spec: Any) -> Manifest:
    body = changed(LIVE, {"realityCheck": spec} if spec else {})
    metadata = {"name": "live", "namespace": "trading", "creationTimestamp": "2026-03-01T11:50:00Z"}
    return {**body, "metadata": metadata, "status": status or {}}


def told(result: str, reason: str) -> Manifest:
    return {
        "lastRealityCheck": {"at": "2026-03-01T12:00:40Z", "result": result},
        "conditions": [{"type": "RealityCheckPassed", "status": "False", "reason": reason}],
    }


def moment(found: float | None) -> str | None:
    return None if found is None else f"{datetime.fromtimestamp(found, UTC):%d %H:%M:%S}"


# --- schedules --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/30 * * * *", ["03-01 12:00", "03-01 12:30", "03-01 13:00"]),
        ("7,50 * * * *", ["03-01 12:07", "03-01 12:50", "03-01 13:07"]),
        ("50/5 11 * * *", ["03-01 11:55", "03-02 11:50", "03-02 11:55"]),
        ("0 0-6/3 * * *", ["03-02 00:00", "03-02 03:00", "03-02 06:00"]),
        ("0 12 * * MON-wed", ["03-02 12:00", "03-03 12:00", "03-04 12:00"]),
        ("0 12 * * 0", ["03-01 12:00", "03-08 12:00", "03-15 12:00"]),
        ("0 12 31 * *", ["03-31 12:00", "05-31 12:00", "07-31 12:00"]),
        # Either of the two days.
        ("0 12 3 * 0", ["03-01 12:00", "03-03 12:00", "03-08 12:00"]),
        ("0 12 29 FEB *", ["02-29 12:00"]),
        ("0 12 30 2 *", []),
    ],
)
def test_the_next_runs_of_a_schedule(schedule: str, expected: list[str]) -> None:
    assert [f"{each:%m-%d %H:%M}" for each in islice(runs(schedule, MADE), 3)] == expected


def test_a_run_at_the_very_moment_is_not_the_next_one() -> None:
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    assert next(runs("*/30 * * * *", at)) == at + timedelta(minutes=30)


# --- what is late -----------------------------------------------------------------------------------------------


def test_it_is_late_when_the_second_run_after_the_last_one_could_have_ended() -> None:
    # 13:00 and its limit of five minutes, a minute of waiting, and four for all around it.
    assert moment(checked(a_bot(told("passed", "Passed"))).late) == "01 13:10:00"
    assert moment(checked(a_bot(told("passed", "Passed"), timeLimit="1m")).late) == "01 13:06:00"
    assert moment(checked(a_bot(told("passed", "Passed"), schedule="0 * * * *")).late) == "01 14:10:00"


def test_a_bot_that_was_never_checked_has_as_long_from_its_beginning() -> None:
    found = checked(a_bot())
    assert (found.result, found.at, moment(found.late)) == (None, None, "01 12:40:00")


def test_nobody_waits_for_one_that_is_suspended_or_of_a_bot_that_goes() -> None:
    assert checked(a_bot(told("passed", "Passed"), suspend=True)).late is None
    going = a_bot()
    going["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
    assert checked(going).late is None
    # What older definitions have let in.
    assert checked(a_bot(schedule="@hourly")).late is None
    assert checked(a_bot(timeLimit="soon")).late is None


@pytest.mark.parametrize(
    ("result", "reason", "expected"),
    [
        ("passed", "Passed", "passed"),
        ("failed", "Failed", "failed"),
        ("failed", "InvariantBroken", "severe"),
        ("unknown", "EvidenceMissing", "unknown"),
    ],
)
def test_a_broken_invariant_is_a_result_of_its_own(result: str, reason: str, expected: str) -> None:
    found = checked(a_bot(told(result, reason)))
    assert (found.result, moment(found.at)) == (expected, "01 12:00:40")


# --- metrics ----------------------------------------------------------------------------------------------------


class Requests(Cluster):
    """What the metrics read of the connection to the API server."""

    def __init__(self) -> None:
        self.requests = {}


def test_metrics_have_each_bot_as_long_as_it_is_there() -> None:
    bots = {
        owner("trading", "one"): Checked("severe", 1.5, 10.0),
        owner("trading", "new"): Checked(None, None, 20.0),
    }
    ready = {owner("trading", "one"): 4}
    metrics = Metrics(Requests(), queue=int, bots=int, away=int, ready=ready.items, checks=bots.items)

    def lines() -> list[str]:
        page = metrics.page().decode().splitlines()
        return [each for each in page if each.startswith(("tradingbot_agents", "tradingbot_reality"))]

    assert lines() == [
        'tradingbot_agents_ready{bot="one",namespace="trading"} 4.0',
        'tradingbot_reality_check_result{bot="one",namespace="trading",result="passed"} 0.0',
        'tradingbot_reality_check_result{bot="one",namespace="trading",result="failed"} 0.0',
        'tradingbot_reality_check_result{bot="one",namespace="trading",result="severe"} 1.0',
        'tradingbot_reality_check_result{bot="one",namespace="trading",result="unknown"} 0.0',
        'tradingbot_reality_check_timestamp_seconds{bot="one",namespace="trading"} 1.5',
        'tradingbot_reality_check_late_timestamp_seconds{bot="new",namespace="trading"} 20.0',
        'tradingbot_reality_check_late_timestamp_seconds{bot="one",namespace="trading"} 10.0',
    ]
    bots.clear()
    ready.clear()
    assert lines() == []
