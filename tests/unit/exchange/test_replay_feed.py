"""Candle files as a market that goes on: where the tape stands is a function of the clock, and of nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.replay import START, STEP, flat, write_bars
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.exchange.candle_source import find_candles
from tradingbot_agents.exchange.market_rules import load_market_rules
from tradingbot_agents.exchange.port import ExchangeError, NotListed
from tradingbot_agents.exchange.replay_feed import ReplayFeed

BTC, ETH = "BTC/USDT", "ETH/USDT"
NOW = datetime(2026, 3, 1, 12, 2, 30, tzinfo=UTC)
LENGTH = 10
"""Bars of the tape; their prices count from 100."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("candles")
    write_bars(folder, BTC, [flat(100 + place) for place in range(LENGTH)])
    # It begins later, and ends earlier.
    write_bars(folder, ETH, [flat(10 + place) for place in range(3)], START + 4 * STEP)
    return folder


def feed(folder: Path, now: datetime = NOW, history: int = 25) -> tuple[ReplayFeed, VirtualClock]:
    clock = VirtualClock(now)
    source = find_candles(folder, [BTC, ETH], "5m")
    return ReplayFeed(source=source, rules=load_market_rules(), clock=clock, history=history), clock


async def test_the_newest_bar_has_just_closed_and_all_lie_on_the_grid_without_a_gap(folder: Path) -> None:
    market, _ = feed(folder)
    assert market.length == LENGTH * STEP
    bars = await market.candles(BTC, "5m", limit=25)
    assert len(bars) == 25
    assert bars[-1].close_time == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert {after.open_time - before.open_time for before, after in pairwise(bars)} == {STEP}
    steps = {int(after.close - before.close) for before, after in pairwise(bars)}
    assert steps == {1, 1 - LENGTH}, "the tape's order, and at its end its beginning"


async def test_symbols_keep_their_places_to_each_other(folder: Path) -> None:
    market, _ = feed(folder)
    btc = {bar.open_time: int(bar.close) for bar in await market.candles(BTC, "5m", limit=25)}
    eth = await market.candles(ETH, "5m", limit=6)
    assert {btc[bar.open_time] - int(bar.close) for bar in eth} == {104 - 10}


@given(st.integers(0, 10_000), st.integers(0, 400), st.integers(1, 60))
async def test_whoever_asks_whenever_is_told_the_same(folder: Path, minutes: int, later: int, limit: int) -> None:
    """One that has run all the time, and one that has just started, with another memory."""
    began = NOW + timedelta(minutes=minutes)
    running, clock = feed(folder, began, history=7)
    await running.candles(BTC, "5m")
    clock.advance_to(began + timedelta(minutes=later))
    started, _ = feed(folder, clock.now(), history=40)
    since = clock.now() - timedelta(minutes=130)
    for symbol in (BTC, ETH):
        told = await running.candles(symbol, "5m", since=since, limit=limit)
        assert told == await started.candles(symbol, "5m", since=since, limit=limit)
        assert len(told) <= limit
        assert all(since <= bar.open_time and bar.close_time <= clock.now() for bar in told)
    assert await running.ticker(BTC) == await started.ticker(BTC)


async def test_a_bar_comes_when_it_closes_and_the_price_is_its_close(folder: Path) -> None:
    market, clock = feed(folder)
    before = await market.ticker(BTC)
    assert before.at == datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    clock.advance_to(before.at + STEP - timedelta(seconds=1))
    assert await market.ticker(BTC) == before
    clock.advance_to(before.at + STEP)
    after = await market.ticker(BTC)
    (bar,) = await market.candles(BTC, "5m", since=before.at)
    assert (after.last, after.at) == (bar.close, before.at + STEP)


async def test_what_the_tape_does_not_have_is_said(folder: Path) -> None:
    market, _ = feed(folder)
    with pytest.raises(NotListed, match="SOL/USDT"):
        await market.market_rules([BTC, "SOL/USDT"])
    with pytest.raises(ExchangeError, match="SOL/USDT is not on the tape; there are BTC/USDT, ETH/USDT"):
        await market.ticker("SOL/USDT")
    with pytest.raises(ExchangeError, match="the candles replayed are 5m, not 1m"):
        await market.candles(BTC, "1m")
    assert (await market.market_rules([ETH]))[ETH].base == "ETH"
