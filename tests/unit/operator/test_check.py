"""The CronJob of the reality check."""

from __future__ import annotations

from typing import Any

from support.specs import LIVE, changed
from tradingbot_api import load_object
from tradingbot_operator import names
from tradingbot_operator.builders import check
from tradingbot_operator.builders.agents import SECRETS_FOLDER
from tradingbot_operator.kinds import Manifest

IMAGE = "example.invalid/agents:1"


def cron_job(**changes: Any) -> Manifest:
    bot = load_object(changed(LIVE, {key.replace("__", "."): value for key, value in changes.items()}))
    return check.cron_job(bot, "trading", IMAGE, "0123456789ab")


def pod(**changes: Any) -> Manifest:
    found: Manifest = cron_job(**changes)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def test_it_runs_when_the_spec_says_in_utc_and_never_twice_at_a_time() -> None:
    spec = cron_job(realityCheck={"schedule": "7 * * * *", "suspend": True})["spec"]
    assert (spec["schedule"], spec["timeZone"], spec["suspend"]) == ("7 * * * *", "Etc/UTC", True)
    assert spec["concurrencyPolicy"] == "Forbid"
    assert cron_job()["spec"]["suspend"] is False


def test_its_name_leaves_room_for_those_of_its_jobs() -> None:
    # The API server takes 52 characters: eleven are added for a Job.
    assert len(names.check_cron_job("b" * 40)) <= 52
    assert cron_job()["metadata"]["name"] == "live-check"


def test_it_ends_by_itself_before_it_is_ended() -> None:
    job = cron_job(realityCheck__timeLimit="90s")["spec"]["jobTemplate"]["spec"]
    assert job["activeDeadlineSeconds"] > 90
    assert job["backoffLimit"] == 0
    assert pod()["restartPolicy"] == "Never"


def test_it_is_given_a_key_only_when_the_spec_has_one_that_reads() -> None:
    def exchange(**changes: Any) -> tuple[set[str], set[str]]:
        found = pod(**changes)
        [volume] = [each for each in found["volumes"] if each["name"] == "secrets"]
        secrets = {source["secret"]["name"] for source in volume["projected"]["sources"]}
        names = {each["name"] for each in found["containers"][0]["env"]}
        return secrets, {name for name in names if "EXCHANGE" in name}

    secrets, names = exchange()
    assert "binance-keys" not in secrets
    assert names == set()
    secrets, names = exchange(realityCheck__credentialsSecretRef={"name": "read-only"})
    assert "read-only" in secrets
    assert "binance-keys" not in secrets
    assert {"TRADINGBOT_EXCHANGE_API_KEY_FILE", "TRADINGBOT_EXCHANGE_SECRET_FILE"} < names


def test_it_reaches_all_servers_and_tells_the_trading_bot() -> None:
    [container] = pod()["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    for name, file in (
        ("DATABASE_URL", "database-url"),
        ("MESSAGING_URL", "messaging-url"),
        ("TIME_SERIES_URL", "time-series-url"),
        ("TIME_SERIES_TOKEN", "time-series-token"),
    ):
        assert env[f"TRADINGBOT_{name}_FILE"] == f"{SECRETS_FOLDER}/{file}"
    assert env["TRADINGBOT_KUBERNETES"] == "1"
    assert pod()["serviceAccountName"] == "live-reality-check"
    assert pod()["automountServiceAccountToken"] is True


def test_its_pod_may_be_changed_like_an_agent_s() -> None:
    changes = {"annotations": {"note": "mine"}, "resources": {"requests": {"memory": "128Mi"}}}
    found = cron_job(agents={"realityCheck": changes})["spec"]["jobTemplate"]["spec"]["template"]
    assert found["metadata"]["annotations"]["note"] == "mine"
    assert found["spec"]["containers"][0]["resources"]["requests"]["memory"] == "128Mi"
