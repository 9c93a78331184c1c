"""Intents as a strategy makes them, sent by a process that is not part of what is tried."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from support.market import PRICES
from support.rabbit_bus import QUICK
from support.stack import NAME, Stack
from tradingbot_agents.bus import DependencyUnavailable, HandlerFailed
from tradingbot_agents.bus.rabbitmq import RabbitBus, RabbitSettings
from tradingbot_agents.clock.system import SystemClock, Turns
from tradingbot_agents.domain.messages import TradeIntent
from tradingbot_agents.domain.values import Side
from tradingbot_agents.risk.proposal import entry_order_id
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.wiring import bus_queues
from tradingbot_agents.telemetry import MemorySink

LIVES_FOR = timedelta(seconds=20)
"""Of an intent."""


class Wishes:
    """``bus`` must be started, and closed."""

    def __init__(self, stack: Stack, dice: random.Random, sells: float = 0.35) -> None:
        """``sells``: the share of intents to sell."""
        self._stack = stack
        self._dice = dice
        self._sells = sells
        self._number = 0
        self.sent: dict[str, TradeIntent] = {}
        """Those that the broker has confirmed."""
        failures: list[HandlerFailed] = []
        self.bus = RabbitBus(
            lambda: stack.rabbitmq.url,
            bus_queues(stack.bot),
            RabbitSettings(
                bot=NAME,
                agent="tests",
                connect_limit=timedelta(seconds=5),
                publish_limit=timedelta(seconds=5),
                reconnect=QUICK,
                retry=QUICK,
            ),
            clock=SystemClock(),
            turns=Turns(),
            sink=MemorySink(),
            on_failure=failures.append,
        )

    async def send(self) -> None:
        self._number += 1
        symbol = self._dice.choice(tuple(PRICES))
        now = datetime.now(UTC)
        intent = TradeIntent(
            id=f"wish.{self._number}",
            correlation_id=f"storm.{self._number}",
            causation_id=f"storm.{self._number}",
            bot=NAME,
            producer="strategy",
            at=now,
            symbol=symbol,
            side=Side.SELL if self._dice.random() < self._sells else Side.BUY,
            confidence=Decimal("0.7"),
            expected_price=self._stack.market.prices[symbol],
            expires_at=now + LIVES_FOR,
            candle_id=f"storm.{self._number}",
            reason="a storm",
        )
        # Without an answer it may be there or not, and is sent again, as an outbox does.
        while True:
            with suppress(DependencyUnavailable):
                await self.bus.publish(intent)
                self.sent[intent.id] = intent
                return

    async def all_decided(self, limit: float = 60) -> None:
        """Every intent that was confirmed got its one decision."""
        account = str(account_key(self._stack.bot))
        waiting = dict(self.sent)
        deadline = time.monotonic() + limit
        async with self._stack.ledger() as ledger:
            while waiting:
                for intent in list(waiting.values()):
                    if await ledger.decision(intent.id, entry_order_id(account, intent)) is not None:
                        del waiting[intent.id]
                assert not waiting or time.monotonic() < deadline, (
                    f"not decided: {list(waiting.values())}, the bus has {await self.bus.depths()}"
                )
                await asyncio.sleep(0.2)
