from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from support.analysis import BAR, a_signal, fusion_settings, performance_of, strategy_settings
from support.messages import START
from tradingbot_agents.domain.ids import intent_id
from tradingbot_agents.domain.messages import SignalRaised
from tradingbot_agents.domain.values import Side
from tradingbot_agents.strategy.decide import decide, fusion_thinker, intent, remembered
from tradingbot_agents.strategy.settings import FusionSettings, StrategySettings
from tradingbot_agents.strategy.view import NoTrade, View, Wish


def signals_of(*strengths: float, backfill: bool = False) -> list[SignalRaised]:
    """Two indicators that agree: their consensus is the strength itself."""
    return [a_signal(index, a=strength, b=strength, backfill=backfill) for index, strength in enumerate(strengths)]


def decided(
    signals: Sequence[SignalRaised],
    settings: StrategySettings | None = None,
    *,
    late: timedelta = timedelta(seconds=1),
    already: str | None = None,
    **records: tuple[int, int],
) -> Wish | NoTrade:
    settings = settings or strategy_settings(memory=1)
    assert isinstance(settings.decider, FusionSettings)
    think = fusion_thinker(settings.decider, settings.memory, settings.min_confidence)
    now = signals[-1].candle_closed_at + late
    return decide(View(tuple(signals), performance_of(**records)), think, settings, now, already)


class TestEdge:
    """The threshold is 0.55, and the memory one candle."""

    @pytest.mark.parametrize(
        ("before", "now", "expected"),
        [
            (0.5, 0.6, Side.BUY),
            (0.0, 0.55, Side.BUY),
            (-0.9, 0.6, Side.BUY),
            (-0.5, -0.6, Side.SELL),
            (0.6, -0.6, Side.SELL),
            (0.6, 0.7, NoTrade.NO_EDGE),
            (-0.6, -0.56, NoTrade.NO_EDGE),
            (0.5, 0.54, NoTrade.BELOW_THRESHOLD),
            (0.9, 0.54, NoTrade.BELOW_THRESHOLD),
            (0.9, 0.0, NoTrade.BELOW_THRESHOLD),
        ],
    )
    def test_crossing(self, before: float, now: float, expected: Side | NoTrade) -> None:
        outcome = decided(signals_of(before, now))
        if isinstance(expected, NoTrade):
            assert outcome is expected
        else:
            assert outcome == Wish(side=expected, confidence=abs(now), reason="consensus", indicators=("a", "b"))

    def test_it_may_cross_again_after_it_fell_back(self) -> None:
        signals = signals_of(0.6, 0.6, 0.5, 0.6)
        outcomes = [decided(signals[: end + 1]) for end in range(1, 4)]
        assert outcomes[:2] == [NoTrade.NO_EDGE, NoTrade.BELOW_THRESHOLD]
        assert isinstance(outcomes[2], Wish)

    def test_the_candle_before_is_judged_with_todays_record(self) -> None:
        """With the record of today both candles cross, so there is no edge; without, only the second does."""
        settings = strategy_settings(fusion_settings("bayesian", "a", "b"), memory=1)
        # 0.19 claims 0.595, below the 0.6 that is asked for, and above it once it counts for more.
        signals = signals_of(0.19, 0.25)
        assert isinstance(decided(signals, settings), Wish)
        assert decided(signals, settings, a=(20, 0), b=(20, 0)) is NoTrade.NO_EDGE

    def test_a_word_from_before_a_gap_is_forgotten(self) -> None:
        settings = strategy_settings(memory=3)
        bars = [(0, 0.9), (1, 0.0), (2, 0.0), (3, 0.0)]
        signals = [a_signal(bar, a=x, b=x) for bar, x in bars]
        late = a_signal(40, a=0.0, b=0.9)
        # Of the three last signals one is old: without its word for up, b stands alone.
        old = a_signal(3, a=0.9, b=0.0)
        assert decided([*signals[:3], old, a_signal(4, a=0.0, b=0.9)], settings) == Wish(
            side=Side.BUY, confidence=0.9, reason="consensus", indicators=("a", "b")
        )
        assert decided([*signals[:3], old, late], settings) is NoTrade.BELOW_THRESHOLD


