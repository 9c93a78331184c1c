"""The operator on a real API server: how fast many bots converge, what it writes at rest, and what it weighs.

    python benchmarks/many_bots.py [--bots N] [--rest SECONDS]

N bots with servers of their own elsewhere (``external``) are created at once; they have converged when every child
exists as it is wanted. The peer is a bare client in the same run: with as many requests under way as the operator
reconciles bots, it applies the very same manifests, and nothing else, in another namespace. The operator also reads,
compares, reports, and waits for each bot's migration; there is no node, so a thread of this program plays one.

At rest, writes are counted in the API server's own audit log, under the operator's account.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlencode

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import aiohttp
import msgspec

from support.kubernetes import Api, ControlPlane, Json, Refused, running_control_plane
from tradingbot_operator.cluster import configuration
from tradingbot_operator.kinds import OWN, kind_of
from tradingbot_operator.names import MANAGER, Label
from tradingbot_operator.settings import PACE

CRD = Path(__file__).resolve().parent.parent / "crds" / "tradingbots.yaml"
OPERATOR_PLACE, BOTS_PLACE, BARE_PLACE = "operator", "bots", "bare"
ACCOUNT = f"system:serviceaccount:{OPERATOR_PLACE}:{MANAGER}"
GOALS = {"ratio": 0.5, "memory": {100: 120, 1000: 400}, "seconds": 1.0}
LIMIT = 1800.0
RESOURCES = {kind.name: f"{kind.api_version}/{kind.plural}" for kind in OWN}
BOTS = "tradingbot.dev/v1alpha1/tradingbots"
READY = [{"type": each, "status": "True"} for each in ("PodScheduled", "Initialized", "ContainersReady", "Ready")]


def a_bot(number: int) -> Json:
    return {
        "apiVersion": "tradingbot.dev/v1alpha1",
        "kind": "TradingBot",
        "metadata": {"name": f"bot-{number:04}", "namespace": BOTS_PLACE},
        "spec": {
            "mode": "testnet",
            "exchange": {"name": "binance", "credentialsSecretRef": {"name": "keys"}},
            "account": {"name": f"account-{number:04}", "quoteCurrency": "USDT"},
            "symbols": ["BTC/USDT", "ETH/USDT"],
            "risk": {
                "sizing": {"method": "fixedFractional", "fraction": "0.10"},
                "stopLoss": "0.05",
                "protections": [{"name": "maxDrawdown", "limit": "0.15"}],
            },
            "updateStrategy": "Auto",
            "messaging": {"external": {"urlSecretRef": {"name": "servers", "key": "mq"}}},
            "timeSeries": {
                "external": {
                    "urlSecretRef": {"name": "servers", "key": "influx"},
                    "tokenSecretRef": {"name": "servers", "key": "token"},
                }
            },
            "database": {"external": {"urlSecretRef": {"name": "servers", "key": "pg"}}},
        },
    }


class Node(threading.Thread):
    """Plays the node: the pods of migration Jobs succeed as soon as they are seen. The agents' pods become ready from
    ``run_agents`` on: at rest they must run, for a Deployment without a pod is said to have failed after ten minutes,
    and that is news."""

    def __init__(self, kubeconfig: Path) -> None:
        super().__init__(daemon=True)
        self._api = Api(kubeconfig)
        self._ending = threading.Event()
        self._agents_run = threading.Event()

    def run_agents(self) -> None:
        self._agents_run.set()

    def run(self) -> None:
        while not self._ending.wait(0.2):
            for pod in self._waiting("="):
                self._becomes(pod, {"phase": "Succeeded"})
            if self._agents_run.is_set():
                for pod in self._waiting("!="):
                    self._becomes(pod, {"phase": "Running", "conditions": READY})

    def _waiting(self, relation: str) -> list[Json]:
        selector = f"{Label.COMPONENT.value}{relation}migration"
        return self._api.list("v1/pods", BOTS_PLACE, selector, fields="status.phase=Pending", cached=True)

    def _becomes(self, pod: Json, status: Json) -> None:
        try:
            self._api.patch("v1/pods", BOTS_PLACE, pod["metadata"]["name"], {"status": status}, "status")
        except Refused:
            return

    def end(self) -> None:
        self._ending.set()
        self.join()
        self._api.close()


@contextmanager
def the_operator(cluster: ControlPlane) -> Iterator[subprocess.Popen[str]]:
    """Its process, under an account of its own."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(cluster.kubeconfig_of(OPERATOR_PLACE, MANAGER)),
        "TRADINGBOT_OPERATOR_LISTEN": "127.0.0.1:0",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "tradingbot_operator.main", "run"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()
    threading.Thread(target=lambda: [None for _ in process.stdout or ()], daemon=True).start()
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def prepare(cluster: ControlPlane) -> None:
    cluster.kubectl("apply", "--server-side", "-f", CRD)
    wait(lambda: is_served(cluster.api), "to serve the new kind", pause=0.2)
    for place in (OPERATOR_PLACE, BOTS_PLACE, BARE_PLACE):
        cluster.kubectl("create", "namespace", place)
    cluster.kubectl("label", "namespace", BOTS_PLACE, BARE_PLACE, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("create", "serviceaccount", MANAGER, "-n", OPERATOR_PLACE)
    # What it may do is tested with the chart's own rules; here it must not stand in the way.
    cluster.kubectl(
        "create",
        "clusterrolebinding",
        MANAGER,
        "--clusterrole=cluster-admin",
        f"--serviceaccount={OPERATOR_PLACE}:{MANAGER}",
    )
    cluster.kubectl(
        "create", "secret", "generic", "keys", "-n", BOTS_PLACE, "--from-literal=apiKey=a", "--from-literal=secret=b"
    )
    servers = [f"--from-literal={key}=x" for key in ("mq", "influx", "token", "pg")]
    cluster.kubectl("create", "secret", "generic", "servers", "-n", BOTS_PLACE, *servers)


def wait(check: Callable[[], bool], what: str, pause: float = 0.02) -> float:
    began = time.perf_counter()
    while not check():
        if time.perf_counter() - began > LIMIT:
            raise SystemExit(f"{what} took longer than {LIMIT:g} s")
        time.sleep(pause)
    return time.perf_counter() - began


def is_served(api: Api) -> bool:
    try:
        api.list(BOTS, None)
    except Refused:
        return False
    return True


def children(api: Api) -> list[Json]:
    """Of all bots, as they are."""
    found: list[Json] = []
    for kind in OWN:
        selector = f"{Label.MANAGED_BY.value}={MANAGER}"
        items = api.list(RESOURCES[kind.name], BOTS_PLACE, selector)
        found += [{"apiVersion": kind.api_version, "kind": kind.name, **item} for item in items]
    return found


def converged(api: Api, bots: int) -> bool:
    """Every bot says that all of it is made: its workloads are the last."""
    items = api.list(BOTS, BOTS_PLACE, cached=True)
    reasons = [
        one["reason"]
        for item in items
        for one in (item.get("status") or {}).get("conditions") or []
        if one["type"] == "Progressing"
    ]
    # Without a node, pods that have waited for one for a minute are a problem, and no start any more.
    return len(items) == bots and sum(reason in ("Starting", "UpToDate") for reason in reasons) == bots


def bare_manifests(found: list[Json]) -> list[Json]:
    """As the operator has sent them, for another namespace and without owners."""
    manifests = []
    for item in found:
        meta = item["metadata"]
        if meta.get("ownerReferences", [{}])[0].get("kind") != "TradingBot":
            continue
        kept = {key: meta[key] for key in ("name", "labels", "annotations") if key in meta}
        rest = {key: value for key, value in item.items() if key not in ("metadata", "status")}
        if item["kind"] == "Job":
            # What the server has put there for the Job's own pods.
            rest["spec"].pop("selector", None)
            for label in [
                each
                for each in rest["spec"]["template"]["metadata"]["labels"]
                if "batch.kubernetes.io" in each or each in ("controller-uid", "job-name")
            ]:
                del rest["spec"]["template"]["metadata"]["labels"][label]
        if item["kind"] == "ServiceAccount":
            rest.pop("secrets", None)
        manifests.append({**rest, "metadata": {**kept, "namespace": BARE_PLACE}})
    return manifests


async def apply_bare(kubeconfig: Path, manifests: list[Json], concurrency: int) -> float:
    """Seconds, for a client that only sends."""
    settings = await configuration(kubeconfig)

    trusted = ssl.create_default_context(cafile=settings.ssl_ca_cert)
    headers = {"Content-Type": "application/apply-patch+yaml"}
    token = (await settings.auth_settings())["BearerToken"]["value"]
    headers["Authorization"] = str(token)
    queue = iter([(address_of(each), msgspec.json.encode(each)) for each in manifests])
    query = urlencode({"fieldManager": "bare", "force": "true"})
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trusted)) as session:

        async def work() -> None:
            for path, body in queue:
                async with session.patch(f"{settings.host}{path}?{query}", data=body, headers=headers) as answer:
                    text = await answer.read()
                    assert answer.status < 300, (path, text[:300])

        began = time.perf_counter()
        await asyncio.gather(*(work() for _ in range(concurrency)))
        return time.perf_counter() - began


