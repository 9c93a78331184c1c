"""What holds of every fusion, whatever the signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.analysis import a_signal, fusion_settings, performance_of
from tradingbot_agents.domain.messages import Direction, SignalRaised
from tradingbot_agents.strategy.fusion import Fused, fuse
from tradingbot_agents.strategy.settings import FusionSettings

INDICATORS = ("a", "b", "c", "d", "e")

methods = pytest.mark.parametrize("method", ["consensus", "timeDecay", "bayesian", "hybrid"])

scores = st.one_of(st.just(0.0), st.floats(-1, 1), st.sampled_from([1.0, -1.0, 1e-6, -1e-6]))
rows = st.lists(
    st.dictionaries(st.sampled_from(INDICATORS), scores, max_size=len(INDICATORS)), min_size=1, max_size=4
)
weights = st.fixed_dictionaries(dict.fromkeys(INDICATORS, st.floats(0.1, 10)))
counts = st.tuples(st.integers(0, 200), st.integers(0, 200))
records = st.dictionaries(st.sampled_from(INDICATORS), counts)

Rows = Sequence[Mapping[str, float]]


def signals_of(rows: Rows) -> list[SignalRaised]:
    return [a_signal(index, **row) for index, row in enumerate(rows)]


def settings_of(method: str, weights: Mapping[str, float]) -> FusionSettings:
    return fusion_settings(method, weights=weights)


def opposite(fused: Fused) -> Direction:
    turned = {Direction.UP: Direction.DOWN, Direction.DOWN: Direction.UP, Direction.NEUTRAL: Direction.NEUTRAL}
    return turned[fused.direction]


def signed(fused: Fused) -> float:
    return -fused.confidence if fused.direction is Direction.DOWN else fused.confidence


@methods
@settings(max_examples=60, deadline=None)
@given(rows=rows, weights=weights, record=records)
def test_confidence_is_in_range_and_the_supporters_support(
    method: str, rows: Rows, weights: Mapping[str, float], record: dict[str, tuple[int, int]]
) -> None:
    fused = fuse(signals_of(rows), settings_of(method, weights), performance_of(**record))
    assert 0.0 <= fused.confidence <= 1.0
    assert fused.confidence == round(fused.confidence, 4)
    assert (fused.direction is Direction.NEUTRAL) is (fused.confidence == 0.0)
    sign = 1 if fused.direction is Direction.UP else -1
    for indicator in fused.indicators:
        assert any(row.get(indicator, 0.0) * sign > 0 for row in rows)
    if fused.direction is Direction.NEUTRAL:
        assert fused.indicators == ()


@methods
@settings(max_examples=60, deadline=None)
@given(rows=rows, weights=weights, record=records)
def test_the_opposite_readings_give_the_opposite(
    method: str, rows: Rows, weights: Mapping[str, float], record: dict[str, tuple[int, int]]
) -> None:
    turned = [{indicator: -score for indicator, score in row.items()} for row in rows]
    chosen, performance = settings_of(method, weights), performance_of(**record)
    here, there = fuse(signals_of(rows), chosen, performance), fuse(signals_of(turned), chosen, performance)
    assert there == Fused(opposite(here), here.confidence, here.indicators)


@methods
@settings(max_examples=60, deadline=None)
@given(rows=rows, weights=weights, record=records, chance=st.randoms(use_true_random=False))
def test_the_order_of_the_readings_does_not_matter(
    method: str, rows: Rows, weights: Mapping[str, float], record: dict[str, tuple[int, int]], chance: object
) -> None:
    shuffled = []
    for signal in signals_of(rows):
        readings = list(signal.readings)
        chance.shuffle(readings)  # type: ignore[attr-defined]
        shuffled.append(msgspec.structs.replace(signal, readings=tuple(readings)))
    chosen, performance = settings_of(method, weights), performance_of(**record)
    assert fuse(shuffled, chosen, performance) == fuse(signals_of(rows), chosen, performance)


@methods
@given(count=st.integers(1, 4), silent=st.sets(st.sampled_from(INDICATORS)))
def test_neutral_readings_are_neutral(method: str, count: int, silent: set[str]) -> None:
    rows = [dict.fromkeys(silent, 0.0)] * count
    assert fuse(signals_of(rows), fusion_settings(method, *INDICATORS), {}).direction is Direction.NEUTRAL


@methods
@settings(max_examples=60, deadline=None)
@given(
    # Not so small that the difference is lost in the fourth place.
    confidences=st.lists(st.floats(0.1, 1), min_size=5, max_size=5),
    turned=st.sets(st.sampled_from(INDICATORS), min_size=1, max_size=4),
    count=st.integers(1, 4),
    weights=st.fixed_dictionaries(dict.fromkeys(INDICATORS, st.floats(0.5, 2))),
)
def test_unanimous_is_stronger_than_split(
    method: str, confidences: list[float], turned: set[str], count: int, weights: Mapping[str, float]
) -> None:
    all_up = dict(zip(INDICATORS, confidences, strict=True))
    split = {indicator: -score if indicator in turned else score for indicator, score in all_up.items()}
    chosen = settings_of(method, weights)
    unanimous = fuse(signals_of([all_up] * count), chosen, {})
    assert unanimous.direction is Direction.UP
    assert set(unanimous.indicators) == set(INDICATORS)
    assert signed(unanimous) > signed(fuse(signals_of([split] * count), chosen, {}))


@pytest.mark.parametrize("method", ["bayesian", "hybrid"])
@settings(max_examples=100, deadline=None)
@given(rows=rows, weights=weights, record=records, better=st.sampled_from(INDICATORS), more=st.integers(1, 100))
def test_a_better_record_never_lowers_an_indicators_influence(
    method: str,
    rows: Rows,
    weights: Mapping[str, float],
    record: dict[str, tuple[int, int]],
    better: str,
    more: int,
) -> None:
    """Its last word pulls the result to its side at least as far as before."""
    wins, losses = record.get(better, (0, 0))
    chosen = settings_of(method, weights)
    before = fuse(signals_of(rows), chosen, performance_of(**record))
    after = fuse(signals_of(rows), chosen, performance_of(**{**record, better: (wins + more, losses)}))
    word = next((row[better] for row in reversed(rows) if row.get(better)), 0.0)
    if word == 0.0:
        assert after == before
    elif word > 0:
        assert signed(after) >= signed(before)
    else:
        assert signed(after) <= signed(before)


@settings(max_examples=60, deadline=None)
@given(rows=rows, weights=weights)
def test_bayesian_without_history_is_the_prior(rows: Rows, weights: Mapping[str, float]) -> None:
    """A record that is what the prior expects changes nothing either."""
    chosen = settings_of("bayesian", weights)
    expected = performance_of(**dict.fromkeys(INDICATORS, (50, 50)))
    assert fuse(signals_of(rows), chosen, {}) == fuse(signals_of(rows), chosen, expected)


@methods
@settings(max_examples=60, deadline=None)
@given(rows=rows, weights=weights, factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_only_the_relation_of_the_weights_counts(
    method: str, rows: Rows, weights: Mapping[str, float], factor: float
) -> None:
    scaled = {indicator: weight * factor for indicator, weight in weights.items()}
    assert fuse(signals_of(rows), settings_of(method, scaled), {}) == fuse(
        signals_of(rows), settings_of(method, weights), {}
    )
