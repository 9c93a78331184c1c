"""What was approved against what was executed, by its price."""

from __future__ import annotations

from decimal import Decimal

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.spelling import plain
from tradingbot_agents.domain.values import ONE
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source
from tradingbot_agents.reality.market import decided, tick_of
from tradingbot_agents.reality.words import moment

BASIS_POINTS = 10_000


def judge(evidence: Evidence) -> Judgement:
    breaches: list[str] = []
    slips: list[Decimal] = []
    for entry in decided(evidence, EXECUTION):
        paid = entry.order.average_price
        if paid is None:
            continue
        slips.append((paid / entry.lowest - ONE) * BASIS_POINTS)
        if paid > entry.limit + tick_of(evidence, entry.order.symbol, entry.limit):
            breaches.append(
                f"{entry.order.symbol} at {moment(entry.order.created_at)} ({entry.order.client_order_id}): paid"
                f" {plain(paid)} on average, and {plain(entry.limit)} was the worst price allowed"
            )
    if not slips:
        return judged(breaches, "no entry was filled")
    mean = sum(slips) / len(slips)
    return judged(
        breaches,
        f"{len(slips)} filled, {mean:.1f} basis points above the price on average, {max(slips):.1f} at worst",
    )


CHECK = Check(
    id="behaviour.slippage",
    asks="Was every entry executed at no worse a price than was approved?",
    protects="What an entry may cost is reserved at its worst price; beyond it the account promises what it has not.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "Compare the order on the exchange with the one that is named: a limit order that is filled above its limit"
        " is the exchange's mistake, or a fill that was booked with a wrong price (see orders.fills). If entries are"
        " filled far above their price without a breach, lower spec.risk.worstPriceSlippage."
    ),
    judge=judge,
)
