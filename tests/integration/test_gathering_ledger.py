"""What a reality check sees of a real ledger: all of it, of one moment, and that it says so when it sees nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import msgspec
import pytest

from support.evidence import settings
from support.ledger import ACCOUNT, BOT, NOW, D, connect, entry, exit_leg, exit_request, fill, refusal, rules_of, sale
from support.postgres import PostgresServer
from support.silent_server import silent_server
from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK, STRATEGY
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.events import (
    AgentRestarted,
    AgentStarted,
    DependencyAway,
    Event,
    FeedStale,
    FencedOff,
    Overdrawn,
    PriceFallbackUsed,
    RunStarted,
)
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.migrate import known_migrations
from tradingbot_agents.ledger.port import Adoption, EquityPoint, Hold, Role
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.ledger.snapshot import Start
from tradingbot_agents.reality.evidence import Heard, Known, LedgerEvidence, Missing
from tradingbot_agents.reality.logs import OTHERS
from tradingbot_agents.runtime import gathering_ledger
from tradingbot_agents.runtime.gathering_ledger import ledger_evidence, running_since

pytestmark = pytest.mark.postgres

SINCE = NOW - timedelta(minutes=35)
LONG_AGO = NOW - timedelta(days=3)
EARLY = SINCE - timedelta(minutes=10)
ETHER = "ETH/USDT"


def minutes(before: float) -> datetime:
    return NOW - timedelta(minutes=before)


async def look(dsn: str, *, bot: str = BOT, within: float = 20) -> Known[LedgerEvidence]:
    return await ledger_evidence(
        lambda: dsn,
        settings(bot=bot),
        ACCOUNT,
        since=SINCE,
        within=timedelta(seconds=within),
        clock=VirtualClock(NOW),
    )


async def seen(dsn: str, **options: Any) -> LedgerEvidence:
    found = await look(dsn, **options)
    assert isinstance(found, LedgerEvidence), found
    return found


async def why_missing(dsn: str, **options: Any) -> str:
    found = await look(dsn, **options)
    assert isinstance(found, Missing), found
    assert found.wanted
    return found.why


async def execute(dsn: str, *statements: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        for statement in statements:
            await connection.execute(statement)
    finally:
        await connection.close()


def started(agent: str, at: datetime, revision: str) -> AgentStarted:
    return AgentStarted(
        at=at, agent=agent, mode="paper", exchange="x", account="main", symbols=(), state="Running", revision=revision
    )


def run_started(at: datetime, revision: str) -> RunStarted:
    return RunStarted(
        at=at,
        agent="supervisor",
        mode="paper",
        exchange="x",
        account="main",
        symbols=(),
        state="Running",
        candles_left=1,
        revision=revision,
    )


def fallback(at: datetime, symbol: str = "BTC/USDT", why: str = "no bar") -> PriceFallbackUsed:
    return PriceFallbackUsed(at=at, agent=RISK, symbol=symbol, source="ticker", why=why)


async def living(dsn: str) -> PostgresLedger:
    """A bot that adopted a bitcoin and sold a part of it, made a round trip long ago, holds ether with a stop, and
    has an entry that waits."""
    ledger = await connect(dsn)
    adoption = Adoption(symbol="BTC/USDT", amount=D(1), price=D(50000), stop_price=D(45000))
    await ledger.open_account({"USDT": D(1000), "BTC": D(1)}, [adoption], LONG_AGO, quote="USDT")
    risk = await ledger.raise_epoch(Role.RISK, LONG_AGO)
    await ledger.raise_epoch(Role.EXECUTION, LONG_AGO)
    execution = await ledger.raise_epoch(Role.EXECUTION, LONG_AGO + timedelta(days=1))
    # Long ago, with a fee in what was bought.
    await ledger.reserve(risk, entry("old", "SOL/USDT", budget="101", amount="1", price="100", at=LONG_AGO))
    await ledger.claim(execution, "entry-old", LONG_AGO)
    old = msgspec.structs.replace(fill("entry-old", "t1", "1", "100", symbol="SOL/USDT", at=LONG_AGO))
    await ledger.book(
        "entry-old", [msgspec.structs.replace(old, fee=Fee("SOL", D("0.001")))], OrderState.FILLED, LONG_AGO
    )
    await ledger.request_exit(risk, exit_request("sell-sol", "SOL/USDT", at=LONG_AGO))
    await ledger.submit_leg(execution, exit_leg("exit-sol", "0.999", symbol="SOL/USDT", at=LONG_AGO))
    gone = sale("exit-sol", "t2", "0.999", "110", symbol="SOL/USDT", at=LONG_AGO, fee=("USDT", "0.1"))
    await ledger.book("exit-sol", [gone], OrderState.FILLED, LONG_AGO)
    # In the window.
    await ledger.submit_leg(execution, exit_leg("part", "0.25", at=minutes(20)))
    await ledger.book("part", [sale("part", "t3", "0.25", "60000", at=minutes(20))], OrderState.FILLED, minutes(20))
    await ledger.reserve(risk, entry("ether", ETHER, budget="210", amount="0.1", price="2000", at=minutes(10)))
    await ledger.claim(execution, "entry-ether", minutes(10))
    ether = fill("entry-ether", "t4", "0.1", "2000", symbol=ETHER, at=minutes(10), fee=("USDT", "0.2"))
    await ledger.book("entry-ether", [ether], OrderState.FILLED, minutes(10))
    await ledger.submit_leg(execution, exit_leg("stop-ether", "0.1", symbol=ETHER, at=minutes(9)))
    await ledger.acknowledge(execution, "stop-ether", "77")
    await ledger.reserve(risk, entry("waits", "ADA/USDT", budget="50", amount="10", price="5", at=minutes(1)))
    await ledger.refuse(risk, [msgspec.structs.replace(refusal("early"), at=EARLY), refusal("now")])
    await ledger.keep_market_rules({"BTC/USDT": rules_of("BTC/USDT", "0.00001")}, LONG_AGO)
    await ledger.book_outside_movement("USDT", D("-0.5"), "interest", LONG_AGO)
    await ledger.place_hold(Hold(state=BotState.REDUCE_ONLY, reason="why", by="me", at=minutes(2)))
    for at, worth in ((LONG_AGO, 1), (EARLY, 2), (minutes(15), 3)):
        await ledger.record_equity(EquityPoint(at, D(worth), D("-0.5")))
    return ledger


async def test_everything_that_the_checks_ask_for(ledger_dsn: str) -> None:
    ledger = await living(ledger_dsn)
    await ledger.record_events([*(started(each, LONG_AGO, "r1") for each in (STRATEGY, RISK, EXECUTION))])
    found = await seen(ledger_dsn)
    assert (found.schema, found.opened_at, found.asked_at) == (None, LONG_AGO, NOW)
    assert found.books == await ledger.account_books()
    assert [order.client_order_id for order in found.books.live] == ["stop-ether"]
    assert found.invariants == tuple(await ledger.invariants())
    assert not any(each.violations for each in found.invariants)
    assert found.bots == (BOT,)
    assert found.positions == await ledger.positions()
    assert found.account_positions == {"BTC/USDT": D("0.75"), ETHER: D("0.1"), "SOL/USDT": D(0)}
    assert [order.client_order_id for order in found.orders] == ["entry-waits", "stop-ether", "entry-ether", "part"]
    assert [(each.client_order_id, each.held) for each in found.reservations] == [("entry-waits", D(50))]
    assert [each.exchange_trade_id for each in found.fills] == ["t4", "t3"]
    assert found.trades == ()
    assert found.refusals == {"no_fresh_price": 1}
    assert found.rules == await ledger.market_rules() != {}
    assert found.revisions == {STRATEGY: LONG_AGO, RISK: LONG_AGO, EXECUTION: LONG_AGO}
    epochs = found.epochs
    assert (epochs.risk, epochs.risk_since) == (1, LONG_AGO)
    assert (epochs.execution, epochs.execution_since) == (2, LONG_AGO + timedelta(days=1))
    assert found.hold == Hold(state=BotState.REDUCE_ONLY, reason="why", by="me", at=minutes(2))
    assert [point.at for point in found.equity] == [EARLY, minutes(15)], "with the newest one before the window"
    assert found.outside == {"USDT": D("-0.5")}
    # A quarter of the bitcoin, at 50000 and 60000; 0.999 of 1 SOL at 100, sold at 110, and 0.1 of fees.
    assert found.profit_told == found.profit_counted == D(2500) + D("0.999") * 110 - D("0.1") - 100
    assert found.heard == ()
    await ledger.close()


async def test_an_order_of_long_ago_with_a_fill_of_now_is_there(ledger_dsn: str) -> None:
    ledger = await living(ledger_dsn)
    late = sale("exit-sol", "t9", "0.0001", "110", symbol="SOL/USDT", at=minutes(5))
    await ledger.book("exit-sol", [late], None, minutes(5))
    await ledger.close()
    found = await seen(ledger_dsn)
    assert [order.client_order_id for order in found.orders][-1] == "exit-sol"
    assert found.fills[0] == late
    assert found.profit_told == found.profit_counted, "also of what was sold too much"


async def test_a_round_trip_of_the_window(ledger_dsn: str) -> None:
    ledger = await living(ledger_dsn)
    execution = await ledger.raise_epoch(Role.EXECUTION, minutes(3))
    await ledger.submit_leg(execution, exit_leg("rest", "0.75", at=minutes(3)))
    await ledger.book("rest", [sale("rest", "t8", "0.75", "40000", at=minutes(3))], OrderState.FILLED, minutes(3))
    found = await seen(ledger_dsn)
    assert [(each.symbol, each.cost) for each in found.trades] == [("BTC/USDT", D(50000))]
    assert found.profit_told == found.profit_counted < 0, (
        "what was adopted is counted at its price also after its end"
    )
    await ledger.close()


async def test_a_profit_that_was_edited_is_not_the_one_of_the_fills(ledger_dsn: str) -> None:
    await (await living(ledger_dsn)).close()
    before = await seen(ledger_dsn)
    await execute(ledger_dsn, "UPDATE positions SET realised = realised + 5 WHERE symbol = 'BTC/USDT'")
    after = await seen(ledger_dsn)
    assert after.profit_told == before.profit_told + 5
    assert after.profit_counted == before.profit_counted


async def test_two_bots_on_one_account(ledger_dsn: str) -> None:
    ledger = await living(ledger_dsn)
    other = await connect(ledger_dsn, "other")
    risk, execution = await other.raise_epoch(Role.RISK, NOW), await other.raise_epoch(Role.EXECUTION, NOW)
    await other.reserve(risk, entry("theirs", ETHER, budget="110", amount="0.05", price="2000"))
    await other.claim(execution, "entry-theirs", NOW)
    theirs = fill("entry-theirs", "t7", "0.05", "2000", symbol=ETHER)
    await other.book("entry-theirs", [theirs], OrderState.FILLED, NOW)
    await other.refuse(risk, [refusal("refused")])
    await other.record_events([started(RISK, NOW, "r9"), fallback(NOW)])
    await other.record_equity(EquityPoint(NOW, D(9), D(0)))
    mine, other_one = await seen(ledger_dsn), await seen(ledger_dsn, bot="other")
    # What is the account's, both see.
    assert mine.bots == other_one.bots == (BOT, "other")
    for field in ("books", "orders", "fills", "reservations", "account_positions", "rules", "invariants", "outside"):
        assert getattr(mine, field) == getattr(other_one, field), field
    assert {order.bot for order in mine.orders} == {BOT, "other"}
    assert mine.fills[0] == theirs
    assert mine.account_positions[ETHER] == D("0.15")
    # What is a bot's, only it does.
    assert (mine.positions[ETHER].amount, other_one.positions[ETHER].amount) == (D("0.1"), D("0.05"))
    assert (mine.refusals, other_one.refusals) == ({"no_fresh_price": 1}, {"no_fresh_price": 1})
    assert (mine.hold is not None, other_one.hold) == (True, None)
    assert (mine.heard, [each.name for each in other_one.heard]) == ((), ["agent_started", "price_fallback_used"])
    assert [point.equity for point in other_one.equity] == [D(9)]
    assert (other_one.epochs.risk, other_one.profit_told, other_one.profit_counted) == (1, 0, 0)
    for each in (ledger, other):
        await each.close()


# --- events


async def heard(dsn: str, *events: Event) -> LedgerEvidence:
    ledger = await living(dsn)
    await ledger.record_events(events)
    await ledger.close()
    return await seen(dsn)


def counts(found: LedgerEvidence, name: str) -> list[tuple[tuple[str, ...], int]]:
    return [(each.key, each.count) for each in found.heard if each.name == name]


async def test_events_are_counted_by_what_makes_them_alike(ledger_dsn: str) -> None:
    found = await heard(
        ledger_dsn,
        started(RISK, LONG_AGO, "r1"),
        fallback(minutes(40)),
        fallback(minutes(30)),
        fallback(minutes(10), why="the newest"),
        fallback(minutes(20)),
        fallback(minutes(5), ETHER),
        Overdrawn(at=minutes(4), agent=EXECUTION, asset="USDT", total=D("-1")),
        DependencyAway(at=minutes(3), agent=STRATEGY, what="broker", attempt=1, why="w"),
        FeedStale(at=minutes(2), agent=STRATEGY, symbol="BTC/USDT", last_candle=None, age_seconds=None),
    )
    by_key = {(each.agent, each.name, each.key): each for each in found.heard}
    assert list(by_key) == [
        (RISK, "price_fallback_used", ("BTC/USDT", "ticker")),
        (RISK, "price_fallback_used", (ETHER, "ticker")),
        (EXECUTION, "overdrawn", ("USDT",)),
        (STRATEGY, "dependency_away", ("broker",)),
        (STRATEGY, "feed_stale", ("BTC/USDT",)),
    ]
    first = by_key[RISK, "price_fallback_used", ("BTC/USDT", "ticker")]
    assert (first.count, first.first, first.last) == (3, minutes(30), minutes(10)), "one was before the window"
    assert first.sample["why"] == "the newest"


async def test_what_an_older_revision_said_does_not_count(ledger_dsn: str) -> None:
    found = await heard(
        ledger_dsn,
        started(RISK, LONG_AGO, "r1"),
        started(EXECUTION, LONG_AGO, "r1"),
        fallback(minutes(20)),
        FencedOff(at=minutes(20), agent=EXECUTION, role="execution", epoch=1),
        started(RISK, minutes(15), "r2"),
        fallback(minutes(5), ETHER),
    )
    assert found.revisions[RISK] == minutes(15)
    assert found.revisions[EXECUTION] == LONG_AGO
    assert counts(found, "price_fallback_used") == [((ETHER, "ticker"), 1)]
    assert counts(found, "fenced_off") == [(("execution",), 1)], "each agent by itself"
    assert counts(found, "agent_started") == [(("r2",), 1)]


async def test_a_restart_of_the_same_revision_changes_nothing(ledger_dsn: str) -> None:
    found = await heard(
        ledger_dsn,
        started(RISK, LONG_AGO, "r1"),
        started(RISK, minutes(50), "r2"),
        fallback(minutes(30)),
        started(RISK, minutes(20), "r2"),
        AgentRestarted(at=minutes(19), agent="supervisor", restarted=RISK, attempt=1, error="e"),
        fallback(minutes(10)),
    )
    assert found.revisions[RISK] == minutes(50)
    assert counts(found, "price_fallback_used") == [(("BTC/USDT", "ticker"), 2)]
    assert counts(found, "agent_restarted") == [((RISK,), 1)]


async def test_a_revision_that_comes_back_begins_anew(ledger_dsn: str) -> None:
    starts = [started(RISK, minutes(before), which) for before, which in ((34, "r1"), (20, "r2"), (10, "r1"))]
    found = await heard(ledger_dsn, starts[0], fallback(minutes(30)), *starts[1:], fallback(minutes(5), ETHER))
    assert found.revisions[RISK] == minutes(10)
    assert counts(found, "price_fallback_used") == [((ETHER, "ticker"), 1)]


async def test_a_run_of_all_agents_writes_for_each_of_them(ledger_dsn: str) -> None:
    found = await heard(
        ledger_dsn,
        run_started(LONG_AGO, "r1"),
        FeedStale(at=minutes(30), agent=AGENTS[0], symbol="BTC/USDT", last_candle=None, age_seconds=None),
        AgentRestarted(at=minutes(29), agent="supervisor", restarted=RISK, attempt=1, error="e"),
        run_started(minutes(20), "r2"),
        FeedStale(at=minutes(10), agent=AGENTS[0], symbol=ETHER, last_candle=None, age_seconds=None),
        run_started(minutes(5), "r2"),
    )
    assert found.revisions == dict.fromkeys(AGENTS, minutes(20))
    assert counts(found, "feed_stale") == [((ETHER,), 1)]
    assert counts(found, "agent_restarted") == []


async def test_an_agent_whose_start_was_pruned_still_writes(ledger_dsn: str) -> None:
    found = await heard(ledger_dsn, started(STRATEGY, minutes(20), "r2"), fallback(minutes(30)), fallback(minutes(5)))
    assert found.revisions == {STRATEGY: minutes(20), RISK: minutes(30)}
    assert counts(found, "price_fallback_used") == [(("BTC/USDT", "ticker"), 2)]


def starts(*told: tuple[str, str, float]) -> Sequence[Start]:
    """Oldest first: an agent, or ``run``, its revision, and how many minutes ago."""
    return [
        Start("run_started" if who == "run" else "agent_started", who, revision, minutes(before))
        for who, revision, before in reversed(told)
    ]


def test_agents_that_left_a_run_of_one_process_write_only_once_they_told_of_it() -> None:
    """Data collection has no rows then: its log must not be passed over for them."""
    found = running_since(starts(("run", "r1", 90), (RISK, "r1", 60), (EXECUTION, "r2", 50)))
    assert found == {RISK: minutes(90), EXECUTION: minutes(50)}
    before = starts((STRATEGY, "r1", 99), ("run", "r1", 90), (RISK, "r1", 60))
    assert running_since(before) == {RISK: minutes(90)}
    back = running_since(starts((RISK, "r1", 60), ("run", "r1", 30)))
    assert back == {**dict.fromkeys(AGENTS, minutes(30)), RISK: minutes(60)}
    assert running_since(()) == {}


async def test_kinds_of_events_are_bounded(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gathering_ledger, "_GROUPS", 3)
    found = await heard(ledger_dsn, *(fallback(minutes(20 - each), f"X{each}/USDT") for each in range(10)))
    assert counts(found, "price_fallback_used") == [
        *((((f"X{each}/USDT", "ticker"), 1)) for each in range(3)),
        ((OTHERS, OTHERS), 7),
    ]


async def test_what_somebody_wrote_into_a_row_is_cut_short(ledger_dsn: str) -> None:
    found = await heard(ledger_dsn, fallback(minutes(5), "B" * 5000, why="w" * 100_000))
    (told,) = (each for each in found.heard if isinstance(each, Heard) and each.name == "price_fallback_used")
    assert len(told.key[0]) == 200
    assert len(str(told.sample)) < 2000


# --- what can not be seen


async def test_more_rows_than_may_be_read_are_no_evidence(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await living(ledger_dsn)).close()
    monkeypatch.setattr(gathering_ledger, "MOST", 3)
    assert "more than 3 orders" in await why_missing(ledger_dsn)
    monkeypatch.setattr(gathering_ledger, "MOST", 4)
    assert len((await seen(ledger_dsn)).orders) == 4


async def test_violations_are_bounded(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await (await living(ledger_dsn)).close()
    await execute(ledger_dsn, "DELETE FROM fills")
    monkeypatch.setattr(gathering_ledger, "_VIOLATIONS", 2)
    rules = {each.name: each.violations for each in (await seen(ledger_dsn)).invariants}
    assert len(rules["orders_match_their_fills"]) == 3
    assert rules["orders_match_their_fills"][-1] == "and more than these 2"


async def test_a_schema_that_is_behind_or_ahead_is_told_and_read(ledger_dsn: str) -> None:
    await (await living(ledger_dsn)).close()
    newest = known_migrations()[-1]
    await execute(ledger_dsn, f"UPDATE _yoyo_migration SET migration_id = '9999_x' WHERE migration_id = '{newest}'")
    ahead = (await seen(ledger_dsn)).schema
    assert ahead is not None
    assert "9999_x" in ahead
    await execute(ledger_dsn, "DELETE FROM _yoyo_migration WHERE migration_id = '9999_x'")
    behind = (await seen(ledger_dsn)).schema
    assert behind is not None
    assert behind.startswith(f"the ledger's schema lacks {newest}")


async def test_a_schema_that_is_too_old_to_be_read_is_missing(ledger_dsn: str, postgres: PostgresServer) -> None:
    await (await living(ledger_dsn)).close()
    await execute(
        ledger_dsn, "DROP TABLE market_rules", "DELETE FROM _yoyo_migration WHERE migration_id LIKE '0003%'"
    )
    assert (await why_missing(ledger_dsn)).startswith("the ledger's schema lacks 0003_market_rules")
    empty = await postgres.create_database(migrated=False)
    assert (await why_missing(empty)).startswith("the ledger's schema lacks 0001_tables")
    await postgres.drop_database(empty)


async def test_a_bot_that_has_not_begun_has_no_books(ledger_dsn: str) -> None:
    assert "has not begun" in await why_missing(ledger_dsn)


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://bot:sesame@127.0.0.1:1/tradingbot",
        "postgresql://bot:sesame@nowhere.invalid:5432/tradingbot",
        "postgresql://bot:se/same@[nonsense",
        "",
    ],
)
async def test_a_server_that_is_away_is_missing_and_no_secret_is_told(address: str) -> None:
    why = await why_missing(address)
    assert why
    assert "same" not in why


async def test_a_role_that_may_only_read_is_enough_and_one_that_may_not_is_told(ledger_dsn: str) -> None:
    await (await living(ledger_dsn)).close()
    await execute(ledger_dsn, "CREATE ROLE auditor LOGIN", "GRANT SELECT ON ALL TABLES IN SCHEMA public TO auditor")
    as_auditor = f"{ledger_dsn}&role=auditor"
    try:
        found = await seen(as_auditor)
        assert found == msgspec.structs.replace(await seen(ledger_dsn), read_at=found.read_at)
        await execute(ledger_dsn, "REVOKE SELECT ON fills FROM auditor")
        assert "permission denied for table fills" in await why_missing(as_auditor)
    finally:
        await execute(ledger_dsn, "DROP OWNED BY auditor", "DROP ROLE auditor")


async def test_a_server_that_hangs_costs_the_limit_only() -> None:
    async with silent_server() as server:
        loop = asyncio.get_running_loop()
        began = loop.time()
        why = await why_missing(f"postgresql://bot:sesame@127.0.0.1:{server.port}/x?sslmode=disable", within=0.5)
        assert loop.time() - began < 3
    assert "within 0.5 s" in why


async def test_a_question_that_waits_for_a_lock_costs_the_limit_only(ledger_dsn: str) -> None:
    await (await living(ledger_dsn)).close()
    connection = await asyncpg.connect(ledger_dsn)
    try:
        async with connection.transaction():
            await connection.execute("LOCK TABLE trades IN ACCESS EXCLUSIVE MODE")
            assert await why_missing(ledger_dsn, within=1)
    finally:
        await connection.close()
    await seen(ledger_dsn)


async def test_who_cancels_is_obeyed() -> None:
    async with silent_server() as server:
        looking = asyncio.create_task(look(f"postgresql://bot@127.0.0.1:{server.port}/x?sslmode=disable"))
        await server.called.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking


async def test_it_sees_one_moment_while_others_write(ledger_dsn: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fill is booked after the books were read and before its orders, fills and positions are."""
    ledger = await living(ledger_dsn)
    before = await seen(ledger_dsn)
    read = gathering_ledger.LedgerSnapshot.positions

    async def interrupted(self: gathering_ledger.LedgerSnapshot) -> Any:
        late = sale("stop-ether", "t5", "0.1", "1900", symbol=ETHER)
        await ledger.book("stop-ether", [late], OrderState.FILLED, NOW)
        return await read(self)

    monkeypatch.setattr(gathering_ledger.LedgerSnapshot, "positions", interrupted)
    during = await seen(ledger_dsn)
    monkeypatch.undo()
    after = await seen(ledger_dsn)
    assert msgspec.structs.replace(during, read_at=before.read_at) == before
    assert after.fills[0].exchange_trade_id == "t5"
    assert after.positions[ETHER].amount == 0
    await ledger.close()
