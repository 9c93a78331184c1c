"""What is to be there for a bot, revision by revision."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from support.specs import LIVE, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator import desired
from tradingbot_operator.builders import agents, rabbitmq
from tradingbot_operator.kinds import Manifest, Ref, kind_of, ref_of
from tradingbot_operator.names import AGENTS, Component, account_id
from tradingbot_operator.plan import Wanted

NAMESPACE, IMAGE = "trading", "example.invalid/agents:1"
EXTERNAL: dict[str, Any] = {
    "messaging": {"external": {"urlSecretRef": {"name": "mq"}}},
    "timeSeries": {"external": {"urlSecretRef": {"name": "influx"}, "tokenSecretRef": {"name": "influx"}}},
    "database": {"external": {"urlSecretRef": {"name": "pg", "key": "dsn"}}},
}


def a_bot(**changes: Any) -> TradingBot:
    return load_object(changed(LIVE, changes))


def wanted(bot: TradingBot, *, started: bool = True, **changes: Any) -> list[Wanted]:
    pinned = desired.pin(bot, NAMESPACE, IMAGE)
    facts: dict[str, Any] = {
        "uid": "0f9a",
        "state": "Running",
        "migrating": not started,
        "positions_open": False,
        "revisions": dict.fromkeys(AGENTS, pinned) if started else {},
        **changes,
    }
    revisions = facts.pop("revisions")
    return desired.of_bot(NAMESPACE, pinned, [pinned], revisions, **facts)


def refs(found: list[Wanted]) -> list[str]:
    return [str(ref_of(each.manifest)) for each in found]


def test_everything_is_named_once_labelled_and_of_a_known_kind() -> None:
    for bot in (a_bot(), a_bot(**EXTERNAL)):
        found = [*wanted(bot), *desired.of_account(NAMESPACE, account_id(bot), bot)]
        assert len(set(refs(found))) == len(found)
        for each in found:
            kind_of(each.manifest)
            assert each.manifest["metadata"]["namespace"] == NAMESPACE
            assert each.manifest["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "tradingbot-operator"


def test_whoever_is_told_to_end_in_its_first_moments_hears_it() -> None:
    """All but PostgreSQL, which would take another process for a server of its volume."""
    deaf = set()
    bot = a_bot()
    found = [*wanted(bot), *wanted(bot, started=False), *desired.of_account(NAMESPACE, account_id(bot), bot)]
    for manifest in (each.manifest for each in found):
        spec = manifest.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None and not template["spec"].get("shareProcessNamespace"):
            deaf.add(manifest["metadata"]["labels"]["app.kubernetes.io/component"])
    assert deaf == {"postgres"}


def test_no_agent_before_the_migrations_and_secrets_first() -> None:
    found = refs(wanted(a_bot(), started=False))
    assert not [each for each in found if each.startswith("Deployment") or each == "StatefulSet live-risk"]
    assert [each for each in found if each.startswith("Job")]
    assert found[:2] == ["Secret live-rabbitmq", "Secret live-influxdb"]
    later = refs(wanted(a_bot()))
    assert not [each for each in later if each.startswith("Job")]
    assert set(later) >= {"Deployment live-execution", "StatefulSet live-risk"}


def test_external_servers_are_not_made() -> None:
    bot = a_bot(**EXTERNAL)
    found = refs(wanted(bot))
    assert not [each for each in found if "rabbitmq" in each or "influxdb" in each]
    assert refs(desired.of_account(NAMESPACE, account_id(bot), bot)) == []
    assert desired.servers(bot, {}, {}) == dict.fromkeys(("messaging", "timeSeries", "database"), "external")


def test_a_secret_stays_exactly_as_long_as_the_volume_that_it_opens() -> None:
    def owned(**changes: Any) -> dict[str, bool]:
        bot = a_bot(**changes)
        found = [*wanted(bot), *desired.of_account(NAMESPACE, account_id(bot), bot)]
        return {
            str(ref_of(each.manifest)): each.owned
            for each in found
            if each.manifest["kind"] in ("Secret", "PersistentVolumeClaim")
        }

    database, copies = (f"{account_id(a_bot())}-{part}" for part in ("postgres", "backup"))
    assert owned() == {
        "Secret live-rabbitmq": False,
        "Secret live-influxdb": False,
        f"Secret {database}": False,
        f"PersistentVolumeClaim {copies}": False,
    }
    gone = {
        "messaging": {"managed": {"storage": {"whenDeleted": "Delete"}}},
        "timeSeries": {"managed": {"storage": {"whenDeleted": "Delete"}}},
        "database": {"managed": {"storage": {"whenDeleted": "Delete"}}},
    }
    assert set(owned(**gone).values()) == {True}


def test_a_cluster_of_cloud_native_pg_stays_when_its_volume_is_to_stay() -> None:
    """That operator removes the volume with its Cluster."""
    for kept, owned in (("Retain", False), ("Delete", True)):
        managed = {"provider": "CloudNativePG", "storage": {"whenDeleted": kept}}
        bot = a_bot(database={"managed": managed})
        [cluster] = [
            each for each in desired.of_account(NAMESPACE, account_id(bot), bot) if each.manifest["kind"] == "Cluster"
        ]
        assert cluster.owned is owned


# --- revisions ------------------------------------------------------------------------------------------------


def revision(bot: TradingBot, image: str = IMAGE) -> str:
    return desired.pin(bot, NAMESPACE, image).revision


def test_a_revision_is_spec_image_and_what_is_made_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    before = revision(a_bot())
    assert revision(a_bot(state="Paused")) == before
    assert revision(a_bot(**{"risk.stopLoss": "0.06"})) != before
    assert revision(a_bot(), "example.invalid/agents:2") != before
    # Another version of the operator makes other pods of the same spec.
    made = agents.workload

    def other(component: Component, *arguments: Any) -> Manifest:
        manifest = made(component, *arguments)
        manifest["spec"]["revisionHistoryLimit"] = 7
        return manifest

    monkeypatch.setattr(agents, "workload", other)
    assert revision(a_bot()) != before


def test_what_runs_is_taken_from_its_pin_whatever_the_builders_make_now(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = desired.pin(a_bot(), NAMESPACE, IMAGE)
    [config] = [
        each.manifest for each in wanted(a_bot()) if ref_of(each.manifest) == desired.pin_ref("live", pinned.revision)
    ]
    monkeypatch.setattr(agents, "workload", lambda *_: {"kind": "Deployment", "metadata": {"name": "other"}})
    monkeypatch.setattr(rabbitmq, "managed", lambda *_: [])
    found = desired.unpin(pinned.revision, config)
    assert found is not None
    assert (found.revision, found.image, found.workloads) == (pinned.revision, pinned.image, pinned.workloads)
    assert found.bot.spec == pinned.bot.spec
    assert config["immutable"] is True


def test_a_server_s_settings_stay_with_its_pod(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads them when it starts: a new version of ours must not bring new ones to an old pod that crashes."""
    before = desired.pin(a_bot(), NAMESPACE, IMAGE)
    settings = [each for each in before.workloads[Component.RABBITMQ] if each["kind"] == "ConfigMap"]
    assert len(settings) == 1
    monkeypatch.setattr(rabbitmq, "_OWN_SETTINGS", "other = 1\n")
    after = desired.pin(a_bot(), NAMESPACE, IMAGE)
    assert after.revision != before.revision
    facts: dict[str, Any] = {"uid": "0f9a", "state": "Running", "migrating": False, "positions_open": False}
    made = desired.of_bot(NAMESPACE, before, [before], dict.fromkeys(AGENTS, before), **facts)
    assert settings[0] in [each.manifest for each in made]


