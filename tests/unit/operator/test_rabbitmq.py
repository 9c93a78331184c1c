"""RabbitMQ of a bot's own."""

from __future__ import annotations

import base64
import re
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from support.specs import LIVE, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator import images
from tradingbot_operator.builders import rabbitmq
from tradingbot_operator.builders.backends import Access, SecretKey
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component, bot_labels, bot_selector

EXTERNAL = {"external": {"urlSecretRef": {"name": "mine", "key": "amqp"}}}
BY_OPERATOR = {"managed": {"provider": "RabbitmqCluster"}}


def a_bot(messaging: dict[str, Any] | None = None) -> TradingBot:
    return load_object(changed(LIVE, {} if messaging is None else {"messaging": messaging}))


def of_kind(kind: str, messaging: dict[str, Any] | None = None) -> Manifest:
    [found] = [each for each in rabbitmq.managed(a_bot(messaging), "trading") if each["kind"] == kind]
    return found


def pod(messaging: dict[str, Any] | None = None) -> Manifest:
    found: Manifest = of_kind("StatefulSet", messaging)["spec"]["template"]["spec"]
    return found


def container(messaging: dict[str, Any] | None = None) -> Manifest:
    [found] = pod(messaging)["containers"]
    return dict(found)


def contents(secret: Manifest) -> dict[str, str]:
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


def test_the_broker_and_the_programs_have_the_same_password() -> None:
    secret = rabbitmq.secret(a_bot(), "trading", lambda size: f"p/w@{size}")
    assert secret is not None
    assert secret["metadata"]["labels"] == bot_labels("live", Component.RABBITMQ)
    values = contents(secret)
    assert values["user.conf"].splitlines() == ["default_user = tradingbot", "default_pass = p/w@24"]
    url = urlsplit(values["url"])
    assert (url.scheme, url.username, unquote(url.password or "")) == ("amqp", "tradingbot", "p/w@24")
    assert (url.hostname, url.port, unquote(url.path)) == ("live-rabbitmq.trading.svc", 5672, "//")


def test_the_password_is_in_no_other_object() -> None:
    assert "default_pass" not in repr(rabbitmq.managed(a_bot(), "trading"))


def test_where_the_programs_find_it() -> None:
    assert rabbitmq.access(a_bot()) == Access(SecretKey("live-rabbitmq", "url"))
    assert rabbitmq.access(a_bot(EXTERNAL)) == Access(SecretKey("mine", "amqp"))
    assert rabbitmq.access(a_bot(BY_OPERATOR)) == Access(SecretKey("live-rabbitmq-default-user", "connection_string"))


def test_nothing_is_made_of_what_is_there_already() -> None:
    bot = a_bot(EXTERNAL)
    assert rabbitmq.managed(bot, "trading") == []
    assert rabbitmq.secret(bot, "trading", str) is None
    assert not rabbitmq.stays(bot)


def test_the_service_leads_to_the_pod() -> None:
    service, workload = of_kind("Service"), of_kind("StatefulSet")
    assert service["spec"]["selector"] == bot_selector("live", Component.RABBITMQ)
    assert service["spec"]["selector"].items() <= workload["spec"]["template"]["metadata"]["labels"].items()
    assert workload["spec"]["serviceName"] == service["metadata"]["name"]
    [port] = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (5672, "amqp")
    assert [each["name"] for each in container()["ports"]] == ["amqp"]


def test_it_is_one_broker_whose_data_has_a_name_that_no_pod_changes() -> None:
    environment = {each["name"]: each["value"] for each in container()["env"]}
    assert environment["RABBITMQ_NODENAME"] == "rabbit@localhost"
    assert of_kind("StatefulSet")["spec"]["replicas"] == 1


def test_nobody_outside_of_the_pod_reaches_the_erlang_machine() -> None:
    environment = {each["name"]: each["value"] for each in container()["env"]}
    assert environment["ERL_EPMD_ADDRESS"] == "127.0.0.1"
    assert "-kernel inet_dist_use_interface {127,0,0,1}" in environment["RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS"]


