"""PostgreSQL of an account."""

from __future__ import annotations

import base64
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from support.specs import LIVE, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator import images
from tradingbot_operator.builders import postgres
from tradingbot_operator.builders.backends import Access, SecretKey
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component, account_id, account_labels, account_selector

EXTERNAL = {"external": {"urlSecretRef": {"name": "mine", "key": "dsn"}}}
BY_OPERATOR = {"managed": {"provider": "CloudNativePG"}}


def a_bot(database: dict[str, Any] | None = None) -> TradingBot:
    return load_object(changed(LIVE, {} if database is None else {"database": database}))


ACCOUNT = account_id(a_bot())
NAME = f"{ACCOUNT}-postgres"


def of_kind(kind: str, database: dict[str, Any] | None = None) -> Manifest:
    [found] = [each for each in postgres.managed(ACCOUNT, a_bot(database), "trading") if each["kind"] == kind]
    return found


def pod(database: dict[str, Any] | None = None) -> Manifest:
    found: Manifest = of_kind("StatefulSet", database)["spec"]["template"]["spec"]
    return found


def container(database: dict[str, Any] | None = None) -> Manifest:
    [found] = pod(database)["containers"]
    return dict(found)


def environment() -> dict[str, str]:
    return {each["name"]: each["value"] for each in container()["env"]}


def settings(database: dict[str, Any] | None = None) -> dict[str, str]:
    arguments = container(database)["args"]
    assert set(arguments[::2]) == {"-c"}
    return dict(argument.split("=", 1) for argument in arguments[1::2])


def test_the_server_and_the_programs_have_the_same_password() -> None:
    secret = postgres.secret(ACCOUNT, a_bot(), "trading", lambda size: f"p/w@{size}")
    assert secret is not None
    assert secret["metadata"]["labels"] == account_labels(ACCOUNT, Component.POSTGRES)
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    url = urlsplit(values["url"])
    assert (values["password"], unquote(url.password or "")) == ("p/w@24", "p/w@24")
    variables = environment()
    assert (url.scheme, url.username, url.path) == (
        "postgresql",
        variables["POSTGRES_USER"],
        f"/{variables['POSTGRES_DB']}",
    )
    assert (url.hostname, url.port) == (f"{NAME}.trading.svc", 5432)


def test_the_password_comes_as_a_file() -> None:
    [secrets] = [each["secret"] for each in pod()["volumes"] if "secret" in each]
    [mount] = [each for each in container()["volumeMounts"] if each["name"] == "secrets"]
    assert secrets["secretName"] == NAME
    assert secrets["items"] == [{"key": "password", "path": "password"}]
    assert environment()["POSTGRES_PASSWORD_FILE"] == f"{mount['mountPath']}/password"


def test_its_objects_belong_to_the_account_and_to_no_bot() -> None:
    for manifest in postgres.managed(ACCOUNT, a_bot(), "trading"):
        assert manifest["metadata"]["labels"] == account_labels(ACCOUNT, Component.POSTGRES)
        assert manifest["metadata"]["namespace"] == "trading"
    assert of_kind("Service")["spec"]["selector"] == account_selector(ACCOUNT, Component.POSTGRES)
    labels = of_kind("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert account_selector(ACCOUNT, Component.POSTGRES).items() <= labels.items()


def test_nothing_is_switched_off_that_makes_a_commit_durable() -> None:
    assert not {"fsync", "full_page_writes", "synchronous_commit", "wal_level"} & set(settings())
    assert "--no-sync" not in environment()["POSTGRES_INITDB_ARGS"]


def test_its_data_are_a_folder_below_the_root_of_the_volume() -> None:
    mounts = {each["mountPath"]: each["name"] for each in container()["volumeMounts"]}
    data = environment()["PGDATA"]
    [mount] = [path for path, name in mounts.items() if name == "data"]
    assert data.startswith(f"{mount}/")


def test_what_it_writes_to_beside_its_data_is_a_volume() -> None:
    mounts = {each["mountPath"]: each["name"] for each in container()["volumeMounts"]}
    folders = {each["name"] for each in pod()["volumes"] if "emptyDir" in each}
    assert {mounts["/var/run/postgresql"], mounts["/tmp"], mounts["/dev/shm"]} <= folders


@pytest.mark.parametrize(
    ("resources", "buffers", "cache"),
    [
        ({}, 128, 256),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}, 512, 1024),
        # Not more than what is promised.
        ({"limits": {"memory": "2Gi"}}, 192, 1024),
        ({"limits": {"memory": "48Mi"}}, 12, 24),
    ],
)
def test_its_memory_follows_the_resources(resources: dict[str, Any], buffers: int, cache: int) -> None:
    found = settings({"managed": {"resources": resources}})
    assert found["shared_buffers"] == f"{buffers}MB"
    assert found["effective_cache_size"] == f"{cache}MB"


