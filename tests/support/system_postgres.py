"""PostgreSQL as others run it: the system's own programs, over TCP, with a password, with TLS, with a standby.

The wheel's server speaks no TLS. Found on the PATH or where Debian puts it; a test that finds none skips.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.postgres import FAST, scratch_dir

NO_POSTGRES = "no PostgreSQL of the system (initdb, postgres, pg_basebackup): run 'make servers'"

USER = "tradingbot"
PASSWORD = "s3cret-of-the-ledger"

LIMIT = 60.0
"""Seconds for a start: the machine may be busy."""


def find_programs() -> Path | None:
    """The folder of PostgreSQL's programs; the newest of Debian's, else the one on the PATH."""
    debians = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[-3]))
    found = debians[-1] if debians else shutil.which("postgres")
    if found is None:
        return None
    folder = Path(found).resolve().parent
    return folder if all((folder / name).exists() for name in ("initdb", "pg_basebackup")) else None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def as_user() -> dict[str, Any]:
    """Popen's options: servers refuse to be root."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": ()}


def give_away(path: Path) -> None:
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(path, nobody.pw_uid, nobody.pw_gid)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    waiting = threading.Event()
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, what
        waiting.wait(0.02)


class SystemPostgres:
    """One server on loopback, which lets in ``USER`` with ``PASSWORD`` (a superuser) and nobody else."""

    def __init__(self, programs: Path, home: Path, name: str = "primary") -> None:
        self.port = free_port()
        self.home = home
        self._programs = programs
        self._cluster = home / name
        self._log = home / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None

    def create(self) -> None:
        secret = self.home / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        self._run("initdb", f"--pgdata={self._cluster}", f"--username={USER}", f"--pwfile={secret}", "--no-sync",
                  "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C")  # fmt: skip

    def follow(self, primary: SystemPostgres) -> None:
        """Become its standby."""
        self._run("pg_basebackup", f"--pgdata={self._cluster}", f"--dbname={primary.url()}", "--no-sync",
                  "--checkpoint=fast", "--write-recovery-conf")  # fmt: skip

    def start(self, settings: Mapping[str, str] | None = None) -> None:
        wanted = {
            **FAST,
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            **(settings or {}),
        }
        options = [part for name, value in wanted.items() for part in ("-c", f"{name}={value}")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._cluster, *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                **as_user(),
            )
        wait_for(self._ready, f"PostgreSQL does not start: {self._log.read_text()[-2000:]}")

    def kill(self) -> None:
        """At once, as a lost machine: nobody says goodbye."""
        self._end(signal.SIGQUIT)

    def stop(self) -> None:
        self._end(signal.SIGINT)

    def promote(self) -> None:
        """The standby takes writes from now on."""
        self._run("pg_ctl", "promote", f"--pgdata={self._cluster}", "--wait")

    def url(
        self, database: str = "postgres", *, password: str = PASSWORD, host: str = "127.0.0.1", **more: str
    ) -> str:
        query = "&".join(f"{name}={value}" for name, value in more.items())
        return f"postgresql://{USER}:{password}@{host}:{self.port}/{database}{f'?{query}' if query else ''}"

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"PostgreSQL ended at its start: {self._log.read_text()[-2000:]}"
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self._process.pid) and lines[7].strip() in ("ready", "standby")

    def _end(self, number: int) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(LIMIT)
            self._process = None

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments], capture_output=True, text=True, cwd="/", check=False, **as_user()
        )
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def system_server(programs: Path, settings: Mapping[str, str] | None = None) -> Iterator[SystemPostgres]:
    """Created, started, and stopped at the end."""
    with scratch_dir() as path:
        give_away(path)
        server = SystemPostgres(programs, path)
        server.create()
        server.start(settings)
        try:
            yield server
        finally:
            server.kill()
