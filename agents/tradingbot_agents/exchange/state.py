"""Where the simulated exchange keeps what a kill must not take: its books, its place in the candles, its identity.

Two files, because two things are asked. Books change seldom and must change whole: they are in SQLite, which the
standard library has, gives a transaction per event, needs no journal or recovery of ours, and keeps finished
orders out of memory. The place changes with every bar and must cost next to nothing: it is one small ``pwrite``,
without ``fsync``. A killed process loses neither. After a power cut the place may be older than the books; the
transaction of a bar that filled something carries the place too, and the later one counts.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.values import OrderType, Side, TimeInForce, from_millis, to_millis
from tradingbot_agents.exchange.books import BookOrder, BookTrade
from tradingbot_agents.exchange.port import ExchangeOrderState

_BOOKS = "books.sqlite"
_LOG = f"{_BOOKS}-wal"
"""SQLite's write-ahead log. Its head changes whenever it is begun anew."""
_LOG_HEAD = 32
_COPIES = 10
"""Attempts to copy the books while they are written."""

_PLACE_FILE = "place"
PLACE = "place"
"""The fact that has the place of the bar that filled something last, in milliseconds."""

_PLACE_BYTES = 20
_FORMAT = "1"

_SCHEMA = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE balances (asset TEXT PRIMARY KEY, total TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE orders (
    id INTEGER PRIMARY KEY, client_order_id TEXT NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL,
    type TEXT NOT NULL, time_in_force TEXT NOT NULL, amount TEXT NOT NULL, limit_price TEXT, stop_price TEXT,
    at INTEGER NOT NULL, state TEXT NOT NULL, filled TEXT NOT NULL, cost TEXT NOT NULL, fills INTEGER NOT NULL,
    triggered INTEGER NOT NULL, locked TEXT NOT NULL);
CREATE INDEX orders_client_order_id ON orders (client_order_id);
CREATE INDEX orders_open ON orders (id) WHERE state = 'open';
CREATE TABLE trades (
    id INTEGER PRIMARY KEY, order_id INTEGER NOT NULL, symbol TEXT NOT NULL, side TEXT NOT NULL, price TEXT NOT NULL,
    amount TEXT NOT NULL, fee_asset TEXT NOT NULL, fee TEXT NOT NULL, at INTEGER NOT NULL);
CREATE INDEX trades_order_id ON trades (order_id);
CREATE TABLE taken (symbol TEXT PRIMARY KEY, bar INTEGER NOT NULL, volume TEXT NOT NULL) WITHOUT ROWID;
"""


class ExchangeStateError(Exception):
    """The simulated exchange can not read or write its state, or the state belongs to another run."""


class ExchangeStateInUse(ExchangeStateError):
    """Another process has it: it can be opened when that one has ended."""


class Taken(msgspec.Struct, frozen=True):
    """What orders have already taken of the volume of the bar that closed at ``bar``."""

    bar: datetime
    volume: Decimal


class StateStore:
    """The state directory of one simulated exchange. One process at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._connection: sqlite3.Connection | None = None
        self._place = -1

    @staticmethod
    def exists(directory: Path) -> bool:
        """Whether a run was begun there."""
        return (directory / _BOOKS).exists()

    @classmethod
    @contextmanager
    def copied(cls, directory: Path) -> Iterator[StateStore]:
        """Its state as of now, to be looked at, also while another process has it: a copy, opened for as long as this
        lasts. Raises ``ExchangeStateError`` when there is none, or it can not be copied.

        Not for books that this process itself has open: reading their file would let go of its locks.
        """
        with TemporaryDirectory(prefix="tradingbot-books-") as folder:
            _copy(directory, Path(folder))
            store = cls(Path(folder))
            store.open()
            try:
                yield store
            finally:
                store.close()

    def create(self, facts: Mapping[str, str], totals: Mapping[str, Decimal]) -> None:
        """Begin a run: whole or not at all, even when killed in between."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            unborn = self._directory / f"{_BOOKS}.new"
            unborn.unlink(missing_ok=True)
            connection = sqlite3.connect(unborn, isolation_level=None)
            try:
                connection.executescript("PRAGMA synchronous = FULL;" + _SCHEMA)
                connection.execute("BEGIN")
                connection.executemany("INSERT INTO facts VALUES (?, ?)", [*facts.items(), ("format", _FORMAT)])
                connection.executemany(
                    "INSERT INTO balances VALUES (?, ?)", [(asset, str(total)) for asset, total in totals.items()]
                )
                connection.execute("COMMIT")
            finally:
                connection.close()
            unborn.replace(self._directory / _BOOKS)
        except (OSError, sqlite3.Error) as error:
            raise self._failed("be written", error) from error

    def open(self) -> None:
        """Take the directory. Raises ``ExchangeStateError`` when another process has it, or it is damaged."""
        try:
            connection = sqlite3.connect(self._directory / _BOOKS, isolation_level=None, timeout=0)
            self._connection = connection
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("COMMIT")
            self._place = os.open(self._directory / _PLACE_FILE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except (OSError, sqlite3.Error) as error:
            self.close()
            raise self._failed("be opened", error) from error
        if (found := self.facts().get("format")) != _FORMAT:
            self.close()
            raise ExchangeStateError(
                f"{self._directory}: its format is {found}, but this version reads {_FORMAT}; "
                f"use the version that made it, or another data directory"
            )

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._place >= 0:
            os.close(self._place)
            self._place = -1

    def facts(self) -> dict[str, str]:
        return dict(self._rows("SELECT name, value FROM facts"))

    def note(self, name: str, value: str) -> None:
        """Write one fact down, durably."""
        try:
            self._connected().execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))
        except sqlite3.Error as error:
            raise self._failed("be written", error) from error

    def totals(self) -> dict[str, Decimal]:
        return {asset: Decimal(total) for asset, total in self._rows("SELECT asset, total FROM balances")}

    def open_orders(self) -> list[BookOrder]:
        """Oldest first."""
        return [_order(row) for row in self._rows("SELECT * FROM orders WHERE state = 'open' ORDER BY id")]

    def newest_order(self, symbol: str, client_order_id: str) -> BookOrder | None:
        rows = self._rows(
            "SELECT * FROM orders WHERE client_order_id = ? AND symbol = ? ORDER BY id DESC LIMIT 1",
            (client_order_id, symbol),
        )
        return _order(rows[0]) if rows else None

    def trades(self, symbol: str, order_id: int) -> list[BookTrade]:
        rows = self._rows("SELECT * FROM trades WHERE order_id = ? AND symbol = ? ORDER BY id", (order_id, symbol))
        return [_trade(row) for row in rows]

    def trades_since(self, symbol: str, since: datetime) -> list[BookTrade]:
        rows = self._rows("SELECT * FROM trades WHERE symbol = ? AND at >= ? ORDER BY id", (symbol, _micros(since)))
        return [_trade(row) for row in rows]

    def all_trades(self) -> list[BookTrade]:
        return [_trade(row) for row in self._rows("SELECT * FROM trades ORDER BY id")]

    def newest_trades(self, since: datetime, most: int) -> list[BookTrade]:
        """The last ``most`` of all symbols that were made at or after ``since``, newest first."""
        rows = self._rows("SELECT * FROM trades WHERE at >= ? ORDER BY id DESC LIMIT ?", (_micros(since), most))
        return [_trade(row) for row in rows]

    def last_ids(self) -> tuple[int, int]:
        """The last order id and the last trade id; 0 before the first."""
        ((order, trade),) = self._rows("SELECT (SELECT max(id) FROM orders), (SELECT max(id) FROM trades)")
        return order or 0, trade or 0

    def taken(self) -> dict[str, Taken]:
        return {
            symbol: Taken(from_millis(bar), Decimal(volume))
            for symbol, bar, volume in self._rows("SELECT symbol, bar, volume FROM taken")
        }

    def place(self) -> datetime | None:
        """The close of the last bar that has been traded against, or ``None`` before the first."""
        try:
            written = os.pread(self._place, _PLACE_BYTES, 0)
        except OSError as error:
            raise self._failed("be read", error) from error
        places = [
            int(text) for text in (written.decode("ascii", "replace"), self.facts().get(PLACE, "")) if text.isdigit()
        ]
        return from_millis(max(places)) if places else None

    def write_place(self, place: datetime) -> None:
        """Survives the end of the process; costs a microsecond or two."""
        try:
            os.pwrite(self._place, b"%020d" % to_millis(place), 0)
        except OSError as error:
            raise self._failed("be written", error) from error

    def write(
        self,
        *,
        totals: Mapping[str, Decimal],
        orders: Iterable[BookOrder],
        trades: Iterable[BookTrade],
        taken: Mapping[str, Taken],
        facts: Mapping[str, str],
    ) -> None:
        """One event, whole and durable, with the facts that it makes true."""
        connection = self._connected()
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(
                "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) "
                "ON CONFLICT (id) DO UPDATE SET state = excluded.state, filled = excluded.filled, "
                "cost = excluded.cost, fills = excluded.fills, triggered = excluded.triggered, "
                "locked = excluded.locked",
                [_order_row(order) for order in orders],
            )
            connection.executemany(
                "INSERT INTO trades VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", [_trade_row(trade) for trade in trades]
            )
            connection.executemany(
                "INSERT OR REPLACE INTO balances VALUES (?, ?)",
                [(asset, str(total)) for asset, total in totals.items()],
            )
            connection.executemany(
                "INSERT OR REPLACE INTO taken VALUES (?, ?, ?)",
                [(symbol, to_millis(share.bar), str(share.volume)) for symbol, share in taken.items()],
            )
            connection.executemany("INSERT OR REPLACE INTO facts VALUES (?, ?)", list(facts.items()))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise self._failed("be written", error) from error

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[Any]:
        try:
            return self._connected().execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise self._failed("be read", error) from error

    def _connected(self) -> sqlite3.Connection:
        if self._connection is None:
            raise ExchangeStateError(f"{self._directory}: the simulated exchange is closed")
        return self._connection

    def _failed(self, what: str, error: Exception) -> ExchangeStateError:
        text = str(error)
        if "locked" in text:
            return ExchangeStateInUse(
                f"{self._directory}: another process has this simulated exchange open; wait for it to end, "
                f"or use another data directory"
            )
        remedy = (
            "make room on the disk" if "full" in text or "No space" in text else "check the directory and its rights"
        )
        return ExchangeStateError(
            f"{self._directory}: the simulated exchange's state can not {what} ({text}); {remedy} and start again"
        )


def _copy(directory: Path, into: Path) -> None:
    """SQLite's own ways to read beside a writer need its locks, and the writer has them all. But what it writes goes
    to the log first: pages that were copied while they were written are whole in the log, if that is copied after
    them and was not begun anew meanwhile."""
    try:
        for _ in range(_COPIES):
            before = _sign(directory)
            shutil.copyfile(directory / _BOOKS, into / _BOOKS)
            for name in (_LOG, _PLACE_FILE):
                (into / name).unlink(missing_ok=True)
                if (directory / name).exists():
                    shutil.copyfile(directory / name, into / name)
            if _sign(directory) == before:
                return
    except FileNotFoundError as error:
        raise ExchangeStateError(f"{directory}: there are no books of a simulated exchange") from error
    except OSError as error:
        raise ExchangeStateError(f"{directory}: the books can not be copied ({error.strerror})") from error
    raise ExchangeStateError(f"{directory}: the books change faster than they can be copied; try again")


def _sign(directory: Path) -> tuple[bytes, int]:
    """Changes when the log is begun anew, or the books are written."""
    log = directory / _LOG
    head = b""
    if log.exists():
        with log.open("rb") as file:
            head = file.read(_LOG_HEAD)
    return head, (directory / _BOOKS).stat().st_mtime_ns


_EPOCH = from_millis(0)


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // timedelta(microseconds=1)


def _text(value: Decimal | None) -> str | None:
    return None if value is None else str(value)


def _order_row(order: BookOrder) -> tuple[object, ...]:
    return (
        order.id,
        order.client_order_id,
        order.symbol,
        order.side.value,
        order.type.value,
        order.time_in_force.value,
        str(order.amount),
        _text(order.limit_price),
        _text(order.stop_price),
        _micros(order.at),
        order.state.value,
        str(order.filled),
        str(order.cost),
        order.fills,
        int(order.triggered),
        str(order.locked),
    )


def _order(row: tuple[Any, ...]) -> BookOrder:
    """The columns of ``orders``, in the order of the table."""
    (
        id_,
        client,
        symbol,
        side,
        type_,
        force,
        amount,
        limit,
        stop,
        at,
        state,
        filled,
        cost,
        fills,
        triggered,
        locked,
    ) = row
    return BookOrder(
        id=id_,
        client_order_id=client,
        symbol=symbol,
        side=Side(side),
        type=OrderType(type_),
        time_in_force=TimeInForce(force),
        amount=Decimal(amount),
        limit_price=None if limit is None else Decimal(limit),
        stop_price=None if stop is None else Decimal(stop),
        at=_EPOCH + timedelta(microseconds=at),
        state=ExchangeOrderState(state),
        filled=Decimal(filled),
        cost=Decimal(cost),
        fills=fills,
        triggered=bool(triggered),
        locked=Decimal(locked),
    )


def _trade_row(trade: BookTrade) -> tuple[object, ...]:
    return (
        trade.id,
        trade.order_id,
        trade.symbol,
        trade.side.value,
        str(trade.price),
        str(trade.amount),
        trade.fee.asset,
        str(trade.fee.amount),
        _micros(trade.at),
    )


def _trade(row: tuple[Any, ...]) -> BookTrade:
    """The columns of ``trades``, in the order of the table."""
    id_, order_id, symbol, side, price, amount, fee_asset, fee, at = row
    return BookTrade(
        id=id_,
        order_id=order_id,
        symbol=symbol,
        side=Side(side),
        price=Decimal(price),
        amount=Decimal(amount),
        fee=Fee(fee_asset, Decimal(fee)),
        at=_EPOCH + timedelta(microseconds=at),
    )
