"""A bot's life under the real operator on a real API server: made, told, kept as it is, changed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from support.fake_kubelet import Trouble
from support.kubernetes import Completed, Json, until
from support.operator_rig import AGENTS, EXTERNAL, OperatorRig
from support.specs import LIVE, PAPER, changed
from tradingbot_operator.diagnosis import PATIENCE
from tradingbot_operator.names import check_cron_job
from tradingbot_operator.revisions import ROLL_ORDER

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

SMALL = changed(PAPER, EXTERNAL)
"""A bot without servers of its own: the fewest children."""

LIVE_SMALL = changed(LIVE, EXTERNAL)

POISONED: Json = changed(SMALL, {"exchange.pollInterval": "2m", "timeframe": "1m"}) | {
    "metadata": {"name": "poisoned"}
}
"""The API server takes it: that one duration is longer than another is no rule of its language."""


def started(rig: OperatorRig, bot: Json) -> str:
    """A running bot, and an operator that has made it; its name."""
    rig.give_external()
    rig.secret("binance-keys", apiKey="key", secret="secret")
    rig.apply(bot)
    rig.start()
    name: str = bot["metadata"]["name"]
    rig.until_ready(name)
    return name


def told_states(rig: OperatorRig) -> dict[str, str]:
    """What the pods of the agents are annotated with."""
    pods = {agent: rig.pods(agent)[0]["metadata"] for agent in AGENTS}
    return {agent: meta["annotations"].get("tradingbot.dev/state", "") for agent, meta in pods.items()}


# ------------------------------------------------------------------------------------------------------ made


@pytest.mark.parametrize("example", ["quickstart", "testnet", "live"])
def test_an_example_becomes_every_child_and_nothing_is_refused(rig: OperatorRig, example: str) -> None:
    rig.secret("binance-keys", apiKey="key", secret="secret")
    rig.secret("binance-testnet-keys", apiKey="key", secret="secret")
    rig.secret("binance-read-only", apiKey="key", secret="secret")
    rig.secret("telegram", url="https://example.invalid")
    mark = rig.cluster.audit.mark()
    rig.start()
    name = rig.apply_example(example)["metadata"]["name"]
    status = rig.until_ready(name)
    assert (status["ready"], status["readyAgents"]) == ("5/5", 5)
    assert set(status["children"].values()) == {"ready"}
    made = rig.children()
    workloads = {key for key in made if key[0] in ("deployments", "statefulsets")}
    account = next(key[1].removesuffix("-postgres") for key in workloads if key[1].endswith("-postgres"))
    assert workloads == {
        *(("deployments", f"{name}-{agent}") for agent in AGENTS if agent != "risk"),
        ("statefulsets", f"{name}-risk"),
        ("statefulsets", f"{name}-rabbitmq"),
        ("statefulsets", f"{name}-influxdb"),
        ("statefulsets", f"{account}-postgres"),
    }
    assert {key for key in made if key[0] == "cronjobs"} == {
        ("cronjobs", check_cron_job(name)),
        ("cronjobs", f"{name}-prune"),
        ("cronjobs", f"{account}-backup"),
    }
    # Whatever has no pod yet is asked for one by its controller, which tells when the pod is refused.
    refused = [each["message"] for each in rig.api.list("v1/events", rig.namespace) if "forbidden" in each["message"]]
    assert refused == []
    codes = {(each.verb, each.resource, each.code) for each in rig.writes(mark) if each.code >= 400}
    assert codes == set()
    bot = rig.bot(name)
    assert bot is not None
    for key, child in made.items():
        owners = {owner["uid"] for owner in child["metadata"].get("ownerReferences") or []}
        if not owners:
            # What keeps or opens a volume that stays.
            assert key[0] in ("secrets", "persistentvolumeclaims"), key
        else:
            assert owners == {bot["metadata"]["uid"]}, key


def test_no_agent_is_there_before_the_migration_has_succeeded(rig: OperatorRig) -> None:
    rig.give_external()
    rig.kubelet.hold("migration")
    rig.apply(SMALL)
    rig.start()
    rig.until_condition("paper", "Progressing", "True", "Migrating")
    until(lambda: rig.pods("migration"), "the migration's pod")
    # All else that is made before is there: what would come next is the agents.
    until(lambda: rig.child("cronjobs", check_cron_job("paper")), "the reality check")
    assert [key for key in rig.children() if key[0] in ("deployments", "statefulsets")] == []
    rig.kubelet.release("migration")
    rig.until_ready("paper")
    seen = [(each.what, each.component) for each in rig.kubelet.history()]
    migrated = seen.index(("succeeded", "migration"))
    assert all(seen.index(("came", agent)) > migrated for agent in AGENTS)


# ------------------------------------------------------------------------------------------------------ told


def test_kubectl_tells_the_story(rig: OperatorRig, kubectl: Callable[..., Completed]) -> None:
    name = started(rig, SMALL)
    rig.report(name, positions=2)
    rig.until_condition(name, "Trading", "True", "Running")
    [header, row] = kubectl("get", "tb", "-n", rig.namespace).out.splitlines()
    assert header.split() == ["NAME", "MODE", "STATE", "READY", "EQUITY", "POSITIONS", "CHECK", "CHECKED", "AGE"]
    assert row.split()[:6] == ["paper", "paper", "Running", "5/5", "1000.00", "2"]
    told = kubectl("describe", "tb", name, "-n", rig.namespace).out
    events = re.findall(r"^ +(Normal|Warning) +(\w+) .* tradingbot-operator  ", told, re.MULTILINE)
    # kubectl sorts them by the second, and those of one second in no order.
    assert events.count(("Normal", "Progressing")) >= 2
    assert {("Normal", "Ready"), ("Normal", "Trading")} <= set(events)
    assert {kind for kind, _ in events} == {"Normal"}


def test_a_condition_keeps_its_time_while_it_stays(rig: OperatorRig) -> None:
    name = started(rig, SMALL)
    before = rig.condition(name, "Ready")
    rig.edit(name, state="Paused")
    until(lambda: rig.status(name)["wantedState"] == "Paused", "the state is asked for")
    after = rig.condition(name, "Ready")
    assert after["lastTransitionTime"] == before["lastTransitionTime"]
    assert after["observedGeneration"] == before["observedGeneration"] + 1


def test_a_missing_secret_of_a_person_is_said_until_it_is_there(rig: OperatorRig) -> None:
    rig.give_external()
    rig.apply(LIVE_SMALL)
    # As a kubelet does it: a container whose Secret is missing is not made.
    rig.kubelet.trouble(
        "execution",
        Trouble(waiting="ContainerCreating", message='MountVolume.SetUp failed: secret "binance-keys" not found'),
    )
    rig.start()
    found = rig.until_condition("live", "Degraded", "True", "SecretMissing")
    assert "Secret binance-keys is missing" in found["message"]
    assert "spec.exchange.credentialsSecretRef" in found["message"]
    assert rig.condition("live", "Ready")["status"] == "False"
    rig.secret("binance-keys", apiKey="key")
    found = rig.until_condition("live", "Degraded", "True", "SecretIncomplete")
    assert "has no key secret" in found["message"]
    rig.api.patch("v1/secrets", rig.namespace, "binance-keys", {"stringData": {"secret": "word"}})
    rig.kubelet.mend("execution")
    rig.until_ready("live")


@pytest.mark.parametrize(
    ("trouble", "reason", "words"),
    [
        (
            Trouble(waiting="ImagePullBackOff", message="Back-off pulling image: not found"),
            "ImagePullBackOff",
            ["strategy", "example.invalid/agents:1", "not found"],
        ),
        (
            Trouble(
                waiting="CrashLoopBackOff",
                message="back-off 10s",
                exit_code=2,
                restarts=3,
                last_words='{"event": "spec_refused", "why": "spec.risk is missing"}',
            ),
            "CrashLoopBackOff",
            ["strategy", "with exit code 2", "3 times", "spec_refused: spec.risk is missing"],
        ),
    ],
    ids=lambda each: each.waiting if isinstance(each, Trouble) else "",
)
def test_what_is_wrong_in_a_pod_is_said_on_the_bot(
    rig: OperatorRig, trouble: Trouble, reason: str, words: list[str]
) -> None:
    rig.kubelet.trouble("strategy", trouble)
    rig.give_external()
    rig.apply(SMALL)
    rig.start()

    def said() -> Json | None:
        found = rig.condition("paper", "Degraded")
        return found if found.get("reason") == reason and all(each in found["message"] for each in words) else None

    until(said, f"{reason} with {words}, not {rig.condition('paper', 'Degraded')}")
    assert rig.condition("paper", "Ready")["status"] == "False"
    until(lambda: rig.status("paper")["ready"] == "4/5", "the others are ready")
    until(lambda: rig.events("paper", "Degraded"), "an Event")
    assert {each["type"] for each in rig.events("paper", "Degraded")} == {"Warning"}
    rig.kubelet.mend("strategy")
    rig.until_ready("paper")
    assert rig.condition("paper", "Degraded")["status"] == "False"


def test_a_volume_that_nobody_provides_is_said_on_the_bot(rig: OperatorRig) -> None:
    rig.kubelet.hold_volumes()
    rig.give_external()
    rig.apply(SMALL)
    rig.start()
    # Every new volume takes a moment, so that is not said at once.
    until(
        lambda: (
            "its volume paper-execution of 1Gi waits for the cluster's default storage class"
            in rig.condition("paper", "Degraded").get("message", "")
        ),
        "the volume",
        PATIENCE.total_seconds() + 60,
    )
    assert rig.condition("paper", "Degraded")["status"] == "True"
    assert rig.condition("paper", "Ready")["status"] == "False"


# ------------------------------------------------------------------------------------------------------ kept


def test_drift_is_repaired_and_said(rig: OperatorRig) -> None:
    name = started(rig, SMALL)
    rig.until_at_rest()
    uid = (rig.child("deployments", "paper-strategy") or {})["metadata"]["uid"]
    rig.api.delete("apps/v1/deployments", rig.namespace, "paper-strategy")
    asked = time.monotonic()

    def back() -> bool:
        found = rig.child("deployments", "paper-strategy")
        return found is not None and found["metadata"]["uid"] != uid

    until(back, "the Deployment is back")
    took = time.monotonic() - asked
    assert took < 5, "a second on a free machine"
    rig.api.patch("apps/v1/deployments", rig.namespace, "paper-execution", {"spec": {"replicas": 3}})
    until(lambda: (rig.child("deployments", "paper-execution") or {})["spec"]["replicas"] == 1, "one replica again")
    policies = [key[1] for key in rig.children() if key[0] == "networkpolicies"]
    for policy in policies:
        rig.api.delete("networking.k8s.io/v1/networkpolicies", rig.namespace, policy)
    until(
        lambda: {key[1] for key in rig.children() if key[0] == "networkpolicies"} == set(policies),
        "every NetworkPolicy is back",
    )
    rig.until_ready(name)

    def said() -> bool:
        told = "\n".join(each["message"] for each in rig.events(name, "Repaired"))
        objects = ["Deployment paper-strategy was gone", "Deployment paper-execution was changed"]
        return all(each in told for each in [*objects, *(f"NetworkPolicy {policy} was gone" for policy in policies)])

    until(said, "an Event for each repair")
    assert "spec.replicas is 3, not 1" in "\n".join(each["message"] for each in rig.events(name, "Repaired"))


def test_nothing_is_written_at_rest_nor_by_an_operator_that_starts(rig: OperatorRig) -> None:
    rig.secret("binance-keys", apiKey="key", secret="secret")
    rig.apply_example("quickstart")
    operator = rig.start()
    rig.until_ready("quickstart")
    rig.report("quickstart", positions=1)
    rig.until_condition("quickstart", "Trading", "True")
    mark = rig.until_at_rest()
    assert operator.stop() == 0
    again = rig.start()
    until(lambda: again.metric("tradingbot_operator_reconciles_total") >= 2, "the bot and its account are looked at")
    # Whatever wakes it: pods that come and go are none of its writes.
    [old] = rig.pods("risk")
    rig.api.delete("v1/pods", rig.namespace, "quickstart-risk-0")
    until(
        lambda: [each for each in rig.pods("risk") if each["metadata"]["uid"] != old["metadata"]["uid"]],
        "another pod",
    )
    rig.until_ready("quickstart")
    rig.until_at_rest()
    told = {(each.resource, each.subresource) for each in rig.writes(mark)}
    # The new pod is told the state: that makes a kubelet read it at once.
    assert told <= {("tradingbots.tradingbot.dev", "status"), ("events", ""), ("pods", "")}
    mark = rig.cluster.audit.mark()
    reconciles = again.metric("tradingbot_operator_reconciles_total")
    rig.api.patch("v1/configmaps", rig.namespace, "quickstart-state", {"metadata": {"labels": {"a-person": "x"}}})
    until(lambda: again.metric("tradingbot_operator_reconciles_total") > reconciles, "it has looked")
    assert rig.writes(mark) == []


def test_hands_off_means_hands_off(rig: OperatorRig) -> None:
    name = started(rig, SMALL)
    rig.annotate(name, paused="true")
    rig.until_condition(name, "Progressing", "False", "Paused")
    rig.until_at_rest()
    rig.api.delete("apps/v1/deployments", rig.namespace, "paper-strategy")
    rig.edit(name, symbols=["BTC/USDT", "ETH/USDT"])
    until(lambda: rig.status(name)["ready"] == "4/5", "it is told all the same")
    rig.until_at_rest()
    assert rig.child("deployments", "paper-strategy") is None
    assert rig.condition(name, "ConfigDrift")["status"] == "True"
    rig.annotate(name, paused=None)
    rig.until_ready(name)
    assert rig.child("deployments", "paper-strategy") is not None


def test_a_poisoned_bot_says_so_and_is_in_nobodys_way(rig: OperatorRig) -> None:
    rig.give_external()
    rig.apply(POISONED)
    rig.start()
    found = rig.until_condition("poisoned", "Degraded", "True", "InvalidSpec")
    assert "exchange.pollInterval" in found["message"]
    rig.apply(SMALL)
    rig.until_ready("paper")
    assert [key for key in rig.children() if "poisoned" in key[1]] == []
    rig.edit("poisoned", exchange={"pollInterval": "30s"})
    rig.until_ready("poisoned")


def test_what_can_not_run_on_a_cluster_is_refused_before_anything_is_made(rig: OperatorRig) -> None:
    rig.give_external()
    rig.start()
    rig.apply(changed(SMALL, {"exchange.replay": {"source": "my-candles"}}))
    found = rig.until_condition("paper", "Degraded", "True", "InvalidSpec")
    assert "spec.exchange.replay.source: my-candles is relative to the spec file" in found["message"]
    rig.until_at_rest()
    assert rig.children() == {}
    rig.apply(SMALL)
    rig.until_ready("paper")


def test_a_running_bot_runs_on_when_its_spec_can_not_be_read(rig: OperatorRig) -> None:
    name = started(rig, SMALL)
    before = {key: child["metadata"]["uid"] for key, child in rig.children().items()}
    revision = rig.status(name)["revision"]
    rig.edit(name, exchange={"pollInterval": "2m"}, timeframe="1m")
    rig.until_condition(name, "Degraded", "True", "InvalidSpec")
    assert rig.status(name)["revision"] == revision
    assert rig.condition(name, "ConfigDrift")["status"] != "False"
    rig.until_at_rest()
    assert {key: child["metadata"]["uid"] for key, child in rig.children().items()} == before


@pytest.mark.parametrize(
    ("resource", "manifest"),
    [
        ("v1/configmaps", {"metadata": {"name": "paper-state"}, "data": {"mine": "1"}}),
        ("v1/serviceaccounts", {"metadata": {"name": "paper-strategy"}}),
        (
            "v1/services",
            {"metadata": {"name": "paper-risk"}, "spec": {"ports": [{"port": 1}], "selector": {"mine": "1"}}},
        ),
        (
            "networking.k8s.io/v1/networkpolicies",
            {"metadata": {"name": "paper-risk"}, "spec": {"podSelector": {"matchLabels": {"mine": "1"}}}},
        ),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_somebody_else_has_made_is_not_touched_and_said(rig: OperatorRig, resource: str, manifest: Json) -> None:
    rig.give_external()
    name = manifest["metadata"]["name"]
    meta = {"name": name, "namespace": rig.namespace}
    theirs = rig.api.create(resource, {**manifest, "metadata": meta})
    rig.apply(SMALL)
    rig.start()
    found = rig.until_condition("paper", "Degraded", "True", "ReconcileFailed")
    assert f"{name} is there already, and not made for this bot" in found["message"]
    assert (
        rig.api.get(resource, rig.namespace, name)["metadata"]["resourceVersion"]
        == (theirs["metadata"]["resourceVersion"])
    )
    rig.api.delete(resource, rig.namespace, name)
    rig.until_ready("paper")


def test_generated_secrets_are_made_once(rig: OperatorRig) -> None:
    rig.apply_example("quickstart")
    operator = rig.start()
    rig.until_ready("quickstart")
    generated = {key: child["data"] for key, child in rig.children().items() if key[0] == "secrets"}
    assert len(generated) == 3
    [name] = [key[1] for key in generated if key[1].endswith("-rabbitmq")]
    mark = rig.cluster.audit.mark()
    operator.kill()
    # A person has put another password in, on the server and here: it is theirs to decide.
    rig.api.patch("v1/secrets", rig.namespace, name, {"stringData": {"url": "amqp://by-hand"}})
    rig.start()
    rig.edit("quickstart", symbols=["BTC/USDT"])
    rig.until_ready("quickstart")
    assert [each for each in rig.writes(mark) if each.resource == "secrets"] == []
    now = {key: child["data"] for key, child in rig.children().items() if key[0] == "secrets"}
    assert {key: data for key, data in now.items() if key[1] != name} == {
        key: data for key, data in generated.items() if key[1] != name
    }
    assert now["secrets", name]["url"] != generated["secrets", name]["url"]


def test_a_generated_secret_that_is_lost_is_made_again_with_a_warning(rig: OperatorRig) -> None:
    """Its server keeps the password of its first start, so that nothing works until somebody has looked."""
    rig.apply_example("quickstart")
    rig.start()
    rig.until_ready("quickstart")
    rig.until_at_rest()
    rig.api.delete("v1/secrets", rig.namespace, "quickstart-rabbitmq")
    until(lambda: rig.child("secrets", "quickstart-rabbitmq"), "it is made again")
    until(lambda: rig.events("quickstart", "Repaired"), "it is told")
    [told] = rig.events("quickstart", "Repaired")
    assert told["type"] == "Warning"
    assert told["message"].startswith("Secret quickstart-rabbitmq was gone")
    assert told["message"].endswith("which its server does not know: put the old Secret back")


# --------------------------------------------------------------------------------------------------- changed


def test_what_an_edited_spec_asks_for_is_new_and_no_repair(rig: OperatorRig) -> None:
    name = started(rig, SMALL)
    rig.until_at_rest()
    rig.edit(name, timeSeries={"external": None, "managed": {}})
    until(lambda: rig.child("statefulsets", f"{name}-influxdb"), "InfluxDB of its own")
    rig.until_ready(name)
    rig.until_at_rest()
    assert rig.events(name, "Repaired") == []


def test_auto_rolls_one_pod_after_the_other_and_never_has_two(rig: OperatorRig) -> None:
    name = started(rig, changed(LIVE_SMALL, {"updateStrategy": "Auto"}))
    rig.report(name, positions=1)
    before = rig.status(name)["revision"]
    rig.edit(name, symbols=["BTC/USDT", "ETH/USDT"])
    until(lambda: rig.status(name)["revision"] != before, "a new revision")
    revision = rig.status(name)["revision"]
    rig.until_ready(name)
    history = [each for each in rig.kubelet.history() if each.revision == revision]
    ready = [each.component for each in history if each.what == "ready"]
    assert ready == [each.value for each in ROLL_ORDER]
    # Each came only when the one before it was ready.
    steps = [(each.what, each.component) for each in history if each.component in AGENTS]
    assert steps == [(what, each.value) for each in ROLL_ORDER for what in ("came", "ready")]
    first = next(index for index, each in enumerate(history) if each.component in AGENTS)
    assert ("succeeded", "migration") in [(each.what, each.component) for each in history[:first]]
    assert {agent: rig.kubelet.most(agent) for agent in AGENTS} == dict.fromkeys(AGENTS, 1)


def test_a_broken_revision_stops_at_its_first_pod(rig: OperatorRig) -> None:
    name = started(rig, changed(LIVE_SMALL, {"updateStrategy": "Auto"}))
    before = {agent: rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS}
    # So that the pod that runs now is left alone.
    rig.kubelet.hold("execution")
    rig.edit(name, image="example.invalid/agents:broken")
    until(
        lambda: [each for each in rig.pods("execution") if each["metadata"]["uid"] != before["execution"]],
        "execution is replaced",
    )
    rig.kubelet.trouble("execution", Trouble(waiting="ImagePullBackOff", message="not found"))
    rig.kubelet.release("execution")
    rig.until_condition(name, "Degraded", "True", "ImagePullBackOff")
    rig.until_at_rest()
    after = {agent: rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS}
    assert {agent for agent in AGENTS if after[agent] != before[agent]} == {"execution"}
    # Back to what was: it is the mending of it.
    rig.edit(name, image=None)
    rig.kubelet.mend("execution")
    rig.until_ready(name)
    assert {rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS if agent != "execution"} == {
        uid for agent, uid in before.items() if agent != "execution"
    }


def test_manual_waits_while_positions_are_open_and_goes_on_when_a_person_says_so(rig: OperatorRig) -> None:
    name = started(rig, LIVE_SMALL)
    rig.report(name, positions=2)
    before = {agent: rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS}
    running = rig.status(name)["revision"]
    rig.edit(name, symbols=["BTC/USDT", "ETH/USDT"])
    found = rig.until_condition(name, "ConfigDrift", "True", "Pending")
    pending = rig.status(name)["pendingRevision"]
    assert rig.status(name)["revision"] == running
    assert "2 positions are open" in found["message"]
    how = f"kubectl annotate tradingbot {name} -n {rig.namespace} --overwrite tradingbot.dev/apply={pending}"
    assert how in found["message"]
    rig.until_at_rest()
    assert {agent: rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS} == before
    assert rig.child("jobs", f"{name}-migration-{pending}") is None
    # A pod that is lost meanwhile comes back as it was.
    rig.api.delete("apps/v1/deployments", rig.namespace, f"{name}-strategy")
    until(lambda: rig.child("deployments", f"{name}-strategy"), "it is back")
    until(lambda: rig.pods("strategy") and rig.status(name)["ready"] == "5/5", "and ready")
    assert {each["metadata"]["annotations"]["tradingbot.dev/revision"] for each in rig.pods("strategy")} == {running}
    rig.cluster.kubectl(*how.split()[1:])
    rig.until_condition(name, "ConfigDrift", "False")
    rig.until_ready(name)
    assert rig.status(name)["revision"] == pending
    assert "pendingRevision" not in rig.status(name)
    assert rig.kubelet.most("risk") == rig.kubelet.most("execution") == 1


def test_manual_goes_on_by_itself_when_nothing_is_held_any_more(rig: OperatorRig) -> None:
    name = started(rig, LIVE_SMALL)
    rig.report(name, positions=1)
    rig.edit(name, symbols=["BTC/USDT", "ETH/USDT"])
    rig.until_condition(name, "ConfigDrift", "True", "Pending")
    pending = rig.status(name)["pendingRevision"]
    rig.report(name, positions=0)
    rig.until_condition(name, "ConfigDrift", "False")
    assert rig.until_ready(name)["revision"] == pending


def test_the_state_reaches_the_pods_without_a_restart(rig: OperatorRig) -> None:
    name = started(rig, SMALL)
    before = {agent: rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS}
    rig.report(name)
    rig.until_condition(name, "Trading", "True")
    rig.edit(name, state="ReduceOnly")
    until(
        lambda: (rig.child("configmaps", "paper-state") or {}).get("data") == {"state": "ReduceOnly"}, "its ConfigMap"
    )
    until(lambda: told_states(rig) == dict.fromkeys(AGENTS, "ReduceOnly"), "the annotation of every pod")
    assert {agent: rig.pods(agent)[0]["metadata"]["uid"] for agent in AGENTS} == before
    # It is reached when risk and execution say so, and not when it is asked.
    until(lambda: rig.status(name)["wantedState"] == "ReduceOnly", "it is asked for")
    assert rig.status(name)["state"] == "Running"
    rig.report(name, state="ReduceOnly")
    rig.until_condition(name, "Trading", "False", "ReduceOnly")
    assert rig.status(name)["state"] == "ReduceOnly"
    assert rig.condition(name, "ConfigDrift")["status"] == "False"


def test_what_is_no_longer_wanted_is_removed_and_nothing_else(rig: OperatorRig) -> None:
    rig.give_external()
    rig.apply_example("quickstart")
    rig.start()
    rig.until_ready("quickstart")
    labels = rig.children()["statefulsets", "quickstart-rabbitmq"]["metadata"]["labels"]
    meta = {"name": "of-a-person", "namespace": rig.namespace, "labels": labels}
    rig.api.create("v1/configmaps", {"metadata": meta})
    rig.edit("quickstart", messaging={"managed": None, **EXTERNAL["messaging"]})
    until(
        lambda: not [key for key in rig.children() if key[0] != "secrets" and key[1] == "quickstart-rabbitmq"], "gone"
    )
    rig.until_ready("quickstart")
    assert rig.status("quickstart")["children"]["messaging"] != "ready"
    assert ("statefulsets", "quickstart-influxdb") in rig.children()
    assert ("configmaps", "of-a-person") in rig.children()
