"""``hold`` and ``release``: a restriction in the ledger that a person puts on a bot and takes away again."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import Hold
from tradingbot_agents.runtime.data import opened_books

BY = "command"


async def place(data_dir: Path | None, spec: Path | None, state: str, reason: str) -> int:
    async with opened_books(data_dir, spec) as books:
        await books.ledger.place_hold(Hold(state=BotState(state), reason=reason, by=BY, at=datetime.now(UTC)))
    print(f"held at {state}; take it away with: tradingbot release {books.place}")
    return exit_codes.OK


async def release(data_dir: Path | None, spec: Path | None) -> int:
    async with opened_books(data_dir, spec) as books:
        released = await books.ledger.release_hold()
    print("released: what spec.state says counts again" if released else "there was no hold")
    return exit_codes.OK
