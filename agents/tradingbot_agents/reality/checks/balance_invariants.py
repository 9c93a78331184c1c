"""The balance lock, asked of the rows themselves."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known

OWN = frozenset(
    {
        "reserved_is_sum_of_holds",
        "never_overcommitted",
        "exit_holds_cover_live_exits",
        "entries_and_reservations_match",
        "final_orders_hold_nothing",
        "intents_are_decided_once",
    }
)
"""Those of the ledger's invariants that are about promises; those about what has happened are ``accounting``'s."""


def judge(evidence: Evidence) -> Judgement:
    rules = [rule for rule in known(evidence.ledger).invariants if rule.name in OWN]
    breaches = [f"{rule.name}: {violation}" for rule in rules for violation in rule.violations]
    return judged(breaches, f"{len(rules)} invariants hold")


CHECK = Check(
    id="balance.invariants",
    asks="Does the account promise no more than it has, and is all that is promised held by an order or a position?",
    protects="The same money can not be spent twice, whoever asks for it and however often.",
    needs=(Source.LEDGER,),
    severity=Severity.SEVERE,
    remedy=(
        "Let the bot make no entry (tradingbot hold ReduceOnly --spec SPEC --reason TEXT), and find out who wrote to"
        " the database: no agent can bring this about. Restore a backup, or mend the row that is named, before the"
        " hold is released."
    ),
    judge=judge,
)
