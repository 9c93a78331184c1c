"""A person installs the chart and applies the example that needs no exchange. What counts is what kubectl tells."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.kubernetes import Cluster, Json, until
from tradingbot_agents.reality.check import all_checks

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

REPLAY = Path(__file__).resolve().parents[2] / "examples" / "replay.yaml"
BOT = "replay"
AGENTS = "app.kubernetes.io/component in (data-collection, technical-analysis, strategy, risk, execution)"

UP = 120.0
"""Seconds from apply to trading, with the images there."""

BACK = 60.0
"""Seconds from the death of every pod to trading."""


class Bot:
    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self._cluster = cluster
        self._namespace = namespace

    def kubectl(self, *words: str | Path) -> str:
        return self._cluster.kubectl(*words, "-n", self._namespace).out

    def condition(self, kind: str) -> Json:
        told = json.loads(self.kubectl("get", "tb", BOT, "-o", "json")).get("status", {}).get("conditions", [])
        return next((one for one in told if one["type"] == kind), {})

    def until(self, kind: str, status: str, limit: float) -> None:
        until(lambda: self.condition(kind).get("status") == status, f"{kind} is {status}", limit)

    def row(self) -> dict[str, str]:
        """What ``kubectl get tb`` shows of it."""
        heads, cells = (line.split() for line in self.kubectl("get", "tb", BOT).splitlines())
        return dict(zip(heads, cells, strict=False))

    def events(self) -> set[str]:
        """Their reasons."""
        found = json.loads(self.kubectl("get", "events", "-o", "json"))["items"]
        return {each["reason"] for each in found if each["involvedObject"]["kind"] == "TradingBot"}

    def check(self, name: str) -> str:
        """The log of a check that is run now."""
        self.kubectl("create", "job", name, f"--from=cronjob/{BOT}-check")
        until(lambda: self._ended(name), "the check's end", 180)
        return self.kubectl("logs", f"job/{name}")

    def _ended(self, job: str) -> bool:
        status = json.loads(self.kubectl("get", "job", job, "-o", "json")).get("status", {})
        return any(one["type"] in ("Complete", "Failed") for one in status.get("conditions", []))


@pytest.fixture
def bot(cluster: Cluster, trading: str) -> Bot:
    made = Bot(cluster, trading)
    made.kubectl("apply", "-f", REPLAY)
    made.until("Ready", "True", UP)
    made.until("Trading", "True", UP)
    return made


def test_it_trades_is_audited_survives_its_pods_and_leaves_what_it_says(bot: Bot) -> None:
    assert {name: bot.row()[name] for name in ("MODE", "STATE", "READY", "EQUITY")} == {
        "MODE": "paper",
        "STATE": "Running",
        "READY": "5/5",
        "EQUITY": "1000",
    }
    # It was never wrong on the way: its servers start at the same time, and that is no fault.
    assert "Degraded" not in [
        each["reason"] for each in json.loads(bot.kubectl("get", "events", "-o", "json"))["items"]
    ]

    log = bot.check("first")
    [line] = [json.loads(each) for each in log.splitlines() if each.startswith("{") and "reality_check" in each]
    findings = {each["id"]: each["status"] for each in line["report"]["findings"]}
    assert findings == {check.id: "passed" for check in all_checks()}, log
    assert "Reality check of replay" in log
    assert bot.row()["CHECK"] == "passed"
    assert bot.condition("RealityCheckPassed")["status"] == "True"

    bot.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=90s")
    bot.until("Ready", "True", BACK)
    bot.until("Trading", "True", BACK)
    bot.check("second")
    assert bot.row()["CHECK"] in ("passed", "failed"), "agents.ready may tell of the restarts"

    bot.kubectl("patch", "tb", BOT, "--type=merge", "--patch", '{"spec":{"state":"Paused"}}')
    bot.until("Trading", "False", 60)
    assert bot.row()["STATE"] == "Paused"

    bot.kubectl("delete", "tb", BOT, "--timeout=60s")
    until(lambda: not bot.kubectl("get", "pods", "-l", AGENTS, "-o", "name").strip(), "its pods are gone", 60)
    # deletionPolicy is Retain: money, candles and messages are still there.
    left = bot.kubectl("get", "pvc", "-o", "name").split()
    assert {f"persistentvolumeclaim/data-{BOT}-{server}-0" for server in ("rabbitmq", "influxdb")} <= set(left)
