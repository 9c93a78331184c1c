"""``migrate --wait``: servers that start at the same time are waited for, and not for ever."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tradingbot_agents.cli.migrating import _once_it_answers
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.ledger.port import LedgerError, LedgerUnavailable
from tradingbot_agents.marketdata.port import CandleStoreUnavailable

START = datetime(2026, 3, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Server:
    def __init__(self, *refusals: Exception) -> None:
        self.refusals = list(refusals)
        self.asked = 0

    async def answer(self) -> str:
        self.asked += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return "done"


async def test_it_is_asked_until_it_answers_and_each_reason_is_told_once(capsys: pytest.CaptureFixture[str]) -> None:
    away, starts = LedgerUnavailable("no answer"), CandleStoreUnavailable("it starts")
    server, clock = Server(away, away, starts, away), VirtualClock(START)
    assert await _once_it_answers(server.answer, MINUTE, clock) == "done"
    assert server.asked == 5
    assert clock.now() == START + timedelta(seconds=4)
    assert capsys.readouterr().out.splitlines() == [
        "waiting: no answer",
        "waiting: it starts",
        "waiting: no answer",
    ]


async def test_one_that_stays_away_is_given_up() -> None:
    server, clock = Server(*[LedgerUnavailable("no answer")] * 1000), VirtualClock(START)
    with pytest.raises(LedgerUnavailable):
        await _once_it_answers(server.answer, MINUTE, clock)
    assert clock.now() == START + MINUTE


async def test_without_patience_it_is_asked_once() -> None:
    server = Server(LedgerUnavailable("no answer"))
    with pytest.raises(LedgerUnavailable):
        await _once_it_answers(server.answer, timedelta(0), VirtualClock(START))
    assert server.asked == 1


async def test_a_refusal_is_none_that_passes_by_itself() -> None:
    server = Server(LedgerError("the schema is another version's"))
    with pytest.raises(LedgerError, match="another version's"):
        await _once_it_answers(server.answer, MINUTE, VirtualClock(START))
    assert server.asked == 1
