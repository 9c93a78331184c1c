"""The spec's messaging, time series and database: made by the operator (`managed`) or there already (`external`).

With neither given it is managed. `tradingbot run` uses its embedded parts and reads only the limits from here.
"""

from typing import Annotated, Literal

import msgspec

from . import defaults
from .durations import Duration
from .exchange import UrlSecretRef
from .model import DERIVED, WHOLE, Model, doc, settle
from .names import DnsSubdomain, Identifier, Image, SecretKey
from .pods import Resources
from .quantities import Bytes
from .schedules import Schedule

VolumesWhenDeleted = Literal["Retain", "Delete"]
MessagingProvider = Literal["StatefulSet", "RabbitmqCluster"]
DatabaseProvider = Literal["StatefulSet", "CloudNativePG"]


class TokenSecretRef(Model, frozen=True, kw_only=True):
    """A Secret of the bot's namespace and the key in it that holds a token."""

    name: Annotated[DnsSubdomain, doc("Name of the Secret.")]
    key: Annotated[SecretKey, doc("Key of the Secret whose value is the token.")] = defaults.TOKEN_KEY


class Storage(Model, frozen=True, kw_only=True):
    """A volume, apart from its size."""

    class_name: Annotated[DnsSubdomain | None, doc("Storage class; by default the cluster's own.")] = None
    when_deleted: Annotated[
        VolumesWhenDeleted, doc("What becomes of it when the bot is deleted, or the last bot of the account.")
    ] = defaults.VOLUMES_WHEN_DELETED


class MessagingStorage(Storage, frozen=True, kw_only=True):
    """RabbitMQ's volume."""

    size: Annotated[Bytes, doc("Size of the volume.")] = defaults.MESSAGING_STORAGE


class TimeSeriesStorage(Storage, frozen=True, kw_only=True):
    """InfluxDB's volume."""

    size: Annotated[Bytes, doc("Size of the volume.")] = defaults.TIME_SERIES_STORAGE


class DatabaseStorage(Storage, frozen=True, kw_only=True):
    """PostgreSQL's volume; it belongs to the account."""

    size: Annotated[Bytes, doc("Size of the volume.")] = defaults.DATABASE_STORAGE


class ManagedMessaging(Model, frozen=True, kw_only=True):
    """A RabbitMQ of the bot's own."""

    provider: Annotated[MessagingProvider, doc("A StatefulSet, or a resource of the RabbitMQ Cluster Operator.")] = (
        defaults.PROVIDER
    )
    image: Annotated[Image | None, doc("Image; by default the one that the operator was tested with.")] = None
    storage: Annotated[MessagingStorage, doc("Its volume.")] = msgspec.field(default_factory=MessagingStorage)
    resources: Annotated[Resources | None, doc("Requests and limits; by default measured ones.")] = None


class ExternalMessaging(Model, frozen=True, kw_only=True):
    """A RabbitMQ that is there already."""

    url_secret_ref: Annotated[UrlSecretRef, WHOLE, doc("Secret with its amqp or amqps address.")]


class Messaging(Model, frozen=True, kw_only=True):
    """The bus between the agents. Not both of managed and external."""

    managed: Annotated[ManagedMessaging | None, doc("Made and kept by the operator; the default.")] = DERIVED
    external: Annotated[ExternalMessaging | None, doc("There already.")] = None
    market_time_to_live: Annotated[
        Duration, doc("How long candles and signals wait in a queue before they are dropped.")
    ] = defaults.MARKET_TIME_TO_LIVE
    market_queue_length: Annotated[
        Annotated[int, msgspec.Meta(ge=10, le=1_000_000)],
        doc("Candles or signals in one queue; the oldest is dropped."),
    ] = defaults.MARKET_QUEUE_LENGTH
    delivery_limit: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=1000)], doc("Deliveries of a message after which it is a dead letter.")
    ] = defaults.DELIVERY_LIMIT
    dead_letter_retention: Annotated[
        Duration, doc("How long messages that could not be handled are kept; `prune` removes older ones.")
    ] = defaults.DEAD_LETTER_RETENTION
    connect_timeout: Annotated[Duration, doc("For one attempt to connect.")] = defaults.MESSAGING_CONNECT_TIMEOUT
    publish_timeout: Annotated[
        Duration, doc("Longest wait until a message is confirmed; later, whoever sends it tries again by itself.")
    ] = defaults.MESSAGING_PUBLISH_TIMEOUT
    reconnect_delay: Annotated[Duration, doc("Before the second attempt to connect; doubles each time.")] = (
        defaults.MESSAGING_RECONNECT_DELAY
    )
    reconnect_delay_maximum: Annotated[Duration, doc("The longest such delay.")] = (
        defaults.MESSAGING_RECONNECT_DELAY_MAXIMUM
    )

    def __post_init__(self) -> None:
        settle(self, "managed", ManagedMessaging() if self.external is None else None)


class ManagedTimeSeries(Model, frozen=True, kw_only=True):
    """An InfluxDB of the bot's own."""

    image: Annotated[Image | None, doc("Image; by default the one that the operator was tested with.")] = None
    storage: Annotated[TimeSeriesStorage, doc("Its volume.")] = msgspec.field(default_factory=TimeSeriesStorage)
    resources: Annotated[Resources | None, doc("Requests and limits; by default measured ones.")] = None


