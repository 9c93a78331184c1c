"""What the deletion of a bot waits for, for how long, and what it says."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tradingbot_operator.deletion import (
    BLOCK_LIMIT,
    FLATTEN_LIMIT,
    LOST_LIMIT,
    STOPPING,
    Verdict,
    ending,
    judge,
    stopping,
)
from tradingbot_operator.kinds import Manifest, Ref
from tradingbot_operator.plan import Delete
from tradingbot_operator.status import Deletion

ASKED = datetime(2026, 3, 1, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


def verdict(policy: str, now: datetime = ASKED, before: Deletion | None = None, **changes: Any) -> Verdict:
    facts: dict[str, Any] = {"positions": 2, "live_orders": 1, "abandoned": False}
    return judge(policy=policy, asked_at=ASKED, before=before, now=now, **{**facts, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize("policy", ["Retain", "Flatten", "Block"])
@pytest.mark.parametrize("held", [0, None])
def test_with_nothing_held_it_goes_at_once(policy: str, held: int | None) -> None:
    assert verdict(policy, positions=held, live_orders=held) == Verdict(waits=None)


@pytest.mark.parametrize("policy", ["Retain", "Flatten", "Block"])
def test_a_person_can_always_give_up_what_is_held(policy: str) -> None:
    found = verdict(policy, abandoned=True)
    assert (found.waits, found.left) == (None, "2 open positions and 1 live order left, as a person asked")


def test_retain_leaves_and_says_so() -> None:
    found = verdict("Retain", live_orders=0)
    assert (found.waits, found.left) == (None, "2 open positions left, as deletionPolicy Retain says")


def test_flatten_sells_then_asks_a_person_then_goes() -> None:
    first = verdict("Flatten", ASKED + SECOND)
    assert first.state == "Flatten"
    assert first.waits == Deletion(
        phase="Flattening",
        waiting_for="2 open positions and 1 live order to be sold",
        since=ASKED,
        deadline=ASKED + FLATTEN_LIMIT,
    )
    late = ASKED + FLATTEN_LIMIT
    blocked = verdict("Flatten", late, first.waits, live_orders=0, positions=1)
    assert blocked.state == "Flatten", "it goes on trying"
    assert blocked.waits is not None
    assert (blocked.waits.phase, blocked.waits.since, blocked.waits.deadline) == ("Blocked", late, late + BLOCK_LIMIT)
    assert blocked.waits.waiting_for.startswith(
        "1 open position could not be sold within 0:30:00: set state: Flatten"
    )
    assert 'tradingbot.dev/abandon: "true"' in blocked.waits.waiting_for
    again = verdict("Flatten", late + SECOND, blocked.waits)
    assert again.waits is not None
    assert again.waits.since == late
    assert verdict("Flatten", late + BLOCK_LIMIT - SECOND, blocked.waits).waits is not None
    end = verdict("Flatten", late + BLOCK_LIMIT, blocked.waits)
    assert (end.waits, end.left.startswith("2 open positions and 1 live order left")) == (None, True)
    assert verdict("Flatten", late + SECOND, blocked.waits, positions=0, live_orders=0).waits is None


def test_block_waits_for_a_person_and_not_for_ever() -> None:
    first = verdict("Block", ASKED + SECOND)
    assert first.state is None, "it trades on"
    assert first.waits is not None
    assert first.waits.phase == "Blocked"
    assert first.waits.waiting_for.startswith(
        "2 open positions and 1 live order: set state: Flatten or deletionPolicy: Retain"
    )
    assert verdict("Block", ASKED + BLOCK_LIMIT, first.waits).waits is not None
    assert verdict("Block", ASKED + SECOND + BLOCK_LIMIT, first.waits).waits is None


def test_a_policy_changed_meanwhile_counts() -> None:
    blocked = verdict("Block").waits
    assert verdict("Retain", before=blocked).waits is None
    flattening = verdict("Flatten").waits
    assert verdict("Block", ASKED + SECOND, flattening).waits.phase == "Blocked"  # type: ignore[union-attr]


def child(component: str, *, deleted: datetime | None = None, owned: bool = True) -> Manifest:
    meta: Manifest = {"uid": f"uid-of-{component}", "labels": {"app.kubernetes.io/component": component}}
    if deleted is not None:
        meta["deletionTimestamp"] = deleted.isoformat().replace("+00:00", "Z")
    if owned:
        meta["ownerReferences"] = [{"kind": "ReplicaSet"}]
    return {"metadata": meta}


def test_agents_go_before_their_servers_do() -> None:
    risk, execution = Ref("StatefulSet", "live-risk"), Ref("Deployment", "live-execution")
    pod, database = Ref("Pod", "live-risk-0"), Ref("StatefulSet", "live-rabbitmq")
    there = {
        risk: child("risk"),
        execution: child("execution"),
        pod: child("risk"),
        database: child("rabbitmq"),
        Ref("Pod", "live-rabbitmq-0"): child("rabbitmq"),
        Ref("Service", "live-risk"): child("risk"),
        Ref("Pod", "live-check-1"): child("reality-check"),
        Ref("Pod", "by-hand"): child("risk", owned=False),
    }
    first = ending(there, ASKED)
    assert first.deletes == [
        Delete(ref=execution, uid="uid-of-execution"),
        Delete(ref=risk, uid="uid-of-risk"),
    ]
    assert (first.pods, first.over) == ([pod], False)
    del there[execution]
    later = ending({**there, risk: child("risk", deleted=ASKED), pod: child("risk", deleted=ASKED)}, ASKED)
    assert (later.deletes, later.pods, later.over) == ([], [pod], False)
    del there[risk], there[pod]
    assert ending(there, ASKED).over


def test_a_pod_of_a_lost_node_is_not_waited_for() -> None:
    there = {Ref("Pod", "live-risk-0"): child("risk", deleted=ASKED)}
    assert not ending(there, ASKED + LOST_LIMIT).over
    assert ending(there, ASKED + LOST_LIMIT + SECOND).over


def test_what_was_waited_for_before_is_not_forgotten_while_the_agents_end() -> None:
    first = stopping(None, ASKED)
    assert (first.phase, first.since, first.deadline) == (STOPPING, ASKED, None)
    assert stopping(first, ASKED + SECOND) == first
    blocked = verdict("Block").waits
    late = ASKED + BLOCK_LIMIT + SECOND
    assert verdict("Block", late, stopping(blocked, late)).waits is None, "it goes on"
    assert stopping(verdict("Flatten").waits, late).since == late


def test_what_an_agent_has_bought_at_its_end_is_asked_about() -> None:
    """It is back then, and trades on."""
    found = verdict("Block", ASKED + SECOND, stopping(None, ASKED), positions=1, live_orders=0)
    assert found.waits is not None
    assert (found.waits.phase, found.waits.since) == ("Blocked", ASKED + SECOND)
