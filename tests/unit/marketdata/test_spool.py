"""The spool: order, bound, and what a kill leaves."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.messages import a_candle, a_ticker
from tradingbot_agents.marketdata.spool import Spool

CANDLES = [a_candle(index) for index in range(6)]


def test_what_is_kept_is_there_again_in_order(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "new", 100)
    assert spool.append(CANDLES[:2]) == spool.append(CANDLES[2:]) == 0
    again = Spool(tmp_path / "new", 100)
    assert len(again) == 6
    assert again.first(100) == CANDLES
    assert again.first(2) == CANDLES[:2]


def test_what_is_delivered_is_gone_for_good(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    spool.append(CANDLES)
    spool.delivered(4)
    assert spool.first(100) == Spool(tmp_path, 100).first(100) == CANDLES[4:]
    spool.delivered(2)
    assert len(Spool(tmp_path, 100)) == 0


def test_the_oldest_go_when_it_is_full(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 4)
    assert [spool.append(CANDLES[:3]), spool.append(CANDLES[3:])] == [0, 2]
    assert spool.first(100) == Spool(tmp_path, 4).first(100) == CANDLES[2:]
    assert Spool(tmp_path, 2).first(100) == CANDLES[4:]


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_that_a_kill_cut_off_harms_no_other(tmp_path: Path, cut: int) -> None:
    spool = Spool(tmp_path, 100)
    spool.append(CANDLES[:3])
    [file] = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:-cut])
    again = Spool(tmp_path, 100)
    whole = 3 if cut == 1 else 2
    assert again.first(100) == CANDLES[:whole]
    again.append(CANDLES[3:])
    assert Spool(tmp_path, 100).first(100) == [*CANDLES[:whole], *CANDLES[3:]]


def test_what_can_not_be_written_is_in_memory_and_written_later(tmp_path: Path) -> None:
    spool = Spool(tmp_path, 100)
    spool.append(CANDLES[:2])
    [file] = tmp_path.iterdir()
    kept = tmp_path / "kept"
    file.rename(kept)
    file.symlink_to("/dev/full")
    assert spool.append(CANDLES[2:4]) == 0
    assert spool.problem == "No space left on device"
    assert spool.first(100) == CANDLES[:4]
    file.unlink()
    # A disk that is full may take half a line.
    file.write_bytes(kept.read_bytes() + b'{"symbol":"BTC/')
    spool.append(CANDLES[4:])
    assert spool.problem is None
    assert spool.first(100) == Spool(tmp_path, 100).first(100) == CANDLES


def test_a_spool_must_keep_something(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 candle"):
        Spool(tmp_path, 0)


def test_candles_and_tickers_wait_in_one_line_over_a_restart(tmp_path: Path) -> None:
    kept = [a_candle(0), a_ticker(), a_candle(1), a_ticker("ETH/USDT", seconds=9, last="3000.10")]
    Spool(tmp_path, 10).append(kept)
    assert Spool(tmp_path, 10).first(10) == kept
