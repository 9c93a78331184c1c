"""The bot's state while it runs: the stricter of what is asked of it and what a hold in the ledger says.

A person changes ``spec.state`` in the spec file, or places a hold by command; either is obeyed within a second,
without a restart. Everything else that changes in the spec file is told as pending, and applied at the next start. A
file that can not be read now changes nothing: the last good state stays.

Where the spec is pinned, as in a cluster, the state that is asked for is in a file of its own, in one word, and that
of the spec does not count. Until that file could be read once no entry is made: a spec that was pinned long ago must
not start what was paused since.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import SpecChangePending, SpecFileRefused, StateChanged, StateFileRefused
from tradingbot_agents.domain.values import BotState, stricter
from tradingbot_agents.ledger.port import Hold
from tradingbot_agents.telemetry import Sink
from tradingbot_api import SpecInvalid, TradingBot, load_file, revision

AGENT = "supervisor"

_LONGEST_WORD = 64
"""Characters of the state file that are read: whatever is mounted there by mistake may be large."""

Stamp = tuple[int, int, int]
"""Time of change, size and inode: one of them is another when a file is written or replaced."""


class Holds(Protocol):
    """What it reads of the ledger."""

    async def hold(self) -> Hold | None: ...


class StateFile:
    """The state that is asked for, as one word in a file. It is read anew at each look: one word costs nothing, and a
    mounted ConfigMap is a link whose target is exchanged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._problem: str | None = None
        self._told: str | None = None
        self.state: BotState | None = None
        """As read last; ``None`` until it could be."""
        self._read()

    def look(self) -> str | None:
        """Read it again. Returns what is wrong with it, once, and not before a second look found the same: a file
        that is being written is empty for a moment."""
        before = self._problem
        self._read()
        if self._problem is None:
            self._told = None
        if self._problem in (None, self._told) or self._problem != before:
            return None
        self._told = self._problem
        return self._problem

    @property
    def why(self) -> str:
        return f"{self._path} asks for {self.state.value}" if self.state else f"{self._path} could not be read yet"

    def _read(self) -> None:
        states = ", ".join(BotState)
        try:
            with self._path.open(encoding="utf-8") as file:
                word = file.read(_LONGEST_WORD).strip()
            self.state = BotState(word)
        except OSError as error:
            self._problem = f"{self._path} can not be read ({error.strerror}): write one of {states} into it"
        except UnicodeDecodeError:
            self._problem = f"{self._path} is not text: write one of {states} into it"
        except ValueError:
            self._problem = f"{self._path} says {word!r}: write one of {states} into it"
        else:
            self._problem = None


class StateControl:
    """Call it for the state of now; ``refresh`` looks again at the files and the ledger."""

    def __init__(
        self,
        bot: TradingBot,
        spec_file: Path,
        ledger: Holds,
        clock: Clock,
        sink: Sink,
        *,
        state_file: Path | None = None,
    ) -> None:
        self._name = bot.metadata.name
        self._file = spec_file
        self._state_file = None if state_file is None else StateFile(state_file)
        self._ledger = ledger
        self._clock = clock
        self._sink = sink
        self._in_spec = BotState(bot.spec.state)
        self._hold: Hold | None = None
        self._state = self._asked
        self._running_revision = revision(bot)
        # The first look reads the file again: it may have changed since ``bot`` was read.
        self._seen: Stamp | None = None

    def __call__(self) -> BotState:
        return self._state

    @property
    def hold(self) -> Hold | None:
        return self._hold

    async def refresh(self) -> None:
        """Raises ``LedgerUnavailable``; what the files ask is obeyed all the same."""
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._read_file()
        if self._state_file is not None and (problem := self._state_file.look()) is not None:
            self._sink.emit(StateFileRefused(at=self._clock.now(), agent=AGENT, why=problem))
        try:
            self._hold = await self._ledger.hold()
        finally:
            self._decide()

    @property
    def _asked(self) -> BotState:
        if self._state_file is None:
            return self._in_spec
        return self._state_file.state or stricter(self._in_spec, BotState.PAUSED)

    def _decide(self) -> None:
        asked = self._asked
        state = asked if self._hold is None else stricter(asked, self._hold.state)
        if state is self._state:
            return
        why = f"spec.state is {asked.value}" if self._state_file is None else self._state_file.why
        if self._hold is not None:
            why += f", and {self._hold.by} holds it at {self._hold.state.value}: {self._hold.reason}"
        self._sink.emit(
            StateChanged(at=self._clock.now(), agent=AGENT, previous=self._state.value, state=state.value, why=why)
        )
        self._state = state

    def _read_file(self) -> None:
        try:
            bot = load_file(self._file)
        except SpecInvalid as error:
            self._refuse(str(error))
            return
        if bot.metadata.name != self._name:
            self._refuse(f"{self._file}: metadata.name is {bot.metadata.name} now, and {self._name} runs: name it so")
            return
        self._in_spec = BotState(bot.spec.state)
        if revision(bot) != self._running_revision:
            self._sink.emit(
                SpecChangePending(
                    at=self._clock.now(),
                    agent=AGENT,
                    detail="only spec.state is taken up while running; the rest is applied at the next start",
                )
            )

    def _refuse(self, why: str) -> None:
        self._sink.emit(SpecFileRefused(at=self._clock.now(), agent=AGENT, why=why))

    def _stamp(self) -> Stamp | None:
        try:
            found = self._file.stat()
        except OSError:
            # An editor replaces a file in two steps: look again the next time.
            return self._seen
        return found.st_mtime_ns, found.st_size, found.st_ino
