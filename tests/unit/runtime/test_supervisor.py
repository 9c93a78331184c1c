from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from support.queues import BOT_QUEUES
from tradingbot_agents.bus import DependencyUnavailable
from tradingbot_agents.bus.embedded import EmbeddedBus
from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK, STRATEGY
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.exchange.candle_files import CandleFileInvalid
from tradingbot_agents.exchange.state import ExchangeStateError
from tradingbot_agents.ledger.port import Epoch, Fenced, Role
from tradingbot_agents.runtime.supervisor import START_ORDER, AgentGaveUp, Backoff, Supervisor
from tradingbot_agents.telemetry import MemorySink

START = datetime(2024, 3, 1, tzinfo=UTC)
BACKOFF = Backoff(first=timedelta(seconds=1), longest=timedelta(seconds=4), attempts=4, calm=timedelta(seconds=60))


class House:
    """A supervisor over agents that write down what happens to them."""

    def __init__(self) -> None:
        self.clock = VirtualClock(START)
        self.timers = VirtualTimers(self.clock)
        self.bus = EmbeddedBus(self.clock, BOT_QUEUES)
        self.sink = MemorySink()
        self.log: list[str] = []
        self.pauses: list[float] = []
        self.real_time = 0.0
        self.failing_starts: dict[str, int] = {}
        self.failing_stops: set[str] = set()
        self.outage: Callable[[BaseException], str | None] = lambda error: None
        self.supervisor = Supervisor(
            {name: self._factory(name) for name in AGENTS},
            bus=self.bus,
            timers=self.timers,
            clock=self.clock,
            sink=self.sink,
            backoff=BACKOFF,
            restore=self._restore,
            fatal=(ExchangeStateError, CandleFileInvalid),
            outage=lambda error: self.outage(error),
            settle=self._settle,
            sleep=self._sleep,
            monotonic=lambda: self.real_time,
        )

    def _factory(self, name: str) -> Callable[[], Agent]:
        return lambda: Agent(name, self)

    async def _settle(self) -> None:
        self.log.append("settle")

    async def _restore(self) -> None:
        self.log.append("restore")

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


class Agent:
    def __init__(self, name: str, house: House) -> None:
        self.name = name
        self._house = house

    async def start(self) -> None:
        left = self._house.failing_starts.get(self.name, 0)
        if left:
            self._house.failing_starts[self.name] = left - 1
            raise RuntimeError(f"{self.name} can not start")
        self._house.log.append(f"start {self.name}")
        self._house.timers.every(self.name, timedelta(seconds=10), self._tick)

    async def stop(self) -> None:
        self._house.log.append(f"stop {self.name}")
        if self.name in self._house.failing_stops:
            raise RuntimeError(f"{self.name} can not stop")

    async def _tick(self) -> None: ...


async def test_consumers_start_before_producers_and_stop_after_them() -> None:
    house = House()
    await house.supervisor.start()
    await house.supervisor.stop()
    started = [line.removeprefix("start ") for line in house.log if line.startswith("start")]
    stopped = [line.removeprefix("stop ") for line in house.log if line.startswith("stop")]
    assert started == list(START_ORDER)
    assert started[0] == EXECUTION
    assert stopped == list(reversed(START_ORDER))
    assert house.timers.next_due() is None


async def test_a_failed_agent_is_taken_apart_and_built_anew_after_a_pause_loudly() -> None:
    house = House()
    await house.supervisor.start()
    house.log.clear()
    await house.supervisor.recover(STRATEGY, ValueError("a bug"))
    assert house.log == ["settle", "stop strategy", "restore", "start strategy"]
    assert house.pauses == [1.0]
    (event,) = house.sink.named("agent_restarted")
    assert "ValueError: a bug" in str(event.fields())


async def test_pauses_grow_up_to_the_longest_and_then_it_gives_up() -> None:
    house = House()
    await house.supervisor.start()
    house.failing_starts[RISK] = 99
    with pytest.raises(AgentGaveUp, match="risk agent failed 5 times in a row") as gave_up:
        await house.supervisor.recover(RISK, ValueError("a bug"))
    assert "Nothing is lost" in str(gave_up.value)
    assert house.pauses == [1.0, 2.0, 4.0, 4.0]


async def test_a_calm_time_forgets_earlier_failures() -> None:
    house = House()
    await house.supervisor.start()
    for _ in range(3):
        await house.supervisor.recover(RISK, ValueError("a bug"))
    house.real_time += 61
    await house.supervisor.recover(RISK, ValueError("a bug"))
    assert house.pauses == [1.0, 2.0, 4.0, 1.0]


