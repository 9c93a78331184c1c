"""Each reservation against the entry that it is held for, and the other way round."""

from __future__ import annotations

from datetime import datetime

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order, OrderState, Reservation
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import CLOCKS
from tradingbot_agents.reality.words import lasting


def judge(evidence: Evidence) -> Judgement:
    ledger = known(evidence.ledger)
    orders = {order.client_order_id: order for order in ledger.orders}
    breaches = [
        f"{each.held:f} {each.asset} are held for {each.client_order_id}, {why}"
        for each in ledger.reservations
        if (why := _problem(evidence, each, orders.get(each.client_order_id))) is not None
    ]
    held = {each.client_order_id for each in ledger.reservations}
    breaches += [
        f"{order.client_order_id} ({order.state.value}) may still buy {order.remaining:f} of {order.symbol}, and"
        " nothing is held for it"
        for order in sorted(ledger.orders, key=lambda each: each.created_at)
        if order.leg is Leg.ENTRY and not order.state.is_final and order.client_order_id not in held
    ]
    return judged(breaches, f"{len(held)} reservations, each with its entry" if held else "nothing is reserved")


def _problem(evidence: Evidence, reservation: Reservation, order: Order | None) -> str | None:
    if order is None:
        return "and there is no such order"
    if order.state.is_final:
        return f"which is {order.state.value}"
    if order.leg is not Leg.ENTRY:
        return f"which is an order of leg {order.leg.value}"
    if not order.filled and order.limit_price is not None and order.amount * order.limit_price > reservation.amount:
        return f"which may cost {order.amount * order.limit_price:f}"
    now = known(evidence.ledger).read_at
    if order.bot == evidence.settings.bot and order.state is OrderState.APPROVED and now > _ends(evidence, order):
        return f"which was approved {lasting(now - order.created_at)} ago, and neither sent nor refused"
    return None


def _ends(evidence: Evidence, order: Order) -> datetime:
    """By when an approved entry has been sent, or was refused as too old. Two clocks have a say in it."""
    expires = order.expires_at or order.created_at
    return max(expires, order.created_at) + evidence.settings.send_within + CLOCKS


CHECK = Check(
    id="balance.reservations",
    asks="Is every reservation held for an entry under way, and has every such entry its reservation?",
    protects="Money that is held for nothing can not be used, and what an entry spends without any is spent twice.",
    needs=(Source.LEDGER,),
    # What can not come about by itself is severe in balance.invariants; that execution is down or late is not.
    severity=Severity.WARNING,
    remedy=(
        "Approved, and neither sent nor refused: execution sends it or gives the money back as soon as it works"
        " again, so see agents.ready, agents.queues, and reconciliation_delayed in its log. Everything else no agent"
        " can bring about: see balance.invariants, and find out who wrote to the database."
    ),
    judge=judge,
)
