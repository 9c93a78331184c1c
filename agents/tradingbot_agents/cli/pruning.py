"""``prune``: remove from a bot's ledger, and from its dead letters, what is older than its spec keeps."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.dead_letters import opened_box
from tradingbot_agents.cli.output import as_json
from tradingbot_agents.ledger.datadir import DataDirMismatch
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.ledger.retention import Removed
from tradingbot_agents.runtime.connections import read_database, read_messaging
from tradingbot_agents.runtime.data import find_data_dir, identity_at, opened_books, opened_ledger
from tradingbot_agents.runtime.identity import default_data_dir
from tradingbot_agents.runtime.wiring import retention
from tradingbot_api import TradingBot, load_file


async def prune(spec: Path, data_dir: Path | None, output: str, *, dry_run: bool) -> int:
    """Of a data directory, or of the database that the environment names."""
    bot = load_file(spec)
    now = datetime.now(UTC)
    async with _opened(bot, spec, data_dir) as ledger:
        removed = await ledger.prune(retention(bot), now, dry_run=dry_run)
    if data_dir is None and read_messaging(os.environ, required=False) is not None:
        before = now - bot.spec.messaging.dead_letter_retention
        count = await opened_box(bot).remove(before, dry_run=dry_run)
        removed = [*removed, Removed(what="dead letters", before=before, rows=count)]
    if output == "json":
        print(
            as_json(
                {
                    "bot": bot.metadata.name,
                    "dry_run": dry_run,
                    "removed": [{"what": each.what, "before": each.before, "rows": each.rows} for each in removed],
                }
            )
        )
    else:
        print(_told(bot.metadata.name, removed, dry_run=dry_run))
    return exit_codes.OK


@asynccontextmanager
async def _opened(bot: TradingBot, spec: Path, data_dir: Path | None) -> AsyncIterator[PostgresLedger]:
    if data_dir is None and read_database(os.environ) is not None:
        async with opened_books(None, spec) as books:
            yield books.ledger
        return
    path = find_data_dir(data_dir or default_data_dir(bot))
    named = identity_at(path)["bot"]
    if named != bot.metadata.name:
        raise DataDirMismatch(
            f"{path} is of bot {named}, and {spec} is of bot {bot.metadata.name}: name the spec or the directory of"
            " one bot"
        )
    async with opened_ledger(path) as ledger:
        yield ledger


def _told(bot: str, removed: Sequence[Removed], *, dry_run: bool) -> str:
    if not removed:
        return f"{bot}: its ledger is empty"
    width = max(len(f"{each.rows:,}") for each in removed)
    lines = [
        f"  {each.rows:>{width},} {each.what:<15} from before {each.before:%Y-%m-%d %H:%M} UTC" for each in removed
    ]
    return "\n".join([f"{bot}: would remove" if dry_run else f"{bot}: removed", *lines])
