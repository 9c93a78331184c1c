"""The books, asked of the rows themselves: whether what is there is the sum of what happened."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known

OWN = frozenset(
    {
        "total_is_sum_of_entries",
        "fills_are_counted_once",
        "orders_match_their_fills",
        "positions_match_their_fills",
    }
)
"""Those of the ledger's invariants that are about what has happened; those about promises are ``balance``'s."""


def judge(evidence: Evidence) -> Judgement:
    rules = {rule.name: rule for rule in known(evidence.ledger).invariants if rule.name in OWN}
    breaches = [f"{rule.name}: {violation}" for rule in rules.values() for violation in rule.violations]
    doubts = [f"{name}: nobody has asked for it" for name in sorted(OWN - rules.keys())]
    return judged(breaches, f"{len(rules)} invariants hold", doubts=doubts)


CHECK = Check(
    id="accounting.entries",
    asks="Is every total the sum of its entries, and are orders and positions the sum of their fills?",
    protects="Money neither appears nor vanishes without a cause, and a profit can be traced to its trades.",
    needs=(Source.LEDGER,),
    severity=Severity.SEVERE,
    remedy=(
        "Let the bot make no entry (tradingbot hold ReduceOnly --spec SPEC --reason TEXT), and find out who wrote to"
        " the database: no agent can bring this about. See orders.fills for what the exchange has. Restore a backup,"
        " or mend the row that is named, before the hold is released."
    ),
    judge=judge,
)
