"""The servers that the operator makes, as far as they are settings: real servers take what it gives to the images."""

from __future__ import annotations

import base64
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aio_pika
import asyncpg
import pytest

from support.influxdb import LIMIT, Influx, find_influxd
from support.postgres import scratch_dir
from support.rabbitmq import VERSIONS, RabbitServer, running_rabbitmq
from support.specs import LIVE, changed
from support.system_postgres import (
    NO_POSTGRES,
    PASSWORD,
    SystemPostgres,
    as_user,
    find_programs,
    free_port,
    give_away,
    system_server,
)
from tradingbot_agents.ledger.embedded import binary
from tradingbot_api import TradingBot, load_object
from tradingbot_operator.builders import backup, influxdb, postgres, rabbitmq
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import TOKEN_KEY, URL_KEY, account_id

pytestmark = pytest.mark.minutes

NAMESPACE = "trading"
BOT = load_object(LIVE)
ACCOUNT = account_id(BOT)


def generate(size: int) -> str:
    return "5e" * size


def of_kind(kind: str, manifests: list[Manifest]) -> Manifest:
    [found] = [each for each in manifests if each["kind"] == kind]
    return found


def container_of(workload: Manifest) -> Manifest:
    [found] = workload["spec"]["template"]["spec"]["containers"]
    return dict(found)