def test_what_can_not_be_read_any_more_is_no_revision() -> None:
    for data in (
        {},
        {"bot.yaml": "{}", "image": "i", "workloads.json": "{}"},
        {"bot.yaml": "x", "image": "i", "workloads.json": "["},
        # Of a version that has a component which this one does not know.
        {"bot.yaml": yaml.safe_dump(LIVE), "image": "i", "workloads.json": '{"another": []}'},
    ):
        assert desired.unpin("r", {"data": data}) is None


def test_in_a_roll_each_workload_is_of_its_own_revision() -> None:
    old, new = desired.pin(a_bot(), NAMESPACE, "agents:old"), desired.pin(a_bot(), NAMESPACE, "agents:new")
    mixed = {each: new if each is Component.EXECUTION else old for each in AGENTS}
    facts: dict[str, Any] = {"uid": "0f9a", "state": "Running", "migrating": False, "positions_open": False}
    found = desired.of_bot(NAMESPACE, new, [new, old], mixed, **facts)
    images = {
        each.manifest["metadata"]["name"]: each.manifest["spec"]["template"]["spec"]["containers"][0]["image"]
        for each in found
        if each.manifest["kind"] in ("Deployment", "StatefulSet") and "rabbitmq" not in str(each.manifest["metadata"])
    }
    assert images.pop("live-execution") == "agents:new"
    images.pop("live-influxdb")
    assert set(images.values()) == {"agents:old"}
    assert set(refs(found)) >= {f"ConfigMap live-spec-{old.revision}", f"ConfigMap live-spec-{new.revision}"}


