"""The market rules that the agents work by: that they are there, and how old they are."""

from __future__ import annotations

from datetime import timedelta

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.words import lasting, moment

GRACE = timedelta(minutes=5)
"""A reading waits for its turn in execution, for the exchange's rate limit, and for the exchange."""

SIMULATED = "simulated"
"""The exchange of a replay: its rules come from a file, once."""


def judge(evidence: Evidence) -> Judgement:
    ledger, settings = known(evidence.ledger), evidence.settings
    limit = settings.rules_interval + GRACE
    breaches: list[str] = []
    ages: list[timedelta] = []
    for symbol in settings.symbols:
        found = ledger.rules.get(symbol)
        if found is None:
            breaches.append(f"{symbol}: the ledger has no rules of it")
            continue
        age = ledger.read_at - found.read_at
        if settings.exchange != SIMULATED and age > limit:
            breaches.append(
                f"{symbol}: its rules were read last at {moment(found.read_at)}, {lasting(age)} ago;"
                f" {lasting(limit)} is the limit"
            )
        ages.append(age)
    told = f"rules of {len(ages)} symbols"
    if ages and settings.exchange != SIMULATED:
        told += f", the oldest read {lasting(max(*ages, timedelta(0)))} ago"
    return judged(breaches, told)


CHECK = Check(
    id="lots.rules",
    asks="Does the ledger have fresh market rules of every symbol?",
    protects="Every size and price is rounded by these rules; old ones make orders that are refused.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "Execution reads them at its start and every spec.exchange.rulesInterval: see that it runs (agents.ready),"
        " and its log for market_rules_failed, which has the exchange's answer. A symbol without rules is one that"
        " execution has not begun with yet: restart it."
    ),
    judge=judge,
)
