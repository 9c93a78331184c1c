"""The market rules in the ledger against those that the exchange tells now."""

from __future__ import annotations

from decimal import Decimal

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.spelling import plain
from tradingbot_agents.domain.symbol_rules import Fees, Precision, SymbolRules
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known

FIELDS = {
    "amount": "the step of amounts",
    "price": "the tick of prices",
    "min_amount": "the minimum amount",
    "max_amount": "the maximum amount",
    "min_notional": "the minimum notional",
    "max_notional": "the maximum notional",
    "max_market_amount": "the maximum amount at market",
    "active": "whether it trades",
}
"""Of ``SymbolRules``, all but its names, which are the key, and the fees: those are the account's own tier, or the
paper account's, and the public rules have the exchange's list price."""


def judge(evidence: Evidence) -> Judgement:
    ledger, market = known(evidence.ledger), known(evidence.market)
    breaches: list[str] = []
    doubts: list[str] = []
    same = 0
    fees: list[str] = []
    for symbol in evidence.settings.symbols:
        if symbol not in ledger.rules:
            # lots.rules says that.
            continue
        if symbol not in market.rules:
            doubts.append(f"{symbol}: the exchange gave no rules to compare with")
            continue
        ours, theirs = ledger.rules[symbol].rules, market.rules[symbol]
        differences = _differences(ours, theirs)
        if differences:
            breaches.append(f"{symbol}: {', '.join(differences)}")
        else:
            same += 1
        if (ours.fees.maker, ours.fees.taker) != (theirs.fees.maker, theirs.fees.taker):
            fees.append(f"{symbol} {_rates(ours.fees)} in the ledger, {_rates(theirs.fees)} there")
    more = f"; fees are the account's own: {', '.join(fees)}" if fees else ""
    return judged(breaches, f"{same} symbols have the exchange's rules{more}", doubts=doubts)


def _differences(ours: SymbolRules, theirs: SymbolRules) -> list[str]:
    return [
        f"{words} is {_shown(getattr(ours, name))}, and {_shown(getattr(theirs, name))} on the exchange"
        for name, words in FIELDS.items()
        if getattr(ours, name) != getattr(theirs, name)
    ]


def _shown(value: Precision | Decimal | bool | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Precision):
        return f"{value.value:f} ({value.mode.value})"
    return f"{value:f}"


def _rates(fees: Fees) -> str:
    return f"{plain(fees.maker * 100)} % and {plain(fees.taker * 100)} %"


CHECK = Check(
    id="lots.current",
    asks="Are the market rules in the ledger those that the exchange has now?",
    protects="Orders that are rounded by rules of yesterday are refused, and a stop among them protects nothing.",
    needs=(Source.LEDGER, Source.MARKET),
    severity=Severity.WARNING,
    remedy=(
        "The exchange has changed its rules, and execution reads them every spec.exchange.rulesInterval: wait for it,"
        " or restart execution, and then risk, which has its rules from the ledger. If they differ for longer, see"
        " lots.rules, and whether somebody changed the row by hand."
    ),
    judge=judge,
    compares=True,
)
