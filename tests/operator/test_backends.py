"""What the operator makes of the servers, before a real API server: valid to the last field, and admitted under the
restricted Pod Security Standard. That real servers take their settings is in ``tests/integration``."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator

import pytest

from support.kubernetes import Cluster, Completed, Json, Refused, absent, until
from support.specs import LIVE, changed
from support.system_postgres import NO_POSTGRES, find_programs, give_away, system_server
from tradingbot_api import TradingBot, load_object
from tradingbot_operator.builders import backup, influxdb, postgres, rabbitmq
from tradingbot_operator.compare import difference
from tradingbot_operator.kinds import FOREIGN, Kind, kind_of, ref_of
from tradingbot_operator.names import account_id

pytestmark = pytest.mark.minutes

Command = Callable[..., Completed]

LONGEST = "b" * 40
PERSONAL: Json = {
    "image": "registry.example.com/mirror/server:1",
    "storage": {"size": "3Gi", "className": "fast", "whenDeleted": "Delete"},
    "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "2", "memory": "1Gi"}},
}

BOTS = {
    "default": load_object(LIVE),
    "personal": load_object(
        changed(
            LIVE,
            {
                "messaging": {"managed": PERSONAL},
                "timeSeries": {"managed": PERSONAL},
                "database": {
                    "managed": {**PERSONAL, "backup": {"suspend": True, "schedule": "5 4 * * 0", "keep": 1}}
                },
            },
        )
    ),
    "longest names": load_object(
        changed(LIVE, {"account.name": LONGEST, "liveConfirmation": f"trade real money on binance/{LONGEST}"})
        | {"metadata": {"name": LONGEST}}
    ),
}


def manifests(bot: TradingBot, namespace: str) -> list[Json]:
    account = account_id(bot)
    found = [
        rabbitmq.secret(bot, namespace, lambda size: "a" * size),
        influxdb.secret(bot, namespace, lambda size: "b" * size),
        postgres.secret(account, bot, namespace, lambda size: "c" * size),
        *rabbitmq.managed(bot, namespace),
        *influxdb.managed(bot, namespace),
        *postgres.managed(account, bot, namespace),
        backup.claim(account, bot, namespace),
        backup.cron_job(account, bot, namespace),
    ]
    return [each for each in found if each is not None]


def pods_of(found: list[Json]) -> list[Json]:
    """The templates as pods: a workload whose pods are forbidden is accepted itself. A StatefulSet's controller adds
    the volumes of its claims."""
    pods = []
    for each in found:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is None:
            continue
        meta = each["metadata"]
        claims = [
            {"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": f"data-{meta['name']}-0"}}
            for claim in spec.get("volumeClaimTemplates", [])
        ]
        pods.append(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {**template["metadata"], "name": meta["name"], "namespace": meta["namespace"]},
                "spec": {**template["spec"], "volumes": [*template["spec"]["volumes"], *claims]},
            }
        )
    return pods


def apply(control_plane: Cluster, manifest: Json) -> Json:
    kind = kind_of(manifest)
    return control_plane.api.apply(f"{kind.api_version}/{kind.plural}", manifest, "tradingbot-operator")


# ---------------------------------------------------------------------------------------------- the API server


@pytest.mark.kubernetes
@pytest.mark.parametrize("name", BOTS)
def test_every_manifest_and_every_pod_is_admitted_without_a_warning(
    name: str, kubectl: Command, namespace: str
) -> None:
    found = manifests(BOTS[name], namespace)
    pods = pods_of(found)
    assert len(pods) == 4
    for objects in (found, pods):
        done = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=objects)
        assert done.err == ""
        assert len(done.out.splitlines()) == len(objects)


@pytest.mark.kubernetes
@pytest.mark.parametrize("name", BOTS)
def test_what_the_api_server_keeps_is_what_was_wanted(name: str, control_plane: Cluster, namespace: str) -> None:
    """Or the operator would write again and again."""
    for manifest in manifests(BOTS[name], namespace):
        assert (ref_of(manifest), difference(apply(control_plane, manifest), manifest)) == (ref_of(manifest), None)


@pytest.mark.kubernetes
@pytest.mark.usefixtures("controllers")
def test_each_server_gets_one_pod_and_one_volume(control_plane: Cluster, namespace: str) -> None:
    bot = BOTS["default"]
    for manifest in manifests(bot, namespace):
        apply(control_plane, manifest)
    names = ["live-rabbitmq", "live-influxdb", f"{account_id(bot)}-postgres"]

    def pods() -> set[str] | None:
        found = {each["metadata"]["name"] for each in control_plane.api.list("v1/pods", namespace)}
        return found if len(found) >= len(names) else None

    assert until(pods, "a pod of each server") == {f"{name}-0" for name in names}
    claims = {each["metadata"]["name"] for each in control_plane.api.list("v1/persistentvolumeclaims", namespace)}
    assert claims == {*(f"data-{name}-0" for name in names), f"{account_id(bot)}-backup"}


@pytest.mark.kubernetes
def test_what_a_person_may_change_of_a_server_the_api_server_takes(control_plane: Cluster, namespace: str) -> None:
    """But for the storage, which is in the templates of claims: these never change."""
    bot = load_object(
        changed(
            LIVE,
            {
                f"{server}.managed": {**PERSONAL, "storage": {"whenDeleted": "Delete"}}
                for server in ("messaging", "timeSeries", "database")
            },
        )
    )
    for manifest in manifests(BOTS["default"], namespace):
        apply(control_plane, manifest)
    for manifest in manifests(bot, namespace):
        assert (ref_of(manifest), difference(apply(control_plane, manifest), manifest)) == (ref_of(manifest), None)
    [workload] = [
        each
        for each in manifests(BOTS["personal"], namespace)
        if ref_of(each).kind == "StatefulSet" and ref_of(each).name == "live-influxdb"
    ]
    with pytest.raises(Refused, match="field is immutable"):
        apply(control_plane, workload)


DEFINITIONS = "apiextensions.k8s.io/v1/customresourcedefinitions"


@pytest.fixture
def other_operators(control_plane: Cluster) -> Iterator[None]:
    """Their kinds, as far as the API server is concerned: of any content. They go again, for an operator of another
    test would watch them."""
    api = control_plane.api
    for kind in FOREIGN:
        group, version = kind.api_version.split("/")
        schema = {
            "type": "object",
            "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
        }
        version_served = {"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
        api.create(
            DEFINITIONS,
            {
                "apiVersion": "apiextensions.k8s.io/v1",
                "kind": "CustomResourceDefinition",
                "metadata": {"name": f"{kind.plural}.{group}"},
                "spec": {
                    "group": group,
                    "scope": "Namespaced",
                    "names": {"kind": kind.name, "plural": kind.plural},
                    "versions": [version_served],
                },
            },
        )
    until(lambda: all(_is_served(control_plane, kind) for kind in FOREIGN), "the kinds are served")
    yield
    for kind in FOREIGN:
        api.delete(DEFINITIONS, None, f"{kind.plural}.{kind.api_version.split('/')[0]}")


def _is_served(control_plane: Cluster, kind: Kind) -> bool:
    try:
        control_plane.api.list(f"{kind.api_version}/{kind.plural}")
    except Refused as refused:
        if refused.code in (404, 429):
            return False
        raise
    return True


@pytest.mark.kubernetes
@pytest.mark.usefixtures("other_operators")
def test_what_other_operators_are_asked_for_is_kept_as_it_was_wanted(
    kubectl: Command, control_plane: Cluster, namespace: str
) -> None:
    bot = load_object(
        changed(
            LIVE,
            {
                "messaging": {"managed": {"provider": "RabbitmqCluster"}},
                "database": {"managed": {"provider": "CloudNativePG"}},
            },
        )
    )
    found = manifests(bot, namespace)
    assert {kind_of(each) for each in found} >= set(FOREIGN)
    done = kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-", input=found)
    assert done.err == ""
    for manifest in found:
        assert (ref_of(manifest), difference(apply(control_plane, manifest), manifest)) == (ref_of(manifest), None)


# ---------------------------------------------------------------------------------------------- a real PostgreSQL


@pytest.mark.process
def test_postgres_is_alive_also_while_it_refuses() -> None:
    """The real probes, on a server that takes clients, on one that recovers, and on one that is gone."""
    bot = BOTS["default"]
    [workload] = [each for each in postgres.managed(account_id(bot), bot, "trading") if each["kind"] == "StatefulSet"]
    [container] = workload["spec"]["template"]["spec"]["containers"]
    programs = find_programs() or absent(NO_POSTGRES)
    with system_server(programs) as server:

        def succeeds(probe: str) -> bool:
            done = subprocess.run(
                container[probe]["exec"]["command"],
                env={
                    **{each["name"]: each["value"] for each in container["env"]},
                    "PATH": f"{programs}:{os.environ['PATH']}",
                    "PGPORT": str(server.port),
                },
                check=False,
                timeout=60,
            )
            return done.returncode == 0

        def probes() -> tuple[bool, bool, bool]:
            return succeeds("livenessProbe"), succeeds("readinessProbe"), succeeds("startupProbe")

        assert probes() == (True, True, True)
        server.stop()
        # A standby that takes no clients recovers for ever.
        standby = server.home / "primary" / "standby.signal"
        standby.touch()
        give_away(standby)
        server.start({"hot_standby": "off"})
        assert probes() == (True, False, False)
        server.stop()
        assert probes() == (False, False, False)
