"""Timers of the real loop: they ring by the wall clock, keep their beat, and take turns with the agent's messages."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest

from support.fast_loop import START, LoopClock, run_fast
from tradingbot_agents.clock.system import SystemClock, SystemTimers, Turns

SECOND = timedelta(seconds=1)


class Log:
    def __init__(self) -> None:
        self.clock = LoopClock()
        self.turns = Turns(lambda: asyncio.get_running_loop().time())
        self.failed: list[tuple[str, Exception]] = []
        self.timers = SystemTimers(self.clock, self.turns, lambda owner, error: self.failed.append((owner, error)))
        self.rang: list[tuple[str, float]] = []

    def handler(self, name: str, takes: float = 0, error: Exception | None = None) -> Callable[[], Awaitable[None]]:
        async def handle() -> None:
            self.rang.append((name, (self.clock.now() - START).total_seconds()))
            await asyncio.sleep(takes)
            if error is not None:
                raise error

        return handle


def test_once_at_its_time_and_at_once_when_that_is_past() -> None:
    async def play() -> list[tuple[str, float]]:
        log = Log()
        log.timers.at("risk", START + 5 * SECOND, log.handler("later"))
        log.timers.at("risk", START - SECOND, log.handler("past"))
        await asyncio.sleep(100)
        return log.rang

    assert run_fast(play()) == [("past", 0.0), ("later", 5.0)]


def test_beats_that_were_missed_make_one_run_and_the_phase_is_kept() -> None:
    async def play() -> list[tuple[str, float]]:
        log = Log()
        timer = log.timers.every("risk", 10 * SECOND, log.handler("beat", takes=25), first=START + 5 * SECOND)
        await asyncio.sleep(70)
        timer.cancel()
        await asyncio.sleep(100)
        return log.rang

    assert run_fast(play()) == [("beat", 5.0), ("beat", 35.0), ("beat", 65.0)]


def test_handlers_of_one_agent_take_turns() -> None:
    async def play() -> Log:
        log = Log()
        log.timers.at("risk", START, log.handler("first", takes=3))
        log.timers.at("risk", START, log.handler("second", takes=3))
        log.timers.at("execution", START, log.handler("another agent"))
        await asyncio.sleep(1)
        assert log.turns.longest() == 1.0
        await log.turns.settled()
        await log.timers.settled()
        assert log.turns.longest() == 0.0
        return log

    assert run_fast(play()).rang == [("first", 0.0), ("another agent", 0.0), ("second", 3.0)]


def test_a_cancelled_timer_does_not_ring_even_when_its_turn_had_not_come() -> None:
    async def play() -> list[tuple[str, float]]:
        log = Log()
        log.timers.at("risk", START, log.handler("first", takes=3))
        waiting = log.timers.at("risk", START, log.handler("waiting"))
        log.timers.every("risk", SECOND, log.handler("beat"))
        await asyncio.sleep(0.5)
        waiting.cancel()
        waiting.cancel()
        log.timers.cancel_all("risk")
        await asyncio.sleep(100)
        return log.rang

    assert run_fast(play()) == [("first", 0.0)]


def test_a_handler_that_raises_is_told_and_rings_no_more() -> None:
    async def play() -> Log:
        log = Log()
        log.timers.every("risk", SECOND, log.handler("beat", error=OSError("no disk")))
        await asyncio.sleep(100)
        return log

    log = run_fast(play())
    assert log.rang == [("beat", 1.0)]
    [(owner, error)] = log.failed
    assert (owner, str(error)) == ("risk", "no disk")


@pytest.mark.parametrize(("shift", "rings_at"), [(timedelta(hours=-1), 4200.0), (timedelta(hours=1), 60.0)])
def test_the_wall_clock_is_set_while_it_waits(shift: timedelta, rings_at: float) -> None:
    """By loop time: an hour back makes it wait an hour more, an hour forwards is noticed within a minute."""

    async def play() -> list[float]:
        log = Log()
        rang: list[float] = []

        async def handle() -> None:
            rang.append(asyncio.get_running_loop().time())

        log.timers.at("risk", START + timedelta(minutes=10), handle)
        await asyncio.sleep(1)
        log.clock.shift = shift
        await asyncio.sleep(20_000)
        return rang

    assert run_fast(play()) == [rings_at]


def test_an_interval_must_be_above_zero() -> None:
    log = Log()
    with pytest.raises(ValueError, match="above zero"):
        log.timers.every("risk", timedelta(0), log.handler("beat"))


async def test_the_clock_is_the_machines() -> None:
    clock = SystemClock()
    before = datetime.now(UTC)
    await clock.sleep(timedelta(milliseconds=-1))
    assert before <= clock.now() <= datetime.now(UTC)
