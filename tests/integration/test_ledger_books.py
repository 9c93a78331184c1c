"""Outside movements, the outbox, events, the invariants' own eyes, readers and lost connections."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import asyncpg
import msgspec
import pytest

from support.ledger import (
    ACCOUNT,
    BOT,
    NOW,
    connect,
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
from support.line import line_to
from support.postgres import FAST
from tradingbot_agents.domain.events import OrderUnresolved
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import migrate
from tradingbot_agents.ledger.outbox import OutboxRelay
from tradingbot_agents.ledger.port import EquityPoint, KnownRules, LedgerError, LedgerUnavailable, Role
from tradingbot_agents.ledger.postgres import PostgresLedger

pytestmark = pytest.mark.postgres

D = Decimal


class ListBus:
    """Keeps the causes of what is published; fails at those of ``broken``."""

    def __init__(self, broken: frozenset[str] = frozenset()) -> None:
        self.published: list[str] = []
        self.broken = broken

    async def publish(self, message: Message) -> None:
        if message.causation_id in self.broken:
            raise ConnectionError("the broker is gone")
        self.published.append(message.causation_id)


async def violations(ledger: PostgresLedger) -> dict[str, tuple[str, ...]]:
    return {rule.name: rule.violations for rule in await ledger.invariants() if rule.violations}


# --- outside


async def test_an_outside_movement_is_booked_once(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    for _ in range(2):
        await ledger.book_outside_movement("USDT", D("15.46"), "deposit-1", NOW)
        await ledger.book_outside_movement("BTC", D("0.001"), "deposit-1", NOW)
        await ledger.book_outside_movement("XYZ", D(3), "airdrop", NOW)
    balances = await ledger.balances()
    assert (balances["USDT"].total, balances["BTC"].total, balances["XYZ"].total) == (100, D("0.001"), 3)
    # What nobody has a price for counts as nothing, as in the equity.
    holdings = await ledger.holdings()
    assert holdings.balances == balances
    assert holdings.outside == {"USDT": D("15.46"), "BTC": D("0.001"), "XYZ": D(3)}
    assert (await ledger.reserve(risk, entry("btc", budget="100"))).available_after == 0
    assert await violations(ledger) == {}
    await ledger.close()


async def test_money_that_is_taken_away_under_a_reservation(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.reserve(risk, entry("btc"))
    await ledger.book_outside_movement("USDT", D(-50), "withdrawal", NOW)
    assert (await ledger.balances())["USDT"].available == D("-33.09")
    refused = await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="0.01"))
    assert refused.available_after == D("-33.09")
    assert await violations(ledger) == {}
    await ledger.deny(execution, "entry-btc", "test", NOW)
    assert (await ledger.reserve(risk, entry("sol", "SOL/USDT", budget="34.54"))).available_after == 0
    assert await violations(ledger) == {}
    await ledger.close()


async def test_what_other_peoples_orders_lock(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    await ledger.set_outside_holds({"USDT": D("17"), "GBP": D(2)})
    assert (await ledger.reserve(risk, entry("btc"))).detail == "67.63 USDT are needed, 67.54 are available"
    assert (await ledger.balances())["GBP"].available == -2
    # It is the whole picture: what is not named locks nothing any more.
    await ledger.set_outside_holds({"USDT": D("16.91")})
    assert (await ledger.reserve(risk, entry("again"))).available_after == 0
    assert (await ledger.balances())["GBP"].available == 0
    await ledger.set_outside_holds({})
    assert (await ledger.balances())["USDT"].available == D("16.91")
    assert await violations(ledger) == {}
    await ledger.close()


# --- the outbox


async def denied(ledger_dsn: str, count: int) -> PostgresLedger:
    """A ledger whose outbox has that many reports of execution, of the entries ``entry-a0`` and on."""
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.reserve_many(risk, [entry(f"a{n}", f"A{n}/USDT", budget="0.1") for n in range(count)])
    for n in range(count):
        await ledger.deny(execution, f"entry-a{n}", "test", NOW)
    return ledger


async def test_the_outbox_is_published_in_order_and_once(ledger_dsn: str) -> None:
    ledger = await denied(ledger_dsn, 230)
    bus = ListBus()
    relay = OutboxRelay(ledger, Role.EXECUTION, bus)
    assert await relay.flush() == 230
    assert bus.published == [f"entry-a{n}" for n in range(230)]
    assert await relay.flush() == 0
    assert await ledger.unpublished(Role.EXECUTION) == []
    await ledger.close()


async def test_each_role_has_its_own_rows(ledger_dsn: str) -> None:
    ledger, risk, execution = await held_position(ledger_dsn)
    for role in Role:
        await ledger.mark_published([row.number for row in await ledger.unpublished(role)])
    await ledger.request_exit(risk, exit_request("intent-sell"))
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="1"))
    await ledger.deny(execution, "entry-eth", "test", NOW)
    assert [row.message.id for row in await ledger.unpublished(Role.RISK)] == ["order.intent-sell"]
    assert [row.message.causation_id for row in await ledger.unpublished(Role.EXECUTION)] == ["entry-eth"]
    await ledger.close()


async def test_a_broken_bus_keeps_the_rest_for_later(ledger_dsn: str) -> None:
    ledger = await denied(ledger_dsn, 5)
    bus = ListBus(frozenset({"entry-a2"}))
    relay = OutboxRelay(ledger, Role.EXECUTION, bus)
    with pytest.raises(ConnectionError):
        await relay.flush()
    assert bus.published == ["entry-a0", "entry-a1"]
    left = [row.message.causation_id for row in await ledger.unpublished(Role.EXECUTION, 2)]
    assert left == ["entry-a2", "entry-a3"]
    bus.broken = frozenset()
    assert await relay.flush() == 3
    assert bus.published == [f"entry-a{n}" for n in range(5)]
    await ledger.close()


async def test_a_bot_publishes_its_own_rows_only(ledger_dsn: str) -> None:
    ledger = await denied(ledger_dsn, 1)
    other = await connect(ledger_dsn, "minors")
    await other.raise_epoch(Role.EXECUTION, NOW)
    rows = await ledger.unpublished(Role.EXECUTION)
    assert len(rows) == 1
    assert await other.unpublished(Role.EXECUTION) == []
    await other.mark_published([row.number for row in rows])
    assert await ledger.unpublished(Role.EXECUTION) == rows
    for one in (ledger, other):
        await one.close()


# --- events and equity


async def test_events_are_recorded_once(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    event = OrderUnresolved(at=NOW, agent="execution", client_order_id="entry-1", symbol="BTC/USDT", why="timeout")
    later = OrderUnresolved(
        at=NOW + timedelta(seconds=1), agent="execution", client_order_id="entry-1", symbol="BTC/USDT", why="timeout"
    )
    await ledger.record_events([event, later])
    await ledger.record_events([later])
    connection = await asyncpg.connect(ledger_dsn)
    found = await connection.fetch("SELECT name, severity, at, fields->>'why' AS why FROM events ORDER BY number")
    await connection.close()
    assert [tuple(row) for row in found] == [
        ("order_unresolved", "warning", NOW, "timeout"),
        ("order_unresolved", "warning", NOW + timedelta(seconds=1), "timeout"),
    ]
    await ledger.close()


async def test_the_equity_curve(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    points = [EquityPoint(NOW + timedelta(minutes=n), D(84) + n) for n in range(3)]
    for point in (*points[::-1], points[0]):
        await ledger.record_equity(point)
    assert await ledger.equity() == points
    assert await ledger.equity(points[1].at) == points[1:]
    await ledger.close()


async def test_the_equity_is_measured_without_what_was_set_aside(ledger_dsn: str) -> None:
    ledger = await connect(ledger_dsn)
    await ledger.open_account({"USDT": D("84.54"), "BTC": D(1)}, (), NOW, quote="USDT")
    risk, execution = await ledger.raise_epoch(Role.RISK, NOW), await ledger.raise_epoch(Role.EXECUTION, NOW)
    # Nobody asks for the price of what nobody has bought.
    balances, equity = await ledger.measure_equity(NOW, "USDT", {"BTC": None})
    assert (balances["BTC"].total, balances["BTC"].set_aside, balances["BTC"].own) == (1, 1, 0)
    assert equity == D("84.54")
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    booking = await ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)
    balances, equity = await ledger.measure_equity(NOW, "USDT", {"BTC": D(130000)})
    assert balances["BTC"].own == booking.position.amount > 0
    assert equity == balances["USDT"].total + booking.position.amount * 130000
    assert balances == await ledger.balances()
    await ledger.close()


async def test_the_equity_is_measured_without_what_came_from_outside(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.book_outside_movement("USDT", D(100), "deposit", NOW)
    await ledger.book_outside_movement("XYZ", D(3), "airdrop", NOW)
    balances, equity = await ledger.measure_equity(NOW, "USDT", {"BTC": None, "ETH": D(4000)})
    assert (balances["USDT"].total, equity) == (D("184.54"), D("84.54"))
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    await ledger.book("entry-btc", [fill("entry-btc", "t1")], OrderState.FILLED, NOW)
    # Half of an account would look like a drawdown.
    later = NOW + timedelta(minutes=5)
    assert (await ledger.measure_equity(later, "USDT", {"BTC": None}))[1] is None
    _, equity = await ledger.measure_equity(later, "USDT", {"BTC": D(130000)})
    assert equity == D("84.54") - D("66.8561575") + D("71.5")
    assert await ledger.equity() == [EquityPoint(NOW, D("84.54"), D(100)), EquityPoint(later, equity, D(100))]
    await ledger.close()


# --- invariants


async def traded(dsn: str) -> PostgresLedger:
    """Money reserved, a position with a live exit, and fills."""
    ledger, risk, execution = await opened(dsn)
    await ledger.reserve(risk, entry("btc"))
    await ledger.claim(execution, "entry-btc", NOW)
    await ledger.book("entry-btc", [fill("entry-btc", "t1", fee=("BNB", "0.0001"))], OrderState.FILLED, NOW)
    await ledger.submit_leg(execution, exit_leg("stop", "0.0005", leg=Leg.STOP))
    await ledger.reserve(risk, entry("eth", "ETH/USDT", budget="10"))
    return ledger


@pytest.mark.parametrize(
    ("tampering", "rule", "words"),
    [
        (
            "UPDATE balances SET total = total + 1 WHERE asset = 'USDT'",
            "total_is_sum_of_entries",
            "USDT: total is 18.6838425, its entries sum up to 17.6838425",
        ),
        (
            "UPDATE balances SET reserved = reserved - 1 WHERE asset = 'USDT'",
            "reserved_is_sum_of_holds",
            "USDT: 9.00 is reserved, reservations and exit holds sum up to 10",
        ),
        (
            "ALTER TABLE balances DROP CONSTRAINT never_overcommitted;"
            "UPDATE balances SET outside_holds = 8 WHERE asset = 'USDT'",
            "never_overcommitted",
            "USDT: 18.00 of 17.6838425 is reserved or held outside, though bookings explain a shortfall of only 0",
        ),
        (
            "UPDATE orders SET available_after = -1 WHERE client_order_id = 'entry-eth'",
            "never_overcommitted",
            "intent intent-eth was approved though only 9 was available",
        ),
        (
            "UPDATE positions SET exit_hold = 0.0004",
            "exit_holds_cover_live_exits",
            "BTC/USDT of majors: the hold is 0.0004, live exit legs may sell 0.0005, the position has 0.00055",
        ),
        (
            "DELETE FROM positions",
            "exit_holds_cover_live_exits",
            "BTC/USDT: live exit legs may sell 0.0005 of a position that is not there",
        ),
        (
            "UPDATE orders SET reserve_amount = NULL WHERE client_order_id = 'entry-eth'",
            "entries_and_reservations_match",
            "order entry-eth is an order to buy of leg entry, and reserves no USDT",
        ),
        (
            "UPDATE orders SET finished_at = NULL WHERE client_order_id = 'entry-btc'",
            "final_orders_hold_nothing",
            "order entry-btc is filled, finished at no time",
        ),
        (
            "DELETE FROM entries WHERE kind = 'fee'",
            "fills_are_counted_once",
            "fill BTC/USDT:t1: BNB of 0 in the books, -0.0001 on the exchange",
        ),
        (
            "UPDATE orders SET filled = 0.0005 WHERE client_order_id = 'entry-btc'",
            "orders_match_their_fills",
            "order entry-btc: filled 0.0005 for 66.8561575000, its fills sum up to 0.00055 for 66.8561575",
        ),
        (
            "UPDATE positions SET amount = 0.0006",
            "positions_match_their_fills",
            "BTC/USDT of bot 1: the position has 0.0006, adoption and fills sum up to 0.00055",
        ),
        (
            "INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence, correlation_id, at)"
            " VALUES (1, 'intent-eth', 'ETH/USDT', 'buy', 'no_edge', '', 1, 'c', now())",
            "intents_are_decided_once",
            "intent intent-eth was refused (no_edge), and has order entry-eth",
        ),
        (
            "UPDATE orders SET cause = 'intent-eth' WHERE client_order_id = 'entry-btc'",
            "intents_are_decided_once",
            "intent intent-eth has 2 entries",
        ),
    ],
)
async def test_an_invariant_that_is_broken_says_so(ledger_dsn: str, tampering: str, rule: str, words: str) -> None:
    ledger = await traded(ledger_dsn)
    assert await violations(ledger) == {}
    connection = await asyncpg.connect(ledger_dsn)
    await connection.execute(tampering)
    await connection.close()
    found = await violations(ledger)
    assert rule in found
    assert _plain(words) in [_plain(violation) for violation in found[rule]]
    await ledger.close()


def _plain(words: str) -> str:
    """Numbers without the zeros at their ends, of which SQL keeps more or less."""
    return " ".join(
        f"{Decimal(word).normalize():f}" if word.replace(".", "").replace("-", "").isdigit() else word
        for word in words.replace(",", " ,").split()
    )


async def test_every_invariant_says_what_it_protects(ledger_dsn: str) -> None:
    ledger = await traded(ledger_dsn)
    rules = await ledger.invariants()
    assert len({rule.name for rule in rules}) == len(rules) >= 10
    assert all(rule.protects.endswith(".") for rule in rules)
    await ledger.close()


# --- readers and connections


async def test_reading_waits_for_no_writer(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    reader = await connect(ledger_dsn)
    blocker = await asyncpg.connect(ledger_dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT enter(1, 1, NULL, NULL); UPDATE balances SET total = total")
    writing = asyncio.create_task(ledger.reserve(risk, entry("btc")))
    async with asyncio.timeout(30):
        for one in (reader, ledger):
            assert (await one.balances())["USDT"].reserved == 0
            assert await one.orders() == []
            assert await one.positions() == {}
            assert await one.unpublished(Role.RISK) == []
            assert await violations(one) == {}
    assert not writing.done()
    await transaction.rollback()
    assert (await writing).available_after == D("16.91")
    assert (await reader.balances())["USDT"].reserved == D("67.63")
    await blocker.close()
    for one in (ledger, reader):
        await one.close()


async def cut_connections(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    await connection.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    await connection.close()


async def test_a_cut_connection_is_noticed_by_nobody(ledger_dsn: str) -> None:
    ledger, risk, execution = await opened(ledger_dsn)
    await ledger.balances()
    await cut_connections(ledger_dsn)
    assert (await ledger.reserve(risk, entry("btc"))).available_after == D("16.91")
    assert (await ledger.balances())["USDT"].reserved == D("67.63")
    await cut_connections(ledger_dsn)
    assert (await ledger.balances())["USDT"].reserved == D("67.63")
    assert await ledger.claim(execution, "entry-btc", NOW) is not None
    await ledger.close()


async def test_a_server_that_is_gone(data_dir: Path) -> None:
    server = EmbeddedPostgres(data_dir, settings=FAST)
    await migrate(await server.start())
    ledger, risk, _ = await opened(await server.start())
    await server.stop()
    for call in (ledger.reserve(risk, entry("btc")), ledger.balances(), ledger.invariants()):
        with pytest.raises(LedgerUnavailable, match="repeat the call once it runs again"):
            await call
    await server.start()
    assert (await ledger.reserve(risk, entry("btc"))).available_after == D("16.91")
    assert await violations(ledger) == {}
    await ledger.close()
    await server.stop()


async def test_a_server_that_is_brought_back(data_dir: Path) -> None:
    """With ``recover`` a call waits for that, and goes on."""
    server = EmbeddedPostgres(data_dir, settings=FAST)
    dsn = await server.start()
    await migrate(dsn)
    await (await opened(dsn))[0].close()
    ledger = await PostgresLedger.connect(dsn, ACCOUNT, BOT, recover=server.ensure_running)
    risk = await ledger.raise_epoch(Role.RISK, NOW)
    await server.stop()
    assert (await ledger.reserve(risk, entry("btc"))).available_after == D("16.91")
    await server.stop()
    assert (await ledger.balances())["USDT"].reserved == D("67.63")
    await ledger.close()
    await server.stop()


async def test_a_cancelled_call_leaves_the_ledger_usable(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    blocker = await asyncpg.connect(ledger_dsn)
    async with blocker.transaction():
        await blocker.execute("SELECT enter(1, 1, NULL, NULL)")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ledger.reserve(risk, entry("btc"))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await ledger.raise_epoch(Role.RISK, NOW)
    await blocker.close()
    assert await ledger.decision("intent-btc", "entry-btc") is None
    assert (await ledger.reserve(risk, entry("btc"))).available_after == D("16.91")
    assert await violations(ledger) == {}
    await ledger.close()


async def test_a_statement_that_waits_too_long_is_given_up(ledger_dsn: str) -> None:
    ledger, risk, _ = await opened(ledger_dsn)
    impatient = await PostgresLedger.connect(ledger_dsn, ACCOUNT, BOT, command_timeout=0.2)
    blocker = await asyncpg.connect(ledger_dsn)
    transaction = blocker.transaction()
    await transaction.start()
    await blocker.execute("SELECT enter(1, 1, NULL, NULL)")
    with pytest.raises(LedgerUnavailable, match="statement timeout"):
        await impatient.reserve(risk, entry("btc"))
    await transaction.rollback()
    # The server gave it up as well: nothing was done behind the caller's back.
    assert await ledger.orders() == []
    assert (await impatient.reserve(risk, entry("btc"))).new
    await blocker.close()
    for one in (ledger, impatient):
        await one.close()


async def test_a_dead_line_is_replaced(ledger_dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Open, and silent: no answer and no error ever comes. The call is made again over a new one."""
    monkeypatch.setattr("tradingbot_agents.ledger.database._LINE_MARGIN", 0.1)
    socket = Path(ledger_dsn.partition("host=")[2].partition("&")[0]) / ".s.PGSQL.5432"
    async with line_to(socket, tmp_path / ".s.PGSQL.5432") as line:
        dsn = ledger_dsn.replace(str(socket.parent), str(tmp_path))
        ledger = await PostgresLedger.connect(dsn, ACCOUNT, BOT, command_timeout=0.1)
        await ledger.open_account({"USDT": D("84.54")}, (), NOW, quote="USDT")
        risk = await ledger.raise_epoch(Role.RISK, NOW)
        before = line.opened
        line.go_dead()
        assert (await ledger.reserve(risk, entry("btc"))).new
        assert line.opened == before + 1
        assert (await ledger.balances())["USDT"].reserved == D("67.63")
        line.go_dead()
        await ledger.close()


