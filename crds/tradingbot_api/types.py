"""The TradingBot itself: one file that a laptop runs and a cluster is given."""

from typing import Annotated, Literal

import msgspec

from . import defaults
from .backends import Database, Messaging, TimeSeries
from .durations import Duration
from .exchange import Account, Exchange, SecretRef, Simulated, UrlSecretRef
from .execution import Data, Execution, Runtime
from .model import AS_SET, WHOLE, Model, doc, keyed
from .names import DnsLabel, Image, ObjectName, Text
from .pods import Agents
from .risk import Risk
from .schedules import Schedule
from .strategy import Strategy
from .symbols import Symbol
from .timeframes import Timeframe

API_VERSION = "tradingbot.dev/v1alpha1"
KIND = "TradingBot"

Mode = Literal["paper", "testnet", "live"]
State = Literal["Running", "Paused", "ReduceOnly", "Flatten", "Stopped"]
UpdateStrategy = Literal["Manual", "Auto"]
DeletionPolicy = Literal["Retain", "Flatten", "Block"]
OnSevere = Literal["Report", "ReduceOnly", "Paused"]
NotificationFormat = Literal["json", "slack", "telegram", "email"]
Severity = Literal["info", "warning", "severe"]


class RealityCheck(Model, frozen=True, kw_only=True):
    """The audit of the running bot."""

    suspend: Annotated[bool, doc("Whether no check runs by itself.")] = defaults.REALITY_CHECK_SUSPENDED
    schedule: Annotated[Schedule, doc("When, as a cron schedule in UTC.")] = defaults.REALITY_CHECK_SCHEDULE
    window: Annotated[Duration, doc("How far back evidence is gathered.")] = defaults.REALITY_CHECK_WINDOW
    time_limit: Annotated[Duration, doc("Longest time that one check takes.")] = defaults.REALITY_CHECK_TIME_LIMIT
    retention: Annotated[Duration, doc("How long reports are kept in the ledger.")] = defaults.REALITY_CHECK_RETENTION
    on_severe: Annotated[
        OnSevere,
        doc("What a severe breach of an invariant does: report it, or also hold the bot in ReduceOnly or Paused."),
    ] = defaults.REALITY_CHECK_ON_SEVERE
    credentials_secret_ref: Annotated[
        SecretRef | None, WHOLE, doc("Secret with a key of the exchange that may only read.")
    ] = None
    ping_url_secret_ref: Annotated[
        UrlSecretRef | None,
        WHOLE,
        doc("Secret with an address that is called after each passed check; its silence is the alarm."),
    ] = None


class Notification(Model, frozen=True, kw_only=True):
    """Somewhere to be told."""

    name: Annotated[DnsLabel, doc("Unique in this bot.")]
    format: Annotated[NotificationFormat, doc("What the address speaks.")]
    url_secret_ref: Annotated[UrlSecretRef, WHOLE, doc("Secret with the address, which often is a secret itself.")]
    minimum_severity: Annotated[Severity, doc("Least severe news that is sent.")] = (
        defaults.NOTIFICATION_MINIMUM_SEVERITY
    )
    interval: Annotated[Duration, doc("Least time between two messages about the same.")] = (
        defaults.NOTIFICATION_INTERVAL
    )


