"""Messages and candles for tests: only what a test is about needs to be said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.messages import CandleClosed, TickerRequest, TradeIntent
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import TIMEFRAMES, Side

START = datetime(2024, 3, 1, tzinfo=UTC)


def a_candle(
    index: int = 0, symbol: str = "BTC/USDT", timeframe: str = "5m", close: str = "100", start: datetime = START
) -> Candle:
    """The bar that opens ``index`` bars after ``start``."""
    price = Decimal(close)
    return Candle(
        symbol, timeframe, start + index * TIMEFRAMES[timeframe], price, price + 1, price - 1, price, Decimal(10)
    )


def a_ticker(symbol: str = "BTC/USDT", seconds: int = 0, last: str = "100") -> Ticker:
    return Ticker(symbol, Decimal(last), START + timedelta(seconds=seconds))


def a_candle_message(candle: Candle, backfill: bool = False) -> CandleClosed:
    return CandleClosed(
        id=candle.id,
        correlation_id=candle.id,
        causation_id=candle.id,
        bot="bot",
        producer="test",
        at=candle.close_time,
        candle=candle,
        backfill=backfill,
    )


def an_intent(number: int, symbol: str = "BTC/USDT", at: datetime = START) -> TradeIntent:
    return TradeIntent(
        id=f"intent-{number}",
        correlation_id=f"candle-{number}",
        causation_id=f"candle-{number}",
        bot="bot",
        producer="test",
        at=at,
        symbol=symbol,
        side=Side.BUY,
        confidence=Decimal("0.7500"),
        expected_price=Decimal(100),
        expires_at=at + timedelta(minutes=5),
        candle_id=f"candle-{number}",
        reason="consensus",
    )


def a_ticker_request(symbol: str = "BTC/USDT", at: datetime = START) -> TickerRequest:
    return TickerRequest(
        id=f"ticker.{symbol}", correlation_id="c", causation_id="c", bot="bot", producer="test", at=at, symbol=symbol
    )
