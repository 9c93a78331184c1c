"""What the operator makes of a bot's own pods, before a real API server: valid to the last field, admitted under the
restricted Pod Security Standard, with the rights that are needed and no others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from support.kubernetes import Cluster, Completed, Json, Refused, until
from support.specs import LIVE, PAPER, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator.builders import access, agents, check, config, disruption, migration, network, prune
from tradingbot_operator.compare import difference
from tradingbot_operator.desired import pin
from tradingbot_operator.kinds import kind_of, ref_of
from tradingbot_operator.names import AGENTS, Annotation, Component

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

Command = Callable[..., Completed]

IMAGE = "example.invalid/agents:1"
LONGEST = "b" * 40

EVERYTHING: dict[str, Any] = {
    "exchange.endpoint": "https://proxy.example.com:8443/binance",
    "exchange.feed": "websocket",
    "realityCheck.credentialsSecretRef": {"name": "binance-read-only"},
    "messaging": {"external": {"urlSecretRef": {"name": "rabbit"}}},
    "timeSeries": {"external": {"urlSecretRef": {"name": "influx"}, "tokenSecretRef": {"name": "influx"}}},
    "database": {"external": {"urlSecretRef": {"name": "ledger"}}},
    "agents": {
        name: {
            "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1Gi"}},
            "nodeSelector": {"kubernetes.io/arch": "arm64"},
            "tolerations": [{"key": "only", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
            "affinity": {
                "nodeAffinity": {
                    "preferredDuringSchedulingIgnoredDuringExecution": [
                        {
                            "weight": 1,
                            "preference": {
                                "matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]
                            },
                        }
                    ]
                }
            },
            "env": [
                {"name": "HTTPS_PROXY", "value": "http://proxy:3128"},
                {"name": "TOKEN", "valueFromSecret": {"name": "mine", "key": "token"}},
            ],
            "annotations": {"note": "mine"},
        }
        for name in ("dataCollection", "technicalAnalysis", "strategy", "risk", "execution", "realityCheck")
    },
}

BOTS = {
    "live": load_object(LIVE),
    "paper": load_object(PAPER),
    "paper on real candles": load_object(changed(PAPER, {"exchange": {"name": "binance"}})),
    "everything": load_object(changed(LIVE, EVERYTHING)),
    "longest names": load_object(
        changed(LIVE, {"account.name": LONGEST, "liveConfirmation": f"trade real money on binance/{LONGEST}"})
        | {"metadata": {"name": LONGEST}}
    ),
}


def manifests(bot: TradingBot, namespace: str, image: str = IMAGE) -> list[Json]:
    """All that is made of a bot, but its servers."""
    pinned = pin(bot, namespace, image)
    revision = pinned.revision
    workloads = {component.value: manifest for component, manifest in pinned.workloads.items()}
    volume = agents.paper_volume(bot, namespace)
    return [
        config.spec_config(bot, namespace, image, revision, workloads),
        config.state_config(bot, namespace),
        *access.access(bot, namespace),
        *network.of_bot(bot, namespace),
        *network.of_account(bot, namespace),
        migration.job(bot, namespace, image, revision),
        *([] if volume is None else [volume]),
        agents.service(bot, namespace),
        *(agents.workload(component, bot, namespace, image, revision) for component in AGENTS),
        *disruption.budgets(bot, namespace, has_positions=True),
        check.cron_job(bot, namespace, image, revision, "0f9a"),
        prune.cron_job(bot, namespace, image, revision),
    ]


def pods_of(found: list[Json]) -> list[Json]:
    """The templates as pods: a workload whose pods are forbidden is accepted itself."""
    pods = []
    for each in found:
        spec = each.get("spec", {})
        template = spec.get("jobTemplate", {}).get("spec", spec).get("template")
        if template is not None:
            metadata = {**template["metadata"], "name": each["metadata"]["name"]}
            namespaced = {**metadata, "namespace": each["metadata"]["namespace"]}
            pods.append({"apiVersion": "v1", "kind": "Pod", "metadata": namespaced, "spec": template["spec"]})
    return pods


def apply(control_plane: Cluster, manifest: Json) -> Json:
    kind = kind_of(manifest)
    return control_plane.api.apply(f"{kind.api_version}/{kind.plural}", manifest, "tradingbot-operator")


# ---------------------------------------------------------------------------------------------- admission


@pytest.mark.parametrize("name", BOTS)
def test_every_manifest_and_every_pod_is_admitted_without_a_warning(
    name: str, kubectl: Command, control_plane: Cluster, namespace: str
) -> None:
    found = manifests(BOTS[name], namespace)
    pods = pods_of(found)
    assert len(pods) == 8
    dry_run = ("apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-")
    done = kubectl(*dry_run, input=found)
    assert done.err == ""
    assert len(done.out.splitlines()) == len(found)
    # A pod is refused when its service account is not there.
    for each in access.access(BOTS[name], namespace):
        apply(control_plane, each)
    done = kubectl(*dry_run, input=pods)
    assert done.err == ""
    assert len(done.out.splitlines()) == len(pods)


@pytest.mark.parametrize("name", BOTS)
def test_what_the_api_server_keeps_is_what_was_wanted(name: str, control_plane: Cluster, namespace: str) -> None:
    """Or the operator would write again and again."""
    for manifest in manifests(BOTS[name], namespace):
        assert (ref_of(manifest), difference(apply(control_plane, manifest), manifest)) == (ref_of(manifest), None)


def test_a_pinned_spec_can_not_be_changed(control_plane: Cluster, namespace: str) -> None:
    manifest = config.spec_config(BOTS["live"], namespace, IMAGE, "0123456789ab", {})
    apply(control_plane, manifest)
    with pytest.raises(Refused, match="immutable"):
        apply(control_plane, {**manifest, "data": {**manifest["data"], config.IMAGE_KEY: "another"}})


# ---------------------------------------------------------------------------------------------- controllers


@pytest.mark.usefixtures("controllers")
def test_risk_has_one_pod_and_a_new_revision_replaces_one_that_never_became_ready(
    control_plane: Cluster, namespace: str
) -> None:
    bot, api = BOTS["live"], control_plane.api
    for each in access.access(bot, namespace):
        apply(control_plane, each)

    def revisions() -> list[str]:
        found = api.list("v1/pods", namespace)
        assert len(found) < 2
        return [each["metadata"]["annotations"][Annotation.REVISION.value] for each in found]

    # There is no node, so that no pod ever becomes ready.
    apply(control_plane, agents.workload(Component.RISK, bot, namespace, IMAGE, "000000000000"))
    until(lambda: revisions() == ["000000000000"], "a pod of the first revision")
    apply(control_plane, agents.workload(Component.RISK, bot, namespace, IMAGE, "111111111111"))
    until(lambda: revisions() == ["111111111111"], "a pod of the second revision")


# --------------------------------------------------------------------------------------------------- rights


STATUS = {"group": "tradingbot.dev", "resource": "tradingbots", "subresource": "status", "verb": "patch"}


def may(control_plane: Cluster, namespace: str, component: Component, question: dict[str, str]) -> bool:
    """Whether a program of ``namespace`` may do that; there, unless the question names another place."""
    user = f"system:serviceaccount:{namespace}:live-{component}"
    review = control_plane.api.create(
        "authorization.k8s.io/v1/subjectaccessreviews",
        {"metadata": {}, "spec": {"user": user, "resourceAttributes": {"namespace": namespace, **question}}},
    )
    return bool(review["status"]["allowed"])


@pytest.fixture
def granted(control_plane: Cluster, namespace: str) -> None:
    """The rights of a bot's programs, in force: the API server learns of a new role a moment after it was made."""
    for each in access.access(BOTS["live"], namespace):
        apply(control_plane, each)
    own = {**STATUS, "name": "live"}
    holders = (Component.RISK, Component.EXECUTION, Component.REALITY_CHECK)
    until(lambda: all(may(control_plane, namespace, each, own) for each in holders), "their rights")


