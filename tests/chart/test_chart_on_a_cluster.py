"""The chart on a real API server: installed, upgraded, uninstalled; what it guards, and what its roles allow."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from support.chart import BOTS, CHART, CRD_NAME, CRDS, EVERYTHING, Release, UninstallInBackground, may, templated
from support.fake_kubelet import FakeKubelet
from support.kubernetes import Api, Cluster, Json, Refused, address, until
from support.process import REPOSITORY
from tradingbot_operator.kinds import OWN, Kind

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

PAPER: Json = yaml.safe_load((REPOSITORY / "examples" / "paper.yaml").read_text())


def a_bot(namespace: str, name: str = "one", **spec: object) -> Json:
    found: Json = json.loads(json.dumps(PAPER))
    found["metadata"] = {"name": name, "namespace": namespace}
    found["spec"] |= {"deletionPolicy": "Block", **spec}
    return found


def with_positions(api: Api, namespace: str, count: int, name: str = "one") -> None:
    api.patch(BOTS, namespace, name, {"status": {"openPositions": count}}, "status")


@contextmanager
def another_namespace(api: Api, name: str) -> Iterator[str]:
    api.create("v1/namespaces", {"metadata": {"name": name}})
    try:
        yield name
    finally:
        api.delete("v1/namespaces", None, name)


# --- manifests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
@pytest.mark.parametrize("values", [{}, EVERYTHING], ids=["as it is", "with everything"])
def test_the_api_server_takes_every_manifest(
    kubectl: Callable[..., object], control_plane: Cluster, namespace: str, values: Json, scope: str
) -> None:
    watched = {"watchNamespaces": [namespace]} if scope == "namespace" else {}
    manifests = templated(control_plane, values | watched, namespace=namespace)
    # Prometheus's operator has brought no definitions here.
    known = [each for each in manifests if not each["apiVersion"].startswith("monitoring.coreos.com/")]
    assert len(manifests) - len(known) == (3 if values else 0)
    done = control_plane.kubectl(
        "apply", "--server-side", "--force-conflicts", "--dry-run=server", "--validate=strict", "-f", "-", input=known
    )
    assert len(done.out.splitlines()) == len(known)
    assert done.err == "", "no warning, of Pod Security or of anything else"


# --- its life -------------------------------------------------------------------------------------------------


def test_install_test_upgrade_uninstall_and_again(
    release: Release, kubelet: FakeKubelet, control_plane: Cluster, namespace: str, tmp_path: Path
) -> None:
    api = control_plane.api
    notes = release.install(None, "--wait", "--timeout", "60s").out
    assert f"kubectl -n {namespace} rollout status deployment/tradingbot-operator" in notes
    assert "kubectl apply -f examples/paper.yaml" in notes
    [pod] = api.list("v1/pods", namespace, "app.kubernetes.io/component=operator")
    tested = control_plane.helm("test", release.name, "-n", namespace, "--timeout", "60s").out
    assert "Succeeded" in tested

    api.create(BOTS, a_bot(namespace))
    newer = tmp_path / "newer"
    shutil.copytree(CHART, newer)
    file = newer / "files" / "tradingbots.yaml"
    file.write_text(file.read_text().replace("    - tb\n", "    - tb\n    - bots\n", 1))
    release.upgrade({"image": {"tag": "newer"}}, "--wait", "--timeout", "60s", chart=newer)
    assert release.revision == 2
    assert api.get(CRDS, None, CRD_NAME)["spec"]["names"]["shortNames"] == ["tb", "bots"], "the CRD is upgraded"
    [later] = api.list("v1/pods", namespace, "app.kubernetes.io/component=operator")
    assert later["metadata"]["uid"] != pod["metadata"]["uid"]
    assert later["spec"]["containers"][0]["image"].endswith(":newer")
    assert kubelet.most("operator") == 1, "never two at a time"
    assert api.find(BOTS, namespace, "one") is not None

    release.uninstall("--no-hooks", "--wait", "--timeout", "60s")
    assert api.list("apps/v1/deployments", namespace) == []
    assert api.find(BOTS, namespace, "one") is not None, "the CRD stays, and with it the bots"
    # By the same name and in the same namespace it is the release's own CRD.
    control_plane.helm("install", release.name, CHART, "-n", namespace)
    assert api.get(CRDS, None, CRD_NAME)["spec"]["names"]["shortNames"] == ["tb"]


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_an_uninstall_is_refused_while_there_are_bots(
    release: Release, kubelet: FakeKubelet, control_plane: Cluster, namespace: str, scope: str
) -> None:
    """The hook's container is played here: its command runs for real, as its service account."""
    api = control_plane.api
    kubelet.hold("uninstall-check")
    release.install({"watchNamespaces": [namespace]} if scope == "namespace" else None)
    # What other tests have left is about to go.
    until(lambda: not api.list(BOTS), "there are no bots of others")
    api.create(BOTS, a_bot(namespace))
    with UninstallInBackground(release) as uninstall:
        said = uninstall.play_check()
        assert said.code == 1
        assert f"TradingBot one in namespace {namespace} is there" in said.err
        assert "delete them first, or uninstall with --no-hooks to leave them running" in said.err
        refused = uninstall.result()
        assert refused.code != 0
        assert "tradingbot-operator-uninstall-check" in refused.err
    assert api.find("apps/v1/deployments", namespace, release.name) is not None, "nothing is removed"
    assert api.find("batch/v1/jobs", namespace, f"{release.name}-uninstall-check") is not None, "its log can be read"

    api.delete(BOTS, namespace, "one")
    with UninstallInBackground(release) as uninstall:
        said = uninstall.play_check()
        assert (said.code, said.err) == (0, "")
        assert uninstall.result().code == 0
    assert api.find("apps/v1/deployments", namespace, release.name) is None
    assert api.find(CRDS, None, CRD_NAME) is not None


