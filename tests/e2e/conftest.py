"""A cluster whose pods run: the one that ``TRADINGBOT_E2E_KUBECONFIG`` names, which has the images, or a node that is
brought up on this machine and taken down again.

``make e2e`` runs these tests, nothing else does: they take minutes, the first time a quarter of an hour, and need
root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.kubernetes import Cluster, a_cluster

REPOSITORY = Path(__file__).resolve().parents[2]
NODE = REPOSITORY / "scripts" / "node" / "node.py"
GIVEN = "TRADINGBOT_E2E_KUBECONFIG"

SYSTEM = "tradingbot-system"
RELEASE = "tradingbot-operator"


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
        pytest.skip(f"a node needs root on Debian: name a cluster with {GIVEN}, see docs/quick-start-kubernetes.md")
    run("bash", REPOSITORY / "scripts" / "servers" / "node.sh")
    archives = run("bash", REPOSITORY / "scripts" / "images" / "build.sh").split()
    try:
        *_, path = run(sys.executable, NODE, "up", *(f"--image={each}" for each in archives)).split()
        yield Path(path)
    finally:
        run(sys.executable, NODE, "down")


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Iterator[Cluster]:
    with a_cluster({**os.environ, "TRADINGBOT_TEST_KUBECONFIG": str(kubeconfig)}) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def operator(cluster: Cluster) -> Iterator[None]:
    """Installed as the quick start says, in a namespace that enforces ``restricted``."""
    make_namespace(cluster, SYSTEM)
    chart = REPOSITORY / "charts" / "tradingbot-operator"
    cluster.helm("install", RELEASE, chart, "--namespace", SYSTEM, "--wait", "--timeout=2m")
    try:
        yield
    finally:
        cluster.helm("uninstall", RELEASE, "--namespace", SYSTEM, "--wait", "--timeout=2m")
        cluster.kubectl("delete", "namespace", SYSTEM, "--timeout=2m")


@pytest.fixture
def trading(cluster: Cluster, operator: None) -> Iterator[str]:
    """A namespace for bots. What was in it at the end is printed, and shown when a test fails."""
    name = f"trading-{uuid.uuid4().hex[:6]}"
    make_namespace(cluster, name)
    yield name
    for words in (("describe", "tradingbots"), ("get", "pods,events", "-o", "wide")):
        print(cluster.kubectl(*words, "-n", name, check=False).out)
    cluster.kubectl("delete", "tradingbots", "--all", "-n", name, "--timeout=2m")
    cluster.kubectl("delete", "namespace", name, "--timeout=2m")


def make_namespace(cluster: Cluster, name: str) -> None:
    cluster.kubectl("create", "namespace", name)
    cluster.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
