"""What execution is told: limits, intervals and distances. No defaults: those live in ``tradingbot_api``."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec


class LookUpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """When "not found" is an answer."""

    send_limit: timedelta
    """From an order's claim to its sending, at most: after it, a claimed order is refused instead of sent."""
    receive_window: timedelta
    """How late after its sending the exchange may still accept a request."""
    attempts: int
    """Look-ups without the order, after both of the above, before it is believed that it never arrived."""
    margin: timedelta
    """The time over which those look-ups are spread, at least."""
    spacing: timedelta
    """Between two look-ups of an order whose outcome is open."""
    immediate_not_found: bool
    """One look-up decides, at once. True only for an exchange whose look-ups are never late: the simulated one,
    where nothing is under way once a call has ended."""


class TrailingSettings(msgspec.Struct, frozen=True, kw_only=True):
    """A stop that follows the highest price since the entry. Fractions: 0.02 is 2 %."""

    distance: Decimal
    """Below the highest price."""
    activate_at: Decimal | None
    """Gain over the entry's average cost from which it follows (``None``: at once)."""
    step: Decimal
    """Of the stop's price: it moves only when it rises by at least so much."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    look_up: LookUpSettings
    order_time_limit: timedelta
    """An entry that rests on the exchange for longer is cancelled."""
    cancel_retry: timedelta
    """Before a cancel whose outcome is open is asked for again."""
    watch_interval: timedelta | None
    """Between looks at the price for stops, targets and trailing stops (``None``: each candle is the look)."""
    sweep_interval: timedelta | None
    """Between looks for approved orders, exits and fills that no message announced (``None``: never; only where
    no message can be lost while the process lives, as in a lockstep replay)."""
    inspect_interval: timedelta | None
    """Between looks for orders on the exchange that should not be there (``None``: only at start)."""
    reconcile_interval: timedelta | None
    """Between comparisons of the account with the exchange (``None``: never; only where nobody else can reach the
    account). With it, no entry is sent before the first is done."""
    rules_interval: timedelta | None
    """Between reads of the exchange's market rules (``None``: only at start, where they come from a file)."""
    reappear_window: timedelta
    """For how long an order that was not found is still looked for."""
    stops_on_exchange: bool
    """Whether stops rest on the exchange where it can hold them."""
    stop_limit_offset: Decimal
    """Fraction below the stop at which the limit of a stop-limit order stands."""
    trailing: TrailingSettings | None
    exit_retry: timedelta
    """Before the next attempt of an exit or of a stop; doubles with each that sold nothing."""
    exit_retry_longest: timedelta
    max_exit_attempts: int
    """Attempts of one exit that sold nothing, after which it is reported as severe. It is tried on."""
    ledger_retry: timedelta
    """Before a timer's work is tried again after the ledger could not be reached."""
    fee_price_max_age: timedelta
    """A price older than this values no fee in a third asset."""
