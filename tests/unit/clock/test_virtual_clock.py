"""Virtual time: it moves only when told, timers fire in one order, and keep their beat."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from tradingbot_agents.clock import TimerHandle, TimerHandler, VirtualClock, VirtualTimers
from tradingbot_agents.clock.virtual import COMPACT_FROM, TimerFailed

START = datetime(2024, 3, 1, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


class Log:
    """Timers whose handlers note the second at which they ran."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.timers = VirtualTimers(self.clock)
        self.fired: list[tuple[str, float]] = []

    def handler(self, name: str, takes: float = 0) -> TimerHandler:
        async def handle() -> None:
            self.fired.append((name, (self.clock.now() - START).total_seconds()))
            await self.clock.sleep(timedelta(seconds=takes))

        return handle

    async def run_until(self, seconds: float) -> None:
        while (due := self.timers.next_due()) is not None and due <= after(seconds):
            self.clock.advance_to(due)
            await self.timers.fire_next()
        self.clock.advance_to(after(seconds))


@pytest.fixture
def log() -> Log:
    return Log()


def test_a_clock_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="aware"):
        VirtualClock(datetime(2024, 3, 1))  # noqa: DTZ001
    with pytest.raises(ValueError, match="aware"):
        VirtualClock(START).advance_to(datetime(2024, 3, 2))  # noqa: DTZ001


def test_the_clock_tells_utc_whatever_zone_it_was_given() -> None:
    zone = timezone(timedelta(hours=2))
    clock = VirtualClock(START.astimezone(zone))
    assert clock.now() == START
    assert clock.now().tzinfo is UTC
    clock.advance_to(after(60).astimezone(zone))
    assert clock.now() == after(60)
    assert clock.now().tzinfo is UTC


async def test_time_never_goes_back() -> None:
    clock = VirtualClock(START)
    clock.advance_to(after(10))
    clock.advance_to(after(5))
    await clock.sleep(timedelta(seconds=-3))
    assert clock.now() == after(10)


async def test_sleep_moves_the_clock() -> None:
    clock = VirtualClock(START)
    await clock.sleep(timedelta(milliseconds=250))
    assert clock.now() == after(0.25)


async def test_timers_fire_in_order_of_time_and_then_of_their_making(log: Log) -> None:
    log.timers.at("a", after(2), log.handler("late"))
    log.timers.at("b", after(1), log.handler("first"))
    log.timers.at("a", after(1), log.handler("second"))
    await log.run_until(3)
    assert log.fired == [("first", 1), ("second", 1), ("late", 2)]


async def test_nothing_fires_before_its_time(log: Log) -> None:
    log.timers.at("a", after(1), log.handler("x"))
    assert log.timers.next_due() == after(1)
    assert await log.timers.fire_next() is False
    assert log.fired == []


async def test_a_time_that_is_past_fires_at_once(log: Log) -> None:
    log.clock.advance_to(after(10))
    log.timers.at("a", after(3), log.handler("x"))
    assert await log.timers.fire_next() is True
    assert log.fired == [("x", 10)]


async def test_every_begins_an_interval_from_now_or_at_its_first(log: Log) -> None:
    log.timers.every("a", timedelta(seconds=10), log.handler("plain"))
    log.timers.every("a", timedelta(seconds=10), log.handler("aligned"), first=after(3))
    await log.run_until(25)
    assert log.fired == [("aligned", 3), ("plain", 10), ("aligned", 13), ("plain", 20), ("aligned", 23)]


async def test_missed_beats_make_one_run_and_the_next_keeps_its_phase(log: Log) -> None:
    log.timers.every("a", timedelta(seconds=10), log.handler("beat"))
    log.timers.at("b", after(9), log.handler("long", takes=26))
    await log.run_until(60)
    assert [at for name, at in log.fired if name == "beat"] == [35, 40, 50, 60]


async def test_a_handler_slower_than_its_interval_neither_overlaps_nor_loses_the_phase(log: Log) -> None:
    log.timers.every("a", timedelta(seconds=10), log.handler("beat", takes=12))
    await log.run_until(55)
    assert [at for _, at in log.fired] == [10, 22, 34, 46, 58]


@pytest.mark.parametrize("seconds", [0, -1])
def test_an_interval_must_be_above_zero(log: Log, seconds: int) -> None:
    with pytest.raises(ValueError, match="above zero"):
        log.timers.every("a", timedelta(seconds=seconds), log.handler("x"))


def test_a_timer_without_a_zone_is_refused(log: Log) -> None:
    with pytest.raises(ValueError, match="aware"):
        log.timers.at("a", datetime(2024, 3, 1), log.handler("x"))  # noqa: DTZ001


async def test_a_cancelled_timer_does_not_fire(log: Log) -> None:
    handle = log.timers.at("a", after(1), log.handler("x"))
    log.timers.at("a", after(2), log.handler("y"))
    handle.cancel()
    handle.cancel()
    assert log.timers.next_due() == after(2)
    await log.run_until(3)
    assert log.fired == [("y", 2)]


async def test_a_handler_can_cancel_its_own_beat(log: Log) -> None:
    handles: list[TimerHandle] = []

    async def once() -> None:
        log.fired.append(("once", 0))
        handles[0].cancel()

    handles.append(log.timers.every("a", timedelta(seconds=1), once))
    await log.run_until(5)
    assert log.fired == [("once", 0)]


async def test_an_agent_that_has_ended_is_forgotten_and_others_are_not(log: Log) -> None:
    log.timers.every("a", timedelta(seconds=1), log.handler("a"))
    log.timers.at("a", after(2), log.handler("a"))
    log.timers.at("b", after(2), log.handler("b"))
    log.timers.cancel_all("a")
    await log.run_until(5)
    assert log.fired == [("b", 2)]


async def test_an_agent_can_be_ended_by_its_own_timer(log: Log) -> None:
    async def end() -> None:
        log.timers.cancel_all("a")

    log.timers.every("a", timedelta(seconds=1), end)
    log.timers.at("a", after(3), log.handler("x"))
    await log.run_until(5)
    assert log.fired == []
    assert log.timers.next_due() is None


async def test_a_failing_handler_names_its_agent_and_its_beat_goes_on(log: Log) -> None:
    async def fail() -> None:
        raise ZeroDivisionError("a bug")

    log.timers.every("risk", timedelta(seconds=1), fail)
    log.clock.advance_to(after(1))
    with pytest.raises(TimerFailed, match="a timer of risk failed") as failure:
        await log.timers.fire_next()
    assert failure.value.owner == "risk"
    assert isinstance(failure.value.__cause__, ZeroDivisionError)
    assert log.timers.next_due() == after(2), "whoever restarts the agent decides, by cancel_all"


async def test_timers_made_and_cancelled_again_and_again_do_not_pile_up(log: Log) -> None:
    keep = log.timers.at("a", after(10_000), log.handler("kept"))
    for number in range(20 * COMPACT_FROM):
        log.timers.at("a", after(1_000 + number), log.handler("x")).cancel()
    assert len(log.timers._heap) <= 2 * COMPACT_FROM
    assert keep is not None
    await log.run_until(10_000)
    assert log.fired == [("kept", 10_000)]
