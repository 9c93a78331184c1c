"""From a view to a wish: when does what the signals say become a trade.

A fusion trades on an edge only: it crosses its threshold with this candle and had not crossed it, to the same side,
with the candle before. Both are computed with the record of today, so that the decision depends on the last
``memory + 1`` signals and the ledger, and a restarted agent takes the same one.

On a spot market a SELL is an exit. The strategy does not know positions: a SELL without one is refused by risk with
a reason of its own, and the edge keeps those few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TypeAlias

from tradingbot_agents.domain.ids import intent_id
from tradingbot_agents.domain.messages import Direction, SignalRaised, TradeIntent
from tradingbot_agents.domain.values import TIMEFRAMES, Side
from tradingbot_agents.strategy.fusion import Fused, fuse, rounded_confidence
from tradingbot_agents.strategy.settings import FusionMethod, FusionSettings, StrategySettings
from tradingbot_agents.strategy.view import NoTrade, View, Wish

Thinker: TypeAlias = Callable[[View], Wish | NoTrade]
"""What is asked once all is well with a signal: a fusion or a plug-in."""


def decide(
    view: View, think: Thinker, settings: StrategySettings, now: datetime, decided: str | None
) -> Wish | NoTrade:
    """``decided`` is the id of the symbol's candle that made the last intent."""
    newest = view.signals[-1]
    if newest.backfill:
        return NoTrade.BACKFILL
    if newest.candle_id == decided:
        return NoTrade.DUPLICATE
    if now - newest.candle_closed_at > settings.signal_max_age:
        return NoTrade.STALE
    if len(view.signals) <= settings.memory:
        return NoTrade.WARMING_UP
    outcome = think(view)
    if isinstance(outcome, Wish):
        if rounded_confidence(outcome.confidence) < settings.min_confidence:
            return NoTrade.BELOW_THRESHOLD
        if outcome.side is Side.SELL and not settings.sell_on_signal:
            return NoTrade.SELL_OFF
    return outcome


def fusion_thinker(fusion: FusionSettings, memory: int, min_confidence: float) -> Thinker:
    """Decides by fusion. The threshold is ``min_confidence`` or the method's own, whichever is higher (that of the
    consensus is no confidence, but the share that must agree)."""
    threshold = max(min_confidence, _own_threshold(fusion))

    def think(view: View) -> Wish | NoTrade:
        signals = view.signals
        fused = fuse(remembered(signals, memory), fusion, view.performance)
        if fused.direction is Direction.NEUTRAL or fused.confidence < threshold:
            return NoTrade.BELOW_THRESHOLD
        before = fuse(remembered(signals[:-1], memory), fusion, view.performance)
        if before.direction is fused.direction and before.confidence >= threshold:
            return NoTrade.NO_EDGE
        return _wish(fused, fusion.method)

    return think


def remembered(signals: Sequence[SignalRaised], memory: int) -> Sequence[SignalRaised]:
    """Those of the ``memory`` candles that end with the newest signal's. After a gap these are fewer: what was said
    before it is not recent because nothing was said since."""
    newest = signals[-1]
    since = newest.candle_closed_at - memory * TIMEFRAMES[newest.timeframe]
    return [signal for signal in signals[-memory:] if signal.candle_closed_at > since]


def intent(
    wish: Wish, signal: SignalRaised, bot: str, producer: str, time_to_live: timedelta, now: datetime
) -> TradeIntent:
    """The message for a wish. The expected price is the close of the signal's candle."""
    return TradeIntent(
        id=intent_id(bot, signal.symbol, wish.side, signal.candle_id),
        correlation_id=signal.correlation_id,
        causation_id=signal.id,
        bot=bot,
        producer=producer,
        at=now,
        symbol=signal.symbol,
        side=wish.side,
        confidence=Decimal(f"{rounded_confidence(wish.confidence):.4f}"),
        expected_price=signal.close,
        expires_at=now + time_to_live,
        candle_id=signal.candle_id,
        reason=wish.reason,
        indicators=wish.indicators,
        atr=signal.atr,
    )


def _own_threshold(fusion: FusionSettings) -> float:
    match fusion.method:
        case FusionMethod.CONSENSUS:
            return 0.0
        case FusionMethod.TIME_DECAY:
            return fusion.time_decay.threshold
        case FusionMethod.BAYESIAN:
            return fusion.bayesian.threshold
        case FusionMethod.HYBRID:
            return fusion.hybrid.threshold


def _wish(fused: Fused, method: FusionMethod) -> Wish:
    return Wish(
        side=Side.BUY if fused.direction is Direction.UP else Side.SELL,
        confidence=fused.confidence,
        reason=method.value,
        indicators=fused.indicators,
    )
