"""Who may use a data directory, and what is said to those who may not."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tradingbot_agents.ledger.datadir import (
    DataDir,
    DataDirError,
    DataDirForeign,
    DataDirLocked,
    DataDirMismatch,
    is_locked,
    read_identity,
    try_open,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LATER = NOW + timedelta(days=1)
PAPER = {"mode": "paper", "exchange": "simulated", "account": "main", "seed": "7"}

# Takes the lock, says so, and waits to be killed.
HOLD = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from tradingbot_agents.ledger.datadir import DataDir
with DataDir.open(Path(sys.argv[1]), now=datetime(2026, 3, 1, 12, tzinfo=UTC)):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "bots" / "majors"


@pytest.fixture
def other_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_new_directory_is_private_and_marked(path: Path) -> None:
    with DataDir.open(path, now=NOW, identity=PAPER) as data_dir:
        assert data_dir.path == path
        assert data_dir.created == NOW
        assert data_dir.identity == PAPER
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert sorted(entry.name for entry in path.iterdir()) == ["lock", "tradingbot.json"]
    assert {stat.S_IMODE(entry.stat().st_mode) for entry in path.iterdir()} == {0o600}
    marker = json.loads((path / "tradingbot.json").read_text())
    assert marker == {"format": 1, "created": "2026-03-01T12:00:00+00:00", "identity": PAPER}


def test_it_is_reopened_with_what_it_was_made_with(path: Path) -> None:
    DataDir.open(path, now=NOW, identity=PAPER).close()
    with DataDir.open(path, now=LATER, identity=PAPER) as data_dir:
        assert data_dir.created == NOW
        assert data_dir.identity == PAPER


def test_the_first_identity_given_is_kept(path: Path) -> None:
    DataDir.open(path, now=NOW).close()
    assert read_identity(path) == {}
    DataDir.open(path, now=LATER, identity=PAPER).close()
    assert read_identity(path) == PAPER
    with DataDir.open(path, now=LATER) as data_dir:
        assert data_dir.identity == PAPER


@pytest.mark.parametrize(
    ("given", "difference"),
    [
        (PAPER | {"mode": "live"}, "mode is paper there and live now"),
        (PAPER | {"replay": "ab12"}, "replay is (none) there and ab12 now"),
        ({name: value for name, value in PAPER.items() if name != "seed"}, "seed is 7 there and (none) now"),
    ],
)
def test_another_identity_is_refused(path: Path, given: dict[str, str], difference: str) -> None:
    DataDir.open(path, now=NOW, identity=PAPER).close()
    with pytest.raises(DataDirMismatch) as refused:
        DataDir.open(path, now=NOW, identity=given)
    assert difference in str(refused.value)
    assert str(path) in str(refused.value)
    assert "--data-dir" in str(refused.value)
    assert read_identity(path) == PAPER
    assert not is_locked(path)


def test_every_difference_is_named(path: Path) -> None:
    DataDir.open(path, now=NOW, identity=PAPER).close()
    with pytest.raises(DataDirMismatch, match=r"account is main there and x now; seed is 7 there and 8 now"):
        DataDir.open(path, now=NOW, identity=PAPER | {"account": "x", "seed": "8"})


def test_a_second_process_is_refused_with_the_first_ones_name(
    path: Path, other_process: subprocess.Popen[str]
) -> None:
    with pytest.raises(DataDirLocked) as refused:
        DataDir.open(path, now=NOW)
    assert str(refused.value) == (
        f"{path} is in use by process {other_process.pid} (started 2026-03-01T12:00:00+00:00):"
        " stop it, or use another --data-dir"
    )
    assert is_locked(path)
    assert try_open(path, now=NOW) is None


def test_the_lock_of_a_killed_process_is_none(path: Path, other_process: subprocess.Popen[str]) -> None:
    os.kill(other_process.pid, signal.SIGKILL)
    other_process.wait()
    assert not is_locked(path)
    DataDir.open(path, now=NOW).close()


def test_one_process_can_not_open_it_twice(path: Path) -> None:
    with DataDir.open(path, now=NOW), pytest.raises(DataDirLocked, match=f"process {os.getpid()} "):
        DataDir.open(path, now=NOW)
    DataDir.open(path, now=NOW).close()


def test_a_lock_without_a_name_yet(path: Path) -> None:
    DataDir.open(path, now=NOW).close()
    with open(path / "lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(DataDirLocked, match="is in use by another process: stop it"):
            DataDir.open(path, now=NOW)


def test_a_child_process_does_not_inherit_the_lock(path: Path) -> None:
    data_dir = DataDir.open(path, now=NOW)
    with subprocess.Popen(["sleep", "60"], close_fds=False) as child:
        data_dir.close()
        try:
            assert not is_locked(path)
        finally:
            child.kill()


def test_readers_see_a_directory_that_nobody_uses(path: Path) -> None:
    DataDir.open(path, now=NOW, identity=PAPER).close()
    opened = try_open(path, now=LATER)
    assert opened is not None
    with opened:
        assert opened.identity == PAPER


def test_readers_make_nothing(path: Path) -> None:
    assert not is_locked(path)
    assert read_identity(path) is None
    with pytest.raises(DataDirError, match="is no data directory of tradingbot"):
        try_open(path, now=NOW)
    assert not path.exists()


def test_a_foreign_directory_is_refused_and_left_alone(path: Path) -> None:
    path.mkdir(parents=True)
    for name in ("a.txt", "b.txt", "c.txt", "d.txt"):
        (path / name).touch()
    with pytest.raises(DataDirForeign) as refused:
        DataDir.open(path, now=NOW)
    assert str(refused.value) == (
        f"{path} is not a data directory of tradingbot: it has no tradingbot.json, and holds"
        " a.txt, b.txt, c.txt and more: use an empty or a new --data-dir"
    )
    assert len(list(path.iterdir())) == 4


@pytest.mark.parametrize("left", [(), ("lock",), ("lock", "tradingbot.json.0a1b2c3d"), ("lost+found",)])
def test_a_start_that_was_killed_before_its_marker_is_done_again(path: Path, left: tuple[str, ...]) -> None:
    path.mkdir(parents=True)
    for name in left:
        (path / name).touch()
    DataDir.open(path, now=NOW, identity=PAPER).close()
    assert read_identity(path) == PAPER
    assert not list(path.glob("tradingbot.json.*"))


def test_a_file_is_no_directory(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    for wrong in (path, path / "below"):
        with pytest.raises(DataDirError, match=rf"{wrong} is not a directory: use another --data-dir"):
            DataDir.open(wrong, now=NOW)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}', '{"format": 1, "created": "x", "identity": {}}'])
def test_a_damaged_marker_is_refused(path: Path, text: str) -> None:
    DataDir.open(path, now=NOW).close()
    (path / "tradingbot.json").write_text(text)
    with pytest.raises(DataDirError, match=r"tradingbot.json is damaged .*: restore it from a backup"):
        DataDir.open(path, now=NOW)
    assert not is_locked(path)


def test_a_newer_format_is_refused(path: Path) -> None:
    DataDir.open(path, now=NOW).close()
    marker = json.loads((path / "tradingbot.json").read_text())
    (path / "tradingbot.json").write_text(json.dumps(marker | {"format": 2}))
    with pytest.raises(DataDirError, match="has format 2, this release knows up to 1: run the newer release"):
        DataDir.open(path, now=NOW)


def test_a_full_disk_leaves_no_half_marker(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(DataDirError, match=r"No space left on device.*: free some space on its disk"):
            DataDir.open(path, now=NOW, identity=PAPER)
    assert [entry.name for entry in path.iterdir()] == ["lock"]
    DataDir.open(path, now=NOW, identity=PAPER).close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def no_locks(descriptor: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", no_locks)
    with pytest.raises(DataDirError, match="its file system has no locks: use another --data-dir, on a local disk"):
        DataDir.open(path, now=NOW)


def test_a_directory_of_somebody_else_is_refused(data_dir: Path) -> None:
    path = data_dir / "majors"
    path.mkdir(mode=0o555)
    was = os.geteuid()
    if was == 0:
        # Root may write anywhere: be nobody for the moment.
        os.seteuid(65534)
    try:
        with pytest.raises(DataDirError, match=r"Permission denied.*: run as the user it belongs to"):
            DataDir.open(path, now=NOW)
    finally:
        os.seteuid(was)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_what_root_makes_belongs_to_the_directorys_owner(path: Path) -> None:
    path.mkdir(parents=True)
    os.chown(path, 65534, 65534)
    DataDir.open(path, now=NOW).close()
    assert {entry.stat().st_uid for entry in path.iterdir()} == {65534}
