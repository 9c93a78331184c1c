"""The spec's data collection, execution and runtime: intervals, limits and attempts of the agents at work."""

from typing import Annotated, Literal

import msgspec

from . import defaults
from .decimals import FractionBelowOne
from .durations import Duration, DurationOrZero
from .model import Model, doc

EntryTimeInForce = Literal["IOC"]
LogLevel = Literal["debug", "info", "warning"]

_Attempts = Annotated[int, msgspec.Meta(ge=1, le=100)]


class Data(Model, frozen=True, kw_only=True):
    """How candles are collected."""

    history: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=100_000)],
        doc("Candles per symbol kept back-filled; never fewer than a decision rests on."),
    ] = defaults.HISTORY
    stale_after: Annotated[Duration, doc("Without an answer of the feed for this long, it is stale: feed_stale.")] = (
        defaults.STALE_AFTER
    )
    settle_delay: Annotated[
        DurationOrZero, doc("From a candle's close to the first question for it; in a replay it is there at once.")
    ] = defaults.SETTLE_DELAY
    stream_silent_after: Annotated[
        Duration, doc("A websocket stream that brings nothing for this long is taken for dead; REST takes over.")
    ] = defaults.STREAM_SILENT_AFTER


class Execution(Model, frozen=True, kw_only=True):
    """How orders are sent, watched and settled."""

    entry_time_in_force: Annotated[
        EntryTimeInForce, doc("Entries are limit orders that fill at once as far as they can; the rest is cancelled.")
    ] = defaults.ENTRY_TIME_IN_FORCE
    send_limit: Annotated[Duration, doc("Longest time between an order's claim and its sending.")] = (
        defaults.SEND_LIMIT
    )
    order_time_limit: Annotated[Duration, doc("An order that is not final by then is cancelled and looked up.")] = (
        defaults.ORDER_TIME_LIMIT
    )
    exit_watch_interval: Annotated[
        Duration, doc("Between looks at stops and targets that the exchange does not hold; in a replay, each candle.")
    ] = defaults.EXIT_WATCH_INTERVAL
    max_exit_attempts: Annotated[
        _Attempts, doc("Failed sends of one exit after which it is reported as severe; it is tried on.")
    ] = defaults.MAX_EXIT_ATTEMPTS
    exit_retry_delay: Annotated[Duration, doc("Before an exit's second attempt; doubles with each.")] = (
        defaults.EXIT_RETRY_DELAY
    )
    exit_retry_delay_maximum: Annotated[Duration, doc("The longest such delay.")] = defaults.EXIT_RETRY_DELAY_MAXIMUM
    cancel_retry_delay: Annotated[Duration, doc("Before a cancel without an answer is asked for again.")] = (
        defaults.CANCEL_RETRY_DELAY
    )
    stops_on_exchange: Annotated[bool, doc("Whether stops rest on the exchange where it can hold them.")] = (
        defaults.STOPS_ON_EXCHANGE
    )
    stop_limit_offset: Annotated[
        FractionBelowOne, doc("Fraction below the stop price at which a stop-limit order's limit stands.")
    ] = defaults.STOP_LIMIT_OFFSET
    look_up_interval: Annotated[Duration, doc("Between two look-ups of an order whose outcome is open.")] = (
        defaults.LOOK_UP_INTERVAL
    )
    look_up_attempts: Annotated[_Attempts, doc("Look-ups of an unresolved order before not found is believed.")] = (
        defaults.LOOK_UP_ATTEMPTS
    )
    look_up_margin: Annotated[Duration, doc("Time over which those look-ups are spread.")] = defaults.LOOK_UP_MARGIN
    reappear_window: Annotated[
        Duration, doc("For how long an order that was not found is still looked for, in case it appears later.")
    ] = defaults.REAPPEAR_WINDOW
    inspect_interval: Annotated[
        Duration, doc("Between looks for orders on the exchange that should not be there.")
    ] = defaults.INSPECT_INTERVAL
    fee_price_max_age: Annotated[
        Duration, doc("A price older than this values no fee in a third asset; the fee is said to be unvalued.")
    ] = defaults.FEE_PRICE_MAX_AGE
    sweep_interval: Annotated[Duration, doc("Between sweeps for approved orders that no message announced.")] = (
        defaults.SWEEP_INTERVAL
    )
    reconcile_interval: Annotated[
        Duration, doc("Between comparisons of the exchange's balances with the ledger's.")
    ] = defaults.RECONCILE_INTERVAL


class Runtime(Model, frozen=True, kw_only=True):
    """How the processes start, stop and speak."""

    stop_limit: Annotated[
        Duration, doc("Longest time that an agent takes to finish what is in flight when it is stopped.")
    ] = defaults.STOP_LIMIT
    restart_delay: Annotated[Duration, doc("Before an agent that failed is started again; doubles each time.")] = (
        defaults.RESTART_DELAY
    )
    restart_delay_maximum: Annotated[Duration, doc("The longest such delay.")] = defaults.RESTART_DELAY_MAXIMUM
    restart_attempts: Annotated[
        _Attempts, doc("Restarts of one agent in a row, without a calm time between, before the process gives up.")
    ] = defaults.RESTART_ATTEMPTS
    ledger_retry_delay: Annotated[Duration, doc("Before work is tried again that could not reach the ledger.")] = (
        defaults.LEDGER_RETRY_DELAY
    )
    outbox_interval: Annotated[Duration, doc("Between looks for messages that no commit announced.")] = (
        defaults.OUTBOX_INTERVAL
    )
    spec_interval: Annotated[Duration, doc("Between looks for a changed state.")] = defaults.SPEC_INTERVAL
    probe_interval: Annotated[
        Duration, doc("Between looks whether what an agent needs answers, and whether its keys have changed.")
    ] = defaults.PROBE_INTERVAL
    stuck_after: Annotated[
        Duration, doc("A handler that runs for longer never ends: the process is not alive any more.")
    ] = defaults.STUCK_AFTER
    log_level: Annotated[LogLevel, doc("Least severe events that are logged.")] = defaults.LOG_LEVEL
