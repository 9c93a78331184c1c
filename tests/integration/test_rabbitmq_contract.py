"""The RabbitMQ bus keeps the contract of every bus, on each version that is there."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.bus_contract import BusContract, BusUnderTest
from support.rabbit_bus import RabbitUnderTest, Rig, SteppedClock, a_bot


class TestRabbitBusKeepsTheContract(BusContract):
    @pytest.fixture
    async def bus(self, rabbitmq: str) -> AsyncIterator[BusUnderTest]:
        clock = SteppedClock()
        async with a_bot(rabbitmq) as bot, Rig(rabbitmq, bot, clock=clock) as rig:
            await rig.bus.until_connected()
            yield RabbitUnderTest(rig, clock)
