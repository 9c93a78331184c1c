"""What an audit knows: gathered from five places at one moment, and judged without asking any of them again.

Each place is either known or ``Missing`` with the reason; a check that needs one that is missing is ``unknown``,
never passed. Everything that the checks read is here, so that a check is a function of its arguments.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TypeAlias, TypeVar

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.orders import Order, Reservation
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import BotState, Mode
from tradingbot_agents.exchange.port import Capabilities, ExchangeBalance, ExchangeOrder, ExchangeTrade
from tradingbot_agents.ledger.port import Books, EquityPoint, Hold, Invariant, KnownRules, Trade

T = TypeVar("T")


class Source(StrEnum):
    """Where evidence comes from."""

    LEDGER = "ledger"
    ACCOUNT = "account"
    """The exchange, as the account's owner sees it: balances, orders, trades."""
    MARKET = "market"
    """The exchange, as everybody sees it: market rules, candles, its clock."""
    CANDLES = "candles"
    """The candle store (InfluxDB)."""
    MESSAGING = "messaging"
    """RabbitMQ."""
    AGENTS = "agents"
    """The agents' pods, or processes."""
    LOGS = "logs"


class Missing(msgspec.Struct, frozen=True):
    """A place that could not be looked at."""

    why: str
    wanted: bool = True
    """``False``: it was not asked for (such as an account without a key for the check), so its absence is said and is
    no finding."""


Known: TypeAlias = T | Missing


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What the bot is meant to be, as far as it is judged by it. From the spec, without defaults of its own."""

    bot: str
    mode: Mode
    exchange: str
    symbols: tuple[str, ...]
    quote: str
    timeframe: timedelta
    poll_interval: timedelta
    feed: str
    """``rest`` or ``websocket``."""
    maximum_price_age: timedelta
    rules_interval: timedelta
    """How often execution reads the market rules anew."""
    reconcile_interval: timedelta
    """How often execution compares the account with the exchange."""
    protect_within: timedelta
    """How long a position may be without a stop."""
    resolve_within: timedelta
    """How long an order may be unresolved."""
    send_within: timedelta
    """How long an approved order may wait to be sent."""
    slippage: Decimal
    """Of the worst price of an entry, as a fraction of the price that was decided on."""
    has_stop: bool
    """Whether positions are to be protected at all."""
    stops_on_exchange: bool
    """Whether stops are to rest on the exchange, where it can hold them; otherwise execution watches the price."""
    fees: Decimal | None
    """The taker's fee that is expected, as a fraction; ``None``: by the market rules."""
    backlog: int
    """Messages that may wait in a queue of orders, intents or reports."""

    @property
    def margin(self) -> timedelta:
        """How long before the window candles are needed: the first approval in it may rest on a bar that closed a
        price's age before, and a bar more is for the one that was under way."""
        return self.maximum_price_age + 2 * self.timeframe


