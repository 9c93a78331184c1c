"""The events: names and fields are an interface that people, logs, metrics and the reality check read.

One list, here. ``EVENTS`` maps each name to its type; ``durable`` ones are also rows in the ledger, because
logs rotate.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from tradingbot_agents.domain.spelling import spelled
from tradingbot_agents.domain.values import Leg, Side


class Reason(StrEnum):
    """Why a trade was refused. Codes are stable."""

    INSUFFICIENT_AVAILABLE_BALANCE = "insufficient_available_balance"
    INSUFFICIENT_BASE_BALANCE = "insufficient_base_balance"
    BELOW_MINIMUM_NOTIONAL = "below_minimum_notional"
    BELOW_MINIMUM_AMOUNT = "below_minimum_amount"
    ABOVE_MAXIMUM_AMOUNT = "above_maximum_amount"
    ABOVE_MAXIMUM_NOTIONAL = "above_maximum_notional"
    EXIT_NOT_SELLABLE = "exit_not_sellable"
    """After fees and a move to the stop, what is left could not be sold."""
    SYMBOL_NOT_TRADING = "symbol_not_trading"
    NO_FRESH_PRICE = "no_fresh_price"
    PROTECTION_ACTIVE = "protection_active"
    STALE_INTENT = "stale_intent"
    DUPLICATE_INTENT = "duplicate_intent"
    """Two intents of one batch carry the same id and are not the same: the first is decided, the other is refused
    with this, and nothing is recorded of it. The same intent once more (a redelivery, a restart) is no refusal: it
    keeps its decision, silently."""
    NOT_TRADABLE_STATE = "not_tradable_state"
    POSITION_ALREADY_OPEN = "position_already_open"
    MAX_OPEN_POSITIONS = "max_open_positions"
    NO_EDGE = "no_edge"
    """The sizing (Kelly) says to bet nothing."""


class Severity(StrEnum):
    INFO = "info"
    WARNING = "warning"
    SEVERE = "severe"


class Event(msgspec.Struct, frozen=True, kw_only=True):
    name: ClassVar[str]
    severity: ClassVar[Severity] = Severity.INFO
    durable: ClassVar[bool] = True

    at: datetime
    agent: str
    correlation_id: str | None = None

    def fields(self) -> dict[str, Any]:
        """The event's own fields, JSON-able: decimals as strings, times ISO 8601."""
        data: dict[str, Any] = spelled(self)
        return data


