"""Whether a report holds the bot: a severe failure restricts it once, and a person takes that away again.

A check is not always right, and a person who has looked may let the bot go on while it fails still. So each failure
holds once, until it has passed in between. What passes takes no hold away: why money was in two places is to be found
out by somebody.
"""

from __future__ import annotations

from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import Hold
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Report
from tradingbot_agents.reality.words import moment

BY = "reality-check"
"""Who placed a hold of this."""

NAMED = 5
"""Failures in a reason; what is beyond is counted."""


def holding(
    report: Report, on_severe: BotState | None, present: Hold | None, held_for: frozenset[str]
) -> tuple[Hold | None, frozenset[str]]:
    """The hold to place, if any, and the checks that are held for from now on.

    ``on_severe`` is the state to hold at; ``None``: nothing is held. ``present`` is the hold that is there, and
    ``held_for`` are the checks whose failure has held before and has not passed since.
    """
    statuses = {finding.id: finding.status for finding in report.findings}
    standing = frozenset(check for check in held_for if statuses.get(check, Status.PASSED) is not Status.PASSED)
    severe = frozenset(finding.id for finding in report.severe)
    if present is not None and present.by == BY and present.at == report.at:
        # Placed by this very report, and only the answer got lost.
        return present, standing | severe
    if on_severe is None or severe <= standing:
        return None, standing
    if present is not None and present.by != BY and present.state.strictness >= on_severe.strictness:
        # Not ours, and no less strict: ours follows when it is released, if there is still reason.
        return None, standing
    state = on_severe
    if present is not None and present.state.strictness > on_severe.strictness:
        state = present.state
    return Hold(state=state, reason=_reason(report, present), by=BY, at=report.at), standing | severe


def words(hold: Hold) -> str:
    """For the report that placed it."""
    return f"held at {hold.state.value}: {hold.reason}"


def _reason(report: Report, present: Hold | None) -> str:
    named = sorted(finding.id for finding in report.severe)
    more = f" and {len(named) - NAMED} more" if len(named) > NAMED else ""
    told = f"{', '.join(named[:NAMED])}{more} failed in the reality check of {moment(report.at)}"
    if present is None or present.by == BY:
        return told
    return f"{told} (before: {present.state.value} by {present.by}, {present.reason})"
