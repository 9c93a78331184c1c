"""What is wrong in a bot's children, in words for the person who runs ``kubectl describe tb``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta

import msgspec

from tradingbot_api import parse_timestamp
from tradingbot_operator.kinds import Manifest, Ref
from tradingbot_operator.names import Component, Label

PATIENCE = timedelta(minutes=1)
"""For what every new pod goes through: no node yet, no volume yet."""


class Problem(msgspec.Struct, frozen=True, order=True):
    component: str
    reason: str
    """One word, as Kubernetes has it where it has one."""
    message: str

    def __str__(self) -> str:
        return f"{self.component}: {self.message}"


class Crashed(msgspec.Struct, frozen=True, order=True):
    """A container whose last words are worth reading."""

    pod: str
    container: str
    restarts: int


_IMAGE = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull"})
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def problems(children: Mapping[Ref, Manifest], last_words: Mapping[Crashed, str], now: datetime) -> list[Problem]:
    """Each thing once, by component."""
    found: set[Problem] = set()
    for ref, child in children.items():
        match ref.kind:
            case "Pod":
                found |= set(_of_a_pod(ref, child, last_words, now))
            case "PersistentVolumeClaim":
                found |= set(_of_a_claim(ref, child, now))
            case "Job":
                found |= set(_of_a_job(ref, child))
            case "Deployment" | "StatefulSet":
                found |= set(_of_a_workload(child))
    return sorted(found)


def crashed(children: Mapping[Ref, Manifest]) -> list[Crashed]:
    """Containers that have ended badly and are not running again."""
    return [
        Crashed(ref.name, status["name"], status.get("restartCount", 0))
        for ref, child in sorted(children.items())
        if ref.kind == "Pod"
        for status in _containers(child)
        if _waiting(status)[0] == "CrashLoopBackOff" or _ended_badly(status)
    ]


def restarts(children: Mapping[Ref, Manifest]) -> dict[str, int]:
    """Of the containers of each component."""
    counts: dict[str, int] = {}
    for ref, child in children.items():
        if ref.kind == "Pod":
            so_far = counts.get(component_of(child), 0)
            counts[component_of(child)] = so_far + sum(status.get("restartCount", 0) for status in _containers(child))
    return counts


def component_of(child: Manifest) -> str:
    label: str = (child["metadata"].get("labels") or {}).get(Label.COMPONENT.value, "")
    return label


def _is_new(child: Manifest, now: datetime) -> bool:
    made = child["metadata"].get("creationTimestamp")
    return made is not None and now - parse_timestamp(made) < PATIENCE


def _of_a_pod(ref: Ref, pod: Manifest, last_words: Mapping[Crashed, str], now: datetime) -> Iterable[Problem]:
    component, status = component_of(pod), pod.get("status") or {}
    for condition in status.get("conditions") or []:
        waits = condition["type"] == "PodScheduled" and condition["status"] == "False"
        # The condition stays when the pod has found a node, or has ended.
        if waits and _is_unscheduled(pod) and not _is_new(pod, now):
            yield Problem(component, "Unschedulable", f"no node takes its pod: {condition.get('message', '')}")
    for one in _containers(pod):
        reason, message = _waiting(one)
        if reason in _IMAGE:
            yield Problem(
                component, reason, f"its image {one.get('image', '')} can not be pulled: {message or reason}"
            )
        elif reason in _CONFIG:
            yield Problem(component, reason, f"its container can not be made: {message or reason}")
        elif reason == "CrashLoopBackOff" or _ended_badly(one):
            words = last_words.get(Crashed(ref.name, one["name"], one.get("restartCount", 0)), "")
            times = one.get("restartCount", 0)
            yield Problem(
                component,
                "CrashLoopBackOff",
                f"it has ended {_how(one)}, {times} times so far" + (f"; its last line: {words}" if words else ""),
            )
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Problem(component, status["reason"], status.get("message") or "its pod has failed")


def _is_unscheduled(pod: Manifest) -> bool:
    phase = (pod.get("status") or {}).get("phase", "Pending")
    return phase == "Pending" and not (pod.get("spec") or {}).get("nodeName")


def _of_a_claim(ref: Ref, claim: Manifest, now: datetime) -> Iterable[Problem]:
    if component_of(claim) == Component.BACKUP:
        # Many storage classes give a volume with its first pod, and that comes at night.
        return
    if (claim.get("status") or {}).get("phase") == "Pending" and not _is_new(claim, now):
        spec = claim.get("spec") or {}
        storage = spec.get("storageClassName")
        of = f"storage class {storage}" if storage else "the cluster's default storage class"
        size = ((spec.get("resources") or {}).get("requests") or {}).get("storage", "")
        yield Problem(component_of(claim), "VolumePending", f"its volume {ref.name} of {size} waits for {of}")


def _of_a_job(ref: Ref, job: Manifest) -> Iterable[Problem]:
    if component_of(job) != Component.MIGRATION:
        return
    for condition in (job.get("status") or {}).get("conditions") or []:
        if condition["type"] == "Failed" and condition["status"] == "True":
            why = condition.get("message", "it has failed too often")
            yield Problem(
                component_of(job), "MigrationFailed", f"{why}; see its log, then delete Job {ref.name} to try again"
            )


def _of_a_workload(workload: Manifest) -> Iterable[Problem]:
    """Pods that can not even be made are told by the workload: by a quota, or an admission policy."""
    for condition in (workload.get("status") or {}).get("conditions") or []:
        if condition["type"] == "ReplicaFailure" and condition["status"] == "True":
            yield Problem(component_of(workload), "PodRefused", f"its pod is refused: {condition.get('message', '')}")


def _containers(pod: Manifest) -> list[Manifest]:
    status = pod.get("status") or {}
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _waiting(status: Manifest) -> tuple[str, str]:
    waiting = (status.get("state") or {}).get("waiting") or {}
    return waiting.get("reason", ""), waiting.get("message", "")


def _ended_badly(status: Manifest) -> bool:
    ended = (status.get("state") or {}).get("terminated") or {}
    return bool(ended) and ended.get("exitCode", 0) != 0


def _how(status: Manifest) -> str:
    ended = (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return "for it used more memory than its limit"
    return f"with exit code {ended['exitCode']}" if "exitCode" in ended else "badly"
