"""InfluxDB of a bot's own."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from support.specs import LIVE, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator import images
from tradingbot_operator.builders import influxdb
from tradingbot_operator.builders.backends import Access, SecretKey
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component, bot_labels, bot_selector

EXTERNAL = {
    "external": {
        "urlSecretRef": {"name": "mine", "key": "http"},
        "tokenSecretRef": {"name": "theirs", "key": "read-write"},
    }
}


def a_bot(time_series: dict[str, Any] | None = None) -> TradingBot:
    return load_object(changed(LIVE, {} if time_series is None else {"timeSeries": time_series}))


def of_kind(kind: str, time_series: dict[str, Any] | None = None) -> Manifest:
    [found] = [each for each in influxdb.managed(a_bot(time_series), "trading") if each["kind"] == kind]
    return found


def container(time_series: dict[str, Any] | None = None) -> Manifest:
    [found] = of_kind("StatefulSet", time_series)["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment(time_series: dict[str, Any] | None = None) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container(time_series)["env"]}


def test_address_token_and_password_are_generated_each_for_itself() -> None:
    drawn = iter(("first", "second"))
    secret = influxdb.secret(a_bot(), "trading", lambda _size: next(drawn))
    assert secret is not None
    assert secret["metadata"]["labels"] == bot_labels("live", Component.INFLUXDB)
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    assert values == {"url": "http://live-influxdb.trading.svc:8086", "token": "first", "password": "second"}


def test_the_setup_reads_the_generated_secret_from_files() -> None:
    """A variable with the value itself would be seen by whoever may read pods."""
    spec = of_kind("StatefulSet")["spec"]["template"]["spec"]
    [secrets] = [each["secret"] for each in spec["volumes"] if "secret" in each]
    [mount] = [each for each in container()["volumeMounts"] if each["name"] == "secrets"]
    files = {f"{mount['mountPath']}/{item['path']}": item["key"] for item in secrets["items"]}
    variables = environment()
    assert secrets["secretName"] == "live-influxdb"
    assert files[variables["DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE"]] == "token"
    assert files[variables["DOCKER_INFLUXDB_INIT_PASSWORD_FILE"]] == "password"


def test_it_is_set_up_with_the_organization_of_the_spec() -> None:
    variables = environment({"organization": "mine"})
    assert variables["DOCKER_INFLUXDB_INIT_MODE"] == "setup"
    assert variables["DOCKER_INFLUXDB_INIT_ORG"] == "mine"
    # The bot's own bucket is made with its retention by the migration, which would find this one in its place.
    assert variables["DOCKER_INFLUXDB_INIT_BUCKET"] != a_bot().spec.time_series.bucket


def test_it_tells_nobody_of_itself() -> None:
    assert environment()["INFLUXD_REPORTING_DISABLED"] == "true"


@pytest.mark.parametrize(("limit", "mebibytes"), [(None, 512), ("2Gi", 2048)])
def test_its_garbage_is_collected_before_it_would_be_killed(limit: str | None, mebibytes: int) -> None:
    resources = {} if limit is None else {"resources": {"limits": {"memory": limit}}}
    found = environment({"managed": resources})["GOMEMLIMIT"]
    assert found.endswith("B")
    assert 0.7 < int(found[:-1]) / (mebibytes * 2**20) < 0.9


def test_what_its_image_writes_to_is_a_volume() -> None:
    mounts = {each["mountPath"]: each["name"] for each in container()["volumeMounts"]}
    assert mounts["/var/lib/influxdb2"] == "data"
    spec = of_kind("StatefulSet")["spec"]["template"]["spec"]
    folders = {each["name"] for each in spec["volumes"] if "emptyDir" in each}
    assert {mounts["/etc/influxdb2"], mounts["/tmp"]} <= folders


def test_where_the_programs_find_it() -> None:
    assert influxdb.access(a_bot()) == Access(SecretKey("live-influxdb", "url"), SecretKey("live-influxdb", "token"))
    assert influxdb.access(a_bot(EXTERNAL)) == Access(SecretKey("mine", "http"), SecretKey("theirs", "read-write"))


def test_nothing_is_made_of_what_is_there_already() -> None:
    bot = a_bot(EXTERNAL)
    assert influxdb.managed(bot, "trading") == []
    assert influxdb.secret(bot, "trading", str) is None
    assert not influxdb.stays(bot)


def test_the_service_leads_to_the_pod() -> None:
    service, workload = of_kind("Service"), of_kind("StatefulSet")
    assert service["spec"]["selector"] == bot_selector("live", Component.INFLUXDB)
    assert service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    [port], [named] = service["spec"]["ports"], container()["ports"]
    assert (port["port"], port["targetPort"], named["containerPort"]) == (8086, named["name"], 8086)


def test_it_is_given_the_image_and_the_volume_that_the_spec_asks_for() -> None:
    assert container()["image"] == images.INFLUXDB
    managed = {
        "image": "mirror.example.com/influxdb:2.7-alpine",
        "storage": {"size": "3Gi", "className": "fast", "whenDeleted": "Delete"},
    }
    workload = of_kind("StatefulSet", {"managed": managed})["spec"]
    assert workload["template"]["spec"]["containers"][0]["image"] == "mirror.example.com/influxdb:2.7-alpine"
    [claim] = workload["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert workload["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}


@pytest.mark.parametrize(("when_deleted", "stays"), [("Retain", True), ("Delete", False)])
def test_a_volume_stays_where_the_spec_says_so(when_deleted: str, stays: bool) -> None:
    assert influxdb.stays(a_bot({"managed": {"storage": {"whenDeleted": when_deleted}}})) is stays
