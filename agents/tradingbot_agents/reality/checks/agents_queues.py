"""What waits in the queues, and whether somebody reads them."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known


def judge(evidence: Evidence) -> Judgement:
    found, most = known(evidence.messaging), evidence.settings.backlog
    breaches = [f"{name}: RabbitMQ has no such queue" for name in found.absent]
    waiting = 0
    for queue in found.queues:
        if queue.consumers == 0:
            breaches.append(f"{queue.name}: nobody reads it, {queue.messages} wait; {queue.owner} should")
        elif queue.durable and queue.messages > most:
            breaches.append(f"{queue.name}: {queue.messages} wait, more than {most}; {queue.owner} does not keep up")
        if queue.durable:
            waiting += queue.messages
    return judged(breaches, f"{len(found.queues)} queues are read, {waiting} messages wait")


CHECK = Check(
    id="agents.queues",
    asks="Does an agent read every queue, and keep up with it?",
    protects="Orders, intents and reports that wait are decisions that are not carried out.",
    needs=(Source.MESSAGING,),
    severity=Severity.WARNING,
    remedy=(
        "Nobody reads it: see that the agent that is named runs (agents.ready), and restart it when it does. It does"
        " not keep up: its log says what it waits for, most often the exchange or the database. A queue that is not"
        " there is made by any agent when it connects: restart one, and look for what deleted it."
    ),
    judge=judge,
    # An agent that has just connected again, or a burst of this moment, is no fault.
    compares=True,
)
