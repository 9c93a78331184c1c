"""The spec's strategy: which indicators speak, and how their signals become one decision."""

from typing import Annotated, Literal

import msgspec

from . import defaults
from .decimals import Amount, Fraction, FractionBelowOne
from .durations import Duration
from .indicators import Indicator, settled_candles
from .model import DERIVED, Model, doc, settle
from .names import Identifier, PluginPath, Text

FusionMethod = Literal["consensus", "timeDecay", "bayesian", "hybrid"]

_Candles = Annotated[int, msgspec.Meta(ge=1, le=1000)]


class Consensus(Model, frozen=True, kw_only=True):
    """Enough indicators say the same at the same time."""

    minimum_agreement: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=50)], doc("Indicators that must agree on the direction.")
    ] = defaults.CONSENSUS_MINIMUM_AGREEMENT
    threshold: Annotated[Fraction, doc("Share of the weight of all that speak which must agree.")] = (
        defaults.CONSENSUS_THRESHOLD
    )


class TimeDecay(Model, frozen=True, kw_only=True):
    """Signals add up, and an older one counts less."""

    half_life_candles: Annotated[_Candles, doc("Candles after which a signal counts half.")] = (
        defaults.TIME_DECAY_HALF_LIFE
    )
    threshold: Annotated[Fraction, doc("Decayed score, of 0..1, from which there is a decision.")] = (
        defaults.TIME_DECAY_THRESHOLD
    )


class Bayesian(Model, frozen=True, kw_only=True):
    """Each indicator counts by how often the trades that it supported won."""

    prior_accuracy: Annotated[
        FractionBelowOne, doc("How often an indicator without a record is taken to be right.")
    ] = defaults.BAYESIAN_PRIOR_ACCURACY
    prior_strength: Annotated[
        Annotated[int, msgspec.Meta(ge=1, le=10_000)], doc("Closed trades that this assumption is worth.")
    ] = defaults.BAYESIAN_PRIOR_STRENGTH
    threshold: Annotated[Fraction, doc("Probability of the direction from which there is a decision.")] = (
        defaults.BAYESIAN_THRESHOLD
    )


class HybridWeights(Model, frozen=True, kw_only=True):
    """How much each method counts in the hybrid; relative to their sum."""

    consensus: Annotated[Amount, doc("Weight of the consensus.")] = defaults.HYBRID_CONSENSUS_WEIGHT
    time_decay: Annotated[Amount, doc("Weight of the time decay.")] = defaults.HYBRID_TIME_DECAY_WEIGHT
    bayesian: Annotated[Amount, doc("Weight of the Bayesian part.")] = defaults.HYBRID_BAYESIAN_WEIGHT


class Hybrid(Model, frozen=True, kw_only=True):
    """The weighted mean of the other three."""

    weights: Annotated[HybridWeights, doc("Weights of the methods.")] = msgspec.field(default_factory=HybridWeights)
    threshold: Annotated[Fraction, doc("Weighted mean, of 0..1, from which there is a decision.")] = (
        defaults.HYBRID_THRESHOLD
    )


class Plugin(Model, frozen=True, kw_only=True):
    """A strategy of one's own in place of a fusion."""

    path: Annotated[PluginPath, doc("module:Class of the strategy, importable where the strategy agent runs.")]
    parameters: Annotated[
        Annotated[dict[Identifier, Text], msgspec.Meta(max_length=100)],
        doc("Handed to the class as they are, all text."),
    ] = msgspec.field(default_factory=dict)


def _default_indicators() -> tuple[Indicator, ...]:
    return tuple(Indicator(name=name) for name in defaults.INDICATORS)


class Strategy(Model, frozen=True, kw_only=True):
    """From signals to intents. Exactly one of `fusion` and `plugin` decides."""

    fusion: Annotated[
        FusionMethod | None, doc("How signals become a decision; by default consensus, unless a plugin decides.")
    ] = DERIVED
    plugin: Annotated[Plugin | None, doc("A strategy of one's own in place of a fusion.")] = None
    indicators: Annotated[
        Annotated[tuple[Indicator, ...], msgspec.Meta(min_length=1, max_length=50)], doc("The indicators that speak.")
    ] = msgspec.field(default_factory=_default_indicators)
    window: Annotated[
        Annotated[int, msgspec.Meta(ge=10, le=20_000)],
        doc("Candles over which indicators are computed; by default 200, or what they need to settle."),
    ] = DERIVED
    min_confidence: Annotated[Fraction, doc("A decision below this confidence, of 0..1, makes no intent.")] = (
        defaults.MIN_CONFIDENCE
    )
    signal_max_age: Annotated[
        Duration, doc("A signal makes no decision when its candle closed longer ago than this.")
    ] = defaults.SIGNAL_MAX_AGE
    signal_memory_candles: Annotated[
        _Candles, doc("Candles for which an indicator's last signal still counts in a fusion.")
    ] = defaults.SIGNAL_MEMORY
    recall_timeout: Annotated[
        Duration, doc("How long a strategy that starts waits for technical analysis to tell its last signals.")
    ] = defaults.RECALL_TIMEOUT
    intent_time_to_live: Annotated[
        Duration, doc("From decision to reservation; an older intent is refused with stale_intent.")
    ] = defaults.INTENT_TIME_TO_LIVE
    sell_on_signal: Annotated[
        bool, doc("Whether a SELL decision closes a position; if not, only stops and targets do.")
    ] = defaults.SELL_ON_SIGNAL
    consensus: Annotated[Consensus, doc("Settings of fusion consensus, also within hybrid.")] = msgspec.field(
        default_factory=Consensus
    )
    time_decay: Annotated[TimeDecay, doc("Settings of fusion timeDecay, also within hybrid.")] = msgspec.field(
        default_factory=TimeDecay
    )
    bayesian: Annotated[Bayesian, doc("Settings of fusion bayesian, also within hybrid.")] = msgspec.field(
        default_factory=Bayesian
    )
    hybrid: Annotated[Hybrid, doc("Settings of fusion hybrid.")] = msgspec.field(default_factory=Hybrid)

    def __post_init__(self) -> None:
        settle(self, "fusion", defaults.FUSION if self.plugin is None else None)
        settle(self, "window", max(defaults.WINDOW_MINIMUM, *map(settled_candles, self.indicators), 0))
