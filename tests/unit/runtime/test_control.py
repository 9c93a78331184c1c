"""The state that a bot obeys: what its file asks, what a hold in the ledger demands, and the stricter of the two."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.specs import PAPER, spec_text
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.events import Event, SpecChangePending, SpecFileRefused, StateChanged, StateFileRefused
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import Hold, LedgerUnavailable
from tradingbot_agents.runtime.control import StateControl
from tradingbot_agents.telemetry import MemorySink
from tradingbot_api import load_file

NOW = datetime(2024, 3, 1, 12, tzinfo=UTC)


class HoldOnly:
    """The one question that is asked of the ledger."""

    def __init__(self) -> None:
        self.now: Hold | None = None

    async def hold(self) -> Hold | None:
        return self.now


class Desk:
    """A control over a file; ``write`` saves a spec, as an editor would."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.file = folder / "bot.yaml"
        self.ledger = HoldOnly()
        self.sink = MemorySink()
        self.saved = 0
        self.write(**changes)
        self.control = StateControl(load_file(self.file), self.file, self.ledger, VirtualClock(NOW), self.sink)

    def write(self, **changes: Any) -> None:
        self.write_text(spec_text(PAPER, **changes))

    def write_text(self, text: str) -> None:
        self.file.write_text(text)
        # A file system's clock may be too coarse to see two writes of a test.
        self.saved += 1
        os.utime(self.file, ns=(self.saved * 10**9, self.saved * 10**9))

    def hold(self, state: BotState | None) -> None:
        self.ledger.now = None if state is None else Hold(state=state, reason="a look", by="command", at=NOW)

    async def look(self) -> list[Event]:
        """What was told by this look."""
        before = len(self.sink.events)
        await self.control.refresh()
        return self.sink.events[before:]


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


async def test_it_begins_with_the_state_of_the_spec_and_tells_nothing(tmp_path: Path) -> None:
    desk = Desk(tmp_path, state="ReduceOnly")
    assert desk.control() is BotState.REDUCE_ONLY
    assert await desk.look() == []


async def test_a_changed_state_in_the_file_is_obeyed_and_told_once(desk: Desk) -> None:
    desk.write(state="Paused")
    (event,) = await desk.look()
    assert isinstance(event, StateChanged)
    assert (event.at, event.previous, event.state) == (NOW, "Running", "Paused")
    assert event.why == "spec.state is Paused"
    assert desk.control() is BotState.PAUSED
    assert await desk.look() == []
    desk.write(state="Running")
    assert [each.name for each in await desk.look()] == ["state_changed"]
    assert desk.control() is BotState.RUNNING


async def test_a_change_between_the_start_and_the_first_look_is_not_missed(desk: Desk) -> None:
    desk.write(state="Flatten")
    await desk.look()
    assert desk.control() is BotState.FLATTEN


async def test_a_file_that_says_the_same_again_tells_nothing(desk: Desk) -> None:
    await desk.look()
    desk.write()
    assert await desk.look() == []


async def test_any_other_change_is_told_as_pending_and_not_taken_up(desk: Desk) -> None:
    desk.write(state="Paused", risk={"stopLoss": "0.10"})
    pending, changed = await desk.look()
    assert isinstance(pending, SpecChangePending)
    assert "applied at the next start" in pending.detail
    assert isinstance(changed, StateChanged), "the state of the same file is obeyed all the same"
    assert await desk.look() == []


async def test_a_file_that_can_not_be_read_changes_nothing_and_is_told_once(desk: Desk) -> None:
    desk.write(state="ReduceOnly")
    await desk.look()
    desk.write(state="Running", risk={"stopLoss": 0.10})
    (event,) = await desk.look()
    assert isinstance(event, SpecFileRefused)
    assert "spec.risk.stopLoss" in event.why
    assert desk.control() is BotState.REDUCE_ONLY
    assert await desk.look() == []
    desk.write(state="Running")
    await desk.look()
    assert desk.control() is BotState.RUNNING


