"""What the pods of a bot are given to reach a real API server, with the rights that the operator gives them."""

from __future__ import annotations

import base64
import json
import urllib.parse
from pathlib import Path

import yaml

from support.kubernetes import Cluster, Json
from support.operator_rig import BOTS
from tradingbot_agents.runtime.api_server import ClusterAccess, read_access
from tradingbot_api import TradingBot, load_text
from tradingbot_operator.builders.access import access as builders_access

KINDS = {
    "ServiceAccount": "v1/serviceaccounts",
    "Role": "rbac.authorization.k8s.io/v1/roles",
    "RoleBinding": "rbac.authorization.k8s.io/v1/rolebindings",
}


def environment_of(cluster: Cluster, namespace: str, account: str, folder: Path) -> dict[str, str]:
    """Of a pod that runs as a service account; what is mounted in it is put into ``folder``."""
    mounted = folder / f"account-of-{account}"
    mounted.mkdir(exist_ok=True)
    kubeconfig = json.loads(cluster.kubeconfig_of(namespace, account).read_text())
    (mounted / "token").write_text(kubeconfig["users"][0]["user"]["token"])
    server = kubeconfig["clusters"][0]["cluster"]
    (mounted / "ca.crt").write_bytes(base64.b64decode(server["certificate-authority-data"]))
    address = urllib.parse.urlsplit(server["server"])
    return {
        "TRADINGBOT_KUBERNETES": "1",
        "TRADINGBOT_NAMESPACE": namespace,
        "TRADINGBOT_REVISION": "0123456789ab",
        "TRADINGBOT_SERVICE_ACCOUNT_DIR": str(mounted),
        "KUBERNETES_SERVICE_HOST": str(address.hostname),
        "KUBERNETES_SERVICE_PORT": str(address.port),
    }


def access_of(cluster: Cluster, namespace: str, account: str, folder: Path) -> ClusterAccess:
    access = read_access(environment_of(cluster, namespace, account, folder))
    assert access is not None
    return access


class Pod:
    """What the pods of a bot are given, with the rights that the operator gives them."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path, document: Json) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.name = document["metadata"]["name"]
        self._folder = folder
        cluster.api.create(BOTS, {**document, "metadata": {"name": self.name, "namespace": namespace}})
        for manifest in builders_access(self.bot(document), namespace):
            cluster.api.create(KINDS[manifest["kind"]], manifest)

    @staticmethod
    def bot(document: Json) -> TradingBot:
        return load_text(yaml.safe_dump(document))

    def environment(self, agent: str) -> dict[str, str]:
        return environment_of(self.cluster, self.namespace, f"{self.name}-{agent}", self._folder)

    def access(self, agent: str) -> ClusterAccess:
        return access_of(self.cluster, self.namespace, f"{self.name}-{agent}", self._folder)

    def status(self) -> Json:
        status: Json = self.cluster.api.get(BOTS, self.namespace, self.name).get("status", {})
        return status
