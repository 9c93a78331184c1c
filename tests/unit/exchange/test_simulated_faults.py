"""Faults on order: each happens where it was asked for, and nowhere else."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from support.replay import Replay, flat, order
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.faults import Fault, Faults
from tradingbot_agents.exchange.port import Ambiguous, ExchangeOrderState, RateLimited

BUY = Side.BUY


def replay(tmp_path: Path, **settings: object) -> Replay:
    return Replay(tmp_path, {"BTC/USDT": [flat(100)] * 3}, **settings)


async def test_a_lost_request_is_ambiguous_and_was_not_done(tmp_path: Path) -> None:
    r = replay(tmp_path)
    r.faults.add("create_order", Fault.LOST_REQUEST)
    with pytest.raises(Ambiguous, match="no answer to create_order a"):
        await r.after(1).create_order(order("a", BUY, 1))
    assert await r.exchange.order_by_client_id("BTC/USDT", "a") is None
    assert (await r.exchange.create_order(order("a", BUY, 1))).filled == 1


async def test_a_lost_reply_is_ambiguous_and_was_done(tmp_path: Path) -> None:
    r = replay(tmp_path)
    r.faults.add("create_order", Fault.LOST_REPLY)
    with pytest.raises(Ambiguous, match="the reply to order a was lost"):
        await r.after(1).create_order(order("a", BUY, 1))
    found = await r.exchange.order_by_client_id("BTC/USDT", "a")
    assert found is not None
    assert found.filled == 1


async def test_the_lost_reply_may_have_been_a_refusal(tmp_path: Path) -> None:
    r = replay(tmp_path)
    r.faults.add("create_order", Fault.LOST_REPLY)
    with pytest.raises(Ambiguous):
        await r.after(1).create_order(order("a", BUY, 1000))
    assert await r.exchange.order_by_client_id("BTC/USDT", "a") is None


@pytest.mark.parametrize(
    ("fault", "state"),
    [(Fault.LOST_REQUEST, ExchangeOrderState.OPEN), (Fault.LOST_REPLY, ExchangeOrderState.CANCELLED)],
)
async def test_a_cancel_can_be_lost_too(tmp_path: Path, fault: Fault, state: ExchangeOrderState) -> None:
    r = replay(tmp_path)
    await r.after(1).create_order(order("a", BUY, 1, limit=90))
    r.faults.add("cancel_order", fault)
    with pytest.raises(Ambiguous):
        await r.exchange.cancel_order("BTC/USDT", "a")
    found = await r.exchange.order_by_client_id("BTC/USDT", "a")
    assert found is not None
    assert found.state is state


async def test_stale_balances_are_those_before_the_last_change(tmp_path: Path) -> None:
    r = replay(tmp_path)
    await r.after(1).create_order(order("a", BUY, 1))
    first = await r.exchange.balances()
    await r.exchange.create_order(order("b", BUY, 1))
    r.faults.add("balances", Fault.STALE)
    assert await r.exchange.balances() == first
    assert (await r.exchange.balances())["USDT"].free == 9800


async def test_a_rate_limit_can_be_asked_for(tmp_path: Path) -> None:
    r = replay(tmp_path)
    r.faults.add("create_order", Fault.RATE_LIMITED)
    with pytest.raises(RateLimited):
        await r.after(1).create_order(order("a", BUY, 1))
    assert r.exchange.all_trades() == []


async def test_trades_can_come_twice(tmp_path: Path) -> None:
    r = replay(tmp_path)
    await r.after(1).create_order(order("a", BUY, 1))
    r.faults.add("trades_of_order", Fault.DUPLICATED, when=lambda key: key == "1")
    assert [trade.exchange_trade_id for trade in await r.exchange.trades_of_order("BTC/USDT", "1")] == ["1", "1"]
    assert len(await r.exchange.trades_of_order("BTC/USDT", "1")) == 1


async def test_an_order_can_be_late_to_be_seen(tmp_path: Path) -> None:
    r = replay(tmp_path)
    await r.after(1).create_order(order("a", BUY, 1, limit=90))
    r.faults.add("order_by_client_id", Fault.NOT_VISIBLE, times=2)
    r.faults.add("open_orders", Fault.NOT_VISIBLE)
    assert [await r.exchange.order_by_client_id("BTC/USDT", "a") is None for _ in range(3)] == [True, True, False]
    assert [len(await r.exchange.open_orders()) for _ in range(2)] == [0, 1]


async def test_a_fault_may_be_for_some_orders_only_and_for_ever(tmp_path: Path) -> None:
    r = replay(tmp_path)
    r.faults.add("create_order", Fault.LOST_REQUEST, times=None, when=lambda key: key.startswith("x"))
    await r.after(1).create_order(order("a", BUY, 1))
    for name in ("x1", "x2"):
        with pytest.raises(Ambiguous):
            await r.exchange.create_order(order(name, BUY, 1))


@pytest.mark.parametrize("call", ["market_rules", "candles", "ticker"])
async def test_market_data_can_time_out(tmp_path: Path, call: str) -> None:
    r = replay(tmp_path)
    r.faults.add(call, Fault.LOST_REQUEST)
    exchange = r.after(1)
    calls = {
        "market_rules": lambda: exchange.market_rules(["BTC/USDT"]),
        "candles": lambda: exchange.candles("BTC/USDT", "5m"),
        "ticker": lambda: exchange.ticker("BTC/USDT"),
    }
    with pytest.raises(Ambiguous):
        await calls[call]()
    await calls[call]()


@pytest.mark.parametrize(("call", "fault"), [("ticker", Fault.STALE), ("nothing", Fault.LOST_REQUEST)])
def test_a_fault_that_can_not_be_is_refused(call: str, fault: Fault) -> None:
    with pytest.raises(ValueError, match="can not have the fault"):
        Faults().add(call, fault)


async def test_calls_are_lost_by_chance_the_same_way_every_time(tmp_path: Path) -> None:
    outcomes = []
    for name in ("first", "second"):
        directory = tmp_path / name
        directory.mkdir()
        r = replay(directory, lost_calls=Decimal("0.5"))
        told = []
        for number in range(60):
            try:
                await r.after(1).create_order(order(f"n{number}", BUY, "0.06"))
                told.append("done")
            except Ambiguous:
                found = await r.exchange.order_by_client_id("BTC/USDT", f"n{number}")
                told.append("never done" if found is None else "done, not said")
        outcomes.append(told)
    assert outcomes[0] == outcomes[1]
    assert {kind: outcomes[0].count(kind) > 5 for kind in set(outcomes[0])} == {
        "done": True,
        "never done": True,
        "done, not said": True,
    }
