"""The real operator under faults: killed at any point, two at once, and an API server that fails it.

Whatever happens, the end is what an undisturbed operator makes.
"""

from __future__ import annotations

import json
import random
import time
from typing import Any

import pytest

from support.api_proxy import ApiProxy
from support.kubernetes import Json, until
from support.operator_rig import AGENTS, EXTERNAL, OperatorRig, RunningOperator, essence
from support.specs import LIVE, PAPER, changed
from tradingbot_operator.builders.prune import schedule

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

SMALL = changed(PAPER, EXTERNAL)

SEED = 20
ROUNDS = 20
WRITES = 45
"""At most, before a kill: about what it takes to make one bot."""


def named(name: str, **changes: Any) -> Json:
    return changed(SMALL, changes) | {"metadata": {"name": name}}


def made_of(rig: OperatorRig, name: str) -> str:
    """All children of a bot, in words that two bots whose names have the same length share."""
    children = {key: child for key, child in rig.children().items() if key[1].startswith(f"{name}-")}
    assert children, name
    text = json.dumps({f"{kind} {each}": child for (kind, each), child in essence(children).items()}, sort_keys=True)
    revision: str = rig.status(name)["revision"]
    # Each bot prunes at a minute of its own.
    minute = json.dumps(schedule(rig.namespace, name))
    assert minute in text
    return text.replace(minute, '"SCHEDULE"').replace(revision, "REVISION").replace(name, "NAME")


def assert_undisturbed(rig: OperatorRig, names: list[str]) -> None:
    """All is as if nothing had happened."""
    rig.apply(named("calm-00"))
    rig.until_ready("calm-00")
    calm = json.loads(made_of(rig, "calm-00"))
    for name in names:
        rig.until_ready(name)
        assert json.loads(made_of(rig, name)) == calm
        components = sorted(
            each["metadata"]["labels"]["app.kubernetes.io/component"]
            for each in rig.api.list("v1/pods", rig.namespace, f"tradingbot.dev/bot={name}")
        )
        assert [each for each in components if each in AGENTS] == sorted(AGENTS)
        # Nobody but the operator has changed anything.
        assert [each["message"] for each in rig.events(name, "Repaired")] == []


# --------------------------------------------------------------------------------------------- the process


def test_killed_at_any_point_it_ends_with_the_same(rig: OperatorRig) -> None:
    rig.give_external()
    chance = random.Random(SEED)
    proxy = rig.proxy()
    names = [f"kill-{number:02}" for number in range(ROUNDS)]
    for name in names:
        rig.apply(named(name))
        # Those that came before go on beside it, from wherever they were.
        frozen = proxy.freeze_at_write(chance.randint(1, WRITES))
        operator = rig.start(through=proxy, wait=False)
        assert frozen.wait(30), operator.output
        operator.kill()
        proxy.clear()
    rig.start()
    assert_undisturbed(rig, names)


def test_two_operators_make_the_same_and_leave_each_other_alone(rig: OperatorRig) -> None:
    rig.give_external()
    both = [rig.start(), rig.start()]
    names = [f"two-{number:03}" for number in range(3)]
    for name in names:
        rig.apply(named(name, updateStrategy="Auto"))
    for name in names:
        rig.until_ready(name)
    for name in names:
        rig.edit(name, symbols=["BTC/USDT", "ETH/USDT"])
    for name in names:
        rig.until_ready(name)
    history = rig.kubelet.history()
    for name in names:
        # No pod was made in vain: one of each revision.
        came = [each for each in history if each.what == "came" and each.name.startswith(f"{name}-execution")]
        assert len(came) == len({each.revision for each in came}) == 2
        rig.edit(name, symbols=SMALL["spec"]["symbols"], updateStrategy=None)
    for name in names:
        rig.until_ready(name)
    mark = rig.until_at_rest()
    for operator in both:
        assert operator.is_running
    assert rig.writes(mark) == []
    assert_undisturbed(rig, names)


def until_state(rig: OperatorRig, name: str, state: str) -> None:
    """It is told to the agents."""
    until(lambda: (rig.child("configmaps", f"{name}-state") or {}).get("data") == {"state": state}, state)


def test_asked_to_stop_it_ends_what_it_does_and_the_next_goes_on(rig: OperatorRig) -> None:
    rig.give_external()
    proxy = rig.proxy()
    slow = proxy.delay(0.2, 1000, verb="patch")
    operator = rig.start(through=proxy)
    rig.apply(named("stop-00"))
    until(lambda: slow.left < 990, "it is at work")
    asked = time.monotonic()
    assert operator.stop() == 0
    assert time.monotonic() - asked < 25
    assert operator.named("operator_stops")
    rig.start()
    assert_undisturbed(rig, ["stop-00"])


