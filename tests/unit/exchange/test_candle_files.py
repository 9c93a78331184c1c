"""Candle files: what is read, and the message for every way in which one can be broken."""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from support.replay import EXAMPLES, HEADER, MARKET_DATA, START, STEP, flat, lines, write_lines
from tradingbot_agents.domain.values import to_millis
from tradingbot_agents.exchange.candle_files import CandleFile, CandleFileInvalid, Gap

GOOD = lines([(100, 110, 90, 105, 7.5), (105, 106, 104, 105, 0), (105, 120, 105, 119, 3)])
T0 = to_millis(START)
MINUTES_5 = 300_000


def bitcoin(path: Path) -> CandleFile:
    return CandleFile(path, "BTC/USDT", "5m")


def written(tmp_path: Path, rows: Sequence[str] = GOOD, header: str = HEADER, name: str = "bars.csv") -> CandleFile:
    return bitcoin(write_lines(tmp_path / name, rows, header))


def refusal(file: CandleFile) -> str:
    """What ``check`` says, without the path."""
    with pytest.raises(CandleFileInvalid) as refused:
        file.check()
    assert refused.value.path == file.path
    return str(refused.value).removeprefix(str(file.path))


@pytest.mark.parametrize("name", ["bars.csv", "bars.csv.gz"])
def test_bars_are_read_exactly(tmp_path: Path, name: str) -> None:
    first, second, third = written(tmp_path, name=name).rows()
    assert (first.symbol, first.timeframe, first.open_time) == ("BTC/USDT", "5m", START)
    assert (first.open, first.high, first.low, first.close) == tuple(map(Decimal, ("100", "110", "90", "105")))
    assert first.volume == Decimal("7.5")
    assert second.open_time == START + STEP
    assert str(third.close) == "119"


def test_a_price_keeps_every_digit(tmp_path: Path) -> None:
    price = "0.123456789012345678901234567"
    (bar,) = written(tmp_path, lines([flat(price)])).rows()
    assert str(bar.close) == price


def test_columns_may_be_in_any_order_with_others_between(tmp_path: Path) -> None:
    header = "volume,close,trades,low,high,open,Timestamp"
    (bar,) = written(tmp_path, [f"7.5,105,12,90,110,100,{T0}"], header).rows()
    assert (bar.open_time, bar.open, bar.low, bar.volume) == (START, 100, 90, Decimal("7.5"))


def test_a_byte_order_mark_windows_line_ends_and_quotes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f'"ts_ms",open,high,low,close,volume\r\n{T0},"1",1,1,1,1\r\n'.encode())
    assert bitcoin(path).check().bars == 1


