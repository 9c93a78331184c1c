"""Backup and restore of a ledger, by PostgreSQL's own tools.

A restored ledger is older than the exchange: what happened in between is in no book. So each of its bots is held at
ReduceOnly until execution has compared it with the exchange (``reconciled``) and a person releases it, and its epochs
jump, so that no process of the lost time can ever hold a current one.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

import asyncpg

from tradingbot_agents.domain.values import BotState, stricter
from tradingbot_agents.ledger.database import open_connection
from tradingbot_agents.ledger.embedded import binary
from tradingbot_agents.ledger.migrate import check_schema, migrate
from tradingbot_agents.ledger.port import LedgerError, LedgerUnavailable

EPOCH_JUMP = 1_000_000
"""More restarts than a ledger sees between a backup and its restore."""

RESTORED_BY = "restore"

# Seconds.
_CONNECT_LIMIT = 60.0

_ENVIRONMENT: Mapping[str, str] = {"PATH": os.defpath, "LC_ALL": "C", "HOME": "/"}

_WITHOUT_TLS = ("disable", "allow", "prefer")

# Among the settings at the head of a script: of PostgreSQL 17, and 0 (no limit) is what all have anyway.
_NEWER_SETTING = b"SET transaction_timeout ="

# A folder for each version.
_DEBIANS = Path("/usr/lib/postgresql")

# Bytes.
_CHUNK = 1 << 16


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
        await _replay(dsn, file)
        await migrate(dsn)
        return await _hold_all(connection, file, at)
    finally:
        await connection.close()


async def _hold_all(connection: asyncpg.Connection[asyncpg.Record], file: Path, at: datetime) -> list[str]:
    reason = (
        f"restored from {file.name}: orders, fills and balances must be compared with the exchange; release it once"
        " execution has told 'reconciled', and what it booked is right"
    )
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
        opened = await open_connection(dsn, limit=_CONNECT_LIMIT)
    except (OSError, asyncpg.PostgresError) as error:
        raise LedgerUnavailable(
            f"the database can not be reached ({type(error).__name__}): see that it runs at this address"
        ) from error
    connection: asyncpg.Connection[asyncpg.Record] = opened.connection
    return connection


async def _run(program: str, dsn: str, *arguments: str) -> None:
    address, environment = _credentials(dsn)
    process = await asyncio.create_subprocess_exec(
        _client(program, dsn),
        f"--dbname={address}",
        "--no-password",
        *arguments,
        env=environment,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await process.communicate()
    except asyncio.CancelledError:
        await _end(process)
        raise
    if process.returncode:
        raise _failure(program, process.returncode, output)


async def _replay(dsn: str, file: Path) -> None:
    """Have psql run what the wheel's pg_restore makes of the file, as one transaction.

    By itself pg_restore would set what servers before its own version do not know, and an older one reads no file of
    this one's pg_dump.
    """
    address, environment = _credentials(dsn)
    psql = _client("psql", dsn)
    reader = await asyncio.create_subprocess_exec(
        binary("pg_restore"),
        "--file=-",
        "--exit-on-error",
        "--no-owner",
        "--no-privileges",
        str(file),
        env=_ENVIRONMENT,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        writer = await asyncio.create_subprocess_exec(
            psql,
            f"--dbname={address}",
            "--no-password",
            "--no-psqlrc",
            "--quiet",
            "--single-transaction",
            "--set=ON_ERROR_STOP=1",
            "--file=-",
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            _, read, written = await asyncio.gather(_pass_on(reader, writer), _said(reader), _said(writer))
        finally:
            await _end(writer)
    finally:
        await _end(reader)
    # Whichever failed made the other one end as well: then that one was killed.
    if writer.returncode and writer.returncode > 0:
        raise _failure("psql", writer.returncode, written)
    if reader.returncode and reader.returncode > 0:
        raise _failure("pg_restore", reader.returncode, read)


async def _pass_on(reader: asyncio.subprocess.Process, writer: asyncio.subprocess.Process) -> None:
    assert reader.stdout is not None, "it is a pipe"
    assert writer.stdin is not None, "it is a pipe"
    settings = True
    try:
        while chunk := await (reader.stdout.readline() if settings else reader.stdout.read(_CHUNK)):
            settings = settings and not chunk.startswith(b"CREATE")
            if not chunk.startswith(_NEWER_SETTING) or not settings:
                writer.stdin.write(chunk)
                await writer.stdin.drain()
        if await reader.wait():
            # The end of its input would make it commit.
            writer.kill()
        writer.stdin.close()
        await writer.stdin.wait_closed()
    except (BrokenPipeError, ConnectionResetError):
        # psql has given up, and says why.
        reader.kill()
        async for _ in reader.stdout:
            pass


async def _said(process: asyncio.subprocess.Process) -> bytes:
    assert process.stderr is not None, "it is a pipe"
    said = await process.stderr.read()
    await process.wait()
    return said


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.kill()
        await process.wait()


def _failure(program: str, code: int, output: bytes) -> BackupError:
    told = output.decode(errors="replace").strip().splitlines()
    return BackupError(f"{program} ended with code {code}: {told[-1] if told else 'it said nothing'}")


def _client(program: str, dsn: str) -> str:
    """The wheel's, or the system's where TLS is demanded, which the wheel's does not speak."""
    mode = dict(parse_qsl(urlsplit(dsn).query)).get("sslmode", "prefer")
    if mode in _WITHOUT_TLS:
        return binary(program)
    debians = sorted(_DEBIANS.glob(f"*/bin/{program}"), key=lambda path: float(path.parts[-3]))
    found = str(debians[-1]) if debians else shutil.which(program)
    if found is None:
        raise BackupError(
            f"sslmode={mode} of the database's address demands TLS, which the {program} that comes along does not"
            " speak: install PostgreSQL's client programs of the server's version or a newer one (postgresql-client)"
        )
    return found


def _credentials(dsn: str) -> tuple[str, Mapping[str, str]]:
    """The password goes by the environment: a command line is everybody's to read."""
    address, password = without_password(dsn)
    return address, _ENVIRONMENT if password is None else {**_ENVIRONMENT, "PGPASSWORD": password}


def without_password(dsn: str) -> tuple[str, str | None]:
    """A database's address, and the password that it held."""
    parts = urlsplit(dsn)
    if parts.password is None:
        return dsn, None
    user = parts.netloc.rpartition("@")[0].partition(":")[0]
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}@{host}")), unquote(parts.password)
