"""A running bot is broken in over thirty ways, one after another: each is named, and none on a bot that is well.

``TRADINGBOT_CLEAN_RUNS=100 pytest -m minutes … -k well`` looks at the one that is well for longer.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from support.defects import DEFECTS, Defect
from support.influxdb import InfluxServer
from support.market import PRICES
from support.process import Finished, Json
from support.rabbitmq import INSTALLED, RabbitServer
from support.stack import Stack, running_stack
from tradingbot_agents.cli import exit_codes
from tradingbot_agents.reality.check import all_checks
from tradingbot_agents.runtime.concluding import past_reports

RUNS = int(os.environ.get("TRADINGBOT_CLEAN_RUNS", "6"))

pytestmark = [
    pytest.mark.minutes,
    pytest.mark.process,
    pytest.mark.timeout(600 + 40 * RUNS),
    pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True),
]

WINDOW = "--window=15m"
"""What InfluxDB was given of the time before the agents began reaches so far."""


def report_of(finished: Finished) -> Json:
    (line,) = (each for each in finished.out.splitlines() if each.startswith("{"))
    told = json.loads(line)
    assert told["event"] == "reality_check"
    report: Json = told["report"]
    return report


def with_status(report: Json, status: str) -> dict[str, list[str]]:
    return {each["id"]: each["told"] for each in report["findings"] if each["status"] == status}


@asynccontextmanager
async def trading(rabbitmq: RabbitServer, influx: InfluxServer) -> AsyncIterator[Stack]:
    """Three positions with a stop each, and nothing under way."""
    async with running_stack(rabbitmq, influx, {"realityCheck.onSevere": "Report"}) as stack:
        stack.start()
        await stack.ready()
        await stack.agents["execution"].tells("fill_booked", count=len(PRICES))
        await stack.settled()
        yield stack


async def test_every_seeded_defect_is_named_and_none_where_there_is_none(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with trading(own_rabbitmq, own_influx) as stack:
        await _is_well(stack)
        missed = {}
        for defect in DEFECTS:
            # One that was stopped may have lost its line to RabbitMQ, and is back soon.
            await stack.ready()
            began = time.monotonic()
            problem = await _named(stack, defect)
            print(f"{time.monotonic() - began:6.1f} s  {defect.name}")
            if problem is not None:
                missed[defect.name] = problem
        assert missed == {}, "\n".join(f"{name}: {problem}" for name, problem in missed.items())
        await stack.settled()
        await stack.compare()


async def _is_well(stack: Stack) -> None:
    finished = await stack.check(WINDOW, "--output=json", "--dry-run")
    report = report_of(finished)
    assert (with_status(report, "failed"), with_status(report, "unknown")) == ({}, {})
    assert finished.code == exit_codes.OK
    assert {each["id"] for each in report["findings"]} == {check.id for check in all_checks()}


async def _named(stack: Stack, defect: Defect) -> str | None:
    """What is wrong with the report, if anything."""
    async with stack.frozen(defect.frozen), defect.broken(stack):
        finished = await stack.check(WINDOW, "--output=json", "--dry-run", but=defect.frozen)
    report = report_of(finished)
    failed, unknown = with_status(report, "failed"), with_status(report, "unknown")
    if defect.named - failed.keys() or defect.unknown - unknown.keys():
        return f"failed: {failed}, unknown: {unknown}"
    expected = exit_codes.CHECK_FAILED if defect.named else exit_codes.CHECK_UNKNOWN
    return None if finished.code in (expected, exit_codes.CHECK_FAILED) else f"it ended with {finished.code}"


async def test_on_a_bot_that_is_well_no_run_names_anything(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with trading(own_rabbitmq, own_influx) as stack:
        for _ in range(RUNS):
            finished = await stack.check(WINDOW, "--output=both")
            assert finished.code == exit_codes.OK, finished.out
            # Over a bar, and what follows from it.
            await asyncio.sleep(20)
        async with stack.ledger() as ledger:
            reports = (await past_reports(ledger, RUNS)).reports
        assert [each.runs for each in reports] == list(range(RUNS, 0, -1))
