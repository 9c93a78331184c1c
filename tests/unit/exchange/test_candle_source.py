"""Which files a source means, its fingerprint, and the merge by time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from support.replay import START, STEP, flat, write_bars
from tradingbot_agents.exchange.candle_files import CandleFile, CandleFileInvalid
from tradingbot_agents.exchange.candle_source import CandleSource, CandleSourceError, find_candles, merged


def refusal(source: Path, symbols: list[str], timeframe: str = "5m") -> str:
    with pytest.raises(CandleSourceError) as refused:
        find_candles(source, symbols, timeframe)
    return str(refused.value).removeprefix(str(source))


def touch(directory: Path, *names: str) -> None:
    for name in names:
        (directory / name).touch()


@pytest.mark.parametrize("name", ["BTC_USDT-5m.csv", "BTC_USDT-5m.csv.gz", "BTC_USDT-5m-2024.csv.gz"])
def test_a_directory_is_searched_by_name(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name, "BTC_USDT-1h.csv", "BTC_USDC-5m.csv", "WBTC_USDT-5m.csv", "README.md", "notes-5m.csv")
    source = find_candles(tmp_path, ["BTC/USDT"], "5m")
    assert [file.path.name for file in source.files] == [name]
    assert (source.symbols, source.timeframe) == (("BTC/USDT",), "5m")


def test_files_stand_in_the_order_of_the_symbols(tmp_path: Path) -> None:
    touch(tmp_path, "BTC_USDT-5m.csv", "ETH_USDT-5m.csv")
    assert find_candles(tmp_path, ["ETH/USDT", "BTC/USDT"], "5m").symbols == ("ETH/USDT", "BTC/USDT")


def test_every_missing_or_doubtful_file_is_named_at_once(tmp_path: Path) -> None:
    touch(tmp_path, "BTC_USDT-1h-2017-2024.csv.gz", "BTC_USDT-1h-2024.csv.gz", "ETH_USDT-5m.csv")
    assert refusal(tmp_path, ["BTC/USDT", "ETH/USDT"], "1h") == (
        ": 2 files could be BTC/USDT 1h: BTC_USDT-1h-2017-2024.csv.gz, BTC_USDT-1h-2024.csv.gz (for one symbol, name "
        "the file itself instead of the directory; otherwise move the others away); no file is ETH/USDT 1h: it would "
        "be called ETH_USDT-1h.csv.gz, but the directory holds BTC_USDT-1h-2017-2024.csv.gz, "
        "BTC_USDT-1h-2024.csv.gz, ETH_USDT-5m.csv"
    )


def test_an_empty_directory_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path, ["BTC/USDT"]).endswith("but the directory holds no candle file at all")


def test_a_place_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere", ["BTC/USDT"]).startswith(": there is no such file or directory")


def test_one_file_may_be_named_for_one_symbol(tmp_path: Path) -> None:
    touch(tmp_path, "BTC_USDT-1h-2024.csv", "my bars.csv")
    assert find_candles(tmp_path / "BTC_USDT-1h-2024.csv", ["BTC/USDT"], "1h").symbols == ("BTC/USDT",)
    assert find_candles(tmp_path / "my bars.csv", ["BTC/USDT"], "1h").files[0].timeframe == "1h"


def test_one_file_is_not_enough_for_two_symbols(tmp_path: Path) -> None:
    touch(tmp_path, "BTC_USDT-5m.csv")
    assert refusal(tmp_path / "BTC_USDT-5m.csv", ["BTC/USDT", "ETH/USDT"]) == (
        " is one file, but the candles of 2 symbols are wanted (BTC/USDT, ETH/USDT); "
        "name a directory with a file for each"
    )


@pytest.mark.parametrize(("symbol", "timeframe"), [("ETH/USDT", "5m"), ("BTC/USDT", "1h")])
def test_a_file_of_another_symbol_or_timeframe_is_refused(tmp_path: Path, symbol: str, timeframe: str) -> None:
    touch(tmp_path, "BTC_USDT-5m.csv")
    assert refusal(tmp_path / "BTC_USDT-5m.csv", [symbol], timeframe) == (
        f" is by its name BTC/USDT 5m, but {symbol} {timeframe} is wanted; "
        "name another file, or change symbols or timeframe"
    )


def test_a_source_has_at_least_one_symbol_and_one_timeframe(tmp_path: Path) -> None:
    with pytest.raises(CandleSourceError, match="no symbol"):
        CandleSource([])
    with pytest.raises(CandleSourceError, match="several timeframes: 1h, 5m"):
        CandleSource([CandleFile(tmp_path, "BTC/USDT", "5m"), CandleFile(tmp_path, "ETH/USDT", "1h")])


def test_the_fingerprint_is_of_the_bytes_and_not_of_the_name(tmp_path: Path) -> None:
    path = write_bars(tmp_path, "BTC/USDT", [flat(1), flat(2)])
    first = CandleSource([CandleFile(path, "BTC/USDT", "5m")]).fingerprint
    moved = path.rename(tmp_path / "moved.csv")
    assert CandleSource([CandleFile(moved, "BTC/USDT", "5m")]).fingerprint == first
    assert CandleSource([CandleFile(moved, "BTC/USDC", "5m")]).fingerprint != first
    moved.write_bytes(moved.read_bytes().replace(b",2,2,2,2,", b",2,3,2,2,"))
    assert CandleSource([CandleFile(moved, "BTC/USDT", "5m")]).fingerprint != first


def test_a_source_begins_with_its_earliest_bar(tmp_path: Path) -> None:
    write_bars(tmp_path, "BTC/USDT", [flat(1)], START + STEP)
    write_bars(tmp_path, "ETH/USDT", [flat(1)])
    source = find_candles(tmp_path, ["BTC/USDT", "ETH/USDT"], "5m")
    assert source.start_time == START
    source.check()
    assert source.start_time == START


def test_a_check_goes_over_every_file_and_only_once(tmp_path: Path) -> None:
    write_bars(tmp_path, "BTC/USDT", [flat(1), flat(1)])
    bad = write_bars(tmp_path, "ETH/USDT", [flat(1), flat("x")])
    with pytest.raises(CandleFileInvalid, match="line 3"):
        find_candles(tmp_path, ["BTC/USDT", "ETH/USDT"], "5m").check()
    source = find_candles(tmp_path, ["BTC/USDT"], "5m")
    reports = source.check()
    bad.with_name("BTC_USDT-5m.csv").write_text("")
    assert source.check() == reports


def test_bars_are_merged_by_their_close(tmp_path: Path) -> None:
    write_bars(tmp_path, "BTC/USDT", [flat(1), flat(2), flat(3)])
    write_bars(tmp_path, "ETH/USDT", [flat(10), flat(20)], START + STEP)
    write_bars(tmp_path, "SOL/USDT", [flat(100)], START + 5 * STEP)
    source = find_candles(tmp_path, ["SOL/USDT", "ETH/USDT", "BTC/USDT"], "5m")
    ticks = list(merged([file.rows() for file in source.files], "5m"))
    assert [(tick.close_time - START) // timedelta(minutes=5) for tick in ticks] == [1, 2, 3, 6]
    assert [[bar.symbol for bar in tick.candles] for tick in ticks] == [
        ["BTC/USDT"],
        ["ETH/USDT", "BTC/USDT"],
        ["ETH/USDT", "BTC/USDT"],
        ["SOL/USDT"],
    ]
    assert all(bar.close_time == tick.close_time for tick in ticks for bar in tick.candles)
