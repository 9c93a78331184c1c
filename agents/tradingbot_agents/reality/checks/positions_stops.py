"""The stops that the ledger has as live, against the orders that are on the exchange."""

from __future__ import annotations

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import OrderType
from tradingbot_agents.exchange.port import ExchangeOrder, ExchangeOrderState
from tradingbot_agents.reality.account import OnTheExchange
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known

STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)


def judge(evidence: Evidence) -> Judgement:
    ledger, account = known(evidence.ledger), known(evidence.account)
    breaches: list[str] = []
    doubts: list[str] = []
    same = 0
    there = OnTheExchange(account)
    for order in sorted(ledger.orders, key=lambda each: each.created_at):
        if order.bot != evidence.settings.bot or order.type not in STOPS or order.state is not OrderState.OPEN:
            continue
        named = f"{order.symbol}: the stop of {order.amount:f} at {order.stop_price or 0:f} ({order.client_order_id})"
        shown = there.shown(order)
        if shown is None and order.client_order_id not in account.looked_up:
            doubts.append(f"{named} is not among the open orders, and nobody asked for it")
        elif shown is None:
            breaches.append(f"{named} is not on the exchange")
        elif shown.state is not ExchangeOrderState.OPEN:
            breaches.append(f"{named} is {shown.state.value} on the exchange")
        elif shown.stop_price is None:
            doubts.append(f"{named}: the exchange does not tell its trigger")
        elif differences := _differences(order, shown):
            breaches.append(f"{named}: on the exchange {', '.join(differences)}")
        else:
            same += 1
    return judged(breaches, f"{same} stops are on the exchange as the ledger has them", doubts=doubts)


def _differences(ours: Order, theirs: ExchangeOrder) -> list[str]:
    found: list[str] = []
    if theirs.symbol != ours.symbol or theirs.side is not ours.side:
        found.append(f"it is to {theirs.side.value} {theirs.symbol}")
    if theirs.amount != ours.amount:
        found.append(f"its amount is {theirs.amount:f}")
    if theirs.stop_price is not None and theirs.stop_price != ours.stop_price:
        found.append(f"its trigger is {theirs.stop_price:f}")
    if theirs.limit_price is not None and ours.limit_price is not None and theirs.limit_price != ours.limit_price:
        found.append(f"its limit is {theirs.limit_price:f}, and {ours.limit_price:f} in the ledger")
    return found


CHECK = Check(
    id="positions.stops",
    asks="Is every stop of the ledger on the exchange, with its trigger and its amount?",
    protects="A stop that is in the books only sells nothing when the price falls.",
    needs=(Source.LEDGER, Source.ACCOUNT),
    severity=Severity.SEVERE,
    remedy=(
        "Somebody cancelled or changed it on the exchange: find out who else has a key of the account. Execution"
        " looks at the exchange's orders by itself and places a missing stop anew; if it stays missing, restart"
        " execution, and place a stop by hand until then. One with another trigger or amount: cancel it on the"
        " exchange, and execution places the right one."
    ),
    judge=judge,
    compares=True,
)
