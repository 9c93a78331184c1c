"""The Job that comes before the agents."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from support.specs import LIVE
from tradingbot_agents.cli.main import _parser
from tradingbot_api import load_object
from tradingbot_operator import names
from tradingbot_operator.builders import config, migration
from tradingbot_operator.builders.agents import SECRETS_FOLDER
from tradingbot_operator.names import Annotation

IMAGE = "example.invalid/agents:1"
JOB = migration.job(load_object(LIVE), "trading", IMAGE, "0123456789ab")
POD: dict[str, Any] = JOB["spec"]["template"]["spec"]


def test_a_migration_is_one_job_of_a_revision() -> None:
    assert JOB["metadata"]["name"] == names.migration_job("live", "0123456789ab") == "live-migration-0123456789ab"
    assert JOB["spec"]["template"]["metadata"]["annotations"] == {Annotation.REVISION.value: "0123456789ab"}
    assert {"name": "spec", "configMap": {"name": "live-spec-0123456789ab"}} in POD["volumes"]


def test_it_has_the_longest_name_that_a_job_may_have() -> None:
    assert len(names.migration_job("b" * 40, "0123456789ab")) == 63


def test_it_waits_for_servers_that_start_at_the_same_time() -> None:
    assert POD["restartPolicy"] == "OnFailure"
    # The pauses are 10, 20, 40, 80, 160 and then 300 seconds.
    assert 310 + 300 * (JOB["spec"]["backoffLimit"] - 5) > 3600


def test_it_runs_the_command_that_migrates_what_its_environment_names() -> None:
    [container] = POD["containers"]
    options = _parser().parse_args(container["args"])
    assert str(options.spec) == config.SPEC_FILE
    # Longer than the servers take to start; as long as a wrong address is not told on the bot.
    assert timedelta(seconds=30) < options.wait <= timedelta(minutes=1)
    assert container["env"] == [
        {"name": f"TRADINGBOT_{name}_FILE", "value": f"{SECRETS_FOLDER}/{file}"}
        for name, file in (
            ("DATABASE_URL", "database-url"),
            ("TIME_SERIES_URL", "time-series-url"),
            ("TIME_SERIES_TOKEN", "time-series-token"),
        )
    ]


def test_it_is_nobody_to_the_api_server() -> None:
    assert POD["serviceAccountName"] == "live-migration"
    assert POD["automountServiceAccountToken"] is False
