"""The embedded server's life, against the real one: first start, take-over, crashes, root, and what goes wrong."""

# The loop has nothing else to do while a test looks at files and processes.
# ruff: noqa: ASYNC110, ASYNC220, ASYNC221, ASYNC222, ASYNC240

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from support.postgres import scratch_dir
from tradingbot_agents.ledger import embedded
from tradingbot_agents.ledger.embedded import (
    DataVersionError,
    EmbeddedPostgres,
    EmbeddedPostgresError,
)
from tradingbot_agents.ledger.migrate import migrate

pytestmark = pytest.mark.postgres

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="needs root")

# Starts the server and waits to be killed, like a bot.
BOT = """
import asyncio, sys
from pathlib import Path
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
async def main():
    server = EmbeddedPostgres(Path(sys.argv[1]))
    try:
        print(await server.start(), flush=True)
        sys.stdin.read()
    finally:
        await server.stop()
asyncio.run(main())
"""

Server = Callable[..., EmbeddedPostgres]


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    """The ``postgres`` folder of a data directory that was started and stopped once: initdb costs most of a test."""
    with scratch_dir() as path:

        async def make() -> None:
            server = EmbeddedPostgres(path)
            connection = await asyncpg.connect(await server.start())
            await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('committed')")
            await connection.close()
            await server.stop()

        asyncio.run(make())
        yield path / "postgres"


def copy(template: Path, data_dir: Path) -> None:
    subprocess.run(["cp", "-a", str(template), str(data_dir / "postgres")], check=True)


@pytest.fixture
def used_dir(template: Path, data_dir: Path) -> Path:
    """A data directory whose cluster exists, with one row in ``kept``."""
    copy(template, data_dir)
    return data_dir


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """Makes servers that are stopped at the end of the test."""
    made: list[EmbeddedPostgres] = []

    def make(data_dir: Path, **options: object) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(data_dir, **options))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        with contextlib.suppress(FileNotFoundError):
            await one.stop()


async def kept(dsn: str) -> str:
    connection = await asyncpg.connect(dsn)
    try:
        return str(await connection.fetchval("SELECT string_agg(word, ' ') FROM kept"))
    finally:
        await connection.close()


def postmaster_pid(data_dir: Path) -> int:
    return int((data_dir / "postgres/data/postmaster.pid").read_text().split("\n")[0])


def owner(pid: int) -> int:
    return Path(f"/proc/{pid}").stat().st_uid


# A usual life


async def test_first_start_then_stop_then_start(data_dir: Path, server: Server) -> None:
    first = server(data_dir)
    assert await first.running_dsn() is None
    dsn = await first.start()
    assert first.outcome == "created"
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT current_user") == "tradingbot"
    settings = dict(await connection.fetch("SELECT name, setting FROM pg_settings"))
    await connection.execute("CREATE TABLE kept (word text); INSERT INTO kept VALUES ('committed')")
    await connection.close()
    assert settings["server_version"].startswith("18.")
    durable = ("fsync", "full_page_writes", "synchronous_commit", "data_checksums", "autovacuum")
    assert [settings[name] for name in durable] == ["on"] * 5
    assert (settings["server_encoding"], settings["TimeZone"]) == ("UTF8", "UTC")
    assert (settings["listen_addresses"], settings["unix_socket_permissions"]) == ("", "0700")
    assert stat.S_IMODE((data_dir / "postgres").stat().st_mode) == 0o700

    assert await server(data_dir).running_dsn() == dsn
    pid = postmaster_pid(data_dir)
    assert await first.start() == dsn
    assert (first.outcome, postmaster_pid(data_dir)) == ("created", pid)

    await first.stop()
    assert await first.running_dsn() is None
    assert not (data_dir / "postgres/data/postmaster.pid").exists()
    await first.stop()

    again = server(data_dir)
    assert await kept(await again.start()) == "committed"
    assert again.outcome == "started"