class TestThresholds:
    @pytest.mark.parametrize(
        ("method", "strength", "trades"),
        [
            # min_confidence 0.55 is above time decay's own 0.50, and below the 0.60 of Bayesian and of hybrid here.
            ("consensus", 0.55, True),
            ("consensus", 0.54, False),
            ("timeDecay", 0.55, True),
            ("timeDecay", 0.54, False),
            ("bayesian", 0.21, True),
            ("bayesian", 0.18, False),
            ("hybrid", 0.52, True),
            ("hybrid", 0.44, False),
        ],
    )
    def test_the_higher_of_both_counts(self, method: str, strength: float, trades: bool) -> None:
        fusion = fusion_settings(method, "a", "b")
        # Claims of x make a Bayesian (1 + x) / 2, and a hybrid 0.7 x + 0.3 (1 + x) / 2 = 0.85 x + 0.15.
        settings = strategy_settings(fusion, memory=1)
        outcome = decided(signals_of(0.0, strength), settings)
        assert isinstance(outcome, Wish) is trades
        if not trades:
            assert outcome is NoTrade.BELOW_THRESHOLD

    def test_a_consensus_needs_its_share(self) -> None:
        signals = [a_signal(0), a_signal(1, a=1.0, b=1.0, c=-1.0, d=-1.0)]
        assert decided(signals) is NoTrade.BELOW_THRESHOLD


class TestRefused:
    CROSSING = signals_of(0.0, 0.9)

    def test_history(self) -> None:
        assert decided(signals_of(0.0, 0.9, backfill=True)) is NoTrade.BACKFILL

    def test_a_candle_that_was_decided(self) -> None:
        assert decided(self.CROSSING, already=self.CROSSING[-1].candle_id) is NoTrade.DUPLICATE
        assert isinstance(decided(self.CROSSING, already=self.CROSSING[0].candle_id), Wish)

    def test_a_stale_signal(self) -> None:
        assert isinstance(decided(self.CROSSING, late=timedelta(minutes=2)), Wish)
        assert decided(self.CROSSING, late=timedelta(minutes=2, microseconds=1)) is NoTrade.STALE

    def test_too_few_signals_for_an_edge(self) -> None:
        assert decided(self.CROSSING[1:]) is NoTrade.WARMING_UP
        assert decided(self.CROSSING, strategy_settings(memory=2)) is NoTrade.WARMING_UP

    def test_a_sell_where_only_stops_may_close(self) -> None:
        selling = signals_of(0.0, -0.9)
        assert isinstance(decided(selling), Wish)
        assert decided(selling, strategy_settings(memory=1, sell_on_signal=False)) is NoTrade.SELL_OFF
        assert isinstance(decided(self.CROSSING, strategy_settings(memory=1, sell_on_signal=False)), Wish)


def test_the_wish_of_anything_else_must_reach_the_confidence_too() -> None:
    def think(confidence: float) -> Any:
        return lambda view: Wish(side=Side.BUY, confidence=confidence, reason="mine", indicators=())

    view, settings = View(tuple(signals_of(0.0, 0.0)), {}), strategy_settings(memory=1)
    now = view.signals[-1].candle_closed_at
    assert decide(view, think(0.549), settings, now, None) is NoTrade.BELOW_THRESHOLD
    assert isinstance(decide(view, think(0.55), settings, now, None), Wish)
    # As it stands in the intent, with four places, it reaches it.
    assert isinstance(decide(view, think(0.54996), settings, now, None), Wish)


def test_the_memory_is_counted_in_candles_and_in_time() -> None:
    signals = [a_signal(bar) for bar in (0, 1, 2, 3)]
    assert [one.candle_id for one in remembered(signals, 3)] == [one.candle_id for one in signals[1:]]
    gap = [a_signal(bar) for bar in (0, 1, 5, 6)]
    assert [one.candle_id for one in remembered(gap, 3)] == [one.candle_id for one in gap[2:]]


def test_the_intent_has_all_that_risk_needs() -> None:
    signal = a_signal(2, a=0.9)
    now = START + 3 * BAR + timedelta(seconds=4)
    wish = Wish(side=Side.BUY, confidence=2 / 3, reason="consensus", indicators=("a", "b"))
    made = intent(wish, signal, "bot", "strategy", timedelta(seconds=60), now)
    assert made.id == intent_id("bot", "BTC/USDT", Side.BUY, signal.candle_id)
    assert (made.correlation_id, made.causation_id) == (signal.correlation_id, signal.id)
    assert (made.bot, made.producer, made.at) == ("bot", "strategy", now)
    assert (made.symbol, made.side, made.candle_id) == ("BTC/USDT", Side.BUY, signal.candle_id)
    assert str(made.confidence) == "0.6667"
    assert made.expected_price == Decimal("121556.65")
    assert made.expires_at == now + timedelta(seconds=60)
    assert (made.reason, made.indicators, made.atr) == ("consensus", ("a", "b"), Decimal("350.5"))
