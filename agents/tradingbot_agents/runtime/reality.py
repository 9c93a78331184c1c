"""``tradingbot reality-check``: look at all that a bot is made of, judge it, say it, and act on what is severe.

Read ``check_reality`` from top to bottom. It only reads, up to ``conclude``. Whatever can not be looked at becomes a
place that is missing, with the reason: the check goes on, and says so.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from pathlib import Path
from typing import Literal

import msgspec

from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.ledger.port import LedgerError
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.reality.audit import audit
from tradingbot_agents.reality.check import Status, all_checks
from tradingbot_agents.reality.report import Report, as_text
from tradingbot_agents.runtime import addresses as address_book
from tradingbot_agents.runtime.concluding import conclude, past_reports, read_addresses
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.reality_places import Place, open_place
from tradingbot_agents.telemetry import configure_logging, get_logger
from tradingbot_api import TradingBot, load_file

DELAY = "TRADINGBOT_REALITY_DELAY"
"""Seconds to wait before the first look, from the operator: the checks of many bots begin in the same second."""

SETTLE = timedelta(seconds=5)
"""Between two looks: an order that is on its way has arrived by then, and a fill is booked."""

_LONGEST_DELAY = 300.0

OK = 0
CHECK_FAILED = 7
CHECK_UNKNOWN = 8

_CODES = {Status.PASSED: OK, Status.FAILED: CHECK_FAILED, Status.UNKNOWN: CHECK_UNKNOWN}


class RealityOptions(msgspec.Struct, frozen=True, kw_only=True):
    spec: Path
    data_dir: Path | None
    log: str | None
    """A file, or ``-``."""
    agents: Mapping[str, tuple[str, int]]
    """Where they listen."""
    window: timedelta | None
    output: Literal["text", "json", "both"]
    dry_run: bool


async def check_reality(options: RealityOptions, environment: Mapping[str, str]) -> int:
    """Audit the bot of a spec; returns the exit code. Raises for what is wrong with the call itself, such as a spec
    that is not valid; what is wrong with the bot is in the report."""
    bot = load_file(options.spec)
    addresses = read_addresses(bot, environment)
    async with AsyncExitStack() as stack:
        place = await open_place(stack, bot, options, environment)
        configure_logging(
            "text" if options.output == "text" else "json",
            bot.spec.runtime.log_level,
            sys.stderr,
            bot=bot.metadata.name,
            hidden=lambda: place.hidden() | address_book.hidden(addresses.all),
        )
        await asyncio.sleep(_delay(environment))
        ledger = await _ledger(place)
        report = await audit(
            all_checks(),
            place.gather,
            place.settle,
            account=str(account_key(bot)),
            agents=AGENTS,
            past=await _past(ledger),
        )
        if not options.dry_run:
            report = (await conclude(report, bot, ledger, addresses, place.clock)).report
            await _tell_cluster(place, bot, report)
    _print(report, options.output)
    return _CODES[report.result]


def _delay(environment: Mapping[str, str]) -> float:
    try:
        asked = float(environment.get(DELAY) or 0)
    except ValueError:
        get_logger().warning("reality_delay_not_understood", variable=DELAY)
        return 0.0
    return min(max(asked, 0.0), _LONGEST_DELAY)


async def _ledger(place: Place) -> PostgresLedger | None:
    """To keep the report in; that it is away is in the report."""
    try:
        return await place.open_ledger()
    except LedgerError as error:
        get_logger().warning("reality_report_will_not_be_kept", why=str(error))
        return None


async def _past(ledger: PostgresLedger | None) -> Sequence[Report]:
    if ledger is None:
        return ()
    try:
        found = await past_reports(ledger)
    except LedgerError as error:
        get_logger().warning("reality_past_not_known", why=str(error))
        return ()
    for each in found.passed_over:
        get_logger().info("reality_report_passed_over", why=each)
    return found.reports


async def _tell_cluster(place: Place, bot: TradingBot, report: Report) -> None:
    if place.cluster is None:
        return
    from tradingbot_agents.runtime.reality_status import tell_status

    await tell_status(place.cluster, bot.metadata.name, report)


def _print(report: Report, output: Literal["text", "json", "both"]) -> None:
    if output != "json":
        print(as_text(report))
    if output != "text":
        print(msgspec.json.encode({"event": "reality_check", "report": report}).decode())
