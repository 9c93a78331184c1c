"""What was paid in fees against what was expected."""

from __future__ import annotations

from decimal import Decimal

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.spelling import percent
from tradingbot_agents.domain.values import ZERO, split_symbol
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import rules_of

MUCH = 2
"""Times the fee that is expected. A tier of fees, or the rounding of small ones, does not make as much."""


def judge(evidence: Evidence) -> Judgement:
    by_symbol: dict[str, list[Fill]] = {}
    for fill in known(evidence.ledger).fills:
        if fill.symbol in evidence.settings.symbols and fill.at >= evidence.since:
            by_symbol.setdefault(fill.symbol, []).append(fill)
    breaches: list[str] = []
    doubts: list[str] = []
    told: list[str] = []
    for symbol, fills in sorted(by_symbol.items()):
        valued = [fill for fill in fills if _is_valued(fill)]
        cost = sum((fill.cost for fill in valued), ZERO)
        if len(valued) < len(fills):
            doubts.append(
                f"{symbol}: what {len(fills) - len(valued)} of {len(fills)} fills cost in fees is not known"
            )
        expected = _expected(evidence, symbol)
        if not cost:
            continue
        paid = sum((fill.fee_in_quote for fill in valued), ZERO) / cost
        if expected is None:
            doubts.append(f"{symbol}: {percent(paid)} was paid, and nobody says what is expected")
        elif paid > MUCH * expected:
            breaches.append(
                f"{symbol}: {percent(paid)} was paid in {len(valued)} fills, and {percent(expected)} is expected"
            )
        else:
            told.append(f"{symbol} {percent(paid)}")
    return judged(breaches, ", ".join(told) or "nothing was traded", doubts=doubts)


def _expected(evidence: Evidence, symbol: str) -> Decimal | None:
    if evidence.settings.fees is not None:
        return evidence.settings.fees
    rules = rules_of(evidence, symbol)
    return None if rules is None else rules.fees.taker


def _is_valued(fill: Fill) -> bool:
    """Whether the fee is known in quote currency: one in a third asset needs a price of that."""
    if fill.fee is None or fill.fee.asset in split_symbol(fill.symbol):
        return True
    return fill.fee.quote_value is not None


CHECK = Check(
    id="behaviour.fees",
    asks="Are the fees those that were expected?",
    protects="A strategy that earns less a trade than the fees it reckons with loses with every one.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "See the account's fee tier on the exchange, and whether it pays in its own coin (and still has some). If the"
        " fee is right, say so in the spec (spec.exchange.simulated.fees for paper), and measure the strategy with"
        " it. Unknown: the third asset had no fresh price when the fill was booked."
    ),
    judge=judge,
)
