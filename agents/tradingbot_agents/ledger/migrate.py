"""The ledger's schema: plain SQL files, applied by yoyo before any agent starts.

yoyo and psycopg cost some 30 MB of memory, which the process of the five agents does not have to spare: a schema
that is up to date is recognised by one query of asyncpg, and anything pending is applied by a short-lived child
(``python -m tradingbot_agents.ledger.migrate``, its orders on standard input so that no DSN shows in ``ps``).

Two hazards of yoyo are closed here. It commits a migration before it notes that it did, so that a kill in between
leaves a migration that can never be applied again: here both are one transaction. Its lock is a row that a killed
run leaves behind for ever: here an advisory lock of the session that applies decides, and such a row is swept.
"""

from __future__ import annotations

import asyncio
import glob
import json
import sys
from pathlib import Path
from typing import Any

import asyncpg

from tradingbot_agents.ledger.database import Connection, Opened, open_connection
from tradingbot_agents.ledger.port import LedgerError, LedgerUnavailable

MIGRATIONS = Path(__file__).parent / "migrations"

# yoyo's own table; one row for each migration that is in the schema.
_TABLE = "_yoyo_migration"

# The same in every release, or two of them could migrate at once.
_ADVISORY_LOCK = int.from_bytes(b"tradingb", "big")

_LOCK_LIMIT = "60s"

# Seconds.
_CONNECT_LIMIT = 60.0


class MigrationError(LedgerError):
    """A migration can not be applied. The schema is as it was before that file; earlier files stay applied."""


class SchemaUnknown(LedgerError):
    """The schema is newer than this release knows: it must not write to it."""


class SchemaOutdated(LedgerError):
    """The schema lacks migrations that this release needs."""


def known_migrations(directory: Path = MIGRATIONS) -> list[str]:
    """The ids (file names without ``.sql``) of all migrations of this release, in their order."""
    return sorted(path.stem for path in directory.glob("*.sql") if not path.name.endswith(".rollback.sql"))


def required_version(directory: Path = MIGRATIONS) -> str | None:
    """The migration up to which a schema must be for this release; None if there is no migration."""
    return max(known_migrations(directory), default=None)


async def schema_version(dsn: str) -> str | None:
    """The last migration in the schema; None if there is none. Raises LedgerUnavailable."""
    return max(await _applied(dsn), default=None)


async def check_schema(dsn: str, directory: Path = MIGRATIONS) -> None:
    """Pass if the schema is exactly what this release knows.

    Raises SchemaUnknown, SchemaOutdated, LedgerUnavailable.
    """
    problem = problem_of(await _applied(dsn), directory)
    if problem is not None:
        raise problem


def problem_of(applied: set[str], directory: Path = MIGRATIONS) -> SchemaUnknown | SchemaOutdated | None:
    """What is wrong with a schema in which these are, for this release."""
    try:
        pending = _pending(applied, directory)
    except SchemaUnknown as error:
        return error
    if not pending:
        return None
    return SchemaOutdated(
        f"the ledger's schema lacks {', '.join(pending)}, which this release needs: run 'tradingbot migrate'"
    )


async def migrate(dsn: str, directory: Path = MIGRATIONS) -> list[str]:
    """Apply what the schema lacks, one transaction for each file; return the ids applied by this call.

    Safe when several run at once: one applies, the others wait and find nothing to do.

    Raises MigrationError, SchemaUnknown, LedgerUnavailable.
    """
    if not _pending(await _applied(dsn), directory):
        return []
    await _refuse_pooler(dsn)
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # A json.py in the folder we were started from is none of ours.
        "-m",
        "tradingbot_agents.ledger.migrate",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, err = await child.communicate(json.dumps({"dsn": dsn, "directory": str(directory)}).encode())
    except asyncio.CancelledError:
        child.kill()
        await child.wait()
        raise
    if child.returncode != 0:
        raise MigrationError(
            f"the migration ended with code {child.returncode}: {err.decode(errors='replace').strip()}"
        )
    answer: dict[str, Any] = json.loads(out)
    if "error" in answer:
        raise MigrationError(answer["error"])
    await check_schema(dsn, directory)
    return list(answer["applied"])


async def _applied(dsn: str) -> set[str]:
    connection = (await _open(dsn)).connection
    try:
        return await applied_in(connection)
    finally:
        await connection.close()


async def applied_in(connection: Connection) -> set[str]:
    """The migrations that are in the schema."""
    if await connection.fetchval("SELECT to_regclass($1)", _TABLE) is None:
        return set()
    return {row[0] for row in await connection.fetch(f"SELECT migration_id FROM {_TABLE}")}


async def _open(dsn: str) -> Opened:
    try:
        return await open_connection(dsn, limit=_CONNECT_LIMIT)
    except (OSError, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(
            f"the ledger's database can not be reached ({error}): see that it runs and that its address is right"
        ) from error


async def _refuse_pooler(dsn: str) -> None:
    opened = await _open(dsn)
    await opened.connection.close()
    if opened.pooled:
        raise MigrationError(
            "the database's address is a pooler's, which loses the lock that keeps two migrations apart: migrate with"
            " the address of the server itself"
        )


def _pending(applied: set[str], directory: Path) -> list[str]:
    known = known_migrations(directory)
    unknown = sorted(applied.difference(known))
    if unknown:
        raise SchemaUnknown(
            f"the ledger's schema has {', '.join(unknown)}, which this release does not know (it knows up to"
            f" {known[-1] if known else 'none'}): run the newer release of tradingbot that made it,"
            " or restore a backup from before"
        )
    return [name for name in known if name not in applied]


def _apply(dsn: str, directory: str) -> dict[str, Any]:
    """In the child: apply all that is pending under the advisory lock."""
    import psycopg
    from yoyo import exceptions, read_migrations
    from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
    from yoyo.connections import parse_uri

    class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]
        """yoyo would take the address apart, and knows neither several hosts nor all that may be in one."""

        def connect(self, dburi: object) -> psycopg.Connection[Any]:
            return psycopg.connect(dsn, autocommit=True)

    applied: list[str] = []
    current = "(none)"
    try:
        with Backend(parse_uri("postgresql+psycopg://"), _TABLE) as backend:
            backend.execute(f"SET lock_timeout = '{_LOCK_LIMIT}'")
            # Of this session, which applies as well: the lock can not end before the work does.
            backend.execute(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
            backend.execute("RESET lock_timeout")
            backend.init_database()
            backend.break_lock()
            for migration in backend.to_apply(read_migrations(glob.escape(directory))):
                current = migration.path
                if not migration.use_transactions:
                    return {"error": f"{current}: 'transactional: false' could leave a half: remove that line"}
                with backend.transaction():
                    migration.process_steps(backend, "apply")
                    # Without yoyo's log, which asks the name service for this machine's name.
                    backend.mark_one(migration, log=False)
                applied.append(migration.id)
    except psycopg.errors.LockNotAvailable:
        return {
            "error": f"another migration of this ledger has been running for {_LOCK_LIMIT}: wait for it, or end it"
        }
    except (psycopg.Error, exceptions.BadMigration) as error:
        return {"error": f"{current}: {str(error).strip()}"}
    return {"applied": applied}


def main() -> None:
    order = json.load(sys.stdin)
    # yoyo prints rows that a migration selects: the answer must stand alone on standard output.
    answer_to, sys.stdout = sys.stdout, sys.stderr
    json.dump(_apply(order["dsn"], order["directory"]), answer_to)


if __name__ == "__main__":
    main()
