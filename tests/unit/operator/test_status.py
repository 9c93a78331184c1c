"""What a status says, when its times move, and when it is written at all."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tradingbot_api import format_timestamp
from tradingbot_operator.diagnosis import Problem
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AGENTS, Component
from tradingbot_operator.status import FACTS_STALE, Agent, Deletion, Findings, differs, news, reached, status_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = NOW + timedelta(minutes=7)
READY = {each: Agent(ready=True, revision="r1") for each in AGENTS}
FINDINGS = Findings(
    generation=3,
    wanted_state="Running",
    revision="r1",
    agents=READY,
    servers={"messaging": "ready", "timeSeries": "ready", "database": "ready"},
)


def facts(state: str = "Running", at: datetime = NOW, **changes: Any) -> Manifest:
    """What the agents have written."""
    return {
        "agents": {"risk": {"state": state}, "execution": {"state": state}},
        "factsAt": format_timestamp(at),
        "openPositions": 2,
        "liveOrders": 0,
        **changes,
    }


def found(findings: Findings = FINDINGS, before: Manifest | None = None, now: datetime = NOW) -> Manifest:
    return status_of(findings, facts() if before is None else before, now)


def written(status: Manifest, before: Manifest | None = None) -> Manifest:
    """The whole status once the operator has written its part."""
    whole = {**(facts() if before is None else before), **status}
    reports = facts()["agents"]
    whole["agents"] = {name: {**agent, **reports.get(name, {})} for name, agent in status["agents"].items()}
    return whole


def condition(status: Manifest, name: str) -> tuple[str, str, str]:
    [one] = [one for one in status["conditions"] if one["type"] == name]
    return one["status"], one["reason"], one["message"]


def but(**changes: Any) -> Findings:
    return msgspec.structs.replace(FINDINGS, **changes)


def agents(**changes: Agent) -> dict[Component, Agent]:
    return {**READY, **{Component(name.replace("_", "-")): agent for name, agent in changes.items()}}


def test_a_bot_that_trades() -> None:
    status = found()
    assert (status["state"], status["wantedState"], status["ready"], status["readyAgents"]) == (
        "Running",
        "Running",
        "5/5",
        5,
    )
    assert [(one["type"], one["status"], one["reason"]) for one in status["conditions"]] == [
        ("Ready", "True", "AllReady"),
        ("Progressing", "False", "UpToDate"),
        ("Degraded", "False", "NothingWrong"),
        ("Trading", "True", "Running"),
        ("ConfigDrift", "False", "Applied"),
    ]
    assert {one["observedGeneration"] for one in status["conditions"]} == {3}
    assert not {"equity", "openPositions", "factsAt"} & set(status), "those are risk's to write"
    assert "state" not in status["agents"]["risk"]


@pytest.mark.parametrize(
    ("findings", "name", "expected"),
    [
        (
            but(agents=agents(risk=Agent(ready=False, revision="r1"))),
            "Ready",
            ("False", "NotReady", "waiting for risk"),
        ),
        (
            but(servers={"messaging": "not ready", "database": "ready"}),
            "Ready",
            ("False", "NotReady", "waiting for messaging (not ready)"),
        ),
        (
            but(migrating=True),
            "Progressing",
            ("True", "Migrating", "tables and buckets are made ready before any agent starts"),
        ),
        (
            but(agents=agents(risk=Agent(ready=True, revision="r0"))),
            "Progressing",
            ("True", "Rolling", "still to get revision r1: risk"),
        ),
        (
            but(agents=agents(risk=Agent(ready=False, revision="r1"))),
            "Progressing",
            ("True", "Starting", "everything is made; not all of it is ready yet"),
        ),
        (but(invalid="spec.risk is wrong"), "Ready", ("False", "InvalidSpec", "spec.risk is wrong")),
        (but(invalid="spec.risk is wrong"), "Degraded", ("True", "InvalidSpec", "spec.risk is wrong")),
        (
            but(invalid="spec.risk is wrong"),
            "ConfigDrift",
            ("True", "InvalidSpec", "the spec can not be used, and revision r1 runs on"),
        ),
        (
            but(invalid="spec.risk is wrong", revision=None),
            "ConfigDrift",
            ("False", "Applied", "what runs is what the spec says"),
        ),
        (but(failure="no such kind"), "Degraded", ("True", "ReconcileFailed", "no such kind")),
        (but(failure="no such kind"), "Progressing", ("True", "Retrying", "no such kind")),
        (
            but(hands_off=True),
            "Progressing",
            ("False", "Paused", "the annotation tradingbot.dev/paused keeps the operator's hands off"),
        ),
        (
            but(problems=[Problem("risk", "ErrImagePull", "its image x can not be pulled")]),
            "Degraded",
            ("True", "ErrImagePull", "risk: its image x can not be pulled"),
        ),
        (
            but(pending="r2", pending_why="a position is open; do that"),
            "ConfigDrift",
            ("True", "Pending", "revision r2 is pending, r1 runs on: a position is open; do that"),
        ),
    ],
)
def test_what_is_not_as_it_should_be_is_said(findings: Findings, name: str, expected: tuple[str, str, str]) -> None:
    assert condition(found(findings), name) == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        ({}, ("False", "NotStarted")),
        (facts(at=NOW - FACTS_STALE - timedelta(seconds=1)), ("Unknown", "NoReport")),
        (facts("Paused"), ("False", "Paused")),
        (facts(), ("True", "Running")),
    ],
)
def test_it_trades_when_the_agents_say_so(before: Manifest, expected: tuple[str, str]) -> None:
    assert condition(found(before=before), "Trading")[:2] == expected


@pytest.mark.parametrize(
    ("before", "state"),
    [
        ({}, "Starting"),
        (facts("Paused"), "Paused"),
        (facts(state="Flatten"), "Flattening"),
        (facts("Flatten", openPositions=0, liveOrders=1), "Flattening"),
        (facts("Flatten", openPositions=0, liveOrders=0), "Flatten"),
        ({"agents": {"risk": {"state": "Paused"}, "execution": {"state": "Running"}}, "state": "Running"}, "Running"),
        ({"agents": {"risk": {"state": "Paused"}}}, "Starting"),
    ],
)
def test_a_state_is_reached_when_risk_and_execution_have_reached_it(before: Manifest, state: str) -> None:
    assert reached(but(wanted_state="Paused"), before) == state


def test_a_time_moves_with_the_status_and_only_then() -> None:
    first = found()
    before = written(first)
    same = status_of(but(generation=4), before, LATER)
    assert {one["lastTransitionTime"] for one in same["conditions"]} == {"2026-03-01T12:00:00Z"}
    changed = status_of(but(agents=agents(risk=Agent(ready=False, revision="r1"))), before, LATER)
    moved = {one["type"] for one in changed["conditions"] if one["lastTransitionTime"] == "2026-03-01T12:07:00Z"}
    assert moved == {"Ready", "Progressing"}


def test_at_rest_nothing_is_written_and_nothing_is_told() -> None:
    first = found()
    before = written(first)
    again = status_of(FINDINGS, before, LATER)
    assert not differs(before, again)
    assert news(before, again) == []


@pytest.mark.parametrize(
    "findings",
    [
        but(generation=4),
        but(pending="r2"),
        but(agents=agents(risk=Agent(ready=True, revision="r1", restarts=1))),
        but(servers={"messaging": "not ready"}),
        but(deletion=Deletion(phase="Blocked", waiting_for="you", since=NOW, deadline=None)),
    ],
)
def test_what_differs_is_written(findings: Findings) -> None:
    first = found()
    before = written(first)
    assert differs(before, status_of(findings, before, LATER))


def test_a_pending_revision_that_is_gone_is_taken_back() -> None:
    first = found(but(pending="r2"))
    assert first["pendingRevision"] == "r2"
    after = status_of(FINDINGS, written(first), LATER)
    assert "pendingRevision" not in after
    assert differs(written(first), after)


def test_each_change_of_a_condition_is_news_once() -> None:
    first = found()
    before = written(first)
    after = status_of(but(problems=[Problem("risk", "CrashLoopBackOff", "it ended")]), before, LATER)
    assert [(one.type, one.status, one.reason) for one in news(before, after)] == [
        ("Ready", "False", "CrashLoopBackOff"),
        ("Degraded", "True", "CrashLoopBackOff"),
    ]
    assert (
        news(
            written(after),
            status_of(but(problems=[Problem("risk", "CrashLoopBackOff", "it ended again")]), written(after), LATER),
        )
        == []
    )


def test_of_a_new_bot_only_its_beginning_is_news() -> None:
    nothing = Findings(generation=1, wanted_state="Running", revision="r1", migrating=True)
    assert [one.type for one in news({}, status_of(nothing, {}, NOW))] == ["Progressing"]


def test_of_many_problems_the_first_is_shown_and_all_are_listed() -> None:
    several = [Problem("risk", "ErrImagePull", "a"), Problem("strategy", "ErrImagePull", "b")]
    status = found(but(problems=several))
    assert condition(status, "Ready")[2] == "risk: a (and 1 more: see Degraded)"
    assert condition(status, "Degraded")[2] == "risk: a; strategy: b"


def test_a_long_message_is_cut() -> None:
    _, _, message = condition(found(but(invalid="x" * 5000)), "Ready")
    assert (len(message), message[-1]) == (1000, "…")


def test_the_deletion_is_written_with_its_times() -> None:
    waits = Deletion(phase="Flattening", waiting_for="1 open position to be sold", since=NOW, deadline=LATER)
    status = found(but(deletion=waits))
    assert status["deletion"] == {
        "phase": "Flattening",
        "waitingFor": "1 open position to be sold",
        "since": "2026-03-01T12:00:00Z",
        "deadline": "2026-03-01T12:07:00Z",
    }
    assert condition(status, "Progressing") == ("True", "Deleting", "waiting for 1 open position to be sold")


def test_a_failure_takes_nothing_away_that_was_found_out_before() -> None:
    pending = written(found(but(pending="r2", pending_why="positions are open")))
    failed = found(but(failure="the API server is away"), pending)
    assert failed["pendingRevision"] == "r2"
    assert condition(failed, "ConfigDrift") == condition(pending, "ConfigDrift")
    assert condition(failed, "ConfigDrift")[0] == "True"


def test_a_database_that_is_held_is_told_with_the_way_out() -> None:
    status, reason, message = condition(found(but(held=["StatefulSet main-postgres"])), "ConfigDrift")
    assert (status, reason) == ("True", "DatabaseHeld")
    assert "StatefulSet main-postgres" in message
    assert "updateStrategy: Auto" in message
    both = found(but(held=["StatefulSet main-postgres"], pending="r2", pending_why="a position is open"))
    status, reason, message = condition(both, "ConfigDrift")
    assert (status, reason) == ("True", "Pending")
    assert "revision r2 is pending" in message
    assert "StatefulSet main-postgres" in message
