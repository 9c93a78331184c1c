"""What agents say to each other: versioned, typed and immutable. The contract is written down once, here.

Every message carries its id, the correlation id of its chain, the id of what caused it, the bot, the
producer, and when. Ids are deterministic where the content is, so that a replay or a redelivery is
recognised. ``json_schema()`` publishes the contract (``docs/reference/messages.schema.json``).
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, ClassVar

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg, OrderType, Side

VERSION = 1


class Direction(StrEnum):
    UP = "up"
    DOWN = "down"
    NEUTRAL = "neutral"


class Message(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", gc=False):
    """The envelope. ``topic`` is the routing key's first part; ``key`` is what order is kept by."""

    topic: ClassVar[str]

    id: str
    correlation_id: str
    causation_id: str
    bot: str
    producer: str
    at: datetime
    version: int = VERSION

    @property
    def key(self) -> str:
        raise TypeError(f"{type(self).__name__} has no key")


class CandleClosed(Message, frozen=True, kw_only=True, tag="market.candle"):
    """A bar is complete. ``backfill`` bars are history: they warm up, nobody trades on them."""

    topic: ClassVar[str] = "market.candle"

    candle: Candle
    backfill: bool = False

    @property
    def key(self) -> str:
        return self.candle.symbol


class Reading(msgspec.Struct, frozen=True, gc=False):
    """What one indicator says about one candle. ``confidence`` is in 0..1; neutral readings have 0."""

    indicator: str
    """The indicator's id in the spec."""
    direction: Direction
    confidence: float
    value: float
    """The indicator's main figure (an RSI, a histogram …), for people."""


class SignalRaised(Message, frozen=True, kw_only=True, tag="analysis.signal"):
    """Technical analysis of one candle: the readings, and their plain majority."""

    topic: ClassVar[str] = "analysis.signal"

    symbol: str
    timeframe: str
    candle_id: str
    candle_closed_at: datetime
    close: Decimal
    direction: Direction
    confidence: float
    readings: tuple[Reading, ...]
    atr: Decimal | None = None
    """Average true range in quote currency, for sizing by volatility."""
    backfill: bool = False

    @property
    def key(self) -> str:
        return self.symbol


class RecentSignalsRequest(Message, frozen=True, kw_only=True, tag="analysis.recent.request"):
    """A strategy that has just started asks technical analysis for what it said last."""

    topic: ClassVar[str] = "analysis.recent.request"

    @property
    def key(self) -> str:
        return self.bot


class RecentSignals(Message, frozen=True, kw_only=True, tag="analysis.recent"):
    """The last signals of each symbol, each symbol's oldest first: as many as a strategy remembers."""

    topic: ClassVar[str] = "analysis.recent"

    signals: tuple[SignalRaised, ...]

    @property
    def key(self) -> str:
        return self.bot


class TradeIntent(Message, frozen=True, kw_only=True, tag="trade.intent"):
    """The strategy wishes to trade. ``confidence`` has four places, in 0..1. Risk decides size and whether."""

    topic: ClassVar[str] = "trade.intent"

    symbol: str
    side: Side
    confidence: Decimal
    expected_price: Decimal
    expires_at: datetime
    candle_id: str
    reason: str
    """The fusion or plug-in that decided, for people."""
    indicators: tuple[str, ...] = ()
    """Ids of the indicators that support it; their performance is counted when the trade closes."""
    atr: Decimal | None = None

    @property
    def key(self) -> str:
        return self.symbol


class OrderApproved(Message, frozen=True, kw_only=True, tag="trade.order"):
    """Risk approved an entry, or an exit. It wakes execution; the ledger is the truth."""

    topic: ClassVar[str] = "trade.order"

    symbol: str
    side: Side
    leg: Leg
    client_order_id: str | None
    """``None`` for an exit: execution takes the position over from its stop first, and knows the amount then."""
    amount: Decimal | None = None
    limit_price: Decimal | None = None
    order_type: OrderType | None = None

    @property
    def key(self) -> str:
        return self.symbol


class ExecutionReport(Message, frozen=True, kw_only=True, tag="execution.report"):
    """An order changed, as booked in the ledger."""

    topic: ClassVar[str] = "execution.report"

    symbol: str
    side: Side
    leg: Leg
    client_order_id: str
    state: OrderState
    filled: Decimal
    average_price: Decimal | None
    reason: str | None = None
    closed_trade: str | None = None
    """The round trip that this ended, if any."""
    profit: Decimal | None = None

    @property
    def key(self) -> str:
        return self.symbol


class TickerRequest(Message, frozen=True, kw_only=True, tag="market.ticker.request"):
    """Risk asks data collection for the exchange's last price: risk itself reaches no exchange."""

    topic: ClassVar[str] = "market.ticker.request"

    symbol: str

    @property
    def key(self) -> str:
        return self.symbol


class TickerReply(Message, frozen=True, kw_only=True, tag="market.ticker"):
    topic: ClassVar[str] = "market.ticker"

    symbol: str
    price: Decimal | None
    priced_at: datetime | None
    error: str | None = None

    @property
    def key(self) -> str:
        return self.symbol


AnyMessage = (
    CandleClosed
    | SignalRaised
    | RecentSignalsRequest
    | RecentSignals
    | TradeIntent
    | OrderApproved
    | ExecutionReport
    | TickerRequest
    | TickerReply
)

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyMessage] = msgspec.json.Decoder(AnyMessage)


def encode(message: Message) -> bytes:
    """JSON; decimals are strings, times ISO 8601."""
    return _encoder.encode(message)


def decode(data: bytes | str) -> AnyMessage:
    """The message in ``data``. Raises ``msgspec.ValidationError`` or ``msgspec.DecodeError`` for a poison one."""
    try:
        return _decoder.decode(data)
    except (UnicodeDecodeError, RecursionError) as error:
        raise msgspec.DecodeError(str(error)) from error


def json_schema() -> dict[str, Any]:
    """The published contract of all messages."""
    schema = msgspec.json.schema(AnyMessage)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Messages", **schema}
