"""The operator's chart, installed by Helm for a test."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from support.kubernetes import Cluster, Completed, Json, Refused, until
from support.process import REPOSITORY

CHART = REPOSITORY / "charts" / "tradingbot-operator"
CRD_NAME = "tradingbots.tradingbot.dev"
CRDS = "apiextensions.k8s.io/v1/customresourcedefinitions"
BOTS = "tradingbot.dev/v1alpha1/tradingbots"

EVERYTHING: Json = {
    "networkPolicy": {"enabled": True},
    "rbac": {"rabbitmqCluster": True, "cloudNativePG": True},
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": f"sha256:{'0' * 64}"},
    "agents": {"image": {"tag": "1.2.3"}},
    "nodeSelector": {"kubernetes.io/arch": "arm64"},
    "tolerations": [{"key": "trading", "operator": "Exists"}],
    "affinity": {"nodeAffinity": {}},
    "priorityClassName": "system-cluster-critical",
    "podAnnotations": {"example.com/note": "one"},
    "podLabels": {"example.com/team": "trading"},
    "serviceAccount": {"name": "another", "annotations": {"example.com/role": "trading"}},
    "monitoring": {
        "serviceMonitor": {"enabled": True, "labels": {"prometheus": "main"}},
        "podMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "dashboard": {"enabled": True},
    },
}
"""Every option that is off by default, on."""


def templated(
    cluster: Cluster, values: Json | None = None, *arguments: str, namespace: str = "somewhere"
) -> list[Json]:
    """The chart's manifests with its hooks, as Helm renders them without a cluster."""
    given = [] if values is None else ["--set-json", _root(values)]
    out = cluster.helm("template", "tradingbot-operator", CHART, "-n", namespace, *given, *arguments).out
    return [each for each in yaml.safe_load_all(out) if each]


def _root(values: Json) -> str:
    return json.dumps(values)


class Release:
    """``tradingbot-operator`` in a namespace."""

    name = "tradingbot-operator"

    def __init__(self, cluster: Cluster, namespace: str) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.cluster_name = f"{namespace}-{self.name}"
        self.user = f"system:serviceaccount:{namespace}:{self.name}"

    def install(self, values: Json | None = None, *arguments: str, chart: Path = CHART) -> Completed:
        """The CRD is taken over from whoever has brought it: on this cluster all tests share it."""
        done = self._helm("install", values, "--take-ownership", "--force-conflicts", *arguments, chart=chart)
        self._until_served()
        return done

    def upgrade(self, values: Json | None = None, *arguments: str, chart: Path = CHART) -> Completed:
        return self._helm("upgrade", values, *arguments, chart=chart)

    def _helm(self, verb: str, values: Json | None, *arguments: str, chart: Path) -> Completed:
        given = [] if values is None else ["--set-json", _root(values)]
        return self.cluster.helm(verb, self.name, chart, "-n", self.namespace, *given, *arguments)

    def uninstall(self, *arguments: str, check: bool = True) -> Completed:
        return self.cluster.helm("uninstall", self.name, "-n", self.namespace, *arguments, check=check)

    def remove(self) -> None:
        api = self.cluster.api
        self.uninstall("--no-hooks", "--ignore-not-found")
        if api.find(CRDS, None, CRD_NAME) is None:
            return
        self._until_served()
        for bot in api.list(BOTS, self.namespace):
            change = {"metadata": {"finalizers": None, "annotations": {"tradingbot.dev/abandon": "true"}}}
            api.patch(BOTS, self.namespace, bot["metadata"]["name"], change)
            if "deletionTimestamp" not in bot["metadata"]:
                api.delete(BOTS, self.namespace, bot["metadata"]["name"])

    def _until_served(self) -> None:
        """Some moments after the definition has come or changed."""

        def served() -> bool:
            try:
                self.cluster.api.list(BOTS, self.namespace)
            except Refused as refused:
                if refused.code in (404, 429):
                    return False
                raise
            return True

        until(served, "TradingBots are served")

    @property
    def revision(self) -> int:
        found = self.cluster.helm("list", "-n", self.namespace, "-o", "json").json
        return int(found[0]["revision"])

    def kubeconfig(self) -> Path:
        """Of the operator's service account."""
        return self.cluster.kubeconfig_of(self.namespace, self.name)

    def may(self, verb: str, resource: str, namespace: str | None = None) -> bool:
        """Whether the operator may, in ``namespace`` or, without one, in the whole cluster."""
        groups = ["system:serviceaccounts", f"system:serviceaccounts:{self.namespace}", "system:authenticated"]
        return may(self.cluster, self.user, groups, verb, resource, namespace)


def may(
    cluster: Cluster, user: str, groups: list[str], verb: str, resource: str, namespace: str | None = None
) -> bool:
    """The API server's own answer, also for kinds that it does not know. ``resource`` is ``pods``, ``pods/exec`` or,
    with its group, ``deployments.apps/scale``."""
    named, _, part = resource.partition("/")
    plural, _, group = named.partition(".")
    attributes = {"verb": verb, "group": group, "resource": plural, "subresource": part, "namespace": namespace or ""}
    review = {"spec": {"user": user, "groups": groups, "resourceAttributes": attributes}, "metadata": {}}
    allowed: bool = cluster.api.create("authorization.k8s.io/v1/subjectaccessreviews", review)["status"]["allowed"]
    return allowed


class UninstallInBackground:
    """Helm, which waits for its hook, and the hook's pod, which the test plays: a context."""

    def __init__(self, release: Release) -> None:
        self._release = release
        self._stack = ExitStack()

    def __enter__(self) -> UninstallInBackground:
        pool = self._stack.enter_context(ThreadPoolExecutor(1))
        self._helm: Future[Completed] = pool.submit(self._release.uninstall, "--timeout", "60s", check=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def play_check(self) -> Completed:
        """Do what the hook's container does, as its service account, and tell the API server how it ended."""
        pod = until(self._pod, "the pod of the hook")
        spec = pod["spec"]
        [container] = spec["containers"]
        kubeconfig = self._release.cluster.kubeconfig_of(self._release.namespace, spec["serviceAccountName"])
        given = {each["name"]: each.get("value", "") for each in container["env"]}
        done = subprocess.run(
            [sys.executable, "-m", "tradingbot_operator.main", *container["args"]],
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("KUBERNETES_")},
                **given,
                "KUBECONFIG": str(kubeconfig),
            },
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        phase = "Succeeded" if done.returncode == 0 else "Failed"
        ended = {"name": container["name"], "state": {"terminated": {"exitCode": done.returncode}}}
        status: dict[str, Any] = {"phase": phase, "containerStatuses": [_container(container, ended)]}
        self._release.cluster.api.patch(
            "v1/pods", self._release.namespace, pod["metadata"]["name"], {"status": status}, "status"
        )
        return Completed(done.returncode, done.stdout, done.stderr)

    def _pod(self) -> Json | None:
        selector = "app.kubernetes.io/component=uninstall-check"
        found = self._release.cluster.api.list("v1/pods", self._release.namespace, selector)
        return next(
            (pod for pod in found if pod["spec"].get("nodeName") and pod["status"]["phase"] == "Pending"), None
        )

    def result(self) -> Completed:
        """Of Helm."""
        return self._helm.result(120)


def _container(container: Json, ended: Json) -> Json:
    return {"image": container["image"], "imageID": "", "ready": False, "restartCount": 0, **ended}
