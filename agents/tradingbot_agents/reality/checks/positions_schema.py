"""The tables that the books are in, and the version that they are of."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known


def judge(evidence: Evidence) -> Judgement:
    wrong = known(evidence.ledger).schema
    return judged([] if wrong is None else [wrong], "the tables are those of this version")


CHECK = Check(
    id="positions.schema",
    asks="Are the ledger's tables and migrations at the running version?",
    protects="A table that is not as it is meant to be keeps positions otherwise than the agents believe.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "If migrations are pending, run them (tradingbot migrate SPEC; with the operator, see its Job: kubectl"
        " get jobs). If the database is newer than this check, the check's image is an older one: set the same"
        " version for all. Otherwise somebody changed the tables by hand: compare them with those of a new"
        " database."
    ),
    judge=judge,
)