def test_the_cookie_is_on_no_volume_whose_files_the_group_may_read() -> None:
    mounts = {each["mountPath"]: each["name"] for each in container()["volumeMounts"]}
    assert mounts["/var/lib/rabbitmq/mnesia"] == "data"
    home = mounts["/var/lib/rabbitmq"]
    [volume] = [each for each in pod()["volumes"] if each["name"] == home]
    assert "emptyDir" in volume


def test_of_the_configuration_only_settings_are_where_settings_are_read() -> None:
    [config] = [each for each in pod()["volumes"] if each["name"] == "config"]
    sources = config["projected"]["sources"]
    paths = [item["path"] for source in sources for each in source.values() for item in each["items"]]
    assert sorted(paths) == ["conf.d/10-tradingbot.conf", "conf.d/20-user.conf", "enabled_plugins"]
    keys = {item["key"] for item in sources[0]["configMap"]["items"]}
    assert keys == set(of_kind("ConfigMap")["data"])


@pytest.mark.parametrize(("limit", "watermark"), [(None, 192), ("1Gi", 512), ("128Mi", 64)])
def test_it_takes_no_more_messages_long_before_it_would_be_killed(limit: str | None, watermark: int) -> None:
    resources = {} if limit is None else {"resources": {"limits": {"memory": limit}}}
    settings = of_kind("ConfigMap", {"managed": resources})["data"]["tradingbot.conf"]
    found = re.search(r"^vm_memory_high_watermark\.absolute = (\d+)$", settings, re.MULTILINE)
    assert found is not None
    assert int(found[1]) == watermark * 2**20


def test_it_is_given_the_image_and_the_volume_that_the_spec_asks_for() -> None:
    assert container()["image"] == images.RABBITMQ
    managed = {
        "image": "mirror.example.com/rabbitmq:4.1",
        "storage": {"size": "3Gi", "className": "fast", "whenDeleted": "Delete"},
    }
    workload = of_kind("StatefulSet", {"managed": managed})["spec"]
    assert workload["template"]["spec"]["containers"][0]["image"] == "mirror.example.com/rabbitmq:4.1"
    [claim] = workload["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert workload["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}


@pytest.mark.parametrize(("when_deleted", "stays"), [("Retain", True), ("Delete", False)])
def test_a_volume_stays_where_the_spec_says_so(when_deleted: str, stays: bool) -> None:
    assert rabbitmq.stays(a_bot({"managed": {"storage": {"whenDeleted": when_deleted}}})) is stays


def test_a_resource_of_the_cluster_operator_is_all_that_is_made_where_the_spec_asks_for_it() -> None:
    managed = {
        "provider": "RabbitmqCluster",
        "image": "mirror.example.com/rabbitmq:4.1",
        "storage": {"size": "3Gi", "className": "fast"},
    }
    bot = a_bot({"managed": managed})
    [cluster] = rabbitmq.managed(bot, "trading")
    assert rabbitmq.secret(bot, "trading", str) is None
    assert (cluster["apiVersion"], cluster["kind"]) == ("rabbitmq.com/v1beta1", "RabbitmqCluster")
    assert (cluster["metadata"]["name"], cluster["metadata"]["namespace"]) == ("live-rabbitmq", "trading")
    spec = cluster["spec"]
    assert (spec["replicas"], spec["image"]) == (1, "mirror.example.com/rabbitmq:4.1")
    assert spec["persistence"] == {"storage": "3Gi", "storageClassName": "fast"}
    settings = spec["rabbitmq"]["additionalConfig"]
    # Its own limit for free disk is larger than the volume.
    assert "disk_free_limit.absolute" in settings
    # How its brokers find each other, and who may log in, is its own matter.
    assert "cluster_formation" not in settings
    assert "loopback_users" not in settings
