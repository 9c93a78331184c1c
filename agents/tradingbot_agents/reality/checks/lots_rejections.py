"""Orders that were refused for their size or their price (the lesson DEV-67)."""

from __future__ import annotations

from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Heard, Source, known
from tradingbot_agents.reality.happenings import counting, how_often
from tradingbot_agents.reality.words import moment

OF_LOTS = frozenset(
    {
        "above_maximum_amount",
        "above_maximum_notional",
        "bad_price",
        "below_minimum_amount",
        "below_minimum_notional",
        "off_amount_step",
        "off_price_tick",
    }
)
"""Codes of refusals that a right size and a right price would not have met."""

VAGUE = frozenset({"bad_request", "order_refused"})
"""Codes of exchanges whose own are not known: what they mean is in their words."""

WORDS = ("decimal", "lot size", "minimum", "notional", "precision", "step size", "tick size", "too small")


def judge(evidence: Evidence) -> Judgement:
    ledger, bot = known(evidence.ledger), evidence.settings.bot
    ended = sorted(
        (order for order in ledger.orders if order.bot == bot and _counts(evidence, order)),
        key=lambda each: each.finished_at or each.created_at,
    )
    refused = [order for order in ended if order.state in (OrderState.REJECTED, OrderState.DENIED)]
    breaches = [_told(order) for order in refused if is_of_lots(order.reason or "")]
    rows = {order.client_order_id for order in ledger.orders}
    breaches += [
        _heard(each)
        for each in counting(evidence, "order_rejected")
        if each.sample.get("client_order_id") not in rows and is_of_lots(str(each.sample.get("why", "")))
    ]
    others = sorted({_code(order.reason or "for a reason that is not told") for order in refused})
    more = f"; {len(refused)} refused for something else ({', '.join(others)})" if refused else ""
    return judged(breaches, f"{len(ended)} orders, none refused for its size or price{more}")


def is_of_lots(reason: str) -> bool:
    """Whether a refusal, ``CODE: WORDS``, is about an amount, a price or the two multiplied."""
    code = _code(reason)
    return code in OF_LOTS or (code in VAGUE and any(word in reason.lower() for word in WORDS))


def _counts(evidence: Evidence, order: Order) -> bool:
    if (order.finished_at or order.created_at) < evidence.counts_from(EXECUTION):
        return False
    # Risk may have made it before the window, and execution sent it within.
    makes = known(evidence.ledger).revisions.get(RISK)
    return order.leg is not Leg.ENTRY or makes is None or order.created_at >= makes


def _code(reason: str) -> str:
    return reason.partition(":")[0]


def _told(order: Order) -> str:
    at = moment(order.finished_at or order.created_at)
    return (
        f"{order.symbol} at {at} ({order.client_order_id}): {order.leg.value} of {order.amount:f} was refused:"
        f" {order.reason}"
    )


def _heard(each: Heard) -> str:
    symbol, leg = (*each.key, "", "")[:2]
    return f"{symbol}: {leg} was refused ({how_often(each)}), at last: {each.sample.get('why')}"


CHECK = Check(
    id="lots.rejections",
    asks="Was no order refused for its precision, its minimum or its notional?",
    protects="An exit that the exchange refuses leaves a position that can not be sold or protected.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "See lots.current: when the exchange has other rules than the ledger, restart execution, which reads them at"
        " its start, and then risk. When they are the same, lots.legal says whether our size was wrong; if it was"
        " not, the exchange has a rule that it does not publish: report its words."
    ),
    judge=judge,
)
