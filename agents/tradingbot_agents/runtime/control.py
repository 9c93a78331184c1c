"""The bot's state while it runs: the stricter of what the spec file says and what a hold in the ledger says.

A person changes ``spec.state`` in the file, or places a hold by command; either is obeyed within a second,
without a restart. Everything else that changes in the file is told as pending, and applied at the next start. A
file that can not be read now changes nothing: the last good state stays.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import SpecChangePending, SpecFileRefused, StateChanged
from tradingbot_agents.domain.values import BotState, stricter
from tradingbot_agents.ledger.port import Hold
from tradingbot_agents.telemetry import Sink
from tradingbot_api import SpecInvalid, TradingBot, load_file, revision

AGENT = "supervisor"

Stamp = tuple[int, int, int]
"""Time of change, size and inode: one of them is another when a file is written or replaced."""


class Holds(Protocol):
    """What it reads of the ledger."""

    async def hold(self) -> Hold | None: ...


class StateControl:
    """Call it for the state of now; ``refresh`` looks again at the file and the ledger."""

    def __init__(self, bot: TradingBot, spec_file: Path, ledger: Holds, clock: Clock, sink: Sink) -> None:
        self._name = bot.metadata.name
        self._file = spec_file
        self._ledger = ledger
        self._clock = clock
        self._sink = sink
        self._asked = BotState(bot.spec.state)
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
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._read_file()
        self._hold = await self._ledger.hold()
        state = self._asked if self._hold is None else stricter(self._asked, self._hold.state)
        if state is not self._state:
            why = f"spec.state is {self._asked.value}"
            if self._hold is not None:
                why += f", and {self._hold.by} holds it at {self._hold.state.value}: {self._hold.reason}"
            self._sink.emit(
                StateChanged(
                    at=self._clock.now(), agent=AGENT, previous=self._state.value, state=state.value, why=why
                )
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
        self._asked = BotState(bot.spec.state)
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