def test_reading_may_begin_in_the_middle(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert [bar.open_time for bar in file.rows(START + STEP)] == [START + STEP, START + 2 * STEP]
    assert [bar.open_time for bar in file.rows(START + timedelta(microseconds=1))] == [START + STEP, START + 2 * STEP]
    assert list(file.rows(START + 3 * STEP)) == []


def test_a_reader_that_resumes_knows_what_was_before(tmp_path: Path) -> None:
    before, kept, rest = written(tmp_path).resume(START + 2 * STEP, keep=1)
    assert before == 2
    assert [bar.open_time for bar in kept] == [START + STEP]
    assert [bar.open_time for bar in rest] == [START + 2 * STEP]


def test_the_report_counts_bars_and_gaps(tmp_path: Path) -> None:
    rows = [*GOOD[:2], f"{T0 + 5 * MINUTES_5},1,1,1,1,1", f"{T0 + 7 * MINUTES_5},1,1,1,1,1"]
    report = written(tmp_path, rows).check()
    assert (report.symbol, report.name, report.bars) == ("BTC/USDT", "bars.csv", 4)
    assert (report.first_open, report.last_open) == (START, START + 7 * STEP)
    assert (report.gap_count, report.missing_bars) == (2, 4)
    assert report.gaps[0] == Gap(START + STEP, START + 5 * STEP, 3)


def test_a_file_full_of_gaps_keeps_the_count_and_the_first_hundred(tmp_path: Path) -> None:
    report = written(tmp_path, [f"{T0 + 2 * place * MINUTES_5},1,1,1,1,1" for place in range(200)]).check()
    assert (report.gap_count, report.missing_bars, len(report.gaps)) == (199, 199, 100)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            f"{T0 + MINUTES_5},1,1,1,1,1",
            ", line 4: it is a second bar of 2024-03-01T00:05:00+00:00; remove one of the two",
        ),
        (
            f"{T0},1,1,1,1,1",
            ", line 4: its bar of 2024-03-01T00:00:00+00:00 is older than the one before it "
            "(2024-03-01T00:05:00+00:00); sort the file by ts_ms",
        ),
        (
            f"{T0 + 900_001},1,1,1,1,1",
            f", line 4: ts_ms is {T0 + 900_001} (2024-03-01T00:15:00.001000+00:00), which does not lie on the 5m "
            "grid; a bar must open at a multiple of 5m: is the file of another timeframe?",
        ),
        (
            f"{T0 // 1000 + 900},1,1,1,1,1",
            f", line 4: ts_ms is {T0 // 1000 + 900}, which is no time in milliseconds (it looks like seconds); "
            "give the bar's open time in milliseconds since 1970, UTC",
        ),
        (
            f"{T0 * 1000},1,1,1,1,1",
            f", line 4: ts_ms is {T0 * 1000}, which is no time in milliseconds (it looks like micro- or "
            "nanoseconds); give the bar's open time in milliseconds since 1970, UTC",
        ),
        (
            "-300000,1,1,1,1,1",
            ", line 4: ts_ms is -300000, which is no time in milliseconds; "
            "give the bar's open time in milliseconds since 1970, UTC",
        ),
        (
            "2024-03-01,1,1,1,1,1",
            ", line 4: ts_ms is '2024-03-01', not a whole number of milliseconds; correct or remove the line",
        ),
        (f"{T0 + 900_000},1,1,1,1", ", line 4: it has 5 fields, but the header names 6; correct or remove the line"),
        (
            f"{T0 + 900_000},1,1,1,1,1,1",
            ", line 4: it has 7 fields, but the header names 6; correct or remove the line",
        ),
        ("", ", line 4: the line is empty; remove it"),
        (f"{T0 + 900_000},NaN,1,1,1,1", ", line 4: open is NaN, not a number; correct or remove the line"),
        (f"{T0 + 900_000},1,inf,1,1,1", ", line 4: high is Infinity, not a number; correct or remove the line"),
        (f"{T0 + 900_000},1,1,one,1,1", ", line 4: low is 'one', not a number; correct or remove the line"),
        (f"{T0 + 900_000},1,1,1,,1", ", line 4: close is '', not a number; correct or remove the line"),
        (
            f"{T0 + 900_000},1,1,-1,1,1",
            ", line 4: low is -1, but a price must be above zero; correct or remove the line",
        ),
        (
            f"{T0 + 900_000},0,1,0,1,1",
            ", line 4: open is 0, but a price must be above zero; correct or remove the line",
        ),
        (
            f"{T0 + 900_000},1,1,1,1,-2",
            ", line 4: volume is -2, but it must not be negative; correct or remove the line",
        ),
        (f"{T0 + 900_000},1,1,1,1,nan", ", line 4: volume is NaN, not a number; correct or remove the line"),
        (
            f"{T0 + 900_000},5,4,3,3,1",
            ", line 4: high 4 is below another price of the bar; correct or remove the line",
        ),
        (
            f"{T0 + 900_000},5,6,5,4,1",
            ", line 4: low 5 is above another price of the bar; correct or remove the line",
        ),
        (
            f"{T0 + 900_000},1,1e18,1,1,1",
            ", line 4: high is 1e18, which is too large to be true; correct or remove the line",
        ),
        (
            f'{T0 + 900_000},"1,1,1,1,1',
            ", line 4: this is not CSV (unexpected end of data); correct or remove the line",
        ),
    ],
)
def test_a_bad_line_is_named_with_its_remedy(tmp_path: Path, row: str, message: str) -> None:
    assert refusal(written(tmp_path, [*GOOD[:2], row])) == message


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            "ts_ms,open,high,low,close",
            ", line 1: column volume is missing from the header 'ts_ms,open,high,low,close'; "
            "the first line must name the columns ts_ms,open,high,low,close,volume",
        ),
        (
            "1709251200000,1,1,1,1,1",
            ", line 1: column ts_ms, open, high, low, close, volume is missing from the header "
            "'1709251200000,1,1,1,1,1'; the first line must name the columns ts_ms,open,high,low,close,volume",
        ),
        ("ts_ms,open,high,low,close,volume,open", ", line 1: column open appears twice; keep one of them"),
    ],
)
def test_a_bad_header_is_named_with_its_remedy(tmp_path: Path, header: str, message: str) -> None:
    assert refusal(written(tmp_path, GOOD, header)) == message


def test_a_header_without_bars_is_refused(tmp_path: Path) -> None:
    assert refusal(written(tmp_path, [])) == ": it has a header and no bars; give a file with candles"
    with pytest.raises(CandleFileInvalid, match="no bars"):
        written(tmp_path, []).first_open()


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.touch()
    message = ", line 1: the file is empty; its first line must name the columns ts_ms,open,high,low,close,volume"
    assert refusal(bitcoin(path)) == message
    packed = tmp_path / "bars.csv.gz"
    packed.touch()
    assert refusal(bitcoin(packed)) == message


