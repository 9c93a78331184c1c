"""One audit: gather, judge, look again where two places differed, and report.

Two places are never read in the same moment, and the system trades on meanwhile. So what compares them fails only
when it fails in a second look, too; what is asked of one place counts at once.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence

from tradingbot_agents.reality import report as reporting
from tradingbot_agents.reality.check import Check, Judgement, Status, judge_all, unknown
from tradingbot_agents.reality.evidence import AgentsEvidence, Evidence
from tradingbot_agents.reality.report import Report

LOOKS = 3
"""At most: a difference counts when two in a row see it."""

Gather = Callable[[], Awaitable[Evidence]]
"""Looks at every place anew. Bounds itself in time, and raises nothing for a place that is away."""

Settle = Callable[[], Awaitable[None]]
"""Waits until what was under way is done: an order in flight, a fill that is being booked."""


async def audit(
    checks: Sequence[Check],
    gather: Gather,
    settle: Settle,
    *,
    account: str,
    agents: Sequence[str],
    past: Sequence[Report],
    looks: int = LOOKS,
) -> Report:
    """``past`` are the reports before, newest first."""
    began = time.monotonic()
    before: set[str] = set()
    seen = 0
    while True:
        evidence = await gather()
        judgements = judge_all(checks, evidence)
        seen += 1
        fresh = _differing(checks, judgements) - before
        if not fresh or seen == looks:
            break
        before = _differing(checks, judgements)
        await settle()
    for each in fresh:
        judgements[each] = unknown("in the last look only:", *judgements[each].told)
    return reporting.build(
        checks,
        judgements,
        evidence,
        account=account,
        agents=agents,
        revision=evidence.agents.wanted_revision if isinstance(evidence.agents, AgentsEvidence) else None,
        looks=seen,
        seconds=time.monotonic() - began,
        past=past,
    )


def _differing(checks: Sequence[Check], judgements: Mapping[str, Judgement]) -> set[str]:
    """Checks that compare two places, and found a difference."""
    return {each.id for each in checks if each.compares and judgements[each.id].status is Status.FAILED}