async def test_a_half_written_file_is_refused_and_the_whole_one_taken(desk: Desk) -> None:
    whole = spec_text(PAPER, state="Stopped")
    desk.write_text(whole[: len(whole) // 2])
    assert [each.name for each in await desk.look()] == ["spec_file_refused"]
    desk.write_text(whole)
    await desk.look()
    assert desk.control() is BotState.STOPPED


async def test_the_file_of_another_bot_is_refused(desk: Desk) -> None:
    desk.write_text(spec_text({**PAPER, "metadata": {"name": "other"}}, state="Flatten"))
    (event,) = await desk.look()
    assert isinstance(event, SpecFileRefused)
    assert "metadata.name is other now, and paper runs" in event.why
    assert desk.control() is BotState.RUNNING


async def test_a_file_that_is_missing_for_a_moment_changes_nothing(desk: Desk) -> None:
    desk.write(state="Paused")
    await desk.look()
    desk.file.unlink()
    assert await desk.look() == []
    assert desk.control() is BotState.PAUSED
    desk.write(state="Running")
    await desk.look()
    assert desk.control() is BotState.RUNNING


async def test_a_file_that_was_replaced_by_one_of_the_same_time_and_size_is_read(desk: Desk) -> None:
    desk.write(state="Paused")
    await desk.look()
    seen = desk.file.stat()
    other = desk.file.with_name("other.yaml")
    other.write_text(desk.file.read_text().replace("name: main", "name: mean"))
    os.utime(other, ns=(seen.st_atime_ns, seen.st_mtime_ns))
    other.replace(desk.file)
    assert desk.file.stat().st_size == seen.st_size
    assert [each.name for each in await desk.look()] == ["spec_change_pending"]


@pytest.mark.parametrize("asked", list(BotState))
@pytest.mark.parametrize("held", list(BotState))
async def test_the_stricter_of_file_and_hold_counts(tmp_path: Path, asked: BotState, held: BotState) -> None:
    desk = Desk(tmp_path, state=asked.value)
    desk.hold(held)
    await desk.look()
    assert desk.control() is max(asked, held, key=lambda state: state.strictness)


async def test_a_hold_is_told_with_its_reason_and_ends_when_it_is_released(desk: Desk) -> None:
    desk.hold(BotState.FLATTEN)
    (event,) = await desk.look()
    assert isinstance(event, StateChanged)
    assert event.why == "spec.state is Running, and command holds it at Flatten: a look"
    assert desk.control.hold == desk.ledger.now
    assert await desk.look() == []
    desk.hold(None)
    (event,) = await desk.look()
    assert isinstance(event, StateChanged)
    assert (event.previous, event.state, event.why) == ("Flatten", "Running", "spec.state is Running")
    assert desk.control.hold is None


async def test_a_release_leaves_what_the_file_asks(desk: Desk) -> None:
    desk.write(state="Paused")
    desk.hold(BotState.STOPPED)
    await desk.look()
    assert desk.control() is BotState.STOPPED
    desk.hold(None)
    await desk.look()
    assert desk.control() is BotState.PAUSED


# ----------------------------------------------------------------------------------- a state in a file of its own


class Mounted:
    """A volume of a ConfigMap, as a kubelet makes and refreshes it: the files are links into a folder that is a link
    itself, and that one is exchanged."""

    def __init__(self, folder: Path, word: str | bytes) -> None:
        self._folder = folder
        self._times = 0
        self.refresh(word)
        self.file = folder / "state"
        self.file.symlink_to(Path("..data") / "state")

    def refresh(self, word: str | bytes) -> None:
        self._times += 1
        fresh = self._folder / f"..{self._times}"
        fresh.mkdir()
        (fresh / "state").write_bytes(word.encode() if isinstance(word, str) else word)
        # A clock too coarse must not matter, nor that two words are equally long.
        os.utime(fresh / "state", ns=(0, 0))
        link = self._folder / "..data_tmp"
        link.symlink_to(fresh.name)
        link.replace(self._folder / "..data")


class Cluster:
    """A pinned spec that says one thing, and a mounted state that says another."""

    def __init__(self, folder: Path, word: str | bytes, *, state: str = "Running") -> None:
        self.spec = folder / "bot.yaml"
        self.spec.write_text(spec_text(PAPER, state=state))
        self.mounted = Mounted(folder, word)
        self.ledger = HoldOnly()
        self.sink = MemorySink()
        self.control = StateControl(
            load_file(self.spec),
            self.spec,
            self.ledger,
            VirtualClock(NOW),
            self.sink,
            state_file=self.mounted.file,
        )

    async def look(self, times: int = 1) -> list[Event]:
        before = len(self.sink.events)
        for _ in range(times):
            await self.control.refresh()
        return self.sink.events[before:]


async def test_the_state_file_counts_and_the_specs_state_does_not(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "ReduceOnly\n", state="Running")
    assert cluster.control() is BotState.REDUCE_ONLY, "from the first moment"
    assert await cluster.look() == []
    cluster.spec.write_text(spec_text(PAPER, state="Stopped"))
    assert await cluster.look() == []
    assert cluster.control() is BotState.REDUCE_ONLY


async def test_an_exchanged_link_is_obeyed_at_the_next_look(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "Running")
    for word, before in (("Flatten", "Running"), ("Stopped", "Flatten"), ("Running", "Stopped")):
        cluster.mounted.refresh(word)
        (event,) = await cluster.look()
        assert isinstance(event, StateChanged)
        assert (event.previous, event.state) == (before, word)
        assert event.why == f"{cluster.mounted.file} asks for {word}"
        assert cluster.control() is BotState(word)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("Ruining", "says 'Ruining'"),
        ("running", "says 'running'"),
        ("", "says ''"),
        ("Running Paused", "says 'Running Paused'"),
        (b"\xff\xfe", "is not text"),
    ],
)
async def test_a_word_that_nobody_understands_changes_nothing_and_is_told_once(
    tmp_path: Path, wrong: str | bytes, said: str
) -> None:
    cluster = Cluster(tmp_path, "Paused")
    cluster.mounted.refresh(wrong)
    (event,) = await cluster.look(times=5)
    assert isinstance(event, StateFileRefused)
    assert (
        event.why
        == f"{cluster.mounted.file} {said}: write one of Running, Paused, ReduceOnly, Flatten, Stopped into it"
    )
    assert cluster.control() is BotState.PAUSED
    cluster.mounted.refresh("Running")
    await cluster.look()
    assert cluster.control() is BotState.RUNNING
    cluster.mounted.refresh(wrong)
    assert [each.name for each in await cluster.look(times=3)] == ["state_file_refused"], "a new time, told anew"


