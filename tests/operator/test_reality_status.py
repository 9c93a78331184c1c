"""What the reality check tells on its TradingBot: written to a real API server as its own service account, with the
rights that the operator gives it, beside the operator."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from support.kubernetes import Cluster, Json, until
from support.operator_rig import BOTS, EXTERNAL, OperatorRig
from support.pod_access import Pod, access_of
from support.reports import HALF_HOUR, NOW, finding, report
from support.specs import LIVE, PAPER, changed
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Report
from tradingbot_agents.runtime.reality_status import tell_status

pytestmark = pytest.mark.kubernetes

CHECK = "reality-check"
MANAGER = "tradingbot-reality-check"


def judged(status: Status, was: Status | None, run: int = 0, severity: Severity = Severity.WARNING) -> Report:
    """The ``run``-th of a bot whose prices are judged so."""
    at = NOW + run * HALF_HOUR
    return report(
        finding("feed.age", Status.PASSED, at, before=None if was is None else Status.PASSED),
        finding("prices.fallbacks", status, at, before=was, severity=severity),
        at=at,
    )


PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN


class Place:
    def __init__(self, pod: Pod) -> None:
        self.pod = pod

    def tell(self, told: Report) -> None:
        asyncio.run(tell_status(self.pod.access(CHECK), self.pod.name, told))

    @property
    def condition(self) -> Json:
        [found] = [each for each in self.pod.status()["conditions"] if each["type"] == "RealityCheckPassed"]
        return dict(found)

    def events(self) -> list[tuple[str, str]]:
        found = self.pod.cluster.api.list("v1/events", self.pod.namespace)
        found.sort(key=lambda each: int(each["metadata"]["resourceVersion"]))
        return [(each["type"], each["reason"]) for each in found]


@pytest.fixture
def place(tradingbots: None, control_plane: Cluster, namespace: str, tmp_path: Path) -> Place:
    return Place(Pod(control_plane, namespace, tmp_path, LIVE))


def test_the_condition_follows_the_checks_and_an_event_tells_each_change(place: Place) -> None:
    place.tell(judged(PASSED, None))
    assert place.condition == {
        "type": "RealityCheckPassed",
        "status": "True",
        "reason": "Passed",
        "message": "2 passed",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }
    place.tell(judged(PASSED, PASSED, 1))
    assert place.events() == [("Normal", "RealityCheckPassed")]
    assert place.condition["lastTransitionTime"] == "2026-03-01T12:00:00Z"
    place.tell(judged(FAILED, PASSED, 2))
    place.tell(judged(FAILED, FAILED, 3))
    place.tell(judged(FAILED, FAILED, 4, Severity.SEVERE))
    assert place.condition["status"] == "False"
    assert place.condition["reason"] == "InvariantBroken"
    assert place.condition["message"].startswith("1 failed, 1 passed: prices.fallbacks; ")
    assert place.condition["lastTransitionTime"] == "2026-03-01T13:00:00Z"
    place.tell(judged(UNKNOWN, FAILED, 5))
    place.tell(judged(PASSED, UNKNOWN, 6))
    assert place.events() == [
        ("Normal", "RealityCheckPassed"),
        ("Warning", "RealityCheckFailed"),
        ("Warning", "RealityCheckFailed"),
        ("Warning", "RealityCheckUnknown"),
        ("Normal", "RealityCheckPassed"),
    ]
    assert place.pod.status()["lastRealityCheck"] == {
        "at": "2026-03-01T15:00:00Z",
        "result": "passed",
        "summary": "2 passed",
        "since": "2026-03-01T15:00:00Z",
    }


def test_the_longest_of_reports_is_taken(place: Place) -> None:
    many = [finding(f"group.check{number}", FAILED, before=PASSED, told=("x" * 5000,)) for number in range(100)]
    place.tell(report(*many))
    assert place.condition["reason"] == "Failed"
    assert place.events() == [("Warning", "RealityCheckFailed")]


def test_it_may_tell_of_its_own_bot_only(place: Place, control_plane: Cluster, namespace: str) -> None:
    other = {**LIVE, "metadata": {"name": "other", "namespace": namespace}}
    control_plane.api.create(BOTS, other)
    asyncio.run(tell_status(place.pod.access(CHECK), "other", judged(FAILED, PASSED)))
    assert "status" not in control_plane.api.get(BOTS, namespace, "other")
    assert place.events() == []


def test_operator_and_check_leave_each_other_s_conditions_alone(rig: OperatorRig, tmp_path: Path) -> None:
    rig.give_external()
    rig.apply(changed(PAPER, EXTERNAL))
    operator = rig.start()
    rig.until_ready("paper")
    access = access_of(rig.cluster, rig.namespace, "paper-reality-check", tmp_path)
    revision = rig.status("paper")["revision"]
    access = msgspec.structs.replace(access, revision=revision)
    asyncio.run(tell_status(access, "paper", judged(FAILED, PASSED, severity=Severity.SEVERE)))
    told = rig.condition("paper", "RealityCheckPassed")
    # Nothing of the spec waits: what was checked is what it says.
    assert told["observedGeneration"] == rig.status("paper")["observedGeneration"]
    labels = {"namespace": rig.namespace, "bot": "paper"}
    until(lambda: operator.metric("tradingbot_reality_check_result", **labels, result="severe") == 1, "its metric")
    assert operator.metric("tradingbot_agents_ready", **labels) == 5
    assert operator.metric("tradingbot_reality_check_late_timestamp_seconds", **labels) > 0
    # The operator writes its own part anew, and more than once.
    rig.edit("paper", state="Paused")
    until(lambda: rig.status("paper")["wantedState"] == "Paused", "the state is asked for")
    rig.report("paper", state="Paused")
    rig.until_condition("paper", "Trading", "False", "Paused")
    assert rig.condition("paper", "RealityCheckPassed") == told
    before = {one["type"]: one for one in rig.status("paper")["conditions"]}
    mark = rig.until_at_rest()
    asyncio.run(tell_status(access, "paper", judged(PASSED, FAILED, 1)))
    until(lambda: operator.metric("tradingbot_reality_check_result", **labels, result="passed") == 1, "its metric")
    assert rig.writes(mark) == [], "it is no reason for the operator to write anything"
    after = {one["type"]: one for one in rig.status("paper")["conditions"]}
    assert after.pop("RealityCheckPassed")["status"] == "True"
    before.pop("RealityCheckPassed")
    assert after == before
    owned = {each["manager"]: each["fieldsV1"] for each in (rig.bot("paper") or {})["metadata"]["managedFields"]}
    assert list(owned[MANAGER]) == ["f:status"]
    assert set(owned[MANAGER]["f:status"]) == {"f:conditions", "f:lastRealityCheck"}
    assert set(owned[MANAGER]["f:status"]["f:conditions"]) == {'k:{"type":"RealityCheckPassed"}'}
    [one, other] = [each for each in rig.events("paper") if each["reportingComponent"] == MANAGER]
    assert (one["reason"], other["reason"]) == ("RealityCheckFailed", "RealityCheckPassed")
    rig.delete("paper")
    until(lambda: operator.metric("tradingbot_reality_check_result", **labels) == 0, "the end of its metrics")
