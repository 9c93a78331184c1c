"""The ledger on a PostgreSQL that is not ours: TLS, passwords, a pooler, a failover, lines that break anywhere."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg
import msgspec
import pytest

from support.certificates import Authority
from support.evidence import settings
from support.ledger import (
    ACCOUNT,
    BOT,
    NOW,
    entry,
    exit_leg,
    exit_request,
    fill,
    held_position,
    opened,
    refusal,
    rules_of,
    sale,
)
from support.pgbouncer import NO_PGBOUNCER, PgBouncer, find_pgbouncer, running_pgbouncer
from support.pgbouncer import PASSWORD as POOLER_PASSWORD
from support.postgres import PostgresServer, scratch_dir
from support.postgres_wire import Wire, wire_to
from support.system_postgres import NO_POSTGRES, PASSWORD, SystemPostgres, find_programs, give_away, system_server
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import BotState, Leg
from tradingbot_agents.ledger import snapshot
from tradingbot_agents.ledger.backup import BackupError, back_up, restore
from tradingbot_agents.ledger.migrate import MigrationError, check_schema, migrate
from tradingbot_agents.ledger.port import (
    Booking,
    Decision,
    Epoch,
    EquityPoint,
    Hold,
    LedgerAccessRefused,
    LedgerError,
    LedgerUnavailable,
    Role,
)
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.ledger.reports import Lease, NewReport
from tradingbot_agents.reality.evidence import LedgerEvidence
from tradingbot_agents.runtime.gathering_ledger import ledger_evidence

pytestmark = pytest.mark.postgres

D = Decimal


async def violations(ledger: PostgresLedger) -> dict[str, tuple[str, ...]]:
    return {rule.name: rule.violations for rule in await ledger.invariants() if rule.violations}


def programs() -> Path:
    found = find_programs()
    if found is None:
        pytest.skip(NO_POSTGRES)
    return found


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def told(error: BaseException) -> str:
    """All that a log could show of an error, with what led to it."""
    return "".join(traceback.format_exception(error)) + repr(error)


# --- TLS and passwords


class Secured(msgspec.Struct, frozen=True):
    server: SystemPostgres
    authority: Path
    other_authority: Path


@pytest.fixture(scope="module")
def secured() -> Iterator[Secured]:
    """A server that speaks TLS, the authority that signed for it, and one that did not."""
    folder = programs()
    with scratch_dir() as path:
        authority = Authority(path, "authority")
        files = authority.sign("localhost")
        for file in files:
            give_away(file)
        settings = {"ssl": "on", "ssl_cert_file": str(files[0]), "ssl_key_file": str(files[1])}
        with system_server(folder, settings) as server:
            other = Authority(path, "other-authority")
            yield Secured(server, authority.file, other.file)


async def test_over_tls_with_a_server_whose_authority_we_know(secured: Secured) -> None:
    url = secured.server.url(host="localhost", sslmode="verify-full", sslrootcert=str(secured.authority))
    await migrate(url)
    await check_schema(url)
    ledger, risk, _ = await opened(url)
    assert (await ledger.reserve(risk, entry("btc"))).available_after == D("16.91")
    assert not ledger._database.pooled
    connection = await asyncpg.connect(url)
    sessions = await connection.fetch(
        "SELECT s.ssl FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'tradingbot'"
    )
    await connection.close()
    assert len(sessions) >= 1
    assert all(row["ssl"] for row in sessions)
    await ledger.close()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"sslrootcert": "other"},
            "can not be trusted (.*): its certificate must be of the authority in sslrootcert",
        ),
        ({"host": "127.0.0.1"}, "can not be trusted (.*IP address mismatch.*): .*name the host of the address"),
        ({"sslrootcert": "/nowhere/ca.pem"}, "sslrootcert of the address.*there is no file /nowhere/ca.pem"),
        ({"password": "not-the-pass"}, "does not let us in (.*password authentication failed.*): correct user or"),
        ({"database": "nowhere"}, 'is not there (database "nowhere" does not exist): create it'),
        ({"sslmode": "strict"}, "can not be read (`sslmode` parameter must be one of.*): write it as postgresql://"),
    ],
    ids=["authority", "host", "file", "password", "database", "sslmode"],
)
async def test_what_only_a_person_can_mend_is_one_clear_error(
    secured: Secured, change: dict[str, str], words: str
) -> None:
    given = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(secured.authority), **change}
    if given["sslrootcert"] == "other":
        given["sslrootcert"] = str(secured.other_authority)
    url = secured.server.url(**given)
    await refused(url, words.replace("(", r"\(").replace(")", r"\)"))


async def refused(url: str, words: str) -> None:
    """By the ledger, by a migration and by the look at the schema, once each and without the password."""
    for attempt in (PostgresLedger.connect(url, ACCOUNT, BOT), migrate(url), check_schema(url)):
        with pytest.raises(LedgerAccessRefused, match=words) as error:
            await attempt
        for secret in (PASSWORD, POOLER_PASSWORD, "not-the-pass"):
            assert secret not in told(error.value)


async def test_a_server_without_tls_is_refused_when_tls_is_demanded(postgres: PostgresServer) -> None:
    socket = Path(postgres.dsn.partition("host=")[2].partition("&")[0]) / ".s.PGSQL.5432"
    async with wire_to(socket) as wire:
        address = f"postgresql://tradingbot:{PASSWORD}@127.0.0.1:{wire.port}/tradingbot"
        await refused(f"{address}?sslmode=require", "does not speak TLS.*turn it on there")
        await refused(f"{address}?sslmode=verify-full&sslrootcert={__file__}", "PEM files that belong together")


async def test_a_server_that_ends_in_the_middle_of_the_greeting_is_away(secured: Secured) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"S")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        url = f"postgresql://bot@127.0.0.1:{port}/db?sslmode=verify-ca&sslrootcert={secured.authority}"
        with pytest.raises(LedgerUnavailable, match="does not answer") as error:
            await PostgresLedger.connect(url, ACCOUNT, BOT)
        assert not isinstance(error.value, LedgerAccessRefused)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://tradingbot:pass/word-0815@localhost:1/db",
        "postgresql://tradingbot:[word-0815@localhost:1/db",
        "postgresql://tradingbot:a@[word-0815@localhost:1/db",
        "postgresql://tradingbot:word-0815@localhost:x1/db",
        "postgresql://tradingbot:word-0815@localhost:1/db?sslmode",
        "postgresql://tradingbot:#word-0815@localhost:1/db",
        "postgresql://tradingbot:word-0815@localhost:1/db",
        "postgresql://tradingbot:word-0815@nowhere.invalid:1/db",
    ],
)
async def test_no_error_shows_a_password(url: str, tmp_path: Path) -> None:
    for attempt in (PostgresLedger.connect(url, ACCOUNT, BOT), migrate(url), back_up(url, tmp_path / "backup")):
        with pytest.raises(LedgerUnavailable) as error:
            await attempt
        assert "word-0815" not in told(error.value)


async def test_a_backup_and_its_restore_over_tls(
    secured: Secured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the wheel's PostgreSQL 18 to an older one of the system, and from there to itself."""
    server = secured.server
    await execute(server.url(), "CREATE DATABASE source", "CREATE DATABASE target")
    more = {"host": "localhost", "sslmode": "verify-full", "sslrootcert": str(secured.authority)}
    source, target = server.url("source", **more), server.url("target", **more)
    await migrate(source)
    ledger, risk, execution = await opened(source)
    await trade(ledger, risk, execution)
    before = await books(ledger)
    await ledger.close()
    assert await back_up(source, tmp_path / "backup") > 0
    assert await restore(target, tmp_path / "backup", NOW) == [f"{ACCOUNT.name}/{BOT}"]
    restored = await PostgresLedger.connect(target, ACCOUNT, BOT)
    hold = await restored.hold()
    assert hold is not None
    assert hold.state is BotState.REDUCE_ONLY
    await restored.release_hold()
    assert await books(restored) == before
    await restored.close()
    monkeypatch.setattr("tradingbot_agents.ledger.backup._DEBIANS", tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BackupError, match="install PostgreSQL's client programs") as error:
        await back_up(source, tmp_path / "another")
    assert PASSWORD not in told(error.value)


