"""The end of a bot under the real operator: what its deletion waits for, and what is left."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

import pytest

from support.kubernetes import Json, until
from support.operator_rig import AGENTS, EXTERNAL, OperatorRig
from support.specs import LIVE, PAPER, changed
from tradingbot_api import parse_timestamp
from tradingbot_operator.deletion import BLOCK_LIMIT, FLATTEN_LIMIT

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

SMALL = changed(PAPER, EXTERNAL)


SECOND = timedelta(seconds=1)


def running(rig: OperatorRig, policy: str, *, positions: int, movable_clock: bool = False) -> str:
    """A live bot with positions, and an operator."""
    rig.give_external()
    rig.secret("binance-keys", apiKey="key", secret="secret")
    rig.apply(changed(LIVE, {**EXTERNAL, "deletionPolicy": policy}))
    rig.start(movable_clock=movable_clock)
    rig.until_ready("live")
    rig.report("live", positions=positions)
    rig.until_condition("live", "Trading", "True")
    return "live"


def until_gone(rig: OperatorRig, name: str) -> None:
    until(lambda: rig.bot(name) is None, f"{name} is gone; it waits for {rig.status(name).get('deletion')}")
    until(lambda: not [key for key, child in rig.children().items() if is_owned(child)], "what it owned is gone")
    until(lambda: not rig.pods(), "its pods are gone")


def is_owned(child: Json) -> bool:
    return bool(child["metadata"].get("ownerReferences"))


def messages(rig: OperatorRig, name: str, reason: str) -> list[str]:
    return [each["message"] for each in rig.events(name, reason)]


@pytest.mark.parametrize("policy", ["Retain", "Flatten", "Block"])
def test_a_bot_that_holds_nothing_goes_at_once(rig: OperatorRig, policy: str) -> None:
    name = running(rig, policy, positions=0)
    rig.delete(name)
    until_gone(rig, name)
    assert rig.children() == {}
    assert messages(rig, name, "PositionsLeft") == []


def test_retain_leaves_positions_and_says_so(rig: OperatorRig) -> None:
    name = running(rig, "Retain", positions=2)
    rig.delete(name)
    until_gone(rig, name)
    assert messages(rig, name, "PositionsLeft") == ["2 open positions left, as deletionPolicy Retain says"]


def test_the_agents_end_what_they_do_while_their_servers_are_there(rig: OperatorRig) -> None:
    """An exit whose stop is cancelled already needs the ledger for another moment."""
    rig.secret("binance-keys", apiKey="key", secret="secret")
    rig.apply(changed(LIVE, {"deletionPolicy": "Retain"}))
    rig.start()
    rig.until_ready("live")
    rig.report("live", positions=1)
    rig.until_condition("live", "Trading", "True")
    servers = {"rabbitmq", "influxdb", "postgres"}
    rig.kubelet.busy("execution")
    rig.delete("live")
    until(lambda: live_components(rig, AGENTS) == {"execution"}, "the other agents are gone")
    assert rig.status("live")["deletion"]["phase"] == "Stopping"
    assert rig.condition("live", "Progressing")["message"] == "waiting for its agents to end what they do"
    assert live_components(rig, servers) == servers
    assert not [each for each in rig.pods() if is_going(each) and component_of(each) in servers]
    rig.kubelet.done("execution")
    until_gone(rig, "live")

    def ends() -> list[str]:
        return [each.component for each in rig.kubelet.history() if each.what == "gone"]

    ended = until(lambda: ends() if servers <= set(ends()) else None, "the servers are gone")
    assert max(map(ended.index, AGENTS)) < min(map(ended.index, servers))
    assert messages(rig, "live", "PositionsLeft") == ["1 open position left, as deletionPolicy Retain says"]
    assert messages(rig, "live", "NotReady") == []


def live_components(rig: OperatorRig, of: Iterable[str]) -> set[str]:
    return {component_of(each) for each in rig.pods()} & set(of)


def component_of(pod: Json) -> str:
    return str(pod["metadata"]["labels"].get("app.kubernetes.io/component"))


def is_going(pod: Json) -> bool:
    return "deletionTimestamp" in pod["metadata"]


def test_flatten_sells_before_it_goes(rig: OperatorRig) -> None:
    name = running(rig, "Flatten", positions=1)
    pods = {each["metadata"]["uid"] for each in rig.pods() if each["metadata"]["labels"]}
    rig.delete(name)
    until(lambda: rig.status(name).get("deletion"), "it says what it waits for")
    told = rig.status(name)["deletion"]
    assert (told["phase"], told["waitingFor"]) == ("Flattening", "1 open position to be sold")
    assert told["since"] < told["deadline"]
    rig.until_condition(name, "Progressing", "True", "Deleting")
    until(lambda: (rig.child("configmaps", f"{name}-state") or {}).get("data") == {"state": "Flatten"}, "Flatten")
    # Everything runs on: somebody has to sell.
    assert {each["metadata"]["uid"] for each in rig.pods()} == pods
    rig.report(name, state="Flatten", positions=1, orders=1)
    until(lambda: "1 live order" in rig.status(name)["deletion"]["waitingFor"], "it says that an order is live")
    assert rig.bot(name) is not None
    rig.report(name, state="Flatten", positions=0)
    until_gone(rig, name)
    assert messages(rig, name, "PositionsLeft") == []


def test_block_waits_and_keeps_everything_running_and_repaired(rig: OperatorRig) -> None:
    name = running(rig, "Block", positions=1)
    rig.delete(name)
    until(lambda: rig.status(name).get("deletion"), "it says what it waits for")
    told = rig.status(name)["deletion"]
    assert told["phase"] == "Blocked"
    assert "1 open position" in told["waitingFor"]
    for remedy in ("state: Flatten", "deletionPolicy: Retain", "tradingbot.dev/abandon"):
        assert remedy in told["waitingFor"]
    rig.api.delete("apps/v1/deployments", rig.namespace, f"{name}-execution")
    until(lambda: rig.status(name)["ready"] == "5/5" and rig.child("deployments", f"{name}-execution"), "repaired")
    # One way out: to sell.
    rig.edit(name, state="Flatten")
    until(lambda: (rig.child("configmaps", f"{name}-state") or {}).get("data") == {"state": "Flatten"}, "Flatten")
    rig.report(name, state="Flatten", positions=0)
    until_gone(rig, name)


def until_phase(rig: OperatorRig, name: str, phase: str) -> Json:
    """What the deletion waits for then."""

    def reached() -> Json | None:
        told: Json = rig.status(name).get("deletion") or {}
        return told if told.get("phase") == phase else None

    return until(reached, f"{phase}; it waits for {rig.status(name).get('deletion')}")


def length(told: Json) -> timedelta:
    """From when the deletion waits for it until it waits no longer."""
    return parse_timestamp(told["deadline"]) - parse_timestamp(told["since"])


def pass_until(rig: OperatorRig, told: Json, *, short_of: timedelta = timedelta()) -> None:
    """Until the deadline, or that much less."""
    rig.pass_time(parse_timestamp(told["deadline"]) - rig.now() - short_of)


def test_what_could_not_be_sold_is_left_when_nobody_decides(rig: OperatorRig) -> None:
    name = running(rig, "Flatten", positions=2, movable_clock=True)
    pods = {each["metadata"]["uid"] for each in rig.pods()}
    rig.delete(name)
    selling = until_phase(rig, name, "Flattening")
    assert length(selling) == FLATTEN_LIMIT

    # Up to the last minute it is only said what is left to be sold.
    pass_until(rig, selling, short_of=timedelta(minutes=1))
    rig.report(name, state="Flatten", positions=1, orders=1)
    until(lambda: "1 live order" in rig.status(name)["deletion"]["waitingFor"], "it has looked again")
    assert rig.status(name)["deletion"] == {**selling, "waitingFor": "1 open position and 1 live order to be sold"}

    pass_until(rig, selling, short_of=-SECOND)
    rig.report(name, state="Flatten", positions=1)
    blocked = until_phase(rig, name, "Blocked")
    assert blocked["waitingFor"].startswith("1 open position could not be sold within 0:30:00: ")
    for remedy in ("state: Flatten", "deletionPolicy: Retain", 'tradingbot.dev/abandon: "true"'):
        assert remedy in blocked["waitingFor"]
    assert length(blocked) == BLOCK_LIMIT
    assert blocked["since"] >= selling["deadline"]
    until(lambda: blocked["waitingFor"] in rig.condition(name, "Progressing").get("message", ""), "it is said")
    # Everything runs on, and selling is tried on.
    assert {each["metadata"]["uid"] for each in rig.pods()} == pods
    state = rig.child("configmaps", f"{name}-state")
    assert state is not None
    assert state["data"] == {"state": "Flatten"}

    pass_until(rig, blocked, short_of=timedelta(minutes=1))
    rig.report(name, state="Flatten", positions=1, orders=1)
    until(lambda: "1 live order" in rig.status(name)["deletion"]["waitingFor"], "it has looked again")
    assert {key: rig.status(name)["deletion"][key] for key in ("phase", "since", "deadline")} == {
        key: blocked[key] for key in ("phase", "since", "deadline")
    }
    assert messages(rig, name, "PositionsLeft") == []

    pass_until(rig, blocked, short_of=-SECOND)
    rig.report(name, state="Flatten", positions=1)
    until_gone(rig, name)
    assert messages(rig, name, "PositionsLeft") == ["1 open position left, for nobody decided within 1 day, 0:00:00"]
    assert [each["type"] for each in rig.events(name, "PositionsLeft")] == ["Warning"]


def test_a_blocked_bot_goes_without_a_person_after_a_day_and_trades_until_then(rig: OperatorRig) -> None:
    name = running(rig, "Block", positions=1, movable_clock=True)
    rig.delete(name)
    blocked = until_phase(rig, name, "Blocked")
    assert length(blocked) == BLOCK_LIMIT
    pass_until(rig, blocked, short_of=timedelta(minutes=1))
    rig.report(name, positions=2)
    until(lambda: "2 open positions" in rig.status(name)["deletion"]["waitingFor"], "it has looked again")
    state = rig.child("configmaps", f"{name}-state")
    assert state is not None
    assert state["data"] == {"state": "Running"}
    pass_until(rig, blocked, short_of=-SECOND)
    rig.report(name, positions=2)
    until_gone(rig, name)
    assert messages(rig, name, "PositionsLeft") == ["2 open positions left, for nobody decided within 1 day, 0:00:00"]


def test_a_deadline_counts_on_under_the_next_operator(rig: OperatorRig) -> None:
    name = running(rig, "Flatten", positions=1, movable_clock=True)
    rig.delete(name)
    selling = until_phase(rig, name, "Flattening")
    rig.operators[-1].kill()
    pass_until(rig, selling, short_of=-SECOND)
    # It comes after the limit, and nothing but the clock has changed.
    rig.start(movable_clock=True)
    blocked = until_phase(rig, name, "Blocked")
    rig.operators[-1].kill()
    pass_until(rig, blocked, short_of=-SECOND)
    rig.start(movable_clock=True)
    until_gone(rig, name)
    assert len(messages(rig, name, "PositionsLeft")) == 1


@pytest.mark.parametrize(("policy", "phase"), [("Block", "Blocked"), ("Flatten", "Flattening")])
def test_a_person_can_give_up_what_a_deletion_waits_for(rig: OperatorRig, policy: str, phase: str) -> None:
    name = running(rig, policy, positions=3)
    rig.delete(name)
    told = until_phase(rig, name, phase)
    assert parse_timestamp(told["deadline"]) - rig.now() > FLATTEN_LIMIT / 2, "it would wait for long"
    rig.annotate(name, abandon="true")
    until_gone(rig, name)
    assert messages(rig, name, "PositionsLeft") == ["3 open positions left, as a person asked"]


def test_a_person_can_give_up_what_could_not_be_sold(rig: OperatorRig) -> None:
    name = running(rig, "Flatten", positions=1, movable_clock=True)
    rig.delete(name)
    pass_until(rig, until_phase(rig, name, "Flattening"), short_of=-SECOND)
    rig.report(name, state="Flatten", positions=1)
    until_phase(rig, name, "Blocked")
    rig.annotate(name, abandon="true")
    until_gone(rig, name)
    assert messages(rig, name, "PositionsLeft") == ["1 open position left, as a person asked"]


def test_a_person_can_change_the_policy_of_a_deletion(rig: OperatorRig) -> None:
    name = running(rig, "Block", positions=1)
    rig.delete(name)
    until(lambda: rig.status(name).get("deletion"), "it says what it waits for")
    rig.edit(name, deletionPolicy="Retain")
    until_gone(rig, name)


def test_a_live_bot_with_positions_is_guarded_from_evictions(rig: OperatorRig) -> None:
    name = running(rig, "Block", positions=1)
    guarded = {("poddisruptionbudgets", f"{name}-{agent}") for agent in ("risk", "execution")}
    until(lambda: guarded <= set(rig.children()), "a budget for each")
    rig.report(name, positions=0)
    until(lambda: not guarded & set(rig.children()), "none any more")
    assert messages(rig, name, "Repaired") == []


@pytest.mark.parametrize("held", ["migration", "execution", "risk"])
def test_a_bot_that_is_deleted_while_it_is_made_leaves_nothing(rig: OperatorRig, held: str) -> None:
    rig.give_external()
    rig.kubelet.hold(held)
    rig.apply(SMALL)
    rig.start()
    until(lambda: rig.pods(held), f"its {held}")
    rig.delete("paper")
    until_gone(rig, "paper")
    left = {key[0] for key in rig.children()}
    assert left <= {"persistentvolumeclaims"}


def test_a_bot_that_is_deleted_at_once_leaves_nothing(rig: OperatorRig) -> None:
    rig.give_external()
    rig.start()
    for _ in range(10):
        rig.apply(SMALL)
        rig.delete("paper")
        until_gone(rig, "paper")


def test_another_bot_of_the_same_name_starts_anew(rig: OperatorRig) -> None:
    rig.give_external()
    rig.apply(SMALL)
    rig.start()
    rig.until_ready("paper")
    old = rig.bot("paper")
    assert old is not None
    rig.delete("paper")
    until(lambda: rig.bot("paper") is None, "gone")
    # What it owned is still there for a moment.
    rig.apply(changed(SMALL, {"symbols": ["ETH/USDT"]}))
    rig.until_ready("paper")
    new = rig.bot("paper")
    assert new is not None

    def is_all_its_own() -> bool:
        owners = [child["metadata"]["ownerReferences"] for child in rig.children().values() if is_owned(child)]
        return all([each["uid"] for each in one] == [new["metadata"]["uid"]] for one in owners)

    until(is_all_its_own, "everything belongs to the new one")
    rig.until_ready("paper")
    assert {each["metadata"]["labels"]["app.kubernetes.io/component"] for each in rig.pods()} >= set(AGENTS)


def test_a_deletion_goes_on_under_the_next_operator(rig: OperatorRig) -> None:
    name = running(rig, "Flatten", positions=1)
    rig.delete(name)
    until(lambda: rig.status(name).get("deletion"), "it says what it waits for")
    since = rig.status(name)["deletion"]["since"]
    for operator in rig.operators:
        operator.kill()
    rig.start()
    rig.report(name, state="Flatten", positions=1, orders=2)
    until(lambda: "2 live orders" in rig.status(name)["deletion"]["waitingFor"], "it goes on")
    assert rig.status(name)["deletion"]["since"] == since
    rig.report(name, state="Flatten", positions=0)
    until_gone(rig, name)
