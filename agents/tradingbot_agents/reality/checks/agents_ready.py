"""Agents that are not ready, or were not all the time."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import AgentEvidence, Evidence, Source, known
from tradingbot_agents.reality.happenings import counting, how_often
from tradingbot_agents.reality.words import moment, times


def judge(evidence: Evidence) -> Judgement:
    pods = known(evidence.agents).pods
    breaches = [f"{pod.place}: not ready: {pod.why_not or 'no reason is told'}" for pod in pods if not pod.ready]
    breaches += [_restart(pod) for pod in pods if pod.restarted_at is not None and pod.restarted_at >= evidence.since]
    for each in counting(evidence, "agent_restarted"):
        # In `tradingbot run` one supervisor tells it of all agents.
        agent = each.key[0] if each.key else each.agent
        breaches.append(f"{agent}: built anew {how_often(each)}, at last because of {each.sample.get('error', '?')}")
    away: dict[str, int] = {}
    for each in counting(evidence, "dependency_away"):
        what = each.key[0] if each.key else "something"
        away[what] = away.get(what, 0) + each.count
    told = "".join(f"; {what} told as away {times(count)}" for what, count in sorted(away.items()))
    return judged(breaches, f"{len(pods)} ready, none restarted{told}")


def _restart(pod: AgentEvidence) -> str:
    assert pod.restarted_at is not None, "it was asked"
    often = f", {pod.restarts} times in all" if pod.restarts > 1 else ""
    return f"{pod.place}: restarted at {moment(pod.restarted_at)}{often}: {pod.ended or 'no reason is told'}"


CHECK = Check(
    id="agents.ready",
    asks="Is every agent ready, and was none restarted?",
    protects="An agent that is down trades nothing and protects nothing; one that restarts is about to be.",
    needs=(Source.AGENTS,),
    severity=Severity.WARNING,
    remedy=(
        "Not ready: the reason names what it waits for; see that this part runs. Restarted: kubectl logs --previous"
        " POD has its last words. OOMKilled: give it more memory in spec.agents. Built anew again and again with the"
        " same error: a defect, or a message that no agent can handle (see agents.dead-letters)."
    ),
    judge=judge,
)
