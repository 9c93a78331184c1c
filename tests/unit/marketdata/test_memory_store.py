"""The store in memory: the contract of every store, and its bound."""

from __future__ import annotations

import pytest

from support.candle_store_contract import CandleStoreContract
from support.messages import a_candle
from tradingbot_agents.marketdata import CandleStore, MemoryCandleStore


class TestMemoryStoreKeepsTheContract(CandleStoreContract):
    @pytest.fixture
    def store(self) -> CandleStore:
        return MemoryCandleStore(capacity=100)


async def test_the_oldest_of_each_series_go_when_it_is_full() -> None:
    store = MemoryCandleStore(capacity=3)
    for index in range(5):
        await store.write([a_candle(index)])
    await store.write([a_candle(0, "ETH/USDT")])
    assert await store.latest("BTC/USDT", "5m", 10) == [a_candle(2), a_candle(3), a_candle(4)]
    assert await store.latest("ETH/USDT", "5m", 10) == [a_candle(0, "ETH/USDT")]


async def test_late_bars_do_not_push_newer_ones_out() -> None:
    store = MemoryCandleStore(capacity=3)
    await store.write([a_candle(4), a_candle(5)])
    await store.write([a_candle(index) for index in range(4)])
    assert await store.latest("BTC/USDT", "5m", 10) == [a_candle(3), a_candle(4), a_candle(5)]


@pytest.mark.parametrize("capacity", [0, -5])
def test_a_store_must_keep_something(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"is {capacity}, but it must keep at least 1"):
        MemoryCandleStore(capacity)
