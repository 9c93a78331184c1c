"""The four fusions: pure functions from the last signals of a symbol to one direction with a confidence.

Notation. Indicator *i* has weight ``w_i``. Its reading in a signal is ``x = s * c``: ``s`` is +1 (up), -1 (down) or
0 (neutral), ``c`` in 0..1 is its confidence. Its *last word* is its newest reading in the memory that is not neutral;
an indicator that has one *speaks*. Ages are counted from the close of the newest signal's candle, never from a clock,
so that a decision that is taken again after a restart is the same decision.

Each fusion is a function of the set of readings: their order does not matter (sums are exact, ``math.fsum``), the
opposite of every reading gives the opposite direction with the same confidence, and without anyone who speaks the
result is neutral with confidence 0. Confidences have four places, as an intent's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from tradingbot_agents.domain.messages import Direction, SignalRaised
from tradingbot_agents.ledger.port import Performance
from tradingbot_agents.strategy.settings import (
    BayesianSettings,
    ConsensusSettings,
    FusionMethod,
    FusionSettings,
    TimeDecaySettings,
)

CONFIDENCE_STEPS = 10_000

SUREST = 0.98
"""No claim counts for more than ninety-nine in a hundred: certainty has infinite log-odds, and would silence all."""


class Fused(msgspec.Struct, frozen=True):
    """``confidence`` in 0..1 with four places, 0 if neutral. ``indicators``: those that speak for the direction."""

    direction: Direction
    confidence: float
    indicators: tuple[str, ...]


Scores = Mapping[str, float]
"""Signed confidences ``x`` in -1..1, not 0, by the indicator's id."""

NEUTRAL = Fused(Direction.NEUTRAL, 0.0, ())

_UP, _DOWN = Direction.UP, Direction.DOWN


def last_words(signals: Sequence[SignalRaised], weights: Mapping[str, float]) -> dict[str, float]:
    """What each indicator that has a weight said last. ``signals`` are oldest first."""
    words: dict[str, float] = {}
    for signal in reversed(signals):
        for reading in signal.readings:
            indicator = reading.indicator
            if reading.confidence and indicator not in words and indicator in weights:
                words[indicator] = reading.confidence if reading.direction is _UP else -reading.confidence
    return words


def consensus(words: Scores, weights: Mapping[str, float], settings: ConsensusSettings) -> Fused:
    """Enough indicators say the same.

    ``A`` is the set of those that say what the larger weight says, ``V`` of all that speak::

        share      = sum(w_i, A) / sum(w_i, V)
        confidence = share * sum(w_i * c_i, A) / sum(w_i, A)  =  sum(w_i * c_i, A) / sum(w_i, V)

    Neutral if the two sides weigh the same, if ``share < threshold``, or if ``A`` has fewer than
    ``minimum_agreement`` members.
    """
    up = [indicator for indicator, x in words.items() if x > 0]
    down = [indicator for indicator, x in words.items() if x < 0]
    weight_up, weight_down = _sum(weights[i] for i in up), _sum(weights[i] for i in down)
    if weight_up == weight_down:
        return NEUTRAL
    direction, agreeing, weight = (_UP, up, weight_up) if weight_up > weight_down else (_DOWN, down, weight_down)
    total = weight_up + weight_down
    if len(agreeing) < settings.minimum_agreement or weight / total < settings.threshold:
        return NEUTRAL
    return _fused(direction, _sum(weights[i] * abs(words[i]) for i in agreeing) / total, agreeing)


def time_decay(signals: Sequence[SignalRaised], weights: Mapping[str, float], settings: TimeDecaySettings) -> Fused:
    """Readings add up, and an older one counts less.

    ``d_j = 0.5 ** (age_j / half_life)`` for each signal *j*; ``V`` is the set of indicators that speak::

        x_i   = sum(d_j * x_ij, j) / sum(d_j, j)          a neutral reading counts as 0
        score = sum(w_i * x_i, V) / sum(w_i, V)

    The direction is the score's sign, the confidence its size.
    """
    newest = signals[-1].candle_closed_at
    spoken: dict[str, list[float]] = {}
    decays = []
    for signal in signals:
        decay = 0.5 ** ((newest - signal.candle_closed_at) / settings.half_life)
        decays.append(decay)
        for reading in signal.readings:
            if reading.confidence and reading.indicator in weights:
                x = reading.confidence if reading.direction is _UP else -reading.confidence
                spoken.setdefault(reading.indicator, []).append(decay * x)
    if not spoken:
        return NEUTRAL
    scale = _sum(decays)
    scores = {indicator: _sum(xs) / scale for indicator, xs in spoken.items()}
    return _by_sign(_sum(weights[i] * x for i, x in scores.items()) / _sum(weights[i] for i in scores), scores)


