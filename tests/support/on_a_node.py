"""Bots whose pods run, and the exchange that they trade on, as a person sees them: by kubectl and nothing else.

What is waited for is asked of the API server directly, for a kubectl each time would cost more than what it watches.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from support.binance.server import READER, ApiKey
from support.kubernetes import Cluster, Json, until
from support.process import REPOSITORY
from support.specs import LIVE, QUICK, changed
from support.usage import Use, sample, uses

SYSTEM = "tradingbot-system"
"""The operator's namespace."""
RELEASE = "tradingbot-operator"
CHART = REPOSITORY / "charts" / "tradingbot-operator"

BOTS = "tradingbot.dev/v1alpha1/tradingbots"
AGENTS = ("data-collection", "technical-analysis", "strategy", "risk", "execution")

OWN = "tradingbot-own"
"""The image with the plug-in and the exchange, see ``scripts/images/own``; its tags are revisions."""
PORT = 8080
MONEY = Decimal(1000)

WATCHED = """
"$0" "$@" > /dev/null &
while kill -0 $! 2> /dev/null; do cat PATHS; sleep 0.05; done
wait $!
"""
"""A shell runs its arguments and looks at files meanwhile."""

EVERY = 0.25
"""Seconds between two looks at the cluster."""

ON_A_NODE: dict[str, Any] = {
    **QUICK,
    "exchange.endpoint": f"http://exchange:{PORT}",
    "image": f"{OWN}:1",
    # The exchange's pod may have to wait for a processor before it closes a bar.
    "data.settleDelay": "1s",
    "risk.sizing": {"method": "fixedFractional", "fraction": "0.15"},
    "risk.stopLoss": "0.01",
    "risk.protections": [{"name": "maxDrawdown", "limit": "0.9"}],
    "realityCheck.suspend": True,
    "realityCheck.credentialsSecretRef": {"name": "binance-read-only"},
    "realityCheck.onSevere": "Report",
}
"""Against ``LIVE``. What its stops lose leaves money for hours."""


