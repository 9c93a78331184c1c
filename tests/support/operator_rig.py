"""The real operator on a real API server, in a namespace of its own, with a node that is played.

``OperatorRig`` is what a test has: bots are applied as a person does it, the agents' reports are written as the
agents write them, and what the operator has made of it is read back. ``RunningOperator`` is its process:
started, asked for its pages, stopped, and killed.
"""

from __future__ import annotations

import copy
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from support.api_proxy import ApiProxy
from support.fake_kubelet import FakeKubelet
from support.kubernetes import APPLY, Audited, Cluster, ControlPlane, Json, Refused, address, until

REPOSITORY = Path(__file__).resolve().parents[2]
CRD = REPOSITORY / "crds" / "tradingbots.yaml"
CHART = REPOSITORY / "charts" / "tradingbot-operator"

BOTS = "tradingbot.dev/v1alpha1/tradingbots"
SELECTOR = "app.kubernetes.io/managed-by=tradingbot-operator"
COMPONENT = "app.kubernetes.io/component"
AGENTS = ("data-collection", "technical-analysis", "strategy", "risk", "execution")

IMAGE = "example.invalid/agents:1"

LIMIT = 60.0
"""Seconds for what the operator and the controllers do: the machine may be busy."""

KINDS = (
    "v1/configmaps",
    "v1/secrets",
    "v1/services",
    "v1/serviceaccounts",
    "v1/persistentvolumeclaims",
    "apps/v1/deployments",
    "apps/v1/statefulsets",
    "batch/v1/jobs",
    "batch/v1/cronjobs",
    "rbac.authorization.k8s.io/v1/roles",
    "rbac.authorization.k8s.io/v1/rolebindings",
    "networking.k8s.io/v1/networkpolicies",
    "policy/v1/poddisruptionbudgets",
)
"""Of these the operator makes objects."""


OPTIONAL = frozenset({"rabbitmqclusters.rabbitmq.com", "clusters.postgresql.cnpg.io"})
"""Of other operators. Rights to them are given when they are installed; the answer 403 is then one of two ways to say
that they are not."""


THE_OPERATOR = ("tradingbot_operator.main", "run")


class RunningOperator:
    """The process. Its output is read all the time, so that it never waits for us."""

    def __init__(
        self,
        kubeconfig: Path,
        namespace: str,
        environment: Mapping[str, str] | None = None,
        program: Sequence[str] = THE_OPERATOR,
    ) -> None:
        """``program``: a module with its arguments."""
        self._popen = subprocess.Popen(
            [sys.executable, "-m", *program],
            # Of the tests' own programs.
            cwd=REPOSITORY / "tests",
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")},
                "KUBECONFIG": str(kubeconfig),
                "TRADINGBOT_OPERATOR_NAMESPACES": namespace,
                "TRADINGBOT_OPERATOR_AGENTS_IMAGE": IMAGE,
                "TRADINGBOT_OPERATOR_LISTEN": "127.0.0.1:0",
                **(environment or {}),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as output:
            for line in output:
                self._lines.append(line)

    @property
    def output(self) -> str:
        return "".join(self._lines)

    @property
    def events(self) -> list[Json]:
        """Its log lines."""
        return [json.loads(line) for line in list(self._lines) if line.startswith("{")]

    def named(self, event: str) -> list[Json]:
        return [each for each in self.events if each["event"] == event]

    @property
    def defects(self) -> list[str]:
        """Lines that no operation of it should ever print: tracebacks, and what is no line of its log."""
        return [line for line in list(self._lines) if not line.startswith("{") or '"exception"' in line]

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def wait_until_ready(self) -> RunningOperator:
        until(lambda: self._runs() and self.named("operator_started"), f"a started operator: {self.output}", LIMIT)
        until(lambda: self._runs() and self.page("/ready")[0] == 200, f"a ready operator: {self.output}", LIMIT)
        return self

    def _runs(self) -> bool:
        assert self.is_running, f"the operator ended with {self._popen.returncode}: {self.output}"
        return True

    def page(self, path: str) -> tuple[int, str]:
        """Status and text."""
        port = self.named("operator_started")[0]["port"]
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def metric(self, name: str, **labels: str) -> float:
        """The sum over what ``labels`` leave open."""
        _, text = self.page("/metrics")
        total = 0.0
        for line in text.splitlines():
            found = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            if found is None or found[1] != name:
                continue
            given = dict(re.findall(r'(\w+)="([^"]*)"', found[2] or ""))
            if labels.items() <= given.items():
                total += float(found[3])
        return total

    def kill(self) -> None:
        """At this moment."""
        self._popen.kill()
        self.wait()

    def stop(self) -> int:
        """As the kubelet does it; its exit code."""
        self._popen.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self) -> int:
        try:
            code = self._popen.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()
            raise AssertionError(f"still running after {LIMIT:g} s: {self.output}") from None
        self._reader.join()
        return code


