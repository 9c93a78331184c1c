"""The lockstep: what happens in which order, when it ends, and how real time is waited for, in a fake one."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta

import pytest

from support.messages import START, a_candle, a_candle_message, an_intent
from support.specs import PAPER, bot_of
from tradingbot_agents.bus import DependencyUnavailable
from tradingbot_agents.bus.embedded import EmbeddedBus
from tradingbot_agents.bus.topology import AGENTS, DATA_COLLECTION, RISK, STRATEGY
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.runtime.driver import BREATH, Ending, ReplayDriver, wait_until_set
from tradingbot_agents.runtime.supervisor import AgentGaveUp, Backoff, Supervisor
from tradingbot_agents.runtime.wiring import bus_queues
from tradingbot_agents.telemetry import MemorySink

BAR = timedelta(minutes=5)
ONE_SECOND = timedelta(seconds=1)


class Silent:
    """An agent that does nothing by itself: a test attaches what it needs."""

    def __init__(self, name: str, start: Callable[[], Awaitable[None]] | None = None) -> None:
        self.name = name
        self._start = start

    async def start(self) -> None:
        if self._start is not None:
            await self._start()

    async def stop(self) -> None: ...


class Stage:
    """A driver with its bus and timers; ``log`` is what happened, with the seconds since the start."""

    def __init__(self, *, bars: int = 2) -> None:
        self.clock = VirtualClock(START)
        self.timers = VirtualTimers(self.clock)
        self.bus = EmbeddedBus(self.clock, bus_queues(bot_of(PAPER)))
        self.stop = asyncio.Event()
        self.log: list[tuple[float, str]] = []
        self.closes = [START + (index + 1) * BAR for index in range(bars)]
        self.real_time = 1000.0
        self.waits: list[float] = []
        self.while_waiting: Callable[[], None] = lambda: None
        self.housekept: list[float] = []
        self.restarts: list[str] = []
        self.starts: dict[str, Callable[[], Awaitable[None]]] = {}
        self.supervisor = Supervisor(
            {name: self._factory(name) for name in AGENTS},
            bus=self.bus,
            timers=self.timers,
            clock=self.clock,
            sink=MemorySink(),
            backoff=Backoff(first=ONE_SECOND, longest=ONE_SECOND, attempts=2, calm=timedelta(minutes=1)),
            restore=self._restore,
            sleep=self._no_pause,
            monotonic=lambda: self.real_time,
        )

    def _factory(self, name: str) -> Callable[[], Silent]:
        return lambda: Silent(name, self.starts.get(name))

    async def _restore(self) -> None:
        self.note("restored")

    async def _no_pause(self, seconds: float) -> None:
        self.restarts.append(f"pause {seconds:g}")

    def note(self, what: str) -> None:
        self.log.append(((self.clock.now() - START).total_seconds(), what))

    async def _wait(self, event: asyncio.Event, seconds: float) -> None:
        self.waits.append(seconds)
        self.real_time += seconds
        self.while_waiting()

    async def _housekeeping(self) -> None:
        self.housekept.append(self.real_time)

    def driver(self, *, until: datetime | None = None, speed: float | None = None) -> ReplayDriver:
        return ReplayDriver(
            clock=self.clock,
            timers=self.timers,
            bus=self.bus,
            supervisor=self.supervisor,
            end=self.closes[-1],
            until=until,
            next_close=self._next_close,
            speed=speed,
            housekeeping=self._housekeeping,
            stop=self.stop,
            monotonic=lambda: self.real_time,
            wait=self._wait,
        )

    def _next_close(self) -> datetime | None:
        return next((close for close in self.closes if close > self.clock.now()), None)

    def candles(self, then: Callable[[int], Awaitable[None]] | None = None) -> None:
        """A timer that publishes the bar that has just closed."""

        async def poll() -> None:
            index = int((self.clock.now() - START) / BAR) - 1
            self.note(f"bar {index}")
            await self.bus.publish(a_candle_message(a_candle(index)))
            if then is not None:
                await then(index)

        self.timers.every(DATA_COLLECTION, BAR, poll)

    async def read(self, queue: str, then: Callable[[Message], Awaitable[None]] | None = None) -> None:
        async def handle(message: Message) -> None:
            self.note(f"{queue} {message.id}")
            if then is not None:
                await then(message)

        await self.bus.consume(queue, handle)

    def at(self, seconds: float, what: str) -> None:
        async def fire() -> None:
            self.note(what)

        self.timers.at(RISK, START + timedelta(seconds=seconds), fire)


async def test_messages_are_drained_before_time_moves_and_then_the_next_timer_fires() -> None:
    stage = Stage()
    stage.candles()
    stage.at(300, "at the first close")
    stage.at(400, "between")
    await stage.read("risk.candles")
    await stage.read("execution.candles")
    assert await stage.driver().run() is Ending.FINISHED
    first, second = a_candle(0).id, a_candle(1).id
    assert stage.log == [
        (300, "bar 0"),
        (300, f"risk.candles {first}"),
        (300, f"execution.candles {first}"),
        (300, "at the first close"),
        (400, "between"),
        (600, "bar 1"),
        (600, f"risk.candles {second}"),
        (600, f"execution.candles {second}"),
    ]
    assert stage.clock.now() == stage.closes[-1]


async def test_a_handler_that_waits_moves_time_and_what_came_due_meanwhile_follows() -> None:
    stage = Stage(bars=1)
    stage.candles()
    stage.at(301, "due meanwhile")

    async def slow(message: Message) -> None:
        await stage.clock.sleep(timedelta(seconds=3))
        stage.note("answered")

    await stage.read("execution.candles", slow)
    await stage.driver().run()
    assert [what for _, what in stage.log] == [
        "bar 0",
        f"execution.candles {a_candle(0).id}",
        "answered",
        "due meanwhile",
    ]
    assert stage.log[-1] == (303, "due meanwhile")


async def test_a_batch_is_delivered_when_its_window_is_over() -> None:
    stage = Stage(bars=1)

    async def wish(index: int) -> None:
        await stage.bus.publish(an_intent(1, at=stage.clock.now()))
        await stage.bus.publish(an_intent(2, at=stage.clock.now()))

    async def approve(messages: Sequence[Message]) -> None:
        stage.note(" ".join(message.id for message in messages))

    stage.candles(wish)
    await stage.bus.consume_batches("risk.intents", approve, timedelta(milliseconds=250))
    await stage.driver().run()
    assert stage.log == [(300, "bar 0"), (300.25, "intent-1 intent-2")]


async def test_while_what_a_handler_needs_is_away_neither_messages_nor_time_move() -> None:
    stage = Stage(bars=1)
    failures = 2

    async def away_at_first(message: Message) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise DependencyUnavailable("the database does not answer")

    stage.candles()
    await stage.read("risk.candles", away_at_first)
    await stage.driver().run()
    delivery = (300, f"risk.candles {a_candle(0).id}")
    assert stage.log == [(300, "bar 0"), delivery, (300, "restored"), delivery, (300, "restored"), delivery]


async def test_a_dependency_that_stays_away_ends_the_run_loudly() -> None:
    stage = Stage(bars=1)

    async def away(message: Message) -> None:
        raise DependencyUnavailable("the database does not answer")

    stage.candles()
    await stage.read("risk.candles", away)
    with pytest.raises(AgentGaveUp, match="the database failed 3 times in a row"):
        await stage.driver().run()
    assert stage.clock.now() == START + BAR


async def test_a_failing_handler_restarts_its_agent_and_the_message_comes_again() -> None:
    stage = Stage(bars=1)
    failed = False

    async def fails_once(message: Message) -> None:
        nonlocal failed
        if not failed:
            failed = True
            raise ValueError("a bug")

    async def start() -> None:
        await stage.read("risk.candles", fails_once)

    stage.starts[RISK] = start
    await stage.supervisor.start()
    stage.candles()
    await stage.driver().run()
    candle = f"risk.candles {a_candle(0).id}"
    assert [what for _, what in stage.log] == ["bar 0", candle, "restored", candle]
    assert stage.restarts == ["pause 1"]
    assert {seconds for seconds, _ in stage.log} == {300}, "virtual time stands still meanwhile"


async def test_a_failing_timer_restarts_its_agent_until_it_gives_up() -> None:
    stage = Stage(bars=1)

    async def broken() -> None:
        raise ZeroDivisionError("in a timer")

    async def start() -> None:
        stage.timers.at(STRATEGY, stage.clock.now() + ONE_SECOND, broken)

    stage.starts[STRATEGY] = start
    await stage.supervisor.start()
    with pytest.raises(AgentGaveUp, match="ZeroDivisionError: in a timer"):
        await stage.driver().run()
    assert stage.restarts == ["pause 1", "pause 1"]


async def test_until_ends_the_run_there_and_finishes_what_was_begun() -> None:
    stage = Stage(bars=3)
    stage.candles()
    stage.at(604, "an order's answer")
    assert await stage.driver(until=START + 2 * BAR).run() is Ending.UNTIL
    assert stage.log == [(300, "bar 0"), (600, "bar 1"), (604, "an order's answer")]


async def test_until_between_two_bars_stays_before_the_next_one_closes() -> None:
    stage = Stage(bars=3)
    stage.candles()
    assert await stage.driver(until=START + BAR + timedelta(seconds=298)).run() is Ending.UNTIL
    assert stage.log == [(300, "bar 0")], "the bar at 600 s is within the time to settle, and not begun"
    assert stage.clock.now() == START + timedelta(seconds=598)


async def test_until_after_the_last_candle_is_a_finished_run() -> None:
    stage = Stage(bars=1)
    stage.candles()
    assert await stage.driver(until=START + 9 * BAR).run() is Ending.FINISHED
    assert stage.clock.now() == START + BAR


async def test_until_in_the_past_of_the_run_does_nothing_and_moves_time_nowhere() -> None:
    stage = Stage(bars=3)
    stage.clock.advance_to(START + 2 * BAR)
    stage.candles()
    assert await stage.driver(until=START + BAR).run() is Ending.UNTIL
    assert stage.log == []
    assert stage.clock.now() == START + 2 * BAR


async def test_what_is_begun_at_the_end_is_finished_and_what_is_later_is_not_begun() -> None:
    stage = Stage(bars=1)
    stage.candles()
    stage.at(305, "just in time")
    stage.at(306, "too late")
    await stage.driver().run()
    assert stage.log == [(300, "bar 0"), (305, "just in time")]


async def test_a_stop_finishes_the_messages_and_decisions_in_flight() -> None:
    stage = Stage(bars=3)

    async def decide(message: Message) -> None:
        stage.stop.set()
        stage.at(300.25, "the decision")

    stage.candles()
    await stage.read("strategy.signals")
    await stage.read("risk.candles", decide)
    await stage.read("execution.candles")
    assert await stage.driver().run() is Ending.STOPPED
    candle = a_candle(0).id
    assert stage.log == [
        (300, "bar 0"),
        (300, f"risk.candles {candle}"),
        (300, f"execution.candles {candle}"),
        (300.25, "the decision"),
    ]


async def test_speed_waits_for_each_step_in_real_time_and_makes_up_for_slow_work() -> None:
    stage = Stage(bars=3)

    async def slow_work(message: Message) -> None:
        stage.real_time += 2.0

    stage.candles()
    await stage.read("risk.candles", slow_work)
    began = stage.real_time
    await stage.driver(speed=60).run()
    # 15 virtual minutes at 60 times real time; the work on a bar is part of it, and the last bar's comes after.
    assert stage.real_time - began == pytest.approx(15 + 2)
    assert max(stage.waits) <= BREATH
    assert len(stage.housekept) >= len(stage.waits)


async def test_at_full_speed_nothing_is_waited_for() -> None:
    stage = Stage()
    stage.candles()
    await stage.driver().run()
    assert stage.waits == []


async def test_a_stop_while_waiting_ends_the_run_at_the_time_it_has_reached() -> None:
    stage = Stage(bars=3)
    stage.candles()

    def stop_soon() -> None:
        if len(stage.waits) == 4:
            stage.stop.set()

    stage.while_waiting = stop_soon
    assert await stage.driver(speed=1).run() is Ending.STOPPED
    assert stage.log == []
    assert stage.clock.now() == START
    assert stage.waits == [BREATH] * 4


async def test_housekeeping_runs_between_steps_but_not_at_every_one() -> None:
    stage = Stage(bars=10)

    async def work(message: Message) -> None:
        stage.real_time += 0.6 * BREATH

    stage.candles()
    await stage.read("risk.candles", work)
    await stage.driver().run()
    assert len(stage.housekept) == 5


async def test_waiting_ends_early_when_the_event_comes_and_on_time_when_it_does_not() -> None:
    event = asyncio.Event()
    await wait_until_set(event, 0)
    assert not event.is_set()
    event.set()
    async with asyncio.timeout(5):
        await wait_until_set(event, 60)