async def test_a_restore_that_the_database_refuses_leaves_nothing(
    ledger_dsn: str, secured: Secured, tmp_path: Path
) -> None:
    server = secured.server
    await execute(
        server.url(), "CREATE DATABASE closed", "ALTER DATABASE closed SET default_transaction_read_only = on"
    )
    await (await opened(ledger_dsn))[0].close()
    await back_up(ledger_dsn, tmp_path / "backup")
    with pytest.raises(BackupError, match=r"psql ended with code 3: .*read-only transaction"):
        await restore(server.url("closed"), tmp_path / "backup", NOW)
    await execute(server.url(), "ALTER DATABASE closed RESET default_transaction_read_only")
    assert await restore(server.url("closed"), tmp_path / "backup", NOW) == [f"{ACCOUNT.name}/{BOT}"]


async def test_any_sign_may_be_in_a_password(secured: Secured, tmp_path: Path) -> None:
    server = secured.server
    password = "a:b/c?d#e@f%g&h=i+j k[l]'\"\\ü"
    quoted = password.replace("'", "''")
    await execute(
        server.url(), f"CREATE ROLE signs SUPERUSER LOGIN PASSWORD '{quoted}'", "CREATE DATABASE signs OWNER signs"
    )
    url = f"postgresql://signs:{quote(password, safe='')}@127.0.0.1:{server.port}/signs"
    assert len(await migrate(url)) >= 3
    await (await opened(url))[0].close()
    assert await back_up(url, tmp_path / "backup") > 0


