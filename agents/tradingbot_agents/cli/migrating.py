"""``migrate``: bring what a bot keeps its data in to this version.

Of a data directory, its database. With a spec, what the environment names: the ledger's database and the time series'
buckets, which must be ready before any agent starts.
"""

from __future__ import annotations

import os
from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.ledger.migrate import migrate, required_version
from tradingbot_agents.runtime.connections import read_migration
from tradingbot_agents.runtime.data import find_data_dir, opened_ledger
from tradingbot_agents.runtime.wiring import time_series_plan
from tradingbot_api import load_file


async def migrate_data_dir(data_dir: Path | None) -> int:
    path = find_data_dir(data_dir)
    async with opened_ledger(path, update_schema=True):
        print(f"{path}: the schema is at {required_version()}")
    return exit_codes.OK


async def migrate_environment(spec: Path) -> int:
    bot = load_file(spec)
    found = read_migration(os.environ)
    if found.database is not None:
        applied = await migrate(found.database.reveal())
        print(
            f"database: the schema is at {required_version()}"
            + (f" ({', '.join(applied)} applied)" if applied else "")
        )
    if found.time_series is not None:
        from tradingbot_agents.marketdata.setup import prepare

        url, token = found.time_series
        done = await prepare(url.reveal(), token.reveal(), time_series_plan(bot))
        print("time series: " + ("; ".join(done) or "all is as it should be"))
    return exit_codes.OK
