"""Data collection with everything around it scripted: time, feed, bus, store and events."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from support.market_feed import ScriptedFeed
from support.queues import BOT_QUEUES
from tradingbot_agents.bus import EmbeddedBus
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.data_collection.agent import DataCollection
from tradingbot_agents.data_collection.settings import Settings
from tradingbot_agents.domain.messages import CandleClosed
from tradingbot_agents.marketdata import MemoryCandleStore
from tradingbot_agents.telemetry import MemorySink

BTC, ETH, SOL = "BTC/USDT", "ETH/USDT", "SOL/USDT"


def collection_settings(**changes: Any) -> Settings:
    return Settings(
        **{
            "symbols": (BTC,),
            "timeframe": "5m",
            "poll_interval": timedelta(seconds=30),
            "settle_delay": timedelta(0),
            "ticker_interval": None,
            "stale_after": timedelta(minutes=12),
            "history": 10,
            **changes,
        }
    )


class Collection:
    def __init__(self, start: datetime, settings: Settings) -> None:
        self.settings = settings
        self.clock = VirtualClock(start)
        self.timers = VirtualTimers(self.clock)
        self.bus = EmbeddedBus(self.clock, BOT_QUEUES)
        self.sink = MemorySink()
        self.feed = ScriptedFeed(self.clock)
        self.store = MemoryCandleStore(capacity=10_000)
        self.published: list[CandleClosed] = []
        self.agent = self.new_agent()

    def new_agent(self) -> DataCollection:
        return DataCollection(
            bot="bot",
            settings=self.settings,
            clock=self.clock,
            timers=self.timers,
            bus=self.bus,
            sink=self.sink,
            feed=self.feed,
            store=self.store,
        )

    async def start(self) -> None:
        async def keep(message: CandleClosed) -> None:
            self.published.append(message)

        await self.bus.consume("technical-analysis.candles", keep)
        await self.agent.start()
        await self.drain()

    async def restart(self) -> None:
        """As a supervisor does it: what the old one held is taken away, and a new one starts from nothing."""
        await self.bus.detach(self.agent.name)
        self.timers.cancel_all(self.agent.name)
        self.agent = self.new_agent()
        await self.agent.start()
        await self.drain()

    async def drain(self) -> None:
        while await self.bus.step():
            pass

    async def run_until(self, end: datetime) -> None:
        while (due := self.timers.next_due()) is not None and due <= end:
            self.clock.advance_to(due)
            await self.timers.fire_next()
            await self.drain()
        self.clock.advance_to(end)

    def take(self) -> list[CandleClosed]:
        """What was published since the last time."""
        published, self.published = self.published, []
        return published
