"""The half of the ledger that only reads: no locks, so that it may be used while another process writes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Protocol, TypeVar

import asyncpg
import msgspec

from tradingbot_agents.domain import messages
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.orders import Order, Reservation
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger import invariants, pages, reports, rows
from tradingbot_agents.ledger.database import Connection
from tradingbot_agents.ledger.port import (
    AccountKey,
    Balance,
    Books,
    Decision,
    Entry,
    EquityPoint,
    Hold,
    Holdings,
    Invariant,
    KnownRules,
    OutboxRow,
    Performance,
    Role,
    Trade,
)
from tradingbot_agents.ledger.reports import StoredReport

T = TypeVar("T")

# No row has this id: of an account or a bot that is not there yet, everything is empty.
NOBODY = 0


class Reads(Protocol):
    """What a reader asks of ``database.Database``."""

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T: ...
    async def snapshot(self, work: Callable[[Connection], Awaitable[T]]) -> T: ...
    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]: ...
    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None: ...
    async def close(self) -> None: ...


class LedgerReader:
    """One account and one bot of it."""

    def __init__(self, database: Reads, account: AccountKey, bot: str) -> None:
        self._database = database
        self._account_key = account
        self._bot_name = bot
        self._account = NOBODY
        self._bot = NOBODY

    async def _identify(self) -> None:
        """Learn the ids of account and bot once they are there."""
        if self._bot != NOBODY:
            return
        key = self._account_key
        row = await self._database.fetchrow(
            "SELECT a.id AS account, b.id AS bot FROM accounts a LEFT JOIN bots b ON b.account = a.id AND b.name = $5"
            " WHERE a.mode = $1 AND a.exchange = $2 AND a.endpoint = $3 AND a.name = $4",
            key.mode.value,
            key.exchange,
            key.endpoint,
            key.name,
            self._bot_name,
        )
        if row is not None:
            self._account = row["account"]
            self._bot = row["bot"] or NOBODY

    async def decision(self, intent_id: str, entry_order: str) -> Decision | None:
        await self._identify()
        row = await self._database.fetchrow(
            f"{rows.ENTRIES} AND client_order_id = $3 UNION ALL {rows.DECIDED} AND intent_id = $4",
            self._bot,
            self._account,
            entry_order,
            intent_id,
        )
        return None if row is None else rows.decision(row)

    async def unpublished(self, role: Role, limit: int = 100) -> list[OutboxRow]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT number, message FROM outbox WHERE bot = $1 AND role = $2 ORDER BY number LIMIT $3",
            self._bot,
            role.value,
            limit,
        )
        return [OutboxRow(row["number"], messages.decode(row["message"])) for row in found]

    async def hold(self) -> Hold | None:
        await self._identify()
        return await self._database.read(self._present_hold)

    async def _present_hold(self, connection: Connection) -> Hold | None:
        row = await connection.fetchrow(
            "SELECT hold_state, hold_reason, hold_by, hold_at FROM bots WHERE id = $1 AND hold_state IS NOT NULL",
            self._bot,
        )
        if row is None:
            return None
        return Hold(
            state=BotState(row["hold_state"]), reason=row["hold_reason"], by=row["hold_by"], at=row["hold_at"]
        )

    async def balances(self) -> dict[str, Balance]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT asset, total, reserved, outside_holds, set_aside FROM balances WHERE account = $1 ORDER BY asset",
            self._account,
        )
        return {row["asset"]: rows.balance(row) for row in found}

    async def positions(self) -> dict[str, Position]:
        await self._identify()
        found = await self._database.fetch(
            f"SELECT {rows.POSITION_COLUMNS} FROM positions WHERE bot = $1 ORDER BY symbol", self._bot
        )
        return {row["symbol"]: rows.position(row) for row in found}

    async def orders_to_send(self) -> list[Order]:
        return await self._orders("AND o.finished_at IS NULL AND o.state = 'approved' ORDER BY o.number")

    async def live_orders(self) -> list[Order]:
        return await self._orders("AND o.finished_at IS NULL AND o.state <> 'approved' ORDER BY o.number")

    async def order(self, client_order_id: str) -> Order | None:
        await self._identify()
        row = await self._database.fetchrow(
            f"SELECT {rows.ORDER_COLUMNS} FROM orders o JOIN bots b ON b.id = o.bot"
            " WHERE o.account = $1 AND o.client_order_id = $2",
            self._account,
            client_order_id,
        )
        return None if row is None else rows.order(row)

    async def orders(self, limit: int | None = None) -> list[Order]:
        return await self._orders("ORDER BY o.number DESC LIMIT $3", limit)

    async def _orders(self, which: str, *arguments: object) -> list[Order]:
        await self._identify()
        found = await self._database.fetch(
            f"SELECT {rows.ORDER_COLUMNS} FROM orders o JOIN bots b ON b.id = o.bot"
            f" WHERE o.account = $1 AND o.bot = $2 {which}",
            self._account,
            self._bot,
            *arguments,
        )
        return [rows.order(row) for row in found]

    async def reservations(self) -> list[Reservation]:
        await self._identify()
        found = await self._database.fetch(
            f"SELECT {rows.RESERVATION_COLUMNS} FROM orders o"
            " WHERE o.account = $1 AND o.finished_at IS NULL AND o.side = 'buy' ORDER BY o.number",
            self._account,
        )
        return [reservation for row in found if (reservation := rows.reservation(row)) is not None]

    async def fills(self, limit: int | None = None) -> list[Fill]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT * FROM fills WHERE account = $1 AND bot = $2 ORDER BY number DESC LIMIT $3",
            self._account,
            self._bot,
            limit,
        )
        return [rows.fill(row) for row in found]

    async def trades(self, since: datetime | None = None, limit: int | None = None) -> list[Trade]:
        await self._identify()
        found = await self._database.fetch(
            f"SELECT {rows.TRADE_COLUMNS} FROM trades"
            " WHERE bot = $1 AND closed_at >= coalesce($2, '-infinity'::timestamptz)"
            " ORDER BY closed_at DESC, number DESC LIMIT $3",
            self._bot,
            since,
            limit,
        )
        return [rows.trade(row) for row in reversed(found)]

    async def decisions(self, limit: int | None = None) -> list[Decision]:
        await self._identify()
        found = await self._database.fetch(
            f"{rows.ENTRIES} UNION ALL {rows.DECIDED} ORDER BY number DESC LIMIT $3", self._bot, self._account, limit
        )
        return [rows.decision(row) for row in found]

    async def refusals(self) -> dict[str, int]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT reason, count(*) AS times FROM decisions WHERE bot = $1 AND reason IS NOT NULL"
            " GROUP BY reason ORDER BY reason",
            self._bot,
        )
        return {row["reason"]: row["times"] for row in found}

    async def performance(self) -> dict[str, Performance]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT indicator, wins, losses FROM indicator_performance WHERE bot = $1 ORDER BY indicator", self._bot
        )
        return {row["indicator"]: Performance(row["indicator"], row["wins"], row["losses"]) for row in found}

    async def equity(self, since: datetime | None = None) -> list[EquityPoint]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT at, equity, outside FROM equity_points"
            " WHERE bot = $1 AND at >= coalesce($2, '-infinity'::timestamptz) ORDER BY at",
            self._bot,
            since,
        )
        return [EquityPoint(row["at"], row["equity"], row["outside"]) for row in found]

    async def holdings(self) -> Holdings:
        await self._identify()
        found = await self._database.fetch(
            "SELECT asset, total, reserved, outside_holds, set_aside, bookings,"
            " (SELECT sum(e.amount) FROM entries e"
            "  WHERE e.account = b.account AND e.asset = b.asset AND e.kind IN ('outside', 'reversal')) AS outside"
            " FROM balances b WHERE account = $1 ORDER BY asset",
            self._account,
        )
        return Holdings(
            {row["asset"]: rows.balance(row) for row in found},
            {row["asset"]: row["outside"] for row in found if row["outside"]},
            sum(row["bookings"] for row in found),
        )

    async def entries(self, limit: int | None = None) -> list[Entry]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT number, asset, amount, kind, cause, at FROM entries WHERE account = $1"
            " ORDER BY number DESC LIMIT $2",
            self._account,
            limit,
        )
        return [rows.entry(row) for row in found]

    async def account_books(self) -> Books:
        await self._identify()
        return await self._database.snapshot(lambda connection: pages.books(connection, self._account))

    async def symbols_traded(self, since: datetime) -> list[str]:
        async def work(connection: Connection) -> list[str]:
            found = await connection.fetch(
                "SELECT DISTINCT symbol FROM orders WHERE account = $1 AND (finished_at IS NULL OR finished_at >= $2)"
                " AND state <> 'approved' ORDER BY symbol",
                self._account,
                since,
            )
            return [row["symbol"] for row in found]

        await self._identify()
        return await self._database.snapshot(work)

    async def unbooked_trades(self, symbol: str, orders: Mapping[str, str]) -> dict[str, Order]:
        async def work(connection: Connection) -> dict[str, Order]:
            booked = await connection.fetch(
                "SELECT exchange_trade_id FROM fills"
                " WHERE exchange_trade_id = ANY ($3) AND symbol = $2 AND account = $1",
                self._account,
                symbol,
                list(orders),
            )
            unbooked = dict(orders)
            for row in booked:
                del unbooked[row["exchange_trade_id"]]
            if not unbooked:
                return {}
            # Mostly there is nothing left to ask: no index serves this, for it would cost each order something.
            found = await connection.fetch(
                f"SELECT {rows.ORDER_COLUMNS} FROM orders o JOIN bots b ON b.id = o.bot"
                " WHERE o.account = $1 AND o.symbol = $2 AND o.exchange_order_id = ANY ($3)",
                self._account,
                symbol,
                sorted(set(unbooked.values())),
            )
            ours = {row["exchange_order_id"]: rows.order(row) for row in found}
            return {trade: ours[order_id] for trade, order_id in unbooked.items() if order_id in ours}

        await self._identify()
        return await self._database.snapshot(work)

    async def market_rules(self) -> dict[str, KnownRules]:
        await self._identify()
        found = await self._database.fetch(
            "SELECT DISTINCT ON (symbol) symbol, rules, since, read_at FROM market_rules WHERE account = $1"
            " ORDER BY symbol, since DESC",
            self._account,
        )
        return {
            row["symbol"]: KnownRules(
                msgspec.json.decode(row["rules"], type=SymbolRules), row["since"], row["read_at"]
            )
            for row in found
        }

    async def reports(self, limit: int | None = None, *, until: datetime | None = None) -> list[StoredReport]:
        """Of this bot's reality checks, newest first; of those that were made ``until`` then."""
        await self._identify()
        return await self._database.read(lambda connection: reports.newest(connection, self._bot, limit, until))

    async def report(self, number: int) -> StoredReport | None:
        """``None``: this bot has none of that number, or it was pruned."""
        await self._identify()
        return await self._database.read(lambda connection: reports.by_number(connection, self._bot, number))

    async def invariants(self) -> list[Invariant]:
        await self._identify()
        return await self._database.snapshot(lambda connection: invariants.check(connection, self._account))

    async def close(self) -> None:
        await self._database.close()
