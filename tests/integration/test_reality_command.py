"""``tradingbot reality-check`` of a run: what is so passes, what was broken by hand is named, held and remembered."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from support.process import CANDLES, Finished, Json, Workshop, workshop
from support.specs import PAPER, changed, spec_text
from tradingbot_agents.cli import exit_codes
from tradingbot_agents.reality.check import all_checks
from tradingbot_agents.reality.report import from_json
from tradingbot_agents.runtime.data import opened_database

pytestmark = [pytest.mark.postgres, pytest.mark.process]

UNTIL = "2024-03-04T00:00Z"
SPEC = changed(
    PAPER, {"exchange.replay.source": str(CANDLES), "risk.sizing": {"method": "fixedFractional", "fraction": "0.8"}}
)


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    """With a run of three days, and its log."""
    with workshop() as made:
        (made.path / "bot.yaml").write_text(spec_text(SPEC))
        ended = made.run("run", "bot.yaml", "--until", UNTIL, "--output", "json")
        assert ended.code == 0, ended.err
        (made.path / "run.log").write_text(ended.out)
        yield made


def data_dir(shop: Workshop) -> Path:
    return shop.path / ".tradingbot" / SPEC["metadata"]["name"]


def check(shop: Workshop, *options: str) -> Finished:
    return shop.run("reality-check", "bot.yaml", "--log", "run.log", "--window", "3d", *options)


def report_of(finished: Finished) -> Json:
    (line,) = finished.events
    assert line["event"] == "reality_check"
    report: Json = line["report"]
    return report


def statuses(report: Json) -> dict[str, str]:
    return {each["id"]: each["status"] for each in report["findings"]}


def edit(shop: Workshop, statement: str) -> None:
    async def work() -> None:
        async with opened_database(data_dir(shop)) as dsn:
            connection = await asyncpg.connect(dsn)
            try:
                await connection.execute(statement)
            finally:
                await connection.close()

    asyncio.run(work())


def test_a_run_is_as_it_says(shop: Workshop) -> None:
    ended = check(shop, "--output", "both")
    assert ended.code == exit_codes.OK, ended.out
    report = report_of(ended)
    assert set(statuses(report)) == {each.id for each in all_checks()}
    assert {"failed", "unknown"} & set(statuses(report).values()) == set()
    told = {each["id"]: each["told"][0] for each in report["findings"]}
    assert "the lock at work" in told["balance.lock"], "refusals for want of money are what it is for"
    assert ended.out.startswith("Reality check of ")
    assert "PASSED" in ended.out
    assert from_json(json.dumps(report)).at.isoformat() == "2024-03-04T00:00:00+00:00"


def test_what_is_broken_by_hand_is_named_holds_once_and_is_remembered(shop: Workshop) -> None:
    total = "UPDATE balances SET total = total + {} WHERE asset = 'USDT'"
    edit(shop, total.format(10))
    ended = check(shop, "--output", "both")
    assert ended.code == exit_codes.CHECK_FAILED
    report = report_of(ended)
    failed = {name for name, status in statuses(report).items() if status == "failed"}
    assert {"accounting.entries", "positions.holdings"} <= failed
    assert report["hold"].startswith("held at ReduceOnly: ")
    status = shop.run("status", "--output", "json")
    assert json.loads(status.out)["hold"]["by"] == "reality-check"

    assert shop.run("release").code == 0
    assert report_of(check(shop, "--output", "json"))["hold"] is None, "a person has released it"

    edit(shop, total.format(-10))
    mended = check(shop, "--output", "text")
    assert mended.code == exit_codes.OK, mended.out
    assert "accounting.entries: failed -> passed" in mended.out
    assert '{"event"' not in mended.out


def test_a_dry_run_leaves_no_trace(shop: Workshop) -> None:
    before = shop.run("reality-check", "history", "--output", "json").out
    assert check(shop, "--dry-run", "--output", "json").code == exit_codes.OK
    assert shop.run("reality-check", "history", "--output", "json").out == before


def test_what_earlier_checks_said_can_be_read(shop: Workshop) -> None:
    first = check(shop, "--output", "text")
    listed = json.loads(shop.run("reality-check", "history", "--output", "json", "--limit", "1").out)
    assert [each["result"] for each in listed] == ["passed"]
    shown = shop.run("reality-check", "show", str(listed[0]["number"]))
    assert shown.code == 0
    assert shown.out.splitlines()[0] == first.out.splitlines()[0]
    table = shop.run("reality-check", "history")
    assert table.out.splitlines()[0].split() == ["NUMBER", "AT", "RESULT", "HOLD", "SUMMARY"]
    missing = shop.run("reality-check", "show", "4711")
    assert (missing.code, missing.out.startswith("there is no report 4711")) == (exit_codes.BAD_INPUT, True)


def test_the_spec_of_another_bot_is_refused(shop: Workshop) -> None:
    (shop.path / "other.yaml").write_text(spec_text({**SPEC, "metadata": {"name": "other"}}))
    ended = shop.run("reality-check", "other.yaml", "--data-dir", data_dir(shop))
    assert ended.code == exit_codes.DATA_DIRECTORY
    assert "name the spec or the directory of one bot" in ended.err
