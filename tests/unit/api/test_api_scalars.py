"""Each kind of text in a spec: what it becomes, and what a person is told who wrote it differently."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from tradingbot_api import (
    TIMEFRAMES,
    ScalarInvalid,
    format_bytes,
    format_cpu,
    format_decimal,
    format_duration,
    format_symbol,
    format_timestamp,
    parse_bytes,
    parse_cpu,
    parse_decimal,
    parse_duration,
    parse_fraction,
    parse_schedule,
    parse_symbol,
    parse_timestamp,
    timeframe_length,
)
from tradingbot_api.decimals import (
    FRACTION_BELOW_ONE,
    FRACTION_OR_ZERO,
    POSITIVE_DECIMAL,
    format_speed,
    parse_speed,
)
from tradingbot_api.durations import DURATION
from tradingbot_api.names import (
    DNS_SUBDOMAIN,
    EXCHANGE_NAME,
    OBJECT_NAME,
    PLUGIN_PATH,
    URL,
)
from tradingbot_api.timeframes import format_timeframe


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("30s", timedelta(seconds=30)),
        ("5m", timedelta(minutes=5)),
        ("1h", timedelta(hours=1)),
        ("7d", timedelta(days=7)),
        ("0s", timedelta(0)),
    ],
)
def test_durations_are_read_and_written(text: str, value: timedelta) -> None:
    assert parse_duration(text) == value
    assert format_duration(value) == text


def test_a_duration_is_written_in_the_largest_unit_that_divides_it() -> None:
    assert format_duration(timedelta(seconds=90)) == "90s"
    assert format_duration(timedelta(seconds=120)) == "2m"
    assert format_duration(timedelta(hours=24)) == "1d"


@pytest.mark.parametrize("value", [timedelta(seconds=-1), timedelta(microseconds=1)])
def test_a_duration_that_no_text_can_say_is_refused(value: timedelta) -> None:
    with pytest.raises(ValueError, match="whole number of milliseconds"):
        format_duration(value)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("30", "write the unit: 30s, 30m, 30h"),
        ("1h30m", "write 90m"),
        ("1.5h", "write 90m"),
        ("5 min", "write 5m"),
        ("30S", "write 30s"),
        ("90 seconds", "write 90s"),
        ("soon", "write a whole number and one unit"),
        ("5w", "write a whole number and one unit"),
        ("-5m", "write a whole number and one unit"),
        ("05m", "write 5m"),
        ("5m\n", "write 5m"),
        ("", "write a whole number and one unit"),
    ],
)
def test_durations_that_are_written_differently(text: str, remedy: str) -> None:
    with pytest.raises(ScalarInvalid) as caught:
        parse_duration(text)
    assert remedy in caught.value.remedy


def test_a_duration_above_zero_refuses_zero() -> None:
    with pytest.raises(ScalarInvalid, match="no time at all"):
        DURATION.parse("0s")


@pytest.mark.parametrize("text", ["0", "84.54", "121556.65", "0.00000001", "999999999999999999"])
def test_decimals_are_exact(text: str) -> None:
    assert parse_decimal(text) == Decimal(text)
    assert format_decimal(parse_decimal(text)) == text


def test_equal_decimals_have_equal_text() -> None:
    assert format_decimal(Decimal("0.80")) == format_decimal(Decimal("0.8")) == "0.8"
    assert format_decimal(Decimal("1E+3")) == "1000"
    assert format_decimal(Decimal("100")) == "100"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("5%", 'write it as a fraction of one: "0.05"'),
        ("0,05", 'write a point: "0.05"'),
        ("1e-2", 'write "0.01"'),
        (".5", 'write "0.5"'),
        ("+1", 'write "1"'),
        (" 1", 'write "1"'),
        ("1_000", 'write "1000"'),
        ("-1", "without a sign"),
        ("NaN", "plain digits"),
        ("Infinity", "plain digits"),
        ("0.1234567890123456789", "at most 18"),
        ("", "plain digits"),
        ("٣", "plain digits"),
    ],
)
def test_decimals_that_are_written_differently(text: str, remedy: str) -> None:
    with pytest.raises(ScalarInvalid) as caught:
        parse_decimal(text)
    assert remedy in caught.value.remedy or remedy in caught.value.problem


@pytest.mark.parametrize("text", ["0.05", "1", "1.0", "0.000000000000000001"])
def test_fractions(text: str) -> None:
    assert parse_fraction(text) == Decimal(text)


@pytest.mark.parametrize("text", ["0", "0.0", "1.01", "5"])
def test_what_is_no_fraction(text: str) -> None:
    with pytest.raises(ScalarInvalid, match="a fraction above 0 and not above 1"):
        parse_fraction(text)


def test_a_percentage_without_its_sign_is_recognised() -> None:
    with pytest.raises(ScalarInvalid, match=r'5 % is "0\.05"'):
        parse_fraction("5")


def test_the_ends_of_each_kind_of_fraction() -> None:
    assert FRACTION_OR_ZERO.parse("0") == 0
    assert FRACTION_OR_ZERO.parse("1") == 1
    with pytest.raises(ScalarInvalid):
        FRACTION_BELOW_ONE.parse("1")
    with pytest.raises(ScalarInvalid, match="is zero"):
        POSITIVE_DECIMAL.parse("0.00")


def test_the_speed_of_a_replay() -> None:
    assert parse_speed("max").is_infinite()
    assert parse_speed("60") == 60
    assert format_speed(parse_speed("max")) == "max"
    assert format_speed(parse_speed("0.50")) == "0.5"
    for wrong, remedy in {"MAX": '"max"', "60x": '"60"', "0": "times real time", "fast": '"max"'}.items():
        with pytest.raises(ScalarInvalid) as caught:
            parse_speed(wrong)
        assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "cores", "canonical"),
    [
        ("100m", "0.1", "100m"),
        ("2", "2", "2"),
        ("0.5", "0.5", "500m"),
        ("1500m", "1.5", "1500m"),
        ("1000m", "1", "1"),
    ],
)
def test_quantities_of_cpu(text: str, cores: str, canonical: str) -> None:
    assert parse_cpu(text) == Decimal(cores)
    assert format_cpu(Decimal(cores)) == canonical


@pytest.mark.parametrize(
    ("text", "count", "canonical"),
    [
        ("64Mi", 64 * 2**20, "64Mi"),
        ("1Gi", 2**30, "1Gi"),
        ("1.5Gi", 3 * 2**29, "1536Mi"),
        ("1M", 10**6, "1000000"),
        ("1024", 1024, "1Ki"),
    ],
)
def test_quantities_of_bytes(text: str, count: int, canonical: str) -> None:
    assert parse_bytes(text) == count
    assert format_bytes(count) == canonical


def test_quantities_that_are_none() -> None:
    for text in ["0", "0.0", "100 m", "-1", "1.2345", "", "1k"]:
        with pytest.raises(ScalarInvalid):
            parse_cpu(text)
    for text in ["0", "64MB", "64 Mi", "1.0001", "-1Mi", ""]:
        with pytest.raises(ScalarInvalid):
            parse_bytes(text)
    with pytest.raises(ScalarInvalid, match='write "64Mi"'):
        parse_bytes("64MB")


def test_timeframes_have_lengths() -> None:
    assert timeframe_length("5m") == timedelta(minutes=5)
    assert [format_timeframe(timeframe_length(name)) for name in TIMEFRAMES] == list(TIMEFRAMES)
    assert all(timedelta(days=1) % timeframe_length(name) == timedelta(0) for name in TIMEFRAMES)
    with pytest.raises(ValueError, match="there is no timeframe"):
        format_timeframe(timedelta(minutes=7))


def test_symbols() -> None:
    assert parse_symbol("BTC/USDT") == ("BTC", "USDT")
    assert format_symbol("1INCH", "USDT") == "1INCH/USDT"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("btc/usdt", "write BTC/USDT"),
        ("BTC-USDT", "write BTC/USDT"),
        ("BTC_USDT", "write BTC/USDT"),
        ("BTC/USDT:USDT", "trades spot markets: write BTC/USDT"),
        ("BTCUSDT", "write BASE/QUOTE"),
        ("BTC/", "write BASE/QUOTE"),
    ],
)
def test_symbols_that_are_written_differently(text: str, remedy: str) -> None:
    with pytest.raises(ScalarInvalid) as caught:
        parse_symbol(text)
    assert remedy in caught.value.remedy


@pytest.mark.parametrize("text", ["*/30 * * * *", "17 3 * * *", "0 0 1,15 JAN-JUN mon", "5-10/2 * * * 0"])
def test_schedules(text: str) -> None:
    assert parse_schedule(text) == text


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("* * * *", "4 fields"),
        ("@hourly", "macro"),
        ("60 * * * *", "'60' as its minute"),
        ("* 24 * * *", "'24' as its hour"),
        ("* * 0 * *", "'0' as its day of the month"),
        ("* * * 13 *", "'13' as its month"),
        ("* * * * 7", "'7' as its day of the week"),
        ("*/0 * * * *", "'*/0' as its minute"),
        ("10-5 * * * *", "'10-5' as its minute"),
        ("1-2-3 * * * *", "'1-2-3' as its minute"),
        ("1, * * * *", "'' as its minute"),
    ],
)
def test_schedules_that_are_none(text: str, problem: str) -> None:
    with pytest.raises(ScalarInvalid) as caught:
        parse_schedule(text)
    assert problem in caught.value.problem


def test_moments_are_utc() -> None:
    assert parse_timestamp("2024-01-01T02:00:00+02:00") == datetime(2024, 1, 1, tzinfo=UTC)
    assert format_timestamp(parse_timestamp("2024-01-01T02:00:00+02:00")) == "2024-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("2024-01-01", 'write "2024-01-01T00:00:00Z"'),
        ("2024-01-01T10:00:00", 'write "2024-01-01T10:00:00Z"'),
        ("2024-01-01 10:00:00Z", 'write "2024-01-01T10:00:00Z"'),
        ("2024-02-30T00:00:00Z", "write one such as"),
        ("0001-01-01T00:00:00+10:00", "write one such as"),
        ("yesterday", "RFC 3339"),
    ],
)
def test_moments_that_are_written_differently(text: str, remedy: str) -> None:
    with pytest.raises(ScalarInvalid) as caught:
        parse_timestamp(text)
    assert remedy in caught.value.remedy


def test_names() -> None:
    assert OBJECT_NAME.parse("a" * 40)
    assert DNS_SUBDOMAIN.parse("keys.binance")
    for scalar, text, remedy in [
        (OBJECT_NAME, "a" * 41, "shorten it to at most 40"),
        (OBJECT_NAME, "My_Bot", "such as my-bot"),
        (OBJECT_NAME, "-", "with a letter or digit first and last"),
        (DNS_SUBDOMAIN, "a..b", "letter or digit first"),
        (EXCHANGE_NAME, "Binance US", "such as binanceus"),
        (PLUGIN_PATH, "my_module.MyStrategy", "module:Class"),
        (URL, "api.example.com", "with its scheme"),
        (URL, "https://user:secret@example.com", "keep secrets in a Secret"),
    ]:
        with pytest.raises(ScalarInvalid) as caught:
            scalar.parse(text)
        assert remedy in caught.value.remedy
