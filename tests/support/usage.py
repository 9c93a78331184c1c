"""Memory and processor of pods, as their node's kubelet counts them, beside what they ask for and may have."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from support.kubernetes import Cluster, Json

MEBIBYTE = 2**20

_LINE = re.compile(r"^(container_\w+){([^}]*)} ([\d.e+-]+)(?: (\d+))?$")
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "m": 0.001, "": 1}


@dataclass(frozen=True)
class Sample:
    memory: float
    """Bytes of the working set, as the kernel counts it against the limit."""
    cpu: float
    """Seconds since its start."""
    at: float
    """Seconds since the epoch, when the processor's time was read."""


Samples = dict[tuple[str, str], Sample]
"""By pod and container."""


def sample(cluster: Cluster, namespace: str) -> Samples:
    """Of the containers that run there now."""
    found: dict[tuple[str, str], dict[str, float]] = defaultdict(dict)
    for node in cluster.api.list("v1/nodes"):
        path = f"/api/v1/nodes/{node['metadata']['name']}/proxy/metrics/resource"
        for line in cluster.kubectl("get", "--raw", path).out.splitlines():
            match = _LINE.match(line)
            labels = dict(re.findall(r'(\w+)="([^"]*)"', match.group(2))) if match else {}
            if match is None or labels.get("namespace") != namespace:
                continue
            one = found[labels["pod"], labels["container"]]
            if match.group(1) == "container_memory_working_set_bytes":
                one["memory"] = float(match.group(3))
            elif match.group(1) == "container_cpu_usage_seconds_total":
                one["cpu"], one["at"] = float(match.group(3)), int(match.group(4)) / 1000
    return {key: Sample(**one) for key, one in found.items() if len(one) == 3}


@dataclass(frozen=True)
class Use:
    component: str
    pod: str
    memory: float
    """Bytes: the most that was seen."""
    cpu: float
    """Cores, between the first look and the last."""
    asked: Json
    """The container's ``resources``."""

    def __str__(self) -> str:
        amounts = {kind: self.asked.get(kind) or {} for kind in ("requests", "limits")}
        return (
            f"{self.component}: {self.memory / MEBIBYTE:.0f} MiB of {amounts['requests'].get('memory')}"
            f" to {amounts['limits'].get('memory')}, {self.cpu * 1000:.0f}m of {amounts['requests'].get('cpu')}"
        )

    @property
    def memory_limit(self) -> float:
        return amount(self.asked["limits"]["memory"])


def amount(quantity: str) -> float:
    """As Kubernetes writes it: ``64Mi``, ``25m``."""
    digits = quantity.rstrip("KMGim")
    return float(digits) * _UNITS[quantity[len(digits) :]]


def uses(samples: list[Samples], pods: list[Json]) -> list[Use]:
    """Of each container that was there from the first look to the last."""
    first, last = samples[0], samples[-1]
    found = []
    for pod in pods:
        name = pod["metadata"]["name"]
        for container in pod["spec"]["containers"]:
            key = (name, container["name"])
            if all(key in each for each in samples) and last[key].at > first[key].at:
                found.append(
                    Use(
                        component=container["name"],
                        pod=name,
                        memory=max(each[key].memory for each in samples),
                        cpu=(last[key].cpu - first[key].cpu) / (last[key].at - first[key].at),
                        asked=container.get("resources") or {},
                    )
                )
    return sorted(found, key=lambda use: (use.component, use.pod))
