"""A real InfluxDB v2 for a test session, and a fresh bucket for each test that asks.

Taken from the environment (``TRADINGBOT_INFLUX_URL``, ``TRADINGBOT_INFLUX_TOKEN``, ``TRADINGBOT_INFLUX_ORG``), else
started from the cache that ``make servers`` fills, else from the PATH.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

VERSION = "v2.7.12"
LIMIT = 30.0
"""Seconds for a start or a stop."""


def find_influxd() -> Path | None:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("TRADINGBOT_SERVERS") or home / "tradingbot-servers")
    built = cache / "influxdb" / f"influxd-{VERSION}"
    if built.exists():
        return built
    found = shutil.which("influxd")
    return Path(found) if found else None


class Influx:
    """A server that runs."""

    def __init__(self, url: str, token: str, organization: str) -> None:
        self.url = url
        self.token = token
        self.organization = organization

    def new_bucket(self) -> str:
        name = f"tests-{uuid.uuid4().hex}"
        [organization] = self.ask("GET", f"/api/v2/orgs?org={self.organization}")["orgs"]
        self.ask("POST", "/api/v2/buckets", {"name": name, "orgID": organization["id"]})
        return name

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        content = self._ask(method, path, None if body is None else json.dumps(body).encode())
        return json.loads(content) if content else None

    def write(self, bucket: str, lines: str) -> None:
        """Line protocol, with times in seconds."""
        query = urllib.parse.urlencode({"org": self.organization, "bucket": bucket, "precision": "s"})
        self._ask("POST", f"/api/v2/write?{query}", lines.encode())

    def _ask(self, method: str, path: str, content: bytes | None) -> bytes:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=content,
            headers={"Authorization": f"Token {self.token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=LIMIT) as answer:
            return bytes(answer.read())


class InfluxServer(Influx):
    """One of our own. ``stop`` and ``start`` again keep its data and its address."""

    def __init__(self, program: Path, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self._port = probe.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{self._port}", "a-token-of-the-tests", "tests")
        self._program = program
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            [
                self._program,
                "run",
                f"--bolt-path={self._folder}/influxd.bolt",
                f"--sqlite-path={self._folder}/influxd.sqlite",
                f"--engine-path={self._folder}/engine",
                f"--http-bind-address=127.0.0.1:{self._port}",
                "--reporting-disabled",
                "--log-level=error",
            ],
            cwd=self._folder,
            env={**os.environ, "HOME": str(self._folder)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        waiting = threading.Event()
        deadline = time.monotonic() + LIMIT
        while not self._answers():
            assert self._process.poll() is None, "influxd ended at its start"
            assert time.monotonic() < deadline, "influxd does not answer"
            waiting.wait(0.02)

    def set_up(self) -> None:
        self.ask(
            "POST",
            "/api/v2/setup",
            {
                "username": "tests",
                "password": "a-password-of-the-tests",
                "org": self.organization,
                "bucket": "unused",
                "token": self.token,
            },
        )

    def send(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: signal.Signals = signal.SIGINT) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(LIMIT)
            self._process = None

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/health", timeout=1) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False


def influx_of_the_environment() -> Influx | None:
    url = os.environ.get("TRADINGBOT_INFLUX_URL")
    if not url:
        return None
    return Influx(url.rstrip("/"), os.environ["TRADINGBOT_INFLUX_TOKEN"], os.environ["TRADINGBOT_INFLUX_ORG"])


@contextmanager
def running_influxd(program: Path) -> Iterator[InfluxServer]:
    folder = Path(tempfile.mkdtemp(prefix="tb-influx-"))
    server = InfluxServer(program, folder)
    try:
        server.start()
        server.set_up()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder)
