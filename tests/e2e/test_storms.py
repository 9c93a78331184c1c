"""What is killed again and again while two bots trade: nothing is lost, nothing is there twice, and they trade again.

``make e2e-full`` runs these. Who is killed, and when, follows from a seed, which is told; ``TRADINGBOT_E2E_SEED``
runs one again, though the cluster's own order of things is never the same twice.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest
import urllib3

from support.kubernetes import Json, Refused
from support.on_a_node import AGENTS, SYSTEM, Figures, Namespace, is_ready
from support.process import REPOSITORY
from support.trading_floor import Floor

pytestmark = [pytest.mark.e2e, pytest.mark.storms, pytest.mark.timeout(3600)]

SEED = int(os.environ.get("TRADINGBOT_E2E_SEED") or time.time())

BACK = 30.0
"""Seconds from the last kill of a pod to trading."""
ROUNDS = 3
"""How often each pod is killed."""
BACK_OFF = 120.0
"""Seconds that the kubelet, and the API server after its own restart, may add to that."""

NODE = REPOSITORY / "scripts" / "node" / "node.py"
DAEMONS = (
    "kubelet",
    "containerd",
    "kube-apiserver",
    "etcd",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
)


class Victim:
    """A pod that is always there, under another name each time."""

    def __init__(self, namespace: Namespace, what: str, selector: str) -> None:
        self.what = what
        self.namespace = namespace
        self._selector = selector

    def pods(self) -> list[Json]:
        return self.namespace.items("v1/pods", self._selector)

    def kill(self, *, at_once: bool) -> set[str]:
        """The pods that were there, by uid. ``at_once``: the API server forgets them before they have ended, as it
        does when a node is lost."""
        pods = self.pods()
        grace = ("--grace-period=0", "--force") if at_once else ()
        for pod in pods:
            self.namespace.kubectl("delete", "pod", pod["metadata"]["name"], "--wait=false", *grace, check=False)
        return {pod["metadata"]["uid"] for pod in pods}

    def is_back(self, without: set[str]) -> bool:
        """Another is there, and ready."""
        pods = self.pods()
        return bool(pods) and all(pod["metadata"]["uid"] not in without and is_ready(pod) for pod in pods)


@pytest.fixture(scope="module")
def both(floor: Namespace, figures: Figures) -> Floor:
    figures.note(f"storms: TRADINGBOT_E2E_SEED={SEED}")
    made = Floor(floor)
    made.start()
    return made


@pytest.fixture
def victims(both: Floor, operator: Namespace) -> list[Victim]:
    of_bots = [
        Victim(
            both.namespace,
            f"{bot.name}'s {component}",
            f"tradingbot.dev/bot={bot.name},app.kubernetes.io/component={component}",
        )
        for bot in both.bots
        for component in (*AGENTS, "rabbitmq", "influxdb")
    ]
    return [
        *of_bots,
        Victim(both.namespace, "the database", "app.kubernetes.io/component=postgres"),
        Victim(operator, "the operator", f"app.kubernetes.io/name={SYSTEM.removesuffix('-system')}-operator"),
    ]


@pytest.fixture(autouse=True)
def _books(both: Floor) -> Iterator[None]:
    """Whatever was done: volumes are the same, and the books agree."""
    before = volumes(both.namespace)
    yield
    assert volumes(both.namespace) == before
    both.trades_again(180)
    both.settle()
    both.compare()
    both.go_on()


def volumes(namespace: Namespace) -> dict[str, str]:
    return {
        claim["metadata"]["name"]: claim["spec"].get("volumeName", "")
        for claim in namespace.items("v1/persistentvolumeclaims")
    }


def back(both: Floor, killed: dict[Victim, set[str]], since: float, limit: float = BACK) -> float:
    """Seconds since then until everything that was killed is ready and both trade; fails after ``limit``."""
    both.namespace.until(
        lambda: all(victim.is_back(pods) for victim, pods in killed.items()),
        f"{', '.join(victim.what for victim in killed)} back",
        limit - (time.monotonic() - since),
    )
    both.trade(max(limit - (time.monotonic() - since), 0.1))
    return time.monotonic() - since


def test_each_pod_alone(both: Floor, victims: list[Victim], figures: Figures) -> None:
    """How long each takes."""
    took: dict[str, list[float]] = defaultdict(list)
    for victim in victims:
        since = time.monotonic()
        killed = {victim: victim.kill(at_once=False)}
        took[victim.what.partition("'s ")[2] or victim.what].append(back(both, killed, since))
    for what, seconds in took.items():
        figures.note(f"back to trading after {what} was killed: {', '.join(f'{each:.1f}' for each in seconds)} s")


def test_many_pods_at_any_moment(both: Floor, victims: list[Victim], figures: Figures) -> None:
    """One to four at once, the next before or after those are back."""
    chance = random.Random(SEED)
    todo = victims * ROUNDS
    chance.shuffle(todo)
    took: list[float] = []
    killed: dict[Victim, set[str]] = {}
    while todo:
        since = time.monotonic()
        for _ in range(chance.randint(1, 4)):
            if todo:
                victim = todo.pop()
                killed[victim] = killed.get(victim, set()) | victim.kill(at_once=chance.random() < 0.5)
        if todo and chance.random() < 0.6:
            until = time.monotonic() + chance.uniform(0, 8)
            both.namespace.until(lambda until=until: time.monotonic() > until, "the next", 10)
            continue
        took.append(back(both, killed, since))
        killed = {}
    figures.note(
        f"back to trading after the last kill of {len(took)} storms: median {median(took):.1f}, at most"
        f" {max(took):.1f} s"
    )


def test_everything_at_once(both: Floor, victims: list[Victim], figures: Figures) -> None:
    since = time.monotonic()
    killed = {victim: victim.kill(at_once=True) for victim in victims}
    figures.note(f"back to trading after every pod was killed at once: {back(both, killed, since):.1f} s")


@pytest.fixture
def node(kubeconfig: Path) -> Callable[[str], None]:
    """Kills a daemon of the node that ``scripts/node/node.py`` has brought up."""
    if kubeconfig != Path(run_node("kubeconfig").strip()):
        pytest.skip("the daemons of a cluster that was given are its owner's")

    def kill(daemon: str) -> None:
        run_node("restart", daemon)

    return kill


def run_node(*words: str) -> str:
    return subprocess.run([sys.executable, NODE, *words], stdout=subprocess.PIPE, text=True, check=True).stdout


def test_the_node_s_daemons(both: Floor, node: Callable[[str], None], figures: Figures) -> None:
    """While they are away, nobody sees what happens; no container of the bots' is restarted for it."""
    before = {bot.name: bot.starts() for bot in both.bots}
    for daemon in DAEMONS:
        since = time.monotonic()
        node(daemon)
        answers(both, daemon)
        both.trade(BACK_OFF)
        both.trades_again(BACK_OFF)
        figures.note(f"a trade after {daemon} was killed: {time.monotonic() - since:.1f} s")
    assert {bot.name: bot.starts() for bot in both.bots} == before


