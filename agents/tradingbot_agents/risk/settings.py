"""What the risk agent is told. No defaults: they live in ``tradingbot_api``, each with its reason.

Fractions are of 1: ``Decimal("0.05")`` is 5 %.
"""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum

import msgspec


class ApprovalOrder(StrEnum):
    BY_CONFIDENCE = "byConfidence"
    FIRST_COME_FIRST_SERVED = "firstComeFirstServed"


class SizingMethod(StrEnum):
    FIXED_FRACTIONAL = "fixedFractional"
    KELLY = "kelly"
    VOLATILITY = "volatility"
    HYBRID = "hybrid"
    """The smallest of the other three."""


class KellySettings(msgspec.Struct, frozen=True, kw_only=True):
    cap: Decimal
    """Largest fraction of equity, whatever the formula says."""
    multiplier: Decimal
    """Share of the formula's answer that is used: 0.5 is half Kelly."""
    minimum_trades: int
    """Closed trades below which the formula is not trusted, and the fixed fraction (at most ``cap``) is used."""
    lookback_trades: int
    """Closed trades that count, the latest ones."""


class VolatilitySettings(msgspec.Struct, frozen=True, kw_only=True):
    target_risk: Decimal
    """Fraction of equity lost when the price moves ``atr_multiple`` ranges against the position."""
    atr_multiple: Decimal


class SizeCap(msgspec.Struct, frozen=True, kw_only=True):
    below: Decimal | None
    """Equity in quote currency below which the cap holds; ``None`` in the last one: it holds above."""
    fraction: Decimal


class SizingSettings(msgspec.Struct, frozen=True, kw_only=True):
    method: SizingMethod
    fraction: Decimal
    """Of equity, for ``fixedFractional``, ``hybrid``, and for Kelly without a record."""
    kelly: KellySettings
    volatility: VolatilitySettings
    caps: tuple[SizeCap, ...]
    """From small to large accounts; they bind every method."""


class ApprovalSettings(msgspec.Struct, frozen=True, kw_only=True):
    order: ApprovalOrder
    window: timedelta
    """How long intents are collected to be ranked by confidence."""


class MaxDrawdown(msgspec.Struct, frozen=True, kw_only=True):
    limit: Decimal
    lookback: timedelta
    pause: timedelta


class DailyLoss(msgspec.Struct, frozen=True, kw_only=True):
    limit: Decimal


class Cooldown(msgspec.Struct, frozen=True, kw_only=True):
    pause: timedelta
    per_symbol: bool


class StopLossGuard(msgspec.Struct, frozen=True, kw_only=True):
    count: int
    lookback: timedelta
    pause: timedelta
    per_symbol: bool


class Protections(msgspec.Struct, frozen=True, kw_only=True):
    """Rules that stop entries, never exits. ``None``: the rule is not wanted."""

    max_drawdown: MaxDrawdown | None
    daily_loss: DailyLoss | None
    cooldown: Cooldown | None
    stop_loss_guard: StopLossGuard | None
    max_open_positions: int | None
    max_symbol_share: Decimal | None
    """Fraction of equity."""
    min_reward_to_risk: Decimal | None


class PriceSettings(msgspec.Struct, frozen=True, kw_only=True):
    max_age: timedelta
    """A price that is older is not fresh."""
    cache_for: timedelta
    """How long one answer of the candle store serves a symbol."""
    ticker_timeout: timedelta
    alert_after: int
    """Fallbacks of one symbol in a row that make an alert."""


class ValueAtRiskSettings(msgspec.Struct, frozen=True, kw_only=True):
    confidence: Decimal
    lookback_candles: int


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    account: str
    """Names the ledger's account; part of every client order id."""
    quote_currency: str
    quote_step: Decimal
    """Budgets are rounded down to it."""
    symbols: tuple[str, ...]
    timeframe: str
    sizing: SizingSettings
    approval: ApprovalSettings
    stop_loss: Decimal
    """Fraction below the price at which a position is sold."""
    take_profit: Decimal | None
    worst_price_slippage: Decimal
    """Fraction above the price at which an entry's limit stands, and below a stop at which its sale is taken
    to end."""
    protections: Protections
    price: PriceSettings
    value_at_risk: ValueAtRiskSettings
    equity_interval: timedelta
    """Between two records of the equity; they fall on its multiples since the Unix epoch."""
    outbox_interval: timedelta | None
    """Between two looks for messages that were not published. ``None``: no looks, for a lockstep replay, where
    publishing follows every commit and a restart begins with it."""