def environment_of(container: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def values_of(secret: Manifest | None) -> dict[str, str]:
    assert secret is not None
    return {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}


# ---------------------------------------------------------------------------------------------------- InfluxDB


INFLUXDB = environment_of(container_of(of_kind("StatefulSet", influxdb.managed(BOT, NAMESPACE))))
INFLUXD = {name: value for name, value in INFLUXDB.items() if name.startswith("INFLUXD_")}


@pytest.fixture(scope="module")
def influxd() -> Path:
    return find_influxd() or pytest.skip("no influxd of our own: run 'make servers'")


@pytest.fixture
def managed_influx(influxd: Path, tmp_path: Path) -> Iterator[Influx]:
    """Started by the variables of the container alone, and set up with the Secret as the image does it."""
    port = free_port()
    secret = values_of(influxdb.secret(BOT, NAMESPACE, generate))
    process = subprocess.Popen(
        [influxd],
        cwd=tmp_path,
        env={
            "HOME": str(tmp_path),
            "INFLUXD_BOLT_PATH": str(tmp_path / "influxd.bolt"),
            "INFLUXD_ENGINE_PATH": str(tmp_path / "engine"),
            "INFLUXD_HTTP_BIND_ADDRESS": f"127.0.0.1:{port}",
            **{name: value for name, value in INFLUXDB.items() if not name.startswith("DOCKER_")},
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    server = Influx(f"http://127.0.0.1:{port}", secret[TOKEN_KEY], INFLUXDB["DOCKER_INFLUXDB_INIT_ORG"])
    try:
        waiting, deadline = threading.Event(), time.monotonic() + LIMIT
        while not answers(port):
            assert process.poll() is None, "influxd ended at its start"
            assert time.monotonic() < deadline, "influxd does not answer"
            waiting.wait(0.02)
        server.ask(
            "POST",
            "/api/v2/setup",
            {
                "username": INFLUXDB["DOCKER_INFLUXDB_INIT_USERNAME"],
                "password": secret[influxdb.PASSWORD_KEY],
                "org": server.organization,
                "bucket": INFLUXDB["DOCKER_INFLUXDB_INIT_BUCKET"],
                "token": server.token,
            },
        )
        yield server
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(LIMIT)


def flag(variable: str) -> str:
    return variable.removeprefix("INFLUXD_").lower().replace("_", "-")


def answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False


def test_each_variable_of_influxdb_is_a_flag_of_its_program(influxd: Path) -> None:
    told = subprocess.run([influxd, "run", "--help"], capture_output=True, text=True, check=True).stdout
    flags = set(re.findall(r"^\s+(?:-\w, )?--([a-z0-9-]+)", told, re.MULTILINE))
    assert len(INFLUXD) >= 5
    assert {flag(name) for name in INFLUXD} <= flags


def test_influxdb_runs_with_its_variables_and_knows_the_secrets_token(managed_influx: Influx) -> None:
    config = managed_influx.ask("GET", "/api/v2/config")["config"]
    assert {
        name: str(config[name.removeprefix("INFLUXD_").lower().replace("_", "-")]).lower() for name in INFLUXD
    } == (INFLUXD)
    assert managed_influx.ask("GET", "/api/v2/setup") == {"allowed": False}
    bucket = managed_influx.new_bucket()
    managed_influx.write(bucket, "candle close=1 1700000000")


# -------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture(scope="module", params=["the system's", pytest.param("the wheel's", marks=pytest.mark.postgres)])
def programs(request: pytest.FixtureRequest) -> Path:
    """Of a version before the image's, and of one after it."""
    if request.param == "the wheel's":
        return Path(binary("initdb")).parent
    return find_programs() or pytest.skip(NO_POSTGRES)


def server_of(resources: dict[str, Any] | None = None) -> Manifest:
    bot = load_object(changed(LIVE, {"database.managed": {"resources": resources} if resources else {}}))
    return container_of(of_kind("StatefulSet", postgres.managed(ACCOUNT, bot, NAMESPACE)))


@pytest.fixture(scope="module")
def cluster(programs: Path) -> Iterator[Path]:
    """Made as the image makes it, with the Secret's password and the arguments of the container."""
    environment = environment_of(server_of())
    with scratch_dir() as home:
        give_away(home)
        password = home / "password"
        password.write_text(values_of(postgres.secret(ACCOUNT, BOT, NAMESPACE, generate))[postgres.PASSWORD_KEY])
        password.chmod(0o444)
        done = subprocess.run(
            [
                programs / "initdb",
                f"--pgdata={home}/pgdata",
                f"--username={environment['POSTGRES_USER']}",
                f"--pwfile={password}",
                "--no-sync",
                *shlex.split(environment["POSTGRES_INITDB_ARGS"]),
            ],
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
            check=False,
            **as_user(),
        )
        assert done.returncode == 0, done.stdout + done.stderr
        yield home / "pgdata"


def setting(programs: Path, cluster: Path, arguments: list[str], name: str) -> str:
    """As the server would have it."""
    done = subprocess.run(
        [programs / "postgres", "-D", cluster, *arguments, "-C", name],
        capture_output=True,
        text=True,
        cwd="/",
        check=False,
        **as_user(),
    )
    assert done.returncode == 0, done.stderr
    return str(done.stdout).strip()


@pytest.mark.parametrize("name", ["fsync", "full_page_writes", "synchronous_commit", "data_checksums"])
def test_a_commit_of_the_ledger_is_durable(programs: Path, cluster: Path, name: str) -> None:
    assert setting(programs, cluster, server_of()["args"], name) == "on"


BASE_UNITS = {"shared_buffers": 8, "effective_cache_size": 8, "maintenance_work_mem": 1, "max_wal_size": 1024}
"""In which a server tells them, in kB."""


def test_postgresql_takes_every_setting(programs: Path, cluster: Path) -> None:
    arguments = server_of()["args"]
    assert set(arguments[::2]) == {"-c"}
    settings = dict(each.split("=", 1) for each in arguments[1::2])
    assert set(BASE_UNITS) <= set(settings)
    for name, wanted in settings.items():
        if name in BASE_UNITS:
            wanted = str(int(wanted.removesuffix("MB")) * 1024 // BASE_UNITS[name])
        assert (name, setting(programs, cluster, arguments, name)) == (name, wanted)


@pytest.mark.parametrize("memory", ["16Mi", "64Mi", "1Gi", "8Gi"])
def test_the_buffers_are_a_part_of_the_memory(programs: Path, cluster: Path, memory: str) -> None:
    arguments = server_of({"limits": {"memory": memory}})["args"]
    buffers = int(setting(programs, cluster, arguments, "shared_buffers")) * 8 * 1024
    limit = int(memory[:-2]) * (2**30 if memory.endswith("Gi") else 2**20)
    assert 0 < buffers <= limit


# ---------------------------------------------------------------------------------------------------- RabbitMQ


def configuration(bot: TradingBot) -> dict[str, str]:
    """What is mounted into the broker's configuration folder: path below it → content."""
    manifests = rabbitmq.managed(bot, NAMESPACE)
    workload = of_kind("StatefulSet", manifests)
    sources = {
        "configMap": of_kind("ConfigMap", manifests)["data"],
        "secret": values_of(rabbitmq.secret(bot, NAMESPACE, generate)),
    }
    [volume] = [each for each in workload["spec"]["template"]["spec"]["volumes"] if each["name"] == "config"]
    return {
        item["path"]: sources[kind][item["key"]]
        for source in volume["projected"]["sources"]
        for kind, part in source.items()
        for item in part["items"]
    }


@pytest.fixture(scope="module", params=VERSIONS)
def broker(request: pytest.FixtureRequest) -> Iterator[RabbitServer]:
    environment = environment_of(container_of(of_kind("StatefulSet", rabbitmq.managed(BOT, NAMESPACE))))
    with running_rabbitmq(request.param, files=configuration(BOT), environment=environment) as server:
        yield server


def address(server: RabbitServer) -> str:
    """The Secret's, at the server of this test."""
    url = values_of(rabbitmq.secret(BOT, NAMESPACE, generate))[URL_KEY]
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{server.port}").geturl()


async def test_a_program_logs_in_by_the_secrets_address(broker: RabbitServer) -> None:
    async with await aio_pika.connect(address(broker)) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue("durable", durable=True, arguments={"x-queue-type": "quorum"})
        await channel.default_exchange.publish(aio_pika.Message(b"an intent"), "durable")
        message = await queue.get(timeout=LIMIT)
        assert message is not None
        assert message.body == b"an intent"
        await message.ack()


async def test_nobody_else_logs_in(broker: RabbitServer) -> None:
    with pytest.raises(aio_pika.exceptions.ProbableAuthenticationError):
        await aio_pika.connect(broker.url)
    assert "guest" in broker.url


def test_the_broker_has_the_settings_that_it_was_given(broker: RabbitServer) -> None:
    def told(expression: str) -> str:
        return broker.control("eval", f"{expression}.").strip()

    def variable(name: str, application: str = "rabbit") -> str:
        return told(f"begin {{ok, Value}} = application:get_env({application}, {name}), Value end")

    assert told("node()") == "rabbit@localhost"
    assert told("rabbit_plugins:active()") == "[]"
    assert variable("vm_memory_high_watermark") == "{absolute,201326592}"
    assert told("vm_memory_monitor:get_memory_limit()") == "201326592"
    assert told("rabbit_disk_monitor:get_disk_free_limit()") == "104857600"
    assert variable("wal_max_size_bytes", "ra") == "16777216"
    assert variable("loopback_users") == "[]"
    assert told("erlang:system_info(schedulers)") == "1"
    assert variable("inet_dist_use_interface", "kernel") == "{127,0,0,1}"


def test_the_erlang_machine_is_reached_from_within_the_pod_alone(broker: RabbitServer) -> None:
    """Whoever reaches it and knows its cookie may do everything."""
    port = f"{broker.distribution_port:04X}"
    lines = [line for file in ("tcp", "tcp6") for line in Path(f"/proc/net/{file}").read_text().splitlines()]
    # 0A: it listens.
    listening = {fields[1] for fields in map(str.split, lines) if fields[3] == "0A"}
    assert {each for each in listening if each.endswith(f":{port}")} == {f"0100007F:{port}"}


# ------------------------------------------------------------------------------------------------------ backup


JOB = backup.cron_job(ACCOUNT, BOT, NAMESPACE)
assert JOB is not None
[CONTAINER] = JOB["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]


@pytest.fixture(scope="module")
def ledger() -> Iterator[SystemPostgres]:
    with system_server(find_programs() or pytest.skip(NO_POSTGRES)) as server:
        yield server


class Script:
    """The Job's script in its own environment, at a server and in a folder of the test."""

    def __init__(self, shell: tuple[str, ...], tools: Path | None, server: SystemPostgres, folder: Path) -> None:
        """``tools``: a folder with cat, grep and so on, instead of this machine's."""
        self.copies = folder / "backup"
        self.copies.mkdir()
        self._shell = shell
        self._count = 0
        password = folder / "password"
        password.write_text(PASSWORD)
        programs = find_programs()
        assert programs is not None
        path = [programs, tools] if tools is not None else [programs, "/usr/bin", "/bin"]
        self._environment = {
            **environment_of(CONTAINER),
            "PATH": ":".join(map(str, path)),
            "PGHOST": "127.0.0.1",
            "PGPORT": str(server.port),
            "PGDATABASE": "postgres",
            "PASSWORD_FILE": str(password),
            "FOLDER": str(self.copies),
            "KEEP": "2",
        }

    def run(self, before: str = "", **changes: str) -> subprocess.CompletedProcess[str]:
        """One hour later than the last time. ``before``: commands that come before the script; a function stands in
        for the program of its name."""
        self._count += 1
        shell, option, text = CONTAINER["command"]
        assert (shell, option) == ("sh", "-c")
        clock = f"date() {{ echo 20260101T{self._count:02}0000Z; }}"
        return subprocess.run(
            [*self._shell, "-c", f"{clock}\n{before}\n{text}"],
            env={**self._environment, **changes},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def names(self) -> list[str]:
        return sorted(each.name for each in self.copies.iterdir())


TOOLS = ("cat", "rm", "mv", "ls", "grep", "sort", "tail", "wc")


@pytest.fixture(params=["/bin/sh", "busybox"])
def script(request: pytest.FixtureRequest, ledger: SystemPostgres, tmp_path: Path) -> Script:
    """Once with busybox's shell and tools: the image has these."""
    if request.param != "busybox":
        return Script((request.param,), None, ledger, tmp_path)
    program = shutil.which("busybox") or pytest.skip("no busybox: install it")
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in TOOLS:
        (tools / name).symlink_to(program)
    return Script((program, "sh"), tools, ledger, tmp_path)


def copy_of(hour: int) -> str:
    return f"ledger-20260101T{hour:02}0000Z.dump"


def test_the_newest_copies_are_kept(script: Script) -> None:
    for _ in range(3):
        done = script.run()
        assert done.returncode == 0, done.stderr
    assert script.names() == [copy_of(2), copy_of(3)]
    assert f"removed {copy_of(1)}" in done.stdout
    assert {path.stat().st_mode & 0o777 for path in script.copies.iterdir()} == {0o600}


def test_what_is_not_a_copy_of_ours_is_left_alone(script: Script) -> None:
    (script.copies / "mine.dump").touch()
    (script.copies / "lost+found").mkdir()
    for _ in range(3):
        assert script.run().returncode == 0
    assert script.names() == [copy_of(2), copy_of(3), "lost+found", "mine.dump"]


@pytest.mark.parametrize("program", ["pg_dump", "pg_restore"])
def test_a_copy_that_fails_costs_no_other(script: Script, program: str) -> None:
    for _ in range(2):
        assert script.run().returncode == 0
    # It has written something before it fails.
    assert script.run(f'{program}() {{ command {program} "$@"; return 1; }}').returncode != 0
    assert script.names() == [copy_of(1), copy_of(2)]


async def test_a_copy_that_is_cut_short_is_no_copy(script: Script, ledger: SystemPostgres) -> None:
    source = await asyncpg.connect(ledger.url())
    await source.execute(
        "CREATE TABLE IF NOT EXISTS noise AS SELECT md5(random()::text) FROM generate_series(1, 20000)"
    )
    await source.close()
    cut = """\
pg_dump() {
  command pg_dump "$@"
  /bin/dd if="$FOLDER/$name.part" of="$FOLDER/cut" bs=1024 count=300 2> /dev/null
  mv "$FOLDER/cut" "$FOLDER/$name.part"
}
"""
    done = script.run(cut)
    assert "pg_restore" in done.stderr
    assert done.returncode != 0
    assert script.names() == []


def test_a_server_that_is_away_and_a_missing_password_are_failures(script: Script) -> None:
    assert script.run(PGPORT="1").returncode != 0
    done = script.run("pg_dump() { echo asked >&2; }", PASSWORD_FILE="/nowhere")
    assert done.returncode != 0
    assert "asked" not in done.stderr
    assert script.names() == []


def test_what_a_killed_run_has_left_is_removed(script: Script) -> None:
    (script.copies / f"{copy_of(0)}.part").write_text("half")
    assert script.run().returncode == 0
    assert script.names() == [copy_of(1)]


def restore(copy: Path, url: str) -> None:
    programs = find_programs()
    assert programs is not None
    subprocess.run([programs / "pg_restore", "--exit-on-error", f"--dbname={url}", copy], check=True)


async def test_a_copy_can_be_restored(script: Script, ledger: SystemPostgres) -> None:
    source = await asyncpg.connect(ledger.url())
    await source.execute("DROP TABLE IF EXISTS fills")
    await source.execute("CREATE TABLE fills AS SELECT 1 AS number, 0.1::numeric AS amount")
    try:
        assert script.run().returncode == 0
        await source.execute("DROP DATABASE IF EXISTS restored")
        await source.execute("CREATE DATABASE restored")
    finally:
        await source.close()
    [copy] = script.copies.iterdir()
    restore(copy, ledger.url("restored"))
    restored = await asyncpg.connect(ledger.url("restored"))
    try:
        assert [str(value) for value in await restored.fetchrow("SELECT * FROM fills")] == ["1", "0.1"]
    finally:
        await restored.close()
