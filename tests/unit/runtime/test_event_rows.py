from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import pytest

from tradingbot_agents.domain.events import DependencyBack, Event
from tradingbot_agents.ledger.port import Ledger, LedgerUnavailable
from tradingbot_agents.runtime.event_rows import EventRows


def event(number: int) -> DependencyBack:
    return DependencyBack(at=datetime(2024, 3, 1, tzinfo=UTC), agent="risk", what="database", seconds=number)


class Rows:
    """A ledger that takes events, and lets more of them come meanwhile."""

    def __init__(self, rows: EventRows) -> None:
        self.written: list[float] = []
        self.away = False
        self.meanwhile: list[Event] = []
        self._rows = rows

    async def record_events(self, events: Sequence[Event]) -> None:
        if self.away:
            raise LedgerUnavailable("no answer")
        for each in self.meanwhile:
            self._rows.emit(each)
        self.meanwhile = []
        self.written += [each.seconds for each in events if isinstance(each, DependencyBack)]


async def write(rows: EventRows, ledger: Rows) -> None:
    await rows.write(cast(Ledger, ledger))


async def test_what_the_ledger_could_not_take_is_written_later_in_order() -> None:
    rows = EventRows()
    ledger = Rows(rows)
    ledger.away = True
    rows.emit(event(1))
    with pytest.raises(LedgerUnavailable):
        await write(rows, ledger)
    rows.emit(event(2))
    ledger.away = False
    await write(rows, ledger)
    await write(rows, ledger)
    assert ledger.written == [1, 2]


async def test_what_comes_while_others_are_written_is_written_next() -> None:
    rows = EventRows()
    ledger = Rows(rows)
    rows.emit(event(1))
    ledger.meanwhile = [event(2)]
    await write(rows, ledger)
    assert ledger.written == [1]
    await write(rows, ledger)
    assert ledger.written == [1, 2]


async def test_of_too_many_the_oldest_are_dropped_and_counted() -> None:
    rows = EventRows(most=2)
    ledger = Rows(rows)
    for number in range(5):
        rows.emit(event(number))
    assert rows.dropped == 3
    # Two more come while these are written, and push them out of the room that they no longer need.
    ledger.meanwhile = [event(5), event(6)]
    await write(rows, ledger)
    await write(rows, ledger)
    assert ledger.written == [3, 4, 5, 6]
