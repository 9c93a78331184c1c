"""Symbols of the loopback exchange, with the filters in the form in which Binance publishes them."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

ORDER_TYPES = (
    "LIMIT",
    "LIMIT_MAKER",
    "MARKET",
    "STOP_LOSS",
    "STOP_LOSS_LIMIT",
    "TAKE_PROFIT",
    "TAKE_PROFIT_LIMIT",
)


@dataclass
class BinanceSymbol:
    """One market. A test may change any field while the server runs: filters change on real exchanges too."""

    base: str
    quote: str
    step: Decimal
    tick: Decimal
    min_amount: Decimal
    max_amount: Decimal = Decimal(9000)
    max_market_amount: Decimal = Decimal(100)
    min_notional: Decimal = Decimal(5)
    max_notional: Decimal = Decimal(9_000_000)
    min_price: Decimal = Decimal("0.01")
    max_price: Decimal = Decimal(1_000_000)
    multiplier_up: Decimal = Decimal(5)
    multiplier_down: Decimal = Decimal("0.2")
    max_orders: int = 200
    max_algo_orders: int = 5
    status: str = "TRADING"
    """``TRADING``, ``HALT`` or ``BREAK``."""
    order_types: tuple[str, ...] = ORDER_TYPES

    @property
    def id(self) -> str:
        return self.base + self.quote

    @property
    def name(self) -> str:
        return f"{self.base}/{self.quote}"

    def info(self) -> dict[str, Any]:
        """Its entry of ``exchangeInfo``."""
        return {
            "symbol": self.id,
            "status": self.status,
            "baseAsset": self.base,
            "baseAssetPrecision": 8,
            "quoteAsset": self.quote,
            "quotePrecision": 8,
            "quoteAssetPrecision": 8,
            "baseCommissionPrecision": 8,
            "quoteCommissionPrecision": 8,
            "orderTypes": list(self.order_types),
            "icebergAllowed": True,
            "ocoAllowed": True,
            "otoAllowed": True,
            "quoteOrderQtyMarketAllowed": True,
            "allowTrailingStop": True,
            "cancelReplaceAllowed": True,
            "isSpotTradingAllowed": True,
            "isMarginTradingAllowed": False,
            "filters": [
                {
                    "filterType": "PRICE_FILTER",
                    "minPrice": eight(self.min_price),
                    "maxPrice": eight(self.max_price),
                    "tickSize": eight(self.tick),
                },
                {
                    "filterType": "LOT_SIZE",
                    "minQty": eight(self.min_amount),
                    "maxQty": eight(self.max_amount),
                    "stepSize": eight(self.step),
                },
                {"filterType": "ICEBERG_PARTS", "limit": 10},
                {
                    "filterType": "MARKET_LOT_SIZE",
                    "minQty": eight(Decimal(0)),
                    "maxQty": eight(self.max_market_amount),
                    "stepSize": eight(Decimal(0)),
                },
                {
                    "filterType": "PERCENT_PRICE_BY_SIDE",
                    "bidMultiplierUp": str(self.multiplier_up),
                    "bidMultiplierDown": str(self.multiplier_down),
                    "askMultiplierUp": str(self.multiplier_up),
                    "askMultiplierDown": str(self.multiplier_down),
                    "avgPriceMins": 5,
                },
                {
                    "filterType": "NOTIONAL",
                    "minNotional": eight(self.min_notional),
                    "applyMinToMarket": True,
                    "maxNotional": eight(self.max_notional),
                    "applyMaxToMarket": False,
                    "avgPriceMins": 5,
                },
                {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": self.max_orders},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": self.max_algo_orders},
            ],
            "permissions": [],
            "permissionSets": [["SPOT", "MARGIN"]],
            "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
            "allowedSelfTradePreventionModes": ["NONE", "EXPIRE_TAKER", "EXPIRE_MAKER", "EXPIRE_BOTH"],
        }


def eight(number: Decimal) -> str:
    """As Binance writes numbers: eight places."""
    return f"{number:.8f}"


def _majors() -> tuple[BinanceSymbol, ...]:
    # The filters of the three symbols as Binance publishes them, and BNB's, whose coin pays fees.
    return (
        BinanceSymbol("BTC", "USDT", step=Decimal("0.00001"), tick=Decimal("0.01"), min_amount=Decimal("0.00001")),
        BinanceSymbol("ETH", "USDT", step=Decimal("0.0001"), tick=Decimal("0.01"), min_amount=Decimal("0.0001")),
        BinanceSymbol("SOL", "USDT", step=Decimal("0.001"), tick=Decimal("0.01"), min_amount=Decimal("0.001")),
        BinanceSymbol("BNB", "USDT", step=Decimal("0.001"), tick=Decimal("0.01"), min_amount=Decimal("0.001")),
    )


MAJORS = _majors
"""Makes fresh symbols, for tests change them."""