# --- the admission policy ---------------------------------------------------------------------------------------


def a_delete(api: Api, namespace: str, name: str = "one") -> str:
    """Tried only; why it is refused, or nothing."""
    try:
        api.ask("DELETE", address(BOTS, namespace, name), dryRun="All")
    except Refused as refused:
        if refused.code != 403:
            raise
        return refused.message
    return ""


def test_a_bot_with_open_positions_is_not_deleted(release: Release, control_plane: Cluster, namespace: str) -> None:
    api = control_plane.api
    release.install({"watchNamespaces": [namespace]})
    api.create(BOTS, a_bot(namespace))
    assert a_delete(api, namespace) == "", "it has not reported yet"
    with_positions(api, namespace, 0)
    assert a_delete(api, namespace) == ""
    with_positions(api, namespace, 2)
    # A new policy is in force some moments after it was made.
    until(lambda: a_delete(api, namespace), "the policy is in force")
    why = a_delete(api, namespace)
    assert "TradingBot one holds 2 open positions, and its deletionPolicy is Block." in why
    assert "spec.state: Flatten" in why
    assert "spec.deletionPolicy: Flatten or Retain" in why
    command = f"kubectl annotate tradingbot one -n {namespace} tradingbot.dev/abandon=true"
    assert why.endswith(command)
    with_positions(api, namespace, 1)
    assert "holds 1 open position, and" in a_delete(api, namespace)
    with pytest.raises(Refused):
        api.ask("DELETE", address(BOTS, namespace))
    refused = control_plane.kubectl("delete", "tradingbot", "one", "-n", namespace, "--wait=false", check=False)
    assert "deletionPolicy is Block" in refused.err

    for policy in ("Retain", "Flatten"):
        api.patch(BOTS, namespace, "one", {"spec": {"deletionPolicy": policy}})
        assert a_delete(api, namespace) == ""
        api.patch(BOTS, namespace, "one", {"spec": {"deletionPolicy": "Block"}})
        assert a_delete(api, namespace) != ""
    control_plane.kubectl(*command.split()[1:])
    assert a_delete(api, namespace) == ""
    api.delete(BOTS, namespace, "one")
    assert api.find(BOTS, namespace, "one") is None


def test_a_bot_that_is_being_deleted_may_be_asked_to_again(
    release: Release, control_plane: Cluster, namespace: str
) -> None:
    """Or what ends a namespace would be refused while the operator waits for the positions."""
    api = control_plane.api
    release.install({"watchNamespaces": [namespace]})
    bot = a_bot(namespace, deletionPolicy="Flatten")
    bot["metadata"]["finalizers"] = ["tradingbot.dev/deletion-policy"]
    api.create(BOTS, bot)
    api.create(BOTS, a_bot(namespace, "other"))
    for name in ("one", "other"):
        with_positions(api, namespace, 1, name)
    until(lambda: a_delete(api, namespace, "other"), "the policy is in force")
    api.delete(BOTS, namespace, "one")
    api.patch(BOTS, namespace, "one", {"spec": {"deletionPolicy": "Block"}})
    assert a_delete(api, namespace) == ""


