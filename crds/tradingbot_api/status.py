"""The status of a TradingBot: what it is, as its writers last told.

Several write it, each with a field manager of its own and only its own fields: the risk agent what the account is
worth and holds (`equity` … `positions`, `factsAt`) and its state (`agents.risk.state`), the execution agent its state
(`agents.execution.state`), the reality check `lastRealityCheck` and its condition, the operator the rest. So every
field is optional, and lists merge by their keys. No amount has a pattern: a status that is refused tells nobody
anything, and equity can be negative.
"""

from typing import Annotated, Literal

import msgspec

from .model import Model, doc, keyed
from .timestamps import Timestamp

ConditionStatus = Literal["True", "False", "Unknown"]
CheckResult = Literal["passed", "failed", "unknown"]

_Word = Annotated[str, msgspec.Meta(max_length=64)]
_Line = Annotated[str, msgspec.Meta(max_length=256)]
_Message = Annotated[str, msgspec.Meta(max_length=4096)]
_Count = Annotated[int, msgspec.Meta(ge=0)]


class Condition(Model, frozen=True, kw_only=True):
    """One question about the bot, and its answer."""

    type: Annotated[
        _Word, doc("Ready, Progressing, Degraded, Trading, RealityCheckPassed or ConfigDrift; each at most once.")
    ]
    status: Annotated[ConditionStatus, doc("True, False, or Unknown.")]
    reason: Annotated[_Line, doc("Why, as one word for programs.")]
    message: Annotated[_Message, doc("Why, for people.")]
    observed_generation: Annotated[_Count | None, doc("Generation of the spec that it was told of.")] = None
    last_transition_time: Annotated[Timestamp, doc("When its status last changed.")]


class AgentStatus(Model, frozen=True, kw_only=True):
    """One agent."""

    ready: Annotated[bool | None, doc("Whether its pod is ready.")] = None
    state: Annotated[_Word | None, doc("The state that it has reached; told by the agent itself.")] = None
    revision: Annotated[_Word | None, doc("Revision of the spec that its pod runs.")] = None
    restarts: Annotated[_Count | None, doc("Restarts of its container.")] = None
    message: Annotated[_Message | None, doc("What is wrong with it.")] = None


class Position(Model, frozen=True, kw_only=True):
    """What the bot holds of a symbol."""

    symbol: Annotated[_Word, doc("The symbol, such as BTC/USDT.")]
    amount: Annotated[_Word | None, doc("Amount, in the base currency.")] = None
    average_price: Annotated[_Word | None, doc("Average price of its entries, in the quote currency.")] = None
    value: Annotated[_Word | None, doc("Value at the last price, in the quote currency.")] = None
    protected: Annotated[
        bool | None, doc("Whether a stop watches it, on the exchange or by the execution agent.")
    ] = None


class LastRealityCheck(Model, frozen=True, kw_only=True):
    """The last audit of the running bot."""

    at: Annotated[Timestamp | None, doc("When it ended.")] = None
    result: Annotated[CheckResult | None, doc("passed, failed, or unknown when evidence was missing.")] = None
    summary: Annotated[_Message | None, doc("What it found, in a line.")] = None
    since: Annotated[Timestamp | None, doc("Since when the result has been this one.")] = None


class DeletionStatus(Model, frozen=True, kw_only=True):
    """How far a delete is."""

    phase: Annotated[_Word | None, doc("What is being done.")] = None
    waiting_for: Annotated[_Message | None, doc("What has to happen before it goes on.")] = None
    since: Annotated[Timestamp | None, doc("When this phase began.")] = None
    deadline: Annotated[Timestamp | None, doc("When it goes on anyway; none waits for a person.")] = None


class ChildrenStatus(Model, frozen=True, kw_only=True):
    """The servers that the bot needs."""

    messaging: Annotated[_Message | None, doc('RabbitMQ: "ready", or what it lacks.')] = None
    time_series: Annotated[_Message | None, doc('InfluxDB: "ready", or what it lacks.')] = None
    database: Annotated[_Message | None, doc('PostgreSQL: "ready", or what it lacks.')] = None


class Status(Model, frozen=True, kw_only=True):
    """What a bot is."""

    observed_generation: Annotated[_Count | None, doc("Generation of the spec that the operator has seen.")] = None
    conditions: Annotated[
        Annotated[tuple[Condition, ...], msgspec.Meta(max_length=20), keyed("type")] | None,
        doc("What is true of it now, and since when."),
    ] = None
    state: Annotated[
        _Word | None, doc("The state that it has reached; Starting or Flattening on the way to one.")
    ] = None
    wanted_state: Annotated[_Word | None, doc("The state that is asked for.")] = None
    ready: Annotated[_Word | None, doc("Agents that are ready, of all, such as 4/5.")] = None
    ready_agents: Annotated[_Count | None, doc("Agents that are ready.")] = None
    revision: Annotated[_Word | None, doc("Revision of the spec that is applied.")] = None
    pending_revision: Annotated[_Word | None, doc("Revision that waits for a person to apply it.")] = None
    agents: Annotated[
        Annotated[dict[str, AgentStatus], msgspec.Meta(max_length=20)] | None, doc("Each agent, by its name.")
    ] = None
    equity: Annotated[_Word | None, doc("What the account is worth, in quoteCurrency, at factsAt.")] = None
    quote_currency: Annotated[_Word | None, doc("Currency of equity.")] = None
    open_positions: Annotated[_Count | None, doc("Positions that are held at factsAt.")] = None
    live_orders: Annotated[_Count | None, doc("Orders that are not final at factsAt.")] = None
    unprotected_positions: Annotated[_Count | None, doc("Positions that no stop watches at factsAt.")] = None
    facts_at: Annotated[Timestamp | None, doc("When the risk agent told equity, orders and positions.")] = None
    positions: Annotated[
        Annotated[tuple[Position, ...], msgspec.Meta(max_length=100), keyed("symbol")] | None,
        doc("What is held."),
    ] = None
    last_reality_check: Annotated[LastRealityCheck | None, doc("The last audit.")] = None
    deletion: Annotated[DeletionStatus | None, doc("How far a delete is.")] = None
    children: Annotated[ChildrenStatus | None, doc("The servers that it needs.")] = None
