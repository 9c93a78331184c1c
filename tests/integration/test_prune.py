"""``tradingbot prune``: the diary gets shorter, the books stay, and what was decided stays decided."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
import pytest

from support.ledger import NOW, entry, exit_leg, exit_request, fill, refusal, sale
from support.specs import PAPER, bot_of, spec_text
from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.pruning import prune
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger import retention
from tradingbot_agents.ledger.datadir import DataDir, DataDirMismatch
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import migrate
from tradingbot_agents.ledger.port import EquityPoint, Hold, Retention, Role
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.runtime.identity import account_key, identity_of

pytestmark = pytest.mark.postgres

D = Decimal
BOT = bot_of(PAPER)
KEPT = Retention(
    events=timedelta(days=10),
    severe_events=timedelta(days=20),
    refusals=timedelta(days=10),
    equity=timedelta(days=10),
    reports=timedelta(days=10),
)
DIARY = {"events", "decisions", "equity_points"}


async def history(dsn: str, *, days: int = 30) -> PostgresLedger:
    """A round trip and a refusal long ago, a position of now, and a diary of an hour's pace over all that time."""
    ledger = await PostgresLedger.connect(dsn, account_key(BOT), BOT.metadata.name)
    begin = NOW - timedelta(days=days)
    await ledger.open_account({"USDT": D("84.54")}, (), begin, quote="USDT")
    risk, execution = await ledger.raise_epoch(Role.RISK, begin), await ledger.raise_epoch(Role.EXECUTION, begin)
    await ledger.reserve(risk, entry("old", at=begin))
    await ledger.claim(execution, "entry-old", begin)
    await ledger.book("entry-old", [fill("entry-old", "t1", at=begin)], OrderState.FILLED, begin)
    await ledger.request_exit(risk, exit_request("sell", at=begin))
    await ledger.submit_leg(execution, exit_leg("exit", at=begin))
    await ledger.book("exit", [sale("exit", "t2", at=begin)], OrderState.FILLED, begin)
    await ledger.refuse(risk, [msgspec.structs.replace(refusal("long-ago"), at=begin)])
    await ledger.reserve(risk, entry("denied", "ETH/USDT", budget="1", at=begin))
    await ledger.deny(execution, "entry-denied", "too late", begin)
    await ledger.book_outside_movement("USDT", D("-0.5"), "long-ago", begin)
    await ledger.refuse(risk, [refusal("today")])
    await ledger.reserve(risk, entry("new", at=NOW))
    await ledger.claim(execution, "entry-new", NOW)
    await ledger.book("entry-new", [fill("entry-new", "t3")], OrderState.FILLED, NOW)
    await ledger.place_hold(Hold(state=BotState.REDUCE_ONLY, reason="why", by="me", at=begin))
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        """
        INSERT INTO events (bot, digest, name, severity, at, fields)
        SELECT 1, 'e' || n, 'feed_stale', CASE n % 24 WHEN 0 THEN 'severe' ELSE 'warning' END,
            now - n * interval '1 hour', '{}' FROM generate_series(0, 24 * $days - 1) n, (SELECT $now AS now) t;
        INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence, correlation_id, at)
        SELECT 1, 'intent-r' || n, 'BTC/USDT', 'buy', 'no_edge', '', 1, 'c', now - n * interval '1 hour'
        FROM generate_series(0, 24 * $days - 1) n, (SELECT $now AS now) t;
        INSERT INTO equity_points (bot, at, equity)
        SELECT 1, now - n * interval '1 hour', 80 + (n * 7) % 13
        FROM generate_series(0, 24 * $days - 1) n, (SELECT $now AS now) t;
        """.replace("$days", str(days)).replace("$now", f"'{NOW.isoformat()}'::timestamptz")
    )
    await connection.close()
    return ledger


