"""The paper exchange's books as a document, and as a copy that is taken while they are written."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from support.replay import START, Replay, flat, order
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange import paper_books
from tradingbot_agents.exchange.paper_books import BooksUnreadable, PaperBooks, of_json, statement_of, to_json
from tradingbot_agents.exchange.port import ExchangeOrderState
from tradingbot_agents.exchange.simulated import SimulatedExchange
from tradingbot_agents.exchange.state import ExchangeStateError, StateStore

BTC, ETH = "BTC/USDT", "ETH/USDT"
STEP = timedelta(minutes=5)


@pytest.fixture
def replay(tmp_path: Path) -> Replay:
    return Replay(tmp_path, {BTC: [flat(100)] * 10, ETH: [flat(10)] * 10})


async def traded(replay: Replay) -> SimulatedExchange:
    """Bought in two symbols, a stop that rests, and one that was cancelled."""
    venue = replay.after(1)
    await venue.create_order(order("tb-first", Side.BUY, 1))
    venue = replay.after(2)
    await venue.create_order(order("tb-second", Side.BUY, 2, symbol=ETH))
    await venue.create_order(order("tb-stop", Side.SELL, "0.5", stop=90))
    await venue.create_order(order("tb-low", Side.BUY, 1, limit=80))
    await venue.create_order(order("tb-gone", Side.BUY, 1, limit=70))
    await venue.cancel_order(BTC, "tb-gone")
    return venue


def statement(replay: Replay, asked: list[tuple[str, str]] | None = None, since: timedelta = STEP) -> PaperBooks:
    with StateStore.copied(replay.directory / "state") as store:
        return statement_of(store, since=START + since, orders=asked or [], at=START)


async def test_it_says_what_the_exchange_itself_says(replay: Replay) -> None:
    venue = await traded(replay)
    told = statement(replay)
    assert told.balances == await venue.balances()
    assert told.balances["BTC"].used == Decimal("0.5")
    assert told.balances["USDT"].used == 80
    assert list(told.open_orders) == await venue.open_orders()
    assert list(told.trades) == venue.all_trades()
    assert (told.trades_since, told.account, told.looked_up) == (START + STEP, "", {})


async def test_trades_begin_where_they_are_wanted_from(replay: Replay) -> None:
    await traded(replay)
    assert [trade.symbol for trade in statement(replay, since=2 * STEP).trades] == [ETH]
    assert statement(replay, since=3 * STEP).trades == ()


async def test_orders_that_are_not_open_are_looked_up_and_others_are_not(replay: Replay) -> None:
    await traded(replay)
    asked = [(BTC, "tb-first"), (BTC, "tb-gone"), (BTC, "tb-stop"), (BTC, "tb-never"), (ETH, "tb-first")]
    found = statement(replay, asked[:4]).looked_up
    assert {name: order and order.state for name, order in found.items()} == {
        "tb-first": ExchangeOrderState.CLOSED,
        "tb-gone": ExchangeOrderState.CANCELLED,
        "tb-never": None,
    }
    assert statement(replay, asked[4:]).looked_up == {"tb-first": None}, "not of that symbol"


async def test_it_is_bounded_and_says_from_when_on(replay: Replay, monkeypatch: pytest.MonkeyPatch) -> None:
    await traded(replay)
    monkeypatch.setattr(paper_books, "MOST_TRADES", 1)
    told = statement(replay)
    assert [trade.symbol for trade in told.trades] == [ETH]
    assert told.trades_since == START + STEP + timedelta(microseconds=1)


async def test_numbers_are_text_and_come_back_as_they_were(replay: Replay) -> None:
    await traded(replay)
    told = statement(replay, [(BTC, "tb-first"), (BTC, "tb-never")])
    data = to_json(told)
    assert of_json(data) == told
    document = msgspec.json.decode(data)
    assert document["version"] == 1
    assert document["trades"][0]["price"] == "100"
    assert document["balances"]["BTC"]["used"] == "0.5"


def test_what_is_no_such_document_is_refused() -> None:
    with pytest.raises(BooksUnreadable, match="of version 2, but this release reads 1"):
        of_json(b'{"version": 2, "holdings": []}')
    for data in (b"", b"not found\n", b'{"version": 1}', b"\xff", b"[]"):
        with pytest.raises(BooksUnreadable, match="not understood"):
            of_json(data)


# ------------------------------------------------------------------------------------------------------- the copy


async def test_a_copy_has_the_place_in_the_candles_and_leaves_all_as_it_was(replay: Replay) -> None:
    await traded(replay)
    replay.exchange.close()
    state = replay.directory / "state"
    before = {path.name: path.read_bytes() for path in state.iterdir()}
    with StateStore.copied(state) as store:
        assert store.place() == START + 2 * STEP
        assert len(store.all_trades()) == 2
    assert {path.name: path.read_bytes() for path in state.iterdir()} == before


def test_without_books_there_is_no_copy(tmp_path: Path) -> None:
    with pytest.raises(ExchangeStateError, match="there are no books"), StateStore.copied(tmp_path):
        pass
    (tmp_path / "books.sqlite").write_bytes(b"nonsense" * 1000)
    with pytest.raises(ExchangeStateError), StateStore.copied(tmp_path):
        pass


@pytest.mark.parametrize("times", [1, 3, 100])
def test_a_copy_is_taken_anew_when_the_books_were_written_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    state = tmp_path / "state"
    StateStore(state).create({}, {"USDT": Decimal(1)})
    copy = shutil.copyfile
    written = 0

    def disturbed(source: Path, target: Path) -> object:
        nonlocal written
        done = copy(source, target)
        if source.name == "books.sqlite" and written < times:
            written += 1
            store = StateStore(state)
            store.open()
            store.write(totals={"USDT": Decimal(written)}, orders=[], trades=[], taken={}, facts={})
            # What was in the log goes into the books.
            store.close()
        return done

    monkeypatch.setattr(shutil, "copyfile", disturbed)
    if times == 100:
        with pytest.raises(ExchangeStateError, match="faster than they can be copied"), StateStore.copied(state):
            pass
        return
    with StateStore.copied(state) as store:
        assert store.totals() == {"USDT": Decimal(times)}


WRITER = """
import sys
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

