"""What the ledger promises: bookkeeping, reservations that cannot overcommit, and fencing of old processes.

- ``total`` of an asset is always the sum of its entries; every entry has a cause.
- ``available = total - reserved - outside_holds``. A reservation binds new orders, never bookings: a fill or
  a fee is always booked, even below zero.
- Every statement that reserves, claims, cancels or moves a stop carries the caller's epoch; a stale one is
  refused with ``Fenced``, and nothing is changed.
- Every state change is one transaction, and the messages it causes are rows of the outbox in that transaction.
- Every call may be repeated: ids are deterministic, and what was done already is answered, not done again.

An instance is bound to one account and one bot. All bots of an account are serialised by the account's lock.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

import msgspec

from tradingbot_agents.domain.events import Event, Reason
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.domain.orders import Order, OrderState, Reservation
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ZERO, BotState, Leg, Mode, OrderType, Side, TimeInForce


class AccountKey(msgspec.Struct, frozen=True, kw_only=True):
    """What makes two accounts different: paper totals never mix with real money."""

    mode: Mode
    exchange: str
    endpoint: str
    """Empty: the exchange's own."""
    name: str

    def __str__(self) -> str:
        return "/".join(part for part in (self.mode.value, self.exchange, self.endpoint, self.name) if part)


class Role(StrEnum):
    RISK = "risk"
    EXECUTION = "execution"


class Epoch(msgspec.Struct, frozen=True):
    """The right to write for (account, bot, role); a newer one ends it."""

    role: Role
    number: int


class LedgerError(Exception):
    """Base of what the ledger refuses."""


class Fenced(LedgerError):
    """A newer process of the same bot and role has taken over: this one must stop."""

    def __init__(self, epoch: Epoch, current: int) -> None:
        super().__init__(
            f"{epoch.role.value} epoch {epoch.number} is fenced off by epoch {current}: a newer process runs"
        )
        self.epoch = epoch
        self.current = current


class LedgerUnavailable(LedgerError):
    """The database can not be reached now. What was in flight may or may not be committed: repeat the call."""


class LedgerAccessRefused(LedgerUnavailable):
    """The database is not trusted, or does not let us in: repeating the call helps once a person has mended that."""


class UnknownOrder(LedgerError):
    """No order of that client order id is in the ledger."""

    def __init__(self, client_order_id: str) -> None:
        super().__init__(f"order {client_order_id} is not in the ledger")
        self.client_order_id = client_order_id


class BookedSince(LedgerError):
    """Something has been booked on the account since what the proposals rest on was read: read it again."""


class HoldExceeded(LedgerError):
    """An exit leg would sell more than the position has left after its other live legs."""


class Balance(msgspec.Struct, frozen=True, kw_only=True):
    asset: str
    total: Decimal
    reserved: Decimal
    outside_holds: Decimal
    set_aside: Decimal = ZERO
    """Of ``total``: what was there at the opening and was ignored. It is nobody's equity."""

    @property
    def own(self) -> Decimal:
        """What the account's bots answer for: all but what was set aside."""
        return self.total - self.set_aside

    @property
    def available(self) -> Decimal:
        return self.total - self.reserved - self.outside_holds


class Adoption(msgspec.Struct, frozen=True, kw_only=True):
    """A holding that was on the account at the start and becomes this bot's position, at a dated price."""

    symbol: str
    amount: Decimal
    price: Decimal
    stop_price: Decimal | None = None
    target_price: Decimal | None = None
    """What the position is protected with from the start."""


class EntryProposal(msgspec.Struct, frozen=True, kw_only=True):
    """An entry that risk would approve, if the money is there. All decisions but that one are made."""

    intent_id: str
    client_order_id: str
    symbol: str
    confidence: Decimal
    amount: Decimal
    limit_price: Decimal
    reserve_asset: str
    reserve_amount: Decimal
    """The whole budget: at least ``amount * limit_price`` and its fee in the worst currency."""
    stop_price: Decimal | None
    target_price: Decimal | None
    indicators: tuple[str, ...]
    correlation_id: str
    at: datetime
    expires_at: datetime
    max_open_positions: int | None


