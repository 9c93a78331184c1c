"""Where a reality check finds execution in a real cluster, with the rights of its own service account."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.kubernetes import Cluster
from support.pod_access import Pod
from support.specs import LIVE
from tradingbot_agents.runtime.api_server import ApiUnavailable
from tradingbot_agents.runtime.gathering_exchange import execution_in_cluster
from tradingbot_api import load_object
from tradingbot_operator.builders import agents as builders
from tradingbot_operator.names import AGENT_PORT, Component

pytestmark = pytest.mark.kubernetes

BOT = "live"


class Pods:
    """Of execution, and of others, as their workloads' templates have them."""

    def __init__(self, pod: Pod) -> None:
        self._pod = pod
        self._api = pod.cluster.api

    def add(self, name: str, component: Component = Component.EXECUTION, **status: Any) -> None:
        workload = builders.workload(
            component, load_object(LIVE), self._pod.namespace, "example.invalid/agents:1", "0123456789ab"
        )
        template = workload["spec"]["template"]
        metadata = {**template["metadata"], "name": name, "namespace": self._pod.namespace}
        self._api.create("v1/pods", {"metadata": metadata, "spec": template["spec"]})
        self._api.patch("v1/pods", self._pod.namespace, name, {"status": status}, "status")

    def address(self) -> tuple[str, int]:
        return asyncio.run(execution_in_cluster(self._pod.access("reality-check"), BOT))


@pytest.fixture
def pods(tradingbots: None, control_plane: Cluster, namespace: str, tmp_path: Path) -> Pods:
    return Pods(Pod(control_plane, namespace, tmp_path, LIVE))


def runs(address: str) -> dict[str, Any]:
    return {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}


def test_it_is_the_pod_of_execution_that_runs(pods: Pods) -> None:
    with pytest.raises(ApiUnavailable, match="no pod of execution runs"):
        pods.address()
    pods.add("other", Component.RISK, **runs("10.0.0.1"))
    pods.add("evicted", phase="Failed", podIP="10.0.0.2", podIPs=[{"ip": "10.0.0.2"}])
    pods.add("waits", phase="Pending")
    with pytest.raises(ApiUnavailable, match="no pod of execution runs"):
        pods.address()
    pods.add("works", **runs("10.0.0.3"))
    assert pods.address() == ("10.0.0.3", AGENT_PORT)
