"""Risk and execution on a real API server: what they write on their TradingBot, as whom, and what when it refuses."""

from __future__ import annotations

import asyncio
import shutil
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.certificates import Authority
from support.influxdb import InfluxServer
from support.kubernetes import Cluster, control_plane, namespace, until
from support.operator_rig import BOTS, install_crd
from support.pod_access import Pod
from support.process import Process
from support.rabbitmq import INSTALLED, RabbitServer
from support.specs import LIVE
from support.stack import AgentProcess, Stack, running_stack
from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK
from tradingbot_agents.runtime.api_server import ApiUnavailable
from tradingbot_agents.runtime.cluster import BotStatus

__all__ = ["control_plane", "namespace"]

pytestmark = [pytest.mark.kubernetes, pytest.mark.process, pytest.mark.minutes]

Json = dict[str, Any]


@pytest.fixture
def cluster(control_plane: Cluster) -> Cluster:
    """With the CRD."""
    install_crd(control_plane)
    return control_plane


@pytest.fixture
def pod(cluster: Cluster, namespace: str, tmp_path: Path) -> Pod:
    return Pod(cluster, namespace, tmp_path, LIVE)


FACTS: Json = {
    "agents": {"risk": {"state": "Running"}},
    "equity": "84.54",
    "quoteCurrency": "USDT",
    "openPositions": 1,
    "liveOrders": 1,
    "unprotectedPositions": 0,
    "factsAt": "2026-03-01T12:00:00Z",
    "positions": [{"symbol": "BTC/USDT", "amount": "0.001", "protected": True}],
}


async def test_each_writer_owns_its_fields_and_leaves_the_others_theirs(pod: Pod) -> None:
    ready = {
        "type": "Ready",
        "status": "True",
        "reason": "AllThere",
        "message": "",
        "lastTransitionTime": "2026-03-01T12:00:00Z",
    }
    operators = {"conditions": [ready], "agents": {"risk": {"ready": True}}}
    pod.cluster.api.patch(BOTS, pod.namespace, pod.name, {"status": operators}, "status")
    await BotStatus(pod.access(RISK), RISK, pod.name).apply(FACTS)
    await BotStatus(pod.access(EXECUTION), EXECUTION, pod.name).apply({"agents": {"execution": {"state": "Paused"}}})
    assert pod.status() == {
        **FACTS,
        "conditions": [ready],
        "agents": {"risk": {"ready": True, "state": "Running"}, "execution": {"state": "Paused"}},
    }
    # What is not known any more is taken away, and nobody else's is.
    without = {name: value for name, value in FACTS.items() if name != "equity"} | {"positions": []}
    await BotStatus(pod.access(RISK), RISK, pod.name).apply(without)
    status = pod.status()
    assert "equity" not in status
    assert not status.get("positions")
    assert status["agents"]["execution"] == {"state": "Paused"}
    managers = pod.cluster.api.get(BOTS, pod.namespace, pod.name)["metadata"]["managedFields"]
    assert {"tradingbot-risk", "tradingbot-execution"} <= {each["manager"] for each in managers}


async def test_the_rights_of_one_bots_agents_end_at_that_bot(pod: Pod) -> None:
    other = {**LIVE, "metadata": {"name": "other", "namespace": pod.namespace}}
    pod.cluster.api.create(BOTS, other)
    with pytest.raises(ApiUnavailable, match=r"^the API server says 403: .*cannot patch resource"):
        await BotStatus(pod.access(RISK), RISK, "other").apply(FACTS)


async def test_what_can_not_be_written_is_told_in_words(pod: Pod) -> None:
    access = pod.access(RISK)
    status = BotStatus(access, RISK, pod.name)
    with pytest.raises(ApiUnavailable, match=r"^the API server says [45]\d\d: .*openPositions"):
        await status.apply({"openPositions": "many"})
    good = (access.folder / "token").read_text()
    (access.folder / "token").write_text("somebody-elses-token")
    with pytest.raises(ApiUnavailable, match=r"^the API server says 401: Unauthorized") as raised:
        await status.apply(FACTS)
    assert "somebody" not in str(raised.value)
    # An exchanged token is taken up by the next write.
    (access.folder / "token").write_text(good)
    await status.apply(FACTS)
    (access.folder / "ca.crt").write_text("no certificate")
    with pytest.raises(ApiUnavailable, match=r"^SSLError"):
        await status.apply(FACTS)
    shutil.copy(Authority(access.folder, "another").file, access.folder / "ca.crt")
    with pytest.raises(ApiUnavailable, match="the API server's certificate is not trusted"):
        await status.apply(FACTS)
    (access.folder / "token").unlink()
    with pytest.raises(ApiUnavailable, match="token"):
        await status.apply(FACTS)


