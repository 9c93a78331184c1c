"""The data directory: whose it is, what it is for, and who uses it now.

One process at a time may trade from a data directory. The lock is that process's own and the kernel's (flock): it
ends with the process however that ends, while a database server that it leaves behind may be taken over. The
marker file keeps a directory that is not ours from being filled, and a run from going on with another run's money.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tradingbot_agents.ledger.port import LedgerError

FORMAT = 1
"""Of the directory's layout. A release refuses a higher one."""

_LOCK = "lock"
_MARKER = "tradingbot.json"

# What an empty directory may hold: a start that was killed before its marker, and a fresh volume's own folder.
_NOTHING = (_LOCK, "lost+found")

# A reader that looks whether the directory is locked holds the lock for a moment.
_TRIES = 5
_PAUSE = 0.02

_ANOTHER = "or use another --data-dir"

_REMEDIES = {
    errno.ENOSPC: f"free some space on its disk, {_ANOTHER}",
    errno.EDQUOT: f"free some space of your quota, {_ANOTHER}",
    errno.EROFS: f"mount it writable, {_ANOTHER}",
    errno.EACCES: f"run as the user it belongs to, {_ANOTHER}",
    errno.EPERM: f"run as the user it belongs to, {_ANOTHER}",
    errno.ENOLCK: "its file system has no locks: use another --data-dir, on a local disk",
    errno.EOPNOTSUPP: "its file system has no locks: use another --data-dir, on a local disk",
}


class DataDirError(LedgerError):
    """The directory can not be used; the message has its path, why, and what to do."""


class DataDirLocked(DataDirError):
    """Another process uses it now."""


class DataDirForeign(DataDirError):
    """It has content and is not ours."""


class DataDirMismatch(DataDirError):
    """It belongs to another run: another mode, account, exchange, candles or seed."""


class DataDir:
    """A data directory that this process has the lock of, until ``close`` or the end of the ``with`` block."""

    def __init__(self, path: Path, lock: int, created: datetime, identity: Mapping[str, str]) -> None:
        self.path = path
        self.created = created
        """When it was first used, aware UTC."""
        self.identity = identity
        self._lock: int | None = lock

    @classmethod
    def open(cls, path: Path, *, now: datetime, identity: Mapping[str, str] | None = None) -> DataDir:
        """Take the directory, creating it (0700) if there is none.

        ``identity`` is what the run is (mode, exchange, account, candles, seed): kept at the first use that gives
        one, and compared by each later use that gives one.

        Raises DataDirLocked, DataDirForeign, DataDirMismatch, DataDirError.
        """
        path = path.absolute()
        with _explained(path):
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            _refuse_foreign(path)
            lock = _lock(path, now)
        try:
            with _explained(path):
                marker = _read_marker(path)
                if marker is None or (identity and not marker.identity):
                    marker = _Marker(now if marker is None else marker.created, dict(identity or {}))
                    _write_marker(path, marker)
            if identity is not None:
                _refuse_other_identity(path, marker.identity, identity)
        except BaseException:
            os.close(lock)
            raise
        return cls(path, lock, marker.created, marker.identity)

    def close(self) -> None:
        """Let the directory go. Safe to repeat."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def try_open(path: Path, *, now: datetime) -> DataDir | None:
    """For readers: the directory, which must be ours; None while another process uses it.

    A reader may then use that process's database (``EmbeddedPostgres.running_dsn``).

    Raises DataDirError.
    """
    if read_identity(path) is None:
        raise DataDirError(f"{path} is no data directory of tradingbot: look at the path, {_ANOTHER}")
    try:
        return DataDir.open(path, now=now)
    except DataDirLocked:
        return None


def is_locked(path: Path) -> bool:
    """Whether a process uses the directory now. Changes nothing. Raises DataDirError."""
    with _explained(path):
        try:
            descriptor = os.open(path / _LOCK, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


def read_identity(path: Path) -> Mapping[str, str] | None:
    """What the directory's run is, also while it is in use; None if it is not ours. Raises DataDirError."""
    with _explained(path):
        marker = _read_marker(path)
    return None if marker is None else marker.identity


