"""What the books of a simulated exchange say, as a document: an audit asks for it and compares it with the ledger.

It is read beside the exchange that keeps them, plays nothing and changes nothing. It goes from one process to another
as JSON, with amounts and prices as text, and has a version, for the two may be of different releases for a while.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.values import ZERO, Side, split_symbol
from tradingbot_agents.exchange.books import BookOrder
from tradingbot_agents.exchange.port import ExchangeBalance, ExchangeOrder, ExchangeTrade
from tradingbot_agents.exchange.state import StateStore

VERSION = 1

IDENTITY = "account"
"""The fact that says whose books they are: account and bot. A replay's do not say it."""

MOST_TRADES = 5_000
"""In one document; some 300 bytes each."""


class PaperBooks(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    account: str
    """Empty: of a replay."""
    read_at: datetime
    balances: Mapping[str, ExchangeBalance]
    open_orders: tuple[ExchangeOrder, ...]
    """Oldest first."""
    looked_up: Mapping[str, ExchangeOrder | None]
    """By client order id, those that were asked for and are not open. ``None``: there is none."""
    trades: tuple[ExchangeTrade, ...]
    """Of all symbols, oldest first."""
    trades_since: datetime


class BooksUnreadable(Exception):
    """What came is no such document, or one of another version."""


class _Versioned(msgspec.Struct, frozen=True):
    version: int


def statement_of(
    store: StateStore, *, since: datetime, orders: Sequence[tuple[str, str]], at: datetime
) -> PaperBooks:
    """The trades from ``since`` on, or the newest ones; of ``orders`` (symbol and client order id) what became of
    them. Raises ``ExchangeStateError``."""
    resting = store.open_orders()
    trades = store.newest_trades(since, MOST_TRADES + 1)
    if len(trades) > MOST_TRADES:
        # Of one moment all are told, or none.
        since = trades[-1].at + timedelta(microseconds=1)
        trades = [trade for trade in trades if trade.at >= since]
    open_ids = {order.client_order_id for order in resting}
    found = {name: store.newest_order(symbol, name) for symbol, name in orders if name not in open_ids}
    return PaperBooks(
        account=store.facts().get(IDENTITY, ""),
        read_at=at,
        balances=_balances(store.totals(), resting),
        open_orders=tuple(order.told() for order in resting),
        looked_up={name: None if order is None else order.told() for name, order in found.items()},
        trades=tuple(trade.told() for trade in reversed(trades)),
        trades_since=since,
    )


def to_json(books: PaperBooks) -> bytes:
    return msgspec.json.encode(books)


def of_json(data: bytes) -> PaperBooks:
    """Raises ``BooksUnreadable``."""
    try:
        version = msgspec.json.decode(data, type=_Versioned).version
        if version != VERSION:
            raise BooksUnreadable(f"the books are of version {version}, but this release reads {VERSION}")
        return msgspec.json.decode(data, type=PaperBooks)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BooksUnreadable(f"the books are not understood: {error}") from error


def _balances(totals: Mapping[str, Decimal], resting: Sequence[BookOrder]) -> dict[str, ExchangeBalance]:
    used: dict[str, Decimal] = {}
    for order in resting:
        base, quote = split_symbol(order.symbol)
        asset = base if order.side is Side.SELL else quote
        used[asset] = used.get(asset, ZERO) + order.locked
    return {
        asset: ExchangeBalance(totals.get(asset, ZERO) - used.get(asset, ZERO), used.get(asset, ZERO))
        for asset in sorted({*totals, *used})
    }