async def test_two_starts_at_once_are_one(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    assert len(set(await asyncio.gather(one.start(), one.start(), one.start()))) == 1


async def test_the_server_does_not_hear_our_terminal(used_dir: Path, server: Server) -> None:
    await server(used_dir).start()
    pid = postmaster_pid(used_dir)
    assert os.getsid(pid) == os.getpgid(pid) == pid


async def test_nothing_of_our_environment_reaches_the_server(
    used_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXCHANGE_SECRET", "hush")
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGOPTIONS", "-c nonsense=1")
    await server(used_dir).start()
    assert b"hush" not in Path(f"/proc/{postmaster_pid(used_dir)}/environ").read_bytes()


async def test_the_log_is_private_and_in_the_data_directory(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    connection = await asyncpg.connect(await one.start())
    with pytest.raises(asyncpg.UndefinedTableError):
        await connection.execute("SELECT * FROM nowhere")
    await connection.close()
    logs = list(one.log_dir.iterdir())
    while 'relation "nowhere" does not exist' not in "".join(log.read_text() for log in logs):
        await asyncio.sleep(0.001)  # Another process writes it.
    assert {stat.S_IMODE(log.stat().st_mode) for log in logs} == {0o600}


# Killed, and taken over


async def test_a_server_left_by_a_killed_process_is_taken_over(used_dir: Path, server: Server) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", BOT, str(used_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as bot:
        assert bot.stdout is not None
        dsn = bot.stdout.readline().strip()
        bot.kill()
    pid = postmaster_pid(used_dir)
    one = server(used_dir)
    assert await one.start() == dsn
    assert (one.outcome, postmaster_pid(used_dir)) == ("taken over", pid)
    assert await kept(dsn) == "committed"
    await one.stop()
    assert await one.running_dsn() is None


async def test_a_killed_server_is_started_again_and_has_lost_nothing(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    dsn = await one.start()
    pool = await asyncpg.create_pool(dsn, min_size=3, max_size=3)
    await pool.execute("INSERT INTO kept VALUES ('and'), ('more')")
    os.kill(postmaster_pid(used_dir), signal.SIGKILL)
    assert await one.ensure_running() is True
    assert one.outcome == "recovered"
    assert await one.ensure_running() is False
    assert await kept(dsn) == "committed and more"
    pool.terminate()


async def test_a_killed_backend_is_the_servers_own_business(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    dsn = await one.start()
    pid = postmaster_pid(used_dir)
    connection = await asyncpg.connect(dsn)
    os.kill(connection.get_server_pid(), signal.SIGKILL)
    with pytest.raises((asyncpg.PostgresConnectionError, asyncpg.InterfaceError, OSError)):
        await connection.fetchval("SELECT pg_sleep(60)")
    connection.terminate()
    await one.ensure_running()
    assert await kept(dsn) == "committed"
    assert postmaster_pid(used_dir) == pid


@pytest.mark.parametrize("zombie", [False, True])
async def test_a_recycled_pid_is_no_server(used_dir: Path, server: Server, zombie: bool) -> None:
    one = server(used_dir)
    await one.start()
    home = used_dir / "postgres"
    files = [home / "data/postmaster.pid", home / ".s.PGSQL.5432.lock"]
    texts = [file.read_text() for file in files]
    os.kill(postmaster_pid(used_dir), signal.SIGKILL)
    uid = home.stat().st_uid
    switch = {"user": uid, "group": home.stat().st_gid, "extra_groups": ()} if ROOT else {}
    with subprocess.Popen(["sleep", "60"], **switch) as other:  # type: ignore[call-overload]
        for file, text in zip(files, texts, strict=True):
            file.write_text("\n".join([str(other.pid), *text.split("\n")[1:]]))
        if zombie:
            other.kill()
            os.waitid(os.P_PID, other.pid, os.WEXITED | os.WNOWAIT)
        again = server(used_dir)
        assert await again.running_dsn() is None
        assert await kept(await again.start()) == "committed"
        assert again.outcome == "recovered"
        assert zombie or other.poll() is None
        other.kill()


async def test_an_interrupted_initdb_is_done_again(data_dir: Path, server: Server) -> None:
    home = data_dir / "postgres"
    one = server(data_dir)
    starting = asyncio.create_task(one.start())
    while not list(home.glob("data.new-*/base")):
        await asyncio.sleep(0.001)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not (home / "data").exists()
    killed = home / "data.new-of-a-killed-process"
    killed.mkdir()
    (killed / "PG_VERSION").write_text("18\n")
    again = server(data_dir)
    await again.start()
    assert again.outcome == "created"
    assert not list(home.glob("data.new-*"))


async def test_a_restart_never_makes_a_new_cluster(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    await one.start()
    await one.stop()
    shutil.rmtree(used_dir / "postgres/data")
    with pytest.raises(EmbeddedPostgresError, match="is not a PostgreSQL cluster"):
        await one.ensure_running()


async def test_a_renamed_data_directory_is_not_started_twice(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    await one.start()
    pid = postmaster_pid(used_dir)
    moved = used_dir / "moved"
    (used_dir / "postgres").rename(moved)
    other = used_dir / "other"
    other.mkdir()
    moved.rename(other / "postgres")
    try:
        with pytest.raises(EmbeddedPostgresError, match=rf"process {pid} seems to serve it under its former name"):
            await EmbeddedPostgres(other).start()
    finally:
        (other / "postgres").rename(used_dir / "postgres")


# Stopping


async def test_stop_ends_open_transactions(used_dir: Path, server: Server) -> None:
    one = server(used_dir)
    dsn = await one.start()
    connection = await asyncpg.connect(dsn)
    await connection.execute("BEGIN; INSERT INTO kept VALUES ('never')")
    await one.stop()
    connection.terminate()
    assert await kept(await one.start()) == "committed"


async def test_an_immediate_stop_loses_nothing(used_dir: Path, server: Server) -> None:
    one = server(used_dir, stop_limit=0.0)
    connection = await asyncpg.connect(await one.start())
    await connection.execute("INSERT INTO kept VALUES ('too')")
    await one.stop()
    connection.terminate()
    assert await kept(await one.start()) == "committed too"


async def test_a_server_that_does_not_stop_is_said(
    used_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_IMMEDIATE_LIMIT", 0.05)
    one = server(used_dir, stop_limit=0.05)
    await one.start()
    pid = postmaster_pid(used_dir)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(EmbeddedPostgresError, match=rf"process {pid}, .* does not stop"):
            await one.stop()
    finally:
        os.kill(pid, signal.SIGCONT)
        monkeypatch.undo()


# Where it listens


@pytest.mark.parametrize("name", ["n" * 120, "a,b", 'it\'s "quoted"'])
async def test_a_path_that_no_socket_can_have(template: Path, data_dir: Path, server: Server, name: str) -> None:
    path = data_dir / name
    path.mkdir(mode=0o700)
    copy(template, path)
    one = server(path)
    dsn = await one.start()
    folder = Path((path / "postgres/socket-dir").read_text().strip())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert folder.stat().st_uid == owner(postmaster_pid(path))
    assert await server(path).running_dsn() == dsn
    os.kill(postmaster_pid(path), signal.SIGKILL)
    await one.ensure_running()
    assert await kept(dsn) == "committed"
    # A server that another object stops leaves no folder behind either.
    await server(path).stop()
    assert not folder.exists()


async def test_blanks_and_signs_in_a_path(template: Path, data_dir: Path, server: Server) -> None:
    path = data_dir / "a b\\c%20=&?ü"
    path.mkdir(mode=0o700)
    copy(template, path)
    assert await kept(await server(path).start()) == "committed"


async def test_without_unix_sockets_it_is_loopback_with_a_password(
    used_dir: Path, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "_holds_socket", lambda folder: False)
    one = server(used_dir)
    dsn = await one.start()
    secret_file = used_dir / "postgres/pgpass"
    secret = secret_file.read_text().strip().rpartition(":")[2]
    assert stat.S_IMODE(secret_file.stat().st_mode) == 0o600
    assert dsn.startswith("postgresql://tradingbot@127.0.0.1:")
    assert secret not in dsn
    assert await kept(dsn) == "committed"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(dsn, password="guessed")
    (tmp_path / "0001_orders.sql").write_text("CREATE TABLE orders (id int);")
    assert await migrate(dsn, tmp_path) == ["0001_orders"]

    os.kill(postmaster_pid(used_dir), signal.SIGKILL)
    assert await one.ensure_running()
    assert await kept(dsn) == "committed"
    assert secret_file.read_text().strip().rpartition(":")[2] != secret
    everything = "".join(log.read_text() for log in (used_dir / "postgres").rglob("*.log"))
    assert "tradingbot PASSWORD" not in everything
    assert secret not in everything


# What goes wrong


async def test_data_of_another_version_is_refused(used_dir: Path) -> None:
    (used_dir / "postgres/data/PG_VERSION").write_text("16\n")
    with pytest.raises(DataVersionError) as refused:
        await EmbeddedPostgres(used_dir).start()
    message = str(refused.value)
    assert "was made by PostgreSQL 16, this is PostgreSQL 18" in message
    assert "pg_dumpall" in message
    assert "--data-dir" in message


async def test_a_folder_that_is_no_cluster_is_refused(used_dir: Path) -> None:
    (used_dir / "postgres/data/PG_VERSION").unlink()
    with pytest.raises(EmbeddedPostgresError, match=r"is not a PostgreSQL cluster .*: restore it from a backup"):
        await EmbeddedPostgres(used_dir).start()


async def test_a_failing_start_says_what_the_server_said(used_dir: Path, server: Server) -> None:
    with pytest.raises(EmbeddedPostgresError, match='invalid value for parameter "shared_buffers": "plenty"'):
        await server(used_dir, settings={"shared_buffers": "plenty"}).start()
    (used_dir / "postgres/data/global/pg_control").unlink()
    with pytest.raises(EmbeddedPostgresError, match="could not find the database system"):
        await server(used_dir).start()


async def test_a_start_that_takes_too_long_is_said_and_can_be_stopped(used_dir: Path, server: Server) -> None:
    one = server(used_dir, start_limit=0.0)
    with pytest.raises(EmbeddedPostgresError, match=r"is not ready after 0 s\. It says"):
        await one.start()
    await one.stop()
    assert await kept(await server(used_dir).start()) == "committed"


async def test_a_missing_wheel_is_said(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedPostgresError, match=r"install tradingbot\[agents\]"):
        await EmbeddedPostgres(data_dir).start()


@pytest.fixture
def small_disk(data_dir: Path) -> Iterator[Callable[[str], None]]:
    """``data_dir`` as a disk of its own; the call (re)mounts it with options."""

    def mount(options: str) -> None:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tradingbot-test", str(data_dir)],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            pytest.skip(f"mounting is not permitted here: {done.stderr.decode().strip()}")

    yield mount
    subprocess.run(["umount", str(data_dir)], capture_output=True, check=False)


@as_root
async def test_a_full_disk_at_the_first_start(data_dir: Path, small_disk: Callable[[str], None]) -> None:
    small_disk("size=4m,mode=755")
    with pytest.raises(EmbeddedPostgresError, match=r"initdb failed[\s\S]*the disk is full: free some space"):
        await EmbeddedPostgres(data_dir).start()
    assert not (data_dir / "postgres/data").exists()
    small_disk("remount,size=100m")
    one = EmbeddedPostgres(data_dir)
    await one.start()
    await one.stop()


@as_root
async def test_a_disk_that_fills_up_while_running(
    template: Path, data_dir: Path, small_disk: Callable[[str], None], server: Server
) -> None:
    small_disk("size=100m,mode=755")
    copy(template, data_dir)
    one = server(data_dir)
    dsn = await one.start()
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE filler (bytes text)")
    ballast = data_dir / "ballast"
    ballast.write_bytes(b"x" * (shutil.disk_usage(data_dir).free - 1_000_000))
    big = "SELECT string_agg(md5(n::text), '') FROM generate_series(1, 100000) n"
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await connection.execute(f"INSERT INTO filler SELECT t FROM ({big}) AS big(t), generate_series(1, 50)")
    connection.terminate()
    await one.stop()
    ballast.write_bytes(b"x" * (ballast.stat().st_size + shutil.disk_usage(data_dir).free))
    with pytest.raises(EmbeddedPostgresError, match=r"the disk is full: free some space"):
        await one.start()
    ballast.unlink()
    assert await kept(await one.start()) == "committed"


@as_root
async def test_a_read_only_disk(template: Path, data_dir: Path, small_disk: Callable[[str], None]) -> None:
    small_disk("size=100m,mode=755")
    copy(template, data_dir)
    small_disk("remount,ro")
    with pytest.raises(EmbeddedPostgresError, match=r"Read-only file system[\s\S]*mount it writable, or use another"):
        await EmbeddedPostgres(data_dir).start()


# Who runs it


def run_as_nobody(data_dir: Path) -> subprocess.Popen[str]:
    """The bot as a normal user, who may still read this environment (which root may have made below /root)."""
    nobody = pwd.getpwnam("nobody")
    capability = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search", "--securebits=+no_setuid_fixup"]
    user = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]
    return subprocess.Popen(
        ["setpriv", *user, *capability, "--", sys.executable, "-c", BOT, str(data_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@as_root
async def test_roots_server_is_nobodys(data_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir.chmod(0o700)
    await server(data_dir).start()
    nobody = pwd.getpwnam("nobody").pw_uid
    assert owner(postmaster_pid(data_dir)) == nobody
    assert (data_dir / "postgres").stat().st_uid == nobody
    assert data_dir.stat().st_uid == 0
    assert stat.S_IMODE(data_dir.stat().st_mode) in (0o700, 0o701)


@as_root
async def test_roots_server_is_run_by_the_directorys_owner(template: Path, data_dir: Path, server: Server) -> None:
    os.chown(data_dir, 12345, 12345)
    copy(template, data_dir)
    # As a backup that root copied back.
    subprocess.run(["chown", "-R", "0:0", str(data_dir / "postgres")], check=True)
    assert await kept(await server(data_dir).start()) == "committed"
    assert owner(postmaster_pid(data_dir)) == 12345


@as_root
async def test_a_directory_below_one_that_only_root_may_enter(
    template: Path, data_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = data_dir / "closed"
    path = closed / "bot"
    path.mkdir(parents=True)
    closed.chmod(0o700)
    copy(template, path)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "which", lambda name: None)
        with pytest.raises(EmbeddedPostgresError) as refused:
            await EmbeddedPostgres(path).start()
    assert "is closed to user nobody" in str(refused.value)
    assert "--data-dir /var/lib/tradingbot" in str(refused.value)
    if shutil.which("setpriv") is None:
        pytest.skip("the rest needs setpriv, of util-linux")
    assert await kept(await server(path).start()) == "committed"
    pid = postmaster_pid(path)
    assert owner(pid) == pwd.getpwnam("nobody").pw_uid
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    held = Path(f"/proc/{pid}/status").read_text().partition("CapEff:\t")[2][:16]
    assert int(held, 16).bit_count() == 1


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, of util-linux")
async def test_a_normal_users_server_is_his(data_dir: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    os.chown(data_dir, nobody.pw_uid, nobody.pw_gid)
    with run_as_nobody(data_dir) as bot:
        assert bot.stdout is not None
        dsn = bot.stdout.readline().strip()
        assert "host=" in dsn
        pid = postmaster_pid(data_dir)
        assert owner(pid) == nobody.pw_uid
        bot.communicate("")
        assert bot.returncode == 0
    assert not Path(f"/proc/{pid}/exe").exists()
    assert not list(data_dir.glob("postgres/*.tmp"))


@as_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, of util-linux")
async def test_a_normal_user_is_refused_data_of_another(used_dir: Path) -> None:
    subprocess.run(["chown", "-R", "12345:12345", str(used_dir / "postgres")], check=True)
    with run_as_nobody(used_dir) as bot:
        _, said = bot.communicate("")
    assert "belongs to user 12345, this is nobody: run as 12345, or give it away with chown -R" in said
