"""The real operator under the service account and the roles of the chart: nothing that it needs is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.chart import Release
from support.kubernetes import Cluster, Json, until
from support.operator_rig import OperatorRig, operator_rig

pytestmark = [pytest.mark.kubernetes, pytest.mark.usefixtures("controllers"), pytest.mark.minutes]


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_nothing_that_the_operator_needs_is_refused(
    release: Release, control_plane: Cluster, namespace: str, tmp_path: Path, scope: str
) -> None:
    watched = [namespace] if scope == "namespace" else []
    release.install({"watchNamespaces": watched})
    since = control_plane.audit.mark()
    with operator_rig(control_plane, namespace, tmp_path) as rig:
        rig.kubeconfig, rig.user = release.kubeconfig(), release.user
        operator = rig.start(environment={"TRADINGBOT_OPERATOR_NAMESPACES": ",".join(watched)})
        live_a_life(rig)
        assert operator.stop() == 0
    asked = control_plane.audit.requests(since, release.user)
    assert len(asked) > 100
    # An API server that has just been told of a kind refuses to have it as an owner for half a minute
    # (OwnerReferencesPermissionEnforcement), whatever the roles say: what was allowed later is a right.
    refused = {(each.verb, each.resource, each.subresource) for each in asked if each.code == 403}
    refused -= {(each.verb, each.resource, each.subresource) for each in asked if each.code < 300}
    # Options of the chart that are off: the operator looks, and does without.
    assert refused <= {("list", "rabbitmqclusters.rabbitmq.com", ""), ("list", "clusters.postgresql.cnpg.io", "")}


def live_a_life(rig: OperatorRig) -> None:
    """All that the operator does with a bot whose servers it makes: created, obeyed, repaired, updated, deleted."""
    rig.apply_example("paper")
    rig.until_ready("paper")
    rig.report("paper")
    rig.edit("paper", state="Paused")
    until(lambda: all(state_of(pod) == "Paused" for pod in rig.pods("risk")), "risk's pod is told")
    rig.until_ready("paper")
    deployment = rig.child("deployments", "paper-strategy")
    assert deployment is not None
    rig.api.delete("apps/v1/deployments", rig.namespace, "paper-strategy")

    def is_anew() -> bool:
        found = rig.child("deployments", "paper-strategy")
        return found is not None and found["metadata"]["uid"] != deployment["metadata"]["uid"]

    until(is_anew, "it is made again")
    until(lambda: rig.events("paper", "Repaired"), "the repair is told")
    rig.edit("paper", symbols=["BTC/USDT"])
    rig.until_ready("paper")
    rig.delete("paper")
    until(lambda: rig.bot("paper") is None, "the bot is gone")
    until(lambda: rig.child("deployments", "paper-risk") is None, "its children are gone")


def state_of(pod: Json) -> str | None:
    found: str | None = (pod["metadata"].get("annotations") or {}).get("tradingbot.dev/state")
    return found
