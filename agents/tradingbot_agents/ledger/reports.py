"""Reports of the reality check in the ledger, and what that check remembers from one run to the next.

The ledger knows nothing of what a report says: it keeps a document, and finds it again by number and time. So a
report of another release is listed and pruned by one that can not read it.

A cluster runs one check of a bot at a time, but people may run two by hand. Each keeps its own report; only one of
them tells people (a lease), and a hold is decided and placed in one transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

import asyncpg
import msgspec

from tradingbot_agents.ledger.database import Connection
from tradingbot_agents.ledger.port import Hold


class NewReport(msgspec.Struct, frozen=True, kw_only=True):
    at: datetime
    result: str
    hold: str | None
    """The hold that it placed, in words."""
    document: bytes
    """JSON."""


class StoredReport(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    at: datetime
    result: str
    hold: str | None
    document: str
    """JSON; its keys may be in another order than they were."""


class Lease(msgspec.Struct, frozen=True):
    """The right to tell people, and what they have been told."""

    token: str
    told: str
    """JSON; ``{}`` at first."""


Decide = Callable[[Hold | None, frozenset[str]], tuple[Hold | None, frozenset[str]]]
"""From the hold that is there and the failures that were held for: a hold to place, if any, and the failures that are
held for from now on."""

_COLUMNS = "number, at, result, hold, report"


async def keep(connection: Connection, bot: int, report: NewReport) -> int:
    """Its number. One of the same moment is replaced: of a replay that has ended, all are of its end."""
    number: int = await connection.fetchval(
        "INSERT INTO reality_reports (bot, at, result, hold, report) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (bot, at) DO UPDATE SET result = excluded.result, hold = excluded.hold,"
        " report = excluded.report RETURNING number",
        bot,
        report.at,
        report.result,
        report.hold,
        # jsonb takes every text but the one with this sign.
        report.document.decode().replace("\\u0000", "\\ufffd"),
    )
    return number


async def newest(connection: Connection, bot: int, limit: int | None, until: datetime | None) -> list[StoredReport]:
    found = await connection.fetch(
        f"SELECT {_COLUMNS} FROM reality_reports WHERE bot = $1 AND at <= coalesce($2, 'infinity'::timestamptz)"
        " ORDER BY at DESC LIMIT $3",
        bot,
        until,
        limit,
    )
    return [_stored(row) for row in found]


async def by_number(connection: Connection, bot: int, number: int) -> StoredReport | None:
    row = await connection.fetchrow(
        f"SELECT {_COLUMNS} FROM reality_reports WHERE bot = $1 AND number = $2", bot, number
    )
    return None if row is None else _stored(row)


def _stored(row: asyncpg.Record) -> StoredReport:
    return StoredReport(
        number=row["number"], at=row["at"], result=row["result"], hold=row["hold"], document=row["report"]
    )


async def lease(connection: Connection, bot: int, token: str, now: datetime, until: datetime) -> Lease | None:
    """``None``: another check has it. Asked for again with the same token, it is the same."""
    row = await connection.fetchrow(
        "INSERT INTO reality_memory AS m (bot, lease, lease_until) VALUES ($1, $2, $4)"
        " ON CONFLICT (bot) DO UPDATE SET lease = $2, lease_until = $4"
        " WHERE m.lease IS NULL OR m.lease = $2 OR m.lease_until <= $3 RETURNING told",
        bot,
        token,
        now,
        until,
    )
    return None if row is None else Lease(token, row["told"])


async def end_lease(connection: Connection, bot: int, token: str, told: bytes) -> bool:
    """``False``: it is no more ours, and nothing is written. Ended again with the same words, it has ended."""
    ours = await connection.fetchval(
        "UPDATE reality_memory SET told = $3, lease = NULL, lease_until = NULL"
        " WHERE bot = $1 AND (lease = $2 OR lease IS NULL AND told = $3) RETURNING true",
        bot,
        token,
        told.decode().replace("\\u0000", "\\ufffd"),
    )
    return bool(ours)


async def held_for(connection: Connection, bot: int) -> frozenset[str]:
    found = await connection.fetchval("SELECT held_for FROM reality_memory WHERE bot = $1", bot)
    return frozenset(found or ())


async def remember_held_for(connection: Connection, bot: int, checks: frozenset[str]) -> None:
    await connection.execute(
        "INSERT INTO reality_memory (bot, held_for) VALUES ($1, $2)"
        " ON CONFLICT (bot) DO UPDATE SET held_for = EXCLUDED.held_for",
        bot,
        sorted(checks),
    )
