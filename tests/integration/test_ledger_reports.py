"""Reports in the real database, what is remembered between them, and the hold that one places."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from decimal import Decimal

import asyncpg
import msgspec
import pytest

from support.ledger import NOW, connect, opened
from support.reports import finding, report
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import EquityPoint, Hold, Retention
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.ledger.reports import NewReport
from tradingbot_agents.reality import history
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.holding import holding

pytestmark = pytest.mark.postgres

HALF_HOUR = timedelta(minutes=30)
FAILED = report(finding("orders.fills", Status.FAILED, severity=Severity.SEVERE), at=NOW)
KEPT = Retention(
    events=timedelta(days=1),
    severe_events=timedelta(days=1),
    refusals=timedelta(days=1),
    equity=timedelta(days=1),
    reports=timedelta(days=10),
)


def new(number: int) -> NewReport:
    return NewReport(
        at=NOW + number * HALF_HOUR, result="passed", hold=None, document=msgspec.json.encode({"number": number})
    )


async def numbers(ledger: PostgresLedger, limit: int | None = None, until: datetime | None = None) -> list[int]:
    return [msgspec.json.decode(each.document)["number"] for each in await ledger.reports(limit, until=until)]


async def test_reports_are_found_by_age_time_and_number(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    kept = [await ledger.keep_report(new(number)) for number in (0, 2, 1)]
    assert await numbers(ledger) == [2, 1, 0]
    assert await numbers(ledger, 2) == [2, 1]
    assert await numbers(ledger, 1, NOW + HALF_HOUR) == [1]
    assert await numbers(ledger, until=NOW - HALF_HOUR) == []
    found = await ledger.report(kept[2])
    assert found is not None
    assert (found.number, found.at, found.result, found.hold) == (kept[2], NOW + HALF_HOUR, "passed", None)
    assert await ledger.report(kept[1] + 100) is None
    await ledger.close()


async def test_a_whole_report_comes_back_as_it_was(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    first = msgspec.structs.replace(FAILED, seconds=0.1, hold='held "at" Paused: ä, \\u0001')
    odd = finding("feed.age", Status.FAILED, told=("a\x00b",))
    second = report(odd, at=NOW + HALF_HOUR)
    for each in (first, second):
        await ledger.keep_report(history.to_keep(each))
    newer, older = history.read(await ledger.reports()).reports
    assert older == first
    assert newer.findings[0].told == ("a\ufffdb",), "the one sign that the database does not take"
    await ledger.close()


async def test_a_report_that_is_kept_again_is_there_already(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    number = await ledger.keep_report(new(0))
    assert await ledger.keep_report(new(0)) == number
    assert len(await ledger.reports()) == 1
    await ledger.close()


async def test_a_bot_that_has_not_begun_yet_and_one_beside_it(ledger_dsn: str) -> None:
    ledger, other = await connect(ledger_dsn), await connect(ledger_dsn, "other")
    assert await ledger.reports() == []
    number = await ledger.keep_report(new(0))
    await other.keep_report(new(1))
    assert (await numbers(ledger), await numbers(other)) == ([0], [1])
    assert await other.report(number) is None
    # The account is still to be opened, as if nobody had been here.
    assert (await ledger.account_books()).opened_at is None
    assert await ledger.open_account({}, (), NOW, quote="USDT")
    for each in (ledger, other):
        await each.close()


async def test_reports_of_two_by_hand_are_both_kept(ledger_dsn: str) -> None:
    ledgers = [await connect(ledger_dsn) for _ in range(4)]
    kept = await asyncio.gather(*(ledger.keep_report(new(number)) for number, ledger in enumerate(ledgers)))
    assert len(set(kept)) == 4
    assert await numbers(ledgers[0]) == [3, 2, 1, 0]
    for each in ledgers:
        await each.close()


async def test_one_check_at_a_time_tells_people(ledger_dsn: str) -> None:
    first, second = await connect(ledger_dsn), await connect(ledger_dsn)
    until = NOW + timedelta(minutes=1)
    lease = await first.lease_telling("a", NOW, until)
    assert lease is not None
    assert lease.told == "{}"
    assert await second.lease_telling("b", NOW, until) is None
    assert await first.lease_telling("a", NOW, until) == lease, "the answer got lost"
    assert await first.end_telling(lease, b'{"phone": {}}')
    again = await second.lease_telling("b", NOW, until)
    assert again is not None
    assert msgspec.json.decode(again.told) == {"phone": {}}
    # It died, and holds nobody up for ever.
    taken = await first.lease_telling("c", until, until + HALF_HOUR)
    assert taken is not None
    assert not await second.end_telling(again, b"{}")
    assert await first.end_telling(taken, b'{"mail": {}}')
    for each in (first, second):
        await each.close()


async def test_of_many_at_once_one_gets_the_lease(ledger_dsn: str) -> None:
    ledgers = [await connect(ledger_dsn) for _ in range(6)]
    leases = await asyncio.gather(
        *(ledger.lease_telling(str(number), NOW, NOW + HALF_HOUR) for number, ledger in enumerate(ledgers))
    )
    assert sum(1 for each in leases if each is not None) == 1
    for each in ledgers:
        await each.close()


async def check(ledger: PostgresLedger, number: int, status: Status) -> Hold | None:
    found = report(finding("orders.fills", status, severity=Severity.SEVERE), at=NOW + number * HALF_HOUR)
    return await ledger.hold_by_check(lambda present, before: holding(found, BotState.REDUCE_ONLY, present, before))


async def test_a_severe_failure_holds_the_bot_once_until_it_has_passed(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    assert await check(ledger, 0, Status.PASSED) is None
    placed = await check(ledger, 1, Status.FAILED)
    assert placed is not None
    assert await ledger.hold() == placed
    assert await check(ledger, 1, Status.FAILED) == placed, "the answer got lost"
    assert await check(ledger, 2, Status.FAILED) is None
    assert await ledger.release_hold()
    assert await check(ledger, 3, Status.FAILED) is None
    assert await ledger.hold() is None
    assert await check(ledger, 4, Status.PASSED) is None
    again = await check(ledger, 5, Status.FAILED)
    assert again is not None
    assert await ledger.hold() == again
    await ledger.close()


async def test_of_two_checks_at_once_one_holds(ledger_dsn: str) -> None:
    ledgers = [await connect(ledger_dsn) for _ in range(4)]
    placed = await asyncio.gather(*(check(ledger, number, Status.FAILED) for number, ledger in enumerate(ledgers)))
    assert sum(1 for each in placed if each is not None) == 1
    for each in ledgers:
        await each.close()


async def test_what_was_told_and_what_was_held_for_leave_each_other_alone(ledger_dsn: str) -> None:
    ledger, _, _ = await opened(ledger_dsn)
    lease = await ledger.lease_telling("a", NOW, NOW + HALF_HOUR)
    assert lease is not None
    await check(ledger, 0, Status.FAILED)
    assert await ledger.end_telling(lease, b'{"phone": {}}')
    await ledger.release_hold()
    assert await check(ledger, 1, Status.FAILED) is None
    again = await ledger.lease_telling("b", NOW, NOW + HALF_HOUR)
    assert again is not None
    assert msgspec.json.decode(again.told) == {"phone": {}}
    await ledger.close()


async def test_old_reports_are_pruned_also_of_a_bot_that_stands_still(ledger_dsn: str) -> None:
    ledger, other = await connect(ledger_dsn), await connect(ledger_dsn, "other")
    days = [await ledger.keep_report(new(48 * day)) for day in range(15)]
    await other.keep_report(new(0))
    later = NOW + timedelta(days=400)
    # Counted from the newest of them, for the clock may be wrong; and it had no other record.
    (would,) = await ledger.prune(KEPT, later, dry_run=True)
    assert (would.what, would.rows, would.before) == ("reality reports", 4, NOW + timedelta(days=4))
    assert len(await ledger.reports()) == 15
    assert await ledger.prune(KEPT, later, dry_run=False) == [would]
    assert [each.number for each in await ledger.reports()] == days[:3:-1]
    assert len(await other.reports()) == 1
    await ledger.record_equity(EquityPoint(later, Decimal(1), Decimal(0)))
    assert [each.what for each in await ledger.prune(KEPT, later, dry_run=True)][-1] == "reality reports"
    for each in (ledger, other):
        await each.close()


async def test_a_report_without_its_account_is_refused_by_the_database(ledger_dsn: str) -> None:
    connection = await asyncpg.connect(ledger_dsn)
    with pytest.raises(asyncpg.ForeignKeyViolationError):
        await connection.execute(
            "INSERT INTO reality_reports (bot, at, result, report) VALUES (99, now(), 'passed', '{}')"
        )
    await connection.close()