STEADY = 3
"""Answers in a row: the API server may answer once more before it notices that etcd is gone."""


def answers(both: Floor, daemon: str) -> None:
    good = 0

    def asked() -> bool:
        nonlocal good
        try:
            ready = both.namespace.cluster.kubectl("get", "--raw", "/readyz", check=False).code == 0
            good = good + 1 if ready and both.exchange.books() else 0
        except (urllib3.exceptions.HTTPError, Refused):
            good = 0
        return good == STEADY

    both.namespace.until(asked, f"the API server answers, after {daemon} was killed", BACK_OFF)


def test_processes_inside_their_containers(both: Floor, figures: Figures, node: Callable[[str], None]) -> None:
    """The kubelet starts the container again, after a pause that grows with each time: that is told apart."""
    bot = both.alpha
    for component in (*AGENTS, "rabbitmq", "influxdb"):
        [pod] = bot.pods(component)
        since = time.monotonic()
        before = bot.starts(component)
        run_node("kill", pod["status"]["containerStatuses"][0]["containerID"])
        both.namespace.until(
            lambda before=before, component=component: bot.starts(component) != before, f"{component} again", BACK_OFF
        )
        both.trade(BACK_OFF)
        figures.note(f"back to trading after {component}'s process was killed: {time.monotonic() - since:.1f} s")