def rights(kubectl: Command, namespace: str, account: str) -> set[str]:
    """Lines of what an account may do; all that is said of it."""
    user = f"--as=system:serviceaccount:{namespace}:{account}"
    groups = ("--as-group=system:serviceaccounts", "--as-group=system:authenticated")
    done = kubectl("auth", "can-i", "--list", "--no-headers", user, *groups, "-n", namespace)
    return {" ".join(line.split()) for line in done.out.splitlines()}


@pytest.fixture
def allowed(granted: None, kubectl: Command, namespace: str) -> Callable[[Component], set[str]]:
    """What a program may do beyond what every service account may."""
    everyone = rights(kubectl, namespace, "default")
    return lambda component: rights(kubectl, namespace, f"live-{component}") - everyone


OWN = {"tradingbots.tradingbot.dev [] [live] [get]", "tradingbots.tradingbot.dev/status [] [live] [get patch]"}


def test_agents_that_tell_nothing_may_do_nothing(allowed: Callable[[Component], set[str]]) -> None:
    for component in (
        Component.DATA_COLLECTION,
        Component.TECHNICAL_ANALYSIS,
        Component.STRATEGY,
        Component.MIGRATION,
        Component.PRUNE,
    ):
        assert allowed(component) == set()


def test_risk_and_execution_may_write_the_status_of_their_own_bot(allowed: Callable[[Component], set[str]]) -> None:
    for component in (Component.RISK, Component.EXECUTION):
        assert allowed(component) == OWN


def test_the_check_may_read_pods_and_their_logs_and_tell_events(allowed: Callable[[Component], set[str]]) -> None:
    assert allowed(Component.REALITY_CHECK) == OWN | {
        "pods [] [] [get list]",
        "pods/log [] [] [get]",
        "events [] [] [create]",
    }


@pytest.mark.parametrize(
    ("component", "question", "answer"),
    [
        (Component.RISK, {**STATUS, "name": "live"}, True),
        (Component.RISK, {**STATUS, "name": "another"}, False),
        (Component.RISK, {**STATUS, "name": "live", "subresource": ""}, False),
        (Component.RISK, {"resource": "secrets", "verb": "get"}, False),
        (Component.EXECUTION, {**STATUS, "name": "live"}, True),
        (Component.EXECUTION, {"resource": "secrets", "verb": "get"}, False),
        (Component.EXECUTION, {"resource": "pods", "verb": "get"}, False),
        (Component.REALITY_CHECK, {**STATUS, "name": "live"}, True),
        (Component.REALITY_CHECK, {"resource": "pods", "subresource": "log", "verb": "get"}, True),
        (Component.REALITY_CHECK, {"resource": "pods", "subresource": "exec", "verb": "create"}, False),
        (Component.REALITY_CHECK, {"resource": "pods", "verb": "delete"}, False),
        (Component.REALITY_CHECK, {"resource": "secrets", "verb": "list"}, False),
        (Component.STRATEGY, {**STATUS, "name": "live"}, False),
    ],
)
@pytest.mark.usefixtures("granted")
def test_a_program_may_do_what_it_needs_and_nothing_else(
    control_plane: Cluster, namespace: str, component: Component, question: dict[str, str], answer: bool
) -> None:
    assert may(control_plane, namespace, component, question) is answer
    assert not may(control_plane, namespace, component, {**question, "namespace": "default"})
