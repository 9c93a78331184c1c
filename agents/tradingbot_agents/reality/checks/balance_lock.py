"""The balance lock at work: what it refused, and whether money was spent that was not there (the lesson DEV-68)."""

from __future__ import annotations

from collections.abc import Mapping

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.events import Reason, Severity
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import ZERO, Leg
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Heard, Source, known
from tradingbot_agents.reality.happenings import counting, how_often

OF_THE_LOCK = frozenset(
    {
        Reason.INSUFFICIENT_AVAILABLE_BALANCE,
        Reason.INSUFFICIENT_BASE_BALANCE,
        Reason.POSITION_ALREADY_OPEN,
        Reason.MAX_OPEN_POSITIONS,
        Reason.NOT_TRADABLE_STATE,
    }
)
"""What the ledger itself refuses, in the transaction that would have reserved."""

OF_RISK = frozenset(Reason) - OF_THE_LOCK - {Reason.DUPLICATE_INTENT}
"""What risk refuses before it comes to the money. Of a duplicate nothing is recorded, so none can be there."""

NO_FUNDS = "insufficient_funds"
"""The code of an exchange's refusal for want of money."""


def judge(evidence: Evidence) -> Judgement:
    ledger = known(evidence.ledger)
    below = {asset: each.total for asset, each in ledger.books.balances.items() if each.total < ZERO}
    breaches = [f"{asset}: the books have {total:f}, less than nothing" for asset, total in sorted(below.items())]
    breaches += [_overdrawn(each) for each in counting(evidence, "overdrawn") if each.key[0] not in below]
    breaches += [
        f"{_intents(count)} refused for {reason}, which is no reason to refuse one that this version knows"
        for reason, count in sorted(ledger.refusals.items())
        if reason not in OF_THE_LOCK | OF_RISK
    ]
    return judged(breaches, "; ".join(_refused(evidence, ledger.refusals)))


def _refused(evidence: Evidence, refusals: Mapping[str, int]) -> list[str]:
    told: list[str] = []
    for kinds, who in ((OF_THE_LOCK, "the lock at work"), (OF_RISK, "risk at work")):
        found = {reason: count for reason, count in refusals.items() if reason in kinds and count}
        if found:
            by_reason = ", ".join(f"{reason} {found[reason]}" for reason in sorted(found))
            told.append(f"{_intents(sum(found.values()))} refused: {who} ({by_reason})")
    told = told or ["no intent was refused"]
    since, bot = evidence.counts_from(EXECUTION), evidence.settings.bot
    vain = [
        order
        for order in known(evidence.ledger).orders
        if order.bot == bot and order.leg is Leg.ENTRY and order.state is OrderState.REJECTED
        if (order.reason or "").partition(":")[0] == NO_FUNDS and (order.finished_at or order.created_at) >= since
    ]
    if vain:
        named = ", ".join(order.client_order_id for order in vain)
        told.append(f"the exchange refused {len(vain)} for want of money, see positions.holdings ({named})")
    return told


def _intents(count: int) -> str:
    return "1 intent was" if count == 1 else f"{count} intents were"


def _overdrawn(each: Heard) -> str:
    total = each.sample.get("total", "?")
    return f"{each.key[0]}: a booking took it below zero ({how_often(each)}), at last to {total}"


CHECK = Check(
    id="balance.lock",
    asks="Was no more spent than was there, and did the lock refuse only what it is meant to refuse?",
    protects="A refusal for want of money is the lock at work; money that was spent without it is not.",
    needs=(Source.LEDGER,),
    severity=Severity.SEVERE,
    remedy=(
        "Below zero: money left the account at the same time as the bot used it, such as by a withdrawal, another"
        " program, or a fee in a third asset that ran out. Bring the asset back above zero, and execution books that"
        " with its next comparison; then release the hold (tradingbot release --spec SPEC). An unknown reason was"
        " written by another version, or by hand: see agents.revision."
    ),
    judge=judge,
)
