"""Two processes that both hold themselves for the one that writes."""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import AgentsEvidence, Evidence, Heard, Source, known
from tradingbot_agents.reality.happenings import counting, how_often
from tradingbot_agents.reality.market import CLOCKS
from tradingbot_agents.reality.words import lasting, moment

STARTING = timedelta(minutes=15)
"""From the start of a process, or the end of the one before it, until it writes: it waits for the database and the
exchange, and Kubernetes waits up to five minutes before it starts one again."""


class _Epoch(msgspec.Struct, frozen=True):
    number: int
    since: datetime | None


def judge(evidence: Evidence) -> Judgement:
    epochs = known(evidence.ledger).epochs
    present = {
        RISK: _Epoch(epochs.risk, epochs.risk_since),
        EXECUTION: _Epoch(epochs.execution, epochs.execution_since),
    }
    breaches: list[str] = []
    told = [f"{role} writes with epoch {epoch.number}" for role, epoch in present.items()]
    for each in counting(evidence, "fenced_off"):
        role = each.key[0]
        beside = _beside(each, present.get(role))
        if beside is not None and beside <= evidence.settings.send_within + CLOCKS:
            told.append(f"{role}: the process before this one ran on for {lasting(beside)}")
            continue
        number = each.sample.get("epoch", "?")
        breaches.append(
            f"{role}: a process was fenced off by a newer one ({how_often(each)}), at last of epoch {number}"
        )
    doubts = [
        f"{role}: epoch {epoch.number} began at {moment(epoch.since)}, and no process that is known started then"
        for role, epoch in present.items()
        if epoch.since is not None
        and epoch.since >= evidence.since
        and not _is_explained(evidence, role, epoch.since)
    ]
    return judged(breaches, ", ".join(told), doubts=doubts)


def _beside(fenced: Heard, present: _Epoch | None) -> timedelta | None:
    """For how long the process that was fenced off ran beside the one that writes now; ``None``: it was another than
    the last before that."""
    if present is None or present.since is None or fenced.count != 1:
        return None
    if fenced.sample.get("epoch") != present.number - 1:
        return None
    return fenced.last - present.since


def _is_explained(evidence: Evidence, agent: str, at: datetime) -> bool:
    """Whether a process that is known raised the epoch then, as each does when it starts, and when its agent is built
    anew. Nobody says of a bot whose processes could not be asked."""
    if not isinstance(evidence.agents, AgentsEvidence):
        return True
    starts: list[datetime] = []
    for pod in evidence.agents.pods:
        if pod.agent == agent:
            starts += [begin for begin in (pod.started_at, pod.restarted_at) if begin is not None]
    if not starts:
        return True
    built = [each for each in evidence.heard("agent_restarted") if agent in each.key]
    starts += [begin for each in built for begin in (each.first, each.last)]
    # One that began after it has not written yet, or has raised it again.
    return any(begin + STARTING >= at for begin in starts)


CHECK = Check(
    id="balance.writers",
    asks="Does one risk agent write, and one execution agent, and none beside them?",
    protects=(
        "One authority over the balance. The ledger refuses the older of two, so that nothing is sent twice; but two"
        " that take over from each other again and again trade nothing."
    ),
    needs=(Source.LEDGER,),
    severity=Severity.SEVERE,
    remedy=(
        "Find out who started the second one: see agents.single, a tradingbot agent that somebody runs elsewhere with"
        " the same database and the same spec, a node that was cut off and came back. End it, see that orders.unknown"
        " passes, and release the hold (tradingbot release --spec SPEC)."
    ),
    judge=judge,
)
