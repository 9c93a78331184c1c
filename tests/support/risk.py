"""Settings, rules, trades and intents for tests of risk: only what a test is about needs to be said."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from support.messages import START
from tradingbot_agents.domain.messages import TradeIntent
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import Leg, Side, split_symbol
from tradingbot_agents.ledger.port import EquityPoint, Trade
from tradingbot_agents.risk.settings import (
    ApprovalOrder,
    ApprovalSettings,
    KellySettings,
    PriceSettings,
    Protections,
    Settings,
    SizeCap,
    SizingMethod,
    SizingSettings,
    ValueAtRiskSettings,
    VolatilitySettings,
)

NO_PROTECTIONS = Protections(
    max_drawdown=None,
    daily_loss=None,
    cooldown=None,
    stop_loss_guard=None,
    max_open_positions=None,
    max_symbol_share=None,
    min_reward_to_risk=None,
)

SETTINGS = Settings(
    account="paper/simulated/main",
    quote_currency="USDT",
    quote_step=Decimal("0.01"),
    symbols=("BTC/USDT", "ETH/USDT", "SOL/USDT"),
    timeframe="5m",
    sizing=SizingSettings(
        method=SizingMethod.FIXED_FRACTIONAL,
        fraction=Decimal("0.80"),
        kelly=KellySettings(cap=Decimal("0.25"), multiplier=Decimal("0.5"), minimum_trades=30, lookback_trades=200),
        volatility=VolatilitySettings(target_risk=Decimal("0.01"), atr_multiple=Decimal(2)),
        caps=(
            SizeCap(below=Decimal(1000), fraction=Decimal("0.80")),
            SizeCap(below=Decimal(10000), fraction=Decimal("0.30")),
            SizeCap(below=None, fraction=Decimal("0.10")),
        ),
    ),
    approval=ApprovalSettings(order=ApprovalOrder.BY_CONFIDENCE, window=timedelta(milliseconds=250)),
    stop_loss=Decimal("0.05"),
    take_profit=Decimal("0.10"),
    worst_price_slippage=Decimal("0.005"),
    protections=NO_PROTECTIONS,
    price=PriceSettings(
        max_age=timedelta(seconds=90),
        cache_for=timedelta(seconds=5),
        ticker_timeout=timedelta(seconds=2),
        alert_after=3,
    ),
    value_at_risk=ValueAtRiskSettings(confidence=Decimal("0.95"), lookback_candles=500),
    equity_interval=timedelta(hours=1),
    outbox_interval=None,
)


def sizing(method: SizingMethod = SizingMethod.FIXED_FRACTIONAL, **changes: Any) -> SizingSettings:
    return msgspec.structs.replace(SETTINGS.sizing, method=method, **changes)


def protecting(**changes: Any) -> Settings:
    """Settings with these protections and no others."""
    return with_settings(protections=msgspec.structs.replace(NO_PROTECTIONS, **changes))


def with_settings(**changes: Any) -> Settings:
    return msgspec.structs.replace(SETTINGS, **changes)


def rules_of(symbol: str, step: str, tick: str = "0.01", **changes: Any) -> SymbolRules:
    base, quote = split_symbol(symbol)
    rules = SymbolRules(
        symbol=symbol,
        base=base,
        quote=quote,
        amount=Precision(PrecisionMode.TICK_SIZE, Decimal(step)),
        price=Precision(PrecisionMode.TICK_SIZE, Decimal(tick)),
        fees=Fees(maker=Decimal("0.001"), taker=Decimal("0.001"), currency=FeeCurrency.GET),
        min_amount=Decimal(step),
        min_notional=Decimal(5),
    )
    return msgspec.structs.replace(rules, **changes)


RULES = {
    "BTC/USDT": rules_of("BTC/USDT", "0.00001"),
    "ETH/USDT": rules_of("ETH/USDT", "0.0001"),
    "SOL/USDT": rules_of("SOL/USDT", "0.001"),
}
"""The steps and ticks that Binance publishes for the three."""


def a_wish(
    symbol: str = "BTC/USDT",
    side: Side = Side.BUY,
    *,
    price: str = "100",
    confidence: str = "0.7500",
    at: datetime = START,
    lives: timedelta = timedelta(minutes=1),
    atr: str | None = None,
    name: str = "",
) -> TradeIntent:
    intent_id = name or f"intent-{symbol}-{side.value}-{at:%H:%M:%S}"
    return TradeIntent(
        id=intent_id,
        correlation_id=f"candle-of-{intent_id}",
        causation_id=f"signal-of-{intent_id}",
        bot="bot",
        producer="strategy",
        at=at,
        symbol=symbol,
        side=side,
        confidence=Decimal(confidence),
        expected_price=Decimal(price),
        expires_at=at + lives,
        candle_id=f"candle-of-{intent_id}",
        reason="consensus",
        indicators=("emaCross", "rsi"),
        atr=None if atr is None else Decimal(atr),
    )


def a_trade(
    profit: str,
    closed_at: datetime = START,
    *,
    symbol: str = "BTC/USDT",
    cost: str = "100",
    leg: Leg = Leg.EXIT,
) -> Trade:
    return Trade(
        trade_id=f"trade-{symbol}-{closed_at.isoformat()}",
        symbol=symbol,
        opened_at=closed_at - timedelta(hours=1),
        closed_at=closed_at,
        bought=Decimal(1),
        cost=Decimal(cost),
        profit=Decimal(profit),
        fees=Decimal("0.1"),
        leg=leg,
        indicators=(),
    )


def a_point(equity: str, at: datetime) -> EquityPoint:
    return EquityPoint(at, Decimal(equity))
