"""A rig over a ledger of its own for each test of the agent."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from support.execution_rig import ACCOUNT, BOT, Rig
from tradingbot_agents.ledger.postgres import PostgresLedger

RigFactory = Callable[..., Awaitable[Rig]]


@pytest.fixture
async def make_rig(ledger_dsn: str) -> AsyncIterator[RigFactory]:
    """Make a rig with an open account; its agent is not started."""
    ledger = await PostgresLedger.connect(ledger_dsn, ACCOUNT, BOT)

    async def make(**options: Any) -> Rig:
        rig = Rig(ledger, **options)
        await rig.open()
        return rig

    yield make
    await ledger.close()


@pytest.fixture
async def rig(make_rig: RigFactory) -> Rig:
    """The agent runs."""
    rig = await make_rig()
    await rig.start()
    return rig