async def rows(dsn: str) -> dict[str, list[Any]]:
    """Every row of every table."""
    connection = await asyncpg.connect(dsn)
    tables = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
    found = {
        row[0]: [tuple(each) for each in await connection.fetch(f"SELECT * FROM {row[0]} ORDER BY 1, 2")]
        for row in tables
    }
    await connection.close()
    return found


async def violations(ledger: PostgresLedger) -> list[str]:
    return [text for rule in await ledger.invariants() for text in rule.violations]


async def test_the_diary_gets_shorter_and_the_books_stay(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "BATCH", 50)
    ledger = await history(ledger_dsn)
    before = await rows(ledger_dsn)
    refusals = await ledger.refusals()
    expected = await ledger.prune(KEPT, NOW, dry_run=True)
    assert await rows(ledger_dsn) == before
    assert await ledger.prune(KEPT, NOW, dry_run=False) == expected
    after = await rows(ledger_dsn)

    # One of each an hour, and an event at noon is severe.
    assert [(each.what, each.rows) for each in expected] == [
        ("events", 20 * 23),
        ("severe events", 9),
        ("refusals", 20 * 24),
        ("equity points", len(before["equity_points"]) - len(after["equity_points"])),
    ]
    assert {table: found for table, found in after.items() if table not in DIARY} == {
        table: found for table, found in before.items() if table not in DIARY
    }
    assert set(after) == set(before)
    assert all(set(after[table]) < set(before[table]) for table in DIARY)
    assert await violations(ledger) == []
    assert await ledger.refusals() == {**refusals, "no_edge": 10 * 24 + 1, "no_fresh_price": 1}
    assert (await ledger.decision("sell", "none")) is not None, "an exit that was approved stays decided"
    assert [each.rows for each in await ledger.prune(KEPT, NOW, dry_run=False)] == [0, 0, 0, 0]
    await ledger.close()


async def test_of_a_day_the_highest_the_lowest_and_the_last_point_are_left(ledger_dsn: str) -> None:
    ledger = await history(ledger_dsn)
    before = await ledger.equity()
    await ledger.prune(KEPT, NOW, dry_run=False)
    after = await ledger.equity()
    assert len(after) < len(before) / 2
    limit = (NOW - KEPT.equity).replace(hour=0)

    def by_day(points: list[EquityPoint]) -> dict[Any, list[EquityPoint]]:
        found: dict[Any, list[EquityPoint]] = {}
        for point in points:
            found.setdefault(point.at.date(), []).append(point)
        return found

    assert by_day(after).keys() == by_day(before).keys()
    for day, points in by_day(before).items():
        left = by_day(after)[day]
        if points[-1].at >= limit:
            assert left == points
        else:
            assert len(left) <= 3
            assert left[-1] == points[-1]
            assert max(each.equity for each in left) == max(each.equity for each in points)
            assert min(each.equity for each in left) == min(each.equity for each in points)
    assert await ledger.equity(limit) == [each for each in before if each.at >= limit]
    await ledger.close()


async def test_what_was_decided_within_the_retention_stays_decided(ledger_dsn: str) -> None:
    ledger = await history(ledger_dsn)
    risk = await ledger.raise_epoch(Role.RISK, NOW)
    await ledger.prune(KEPT, NOW, dry_run=False)
    for name in ("today", "r239"):
        again = await ledger.reserve(risk, entry(name, "ETH/USDT", budget="1"))
        assert (name, again.new, again.reason is None) == (name, False, False)
    # Approved ones are orders, which are never removed.
    for name in ("old", "denied", "new"):
        assert (name, (await ledger.reserve(risk, entry(name, budget="1"))).new) == (name, False)
    assert await violations(ledger) == []
    await ledger.close()


async def test_age_is_counted_from_the_newest_record(ledger_dsn: str) -> None:
    """A replay's time is long ago, and a bot that stood still for a year comes back to what it left."""
    ledger = await history(ledger_dsn)
    a_year_later = await ledger.prune(KEPT, NOW + timedelta(days=365), dry_run=True)
    assert a_year_later == await ledger.prune(KEPT, NOW, dry_run=True)
    # A record of a clock that went ahead does not make all others old.
    await ledger.record_equity(EquityPoint(NOW + timedelta(days=365), D(1), D(0)))
    assert await ledger.prune(KEPT, NOW, dry_run=True) == a_year_later
    await ledger.close()


