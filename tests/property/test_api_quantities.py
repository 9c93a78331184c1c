"""Properties of the spec's texts: what is written is read back, patterns say what parsers take, and no text at all
makes anything else than a bot or a `SpecInvalid`."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.specs import LIVE, PAPER, changed, mistakes_of
from tradingbot_api import (
    TIMEFRAMES,
    ScalarInvalid,
    SpecInvalid,
    dump,
    format_bytes,
    format_cpu,
    format_decimal,
    format_duration,
    format_timestamp,
    load_object,
    load_text,
    parse_bytes,
    parse_cpu,
    parse_decimal,
    parse_duration,
    parse_timestamp,
    resolved,
    revision,
)
from tradingbot_api.decimals import (
    AMOUNT,
    FRACTION,
    FRACTION_BELOW_ONE,
    FRACTION_OR_ZERO,
    POSITIVE_DECIMAL,
    SPEED,
)
from tradingbot_api.durations import DURATION, DURATION_OR_ZERO
from tradingbot_api.names import OBJECT_NAME, PLUGIN_PATH, URL
from tradingbot_api.quantities import BYTES, CPU
from tradingbot_api.scalar import Scalar
from tradingbot_api.schedules import SCHEDULE
from tradingbot_api.symbols import CURRENCY, SYMBOL
from tradingbot_api.timestamps import TIMESTAMP

# Those whose pattern says everything, and those that refuse some texts of their pattern (a month 13).
EXACT = [
    AMOUNT,
    FRACTION,
    FRACTION_BELOW_ONE,
    FRACTION_OR_ZERO,
    POSITIVE_DECIMAL,
    SPEED,
    DURATION,
    DURATION_OR_ZERO,
    SYMBOL,
    CURRENCY,
    OBJECT_NAME,
    PLUGIN_PATH,
    URL,
]
LOOSE = [CPU, BYTES, SCHEDULE, TIMESTAMP]

# Text near a scalar's: its characters and what people mistype.
NEARBY = st.text(alphabet="0123456789.,%-+eEmshdwKMGTikx/:*@ ZTUSDbt_\n", max_size=24)

durations = st.one_of(
    st.integers(0, 999_999_999).map(lambda count: timedelta(milliseconds=count)),
    st.integers(0, 999_999).map(lambda count: timedelta(seconds=count)),
    st.integers(0, 9_999).map(lambda count: timedelta(days=count)),
)
decimals = st.decimals(min_value=0, max_value=10**17, allow_nan=False, allow_infinity=False, places=18) | st.decimals(
    min_value=0, max_value=10**17, allow_nan=False, allow_infinity=False, places=2
)


@given(durations)
def test_durations_are_read_back(value: timedelta) -> None:
    assert parse_duration(format_duration(value)) == value


@given(decimals)
def test_decimals_are_read_back_exactly(value: Decimal) -> None:
    assert parse_decimal(format_decimal(value)) == value


@given(decimals, st.integers(0, 5))
def test_equal_decimals_have_equal_text(value: Decimal, zeros: int) -> None:
    text = format(value, "f")
    padded = Decimal(f"{text}{'' if '.' in text else '.'}{'0' * zeros}" if zeros else text)
    assert format_decimal(padded) == format_decimal(value)


@given(st.integers(1, 10**6).map(lambda count: Decimal(count) / 1000))
def test_cpu_is_read_back(value: Decimal) -> None:
    assert parse_cpu(format_cpu(value)) == value


@given(st.integers(1, 10**15 - 1))
def test_bytes_are_read_back(value: int) -> None:
    assert parse_bytes(format_bytes(value)) == value


@pytest.mark.parametrize("text", ["10000000000G", "1000T", "999999999999999Ti"])
def test_more_bytes_than_can_be_written_again_are_refused(text: str) -> None:
    with pytest.raises(ScalarInvalid, match="is more than any volume holds; write less than 1000T"):
        parse_bytes(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_moments_are_read_back(value: datetime) -> None:
    assert parse_timestamp(format_timestamp(value)) == value


@pytest.mark.parametrize("scalar", EXACT + LOOSE, ids=lambda scalar: scalar.name)
@given(data=st.data())
def test_a_parser_takes_what_its_pattern_says(scalar: Scalar, data: st.DataObject) -> None:
    text = data.draw(NEARBY | st.from_regex(scalar.pattern) | st.text(max_size=20))
    matches = re.fullmatch(scalar.pattern, text) is not None
    value = parsed(scalar, text)
    if isinstance(value, ScalarInvalid):
        assert value.problem
        assert value.remedy
        assert not (matches and scalar in EXACT)
    else:
        assert matches
        assert scalar.parse(scalar.format(value)) == value


def parsed(scalar: Scalar, text: str) -> Any:
    """The value of the text, or why it has none."""
    try:
        return scalar.parse(text)
    except ScalarInvalid as error:
        return error


@given(st.text(max_size=200))
def test_any_text_is_a_bot_or_a_list_of_mistakes(text: str) -> None:
    with pytest.raises(SpecInvalid) as caught:
        load_text(text)
    assert caught.value.mistakes
    assert str(caught.value)


VALID = yaml.safe_dump(LIVE, sort_keys=False).splitlines()
DAMAGE = st.sampled_from(
    ["", "x", "- ", "  ", "'", '"', "{", "]", "&a", "*a", "!t", "~", "0.05", "on", "# ", "\t", ": ", "<<: ", "é"]
)


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, len(VALID) - 1), st.integers(0, 40), DAMAGE, st.booleans())
def test_a_damaged_spec_is_a_bot_or_a_list_of_mistakes(line: int, column: int, damage: str, cut: bool) -> None:
    lines = list(VALID)
    lines[line] = lines[line][:column] + damage + ("" if cut else lines[line][column:])
    for mistake in mistakes_of("\n".join(lines)):
        assert 1 <= (mistake.line or 0) <= len(lines) + 1
        assert mistake.problem
        assert mistake.remedy


fractions = st.integers(1, 99).map(lambda count: f"0.{count:02}")
indicators = st.lists(
    st.one_of(
        st.builds(
            lambda name, fast, more: {"name": name, "fast": fast, "slow": fast + more},
            st.sampled_from(["emaCross", "macd"]),
            st.integers(27, 60),
            st.integers(1, 60),
        ),
        st.builds(
            lambda name, period, weight: {"name": name, "period": period, "weight": weight},
            st.sampled_from(["rsi", "bollinger", "atr", "adx", "obv", "vwap"]),
            st.integers(2, 300),
            fractions,
        ),
    ),
    min_size=2,
    max_size=8,
    unique_by=lambda indicator: str(sorted(indicator.items())),
).map(lambda many: [{**indicator, "id": f"i{number}"} for number, indicator in enumerate(many)])
protections = st.lists(
    st.one_of(
        st.builds(lambda limit: {"name": "maxDrawdown", "limit": limit}, fractions),
        st.builds(lambda limit: {"name": "dailyLoss", "limit": limit}, fractions),
        st.builds(lambda hours: {"name": "cooldown", "pause": f"{hours}h"}, st.integers(1, 100)),
        st.builds(lambda count: {"name": "maxOpenPositions", "count": count}, st.integers(1, 9)),
        st.builds(lambda flag: {"name": "stopLossGuard", "perSymbol": flag}, st.booleans()),
    ),
    unique_by=lambda protection: protection["name"],
)
paper = st.fixed_dictionaries(
    {},
    optional={
        "state": st.sampled_from(["Running", "Paused", "ReduceOnly", "Flatten", "Stopped"]),
        "timeframe": st.sampled_from(TIMEFRAMES),
        "symbols": st.lists(
            st.sampled_from(["BTC/USDT", "ETH/USDT", "SOL/USDT", "1INCH/USDT"]), min_size=1, unique=True
        ),
        "account.paperBalances": st.dictionaries(
            st.sampled_from(["BTC", "NO", "ON", "Y", "1E3"]), decimals.map(format_decimal)
        ).map(lambda balances: {**balances, "USDT": "84.54"}),
        "account.holdingsAtStart": st.sampled_from(["adopt", "ignore"]),
        "exchange.replay.speed": st.sampled_from(["max", "60", "0.5"]),
        "exchange.replay.source": st.sampled_from(["candles", "1e3", "on", "2024-01-01", "a: b", "it's", "~", "é"]),
        "exchange.replay.startTime": st.datetimes(timezones=st.just(UTC)).map(format_timestamp),
        "exchange.simulated.latency": durations.map(format_duration),
        "exchange.simulated.slippage": fractions,
        "strategy.indicators": indicators,
        "strategy.fusion": st.sampled_from(["consensus", "timeDecay", "bayesian", "hybrid"]),
        "risk.sizing.method": st.sampled_from(["fixedFractional", "kelly", "volatility", "hybrid"]),
        "risk.sizing.fraction": fractions,
        "risk.stopLoss": fractions,
        "risk.takeProfit": fractions,
        "risk.protections": protections,
        "agents.risk.resources.requests.memory": st.integers(1, 10**12).map(format_bytes),
        "agents.strategy.nodeSelector": st.dictionaries(st.sampled_from(["a", "on", "1"]), st.text(max_size=5)),
        "agents.strategy.env": st.lists(
            st.builds(
                lambda name, value: {"name": name, "value": value}, st.sampled_from("ABC"), st.text(max_size=9)
            ),
            unique_by=lambda variable: variable["name"],
        ),
    },
)


@settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow])
@given(paper)
def test_a_resolved_spec_is_read_back(changes: dict[str, Any]) -> None:
    bot = load_object(changed(PAPER, changes))
    again = load_text(dump(bot))
    assert again == bot
    assert resolved(again) == resolved(bot)
    assert revision(again) == revision(bot)
