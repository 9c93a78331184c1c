"""The fills in the books against the exchange's own trades, both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import TypeAlias

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.exchange.port import ExchangeTrade
from tradingbot_agents.reality.check import Check, Judgement, judged, skipped
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.words import moment

_Name: TypeAlias = tuple[str, str]
"""Symbol and trade id: exchanges number the trades of each symbol by themselves, and its orders too."""


def judge(evidence: Evidence) -> Judgement:
    ledger, account = known(evidence.ledger), known(evidence.account)
    if ledger.books.opened_at is None:
        return skipped("the account is not open yet")
    begin = max(evidence.since, account.trades_since)
    orders = {order.client_order_id: order for order in ledger.orders}
    numbers = {(order.symbol, order.exchange_order_id): order for order in ledger.orders}
    fills = [each for each in ledger.fills if each.at >= begin]
    booked = {_name(each): each for each in fills}
    # All of them: a time that was booked wrong must not hide a trade.
    trades = {_name(each): each for each in account.trades}
    confirmed = {_likeness(each): each for each in reversed(fills) if _name(each) in trades}
    wrong = _more_than_once(fills)
    for fill in sorted(fills, key=lambda each: each.at):
        trade = trades.get(_name(fill))
        if trade is None:
            twin = confirmed.get(_likeness(fill))
            again = "" if twin is None else f": it looks like trade {twin.exchange_trade_id} once more"
            wrong.append(f"{_named(fill, fill.client_order_id)} is booked, and the exchange has no such trade{again}")
        elif differences := _differences(fill, trade, orders.get(fill.client_order_id)):
            wrong.append(
                f"{_named(fill, fill.client_order_id)} is booked, but on the exchange {', '.join(differences)}"
            )
    under_way = 0
    ours = 0
    every = {_name(each) for each in ledger.fills}
    for trade in sorted(trades.values(), key=lambda each: each.at):
        order = numbers.get((trade.symbol, trade.exchange_order_id))
        if order is None or trade.at < begin:
            # Not one of ours is orders.unknown's; of an order that ended before the window nothing is known here.
            continue
        ours += 1
        if _name(trade) in every:
            continue
        if order.state.is_live and account.read_at - trade.at <= evidence.settings.resolve_within:
            under_way += 1
        else:
            wrong.append(f"{_named(trade, order.client_order_id)} is on the exchange, and not booked")
    more = f"; {under_way} of the last moments are not booked yet" if under_way else ""
    return judged(wrong, f"{len(booked)} fills are booked, {ours} trades are on the exchange{more}")


def _name(each: Fill | ExchangeTrade) -> _Name:
    return each.symbol, each.exchange_trade_id


def _named(each: Fill | ExchangeTrade, order: str) -> str:
    return (
        f"{each.symbol} at {moment(each.at)}: {each.side.value} {each.amount:f} at {each.price:f} (trade"
        f" {each.exchange_trade_id} of {order})"
    )


def _more_than_once(fills: Iterable[Fill]) -> list[str]:
    counts = Counter(_name(each) for each in fills)
    return [
        f"{symbol}: trade {trade} is booked {count} times" for (symbol, trade), count in counts.items() if count > 1
    ]


def _likeness(fill: Fill) -> tuple[object, ...]:
    """What two bookings of one trade have in common, under whatever ids."""
    return fill.client_order_id, fill.side, fill.price, fill.amount, fill.at


def _differences(fill: Fill, trade: ExchangeTrade, order: Order | None) -> list[str]:
    found: list[str] = []
    if trade.side is not fill.side:
        found.append(f"it is to {trade.side.value}")
    if trade.amount != fill.amount:
        found.append(f"its amount is {trade.amount:f}")
    if trade.price != fill.price:
        found.append(f"its price is {trade.price:f}")
    # An exchange may tell no fee in one of its lists.
    if trade.fee is not None and _paid(trade.fee) != _paid(fill.fee):
        found.append(f"its fee is {_shown(trade.fee)}, and {_shown(fill.fee)} in the books")
    if order is not None and order.exchange_order_id not in (None, trade.exchange_order_id):
        found.append(f"it is of order {trade.exchange_order_id}, and not of {order.exchange_order_id}")
    return found


def _paid(fee: Fee | None) -> tuple[str, Decimal] | None:
    """Without its value in quote currency: that is ours."""
    return None if fee is None or not fee.amount else (fee.asset, fee.amount)


def _shown(fee: Fee | None) -> str:
    return "none" if fee is None or not fee.amount else f"{fee.amount:f} {fee.asset}"


CHECK = Check(
    id="orders.fills",
    asks="Is every trade of our orders booked, once, as the exchange has it, and nothing else?",
    protects="Balance, position and profit are sums of the fills: one that is missing or doubled makes all wrong.",
    needs=(Source.LEDGER, Source.ACCOUNT),
    severity=Severity.SEVERE,
    remedy=(
        "Not booked: execution looks for it with its next comparison (spec.execution.reconcileInterval) and tells"
        " late_fill_booked; if it does not, see reconciliation_delayed in its log, and restart execution. Booked"
        " without a trade, twice, or otherwise: nothing but the database's owner can bring this about. Find out who"
        " wrote to it, and restore a backup, or mend the rows that are named (see accounting.entries). Then release"
        " the hold (tradingbot release --spec SPEC)."
    ),
    judge=judge,
    compares=True,
)
