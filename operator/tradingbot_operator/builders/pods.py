"""What all pods have in common, in one place: what passes Pod Security ``restricted`` is not left to each builder.

``metadata`` of any object, ``HEARS_ITS_END``, ``security_context`` (of a pod and of its containers), ``resources``
(the measured ones, with what a person has changed), ``empty_dir``, ``claim_spec`` (of a volume), ``secret_files`` and
``cron_job``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from tradingbot_api import ResourceAmounts, Resources, format_bytes, format_cpu
from tradingbot_operator.kinds import Manifest

HEARS_ITS_END: Manifest = {"shareProcessNamespace": True}
"""Of a pod. A container's first process ignores a signal that it has no handler for yet: told to end in its first
moments it would run on until it is killed. With this the container's program is not the first process."""


class Security(msgspec.Struct, frozen=True):
    pod: Manifest
    container: Manifest


def metadata(
    name: str, namespace: str, labels: Mapping[str, str], annotations: Mapping[str, str] | None = None
) -> Manifest:
    found: Manifest = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {**found, "annotations": dict(annotations)} if annotations else found


def security_context(uid: int, gid: int) -> Security:
    """Of a pod whose processes are ``uid``, and whose volumes belong to the group ``gid``."""
    return Security(
        pod={
            "runAsNonRoot": True,
            "runAsUser": uid,
            "runAsGroup": gid,
            "fsGroup": gid,
            # A large volume is not walked through at every start.
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        container={
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "privileged": False,
            "readOnlyRootFilesystem": True,
        },
    )


def resources(default: Resources, override: Resources | None) -> Manifest:
    """What is overridden counts, amount by amount; the rest is as measured. A request never exceeds its limit: one
    that a person has lowered lowers the request with it."""
    found: Manifest = {}
    limits = _merged(default.limits, override.limits if override is not None else None)
    requests = _merged(default.requests, override.requests if override is not None else None)
    if override is not None:
        requests = _lowered(requests, limits, override)
        limits = _raised(requests, limits, override)
    for name, amounts in (("requests", requests), ("limits", limits)):
        written = _written(amounts)
        if written:
            found[name] = written
    return found


def empty_dir(size: int, *, in_memory: bool = False) -> Manifest:
    """A folder that goes with the pod; a pod that fills it above ``size`` bytes is evicted."""
    medium = {"medium": "Memory"} if in_memory else {}
    return {"emptyDir": {**medium, "sizeLimit": format_bytes(size)}}


def claim_spec(size: int, class_name: str | None) -> Manifest:
    """Of a volume that one node at a time mounts. ``class_name`` ``None``: the cluster's default."""
    spec: Manifest = {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": format_bytes(size)}},
    }
    return spec if class_name is None else {**spec, "storageClassName": class_name}


def secret_files(secret: str, *keys: str) -> Manifest:
    """The volume ``secrets``: these keys and no others, as files that the pod's group may read."""
    items = [{"key": key, "path": key} for key in keys]
    return {"name": "secrets", "secret": {"secretName": secret, "defaultMode": 0o440, "items": items}}


def cron_job(name: str, namespace: str, labels: Mapping[str, str], job: Manifest, **spec: Any) -> Manifest:
    """Times are UTC, and there are never two of its Jobs at a time. ``job`` is the spec of one; ``spec`` says when
    they come and how many are kept."""
    return {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": metadata(name, namespace, labels),
        "spec": {
            "timeZone": "Etc/UTC",
            "concurrencyPolicy": "Forbid",
            **spec,
            "jobTemplate": {"metadata": {"labels": dict(labels)}, "spec": job},
        },
    }


def _merged(default: ResourceAmounts | None, override: ResourceAmounts | None) -> ResourceAmounts:
    default, override = default or ResourceAmounts(), override or ResourceAmounts()
    return ResourceAmounts(
        cpu=override.cpu if override.cpu is not None else default.cpu,
        memory=override.memory if override.memory is not None else default.memory,
    )


def _lowered(requests: ResourceAmounts, limits: ResourceAmounts, override: Resources) -> ResourceAmounts:
    asked = override.requests or ResourceAmounts()
    cpu, memory = requests.cpu, requests.memory
    if asked.cpu is None and cpu is not None and limits.cpu is not None:
        cpu = min(cpu, limits.cpu)
    if asked.memory is None and memory is not None and limits.memory is not None:
        memory = min(memory, limits.memory)
    return ResourceAmounts(cpu=cpu, memory=memory)


def _raised(requests: ResourceAmounts, limits: ResourceAmounts, override: Resources) -> ResourceAmounts:
    """A request above our own limit raises the limit."""
    given = override.limits or ResourceAmounts()
    cpu, memory = limits.cpu, limits.memory
    if given.cpu is None and cpu is not None and requests.cpu is not None:
        cpu = max(cpu, requests.cpu)
    if given.memory is None and memory is not None and requests.memory is not None:
        memory = max(memory, requests.memory)
    return ResourceAmounts(cpu=cpu, memory=memory)


def _written(amounts: ResourceAmounts) -> Manifest:
    found: Manifest = {}
    if amounts.cpu is not None:
        found["cpu"] = format_cpu(amounts.cpu)
    if amounts.memory is not None:
        found["memory"] = format_bytes(amounts.memory)
    return found
