"""What a kill leaves behind is what the exchange goes on with: books, place, randomness, identity.

A kill is played by copying the state directory while it is open: what the process had handed to the system at that
moment is in the copy, and nothing else. One test kills a real process.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from support.replay import SETTINGS, START, STEP, Replay, flat, order, write_bars
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.candle_source import find_candles
from tradingbot_agents.exchange.market_rules import load_market_rules
from tradingbot_agents.exchange.port import ExchangeOrderState
from tradingbot_agents.exchange.simulated import SimulatedExchange
from tradingbot_agents.exchange.state import ExchangeStateError, StateStore

BUY, SELL = Side.BUY, Side.SELL
BARS = [flat(100, 10), flat(101, 10), (99, 99, 90, 95, 10), flat(96, 10), flat(97, 10)]


def replay(tmp_path: Path, **settings: object) -> Replay:
    return Replay(tmp_path, {"BTC/USDT": BARS}, **{"slippage": Decimal("0.01"), **settings})


async def test_books_and_place_are_there_again(tmp_path: Path) -> None:
    first = replay(tmp_path)
    exchange = first.after(2)
    await exchange.create_order(order("done", BUY, 1))
    await exchange.create_order(order("open", BUY, 2, limit=97))
    await exchange.create_order(order("stop", SELL, "0.5", stop=95))
    again = first.killed("killed").exchange
    assert again.place == START + 2 * STEP
    assert again.next_close() == START + 3 * STEP
    assert again.progress == (2, 5)
    assert await again.balances() == await exchange.balances()
    assert await again.open_orders() == await exchange.open_orders()
    assert again.all_trades() == exchange.all_trades()
    assert await again.order_by_client_id("BTC/USDT", "done") == await exchange.order_by_client_id("BTC/USDT", "done")
    assert await again.candles("BTC/USDT", "5m") == await exchange.candles("BTC/USDT", "5m")
    assert await again.ticker("BTC/USDT") == await exchange.ticker("BTC/USDT")


async def test_all_bars_played_is_not_finished(tmp_path: Path) -> None:
    first = replay(tmp_path)
    exchange = first.after(5)
    assert await exchange.candles("BTC/USDT", "5m")
    assert exchange.next_close() is None
    killed = first.killed("killed").exchange
    assert killed.next_close() is None
    assert not killed.finished
    exchange.finish()
    assert exchange.finished
    assert first.killed("killed later").exchange.finished


async def test_ids_go_on_and_slippage_is_drawn_as_if_nothing_had_happened(tmp_path: Path) -> None:
    first = replay(tmp_path)
    await first.after(2).create_order(order("a", BUY, 1))
    second = first.killed("killed")
    assert await first.exchange.create_order(order("b", BUY, 1)) == await second.exchange.create_order(
        order("b", BUY, 1)
    )
    assert first.exchange.all_trades() == second.exchange.all_trades()
    assert [trade.exchange_trade_id for trade in second.exchange.all_trades()] == ["1", "2"]


async def test_what_was_taken_of_a_bar_stays_taken(tmp_path: Path) -> None:
    first = replay(tmp_path, participation=Decimal("0.5"))
    await first.after(2).create_order(order("a", BUY, 3))
    second = first.killed("killed")
    assert (await second.exchange.create_order(order("b", BUY, 3))).filled == 2


async def test_a_kill_after_a_bar_has_filled_orders_does_not_fill_them_twice(tmp_path: Path) -> None:
    """The kill falls between the transaction with the fills and the write of the place."""
    first = replay(tmp_path, participation=Decimal("0.1"))
    await first.after(2).create_order(order("a", BUY, 3, limit=97))
    place = (tmp_path / "state" / "place").read_bytes()
    await first.after(3).balances()
    (tmp_path / "state" / "place").write_bytes(place)
    second = first.killed("killed")
    assert second.exchange.place == START + 3 * STEP
    found = await second.exchange.order_by_client_id("BTC/USDT", "a")
    assert found is not None
    assert found.filled == 1
    assert len(second.exchange.all_trades()) == 1


async def test_a_place_that_was_never_written_or_is_damaged_is_the_start_or_the_last_fill(tmp_path: Path) -> None:
    first = replay(tmp_path)
    assert first.exchange.place == START
    await first.after(2).balances()
    (tmp_path / "state" / "place").write_bytes(b"\xff\x00")
    assert first.killed("killed").exchange.place == START


async def test_an_order_that_was_accepted_without_a_reply_is_found(tmp_path: Path) -> None:
    first = replay(tmp_path)
    await first.after(1).create_order(order("a", BUY, 1, limit=90))
    found = await first.killed("killed").exchange.order_by_client_id("BTC/USDT", "a")
    assert found is not None
    assert found.state is ExchangeOrderState.OPEN


async def test_a_killed_replay_ends_as_an_undisturbed_one(tmp_path: Path) -> None:
    async def act(step: int, exchange: SimulatedExchange) -> None:
        if step == 1:
            await exchange.create_order(order("a", BUY, 2))
        if step == 2:
            await exchange.create_order(order("b", SELL, 1, stop=98))
            await exchange.create_order(order("c", BUY, 1, limit=95))
        if step == 4:
            await exchange.create_order(order("d", SELL, "0.5"))

    whole, cut = tmp_path / "whole", tmp_path / "cut"
    whole.mkdir()
    cut.mkdir()
    undisturbed, disturbed = replay(whole), replay(cut)
    for step in range(1, 6):
        await act(step, undisturbed.after(step))
        disturbed = disturbed.killed(f"{step}")
        await act(step, disturbed.after(step))
    assert disturbed.exchange.all_trades() == undisturbed.exchange.all_trades()
    assert len(undisturbed.exchange.all_trades()) == 4
    assert await disturbed.exchange.balances() == await undisturbed.exchange.balances()


async def test_a_finished_replay_opens_again(tmp_path: Path) -> None:
    first = replay(tmp_path)
    await first.after(9).balances()
    again = first.reopen()
    assert (again.next_close(), again.progress) == (None, (5, 5))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"seed": 2}, "belongs to a run with other seed (1, now 2); start with the same seed, or use another"),
        ({"bars": [flat(1)]}, "belongs to a run with other candles ("),
        ({"balances": {"USDT": Decimal(5)}}, "belongs to a run with other opening balances ("),
    ],
)
async def test_the_state_of_another_run_is_refused(tmp_path: Path, change: dict[str, object], what: str) -> None:
    first = replay(tmp_path)
    first.exchange.close()
    first.seed = change.get("seed", 1)  # type: ignore[assignment]
    if "bars" in change:
        write_bars(tmp_path / "candles", "BTC/USDT", change["bars"])  # type: ignore[arg-type]
    if "balances" in change:
        first.settings = msgspec.structs.replace(first.settings, initial_balances=change["balances"])
    with pytest.raises(ExchangeStateError) as refused:
        first.open()
    assert what in str(refused.value)


async def test_a_restart_does_not_read_the_candles_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = replay(tmp_path)
    reports = first.exchange.reports

    def must_not_run(file: object) -> None:
        raise AssertionError("the files were checked again")

    monkeypatch.setattr("tradingbot_agents.exchange.candle_files.CandleFile.check", must_not_run)
    assert first.reopen().reports == reports


async def test_two_processes_can_not_have_it_at_once(tmp_path: Path) -> None:
    first = replay(tmp_path)
    await first.after(1).create_order(order("a", BUY, 1))
    with pytest.raises(ExchangeStateError, match="another process has this simulated exchange open"):
        first.open()


async def test_a_closed_exchange_says_so(tmp_path: Path) -> None:
    first = replay(tmp_path)
    exchange = first.after(1)
    await exchange.balances()
    exchange.close()
    exchange.close()
    with pytest.raises(ExchangeStateError, match="is closed"):
        await exchange.create_order(order("a", BUY, 1))


async def test_a_write_that_fails_stops_the_exchange_and_loses_nothing(tmp_path: Path) -> None:
    first = replay(tmp_path)
    exchange = first.after(1)
    await exchange.create_order(order("a", BUY, 1))
    before = exchange.all_trades()
    connection = exchange._store._connection
    assert connection is not None
    (pages,) = connection.execute("PRAGMA page_count").fetchone()
    connection.execute(f"PRAGMA max_page_count = {pages}")  # a full disk, as SQLite sees it

    async def fill_the_disk() -> None:
        for number in range(2000):
            await exchange.create_order(order(f"b{number}", BUY, "0.06", limit=90))

    with pytest.raises(ExchangeStateError, match="make room on the disk and start again"):
        await fill_the_disk()
    with pytest.raises(ExchangeStateError, match="make room"):
        await exchange.balances()
    again = first.reopen()
    assert again.all_trades() == before
    balances = await again.balances()
    assert balances["USDT"].used == sum(
        (o.amount * o.limit_price for o in await again.open_orders() if o.limit_price), Decimal(0)
    )


def test_a_directory_that_can_not_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(ExchangeStateError, match="can not be written"):
        replay(tmp_path)


def test_a_run_that_was_killed_while_it_began_begins_again(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "books.sqlite.new").write_bytes(b"half a data base")
    assert replay(tmp_path).exchange.progress == (0, 5)


def test_a_damaged_or_foreign_state_is_said(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "books.sqlite").write_bytes(b"no data base" * 1000)
    with pytest.raises(ExchangeStateError, match="can not be opened"):
        replay(tmp_path)


def test_the_state_of_another_version_is_said(tmp_path: Path) -> None:
    first = replay(tmp_path)
    connection = first.exchange._store._connection
    assert connection is not None
    connection.execute("UPDATE facts SET value = '99' WHERE name = 'format'")
    with pytest.raises(ExchangeStateError, match="its format is 99, but this version reads 1"):
        first.reopen()


_TRADER = """
import asyncio, sys
from pathlib import Path
from support.replay import Replay, flat, order
from tradingbot_agents.domain.values import Side

