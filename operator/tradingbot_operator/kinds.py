"""The kinds of objects that the operator reads and writes, and where the API server has them."""

from __future__ import annotations

from typing import Any

import msgspec

from tradingbot_operator.names import Label

Manifest = dict[str, Any]
"""An object as JSON has it."""


class Kind(msgspec.Struct, frozen=True):
    name: str
    api_version: str
    plural: str

    @property
    def root(self) -> str:
        return f"/apis/{self.api_version}" if "/" in self.api_version else f"/api/{self.api_version}"

    def path(self, namespace: str | None, name: str | None = None) -> str:
        """``namespace`` ``None``: all of them."""
        within = f"/namespaces/{namespace}" if namespace is not None else ""
        return f"{self.root}{within}/{self.plural}" + (f"/{name}" if name is not None else "")


TRADING_BOT = Kind("TradingBot", "tradingbot.dev/v1alpha1", "tradingbots")
EVENT = Kind("Event", "v1", "events")
POD = Kind("Pod", "v1", "pods")
CONFIG_MAP = Kind("ConfigMap", "v1", "configmaps")
SECRET = Kind("Secret", "v1", "secrets")
SERVICE = Kind("Service", "v1", "services")
SERVICE_ACCOUNT = Kind("ServiceAccount", "v1", "serviceaccounts")
VOLUME_CLAIM = Kind("PersistentVolumeClaim", "v1", "persistentvolumeclaims")
DEPLOYMENT = Kind("Deployment", "apps/v1", "deployments")
STATEFUL_SET = Kind("StatefulSet", "apps/v1", "statefulsets")
JOB = Kind("Job", "batch/v1", "jobs")
CRON_JOB = Kind("CronJob", "batch/v1", "cronjobs")
ROLE = Kind("Role", "rbac.authorization.k8s.io/v1", "roles")
ROLE_BINDING = Kind("RoleBinding", "rbac.authorization.k8s.io/v1", "rolebindings")
NETWORK_POLICY = Kind("NetworkPolicy", "networking.k8s.io/v1", "networkpolicies")
DISRUPTION_BUDGET = Kind("PodDisruptionBudget", "policy/v1", "poddisruptionbudgets")
RABBITMQ_CLUSTER = Kind("RabbitmqCluster", "rabbitmq.com/v1beta1", "rabbitmqclusters")
POSTGRES_CLUSTER = Kind("Cluster", "postgresql.cnpg.io/v1", "clusters")

OWN = (
    CONFIG_MAP,
    SECRET,
    SERVICE,
    SERVICE_ACCOUNT,
    VOLUME_CLAIM,
    DEPLOYMENT,
    STATEFUL_SET,
    JOB,
    CRON_JOB,
    ROLE,
    ROLE_BINDING,
    NETWORK_POLICY,
    DISRUPTION_BUDGET,
)
"""Of these it makes objects, watches them and removes them."""

FOREIGN = (RABBITMQ_CLUSTER, POSTGRES_CLUSTER)
"""The same, where another operator has installed the kind."""

WATCHED = (*OWN, POD, *FOREIGN)

_KNOWN = {(kind.api_version, kind.name): kind for kind in (TRADING_BOT, EVENT, POD, *OWN, *FOREIGN)}


class Ref(msgspec.Struct, frozen=True, order=True):
    """Which object, within its namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Owner(msgspec.Struct, frozen=True, order=True):
    """Whose child it is: a bot's, or an account's."""

    namespace: str
    label: str
    name: str


def owner_of(manifest: Manifest) -> Owner | None:
    labels = manifest["metadata"].get("labels") or {}
    for label in (Label.BOT, Label.ACCOUNT):
        if label.value in labels:
            return Owner(manifest["metadata"]["namespace"], label.value, labels[label.value])
    return None


def version_of(found: Manifest) -> int:
    """Versions of one kind can be compared: what the API promises since 1.35, and etcd has always done."""
    return int(found["metadata"].get("resourceVersion", "0"))


def kind_of(manifest: Manifest) -> Kind:
    return _KNOWN[manifest["apiVersion"], manifest["kind"]]


def ref_of(manifest: Manifest) -> Ref:
    return Ref(manifest["kind"], manifest["metadata"]["name"])


KINDS = {kind.name: kind for kind in _KNOWN.values()}
"""By name: none is there twice."""