class Figures:
    """What was measured, in words: shown when the tests have ended."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, line: str) -> None:
        self.lines.append(line)


class Namespace:
    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    def kubectl(self, *words: str | Path, input: str | Json | list[Json] | None = None, check: bool = True) -> str:
        done = self.cluster.kubectl("-n", self.name, *words, input=input, check=check)
        return done.out if check else done.out + done.err

    def items(self, resource: str, selector: str | None = None) -> list[Json]:
        return self.cluster.api.list(resource, self.name, selector)

    def made(self, kinds: str) -> list[str]:
        """What the operator has made of them, and is there."""
        return self.kubectl(
            "get", kinds, "-l", "app.kubernetes.io/managed-by=tradingbot-operator", "-o", "name"
        ).split()

    def until(self, check: Any, what: str | Callable[[], str], limit: float) -> Any:
        return until(check, what, limit, EVERY)

    def uses(self, seconds: float) -> list[Use]:
        """What each of its containers takes, over so long a time."""
        over = time.monotonic() + seconds
        samples = [sample(self.cluster, self.name)]
        until(lambda: samples.append(sample(self.cluster, self.name)) or time.monotonic() > over, "", 2 * seconds, 2)
        return uses(samples, self.items("v1/pods"))


class Exchange:
    """A pod that speaks Binance's API, and whose prices walk by themselves. Asked through the API server."""

    def __init__(self, namespace: Namespace, *, shake: float | None = None) -> None:
        """``shake``: a price falls below its stops so often, in seconds."""
        self._namespace = namespace
        self._shake = shake
        self._path = f"/api/v1/namespaces/{namespace.name}/services/exchange:{PORT}/proxy/control"

    def start(self) -> None:
        words = ["python", "-m", "support.binance", "--host=0.0.0.0", f"--port={PORT}", "--walk"]
        words += [f"--balance=USDT={MONEY}"]
        if self._shake is not None:
            # Just below the stops, so that there is money left after an hour.
            words += [f"--shake={self._shake}", "--fall=0.985"]
        labels = {"app": "exchange"}
        container = {
            "name": "exchange",
            "image": f"{OWN}:1",
            "command": words,
            "readinessProbe": {"httpGet": {"path": "/api/v3/ping", "port": PORT}, "periodSeconds": 1},
            "securityContext": {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            },
        }
        pod = {
            "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
            "automountServiceAccountToken": False,
            "terminationGracePeriodSeconds": 2,
            "containers": [container],
        }
        key = ApiKey()
        self._namespace.kubectl(
            "apply",
            "-f",
            "-",
            input=[
                {
                    "apiVersion": "apps/v1",
                    "kind": "Deployment",
                    "metadata": {"name": "exchange"},
                    "spec": {
                        "selector": {"matchLabels": labels},
                        "template": {"metadata": {"labels": labels}, "spec": pod},
                    },
                },
                {
                    "apiVersion": "v1",
                    "kind": "Service",
                    "metadata": {"name": "exchange"},
                    "spec": {"selector": labels, "ports": [{"port": PORT}]},
                },
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "binance-keys"},
                    "stringData": {"apiKey": key.key, "secret": key.secret},
                },
                {
                    "apiVersion": "v1",
                    "kind": "Secret",
                    "metadata": {"name": "binance-read-only"},
                    "stringData": {"apiKey": READER.key, "secret": READER.secret},
                },
            ],
        )
        self._namespace.kubectl("rollout", "status", "deployment/exchange", "--timeout=90s")

    def books(self) -> Json:
        told: Json = self._namespace.cluster.api.ask("GET", f"{self._path}/books")
        return told

    def trades(self) -> int:
        return len(self.books()["trades"])

    def _tell(self, what: str, body: Json) -> None:
        self._namespace.cluster.api.ask("POST", f"{self._path}/{what}", body)

    def order_by_hand(self, name: str) -> None:
        """A limit order to buy that rests."""
        self._tell("hand", {"symbol": "BTC/USDT", "quantity": "0.001", "price": "30000", "name": name})

    def forget(self, name: str) -> None:
        """It was never there."""
        self._tell("forget", {"name": name})

    def move(self, symbol: str, price: Decimal) -> None:
        self._tell("move", {"symbol": symbol, "price": str(price)})


