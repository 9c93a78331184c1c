"""The simulated exchange trades as a real one does: fills, locks, fees, refusals."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from support.replay import SETTINGS, START, STEP, Bar, Replay, flat, order
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.market_rules import load_market_rules
from tradingbot_agents.exchange.port import (
    CancelRefused,
    Capabilities,
    ExchangeBalance,
    ExchangeError,
    ExchangeOrderState,
    InsufficientFunds,
    OrderRejected,
    OrderRequest,
)

BUY, SELL = Side.BUY, Side.SELL
OPEN, CLOSED, CANCELLED = ExchangeOrderState.OPEN, ExchangeOrderState.CLOSED, ExchangeOrderState.CANCELLED
FREE = Fees(Decimal(0), Decimal(0))


def d(value: object) -> Decimal:
    return Decimal(str(value))


def bitcoin(tmp_path: Path, *bars: Bar, **settings: object) -> Replay:
    return Replay(tmp_path, {"BTC/USDT": bars}, **settings)


def same(balances: Mapping[str, ExchangeBalance], **expected: tuple[object, object]) -> bool:
    return {asset: (held.free, held.used) for asset, held in balances.items()} == {
        asset: (d(free), d(used)) for asset, (free, used) in expected.items()
    }


# Market orders and limit orders that trade at once


async def test_a_market_buy_trades_at_the_last_close_and_pays_its_fee_in_base(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, (100, 110, 90, 105, 50)).after(1)
    bought = await exchange.create_order(order("a", BUY, 2))
    assert (bought.state, bought.filled, bought.cost) == (CLOSED, 2, 210)
    assert (bought.exchange_order_id, bought.client_order_id, bought.at) == ("1", "a", START + STEP)
    (trade,) = await exchange.trades_of_order("BTC/USDT", "1")
    assert (trade.exchange_trade_id, trade.exchange_order_id) == ("1", "1")
    assert (trade.price, trade.amount, trade.fee, trade.at) == (105, 2, Fee("BTC", d("0.002")), START + STEP)
    assert same(await exchange.balances(), BTC=("1.998", 0), USDT=(9790, 0))


async def test_a_market_sell_pays_its_fee_in_quote(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100), initial_balances={"BTC": d(3)}).after(1)
    await exchange.create_order(order("a", SELL, 2))
    assert same(await exchange.balances(), BTC=(1, 0), USDT=("199.8", 0))


@pytest.mark.parametrize(
    ("currency", "after_buy", "after_sell"),
    [
        (FeeCurrency.GET, ("0.99", "9900"), ("0.49", "9949.5")),
        (FeeCurrency.BASE, ("0.99", "9900"), ("0.485", "9950")),
        (FeeCurrency.QUOTE, ("1", "9899"), ("0.5", "9948.5")),
    ],
)
async def test_fees_are_taken_where_the_settings_say(
    tmp_path: Path, currency: FeeCurrency, after_buy: tuple[str, str], after_sell: tuple[str, str]
) -> None:
    exchange = bitcoin(tmp_path, flat(100), fees=Fees(d("0.01"), d("0.01"), currency)).after(1)
    await exchange.create_order(order("a", BUY, 1))
    assert same(await exchange.balances(), BTC=(after_buy[0], 0), USDT=(after_buy[1], 0))
    await exchange.create_order(order("b", SELL, "0.5"))
    assert same(await exchange.balances(), BTC=(after_sell[0], 0), USDT=(after_sell[1], 0))


async def test_the_settings_fees_are_told_with_the_rules(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100), fees=FREE).after(1)
    assert (await exchange.market_rules(["BTC/USDT"]))["BTC/USDT"].fees == FREE


async def test_a_fee_is_cut_to_eight_places(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat("63123.45")).after(1)
    await exchange.create_order(order("a", BUY, "0.00123"))
    (trade,) = exchange.all_trades()
    assert trade.fee == Fee("BTC", d("0.00000123"))


async def test_a_limit_ioc_buys_up_to_its_limit_and_drops_the_rest(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100, 10), participation=d("0.2")).after(1)
    bought = await exchange.create_order(order("a", BUY, 5, limit=101, ioc=True))
    assert (bought.state, bought.filled, bought.cost) == (CANCELLED, 2, 200)
    assert await exchange.open_orders() == []
    assert same(await exchange.balances(), BTC=("1.998", 0), USDT=(9800, 0))


async def test_an_ioc_that_is_not_marketable_ends_empty(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100)).after(1)
    ended = await exchange.create_order(order("a", BUY, 1, limit=99, ioc=True))
    assert (ended.state, ended.filled) == (CANCELLED, 0)
    assert same(await exchange.balances(), USDT=(10000, 0))


async def test_a_market_order_without_volume_ends_empty(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100, 0)).after(1)
    ended = await exchange.create_order(order("a", BUY, 1))
    assert (ended.state, ended.filled) == (CANCELLED, 0)


async def test_a_limit_order_that_is_marketable_trades_and_its_rest_stays(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100, 10), flat(100, 10), participation=d("0.2"), fees=FREE).after(1)
    opened = await exchange.create_order(order("a", BUY, 5, limit=101))
    assert (opened.state, opened.filled, opened.cost) == (OPEN, 2, 200)
    assert same(await exchange.balances(), BTC=(2, 0), USDT=(9497, 303))


async def test_all_orders_share_a_bars_volume(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100, 10), flat(100, 10), participation=d("0.2")).after(1)
    first = await exchange.create_order(order("a", BUY, "1.5"))
    second = await exchange.create_order(order("b", BUY, "1.5"))
    assert (first.filled, second.filled, second.state) == (d("1.5"), d("0.5"), CANCELLED)


async def test_the_next_bar_brings_new_volume(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100, 10), flat(100, 10), participation=d("0.2"))
    await replay.after(1).create_order(order("a", BUY, 2))
    assert (await replay.after(2).create_order(order("b", BUY, 2))).filled == 2


async def test_slippage_costs_up_to_the_setting_and_is_the_same_for_the_same_seed(tmp_path: Path) -> None:
    costs = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        directory = tmp_path / name
        directory.mkdir()
        exchange = Replay(
            directory, {"BTC/USDT": [(60000, 70000, 50000, 60000, 100)]}, seed=seed, slippage=d("0.01")
        ).after(1)
        bought = await exchange.create_order(order("x", BUY, "0.1"))
        costs.append(bought.cost / bought.filled)
    assert costs[0] == costs[1] != costs[2]
    assert all(60000 < cost <= 60600 for cost in costs)


async def test_slippage_belongs_to_the_order_and_not_to_its_turn(tmp_path: Path) -> None:
    """After a restart orders may come in another order, and must not fill at other prices for that."""
    costs: list[dict[str, Decimal]] = []
    for turns in ("xyz", "zxy"):
        directory = tmp_path / turns
        directory.mkdir()
        bars = {"BTC/USDT": [(60000, 70000, 50000, 60000, 100)]}
        exchange = Replay(directory, bars, slippage=d("0.01")).after(1)
        costs.append({name: (await exchange.create_order(order(name, BUY, "0.01"))).cost for name in turns})
    assert costs[0] == costs[1]
    assert len(set(costs[0].values())) == 3


async def test_latency_lets_a_bar_close_before_the_order_arrives(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100), flat(200), latency=timedelta(seconds=2))
    replay.clock.advance_to(START + 2 * STEP - timedelta(seconds=1))
    bought = await replay.exchange.create_order(order("a", BUY, 1))
    assert bought.cost == 200
    assert bought.at == START + 2 * STEP + timedelta(seconds=1)


# Orders that rest


async def test_a_resting_buy_locks_quote_and_fills_as_maker(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100), flat(98), flat(98), (98, 99, 94, 95, 10), fees=Fees(d("0.01"), d("0.02")))
    opened = await replay.after(1).create_order(order("a", BUY, 2, limit=97))
    assert opened.state is OPEN
    assert same(await replay.exchange.balances(), USDT=(9806, 194))
    assert [o.client_order_id for o in await replay.after(3).open_orders()] == ["a"]
    exchange = replay.after(4)
    assert await exchange.open_orders() == []
    (trade,) = exchange.all_trades()
    assert (trade.price, trade.fee, trade.at) == (97, Fee("BTC", d("0.02")), START + 4 * STEP)
    assert same(await exchange.balances(), BTC=("1.98", 0), USDT=(9806, 0))


async def test_a_resting_buy_locks_a_fee_in_quote_too(tmp_path: Path) -> None:
    fees = Fees(d("0.01"), d("0.02"), FeeCurrency.QUOTE)
    exchange = bitcoin(tmp_path, flat(100), fees=fees).after(1)
    await exchange.create_order(order("a", BUY, 2, limit=90))
    assert same(await exchange.balances(), USDT=("9816.4", "183.6"))


async def test_a_resting_sell_locks_base(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100), initial_balances={"BTC": d(3)}).after(1)
    await exchange.create_order(order("a", SELL, 2, limit=110))
    assert same(await exchange.balances(), BTC=(1, 2))


async def test_a_fee_in_base_is_locked_by_a_sell(tmp_path: Path) -> None:
    fees = Fees(d("0.01"), d("0.01"), FeeCurrency.BASE)
    exchange = bitcoin(tmp_path, flat(100), initial_balances={"BTC": d(3)}, fees=fees).after(1)
    await exchange.create_order(order("a", SELL, 2, limit=110))
    assert same(await exchange.balances(), BTC=("0.98", "2.02"))


async def test_a_resting_order_fills_over_several_bars(tmp_path: Path) -> None:
    replay = bitcoin(
        tmp_path, flat(100, 1), (99, 99, 90, 95, 10), (95, 95, 90, 95, 10), participation=d("0.2"), fees=FREE
    )
    await replay.after(1).create_order(order("a", BUY, 3, limit=97))
    half = await replay.after(2).order_by_client_id("BTC/USDT", "a")
    assert half is not None
    assert (half.state, half.filled, half.cost) == (OPEN, 2, 194)
    assert same(await replay.exchange.balances(), BTC=(2, 0), USDT=(9709, 97))
    whole = await replay.after(3).order_by_client_id("BTC/USDT", "a")
    assert whole is not None
    assert (whole.state, whole.filled, whole.cost) == (CLOSED, 3, 289)
    assert [trade.exchange_trade_id for trade in replay.exchange.all_trades()] == ["1", "2"]


async def test_the_better_price_is_served_first_and_then_the_older_order(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100, 1), (99, 99, 90, 95, 10), participation=d("0.5"), fees=FREE)
    exchange = replay.after(1)
    for name, limit in (("low", 95), ("old", 97), ("young", 97)):
        await exchange.create_order(order(name, BUY, 3, limit=limit))
    await replay.after(2).balances()
    filled = {}
    for name in ("low", "old", "young"):
        found = await exchange.order_by_client_id("BTC/USDT", name)
        assert found is not None
        filled[name] = found.filled
    assert filled == {"low": 0, "old": 3, "young": 2}


async def test_a_stop_sells_when_the_price_reaches_it(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100), (99, 99, 96, 97, 10), (97, 97, 93, 94, 10), initial_balances={"BTC": d(2)})
    opened = await replay.after(1).create_order(order("a", SELL, 2, stop=95))
    assert opened.state is OPEN
    assert same(await replay.exchange.balances(), BTC=(0, 2))
    assert await replay.after(2).open_orders() != []
    ended = await replay.after(3).order_by_client_id("BTC/USDT", "a")
    assert ended is not None
    assert (ended.state, ended.cost) == (CLOSED, 190)
    assert same(await replay.exchange.balances(), BTC=(0, 0), USDT=("189.81", 0))


async def test_the_rest_of_a_stop_goes_on_in_the_next_bar(tmp_path: Path) -> None:
    bars = [flat(100), (99, 99, 93, 94, 1), (92, 96, 91, 96, 10)]
    replay = bitcoin(tmp_path, *bars, initial_balances={"BTC": d(3)}, fees=FREE)
    await replay.after(1).create_order(order("a", SELL, 3, stop=95))
    half = await replay.after(2).order_by_client_id("BTC/USDT", "a")
    assert half is not None
    assert (half.state, half.filled, half.cost) == (OPEN, 1, 95)
    whole = await replay.after(3).order_by_client_id("BTC/USDT", "a")
    assert whole is not None
    assert (whole.state, whole.cost) == (CLOSED, 95 + 2 * 92)


async def test_a_stop_that_buys_after_a_jump_spends_what_there_is_and_ends(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100), flat(150), initial_balances={"USDT": d(250)}, fees=FREE)
    await replay.after(1).create_order(order("a", BUY, 2, stop=110))
    assert same(await replay.exchange.balances(), USDT=(30, 220))
    found = await replay.after(2).order_by_client_id("BTC/USDT", "a")
    assert found is not None
    assert (found.state, found.filled) == (CANCELLED, d("1.66666"))
    assert same(await replay.exchange.balances(), BTC=("1.66666", 0), USDT=("0.001", 0))


async def test_a_stop_that_buys_after_a_jump_over_several_bars_locks_no_more_than_there_is(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100), flat(150, 1), flat(200), initial_balances={"USDT": d(250)}, fees=FREE)
    await replay.after(1).create_order(order("a", BUY, 2, stop=110))
    await replay.after(2).balances()
    assert same(await replay.exchange.balances(), BTC=(1, 0), USDT=(0, 100))
    assert same(await replay.reopen().balances(), BTC=(1, 0), USDT=(0, 100))
    ended = await replay.after(3).order_by_client_id("BTC/USDT", "a")
    assert ended is not None
    assert (ended.state, ended.filled) == (CANCELLED, d("1.5"))


async def test_a_stop_that_can_buy_nothing_ends_empty(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(10), (10_000_000,) * 4 + (1,), initial_balances={"USDT": d(12)}, fees=FREE)
    await replay.after(1).create_order(order("a", BUY, 1, stop=11))
    ended = await replay.after(2).order_by_client_id("BTC/USDT", "a")
    assert ended is not None
    assert (ended.state, ended.filled) == (CANCELLED, 0)
    assert same(await replay.exchange.balances(), USDT=(12, 0))


# Cancels


async def test_a_cancel_frees_what_was_locked(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100)).after(1)
    await exchange.create_order(order("a", BUY, 2, limit=90))
    ended = await exchange.cancel_order("BTC/USDT", "a")
    assert (ended.state, ended.filled) == (CANCELLED, 0)
    assert same(await exchange.balances(), USDT=(10000, 0))
    assert await exchange.open_orders() == []


async def test_what_is_final_or_unknown_can_not_be_cancelled(tmp_path: Path) -> None:
    exchange = Replay(tmp_path, {"BTC/USDT": [flat(100)], "ETH/USDT": [flat(10)]}).after(1)
    await exchange.create_order(order("done", BUY, 1))
    await exchange.create_order(order("open", BUY, 1, limit=90))
    for symbol, name in (("BTC/USDT", "done"), ("BTC/USDT", "never"), ("ETH/USDT", "open")):
        with pytest.raises(CancelRefused, match=f"{symbol} has no open order {name}"):
            await exchange.cancel_order(symbol, name)


async def test_a_cancel_that_a_fill_has_overtaken_is_refused(tmp_path: Path) -> None:
    replay = bitcoin(tmp_path, flat(100), (99, 99, 90, 95, 10), latency=timedelta(seconds=10))
    replay.clock.advance_to(START + STEP)
    await replay.exchange.create_order(order("a", BUY, 1, limit=97))
    replay.clock.advance_to(START + 2 * STEP - timedelta(seconds=5))
    with pytest.raises(CancelRefused):
        await replay.exchange.cancel_order("BTC/USDT", "a")


# Client order ids


async def test_a_client_order_id_is_unique_among_open_orders_only(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100)).after(1)
    await exchange.create_order(order("a", BUY, 1, limit=90))
    with pytest.raises(OrderRejected) as refused:
        await exchange.create_order(order("a", BUY, 1))
    assert refused.value.code == "duplicate_client_order_id"
    await exchange.cancel_order("BTC/USDT", "a")
    again = await exchange.create_order(order("a", BUY, 1))
    found = await exchange.order_by_client_id("BTC/USDT", "a")
    assert again.exchange_order_id == "2"
    assert found == again


async def test_a_look_up_of_what_was_never_there_says_none(tmp_path: Path) -> None:
    exchange = Replay(tmp_path, {"BTC/USDT": [flat(100)], "ETH/USDT": [flat(10)]}).after(1)
    await exchange.create_order(order("open", BUY, 1, limit=90))
    assert await exchange.order_by_client_id("BTC/USDT", "never") is None
    assert await exchange.order_by_client_id("ETH/USDT", "open") is None
    assert await exchange.trades_of_order("BTC/USDT", "77") == []


async def test_trades_of_a_symbol_are_told_from_a_moment_on(tmp_path: Path) -> None:
    replay = Replay(tmp_path, {"BTC/USDT": [flat(100)] * 3, "ETH/USDT": [flat(10)] * 3})
    for bar, name in ((1, "a"), (2, "b"), (3, "c")):
        exchange = replay.after(bar)
        await exchange.create_order(order(name, BUY, 1))
    await exchange.create_order(order("other", BUY, 1, symbol="ETH/USDT"))

    async def told(since: datetime) -> list[str]:
        return [trade.exchange_order_id for trade in await exchange.trades("BTC/USDT", since)]

    assert await told(START) == ["1", "2", "3"]
    assert await told(START + 2 * STEP) == ["2", "3"]
    assert await told(START + 2 * STEP + timedelta(microseconds=1)) == ["3"]
    assert await told(START + 4 * STEP) == []
    assert [trade.exchange_order_id for trade in await exchange.trades("ETH/USDT", START)] == ["4"]
    with pytest.raises(ExchangeError, match="not listed"):
        await exchange.trades("XRP/USDT", START)


# Refusals


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (order("a", BUY, "0.04", limit=100), "below_minimum_notional"),
        (order("a", BUY, "0.04"), "below_minimum_notional"),
        (order("a", BUY, "0.000001", limit=100), "below_minimum_amount"),
        (order("a", BUY, "-1", limit=100), "below_minimum_amount"),
        (order("a", BUY, "1.000001", limit=100), "off_amount_step"),
        (order("a", BUY, "NaN", limit=100), "off_amount_step"),
        (order("a", BUY, 1, limit="99.999"), "off_price_tick"),
        (order("a", BUY, 1, limit="-5"), "off_price_tick"),
        (order("a", BUY, 1, limit="NaN"), "off_price_tick"),
        (order("a", SELL, 1, stop="90.001"), "off_price_tick"),
        (order("a", SELL, 1, stop=90, limit="89.999"), "off_price_tick"),
        (order("a", SELL, 1, stop=100), "stop_would_trigger_immediately"),
        (order("a", BUY, 1, stop=100), "stop_would_trigger_immediately"),
        (order("a", BUY, 9001, limit="0.01"), "above_maximum_amount"),
        (order("a", BUY, 130), "above_maximum_amount"),
        (order("a", BUY, 1, symbol="ETH/USDT"), "unknown_symbol"),
        (order("a b", BUY, 1), "bad_client_order_id"),
        (order("a" * 37, BUY, 1), "bad_client_order_id"),
        (order("a", SELL, 1, stop=90, ioc=True), "order_type_not_supported"),
        (msgspec.structs.replace(order("a", BUY, 1, limit=100), limit_price=None), "bad_price"),
        (msgspec.structs.replace(order("a", BUY, 1), limit_price=d(100)), "bad_price"),
        (msgspec.structs.replace(order("a", BUY, 1), stop_price=d(100)), "bad_price"),
    ],
)
async def test_an_order_is_refused_with_the_exchanges_reason(
    tmp_path: Path, request_: OrderRequest, code: str
) -> None:
    exchange = bitcoin(tmp_path, flat(100, 1000), initial_balances={"USDT": d(10**6), "BTC": d(10)}).after(1)
    with pytest.raises(OrderRejected) as refused:
        await exchange.create_order(request_)
    assert refused.value.code == code
    assert refused.value.detail
    assert await exchange.order_by_client_id("BTC/USDT", "a") is None
    assert same(await exchange.balances(), USDT=(10**6, 0), BTC=(10, 0))


async def test_a_symbol_that_is_halted_takes_no_order(tmp_path: Path) -> None:
    rules = {"BTC/USDT": msgspec.structs.replace(load_market_rules()["BTC/USDT"], active=False)}
    exchange = bitcoin(tmp_path, flat(100), rules=rules).after(1)
    with pytest.raises(OrderRejected, match="symbol_not_trading"):
        await exchange.create_order(order("a", BUY, 1))


async def test_nothing_trades_before_the_first_bar(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100)).exchange
    with pytest.raises(OrderRejected, match="symbol_not_trading: BTC/USDT: its first bar has not closed"):
        await exchange.create_order(order("a", BUY, 1))
    with pytest.raises(ExchangeError, match="BTC/USDT has no price yet"):
        await exchange.ticker("BTC/USDT")


@pytest.mark.parametrize(("stop", "limit"), [(90, None), (90, 89)])
async def test_an_exchange_without_stops_says_so(tmp_path: Path, stop: int, limit: int | None) -> None:
    none = Capabilities(stop_market=False, stop_limit=False, client_order_ids=True)
    exchange = bitcoin(tmp_path, flat(100), capabilities=none, initial_balances={"BTC": d(1)}).after(1)
    assert exchange.capabilities == none
    with pytest.raises(OrderRejected) as refused:
        await exchange.create_order(order("a", SELL, 1, stop=stop, limit=limit))
    assert refused.value.code == "order_type_not_supported"


@pytest.mark.parametrize(
    "request_",
    [
        order("a", BUY, "1.1"),
        order("a", BUY, "1.1", limit=100),
        order("a", BUY, 1, stop=111),
        order("a", SELL, "2.00001"),
        order("a", SELL, "2.00001", limit=200),
    ],
)
async def test_what_is_not_there_can_not_be_spent(tmp_path: Path, request_: OrderRequest) -> None:
    exchange = bitcoin(tmp_path, flat(100), initial_balances={"USDT": d(105), "BTC": d(2)}).after(1)
    with pytest.raises(InsufficientFunds):
        await exchange.create_order(request_)
    assert same(await exchange.balances(), USDT=(105, 0), BTC=(2, 0))


async def test_what_an_open_order_locks_can_not_be_spent_again(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100), initial_balances={"USDT": d(250)}).after(1)
    await exchange.create_order(order("a", BUY, 2, limit=100 - 10))
    with pytest.raises(InsufficientFunds, match=r"buy 1 BTC/USDT needs 100 USDT, but 70 are free"):
        await exchange.create_order(order("b", BUY, 1))


async def test_a_market_buy_must_be_able_to_pay_the_slippage(tmp_path: Path) -> None:
    exchange = bitcoin(tmp_path, flat(100), initial_balances={"USDT": d(100)}, slippage=d("0.01")).after(1)
    with pytest.raises(InsufficientFunds, match="needs 101"):
        await exchange.create_order(order("a", BUY, 1))


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"slippage": d(1)}, "slippage is 1"),
        ({"participation": d(0)}, "participation is 0"),
        ({"participation": d("1.1")}, "participation is 1.1"),
        ({"lost_calls": d(2)}, "lost_calls is 2"),
        ({"latency": timedelta(seconds=-1)}, "latency is"),
        ({"rate_limit": 0}, "rate_limit is 0"),
        ({"rate_window": timedelta(0)}, "rate_window is"),
        ({"history": 0}, "history is 0"),
        ({"fees": Fees(d(0), d(0), FeeCurrency.OTHER)}, "third asset"),
        ({"initial_balances": {"USDT": d(-1)}}, "initial_balances"),
    ],
)
def test_settings_that_can_not_be_are_refused(change: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        msgspec.structs.replace(SETTINGS, **change)
