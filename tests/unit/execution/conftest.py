"""A rig over books of its own for each test of the agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from support.execution_rig import ACCOUNT, BOT, Rig
from support.ledger_model import LedgerModel, ModelAccount

RigFactory = Callable[..., Awaitable[Rig]]


@pytest.fixture
def make_rig() -> RigFactory:
    """Make a rig with an open account; its agent is not started."""

    async def make(**options: Any) -> Rig:
        rig = Rig(LedgerModel(ModelAccount(ACCOUNT), BOT), **options)
        await rig.open()
        return rig

    return make


@pytest.fixture
async def rig(make_rig: RigFactory) -> Rig:
    """The agent runs."""
    rig = await make_rig()
    await rig.start()
    return rig