async def test_another_bot_of_the_account_keeps_its_own(ledger_dsn: str) -> None:
    ledger = await history(ledger_dsn)
    other = await PostgresLedger.connect(ledger_dsn, account_key(BOT), "other")
    assert await other.prune(KEPT, NOW, dry_run=False) == []
    await other.raise_epoch(Role.RISK, NOW)
    await other.record_equity(EquityPoint(NOW, D(1), D(0)))
    connection = await asyncpg.connect(ledger_dsn)
    other_bot = await connection.fetchval("SELECT id FROM bots WHERE name = 'other'")
    await connection.execute("UPDATE events SET bot = $1 WHERE number % 2 = 0", other_bot)
    of_ours = await connection.fetchval("SELECT count(*) FROM events WHERE bot <> $1", other_bot)
    removed = await other.prune(KEPT, NOW, dry_run=False)
    assert removed[0].rows > 100
    assert await connection.fetchval("SELECT count(*) FROM events WHERE bot <> $1", other_bot) == of_ours
    await connection.close()
    for one in (ledger, other):
        await one.close()


# --- the command


async def ran(
    capsys: pytest.CaptureFixture[str], spec: Path, data_dir: Path | None = None, *, dry_run: bool = False
) -> Mapping[str, Any]:
    assert await prune(spec, data_dir, "json", dry_run=dry_run) == exit_codes.OK
    told: Mapping[str, Any] = json.loads(capsys.readouterr().out)
    return told


async def test_the_command_on_the_database_of_the_environment(
    ledger_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "bot.yaml"
    kept = {"events": "10d", "severeEvents": "20d", "refusals": "10d", "equity": "10d"}
    spec.write_text(spec_text(PAPER, database__history=kept))
    monkeypatch.setenv("TRADINGBOT_DATABASE_URL", ledger_dsn)
    assert await prune(spec, None, "text", dry_run=False) == exit_codes.OK
    assert capsys.readouterr().out == "paper: its ledger is empty\n"
    ledger = await history(ledger_dsn)
    would = await ran(capsys, spec, dry_run=True)
    assert (would["bot"], would["dry_run"]) == ("paper", True)
    assert await prune(spec, None, "text", dry_run=False) == exit_codes.OK
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "paper: removed"
    assert [int(line.split()[0].replace(",", "")) for line in lines[1:]] == [
        each["rows"] for each in would["removed"]
    ]
    assert lines[1].split(None, 1)[1] == "events          from before 2025-09-29 12:00 UTC"
    assert {each["rows"] for each in (await ran(capsys, spec))["removed"]} == {0}
    assert await violations(ledger) == []
    await ledger.close()


async def test_the_command_on_a_data_directory(
    data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TRADINGBOT_DATABASE_URL", raising=False)
    spec = tmp_path / "bot.yaml"
    spec.write_text(spec_text(PAPER, database__history={"events": "10d"}))
    with DataDir.open(data_dir, now=datetime.now(UTC), identity=identity_of(BOT, 1, "candles")):
        server = EmbeddedPostgres(data_dir)
        dsn = await server.start()
        await migrate(dsn)
        await (await history(dsn, days=12)).close()
        await server.stop()
    told = await ran(capsys, spec, data_dir)
    assert [each["rows"] for each in told["removed"]] == [2 * 23, 0, 0, 0]

    other = tmp_path / "other.yaml"
    other.write_text(spec_text(PAPER).replace("name: paper", "name: another", 1))
    with pytest.raises(
        DataDirMismatch, match=r"is of bot paper, and .*other\.yaml is of bot another: name the spec or"
    ):
        await prune(other, data_dir, "text", dry_run=False)
