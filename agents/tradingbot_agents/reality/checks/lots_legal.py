"""Every order as it is in the ledger, against the market rules that were in force when it was made."""

from __future__ import annotations

import msgspec

from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.symbol_rules import OrderProblem, SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, Leg
from tradingbot_agents.reality.check import Check, Judgement, judged
from tradingbot_agents.reality.evidence import Evidence, Source, known
from tradingbot_agents.reality.words import moment


def judge(evidence: Evidence) -> Judgement:
    ledger = known(evidence.ledger)
    breaches: list[str] = []
    doubts: list[str] = []
    legal = taken = 0
    for order in sorted(ledger.orders, key=lambda each: each.created_at):
        maker = RISK if order.leg is Leg.ENTRY else EXECUTION
        if order.bot != evidence.settings.bot or order.created_at < evidence.counts_from(maker):
            continue
        named = f"{order.symbol} at {moment(order.created_at)} ({order.client_order_id})"
        found = ledger.rules.get(order.symbol)
        if found is None:
            doubts.append(f"{named}: the ledger has no rules of its symbol")
        elif order.created_at >= found.since:
            problem = problem_of(order, found.rules)
            if problem is None:
                legal += 1
            else:
                breaches.append(f"{named}: {order.leg.value} of {order.amount:f}: {problem}")
        elif order.exchange_order_id is not None:
            taken += 1
        else:
            doubts.append(
                f"{named}: it was made before the rules that are known were read, at {moment(found.since)}, and the"
                " exchange did not take it"
            )
    more = f"; {taken} older than the rules that are known, which the exchange took" if taken else ""
    return judged(breaches, f"{legal} orders lie within the rules of their time{more}", doubts=doubts)


def problem_of(order: Order, rules: SymbolRules) -> OrderProblem | None:
    """The first limit that an order breaks, or ``None``. Whether its symbol trades is no matter of lots."""
    rules = msgspec.structs.replace(rules, active=True)
    prices = [price for price in (order.limit_price, order.stop_price) if price is not None]
    for price in prices:
        if not rules.price.holds(price):
            return OrderProblem("off_price_tick", "price", price, rules.price.step(price))
    if not prices:
        # The notional of a market order is measured by a price that is written down nowhere.
        rules = msgspec.structs.replace(rules, min_notional=ZERO, max_notional=None)
    return rules.order_problem(order.type, order.amount, prices[0] if prices else ONE)


CHECK = Check(
    id="lots.legal",
    asks="Does every order of the ledger lie within the market rules of its time?",
    protects="A size or a price off the grid is refused, or cut by somebody to another one than was decided.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "The agents round every order to the step and the tick: see whether somebody changed the row by hand, or"
        " whether the rules changed shortly before it (lots.current) and risk still had the older ones, which it"
        " reads anew every spec.exchange.rulesInterval. Otherwise report it: it is a defect of this version."
    ),
    judge=judge,
)
