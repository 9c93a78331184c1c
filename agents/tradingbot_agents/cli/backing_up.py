"""``backup`` and ``restore``: the ledger as one file, and back into an empty database."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.ledger.backup import back_up, restore
from tradingbot_agents.runtime.connections import read_database
from tradingbot_agents.runtime.data import find_data_dir, identity_at, opened_database


async def write(file: Path, data_dir: Path | None) -> int:
    """Of the database that the environment names, or else of a data directory."""
    database = None if data_dir is not None else read_database(os.environ)
    if database is not None:
        size = await back_up(database.reveal(), file)
    else:
        path = find_data_dir(data_dir)
        identity_at(path)
        async with opened_database(path) as dsn:
            size = await back_up(dsn, file)
    print(f"{file}: {size:,} bytes; restore it with: tradingbot restore {file}")
    return exit_codes.OK


async def read(file: Path) -> int:
    database = read_database(os.environ, required=True)
    assert database is not None, "it is required"
    bots = await restore(database.reveal(), file, datetime.now(UTC))
    print(f"restored from {file}")
    for bot in bots:
        print(f"  {bot} is held at ReduceOnly: compare it with the exchange, then release it")
    return exit_codes.OK
