"""The small vocabulary that every room shares: sides, order types, legs, modes, and the bot's state."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

ZERO = Decimal(0)
ONE = Decimal(1)

BOOKING_PLACES = Decimal("1e-12")
"""Divisions in the books (average cost, share of a cost) are cut to twelve places, so that SQL and Python agree."""


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"

    @property
    def opposite(self) -> Side:
        return Side.SELL if self is Side.BUY else Side.BUY


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP_MARKET = "stop_market"
    """Rests until the last price reaches ``stop_price``, then sells at market."""
    STOP_LIMIT = "stop_limit"
    """Rests until the last price reaches ``stop_price``, then becomes a limit order at ``limit_price``."""


class TimeInForce(StrEnum):
    GTC = "gtc"
    IOC = "ioc"


class Leg(StrEnum):
    """What an order is for. Together with its cause and attempt it names the order (see ``ids``)."""

    ENTRY = "entry"
    STOP = "stop"
    TARGET = "target"
    EXIT = "exit"
    """A SELL that the strategy asked for."""
    FLATTEN = "flatten"

    @property
    def is_exit(self) -> bool:
        return self is not Leg.ENTRY


class Mode(StrEnum):
    PAPER = "paper"
    TESTNET = "testnet"
    LIVE = "live"


class BotState(StrEnum):
    """What a person asked of the bot, from the most to the least permissive."""

    RUNNING = "Running"
    PAUSED = "Paused"
    """No entries; exits and stops work."""
    REDUCE_ONLY = "ReduceOnly"
    """Only what makes positions smaller: open entries are cancelled too."""
    FLATTEN = "Flatten"
    """Cancel, sell, stay flat."""
    STOPPED = "Stopped"
    """Agents up, nothing sent; stops on the exchange are left in place."""

    @property
    def strictness(self) -> int:
        return _STRICTNESS[self]

    @property
    def allows_entries(self) -> bool:
        return self is BotState.RUNNING

    @property
    def allows_exits(self) -> bool:
        return self is not BotState.STOPPED

    @property
    def cancels_entries(self) -> bool:
        return self in (BotState.REDUCE_ONLY, BotState.FLATTEN)


_STRICTNESS = {state: rank for rank, state in enumerate(BotState)}


def stricter(first: BotState, second: BotState) -> BotState:
    """The stricter of what the spec says and what a hold in the ledger says."""
    return first if first.strictness >= second.strictness else second


TIMEFRAMES: dict[str, timedelta] = {
    "1m": timedelta(minutes=1),
    "3m": timedelta(minutes=3),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "30m": timedelta(minutes=30),
    "1h": timedelta(hours=1),
    "2h": timedelta(hours=2),
    "4h": timedelta(hours=4),
    "6h": timedelta(hours=6),
    "8h": timedelta(hours=8),
    "12h": timedelta(hours=12),
    "1d": timedelta(days=1),
}
"""Bar lengths, by the name that exchanges give them."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def floor_time(at: datetime, step: timedelta) -> datetime:
    """The latest multiple of ``step`` since the Unix epoch that is not after ``at``: a bar's open."""
    return at - (at - _EPOCH) % step


def from_millis(millis: int) -> datetime:
    return _EPOCH + timedelta(milliseconds=millis)


def to_millis(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(milliseconds=1)


def cut(value: Decimal) -> Decimal:
    """``value`` cut towards zero to the places of the books."""
    return value.quantize(BOOKING_PLACES, rounding=ROUND_DOWN)


def split_symbol(symbol: str) -> tuple[str, str]:
    """``"BTC/USDT"`` as ``("BTC", "USDT")``."""
    base, _, quote = symbol.partition("/")
    if not base or not quote:
        raise ValueError(f"symbol {symbol!r} is not of the form BASE/QUOTE, such as BTC/USDT")
    return base, quote