class ExternalTimeSeries(Model, frozen=True, kw_only=True):
    """An InfluxDB v2 that is there already."""

    url_secret_ref: Annotated[UrlSecretRef, WHOLE, doc("Secret with its http or https address.")]
    token_secret_ref: Annotated[TokenSecretRef, WHOLE, doc("Secret with a token that may write and read the bucket.")]


class TimeSeries(Model, frozen=True, kw_only=True):
    """Where candles are kept. Not both of managed and external."""

    managed: Annotated[ManagedTimeSeries | None, doc("Made and kept by the operator; the default.")] = DERIVED
    external: Annotated[ExternalTimeSeries | None, doc("There already.")] = None
    organization: Annotated[Identifier, doc("InfluxDB's organization.")] = defaults.TIME_SERIES_ORG
    bucket: Annotated[Identifier, doc("InfluxDB's bucket.")] = defaults.TIME_SERIES_BUCKET
    retention: Annotated[Duration, doc("How long candles are kept.")] = defaults.TIME_SERIES_RETENTION
    hourly_retention: Annotated[Duration, doc("How long their sums by the hour are kept, in a bucket beside it.")] = (
        defaults.TIME_SERIES_HOURLY_RETENTION
    )
    hourly_lateness: Annotated[
        Duration, doc("How late a candle may come and still be in its hour's sum; counted in whole hours.")
    ] = defaults.TIME_SERIES_HOURLY_LATENESS
    request_timeout: Annotated[Duration, doc("Longest wait for one answer.")] = defaults.TIME_SERIES_REQUEST_TIMEOUT
    retry_delay: Annotated[
        Duration, doc("Before candles that could not be written are tried again; until then they are on disk.")
    ] = defaults.TIME_SERIES_RETRY_DELAY
    spool_length: Annotated[
        Annotated[int, msgspec.Meta(ge=100, le=10_000_000)],
        doc("Candles kept on disk while it is away; the oldest is dropped."),
    ] = defaults.TIME_SERIES_SPOOL_LENGTH

    def __post_init__(self) -> None:
        settle(self, "managed", ManagedTimeSeries() if self.external is None else None)


class Backup(Model, frozen=True, kw_only=True):
    """The ledger's backup."""

    suspend: Annotated[bool, doc("Whether no backup is made.")] = defaults.BACKUP_SUSPENDED
    schedule: Annotated[Schedule, doc("When, as a cron schedule in UTC.")] = defaults.BACKUP_SCHEDULE
    keep: Annotated[Annotated[int, msgspec.Meta(ge=1, le=1000)], doc("How many are kept.")] = defaults.BACKUP_KEEP


class ManagedDatabase(Model, frozen=True, kw_only=True):
    """A PostgreSQL of the account's own; it goes with the account's last bot."""

    provider: Annotated[DatabaseProvider, doc("A StatefulSet, or a resource of CloudNativePG.")] = defaults.PROVIDER
    image: Annotated[Image | None, doc("Image; by default the one that the operator was tested with.")] = None
    storage: Annotated[DatabaseStorage, doc("Its volume.")] = msgspec.field(default_factory=DatabaseStorage)
    resources: Annotated[Resources | None, doc("Requests and limits; by default measured ones.")] = None
    backup: Annotated[Backup, doc("Its backup.")] = msgspec.field(default_factory=Backup)


class ExternalDatabase(Model, frozen=True, kw_only=True):
    """A PostgreSQL that is there already."""

    url_secret_ref: Annotated[UrlSecretRef, WHOLE, doc("Secret with its postgresql address.")]


class History(Model, frozen=True, kw_only=True):
    """How long the ledger keeps what no book rests on. `tradingbot prune` removes what is older."""

    events: Annotated[Duration, doc("Events, apart from severe ones.")] = defaults.HISTORY_EVENTS
    severe_events: Annotated[Duration, doc("Severe events.")] = defaults.HISTORY_SEVERE_EVENTS
    refusals: Annotated[Duration, doc("Refused intents.")] = defaults.HISTORY_REFUSALS
    equity: Annotated[
        Duration,
        doc("Every point of the equity curve, later three a day; never shorter than a protection looks back."),
    ] = defaults.HISTORY_EQUITY


class Database(Model, frozen=True, kw_only=True):
    """Where the ledger is kept. Not both of managed and external."""

    managed: Annotated[ManagedDatabase | None, doc("Made and kept by the operator; the default.")] = DERIVED
    external: Annotated[ExternalDatabase | None, doc("There already.")] = None
    statement_timeout: Annotated[
        Duration, doc("Longest wait for one answer; what takes longer counts as a database that is away.")
    ] = defaults.STATEMENT_TIMEOUT
    history: Annotated[History, doc("How long it keeps its diary; the books are kept for ever.")] = msgspec.field(
        default_factory=History
    )

    def __post_init__(self) -> None:
        settle(self, "managed", ManagedDatabase() if self.external is None else None)
