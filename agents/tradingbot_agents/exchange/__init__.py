"""The exchange: one port for market data, one for trading, and a simulated exchange that behaves like a real one."""

from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    Capabilities,
    ExchangeBalance,
    ExchangeError,
    ExchangeOrder,
    ExchangeOrderState,
    ExchangeTrade,
    InsufficientFunds,
    MarketFeed,
    NotListed,
    OrderRejected,
    OrderRequest,
    RateLimited,
    TradingVenue,
)

__all__ = [
    "Ambiguous",
    "CancelRefused",
    "Capabilities",
    "ExchangeBalance",
    "ExchangeError",
    "ExchangeOrder",
    "ExchangeOrderState",
    "ExchangeTrade",
    "InsufficientFunds",
    "MarketFeed",
    "NotListed",
    "OrderRejected",
    "OrderRequest",
    "RateLimited",
    "Ticker",
    "TradingVenue",
]
