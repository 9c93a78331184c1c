"""Two of an agent that writes."""

from __future__ import annotations

from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known


def judge(evidence: Evidence) -> Judgement:
    pods = known(evidence.agents).pods
    breaches: list[str] = []
    for agent in (RISK, EXECUTION):
        places = [f"{pod.place} (revision {pod.revision or 'unknown'})" for pod in pods if pod.agent == agent]
        if len(places) > 1:
            breaches.append(f"{agent}: there are {len(places)}: {', '.join(sorted(places))}")
    return judged(breaches, "no more than one of risk and of execution")


CHECK = Check(
    id="agents.single",
    asks="Is there no more than one risk agent and one execution agent?",
    protects=(
        "One authority over the balance. The ledger fences the older one off, so that its next write fails; what it"
        " has in flight at the exchange it may still finish."
    ),
    needs=(Source.AGENTS,),
    severity=Severity.SEVERE,
    remedy=(
        "Find out what made the second one: a Deployment scaled by hand, a node that came back, a tradingbot agent"
        " that was started elsewhere. End it (kubectl delete pod, kubectl scale), see that orders.unknown passes, and"
        " release the hold (tradingbot release --spec SPEC)."
    ),
    judge=judge,
    # While one takes over from another there may be two for a moment.
    compares=True,
)
