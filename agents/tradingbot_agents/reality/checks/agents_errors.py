"""What the agents' logs say that is no event: tracebacks, and a library's words."""

from __future__ import annotations

from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import AgentLog, Evidence, Source, known
from tradingbot_agents.reality.happenings import unheard

LONGEST = 300
"""Characters that are told of a line."""


def judge(evidence: Evidence) -> Judgement:
    logs = known(evidence.logs)
    found = {agent: log for agent, log in sorted(logs.agents.items()) if isinstance(log, AgentLog)}
    breaches: list[str] = []
    for agent, log in found.items():
        breaches += [f"{agent}: {_short(line)}" for line in log.newest_lines]
        if log.errors > len(log.newest_lines):
            breaches.append(f"{agent}: {log.errors - len(log.newest_lines)} more lines that tell an error")
    lines = sum(log.lines for log in found.values())
    return judged(breaches, f"no error in {lines} lines of {len(found)} logs", doubts=unheard(evidence, AGENTS))


def _short(line: str) -> str:
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}…"


CHECK = Check(
    id="agents.errors",
    asks="Do the agents' logs tell no error that nothing else tells?",
    protects="What nobody thought of: an error that has no event, no metric and no check.",
    needs=(Source.LOGS,),
    severity=Severity.WARNING,
    remedy=(
        "Read it in its place (kubectl logs POD), and report it: a traceback is a defect of this version, whatever"
        " caused it. Unknown: the log was rotated away before it was read; run the check more often than that"
        " (spec.realityCheck.schedule), or let the node keep more."
    ),
    judge=judge,
)
