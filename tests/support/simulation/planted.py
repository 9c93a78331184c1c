"""Bugs on purpose: small patches of the real code, each of which the simulation must find.

They are what it is for. A patch replaces a function by one with the mistake, and nothing else; where the mistake is
the ledger's, it is one of the reference model.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

import msgspec
import pytest

from support.ledger_model import LedgerModel, ModelAccount
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.values import BotState, Leg
from tradingbot_agents.exchange.port import ExchangeError, ExchangeOrder, ExchangeTrade
from tradingbot_agents.execution import desk, exits, fills, reconciler, resolve
from tradingbot_agents.execution.fills import DatedPrice
from tradingbot_agents.execution.resolve import LookUps, Resolution
from tradingbot_agents.execution.settings import LookUpSettings
from tradingbot_agents.ledger.port import Epoch, LedgerUnavailable
from tradingbot_agents.risk.agent import RiskAgent

Patch = Callable[[pytest.MonkeyPatch], None]


class Planted(NamedTuple):
    patch: Patch
    says: str
    """What one of its violations is like: it must be found for what it is."""
    within: int
    """Seeds in which it must be found: several times those between two finds."""


def reservation_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the market did not take of an entry stays reserved, for its end is not noticed."""
    right = resolve.final_state

    def final_state(order: Order, found: ExchangeOrder) -> OrderState | None:
        final = right(order, found)
        return None if final is OrderState.CANCELLED and order.leg is Leg.ENTRY else final

    monkeypatch.setattr(resolve, "final_state", final_state)


def fill_counted_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill is named by when it was read instead of by the exchange's trade id: read again, it is another."""
    right = fills.to_fill
    readings = itertools.count()

    def to_fill(trade: ExchangeTrade, client_order_id: str, price: DatedPrice | None) -> Fill:
        fill = right(trade, client_order_id, price)
        return msgspec.structs.replace(fill, exchange_trade_id=f"{fill.exchange_trade_id}.{next(readings)}")

    monkeypatch.setattr(desk, "to_fill", to_fill)
    monkeypatch.setattr(resolve, "distinct", tuple)


def sent_again_after_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    """No answer is taken for no: the order is sent once more."""
    right = desk.Desk._lose

    async def lose(self: desk.Desk, order: Order, why: str) -> Order:
        lost = await right(self, order, why)
        with contextlib.suppress(ExchangeError):
            await self._venue.create_order(desk._request(order))
        return lost

    monkeypatch.setattr(desk.Desk, "_lose", lose)


def stop_left_under_a_sale(monkeypatch: pytest.MonkeyPatch) -> None:
    """A closing position is sold while its stop still rests."""
    right = exits._closing

    def closing(
        position: Position,
        live: Sequence[Order],
        sales: Sequence[Order],
        price: Decimal | None,
        terms: exits.Terms,
        state: BotState,
        now: datetime,
    ) -> exits.Step:
        others = [order for order in live if order.type not in exits.STOP_TYPES]
        return right(position, others, sales, price, terms, state, now)

    monkeypatch.setattr(exits, "_closing", closing)


def epoch_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger takes every epoch."""

    def fence(self: LedgerModel, epoch: Epoch) -> None:
        return

    monkeypatch.setattr(LedgerModel, "fence", fence)


def acknowledge_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the exchange confirmed of an order is not written down."""

    async def acknowledge(self: LedgerModel, epoch: Epoch, client_order_id: str, exchange_order_id: str) -> Order:
        self.fence(epoch)
        return msgspec.structs.replace(
            self.known(client_order_id), state=OrderState.OPEN, exchange_order_id=exchange_order_id
        )

    monkeypatch.setattr(LedgerModel, "acknowledge", acknowledge)


def acknowledged_before_the_transaction(monkeypatch: pytest.MonkeyPatch) -> None:
    """An intent that met a ledger out of reach counts as dealt with."""

    @contextlib.contextmanager
    def faults(self: RiskAgent) -> Iterator[None]:
        with contextlib.suppress(LedgerUnavailable):
            yield

    monkeypatch.setattr(RiskAgent, "_ledger_faults", faults)


def end_without_its_fills(monkeypatch: pytest.MonkeyPatch) -> None:
    """An order that ended on the exchange ends in the books, though its trades are not all told yet."""

    def resolve_found(
        order: Order,
        found: ExchangeOrder,
        trades: Sequence[ExchangeTrade],
        now: datetime,
        settings: LookUpSettings,
    ) -> Resolution:
        return Resolution(
            exchange_order_id=found.exchange_order_id,
            trades=resolve.distinct(trades),
            final=resolve.final_state(order, found),
        )

    monkeypatch.setattr(desk, "resolve_found", resolve_found)


def not_found_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """One look-up without the order is an answer."""

    def resolve_missing(
        order: Order, look_ups: LookUps, now: datetime, settings: LookUpSettings
    ) -> tuple[Resolution, LookUps]:
        return Resolution(not_found=True), look_ups

    monkeypatch.setattr(desk, "resolve_missing", resolve_missing)


def expiry_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry is sent however old it is."""
    right = LedgerModel.claim

    async def claim(self: LedgerModel, epoch: Epoch, client_order_id: str, at: datetime) -> Order | None:
        created = self.known(client_order_id).created_at
        return await right(self, epoch, client_order_id, created)

    monkeypatch.setattr(LedgerModel, "claim", claim)
    monkeypatch.setattr(desk, "send_problem", lambda *asked, **how: None)


def money_reserved_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """What others have reserved is not looked at."""
    monkeypatch.setattr(ModelAccount, "available", lambda self, asset: self.total(asset))


def outbox_without_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Risk that no intent reaches never learns that a newer process has taken over."""

    async def publish(self: RiskAgent) -> None:
        await self._relay.flush()

    monkeypatch.setattr(RiskAgent, "_publish", publish)


def stale_balance_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exchange's balances are believed as soon as they are told."""
    monkeypatch.setattr(reconciler, "same_balances", lambda first, second: True)
    monkeypatch.setattr(reconciler, "margin_now", lambda *asked, **how: timedelta(0))


PLANTED = {
    "a reservation is not released": Planted(reservation_kept, "reservations are held in the end", 3),
    "a fill is counted twice": Planted(fill_counted_twice, "overdrawn|are free|not booked", 5),
    "an order is sent again after a timeout": Planted(sent_again_after_a_timeout, "was sent and is unresolved", 5),
    "a stop is left under a sale": Planted(stop_left_under_a_sale, "HoldExceeded", 10),
    "the epoch is not checked": Planted(epoch_not_checked, "is current", 5),
    "an acknowledge is forgotten": Planted(acknowledge_forgotten, "is submitting and can not", 10),
    "a message is acknowledged before the transaction": Planted(
        acknowledged_before_the_transaction, "acknowledged and never decided", 10
    ),
    "an order ends without its fills": Planted(end_without_its_fills, "are free|not booked", 25),
    "not found is believed at once": Planted(not_found_at_once, "is not_found in the books", 15),
    "an expired entry is sent": Planted(expiry_ignored, "after its expiry", 30),
    "money is reserved twice": Planted(money_reserved_twice, "are reserved after", 5),
    "a stale balance is believed": Planted(stale_balance_believed, "outside_movement_booked was said", 120),
    "an idle risk is not fenced off": Planted(outbox_without_epoch, "risk.* is there still", 30),
}
