"""Messages that no agent could handle."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.words import moment


def judge(evidence: Evidence) -> Judgement:
    found = known(evidence.messaging)
    breaches = [
        f"{letter.queue}: {letter.message_id or 'one without an id'}, set aside at {moment(letter.at)}:"
        f" {letter.reason}"
        for letter in found.dead_letters
    ]
    unread = found.dead_letters_waiting - len(found.dead_letters)
    if unread > 0:
        breaches.insert(0, f"{found.dead_letters_waiting} dead letters, of which {len(found.dead_letters)} were read")
    return judged(breaches, "no dead letters")


CHECK = Check(
    id="agents.dead-letters",
    asks="Could every message be handled?",
    protects="Each dead letter is an intent, an order or a report that was not acted on.",
    needs=(Source.MESSAGING,),
    severity=Severity.WARNING,
    remedy=(
        "tradingbot dead-letters SPEC shows them with their reasons. When the cause is mended: tradingbot"
        " dead-letters SPEC --requeue QUEUE ID, one at a time; an intent that is too old is refused then, and does no"
        " harm. What nobody needs any more is removed by tradingbot prune after spec.messaging.deadLetterRetention."
    ),
    judge=judge,
)