class Spec(Model, frozen=True, kw_only=True):
    """What a bot is meant to be."""

    mode: Annotated[
        Mode, doc("paper: no real orders. testnet: the exchange's test money. live: real money. Immutable.")
    ]
    state: Annotated[
        State,
        doc(
            "Running; Paused: no entries, exits and stops work; ReduceOnly: only what makes positions smaller; "
            "Flatten: cancel, sell, stay flat; Stopped: nothing is sent, stops on the exchange stay."
        ),
    ] = defaults.STATE
    live_confirmation: Annotated[
        Text | None,
        doc('For mode live: "trade real money on EXCHANGE/ACCOUNT", with the exchange and account of this spec.'),
    ] = None
    exchange: Annotated[Exchange, doc("Where candles come from and orders go.")]
    account: Annotated[Account, doc("Whose balance is used.")]
    symbols: Annotated[
        Annotated[tuple[Symbol, ...], msgspec.Meta(min_length=1, max_length=50), AS_SET],
        doc("What is traded, as BASE/QUOTE; all quoted in account.quoteCurrency."),
    ]
    timeframe: Annotated[Timeframe, doc("Length of the candles on which decisions are made.")] = defaults.TIMEFRAME
    data: Annotated[Data, doc("How candles are collected.")] = msgspec.field(default_factory=Data)
    strategy: Annotated[Strategy, doc("From candles to decisions.")] = msgspec.field(default_factory=Strategy)
    risk: Annotated[Risk, doc("How large, how protected, and when not at all.")] = msgspec.field(default_factory=Risk)
    execution: Annotated[Execution, doc("How orders are sent, watched and settled.")] = msgspec.field(
        default_factory=Execution
    )
    runtime: Annotated[Runtime, doc("How the processes start, stop and speak.")] = msgspec.field(
        default_factory=Runtime
    )
    update_strategy: Annotated[
        UpdateStrategy,
        doc("Manual: a changed spec waits for a person while positions are open. Auto: it is applied at once."),
    ] = defaults.UPDATE_STRATEGY
    deletion_policy: Annotated[
        DeletionPolicy,
        doc("What a delete does with open positions: Retain leaves, Flatten sells them; Block refuses the delete."),
    ] = defaults.DELETION_POLICY
    messaging: Annotated[Messaging, doc("The bus between the agents.")] = msgspec.field(default_factory=Messaging)
    time_series: Annotated[TimeSeries, doc("Where candles are kept.")] = msgspec.field(default_factory=TimeSeries)
    database: Annotated[Database, doc("Where the ledger is kept.")] = msgspec.field(default_factory=Database)
    reality_check: Annotated[RealityCheck, doc("The audit of the running bot.")] = msgspec.field(
        default_factory=RealityCheck
    )
    notifications: Annotated[
        Annotated[tuple[Notification, ...], msgspec.Meta(max_length=20), keyed("name")],
        doc("Who is told about what."),
    ] = ()
    image: Annotated[Image | None, doc("Image of the agents; by default the operator's own version.")] = None
    agents: Annotated[Agents, doc("Changes of the agents' pods.")] = msgspec.field(default_factory=Agents)

    def __post_init__(self) -> None:
        # Real orders have no simulated fills; a resolved live spec must not carry settings that it would refuse.
        if self.mode == "paper" and self.exchange.simulated is None:
            exchange = msgspec.structs.replace(self.exchange, simulated=Simulated())
            msgspec.structs.force_setattr(self, "exchange", exchange)

    @property
    def history(self) -> int:
        """Candles per symbol to keep back-filled: `data.history`, and never fewer than a decision rests on.

        That is a full window for the newest candle, for as many before it as signals are remembered, and for one
        more: a decision is compared with the one before it. With fewer, a restart could decide otherwise."""
        return max(self.data.history, self.strategy.window + self.strategy.signal_memory_candles + 1)


class Metadata(Model, frozen=True, kw_only=True):
    """The object's own name."""

    name: Annotated[ObjectName, doc("Name of the bot, a DNS label of up to 40 characters.")]
    namespace: Annotated[DnsLabel | None, doc("Namespace; by default the one of the command that applies it.")] = None
    labels: Annotated[dict[str, str], doc("Labels.")] = msgspec.field(default_factory=dict)
    annotations: Annotated[dict[str, str], doc("Annotations.")] = msgspec.field(default_factory=dict)


class TradingBot(Model, frozen=True, kw_only=True):
    """A bot, as declared."""

    api_version: Annotated[Literal["tradingbot.dev/v1alpha1"], doc("Version of this format.")]
    kind: Annotated[Literal["TradingBot"], doc("Always TradingBot.")]
    metadata: Annotated[Metadata, doc("Its name.")]
    spec: Annotated[Spec, doc("What it is meant to be.")]
