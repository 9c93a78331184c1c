"""What the deletion of a bot waits for. Pure.

Deleting a bot that holds positions does what ``deletionPolicy`` says, visibly, and never hangs for ever: each step
has a limit, and a person has a way out at any time (``tradingbot.dev/abandon: "true"``). While it waits, everything
runs on.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Literal

import msgspec

from tradingbot_operator.names import Annotation
from tradingbot_operator.status import Deletion

FLATTEN_LIMIT = timedelta(minutes=30)
"""For selling everything: an exit is tried again at least every minute, and an exchange's outage seldom lasts
longer."""

BLOCK_LIMIT = timedelta(hours=24)
"""For a person to decide; then the bot goes, and what it holds is left as it is, with its stops on the exchange."""

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


def _is_blocked(before: Deletion | None) -> bool:
    return before is not None and before.phase == "Blocked"


def _held(positions: int, orders: int) -> str:
    parts = [
        f"{count} {name}{'' if count == 1 else 's'}"
        for count, name in ((positions, "open position"), (orders, "live order"))
        if count
    ]
    return " and ".join(parts)
