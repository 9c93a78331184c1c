"""``migrate``: bring the database of a data directory to the schema of this version."""

from __future__ import annotations

from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.ledger.migrate import required_version
from tradingbot_agents.runtime.data import find_data_dir, opened_ledger


async def migrate_data_dir(data_dir: Path | None) -> int:
    path = find_data_dir(data_dir)
    async with opened_ledger(path, update_schema=True):
        print(f"{path}: the schema is at {required_version()}")
    return exit_codes.OK
