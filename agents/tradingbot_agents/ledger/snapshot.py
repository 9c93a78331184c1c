"""The ledger at one moment, of all bots of an account: what an audit reads, in one transaction that writes nothing.

Its connection is its own and is dropped at once when something goes wrong, so that a server that hangs holds nobody
up. How many rows are read is bounded, and what is more is an error: evidence with a part of the rows would accuse
agents of what they did not do.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
import msgspec

from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.orders import Order, Reservation
from tradingbot_agents.ledger import invariants, migrate, rows
from tradingbot_agents.ledger.database import SESSION, Connection, open_connection
from tradingbot_agents.ledger.port import AccountKey, EquityPoint, Invariant, LedgerError, Role, Trade
from tradingbot_agents.ledger.reading import LedgerReader

T = TypeVar("T")

_BATCH = 1000
"""Fills that are on their way at once, when all are read."""

_GOODBYE = 2.0
"""Seconds."""


class TooManyRows(LedgerError):
    """There is more in the window than may be read at once."""

    def __init__(self, what: str, most: int) -> None:
        super().__init__(
            f"there are more than {most} {what} in the window, which is the most that is read:"
            " shorten spec.realityCheck.window"
        )


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """Events of one kind, counted."""

    agent: str
    name: str
    key: tuple[str, ...]
    count: int
    first: datetime
    last: datetime
    fields: str
    """Of the last one, JSON."""


class Start(msgspec.Struct, frozen=True):
    """A process began to work. ``name`` is the event's, which says whether it is of one agent or of all."""

    name: str
    agent: str
    revision: str
    at: datetime


class Writer(msgspec.Struct, frozen=True):
    """Who has the right to write of a role."""

    epoch: int
    since: datetime | None


class Adopted(msgspec.Struct, frozen=True):
    """A holding that was there at the opening."""

    symbol: str
    amount: Decimal
    cost: Decimal


class _OneTransaction:
    """``reading.Reads`` that happen within the transaction of one connection."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        return await work(self._connection)

    snapshot = read

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        found: list[asyncpg.Record] = await self._connection.fetch(query, *arguments)
        return found

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        return await self._connection.fetchrow(query, *arguments)

    async def close(self) -> None:
        """Who opened the connection closes it."""


_ORDERS = f"""
SELECT {rows.ORDER_COLUMNS} FROM orders o JOIN bots b ON b.id = o.bot
WHERE o.account = $1 AND (
    o.finished_at IS NULL OR o.finished_at >= $2 OR o.created_at >= $2
    OR o.client_order_id IN (SELECT f.client_order_id FROM fills f WHERE f.account = $1 AND f.at >= $2)
)
ORDER BY o.number DESC LIMIT $3
"""

# With the newest before the window, so that there is one where the interval is longer than that.
_EQUITY = """
SELECT at, equity, outside FROM equity_points
WHERE bot = $1 AND at >= coalesce((SELECT max(at) FROM equity_points WHERE bot = $1 AND at < $2), $2)
ORDER BY at LIMIT $3
"""

# What a finished round trip of it was paid, or the one that it is still in: no entry opened that.
_ADOPTED = """
SELECT p.symbol, p.adopted, coalesce(
    (SELECT t.cost FROM trades t WHERE t.bot = p.bot AND t.symbol = p.symbol AND t.entry_order IS NULL
        ORDER BY t.number LIMIT 1),
    CASE WHEN p.trade_id IS NOT NULL AND p.entry_order IS NULL THEN p.bought_cost END, 0) AS cost
