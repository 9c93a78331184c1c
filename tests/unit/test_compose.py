"""compose.yaml starts what there is: every agent, with what it needs and nothing else."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.process import REPOSITORY
from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.cli import main as command_line
from tradingbot_agents.runtime.connections import NEEDS, Variable, read_connections, read_migration
from tradingbot_api import load_file

COMPOSE: dict[str, Any] = yaml.safe_load((REPOSITORY / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """What the script makes, and the two files that a person adds."""
    folder = tmp_path / "secrets"
    subprocess.run(["sh", REPOSITORY / "scripts" / "compose-secrets.sh", folder], check=True, capture_output=True)
    (folder / "exchange-api-key").write_text("key")
    (folder / "exchange-secret").write_text("secret")
    return folder


def environment_of(service: str, secrets: Path) -> dict[str, str]:
    """As the process in the container sees it, with the mounted files where they are here."""
    found = dict(SERVICES[service]["environment"])
    mounted = set(SERVICES[service]["secrets"])
    for name, value in found.items():
        if name.endswith("_FILE"):
            secret = value.removeprefix("/run/secrets/")
            assert secret in mounted, f"{service} reads {value}, which is not mounted"
            found[name] = str(secrets / Path(COMPOSE["secrets"][secret]["file"]).name)
    return found


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_is_given_what_it_needs_and_no_more(agent: str, secrets: Path) -> None:
    environment = environment_of(agent, secrets)
    read_connections(agent, environment)
    given = {Variable(name.removesuffix("_FILE")) for name in environment}
    assert given == NEEDS[agent]
    for variable in given:
        if "SECRET" in variable or "KEY" in variable or "TOKEN" in variable or "DATABASE" in variable:
            assert f"{variable.value}_FILE" in environment, "secrets come as files"


def test_migrate_has_what_it_migrates(secrets: Path) -> None:
    migration = read_migration(environment_of("migrate", secrets))
    assert migration.database is not None
    assert migration.time_series is not None


@pytest.mark.parametrize("service", [*AGENTS, "migrate"])
def test_its_commands_are_ones_that_there_are(service: str) -> None:
    options = command_line._parser().parse_args([str(each) for each in SERVICES[service]["command"]])
    assert options.command is not None
    if service in AGENTS:
        assert options.name == service
        assert options.listen == ("0.0.0.0", 8080)


def mounts(service: str) -> dict[str, str]:
    """What is mounted where, by its source."""
    found = {}
    for volume in SERVICES[service]["volumes"]:
        source, target = volume.removesuffix(":ro").rsplit(":", 1)
        found[source] = target
    return found


def test_every_named_volume_is_declared_and_has_one_user() -> None:
    spec = "${BOT:-./examples/testnet.yaml}"
    used = [source for service in SERVICES for source in mounts(service) if source != spec]
    assert sorted(used) == sorted(COMPOSE["volumes"])


@pytest.mark.parametrize(("agent", "volume"), [("data-collection", "spool"), ("execution", "paper")])
def test_what_an_agent_keeps_on_disk_outlives_its_container(agent: str, volume: str) -> None:
    options = command_line._parser().parse_args([str(each) for each in SERVICES[agent]["command"]])
    found = mounts(agent)
    assert found[volume] == str(options.data_dir), "its data directory is the volume"
    # The image's own folder, so that a new volume belongs to the user of its processes.
    assert f"WORKDIR {found[volume]}\n" in (REPOSITORY / "agents" / "Dockerfile").read_text()
    assert found["${BOT:-./examples/testnet.yaml}"] == str(options.spec), "a list of its own replaces the shared one"


@pytest.mark.parametrize("service", AGENTS)
def test_who_has_no_volume_writes_nothing(service: str) -> None:
    options = command_line._parser().parse_args([str(each) for each in SERVICES[service]["command"]])
    assert SERVICES[service]["read_only"] is True
    assert (options.data_dir is None) is (len(mounts(service)) == 1)


def test_the_time_series_organization_is_the_one_of_the_spec() -> None:
    bot = load_file(REPOSITORY / "examples" / "testnet.yaml")
    assert SERVICES["influxdb"]["environment"]["DOCKER_INFLUXDB_INIT_ORG"] == bot.spec.time_series.organization


def test_every_secret_is_made_or_asked_for_and_none_twice(secrets: Path) -> None:
    wanted = {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()}
    assert wanted <= {path.name for path in secrets.iterdir()}
    before = {path.name: path.read_text() for path in secrets.iterdir()}
    subprocess.run(["sh", REPOSITORY / "scripts" / "compose-secrets.sh", secrets], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in secrets.iterdir()} == before, "made once"
    password = before["rabbitmq-password"]
    assert len(password) == 32
    assert password in before["messaging-url"]
    assert password in before["rabbitmq.conf"]


def test_it_is_given_longer_to_stop_than_it_takes() -> None:
    bot = load_file(REPOSITORY / "examples" / "testnet.yaml")
    for agent in AGENTS:
        assert (
            int(SERVICES[agent]["stop_grace_period"].removesuffix("s")) > bot.spec.runtime.stop_limit.total_seconds()
        )
