"""That the tests' Kubernetes is a real one: what it must do for the other tests to mean something."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support.kubernetes import (
    Cluster,
    Completed,
    ControlPlane,
    Json,
    Refused,
    a_cluster,
    find_programs,
    until,
)

pytestmark = pytest.mark.kubernetes

Command = Callable[..., Completed]

ALLOWED: Json = {
    "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    "containers": [
        {
            "name": "main",
            "image": "example.invalid/none:1",
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
    ],
}
PRIVILEGED: Json = {
    "containers": [{"name": "main", "image": "example.invalid/none:1", "securityContext": {"privileged": True}}]
}


def a_pod(namespace: str, name: str, spec: Json) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def a_config(namespace: str, name: str) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": namespace}}


def test_kubectl_talks_to_the_api_server(kubectl: Command, control_plane: Cluster) -> None:
    versions = kubectl("version", "-o", "json").json
    assert versions["serverVersion"]["major"] == "1"
    assert versions["serverVersion"] == control_plane.api.ask("GET", "/version")


def test_helm_is_of_the_version_that_the_chart_is_for(helm: Command) -> None:
    assert helm("version", "--template", "{{.Version}}").out.startswith("v4.")


def test_helm_talks_to_the_api_server(helm: Command, namespace: str) -> None:
    assert helm("list", "-n", namespace, "-o", "json").json == []


def test_a_restricted_namespace_refuses_a_privileged_pod(control_plane: Cluster, namespace: str) -> None:
    with pytest.raises(Refused) as caught:
        control_plane.api.create("v1/pods", a_pod(namespace, "bad", PRIVILEGED))
    assert caught.value.code == 403
    assert 'violates PodSecurity "restricted' in caught.value.message
    control_plane.api.create("v1/pods", a_pod(namespace, "good", ALLOWED))
    assert [pod["metadata"]["name"] for pod in control_plane.api.list("v1/pods", namespace)] == ["good"]


def test_a_command_that_fails_says_what_it_printed(kubectl: Command, namespace: str) -> None:
    with pytest.raises(AssertionError, match=r'kubectl get cm none -n .*\n.*"none" not found'):
        kubectl("get", "cm", "none", "-n", namespace)
    assert kubectl("get", "cm", "none", "-n", namespace, check=False).code == 1


def test_manifests_go_to_kubectl_as_they_are(kubectl: Command, namespace: str, control_plane: Cluster) -> None:
    kubectl("apply", "--server-side", "-f", "-", input=[a_config(namespace, "one"), a_config(namespace, "two")])
    for name in ("one", "two"):
        assert control_plane.api.find("v1/configmaps", namespace, name) is not None
    assert control_plane.api.find("v1/configmaps", namespace, "three") is None


def test_rbac_refuses_a_service_account_what_it_was_not_given(
    kubectl: Command, namespace: str, control_plane: Cluster
) -> None:
    kubectl("create", "serviceaccount", "reader", "-n", namespace)
    kubectl("create", "role", "reader", "--verb=list", "--resource=configmaps", "-n", namespace)
    kubectl(
        "create", "rolebinding", "reader", "--role=reader", f"--serviceaccount={namespace}:reader", "-n", namespace
    )
    reader = control_plane.kubeconfig_of(namespace, "reader")
    user = f"system:serviceaccount:{namespace}:reader"
    assert kubectl("auth", "whoami", "-o", "json", kubeconfig=reader).json["status"]["userInfo"]["username"] == user
    kubectl("get", "configmaps", kubeconfig=reader)
    refused = kubectl("create", "configmap", "one", kubeconfig=reader, check=False)
    assert refused.code == 1
    assert f'User "{user}" cannot create resource "configmaps"' in refused.err


def test_the_audit_log_counts_the_writes_of_a_user(kubectl: Command, namespace: str, control_plane: Cluster) -> None:
    api, audit = control_plane.api, control_plane.audit
    api.create("v1/configmaps", a_config(namespace, "before"))
    since = audit.mark()
    api.create("v1/configmaps", a_config(namespace, "one"))
    api.get("v1/configmaps", namespace, "one")
    user = f"system:serviceaccount:{namespace}:default"
    kubectl("delete", "configmap", "one", "-n", namespace, f"--as={user}", check=False)
    own = [write for write in audit.writes(since) if write.namespace == namespace and write.name == "one"]
    assert [(write.user, write.verb, write.resource, write.code) for write in own] == [
        ("admin", "create", "configmaps", 201),
        (user, "delete", "configmaps", 403),
    ]
    assert audit.writes(since, user) == own[1:]
    read = [request for request in audit.requests(since, "admin") if request.name == "one"]
    assert [request.verb for request in read] == ["create", "get"]


def test_the_audit_log_waits_for_the_answer_of_a_request_that_it_has_seen(
    namespace: str, control_plane: Cluster
) -> None:
    since = control_plane.audit.mark()
    for number in range(50):
        control_plane.api.create("v1/configmaps", a_config(namespace, f"config-{number}"))
        created = [write for write in control_plane.audit.writes(since) if write.namespace == namespace]
        assert sum(write.name.startswith("config-") for write in created) == number + 1


@pytest.mark.usefixtures("controllers")
def test_controllers_make_and_collect_what_a_deployment_owns(control_plane: Cluster, namespace: str) -> None:
    api = control_plane.api
    labels = {"app": "example"}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "example", "namespace": namespace},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": ALLOWED},
        },
    }
    api.create("apps/v1/deployments", deployment)
    [pod] = until(lambda: api.list("v1/pods", namespace), "a pod of the Deployment")
    [owner] = api.list("apps/v1/replicasets", namespace)
    assert pod["metadata"]["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]
    api.delete("apps/v1/deployments", namespace, "example")
    until(lambda: not api.list("apps/v1/replicasets", namespace), "the ReplicaSet's garbage collection")


def test_a_cluster_of_the_environment_is_taken_and_left_alone(control_plane: Cluster, namespace: str) -> None:
    with a_cluster({"TRADINGBOT_TEST_KUBECONFIG": str(control_plane.kubeconfig)}) as given:
        assert not isinstance(given, ControlPlane)
        given.api.create("v1/configmaps", a_config(namespace, "theirs"))
    assert control_plane.api.find("v1/configmaps", namespace, "theirs") is not None


def test_a_wrong_kubeconfig_in_the_environment_is_said(tmp_path: Path) -> None:
    with (
        pytest.raises(AssertionError, match=r"TRADINGBOT_TEST_KUBECONFIG is .*/none, which does not exist"),
        a_cluster({"TRADINGBOT_TEST_KUBECONFIG": str(tmp_path / "none")}),
    ):
        pass


def test_programs_are_taken_from_kubebuilder_assets_before_the_cache(tmp_path: Path) -> None:
    cache, assets = tmp_path / "kubernetes" / "bin", tmp_path / "assets"
    for folder in (cache, assets):
        folder.mkdir(parents=True)
        for name in ("kube-apiserver", "etcd", "kubectl"):
            (folder / name).touch()
    environment = {"TRADINGBOT_SERVERS": str(tmp_path)}
    assert find_programs(environment) == cache
    assert find_programs(environment | {"KUBEBUILDER_ASSETS": str(assets)}) == assets
    (assets / "etcd").unlink()
    with pytest.raises(AssertionError, match="has no etcd: name a folder that has it, or unset it"):
        find_programs(environment | {"KUBEBUILDER_ASSETS": str(assets)})
    (cache / "kubectl").unlink()
    assert find_programs(environment) is None


@pytest.mark.parametrize(
    ("program", "script", "what"),
    [
        ("etcd", "echo no room for etcd; exit 3", "etcd ended at its start: no room for etcd"),
        ("kube-apiserver", "echo wrong flag; exit 1", "kube-apiserver ended at its start: wrong flag"),
    ],
)
def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path, program: str, script: str, what: str) -> None:
    programs, folder = tmp_path / "programs", tmp_path / "run"
    programs.mkdir()
    folder.mkdir()
    for name in ("kube-apiserver", "etcd"):
        content = script if name == program else "exec tail -f /dev/null"
        (programs / name).write_text(f"#!/bin/sh\n{content}\n")
        (programs / name).chmod(0o755)
    control_plane = ControlPlane(folder, programs)
    try:
        with pytest.raises(AssertionError, match=what):
            control_plane.start()
    finally:
        control_plane.stop()
