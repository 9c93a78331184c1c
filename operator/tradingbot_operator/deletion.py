"""What the deletion of a bot waits for. Pure.

Deleting a bot that holds positions does what ``deletionPolicy`` says, visibly, and never hangs for ever: each step
has a limit, and a person has a way out at any time (``tradingbot.dev/abandon: "true"``). While it waits, everything
runs on. At the end the agents go first: what they have in hand, an exit whose stop is cancelled already, needs the
ledger for another moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Literal

import msgspec

from tradingbot_api import parse_timestamp
from tradingbot_operator.kinds import Manifest, Ref
from tradingbot_operator.names import AGENTS, Annotation, Label
from tradingbot_operator.plan import Delete
from tradingbot_operator.status import Deletion

FLATTEN_LIMIT = timedelta(minutes=30)
"""For selling everything: an exit is tried again at least every minute, and an exchange's outage seldom lasts
longer."""

BLOCK_LIMIT = timedelta(hours=24)
"""For a person to decide; then the bot goes, and what it holds is left as it is, with its stops on the exchange."""

LOST_LIMIT = timedelta(seconds=30)
"""For a pod to be gone after its grace. One of a node that is lost never is, while the node is not removed."""

STOPPING = "Stopping"

WAY_OUT = f'or give them up with the annotation {Annotation.ABANDON.value}: "true"'


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    waits: Deletion | None
    """``None``: nothing any more; the bot may go."""
    state: str | None = None
    """That the bot is to be in meanwhile."""
    left: str = ""
    """What is left behind, when something is."""


def judge(
    *,
    policy: Literal["Retain", "Flatten", "Block"],
    positions: int | None,
    live_orders: int | None,
    abandoned: bool,
    asked_at: datetime,
    before: Deletion | None,
    now: datetime,
) -> Verdict:
    """``positions`` and ``live_orders`` are as last reported; ``None``: no report ever, so nothing was ever
    traded."""
    if not positions and not live_orders:
        return Verdict(waits=None)
    held = _held(positions or 0, live_orders or 0)
    if abandoned:
        return Verdict(waits=None, left=f"{held} left, as a person asked")
    if policy == "Retain":
        return Verdict(waits=None, left=f"{held} left, as deletionPolicy Retain says")
    if policy == "Flatten" and not _is_blocked(before):
        since = before.since if before is not None else asked_at
        deadline = since + FLATTEN_LIMIT
        if now < deadline:
            waits = Deletion(phase="Flattening", waiting_for=f"{held} to be sold", since=since, deadline=deadline)
            return Verdict(waits=waits, state="Flatten")
    since = before.since if before is not None and _is_blocked(before) else now
    deadline = since + BLOCK_LIMIT
    if now >= deadline:
        return Verdict(waits=None, left=f"{held} left, for nobody decided within {BLOCK_LIMIT}")
    failed = f" could not be sold within {FLATTEN_LIMIT}" if policy == "Flatten" else ""
    waits = Deletion(
        phase="Blocked",
        waiting_for=f"{held}{failed}: set state: Flatten or deletionPolicy: Retain, {WAY_OUT}",
        since=since,
        deadline=deadline,
    )
    return Verdict(waits=waits, state="Flatten" if policy == "Flatten" else None)


class Ending(msgspec.Struct, frozen=True):
    """Of agents."""

    deletes: list[Delete]
    """Workloads that nobody has deleted yet."""
    pods: list[Ref]
    """That are still there, and may be at work."""

    @property
    def over(self) -> bool:
        return not self.deletes and not self.pods


def ending(there: Mapping[Ref, Manifest], now: datetime) -> Ending:
    """What is left of the agents among a bot's children. A pod that no controller made is nobody's agent."""
    agents = {each.value for each in AGENTS}
    found = {
        ref: each["metadata"]
        for ref, each in sorted(there.items())
        if (each["metadata"].get("labels") or {}).get(Label.COMPONENT.value) in agents
    }
    return Ending(
        deletes=[
            Delete(ref=ref, uid=meta["uid"])
            for ref, meta in found.items()
            if ref.kind in ("Deployment", "StatefulSet") and meta.get("deletionTimestamp") is None
        ],
        pods=[
            ref
            for ref, meta in found.items()
            if ref.kind == "Pod" and meta.get("ownerReferences") and not _is_lost(meta, now)
        ],
    )


def _is_lost(meta: Manifest, now: datetime) -> bool:
    """It should have been gone: the time of its deletion is the end of its grace."""
    end = meta.get("deletionTimestamp")
    return end is not None and now > parse_timestamp(end) + LOST_LIMIT


def stopping(before: Deletion | None, now: datetime) -> Deletion:
    """While its agents end. A bot that nobody decided on keeps the time since which it was so."""
    if before is not None and _is_blocked(before):
        return before
    since = before.since if before is not None and before.phase == STOPPING else now
    return Deletion(phase=STOPPING, waiting_for="its agents to end what they do", since=since, deadline=None)


def _is_blocked(before: Deletion | None) -> bool:
    return before is not None and before.phase == "Blocked"


def _held(positions: int, orders: int) -> str:
    parts = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for count, name in ((positions, "open position"), (orders, "live order"))
        if count
    ]
    return " and ".join(parts)