def test_what_changes_while_nobody_looks_is_found_at_the_start(rig: OperatorRig) -> None:
    rig.give_external()
    operator = rig.start()
    rig.apply(named("away-00"))
    rig.until_ready("away-00")
    operator.kill()
    rig.api.delete("apps/v1/deployments", rig.namespace, "away-00-strategy")
    rig.edit("away-00", state="Paused")
    rig.start()
    until_state(rig, "away-00", "Paused")
    until(lambda: rig.child("deployments", "away-00-strategy"), "its Deployment is back")
    rig.until_ready("away-00")


# ------------------------------------------------------------------------------------------ the API server


@pytest.fixture
def proxy(rig: OperatorRig) -> ApiProxy:
    rig.give_external()
    return rig.proxy()


def alive(operator: RunningOperator) -> bool:
    return operator.is_running and operator.page("/live")[0] == 200


@pytest.mark.parametrize("how", ["cut", "expired"])
def test_a_watch_that_ends_badly_is_taken_up_again(rig: OperatorRig, proxy: ApiProxy, how: str) -> None:
    operator = rig.start(through=proxy)
    rig.apply(named("watch-0"))
    rig.until_ready("watch-0")
    for number in range(3):
        # A watch that ended waits a moment before it is taken up: the bot can be ready before that.
        until(lambda: proxy.open_watches() >= 14, "every watch is there")
        end = proxy.cut_watches if how == "cut" else proxy.expire_watches
        assert end() >= 14
        # What happens right now is told by no watch.
        rig.api.delete("apps/v1/deployments", rig.namespace, "watch-0-strategy")
        rig.edit("watch-0", state="Paused" if number % 2 == 0 else "Running")
        wanted = "Paused" if number % 2 == 0 else "Running"
        until_state(rig, "watch-0", wanted)
        until(lambda: rig.child("deployments", "watch-0-strategy"), "its Deployment is back")
        rig.until_ready("watch-0")
    until(lambda: operator.metric("tradingbot_operator_watches_away") == 0, "every watch is back")
    assert alive(operator)
    mark = rig.until_at_rest()
    assert rig.writes(mark) == []


@pytest.mark.parametrize(
    ("status", "retry_after"), [(429, 1), (500, None), (503, None), (409, None)], ids=lambda each: str(each)
)
def test_refused_writes_are_tried_again(
    rig: OperatorRig, proxy: ApiProxy, status: int, retry_after: int | None
) -> None:
    operator = rig.start(through=proxy)
    faults = [
        proxy.answer(status, verb="patch", resource=resource, retry_after=retry_after)
        for resource in ("tradingbots", "configmaps", "statefulsets")
    ]
    faults.append(proxy.answer(status, verb="create", resource="jobs", retry_after=retry_after))
    rig.apply(named("again-0"))
    rig.until_ready("again-0")
    assert all(fault.spent for fault in faults)
    assert alive(operator)
    proxy.clear()
    assert_undisturbed(rig, ["again-0"])


def test_reads_that_fail_are_tried_again(rig: OperatorRig, proxy: ApiProxy) -> None:
    faults = [proxy.answer(503, 3, verb="list"), proxy.answer(429, 3, verb="watch", retry_after=1)]
    operator = rig.start(through=proxy)
    rig.apply(named("reads-0"))
    rig.until_ready("reads-0")
    assert all(fault.spent for fault in faults)
    assert alive(operator)


def test_answers_that_are_lost_change_nothing(rig: OperatorRig, proxy: ApiProxy) -> None:
    operator = rig.start(through=proxy)
    faults = [
        proxy.lose(1, verb="patch", resource=resource)
        for resource in ("tradingbots", "configmaps", "serviceaccounts", "roles", "deployments", "statefulsets")
    ]
    faults += [proxy.lose(1, verb="create", resource=resource) for resource in ("configmaps", "jobs")]
    rig.apply(named("loses-0"))
    rig.until_ready("loses-0")
    assert all(fault.spent for fault in faults)
    assert alive(operator)
    proxy.clear()
    assert_undisturbed(rig, ["loses-0"])


def test_a_generated_secret_whose_answer_is_lost_is_kept(rig: OperatorRig, proxy: ApiProxy) -> None:
    rig.start(through=proxy)
    lost = proxy.lose(3, verb="create", resource="secrets")
    mark = rig.cluster.audit.mark()
    rig.apply_example("quickstart")
    rig.until_ready("quickstart")
    assert lost.spent
    wrote = [each for each in rig.writes(mark) if each.resource == "secrets"]
    # Made once each; what was asked again was refused, and nothing was changed.
    assert {each.verb for each in wrote} == {"create"}
    assert len([each for each in wrote if each.code == 201]) == 3


