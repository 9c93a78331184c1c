"""The CronJob of the reality check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.specs import LIVE, changed
from tradingbot_agents.runtime import addresses, reality
from tradingbot_agents.runtime.connections import Secret
from tradingbot_api import load_object
from tradingbot_operator import names
from tradingbot_operator.builders import agents, check
from tradingbot_operator.builders.agents import SECRETS_FOLDER
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Component

IMAGE = "example.invalid/agents:1"
UID = "0f9a1c52-6e1b-4d0e-9a55-0d2f4be6a8d1"


def cron_job(**changes: Any) -> Manifest:
    bot = load_object(changed(LIVE, {key.replace("__", "."): value for key, value in changes.items()}))
    return check.cron_job(bot, "trading", IMAGE, "0123456789ab", UID)


def pod(**changes: Any) -> Manifest:
    found: Manifest = cron_job(**changes)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def secrets_of(found: Manifest) -> dict[str, Manifest]:
    """The sources of its secrets, by the Secret's name."""
    [volume] = [each for each in found["volumes"] if each["name"] == "secrets"]
    return {source["secret"]["name"]: source["secret"] for source in volume["projected"]["sources"]}


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
    # Its wait, and two minutes in which people are told, come on top of the limit.
    assert job["activeDeadlineSeconds"] >= 90 + 60 + 120 + 60
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
    assert container["args"][-2:] == ["--output", "both"], "one for people, and a line for machines"
    assert pod()["serviceAccountName"] == "live-reality-check"
    assert pod()["automountServiceAccountToken"] is True


def test_it_waits_for_a_part_of_a_minute_of_its_own() -> None:
    assert check.DELAY == reality.DELAY, "the agents' half"
    waits = [check.delay(f"0f9a1c52-6e1b-4d0e-9a55-{number:012}") for number in range(1000)]
    assert set(waits) == set(range(60))
    [container] = pod()["containers"]
    env = {each["name"]: each.get("value") for each in container["env"]}
    assert env[check.DELAY] == str(check.delay(UID))


def test_it_gets_the_addresses_that_it_tells_as_files_and_starts_without_them() -> None:
    changes: dict[str, Any] = {
        "notifications": [
            {"name": "phone", "format": "telegram", "urlSecretRef": {"name": "chat", "key": "address"}},
            {"name": "desk", "format": "slack", "urlSecretRef": {"name": "chat", "key": "slack"}},
        ],
        "realityCheck__pingUrlSecretRef": {"name": "ping"},
    }
    sources = secrets_of(pod(**changes))
    assert sources["chat"] == {
        "name": "chat",
        "items": [
            {"key": "address", "path": addresses.notification_file("phone")},
            {"key": "slack", "path": addresses.notification_file("desk")},
        ],
        "optional": True,
    }
    assert sources["ping"]["items"] == [{"key": "url", "path": "ping-url"}]
    assert sources["ping"]["optional"] is True
    bot = load_object(changed(LIVE, {key.replace("__", "."): value for key, value in changes.items()}))
    for component in (*names.AGENTS, Component.MIGRATION, Component.PRUNE):
        assert agents.told_at(component, bot) == {}


def test_the_agents_look_for_the_addresses_where_they_are(tmp_path: Path) -> None:
    items = [{"name": "phone", "format": "telegram", "urlSecretRef": {"name": "chat", "key": "address"}}]
    found = pod(notifications=items, realityCheck__pingUrlSecretRef={"name": "ping"})
    for source in secrets_of(found).values():
        for item in source["items"]:
            (tmp_path / item["path"]).write_text(f"https://{source['name']}.invalid/{item['key']}")
    env = {
        each["name"]: each["value"].replace(SECRETS_FOLDER, str(tmp_path))
        for each in found["containers"][0]["env"]
        if "value" in each
    }
    phone, ping = addresses.read_notification("phone", env), addresses.read_ping(env)
    assert isinstance(phone, Secret)
    assert isinstance(ping, Secret)
    assert phone.reveal() == "https://chat.invalid/address"
    assert ping.reveal() == "https://ping.invalid/url"


def test_its_pod_may_be_changed_like_an_agent_s() -> None:
    changes = {"annotations": {"note": "mine"}, "resources": {"requests": {"memory": "128Mi"}}}
    found = cron_job(agents={"realityCheck": changes})["spec"]["jobTemplate"]["spec"]["template"]
    assert found["metadata"]["annotations"]["note"] == "mine"
    assert found["spec"]["containers"][0]["resources"]["requests"]["memory"] == "128Mi"
