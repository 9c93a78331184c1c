"""Orders whose outcome is open, and for how long it has been."""

from __future__ import annotations

from datetime import datetime

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import BotState, OrderType, stricter
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import AgentsEvidence, Evidence, Source, known
from tradingbot_agents.reality.happenings import counting
from tradingbot_agents.reality.market import CLOCKS
from tradingbot_agents.reality.words import lasting, moment, times

STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
"""These may rest for as long as their position."""

_SAID = {
    OrderState.APPROVED: "is approved, and not sent",
    OrderState.SUBMITTING: "was sent, and nobody has an answer",
    OrderState.OPEN: "rests on the exchange, and should have ended",
    OrderState.CANCELLING: "is being cancelled, and does not end",
    OrderState.UNRESOLVED: "is unresolved",
}


def judge(evidence: Evidence) -> Judgement:
    ledger, bot = known(evidence.ledger), evidence.settings.bot
    breaches: list[str] = []
    under_way = 0
    said: dict[str, datetime] = {}
    for each in evidence.heard("order_unresolved"):
        if each.agent == EXECUTION:
            said[each.key[0]] = max(each.last, said.get(each.key[0], each.last))
    for order in sorted(ledger.orders, key=lambda each: each.created_at):
        if order.bot != bot or order.state.is_final or _may_rest(evidence, order):
            continue
        since = _since(order, said.get(order.client_order_id))
        limit = (
            evidence.settings.send_within if order.state is OrderState.APPROVED else evidence.settings.resolve_within
        )
        age = ledger.read_at - since
        if age <= limit + CLOCKS:
            under_way += 1
            continue
        why = f": {order.reason}" if order.reason and order.state is OrderState.UNRESOLVED else ""
        breaches.append(
            f"{order.symbol}: {order.leg.value} {order.client_order_id} {_SAID[order.state]} since {moment(since)}"
            f" ({lasting(age)}; {lasting(limit)} is the limit){why}"
        )
    told = f"{under_way} under way, none for too long" if under_way else "none is under way"
    open_once = sum(each.count for each in counting(evidence, "order_unresolved"))
    if open_once:
        told += f"; outcomes were open {times(open_once)} in the window"
    return judged(breaches, told)


def _may_rest(evidence: Evidence, order: Order) -> bool:
    if order.type in STOPS:
        # No row has the time of a cancel: positions.protected judges a stop that does not end.
        return order.state in (OrderState.OPEN, OrderState.CANCELLING)
    return order.state in (OrderState.OPEN, OrderState.CANCELLING) and _is_stopped(evidence)


def _is_stopped(evidence: Evidence) -> bool:
    """Whether a person asked that nothing be sent, not even a cancel."""
    state = evidence.agents.state if isinstance(evidence.agents, AgentsEvidence) else None
    hold = known(evidence.ledger).hold
    asked = stricter(state or BotState.RUNNING, hold.state if hold is not None else BotState.RUNNING)
    return asked is BotState.STOPPED


def _since(order: Order, said: datetime | None) -> datetime:
    """``said`` is when execution last spoke of it."""
    begin = order.created_at if order.state is OrderState.APPROVED else order.claimed_at or order.created_at
    # Not heard: before the window, so for at least as long.
    return begin if said is None or order.state is not OrderState.UNRESOLVED else max(begin, said)


CHECK = Check(
    id="orders.resolved",
    asks="Is the outcome of every order known, and was every approved one sent?",
    protects="Capital that is held by an order of which nobody knows whether it is there.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "Approved, and not sent: see agents.ready and agents.queues, and in execution's log reconciliation_delayed"
        " (no entry is sent before the first comparison). Unresolved, or without an answer: the exchange does not"
        " answer, see its status page and execution's log. When it answers and the order stays as it is, look for its"
        " id on the exchange, and restart execution, which looks it up anew."
    ),
    judge=judge,
)