def test_where_the_programs_find_it() -> None:
    assert postgres.access(a_bot()) == Access(SecretKey(NAME, "url"))
    assert postgres.access(a_bot(EXTERNAL)) == Access(SecretKey("mine", "dsn"))
    assert postgres.access(a_bot(BY_OPERATOR)) == Access(SecretKey(f"{NAME}-app", "uri"))


def test_nothing_is_made_of_what_is_there_already() -> None:
    bot = a_bot(EXTERNAL)
    assert postgres.managed(ACCOUNT, bot, "trading") == []
    assert postgres.secret(ACCOUNT, bot, "trading", str) is None
    assert not postgres.stays(bot)


def test_it_is_given_the_image_and_the_volume_that_the_spec_asks_for() -> None:
    assert container()["image"] == images.POSTGRES
    managed = {
        "image": "mirror.example.com/postgres:17-alpine",
        "storage": {"size": "3Gi", "className": "fast", "whenDeleted": "Delete"},
    }
    workload = of_kind("StatefulSet", {"managed": managed})["spec"]
    assert workload["template"]["spec"]["containers"][0]["image"] == "mirror.example.com/postgres:17-alpine"
    [claim] = workload["volumeClaimTemplates"]
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    assert workload["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}


@pytest.mark.parametrize("provider", ["StatefulSet", "CloudNativePG"])
@pytest.mark.parametrize(("when_deleted", "stays"), [("Retain", True), ("Delete", False)])
def test_a_volume_stays_where_the_spec_says_so(provider: str, when_deleted: str, stays: bool) -> None:
    managed = {"provider": provider, "storage": {"whenDeleted": when_deleted}}
    assert postgres.stays(a_bot({"managed": managed})) is stays


def test_a_cluster_of_cloud_native_pg_is_all_that_is_made_where_the_spec_asks_for_it() -> None:
    managed = {
        "provider": "CloudNativePG",
        "image": "mirror.example.com/postgresql:17",
        "storage": {"size": "3Gi", "className": "fast"},
    }
    bot = a_bot({"managed": managed})
    [cluster] = postgres.managed(ACCOUNT, bot, "trading")
    assert postgres.secret(ACCOUNT, bot, "trading", str) is None
    assert (cluster["apiVersion"], cluster["kind"]) == ("postgresql.cnpg.io/v1", "Cluster")
    assert cluster["metadata"]["name"] == NAME
    spec = cluster["spec"]
    assert (spec["instances"], spec["imageName"]) == (1, "mirror.example.com/postgresql:17")
    assert spec["storage"] == {"size": "3Gi", "storageClass": "fast"}
    assert spec["postgresql"]["parameters"]["shared_buffers"] == "128MB"


def test_the_longest_account_gives_a_name_that_cloud_native_pg_takes() -> None:
    """At most 50 characters."""
    changes = {"account.name": "b" * 40, "liveConfirmation": f"trade real money on binance/{'b' * 40}"}
    account = account_id(load_object(changed(LIVE, changes | {"database": BY_OPERATOR})))
    [cluster] = postgres.managed(account, a_bot(BY_OPERATOR), "trading")
    assert len(cluster["metadata"]["name"]) <= 50


@pytest.mark.parametrize(
    ("resources", "buffers"),
    [
        ({"limits": {"memory": "2Gi"}}, 192),
        ({"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}}, 512),
        ({"requests": {"memory": "100Mi"}}, 100),
    ],
)
def test_cloud_native_pg_is_asked_for_no_buffers_above_the_promised_memory(
    resources: dict[str, Any], buffers: int
) -> None:
    """Its webhook would refuse them."""
    bot = a_bot({"managed": {"provider": "CloudNativePG", "resources": resources}})
    [cluster] = postgres.managed(ACCOUNT, bot, "trading")
    assert cluster["spec"]["postgresql"]["parameters"]["shared_buffers"] == f"{buffers}MB"
