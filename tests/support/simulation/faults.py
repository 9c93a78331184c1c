"""What can go wrong, where, and which of it can meet which state of an order.

A fault is counted with the state that the order concerned has in the ledger at that moment; where no order is
concerned, with that of the newest order that is not final.
"""

from __future__ import annotations

from enum import StrEnum

from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK
from tradingbot_agents.domain.orders import OrderState


class Fault(StrEnum):
    REQUEST_LOST = "order request lost"
    """``Ambiguous``; the exchange never sees it."""
    REQUEST_LATE = "order request late"
    """``Ambiguous``; the exchange accepts it later, within its receive window."""
    REPLY_LOST = "order reply lost"
    """``Ambiguous``; the exchange has accepted it: a timeout after the accept."""
    ORDER_REFUSED = "order refused"
    ORDER_HANGS = "order hangs"
    """Accepted, and neither filled nor ended for a while."""
    CANCEL_LOST = "cancel lost"
    CANCEL_REPLY_LOST = "cancel reply lost"
    CANCEL_OVERTAKEN = "cancel overtaken"
    """The order is filled, or a part of it, while the cancel is under way."""
    QUESTION_LOST = "question lost"
    """A look-up, a list, a ticker or candles: ``Ambiguous``."""
    ORDER_NOT_SHOWN = "order not shown"
    FILL_TWICE = "fill told twice"
    FILL_LATE = "fill told late"
    """The order's end is shown before its last trade is."""
    RATE_LIMITED = "rate limited"
    STALE_BALANCE = "stale balance"
    LEDGER_AWAY_BEFORE = "ledger away"
    LEDGER_AWAY_AFTER = "ledger answer lost"
    """Committed, and the caller is told that the ledger is unavailable."""
    LEDGER_OUTAGE = "ledger outage"
    """For all agents, for a while."""
    STORE_OUTAGE = "store outage"
    """The market-data store answers nobody for a while; what is written meanwhile is spooled."""
    MESSAGE_LOST = "message lost"
    MESSAGE_TWICE = "message twice"
    MESSAGE_LATE = "message again later"
    """Delivered, and once more after a while."""
    OLD_RISK = "old risk goes on"
    """It freezes, a new one starts and fences it off, and it goes on where it was."""
    OLD_EXECUTION = "old execution goes on"
    CLOCK_FORWARD = "clock forward"
    """The machine slept: nobody ran for a while."""
    CLOCK_SKEWED = "clock skewed"
    """One agent's clock is set forward or back."""
    CRASH_DATA_COLLECTION = "crash data-collection"
    CRASH_TECHNICAL_ANALYSIS = "crash technical-analysis"
    CRASH_STRATEGY = "crash strategy"
    CRASH_RISK = "crash risk"
    CRASH_EXECUTION = "crash execution"


F = Fault

CRASHES = {name: Fault(f"crash {name}") for name in AGENTS}
OLD_ONES = {RISK: F.OLD_RISK, EXECUTION: F.OLD_EXECUTION}

NO_ORDER = "none"
"""No order is unfinished."""
ENDED = "ended"
"""The order concerned is final."""
UNFINISHED = tuple(state.value for state in OrderState if not state.is_final)
STATES = (NO_ORDER, *UNFINISHED, ENDED)
"""The columns of the table."""

MARKET_CALLS = ("candles", "ticker", "market_rules")
LISTS = ("open_orders", "trades_of_order", "trades", "balances")