class Outcome(StrEnum):
    APPROVED = "approved"
    REJECTED = "rejected"


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided of an intent, for ever."""

    intent_id: str
    symbol: str
    side: Side
    outcome: Outcome
    reason: Reason | None
    detail: str
    confidence: Decimal
    client_order_id: str | None
    reserved: Decimal | None
    available_after: Decimal | None
    """Of the reserve asset, after this decision (also for a refusal, when it was asked for)."""
    at: datetime
    new: bool = True
    """``False``: it had been decided before, and nothing was changed now."""


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """Risk refused an intent before it came to the money."""

    intent_id: str
    entry_order: str
    """The client order id of the entry that the intent would make: it may have been approved before."""
    symbol: str
    side: Side
    reason: Reason
    detail: str
    confidence: Decimal
    correlation_id: str
    at: datetime


class ExitRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Sell the whole position of ``symbol``. Execution takes it over from its stop and sells the rest."""

    cause: str
    """The intent id (never one of an entry), or for execution's own exits the trade id."""
    symbol: str
    leg: Leg
    """EXIT, STOP (a watched stop), TARGET or FLATTEN."""
    reason: str
    """For people; kept as the detail of an approved decision."""
    confidence: Decimal
    correlation_id: str
    at: datetime
    message: Message | None
    """Goes to the outbox when it is approved (``None``: the caller is execution itself)."""


class LegProposal(msgspec.Struct, frozen=True, kw_only=True):
    """An exit order that execution is about to send: it starts in ``submitting``."""

    client_order_id: str
    symbol: str
    leg: Leg
    type: OrderType
    time_in_force: TimeInForce
    amount: Decimal
    limit_price: Decimal | None
    stop_price: Decimal | None
    cause: str
    attempt: int
    correlation_id: str
    at: datetime


class Reversal(msgspec.Struct, frozen=True, kw_only=True):
    """An outside movement that fills explain was taken back."""

    asset: str
    amount: Decimal
    """The movement's, with the other sign."""
    cause: str
    """Of the movement, and of its reversal."""


class Booking(msgspec.Struct, frozen=True, kw_only=True):
    """What booking fills changed."""

    order: Order
    position: Position
    new_fills: tuple[Fill, ...]
    """Those that had not been booked before."""
    closed_trade: Trade | None
    """The round trip that ended with it."""
    overdrawn: tuple[Balance, ...]
    """Assets whose total is below zero now: a severe alert."""
    reversals: tuple[Reversal, ...] = ()
    doubtful: tuple[str, ...] = ()
    """Causes of movements that may contain new fills, and differ from them: they stay."""


class Trade(msgspec.Struct, frozen=True, kw_only=True):
    """A finished round trip. ``profit`` and ``fees`` in quote currency, fees taken off the profit."""

    trade_id: str
    symbol: str
    opened_at: datetime
    closed_at: datetime
    bought: Decimal
    cost: Decimal
    """What was paid for ``bought``, fees included."""
    profit: Decimal
    fees: Decimal
    leg: Leg
    """What closed it."""
    indicators: tuple[str, ...]


class Performance(msgspec.Struct, frozen=True):
    """How often trades that an indicator supported won or lost."""

    indicator: str
    wins: int
    losses: int


