"""The RabbitMQ bus in a test: a bot of its own, a clock that the test moves, and a way to know when all is quiet."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta

import aio_pika

from support.bus_contract import QUEUES
from support.messages import START
from tradingbot_agents.bus import DeadLetter, HandlerFailed, QueueSpec
from tradingbot_agents.bus.rabbitmq import Pauses, RabbitBus, RabbitSettings
from tradingbot_agents.bus.rabbitmq_consumer import Reading
from tradingbot_agents.bus.rabbitmq_dead_letters import DeadLetterBox
from tradingbot_agents.bus.rabbitmq_topology import GENERATIONS, Names
from tradingbot_agents.clock import Clock
from tradingbot_agents.clock.system import SystemClock, Turns
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.telemetry import MemorySink

LIMIT = 30.0
"""Seconds after which something that should have come counts as missing."""

QUICK = Pauses(first=timedelta(milliseconds=20), longest=timedelta(milliseconds=200))


async def until(condition: Callable[[], bool], limit: float = LIMIT) -> None:
    """Wait for what other tasks bring about."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "what was waited for did not come"
        await asyncio.sleep(0.005)


class SteppedClock:
    """Stands still until it is advanced; who sleeps is woken in time."""

    def __init__(self) -> None:
        self._now = START
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    async def sleep(self, delay: timedelta) -> None:
        woken = asyncio.get_running_loop().create_future()
        sleeper = (self._now + delay, woken)
        self._sleepers.append(sleeper)
        try:
            await woken
        finally:
            self._sleepers.remove(sleeper)

    def advance(self, by: timedelta) -> None:
        self._now += by
        for when, woken in self._sleepers:
            if when <= self._now and not woken.done():
                woken.set_result(None)

    def until_next(self) -> timedelta:
        return min(when for when, _ in self._sleepers) - self._now

    @property
    def all_woken(self) -> bool:
        """Whether all whose time has come go on already."""
        return not any(woken.done() for _, woken in self._sleepers)


class CountingBus(RabbitBus):
    """Knows how many messages each queue should hold, which the broker does not tell exactly at any moment."""

    def __init__(self, queues: Sequence[QueueSpec], *args: object, **kwargs: object) -> None:
        self.queues = queues
        self.came: dict[str, int] = {queue.name: 0 for queue in queues}
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]

    async def publish(self, message: Message) -> None:
        await super().publish(message)
        for queue in self.queues:
            if message.topic in queue.topics:
                self.came[queue.name] += 1
                if queue.max_length is not None:
                    settled = self.settled().get(queue.name, 0)
                    self.came[queue.name] = min(self.came[queue.name], settled + queue.max_length)

    def outstanding(self, queue: str) -> int:
        return self.came[queue] - self.settled().get(queue, 0)


def settings(bot: str, **changes: object) -> RabbitSettings:
    fields: dict[str, object] = {
        "bot": bot,
        "agent": "tests",
        "connect_limit": timedelta(seconds=10),
        "publish_limit": timedelta(seconds=20),
        "reconnect": QUICK,
        "retry": QUICK,
        **changes,
    }
    return RabbitSettings(**fields)  # type: ignore[arg-type]


def new_bot() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


class Rig:
    """A bus on ``url``, what its handlers failed with, and its events."""

    def __init__(
        self,
        url: str | Callable[[], str],
        bot: str,
        queues: Sequence[QueueSpec] = QUEUES,
        clock: Clock | None = None,
        **changes: object,
    ) -> None:
        address = url if callable(url) else lambda: url
        self.sink = MemorySink()
        self.failures: list[HandlerFailed] = []
        self.turns = Turns()
        self.box = DeadLetterBox(address, bot, queues, timedelta(seconds=20))
        self.bus = CountingBus(
            queues,
            address,
            queues,
            settings(bot, **changes),
            clock=clock or SystemClock(),
            turns=self.turns,
            sink=self.sink,
            on_failure=self.failures.append,
        )

    async def __aenter__(self) -> Rig:
        self.bus.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.bus.close()


class RabbitUnderTest:
    """Implements ``BusUnderTest``."""

    def __init__(self, rig: Rig, clock: SteppedClock) -> None:
        self._rig = rig
        self._clock = clock
        self.bus = rig.bus
        self._told: list[HandlerFailed] = []

    async def deliver(self) -> list[HandlerFailed]:
        await self._quiet()
        told, self._told = self._told, []
        return told

    async def advance(self, by: timedelta) -> None:
        # What was published before must have come by then.
        await self._quiet()
        self._clock.advance(by)

    async def after_retry(self) -> None:
        await self._quiet()
        self._clock.advance(self._clock.until_next())

    async def dead_letters(self) -> Sequence[DeadLetter]:
        letters = []
        for each in await self._rig.box.list():
            assert each.message is not None
            letters.append(
                DeadLetter(
                    queue=each.queue, message=each.message, reason=each.reason, deliveries=each.deliveries, at=each.at
                )
            )
        return letters

    async def requeue(self, letter: DeadLetter) -> None:
        await self._rig.box.requeue(letter.queue, letter.message.id)
        self.bus.came[letter.queue] += 1

    async def _quiet(self) -> None:
        """Everything that can be delivered now has been; failed agents go on, as a supervisor makes them."""

        def quiet() -> bool:
            while self._rig.failures:
                failure = self._rig.failures.pop(0)
                self._told.append(failure)
                self.bus.resume(failure.owner)
            return (
                self._clock.all_woken
                and not self.bus.ending
                and all(self._is_quiet(queue) for queue in self.bus.consumers())
            )

        await until(quiet)

    def _is_quiet(self, queue: str) -> bool:
        status = self.bus.consumers()[queue]
        match status.reading:
            case Reading.PAUSED:
                return True
            case Reading.COLLECTING:
                return status.in_hand == self.bus.outstanding(queue)
            case Reading.WAITING:
                return status.in_hand == 0 and self.bus.outstanding(queue) == 0
        return False


async def forget(url: str, bot: str, queues: Iterable[QueueSpec], topics: Iterable[str] = ()) -> None:
    """Take away all that a bot has at the broker."""
    names = Names(bot)
    connection = await aio_pika.connect(url)
    try:
        channel = await connection.channel()
        owners = {queue.owner for queue in queues} | {"risk", "analysis"}
        for name in (
            *(names.queue(queue.name, number) for queue in queues for number in range(1, min(GENERATIONS, 4))),
            *(names.failures(owner) for owner in owners),
            *(names.requests(topic) for topic in ("market.ticker.request", *topics)),
            names.dead_letters,
        ):
            await channel.queue_delete(name)
        await channel.exchange_delete(names.exchange)
    finally:
        await connection.close()


@asynccontextmanager
async def a_bot(url: str, queues: Sequence[QueueSpec] = QUEUES) -> AsyncIterator[str]:
    """The name of a bot that leaves nothing."""
    bot = new_bot()
    try:
        yield bot
    finally:
        await forget(url, bot, queues)
