"""The log of a bot without a cluster: a file, or what comes down a pipe, with an end to it in bytes and in time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK
from tradingbot_agents.reality.evidence import AgentLog, Logs, Missing
from tradingbot_agents.reality.logs import SUPERVISOR
from tradingbot_agents.runtime.gathering_files import STDIN, logs_of_file

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
LIMIT = timedelta(seconds=30)


def line(second: int, agent: str = RISK, event: str = "price_fallback_used") -> bytes:
    at = (SINCE + timedelta(seconds=second)).isoformat()
    return (
        json.dumps({"at": at, "agent": agent, "symbol": "BTC/USDT", "source": "bus", "event": event}).encode() + b"\n"
    )


async def logs(file: Path | str, **arguments: Any) -> dict[str, AgentLog]:
    found = await logs_of_file(file, AGENTS, **{"since": SINCE, "within": LIMIT, **arguments})
    assert isinstance(found, Logs), found
    told = {agent: each for agent, each in found.agents.items() if isinstance(each, AgentLog)}
    assert set(told) == {*AGENTS, SUPERVISOR}
    return told


def count(log: AgentLog) -> int:
    return sum(each.count for each in log.heard)


@pytest.fixture
def stdin(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The end of a pipe to which a test writes what the command reads."""
    reading, writing = os.pipe()
    kept = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        yield writing
    finally:
        os.dup2(kept, 0)
        os.close(kept)


async def test_a_file_is_told_agent_by_agent(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_bytes(line(0) + line(1, EXECUTION) + line(2) + line(3, "supervisor", "run_ended"))
    told = await logs(file)
    assert (count(told[RISK]), count(told[EXECUTION])) == (2, 1)
    assert all(each.complete for each in told.values())
    told = await logs(file, counts_from={RISK: SINCE + timedelta(seconds=1)})
    assert (count(told[RISK]), count(told[EXECUTION])) == (1, 1)


async def test_of_a_file_that_is_too_long_the_end_counts(tmp_path: Path) -> None:
    file = tmp_path / "log"
    size = len(line(10))
    file.write_bytes(b"".join(line(10 + number) for number in range(80)))
    # A line and a half, and a whole one more that begins at the very byte.
    for most, lines in ((size * 3 // 2, 1), (2 * size, 2), (2 * size + 1, 2), (79 * size, 79)):
        told = (await logs(file, most=most))[RISK]
        assert (count(told), told.lines) == (lines, lines)
        assert told.ends == SINCE + timedelta(seconds=89)
    assert not (await logs(file, most=size))[RISK].complete, "it begins 79 s after the window"
    assert (await logs(file, most=80 * size))[RISK].complete


async def test_what_comes_down_a_pipe_is_read_to_its_end(stdin: int) -> None:
    os.write(stdin, line(0) + line(1))
    os.close(stdin)
    told = (await logs(STDIN))[RISK]
    assert (told.complete, count(told)) == (True, 2)


async def test_a_pipe_that_stays_open_is_not_waited_for_without_end(stdin: int) -> None:
    os.write(stdin, line(0) + line(1) + line(2)[:-10])
    told = (await logs(STDIN, within=timedelta(seconds=0.05)))[RISK]
    os.close(stdin)
    assert (told.complete, count(told)) == (False, 2)
    assert told.lacks == "it was not read to its end within 0.05 s"


async def test_of_a_pipe_that_says_too_much_the_beginning_counts(stdin: int) -> None:
    os.write(stdin, line(0) * 10)
    told = (await logs(STDIN, most=len(line(0)) * 2 + 3))[RISK]
    os.close(stdin)
    assert (told.complete, count(told)) == (False, 2)
    assert told.lacks.startswith("only its first ")


async def test_a_readable_log_is_no_evidence(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("2026-03-01T12:00:00Z [warning  ] price_fallback_used  symbol=BTC/USDT\n")
    told = (await logs(file))[RISK]
    assert (told.complete, told.lacks) == (False, "no line of it has a time, as those of --output json have")


async def test_what_can_not_be_read_is_missing_with_the_reason(tmp_path: Path) -> None:
    found = await logs_of_file(tmp_path / "none", AGENTS, since=SINCE, within=LIMIT)
    assert found == Missing(f"{tmp_path / 'none'} can not be read: No such file or directory")
    found = await logs_of_file(tmp_path, AGENTS, since=SINCE, within=LIMIT)
    assert isinstance(found, Missing)
    assert isinstance(await logs_of_file("a\0b", AGENTS, since=SINCE, within=LIMIT), Missing)


async def test_a_named_pipe_to_which_nobody_writes_is_not_waited_for_without_end(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert not (await logs(tmp_path / "pipe", within=timedelta(seconds=0.05)))[RISK].complete


@pytest.mark.parametrize(("began", "complete"), [(1800, True), (1700, False), (1990, False), (None, False)])
async def test_a_log_that_begins_with_the_processes_lacks_nothing(
    tmp_path: Path, began: int | None, complete: bool
) -> None:
    """They began half an hour into the window: before that nobody could write. If the log begins long after them, or
    long before, something was taken from it."""
    file = tmp_path / "log"
    file.write_bytes(line(1805) + line(1990))
    told = await logs(file, nobody_before=None if began is None else SINCE + timedelta(seconds=began))
    assert told[RISK].complete is complete
    assert count(told[RISK]) == 2
