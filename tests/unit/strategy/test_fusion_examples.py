"""Worked examples: the numbers beside each are computed by hand."""

from __future__ import annotations

import math

import pytest

from support.analysis import a_signal, fusion_settings, performance_of
from tradingbot_agents.domain.messages import Direction, SignalRaised
from tradingbot_agents.strategy.fusion import NEUTRAL, Fused, accuracy, fuse
from tradingbot_agents.strategy.settings import (
    BayesianSettings,
    ConsensusSettings,
    FusionSettings,
    HybridSettings,
)

UP, DOWN = Direction.UP, Direction.DOWN


def fused(settings: FusionSettings, *signals: SignalRaised, **records: tuple[int, int]) -> Fused:
    return fuse(signals, settings, performance_of(**records))


class TestConsensus:
    SETTINGS = fusion_settings("consensus")

    def test_all_agree(self) -> None:
        # Share 3/3, mean (0.9 + 0.6 + 0.6) / 3 = 0.7.
        assert fused(self.SETTINGS, a_signal(a=0.9, b=0.6, c=0.6)) == Fused(UP, 0.7, ("a", "b", "c"))

    def test_one_of_four_disagrees(self) -> None:
        # Share 3/4, mean of the three 0.8: 0.75 * 0.8 = 0.6.
        assert fused(self.SETTINGS, a_signal(a=-0.8, b=-0.8, c=-0.8, d=1.0)) == Fused(DOWN, 0.6, ("a", "b", "c"))

    def test_the_silent_do_not_vote(self) -> None:
        assert fused(self.SETTINGS, a_signal(a=0.8, b=0.6, c=0.0, d=0.0)) == Fused(UP, 0.7, ("a", "b"))

    def test_a_share_below_the_threshold_is_none(self) -> None:
        # Two of three with a seven in ten asked for: 0.67 < 0.70.
        asked = fusion_settings(consensus=ConsensusSettings(minimum_agreement=2, threshold=0.7))
        assert fused(asked, a_signal(a=1.0, b=1.0, c=-0.1)) == NEUTRAL

    def test_one_alone_is_none(self) -> None:
        assert fused(self.SETTINGS, a_signal(a=1.0)) == NEUTRAL

    def test_a_tie_is_none(self) -> None:
        assert fused(self.SETTINGS, a_signal(a=1.0, b=1.0, c=-0.1, d=-0.1)) == NEUTRAL

    def test_weights_count(self) -> None:
        # Up weighs 3 + 1 = 4 of 6: share 0.667; mean (3 * 0.9 + 1 * 0.3) / 4 = 0.75; together 0.5.
        heavy = fusion_settings(weights={"a": 3.0, "b": 1.0, "c": 2.0})
        assert fused(heavy, a_signal(a=0.9, b=0.3, c=-1.0)) == Fused(UP, 0.5, ("a", "b"))

    def test_one_without_a_weight_does_not_count(self) -> None:
        assert fused(self.SETTINGS, a_signal(a=0.8, b=0.6, retired=-1.0)) == Fused(UP, 0.7, ("a", "b"))

    def test_the_last_word_counts_while_it_is_remembered(self) -> None:
        signals = a_signal(0, a=-0.9, b=0.6), a_signal(1, a=0.8, b=0.0), a_signal(2, a=0.0, b=0.0)
        assert fused(self.SETTINGS, *signals) == Fused(UP, 0.7, ("a", "b"))


class TestTimeDecay:
    SETTINGS = fusion_settings("timeDecay")
    """Half-life: two bars."""

    def test_a_steady_word_keeps_its_confidence(self) -> None:
        assert fused(self.SETTINGS, *(a_signal(bar, a=0.8) for bar in range(3))) == Fused(UP, 0.8, ("a",))

    def test_an_old_word_counts_less_than_a_new_one(self) -> None:
        # Decays: 1, 0.7071, 0.5; their sum 2.2071. Said two bars ago: 0.5 * 0.8 / 2.2071 = 0.1812.
        old = fused(self.SETTINGS, a_signal(0, a=0.8), a_signal(1, a=0.0), a_signal(2, a=0.0))
        assert old == Fused(UP, 0.1812, ("a",))
        # Said now: 1 * 0.8 / 2.2071 = 0.3625.
        new = fused(self.SETTINGS, a_signal(0, a=0.0), a_signal(1, a=0.0), a_signal(2, a=0.8))
        assert new == Fused(UP, 0.3625, ("a",))

    def test_indicators_are_averaged_by_weight(self) -> None:
        # (2 * 0.9 - 1 * 0.6) / 3 = 0.4; the silent one is left out.
        weighted = fusion_settings("timeDecay", weights={"a": 2.0, "b": 1.0, "c": 5.0})
        assert fused(weighted, a_signal(a=0.9, b=-0.6, c=0.0)) == Fused(UP, 0.4, ("a",))

    def test_who_changed_sides_counts_for_the_newer_one(self) -> None:
        # (1 * -0.8 + 0.7071 * 0.8) / 1.7071 = -0.1373.
        assert fused(self.SETTINGS, a_signal(0, a=0.8), a_signal(1, a=-0.8)) == Fused(DOWN, 0.1373, ("a",))

    def test_opposites_cancel(self) -> None:
        assert fused(self.SETTINGS, a_signal(a=0.7, b=-0.7)) == NEUTRAL