class EquityPoint(msgspec.Struct, frozen=True):
    at: datetime
    equity: Decimal
    """Of this bot's account in quote currency, less outside movements."""
    outside: Decimal = ZERO
    """The sum of outside movements until then, at the same prices: ``equity + outside`` was there."""

    @property
    def gross(self) -> Decimal:
        """What the account was worth, whoever brought it there."""
        return self.equity + self.outside


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the books."""

    number: int
    asset: str
    amount: Decimal
    kind: str
    """``opening``, ``fill``, ``fee``, ``outside`` or ``reversal``."""
    cause: str
    at: datetime


class Books(msgspec.Struct, frozen=True, kw_only=True):
    """The whole account at one moment, all its bots together: what is compared with the exchange."""

    opened_at: datetime | None
    """``None``: the account is not open yet."""
    newest_entry: int
    """Its number; 0 when there is none."""
    newest_at: datetime | None
    balances: Mapping[str, Balance]
    live: tuple[Order, ...]
    """Orders that the exchange may have, oldest first."""

    @property
    def mark(self) -> tuple[object, ...]:
        """Two books with the same mark have the same totals, and the same live orders in the same states."""
        return (self.newest_entry, *((order.client_order_id, order.state, order.filled) for order in self.live))


class KnownRules(msgspec.Struct, frozen=True):
    """Market rules of a symbol as the exchange told them."""

    rules: SymbolRules
    since: datetime
    """When they were read first."""
    read_at: datetime
    """When they were read last."""


class OutboxRow(msgspec.Struct, frozen=True):
    number: int
    message: Message


class Hold(msgspec.Struct, frozen=True, kw_only=True):
    """A restriction that a check or a person put on the bot, released by a person."""

    state: BotState
    reason: str
    by: str
    at: datetime


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """How long each kind of history is kept."""

    events: timedelta
    severe_events: timedelta
    refusals: timedelta
    """At least as long as an intent may come again."""
    equity: timedelta
    """Every point; of a day before that, the highest, the lowest and the last one. At least as long as a protection
    looks back."""
    reports: timedelta
    """Of the reality check."""


class Holdings(msgspec.Struct, frozen=True):
    balances: dict[str, Balance]
    outside: dict[str, Decimal]
    """The sum of outside movements by asset, where it is not zero."""
    bookings: int
    """How many had been booked on the account: as long as they are so many, it is worth the same at the same prices.
    What is reserved may have changed."""


class Invariant(msgspec.Struct, frozen=True, kw_only=True):
    """One invariant, checked now. ``violations`` says in words what breaks it; empty: it holds."""

    name: str
    protects: str
    violations: tuple[str, ...]


class Ledger(Protocol):
    # --- the account -----------------------------------------------------------------------------------

    async def open_account(
        self, opening: Mapping[str, Decimal], adopt: Sequence[Adoption], at: datetime, *, quote: str
    ) -> bool:
        """Write the opening snapshot, once for ever; ``False`` when the account was open already.

        Holdings that are neither the quote currency ``quote`` nor adopted are entries as well, and outside
        holds: they are in ``total`` and never available.

        Raises ``LedgerError`` when more is adopted than is there, or ``quote`` is not what it was opened with.
        """
        ...

    async def raise_epoch(self, role: Role, at: datetime) -> Epoch:
        """Fence off the older process of this bot and role. Also creates the bot's row."""
        ...

    # --- risk ------------------------------------------------------------------------------------------

    async def reserve(self, epoch: Epoch, proposal: EntryProposal) -> Decision:
        """One transaction in one round trip: decision, order (``approved``), reservation. The order needs no row of
        the outbox: until it is claimed, ``orders_to_send`` tells of it.

        Refused (and recorded) with ``insufficient_available_balance``, ``position_already_open`` (an open or
        closing position of this bot in the symbol, or a live or approved entry), ``max_open_positions`` or
        ``not_tradable_state`` (a hold in the ledger).
        """
        ...

    async def reserve_many(
        self, epoch: Epoch, proposals: Sequence[EntryProposal], as_of: int | None = None
    ) -> list[Decision]:
        """The same for a ranked batch, best first, in one transaction and one round trip.

        ``as_of`` is ``Holdings.bookings`` of what the proposals rest on: nothing is done when that is no longer so.
        Raises ``BookedSince`` then."""
        ...

    async def refuse(self, epoch: Epoch, refusals: Sequence[Refusal]) -> list[Decision]:
        """Record refusals; an intent that was decided before keeps its decision (``new`` is ``False``)."""
        ...

    async def request_exit(self, epoch: Epoch, request: ExitRequest) -> Decision:
        """Mark the position as ``closing``, with the request's leg as its ``closing_reason``. Of risk: an intent's
        decision is recorded, and one without a position is refused with ``insufficient_base_balance``. Of
        execution: no decision is recorded.

        Raises ``ValueError`` for the leg ``entry``.
        """
        ...

    async def decision(self, intent_id: str, entry_order: str) -> Decision | None:
        """What was decided of an intent; ``entry_order`` is the client order id that its entry has or would have."""
        ...

    # --- execution -------------------------------------------------------------------------------------

    async def claim(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order | None:
        """``approved → submitting``. ``None`` when it is not ``approved`` any more, or too old to be sent
        (then it is denied with ``stale_intent`` and its reservation released)."""
        ...

    async def check_epoch(self, epoch: Epoch) -> None:
        """Raises ``Fenced``. Execution asks right before it sends."""
        ...

    async def submit_leg(self, epoch: Epoch, proposal: LegProposal) -> Order:
        """Write an exit order down as ``submitting``, raising the position's hold (and the base asset's
        reserved) to cover it. Raises ``HoldExceeded`` when the live exit legs would exceed the position.
        Repeated with the same id it returns the order as it is. Raises ``ValueError`` for the leg ``entry``."""
        ...

    async def acknowledge(self, epoch: Epoch, client_order_id: str, exchange_order_id: str) -> Order:
        """The exchange has it. From ``not_found`` this takes the order up again (``reappear``), and what is
        left of its reservation is held again."""
        ...

    async def request_cancel(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order: ...

    async def lose_contact(self, epoch: Epoch, client_order_id: str, reason: str, at: datetime) -> Order: ...

    async def deny(self, epoch: Epoch, client_order_id: str, reason: str, at: datetime) -> Order:
        """Refused by us before it was sent: final, everything released."""
        ...

    async def not_found(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order:
        """The exchange never had it: final, everything released."""
        ...

    async def book(
        self,
        client_order_id: str,
        fills: Sequence[Fill],
        final: OrderState | None,
        at: datetime,
        reason: str | None = None,
    ) -> Booking:
        """Book fills (each counted once by its trade id) and, with ``final`` (FILLED, CANCELLED or REJECTED),
        end the order: balances, entries, reservation or exit hold, position, a finished trade with its
        indicators' performance, and the execution report for the outbox, in one transaction.

        Carries no epoch: what happened on the exchange is booked whoever tells it.
        An outside movement that was booked after new fills happened, and has exactly their amounts, was booked for
        them: the same transaction reverses it.

        An entry's first fill opens the position with the stop and the target of its proposal.
        A position that ends at zero is FLAT. It never becomes DUST by itself: see ``mark_dust``.
        """
        ...

    async def mark_dust(self, epoch: Epoch, symbol: str, leg: Leg, at: datetime) -> Trade | None:
        """What is left can not be sold: the position is DUST, its round trip is finished, ``closed`` by
        ``leg``, and its hold released."""
        ...

    async def watch(self, epoch: Epoch, symbol: str, high_water: Decimal, stop_price: Decimal | None) -> None:
        """Keep the trailing stop's high-water mark and the stop that it asks for now."""
        ...

    # --- outside ---------------------------------------------------------------------------------------

    async def book_outside_movement(self, asset: str, amount: Decimal, cause: str, at: datetime) -> None:
        """Money came or went that no order of ours explains. Counts neither as profit nor as drawdown."""
        ...

    async def set_outside_holds(self, holds: Mapping[str, Decimal]) -> None:
        """What other people's open orders lock now, per asset; an asset that is not named locks nothing. What was
        set aside at the opening stays held."""
        ...

    async def account_books(self) -> Books:
        """One snapshot of the account, of all its bots."""
        ...

    async def symbols_traded(self, since: datetime) -> list[str]:
        """Symbols in which the account, any bot of it, has an order that had not ended at ``since``."""
        ...

    async def unbooked_trades(self, symbol: str, orders: Mapping[str, str]) -> dict[str, Order]:
        """Of the exchange's trades in ``symbol`` (its order id by its trade id): those of orders of the account, any
        bot of it, that are not booked. The order by trade id; trades of others are not in it."""
        ...

    async def settle_outside(
        self, seen: Books, movements: Mapping[str, Decimal], holds: Mapping[str, Decimal], cause: str, at: datetime
    ) -> bool:
        """Book what a comparison with the exchange found, per asset, and ``set_outside_holds``, in one transaction,
        if the books are still what they were when it was made (``seen.mark``). ``False``: they are not, and nothing
        was done.

        So of several that compare the same account, the first one books, and all others compare again. ``cause``
        must be a function of who compares, ``seen`` and ``movements``: a repeated call is answered with what was
        done.
        """
        ...

    # --- messages --------------------------------------------------------------------------------------

    async def unpublished(self, role: Role, limit: int = 100) -> list[OutboxRow]:
        """This bot's rows of one role that are not published yet, in order."""
        ...

    async def mark_published(self, numbers: Sequence[int]) -> None: ...

    # --- market rules ----------------------------------------------------------------------------------

    async def keep_market_rules(self, rules: Mapping[str, SymbolRules], at: datetime) -> None:
        """What the exchange accepts at ``at``, by symbol. Rules that did not change keep the time since when they
        hold; none are kept before the account is open."""
        ...

    async def market_rules(self) -> dict[str, KnownRules]:
        """The newest rules of each symbol, as they were kept last."""
        ...

    # --- holds, events, equity -------------------------------------------------------------------------

    async def hold(self) -> Hold | None: ...

    async def place_hold(self, hold: Hold) -> None: ...

    async def release_hold(self) -> bool: ...

    async def record_events(self, events: Sequence[Event]) -> None: ...

    async def record_equity(self, point: EquityPoint) -> None: ...

    async def measure_equity(
        self, at: datetime, quote: str, prices: Mapping[str, Decimal | None]
    ) -> tuple[dict[str, Balance], Decimal | None]:
        """In one round trip: the balances, and the equity at ``prices`` (by base asset, in ``quote``), less
        outside movements, which is recorded as the point of ``at``. Assets that are not named count nothing, nor
        does what was set aside. When one that is held has no price (``None``), there is no equity and nothing is
        recorded."""
        ...

    # --- reading ---------------------------------------------------------------------------------------
    # Needs no lock, and may be done while another process writes. With a ``limit``: the newest so many.

    async def balances(self) -> dict[str, Balance]: ...

    async def positions(self) -> dict[str, Position]:
        """Of this bot, by symbol; a symbol that was never traded is not in it."""
        ...

    async def orders_to_send(self) -> list[Order]:
        """Approved entries that are not claimed yet, oldest first."""
        ...

    async def live_orders(self) -> list[Order]:
        """Orders that the exchange may have: submitting, open, cancelling, unresolved."""
        ...

    async def order(self, client_order_id: str) -> Order | None:
        """Of any bot of the account: what the exchange has is asked about here."""
        ...

    async def orders(self, limit: int | None = None) -> list[Order]:
        """All orders, newest first."""
        ...

    async def reservations(self) -> list[Reservation]:
        """Held ones of the whole account."""
        ...

    async def fills(self, limit: int | None = None) -> list[Fill]:
        """Of this bot, newest first."""
        ...

    async def trades(self, since: datetime | None = None, limit: int | None = None) -> list[Trade]:
        """Finished round trips, oldest first (with a ``limit`` as well)."""
        ...

    async def decisions(self, limit: int | None = None) -> list[Decision]:
        """Of this bot, newest first."""
        ...

    async def refusals(self) -> dict[str, int]:
        """How many intents were refused, by reason."""
        ...

    async def performance(self) -> dict[str, Performance]: ...

    async def equity(self, since: datetime | None = None) -> list[EquityPoint]: ...

    async def holdings(self) -> Holdings:
        """In one round trip what ``balances`` tells, and what of it came from outside."""
        ...

    async def entries(self, limit: int | None = None) -> list[Entry]:
        """Of the whole account, newest first."""
        ...

    async def invariants(self) -> list[Invariant]:
        """The design's invariants, each checked against the rows as they are now."""
        ...

    async def close(self) -> None: ...
