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

RECENTLY = timedelta(minutes=10)
"""A container that ended less long ago, and is not ready again, is not over it: Kubernetes pauses for up to five
minutes between two attempts, and each attempt runs for a while."""

VERDICTS = (7, 8)
"""Exit codes of a reality check that has done its work: it has failed, or could not know. It tells what it found
itself."""


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
    uid: str
    """Of the pod: a StatefulSet gives the next one the same name."""
    container: str
    restarts: int
    again: bool
    """It runs again: the words are those of the container before it."""


_PULLING = frozenset({"ImagePullBackOff", "ErrImagePull"})
"""An attempt, and the pause before the next: one problem, or each would be news."""
_IMAGE = _PULLING | {"InvalidImageName", "ErrImageNeverPull"}
_CONFIG = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError"})


def problems(children: Mapping[Ref, Manifest], last_words: Mapping[Crashed, str], now: datetime) -> list[Problem]:
    """Each thing once, by component."""
    found: set[Problem] = set()
    pods = _current(children)
    for ref, child in children.items():
        match ref.kind:
            case "Pod" if ref not in pods:
                continue
            case "Pod":
                found |= set(_of_a_pod(ref, child, last_words, now))
            case "PersistentVolumeClaim":
                found |= set(_of_a_claim(ref, child, now))
            case "Job":
                found |= set(_of_a_job(ref, child))
            case "Deployment" | "StatefulSet":
                found |= set(_of_a_workload(child))
    return sorted(found)


def crashed(children: Mapping[Ref, Manifest], now: datetime) -> list[Crashed]:
    """Containers that have ended badly and do not work again."""
    return [
        _crashed(ref, child, status)
        for ref, child in sorted(_current(children).items())
        for status in _containers(child)
        if _has_crashed(child, status, now)
    ]


def _crashed(ref: Ref, pod: Manifest, status: Manifest) -> Crashed:
    return Crashed(
        pod=ref.name,
        uid=pod["metadata"].get("uid", ""),
        container=status["name"],
        restarts=status.get("restartCount", 0),
        again="running" in (status.get("state") or {}),
    )


def _current(children: Mapping[Ref, Manifest]) -> dict[Ref, Manifest]:
    """The pods that count: those of now. One that has ended is kept, by a Job for its log or because it was evicted,
    long after another has taken its place; and what becomes of one that is asked to end is nobody's matter."""
    found: dict[Ref, Manifest] = {}
    newest: dict[str, tuple[str, Ref]] = {}
    for ref, child in children.items():
        if ref.kind != "Pod" or child["metadata"].get("deletionTimestamp") is not None:
            continue
        found[ref] = child
        age = (child["metadata"].get("creationTimestamp", ""), ref)
        newest[component_of(child)] = max(newest.get(component_of(child), age), age)
    return {ref: pod for ref, pod in found.items() if not _has_ended(pod) or newest[component_of(pod)][1] == ref}


def _has_ended(pod: Manifest) -> bool:
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


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


def due(children: Mapping[Ref, Manifest], now: datetime) -> timedelta | None:
    """Until the first of the things that are excused as new today is a problem; ``None``: there is none. No watch
    tells when it is."""
    pods = _current(children)
    waiting = [
        child
        for ref, child in children.items()
        if (ref in pods and _waits_for_a_node(child)) or (ref.kind == "PersistentVolumeClaim" and _waits(child))
    ]
    left = [_patience_left(child, now) for child in waiting]
    return min((each for each in left if each > timedelta()), default=None)


def _is_new(child: Manifest, now: datetime) -> bool:
    return _patience_left(child, now) > timedelta()


def _patience_left(child: Manifest, now: datetime) -> timedelta:
    made = child["metadata"].get("creationTimestamp")
    return timedelta() if made is None else PATIENCE - (now - parse_timestamp(made))


def _of_a_pod(ref: Ref, pod: Manifest, last_words: Mapping[Crashed, str], now: datetime) -> Iterable[Problem]:
    component, status = component_of(pod), pod.get("status") or {}
    unscheduled = _waits_for_a_node(pod)
    if unscheduled is not None and not _is_new(pod, now):
        yield Problem(component, "Unschedulable", f"no node takes its pod: {unscheduled.get('message', '')}")
    for one in _containers(pod):
        reason, message = _waiting(one)
        if reason in _IMAGE:
            yield Problem(
                component,
                "ImagePullBackOff" if reason in _PULLING else reason,
                f"its image {one.get('image', '')} can not be pulled: {message or reason}",
            )
        elif reason in _CONFIG:
            yield Problem(component, reason, f"its container can not be made: {message or reason}")
        elif _has_crashed(pod, one, now):
            words = last_words.get(_crashed(ref, pod, one), "")
            times = one.get("restartCount", 0)
            yield Problem(
                component,
                "CrashLoopBackOff",
                f"it has ended {_how(one)}, {times} times so far" + (f"; its last line: {words}" if words else ""),
            )
    if status.get("phase") == "Failed" and status.get("reason"):
        yield Problem(component, status["reason"], status.get("message") or "its pod has failed")


def _waits_for_a_node(pod: Manifest) -> Manifest | None:
    """The condition that says so. It stays when the pod has found a node, or has ended."""
    status = pod.get("status") or {}
    if status.get("phase", "Pending") != "Pending" or (pod.get("spec") or {}).get("nodeName"):
        return None
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            found: Manifest = condition
            return found
    return None


def _waits(claim: Manifest) -> bool:
    """For a volume that should be there by now."""
    if component_of(claim) == Component.BACKUP:
        # Many storage classes give a volume with its first pod, and that comes at night.
        return False
    return (claim.get("status") or {}).get("phase") == "Pending"


def _of_a_claim(ref: Ref, claim: Manifest, now: datetime) -> Iterable[Problem]:
    if _waits(claim) and not _is_new(claim, now):
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


def _has_crashed(pod: Manifest, status: Manifest, now: datetime) -> bool:
    """Also while it has just been started again: one that ends again and again would be well in between."""
    state, ended = status.get("state") or {}, _ended(status)
    if "waiting" in state:
        return _waiting(status)[0] == "CrashLoopBackOff"
    code = ended.get("exitCode", 0)
    if code == 0 or (component_of(pod) == Component.REALITY_CHECK and code in VERDICTS):
        return False
    if "running" not in state:
        return True
    at = ended.get("finishedAt")
    return at is not None and not status.get("ready", False) and now - parse_timestamp(at) < RECENTLY


def _ended(status: Manifest) -> Manifest:
    """How it ended last; empty: it never did."""
    found: Manifest = (
        (status.get("state") or {}).get("terminated") or (status.get("lastState") or {}).get("terminated") or {}
    )
    return found


def _how(status: Manifest) -> str:
    ended = _ended(status)
    if ended.get("reason") == "OOMKilled":
        return "for it used more memory than its limit"
    return f"with exit code {ended['exitCode']}" if "exitCode" in ended else "badly"
