"""What all pods have in common; and all pods of the servers that the operator makes."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.specs import LIVE, changed
from tradingbot_api import ResourceAmounts, Resources, TradingBot, load_object, parse_bytes, parse_cpu
from tradingbot_operator.builders import backup, influxdb, pods, postgres, rabbitmq
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import account_id

MEBIBYTE = 2**20
MEASURED = Resources(
    requests=ResourceAmounts(cpu=Decimal("0.05"), memory=64 * MEBIBYTE),
    limits=ResourceAmounts(memory=256 * MEBIBYTE),
)


def amounts(cpu: str | None = None, mebibytes: int | None = None) -> ResourceAmounts:
    return ResourceAmounts(
        cpu=None if cpu is None else Decimal(cpu), memory=None if mebibytes is None else mebibytes * MEBIBYTE
    )


def test_nothing_runs_as_root_writes_outside_of_volumes_or_gains_rights() -> None:
    security = pods.security_context(70, 71)
    assert security.pod["runAsNonRoot"] is True
    assert (security.pod["runAsUser"], security.pod["runAsGroup"], security.pod["fsGroup"]) == (70, 71, 71)
    assert security.pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert security.container["readOnlyRootFilesystem"] is True
    assert security.container["allowPrivilegeEscalation"] is False
    assert security.container["capabilities"] == {"drop": ["ALL"]}


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        (None, {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "256Mi"}}),
        (
            Resources(requests=amounts("0.2"), limits=amounts("1")),
            {"requests": {"cpu": "200m", "memory": "64Mi"}, "limits": {"cpu": "1", "memory": "256Mi"}},
        ),
        # A limit below what we ask for lowers that, and a request above our limit raises the limit: the API server
        # refuses anything else.
        (
            Resources(limits=amounts(mebibytes=48)),
            {"requests": {"cpu": "50m", "memory": "48Mi"}, "limits": {"memory": "48Mi"}},
        ),
        (
            Resources(requests=amounts(mebibytes=1024)),
            {"requests": {"cpu": "50m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}},
        ),
    ],
)
def test_what_a_person_changes_of_the_resources_counts(override: Resources | None, wanted: Manifest) -> None:
    assert pods.resources(MEASURED, override) == wanted


def test_there_is_no_limit_where_none_is_measured_and_none_is_asked_for() -> None:
    assert pods.resources(Resources(requests=amounts("1")), None) == {"requests": {"cpu": "1"}}


def test_a_folder_that_goes_with_the_pod_has_a_size() -> None:
    assert pods.empty_dir(64 * MEBIBYTE) == {"emptyDir": {"sizeLimit": "64Mi"}}
    assert pods.empty_dir(1, in_memory=True) == {"emptyDir": {"medium": "Memory", "sizeLimit": "1"}}


def test_metadata_has_annotations_only_where_there_are_some() -> None:
    assert pods.metadata("one", "trading", {"a": "b"}) == {
        "name": "one",
        "namespace": "trading",
        "labels": {"a": "b"},
    }
    assert pods.metadata("one", "trading", {}, {"c": "d"})["annotations"] == {"c": "d"}


CPU = st.none() | st.decimals("0.001", "64", places=3)
MEMORY = st.none() | st.integers(1, 2**45)
AMOUNTS = st.none() | st.builds(ResourceAmounts, cpu=CPU, memory=MEMORY)


def is_within(one: ResourceAmounts | None, other: ResourceAmounts | None) -> bool:
    pairs = [(getattr(one, name, None), getattr(other, name, None)) for name in ("cpu", "memory")]
    return all(request is None or limit is None or request <= limit for request, limit in pairs)


@given(*(st.builds(Resources, requests=AMOUNTS, limits=AMOUNTS) for _ in range(2)))
def test_no_request_is_above_its_limit_and_what_a_person_says_counts(default: Resources, override: Resources) -> None:
    """The API server would refuse it. A person's own contradiction is refused with the spec."""
    if not is_within(default.requests, default.limits) or not is_within(override.requests, override.limits):
        return
    found = pods.resources(default, override)
    for name, parse in (("cpu", parse_cpu), ("memory", parse_bytes)):
        request, limit = (found.get(part, {}).get(name) for part in ("requests", "limits"))
        assert request is None or limit is None or parse(request) <= parse(limit)
        for part, written in (("requests", request), ("limits", limit)):
            asked = getattr(getattr(override, part), name, None)
            assert asked is None or (written is not None and parse(written) == asked)


LONGEST = "b" * 40
BOTS = {
    "default": load_object(LIVE),
    "longest names": load_object(
        changed(LIVE, {"account.name": LONGEST, "liveConfirmation": f"trade real money on binance/{LONGEST}"})
        | {"metadata": {"name": LONGEST}}
    ),
}


