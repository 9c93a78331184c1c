"""The nightly copy of an account's ledger. What its script does is tested on a real server."""

from __future__ import annotations

from typing import Any

import pytest

from support.specs import LIVE, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator.builders import backup, postgres
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component, account_id, account_labels, account_selector


def a_bot(database: dict[str, Any] | None = None) -> TradingBot:
    return load_object(changed(LIVE, {} if database is None else {"database": database}))


ACCOUNT = account_id(a_bot())


def cron_job(**managed: Any) -> Manifest:
    found = backup.cron_job(ACCOUNT, a_bot({"managed": managed}), "trading")
    assert found is not None
    return found


def pod(**managed: Any) -> Manifest:
    found: Manifest = cron_job(**managed)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def environment(**managed: Any) -> dict[str, str]:
    return {each["name"]: each["value"] for each in pod(**managed)["containers"][0]["env"]}


def test_schedule_number_and_pause_are_the_specs() -> None:
    spec = cron_job(backup={"schedule": "5 4 * * 0", "keep": 3, "suspend": True})["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("5 4 * * 0", "Etc/UTC", True)
    assert environment(backup={"keep": 3})["KEEP"] == "3"
    assert cron_job()["spec"]["suspend"] is False


def test_no_two_copies_are_made_at_once() -> None:
    assert cron_job()["spec"]["concurrencyPolicy"] == "Forbid"


def test_it_is_made_by_the_image_of_the_server() -> None:
    """An older pg_dump refuses a newer server."""
    for managed in ({}, {"image": "mirror.example.com/postgres:18-alpine"}):
        [server] = [
            each["spec"]["template"]["spec"]
            for each in postgres.managed(ACCOUNT, a_bot({"managed": managed}), "trading")
            if each["kind"] == "StatefulSet"
        ]
        own = pod(**managed)
        assert own["containers"][0]["image"] == server["containers"][0]["image"]
        assert own["securityContext"] == server["securityContext"]


def test_it_finds_the_account_s_server_and_its_password() -> None:
    variables, name = environment(), f"{ACCOUNT}-postgres"
    assert (variables["PGHOST"], variables["PGUSER"], variables["PGDATABASE"]) == (
        name,
        postgres.USER,
        postgres.DATABASE,
    )
    [secrets] = [each["secret"] for each in pod()["volumes"] if "secret" in each]
    [mount] = [each for each in pod()["containers"][0]["volumeMounts"] if each["name"] == "secrets"]
    assert secrets["secretName"] == name
    assert variables["PASSWORD_FILE"] == f"{mount['mountPath']}/{secrets['items'][0]['path']}"
    assert secrets["items"][0]["key"] == postgres.PASSWORD_KEY


def test_the_copies_are_on_a_volume_of_their_own() -> None:
    claim = backup.claim(ACCOUNT, a_bot({"managed": {"storage": {"size": "3Gi", "className": "fast"}}}), "trading")
    assert claim is not None
    assert claim["metadata"]["labels"] == account_labels(ACCOUNT, Component.BACKUP)
    assert claim["spec"]["resources"]["requests"]["storage"] == "3Gi"
    assert claim["spec"]["storageClassName"] == "fast"
    [volume] = [each for each in pod()["volumes"] if "persistentVolumeClaim" in each]
    assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    [mount] = [each for each in pod()["containers"][0]["volumeMounts"] if each["name"] == volume["name"]]
    assert environment()["FOLDER"] == mount["mountPath"]


def test_its_pods_are_those_that_the_network_policy_lets_in() -> None:
    template = cron_job()["spec"]["jobTemplate"]["spec"]["template"]
    assert account_selector(ACCOUNT, Component.BACKUP).items() <= template["metadata"]["labels"].items()


@pytest.mark.parametrize(
    "database",
    [{"managed": {"provider": "CloudNativePG"}}, {"external": {"urlSecretRef": {"name": "mine"}}}],
)
def test_a_database_of_others_has_its_own_backups(database: dict[str, Any]) -> None:
    bot = a_bot(database)
    assert backup.claim(ACCOUNT, bot, "trading") is None
    assert backup.cron_job(ACCOUNT, bot, "trading") is None
