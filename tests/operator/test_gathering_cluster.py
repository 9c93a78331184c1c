"""Pods and logs of a bot as the reality check reads them: from a real API server, as its own service account, with
the rights that the operator gives it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from support.fake_kubelet import FakeKubelet, Life, Lines, Trouble
from support.kubernetes import Cluster, Json, until
from support.pod_access import Pod
from support.specs import LIVE
from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK, STRATEGY
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.reality.evidence import AgentEvidence, AgentLog, AgentsEvidence, Logs, Missing
from tradingbot_agents.runtime.gathering_cluster import MOST_BYTES, ClusterGatherer
from tradingbot_api import load_object
from tradingbot_operator.builders import agents as builders
from tradingbot_operator.names import Component

pytestmark = pytest.mark.kubernetes

BOT = "live"
NOW = datetime.now(UTC).replace(microsecond=0)
MINUTE = timedelta(minutes=1)
SINCE = NOW - 60 * MINUTE
LIMIT = timedelta(seconds=60)
OLD, NEW = "0123456789ab", "ba9876543210"
CHECK = "reality-check"


def line(at: datetime, event: str = "candle_handled", level: str = "debug", **fields: Any) -> tuple[datetime, bytes]:
    own = {"bot": BOT, "at": at.isoformat(), **fields, "event": event, "level": level, "timestamp": at.isoformat()}
    return at, json.dumps(own).encode() + b"\n"


def fallback(minutes_ago: float) -> tuple[datetime, bytes]:
    return line(NOW - minutes_ago * MINUTE, "price_fallback_used", "warning", symbol="BTC/USDT", source="ticker")


def talk(begin: datetime, end: datetime = NOW) -> Lines:
    """A line a minute."""
    return tuple(line(begin + minute * MINUTE) for minute in range(int((end - begin) / MINUTE)))


class Place:
    """A bot in a namespace whose node is played."""

    def __init__(self, pod: Pod, kubelet: FakeKubelet) -> None:
        self.pod = pod
        self.api = pod.cluster.api
        self.kubelet = kubelet
        self.namespace = pod.namespace
        self.gatherer = ClusterGatherer(pod.access(CHECK), BOT, AGENTS)

    def run(self, agent: str, revision: str = NEW, name: str | None = None) -> None:
        """A pod of the agent, as its workload's template has it."""
        workload = builders.workload(
            Component(agent), load_object(LIVE), self.namespace, "example.invalid/agents:1", revision
        )
        template = workload["spec"]["template"]
        metadata = {**template["metadata"], "name": name or f"{BOT}-{agent}", "namespace": self.namespace}
        self.api.create("v1/pods", {"metadata": metadata, "spec": template["spec"]})

    def until(self, agent: str, what: Callable[[Json], bool]) -> None:
        def look() -> bool:
            pods = self.api.list("v1/pods", self.namespace, f"app.kubernetes.io/component={agent}")
            return bool(pods) and all(what(each.get("status", {})) for each in pods)

        until(look, f"the pod of {agent}")

    def runs(self, agent: str, life: Life, **pod: Any) -> None:
        """A pod of it that has lived like this."""
        self.kubelet.lives(agent, life)
        self.run(agent, **pod)
        self.until(agent, lambda status: status.get("phase") == "Running")

    def logs(self, *, within: timedelta = LIMIT, most: int = MOST_BYTES) -> dict[str, AgentLog | Missing]:
        found = asyncio.run(self.gatherer.logs(since=SINCE, within=within, most=most))
        assert isinstance(found, Logs)
        return dict(found.agents)

    def log(self, agent: str, **arguments: Any) -> AgentLog:
        found = self.logs(**arguments)[agent]
        assert isinstance(found, AgentLog), found
        return found

    def agents(self) -> AgentsEvidence:
        found = asyncio.run(self.gatherer.agents())
        assert isinstance(found, AgentsEvidence), found
        return found


@pytest.fixture
def place(tradingbots: None, control_plane: Cluster, namespace: str, tmp_path: Path) -> Iterator[Place]:
    pod = Pod(control_plane, namespace, tmp_path, LIVE)
    kubelet = FakeKubelet(control_plane, namespace, tmp_path)
    kubelet.start()
    try:
        yield Place(pod, kubelet)
    finally:
        kubelet.stop()


def count(log: AgentLog) -> int:
    return sum(each.count for each in log.heard)


# ---------------------------------------------------------------------------------------------------------- pods


