"""Orders that the ledger has as open, against what the exchange has of them."""

from __future__ import annotations

from datetime import datetime

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.exchange.port import ExchangeOrderState
from tradingbot_agents.reality.account import OnTheExchange
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known

CONFIRMED = (OrderState.OPEN, OrderState.CANCELLING)
"""The exchange had it. What is being sent, or is unresolved, it need not have: that is the business of
``orders.resolved``."""


def judge(evidence: Evidence) -> Judgement:
    ledger, account = known(evidence.ledger), known(evidence.account)
    breaches: list[str] = []
    doubts: list[str] = []
    there = 0
    exchange = OnTheExchange(account)
    under_way = 0
    for order in sorted(ledger.orders, key=lambda each: each.created_at):
        if order.state not in CONFIRMED:
            continue
        named = f"{order.symbol}: {order.leg.value} {order.client_order_id} of {order.bot} is {order.state.value}"
        shown = exchange.shown(order)
        if shown is not None and shown.state is ExchangeOrderState.OPEN:
            there += 1
        elif shown is None and order.client_order_id not in account.looked_up:
            doubts.append(f"{named}, is not among the exchange's open orders, and nobody asked for it")
        elif account.read_at - _newest(order, exchange.traded(order)) <= evidence.settings.resolve_within:
            under_way += 1
        elif shown is None:
            breaches.append(f"{named}, and the exchange knows no such order")
        else:
            filled = f" with {shown.filled:f} of {shown.amount:f} filled"
            breaches.append(f"{named}, and on the exchange it is {shown.state.value}{filled}")
    more = f"; {under_way} ended a moment ago" if under_way else ""
    return judged(breaches, f"{there} are open on the exchange as well{more}", doubts=doubts)


def _newest(order: Order, traded: datetime | None) -> datetime:
    """When the newest thing happened to it that is known: it was sent, or traded. Execution books it soon after."""
    sent = order.claimed_at or order.created_at
    return sent if traded is None else max(sent, traded)


CHECK = Check(
    id="orders.missing",
    asks="Is every order that is open in the ledger open on the exchange?",
    protects="What an order holds stays held for nothing, and a stop that is not there protects nothing.",
    needs=(Source.LEDGER, Source.ACCOUNT),
    # A stop of this bot is severe in positions.stops.
    severity=Severity.WARNING,
    remedy=(
        "Execution looks up its orders every few seconds and books their end, so see that it runs (agents.ready) and"
        " what its log says of this id. Somebody may have cancelled it on the exchange: find out who else has a key."
        " An order that the exchange knew once and knows no more is looked up again and again: ask the exchange."
        " The bot that is named need not be this one: all bots of the account are looked at."
    ),
    judge=judge,
    compares=True,
)
