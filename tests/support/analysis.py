"""Candles, settings and signals for tests of technical analysis and strategy."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from support.messages import START
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.messages import Direction, Reading, SignalRaised
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger.port import Performance, Trade
from tradingbot_agents.strategy.settings import (
    BayesianSettings,
    ConsensusSettings,
    FusionMethod,
    FusionSettings,
    HybridSettings,
    StrategySettings,
    TimeDecaySettings,
)
from tradingbot_agents.technical_analysis.settings import IndicatorSettings, TechnicalAnalysisSettings
from tradingbot_agents.technical_analysis.window import Bars, RollingWindow

BAR = timedelta(minutes=5)

PARAMETERS: dict[str, dict[str, int | Decimal]] = {
    "emaCross": {"fast": 12, "slow": 26},
    "macd": {"fast": 12, "slow": 26, "signal": 9},
    "rsi": {"period": 14, "oversold": 30, "overbought": 70},
    "bollinger": {"period": 20, "std_dev": Decimal(2)},
    "atr": {"period": 14, "multiple": Decimal("1.5")},
    "adx": {"period": 14, "threshold": 25},
    "obv": {"period": 20},
    "vwap": {"period": 20, "std_dev": Decimal(2)},
}


def all_indicators() -> tuple[IndicatorSettings, ...]:
    return tuple(IndicatorSettings(id=name, name=name, parameters=values) for name, values in PARAMETERS.items())


def analysis_settings(window: int = 60, **changes: Any) -> TechnicalAnalysisSettings:
    settings = TechnicalAnalysisSettings(
        timeframe="5m", window=window, indicators=all_indicators(), atr_period=14, warmup_signals=4
    )
    return msgspec.structs.replace(settings, **changes)


def candles_of(
    closes: Sequence[float], *, spread: float = 0.5, volumes: Sequence[float] | None = None, symbol: str = "BTC/USDT"
) -> list[Candle]:
    """Bars that open at the close before, and reach ``spread`` beyond both."""
    bars = []
    before = closes[0]
    for index, close in enumerate(closes):
        high, low = max(before, close) + spread, min(before, close) - spread
        volume = volumes[index] if volumes is not None else 10.0
        numbers = (Decimal(repr(float(number))) for number in (before, high, low, close, volume))
        bars.append(Candle(symbol, "5m", START + index * BAR, *numbers))
        before = close
    return bars


def random_candles(count: int, seed: int = 1, symbol: str = "BTC/USDT") -> list[Candle]:
    """A random walk from 100 with random volumes."""
    chance = random.Random(seed)
    closes = [100.0]
    while len(closes) < count:
        closes.append(round(closes[-1] * (1 + chance.gauss(0, 0.004)), 4))
    return candles_of(closes, spread=0.05, volumes=[round(chance.uniform(1, 20), 3) for _ in closes], symbol=symbol)


def bars_of(candles: Sequence[Candle], atr_period: int = 14) -> Bars:
    """A window of exactly these candles."""
    window = RollingWindow(len(candles), atr_period)
    for candle in candles:
        window.append(candle)
    return window.bars()


def fusion_settings(method: str = "consensus", *indicators: str, **changes: Any) -> FusionSettings:
    """Equal weights, unless ``weights`` says otherwise."""
    settings = FusionSettings(
        method=FusionMethod(method),
        weights=dict.fromkeys(indicators or ("a", "b", "c", "d"), 1.0),
        consensus=ConsensusSettings(minimum_agreement=2, threshold=0.6),
        time_decay=TimeDecaySettings(half_life=2 * BAR, threshold=0.5),
        bayesian=BayesianSettings(prior_accuracy=0.5, prior_strength=20, threshold=0.6),
        hybrid=HybridSettings(consensus_weight=0.4, time_decay_weight=0.3, bayesian_weight=0.3, threshold=0.55),
    )
    return msgspec.structs.replace(settings, **changes)


def strategy_settings(decider: Any = None, **changes: Any) -> StrategySettings:
    settings = StrategySettings(
        decider=decider if decider is not None else fusion_settings(),
        memory=3,
        min_confidence=0.55,
        signal_max_age=timedelta(minutes=2),
        recall_timeout=timedelta(seconds=2),
        intent_time_to_live=timedelta(seconds=60),
        sell_on_signal=True,
    )
    return msgspec.structs.replace(settings, **changes)


def a_signal(index: int = 0, *, backfill: bool = False, symbol: str = "BTC/USDT", **scores: float) -> SignalRaised:
    """The signal of bar ``index``: each indicator by its signed confidence, above zero for up."""
    opened = START + index * BAR
    candle_id = f"{symbol}.5m.{opened:%Y-%m-%dT%H:%MZ}"
    return SignalRaised(
        id=f"signal.{candle_id}",
        correlation_id=candle_id,
        causation_id=candle_id,
        bot="bot",
        producer="technical-analysis",
        at=opened + BAR,
        symbol=symbol,
        timeframe="5m",
        candle_id=candle_id,
        candle_closed_at=opened + BAR,
        close=Decimal("121556.65"),
        direction=Direction.NEUTRAL,
        confidence=0.0,
        readings=tuple(a_reading(indicator, score) for indicator, score in scores.items()),
        atr=Decimal("350.5"),
        backfill=backfill,
    )


def a_reading(indicator: str, score: float) -> Reading:
    direction = Direction.UP if score > 0 else Direction.DOWN if score < 0 else Direction.NEUTRAL
    return Reading(indicator, direction, abs(score), score)


def performance_of(**records: tuple[int, int]) -> Mapping[str, Performance]:
    """Wins and losses by indicator."""
    return {indicator: Performance(indicator, wins, losses) for indicator, (wins, losses) in records.items()}


def a_trade(closed_at: datetime, profit: str, *indicators: str) -> Trade:
    return Trade(
        trade_id="trade-1",
        symbol="BTC/USDT",
        opened_at=START,
        closed_at=closed_at,
        bought=Decimal("0.001"),
        cost=Decimal(100),
        profit=Decimal(profit),
        fees=Decimal("0.2"),
        leg=Leg.EXIT,
        indicators=indicators,
    )
