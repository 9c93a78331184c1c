"""What is wrong in a child, said on the bot in words."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from tradingbot_operator.diagnosis import Crashed, crashed, due, problems, restarts
from tradingbot_operator.kinds import Manifest, Ref
from tradingbot_operator.names import Component, bot_labels
from tradingbot_operator.reconcile import last_line


def child(kind: str, component: Component = Component.RISK, **parts: Any) -> dict[Ref, Manifest]:
    name = f"bot-{component}-0"
    manifest = {"kind": kind, "metadata": {"name": name, "labels": bot_labels("bot", component)}, **parts}
    return {Ref(kind, name): manifest}


def pod(
    state: dict[str, Any], count: int = 0, last: dict[str, Any] | None = None, **status: Any
) -> dict[Ref, Manifest]:
    container = {"name": "agent", "image": "agents:1", "restartCount": count, "state": state, "lastState": last or {}}
    return child("Pod", status={"phase": "Running", "containerStatuses": [container], **status})


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
A_CRASH = Crashed(pod="bot-risk-0", uid="", container="agent", restarts=3, again=False)
ENDED = {"terminated": {"exitCode": 4, "reason": "Error"}}
UNSCHEDULED = {"type": "PodScheduled", "status": "False", "message": "no node"}
LOOPING = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}}


@pytest.mark.parametrize(
    ("children", "told"),
    [
        (
            pod({"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}),
            "risk: its image agents:1 can not be pulled: Back-off pulling image",
        ),
        (
            pod({"waiting": {"reason": "CreateContainerConfigError", "message": 'secret "keys" not found'}}),
            'risk: its container can not be made: secret "keys" not found',
        ),
        (
            pod(LOOPING, 3, ENDED),
            "risk: it has ended with exit code 4, 3 times so far; its last line: the database is away",
        ),
        (
            pod(LOOPING, 3, {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}),
            "risk: it has ended for it used more memory than its limit, 3 times so far;"
            " its last line: the database is away",
        ),
        (
            child(
                "Pod",
                status={
                    "conditions": [
                        {"type": "PodScheduled", "status": "False", "message": "0/1 nodes: Insufficient cpu"}
                    ]
                },
            ),
            "risk: no node takes its pod: 0/1 nodes: Insufficient cpu",
        ),
        (
            child(
                "PersistentVolumeClaim",
                Component.RABBITMQ,
                spec={"storageClassName": "fast", "resources": {"requests": {"storage": "1Gi"}}},
                status={"phase": "Pending"},
            ),
            "rabbitmq: its volume bot-rabbitmq-0 of 1Gi waits for storage class fast",
        ),
        (
            child(
                "Job",
                Component.MIGRATION,
                status={"conditions": [{"type": "Failed", "status": "True", "message": "backoff limit reached"}]},
            ),
            "migration: backoff limit reached; see its log, then delete Job bot-migration-0 to try again",
        ),
        (
            child(
                "Deployment",
                status={"conditions": [{"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"}]},
            ),
            "risk: its pod is refused: exceeded quota",
        ),
    ],
)
def test_a_problem_in_words(children: dict[Ref, Manifest], told: str) -> None:
    words = {A_CRASH: "the database is away"}
    assert [str(each) for each in problems(children, words, NOW)] == [told]


@pytest.mark.parametrize(
    "children",
    [
        pod({"running": {}}, 2, ENDED),
        pod({"waiting": {"reason": "ContainerCreating"}}),
        pod({"terminated": {"exitCode": 0, "reason": "Completed"}}),
        child("PersistentVolumeClaim", status={"phase": "Bound"}),
        child("Job", Component.BACKUP, status={"conditions": [{"type": "Failed", "status": "True"}]}),
        child("Deployment", status={"conditions": [{"type": "Progressing", "status": "True"}]}),
        child("Pod", spec={"nodeName": "one"}, status={"phase": "Pending", "conditions": [UNSCHEDULED]}),
        child("Pod", status={"phase": "Succeeded", "conditions": [UNSCHEDULED]}),
        child("Pod"),
    ],
)
def test_what_is_no_problem(children: dict[Ref, Manifest]) -> None:
    assert problems(children, {}, NOW) == []
    assert crashed(children, NOW) == []


@pytest.mark.parametrize(
    ("made", "told", "left"), [("2026-03-01T11:59:30Z", 0, timedelta(seconds=30)), ("2026-03-01T11:58:59Z", 1, None)]
)
def test_a_new_pod_has_time_to_find_a_node_and_a_volume(made: str, told: int, left: timedelta | None) -> None:
    unscheduled = {"conditions": [{"type": "PodScheduled", "status": "False", "message": "no node"}]}
    for children in (
        child("Pod", status=unscheduled),
        child("PersistentVolumeClaim", Component.RABBITMQ, status={"phase": "Pending"}),
    ):
        for each in children.values():
            each["metadata"]["creationTimestamp"] = made
        assert len(problems(children, {}, NOW)) == told
        assert due(children, NOW) == left, "when to look again"


def test_what_waits_for_nothing_is_not_due() -> None:
    new = {"creationTimestamp": "2026-03-01T11:59:30Z"}
    bound = child("PersistentVolumeClaim", Component.RABBITMQ, status={"phase": "Bound"})
    backup = child("PersistentVolumeClaim", Component.BACKUP, status={"phase": "Pending"})
    for children in (bound, backup, pod({"running": {}}, conditions=[UNSCHEDULED])):
        for each in children.values():
            each["metadata"].update(new)
        assert due(children, NOW) is None


def test_the_volume_of_the_backup_waits_for_its_first_night() -> None:
    assert problems(child("PersistentVolumeClaim", Component.BACKUP, status={"phase": "Pending"}), {}, NOW) == []


def test_whose_last_words_are_read() -> None:
    assert crashed(pod(LOOPING, 3, ENDED), NOW) == [A_CRASH]
    assert crashed(pod(ENDED), NOW) == [msgspec.structs.replace(A_CRASH, restarts=0)]


def test_restarts_are_counted_by_component() -> None:
    assert restarts({**pod({"running": {}}, 2), **child("Deployment", Component.STRATEGY)}) == {"risk": 2}


@pytest.mark.parametrize(
    ("log", "last"),
    [
        ("one\ntwo\n\n", "two"),
        ('{"time": "2026-11-27 03:29:17", "level": "error", "msg": "disk full"}\n', "disk full"),
        ('{"event": "ledger_away", "why": "no route", "level": "warning"}\n', "ledger_away: no route"),
        ('{"level": "warning"}', '{"level": "warning"}'),
        ("[1, 2]", "[1, 2]"),
        ("", ""),
        ("x" * 500, "x" * 300),
    ],
)
def test_the_last_words_of_a_container(log: str, last: str) -> None:
    assert last_line(log) == last


def just_started_again(seconds: int, **status: Any) -> dict[Ref, Manifest]:
    """A container that ended so many seconds ago, and runs."""
    ended = {"exitCode": 4, "reason": "Error", "finishedAt": f"2026-03-01T11:{59 - seconds // 60:02}:00Z"}
    found = pod({"running": {}}, 3, {"terminated": ended})
    for each in found.values():
        each["status"]["containerStatuses"][0] |= status
    return found


def test_one_that_runs_again_and_is_not_ready_is_not_over_it_yet() -> None:
    children = just_started_again(60, ready=False)
    assert crashed(children, NOW) == [msgspec.structs.replace(A_CRASH, again=True)]
    assert [each.component for each in problems(children, {}, NOW)] == ["risk"]
    assert crashed(just_started_again(60, ready=True), NOW) == []
    assert crashed(just_started_again(20 * 60, ready=False), NOW) == [], "that was long ago"


def test_a_reality_check_that_failed_has_done_its_work() -> None:
    for code, told in ((7, 0), (8, 0), (1, 1)):
        ended = {"terminated": {"exitCode": code, "reason": "Error"}}
        container = {"name": "reality-check", "image": "agents:1", "restartCount": 0, "state": ended}
        status = {"phase": "Failed", "containerStatuses": [container]}
        assert len(problems(child("Pod", Component.REALITY_CHECK, status=status), {}, NOW)) == told


def test_an_attempt_to_pull_and_the_pause_before_the_next_are_one_problem() -> None:
    told = {
        problem.reason
        for reason in ("ErrImagePull", "ImagePullBackOff")
        for problem in problems(pod({"waiting": {"reason": reason}}), {}, NOW)
    }
    assert told == {"ImagePullBackOff"}