class TestBayesian:
    SETTINGS = fusion_settings("bayesian", "a", "b")
    """A prior of 10 right of 20."""

    def test_without_a_record_all_are_taken_at_their_word(self) -> None:
        # (1 + 0.6) / 2 = 0.8 each, and their pool is 0.8.
        assert fused(self.SETTINGS, a_signal(a=0.6, b=0.6)) == Fused(UP, 0.8, ("a", "b"))

    def test_the_silent_say_fifty_fifty(self) -> None:
        # Half of ln(4) is ln(2): odds of 2 to 1.
        assert fused(self.SETTINGS, a_signal(a=0.6, b=0.0)) == Fused(UP, 0.6667, ("a",))

    def test_a_record_counts(self) -> None:
        # a: (10 + 30) / (20 + 40) = 2/3, so 4/3 of its word; b: (10 + 0) / (20 + 10) = 1/3, so 2/3 of its word.
        # L = (4/3 - 2/3) * ln(4) / 2 = 0.4621, p = 0.6135.
        record = {"a": (30, 10), "b": (0, 10)}
        assert fused(self.SETTINGS, a_signal(a=0.6, b=-0.6), **record) == Fused(UP, 0.6135, ("a",))
        # Without it they cancel.
        assert fused(self.SETTINGS, a_signal(a=0.6, b=-0.6)) == NEUTRAL

    def test_a_better_prior_counts_for_more(self) -> None:
        # 2 * 0.75 = 1.5 times ln(4): 4 ** 1.5 = 8 to 1.
        sure = BayesianSettings(prior_accuracy=0.75, prior_strength=20, threshold=0.6)
        settings = fusion_settings("bayesian", "a", bayesian=sure)
        assert fused(settings, a_signal(a=0.6)) == Fused(UP, 0.8889, ("a",))

    def test_certainty_is_capped(self) -> None:
        # 0.98 is 99 to 1.
        assert fused(fusion_settings("bayesian", "a"), a_signal(a=1.0)) == Fused(UP, 0.99, ("a",))

    def test_the_accuracy_is_the_mean_of_the_beta_distribution(self) -> None:
        settings = BayesianSettings(prior_accuracy=0.5, prior_strength=20, threshold=0.6)
        assert accuracy(None, settings) == 0.5
        assert accuracy(performance_of(a=(30, 10))["a"], settings) == pytest.approx(40 / 60)


class TestHybrid:
    def test_the_weighted_mean_of_the_three(self) -> None:
        # One signal, all at 0.6: consensus 0.6, time decay 0.6, Bayesian 0.8.
        # 0.4 * 0.6 + 0.3 * 0.6 + 0.3 * 0.8 = 0.66.
        settings = fusion_settings("hybrid", "a", "b")
        assert fused(settings, a_signal(a=0.6, b=0.6)) == Fused(UP, 0.66, ("a", "b"))

    def test_the_methods_may_disagree(self) -> None:
        # Consensus: two of three up, share 0.667, (0.1 + 0.1) / 3 = 0.0667 up. Time decay: (0.1 + 0.1 - 0.9) / 3 =
        # -0.2333. Bayesian: (2 * ln(1.1 / 0.9) - ln(1.9 / 0.1)) / 3 = -0.8477, p = 0.7001 down.
        # 0.4 * 0.0667 - 0.3 * 0.2333 - 0.3 * 0.7001 = -0.2533.
        settings = fusion_settings("hybrid", "a", "b", "c")
        assert fused(settings, a_signal(a=0.1, b=0.1, c=-0.9)) == Fused(DOWN, 0.2533, ("c",))

    @pytest.mark.parametrize("method", ["consensus", "timeDecay", "bayesian"])
    def test_with_one_weight_it_is_that_method(self, method: str) -> None:
        weights = {"consensus": (1.0, 0.0, 0.0), "timeDecay": (0.0, 1.0, 0.0), "bayesian": (0.0, 0.0, 1.0)}[method]
        only = HybridSettings(
            consensus_weight=weights[0], time_decay_weight=weights[1], bayesian_weight=weights[2], threshold=0.5
        )
        signals = a_signal(0, a=0.9, b=0.4, c=-0.2), a_signal(1, a=0.8, b=0.0, c=-0.3)
        record = {"a": (5, 2), "c": (1, 7)}
        hybrid = fused(fusion_settings("hybrid", hybrid=only), *signals, **record)
        alone = fused(fusion_settings(method), *signals, **record)
        assert (hybrid.direction, hybrid.confidence) == (alone.direction, alone.confidence)

    def test_no_weight_at_all_is_refused(self) -> None:
        with pytest.raises(ValueError, match="raise at least one"):
            HybridSettings(consensus_weight=0.0, time_decay_weight=0.0, bayesian_weight=0.0, threshold=0.5)


@pytest.mark.parametrize("method", ["consensus", "timeDecay", "bayesian", "hybrid"])
def test_nobody_speaks(method: str) -> None:
    assert fused(fusion_settings(method), a_signal(0, a=0.0), a_signal(1, a=0.0, b=0.0)) == NEUTRAL
    assert fused(fusion_settings(method), a_signal(0)) == NEUTRAL


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan])
def test_a_weight_is_above_zero(weight: float) -> None:
    with pytest.raises(ValueError, match="weight of indicator 'a'"):
        fusion_settings(weights={"a": weight})