class Heard(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of event of one agent, counted: those with the same ``key`` together."""

    agent: str
    name: str
    key: tuple[str, ...]
    """The values of the fields that ``EVENTS_HEARD`` groups it by."""
    count: int
    first: datetime
    last: datetime
    sample: Mapping[str, object]
    """The fields of the last one."""


class AgentLog(msgspec.Struct, frozen=True, kw_only=True):
    """What one agent's log says, of its running revision only."""

    agent: str
    counts_from: datetime
    """Nothing that is older counts: its revision began then, or the window does."""
    begins: datetime | None
    """When its first line was written; ``None``: there is no line."""
    ends: datetime | None
    complete: bool
    """Whether it reaches back to ``counts_from``, and was read to its end."""
    lacks: str = ""
    """Why it is not complete, in words."""
    lines: int
    """That were read; those of all agents, when one process wrote them."""
    heard: tuple[Heard, ...]
    errors: int = 0
    """Lines that tell an error which is no event of ``EVENTS_HEARD``: tracebacks, a library's words."""
    newest_lines: tuple[str, ...] = ()
    """The newest of them."""


class Logs(msgspec.Struct, frozen=True, kw_only=True):
    agents: Mapping[str, AgentLog | Missing]


class Epochs(msgspec.Struct, frozen=True, kw_only=True):
    """Who writes."""

    risk: int
    risk_since: datetime | None
    execution: int
    execution_since: datetime | None


class LedgerEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One snapshot of the ledger. Orders, fills and trades are those of the window, and every order that has not
    ended; of all bots of the account where it says so."""

    read_at: datetime
    """By the database's clock."""
    asked_at: datetime
    """By ours, when it was read."""
    schema: str | None
    """What is wrong with its schema; ``None``: it is this version's."""
    opened_at: datetime | None
    books: Books
    """Of the account."""
    invariants: tuple[Invariant, ...]
    bots: tuple[str, ...]
    """All that write on this account."""
    positions: Mapping[str, Position]
    """Of this bot, by symbol."""
    account_positions: Mapping[str, Decimal]
    """By symbol, all bots together."""
    orders: tuple[Order, ...]
    """Of the account, newest first."""
    reservations: tuple[Reservation, ...]
    """Held ones of the account."""
    fills: tuple[Fill, ...]
    """Of the account."""
    trades: tuple[Trade, ...]
    refusals: Mapping[str, int]
    """Intents of this bot that were refused in the window, by reason."""
    rules: Mapping[str, KnownRules]
    heard: tuple[Heard, ...]
    """Durable events of this bot, of the window."""
    revisions: Mapping[str, datetime]
    """Since when each agent that writes here runs its present revision; a plain restart does not change it."""
    epochs: Epochs
    hold: Hold | None
    equity: tuple[EquityPoint, ...]
    outside: Mapping[str, Decimal]
    """The sum of outside movements by asset."""
    profit_told: Decimal
    """Realised profit of all positions of this bot, as they say it themselves."""
    profit_counted: Decimal
    """The same, counted again from all fills."""


class AccountEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """The account, as the exchange tells it."""

    read_at: datetime
    balances: Mapping[str, ExchangeBalance]
    open_orders: tuple[ExchangeOrder, ...]
    looked_up: Mapping[str, ExchangeOrder | None]
    """By client order id, orders that the ledger has as live and that are not among the open ones. ``None``: the
    exchange knows none."""
    trades: tuple[ExchangeTrade, ...]
    """Of the window and a margin before it, in every symbol that the account trades."""
    trades_since: datetime


class MarketEvidence(msgspec.Struct, frozen=True, kw_only=True):
    read_at: datetime
    rules: Mapping[str, SymbolRules]
    candles: Mapping[str, Sequence[Candle]]
    """The exchange's own closed bars of the window and a margin before it, oldest first, by symbol."""
    clock_offset: timedelta | None
    """Of the exchange's clock against ours; ``None``: it does not tell."""
    capabilities: Capabilities | None = None
    """What orders it takes for the bot's symbols, as execution finds it; ``None``: nobody says."""


class CandleEvidence(msgspec.Struct, frozen=True, kw_only=True):
    read_at: datetime
    candles: Mapping[str, Sequence[Candle]]
    """What the store has of the window and a margin before it, oldest first, by symbol; of a symbol that has nothing
    there, the newest that it has at all."""
    since: datetime | None = None
    """From when on it was asked; ``None``: from the margin on."""


class QueueEvidence(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    """In the topology."""
    owner: str
    messages: int
    """That wait."""
    consumers: int
    durable: bool
    """Whether its messages are kept until they are dealt with."""


class Letter(msgspec.Struct, frozen=True, kw_only=True):
    """A dead letter."""

    queue: str
    message_id: str
    reason: str
    at: datetime


class MessagingEvidence(msgspec.Struct, frozen=True, kw_only=True):
    read_at: datetime
    queues: tuple[QueueEvidence, ...]
    absent: tuple[str, ...]
    """Queues of the topology that the broker does not have."""
    dead_letters: tuple[Letter, ...]
    """The first of them."""
    dead_letters_waiting: int = 0
    """How many there are, when there are more than were read."""


class AgentEvidence(msgspec.Struct, frozen=True, kw_only=True):
    """One agent's pod or process."""

    agent: str
    place: str
    """The pod's name, or what it is called."""
    revision: str | None
    ready: bool
    why_not: str
    """In words, when it is not ready."""
    restarts: int
    restarted_at: datetime | None
    """When its container ended last."""
    ended: str
    """Why it ended then, in words; empty: it never did."""
    started_at: datetime | None
    """When the pod began."""


class AgentsEvidence(msgspec.Struct, frozen=True, kw_only=True):
    read_at: datetime
    wanted_revision: str | None
    """That the operator has applied; ``None``: nobody says."""
    pods: tuple[AgentEvidence, ...]
    """Every one that there is: of an agent that should have one, there may be none, or two."""
    state: BotState | None
    """That is asked for."""


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """All of it. ``since`` is where the window begins."""

    at: datetime
    since: datetime
    settings: Settings
    ledger: Known[LedgerEvidence]
    account: Known[AccountEvidence]
    market: Known[MarketEvidence]
    candles: Known[CandleEvidence]
    messaging: Known[MessagingEvidence]
    agents: Known[AgentsEvidence]
    logs: Known[Logs]

    def of(self, source: Source) -> object:
        found: object = getattr(self, source.value)
        return found

    def missing(self, sources: Iterable[Source]) -> list[tuple[Source, Missing]]:
        return [(each, found) for each in sources if isinstance(found := self.of(each), Missing)]

    def heard(self, *names: str) -> list[Heard]:
        """Events of these names, each told once: an agent that writes to the ledger is heard there, the others are
        heard in their logs. Oldest first."""
        found: list[Heard] = []
        written: set[str] = set()
        if isinstance(self.ledger, LedgerEvidence):
            found += [each for each in self.ledger.heard if each.name in names]
            written = set(self.ledger.revisions)
        if isinstance(self.logs, Logs):
            for agent, log in self.logs.agents.items():
                if isinstance(log, AgentLog) and agent not in written:
                    found += [each for each in log.heard if each.name in names]
        return sorted(found, key=lambda each: each.first)

    def counts_from(self, agent: str) -> datetime:
        """Since when what this agent tells counts: its running revision began then, or the window does."""
        times = [self.since]
        if isinstance(self.ledger, LedgerEvidence) and agent in self.ledger.revisions:
            times.append(self.ledger.revisions[agent])
        if isinstance(self.logs, Logs):
            log = self.logs.agents.get(agent)
            if isinstance(log, AgentLog):
                times.append(log.counts_from)
        return max(times)


def known(found: Known[T]) -> T:
    """For a check that has said that it needs it: it is only judged when it is there."""
    assert not isinstance(found, Missing), f"a check reads what it does not need: {found.why}"
    return found


EVENTS_HEARD: Mapping[str, tuple[str, ...]] = {
    "agent_restarted": ("restarted",),
    "agent_started": ("revision",),
    "candle_gap": ("symbol",),
    "candle_refused": ("symbol",),
    "candles_dropped": (),
    "candles_spooled": (),
    "dependency_away": ("what",),
    "exit_failing": ("symbol", "leg"),
    "feed_recovered": ("symbol",),
    "feed_stale": ("symbol",),
    "fenced_off": ("role",),
    "message_dead_lettered": ("queue",),
    "order_reappeared": ("client_order_id",),
    "order_rejected": ("symbol", "leg"),
    "order_resolved": ("client_order_id",),
    "order_unknown": ("client_order_id",),
    "order_unresolved": ("client_order_id",),
    "outside_movement_booked": ("asset", "amount"),
    "outside_movement_reversed": ("asset", "amount"),
    "overdrawn": ("asset",),
    "position_protected": ("symbol", "unprotected_seconds"),
    "position_unprotected": ("symbol",),
    "price_fallback_alert": ("symbol", "source"),
    "price_fallback_used": ("symbol", "source"),
    "reconciliation_delayed": (),
    "stream_lost": ("symbol", "stream"),
    "stream_recovered": ("symbol", "stream"),
}
"""Events that are evidence, and the fields by which they are counted together."""