def address_of(manifest: Json) -> str:
    meta = manifest["metadata"]
    return kind_of(manifest).path(meta["namespace"], meta["name"])


def memory(process: subprocess.Popen[str]) -> tuple[float, float]:
    """RSS and its peak, in MiB."""
    fields = dict(
        line.split(":", 1) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if ":" in line
    )
    return int(fields["VmRSS"].split()[0]) / 1024, int(fields["VmHWM"].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bots", type=int, default=100)
    parser.add_argument("--rest", type=float, default=600, help="seconds at rest (default 600)")
    options = parser.parse_args()
    with running_control_plane() as cluster:
        prepare(cluster)
        api = cluster.api
        node = Node(cluster.kubeconfig)
        node.start()
        with the_operator(cluster) as operator:
            measure(cluster, api, operator, node, options.bots, options.rest)
        node.end()


def measure(
    cluster: ControlPlane, api: Api, operator: subprocess.Popen[str], node: Node, bots: int, rest: float
) -> None:
    print(f"at the start: {memory(operator)[0]:.0f} MiB")
    mark = cluster.audit.mark()
    began = time.perf_counter()
    for number in range(bots):
        api.create(BOTS, a_bot(number))
    # To list them all takes the server's time, which would be the operator's.
    wait(lambda: converged(api, bots), "to converge", pause=max(0.25, (bots / 300) ** 2))
    seconds = time.perf_counter() - began
    now, most = memory(operator)
    print(f"memory: {now:.0f} MiB, at most {most:.0f}; goal {GOALS['memory'].get(bots, '-')}", flush=True)
    found = children(api)
    manifests = bare_manifests(found)
    writes = len(cluster.audit.writes(mark, ACCOUNT))
    bare = asyncio.run(apply_bare(cluster.kubeconfig, manifests, PACE.concurrency))
    ours_rate, bare_rate = len(manifests) / seconds, len(manifests) / bare
    print(
        f"{bots} bots, {len(manifests)} children: {seconds:.1f} s, {ours_rate:.0f} a second ({writes} writes in all)"
    )
    print(f"bare client: {bare:.1f} s, {bare_rate:.0f} a second")
    print(f"ratio: {ours_rate / bare_rate:.0%} of the bare client, goal {GOALS['ratio']:.0%}")
    cluster.kubectl("delete", "namespace", BARE_PLACE, "--wait=false")
    node.run_agents()
    reactions(api)
    until_calm(cluster)
    mark = cluster.audit.mark()
    time.sleep(rest)
    at_rest = cluster.audit.writes(mark, ACCOUNT)
    print(f"at rest for {rest:g} s: {len(at_rest)} writes, goal 0")
    for each in at_rest[:5]:
        print(f"  {each.verb} {each.resource} {each.name}")
    print(f"memory then: {memory(operator)[0]:.0f} MiB, at most {memory(operator)[1]:.0f}")


CALM = 75.0
"""Seconds without a write: longer than the minute after which a pod without a node is told of."""


def until_calm(cluster: ControlPlane) -> None:
    began = time.perf_counter()
    mark, since = cluster.audit.mark(), began
    while time.perf_counter() - since < CALM:
        if time.perf_counter() - began > LIMIT:
            raise SystemExit(f"it did not come to rest within {LIMIT:g} s")
        time.sleep(1)
        if cluster.audit.writes(mark, ACCOUNT):
            mark, since = cluster.audit.mark(), time.perf_counter()


def reactions(api: Api) -> None:
    """What comes back, and what is applied: the median of some."""
    back, applied = [], []
    for number in range(min(9, len(api.list(BOTS, BOTS_PLACE)))):
        bot = f"bot-{number:04}"
        uid = api.get("apps/v1/deployments", BOTS_PLACE, f"{bot}-strategy")["metadata"]["uid"]
        api.delete("apps/v1/deployments", BOTS_PLACE, f"{bot}-strategy")

        def is_back(bot: str = bot, uid: str = uid) -> bool:
            found = api.find("apps/v1/deployments", BOTS_PLACE, f"{bot}-strategy")
            return found is not None and found["metadata"]["uid"] != uid

        back.append(wait(is_back, "a deleted child"))
        api.patch(BOTS, BOTS_PLACE, bot, {"spec": {"state": "Paused"}})

        def is_applied(bot: str = bot) -> bool:
            return bool(api.get("v1/configmaps", BOTS_PLACE, f"{bot}-state")["data"]["state"] == "Paused")

        applied.append(wait(is_applied, "a changed spec"))
    for what, times in (("a deleted child is back", back), ("a changed spec is applied", applied)):
        times.sort()
        print(f"{what} after {times[len(times) // 2]:.2f} s (at most {times[-1]:.2f}), goal {GOALS['seconds']:g} s")


if __name__ == "__main__":
    main()