def test_a_slow_server_is_waited_for(rig: OperatorRig, proxy: ApiProxy) -> None:
    operator = rig.start(through=proxy)
    proxy.delay(0.3, 10_000)
    rig.apply(named("slow-00"))
    rig.until_ready("slow-00")
    assert alive(operator)
    proxy.clear()
    assert_undisturbed(rig, ["slow-00"])


def test_a_server_that_is_away_is_waited_for(rig: OperatorRig, proxy: ApiProxy) -> None:
    operator = rig.start(through=proxy)
    rig.apply(named("gone-00"))
    rig.until_ready("gone-00")
    with proxy.away():
        rig.api.delete("apps/v1/deployments", rig.namespace, "gone-00-strategy")
        until(lambda: operator.metric("tradingbot_operator_watches_away") >= 10, "it has noticed")
        assert alive(operator)
    until(lambda: rig.child("deployments", "gone-00-strategy"), "its Deployment is back")
    rig.until_ready("gone-00")
    until(lambda: operator.metric("tradingbot_operator_watches_away") == 0, "every watch is back")


def test_an_operator_that_starts_before_its_server_waits_for_it(rig: OperatorRig, proxy: ApiProxy) -> None:
    rig.apply(named("early-0"))
    with proxy.away():
        operator = rig.start(through=proxy, wait=False)
        until(lambda: operator.named("operator_started"), f"it has started: {operator.output}")
        until(lambda: operator.metric("tradingbot_operator_watches_away") >= 10, "it has noticed")
        assert operator.page("/ready")[0] == 503
        assert operator.page("/live")[0] == 200
    operator.wait_until_ready()
    rig.until_ready("early-0")


def test_one_that_waits_for_its_server_ends_when_it_is_asked_to(rig: OperatorRig, proxy: ApiProxy) -> None:
    """As the first process of a container it would not be ended by a signal for which it has no handler."""
    with proxy.away():
        operator = rig.start(through=proxy, wait=False)
        until(lambda: operator.named("bots_unknown"), f"it has noticed: {operator.output}")
        asked = time.monotonic()
        assert operator.stop() == 0
        assert time.monotonic() - asked < 15


def test_a_failure_does_not_set_back_what_a_deletion_waits_for(rig: OperatorRig, proxy: ApiProxy) -> None:
    rig.start(through=proxy)
    rig.secret("binance-keys", apiKey="key", secret="secret")
    rig.apply(changed(LIVE, {**EXTERNAL, "deletionPolicy": "Block"}))
    rig.until_ready("live")
    rig.report("live", positions=1)
    rig.until_condition("live", "Trading", "True")
    rig.edit("live", symbols=["BTC/USDT", "ETH/USDT"])
    rig.until_condition("live", "ConfigDrift", "True", "Pending")
    rig.delete("live")
    rig.until_condition("live", "Progressing", "True", "Deleting")
    before = rig.status("live")
    refused = proxy.answer(403, 10_000, verb="patch", resource="deployments")
    rig.api.delete("apps/v1/deployments", rig.namespace, "live-strategy")
    rig.until_condition("live", "Degraded", "True", "ReconcileFailed")
    assert refused.left < 10_000
    now = rig.status("live")
    assert {name: now.get(name) for name in ("deletion", "pendingRevision")} == {
        name: before[name] for name in ("deletion", "pendingRevision")
    }
    assert rig.condition("live", "ConfigDrift")["reason"] == "Pending"
    proxy.clear()
    rig.until_condition("live", "Degraded", "False")
    assert rig.status("live")["deletion"] == before["deletion"]


def test_a_watch_that_stays_away_is_asked_for_less_and_less(rig: OperatorRig, proxy: ApiProxy) -> None:
    operator = rig.start(through=proxy)
    away = proxy.answer(503, 10_000, verb="watch", resource="deployments")
    proxy.cut_watches("deployments")
    until(lambda: away.left < 10_000, "it asks again")
    first = time.monotonic()
    until(lambda: away.left <= 10_000 - 6, "it asks six times")
    # Pauses of 0.2, 0.4 … 3.2 s, and at the least half of them.
    assert time.monotonic() - first > 2
    assert operator.metric("tradingbot_operator_watches_away") == 1
    proxy.clear()
    until(lambda: operator.metric("tradingbot_operator_watches_away") == 0, "it is back")


def test_a_server_that_asks_for_patience_gets_it(rig: OperatorRig, proxy: ApiProxy) -> None:
    rig.start(through=proxy)
    busy = proxy.answer(429, verb="patch", resource="serviceaccounts", retry_after=4)
    rig.apply(named("waits-0"))
    until(lambda: busy.spent, "it is refused")
    refused = time.monotonic()
    before = sum(each.resource == "serviceaccounts" for each in proxy.seen)
    until(lambda: sum(each.resource == "serviceaccounts" for each in proxy.seen) > before, "it asks again")
    assert time.monotonic() - refused > 3.5
    rig.until_ready("waits-0")