async def test_a_backup_is_restored_into_an_older_server(secured: Secured, ledger_dsn: str, tmp_path: Path) -> None:
    server = secured.server
    await execute(server.url(), "CREATE DATABASE older")
    ledger, risk, execution = await opened(ledger_dsn)
    await trade(ledger, risk, execution)
    before = await books(ledger)
    await ledger.close()
    await back_up(ledger_dsn, tmp_path / "backup")
    await restore(server.url("older"), tmp_path / "backup", NOW)
    restored = await PostgresLedger.connect(server.url("older"), ACCOUNT, BOT)
    await restored.release_hold()
    assert await books(restored) == before
    await restored.close()


async def test_a_rotated_password_is_taken_up_by_the_next_connection(secured: Secured) -> None:
    server = secured.server
    await migrate(server.url())
    await execute(server.url(), "CREATE ROLE rotating SUPERUSER LOGIN PASSWORD 'first-pass'")

    def url(password: str) -> str:
        return server.url().replace(f"tradingbot:{PASSWORD}", f"rotating:{password}")

    now = [url("first-pass")]
    ledger = await PostgresLedger.connect(lambda: now[0], ACCOUNT, BOT)
    await ledger.raise_epoch(Role.RISK, NOW)
    await execute(
        server.url(),
        "ALTER ROLE rotating PASSWORD 'second-pass'",
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'rotating'",
    )
    with pytest.raises(LedgerAccessRefused, match="does not let us in") as error:
        await ledger.raise_epoch(Role.RISK, NOW)
    assert "first-pass" not in told(error.value)
    now[0] = url("second-pass")
    assert (await ledger.raise_epoch(Role.RISK, NOW)).number >= 2
    await ledger.balances()
    await ledger.close()


async def test_an_address_with_several_hosts(secured: Secured, tmp_path: Path) -> None:
    """As for a primary and its standbys: whoever takes writes is used."""
    server = secured.server
    await execute(server.url(), "CREATE DATABASE many", "CREATE DATABASE copied")
    url = server.url("many", target_session_attrs="read-write").replace("@127.0.0.1:", "@127.0.0.1:1,127.0.0.1:")
    assert len(await migrate(url)) >= 3
    ledger, risk, execution = await opened(url)
    await trade(ledger, risk, execution)
    await ledger.close()
    assert await back_up(url, tmp_path / "backup") > 0
    assert await restore(url.replace("/many?", "/copied?"), tmp_path / "backup", NOW) == [f"{ACCOUNT.name}/{BOT}"]
    await execute(server.url(), "ALTER DATABASE many SET default_transaction_read_only = on")
    with pytest.raises(LedgerUnavailable, match="no server of the address is what target_session_attrs demands"):
        await PostgresLedger.connect(server.url("many", target_session_attrs="read-write"), ACCOUNT, BOT)


# --- a pooler


@pytest.fixture
def bouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    program = find_pgbouncer()
    if program is None:
        pytest.skip(NO_PGBOUNCER)
    with running_pgbouncer(program, postgres.dsn) as found:
        yield found


@pytest.fixture
def silent_bouncer(postgres: PostgresServer) -> Iterator[PgBouncer]:
    """It takes our settings, and forgets them."""
    program = find_pgbouncer()
    if program is None:
        pytest.skip(NO_PGBOUNCER)
    forgotten = "jit, enable_seqscan, plan_cache_mode, statement_timeout"
    with running_pgbouncer(program, postgres.dsn, ignore_startup_parameters=forgotten) as found:
        yield found


async def trade(ledger: PostgresLedger, risk: Epoch, execution: Epoch) -> None:
    """A round trip with each kind of call."""
    assert (await ledger.reserve(risk, entry("btc"))).available_after == D("16.91")
    assert not (await ledger.reserve(risk, entry("btc"))).new
    await ledger.refuse(risk, [refusal("none")])
    assert await ledger.claim(execution, "entry-btc", NOW) is not None
    await ledger.acknowledge(execution, "entry-btc", "x-1")
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)
    await ledger.watch(execution, "BTC/USDT", D(125000), D(120000))
    await ledger.request_exit(risk, exit_request("sell"))
    await ledger.submit_leg(execution, exit_leg("exit"))
    booking = await ledger.book("exit", [sale("exit", "t2")], OrderState.FILLED, NOW)
    assert booking.closed_trade is not None
    await ledger.measure_equity(NOW, "USDT", {"BTC": D(130000)})
    assert await violations(ledger) == {}