def test_pods_are_told_with_what_is_wanted_of_them(place: Place) -> None:
    began = NOW - 90 * MINUTE
    place.api.patch(
        "tradingbot.dev/v1alpha1/tradingbots",
        place.namespace,
        BOT,
        {"status": {"revision": NEW, "wantedState": "Running"}},
        "status",
    )
    place.runs(RISK, Life(began=began))
    place.runs(
        EXECUTION,
        Life(began=NOW - MINUTE, restarts=1, before_began=began, before_ended=NOW - 2 * MINUTE),
        revision=OLD,
    )
    place.kubelet.hold(STRATEGY)
    place.run(STRATEGY)
    place.until(STRATEGY, lambda status: "conditions" in status)
    found = place.agents()
    assert (found.wanted_revision, found.state) == (NEW, BotState.RUNNING)
    pods = {each.agent: each for each in found.pods}
    assert pods[RISK] == AgentEvidence(
        agent=RISK,
        place=f"{BOT}-{RISK}",
        revision=NEW,
        ready=True,
        why_not="",
        restarts=0,
        restarted_at=None,
        ended="",
        started_at=began,
    )
    execution = pods[EXECUTION]
    assert (execution.revision, execution.restarts, execution.restarted_at) == (OLD, 1, NOW - 2 * MINUTE)
    assert execution.ended == "with exit code 1 (Error)"
    assert not pods[STRATEGY].ready
    # The scheduler may have been asked first.
    assert pods[STRATEGY].why_not.startswith(("it has not started", "no node takes it: "))
    assert len(found.pods) == 3, "nothing of others, and nothing that is no agent"


def test_a_crash_and_two_pods_are_told_as_they_are(place: Place) -> None:
    place.kubelet.trouble(RISK, Trouble(waiting="CrashLoopBackOff", message="back-off", exit_code=137, restarts=3))
    place.run(RISK)
    place.run(RISK, OLD, name="second")
    place.until(RISK, lambda status: bool(status.get("containerStatuses")))
    pods = place.agents().pods
    assert {(each.place, each.revision) for each in pods} == {(f"{BOT}-{RISK}", NEW), ("second", OLD)}
    assert {(each.restarts, each.why_not) for each in pods} == {(3, "CrashLoopBackOff: back-off")}


def test_a_bot_that_is_not_there_is_missing_not_without_pods(place: Place) -> None:
    place.api.delete("tradingbot.dev/v1alpha1/tradingbots", place.namespace, BOT)
    found = asyncio.run(place.gatherer.agents())
    assert isinstance(found, Missing)
    assert found.why.startswith("the API server says 404: ")


def test_an_api_server_that_is_away_or_refuses_is_missing(place: Place) -> None:
    nowhere = msgspec.structs.replace(place.pod.access(CHECK), server="https://127.0.0.1:1")
    # Risk may write its status, and look at no pod.
    for access, why in ((nowhere, "can not be reached"), (place.pod.access(RISK), "403: .*cannot list resource")):
        gatherer = ClusterGatherer(access, BOT, AGENTS)
        for found in (
            asyncio.run(gatherer.agents()),
            asyncio.run(gatherer.logs(since=SINCE, within=LIMIT)),
        ):
            assert isinstance(found, Missing)
            assert re.search(why, found.why)


# ---------------------------------------------------------------------------------------------------------- logs


def test_logs_of_all_agents_are_heard_from_the_window_on(place: Place) -> None:
    began = NOW - 180 * MINUTE
    for index, agent in enumerate(AGENTS):
        heard = (fallback(90), *(fallback(50 - minute) for minute in range(index)))
        place.runs(agent, Life(began=began, log=(*talk(began, SINCE), *heard, *talk(NOW - 30 * MINUTE))))
    found = place.logs()
    assert set(found) == set(AGENTS)
    told = {agent: each for agent, each in found.items() if isinstance(each, AgentLog)}
    assert [count(told[agent]) for agent in AGENTS] == [0, 1, 2, 3, 4]
    assert all(each.complete and each.counts_from == SINCE for each in told.values()), told
    assert told[RISK].ends == NOW - MINUTE
    assert {each.agent for each in told[RISK].heard} == {RISK}


def test_an_agent_that_says_little_is_complete_when_its_log_reaches_back(place: Place) -> None:
    place.runs(RISK, Life(began=NOW - 300 * MINUTE, log=(line(NOW - 300 * MINUTE), fallback(1))))
    log = place.log(RISK)
    assert (log.complete, count(log)) == (True, 1)


def test_a_log_whose_begin_was_rotated_away_is_not_complete(place: Place) -> None:
    place.runs(RISK, Life(began=NOW - 300 * MINUTE, log=talk(NOW - 20 * MINUTE)))
    log = place.log(RISK)
    assert not log.complete
    assert "what was before is gone" in log.lacks
    assert log.begins == NOW - 20 * MINUTE


def test_a_pod_that_began_within_the_window_is_complete_and_counts_from_then(place: Place) -> None:
    began = NOW - 20 * MINUTE
    place.runs(RISK, Life(began=began, log=(*talk(began), fallback(1))))
    log = place.log(RISK)
    assert (log.complete, log.counts_from, count(log)) == (True, began, 1)


def test_only_pods_of_the_running_revision_are_heard(place: Place) -> None:
    began = NOW - 20 * MINUTE
    place.runs(RISK, Life(began=began, log=(*talk(began), fallback(1))), revision=OLD, name="old")
    # The times of creation are whole seconds.
    until(lambda: datetime.now(UTC) - _created(place, "old") > timedelta(seconds=1), "the next second")
    place.run(RISK, NEW, name="new")
    place.until(RISK, lambda status: status.get("phase") == "Running")
    assert count(place.log(RISK)) == 1, "of the two of one log, one"


