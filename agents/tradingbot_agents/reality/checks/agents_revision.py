"""Whether what runs is what was asked for."""

from __future__ import annotations

from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known


def judge(evidence: Evidence) -> Judgement:
    found = known(evidence.agents)
    wanted = found.wanted_revision
    breaches: list[str] = []
    doubts: list[str] = []
    for agent in AGENTS:
        pods = [pod for pod in found.pods if pod.agent == agent]
        if not pods:
            breaches.append(f"{agent}: there is none")
        elif len(pods) > 1:
            breaches.append(f"{agent}: there are {len(pods)}: {', '.join(sorted(pod.place for pod in pods))}")
        for pod in pods:
            if pod.revision is None:
                doubts.append(f"{agent}: {pod.place} does not say which revision it runs")
            elif wanted is not None and pod.revision != wanted:
                breaches.append(f"{agent}: {pod.place} runs revision {pod.revision}, and {wanted} is wanted")
    running = sorted({pod.revision for pod in found.pods if pod.revision is not None})
    if wanted is None and len(running) > 1:
        breaches.append(f"the agents run {len(running)} revisions: {', '.join(running)}")
    said = f"all at revision {wanted}" if wanted is not None else "all at one revision; nobody says which is wanted"
    return judged(breaches, said, doubts=doubts)


CHECK = Check(
    id="agents.revision",
    asks="Is every agent there once, and at the revision that is wanted?",
    protects="A change that was made and does not run, or in a part, is worse than none: people trust that it does.",
    needs=(Source.AGENTS,),
    severity=Severity.WARNING,
    remedy=(
        "Run kubectl describe tradingbot NAME: the condition Progressing says what a roll waits for. One that is"
        " there twice for long: kubectl delete pod of the old revision. One that is not there: kubectl get events"
        " says why its pod can not be made."
    ),
    judge=judge,
    compares=True,
)