@pytest.mark.parametrize("which", ["bouncer", "silent_bouncer"])
async def test_the_ledger_behind_a_pooler(which: str, request: pytest.FixtureRequest, ledger_dsn: str) -> None:
    bouncer: PgBouncer = request.getfixturevalue(which)
    ledger, risk, execution = await opened(bouncer.url(ledger_dsn))
    assert ledger._database.pooled
    bots = [await PostgresLedger.connect(bouncer.url(ledger_dsn), ACCOUNT, f"bot-{n}") for n in range(3)]
    # Others take and return server connections meanwhile, so that none of ours meets the same one again.
    others = [asyncio.create_task(keep_reading(bot)) for bot in bots]
    await trade(ledger, risk, execution)
    for other in others:
        other.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    for one in (ledger, *bots):
        await one.close()


async def keep_reading(ledger: PostgresLedger) -> None:
    while True:
        await ledger.balances()
        await ledger.orders()


async def test_two_bots_behind_a_pooler_do_not_overcommit(bouncer: PgBouncer, ledger_dsn: str) -> None:
    first, first_risk, _ = await opened(bouncer.url(ledger_dsn))
    second = await PostgresLedger.connect(bouncer.url(ledger_dsn), ACCOUNT, "second")
    second_risk = await second.raise_epoch(Role.RISK, NOW)
    decisions = await asyncio.gather(
        *(
            ledger.reserve(epoch, entry(f"{name}-{number}", f"C{number}/USDT", budget="10"))
            for number in range(8)
            for name, ledger, epoch in (("one", first, first_risk), ("two", second, second_risk))
        )
    )
    assert sum(1 for decision in decisions if decision.reason is None) == 8
    assert (await first.balances())["USDT"].available == D("4.54")
    assert await violations(first) == {}
    for one in (first, second):
        await one.close()


async def test_behind_a_pooler_a_statement_has_our_settings_and_leaves_none(
    bouncer: PgBouncer, ledger_dsn: str
) -> None:
    ledger, _, _ = await opened(bouncer.url(ledger_dsn))
    asked = "SELECT current_setting('statement_timeout') || ' ' || current_setting('enable_seqscan')"
    assert [row[0] for row in await ledger._database.fetch(asked)] == ["30s off"]
    stranger = await asyncpg.connect(bouncer.url(ledger_dsn), statement_cache_size=0)
    assert {await stranger.fetchval(asked) for _ in range(8)} == {"0 on"}
    await stranger.close()
    await ledger.close()


@pytest.mark.parametrize("which", ["bouncer", "silent_bouncer"])
async def test_evidence_of_a_ledger_behind_a_pooler(
    which: str, request: pytest.FixtureRequest, ledger_dsn: str
) -> None:
    bouncer: PgBouncer = request.getfixturevalue(which)
    ledger, _, _ = await held_position(ledger_dsn)
    await ledger.close()
    looks = [
        ledger_evidence(
            lambda: bouncer.url(ledger_dsn),
            settings(bot=BOT),
            ACCOUNT,
            since=NOW - timedelta(hours=1),
            within=timedelta(seconds=20),
            clock=VirtualClock(NOW),
        )
        for _ in range(8)
    ]
    for found in await asyncio.gather(*looks):
        assert isinstance(found, LedgerEvidence), found
        assert [one.exchange_trade_id for one in found.fills] == ["t1"]


