"""Migrations against a real server: what yoyo makes of our SQL, two at once, and what a kill or an error leaves."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import quote

import asyncpg
import pytest

from support.postgres import PostgresServer
from tradingbot_agents.ledger.migrate import (
    MIGRATIONS,
    MigrationError,
    SchemaOutdated,
    SchemaUnknown,
    check_schema,
    known_migrations,
    migrate,
    required_version,
    schema_version,
)
from tradingbot_agents.ledger.port import LedgerUnavailable

pytestmark = pytest.mark.postgres

# Whatever a splitter of statements could take for an end.
FUNCTIONS = r"""
-- Orders; and what moves them.
CREATE TABLE orders (id int PRIMARY KEY, note text DEFAULT 'x;y', "end" int);

CREATE FUNCTION settle(wanted int) RETURNS TABLE (ok boolean, reason text) LANGUAGE plpgsql AS $$
DECLARE
    found_row record;
    steps int := 0; -- it's a comment; isn't it
BEGIN
    FOR found_row IN SELECT * FROM orders LOOP
        IF found_row.id > 1 THEN steps := steps + 1; ELSIF found_row.id = 0 THEN CONTINUE; ELSE steps := 0; END IF;
        CASE WHEN steps > 1 THEN steps := 3; ELSE steps := 4; END CASE;
        BEGIN
            INSERT INTO orders (id) VALUES (found_row.id);
        EXCEPTION WHEN unique_violation THEN
            /* 100 % sure; ' */
            RAISE NOTICE 'taken; % of %', found_row.id, 'don''t';
        END;
    END LOOP;
    WHILE steps < 10 LOOP steps := steps + 1; EXIT WHEN steps = 7; END LOOP;
    RETURN QUERY SELECT steps = wanted, format('%s;%s', steps, $q$ $1; $q$);
END;
$$;

CREATE FUNCTION forbid() RETURNS trigger LANGUAGE plpgsql AS $function$
BEGIN
    IF TG_OP = 'UPDATE' THEN
        RAISE EXCEPTION 'entries are never changed; book another';
    END IF;
    RETURN NEW;
END
$function$;

CREATE TRIGGER forbid BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION forbid();

CREATE FUNCTION answer() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 41; SELECT 42; END;

DO $do$ BEGIN EXECUTE format($q$ CREATE TABLE %I (x int); $q$, 'made by do'); END $do$;

