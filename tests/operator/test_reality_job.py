"""The reality check as a cluster runs it: the operator's CronJob, the Job that comes of it, and its pod run as a
process with the rights of its own service account, against five agents that trade on real servers. The TradingBot and
the Job tell how it ended."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path

import pytest
import yaml

from support.defects import DEFECTS
from support.fake_kubelet import Life
from support.influxdb import InfluxServer, find_influxd, running_influxd
from support.kubernetes import Json, until
from support.market import PRICES
from support.operator_rig import AGENTS, LIMIT, OperatorRig
from support.pod_process import run_pod
from support.process import Finished
from support.rabbitmq import INSTALLED, RabbitServer, running_rabbitmq
from support.specs import changed
from support.stack import NAME, Stack, running_stack
from tradingbot_agents.cli import exit_codes
from tradingbot_agents.reality.check import all_checks
from tradingbot_operator import names

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.process,
    pytest.mark.minutes,
    pytest.mark.timeout(600),
]

CHECK = "reality-check"
CRON_JOB = names.check_cron_job(NAME)

IN_THE_CLUSTER: Json = {
    "messaging": {"external": {"urlSecretRef": {"name": "rabbit"}}},
    "timeSeries.external": {"urlSecretRef": {"name": "influx"}, "tokenSecretRef": {"name": "influx"}},
    "database": {"external": {"urlSecretRef": {"name": "ledger"}}},
    "exchange.credentialsSecretRef": {"name": "binance-keys"},
    "realityCheck.credentialsSecretRef": {"name": "binance-keys"},
    "realityCheck.window": "15m",
    "updateStrategy": "Auto",
}


class Place:
    """A bot of the API server, whose agents are processes of this machine."""

    def __init__(self, rig: OperatorRig, stack: Stack, folder: Path) -> None:
        self.rig = rig
        self.stack = stack
        self._folder = folder
        self._runs = 0

    async def start(self) -> None:
        """The operator makes everything of it, and the agents begin to trade."""
        await asyncio.to_thread(self._apply)
        await self._start_agents()
        await self.stack.agents["execution"].tells("fill_booked", count=len(PRICES))
        await self.stack.settled()

    async def roll(self) -> None:
        """Another image of the agents, and the same spec."""
        await asyncio.to_thread(self._upgrade)
        await self.stack.stop()
        await self._start_agents()

    async def _start_agents(self) -> None:
        self.stack.more_environment = {"TRADINGBOT_REVISION": self.rig.status(NAME)["revision"]}
        for name in AGENTS:
            self.stack.agents[name] = self.stack.agent(name)
        self.stack.start()
        await self.stack.ready()

    def _apply(self) -> None:
        rig, stack = self.rig, self.stack
        rig.secret("rabbit", url=stack.rabbitmq.url)
        rig.secret("influx", url=stack.influx.url, token=stack.influx.token)
        rig.secret("ledger", url=stack.dsn)
        rig.secret("binance-keys", apiKey=stack.exchange.key.key, secret=stack.exchange.key.secret)
        rig.kubelet.hold(CHECK)
        rig.apply(changed(yaml.safe_load(stack.spec.read_text()), IN_THE_CLUSTER))
        rig.start()
        rig.until_ready(NAME)

    def _upgrade(self) -> None:
        before = self.rig.status(NAME)["revision"]
        assert self.rig.operators[-1].stop() == 0
        self.rig.start(environment={"TRADINGBOT_OPERATOR_AGENTS_IMAGE": "example.invalid/agents:2"})
        until(lambda: self.rig.status(NAME)["revision"] != before, "another revision", LIMIT)
        self.rig.until_ready(NAME)

    async def check(self) -> Finished:
        """A Job of the CronJob is run, and its pod's end is told as a kubelet tells it."""
        self._runs += 1
        name = f"{CHECK}-{self._runs}"
        await asyncio.to_thread(self._show_logs)
        pod = await asyncio.to_thread(self._pod_of_a_job, name)
        finished = await asyncio.to_thread(
            run_pod, self.rig.cluster, pod, self._folder / name, {"TRADINGBOT_REALITY_DELAY": "0"}
        )
        await asyncio.to_thread(self.rig.kubelet.ends, pod["metadata"]["name"], finished.code)
        return finished

    def _show_logs(self) -> None:
        for name, agent in self.stack.agents.items():
            lines = [(datetime.fromisoformat(each["timestamp"]), each) for each in agent.events]
            log = tuple((at, json.dumps(each).encode() + b"\n") for at, each in lines)
            self.rig.kubelet.lives(name, Life(began=log[0][0].replace(microsecond=0), log=log))

    def _pod_of_a_job(self, name: str) -> Json:
        self.rig.cluster.kubectl("create", "job", name, f"--from=cronjob/{CRON_JOB}", "-n", self.rig.namespace)

        def bound() -> Json | None:
            pods = [
                pod
                for pod in self.rig.api.list("v1/pods", self.rig.namespace, f"batch.kubernetes.io/job-name={name}")
                if pod["spec"].get("nodeName")
            ]
            return pods[0] if pods else None

        return until(bound, f"the pod of {name}", LIMIT)

    async def outcome(self) -> str:
        """Of the newest Job."""

        def ended() -> str | None:
            job = self.rig.api.get("batch/v1/jobs", self.rig.namespace, f"{CHECK}-{self._runs}")
            conditions = (job.get("status") or {}).get("conditions") or []
            return next((one["type"] for one in conditions if one["type"] in ("Complete", "Failed")), None)

        return await asyncio.to_thread(until, ended, "the end of the Job", LIMIT)

    def events(self) -> list[str]:
        return [each["reason"] for each in self.rig.events(NAME) if each["reason"].startswith("RealityCheck")]


