"""Compares the account with the exchange: at a start, before any entry is sent, and again and again.

Every bot of an account compares all of it, and the first that finds something books it: the ledger takes a result
only while the books are what they were when it was made, so that all others find nothing left.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

import structlog

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import OutsideMovementBooked, Reconciled, ReconciliationDelayed
from tradingbot_agents.domain.ids import ORDER_ID_PREFIX
from tradingbot_agents.exchange.port import (
    ExchangeBalance,
    ExchangeError,
    ExchangeOrder,
    ExchangeTrade,
    RateLimited,
    TradingVenue,
)
from tradingbot_agents.execution.desk import Desk
from tradingbot_agents.execution.reconcile import (
    Doubt,
    compared,
    contradiction,
    differences,
    holds_differ,
    in_flight,
    judge,
    margin_now,
    match,
    movement_cause,
    next_try,
    outside_holds,
    same_balances,
    trades_since,
    undoubted_holds,
    unsettled,
)
from tradingbot_agents.execution.settings import Settings
from tradingbot_agents.ledger.port import Books, Ledger
from tradingbot_agents.telemetry import Sink

ROUNDS = 3
"""Comparisons that are made at once, one after another, when one found fills; then the others get their turn."""


class Reconciler:
    """``settings.reconcile_interval`` must not be ``None``."""

    def __init__(
        self,
        *,
        bot: str,
        settings: Settings,
        clock: Clock,
        sink: Sink,
        ledger: Ledger,
        venue: TradingVenue,
        desk: Desk,
    ) -> None:
        self._bot = bot
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._ledger = ledger
        self._venue = venue
        self._desk = desk
        self._due = clock.now()
        self._attempts = 0
        self._told = False
        self._doubts: dict[str, Doubt] = {}
        self._read_until: datetime | None = None
        self._fills = 0
        self._moved = 0
        self.done = False
        """It was done once since the start."""

    async def run(self) -> datetime:
        """Compare, book what is found, and tell; returns when the next comparison is due. Never raises
        ``ExchangeError``: then it is tried again."""
        look_up = self._settings.look_up
        self._attempts += 1
        delay = next_try(self._attempts, look_up.spacing, look_up.margin)
        try:
            why = await self._try()
        except RateLimited as error:
            why, delay = str(error), max(delay, error.retry_after)
        except ExchangeError as error:
            why = str(error) or type(error).__name__
        now = self._clock.now()
        if why is None and self._doubts:
            apart = max(look_up.margin - (now - doubt.since) for doubt in self._doubts.values())
            why, delay = _doubted(self._doubts, look_up.margin), max(apart, look_up.spacing)
        if why is not None:
            self._wait(why, now)
            return now + delay
        assert self._settings.reconcile_interval is not None, "else nobody asks"
        self._attempts = 0
        self._told = False
        self._fills = self._moved = 0
        self.done = True
        self._due = now + self._settings.reconcile_interval
        return self._due

    def _wait(self, why: str, now: datetime) -> None:
        structlog.get_logger().info("reconciliation_waits", agent=EXECUTION, why=why)
        if self._told or now - self._due < self._settings.look_up.margin:
            return
        self._told = True
        self._sink.emit(
            ReconciliationDelayed(at=now, agent=EXECUTION, why=why, since=self._due, entries_held=not self.done)
        )

    async def _try(self) -> str | None:
        """Why it could not be done; ``None``: it was, as far as there is no doubt."""
        why: str | None = None
        for _ in range(ROUNDS):
            before = self._fills
            why = await self._compare()
            if self._fills == before:
                break
        return why

    async def _compare(self) -> str | None:
        """One comparison, from a snapshot of the books to the same books. Found fills change them: compare anew."""
        began = self._clock.now()
        books = await self._ledger.account_books()
        if books.opened_at is None:
            # All that is there would be booked as from outside.
            return "the account is not open in the books yet"
        why = in_flight(books.live)
        if why is not None:
            return why
        balances = await self._venue.balances()
        shown = await self._venue.open_orders()
        since = trades_since(books, self._read_until, self._settings.reappear_window, began)
        symbols = await self._ledger.symbols_traded(since)
        found = [await self._book_missing(symbol, since) for symbol in symbols]
        if any(found):
            return "fills were found that were not booked"
        outside, why = await self._look_at_orders(books, shown)
        if why is not None:
            return why
        if not same_balances(balances, await self._venue.balances()):
            return "balances moved on the exchange while they were compared"
        if not await self._settle(books, balances):
            return "the books changed while they were compared"
        self._read_until = began
        if not self._doubts:
            self._sink.emit(
                Reconciled(
                    at=self._clock.now(),
                    agent=EXECUTION,
                    assets=len(compared(books.balances, balances)),
                    symbols=len(symbols),
                    fills=self._fills,
                    movements=self._moved,
                    outside_orders=outside,
                )
            )
        return None

    async def _book_missing(self, symbol: str, since: datetime) -> bool:
        """Book trades of our orders that nobody has booked; whether there were any. Those of another bot's live order
        are left to it for a while."""
        trades = {trade.exchange_trade_id: trade for trade in await self._venue.trades(symbol, since)}
        if not trades:
            return False
        owners = await self._ledger.unbooked_trades(
            symbol, {name: trade.exchange_order_id for name, trade in trades.items()}
        )
        by_order: dict[str, list[ExchangeTrade]] = {}
        for name, order in owners.items():
            by_order.setdefault(order.client_order_id, []).append(trades[name])
        orders = {order.client_order_id: order for order in owners.values()}
        young = self._clock.now() - self._settings.look_up.margin
        for client_order_id, missing in by_order.items():
            order = orders[client_order_id]
            if order.state.is_live and order.bot != self._bot and any(trade.at > young for trade in missing):
                continue
            await self._desk.book_found(order, missing)
            self._fills += len(missing)
        return bool(owners)

    async def _look_at_orders(self, books: Books, shown: list[ExchangeOrder]) -> tuple[int, str | None]:
        """How many of the exchange's open orders are not ours, and what keeps the account from being compared."""
        pairs, others = match(books.live, shown)
        for order, there in pairs:
            if there is None:
                there = await self._venue.order_by_client_id(order.symbol, order.client_order_id)
            why = unsettled(order, there)
            if why is not None:
                return 0, why
        for other in others:
            name = other.client_order_id
            if name is not None and name.startswith(ORDER_ID_PREFIX):
                known = await self._ledger.order(name)
                if known is not None:
                    return 0, contradiction(known)
        return len(others), None

    async def _settle(self, books: Books, balances: Mapping[str, ExchangeBalance]) -> bool:
        """Book what differs for certain; whether the books are what they were."""
        now = self._clock.now()
        margin = margin_now(books, now, self._settings.look_up.margin, starting=not self.done)
        movements, doubts = judge(differences(books.balances, balances), self._doubts, now, margin)
        holds = undoubted_holds(outside_holds(books.live, balances), books.balances, doubts)
        if not movements and not holds_differ(books.balances, holds):
            unchanged = (await self._ledger.account_books()).mark == books.mark
            if unchanged:
                self._doubts = doubts
            return unchanged
        cause = movement_cause(self._bot, books, movements)
        if not await self._ledger.settle_outside(books, movements, holds, cause, now):
            return False
        self._doubts = doubts
        self._moved += len(movements)
        for asset, amount in movements.items():
            self._sink.emit(OutsideMovementBooked(at=now, agent=EXECUTION, asset=asset, amount=amount, cause=cause))
        return True


def _doubted(doubts: Mapping[str, Doubt], margin: timedelta) -> str:
    told = ", ".join(f"{asset} by {_signed(doubt.amount)}" for asset, doubt in sorted(doubts.items()))
    return f"the exchange differs in {told}: booked when it still does after {margin.total_seconds():g} s"


def _signed(amount: Decimal) -> str:
    return f"{amount:+f}"
