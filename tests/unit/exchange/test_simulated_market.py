"""What the simulated exchange shows of the market, and when: closed bars only, the last price, limits, its place."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from support.replay import EXAMPLES, SETTINGS, START, STEP, Replay, flat, order, write_bars
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.candle_files import CandleFileInvalid
from tradingbot_agents.exchange.candle_source import find_candles
from tradingbot_agents.exchange.market_rules import NoMarketRules, load_market_rules
from tradingbot_agents.exchange.port import ExchangeError, RateLimited
from tradingbot_agents.exchange.simulated import SimulatedExchange


def closes(bars: list[Candle]) -> list[int]:
    return [int(bar.close) for bar in bars]


def ten(tmp_path: Path, **settings: object) -> Replay:
    """Ten bars that close at 1, 2, … 10."""
    return Replay(tmp_path, {"BTC/USDT": [flat(price) for price in range(1, 11)]}, **settings)


async def test_a_bar_is_visible_when_it_has_closed_and_not_before(tmp_path: Path) -> None:
    replay = ten(tmp_path)
    replay.clock.advance_to(START + STEP - timedelta(microseconds=1))
    assert await replay.exchange.candles("BTC/USDT", "5m") == []
    assert closes(await replay.after(1).candles("BTC/USDT", "5m")) == [1]
    assert closes(await replay.after(4).candles("BTC/USDT", "5m")) == [1, 2, 3, 4]


@pytest.mark.parametrize("history", [1, 2, 3, 100])
async def test_bars_are_found_whether_in_memory_or_not(tmp_path: Path, history: int) -> None:
    exchange = ten(tmp_path, history=history).after(8)
    assert closes(await exchange.candles("BTC/USDT", "5m", None, 3)) == [6, 7, 8]
    assert closes(await exchange.candles("BTC/USDT", "5m", None, 500)) == [1, 2, 3, 4, 5, 6, 7, 8]
    assert closes(await exchange.candles("BTC/USDT", "5m", START, 2)) == [1, 2]
    assert closes(await exchange.candles("BTC/USDT", "5m", START + STEP, 500)) == [2, 3, 4, 5, 6, 7, 8]
    assert closes(await exchange.candles("BTC/USDT", "5m", START + timedelta(seconds=1), 1)) == [2]
    assert closes(await exchange.candles("BTC/USDT", "5m", START + 7 * STEP, 500)) == [8]
    assert await exchange.candles("BTC/USDT", "5m", START + 8 * STEP, 500) == []


async def test_what_is_asked_wrongly_is_said(tmp_path: Path) -> None:
    exchange = ten(tmp_path).after(1)
    with pytest.raises(ExchangeError, match="ETH/USDT is not listed here; there are BTC/USDT"):
        await exchange.candles("ETH/USDT", "5m")
    with pytest.raises(ExchangeError, match="are 5m, not 1h"):
        await exchange.candles("BTC/USDT", "1h")
    with pytest.raises(ExchangeError, match="limit is 0"):
        await exchange.candles("BTC/USDT", "5m", None, 0)
    with pytest.raises(ExchangeError, match="ETH/USDT is not listed"):
        await exchange.ticker("ETH/USDT")
    with pytest.raises(ExchangeError, match="ETH/USDT is not listed"):
        await exchange.market_rules(["BTC/USDT", "ETH/USDT"])
    with pytest.raises(ExchangeError, match="'x' is no order id"):
        await exchange.trades_of_order("BTC/USDT", "x")


async def test_the_last_price_is_the_last_close_and_as_old_as_it_is(tmp_path: Path) -> None:
    replay = ten(tmp_path)
    replay.clock.advance_to(START + 3 * STEP + timedelta(minutes=4))
    ticker = await replay.exchange.ticker("BTC/USDT")
    assert (ticker.symbol, ticker.last, ticker.at) == ("BTC/USDT", 3, START + 3 * STEP)


async def test_the_replay_knows_its_place(tmp_path: Path) -> None:
    replay = Replay(tmp_path, {"BTC/USDT": [flat(1)] * 3, "ETH/USDT": [flat(1)] * 2})
    exchange = replay.exchange
    assert (exchange.start_time, exchange.place, exchange.next_close()) == (START, START, START + STEP)
    assert exchange.progress == (0, 5)
    await replay.after(2).balances()
    assert (exchange.place, exchange.next_close(), exchange.progress) == (START + 2 * STEP, START + 3 * STEP, (4, 5))
    await replay.after(9).balances()
    assert (exchange.place, exchange.next_close(), exchange.progress) == (START + 3 * STEP, None, (5, 5))
    assert [report.bars for report in exchange.reports] == [3, 2]


async def test_a_symbol_whose_candles_end_keeps_its_last_price(tmp_path: Path) -> None:
    exchange = Replay(tmp_path, {"BTC/USDT": [flat(1)] * 3, "ETH/USDT": [flat(7)]}).after(3)
    ticker = await exchange.ticker("ETH/USDT")
    assert (ticker.last, ticker.at) == (7, START + STEP)


async def test_more_calls_than_the_limit_are_refused_until_the_window_ends(tmp_path: Path) -> None:
    replay = ten(tmp_path, rate_limit=2, rate_window=timedelta(minutes=1))
    replay.clock.advance_to(START + STEP + timedelta(seconds=50))
    await replay.exchange.balances()
    await replay.exchange.ticker("BTC/USDT")
    with pytest.raises(RateLimited) as refused:
        await replay.exchange.create_order(order("a", Side.BUY, 1))
    assert refused.value.retry_after == timedelta(seconds=10)
    assert replay.exchange.all_trades() == []
    replay.clock.advance_to(START + STEP + timedelta(seconds=60))
    await replay.exchange.balances()


async def test_long_pauses_play_every_bar_in_order(tmp_path: Path) -> None:
    """A stop that three bars pass triggers in the first of them, not in the last."""
    bars = [flat(100), (99, 99, 94, 96, 10), (50, 50, 40, 40, 10), flat(10)]
    replay = Replay(tmp_path, {"BTC/USDT": bars}, initial_balances={"BTC": Decimal(1)})
    await replay.after(1).create_order(order("a", Side.SELL, 1, stop=95))
    await replay.after(4).balances()
    (trade,) = replay.exchange.all_trades()
    assert (trade.price, trade.at) == (95, START + 2 * STEP)


def test_symbols_without_rules_are_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoMarketRules, match="FOO/USDT"):
        Replay(tmp_path, {"FOO/USDT": [flat(1)]})
    assert not (tmp_path / "state").exists()


def test_a_bad_candle_far_down_stops_the_run_before_anything_is_written(tmp_path: Path) -> None:
    bars = [flat(1)] * 400 + [flat("NaN")]
    with pytest.raises(CandleFileInvalid, match=r"BTC_USDT-5m\.csv, line 402: open is NaN"):
        Replay(tmp_path, {"ETH/USDT": [flat(1)], "BTC/USDT": bars})
    assert not (tmp_path / "state").exists()


async def test_candles_that_change_while_they_are_played_end_the_run(tmp_path: Path) -> None:
    """The stream that broke must not look like the end of the candles."""
    replay = Replay(tmp_path, {"BTC/USDT": [flat(1)] * 20_000})
    await replay.after(1).balances()
    path = write_bars(tmp_path / "candles", "BTC/USDT", [flat(1)] * 19_000)
    path.write_text(path.read_text() + "x\n" + "1,2,3,4,5,6\n" * 2000)
    for _ in range(2):
        with pytest.raises(CandleFileInvalid):
            await replay.after(19_999).balances()


async def test_the_quick_starts_candles_play_through(tmp_path: Path) -> None:
    source = find_candles(EXAMPLES, ["BTC/USDT", "ETH/USDT", "SOL/USDT"], "5m")
    clock = VirtualClock(source.start_time)
    exchange = SimulatedExchange.open(
        tmp_path / "state", source=source, rules=load_market_rules(), clock=clock, seed=1, settings=SETTINGS
    )
    seen = 0
    while (close := exchange.next_close()) is not None:
        clock.advance_to(close)
        for symbol in source.symbols:
            seen += len(await exchange.candles(symbol, "5m", close - STEP))
    assert exchange.progress == (seen, seen)
    assert seen == 3 * 21 * 288
    exchange.close()


async def test_what_the_live_view_reads_costs_no_call(tmp_path: Path) -> None:
    replay = ten(tmp_path, rate_limit=1)
    exchange = replay.exchange
    assert (exchange.last_price("BTC/USDT"), exchange.end_time) == (None, START + 10 * STEP)
    await replay.after(3).balances()
    assert (exchange.last_price("BTC/USDT"), exchange.opening_price("BTC/USDT")) == (3, 1)
    assert exchange.opening_price("ETH/USDT") is None
    assert list(exchange.rules) == ["BTC/USDT"]