class OperatorRig:
    """One namespace. Whatever it has started is ended by ``close``."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.has_audit = isinstance(cluster, ControlPlane)
        self._began = cluster.audit.mark() if self.has_audit else 0
        self.api = cluster.api
        self.namespace = namespace
        self._folder = folder
        self.kubelet = FakeKubelet(cluster, namespace, folder)
        self.kubelet.start()
        self.operators: list[RunningOperator] = []
        """All that were started."""
        self._proxies: list[ApiProxy] = []
        self._ahead_file = folder / "ahead"
        self._ahead = timedelta()
        self.pass_time(timedelta())
        account, self.kubeconfig = self._access()
        self.user = f"system:serviceaccount:{namespace}:{account}"
        """In the audit log."""

    def _access(self) -> tuple[str, Path]:
        """The chart's service account and its rights, in this namespace only."""
        settings = (
            "--namespace",
            self.namespace,
            f"--set=watchNamespaces={{{self.namespace}}},rbac.aggregateRoles=false",
        )
        parts = [f"--show-only=templates/{each}.yaml" for each in ("serviceaccount", "rbac")]
        rendered = self.cluster.helm("template", "tests", CHART, *settings, *parts).out
        self.cluster.kubectl("apply", "--server-side", "-f", "-", input=rendered)
        [name] = [
            each["metadata"]["name"] for each in yaml.safe_load_all(rendered) if each["kind"] == "ServiceAccount"
        ]
        return name, self.cluster.kubeconfig_of(self.namespace, name)

    def close(self) -> None:
        """Raises what an operator did wrong that no test may overlook."""
        for operator in self.operators:
            if operator.is_running:
                operator.kill()
        for proxy in self._proxies:
            proxy.close()
        for bot in self.api.list(BOTS, self.namespace):
            # Or the namespace would never end.
            self.api.patch(BOTS, self.namespace, bot["metadata"]["name"], {"metadata": {"finalizers": None}})
        self.kubelet.stop()
        forbidden = {
            (each.verb, each.resource, each.subresource)
            for each in (self.cluster.audit.requests(self._began, self.user) if self.has_audit else [])
            if each.code == 403 and each.resource not in OPTIONAL
        }
        defects = [line for operator in self.operators for line in operator.defects]
        assert not defects, "the operator printed:\n" + "".join(defects)
        assert not forbidden, f"the chart's rules do not let it: {forbidden}"

    # --- the operator ----------------------------------------------------------------------------------------

    def start(
        self,
        *,
        through: ApiProxy | None = None,
        environment: Mapping[str, str] | None = None,
        movable_clock: bool = False,
        wait: bool = True,
    ) -> RunningOperator:
        """``movable_clock``: one that ``pass_time`` moves."""
        kubeconfig = self.kubeconfig
        if through is not None:
            kubeconfig = through.kubeconfig(self._folder / f"proxy-{len(self.operators)}.kubeconfig")
        program = ("support.moved_clock", str(self._ahead_file)) if movable_clock else THE_OPERATOR
        operator = RunningOperator(kubeconfig, self.namespace, environment, program)
        self.operators.append(operator)
        return operator.wait_until_ready() if wait else operator

    def pass_time(self, length: timedelta) -> None:
        """For the operators that were started with ``movable_clock``, and for what is reported from now on."""
        self._ahead += length
        # Never half a number: it is read at any moment.
        written = self._ahead_file.with_suffix(".new")
        written.write_text(str(self._ahead.total_seconds()))
        written.replace(self._ahead_file)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def proxy(self) -> ApiProxy:
        proxy = ApiProxy(self.kubeconfig)
        self._proxies.append(proxy)
        return proxy

    # --- what a person does ------------------------------------------------------------------------------------

    def apply(self, bot: Json) -> Json:
        """With server-side apply; ``metadata`` gets the namespace."""
        bot = copy.deepcopy(bot)
        bot["metadata"]["namespace"] = self.namespace
        return self.api.apply(BOTS, bot, "a-person")

    def apply_example(self, name: str) -> Json:
        example: Json = yaml.safe_load((REPOSITORY / "examples" / f"{name}.yaml").read_text())
        return self.apply(example)

    def edit(self, name: str, **spec: object) -> Json:
        """A merge into its spec; fields have the names of the API."""
        return self.api.patch(BOTS, self.namespace, name, {"spec": spec})

    def annotate(self, name: str, **annotations: str | None) -> None:
        """``apply``, ``paused``, ``abandon``; ``None`` takes one away."""
        given = {f"tradingbot.dev/{key}": value for key, value in annotations.items()}
        self.api.patch(BOTS, self.namespace, name, {"metadata": {"annotations": given}})

    def delete(self, name: str) -> None:
        self.api.delete(BOTS, self.namespace, name)

    def secret(self, name: str, **values: str) -> None:
        metadata = {"name": name, "namespace": self.namespace}
        self.api.create("v1/secrets", {"metadata": metadata, "stringData": values})

    def give_external(self) -> None:
        """The Secrets that ``EXTERNAL`` names."""
        self.secret("rabbit", url="amqps://user:word@rabbit.example.com/bots")
        self.secret("influx", url="https://influx.example.com", token="secret")
        self.secret("ledger", url="postgresql://user:word@ledger.example.com/ledger")

    # --- what agents do ----------------------------------------------------------------------------------------

    def report(self, name: str, *, state: str = "Running", positions: int = 0, orders: int = 0) -> None:
        """Risk tells what the account is worth and holds, execution its state."""
        facts = {
            "equity": "1000.00",
            "quoteCurrency": "USDT",
            "openPositions": positions,
            "liveOrders": orders,
            "factsAt": self.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
            "agents": {"risk": {"state": state}},
        }
        self._tell(name, "risk", facts)
        self._tell(name, "execution", {"agents": {"execution": {"state": state}}})

    def _tell(self, name: str, manager: str, status: Json) -> None:
        version, kind = "tradingbot.dev/v1alpha1", "TradingBot"
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "status": status}
        path = address(BOTS, self.namespace, name, "status")
        self.api.ask("PATCH", path, body, APPLY, fieldManager=manager, force="true")

    # --- what is there -----------------------------------------------------------------------------------------

    def bot(self, name: str) -> Json | None:
        return self.api.find(BOTS, self.namespace, name)

    def status(self, name: str) -> Json:
        found = self.bot(name)
        return {} if found is None else found.get("status") or {}

    def condition(self, name: str, kind: str) -> Json:
        """Empty: it has not been told."""
        conditions = self.status(name).get("conditions") or []
        return next((one for one in conditions if one["type"] == kind), {})

    def until_condition(
        self, name: str, kind: str, status: str, reason: str | None = None, limit: float = LIMIT
    ) -> Json:
        def met() -> Json | None:
            found = self.condition(name, kind)
            return found if found.get("status") == status and reason in (None, found.get("reason")) else None

        try:
            return until(met, f"{kind} {status} {reason or ''}", limit)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(self.status(name), indent=1)}\n"
                + "\n".join(operator.output[-5000:] for operator in self.operators)
            ) from None

    def until_ready(self, name: str) -> Json:
        """All agents run what the spec says; the status as it is then."""
        generation = (self.bot(name) or {})["metadata"]["generation"]

        def settled() -> Json | None:
            status = self.status(name)
            known = {one["type"]: one for one in status.get("conditions") or []}
            is_seen = status.get("observedGeneration") == generation
            up = known.get("Ready", {}).get("status") == "True"
            return status if is_seen and up and known["Progressing"]["status"] == "False" else None

        try:
            return until(settled, f"{name} is ready", LIMIT)
        except AssertionError as error:
            raise AssertionError(
                f"{error}\n{json.dumps(self.status(name), indent=1)}\n"
                + "\n".join(operator.output[-5000:] for operator in self.operators)
            ) from None

    def events(self, name: str, reason: str | None = None) -> list[Json]:
        """Of the bot, the oldest first."""
        found = [
            each
            for each in self.api.list("v1/events", self.namespace)
            if each["involvedObject"].get("name") == name and each["involvedObject"]["kind"] == "TradingBot"
        ]
        found.sort(key=lambda each: int(each["metadata"]["resourceVersion"]))
        return [each for each in found if reason in (None, each["reason"])]

    def children(self) -> dict[tuple[str, str], Json]:
        """What carries the operator's label, by kind and name, pods left out."""
        found = {}
        for kind in KINDS:
            for each in self.api.list(kind, self.namespace, SELECTOR):
                found[kind.rsplit("/", 1)[-1], each["metadata"]["name"]] = each
        return found

    def child(self, plural: str, name: str) -> Json | None:
        kind = next(each for each in KINDS if each.endswith(f"/{plural}"))
        return self.api.find(kind, self.namespace, name)

    def pods(self, component: str | None = None) -> list[Json]:
        selector = SELECTOR if component is None else f"{SELECTOR},{COMPONENT}={component}"
        return self.api.list("v1/pods", self.namespace, selector)

    def until_at_rest(self, rest: float = 3.0) -> int:
        """The audit log's mark of a moment since which the operator has written nothing for ``rest`` seconds."""
        mark, since = self.cluster.audit.mark(), time.monotonic()

        def quiet() -> bool:
            nonlocal mark, since
            if self.writes(mark):
                mark, since = self.cluster.audit.mark(), time.monotonic()
            return time.monotonic() - since > rest

        until(quiet, "nothing is written any more", LIMIT)
        return mark

    def writes(self, since: int) -> list[Audited]:
        """Of the operator, by the API server's audit log."""
        return self.cluster.audit.writes(since, self.user)


