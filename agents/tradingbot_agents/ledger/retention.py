"""What the ledger keeps for a while only, and how it is removed.

Of the books nothing is ever removed: entries, fills, trades, orders, positions, holds and epochs stay, as do exits
that were decided and whatever is still to be published. What goes is the diary: events, refusals, the finer points of
the equity curve, and the reports of the reality check.

A refusal may go only once its intent can not come again, or the intent would be decided anew: an intent that comes
later than its time to live is refused as stale. Age is counted back from the ledger's newest record and not from the
clock: in a replay, time is the candles', and a bot that stood still for a year has lost nothing when it comes back.
Reports are counted from the newest report: a bot that stands still is checked all the same.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import msgspec

from tradingbot_agents.ledger.database import Connection, Database
from tradingbot_agents.ledger.port import Retention

BATCH = 2000
"""Rows that one statement looks at: it is done in milliseconds, and holds no lock for longer."""


class Cutoffs(msgspec.Struct, frozen=True, kw_only=True):
    """What is older goes."""

    events: datetime
    severe_events: datetime
    refusals: datetime
    equity: datetime
    """The beginning of a day in UTC, so that days are thinned whole."""


class Removed(msgspec.Struct, frozen=True, kw_only=True):
    what: str
    before: datetime
    rows: int


def cutoffs(retention: Retention, newest: datetime) -> Cutoffs:
    """``newest`` is when the ledger's latest record was made, in UTC."""
    day = (newest - retention.equity).replace(hour=0, minute=0, second=0, microsecond=0)
    return Cutoffs(
        events=newest - retention.events,
        severe_events=newest - retention.severe_events,
        refusals=newest - retention.refusals,
        equity=day,
    )


async def newest_record(database: Database, account: int, bot: int, now: datetime) -> datetime | None:
    """When the bot's latest record was made, and never after ``now``; ``None`` when there is none."""
    row = await database.fetchrow(
        "SELECT greatest("
        "(SELECT at FROM equity_points WHERE bot = $1 ORDER BY at DESC LIMIT 1),"
        " (SELECT max(at) FROM decisions WHERE bot = $1),"
        " (SELECT max(created_at) FROM orders WHERE account = $2 AND bot = $1)) AS newest",
        bot,
        account,
    )
    newest: datetime | None = None if row is None else row["newest"]
    return None if newest is None else min(newest, now)


async def prune(database: Database, bot: int, limits: Cutoffs, *, dry_run: bool) -> list[Removed]:
    """Remove what is older than ``limits`` of one bot, in batches; with ``dry_run``, count it only.

    May be broken off and repeated at any time, also while the bot runs. Raises ``LedgerUnavailable``.
    """
    kinds = (
        ("events", "events", "t.severity <> 'severe'", limits.events),
        ("severe events", "events", "t.severity = 'severe'", limits.severe_events),
        ("refusals", "decisions", "t.reason IS NOT NULL", limits.refusals),
    )
    removed = [
        Removed(what=what, before=before, rows=await _sweep(database, table, condition, bot, before, dry_run=dry_run))
        for what, table, condition, before in kinds
    ]
    thinned = await _thin(database, bot, limits.equity, dry_run=dry_run)
    return [*removed, Removed(what="equity points", before=limits.equity, rows=thinned)]


async def prune_reports(
    database: Database, bot: int, kept: timedelta, now: datetime, *, dry_run: bool
) -> list[Removed]:
    """The same for the reality check's reports, of which ``kept`` stay, and the newest in any case. Empty: there is
    none."""
    row = await database.fetchrow("SELECT max(at) AS newest FROM reality_reports WHERE bot = $1", bot)
    assert row is not None, "an aggregate always has a row"
    if row["newest"] is None:
        return []
    before = min(row["newest"], now) - kept
    rows = await _sweep(database, "reality_reports", "true", bot, before, dry_run=dry_run)
    return [Removed(what="reality reports", before=before, rows=rows)]


async def _sweep(database: Database, table: str, condition: str, bot: int, before: datetime, *, dry_run: bool) -> int:
    """Walk the table by its key: there is no index by time, which each insert would have to keep."""
    found = f"t.bot = $3 AND {condition} AND t.at < $4"
    gone = (
        f"SELECT 1 FROM {table} t JOIN page ON page.number = t.number WHERE {found}"
        if dry_run
        else f"DELETE FROM {table} t USING page WHERE page.number = t.number AND {found} RETURNING 1"
    )
    query = (
        f"WITH page AS (SELECT number FROM {table} WHERE number > $1 ORDER BY number LIMIT $2), gone AS ({gone})"
        " SELECT (SELECT max(number) FROM page) AS last, (SELECT count(*) FROM gone) AS rows"
    )
    rows = last = 0
    while True:

        async def work(connection: Connection, last: int = last) -> tuple[int | None, int]:
            row = await connection.fetchrow(query, last, BATCH, bot, before)
            assert row is not None, "an aggregate always has a row"
            return row["last"], row["rows"]

        reached, some = await (database.read(work) if dry_run else database.write(work))
        if reached is None:
            return rows
        rows += some
        last = reached


async def _thin(database: Database, bot: int, before: datetime, *, dry_run: bool) -> int:
    """Leave of each day its highest, its lowest and its last point: its drawdown and its end are what they were."""
    days = await database.fetch(
        "SELECT date_trunc('day', at, 'UTC') AS day FROM equity_points WHERE bot = $1 AND at < $2"
        " GROUP BY day HAVING count(*) > 1 ORDER BY day",
        bot,
        before,
    )
    of_the_day = "FROM equity_points WHERE bot = $1 AND at >= $2 AND at < $3"
    others = (
        f"{of_the_day} AND at NOT IN ((SELECT at {of_the_day} ORDER BY equity DESC, at LIMIT 1),"
        f" (SELECT at {of_the_day} ORDER BY equity, at LIMIT 1), (SELECT at {of_the_day} ORDER BY at DESC LIMIT 1))"
    )
    query = (
        f"SELECT count(*) {others}"
        if dry_run
        else f"WITH gone AS (DELETE {others} RETURNING 1) SELECT count(*) FROM gone"
    )
    rows = 0
    for found in days:

        async def work(connection: Connection, day: datetime = found["day"]) -> int:
            count: int = await connection.fetchval(query, bot, day, day + timedelta(days=1))
            return count

        rows += await (database.read(work) if dry_run else database.write(work))
    return rows