# --- plans


async def test_no_call_of_a_trade_reads_the_history(ledger_dsn: str) -> None:
    """Plans that were made while the tables were empty must do when they are not, before anybody analyses them."""
    ledger, risk, execution = await opened(ledger_dsn)

    async def trade(name: str) -> None:
        symbol, order, leg = f"{name.upper()}/USDT", f"entry-{name}", f"exit-{name}"
        await ledger.reserve(risk, entry(name, symbol, budget="2"))
        await ledger.refuse(risk, [refusal(f"{name}-refused", symbol)])
        await ledger.claim(execution, order, NOW)
        await ledger.acknowledge(execution, order, f"x-{name}")
        await ledger.book(order, [fill(order, f"t-{name}", "1", "1", symbol=symbol)], OrderState.FILLED, NOW)
        await ledger.request_exit(risk, exit_request(f"sell-{name}", symbol))
        await ledger.submit_leg(execution, exit_leg(leg, "0.9", symbol=symbol))
        await ledger.book(leg, [sale(leg, f"s-{name}", "0.9", "1", symbol=symbol)], OrderState.FILLED, NOW)
        await ledger.mark_dust(execution, symbol, Leg.EXIT, NOW)
        await ledger.orders_to_send()
        await ledger.live_orders()
        await ledger.trades(NOW + timedelta(days=1))

    for number in range(7):
        await trade(f"a{number}")
    connection = await asyncpg.connect(ledger_dsn)
    await connection.execute(
        """
        INSERT INTO orders (account, bot, client_order_id, symbol, side, leg, type, time_in_force, amount, state,
            cause, attempt, correlation_id, created_at, finished_at, reserve_asset, reserve_amount, reserve_drawn)
        SELECT 1, 1, 'old-' || n, 'B' || n % 50 || '/USDT', 'buy', 'entry', 'limit', 'ioc', 1, 'denied', 'old-' || n,
            0, 'c', now(), now(), 'USDT', 1, 0 FROM generate_series(1, 4000) n;
        INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence, correlation_id, at)
        SELECT 1, 'refused-' || n, 'B/USDT', 'buy', 'no_edge', '', 1, 'c', now() FROM generate_series(1, 4000) n;
        INSERT INTO fills (account, bot, symbol, exchange_trade_id, client_order_id, side, price, amount, at)
        SELECT 1, 1, 'B/USDT', n, 'old-' || n, 'buy', 1, 1, now() FROM generate_series(1, 4000) n;
        INSERT INTO entries (account, asset, amount, kind, cause, at)
        SELECT 1, 'B', 1, 'fill', 'B/USDT:' || n, now() FROM generate_series(1, 4000) n;
        INSERT INTO trades (bot, trade_id, symbol, entry_order, opened_at, closed_at, bought, cost, profit, fees, leg,
            indicators)
        SELECT 1, 'old-' || n, 'B/USDT', 'old-' || n, $1, $1, 1, 1, 0, 0, 'exit', '{}'
        FROM generate_series(1, 4000) n;
        """.replace("$1", f"'{NOW.isoformat()}'")
    )
    read = (
        "SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables)::bigint"
        " + (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)::bigint"
    )
    await connection.execute("SELECT pg_stat_force_next_flush()")
    before = await connection.fetchval(read)
    for number in range(7):
        await trade(f"b{number}")
    # A session tells of its reads when it ends, also of those before.
    await ledger.close()
    await connection.execute("SELECT pg_stat_clear_snapshot()")
    assert await connection.fetchval(read) - before < 4000
    await connection.close()


