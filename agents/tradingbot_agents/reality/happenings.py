"""Events as evidence: which of them count, and whether a log reaches far enough to say that there was none."""

from __future__ import annotations

from collections.abc import Iterable

from tradingbot_agents.reality.evidence import Evidence, Heard, LedgerEvidence, Missing, known
from tradingbot_agents.reality.words import moment, times


def counting(evidence: Evidence, *names: str) -> list[Heard]:
    """Events of these names that happened while what their agent says counts, oldest first."""
    return [each for each in evidence.heard(*names) if each.last >= evidence.counts_from(each.agent)]


def how_often(each: Heard) -> str:
    """``once, at …`` or ``7 times, from … to …``."""
    if each.count == 1:
        return f"once, at {moment(each.last)}"
    return f"{times(each.count)}, from {moment(each.first)} to {moment(each.last)}"


def is_written(evidence: Evidence, agent: str) -> bool:
    """Whether the agent's events are rows in the ledger, so that none of them depends on a log."""
    return isinstance(evidence.ledger, LedgerEvidence) and agent in evidence.ledger.revisions


def unheard(evidence: Evidence, agents: Iterable[str]) -> list[str]:
    """Of agents that are heard in their logs only: why one may have said something that nobody heard."""
    doubts: list[str] = []
    logs = known(evidence.logs)
    for agent in agents:
        if is_written(evidence, agent):
            continue
        log = logs.agents.get(agent)
        if log is None:
            doubts.append(f"{agent}: there is no log of it")
        elif isinstance(log, Missing):
            if log.wanted:
                doubts.append(f"{agent}: {log.why}")
        elif not log.complete:
            reaches = "has no line" if log.begins is None else f"was read from {moment(log.begins)} on"
            why = f" ({log.lacks})" if log.lacks else ""
            doubts.append(
                f"{agent}: its log {reaches}, and what counts begins at {moment(log.counts_from)}: what it said"
                f" before is not known{why}"
            )
    return doubts