from tradingbot_agents.domain.values import OrderType, Side, TimeInForce
from tradingbot_agents.exchange.books import BookOrder
from tradingbot_agents.exchange.state import StateStore

AT = datetime(2024, 3, 1, tzinfo=UTC)
store = StateStore(Path(sys.argv[1]))
store.create({}, {"USDT": Decimal(0)})
store.open()
# Without it a disk would be waited for, and little be written.
store._connection.execute("PRAGMA synchronous = OFF")
store._connection.execute("PRAGMA wal_autocheckpoint = 100")
number = 0
while True:
    number += 1
    orders = [
        BookOrder(id=each, client_order_id=f"tb{each}", symbol="BTC/USDT", side=Side.BUY, type=OrderType.LIMIT,
                  time_in_force=TimeInForce.GTC, amount=Decimal(1), limit_price=Decimal(1), stop_price=None, at=AT,
                  filled=Decimal(number))
        for each in range(1, 101)
    ]
    store.write(totals={"USDT": Decimal(number)}, orders=orders, trades=[], taken={}, facts={"n": str(number)})
    if number == 50:
        print("writes", flush=True)
"""


@pytest.fixture
def written(tmp_path: Path) -> Iterator[Path]:
    """Books that another process writes all the time, and whose log it begins anew all the time."""
    folder = tmp_path / "state"
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writes\n"
        yield folder
    finally:
        writer.kill()
        writer.communicate()


def test_a_copy_beside_a_process_that_writes_is_whole(written: Path) -> None:
    with pytest.raises(ExchangeStateError, match="another process has"):
        StateStore(written).open()
    seen: list[int] = []
    while len(seen) < 100:
        with StateStore.copied(written) as store:
            number = store.totals()["USDT"]
            assert {order.filled for order in store.open_orders()} == {number}
            assert store.facts()["n"] == str(number)
            seen.append(int(number))
    assert seen == sorted(seen)
    assert seen[-1] > seen[0], "it went on meanwhile"
