from __future__ import annotations

from datetime import timedelta

from support.analysis import a_trade, performance_of
from support.messages import START
from tradingbot_agents.strategy.record import Record

SECOND = timedelta(seconds=1)


def test_trades_before_the_candle_closed_count() -> None:
    record = Record(performance_of(a=(3, 1)), (a_trade(START - SECOND, "1.5", "a"),))
    assert record.as_of(START) == performance_of(a=(3, 1))


def test_trades_from_its_close_on_do_not() -> None:
    record = Record(
        performance_of(a=(3, 1), b=(1, 4), c=(2, 2)),
        (
            a_trade(START - SECOND, "9", "a"),
            a_trade(START, "1.5", "a", "b"),
            a_trade(START + SECOND, "-2", "b"),
            a_trade(START + SECOND, "0", "b"),
        ),
    )
    assert record.as_of(START) == performance_of(a=(2, 1), b=(0, 2), c=(2, 2))


def test_a_trade_that_the_record_has_not_yet_is_not_taken_off_below_nothing() -> None:
    record = Record(performance_of(a=(0, 0)), (a_trade(START, "1.5", "a", "b"),))
    assert record.as_of(START) == performance_of(a=(0, 0))
