"""Faults on order: what goes wrong between a bot and a real exchange, for tests to ask for by name."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import msgspec


class Fault(StrEnum):
    LOST_REQUEST = "lost_request"
    """``Ambiguous``; the exchange never saw the call."""
    LOST_REPLY = "lost_reply"
    """``Ambiguous``; the exchange did it."""
    RATE_LIMITED = "rate_limited"
    STALE = "stale"
    """Balances as they were before the last change."""
    DUPLICATED = "duplicated"
    """Every trade twice."""
    NOT_VISIBLE = "not_visible"
    """The order is there, but the look-up does not know it yet."""


_ANY_CALL = frozenset({Fault.LOST_REQUEST, Fault.RATE_LIMITED})
_CALLS: dict[str, frozenset[Fault]] = {
    "market_rules": _ANY_CALL,
    "candles": _ANY_CALL,
    "ticker": _ANY_CALL,
    "balances": _ANY_CALL | {Fault.STALE},
    "create_order": _ANY_CALL | {Fault.LOST_REPLY},
    "cancel_order": _ANY_CALL | {Fault.LOST_REPLY},
    "order_by_client_id": _ANY_CALL | {Fault.NOT_VISIBLE},
    "open_orders": _ANY_CALL | {Fault.NOT_VISIBLE},
    "trades_of_order": _ANY_CALL | {Fault.DUPLICATED},
}


class _Order(msgspec.Struct):
    call: str
    fault: Fault
    left: int | None
    when: Callable[[str], bool]


class Faults:
    """Faults that have been asked for, in that order; each happens ``times`` times (``None``: for ever)."""

    def __init__(self) -> None:
        self._orders: list[_Order] = []

    def add(
        self, call: str, fault: Fault, *, times: int | None = 1, when: Callable[[str], bool] = lambda key: True
    ) -> None:
        """``call`` is a method of the exchange; ``when`` is asked with what the call is about: the client order id,
        the exchange's order id (``trades_of_order``), the symbol (``candles``, ``ticker``), or an empty text."""
        if fault not in _CALLS.get(call, ()):
            raise ValueError(f"{call!r} can not have the fault {fault.value!r}")
        self._orders.append(_Order(call, fault, times, when))

    def take(self, call: str, key: str) -> Fault | None:
        """The fault that this call must have, used up by it, or ``None``."""
        for order in self._orders:
            if order.call == call and order.left != 0 and order.when(key):
                if order.left is not None:
                    order.left -= 1
                return order.fault
        return None