async def main():
    replay = Replay(Path(sys.argv[1]), {"BTC/USDT": [flat(100, 1000)] * 50})
    for number in range(1000):
        exchange = replay.after(1 + number // 20)
        await exchange.create_order(order(f"n{number}", Side.BUY, "0.06"))
        print(number, flush=True)

asyncio.run(main())
"""


def told_before_the_kill(tmp_path: Path) -> list[int]:
    """The numbers of the orders that a real process had made before it was killed."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", _TRADER, str(tmp_path)], stdout=subprocess.PIPE, env=environment
    ) as process:
        assert process.stdout is not None
        told = [int(process.stdout.readline()) for _ in range(90)]
        process.send_signal(signal.SIGKILL)
        return told + [int(line) for line in process.stdout.read().splitlines() if line]


async def test_whatever_a_killed_process_was_told_is_still_true(tmp_path: Path) -> None:
    told = told_before_the_kill(tmp_path)
    clock = VirtualClock(START)
    exchange = SimulatedExchange.open(
        tmp_path / "state",
        source=find_candles(tmp_path / "candles", ["BTC/USDT"], "5m"),
        rules=load_market_rules(),
        clock=clock,
        seed=1,
        settings=SETTINGS,
    )
    for number in told:
        found = await exchange.order_by_client_id("BTC/USDT", f"n{number}")
        assert found is not None
        assert found.filled == Decimal("0.06")
    trades = exchange.all_trades()
    assert len(told) <= len(trades) <= len(told) + 1
    assert exchange.place >= START + (1 + told[-1] // 20) * STEP
    spent = sum((trade.price * trade.amount for trade in trades), Decimal(0))
    assert (await exchange.balances())["USDT"].total == Decimal(10000) - spent
    exchange.close()


def test_writing_the_place_is_cheap(tmp_path: Path) -> None:
    """It happens for every bar: no file grows, no transaction is made."""
    store = StateStore(tmp_path)
    store.create({}, {})
    store.open()
    for number in range(1000):
        store.write_place(START + number * timedelta(seconds=1))
    assert (tmp_path / "place").stat().st_size == 20
    assert store.place() == START + timedelta(seconds=999)
    store.close()