EXTERNAL: Json = {
    "messaging": {"external": {"urlSecretRef": {"name": "rabbit"}}},
    "timeSeries": {"external": {"urlSecretRef": {"name": "influx"}, "tokenSecretRef": {"name": "influx"}}},
    "database": {"external": {"urlSecretRef": {"name": "ledger"}}},
}
"""No server of its own: the fewest children."""


def essence(children: Mapping[tuple[str, str], Json]) -> dict[tuple[str, str], Json]:
    """What two runs of the operator must agree on: everything but what the server and chance have given."""
    found = {}
    for key, child in children.items():
        meta = child["metadata"]
        kept: Json = {name: value for name, value in child.items() if name not in ("metadata", "status")}
        if key[0] == "secrets":
            kept["data"] = sorted(child.get("data") or {})
        kept["labels"] = meta.get("labels")
        kept["owners"] = sorted(owner["name"] for owner in meta.get("ownerReferences") or [])
        found[key] = _without_chance(kept)
    return found


DELAY = "TRADINGBOT_REALITY_DELAY"
_CHANCE = frozenset({"clusterIP", "clusterIPs", "volumeName", "uid", "tradingbot.dev/manifest"})
_UIDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def _without_chance(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get("name") == DELAY:
            # Follows from the bot's uid.
            return {"name": DELAY}
        return {
            name: _without_chance(each)
            for name, each in value.items()
            if name not in _CHANCE and not _UIDS.search(str(each) if isinstance(each, str) else "")
        }
    if isinstance(value, list):
        return [_without_chance(each) for each in value]
    return value


def install_crd(cluster: Cluster) -> None:
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", CRD)
    # It is served some moments after it is said to be established.
    until(lambda: _is_served(cluster), "TradingBots are served")


def _is_served(cluster: Cluster) -> bool:
    try:
        cluster.api.list(BOTS)
    except Refused as refused:
        if refused.code in (404, 429):
            return False
        raise
    return True


@contextmanager
def operator_rig(cluster: Cluster, namespace: str, folder: Path) -> Iterator[OperatorRig]:
    rig = OperatorRig(cluster, namespace, folder)
    try:
        yield rig
    finally:
        rig.close()