OF_VENUE: dict[str, tuple[Fault, ...]] = {
    "create_order": (
        F.REQUEST_LOST,
        F.REQUEST_LATE,
        F.REPLY_LOST,
        F.REPLY_LOST,
        F.ORDER_REFUSED,
        F.ORDER_HANGS,
        F.ORDER_HANGS,
        F.ORDER_HANGS,
        F.RATE_LIMITED,
    ),
    "cancel_order": (F.CANCEL_LOST, F.CANCEL_REPLY_LOST, F.CANCEL_OVERTAKEN, F.CANCEL_OVERTAKEN, F.RATE_LIMITED),
    "order_by_client_id": (F.QUESTION_LOST, F.RATE_LIMITED, F.ORDER_NOT_SHOWN, F.ORDER_NOT_SHOWN),
    "trades_of_order": (F.QUESTION_LOST, F.RATE_LIMITED, F.FILL_TWICE, F.FILL_TWICE, F.FILL_LATE, F.FILL_LATE),
    "trades": (F.QUESTION_LOST, F.RATE_LIMITED, F.FILL_TWICE, F.FILL_LATE),
    "balances": (F.QUESTION_LOST, F.RATE_LIMITED, F.STALE_BALANCE, F.STALE_BALANCE),
    "open_orders": (F.QUESTION_LOST, F.RATE_LIMITED, F.ORDER_NOT_SHOWN),
    "ticker": (F.QUESTION_LOST, F.RATE_LIMITED),
    "candles": (F.QUESTION_LOST, F.RATE_LIMITED),
    "market_rules": (F.QUESTION_LOST,),
}
"""What may happen to which call of the exchange, besides a crash. Named twice: twice as often."""

OF_LEDGER = (F.LEDGER_AWAY_BEFORE, F.LEDGER_AWAY_AFTER, F.LEDGER_OUTAGE)
OF_BUS = (F.MESSAGE_LOST, F.MESSAGE_TWICE, F.MESSAGE_LATE)

_SENDING = "an order is sent in the state submitting, and in no other"
_CANCELLING = "a cancel is written down before it is asked for"
_ABOUT_NONE = "an order that has ended is met only by what is about that order"

NEVER: dict[Fault, tuple[str, frozenset[str]]] = {
    **dict.fromkeys(
        (F.REQUEST_LOST, F.REQUEST_LATE, F.REPLY_LOST, F.ORDER_REFUSED, F.ORDER_HANGS),
        (_SENDING, frozenset(STATES) - {OrderState.SUBMITTING.value}),
    ),
    **dict.fromkeys(
        (F.CANCEL_LOST, F.CANCEL_REPLY_LOST, F.CANCEL_OVERTAKEN),
        (_CANCELLING, frozenset(STATES) - {OrderState.CANCELLING.value, ENDED}),
    ),
    **dict.fromkeys(
        (
            F.STALE_BALANCE,
            F.STORE_OUTAGE,
            F.OLD_RISK,
            F.CLOCK_FORWARD,
            F.CLOCK_SKEWED,
            F.CRASH_DATA_COLLECTION,
            F.CRASH_TECHNICAL_ANALYSIS,
            F.CRASH_STRATEGY,
        ),
        (_ABOUT_NONE, frozenset({ENDED})),
    ),
}
"""Pairs of a fault and a state that can not happen, with the reason. All others must be met."""

_OLD = "only a process that is fenced off, and has not learned it yet, "
_COMPARES = f"{_OLD}goes on with a comparison while something is in flight"

HARDLY: dict[tuple[Fault, str], str] = {
    (F.CRASH_RISK, ENDED): "an order is announced again that is taken and ended meanwhile",
    **{
        (fault, ENDED): f"{_OLD}cancels an order that has ended"
        for fault in (F.CANCEL_LOST, F.CANCEL_REPLY_LOST, F.CANCEL_OVERTAKEN)
    },
    **{(fault, ENDED): f"{_OLD}reads the trades of an ended order" for fault in (F.FILL_TWICE, F.FILL_LATE)},
    **{
        (fault, state.value): _COMPARES
        for fault in (F.STALE_BALANCE, F.FILL_TWICE, F.FILL_LATE)
        for state in (OrderState.SUBMITTING, OrderState.UNRESOLVED)
    },
    (F.STALE_BALANCE, OrderState.CANCELLING.value): _COMPARES,
}
"""Pairs that happen too seldom to be asked for, with the reason."""