FROM positions p WHERE p.bot = $1 AND p.adopted > 0 ORDER BY p.symbol
"""

# An event of an agent's restart is told by what restarts it, and belongs to the agent.
_TOLD = """
WITH counting AS (
    SELECT e.number, e.at, e.name, coalesce(e.fields->>'agent', '') AS agent, ARRAY(
        SELECT coalesce(left(e.fields->>k.field, $7), '')
        FROM jsonb_array_elements_text($3::jsonb->e.name) WITH ORDINALITY AS k (field, place) ORDER BY k.place
    ) AS key
    FROM events e
    LEFT JOIN unnest($4::text[], $5::timestamptz[]) AS r (agent, since)
        ON r.agent = coalesce(e.fields->>'restarted', e.fields->>'agent')
    WHERE e.bot = $1 AND e.at >= $2 AND $3::jsonb ? e.name AND e.at >= greatest($2, r.since)
), counted AS (
    SELECT agent, name, key, count(*) AS count, min(at) AS first, max(at) AS last,
        max(ARRAY[extract(epoch FROM at), number]) AS newest
    FROM counting GROUP BY agent, name, key
), placed AS (
    SELECT *, row_number() OVER (PARTITION BY agent ORDER BY first, name, key) AS place FROM counted
), bounded AS (
    SELECT agent, name, CASE WHEN place <= $6 THEN key ELSE array_fill($8::text, ARRAY[cardinality(key)]) END AS key,
        count, first, last, newest
    FROM placed
), joined AS (
    SELECT agent, name, key, sum(count)::bigint AS count, min(first) AS first, max(last) AS last,
        max(newest) AS newest
    FROM bounded GROUP BY agent, name, key
)
SELECT j.agent, j.name, j.key, j.count, j.first, j.last, e.fields
FROM joined j JOIN events e ON e.number = j.newest[2]::bigint ORDER BY j.first, j.name, j.key, j.agent
"""


class LedgerSnapshot(LedgerReader):
    """What ``LedgerReader`` reads, and more, all of it as it was at one moment. ``most`` bounds each list."""

    def __init__(self, connection: Connection, account: AccountKey, bot: str, most: int) -> None:
        super().__init__(_OneTransaction(connection), account, bot)
        self._connection = connection
        self._most = most

    async def now(self) -> datetime:
        """By the database's clock."""
        found: datetime = await self._connection.fetchval("SELECT clock_timestamp()")
        return found

    async def schema_problem(self) -> LedgerError | None:
        """What is wrong with the schema for this release, if anything."""
        return migrate.problem_of(await migrate.applied_in(self._connection))

    async def bots(self) -> tuple[str, ...]:
        """All that write on the account."""
        await self._identify()
        found = await self._connection.fetch(
            "SELECT name FROM bots WHERE account = $1 AND risk_epoch + execution_epoch > 0 ORDER BY name",
            self._account,
        )
        return tuple(row["name"] for row in found)

    async def writer(self, role: Role) -> Writer:
        await self._identify()
        row = await self._connection.fetchrow(
            f"SELECT {role.value}_epoch AS epoch, {role.value}_since AS since FROM bots WHERE id = $1", self._bot
        )
        return Writer(0, None) if row is None else Writer(row["epoch"], row["since"])

    async def account_positions(self) -> dict[str, Decimal]:
        """Of all bots together, by symbol."""
        await self._identify()
        found = await self._connection.fetch(
            "SELECT p.symbol, sum(p.amount) AS amount FROM positions p JOIN bots b ON b.id = p.bot"
            " WHERE b.account = $1 GROUP BY p.symbol ORDER BY p.symbol",
            self._account,
        )
        return {row["symbol"]: row["amount"] for row in found}

    async def account_orders(self, since: datetime) -> tuple[Order, ...]:
        """Of all bots, newest first: those that have not ended, that began or ended from ``since`` on, or that have a
        fill of that time."""
        await self._identify()
        return tuple(rows.order(row) for row in await self._bounded("orders", _ORDERS, self._account, since))

    async def held(self) -> tuple[Reservation, ...]:
        """Reservations of all bots that are held."""
        await self._identify()
        found = await self._bounded(
            "reservations",
            f"SELECT {rows.RESERVATION_COLUMNS} FROM orders o WHERE o.account = $1 AND o.finished_at IS NULL"
            " AND o.reserve_asset IS NOT NULL ORDER BY o.number LIMIT $2",
            self._account,
        )
        return tuple(reservation for row in found if (reservation := rows.reservation(row)) is not None)

    async def account_fills(self, since: datetime) -> tuple[Fill, ...]:
        """Of all bots, newest first."""
        await self._identify()
        found = await self._bounded(
            "fills",
            "SELECT * FROM fills WHERE account = $1 AND at >= $2 ORDER BY number DESC LIMIT $3",
            self._account,
            since,
        )
        return tuple(rows.fill(row) for row in found)

    async def trades_since(self, since: datetime) -> tuple[Trade, ...]:
        """Of this bot, oldest first."""
        await self._identify()
        found = await self._bounded(
            "trades",
            f"SELECT {rows.TRADE_COLUMNS} FROM trades WHERE bot = $1 AND closed_at >= $2"
            " ORDER BY closed_at, number LIMIT $3",
            self._bot,
            since,
        )
        return tuple(rows.trade(row) for row in found)

    async def equity_since(self, since: datetime) -> tuple[EquityPoint, ...]:
        """Of this bot, oldest first; the first one is the newest before ``since``, if there is one."""
        await self._identify()
        found = await self._bounded("points of the equity", _EQUITY, self._bot, since)
        return tuple(EquityPoint(row["at"], row["equity"], row["outside"]) for row in found)

    async def refusals_since(self, since: datetime) -> dict[str, int]:
        await self._identify()
        found = await self._connection.fetch(
            "SELECT reason, count(*) AS times FROM decisions WHERE bot = $1 AND reason IS NOT NULL AND at >= $2"
            " GROUP BY reason ORDER BY reason",
            self._bot,
            since,
        )
        return {row["reason"]: row["times"] for row in found}

    async def bounded_invariants(self, most: int) -> tuple[Invariant, ...]:
        """With no more than ``most`` violations of each."""
        await self._identify()
        return tuple(await invariants.check(self._connection, self._account, most))

    async def starts(self, names: Sequence[str]) -> list[Start]:
        """Events of this bot's starts, newest first; no older ones than may be read."""
        await self._identify()
        found = await self._connection.fetch(
            "SELECT name, coalesce(fields->>'agent', '') AS agent, coalesce(fields->>'revision', '') AS revision, at"
            " FROM events WHERE bot = $1 AND name = ANY ($2) ORDER BY number DESC LIMIT $3",
            self._bot,
            list(names),
            self._most,
        )
        return [Start(row["name"], row["agent"], row["revision"], row["at"]) for row in found]

    async def oldest_words(self, agents: Sequence[str]) -> dict[str, datetime]:
        """When the oldest event was that is still there, of each of the agents that has one."""
        await self._identify()
        found = await self._connection.fetch(
            "SELECT fields->>'agent' AS agent, min(at) AS at FROM events"
            " WHERE bot = $1 AND fields->>'agent' = ANY ($2) GROUP BY 1",
            self._bot,
            list(agents),
        )
        return {row["agent"]: row["at"] for row in found}

    async def told(
        self,
        by: Mapping[str, Sequence[str]],
        since: datetime,
        counts_from: Mapping[str, datetime],
        *,
        groups: int,
        longest: int,
        others: str,
    ) -> list[Told]:
        """Events of this bot from ``since`` on, and of an agent from ``counts_from`` on: counted by their agent,
        their name and the fields that ``by`` gives for it. Of an agent there are ``groups`` at most: ``others``
        stands for the values of further ones. A value has ``longest`` characters at most."""
        await self._identify()
        found = await self._connection.fetch(
            _TOLD,
            self._bot,
            since,
            msgspec.json.encode({name: list(fields) for name, fields in by.items()}).decode(),
            list(counts_from),
            list(counts_from.values()),
            groups,
            longest,
            others,
        )
        return [
            Told(
                agent=row["agent"],
                name=row["name"],
                key=tuple(row["key"]),
                count=row["count"],
                first=row["first"],
                last=row["last"],
                fields=row["fields"],
            )
            for row in found
        ]

    async def adopted(self) -> list[Adopted]:
        """By this bot."""
        await self._identify()
        found = await self._connection.fetch(_ADOPTED, self._bot)
        return [Adopted(row["symbol"], row["adopted"], row["cost"]) for row in found]

    async def every_fill(self) -> AsyncIterator[Fill]:
        """Of this bot, in the order in which they were booked; few of them at a time are in memory."""
        await self._identify()
        # A cursor of asyncpg is a statement with a name, which a pooler leaves to whoever gets the connection next.
        await self._connection.execute(
            "DECLARE every_fill NO SCROLL CURSOR FOR SELECT * FROM fills"
            f" WHERE account = {self._account:d} AND bot = {self._bot:d} ORDER BY number"
        )
        while found := await self._connection.fetch(f"FETCH {_BATCH} FROM every_fill"):
            for row in found:
                yield rows.fill(row)
        await self._connection.execute("CLOSE every_fill")

    async def _bounded(self, what: str, query: str, *arguments: object) -> list[asyncpg.Record]:
        """``query`` takes the most rows last."""
        found: list[asyncpg.Record] = await self._connection.fetch(query, *arguments, self._most + 1)
        if len(found) > self._most:
            raise TooManyRows(what, self._most)
        return found


@asynccontextmanager
async def opened_snapshot(
    dsn: str, account: AccountKey, bot: str, *, limit: float, most: int
) -> AsyncIterator[LedgerSnapshot]:
    """The ledger as it is at the first question. ``limit`` is in seconds, of each statement; ``most`` are rows of one
    kind. Raises what asyncpg raises, ``OSError`` and ``LedgerError``; no error shows the password."""
    opened = await open_connection(dsn, SESSION, limit=limit, answer_limit=limit)
    connection = opened.connection
    try:
        transaction = connection.transaction(isolation="repeatable_read", readonly=True)
        await transaction.start()
        # Who reads everything is not served by plans for single rows.
        local = {**SESSION, "enable_seqscan": "on", "plan_cache_mode": "auto"}
        local["statement_timeout"] = f"{max(limit * 1000, 1):.0f}"
        await connection.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in local.items()))
        yield LedgerSnapshot(connection, account, bot, most)
        await transaction.rollback()
        await connection.close(timeout=_GOODBYE)
    finally:
        # Not a word more with a server that hangs, or that somebody is not willing to wait for.
        connection.terminate()
