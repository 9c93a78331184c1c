"""The profit that the positions tell of, against one that is counted again from the fills."""

from __future__ import annotations

from decimal import Decimal

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.spelling import plain
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known

TICK = Decimal("1e-8")
"""Of money as it is told. The books cut each share of a cost after twelve places."""


def judge(evidence: Evidence) -> Judgement:
    ledger, quote = known(evidence.ledger), evidence.settings.quote
    told, counted = ledger.profit_told, ledger.profit_counted
    if abs(told - counted) >= TICK:
        of = ", ".join(
            f"{symbol} {plain(position.realised)}"
            for symbol, position in sorted(ledger.positions.items())
            if position.realised
        )
        breach = f"the positions tell of {told:f} {quote}, and their fills make {counted:f}"
        return judged([f"{breach}; told of {of}" if of else breach], "")
    return judged([], f"{plain(told)} {quote} of realised profit, told and counted again")


CHECK = Check(
    id="accounting.profit",
    asks="Is the profit that is told the one that the fills make?",
    protects="A decision about the bot rests on what it is said to have earned.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "Compare the position that is named with its fills: somebody changed a row by hand (accounting.entries and"
        " orders.fills say whether the fills are the exchange's), and then it is the position's realised that must be"
        " mended. If nobody did, it is a defect of this version: report it with both figures. What is traded does not"
        " depend on it."
    ),
    judge=judge,
)