@pytest.mark.parametrize(
    "error",
    [
        Fenced(Epoch(Role.RISK, 1), 2),
        ExchangeStateError("the disk is full"),
        CandleFileInvalid(Path("bars.csv"), 7, "its bar is gone", "restore the file"),
    ],
)
async def test_what_no_new_agent_would_mend_ends_the_run_at_once(error: Exception) -> None:
    """Another process has taken over, or the simulated exchange answers nothing more."""
    house = House()
    await house.supervisor.start()
    with pytest.raises(type(error)):
        await house.supervisor.recover(RISK, error)
    assert house.pauses == []


async def test_an_agent_that_fails_to_start_is_tried_again() -> None:
    house = House()
    house.failing_starts[RISK] = 2
    await house.supervisor.start()
    assert [line for line in house.log if line.startswith("start")] == [f"start {name}" for name in START_ORDER]
    assert house.pauses == [1.0, 2.0]


async def test_all_agents_are_stopped_even_when_one_fails_to() -> None:
    house = House()
    await house.supervisor.start()
    house.failing_stops.add(STRATEGY)
    with pytest.raises(ExceptionGroup, match="agents failed to stop"):
        await house.supervisor.stop()
    assert f"stop {EXECUTION}" in house.log


def test_a_missing_factory_is_a_bug_that_is_said() -> None:
    house = House()
    with pytest.raises(ValueError, match="no factory for risk"):
        Supervisor(
            {name: lambda: Agent("x", house) for name in AGENTS if name != RISK},
            bus=house.bus,
            timers=house.timers,
            clock=house.clock,
            sink=house.sink,
            backoff=BACKOFF,
            restore=house._restore,
        )


async def test_what_is_away_is_told_with_its_cause_and_named_in_the_end() -> None:
    house = House()
    away = DependencyUnavailable("the ledger does not answer")
    away.__cause__ = ConnectionError("no space left on device")
    for _ in range(BACKOFF.attempts):
        await house.supervisor.bring_back(away)
    with pytest.raises(AgentGaveUp, match=r"database failed 5 times .* ConnectionError: no space left on device"):
        await house.supervisor.bring_back(away)
    told = house.sink.named("dependency_away")
    assert [event.fields()["attempt"] for event in told] == [1, 2, 3, 4]
    assert told[0].fields()["what"] == "database"
    assert told[0].fields()["why"] == "ConnectionError: no space left on device"
    assert house.log == ["restore"] * 4


async def test_what_is_away_without_a_cause_speaks_for_itself() -> None:
    house = House()
    await house.supervisor.bring_back(DependencyUnavailable("the ledger does not answer"))
    (event,) = house.sink.named("dependency_away")
    assert event.fields()["why"] == "DependencyUnavailable: the ledger does not answer"


async def test_a_part_that_is_away_is_nobody_s_failure_and_is_waited_for_without_a_limit() -> None:
    house = House()
    house.outage = lambda error: "database" if isinstance(error, ConnectionError) else None
    await house.supervisor.start()
    for _ in range(40):
        await house.supervisor.recover(RISK, ConnectionError("no answer"))
    assert house.sink.named("agent_restarted") == []
    told = house.sink.named("dependency_away")
    assert [event.fields()["attempt"] for event in told] == [1, 2, 4, 8, 16, 32], "and not forty times"
    assert {event.fields()["what"] for event in told} == {"database"}
    assert max(house.pauses) == BACKOFF.longest.total_seconds()
    # What is its own counts from one.
    await house.supervisor.recover(RISK, ValueError("a bug"))
    assert [event.fields()["attempt"] for event in house.sink.named("agent_restarted")] == [1]


async def test_an_agent_is_built_anew_only_when_the_old_one_s_handlers_have_ended() -> None:
    house = House()
    await house.supervisor.start()
    house.log.clear()
    await house.supervisor.recover(RISK, ValueError("a bug"))
    assert house.log == ["settle", "stop risk", "restore", "start risk"]


async def test_one_agent_alone_can_be_supervised() -> None:
    house = House()
    alone = Supervisor(
        {RISK: lambda: Agent(RISK, house)},
        order=(RISK,),
        bus=house.bus,
        timers=house.timers,
        clock=house.clock,
        sink=house.sink,
        backoff=BACKOFF,
        restore=house._restore,
    )
    await alone.start()
    await alone.stop()
    assert house.log == ["start risk", "stop risk"]