async def test_a_file_that_is_gone_changes_nothing_and_is_told(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "Paused")
    cluster.mounted.file.unlink()
    (event,) = await cluster.look(times=2)
    assert isinstance(event, StateFileRefused)
    assert "can not be read (No such file or directory)" in event.why
    assert cluster.control() is BotState.PAUSED


async def test_a_file_that_is_empty_for_the_moment_of_a_write_is_no_news(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "Paused")
    cluster.mounted.refresh("")
    assert await cluster.look() == []
    cluster.mounted.refresh("Flatten")
    assert [each.name for each in await cluster.look()] == ["state_changed"]


@pytest.mark.parametrize(
    ("pinned", "until_read"), [("Running", "Paused"), ("Paused", "Paused"), ("Flatten", "Flatten")]
)
async def test_a_start_without_a_readable_state_makes_no_entry(tmp_path: Path, pinned: str, until_read: str) -> None:
    """The pinned spec may be older than a pause."""
    cluster = Cluster(tmp_path, "?", state=pinned)
    assert cluster.control() is BotState(until_read)
    assert [each.name for each in await cluster.look(times=3)] == ["state_file_refused"]
    cluster.mounted.refresh("Running")
    await cluster.look()
    assert cluster.control() is BotState.RUNNING


async def test_the_stricter_of_state_file_and_hold_counts(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "Paused")
    cluster.ledger.now = Hold(state=BotState.FLATTEN, reason="a look", by="command", at=NOW)
    (event,) = await cluster.look()
    assert isinstance(event, StateChanged)
    assert event.why == f"{cluster.mounted.file} asks for Paused, and command holds it at Flatten: a look"


async def test_what_the_file_asks_is_obeyed_while_the_ledger_is_away(tmp_path: Path) -> None:
    cluster = Cluster(tmp_path, "Running")
    cluster.mounted.refresh("Paused")

    async def away() -> Hold | None:
        raise LedgerUnavailable("no answer")

    cluster.ledger.hold = away  # type: ignore[method-assign]
    with pytest.raises(LedgerUnavailable):
        await cluster.look()
    assert cluster.control() is BotState.PAUSED
