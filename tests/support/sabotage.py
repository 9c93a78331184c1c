"""Spoils the n-th call that an agent makes, to its ledger or its exchange, by a plan that a test draws."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import Any

from support.failing_ledger import Crash
from support.fake_venue import SPOILS, FakeVenue, Spoil
from tradingbot_agents.ledger.port import Ledger, LedgerUnavailable


class Harm(StrEnum):
    """What may happen to a call besides the exchange's own mistakes."""

    CRASH_BEFORE = "crash_before"
    CRASH_AFTER = "crash_after"
    LEDGER_AWAY_BEFORE = "ledger_away_before"
    LEDGER_AWAY_AFTER = "ledger_away_after"


Plan = Mapping[tuple[str, int], Harm | Spoil]
"""By the call's name and which of its kind it is, from 1."""

LEDGER_CALLS = (
    "acknowledge",
    "book",
    "check_epoch",
    "claim",
    "deny",
    "live_orders",
    "lose_contact",
    "mark_dust",
    "mark_published",
    "not_found",
    "order",
    "orders",
    "orders_to_send",
    "positions",
    "raise_epoch",
    "request_cancel",
    "request_exit",
    "submit_leg",
    "unpublished",
    "watch",
)
CRASHES = (Harm.CRASH_BEFORE, Harm.CRASH_AFTER)


def harms_of(call: str) -> tuple[Harm | Spoil, ...]:
    """What may happen to a call."""
    if call in LEDGER_CALLS:
        return (*CRASHES, Harm.LEDGER_AWAY_BEFORE, Harm.LEDGER_AWAY_AFTER)
    return (*CRASHES, *SPOILS[call])


class Saboteur:
    """Counts the calls of all agents of a test, over their restarts."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._counts: Counter[str] = Counter()
        self.seen: list[tuple[str, int]] = []
        """Every call, as a plan names it."""
        self.active = True

    def _next(self, name: str) -> Harm | Spoil | None:
        if not self.active:
            return None
        self._counts[name] += 1
        self.seen.append((name, self._counts[name]))
        return self._plan.get((name, self._counts[name]))

    def ledger(self, ledger: Ledger) -> Any:
        return _Proxy(ledger, self._around_ledger)

    def venue(self, venue: FakeVenue) -> Any:
        return _Proxy(venue, lambda name, call: self._around_venue(venue, name, call))

    async def _around_ledger(self, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        harm = self._next(name)
        if harm is Harm.CRASH_BEFORE:
            raise Crash
        if harm is Harm.LEDGER_AWAY_BEFORE:
            raise LedgerUnavailable(name)
        result = await call()
        if harm is Harm.CRASH_AFTER:
            raise Crash
        if harm is Harm.LEDGER_AWAY_AFTER:
            raise LedgerUnavailable(name)
        return result

    async def _around_venue(self, venue: FakeVenue, name: str, call: Callable[[], Awaitable[Any]]) -> Any:
        harm = self._next(name)
        if harm is Harm.CRASH_BEFORE:
            raise Crash
        if isinstance(harm, Spoil):
            venue.spoil(name, harm)
        result = await call()
        if harm is Harm.CRASH_AFTER:
            raise Crash
        return result


class _Proxy:
    def __init__(self, target: Any, around: Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> None:
        self._target = target
        self._around = around

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if not callable(found):
            return found

        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self._around(name, lambda: found(*args, **kwargs))

        return call
