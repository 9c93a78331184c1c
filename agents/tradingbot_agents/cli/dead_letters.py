"""``dead-letters``: what no agent could handle, and another chance for one of them."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.output import as_json, as_table
from tradingbot_agents.runtime.connections import read_messaging
from tradingbot_agents.runtime.wiring import bus_queues
from tradingbot_api import TradingBot, load_file

if TYPE_CHECKING:
    from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox

COLUMNS = ("at", "queue", "id", "topic", "deliveries", "reason")


async def show(spec: Path, output: str) -> int:
    """Print them, oldest first. They stay."""
    rows = [
        {
            "at": letter.at,
            "queue": letter.queue,
            "id": letter.message_id,
            "topic": None if letter.message is None else letter.message.topic,
            "deliveries": letter.deliveries,
            "reason": letter.reason,
        }
        for letter in await _box(spec).list()
    ]
    print(as_json(rows) if output == "json" else as_table(rows, COLUMNS, empty="no dead letters"))
    return exit_codes.OK


async def put_back(spec: Path, queue: str, message_id: str) -> int:
    try:
        await _box(spec).requeue(queue, message_id)
    except LookupError as error:
        print(f"tradingbot: {error.args[0]}", file=sys.stderr)
        return exit_codes.BAD_INPUT
    print(f"{message_id} is in {queue} again")
    return exit_codes.OK


def _box(spec: Path) -> DeadLetterBox:
    return opened_box(load_file(spec))


def opened_box(bot: TradingBot) -> DeadLetterBox:
    """Of the RabbitMQ that the environment names."""
    from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox

    url = read_messaging(os.environ)
    assert url is not None, "it is required"
    return DeadLetterBox(url.reveal, bot.metadata.name, bus_queues(bot), bot.spec.messaging.connect_timeout)
