"""What every trading venue must do, as tests that any implementation can inherit.

A subclass gives a fixture ``open_venue``, which opens a venue whose prices of BTC/USDT are known beforehand: the
account holds 10,000 USDT, the market rules are Binance's, and the fee is 0.1 % of what an order receives.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Protocol

import pytest

from support.replay import order
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.values import OrderType, Side
from tradingbot_agents.exchange.port import (
    CancelRefused,
    ExchangeError,
    ExchangeOrderState,
    InsufficientFunds,
    OrderRejected,
    TradingVenue,
)

BUY, SELL = Side.BUY, Side.SELL
OPEN, CLOSED, CANCELLED = ExchangeOrderState.OPEN, ExchangeOrderState.CLOSED, ExchangeOrderState.CANCELLED
BTC = "BTC/USDT"

Price = tuple[object, object]
"""A price, and the amount that the market takes at it."""


class VenueUnderTest(Protocol):
    venue: TradingVenue

    async def next_price(self) -> None:
        """The market moves to the next of the prices."""
        ...


OpenVenue = Callable[[Sequence[Price]], Awaitable[VenueUnderTest]]


def d(value: object) -> Decimal:
    return Decimal(str(value))


def at(*prices: object) -> list[Price]:
    """Prices at which the market takes much."""
    return [(price, 1000) for price in prices]


async def held(venue: TradingVenue, asset: str) -> tuple[Decimal, Decimal]:
    """Free and used."""
    balance = (await venue.balances())[asset]
    return balance.free, balance.used


class VenueContract:
    """A subclass gives a fixture ``open_venue``."""

    # Orders that trade at once

    async def test_a_market_buy_is_filled_and_its_trade_has_its_fee(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(105))).venue
        bought = await venue.create_order(order("tb-a", BUY, 2))
        assert (bought.state, bought.filled, bought.cost, bought.client_order_id) == (CLOSED, 2, 210, "tb-a")
        (trade,) = await venue.trades_of_order(BTC, bought.exchange_order_id)
        assert (trade.exchange_order_id, trade.symbol, trade.side) == (bought.exchange_order_id, BTC, BUY)
        assert (trade.price, trade.amount, trade.fee) == (105, 2, Fee("BTC", d("0.002")))
        assert await held(venue, "BTC") == (d("1.998"), 0)
        assert await held(venue, "USDT") == (9790, 0)

    async def test_a_market_sale_pays_its_fee_in_quote(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        await venue.create_order(order("tb-a", BUY, 2))
        sold = await venue.create_order(order("tb-b", SELL, 1))
        (trade,) = await venue.trades_of_order(BTC, sold.exchange_order_id)
        assert trade.fee == Fee("USDT", d("0.1"))
        assert await held(venue, "USDT") == (d("9899.9"), 0)

    async def test_an_ioc_limit_trades_within_its_limit(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        bought = await venue.create_order(order("tb-a", BUY, 2, limit=101, ioc=True))
        assert (bought.state, bought.filled, bought.cost) == (CLOSED, 2, 200)
        assert await held(venue, "USDT") == (9800, 0)

    async def test_an_ioc_limit_beyond_the_market_ends_empty(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        ended = await venue.create_order(order("tb-a", BUY, 1, limit=99, ioc=True))
        assert (ended.state, ended.filled) == (CANCELLED, 0)
        assert await venue.trades_of_order(BTC, ended.exchange_order_id) == []
        assert await held(venue, "USDT") == (10000, 0)

    async def test_an_ioc_limit_drops_what_the_market_does_not_take(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue([(100, 2)])).venue
        bought = await venue.create_order(order("tb-a", BUY, 5, limit=101, ioc=True))
        assert (bought.state, bought.amount, bought.filled, bought.cost) == (CANCELLED, 5, 2, 200)
        assert sum(trade.amount for trade in await venue.trades_of_order(BTC, bought.exchange_order_id)) == 2
        assert await held(venue, "USDT") == (9800, 0)

    # Orders that rest

    async def test_a_limit_rests_with_its_money_locked_until_the_price_comes(self, open_venue: OpenVenue) -> None:
        market = await open_venue(at(100, 97))
        rests = await market.venue.create_order(order("tb-a", BUY, 2, limit=98))
        assert (rests.state, rests.filled) == (OPEN, 0)
        assert await held(market.venue, "USDT") == (9804, 196)
        assert [shown.client_order_id for shown in await market.venue.open_orders()] == ["tb-a"]
        await market.next_price()
        filled = await market.venue.order_by_client_id(BTC, "tb-a")
        assert filled is not None
        assert (filled.state, filled.filled) == (CLOSED, 2)
        assert 194 <= filled.cost <= 196  # at its limit, or better
        assert await market.venue.open_orders() == []
        assert await held(market.venue, "USDT") == (10000 - filled.cost, 0)

    async def test_a_cancel_tells_the_order_as_it_is_then_and_frees_its_money(self, open_venue: OpenVenue) -> None:
        market = await open_venue([(100, 1000), (97, 1)])
        await market.venue.create_order(order("tb-a", BUY, 2, limit=98))
        await market.next_price()
        ended = await market.venue.cancel_order(BTC, "tb-a")
        assert (ended.client_order_id, ended.state, ended.filled) == ("tb-a", CANCELLED, 1)
        assert await held(market.venue, "USDT") == (10000 - ended.cost, 0)

    async def test_what_is_not_open_can_not_be_cancelled(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        with pytest.raises(CancelRefused):
            await venue.cancel_order(BTC, "tb-none")
        await venue.create_order(order("tb-a", BUY, 1))
        with pytest.raises(CancelRefused):
            await venue.cancel_order(BTC, "tb-a")

    # Looking up

    async def test_an_order_is_found_by_its_client_id_and_no_other_is(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        placed = await venue.create_order(order("tb-a", BUY, 2, limit=98))
        assert await venue.order_by_client_id(BTC, "tb-a") == placed
        assert await venue.order_by_client_id(BTC, "tb-b") is None

    async def test_the_newest_order_of_a_client_id_is_told(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        await venue.create_order(order("tb-a", BUY, 1))
        again = await venue.create_order(order("tb-a", BUY, 2))
        found = await venue.order_by_client_id(BTC, "tb-a")
        assert found is not None
        assert (found.exchange_order_id, found.filled) == (again.exchange_order_id, 2)

    async def test_all_trades_since_a_moment_are_told_whoever_made_them(self, open_venue: OpenVenue) -> None:
        market = await open_venue(at(100, 101))
        first = await market.venue.create_order(order("tb-a", BUY, 1))
        await market.next_price()
        second = await market.venue.create_order(order("another-one", BUY, 2))
        trades = await market.venue.trades(BTC, first.at)
        assert [trade.exchange_order_id for trade in trades] == [first.exchange_order_id, second.exchange_order_id]
        assert [trade.price for trade in trades] == [100, 101]
        assert await market.venue.trades(BTC, second.at + timedelta(minutes=10)) == []

    # Stops

    async def test_a_stop_rests_and_then_sells_at_the_market(self, open_venue: OpenVenue) -> None:
        market = await open_venue(at(100, 96, 94))
        await market.venue.create_order(order("tb-a", BUY, 1))
        stop = await market.venue.create_order(order("tb-s", SELL, "0.999", stop=95))
        assert (stop.state, stop.type, stop.stop_price) == (OPEN, OrderType.STOP_MARKET, 95)
        assert await held(market.venue, "BTC") == (0, d("0.999"))
        await market.next_price()
        assert [shown.client_order_id for shown in await market.venue.open_orders()] == ["tb-s"]
        await market.next_price()
        sold = await market.venue.order_by_client_id(BTC, "tb-s")
        assert sold is not None
        assert (sold.state, sold.filled, sold.cost) == (CLOSED, d("0.999"), d("93.906"))
        assert await held(market.venue, "BTC") == (0, 0)

    async def test_a_stop_limit_that_the_price_jumps_over_rests_at_its_limit(self, open_venue: OpenVenue) -> None:
        market = await open_venue(at(100, 90, 95))
        await market.venue.create_order(order("tb-a", BUY, 1))
        await market.venue.create_order(order("tb-s", SELL, "0.999", stop=95, limit=94))
        await market.next_price()
        rests = await market.venue.order_by_client_id(BTC, "tb-s")
        assert rests is not None
        assert (rests.state, rests.filled, rests.limit_price) == (OPEN, 0, 94)
        await market.next_price()
        sold = await market.venue.order_by_client_id(BTC, "tb-s")
        assert sold is not None
        assert sold.state is CLOSED
        assert sold.cost >= d("93.906")

    # Refusals

    async def test_more_than_is_there_is_refused(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        with pytest.raises(InsufficientFunds):
            await venue.create_order(order("tb-a", BUY, 101, limit=100, ioc=True))
        with pytest.raises(InsufficientFunds):
            await venue.create_order(order("tb-b", SELL, 1))
        assert await venue.order_by_client_id(BTC, "tb-a") is None
        assert await held(venue, "USDT") == (10000, 0)

    @pytest.mark.parametrize(
        ("amount", "limit", "code"),
        [
            ("0.049", 100, "below_minimum_notional"),
            ("0.100001", 100, "off_amount_step"),
            ("1", "100.001", "off_price_tick"),
        ],
    )
    async def test_what_breaks_a_market_rule_is_refused(
        self, open_venue: OpenVenue, amount: str, limit: object, code: str
    ) -> None:
        venue = (await open_venue(at(100))).venue
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tb-a", BUY, amount, limit=limit, ioc=True))
        assert refusal.value.code == code
        assert await venue.order_by_client_id(BTC, "tb-a") is None

    async def test_a_client_id_of_an_open_order_is_refused(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        await venue.create_order(order("tb-a", BUY, 1, limit=90))
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tb-a", BUY, 1, limit=90))
        assert refusal.value.code == "duplicate_client_order_id"
        assert len(await venue.open_orders()) == 1

    async def test_a_stop_that_the_price_has_passed_is_refused(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        await venue.create_order(order("tb-a", BUY, 1))
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tb-s", SELL, "0.5", stop=101))
        assert refusal.value.code == "stop_would_trigger_immediately"

    async def test_an_unknown_symbol_is_named(self, open_venue: OpenVenue) -> None:
        venue = (await open_venue(at(100))).venue
        with pytest.raises(ExchangeError, match="ABC/USDT"):
            await venue.market_rules(["ABC/USDT"])
        with pytest.raises(OrderRejected) as refusal:
            await venue.create_order(order("tb-a", BUY, 1, symbol="ABC/USDT"))
        assert refusal.value.code == "unknown_symbol"

    # The market

    async def test_the_ticker_tells_the_last_price(self, open_venue: OpenVenue) -> None:
        market = await open_venue(at(100, 97))
        assert (await market.venue.ticker(BTC)).last == 100
        await market.next_price()
        assert (await market.venue.ticker(BTC)).last == 97

    async def test_the_rules_are_those_of_the_exchange(self, open_venue: OpenVenue) -> None:
        rules = (await (await open_venue(at(100))).venue.market_rules([BTC]))[BTC]
        assert (rules.base, rules.quote, rules.active) == ("BTC", "USDT", True)
        assert (rules.amount.step(d(1)), rules.price.step(d(1))) == (d("0.00001"), d("0.01"))
        assert (rules.min_amount, rules.min_notional) == (d("0.00001"), 5)
        assert (rules.fees.maker, rules.fees.taker) == (d("0.001"), d("0.001"))
