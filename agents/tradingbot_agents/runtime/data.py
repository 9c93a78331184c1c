"""Finding a bot's ledger, and opening it: for a run, or beside one for a command that reads."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from tradingbot_agents.ledger.datadir import DataDirError, read_identity, try_open
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import check_schema, migrate
from tradingbot_agents.ledger.port import AccountKey, LedgerUnavailable
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.runtime.connections import read_database
from tradingbot_agents.runtime.identity import HOME, account_key, account_of
from tradingbot_api import load_file


def find_data_dir(given: Path | None) -> Path:
    """The directory that a reading command means: the one given, or the only one in ``.tradingbot``."""
    if given is not None:
        if not given.exists():
            raise DataDirError(f"{given} does not exist: name the data directory of a bot with --data-dir")
        return given
    found = sorted(path.parent for path in HOME.glob("*/tradingbot.json"))
    if len(found) == 1:
        return found[0]
    if not found:
        raise DataDirError(f"there is no data directory in {HOME}: run a bot first, or name one with --data-dir")
    raise DataDirError(
        f"there are {len(found)} data directories in {HOME}: name one with --data-dir, such as {found[0]}"
    )


def identity_at(path: Path) -> Mapping[str, str]:
    """What the directory belongs to. Raises ``DataDirError`` when nothing was run in it."""
    identity = read_identity(path)
    if not identity:
        raise DataDirError(f"{path} is not the data directory of a bot: name one with --data-dir")
    return identity


@asynccontextmanager
async def opened_database(path: Path) -> AsyncIterator[str]:
    """The address of a data directory's database, whether its bot runs now (then of its server) or not (then the
    server is started for as long as this lasts)."""
    server = EmbeddedPostgres(path)
    directory = try_open(path, now=datetime.now(UTC))
    try:
        if directory is None:
            dsn = await server.running_dsn()
            if dsn is None:
                raise LedgerUnavailable(
                    f"the bot of {path} has its data directory, and its database does not answer yet: try again"
                )
        else:
            dsn = await server.start()
        try:
            yield dsn
        finally:
            if directory is not None:
                await server.stop()
    finally:
        if directory is not None:
            directory.close()


@asynccontextmanager
async def opened_ledger(path: Path, *, update_schema: bool = False) -> AsyncIterator[PostgresLedger]:
    """The ledger of a data directory, whether its bot runs now or not."""
    identity = identity_at(path)
    async with opened_database(path) as dsn:
        if update_schema:
            await migrate(dsn)
        await check_schema(dsn)
        ledger = await PostgresLedger.connect(dsn, account_of(identity), identity["bot"])
        try:
            yield ledger
        finally:
            await ledger.close()


class OpenedBooks(msgspec.Struct, frozen=True):
    """An opened ledger, and what it is called."""

    ledger: PostgresLedger
    bot: str
    account: AccountKey
    place: str
    """The options that name it to a command."""


@asynccontextmanager
async def opened_books(data_dir: Path | None, spec: Path | None) -> AsyncIterator[OpenedBooks]:
    """What a command means: with a spec the database that the environment names, else a data directory."""
    if spec is None:
        path = find_data_dir(data_dir)
        identity = identity_at(path)
        async with opened_ledger(path) as ledger:
            yield OpenedBooks(ledger, identity["bot"], account_of(identity), f"--data-dir {path}")
        return
    bot = load_file(spec)
    database = read_database(os.environ, required=True)
    assert database is not None, "it is required"
    await check_schema(database.reveal())
    ledger = await PostgresLedger.connect(database.reveal(), account_key(bot), bot.metadata.name)
    try:
        yield OpenedBooks(ledger, bot.metadata.name, account_key(bot), f"--spec {spec}")
    finally:
        await ledger.close()