def test_the_policy_guards_the_namespaces_that_the_operator_looks_after(
    release: Release, control_plane: Cluster, namespace: str
) -> None:
    api = control_plane.api
    release.install({"watchNamespaces": [namespace]})
    with another_namespace(api, f"{namespace}-other") as other:
        for place in (namespace, other):
            api.create(BOTS, a_bot(place))
            with_positions(api, place, 1)
        until(lambda: a_delete(api, namespace), "the policy is in force")
        assert a_delete(api, other) == ""
        api.delete(BOTS, other, "one")


def test_the_api_server_finds_no_fault_in_the_policy(
    controllers: None, release: Release, control_plane: Cluster
) -> None:
    release.install()
    name = f"{release.cluster_name}-deletion"
    policies = "admissionregistration.k8s.io/v1/validatingadmissionpolicies"

    def checked() -> Json | None:
        found: Json = control_plane.api.get(policies, None, name).get("status", {})
        return found if "typeChecking" in found else None

    assert until(checked, "the policy's types are checked")["typeChecking"] == {}


# --- roles ----------------------------------------------------------------------------------------------------


FORBIDDEN = (
    # It would not be least privilege: what a person has made is never replaced, only patched where it is ours.
    ("create", "tradingbots.tradingbot.dev"),
    ("update", "tradingbots.tradingbot.dev"),
    ("delete", "tradingbots.tradingbot.dev"),
    ("update", "secrets"),
    ("deletecollection", "secrets"),
    ("delete", "events"),
    ("create", "pods"),
    ("delete", "pods"),
    ("create", "pods/exec"),
    ("create", "pods/attach"),
    ("create", "pods/portforward"),
    ("patch", "pods/ephemeralcontainers"),
    ("create", "serviceaccounts/token"),
    ("impersonate", "serviceaccounts"),
    ("create", "daemonsets.apps"),
    ("escalate", "roles.rbac.authorization.k8s.io"),
    ("bind", "roles.rbac.authorization.k8s.io"),
)
FORBIDDEN_IN_THE_CLUSTER = (
    ("list", "nodes"),
    ("list", "namespaces"),
    ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ("delete", "namespaces"),
    ("create", "namespaces"),
    ("delete", "persistentvolumes"),
    ("get", "nodes/proxy"),
    ("create", "clusterroles.rbac.authorization.k8s.io"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("delete", "customresourcedefinitions.apiextensions.k8s.io"),
    ("delete", "validatingadmissionpolicies.admissionregistration.k8s.io"),
    ("create", "mutatingwebhookconfigurations.admissionregistration.k8s.io"),
    ("approve", "certificatesigningrequests.certificates.k8s.io"),
)


def resource_of(kind: Kind) -> str:
    group, _, _ = kind.api_version.rpartition("/")
    return kind.plural + (f".{group}" if group else "")


@pytest.mark.parametrize("scope", ["cluster", "namespace"])
def test_the_operator_may_do_its_work_and_nothing_else(
    release: Release, control_plane: Cluster, namespace: str, scope: str
) -> None:
    release.install({"watchNamespaces": [namespace]} if scope == "namespace" else None)
    where = namespace if scope == "namespace" else None
    for kind in OWN:
        for verb in ("get", "list", "watch", "create", "patch", "delete"):
            assert release.may(verb, resource_of(kind), where), f"{verb} {kind.plural}"
    for verb in ("get", "list", "watch", "patch"):
        assert release.may(verb, "tradingbots.tradingbot.dev", where)
        assert release.may(verb, "pods", where)
    assert release.may("patch", "tradingbots.tradingbot.dev/status", where)
    assert release.may("get", "pods/log", where)
    assert release.may("create", "events", where)
    for verb, resource in (*FORBIDDEN, *FORBIDDEN_IN_THE_CLUSTER):
        assert not release.may(verb, resource, where), f"{verb} {resource}"
    assert not release.may("list", "rabbitmqclusters.rabbitmq.com", where)
    assert not release.may("list", "clusters.postgresql.cnpg.io", where)
    if scope == "namespace":
        for verb, resource in (
            ("list", "secrets"),
            ("create", "deployments.apps"),
            ("get", "tradingbots.tradingbot.dev"),
        ):
            assert not release.may(verb, resource, "kube-system"), f"{verb} {resource} elsewhere"
            assert not release.may(verb, resource), f"{verb} {resource} everywhere"


def test_kinds_of_other_operators_are_an_option_each(release: Release, namespace: str) -> None:
    release.install({"watchNamespaces": [namespace], "rbac": {"cloudNativePG": True}})
    assert release.may("create", "clusters.postgresql.cnpg.io", namespace)
    assert not release.may("create", "rabbitmqclusters.rabbitmq.com", namespace)
    release.upgrade({"watchNamespaces": [namespace], "rbac": {"rabbitmqCluster": True}})
    assert release.may("create", "rabbitmqclusters.rabbitmq.com", namespace)
    assert not release.may("create", "clusters.postgresql.cnpg.io", namespace)


def test_the_operator_can_not_give_rights_that_it_does_not_have(
    release: Release, control_plane: Cluster, namespace: str
) -> None:
    release.install({"watchNamespaces": [namespace]})

    def a_role(*rules: Json) -> Json:
        metadata = {"name": "granted", "namespace": namespace}
        return {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "Role",
            "metadata": metadata,
            "rules": list(rules),
        }

    def create(role: Json) -> tuple[int, str]:
        done = control_plane.kubectl("create", "-f", "-", f"--as={release.user}", input=role, check=False)
        return done.code, done.err

    for rule in (
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["create"]},
        {"apiGroups": ["tradingbot.dev"], "resources": ["tradingbots"], "verbs": ["delete"]},
        {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
    ):
        code, why = create(a_role(rule))
        assert code != 0
        assert "attempting to grant RBAC permissions not currently held" in why
    code, why = create(
        a_role({"apiGroups": ["tradingbot.dev"], "resources": ["tradingbots/status"], "verbs": ["get", "patch"]})
    )
    assert (code, why) == (0, "")


def test_who_may_edit_a_namespace_may_edit_its_bots_but_not_what_they_report(
    controllers: None, release: Release, control_plane: Cluster, namespace: str
) -> None:
    release.install({"watchNamespaces": [namespace]})
    for role in ("view", "edit", "admin"):
        control_plane.kubectl(
            "create", "rolebinding", role, f"--clusterrole={role}", f"--user={role}-of-{namespace}", "-n", namespace
        )

    def can(role: str, verb: str, resource: str) -> bool:
        return may(control_plane, f"{role}-of-{namespace}", ["system:authenticated"], verb, resource, namespace)

    # A controller adds the rules to the cluster's own roles, one after another.
    until(lambda: can("view", "list", "tradingbots.tradingbot.dev"), "the roles are aggregated")
    until(lambda: can("edit", "create", "tradingbots.tradingbot.dev"), "the roles are aggregated")
    until(lambda: can("admin", "delete", "tradingbots.tradingbot.dev"), "the roles are aggregated")
    assert not can("view", "patch", "tradingbots.tradingbot.dev")
    for role in ("view", "edit", "admin"):
        assert not can(role, "patch", "tradingbots.tradingbot.dev/status")


def test_who_administers_one_namespace_installs_there(
    controllers: None, release: Release, control_plane: Cluster, namespace: str
) -> None:
    """As docs/install.md says: what belongs to the cluster is there already, and one role lets the person grant what
    the operator needs."""
    page = (REPOSITORY / "docs" / "install.md").read_text()
    [given] = [block for block in page.split("```") if "aggregate-to-admin" in block]
    role = yaml.safe_load(given.removeprefix("yaml"))
    release.install({"watchNamespaces": [namespace]})
    release.uninstall("--no-hooks")
    control_plane.kubectl("apply", "--server-side", "-f", "-", input=role)
    try:
        control_plane.kubectl("create", "serviceaccount", "person", "-n", namespace)
        subject = f"--serviceaccount={namespace}:person"
        control_plane.kubectl("create", "rolebinding", "person", "--clusterrole=admin", subject, "-n", namespace)
        person = f"system:serviceaccount:{namespace}:person"
        until(
            lambda: may(control_plane, person, [], "patch", "tradingbots.tradingbot.dev/status", namespace),
            "the role is aggregated",
        )
        values = {
            "watchNamespaces": [namespace],
            "crds": {"install": False},
            "admissionPolicy": {"enabled": False},
            "rbac": {"aggregateRoles": False},
        }
        kubeconfig = control_plane.kubeconfig_of(namespace, "person")
        control_plane.helm(
            "install", release.name, CHART, "-n", namespace, "--set-json", json.dumps(values), kubeconfig=kubeconfig
        )
    finally:
        control_plane.kubectl("delete", "clusterrole", role["metadata"]["name"])
    assert release.may("create", "deployments.apps", namespace)
