"""What the strategy is told: what decides, and from when on a decision counts. Defaults live in the spec's types."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum

import msgspec


class FusionMethod(StrEnum):
    CONSENSUS = "consensus"
    TIME_DECAY = "timeDecay"
    BAYESIAN = "bayesian"
    HYBRID = "hybrid"


class ConsensusSettings(msgspec.Struct, frozen=True, kw_only=True):
    minimum_agreement: int
    """Indicators that must agree."""
    threshold: float
    """Share, in 0..1, of the weight of all that speak which must agree."""


class TimeDecaySettings(msgspec.Struct, frozen=True, kw_only=True):
    half_life: timedelta
    """Age at which a reading counts half."""
    threshold: float
    """Confidence, in 0..1, from which there is a decision."""


class BayesianSettings(msgspec.Struct, frozen=True, kw_only=True):
    prior_accuracy: float
    """How often, in 0..1, an indicator without a record is taken to be right; at 0.5 it is taken at its word."""
    prior_strength: float
    """Trades that this assumption is worth."""
    threshold: float
    """Probability of the direction, in 0..1, from which there is a decision."""


class HybridSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How much each method counts, relative to their sum."""

    consensus_weight: float
    time_decay_weight: float
    bayesian_weight: float
    threshold: float
    """Weighted mean, in 0..1, from which there is a decision."""

    def __post_init__(self) -> None:
        if not self.consensus_weight + self.time_decay_weight + self.bayesian_weight > 0:
            raise ValueError("hybrid: all three weights are 0, so nothing decides: raise at least one of them")


class FusionSettings(msgspec.Struct, frozen=True, kw_only=True):
    method: FusionMethod
    weights: Mapping[str, float]
    """Of each indicator, by its id. A reading of an indicator that is not here does not count."""
    consensus: ConsensusSettings
    time_decay: TimeDecaySettings
    bayesian: BayesianSettings
    hybrid: HybridSettings

    def __post_init__(self) -> None:
        for indicator, weight in self.weights.items():
            if not weight > 0:
                raise ValueError(f"weight of indicator {indicator!r} is {weight:g}: raise it above 0 or leave it out")


class PluginSettings(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    """``module:Class``."""
    parameters: Mapping[str, str]


class StrategySettings(msgspec.Struct, frozen=True, kw_only=True):
    decider: FusionSettings | PluginSettings
    memory: int
    """Candles for which a reading still counts."""
    min_confidence: float
    """In 0..1. A decision below it makes no intent."""
    signal_max_age: timedelta
    """From the close of a signal's candle. An older signal makes no decision."""
    recall_timeout: timedelta
    """How long a start waits for technical analysis to tell its last signals."""
    intent_time_to_live: timedelta
    """From the decision to the reservation."""
    sell_on_signal: bool
    """Whether a SELL is wished for at all; if not, only stops and targets close a position."""
