"""``migrate``: bring what a bot keeps its data in to this version.

Of a data directory, its database. With a spec, what the environment names: the ledger's database and the time series'
buckets, which must be ready before any agent starts.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.clock import Clock
from tradingbot_agents.ledger.migrate import migrate, required_version
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.marketdata.port import CandleStoreUnavailable
from tradingbot_agents.runtime.connections import read_migration
from tradingbot_agents.runtime.data import find_data_dir, opened_ledger
from tradingbot_agents.runtime.wiring import time_series_plan
from tradingbot_api import load_file

T = TypeVar("T")

_PAUSE = timedelta(seconds=1)


async def migrate_data_dir(data_dir: Path | None) -> int:
    path = find_data_dir(data_dir)
    async with opened_ledger(path, update_schema=True):
        print(f"{path}: the schema is at {required_version()}")
    return exit_codes.OK


async def migrate_environment(spec: Path, wait: timedelta, clock: Clock) -> int:
    """A server that is away is asked again and again for as long as ``wait``; then ``LedgerUnavailable`` or
    ``CandleStoreUnavailable`` is raised."""
    bot = load_file(spec)
    found = read_migration(os.environ)
    if found.database is not None:
        database = found.database
        applied = await _once_it_answers(lambda: migrate(database.reveal()), wait, clock)
        print(
            f"database: the schema is at {required_version()}"
            + (f" ({', '.join(applied)} applied)" if applied else "")
        )
    if found.time_series is not None:
        from tradingbot_agents.marketdata.setup import prepare

        url, token = found.time_series
        plan = time_series_plan(bot)
        done = await _once_it_answers(lambda: prepare(url.reveal(), token.reveal(), plan), wait, clock)
        print("time series: " + ("; ".join(done) or "all is as it should be"))
    return exit_codes.OK


async def _once_it_answers(work: Callable[[], Awaitable[T]], wait: timedelta, clock: Clock) -> T:
    deadline = clock.now() + wait
    told = ""
    while True:
        try:
            return await work()
        except (LedgerUnavailable, CandleStoreUnavailable) as error:
            if clock.now() >= deadline:
                raise
            if str(error) != told:
                told = str(error)
                print(f"waiting: {told}", flush=True)
        await clock.sleep(_PAUSE)
