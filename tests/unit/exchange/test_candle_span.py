"""A replay of a part of the files: ``startTime`` and ``endTime`` of the spec."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from support.replay import START, STEP, flat, lines, write_bars, write_lines
from tradingbot_agents.exchange.candle_files import CandleFile, CandleFileInvalid, Gap
from tradingbot_agents.exchange.candle_source import find_candles

SECOND = timedelta(seconds=1)


def file_of(path: Path, first: int | None, before: int | None, shift: timedelta = timedelta(0)) -> CandleFile:
    """The bars numbered ``first`` to ``before - 1`` of a file; ``shift`` moves both ends between two bars."""
    return CandleFile(
        path,
        "BTC/USDT",
        "5m",
        opens_from=None if first is None else START + first * STEP + shift,
        opens_before=None if before is None else START + before * STEP + shift,
    )


@pytest.mark.parametrize(
    ("first", "before", "shift", "expected"),
    [
        (None, None, 0, [0, 1, 2, 3, 4, 5]),
        (2, None, 0, [2, 3, 4, 5]),
        (None, 2, 0, [0, 1]),
        (1, 4, 0, [1, 2, 3]),
        (1, 4, 1, [2, 3, 4]),
        (-5, 99, 0, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_only_the_bars_that_open_in_the_span_are_there(
    tmp_path: Path, first: int | None, before: int | None, shift: int, expected: list[int]
) -> None:
    file = file_of(write_bars(tmp_path, "BTC/USDT", [flat(i + 1) for i in range(6)]), first, before, shift * SECOND)
    assert [int(candle.close) - 1 for candle in file.rows()] == expected
    assert file.first_open() == START + expected[0] * STEP
    report = file.check()
    assert report.bars == len(expected)
    assert (report.first_open, report.last_open) == (START + expected[0] * STEP, START + expected[-1] * STEP)
    seen, kept, rest = file.resume(START + 3 * STEP, keep=1)
    assert seen == len([bar for bar in expected if bar < 3])
    assert [int(candle.close) - 1 for candle in (*kept, *rest)] == [
        bar for bar in expected if bar >= 3 or bar == max((b for b in expected if b < 3), default=None)
    ]


def test_gaps_are_counted_within_the_span(tmp_path: Path) -> None:
    rows = lines([flat(1)] * 10)
    del rows[7], rows[3]
    file = file_of(write_lines(tmp_path / "BTC_USDT-5m.csv", rows), 2, 7)
    report = file.check()
    assert (report.bars, report.gap_count, report.missing_bars) == (4, 1, 1)
    assert report.gaps == (Gap(START + 2 * STEP, START + 4 * STEP, 1),)


def test_what_is_outside_the_span_is_checked_all_the_same(tmp_path: Path) -> None:
    path = write_bars(tmp_path, "BTC/USDT", [flat(1), flat(2), flat(-3)])
    with pytest.raises(CandleFileInvalid, match="line 4"):
        file_of(path, 0, 2).check()


def test_a_span_without_bars_says_what_to_change(tmp_path: Path) -> None:
    file = file_of(write_bars(tmp_path, "BTC/USDT", [flat(1)]), 5, 9)
    for read in (file.check, file.first_open):
        with pytest.raises(CandleFileInvalid, match=r"none of its bars opens.*change startTime and endTime"):
            read()


def test_another_span_is_another_run(tmp_path: Path) -> None:
    write_bars(tmp_path, "BTC/USDT", [flat(1)] * 6)

    def fingerprint(first: int | None, before: int | None) -> str:
        return find_candles(
            tmp_path,
            ["BTC/USDT"],
            "5m",
            opens_from=None if first is None else START + first * STEP,
            opens_before=None if before is None else START + before * STEP,
        ).fingerprint

    whole, begun, ended, both = fingerprint(None, None), fingerprint(2, None), fingerprint(None, 4), fingerprint(2, 4)
    assert len({whole, begun, ended, both}) == 4
    assert whole == find_candles(tmp_path, ["BTC/USDT"], "5m").fingerprint
