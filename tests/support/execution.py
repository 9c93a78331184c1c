"""What tests of execution share: settings, market rules, and values with everything but the point left plain."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import Leg, OrderType, Side, TimeInForce
from tradingbot_agents.exchange.port import Capabilities
from tradingbot_agents.execution.settings import LookUpSettings, Settings, TrailingSettings

NOW = datetime(2025, 10, 6, 12, 0, tzinfo=UTC)
SYMBOL = "BTC/USDT"
FIVE_MINUTES = timedelta(minutes=5)
D = Decimal

LOOK_UP = LookUpSettings(
    send_limit=timedelta(seconds=5),
    receive_window=timedelta(seconds=5),
    attempts=3,
    margin=timedelta(seconds=20),
    spacing=timedelta(seconds=10),
    immediate_not_found=False,
)
SETTINGS = Settings(
    look_up=LOOK_UP,
    order_time_limit=timedelta(seconds=30),
    cancel_retry=timedelta(seconds=3),
    watch_interval=timedelta(seconds=10),
    sweep_interval=timedelta(minutes=1),
    inspect_interval=timedelta(minutes=2),
    reconcile_interval=None,
    rules_interval=timedelta(hours=1),
    reappear_window=timedelta(hours=1),
    stops_on_exchange=True,
    stop_limit_offset=D("0.01"),
    trailing=None,
    exit_retry=timedelta(seconds=2),
    exit_retry_longest=timedelta(seconds=16),
    max_exit_attempts=3,
    ledger_retry=timedelta(seconds=1),
    fee_price_max_age=timedelta(minutes=10),
)
TRAILING = TrailingSettings(distance=D("0.02"), activate_at=D("0.03"), step=D("0.001"))
RULES = SymbolRules(
    symbol=SYMBOL,
    base="BTC",
    quote="USDT",
    amount=Precision(PrecisionMode.TICK_SIZE, D("0.00001")),
    price=Precision(PrecisionMode.TICK_SIZE, D("0.01")),
    fees=Fees(maker=D("0.001"), taker=D("0.001")),
    min_amount=D("0.00001"),
    max_amount=D("100"),
    min_notional=D("5"),
    max_market_amount=D("50"),
)
CAPABILITIES = Capabilities(stop_market=True, stop_limit=True, client_order_ids=True)


def order(**changes: Any) -> Order:
    """An entry of 1 BTC that was claimed at ``NOW``."""
    plain = Order(
        client_order_id="tb-entry",
        bot="majors",
        symbol=SYMBOL,
        side=Side.BUY,
        leg=Leg.ENTRY,
        type=OrderType.LIMIT,
        time_in_force=TimeInForce.IOC,
        amount=D(1),
        limit_price=D(101),
        stop_price=None,
        state=OrderState.SUBMITTING,
        cause="intent-1",
        attempt=0,
        correlation_id="candle-1",
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=1),
        claimed_at=NOW,
    )
    return msgspec.structs.replace(plain, **changes)


def stop_order(**changes: Any) -> Order:
    """A stop for 1 BTC at 95 that rests on the exchange."""
    plain = order(
        client_order_id="tb-stop",
        side=Side.SELL,
        leg=Leg.STOP,
        type=OrderType.STOP_MARKET,
        time_in_force=TimeInForce.GTC,
        limit_price=None,
        stop_price=D(95),
        state=OrderState.OPEN,
        cause="trade-1",
        expires_at=None,
        exchange_order_id="7",
    )
    return msgspec.structs.replace(plain, **changes)


def sale(**changes: Any) -> Order:
    """A market sale of 1 BTC that sold nothing."""
    plain = order(
        client_order_id="tb-sale",
        side=Side.SELL,
        leg=Leg.EXIT,
        type=OrderType.MARKET,
        limit_price=None,
        state=OrderState.CANCELLED,
        cause="trade-1",
        expires_at=None,
        exchange_order_id="8",
        finished_at=NOW,
    )
    return msgspec.structs.replace(plain, **changes)


def position(**changes: Any) -> Position:
    """1 BTC bought at 100, stop 95, target 110."""
    plain = Position(
        symbol=SYMBOL,
        state=PositionState.OPEN,
        amount=D(1),
        cost=D(100),
        trade_id="trade-1",
        entry_order="tb-entry",
        opened_at=NOW,
        stop_price=D(95),
        target_price=D(110),
        high_water=D(100),
    )
    return msgspec.structs.replace(plain, **changes)


def candle(
    close: str, low: str | None = None, high: str | None = None, open_time: datetime = NOW, symbol: str = SYMBOL
) -> Candle:
    return Candle(
        symbol=symbol,
        timeframe="5m",
        open_time=open_time,
        open=D(close),
        high=D(high or close),
        low=D(low or close),
        close=D(close),
        volume=D(1000),
    )
