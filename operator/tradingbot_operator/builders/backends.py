"""What RabbitMQ, InfluxDB and PostgreSQL have in common: where their address is, and a StatefulSet with one volume.

A server is ``managed`` (made here), or ``external``: then nothing is made, and a person's Secret has its address.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from decimal import Decimal

import msgspec

from tradingbot_api import ResourceAmounts, Resources, parse_bytes
from tradingbot_api.backends import DatabaseStorage, MessagingStorage, TimeSeriesStorage
from tradingbot_operator.builders import pods
from tradingbot_operator.kinds import Manifest

MEBIBYTE = 2**20

Generate = Callable[[int], str]
"""A text of so many bytes of randomness that needs no quoting in an address."""


class SecretKey(msgspec.Struct, frozen=True):
    """A Secret of the bot's namespace, and a key of it."""

    name: str
    key: str


class Access(msgspec.Struct, frozen=True):
    """Where the programs find a server."""

    url: SecretKey
    token: SecretKey | None = None


Storage = MessagingStorage | TimeSeriesStorage | DatabaseStorage
"""A server's volume, as its spec has it."""


def amounts(cpu: str, requested: int, limit: int) -> Resources:
    """Memory in MiB. No limit of CPU: a server that is held back holds back everybody who waits for it."""
    return Resources(
        requests=ResourceAmounts(cpu=Decimal(cpu), memory=requested * MEBIBYTE),
        limits=ResourceAmounts(memory=limit * MEBIBYTE),
    )


def memory_limit(resources: Manifest) -> int:
    """Bytes: what a server's own settings are fractions of, so that a person who changes the limit changes them."""
    return parse_bytes(resources["limits"]["memory"])


def secret(name: str, namespace: str, labels: Mapping[str, str], values: Mapping[str, str]) -> Manifest:
    """Made once, never overwritten. ``data`` and not ``stringData``: that is what the API server keeps."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": pods.metadata(name, namespace, labels),
        "type": "Opaque",
        "data": {key: base64.b64encode(value.encode()).decode() for key, value in values.items()},
    }


def service(
    name: str, namespace: str, labels: Mapping[str, str], selector: Mapping[str, str], port_name: str, port: int
) -> Manifest:
    """An address that stays the same while the pod changes."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pods.metadata(name, namespace, labels),
        "spec": {
            "selector": dict(selector),
            "ports": [{"name": port_name, "port": port, "targetPort": port_name, "protocol": "TCP"}],
        },
    }


def stateful_set(
    name: str,
    namespace: str,
    labels: Mapping[str, str],
    selector: Mapping[str, str],
    *,
    uid: int,
    gid: int,
    container: Manifest,
    volume: Storage,
    volumes: list[Manifest],
    grace: int,
    pod: Manifest | None = None,
) -> Manifest:
    """One replica with one volume, ``data``. ``grace``: seconds to end by itself."""
    security = pods.security_context(uid, gid)
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": pods.metadata(name, namespace, labels),
        "spec": {
            "replicas": 1,
            "serviceName": name,
            "revisionHistoryLimit": 2,
            "podManagementPolicy": "Parallel",
            "selector": {"matchLabels": dict(selector)},
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": volume.when_deleted, "whenScaled": "Retain"},
            "template": {
                "metadata": {"labels": dict(labels)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": grace,
                    "securityContext": security.pod,
                    "containers": [
                        {"imagePullPolicy": "IfNotPresent", "securityContext": security.container, **container}
                    ],
                    "volumes": volumes,
                    **(pod or {}),
                },
            },
            # The server would add these; written out, a changed one is seen.
            "volumeClaimTemplates": [
                {
                    "apiVersion": "v1",
                    "kind": "PersistentVolumeClaim",
                    "metadata": {"name": "data", "labels": dict(labels)},
                    "spec": pods.claim_spec(volume.size, volume.class_name),
                }
            ],
        },
    }