class Bot:
    """One TradingBot of a namespace."""

    def __init__(self, namespace: Namespace, name: str) -> None:
        self.namespace = namespace
        self.name = name

    @property
    def kubectl(self) -> Any:
        return self.namespace.kubectl

    def apply(self, changes: Mapping[str, Any] | None = None) -> None:
        """As the exchange of the tests needs it; ``changes`` at dotted paths of the spec."""
        document = changed(LIVE, {**ON_A_NODE, **(changes or {})})
        document["metadata"]["name"] = self.name
        self.kubectl("apply", "-f", "-", input=yaml.safe_dump(document))

    def get(self) -> Json | None:
        return self.namespace.cluster.api.find(BOTS, self.namespace.name, self.name)

    def status(self) -> Json:
        found = self.get() or {}
        status: Json = found.get("status") or {}
        return status

    def condition(self, kind: str) -> Json:
        told = self.status().get("conditions") or []
        return next((one for one in told if one["type"] == kind), {})

    def until(self, kind: str, status: str, limit: float) -> None:
        self.namespace.until(
            lambda: self.condition(kind).get("status") == status, f"{kind} of {self.name} is {status}", limit
        )

    def trades(self, limit: float) -> None:
        """It is ready and trades, within so many seconds."""
        self.until("Ready", "True", limit)
        self.until("Trading", "True", limit)

    def row(self) -> dict[str, str]:
        """What ``kubectl get tb`` shows of it."""
        heads, cells = (line.split() for line in self.kubectl("get", "tb", self.name).splitlines())
        return dict(zip(heads, cells, strict=False))

    def events(self) -> list[str]:
        """Reasons, in the order of their first time."""
        found = [each for each in self.namespace.items("v1/events") if each["involvedObject"]["name"] == self.name]
        found.sort(key=lambda each: each.get("firstTimestamp") or each.get("eventTime") or "")
        return [each["reason"] for each in found if each["involvedObject"]["kind"] == "TradingBot"]

    def patch(self, **spec: Any) -> None:
        self.kubectl("patch", "tb", self.name, "--type=merge", "--patch", json.dumps({"spec": spec}))

    def state(self, wanted: str, limit: float = 60) -> None:
        """Asked for, and reached."""
        self.patch(state=wanted)
        self.namespace.until(
            lambda: self.status().get("state") == wanted, f"{self.name} is {wanted}: {self.status()}", limit
        )

    # --- pods

    def pods(self, component: str | None = None) -> list[Json]:
        """Of its agents, or of one component."""
        wanted = f"in ({','.join(AGENTS)})" if component is None else f"= {component}"
        return self.namespace.items("v1/pods", f"tradingbot.dev/bot={self.name},app.kubernetes.io/component {wanted}")

    def starts(self, component: str | None = None) -> dict[str, int]:
        """How often the containers of each of its agents' pods, or of a component's, were started again, by pod."""
        return {
            f"{pod['metadata']['name']}/{pod['metadata']['uid']}": sum(
                each["restartCount"] for each in pod["status"].get("containerStatuses") or []
            )
            for pod in self.pods(component)
        }

    def command(self, *words: str) -> Any:
        """What ``tradingbot`` in its execution's pod tells as JSON."""
        told = self.kubectl(
            "exec",
            f"deployment/{self.name}-execution",
            "--",
            *("tradingbot", *words, "--spec", "/etc/tradingbot/spec/bot.yaml", "--output", "json"),
        )
        return json.loads(told)

    # --- reality checks

    def check(self, name: str) -> Check:
        """A Job of its CronJob is made now, and ends."""
        self.kubectl("create", "job", name, f"--from=cronjob/{self.name}-check")
        return self.ended(name)

    def ended(self, job: str, limit: float = 180) -> Check:
        return Check(self._outcome(job, limit), self.kubectl("logs", f"job/{job}"))

    def check_watched(self, name: str, paths: Sequence[str]) -> str:
        """What a check's pod could read at ``paths`` while it ran, again and again."""
        made = self.kubectl("create", "job", name, f"--from=cronjob/{self.name}-check", "--dry-run=client", "-o=json")
        job = json.loads(made)
        [container] = job["spec"]["template"]["spec"]["containers"]
        container["command"] = ["sh", "-c", WATCHED.replace("PATHS", " ".join(paths)), "tradingbot"]
        self.kubectl("create", "-f", "-", input=job)
        assert self._outcome(name) == "Complete"
        return self.kubectl("logs", f"job/{name}")

    def _outcome(self, job: str, limit: float = 180) -> str:
        def ended() -> str | None:
            status = self.namespace.cluster.api.get("batch/v1/jobs", self.namespace.name, job).get("status") or {}
            conditions = status.get("conditions") or []
            return next((one["type"] for one in conditions if one["type"] in ("Complete", "Failed")), None)

        outcome: str = self.namespace.until(ended, f"the end of the check {job}", limit)
        return outcome


class Check:
    """What a check's pod has left in its log."""

    def __init__(self, outcome: str, log: str) -> None:
        self.outcome = outcome
        self.log = log
        lines = [json.loads(each) for each in log.splitlines() if each.startswith("{")]
        [self.line] = [each for each in lines if each.get("event") == "reality_check"]

    @property
    def findings(self) -> dict[str, str]:
        """Status by check."""
        return {each["id"]: each["status"] for each in self.line["report"]["findings"]}

    @property
    def wrong(self) -> dict[str, Any]:
        """What each says that neither passed nor does not apply."""
        return {
            each["id"]: each["told"]
            for each in self.line["report"]["findings"]
            if each["status"] in ("failed", "unknown")
        }


def is_ready(pod: Json) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
