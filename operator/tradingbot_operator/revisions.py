"""Which revision of a bot's spec its pods are to run, and in which order they go there.

A revision is the resolved spec and the image, pinned in an immutable ConfigMap: what runs does not change because
somebody edits YAML, or because a new version of the operator has other defaults. A pending revision is told
(``ConfigDrift``) and applied when the spec's ``updateStrategy`` allows it, or when a person names it in an
annotation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from tradingbot_operator.names import Component

ROLL_ORDER = (
    Component.EXECUTION,
    Component.RISK,
    Component.STRATEGY,
    Component.TECHNICAL_ANALYSIS,
    Component.DATA_COLLECTION,
)
"""Who takes messages is new before who sends them; the money comes first, while everything that feeds it still
works. Each waits for the one before it to be ready: what is broken in a revision stops at its first pod, and the
rest trades on."""


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    revision: str
    """That the pods are to run."""
    pending: str | None = None
    """That the spec asks for, when it is another one."""
    waits_for: str = ""
    """Why it is pending, and what to do."""


def choose(
    *,
    asked: str,
    running: str | None,
    strategy: Literal["Manual", "Auto"],
    approved: str | None,
    positions: int | None,
    real_orders: bool,
    how: str,
) -> Choice:
    """``asked`` is the revision of the spec as it is, ``running`` that of the pods, ``approved`` the one that a
    person has named. ``positions`` are as last reported; ``how`` tells a person how to apply."""
    if running is None or running == asked:
        return Choice(revision=asked)
    if strategy == "Auto" or approved == asked:
        return Choice(revision=asked)
    if positions == 0 or (positions is None and not real_orders):
        return Choice(revision=asked)
    why = f"{positions} positions are open" if positions else "it is not known whether positions are open"
    if positions == 1:
        why = "a position is open"
    return Choice(revision=running, pending=asked, waits_for=f"{why}; to apply it all the same: {how}")


class Pod(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one agent's workload."""

    revision: str | None
    """That its template has; ``None``: it is not there."""
    ready: bool
    """Its pod runs that very template, and says that it is ready."""


def rolled(
    target: str, pods: Mapping[Component, Pod], order: Sequence[Component] = ROLL_ORDER
) -> dict[Component, str]:
    """The revision that each workload is to have now. What is not there gets the target at once: a roll is of pods
    that run."""
    revisions: dict[Component, str] = {}
    free = True
    for component in order:
        pod = pods[component]
        if pod.revision is None or pod.revision == target or free:
            revisions[component] = target
        else:
            revisions[component] = pod.revision
        free = free and pod.revision == target and pod.ready
    return revisions


def started(target: str, pods: Mapping[Component, Pod]) -> bool:
    """Whether any pod has been given this revision: its migrations are done then."""
    return any(pod.revision == target for pod in pods.values())