@pytest.fixture
def servers() -> object:
    """Of each test its own: the market of another test had other prices at the same time."""
    program = find_influxd()
    if program is None:
        pytest.skip("no InfluxDB: run 'make servers'")
    with running_rabbitmq(INSTALLED) as rabbitmq, running_influxd(program) as influx:
        yield rabbitmq, influx


@asynccontextmanager
async def trading(rig: OperatorRig, servers: tuple[RabbitServer, InfluxServer], folder: Path) -> AsyncIterator[Place]:
    rabbitmq, influx = servers
    async with running_stack(rabbitmq, influx, {"realityCheck.onSevere": "Report"}) as stack:
        place = Place(rig, stack, folder)
        await place.start()
        yield place


def report_of(finished: Finished) -> Json:
    """Of the one line of JSON behind the text."""
    [line] = [each for each in finished.events if each["event"] == "reality_check"]
    report: Json = line["report"]
    return report


async def test_the_bot_and_the_job_tell_how_it_ended(
    rig: OperatorRig, servers: tuple[RabbitServer, InfluxServer], tmp_path: Path
) -> None:
    async with trading(rig, servers, tmp_path) as place:
        first = await place.check()
        report = report_of(first)
        wrong = {each["id"]: each["told"] for each in report["findings"] if each["status"] in ("failed", "unknown")}
        assert (first.code, wrong) == (exit_codes.OK, {}), first.out
        assert {each["id"] for each in report["findings"]} == {check.id for check in all_checks()}
        assert set(report["sources"].values()) == {"known"}, "also pods and logs, as its own service account"
        assert "Reality check of stack" in first.out, "it is there for people, too"
        assert await place.outcome() == "Complete"
        condition = rig.condition(NAME, "RealityCheckPassed")
        assert (condition["status"], condition["reason"]) == ("True", "Passed")
        assert rig.status(NAME)["lastRealityCheck"]["result"] == "passed"
        assert place.events() == ["RealityCheckPassed"]

        [defect] = [each for each in DEFECTS if each.name == "an order is placed by hand"]
        async with defect.broken(place.stack):
            second = await place.check()
            assert second.code == exit_codes.CHECK_FAILED, second.out
            assert await place.outcome() == "Failed"
            condition = rig.condition(NAME, "RealityCheckPassed")
            assert (condition["status"], condition["reason"]) == ("False", "InvariantBroken")
            assert "orders.unknown" in condition["message"]
            shown = rig.cluster.kubectl("get", "tradingbots", "-n", rig.namespace, "-o", "wide").out
            assert "failed" in shown, shown

        third = await place.check()
        assert third.code == exit_codes.OK, third.out
        assert await place.outcome() == "Complete"
        assert rig.condition(NAME, "RealityCheckPassed")["status"] == "True"
        assert place.events() == ["RealityCheckPassed", "RealityCheckFailed", "RealityCheckPassed"]
        assert report_of(third)["runs"] == 1


async def test_what_the_image_before_did_is_no_evidence_of_this_one(
    rig: OperatorRig, servers: tuple[RabbitServer, InfluxServer], tmp_path: Path
) -> None:
    [defect] = [each for each in DEFECTS if each.name == "a fallback price is used"]
    async with trading(rig, servers, tmp_path) as place, defect.broken(place.stack):
        before = await place.check()
        assert (before.code, _failed(before)) == (exit_codes.CHECK_FAILED, {"prices.fallbacks"}), before.out
        assert rig.condition(NAME, "RealityCheckPassed")["reason"] == "Failed"
        await place.roll()
        # The row is still there.
        after = await place.check()
        assert (after.code, _failed(after)) == (exit_codes.OK, set()), after.out
        assert rig.condition(NAME, "RealityCheckPassed")["status"] == "True"


def _failed(finished: Finished) -> set[str]:
    return {each["id"] for each in report_of(finished)["findings"] if each["status"] == "failed"}


async def test_a_server_that_is_away_is_unknown_and_no_pass(
    rig: OperatorRig, servers: tuple[RabbitServer, InfluxServer], tmp_path: Path
) -> None:
    async with trading(rig, servers, tmp_path) as place:
        rig.api.patch(
            "v1/secrets", rig.namespace, "influx", {"stringData": {"url": "http://127.0.0.1:1", "token": "x"}}
        )
        finished = await place.check()
        assert finished.code == exit_codes.CHECK_UNKNOWN, finished.out
        assert await place.outcome() == "Failed"
        condition = rig.condition(NAME, "RealityCheckPassed")
        assert condition["status"] == "Unknown"
        assert "prices.fresh" in condition["message"]
        assert place.events() == ["RealityCheckUnknown"]