async def test_a_bot_that_is_gone_is_told_as_that(pod: Pod) -> None:
    pod.cluster.api.delete(BOTS, pod.namespace, pod.name)
    with pytest.raises(ApiUnavailable, match=r"^the API server says 404: .*not found"):
        await BotStatus(pod.access(RISK), RISK, pod.name).apply(FACTS)


# ------------------------------------------------------------------------------------------------- five processes


class InPod(AgentProcess):
    """As a pod starts it: the state is in a file of its own."""

    def __init__(self, name: str, stack: Stack, environment: dict[str, str]) -> None:
        super().__init__(name, stack.spec, {**stack.environment, **environment})
        state: list[str | Path] = ["--state-file", stack.folder / "state"]
        self._command = ["agent", name, stack.spec, *state, "--listen", "127.0.0.1:0", "--output", "json"]

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs already"
        self._process = Process(self._command, cwd=self._spec.parent, environment=self._environment)


@pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True)
async def test_five_processes_tell_on_the_tradingbot_and_trade_whether_it_hears_or_not(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer, cluster: Cluster, namespace: str
) -> None:
    async with running_stack(own_rabbitmq, own_influx) as stack:
        document = yaml.safe_load(stack.spec.read_text())
        pod = Pod(cluster, namespace, stack.folder, document)
        (stack.folder / "state").write_text("Running\n")
        in_cluster = {agent: pod.environment(agent) for agent in (RISK, EXECUTION)}
        nowhere = {**in_cluster[EXECUTION], "KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": "1"}
        stack.agents = {name: InPod(name, stack, in_cluster.get(name, {})) for name in AGENTS}
        stack.agents[EXECUTION] = InPod(EXECUTION, stack, nowhere)
        try:
            stack.start()
            await stack.ready()
            # Nobody hears execution, and it trades.
            await stack.agents[EXECUTION].tells("fill_booked", count=3)
            away = await stack.agents[EXECUTION].tells("dependency_away")
            assert away["what"] == "kubernetes"
            assert "127.0.0.1:1 can not be reached" in away["why"]
            await _until(pod, "three protected positions", lambda told: told.get("openPositions") == 3)
            await stack.settled()
            status = await _until(
                pod, "every position is protected", lambda told: _facts(told)[::2] == (3, 0) and "equity" in told
            )
            assert status["agents"]["risk"] == {"state": "Running", "revision": "0123456789ab"}
            assert "execution" not in status["agents"]
            assert Decimal(900) < Decimal(status["equity"]) < Decimal(1100)
            assert [each["symbol"] for each in status["positions"]] == ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
            assert all(each["protected"] for each in status["positions"])
            away_from = [(each["agent"], each["what"]) for each in stack.told("dependency_away")]
            assert away_from.count((EXECUTION, "kubernetes")) == 1, "told once"
            assert (RISK, "kubernetes") not in away_from

            # A crashed one comes back where it is heard; the state is the file's, whatever the spec says.
            await stack.agents[EXECUTION].kill()
            stack.agents[EXECUTION] = InPod(EXECUTION, stack, in_cluster[EXECUTION])
            (stack.folder / "state").write_text("Flatten\n")
            stack.start()
            status = await _until(pod, "all is sold", lambda told: _facts(told) == (0, 0, 0))
            assert {name: agent["state"] for name, agent in status["agents"].items()} == {
                "risk": "Flatten",
                "execution": "Flatten",
            }
            assert not status.get("positions")
            await stack.settled()
            await stack.stop()
            await stack.compare()
            for name in (RISK, EXECUTION):
                account = f"system:serviceaccount:{namespace}:{pod.name}-{name}"
                asked = cluster.audit.requests(user=account)
                assert {(each.verb, each.resource, each.subresource) for each in asked} == {
                    ("patch", "tradingbots.tradingbot.dev", "status")
                }
        finally:
            for agent in stack.agents.values():
                agent.clean()


def _facts(status: Json) -> tuple[object, object, object]:
    return status.get("openPositions"), status.get("liveOrders"), status.get("unprotectedPositions")


async def _until(pod: Pod, what: str, wanted: Any) -> Json:
    found: list[Json] = []

    def look() -> bool:
        found[:] = [pod.status()]
        return bool(wanted(found[0]))

    try:
        await asyncio.to_thread(until, look, what)
    except AssertionError as error:
        raise AssertionError(f"{error}; the status is {found}") from None
    return found[0]
