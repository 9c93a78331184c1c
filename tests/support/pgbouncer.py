"""A real PgBouncer in transaction mode: each transaction gets another server connection, and no session lasts."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.postgres import scratch_dir
from support.system_postgres import LIMIT, as_user, free_port, give_away, wait_for

NO_PGBOUNCER = "no PgBouncer: run 'make servers'"

USER = "tradingbot"
PASSWORD = "s3cret-of-the-pooler"


def find_pgbouncer() -> Path | None:
    found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")
    return None if found is None else Path(found)


class PgBouncer:
    def __init__(self, program: Path, home: Path, socket_dir: Path) -> None:
        """``socket_dir``: of the server's Unix socket."""
        self.port = free_port()
        self._program = program
        self._home = home
        self._socket_dir = socket_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **settings: str) -> None:
        users = self._home / "users.txt"
        users.write_text(f'"{USER}" "{PASSWORD}"\n')
        wanted = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "scram-sha-256",
            "auth_file": str(users),
            # After a login that the server refused.
            "server_login_retry": "1",
            "pool_mode": "transaction",
            # The connection that was idle longest comes next, so that two transactions in a row seldom share one.
            "server_round_robin": "1",
            "default_pool_size": "4",
            "min_pool_size": "3",
            **settings,
        }
        lines = ["[databases]", f"* = host={self._socket_dir} port=5432", "[pgbouncer]"]
        configuration = self._home / "pgbouncer.ini"
        configuration.write_text("\n".join([*lines, *(f"{name} = {value}" for name, value in wanted.items()), ""]))
        log = self._home / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._program, configuration],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd="/",
                start_new_session=True,
                **as_user(),
            )
        process = self._process

        def up() -> bool:
            assert process.poll() is None, f"PgBouncer ended at its start: {log.read_text()[-2000:]}"
            return "process up" in log.read_text()

        wait_for(up, "PgBouncer does not start")

    def stop(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(LIMIT)
            self._process = None

    def url(self, dsn: str) -> str:
        """The way through here to a database whose own address is ``dsn``."""
        database = dsn.partition("?")[0].rpartition("/")[2]
        return f"postgresql://{USER}:{PASSWORD}@127.0.0.1:{self.port}/{database}"


@contextmanager
def running_pgbouncer(program: Path, dsn: str, **settings: str) -> Iterator[PgBouncer]:
    """One before the server of ``dsn``, started and stopped at the end."""
    socket_dir = Path(dsn.partition("host=")[2].partition("&")[0])
    with scratch_dir() as home:
        give_away(home)
        bouncer = PgBouncer(program, home, socket_dir)
        bouncer.start(**settings)
        try:
            yield bouncer
        finally:
            bouncer.stop()
