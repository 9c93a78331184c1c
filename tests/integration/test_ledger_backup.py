"""A backup of a ledger that is in use, and what a restored one is like: older than the exchange, and held."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from support.busy_bot import write_spec
from support.ledger import ACCOUNT, BOT, NOW, connect, entry, fill, held_position, rules_of
from support.postgres import PostgresServer
from support.process import CANDLES, workshop
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.backup import BackupError, back_up, restore, without_password
from tradingbot_agents.ledger.migrate import SchemaOutdated
from tradingbot_agents.ledger.port import Fenced, Hold, Ledger, LedgerUnavailable, Role

pytestmark = pytest.mark.postgres

LATER = NOW + timedelta(days=1)


@pytest.fixture
async def empty_dsn(postgres: PostgresServer) -> AsyncIterator[str]:
    dsn = await postgres.create_database(migrated=False)
    yield dsn
    await postgres.drop_database(dsn)


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


async def content(ledger: Ledger) -> dict[str, Any]:
    return {
        "balances": await ledger.balances(),
        "positions": await ledger.positions(),
        "orders": await ledger.orders(),
        "fills": await ledger.fills(),
        "entries": await ledger.entries(),
        "decisions": await ledger.decisions(),
        "rules": await ledger.market_rules(),
    }


async def test_what_is_restored_is_what_was_backed_up(ledger_dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    ledger, risk, _ = await held_position(ledger_dsn)
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="1"))
    await ledger.keep_market_rules({"BTC/USDT": rules_of("BTC/USDT", "0.01")}, NOW)
    before = await content(ledger)
    file = tmp_path / "ledger.backup"
    assert await back_up(ledger_dsn, file) == file.stat().st_size > 0
    assert names(tmp_path) == ["ledger.backup"]
    assert await restore(empty_dsn, file, LATER) == [f"{ACCOUNT.name}/{BOT}"]
    restored = await connect(empty_dsn)
    assert await content(restored) == before
    assert [rule.violations for rule in await restored.invariants() if rule.violations] == []
    for one in (ledger, restored):
        await one.close()


async def test_a_backup_is_one_snapshot_while_bots_trade(ledger_dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    """Books that are half of before and half of after would break the invariants."""
    ledger, risk, execution = await held_position(ledger_dsn)
    done = asyncio.Event()

    async def trade() -> int:
        count = 0
        while not done.is_set():
            name = f"a{count}"
            await ledger.reserve(risk, entry(name, f"A{count}/USDT", budget="0.01", amount="0.0001", price="1"))
            await ledger.claim(execution, f"entry-{name}", NOW)
            bought = fill(f"entry-{name}", f"t-{name}", "0.0001", "1", symbol=f"A{count}/USDT")
            await ledger.book(f"entry-{name}", [bought], OrderState.FILLED, NOW)
            count += 1
        return count

    trading = asyncio.create_task(trade())
    await back_up(ledger_dsn, tmp_path / "ledger.backup")
    done.set()
    assert await trading > 0
    await restore(empty_dsn, tmp_path / "ledger.backup", LATER)
    restored = await connect(empty_dsn)
    assert [rule.violations for rule in await restored.invariants() if rule.violations] == []
    assert len(await restored.fills()) <= len(await ledger.fills())
    for one in (ledger, restored):
        await one.close()


async def test_a_restored_ledger_is_held_and_fences_off_the_lost_time(
    ledger_dsn: str, empty_dsn: str, tmp_path: Path
) -> None:
    ledger, _, _ = await held_position(ledger_dsn)
    await back_up(ledger_dsn, tmp_path / "ledger.backup")
    # Processes that started after the backup, with epochs that the restored ledger never gave.
    lost = [await ledger.raise_epoch(Role.RISK, NOW) for _ in range(5)]
    await restore(empty_dsn, tmp_path / "ledger.backup", LATER)
    restored = await connect(empty_dsn)
    hold = await restored.hold()
    assert hold is not None
    assert (hold.state, hold.by, hold.at) == (BotState.REDUCE_ONLY, "restore", LATER)
    assert "ledger.backup" in hold.reason
    assert "reconciled" in hold.reason, "it says what it waits for"
    for _ in range(6):
        current = await restored.raise_epoch(Role.RISK, LATER)
        for epoch in lost:
            with pytest.raises(Fenced):
                await restored.reserve(epoch, entry("late", "ETH/USDT", budget="1"))
    refused = await restored.reserve(current, entry("held", "ETH/USDT", budget="1"))
    assert refused.reason is not None
    assert refused.reason.value == "not_tradable_state"
    assert await restored.release_hold()
    assert (await restored.reserve(current, entry("free", "ETH/USDT", budget="1"))).reason is None
    for one in (ledger, restored):
        await one.close()


async def test_a_stricter_hold_stays(ledger_dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    ledger, _, _ = await held_position(ledger_dsn)
    await ledger.place_hold(Hold(state=BotState.STOPPED, reason="holiday", by="command", at=NOW))
    await back_up(ledger_dsn, tmp_path / "ledger.backup")
    await restore(empty_dsn, tmp_path / "ledger.backup", LATER)
    restored = await connect(empty_dsn)
    hold = await restored.hold()
    assert hold is not None
    assert hold.state is BotState.STOPPED
    for one in (ledger, restored):
        await one.close()


async def test_nothing_is_overwritten(ledger_dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "ledger.backup"
    file.write_text("precious")
    with pytest.raises(BackupError, match="exists: name another file"):
        await back_up(ledger_dsn, file)
    assert file.read_text() == "precious"
    with pytest.raises(BackupError, match="no folder"):
        await back_up(ledger_dsn, tmp_path / "nowhere" / "ledger.backup")
    await back_up(ledger_dsn, tmp_path / "good.backup")
    with pytest.raises(BackupError, match=r"has \d+ tables already: restore into a new, empty one"):
        await restore(ledger_dsn, tmp_path / "good.backup", LATER)


async def test_what_is_no_backup_changes_nothing(ledger_dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(BackupError, match="is no file"):
        await restore(empty_dsn, tmp_path / "missing", LATER)
    good, cut = tmp_path / "good.backup", tmp_path / "cut.backup"
    await back_up(ledger_dsn, good)
    cut.write_bytes(good.read_bytes()[: good.stat().st_size // 2])
    for bad in (cut, Path(__file__)):
        with pytest.raises(BackupError, match="pg_restore ended with code 1"):
            await restore(empty_dsn, bad, LATER)
    connection = await asyncpg.connect(empty_dsn)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()
    assert await restore(empty_dsn, good, LATER) == []


async def test_a_database_that_is_not_there_or_not_ours(empty_dsn: str, tmp_path: Path) -> None:
    with pytest.raises(SchemaOutdated):
        await back_up(empty_dsn, tmp_path / "ledger.backup")
    missing = empty_dsn.replace("/test_", "/no_such_")
    with pytest.raises(LedgerUnavailable):
        await back_up(missing, tmp_path / "ledger.backup")
    (tmp_path / "any").write_text("")
    with pytest.raises(LedgerUnavailable):
        await restore(missing, tmp_path / "any", LATER)
    assert names(tmp_path) == ["any"]


@pytest.mark.parametrize(
    ("dsn", "address", "password"),
    [
        ("postgresql://bot:h%40sh@db:5432/ledger", "postgresql://bot@db:5432/ledger", "h@sh"),
        ("postgresql://bot@db/ledger?sslmode=require", "postgresql://bot@db/ledger?sslmode=require", None),
        ("postgresql://bot@/ledger?host=/run/pg", "postgresql://bot@/ledger?host=/run/pg", None),
    ],
)
def test_no_command_line_shows_the_password(dsn: str, address: str, password: str | None) -> None:
    assert without_password(dsn) == (address, password)


def test_the_commands(postgres: PostgresServer, tmp_path: Path) -> None:
    """A run's ledger, while nothing runs; then into an empty database; then not once more."""
    with workshop() as shop:
        spec = write_spec(shop.path / "bot.yaml", {"exchange.replay": {"source": str(CANDLES)}})
        run = shop.run("run", spec, "--data-dir", "data", "--until", "2024-03-01T06:00Z", "--output", "json")
        assert run.code == 0, run
        backup = shop.run("backup", "ledger.backup", "--data-dir", "data")
        assert backup.code == 0, backup
        assert "bytes; restore it with: tradingbot restore ledger.backup" in backup.out
        again = shop.run("backup", "ledger.backup", "--data-dir", "data")
        assert (again.code, again.err) == (
            4,
            "tradingbot: ledger.backup exists: name another file, a backup never replaces one\n",
        )
        missing = shop.run("restore", "ledger.backup")
        assert (missing.code, missing.err) == (
            2,
            "tradingbot: TRADINGBOT_DATABASE_URL is not set: set it to the address of the database\n",
        )
        dsn = asyncio.run(postgres.create_database(migrated=False))
        try:
            restored = shop.run("restore", "ledger.backup", environment={"TRADINGBOT_DATABASE_URL": dsn})
            assert restored.code == 0, restored
            assert "busy/busy is held at ReduceOnly" in restored.out
        finally:
            asyncio.run(postgres.drop_database(dsn))