@dataclass(frozen=True)
class _Marker:
    created: datetime
    identity: dict[str, str]


def _refuse_foreign(path: Path) -> None:
    entries = [name for name in os.listdir(path) if name not in _NOTHING and not name.startswith(_MARKER)]
    # After the listing: a start at the same moment writes its marker before anything else.
    if entries and not (path / _MARKER).exists():
        raise DataDirForeign(
            f"{path} is not a data directory of tradingbot: it has no {_MARKER}, and holds"
            f" {', '.join(sorted(entries)[:3])}{' and more' if len(entries) > 3 else ''}:"
            " use an empty or a new --data-dir"
        )


def _lock(path: Path, now: datetime) -> int:
    descriptor = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        for left in reversed(range(_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if left:
                    time.sleep(_PAUSE)
        else:
            raise DataDirLocked(f"{path} is in use by {_holder(descriptor)}: stop it, {_ANOTHER}")
        _give_to_owner(path, descriptor)
        content = json.dumps({"pid": os.getpid(), "started": _text(now)}).encode()
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, content, 0)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _holder(descriptor: int) -> str:
    try:
        content = json.loads(os.pread(descriptor, 1000, 0))
        return f"process {content['pid']} (started {content['started']})"
    except (ValueError, KeyError, TypeError):
        # It has the lock and has not written its name yet.
        return "another process"


def _read_marker(path: Path) -> _Marker | None:
    file = path / _MARKER
    try:
        text = file.read_bytes()
    except FileNotFoundError:
        return None
    try:
        content: dict[str, Any] = json.loads(text)
        number = int(content["format"])
        marker = _Marker(datetime.fromisoformat(content["created"]), dict(content["identity"]))
    except (ValueError, KeyError, TypeError) as error:
        raise DataDirError(f"{file} is damaged ({error!r}): restore it from a backup, {_ANOTHER}") from error
    if number > FORMAT:
        raise DataDirError(
            f"{path} has format {number}, this release knows up to {FORMAT}: run the newer release that made it,"
            f" {_ANOTHER}"
        )
    return marker


def _write_marker(path: Path, marker: _Marker) -> None:
    """All of it or nothing, and on disk before anything else is: what comes after rests on it."""
    content = {"format": FORMAT, "created": _text(marker.created), "identity": marker.identity}
    for leftover in path.glob(f"{_MARKER}.*"):
        leftover.unlink()
    temporary = path / f"{_MARKER}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            _give_to_owner(path, descriptor)
            file.write(json.dumps(content, indent=2, sort_keys=True) + "\n")
            file.flush()
            os.fsync(descriptor)
        temporary.rename(path / _MARKER)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_other_identity(path: Path, kept: Mapping[str, str], given: Mapping[str, str]) -> None:
    differences = [
        f"{name} is {kept.get(name, '(none)')} there and {given.get(name, '(none)')} now"
        for name in sorted({*kept, *given})
        if kept.get(name) != given.get(name)
    ]
    if differences:
        raise DataDirMismatch(
            f"{path} belongs to another run: {'; '.join(differences)}: go back to what it was made with, {_ANOTHER}"
        )


def _give_to_owner(path: Path, descriptor: int) -> None:
    """Root may prepare a directory for another user, who must be able to go on without root."""
    owner = path.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def _text(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileExistsError, NotADirectoryError) as error:
        raise DataDirError(f"{path} is not a directory: use another --data-dir") from error
    except OSError as error:
        what = error.strerror or str(error)
        where = "" if error.filename in (None, str(path)) else f" at {error.filename}"
        remedy = _REMEDIES.get(error.errno or 0, "use another --data-dir")
        raise DataDirError(f"{path} can not be used ({what}{where}): {remedy}") from error
