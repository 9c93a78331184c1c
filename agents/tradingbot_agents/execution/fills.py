"""From the exchange's trades to fills in the books. A fee in a third asset is valued at a dated price, or said
to be unvalued: it is never valued at a price that nobody saw."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.values import cut, split_symbol
from tradingbot_agents.exchange.port import ExchangeTrade


class DatedPrice(msgspec.Struct, frozen=True):
    price: Decimal
    at: datetime


def pricing_symbol(trade: ExchangeTrade) -> str | None:
    """The symbol whose price values the trade's fee, or ``None`` when it needs none."""
    if trade.fee is None or trade.fee.quote_value is not None or not trade.fee.amount:
        return None
    base, quote = split_symbol(trade.symbol)
    return None if trade.fee.asset in (base, quote) else f"{trade.fee.asset}/{quote}"


def is_fresh(price: DatedPrice, at: datetime, max_age: timedelta) -> bool:
    """Whether the price was seen close enough to ``at``, before or after it."""
    return abs(at - price.at) <= max_age


def to_fill(trade: ExchangeTrade, client_order_id: str, price: DatedPrice | None) -> Fill:
    """``price`` is of ``pricing_symbol``, in quote currency; ``None``: the fee stays unvalued."""
    fee = trade.fee
    if fee is not None and price is not None and pricing_symbol(trade) is not None:
        fee = Fee(fee.asset, fee.amount, cut(fee.amount * price.price))
    return Fill(
        exchange_trade_id=trade.exchange_trade_id,
        client_order_id=client_order_id,
        symbol=trade.symbol,
        side=trade.side,
        price=trade.price,
        amount=trade.amount,
        at=trade.at,
        fee=fee,
    )