INSERT INTO orders (id) SELECT CASE WHEN true THEN 1 ELSE 2 END;
SELECT 'a row that is selected' AS shown;
COMMENT ON TABLE orders IS 'begin; declare; case'; CREATE INDEX by_note ON orders (note);
"""


@pytest.fixture
async def dsn(postgres: PostgresServer) -> AsyncIterator[str]:
    """Of an empty database."""
    made = await postgres.create_database(migrated=False)
    yield made
    await postgres.drop_database(made)


async def fetch(dsn: str, query: str) -> list[tuple[object, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query)]
    finally:
        await connection.close()


async def tables(dsn: str) -> set[object]:
    rows = await fetch(dsn, "SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows if not str(name).lstrip("_").startswith("yoyo")}


async def test_functions_with_dollar_quoted_bodies(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_orders.sql").write_text(FUNCTIONS)
    assert await migrate(dsn, tmp_path) == ["0001_orders"]
    assert await fetch(dsn, "SELECT * FROM settle(7)") == [(True, "7; $1; ")]
    assert await fetch(dsn, "SELECT answer()") == [(42,)]
    assert await tables(dsn) == {"orders", "made by do"}
    with pytest.raises(asyncpg.RaiseError, match="entries are never changed; book another"):
        await fetch(dsn, "UPDATE orders SET id = 2")


async def test_only_what_is_new_is_applied_in_order(dsn: str, tmp_path: Path) -> None:
    assert await schema_version(dsn) is None
    (tmp_path / "0002_b.sql").write_text("ALTER TABLE a ADD COLUMN more int;")
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (id int);")
    assert known_migrations(tmp_path) == ["0001_a", "0002_b"]
    with pytest.raises(SchemaOutdated, match=r"lacks 0001_a, 0002_b, .*: run 'tradingbot migrate'"):
        await check_schema(dsn, tmp_path)
    assert await migrate(dsn, tmp_path) == ["0001_a", "0002_b"]
    (tmp_path / "0003_c.sql").write_text("CREATE TABLE c (id int);")
    with pytest.raises(SchemaOutdated, match="lacks 0003_c,"):
        await check_schema(dsn, tmp_path)
    assert await migrate(dsn, tmp_path) == ["0003_c"]
    await check_schema(dsn, tmp_path)
    assert await schema_version(dsn) == required_version(tmp_path) == "0003_c"


async def test_a_schema_that_is_up_to_date_starts_no_process(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (id int);")
    await migrate(dsn, tmp_path)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert await migrate(dsn, tmp_path) == []


def test_neither_yoyo_nor_psycopg_is_loaded_here() -> None:
    check = "import sys, tradingbot_agents.ledger.migrate; print({'yoyo', 'psycopg', 'sqlparse'} & {*sys.modules})"
    assert (
        subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout == "set()\n"
    )


async def test_a_newer_schema_is_refused(dsn: str, tmp_path: Path) -> None:
    for name in ("0001_a", "0002_b"):
        (tmp_path / f"{name}.sql").write_text(f"CREATE TABLE {name[-1]} (id int);")
    await migrate(dsn, tmp_path)
    (tmp_path / "0002_b.sql").unlink()
    for refused in (check_schema, migrate):
        with pytest.raises(SchemaUnknown, match=r"has 0002_b, .* \(it knows up to 0001_a\): run the newer release"):
            await refused(dsn, tmp_path)


async def test_a_failing_migration_leaves_nothing_of_itself(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (id int);")
    broken = tmp_path / "0002_b.sql"
    broken.write_text("CREATE TABLE b (id int);\nINSERT INTO b VALUES (1);\nSELECT nonsense FROM b;\n")
    (tmp_path / "0003_c.sql").write_text("CREATE TABLE c (id int);")
    with pytest.raises(MigrationError) as failed:
        await migrate(dsn, tmp_path)
    assert str(broken) in str(failed.value)
    assert 'column "nonsense" does not exist' in str(failed.value)
    assert await tables(dsn) == {"a"}
    assert await schema_version(dsn) == "0001_a"
    broken.write_text("CREATE TABLE b (id int);")
    assert await migrate(dsn, tmp_path) == ["0002_b", "0003_c"]


async def test_a_failure_at_the_commit_is_a_failure(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text(
        "CREATE TABLE a (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);\nINSERT INTO a VALUES (1), (1);"
    )
    with pytest.raises(MigrationError, match=r"0001_a.sql: duplicate key value"):
        await migrate(dsn, tmp_path)
    assert (await tables(dsn), await schema_version(dsn)) == (set(), None)


async def test_a_migration_outside_of_a_transaction_is_refused(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("-- transactional: false\nCREATE TABLE a (id int);")
    with pytest.raises(MigrationError, match=r"0001_a.sql: 'transactional: false' could leave a half"):
        await migrate(dsn, tmp_path)
    assert await tables(dsn) == set()


async def test_a_missing_dependency_is_said(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0002_b.sql").write_text("-- depends: 0001_a\nCREATE TABLE b (id int);")
    with pytest.raises(MigrationError, match=r"Could not resolve dependencies in .*0002_b.sql"):
        await migrate(dsn, tmp_path)


async def test_two_at_once_apply_each_migration_once(dsn: str, tmp_path: Path) -> None:
    for number in range(1, 6):
        (tmp_path / f"000{number}.sql").write_text(f"CREATE TABLE t{number} (id int); SELECT pg_sleep(0.02);")
    both = await asyncio.gather(migrate(dsn, tmp_path), migrate(dsn, tmp_path))
    assert sorted([*both[0], *both[1]]) == known_migrations(tmp_path)
    await check_schema(dsn, tmp_path)


async def test_a_killed_migration_is_no_obstacle(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (id int);")
    slow = tmp_path / "0002_b.sql"
    slow.write_text("CREATE TABLE b (id int);\nSELECT pg_sleep(60);")
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tradingbot_agents.ledger.migrate", stdin=asyncio.subprocess.PIPE
    )
    assert child.stdin is not None
    child.stdin.write(json.dumps({"dsn": dsn, "directory": str(tmp_path)}).encode())
    child.stdin.close()
    asleep = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%' AND state = 'active'"
    while not await fetch(dsn, asleep):
        assert child.returncode is None
    child.kill()
    await child.wait()
    assert await schema_version(dsn) == "0001_a"
    # The statement that the dead one has left running ends by itself; until then it is waited for.
    ((pid,),) = await fetch(dsn, asleep)
    slow.write_text("CREATE TABLE b (id int);")
    waiting = asyncio.create_task(migrate(dsn, tmp_path))
    while not await fetch(dsn, "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"):
        assert not waiting.done()
    await fetch(dsn, f"SELECT pg_terminate_backend({pid})")
    assert await waiting == ["0002_b"]
    assert await tables(dsn) == {"a", "b"}


async def test_a_lock_of_yoyos_that_a_killed_run_has_left(dsn: str, tmp_path: Path) -> None:
    await fetch(dsn, "CREATE TABLE yoyo_lock (locked int DEFAULT 1 PRIMARY KEY, ctime timestamp, pid int NOT NULL)")
    await fetch(dsn, "INSERT INTO yoyo_lock (pid) VALUES (1)")
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (id int);")
    assert await migrate(dsn, tmp_path) == ["0001_a"]


async def test_a_cancelled_migration_ends_its_process(dsn: str, tmp_path: Path) -> None:
    (tmp_path / "0001_a.sql").write_text("CREATE TABLE a (id int); SELECT pg_sleep(60);")
    running = asyncio.create_task(migrate(dsn, tmp_path))
    backend = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(60)%'"
    while not (found := await fetch(dsn, backend)):
        assert not running.done()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    await fetch(dsn, f"SELECT pg_terminate_backend({found[0][0]})")
    assert await tables(dsn) == set()


async def test_a_folder_with_signs_of_a_pattern(dsn: str, tmp_path: Path) -> None:
    folder = tmp_path / "v[1]*"
    folder.mkdir()
    (folder / "0001_a.sql").write_text("CREATE TABLE a (id int);")
    assert await migrate(dsn, folder) == ["0001_a"]


async def test_a_database_that_can_not_be_reached(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnavailable, match=r"can not be reached .*: see that it runs"):
        await migrate(f"postgresql://tradingbot@/tradingbot?host={quote(str(tmp_path))}", tmp_path)


async def test_the_ledgers_own_migrations(ledger_dsn: str) -> None:
    await check_schema(ledger_dsn)
    assert await migrate(ledger_dsn) == []
    assert await schema_version(ledger_dsn) == required_version() == max(known_migrations(MIGRATIONS), default=None)
