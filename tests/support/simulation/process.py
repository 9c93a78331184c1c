"""One instance of an agent as a process: what it is given are views of its own of ledger, exchange, bus, store, clock
and timers, and each of their calls is a step at which something may go wrong.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from support.simulation import faults
from support.simulation.faults import CRASHES, OLD_ONES, Fault
from tradingbot_agents.bus import DependencyUnavailable, RequestTimedOut
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import Event
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.ledger.port import Epoch, LedgerUnavailable
from tradingbot_agents.marketdata import CandleStoreUnavailable

if TYPE_CHECKING:
    from support.simulation.world import World

DATA_TOPICS = ("market.candle", "analysis.signal")

LEDGER_WRITES = frozenset(
    {
        "raise_epoch",
        "reserve",
        "reserve_many",
        "refuse",
        "request_exit",
        "claim",
        "submit_leg",
        "acknowledge",
        "request_cancel",
        "lose_contact",
        "deny",
        "not_found",
        "book",
        "settle_outside",
        "mark_dust",
        "watch",
        "mark_published",
        "orders_to_send",
        "check_epoch",
    }
)
"""Calls that make or follow a change, and the two that a decision to send rests on. The rest only reads."""

NO_FREEZE_AFTER = frozenset({"check_epoch"})
"""Between this answer and the sending nothing is asked: what a pause there does is ``REQUEST_LATE``."""


class Killed(BaseException):
    """The process is dead. No agent can catch it, and nothing that it does on the way out has an effect."""


class Abandoned(BaseException):
    """The process is frozen: whoever waits for it goes on without it."""


class Freeze:
    """Awaited by a frozen call; the world keeps the coroutine and sends it on later."""

    def __await__(self) -> Generator[Freeze, None, None]:
        yield self


class Process:
    """One instance of an agent: what is its own, and what it was given."""

    def __init__(self, world: World, name: str, number: int) -> None:
        self.world = world
        self.name = name
        self.owner = f"{name}#{number}"
        self.alive = True
        self.started = False
        self.frozen: Coroutine[Any, Any, Any] | None = None
        self.missed: list[Callable[[], Awaitable[None]]] = []
        self.epoch: Epoch | None = None
        self.agent: Any = None
        self.clock = SkewedClock(world, name)
        self.timers = TimersOf(self)
        self.bus = BusOf(self)
        self.ledger: Any = LedgerOf(self)
        self.venue: Any = VenueOf(self)
        self.store = StoreOf(self)

    def die(self) -> NoReturn:
        """Here and now; the supervisor starts another one."""
        self.world.kill(self)
        raise Killed

    def emit(self, event: Event) -> None:
        if self.alive:
            self.world.heard(self, event)


class SkewedClock:
    """The machine's time as one agent sees it."""

    def __init__(self, world: World, name: str) -> None:
        self._world = world
        self._name = name

    @property
    def skew(self) -> timedelta:
        return self._world.skews[self._name]

    def now(self) -> datetime:
        return self._world.clock.now() + self._world.skews[self._name]

    async def sleep(self, delay: timedelta) -> None:
        await self._world.clock.sleep(delay)