def test_a_file_without_line_ends_is_refused_before_it_is_read_whole(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_text("x" * 1_000_000)
    assert ", line 1: the first line has no end;" in refusal(bitcoin(path))


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    file = bitcoin(tmp_path / "nowhere.csv")
    assert refusal(file) == ": it can not be read (No such file or directory); check the path and its rights"
    with pytest.raises(CandleFileInvalid, match="can not be read"):
        file.digest()


def test_a_cut_off_gzip_is_refused_near_the_line_it_ends_at(tmp_path: Path) -> None:
    file = written(tmp_path, lines([flat(1)] * 50_000), name="bars.csv.gz")
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CandleFileInvalid) as refused:
        file.check()
    assert refused.value.line is not None
    assert 15_000 < refused.value.line < 30_000
    assert refused.value.problem.startswith("the gzip data is cut off or damaged soon after this line")
    assert refused.value.remedy == "copy or download the file again"


def test_a_gzip_that_is_cut_off_at_once_is_refused_at_its_first_line(tmp_path: Path) -> None:
    file = written(tmp_path, lines([flat(1)] * 100), name="bars.csv.gz")
    file.path.write_bytes(file.path.read_bytes()[:40])
    assert refusal(file).startswith(", line 1: the gzip data is cut off or damaged soon after this line")


def test_a_gzip_with_damaged_bytes_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, lines([flat(1)] * 5_000), name="bars.csv.gz")
    broken = bytearray(file.path.read_bytes())
    broken[-8:-4] = b"\0\0\0\0"
    file.path.write_bytes(bytes(broken))
    assert "it is not a gzip file or is damaged (CRC check failed" in refusal(file)


def test_a_file_that_only_claims_to_be_gzip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv.gz"
    path.write_text("\n".join([HEADER, *GOOD]))
    message = refusal(bitcoin(path))
    assert message.startswith(": it is not a gzip file or is damaged (Not a gzipped file")
    assert message.endswith("; download it again, or name it .csv if it is not compressed")


def test_a_gzip_that_does_not_say_so_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(gzip.compress("\n".join([HEADER, *GOOD]).encode()))
    assert refusal(bitcoin(path)) == (
        ", line 1: the text soon after this line is not UTF-8 (invalid start byte); "
        "save the file as UTF-8 CSV; it looks like gzip: name it .csv.gz"
    )


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes("\n".join([HEADER, *GOOD, "é"]).encode("latin-1"))
    assert refusal(bitcoin(path)).endswith("is not UTF-8 (unexpected end of data); save the file as UTF-8 CSV")


def test_a_bad_line_far_down_is_found(tmp_path: Path) -> None:
    rows = lines([flat(1)] * 50_000)
    rows[49_998] = rows[49_998].replace(",1,1,1,1,", ",1,1,1,x,")
    assert refusal(written(tmp_path, rows)).startswith(", line 50000: close is 'x'")


@pytest.mark.parametrize("row", [GOOD[1], GOOD[0], "x,1,1,1,1,1", f"{T0 + 900_000},1,1,1,z,1", f"{T0 + 900_000},1"])
def test_a_file_that_changed_after_its_check_is_noticed_while_it_is_read(tmp_path: Path, row: str) -> None:
    file = written(tmp_path, [*GOOD[:2], row])
    bars = file.rows()
    next(bars)
    next(bars)
    with pytest.raises(CandleFileInvalid, match="line 4"):
        next(bars)


def test_a_timeframe_must_be_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'7m' is not one of 1m, 3m"):
        CandleFile(tmp_path / "bars.csv", "BTC/USDT", "7m")


@pytest.mark.parametrize("symbol", ["BTC", "ETH", "SOL"])
def test_the_quick_starts_candles_are_good(symbol: str) -> None:
    file = CandleFile(EXAMPLES / f"{symbol}_USDT-5m.csv.gz", f"{symbol}/USDT", "5m")
    report = file.check()
    assert (report.bars, report.gap_count) == (21 * 288, 0)
    assert report.first_open == START


def test_the_quick_starts_candles_are_small() -> None:
    assert sum(path.stat().st_size for path in EXAMPLES.iterdir()) < 2_000_000


needs_market_data = pytest.mark.skipif(
    not MARKET_DATA.is_dir(),
    reason=f"whole candle files are not in {MARKET_DATA.name} next to the project (set TRADINGBOT_MARKET_DATA)",
)


@needs_market_data
def test_seven_years_of_bitcoin_have_28_real_gaps() -> None:
    report = CandleFile(MARKET_DATA / "BTC_USDT-1h-2017-2024.csv.gz", "BTC/USDT", "1h").check()
    assert (report.bars, report.gap_count, report.missing_bars) == (58_419, 28, 128)
    assert len(report.gaps) == 28


@needs_market_data
def test_the_whole_files_are_good_and_have_no_gaps() -> None:
    file = CandleFile(MARKET_DATA / "SOL_USDT-1h-2024.csv.gz", "SOL/USDT", "1h")
    report = file.check()
    assert report.gap_count == 0
    assert sum(1 for _ in file.rows()) == report.bars
