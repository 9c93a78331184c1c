"""Runs the container of a pod that a real API server has, as a process of this machine: its arguments, its
environment and the files that are mounted in it, and the rights of its service account."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from support.kubernetes import Cluster, Json
from support.pod_access import environment_of
from support.process import Finished, Process


def run_pod(cluster: Cluster, pod: Json, folder: Path, environment: Mapping[str, str]) -> Finished:
    """Waits for its end. ``environment`` is what the machine has in other places than a node."""
    folder.mkdir()
    spec = pod["spec"]
    [container] = spec["containers"]
    files = _Files(cluster, pod, folder)
    own = {each["name"]: _value(cluster, pod, each) for each in container.get("env") or []}
    account = environment_of(cluster, pod["metadata"]["namespace"], spec["serviceAccountName"], folder)
    process = Process(
        [files.place(each) for each in container["args"]],
        cwd=folder,
        environment={**account, **{name: files.place(value) for name, value in own.items()}, **environment},
    )
    return process.finish()


class _Files:
    """What is mounted is in ``folder`` instead."""

    def __init__(self, cluster: Cluster, pod: Json, folder: Path) -> None:
        [container] = pod["spec"]["containers"]
        volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
        self._places: dict[str, Path] = {}
        for mount in container["volumeMounts"]:
            place = folder / mount["name"]
            place.mkdir()
            self._places[mount["mountPath"]] = place
            for name, content in _contents(cluster, pod["metadata"]["namespace"], volumes[mount["name"]]):
                (place / name).write_bytes(content)

    def place(self, text: str) -> str:
        """A path as the container has it, as this machine has it."""
        for mounted, place in self._places.items():
            if text.startswith(f"{mounted}/"):
                return str(place / text.removeprefix(f"{mounted}/"))
        return text


def _contents(cluster: Cluster, namespace: str, volume: Json) -> Iterator[tuple[str, bytes]]:
    if "configMap" in volume:
        found = cluster.api.get("v1/configmaps", namespace, volume["configMap"]["name"])
        yield from ((name, text.encode()) for name, text in found["data"].items())
    for source in (volume.get("projected") or {}).get("sources", []):
        if "secret" not in source:
            continue
        wanted: dict[str, Any] = source["secret"]
        secret = cluster.api.find("v1/secrets", namespace, wanted["name"])
        assert secret is not None or wanted.get("optional"), f"the pod would wait for the Secret {wanted['name']}"
        data = (secret or {}).get("data") or {}
        for item in wanted["items"]:
            if item["key"] in data:
                yield item["path"], base64.b64decode(data[item["key"]])
            else:
                assert wanted.get("optional"), f"the pod would wait for {item['key']} of {wanted['name']}"


def _value(cluster: Cluster, pod: Json, variable: Json) -> str:
    if "valueFrom" not in variable:
        plain: str = variable.get("value", "")
        return plain
    source, meta = variable["valueFrom"], pod["metadata"]
    if "secretKeyRef" in source:
        secret = cluster.api.get("v1/secrets", meta["namespace"], source["secretKeyRef"]["name"])
        return base64.b64decode(secret["data"][source["secretKeyRef"]["key"]]).decode()
    path: str = source["fieldRef"]["fieldPath"]
    if path.startswith("metadata.annotations['"):
        found: str = meta["annotations"][path.removeprefix("metadata.annotations['").removesuffix("']")]
        return found
    named: str = meta[{"metadata.namespace": "namespace", "metadata.name": "name"}[path]]
    return named