class TimersOf:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._timers = process.world.timers

    def at(self, owner: str, when: datetime, handler: Callable[[], Awaitable[None]]) -> Any:
        process = self._process
        process.world.enter(process)
        return self._timers.at(process.owner, when - process.clock.skew, self._wrap(handler))

    def every(
        self,
        owner: str,
        interval: timedelta,
        handler: Callable[[], Awaitable[None]],
        first: datetime | None = None,
    ) -> Any:
        process = self._process
        process.world.enter(process)
        if first is not None:
            first -= process.clock.skew
        return self._timers.every(process.owner, interval, self._wrap(handler), first)

    def cancel_all(self, owner: str) -> None:
        self._timers.cancel_all(self._process.owner)

    def _wrap(self, handler: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        process = self._process
        world = process.world

        async def fire() -> None:
            if not process.alive:
                return
            if process.frozen is not None:
                if handler not in process.missed:
                    process.missed.append(handler)
                return
            world.note("timer", process.owner)
            world.drive(process, handler())

        return fire


class BusOf:
    def __init__(self, process: Process) -> None:
        self._process = process
        self._bus = process.world.bus

    async def publish(self, message: Message) -> None:
        process = self._process
        world = process.world
        world.enter(process)
        kind = world.calls["data" if message.topic in DATA_TOPICS else "talk"]
        kind.left -= 1
        fault, after = None, False
        if kind.left <= 0:
            fault, after = world.draw(kind, process, f"bus.publish {message.topic}", (message,), faults.OF_BUS)
            if fault is CRASHES[process.name] and not after:
                process.die()
        if fault is not Fault.MESSAGE_LOST:
            await self._bus.publish(message)
        if fault is Fault.MESSAGE_TWICE:
            await self._bus.publish(message)
        elif fault is Fault.MESSAGE_LATE:
            world.later(world.dice.choice((0.5, 5.0, 45.0)), lambda: self._bus.publish(message))
        elif fault is CRASHES[process.name]:
            process.die()

    async def consume(self, queue: str, handler: Callable[[Any], Awaitable[None]]) -> None:
        if self._is_connected():
            await self._bus.consume(queue, self._wrap(handler))

    async def consume_batches(
        self, queue: str, handler: Callable[[list[Any]], Awaitable[None]], window: timedelta
    ) -> None:
        if self._is_connected():
            await self._bus.consume_batches(queue, self._wrap(handler), window)

    async def respond(self, owner: str, topic: str, responder: Callable[[Any], Awaitable[Message]]) -> None:
        process = self._process

        async def answer(request: Any) -> Message:
            try:
                return await responder(request)
            except Killed as killed:
                # Another process dies: who asked only hears nothing.
                raise DependencyUnavailable(f"{process.owner} is gone") from killed

        if self._is_connected():
            await self._bus.respond(owner, topic, answer)

    async def request(self, message: Message, timeout: timedelta) -> Message:
        process = self._process
        world = process.world
        world.enter(process)
        kind = world.calls["talk"]
        kind.left -= 1
        if kind.left <= 0:
            fault, _ = world.draw(kind, process, f"bus.request {message.topic}", (message,), (Fault.MESSAGE_LOST,))
            if fault is Fault.MESSAGE_LOST:
                raise RequestTimedOut("the request was lost")
            process.die()
        return await self._bus.request(message, timeout)

    async def detach(self, owner: str) -> None:
        if self._is_connected():
            await self._bus.detach(owner)

    def _is_connected(self) -> bool:
        process = self._process
        process.world.enter(process)
        return process.world.current.get(process.name) is process

    def _wrap(self, handler: Callable[[Any], Awaitable[None]]) -> Callable[[Any], Awaitable[None]]:
        process = self._process
        world = process.world

        async def deliver(what: Any) -> None:
            messages = what if isinstance(what, list) else [what]
            for message in messages:
                world.note("deliver", process.owner, message.id)
            world.drive(process, handler(what))
            world.acknowledged(messages)

        return deliver


class LedgerOf:
    """The ledger as one process calls it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __getattr__(self, name: str) -> Any:
        process = self._process
        world = process.world
        method = getattr(world.ledger, name)
        writes = name in LEDGER_WRITES
        kind = world.calls["writes" if writes else "reads"]
        place = f"ledger.{name}"

        async def call(*args: Any, **kwargs: Any) -> Any:
            world.enter(process)
            if world.ledger_back > world.clock.now():
                raise LedgerUnavailable("the database does not answer")
            kind.left -= 1
            fault, after = None, False
            if kind.left <= 0:
                choices: tuple[Fault, ...] = faults.OF_LEDGER
                if process.started and process.name in OLD_ONES and world.current.get(process.name) is process:
                    choices = (*choices, OLD_ONES[process.name])
                fault, after = world.draw(kind, process, place, args, choices, frozen=name not in NO_FREEZE_AFTER)
                if fault is Fault.LEDGER_OUTAGE:
                    world.lose_ledger()
                if not after:
                    await self._suffer(fault)
            if writes:
                world.note(place, process.owner, subject(args))
                before = world.newest.copy()
                result = await method(*args, **kwargs)
                world.committed(process, name, args, result, before)
            else:
                result = await method(*args, **kwargs)
            if after:
                await self._suffer(fault)
            return result

        # Found without __getattr__ from now on.
        self.__dict__[name] = call
        return call

    async def _suffer(self, fault: Fault | None) -> None:
        process = self._process
        world = process.world
        if fault in (Fault.LEDGER_AWAY_BEFORE, Fault.LEDGER_AWAY_AFTER, Fault.LEDGER_OUTAGE):
            raise LedgerUnavailable("the database does not answer")
        if fault is CRASHES[process.name]:
            process.die()
        if fault is not None:
            await Freeze()
            world.enter(process)


class VenueOf:
    """The exchange as one process calls it."""

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def capabilities(self) -> Any:
        return self._process.world.venue.capabilities

    def __getattr__(self, name: str) -> Any:
        process = self._process
        world = process.world
        method = getattr(world.venue, name)
        trades = name in ("create_order", "cancel_order")
        if trades:
            kind = world.calls["sends"]
        elif name in faults.LISTS:
            kind = world.calls["tells"]
        else:
            kind = world.calls["market" if name in faults.MARKET_CALLS else "looks"]
        place = f"venue.{name}"
        choices = faults.OF_VENUE[name]

        async def call(*args: Any, **kwargs: Any) -> Any:
            world.enter(process)
            kind.left -= 1
            fault, after = None, False
            if kind.left <= 0:
                fault, after = world.draw(kind, process, place, args, choices)
            crash = fault is CRASHES[process.name]
            if crash and not after:
                process.die()
            if trades:
                world.note(place, process.owner, subject(args))
                if name == "create_order":
                    world.sending(process, args[0])
            result = await method(*args, **kwargs, fault=None if crash else fault)
            if crash:
                process.die()
            return result

        self.__dict__[name] = call
        return call


class StoreOf:
    """The market-data store as one process calls it. While it is away, what is written is spooled on disk."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def write(self, candles: Sequence[Candle]) -> None:
        self._step("store.write")
        world = self._process.world
        if world.store_back > world.clock.now():
            world.spool += candles
            return
        await self._deliver()
        await world.store.write(candles)

    async def write_tickers(self, tickers: Sequence[Ticker]) -> None:
        """No decision rests on them: they are kept, and meet no fault."""
        await self._process.world.store.write_tickers(tickers)

    async def last_ticker(self, symbol: str) -> Ticker | None:
        return await self._process.world.store.last_ticker(symbol)

    async def last(self, symbol: str, timeframe: str) -> Candle | None:
        await self._ask("store.last")
        return await self._process.world.store.last(symbol, timeframe)

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        await self._ask("store.latest")
        return await self._process.world.store.latest(symbol, timeframe, limit)

    async def _ask(self, place: str) -> None:
        self._step(place)
        world = self._process.world
        if world.store_back > world.clock.now():
            raise CandleStoreUnavailable("the store does not answer")
        await self._deliver()

    async def _deliver(self) -> None:
        world = self._process.world
        if world.spool:
            spooled, world.spool = world.spool, []
            await world.store.write(spooled)

    def _step(self, place: str) -> None:
        process = self._process
        world = process.world
        world.enter(process)
        kind = world.calls["stores"]
        kind.left -= 1
        if kind.left > 0:
            return
        fault, _ = world.draw(kind, process, place, (), (Fault.STORE_OUTAGE, Fault.STORE_OUTAGE))
        if fault is Fault.STORE_OUTAGE:
            world.lose_store()
        else:
            process.die()


def subject(args: tuple[Any, ...]) -> str:
    """What a call is about, for the trace."""
    for argument in args:
        if isinstance(argument, str):
            return argument
        name = getattr(argument, "client_order_id", None)
        if name is not None:
            return str(name)
    return ""
