"""The CronJob that removes what the ledger keeps no longer."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from support.specs import LIVE, PAPER, changed
from tradingbot_agents.cli.main import _parser
from tradingbot_agents.runtime.connections import read_database
from tradingbot_api import load_object
from tradingbot_operator import desired, names
from tradingbot_operator.builders import config, prune
from tradingbot_operator.builders.agents import SECRETS_FOLDER
from tradingbot_operator.kinds import Manifest, Ref, ref_of
from tradingbot_operator.names import AGENTS, Annotation, Component

IMAGE = "example.invalid/agents:1"
REVISION = "0123456789ab"


def cron_job(base: dict[str, Any] = LIVE, **changes: Any) -> Manifest:
    bot = load_object(changed(base, {key.replace("__", "."): value for key, value in changes.items()}))
    return prune.cron_job(bot, "trading", IMAGE, REVISION)


def pod(**changes: Any) -> Manifest:
    found: Manifest = cron_job(**changes)["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return found


def test_it_runs_once_a_day_in_utc_and_never_twice_at_a_time() -> None:
    spec = cron_job()["spec"]
    found = re.fullmatch(r"(\d+) (\d+) \* \* \*", spec["schedule"])
    assert found is not None
    assert int(found[1]) < 60
    assert int(found[2]) < 24
    assert (spec["timeZone"], spec["concurrencyPolicy"]) == ("Etc/UTC", "Forbid")


def test_a_bot_keeps_its_minute() -> None:
    """Another one with each release would skip a day, or prune twice."""
    assert cron_job()["spec"]["schedule"] == cron_job(symbols=["ETH/USDT"])["spec"]["schedule"]
    assert prune.schedule("trading", "live") == "41 5 * * *"
    assert prune.schedule("trading", "live") != prune.schedule("other", "live")


def test_many_bots_do_not_wake_in_the_same_minute() -> None:
    minutes = Counter(prune.schedule("trading", f"bot-{number}") for number in range(1000))
    assert max(minutes.values()) <= 6
    assert len({when.split()[1] for when in minutes}) == 24


def test_its_name_leaves_room_for_those_of_its_jobs() -> None:
    # The API server takes 52 characters: eleven are added for a Job.
    assert len(names.child("b" * 40, Component.PRUNE)) <= 52
    assert cron_job()["metadata"]["name"] == "live-prune"


def test_one_that_failed_is_tried_again_and_one_that_hangs_is_ended_before_the_next() -> None:
    job = cron_job()["spec"]["jobTemplate"]["spec"]
    assert job["backoffLimit"] > 0
    assert job["activeDeadlineSeconds"] < 24 * 60 * 60
    assert pod()["restartPolicy"] == "OnFailure"


def test_it_runs_the_command_on_the_database_that_its_environment_names() -> None:
    [container] = pod()["containers"]
    options = _parser().parse_args(container["args"])
    assert (str(options.spec), options.data_dir, options.dry_run) == (config.SPEC_FILE, None, False)
    variable = "TRADINGBOT_DATABASE_URL_FILE"
    assert container["env"] == [{"name": variable, "value": f"{SECRETS_FOLDER}/database-url"}]


def test_the_command_finds_the_database_with_what_its_pod_has(tmp_path: Path) -> None:
    [container] = pod()["containers"]
    environment = {each["name"]: each["value"].replace(SECRETS_FOLDER, str(tmp_path)) for each in container["env"]}
    (tmp_path / "database-url").write_text("postgresql://one:two@ledger/books")
    found = read_database(environment)
    assert found is not None
    assert found.reveal() == "postgresql://one:two@ledger/books"


def test_it_has_the_secret_of_the_database_and_no_other() -> None:
    for changes, secret in (
        ({}, f"{names.account_id(load_object(LIVE))}-postgres"),
        ({"database": {"external": {"urlSecretRef": {"name": "ledger"}}}}, "ledger"),
    ):
        [volume] = [each for each in pod(**changes)["volumes"] if each["name"] == "secrets"]
        assert [each["secret"]["name"] for each in volume["projected"]["sources"]] == [secret]


def test_it_is_nobody_to_the_api_server() -> None:
    assert pod()["serviceAccountName"] == "live-prune"
    assert pod()["automountServiceAccountToken"] is False


def test_it_goes_by_the_revision_that_is_applied() -> None:
    template = cron_job()["spec"]["jobTemplate"]["spec"]["template"]
    assert template["metadata"]["annotations"] == {Annotation.REVISION.value: REVISION}
    assert {"name": "spec", "configMap": {"name": f"live-spec-{REVISION}"}} in template["spec"]["volumes"]


def test_every_bot_has_one() -> None:
    for base in (LIVE, PAPER):
        bot = load_object(base)
        pinned = desired.pin(bot, "trading", IMAGE)
        found = desired.of_bot(
            "trading",
            pinned,
            [pinned],
            dict.fromkeys(AGENTS, pinned),
            uid="0f9a",
            state="Running",
            migrating=False,
            positions_open=False,
        )
        assert Ref("CronJob", names.child(bot.metadata.name, Component.PRUNE)) in {
            ref_of(each.manifest) for each in found
        }
