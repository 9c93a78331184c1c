"""From the exchange's trades to fills: what a fee is worth, and what is said when nobody knows."""

from __future__ import annotations

from datetime import timedelta

import msgspec

from support.execution import NOW, SYMBOL, D
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.port import ExchangeTrade
from tradingbot_agents.execution.fills import DatedPrice, is_fresh, pricing_symbol, to_fill

TRADE = ExchangeTrade(
    exchange_trade_id="9",
    exchange_order_id="41",
    symbol=SYMBOL,
    side=Side.BUY,
    price=D(100),
    amount=D("0.5"),
    at=NOW,
    fee=Fee("BNB", D("0.0001")),
)
PRICE = DatedPrice(D("1100.5"), NOW)


def with_fee(fee: Fee | None) -> ExchangeTrade:
    return msgspec.structs.replace(TRADE, fee=fee)


def test_a_fee_in_a_third_asset_is_valued_at_a_price() -> None:
    assert pricing_symbol(TRADE) == "BNB/USDT"
    fill = to_fill(TRADE, "tb-1", PRICE)
    assert fill.fee == Fee("BNB", D("0.0001"), D("0.11005"))
    assert fill.fee_in_quote == D("0.11005")
    assert (fill.client_order_id, fill.exchange_trade_id, fill.cost) == ("tb-1", "9", D(50))


def test_without_a_price_the_fee_is_kept_and_stays_unvalued() -> None:
    assert to_fill(TRADE, "tb-1", None).fee == Fee("BNB", D("0.0001"), None)


def test_fees_in_the_pair_and_valued_fees_need_no_price() -> None:
    for fee in (Fee("BTC", D("0.001")), Fee("USDT", D("0.1")), Fee("BNB", D(1), D(7)), Fee("BNB", D(0)), None):
        assert pricing_symbol(with_fee(fee)) is None
        assert to_fill(with_fee(fee), "tb-1", PRICE).fee == fee


def test_a_price_is_fresh_on_both_sides_of_its_moment() -> None:
    minute = timedelta(minutes=1)
    assert is_fresh(PRICE, NOW + minute, minute)
    assert is_fresh(PRICE, NOW - minute, minute)
    assert not is_fresh(PRICE, NOW + minute + timedelta(seconds=1), minute)