def of_servers(bot: TradingBot) -> list[Manifest]:
    """All but their Secrets."""
    account = account_id(bot)
    found = [
        *rabbitmq.managed(bot, "trading"),
        *influxdb.managed(bot, "trading"),
        *postgres.managed(account, bot, "trading"),
        backup.claim(account, bot, "trading"),
        backup.cron_job(account, bot, "trading"),
    ]
    return [each for each in found if each is not None]


def stateful_sets(bot: TradingBot) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in of_servers(bot) if each["kind"] == "StatefulSet"}


def pod_specs(bot: TradingBot) -> list[tuple[Manifest, set[str]]]:
    """Of each workload, with the names of the claims that its controller adds as volumes."""
    found = []
    for each in of_servers(bot):
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            claims = {claim["metadata"]["name"] for claim in spec.get("volumeClaimTemplates", [])}
            found.append((template["spec"], claims))
    return found


@pytest.mark.parametrize("name", BOTS)
def test_no_name_or_label_of_a_server_is_too_long(name: str) -> None:
    longest = {"StatefulSet": 63 - len("-0"), "CronJob": 52}
    for each in of_servers(BOTS[name]):
        assert len(each["metadata"]["name"]) <= longest.get(each["kind"], 63)
        assert all(len(value) <= 63 for value in each["metadata"]["labels"].values())


def test_a_service_leads_to_the_pods_of_its_server_and_to_a_port_that_they_have() -> None:
    workloads = stateful_sets(BOTS["default"])
    services = {
        each["metadata"]["name"]: each["spec"] for each in of_servers(BOTS["default"]) if each["kind"] == "Service"
    }
    assert len(services) == 3
    assert {each["spec"]["serviceName"]: name for name, each in workloads.items()} == {
        name: name for name in services
    }
    for name, service in services.items():
        matched = [
            other
            for other, each in workloads.items()
            if service["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert matched == [name]
        spec = workloads[name]["spec"]
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()
        ports = {port["name"]: port["containerPort"] for port in spec["template"]["spec"]["containers"][0]["ports"]}
        assert {port["targetPort"]: port["port"] for port in service["ports"]} == ports


def test_a_probe_asks_at_a_port_that_the_container_has() -> None:
    for name, workload in stateful_sets(BOTS["default"]).items():
        [container] = workload["spec"]["template"]["spec"]["containers"]
        ports = {each["name"] for each in container["ports"]}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container[probe].get("tcpSocket") or container[probe].get("httpGet")
            assert asked["port"] in ports if asked else name.endswith("-postgres")


def test_what_is_mounted_is_a_volume_and_each_volume_is_mounted() -> None:
    found = pod_specs(BOTS["default"])
    assert len(found) == 4
    for spec, claims in found:
        [container] = spec["containers"]
        mounted = [each["name"] for each in container["volumeMounts"]]
        assert sorted(mounted) == sorted({each["name"] for each in spec["volumes"]} | claims)


def test_a_secret_comes_as_a_file_that_nobody_else_may_read_and_never_as_a_variable() -> None:
    """A variable is in every crash's dump, and in what whoever may read pods sees."""
    for spec, _ in pod_specs(BOTS["default"]):
        [container] = spec["containers"]
        assert "envFrom" not in container
        assert all(set(each) == {"name", "value"} for each in container["env"])
        secrets = [volume for volume in spec["volumes"] if "secret" in repr(volume)]
        [source] = [volume.get("secret") or volume.get("projected") for volume in secrets]
        assert source["defaultMode"] == 0o440
        [mount] = [each for each in container["volumeMounts"] if each["name"] == secrets[0]["name"]]
        assert mount["readOnly"] is True


def test_no_change_of_a_spec_changes_what_a_stateful_set_can_not_change_but_its_storage() -> None:
    """The API server would refuse it for ever."""
    server: dict[str, Any] = {
        "image": "mirror.example.com/server:1",
        "resources": {"limits": {"memory": "3Gi", "cpu": "3"}},
        "storage": {"whenDeleted": "Delete"},
    }
    changes = {
        "messaging.managed": server,
        "timeSeries": {"managed": server, "organization": "other", "bucket": "other"},
        "database.managed": {**server, "backup": {"keep": 2, "suspend": True}},
    }
    mutable = {"replicas", "template", "persistentVolumeClaimRetentionPolicy", "revisionHistoryLimit"}
    before, after = stateful_sets(BOTS["default"]), stateful_sets(load_object(changed(LIVE, changes)))
    assert len(before) == 3
    for name, workload in before.items():
        kept, new = (
            {key: value for key, value in each["spec"].items() if key not in mutable}
            for each in (workload, after[name])
        )
        assert kept == new
        assert workload["spec"]["template"] != after[name]["spec"]["template"]