def bayesian(
    words: Scores, weights: Mapping[str, float], performance: Mapping[str, Performance], settings: BayesianSettings
) -> Fused:
    """Each indicator counts by how often it was right: a pool of log-odds.

    A word claims that its direction is right with probability ``(1 + c) / 2``, a neutral one says fifty-fifty. What
    the claim is worth is learnt from the trades that the indicator supported, with a Beta prior::

        accuracy_i = (prior_accuracy * prior_strength + wins_i) / (prior_strength + wins_i + losses_i)
        L          = sum(w_i * 2 * accuracy_i * s_i * ln((1 + c_i) / (1 - c_i))) / sum(w_i, all)
        confidence = 1 / (1 + exp(-abs(L)))

    The direction is the sign of ``L``, the confidence its probability, and so above 0.5 unless neutral. An indicator
    that was right half the time is taken at its word, a better one for more, a worse one for less, and none is ever
    turned into its opposite. Log-odds are averaged and not added, for the indicators see the same prices: their
    agreement is not independent evidence.
    """
    terms = []
    for indicator, x in words.items():
        claim = min(abs(x), SUREST)
        odds = math.copysign(math.log((1 + claim) / (1 - claim)), x)
        terms.append(weights[indicator] * 2 * accuracy(performance.get(indicator), settings) * odds)
    pooled = _sum(terms) / _sum(weights.values())
    if pooled == 0:
        return NEUTRAL
    return _by_sign(math.copysign(1 / (1 + math.exp(-abs(pooled))), pooled), words)


def accuracy(record: Performance | None, settings: BayesianSettings) -> float:
    """The mean of the Beta distribution after the indicator's wins and losses, in 0..1."""
    wins, losses = (record.wins, record.losses) if record is not None else (0, 0)
    prior = settings.prior_accuracy * settings.prior_strength
    return (prior + wins) / (settings.prior_strength + wins + losses)


def hybrid(
    signals: Sequence[SignalRaised], words: Scores, settings: FusionSettings, performance: Mapping[str, Performance]
) -> Fused:
    """The weighted mean of the other three, each as a signed confidence (``m_k`` is the method's weight)::

        score = sum(m_k * s_k * confidence_k) / sum(m_k)

    The direction is the score's sign, the confidence its size. The supporting indicators are those whose last word
    has that direction. Of the methods' own settings the thresholds of time decay and Bayesian do not apply here.
    """
    mix, weights = settings.hybrid, settings.weights
    parts = (
        (mix.consensus_weight, consensus(words, weights, settings.consensus)),
        (mix.time_decay_weight, time_decay(signals, weights, settings.time_decay)),
        (mix.bayesian_weight, bayesian(words, weights, performance, settings.bayesian)),
    )
    score = _sum(m * (part.confidence if part.direction is _UP else -part.confidence) for m, part in parts)
    return _by_sign(score / _sum(m for m, _ in parts), words)


def fuse(signals: Sequence[SignalRaised], settings: FusionSettings, performance: Mapping[str, Performance]) -> Fused:
    """By the method of the settings. ``signals`` are those of the memory, oldest first, at least one."""
    if settings.method is FusionMethod.TIME_DECAY:
        return time_decay(signals, settings.weights, settings.time_decay)
    words = last_words(signals, settings.weights)
    if settings.method is FusionMethod.CONSENSUS:
        return consensus(words, settings.weights, settings.consensus)
    if settings.method is FusionMethod.BAYESIAN:
        return bayesian(words, settings.weights, performance, settings.bayesian)
    return hybrid(signals, words, settings, performance)


_sum: Callable[[Iterable[float]], float] = math.fsum


def rounded_confidence(confidence: float) -> float:
    """To four places, in 0..1. Not by ``round``, which takes as long as the rest of a fusion."""
    return int(min(confidence, 1.0) * CONFIDENCE_STEPS + 0.5) / CONFIDENCE_STEPS


def _by_sign(score: float, scores: Scores) -> Fused:
    if score == 0:
        return NEUTRAL
    sign = 1 if score > 0 else -1
    return _fused(_UP if sign > 0 else _DOWN, abs(score), [i for i, x in scores.items() if x * sign > 0])


def _fused(direction: Direction, confidence: float, indicators: list[str]) -> Fused:
    """A confidence that rounds to nothing is none."""
    rounded = rounded_confidence(confidence)
    return Fused(direction, rounded, tuple(sorted(indicators))) if rounded else NEUTRAL