async def test_evidence_leaves_no_statement_behind_in_a_pooler(
    bouncer: PgBouncer, ledger_dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next process counts its statements from one as well, and would meet those of the one before."""
    monkeypatch.setattr(snapshot, "_BATCH", 1)
    ledger, risk, execution = await opened(ledger_dsn)
    await trade(ledger, risk, execution)
    await ledger.close()
    found = await ledger_evidence(
        lambda: bouncer.url(ledger_dsn),
        settings(bot=BOT),
        ACCOUNT,
        since=NOW - timedelta(hours=1),
        within=timedelta(seconds=20),
        clock=VirtualClock(NOW),
    )
    assert isinstance(found, LedgerEvidence), found
    assert found.profit_counted == found.profit_told == D("4.6438425")
    stranger = await asyncpg.connect(bouncer.url(ledger_dsn), statement_cache_size=0)
    left = [await stranger.fetchval("SELECT count(*) FROM pg_prepared_statements") for _ in range(8)]
    assert left == [0] * 8
    await stranger.close()


async def test_behind_a_pooler_a_statement_that_waits_too_long_is_given_up(
    bouncer: PgBouncer, ledger_dsn: str
) -> None:
    ledger, risk, _ = await opened(bouncer.url(ledger_dsn))
    impatient = await PostgresLedger.connect(bouncer.url(ledger_dsn), ACCOUNT, BOT, command_timeout=0.2)
    blocker = await asyncpg.connect(ledger_dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT enter(1, 1, NULL, NULL)")
        with pytest.raises(LedgerUnavailable, match="statement timeout"):
            await impatient.reserve(risk, entry("btc"))
    await blocker.close()
    assert await ledger.orders() == []
    assert (await impatient.reserve(risk, entry("btc"))).new
    for one in (ledger, impatient):
        await one.close()


async def test_a_pooler_that_comes_between_later_is_noticed(bouncer: PgBouncer, ledger_dsn: str) -> None:
    """The address led to the server, and leads to a pooler when the next connection is made."""
    socket = Path(ledger_dsn.partition("host=")[2].partition("&")[0]) / ".s.PGSQL.5432"
    async with wire_to(socket) as wire:
        url = bouncer.url(ledger_dsn).replace(f":{bouncer.port}/", f":{wire.port}/") + "?sslmode=disable"
        ledger, risk, execution = await opened(url)
        assert not ledger._database.pooled
        wire.server = ("127.0.0.1", bouncer.port)
        wire.cut_all()
        await trade(ledger, risk, execution)
        assert ledger._database.pooled
        await ledger.close()


async def test_statements_that_somebody_between_us_lost(ledger_dsn: str) -> None:
    """A pooler that passed our settings on, and mixes up connections only later."""
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.balances()
    writer = ledger._database._writer
    assert writer is not None
    await writer.execute("DEALLOCATE ALL")
    async with ledger._database._pool.acquire() as reader:
        await reader.execute("DEALLOCATE ALL")
    assert (await ledger.balances())["USDT"].reserved == 0
    await trade(ledger, risk, execution)
    assert ledger._database.pooled
    await ledger.close()


async def test_a_pooler_is_no_place_for_a_migration(bouncer: PgBouncer, postgres: PostgresServer) -> None:
    dsn = await postgres.create_database(migrated=False)
    with pytest.raises(MigrationError, match="migrate with the address of the server itself"):
        await migrate(bouncer.url(dsn))
    await migrate(dsn)
    assert await migrate(bouncer.url(dsn)) == []
    await check_schema(bouncer.url(dsn))


async def test_a_pooler_that_does_not_let_us_in(bouncer: PgBouncer, ledger_dsn: str) -> None:
    url = bouncer.url(ledger_dsn)
    await refused(url.replace(f":{POOLER_PASSWORD}@", ":not-the-pass@"), "does not let us in .*authentication failed")
    await refused(url.rpartition("/")[0] + "/nowhere", "is not there .*does not exist")


async def test_a_pooler_that_is_started_again(bouncer: PgBouncer, ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(bouncer.url(ledger_dsn))
    bouncer.stop()
    for call in (ledger.reserve(risk, entry("btc")), ledger.balances()):
        with pytest.raises(LedgerUnavailable, match="repeat the call once it runs again"):
            await call
    bouncer.start()
    await trade(ledger, risk, execution)
    await ledger.close()


# --- the server behind the address is another


@asynccontextmanager
async def by_name(server: SystemPostgres) -> AsyncIterator[Wire]:
    async with wire_to(("127.0.0.1", server.port)) as wire:
        yield wire


async def test_a_promoted_standby_takes_over(data_dir: Path) -> None:
    folder = programs()
    with system_server(folder, {"wal_level": "replica", "synchronous_commit": "remote_apply"}) as primary:
        standby = SystemPostgres(folder, primary.home, "standby")
        standby.follow(primary)
        standby.start()
        try:
            await migrate(primary.url())
            await execute(
                primary.url(),
                "ALTER SYSTEM SET synchronous_standby_names = '*'",
                "SELECT pg_reload_conf()",
            )
            async with by_name(primary) as wire:
                url = primary.url(sslmode="disable").replace(f":{primary.port}/", f":{wire.port}/")
                ledger, risk, execution = await opened(url)
                assert (await ledger.reserve(risk, entry("btc"))).new
                await ledger.balances()
                primary.kill()
                wire.server = ("127.0.0.1", standby.port)
                # It answers, and takes no writes yet.
                assert (await ledger.balances())["USDT"].reserved == D("67.63")
                with pytest.raises(LedgerUnavailable, match=r"takes no writes .*read-only transaction"):
                    await ledger.claim(execution, "entry-btc", NOW)
                standby.promote()
                await trade_on(ledger, risk, execution)
                await ledger.close()
        finally:
            standby.kill()


async def trade_on(ledger: PostgresLedger, risk: Epoch, execution: Epoch) -> None:
    assert not (await ledger.reserve(risk, entry("btc"))).new
    assert await ledger.claim(execution, "entry-btc", NOW) is not None
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)
    assert (await ledger.positions())["BTC/USDT"].amount == D("0.00055")
    assert await violations(ledger) == {}


async def test_a_server_that_is_killed_and_started_again() -> None:
    with system_server(programs(), {"synchronous_commit": "on"}) as server:
        await migrate(server.url())
        ledger, risk, execution = await opened(server.url())
        assert (await ledger.reserve(risk, entry("btc"))).new
        server.kill()
        with pytest.raises(LedgerUnavailable):
            await ledger.claim(execution, "entry-btc", NOW)
        server.start()
        await trade_on(ledger, risk, execution)
        await ledger.close()


async def test_a_table_that_was_changed_under_prepared_statements(ledger_dsn: str) -> None:
    """As a migration does while an older release still runs."""
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc"))
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="1"))
    await ledger.claim(execution, "entry-eth", NOW)
    await ledger.fills()
    await execute(
        ledger_dsn,
        "ALTER TABLE fills ADD COLUMN note text",
        "ALTER TABLE orders ALTER COLUMN reason TYPE varchar",
        "ALTER TABLE orders ALTER COLUMN cause TYPE varchar",
    )
    assert await ledger.claim(execution, "entry-btc", NOW) is not None
    assert await ledger.fills() == []
    assert [order.client_order_id for order in await ledger.live_orders()] == ["entry-btc", "entry-eth"]
    assert await violations(ledger) == {}
    await ledger.close()


# --- conflicts


async def test_a_deadlock_with_a_foreign_session_is_tried_again(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    foreign = await asyncpg.connect(ledger_dsn, server_settings={"deadlock_timeout": "60s"})
    async with foreign.transaction():
        await foreign.execute("SELECT FROM balances FOR UPDATE")
        reserving = asyncio.create_task(ledger.reserve(risk, entry("btc")))
        await until_waiting(ledger_dsn)
        # Ours has the account and waits for the balance: it is the one that notices, and is given up.
        await foreign.execute("SELECT enter(1, 1, NULL, NULL)")
        assert not reserving.done()
    assert (await reserving).available_after == D("16.91")
    await foreign.close()
    await ledger.close()


async def until_waiting(dsn: str) -> None:
    """Until a session waits for a lock."""
    asked = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    connection = await asyncpg.connect(dsn)
    try:
        async with asyncio.timeout(30):
            found = 0
            while not found:
                found = await connection.fetchval(asked)
    finally:
        await connection.close()


async def test_a_lock_limit_that_the_database_has_is_no_error(ledger_dsn: str) -> None:
    name = ledger_dsn.partition("?")[0].rpartition("/")[2]
    await execute(ledger_dsn, f"ALTER DATABASE {name} SET lock_timeout = '150ms'")
    ledger, risk, _ = await opened(ledger_dsn)
    blocker = await asyncpg.connect(ledger_dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT enter(1, 1, NULL, NULL)")
        with pytest.raises(LedgerUnavailable, match=r"6 attempts met a conflict.*lock timeout"):
            await ledger.reserve(risk, entry("btc"))
        reserving = asyncio.create_task(ledger.reserve(risk, entry("btc")))
        await until_waiting(ledger_dsn)
    assert (await reserving).available_after == D("16.91")
    await blocker.close()
    await ledger.close()


async def test_a_database_whose_transactions_are_serializable(ledger_dsn: str) -> None:
    """Each conflict of many at once is tried again, and none is told as an error before its attempts are used up."""
    name = ledger_dsn.partition("?")[0].rpartition("/")[2]
    await execute(ledger_dsn, f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'")
    ledger, _, _ = await opened(ledger_dsn)
    bots = [await PostgresLedger.connect(ledger_dsn, ACCOUNT, f"bot-{number}") for number in range(4)]
    epochs = [await bot.raise_epoch(Role.RISK, NOW) for bot in bots]

    async def insist(bot: PostgresLedger, epoch: Epoch, symbol: str) -> Decision:
        async with asyncio.timeout(60):
            while True:
                try:
                    return await bot.reserve(epoch, entry(symbol, f"{symbol}/USDT", budget="10"))
                except LedgerUnavailable:
                    # Its attempts were used up: the caller repeats it, as the error says.
                    pass

    decisions = await asyncio.gather(
        *(
            insist(bot, epoch, f"C{number}{symbol}")
            for number, (bot, epoch) in enumerate(zip(bots, epochs, strict=True))
            for symbol in "ABC"
        )
    )
    assert sum(1 for decision in decisions if decision.reason is None) == 8
    assert await violations(ledger) == {}
    for one in (ledger, *bots):
        await one.close()


# --- a line that breaks anywhere


class Ready(msgspec.Struct):
    """A ledger in the state before a call, with its epochs."""

    ledger: PostgresLedger
    risk: Epoch
    execution: Epoch


Call = Callable[[Ready], Awaitable[Any]]


async def nothing(_: Ready) -> None:
    pass


async def approved(ready: Ready) -> None:
    await ready.ledger.reserve(ready.risk, entry("btc"))


async def claimed(ready: Ready) -> None:
    await approved(ready)
    await ready.ledger.claim(ready.execution, "entry-btc", NOW)


async def bought(ready: Ready) -> None:
    await claimed(ready)
    await ready.ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)


async def selling(ready: Ready) -> None:
    await bought(ready)
    await ready.ledger.submit_leg(ready.execution, exit_leg("exit"))


async def resting(ready: Ready) -> None:
    await selling(ready)
    await ready.ledger.acknowledge(ready.execution, "exit", "x-2")


async def holding(ready: Ready) -> None:
    await ready.ledger.place_hold(Hold(state=BotState.PAUSED, reason="why", by="me", at=NOW))


async def settling(ready: Ready) -> bool:
    seen = await ready.ledger.account_books()
    return await ready.ledger.settle_outside(seen, {"USDT": D("-5")}, {"USDT": D("3")}, "compared-2", NOW)


REPORT = NewReport(at=NOW, result="passed", hold=None, document=b"{}")


async def leasing(ready: Ready) -> None:
    await ready.ledger.lease_telling("me", NOW, NOW + timedelta(minutes=1))


def checked(present: Hold | None, held_for: frozenset[str]) -> tuple[Hold | None, frozenset[str]]:
    """What a failed report decides."""
    return Hold(state=BotState.PAUSED, reason="why", by="a check", at=NOW), held_for | {"orders.fills"}


CALLS: dict[str, tuple[Call, Call]] = {
    "reserve": (nothing, lambda r: r.ledger.reserve(r.risk, entry("btc"))),
    "reserve_many": (nothing, lambda r: r.ledger.reserve_many(r.risk, [entry("btc"), entry("eth", "ETH/USDT")])),
    "refuse": (nothing, lambda r: r.ledger.refuse(r.risk, [refusal("none")])),
    "claim": (approved, lambda r: r.ledger.claim(r.execution, "entry-btc", NOW)),
    "claim_too_late": (approved, lambda r: r.ledger.claim(r.execution, "entry-btc", NOW + timedelta(hours=1))),
    "acknowledge": (claimed, lambda r: r.ledger.acknowledge(r.execution, "entry-btc", "x-1")),
    "lose_contact": (claimed, lambda r: r.ledger.lose_contact(r.execution, "entry-btc", "timeout", NOW)),
    "deny": (approved, lambda r: r.ledger.deny(r.execution, "entry-btc", "too late", NOW)),
    "book": (claimed, lambda r: r.ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)),
    "submit_leg": (bought, lambda r: r.ledger.submit_leg(r.execution, exit_leg("exit"))),
    "request_cancel": (resting, lambda r: r.ledger.request_cancel(r.execution, "exit", NOW)),
    "book_exit": (selling, lambda r: r.ledger.book("exit", [sale("exit", "t2")], OrderState.FILLED, NOW)),
    "request_exit": (bought, lambda r: r.ledger.request_exit(r.risk, exit_request("sell"))),
    "mark_dust": (bought, lambda r: r.ledger.mark_dust(r.execution, "BTC/USDT", Leg.EXIT, NOW)),
    "watch": (bought, lambda r: r.ledger.watch(r.execution, "BTC/USDT", D(125000), D(120000))),
    "outside": (nothing, lambda r: r.ledger.book_outside_movement("USDT", D("-5"), "compared-1", NOW)),
    "settle_outside": (nothing, settling),
    "outside_holds": (nothing, lambda r: r.ledger.set_outside_holds({"USDT": D("5")})),
    "market_rules": (
        nothing,
        lambda r: r.ledger.keep_market_rules({"BTC/USDT": rules_of("BTC/USDT", "0.01")}, NOW),
    ),
    "place_hold": (nothing, holding),
    "keep_report": (nothing, lambda r: r.ledger.keep_report(REPORT)),
    "lease_telling": (nothing, lambda r: r.ledger.lease_telling("me", NOW, NOW + timedelta(minutes=1))),
    "end_telling": (leasing, lambda r: r.ledger.end_telling(Lease("me", "{}"), b'{"phone": {}}')),
    "hold_by_check": (nothing, lambda r: r.ledger.hold_by_check(checked)),
    "record_equity": (nothing, lambda r: r.ledger.record_equity(EquityPoint(NOW, D("84.54"), D(0)))),
}


def same(name: str, answer: Any) -> Any:
    """An answer without what says that it is one to a repetition."""
    match answer:
        case list():
            return [same(name, each) for each in answer]
        case Decision():
            return msgspec.structs.replace(answer, new=True)
        case Booking():
            return answer.order, answer.position
        case _:
            # Numbers are counted in the whole database.
            if name == "keep_report":
                return isinstance(answer, int)
            # Repeated, a claim answers "not you": its order is looked up at the exchange (see `Database`).
            return None if name == "claim" else answer


async def books(ledger: PostgresLedger) -> list[Any]:
    """All that the ledger knows, without its own numbers."""
    return [
        await ledger.balances(),
        await ledger.positions(),
        await ledger.orders(),
        await ledger.reservations(),
        await ledger.fills(),
        await ledger.trades(),
        await ledger.equity(),
        await ledger.hold(),
        await ledger.market_rules(),
        [msgspec.structs.replace(found, number=0) for found in await ledger.reports()],
        [msgspec.structs.replace(found, number=0) for found in await ledger.entries()],
        [msgspec.structs.replace(found, at=NOW) for found in await ledger.decisions()],
        [row.message for role in Role for row in await ledger.unpublished(role)],
    ]


@pytest.mark.parametrize(
    ("name", "through"),
    # Of a pooler two are enough: one that is a function, and one that is a transaction.
    [*((name, "server") for name in CALLS), ("reserve", "pooler"), ("claim", "pooler")],
)
async def test_a_line_that_breaks_anywhere_in_a_call(
    name: str, through: str, ledger_dsn: str, request: pytest.FixtureRequest
) -> None:
    """Whatever answer is lost, the commit's included, the call ends as if nothing had been, and is done once."""
    before, call = CALLS[name]
    if through == "pooler":
        bouncer: PgBouncer = request.getfixturevalue("bouncer")
        address: Any = ("127.0.0.1", bouncer.port)
        user = bouncer.url(ledger_dsn).partition("//")[2].partition("@")[0]
    else:
        address = Path(ledger_dsn.partition("host=")[2].partition("&")[0]) / ".s.PGSQL.5432"
        user = "tradingbot"
    database = ledger_dsn.partition("?")[0].rpartition("/")[2]
    async with wire_to(address) as wire:
        dsn = f"postgresql://{user}@127.0.0.1:{wire.port}/{database}?sslmode=disable"

        async def state(number: int) -> Ready:
            # Each on an account of its own, so that one database does for all.
            account = msgspec.structs.replace(ACCOUNT, name=f"account-{number}")
            ledger = await PostgresLedger.connect(dsn, account, BOT)
            await ledger.open_account({"USDT": D("84.54")}, (), NOW, quote="USDT")
            ready = Ready(
                ledger, await ledger.raise_epoch(Role.RISK, NOW), await ledger.raise_epoch(Role.EXECUTION, NOW)
            )
            await before(ready)
            return ready

        undisturbed = await state(0)
        wire.exchanges = 0
        expected = same(name, await call(undisturbed))
        exchanges = wire.exchanges
        expected_books = await books(undisturbed.ledger)
        await undisturbed.ledger.close()
        assert exchanges >= 1

        # The first, the last before the commit, and the commit: not asked for, and asked for but not answered.
        places = sorted({1, max(1, exchanges - 1), exchanges})
        cuts = [*((wire.cut_answer, place) for place in places), (wire.cut_request, exchanges)]
        for number, (cut, where) in enumerate(cuts, start=1):
            ready = await state(number)
            cut(where)
            broken = wire.cuts
            answer = same(name, await call(ready))
            assert wire.cuts == broken + 1, "the call was not disturbed"
            assert (where, answer) == (where, expected)
            assert (where, await books(ready.ledger)) == (where, expected_books)
            assert await violations(ready.ledger) == {}
            await ready.ledger.close()


async def test_a_line_that_breaks_each_time_is_told(ledger_dsn: str) -> None:
    address = Path(ledger_dsn.partition("host=")[2].partition("&")[0]) / ".s.PGSQL.5432"
    database = ledger_dsn.partition("?")[0].rpartition("/")[2]
    async with wire_to(address) as wire:
        ledger, risk, _ = await opened(f"postgresql://tradingbot@127.0.0.1:{wire.port}/{database}?sslmode=disable")
        wire.server = ("127.0.0.1", 1)
        wire.cut_all()
        with pytest.raises(LedgerError, match="may or may not be committed, repeat the call"):
            await ledger.reserve(risk, entry("btc"))
        wire.server = address
        assert (await ledger.reserve(risk, entry("btc"))).new
        await ledger.close()
