"""The real command as a process: started, watched line by line, killed, and cleaned up after.

A killed run leaves its database server behind, as it should: the next start takes it over. Every folder of
``workshop`` ends with no server left in it, whatever happened before.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from support.postgres import scratch_dir
from tradingbot_agents.ledger.embedded import EmbeddedPostgres

COMMAND = Path(sys.executable).with_name("tradingbot")
REPOSITORY = Path(__file__).resolve().parents[2]
CANDLES = REPOSITORY / "examples" / "candles"

LIMIT = 60.0
"""Seconds after which a process that should have ended counts as stuck."""

Json = dict[str, Any]


class Finished(msgspec.Struct, frozen=True):
    code: int
    """As a shell gives it; a signal that ended the process is negative."""
    out: str
    err: str

    @property
    def events(self) -> list[Json]:
        return [json.loads(line) for line in self.out.splitlines() if line.startswith("{")]

    @property
    def report(self) -> Json:
        """The last line of a run with ``--output json``."""
        last = self.events[-1]
        assert last["event"] == "report", self
        report: Json = last["report"]
        return report

    def named(self, event: str) -> list[Json]:
        return [each for each in self.events if each["event"] == event]


class Process:
    """A started command. Its output is read all the time, so that it never waits for us."""

    def __init__(
        self,
        arguments: Sequence[str | Path],
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``environment`` comes on top of our own."""
        self._popen = subprocess.Popen(
            [COMMAND, *map(str, arguments)],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._errors: list[str] = []
        self._news = threading.Condition()
        self._open = 2
        self._readers = [
            threading.Thread(target=self._read, args=(stream, lines), daemon=True)
            for stream, lines in ((self._popen.stdout, self._lines), (self._popen.stderr, self._errors))
        ]
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def lines(self) -> list[str]:
        """What it has printed so far."""
        with self._news:
            return list(self._lines)

    @property
    def output(self) -> str:
        """All of it, for a message."""
        with self._news:
            return "".join(["\n", *self._lines, *self._errors])

    def _read(self, stream: Any, lines: list[str]) -> None:
        for line in stream:
            with self._news:
                lines.append(line)
                self._news.notify_all()
        stream.close()
        with self._news:
            self._open -= 1
            self._news.notify_all()

    def wait_for(self, wanted: Callable[[list[str]], bool], limit: float = LIMIT) -> bool:
        """Until what is printed is as ``wanted``; ``False``: the process ended, or ``limit`` seconds passed."""
        with self._news:
            self._news.wait_for(lambda: wanted(self._lines) or not self._open, limit)
            return wanted(self._lines)

    def wait_for_event(self, event: str, count: int = 1, limit: float = LIMIT) -> bool:
        """Until the event was told so many times."""
        told = f'"event": "{event}"'
        return self.wait_for(lambda lines: sum(1 for line in lines if told in line) >= count, limit)

    def runs_for(self, seconds: float) -> bool:
        """Whether it still runs after so long."""
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> Finished:
        """``kill -9`` of the process; its database server stays."""
        self._popen.kill()
        return self.finish()

    def finish(self, limit: float = LIMIT) -> Finished:
        """Wait for its end."""
        try:
            self._popen.wait(limit)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise AssertionError(f"still running after {limit:g} s:\n{''.join(self._lines + self._errors)}") from None
        for reader in self._readers:
            reader.join()
        return Finished(self._popen.returncode, "".join(self._lines), "".join(self._errors))

    def end(self) -> None:
        """Make sure that it does not run any more."""
        if self._popen.poll() is None:
            self._popen.kill()
        self._popen.wait()
        for reader in self._readers:
            reader.join()


class Workshop:
    """A folder for specs, candles and data directories, and the processes that are started in it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._processes: list[Process] = []

    def start(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Process:
        process = Process(arguments, self.path, environment)
        self._processes.append(process)
        return process

    def run(self, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> Finished:
        """Start the command and wait for its end."""
        return self.start(*arguments, environment=environment).finish()

    def clean(self) -> None:
        for process in self._processes:
            process.end()
        for marker in self.path.rglob("tradingbot.json"):
            asyncio.run(EmbeddedPostgres(marker.parent).stop())


@contextmanager
def workshop() -> Iterator[Workshop]:
    with scratch_dir() as path:
        shop = Workshop(path)
        try:
            yield shop
        finally:
            shop.clean()


def postmaster_of(data_dir: Path) -> int:
    """The process id of the database server of a data directory."""
    return int((data_dir / "postgres" / "data" / "postmaster.pid").read_text().split()[0])


def backends_of(data_dir: Path) -> list[int]:
    """The server's processes that serve a connection."""
    parent = postmaster_of(data_dir)
    children = Path(f"/proc/{parent}/task/{parent}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"tradingbot tradingbot" in Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ")
    ]


def wait_until(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Until something outside of the process is so."""
    deadline = time.monotonic() + limit
    waiting = threading.Event()
    while not condition():
        assert time.monotonic() < deadline, "it did not come to it in time"
        waiting.wait(0.01)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
