"""Orders that are on the exchange, against the ledger: ours that it does not have, and what others placed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.ids import ORDER_ID_PREFIX
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import ZERO, OrderType, Side, split_symbol
from tradingbot_agents.exchange.port import ExchangeOrder, ExchangeTrade
from tradingbot_agents.reality.check import Check, Judgement, judged, skipped
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.market import CLOCKS

ROUNDING = Decimal("1e-8")
"""Exchanges keep what is locked to so many places."""

_Number: TypeAlias = tuple[str, str]
"""Symbol and the exchange's number of an order: exchanges number the orders of each symbol by themselves."""


def judge(evidence: Evidence) -> Judgement:
    ledger, account = known(evidence.ledger), known(evidence.account)
    if ledger.books.opened_at is None:
        return skipped("the account is not open yet")
    names = {order.client_order_id: order for order in ledger.orders}
    numbers: dict[_Number, Order] = {
        (order.symbol, order.exchange_order_id): order
        for order in ledger.orders
        if order.exchange_order_id is not None
    }
    breaches: list[str] = []
    others: list[ExchangeOrder] = []
    same = 0
    for shown in account.open_orders:
        name = shown.client_order_id or ""
        order = names.get(name) or numbers.get(_number(shown))
        if order is None and not name.startswith(ORDER_ID_PREFIX):
            others.append(shown)
        elif (problem := _problem(order)) is not None:
            breaches.append(f"{_named(shown)} is open on the exchange, and {problem}")
        else:
            same += 1
    breaches += _not_held(evidence, others)
    told = [f"{same} are in the ledger as well"]
    if others:
        told.append(f"{len(others)} are not the bot's and are left alone: {', '.join(map(_named, others))}")
    ours = {*numbers, *(_number(each) for each in account.open_orders if each not in others)}
    foreign = _trades_of_others(evidence, ours)
    if foreign:
        told.append(f"{foreign} trades of orders that are not the bot's: see accounting.outside")
    return judged(breaches, "; ".join(told))


def _number(each: ExchangeOrder | ExchangeTrade) -> _Number:
    return each.symbol, each.exchange_order_id


def _problem(order: Order | None) -> str | None:
    if order is None:
        return "the ledger has no such order, or it ended there long ago"
    if order.state is OrderState.APPROVED:
        return "approved in the ledger, so it was never sent"
    return None if order.state.is_live else f"{order.state.value} in the ledger"


def _named(shown: ExchangeOrder) -> str:
    at = shown.limit_price or shown.stop_price
    price = "" if at is None else f" at {at:f}"
    name = shown.client_order_id or shown.exchange_order_id
    return f"{shown.side.value} {shown.amount:f} {shown.symbol}{price} ({name})"


def _not_held(evidence: Evidence, others: Iterable[ExchangeOrder]) -> list[str]:
    """What others lock, and the ledger believes to be available: it would be approved, and refused by the exchange.
    Execution learns of it with its next comparison."""
    due = evidence.settings.reconcile_interval + evidence.settings.resolve_within + CLOCKS
    locked: dict[str, Decimal] = {}
    for shown in others:
        # Whether an order at market or one that waits for a trigger locks something is the exchange's own matter.
        if shown.type is not OrderType.LIMIT or shown.limit_price is None:
            continue
        if known(evidence.account).read_at - shown.at <= due:
            continue
        base, quote = split_symbol(shown.symbol)
        left = shown.amount - shown.filled
        asset, amount = (base, left) if shown.side is Side.SELL else (quote, left * shown.limit_price)
        locked[asset] = locked.get(asset, ZERO) + amount
    balances = known(evidence.ledger).books.balances
    held = {asset: balances[asset].outside_holds if asset in balances else ZERO for asset in locked}
    return [
        f"{asset}: orders that are not the bot's lock {amount:f}, and the ledger holds {held[asset]:f} for such"
        for asset, amount in sorted(locked.items())
        if amount - held[asset] > ROUNDING
    ]


def _trades_of_others(evidence: Evidence, ours: set[_Number]) -> int:
    """In the window: the ledger's evidence has the orders of before it only as far as they live."""
    account = known(evidence.account)
    begin = max(evidence.since, account.trades_since) + CLOCKS
    return sum(1 for trade in account.trades if trade.at >= begin and _number(trade) not in ours)


CHECK = Check(
    id="orders.unknown",
    asks="Is every order of ours that is open on the exchange live in the ledger, and what others lock held there?",
    protects="An order that nobody accounts for spends what is promised to another, or sells what a stop protects.",
    needs=(Source.LEDGER, Source.ACCOUNT),
    severity=Severity.SEVERE,
    remedy=(
        "Look at the order on the exchange, and cancel it there unless you know better; what it filled is booked as"
        " an outside movement by the next comparison. Usual causes: the ledger was restored from a backup, or another"
        " ledger runs on the same account. What others lock is not held: see reconciliation_delayed in execution's"
        " log. Afterwards release the hold (tradingbot release --spec SPEC)."
    ),
    judge=judge,
    compares=True,
)
