"""A process that consumes one queue of a RabbitMQ bus, says which message its handler has, and waits to be killed."""

from __future__ import annotations

import asyncio
import sys

from support.rabbit_bus import Rig
from tradingbot_agents.domain.messages import Message


async def main(url: str, bot: str, queue: str) -> None:
    async def hold(message: Message) -> None:
        print(message.id, flush=True)
        await asyncio.Event().wait()

    async with Rig(url, bot) as rig:
        await rig.bus.consume(queue, hold)
        await asyncio.Event().wait()


asyncio.run(main(*sys.argv[1:]))
