"""Clocks that differ: of the exchange, of the database, of the agents, against ours."""

from __future__ import annotations

from datetime import timedelta

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import AgentLog, Evidence, Logs, Source, known
from tradingbot_agents.reality.market import CLOCKS
from tradingbot_agents.reality.words import moment

GATHERING = timedelta(minutes=5)
"""Longer than an audit gathers evidence: a log that is read at its end is no more ahead than that by itself."""


def judge(evidence: Evidence) -> Judgement:
    ledger, market = known(evidence.ledger), known(evidence.market)
    breaches: list[str] = []
    told: list[str] = []
    differences = {"the database": ledger.read_at - ledger.asked_at}
    if market.clock_offset is not None:
        differences["the exchange"] = market.clock_offset
    for whose, by in differences.items():
        words = f"{whose}'s clock is {_seconds(by)} {'ahead of' if by > timedelta(0) else 'behind'} ours"
        (breaches if abs(by) > CLOCKS else told).append(words)
    if isinstance(evidence.logs, Logs):
        for agent, log in evidence.logs.agents.items():
            if isinstance(log, AgentLog) and log.ends is not None and log.ends > evidence.at + GATHERING:
                breaches.append(
                    f"{agent}'s clock is ahead of ours: it wrote a line at {moment(log.ends)}, and it is"
                    f" {moment(evidence.at)}"
                )
    return judged(breaches, ", ".join(told))


def _seconds(by: timedelta) -> str:
    return f"{abs(by).total_seconds():.1f} s"


CHECK = Check(
    id="agents.clock",
    asks="Do the clocks of the exchange, the database and the agents agree with ours?",
    protects=(
        "Whether a price is fresh, an intent is stale and a signed request is taken is a matter of seconds between"
        " two clocks."
    ),
    needs=(Source.LEDGER, Source.MARKET),
    severity=Severity.WARNING,
    remedy=(
        "Synchronise the clock of the node (timedatectl status, chronyc tracking). If it is the database's or the"
        " exchange's alone, that machine's is wrong; if all differ, ours is."
    ),
    judge=judge,
)