def _created(place: Place, name: str) -> datetime:
    made: str = place.api.get("v1/pods", place.namespace, name)["metadata"]["creationTimestamp"]
    return datetime.fromisoformat(made)


def test_what_was_before_a_restart_is_heard_too(place: Place) -> None:
    began, ended = NOW - 300 * MINUTE, NOW - 10 * MINUTE
    life = Life(
        began=NOW - 9 * MINUTE,
        log=(*talk(NOW - 9 * MINUTE), fallback(1)),
        restarts=1,
        before_began=began,
        before_ended=ended,
        before_log=(*talk(began, NOW - 120 * MINUTE), fallback(90), fallback(30), fallback(20)),
    )
    place.runs(RISK, life)
    log = place.log(RISK)
    assert (log.complete, count(log), log.lacks) == (True, 3, "")
    # The one before has been thrown away.
    place.kubelet.lives(RISK, msgspec.structs.replace(life, before_log=None))
    log = place.log(RISK)
    assert (log.complete, count(log)) == (False, 1)
    assert "what was before the restart of live-risk can not be heard" in log.lacks


def test_a_restart_before_the_window_is_nothing_that_is_lacking(place: Place) -> None:
    ended = NOW - 61 * MINUTE
    life = Life(
        began=NOW - 57 * MINUTE,
        log=(*talk(NOW - 57 * MINUTE), fallback(1)),
        restarts=7,
        before_began=NOW - 62 * MINUTE,
        before_ended=ended,
        before_log=None,
    )
    place.runs(RISK, life)
    log = place.log(RISK)
    assert (log.complete, count(log)) == (True, 1)


def test_of_many_restarts_within_the_window_the_first_are_gone(place: Place) -> None:
    place.runs(RISK, Life(began=NOW - 300 * MINUTE))
    life = Life(
        began=NOW - 9 * MINUTE,
        log=talk(NOW - 9 * MINUTE),
        restarts=4,
        before_began=NOW - 15 * MINUTE,
        before_ended=NOW - 10 * MINUTE,
        before_log=talk(NOW - 15 * MINUTE, NOW - 10 * MINUTE),
    )
    place.kubelet.lives(RISK, life)
    began = {"status": {"startTime": (NOW - 300 * MINUTE).isoformat().replace("+00:00", "Z")}}
    place.api.patch("v1/pods", place.namespace, f"{BOT}-{RISK}", began, "status")
    log = place.log(RISK)
    assert (log.complete, log.counts_from) == (False, SINCE)


def test_a_container_that_waits_to_start_again_is_heard_once(place: Place) -> None:
    words = fallback(0.01)[1].decode().rstrip("\n")
    crashing = Trouble(waiting="CrashLoopBackOff", exit_code=1, restarts=3, last_words=words)
    place.kubelet.trouble(RISK, crashing)
    place.run(RISK)
    place.until(RISK, lambda status: bool(status.get("containerStatuses")))
    found = place.logs()[RISK]
    assert isinstance(found, AgentLog)
    assert found.lines == 1


def test_what_has_no_pod_or_has_not_started_is_missing(place: Place) -> None:
    place.kubelet.trouble(STRATEGY, Trouble(waiting="ImagePullBackOff", message="no such image"))
    place.run(STRATEGY)
    place.until(STRATEGY, lambda status: bool(status.get("containerStatuses")))
    found = place.logs()
    assert found[RISK] == Missing("it has no pod")
    assert found[STRATEGY] == Missing("live-strategy has not started: ImagePullBackOff: no such image")


def test_there_is_an_end_to_reading_in_bytes_and_in_time(place: Place) -> None:
    began = NOW - 59 * MINUTE
    log = talk(began) * 500
    place.runs(RISK, Life(began=began, log=log))
    place.runs(EXECUTION, Life(began=began, is_silent=True))
    found = place.logs(within=timedelta(seconds=3), most=100_000)
    risk = found[RISK]
    assert isinstance(risk, AgentLog)
    assert (risk.complete, risk.lacks) == (False, "only 100000 bytes of live-risk were read")
    assert 0 < risk.lines < 1000
    assert found[EXECUTION] == Missing("it was not read to its end within 3 s")
    whole = place.log(RISK, within=timedelta(seconds=5))
    assert (whole.complete, whole.lines) == (True, len(log))


def test_the_check_asks_for_nothing_else_and_nothing_is_refused(place: Place) -> None:
    place.runs(RISK, Life(began=NOW - 20 * MINUTE, log=talk(NOW - 20 * MINUTE)))
    mark = place.pod.cluster.audit.mark()
    place.agents()
    place.log(RISK)
    account = f"system:serviceaccount:{place.namespace}:{BOT}-{CHECK}"
    asked = place.pod.cluster.audit.requests(mark, account)
    assert {(each.verb, each.resource, each.subresource, each.code) for each in asked} == {
        ("get", "tradingbots.tradingbot.dev", "", 200),
        ("list", "pods", "", 200),
        ("get", "pods", "log", 200),
    }