# --- what is there ----------------------------------------------------------------------------------------------


def deployment(**status: Any) -> dict[Ref, Manifest]:
    template = {"metadata": {"annotations": {"tradingbot.dev/revision": "r1"}}}
    manifest = {
        "kind": "Deployment",
        "metadata": {"name": "live-strategy", "generation": 2},
        "spec": {"template": template},
        "status": {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, **status},
    }
    return {Ref("Deployment", "live-strategy"): manifest}


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        ({}, True),
        ({"observedGeneration": 1}, False),
        ({"readyReplicas": 0}, False),
        ({"replicas": 2}, False),
        ({"updatedReplicas": 0}, False),
    ],
)
def test_a_workload_is_ready_when_its_one_pod_is_the_newest_and_ready(status: dict[str, Any], ready: bool) -> None:
    pod = desired.pod_of(deployment(**status), "live", Component.STRATEGY)
    assert (pod.revision, pod.ready) == ("r1", ready)
    assert desired.pod_of({}, "live", Component.STRATEGY).revision is None


@pytest.mark.parametrize(("newest", "ready"), [("a", True), ("b", False)])
def test_a_stateful_set_too(newest: str, ready: bool) -> None:
    status = {"observedGeneration": 1, "readyReplicas": 1, "currentRevision": "a", "updateRevision": newest}
    there = {
        Ref("StatefulSet", "live-risk"): {
            "kind": "StatefulSet",
            "metadata": {"generation": 1},
            "spec": {"template": {"metadata": {}}},
            "status": status,
        }
    }
    assert desired.pod_of(there, "live", Component.RISK).ready is ready


def test_a_migration_is_done_when_its_job_is_complete() -> None:
    ref = Ref("Job", "live-migration-r1")
    complete = {"status": {"conditions": [{"type": "Complete", "status": "True"}]}}
    assert desired.is_migrated({ref: complete}, "live", "r1")
    assert not desired.is_migrated({ref: complete}, "live", "r2")
    assert not desired.is_migrated({ref: {"status": {}}}, "live", "r1")


def test_the_secrets_that_a_person_has_to_bring() -> None:
    assert [(each.name, each.keys) for each in desired.references(a_bot(**EXTERNAL))] == [
        ("binance-keys", ("apiKey", "secret")),
        ("mq", ("url",)),
        ("influx", ("url",)),
        ("influx", ("token",)),
        ("pg", ("dsn",)),
    ]


def test_the_reality_check_s_secrets_are_a_person_s_too() -> None:
    told = {
        "notifications": [{"name": "phone", "format": "telegram", "urlSecretRef": {"name": "chat", "key": "bot"}}],
        "realityCheck": {"credentialsSecretRef": {"name": "read-only"}, "pingUrlSecretRef": {"name": "ping"}},
    }
    found = {each.name: each for each in desired.references(a_bot(**told)) if each.component == "reality-check"}
    assert {name: each.keys for name, each in found.items()} == {
        "read-only": ("apiKey", "secret"),
        "chat": ("bot",),
        "ping": ("url",),
    }
    assert "the notification phone" in found["chat"].why
