"""A cluster whose pods run: the one that ``TRADINGBOT_E2E_KUBECONFIG`` names, which has the images, or a node that is
brought up on this machine and taken down again.

``make e2e`` runs these tests, nothing else does: they take minutes, the first time a quarter of an hour, and need
root. Of a test that has failed, what the cluster tells is kept in the folder of ``TRADINGBOT_E2E_LOGS``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import urllib3

from support.kubernetes import Cluster, Refused, a_cluster
from support.on_a_node import CHART, RELEASE, SYSTEM, Figures, Namespace
from support.process import REPOSITORY

NODE = REPOSITORY / "scripts" / "node" / "node.py"
GIVEN = "TRADINGBOT_E2E_KUBECONFIG"
KEPT = Path(os.environ.get("TRADINGBOT_E2E_LOGS") or Path(tempfile.gettempdir()) / "tradingbot-e2e")


def run(*words: str | Path) -> str:
    """What it prints; what it says goes to the terminal."""
    done = subprocess.run([*words], stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}: {done.returncode}\n{done.stdout}"
    return done.stdout


@pytest.fixture(scope="session")
def kubeconfig() -> Iterator[Path]:
    given = os.environ.get(GIVEN)
    if given:
        yield Path(given).absolute()
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip(f"a node needs root on Debian: name a cluster with {GIVEN}, see docs/quickstart-kubernetes.md")
    run("bash", REPOSITORY / "scripts" / "servers" / "node.sh")
    denied = subprocess.run([sys.executable, NODE, "can"], stderr=subprocess.PIPE, text=True, check=False)
    if denied.returncode:
        pytest.skip(f"{denied.stderr.strip()}; name a cluster with {GIVEN}")
    archives = run("bash", REPOSITORY / "scripts" / "images" / "build.sh").split()
    # One that is up already is somebody's: it is left alone, and refused.
    *_, path = run(sys.executable, NODE, "up", "--fresh", *(f"--image={each}" for each in archives)).split()
    try:
        yield Path(path)
    finally:
        run(sys.executable, NODE, "down")


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    with a_cluster({**os.environ, "TRADINGBOT_TEST_KUBECONFIG": str(kubeconfig)}) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def operator(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """Installed as the quick start says, in a namespace that enforces ``restricted``."""
    with _namespace(cluster, SYSTEM, request) as namespace:
        cluster.helm("install", RELEASE, CHART, "--namespace", SYSTEM, "--wait", "--timeout=2m")
        yield namespace
        cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout=2m")


@pytest.fixture
def trading(cluster: Cluster, operator: Namespace, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace for bots."""
    with _trading(cluster, request) as namespace:
        yield namespace


@pytest.fixture(scope="module")
def floor(cluster: Cluster, operator: Namespace, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    """A namespace for bots that a module's tests share."""
    with _trading(cluster, request) as namespace:
        yield namespace


@contextmanager
def _trading(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    with _namespace(cluster, f"trading-{uuid.uuid4().hex[:6]}", request) as namespace:
        yield namespace
        # Block and Flatten would wait for positions.
        namespace.kubectl("annotate", "tradingbots", "--all", "tradingbot.dev/abandon=true", "--overwrite")
        namespace.kubectl("delete", "tradingbots", "--all", "--timeout=100s")


@contextmanager
def _namespace(cluster: Cluster, name: str, request: pytest.FixtureRequest) -> Iterator[Namespace]:
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    namespace = Namespace(cluster, name)
    try:
        yield namespace
    finally:
        cluster.kubectl("delete", "namespace", name, "--timeout=100s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Before anything of a failed test's is taken down, what there is to know is written down."""
    report = yield
    if report.failed and call.when in ("setup", "call"):
        cluster = getattr(item, "funcargs", {}).get("cluster") or item.session.stash.get(_CLUSTER, None)
        if isinstance(cluster, Cluster):
            try:
                kept = str(keep(cluster, item.name))
            except (AssertionError, Refused, urllib3.exceptions.HTTPError) as error:
                # The cluster may be what has failed.
                kept = f"not all: {error}"
            report.sections.append(("kept", kept))
    return report


_CLUSTER = pytest.StashKey[Cluster]()
_FIGURES = pytest.StashKey[Figures]()


@pytest.fixture(scope="session")
def figures(request: pytest.FixtureRequest) -> Figures:
    return request.config.stash.setdefault(_FIGURES, Figures())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash.get(_FIGURES, None)
    if measured is not None:
        terminalreporter.section("measured")
        for line in measured.lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session", autouse=True)
def _remembered(cluster: Cluster, request: pytest.FixtureRequest) -> None:
    request.session.stash[_CLUSTER] = cluster


def keep(cluster: Cluster, test: str) -> Path:
    """Objects, events and logs of every namespace of ours; where they are."""
    folder = KEPT / test
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    names = [each["metadata"]["name"] for each in cluster.api.list("v1/namespaces")]
    for name in names:
        if not name.startswith(("trading-", SYSTEM)):
            continue
        for file, words in {
            "described": ("describe", "tradingbots,pods,jobs,cronjobs"),
            "events": ("get", "events", "--sort-by=.lastTimestamp", "-o", "wide"),
            "objects": ("get", "all,configmaps,persistentvolumeclaims,networkpolicies", "-o", "wide"),
            "bots": ("get", "tradingbots", "-o", "yaml"),
        }.items():
            (folder / f"{name}-{file}.txt").write_text(cluster.kubectl(*words, "-n", name, check=False).out)
        for pod in cluster.api.list("v1/pods", name):
            pod_name = pod["metadata"]["name"]
            for suffix, more in (("", ()), ("-before", ("--previous",))):
                told = cluster.kubectl("logs", pod_name, "-n", name, "--all-containers", *more, check=False)
                if told.out:
                    (folder / f"{name}-{pod_name}{suffix}.log").write_text(told.out)
    return folder
