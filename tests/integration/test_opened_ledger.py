"""The ledger of a data directory, opened by a command that reads: beside a bot that runs, and without one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from support.postgres import scratch_dir
from support.specs import PAPER, bot_of
from tradingbot_agents.ledger.datadir import DataDir, is_locked
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import SchemaOutdated, migrate
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.runtime.data import opened_ledger
from tradingbot_agents.runtime.identity import account_key, identity_of

pytestmark = pytest.mark.postgres

NOW = datetime(2024, 3, 1, tzinfo=UTC)
BOT = bot_of(PAPER)


async def _make(path: Path, *, account: bool) -> None:
    with DataDir.open(path, now=NOW, identity=identity_of(BOT, 1, "candles")):
        server = EmbeddedPostgres(path)
        dsn = await server.start()
        try:
            if account:
                await migrate(dsn)
                ledger = await PostgresLedger.connect(dsn, account_key(BOT), BOT.metadata.name)
                await ledger.open_account({"USDT": Decimal("84.54")}, [], NOW, quote="USDT")
                await ledger.close()
        finally:
            await server.stop()


@pytest.fixture(scope="module")
def finished() -> Iterator[Path]:
    """A data directory with an account, that nobody uses."""
    with scratch_dir() as path:
        asyncio.run(_make(path, account=True))
        yield path


async def total(path: Path) -> Decimal:
    async with opened_ledger(path) as ledger:
        return (await ledger.balances())["USDT"].total


async def test_without_a_bot_the_server_runs_for_as_long_as_it_is_read(finished: Path) -> None:
    server = EmbeddedPostgres(finished)
    async with opened_ledger(finished) as ledger:
        assert (await ledger.balances())["USDT"].total == Decimal("84.54")
        assert is_locked(finished), "nobody starts a bot on it meanwhile"
        assert await server.running_dsn() is not None
    assert not is_locked(finished)
    assert await server.running_dsn() is None


async def test_two_may_read_at_once(finished: Path) -> None:
    async with opened_ledger(finished):
        assert await total(finished) == Decimal("84.54")


async def test_beside_a_bot_its_server_is_used_and_left_running(finished: Path) -> None:
    server = EmbeddedPostgres(finished)
    with DataDir.open(finished, now=NOW):
        await server.start()
        try:
            assert await total(finished) == Decimal("84.54")
            assert await server.running_dsn() is not None
        finally:
            await server.stop()


async def test_a_bot_whose_database_is_not_there_yet_is_waited_for_by_the_person(finished: Path) -> None:
    with (
        DataDir.open(finished, now=NOW),
        pytest.raises(LedgerUnavailable, match="its database does not answer yet: try again"),
    ):
        await total(finished)


async def test_a_server_left_by_a_killed_bot_is_taken_over_and_stopped(finished: Path) -> None:
    left = EmbeddedPostgres(finished)
    await left.start()
    assert await total(finished) == Decimal("84.54")
    assert await left.running_dsn() is None
    await left.stop()


async def test_when_reading_fails_nothing_stays_behind(finished: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        async with opened_ledger(finished):
            raise ZeroDivisionError("in the command")
    assert not is_locked(finished)
    assert await EmbeddedPostgres(finished).running_dsn() is None


async def test_a_database_without_our_schema_is_refused_until_it_is_migrated(data_dir: Path) -> None:
    await _make(data_dir, account=False)
    with pytest.raises(SchemaOutdated, match="migrate"):
        await total(data_dir)
    async with opened_ledger(data_dir, update_schema=True):
        pass
    async with opened_ledger(data_dir) as ledger:
        assert await ledger.balances() == {}
