"""A real RabbitMQ for a test session. Each test has a bot of its own on it, and leaves nothing.

Taken from the environment (``TRADINGBOT_RABBITMQ_URL``); else started from what is installed, and, for root, also
from the cache that ``make servers`` fills, so that the bus is tested on both versions.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

INSTALLED = "installed"
NEXT = "4.0"
VERSIONS = (INSTALLED, NEXT)
NEXT_AND_THEN_ALL = [NEXT, pytest.param(INSTALLED, marks=pytest.mark.minutes)]
"""For tests that take long: every day the version that the operator brings."""

LIMIT = 60.0
"""Seconds for a start: the machine may be busy."""

NO_RABBITMQ = "no RabbitMQ: run 'make servers', or set TRADINGBOT_RABBITMQ_URL"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _make_certificate(certificate: Path, key: Path) -> None:
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=tests"),
            *("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)),
        ],
        check=True,
        capture_output=True,
    )


class RabbitServer:
    """One of our own. ``kill`` and ``start`` again keep its data and its address."""

    def __init__(
        self,
        home: Path,
        sbin: Path,
        root: Path | None,
        *,
        tls: bool,
        files: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """``sbin`` is where its programs are; ``root`` a root file system to run in, or ``None``. ``home`` is an
        empty folder of its own, within ``root``. ``tls``: also listen with a certificate of its own. ``files``: what
        ``/etc/rabbitmq`` holds beside ``rabbitmq.conf``, by path below it. ``environment``: instead of what it is
        started with else."""
        self.port, self.distribution_port = _free_port(), _free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        self._root = root
        self._sbin = sbin
        self._real_home = home
        inside = home if root is None else Path("/") / home.relative_to(root)
        settings = ["log.console.level = warning"]
        if tls:
            self.tls_port = _free_port()
            self.certificate = home / "certificate.pem"
            _make_certificate(self.certificate, home / "key.pem")
            settings += [
                f"listeners.ssl.1 = 127.0.0.1:{self.tls_port}",
                f"ssl_options.cacertfile = {inside}/certificate.pem",
                f"ssl_options.certfile = {inside}/certificate.pem",
                f"ssl_options.keyfile = {inside}/key.pem",
            ]
        (home / "rabbitmq.conf").write_text("\n".join([*settings, ""]))
        for name, content in (files or {}).items():
            file = home / "etc" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
            # As a mounted ConfigMap is.
            file.chmod(0o440)
        self._environment = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(inside),
            "RABBITMQ_HOME": str(sbin.parent),
            "RABBITMQ_NODENAME": "tests@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "ERL_EPMD_PORT": str(_free_port()),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": str(inside / "db"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONFIG_FILE": str(inside / "rabbitmq.conf"),
            "RABBITMQ_CONF_ENV_FILE": str(inside / "none"),
            "RABBITMQ_CONFIG_FILES": str(inside / "etc" / "conf.d"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(inside / "etc" / "enabled_plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none",
            **(environment or {}),
        }
        self._epmd: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Does nothing while it runs; on return it answers."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._root is None and self._epmd is None:
            # As a child: the one that Erlang starts by itself outlives its server.
            self._epmd = subprocess.Popen(
                [shutil.which("epmd", path=self._environment["PATH"]) or "epmd"], env=self._environment
            )
        log = self._real_home / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [*self._prefix(), str(self._sbin / "rabbitmq-server")],
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        waiting = threading.Event()
        deadline = time.monotonic() + LIMIT
        while not self._answers():
            assert self._process.poll() is None, f"RabbitMQ ended at its start: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"RabbitMQ does not answer: {log.read_text()[-2000:]}"
            waiting.wait(0.05)

    def kill(self) -> None:
        """As a power cut does."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(LIMIT)
            self._process = None

    def freeze(self) -> None:
        """It keeps its connections, and does nothing."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        os.killpg(self._process.pid, number)

    def stop(self) -> None:
        self.kill()
        if self._epmd is not None:
            self._epmd.kill()
            self._epmd.wait(LIMIT)
            self._epmd = None

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl``; what it prints."""
        done = subprocess.run(
            [
                *(() if self._root is None else ("chroot", str(self._root))),
                str(self._sbin / "rabbitmqctl"),
                *arguments,
            ],
            env=self._environment,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )
        assert done.returncode == 0, (done.stdout + done.stderr).decode()
        return done.stdout.decode()

    def _prefix(self) -> list[str]:
        if self._root is None:
            return []
        return [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", f"--mount-proc={self._root}/proc"),
            *("chroot", str(self._root)),
        ]

    def _answers(self) -> bool:
        """A server that is up answers a header that it does not know with its own, and closes."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                probe.settimeout(5)
                probe.sendall(b"PING\x00\x00\x00\x00")
                return probe.recv(4) == b"AMQP"
        except OSError:
            return False


def _found(version: str) -> tuple[Path, Path | None] | None:
    """Where the programs of a version are, and the root file system that they need."""
    if version == INSTALLED:
        # Not the wrapper on the PATH: it insists on a user and on folders of its own.
        folders = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
        if folders:
            return folders[-1], None
        program = shutil.which("rabbitmq-server")
        return (Path(program).resolve().parent, None) if program else None
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    root = Path(os.environ.get("TRADINGBOT_SERVERS") or cache / "tradingbot-servers") / f"rabbitmq-{version}"
    folders = sorted((root / "usr/lib/rabbitmq/lib").glob("rabbitmq_server-*/sbin"))
    if not folders or os.geteuid() != 0:
        return None
    return Path("/") / folders[-1].relative_to(root), root


def missing(version: str) -> str | None:
    """Why tests on a version can not run, or ``None``."""
    if _found(version) is not None:
        return None
    return NO_RABBITMQ if version == INSTALLED else f"no RabbitMQ {version}: run 'make servers' as root"


@contextmanager
def running_rabbitmq(
    version: str,
    *,
    tls: bool = False,
    files: Mapping[str, str] | None = None,
    environment: Mapping[str, str] | None = None,
) -> Iterator[RabbitServer]:
    """A started server of its own, see ``RabbitServer``; skips the test when there is none to start."""
    found = _found(version)
    if found is None:
        pytest.skip(missing(version) or NO_RABBITMQ)
    sbin, root = found
    with tempfile.TemporaryDirectory(prefix="tb-rabbit-", dir=None if root is None else root / "var/lib") as home:
        server = RabbitServer(Path(home), sbin, root, tls=tls, files=files, environment=environment)
        try:
            server.start()
            yield server
        finally:
            server.stop()


def rabbitmq_of_the_environment(environment: Mapping[str, str] = os.environ) -> str | None:
    return environment.get("TRADINGBOT_RABBITMQ_URL") or None