class TradeApproved(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "trade_approved"
    durable: ClassVar[bool] = False
    """Not a row of its own: the decision is one."""

    symbol: str
    side: Side
    confidence: Decimal
    client_order_id: str | None
    amount: Decimal | None
    limit_price: Decimal | None
    reserved: Decimal | None
    available_after: Decimal | None


class TradeRejected(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "trade_rejected"
    durable: ClassVar[bool] = False

    symbol: str
    side: Side
    reason: Reason
    detail: str
    confidence: Decimal


class PriceFallbackUsed(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "price_fallback_used"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    source: str
    """The step that answered: ``bus``, ``ticker`` or ``none``."""
    why: str


class PriceFallbackAlert(Event, frozen=True, kw_only=True):
    """The price of a symbol came from a fallback again and again: one is a stumble, this is a defect."""

    name: ClassVar[str] = "price_fallback_alert"
    severity: ClassVar[Severity] = Severity.SEVERE

    symbol: str
    source: str
    in_a_row: int
    why: str


class ExposureMeasured(Event, frozen=True, kw_only=True):
    """The account's risk at one moment, in quote currency. It refuses nothing."""

    name: ClassVar[str] = "exposure_measured"
    durable: ClassVar[bool] = False
    """Its equity is a row of its own."""

    equity: Decimal
    exposure: Decimal
    """The value of what is held in base currencies."""
    confidence: Decimal
    value_at_risk: Decimal | None
    """The loss of one bar that is not exceeded with ``confidence``; ``None``: too few returns to say."""
    expected_shortfall: Decimal | None
    """The mean loss of the bars in the tail beyond it."""
    returns: int
    """How many bars it is counted from."""


class OrderUnresolved(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "order_unresolved"
    severity: ClassVar[Severity] = Severity.WARNING

    client_order_id: str
    symbol: str
    why: str


class OrderResolved(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "order_resolved"

    client_order_id: str
    symbol: str
    state: str


class OrderReappeared(Event, frozen=True, kw_only=True):
    """The exchange has an order that it had said it never had."""

    name: ClassVar[str] = "order_reappeared"
    severity: ClassVar[Severity] = Severity.SEVERE

    client_order_id: str
    symbol: str


class OrderUnknown(Event, frozen=True, kw_only=True):
    """The exchange has a live order with an id of ours that the books do not have, or have as ended."""

    name: ClassVar[str] = "order_unknown"
    severity: ClassVar[Severity] = Severity.SEVERE

    client_order_id: str
    symbol: str
    why: str


class OrderRejected(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "order_rejected"
    severity: ClassVar[Severity] = Severity.WARNING

    client_order_id: str
    symbol: str
    leg: Leg
    why: str


class FillBooked(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "fill_booked"
    durable: ClassVar[bool] = False

    client_order_id: str
    exchange_trade_id: str
    symbol: str
    side: Side
    leg: Leg
    amount: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str | None


class TradeClosed(Event, frozen=True, kw_only=True):
    """A round trip ended: the position is flat, or what is left is dust."""

    name: ClassVar[str] = "trade_closed"
    durable: ClassVar[bool] = False

    trade_id: str
    symbol: str
    leg: Leg
    profit: Decimal


class Overdrawn(Event, frozen=True, kw_only=True):
    """A fill or fee was booked below zero: it happened on the exchange, so the books say it."""

    name: ClassVar[str] = "overdrawn"
    severity: ClassVar[Severity] = Severity.SEVERE

    asset: str
    total: Decimal


class OutsideMovementBooked(Event, frozen=True, kw_only=True):
    """The exchange has more or less of an asset than our orders explain: a deposit, a withdrawal, a trade by hand."""

    name: ClassVar[str] = "outside_movement_booked"
    severity: ClassVar[Severity] = Severity.WARNING

    asset: str
    amount: Decimal
    cause: str
    """Names it in the entries; the same for all assets of one comparison."""


class OutsideMovementReversed(Event, frozen=True, kw_only=True):
    """A fill that was found late explains what had been booked as coming from outside."""

    name: ClassVar[str] = "outside_movement_reversed"
    severity: ClassVar[Severity] = Severity.WARNING

    asset: str
    amount: Decimal
    """Of the reversal: the movement's, with the other sign."""
    cause: str
    client_order_id: str


class OutsideMovementDoubtful(Event, frozen=True, kw_only=True):
    """A movement may contain a fill that was found after it, and has not exactly its amounts. It is left as it is:
    the next comparison sets the totals right."""

    name: ClassVar[str] = "outside_movement_doubtful"
    severity: ClassVar[Severity] = Severity.WARNING

    cause: str
    client_order_id: str


class LateFillBooked(Event, frozen=True, kw_only=True):
    """Trades were found of an order that had ended in the books."""

    name: ClassVar[str] = "late_fill_booked"
    severity: ClassVar[Severity] = Severity.WARNING

    client_order_id: str
    symbol: str
    state: str
    """What the order had ended as."""
    fills: int


class Reconciled(Event, frozen=True, kw_only=True):
    """Orders, fills and balances of the account were compared with the exchange, and the books have what they say."""

    name: ClassVar[str] = "reconciled"

    assets: int
    """Whose totals were compared."""
    symbols: int
    """Whose trades were read."""
    fills: int
    """Found by it, and booked."""
    movements: int
    """Assets in which an outside movement was booked."""
    outside_orders: int
    """Open orders on the exchange that are not ours: they are left alone."""


class ReconciliationDelayed(Event, frozen=True, kw_only=True):
    """The account could not be compared with the exchange for long. It is tried on."""

    name: ClassVar[str] = "reconciliation_delayed"
    severity: ClassVar[Severity] = Severity.WARNING

    why: str
    since: datetime
    """When it was due."""
    entries_held: bool
    """It is the first since the start: until it is done, no entry is sent. Exits and stops are."""


class FencedOff(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "fenced_off"
    severity: ClassVar[Severity] = Severity.SEVERE

    role: str
    epoch: int


class FeedStale(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "feed_stale"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    last_candle: datetime | None
    """When the newest candle closed (``None``: there never was one)."""
    age_seconds: float | None
    error: str | None = None
    """What the exchange last answered instead of candles, if it did."""


class FeedRecovered(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "feed_recovered"

    symbol: str
    silent_seconds: float


class SymbolHalted(Event, frozen=True, kw_only=True):
    """The exchange does not trade the symbol now, or has it no more. No entry is made; what rests there stays."""

    name: ClassVar[str] = "symbol_halted"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    why: str


class SymbolTrades(Event, frozen=True, kw_only=True):
    """The exchange trades the symbol again."""

    name: ClassVar[str] = "symbol_trades"

    symbol: str


class StreamLost(Event, frozen=True, kw_only=True):
    """A websocket stream is broken or silent. Until it is back the exchange is asked by REST."""

    name: ClassVar[str] = "stream_lost"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    stream: str
    """``candles`` or ``ticker``."""
    why: str


class StreamRecovered(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "stream_recovered"

    symbol: str
    stream: str
    silent_seconds: float | None
    """``None``: it speaks for the first time."""


class CandleGap(Event, frozen=True, kw_only=True):
    """Candles are missing and the exchange has none to back-fill with."""

    name: ClassVar[str] = "candle_gap"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    after: datetime
    """Open time of the last candle before the gap."""
    before: datetime
    """Open time of the first one after it."""
    missing: int


class CandleRefused(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "candle_refused"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    open_time: datetime
    why: str


class CandlesSpooled(Event, frozen=True, kw_only=True):
    """The candle store is away: what comes is kept on disk, and delivered in order once it is back."""

    name: ClassVar[str] = "candles_spooled"
    severity: ClassVar[Severity] = Severity.WARNING

    why: str


class CandlesDelivered(Event, frozen=True, kw_only=True):
    """The candle store is back, and has what was kept on disk meanwhile."""

    name: ClassVar[str] = "candles_delivered"

    candles: int


class CandlesDropped(Event, frozen=True, kw_only=True):
    """The spool is full: its oldest candles were dropped. A later back-fill from the exchange brings them."""

    name: ClassVar[str] = "candles_dropped"
    severity: ClassVar[Severity] = Severity.SEVERE

    candles: int


class PositionUnprotected(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "position_unprotected"
    severity: ClassVar[Severity] = Severity.WARNING

    symbol: str
    why: str


class PositionProtected(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "position_protected"

    symbol: str
    stop_price: Decimal
    unprotected_seconds: float


class ExitFailing(Event, frozen=True, kw_only=True):
    """So many attempts in a row to protect or to sell a position did nothing. It is tried on."""

    name: ClassVar[str] = "exit_failing"
    severity: ClassVar[Severity] = Severity.SEVERE

    symbol: str
    leg: Leg
    attempts: int
    why: str


class PositionDust(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "position_dust"

    symbol: str
    amount: Decimal


class ProtectionTriggered(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "protection_triggered"
    severity: ClassVar[Severity] = Severity.WARNING

    protection: str
    symbol: str | None
    until: datetime | None
    detail: str


class RunStarted(Event, frozen=True, kw_only=True):
    """The ledger answers and the agents are about to start. ``at`` is where in the candles the run goes on."""

    name: ClassVar[str] = "run_started"

    mode: str
    exchange: str
    account: str
    symbols: tuple[str, ...]
    state: str
    candles_left: int
    revision: str


class RunEnded(Event, frozen=True, kw_only=True):
    """All agents are stopped. Times are real ones."""

    name: ClassVar[str] = "run_ended"

    ending: str
    candles: int
    """Played by this run."""
    seconds: float
    candles_per_second: float


class StateChanged(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "state_changed"

    previous: str
    state: str
    why: str


class SpecFileRefused(Event, frozen=True, kw_only=True):
    """The spec file was changed into something that can not be read; the bot goes on as before."""

    name: ClassVar[str] = "spec_file_refused"
    severity: ClassVar[Severity] = Severity.WARNING

    why: str


class StateFileRefused(Event, frozen=True, kw_only=True):
    """The state file can not be read or understood; the bot goes on as before. One that starts makes no entry until
    it could be read once."""

    name: ClassVar[str] = "state_file_refused"
    severity: ClassVar[Severity] = Severity.WARNING

    why: str


class SpecChangePending(Event, frozen=True, kw_only=True):
    """The spec file says something else than what runs."""

    name: ClassVar[str] = "spec_change_pending"

    detail: str


class AgentStarted(Event, frozen=True, kw_only=True):
    """A process of one agent begins to work: everything that it needs is there."""

    name: ClassVar[str] = "agent_started"

    mode: str
    exchange: str
    account: str
    symbols: tuple[str, ...]
    state: str
    revision: str


class AgentRestarted(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "agent_restarted"
    severity: ClassVar[Severity] = Severity.WARNING

    restarted: str
    attempt: int
    error: str


class DependencyAway(Event, frozen=True, kw_only=True):
    """Something that an agent needs does not answer: what needs it waits until it is back."""

    name: ClassVar[str] = "dependency_away"
    severity: ClassVar[Severity] = Severity.WARNING

    what: str
    attempt: int
    """To bring it back, in a row."""
    why: str
    """The error that a caller met."""


class DependencyBack(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "dependency_back"

    what: str
    seconds: float
    """For which it was away."""


class MessageDeadLettered(Event, frozen=True, kw_only=True):
    name: ClassVar[str] = "message_dead_lettered"
    severity: ClassVar[Severity] = Severity.WARNING

    queue: str
    message_id: str
    why: str


EVENTS: dict[str, type[Event]] = {event.name: event for event in Event.__subclasses__()}
"""Every event by its name."""


def json_schema() -> dict[str, Any]:
    """The published contract of all events, as they stand in a line of ``--output json``: their own fields,
    and ``event`` with the name. ``x-severity`` and ``x-durable`` say what the classes say."""
    _, components = msgspec.json.schema_components(EVENTS.values(), ref_template="#/$defs/{name}")
    for name, event in EVENTS.items():
        definition = components[event.__name__]
        definition["properties"] = {"event": {"const": name}, **definition["properties"]}
        definition["required"] = ["event", *definition["required"]]
        definition["x-severity"] = event.severity.value
        definition["x-durable"] = event.durable
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Events",
        "oneOf": [{"$ref": f"#/$defs/{event.__name__}"} for event in EVENTS.values()],
        "$defs": components,
    }