# --- market rules


async def test_market_rules_are_kept_with_the_time_since_when_they_hold(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    coarse, fine = rules_of("BTC/USDT", "0.1"), rules_of("BTC/USDT", "0.01")
    later = [NOW + timedelta(hours=hours) for hours in range(5)]
    for rules, at in (
        (coarse, later[0]),
        (coarse, later[1]),
        (fine, later[2]),
        (coarse, later[3]),
        (coarse, later[4]),
    ):
        await ledger.keep_market_rules({"BTC/USDT": rules, "ETH/USDT": rules_of("ETH/USDT", "0.01")}, at)
    known = await ledger.market_rules()
    assert known["BTC/USDT"] == KnownRules(coarse, later[3], later[4])
    assert known["ETH/USDT"] == KnownRules(rules_of("ETH/USDT", "0.01"), later[0], later[4])
    await ledger.close()


# --- whose the account is


async def test_the_exchange_s_account_is_known_for_ever_and_no_other_books_can_be_of_it(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    assert await ledger.know_exchange_account("354937868") == "354937868"
    assert await ledger.know_exchange_account("354937868") == "354937868", "again, at each start"
    assert await ledger.know_exchange_account("1") == "354937868", "a key of another account"
    second = await connect(ledger_dsn, account=msgspec.structs.replace(ACCOUNT, name="second"))
    with pytest.raises(LedgerError, match=r"account\.name is second, .*354937868, whose books are those of main"):
        await second.know_exchange_account("354937868")
    assert await second.know_exchange_account("77") == "77"
    elsewhere = await connect(ledger_dsn, account=msgspec.structs.replace(ACCOUNT, endpoint="https://elsewhere"))
    assert await elsewhere.know_exchange_account("354937868") == "354937868", "the ids of another exchange"
    for each in (ledger, second, elsewhere):
        await each.close()
