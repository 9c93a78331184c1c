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
    """Make a rig with an open account, if that is not left to the test; its agent is not started."""

    async def make(*, open_account: bool = True, **options: Any) -> Rig:
        rig = Rig(LedgerModel(ModelAccount(ACCOUNT), BOT), **options)
        if open_account:
            await rig.open()
        return rig

    return make


@pytest.fixture
async def rig(make_rig: RigFactory) -> Rig:
    """The agent runs."""
    rig = await make_rig()
    await rig.start()
    return rig
