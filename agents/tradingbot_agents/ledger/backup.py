"""Backup and restore of a ledger, by PostgreSQL's own tools.

A restored ledger is older than the exchange: what happened in between is in no book. So each of its bots is held at
ReduceOnly until a person has compared and releases it, and its epochs jump, so that no process of the lost time can
ever hold a current one.
"""

from __future__ import annotations

import asyncio
import os
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit, urlunsplit

import asyncpg

from tradingbot_agents.domain.values import BotState, stricter
from tradingbot_agents.ledger.embedded import binary
from tradingbot_agents.ledger.migrate import check_schema, migrate
from tradingbot_agents.ledger.port import LedgerError, LedgerUnavailable

EPOCH_JUMP = 1_000_000
"""More restarts than a ledger sees between a backup and its restore."""

RESTORED_BY = "restore"


class BackupError(LedgerError):
    """A backup could not be written or read; the message has the path and what to do."""


async def back_up(dsn: str, file: Path) -> int:
    """Write the whole database to ``file``, from one snapshot, also while bots run; returns its bytes.

    The file is there whole or not at all. Raises ``BackupError``, ``LedgerUnavailable``, and ``SchemaUnknown`` or
    ``SchemaOutdated`` for the schema of another release.
    """
    _refuse_target(file)
    await check_schema(dsn)
    unfinished = file.with_name(file.name + ".unfinished")
    try:
        await _run("pg_dump", dsn, "--format=custom", "--no-owner", "--no-privileges", f"--file={unfinished}")
        return _finish(unfinished, file)
    except OSError as error:
        raise BackupError(f"{file} can not be written ({error.strerror}): make room, or name another file") from error
    finally:
        unfinished.unlink(missing_ok=True)


def _refuse_target(file: Path) -> None:
    if file.exists():
        raise BackupError(f"{file} exists: name another file, a backup never replaces one")
    if not file.parent.is_dir():
        raise BackupError(f"{file.parent} is no folder: make it, or name a file in another")


def _finish(unfinished: Path, file: Path) -> int:
    with unfinished.open("rb") as written:
        os.fsync(written.fileno())
    unfinished.replace(file)
    return file.stat().st_size


def _refuse_missing(file: Path) -> None:
    if not file.is_file():
        raise BackupError(f"{file} is no file: name a backup that 'tradingbot backup' wrote")


async def restore(dsn: str, file: Path, at: datetime) -> list[str]:
    """Fill the empty database with the backup, bring it to this release's schema, and hold its bots at ReduceOnly;
    returns their names, each with its account's.

    All of the backup comes or nothing; the rest can be repeated by restoring into another empty database. Raises
    ``BackupError`` (also when the database is not empty) or ``LedgerUnavailable``.
    """
    _refuse_missing(file)
    connection = await _connect(dsn)
    try:
        tables = await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'")
        if tables:
            raise BackupError(
                f"the database has {tables} tables already: restore into a new, empty one, and let the bots use that"
            )
        await _run(
            "pg_restore", dsn, "--single-transaction", "--exit-on-error", "--no-owner", "--no-privileges", str(file)
        )
        await migrate(dsn)
        return await _hold_all(connection, file, at)
    finally:
        await connection.close()


async def _hold_all(connection: asyncpg.Connection[asyncpg.Record], file: Path, at: datetime) -> list[str]:
    reason = f"restored from {file.name}: compare orders, fills and balances with the exchange, then release"
    async with connection.transaction():
        bots = await connection.fetch(
            "SELECT b.id, b.name, b.hold_state, a.name AS account FROM bots b JOIN accounts a ON a.id = b.account"
            " ORDER BY b.id FOR UPDATE OF b"
        )
        for bot in bots:
            held = BotState(bot["hold_state"]) if bot["hold_state"] is not None else BotState.RUNNING
            await connection.execute(
                "UPDATE bots SET risk_epoch = risk_epoch + $2, execution_epoch = execution_epoch + $2,"
                " hold_state = $3, hold_reason = $4, hold_by = $5, hold_at = $6 WHERE id = $1",
                bot["id"],
                EPOCH_JUMP,
                stricter(held, BotState.REDUCE_ONLY).value,
                reason,
                RESTORED_BY,
                at,
            )
    return [f"{bot['account']}/{bot['name']}" for bot in bots]


async def _connect(dsn: str) -> asyncpg.Connection[asyncpg.Record]:
    try:
        return await asyncpg.connect(dsn)
    except (OSError, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(
            f"the database can not be reached ({type(error).__name__}): see that it runs at this address"
        ) from error


async def _run(program: str, dsn: str, *arguments: str) -> None:
    """The password goes by the environment: a command line is everybody's to read."""
    address, password = without_password(dsn)
    secret = {} if password is None else {"PGPASSWORD": password}
    process = await asyncio.create_subprocess_exec(
        binary(program),
        f"--dbname={address}",
        "--no-password",
        *arguments,
        env={"PATH": os.defpath, "LC_ALL": "C", "HOME": "/", **secret},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        process.kill()
        await process.wait()
        raise
    if process.returncode:
        told = output.decode(errors="replace").strip().splitlines()
        raise BackupError(
            f"{program} ended with code {process.returncode}: {told[-1] if told else 'it said nothing'}"
        )


def without_password(dsn: str) -> tuple[str, str | None]:
    """A database's address, and the password that it held."""
    parts = urlsplit(dsn)
    if parts.password is None:
        return dsn, None
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), unquote(parts.password)
