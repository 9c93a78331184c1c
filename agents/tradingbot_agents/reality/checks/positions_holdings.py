"""What the ledger says is there, against what the exchange holds."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.values import ZERO, Mode, split_symbol
from tradingbot_agents.ledger.port import KnownRules
from tradingbot_agents.reality.check import Check, Judgement, judged, skipped
from tradingbot_agents.reality.evidence import Evidence, Source, known

ROUNDING = Decimal("1e-8")
"""Exchanges keep balances to so many places; a fee may have more."""


def judge(evidence: Evidence) -> Judgement:
    ledger, account = known(evidence.ledger), known(evidence.account)
    books, shown = ledger.books.balances, account.balances
    if ledger.books.opened_at is None:
        return skipped("the account is not open yet")
    positions = _by_asset(ledger.account_positions)
    breaches: list[str] = []
    doubts: list[str] = []
    dust: list[str] = []
    compared = 0
    for asset in sorted({*books, *shown, *positions}):
        ours = books[asset].total if asset in books else ZERO
        theirs = shown[asset].total if asset in shown else ZERO
        held = positions.get(asset, ZERO)
        if not (ours or theirs or held):
            continue
        compared += 1
        lot = _smallest_lot(ledger.rules, asset, theirs)
        more = theirs - ours
        told = f"{asset}: the exchange has {theirs:f}, and the books {ours:f}"
        if more < ZERO and not _is_dust(more, lot):
            breaches.append(told)
        elif held > theirs and not _is_dust(held - theirs, lot):
            breaches.append(f"{asset}: the exchange has {theirs:f}, and all positions together {held:f}")
        elif more and _is_dust(more, lot):
            dust.append(f"{asset} {more:f}")
        elif more and evidence.settings.mode is Mode.PAPER:
            # Nobody can deposit there.
            breaches.append(told)
        elif more:
            doubts.append(f"{told}: a deposit is booked when execution compares the account the next time")
    apart = f"; dust apart: {', '.join(dust)}" if dust else ""
    return judged(breaches, f"{compared} assets are there as the books say{apart}", doubts=doubts)


def _by_asset(positions: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """What all positions have of each base currency."""
    held: dict[str, Decimal] = {}
    for symbol, amount in positions.items():
        base, _ = split_symbol(symbol)
        held[base] = held.get(base, ZERO) + amount
    return held


def _smallest_lot(rules: Mapping[str, KnownRules], asset: str, near: Decimal) -> Decimal:
    """The least that an order can sell of it, by its amount; zero for what is nowhere sold."""
    lots = (
        max(found.rules.min_amount, found.rules.amount.step(near))
        for found in rules.values()
        if found.rules.base == asset
    )
    return min(lots, default=ZERO)


def _is_dust(difference: Decimal, lot: Decimal) -> bool:
    return abs(difference) < lot or abs(difference) <= ROUNDING


CHECK = Check(
    id="positions.holdings",
    asks="Is what the ledger has of each asset on the exchange?",
    protects="What is not there is sold in vain, and the stop of a position that is gone protects nothing.",
    needs=(Source.LEDGER, Source.ACCOUNT),
    severity=Severity.SEVERE,
    remedy=(
        "Compare the asset with the exchange's own history. What was withdrawn or sold by hand is booked as an"
        " outside movement when execution compares the account the next time (spec.execution.reconcileInterval);"
        " if it tells reconciliation_delayed, its reason says why it can not. When positions have more than is"
        " there, bring back to the account what is missing: they can not be sold otherwise. If nobody of yours did"
        " it, somebody else has a key of the account: revoke it."
    ),
    judge=judge,
    compares=True,
)
