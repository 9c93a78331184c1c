"""A failure releases capital only when the order is surely not there."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tradingbot_agents.exchange.ccxt_errors import (
    BINANCE_CODES,
    BINANCE_RATE_CODES,
    BINANCE_UNKNOWN_ORDER,
    RETRY_AFTER,
    Failure,
    clean,
    is_key_refused,
    is_unknown_order,
    outcome_of_cancel,
    outcome_of_create,
    outcome_of_read,
    retry_after,
)
from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    ExchangeError,
    InsufficientFunds,
    OrderRejected,
    RateLimited,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
CLASSES = {
    "InvalidOrder": ("InvalidOrder", "ExchangeError", "BaseError"),
    "OrderNotFound": ("OrderNotFound", "InvalidOrder", "ExchangeError", "BaseError"),
    "InsufficientFunds": ("InsufficientFunds", "ExchangeError", "BaseError"),
    "DuplicateOrderId": ("DuplicateOrderId", "InvalidOrder", "ExchangeError", "BaseError"),
    "OrderImmediatelyFillable": ("OrderImmediatelyFillable", "InvalidOrder", "ExchangeError", "BaseError"),
    "BadSymbol": ("BadSymbol", "BadRequest", "ExchangeError", "BaseError"),
    "BadRequest": ("BadRequest", "ExchangeError", "BaseError"),
    "PermissionDenied": ("PermissionDenied", "AuthenticationError", "ExchangeError", "BaseError"),
    "NotSupported": ("NotSupported", "ExchangeError", "BaseError"),
    "MarketClosed": ("MarketClosed", "OperationRejected", "ExchangeError", "BaseError"),
    "RateLimitExceeded": ("RateLimitExceeded", "NetworkError", "OperationFailed", "BaseError"),
    "DDoSProtection": ("DDoSProtection", "NetworkError", "OperationFailed", "BaseError"),
    "RequestTimeout": ("RequestTimeout", "NetworkError", "OperationFailed", "BaseError"),
    "ExchangeNotAvailable": ("ExchangeNotAvailable", "NetworkError", "OperationFailed", "BaseError"),
    "InvalidNonce": ("InvalidNonce", "NetworkError", "OperationFailed", "BaseError"),
    "BadResponse": ("BadResponse", "OperationFailed", "BaseError"),
    "ExchangeError": ("ExchangeError", "BaseError"),
    "KeyError": ("KeyError", "LookupError", "Exception"),
}


def failure(name: str, text: str = "said", *, sent: bool = True, judged: bool = True, **rest: Any) -> Failure:
    rest.setdefault("status", 200)
    return Failure(classes=CLASSES[name], text=text, sent=sent, judged=judged, **rest)


def create(seen: Failure, binance: bool = False) -> ExchangeError:
    if binance:
        return outcome_of_create(seen, BINANCE_CODES, BINANCE_RATE_CODES)
    return outcome_of_create(seen, {}, frozenset())


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("InsufficientFunds", "insufficient_funds"),
        ("DuplicateOrderId", "duplicate_client_order_id"),
        ("OrderImmediatelyFillable", "stop_would_trigger_immediately"),
        ("InvalidOrder", "order_refused"),
        ("BadSymbol", "unknown_symbol"),
        ("BadRequest", "bad_request"),
        ("PermissionDenied", "not_permitted"),
        ("NotSupported", "order_type_not_supported"),
        ("MarketClosed", "symbol_not_trading"),
    ],
)
def test_a_refusal_is_known_by_its_class(name: str, code: str) -> None:
    outcome = create(failure(name))
    assert isinstance(outcome, OrderRejected)
    assert outcome.code == code
    assert isinstance(outcome, InsufficientFunds) == (name == "InsufficientFunds")


@pytest.mark.parametrize(
    "name",
    [
        "ExchangeError",
        "RequestTimeout",
        "ExchangeNotAvailable",
        "InvalidNonce",
        "BadResponse",
        "KeyError",
        # Derived from InvalidOrder, but no answer to a new order.
        "OrderNotFound",
    ],
)
def test_every_other_class_is_ambiguous(name: str) -> None:
    assert type(create(failure(name))) is Ambiguous


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
def test_a_server_error_is_ambiguous_whatever_it_quotes(name: str, status: int) -> None:
    seen = failure(name, "Filter failure: LOT_SIZE", status=status, code="-1013")
    assert type(create(seen)) is Ambiguous
    assert type(create(seen, binance=True)) is Ambiguous


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_without_a_whole_answer_it_is_ambiguous(name: str) -> None:
    assert type(create(failure(name, status=None))) is Ambiguous
    assert type(create(failure(name, status=None, judged=False), binance=True)) is Ambiguous


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_an_error_after_an_answer_of_success_is_ambiguous(name: str) -> None:
    """ccxt raises errors of "refused" classes also while it reads an answer that says that the order is there."""
    assert type(create(failure(name, judged=False))) is Ambiguous


@pytest.mark.parametrize("name", sorted(set(CLASSES) - {"RateLimitExceeded", "DDoSProtection"}))
def test_what_was_not_sent_is_not_there(name: str) -> None:
    outcome = create(failure(name, sent=False, judged=False, status=None))
    assert isinstance(outcome, OrderRejected)


@pytest.mark.parametrize("name", ["RateLimitExceeded", "DDoSProtection"])
def test_too_many_requests_are_known_by_class_or_status(name: str) -> None:
    wait = timedelta(seconds=3)
    outcome = create(failure(name, retry_after=wait))
    assert isinstance(outcome, RateLimited)
    assert outcome.retry_after == wait
    for status in (418, 429):
        limited = create(failure("ExchangeError", status=status, judged=False))
        assert isinstance(limited, RateLimited)
        assert limited.retry_after == RETRY_AFTER
    assert isinstance(create(failure(name, sent=False, status=None)), RateLimited)


@pytest.mark.parametrize("name", sorted(CLASSES))
@pytest.mark.parametrize("status", [200, 400, 429])
def test_an_answer_to_what_followed_the_order_says_nothing_of_it(name: str, status: int) -> None:
    """Some classes of ccxt ask for the order right after they sent it: that may fail as it likes."""
    seen = failure(name, status=status, followed=True)
    assert type(create(seen)) is Ambiguous
    assert type(outcome_of_cancel(seen, {}, frozenset())) is Ambiguous


def test_a_wait_of_no_time_is_told_as_such() -> None:
    outcome = create(failure("RateLimitExceeded", retry_after=timedelta(0)))
    assert isinstance(outcome, RateLimited)
    assert outcome.retry_after == timedelta(0)


def test_binance_is_judged_by_its_codes_alone() -> None:
    refused = create(failure("ExchangeError", "-2010 Something new", status=400, code="-2010"), binance=True)
    assert isinstance(refused, OrderRejected)
    assert refused.code == "order_refused"
    for code in ("-1000", "-1001", "-1006", "-1007", "-9999"):
        assert type(create(failure("InvalidOrder", status=400, code=code), binance=True)) is Ambiguous
    for code in ("-1003", "-1015"):
        assert isinstance(create(failure("ExchangeError", status=400, code=code), binance=True), RateLimited)


def test_a_refused_key_that_ccxt_takes_for_a_ban_is_a_refusal() -> None:
    outcome = create(failure("DDoSProtection", status=401, code="-2015"), binance=True)
    assert isinstance(outcome, OrderRejected)
    assert outcome.code == "not_permitted"


@pytest.mark.parametrize(
    "text",
    ["170141 Duplicate clientOrderId", "51016 Client order ID already exists.", "clOrdId already exists"],
)
def test_a_duplicate_is_known_by_its_words_where_the_class_does_not_say(text: str) -> None:
    """Taken for a refusal, it would end in the books an order that is there."""
    outcome = create(failure("InvalidOrder", text))
    assert isinstance(outcome, OrderRejected)
    assert outcome.code == "duplicate_client_order_id"


def test_words_make_no_refusal_of_what_is_none() -> None:
    assert type(create(failure("ExchangeError", "insufficient balance"))) is Ambiguous
    assert type(create(failure("ExchangeError", "Duplicate order sent.", code="-1000"), binance=True)) is Ambiguous


def test_a_clock_that_is_off_is_told_as_such() -> None:
    outcome = create(failure("InvalidNonce", "outside of the recvWindow", status=400, code="-1021"), binance=True)
    assert isinstance(outcome, OrderRejected)
    assert outcome.code == "clock_difference"


@pytest.mark.parametrize("name", ["OrderNotFound", "InvalidOrder", "PermissionDenied", "BadRequest"])
def test_a_cancel_that_is_surely_not_done_is_refused(name: str) -> None:
    assert isinstance(outcome_of_cancel(failure(name), {}, frozenset()), CancelRefused)


@pytest.mark.parametrize("name", ["ExchangeError", "RequestTimeout", "KeyError", "BadResponse"])
def test_any_other_cancel_is_ambiguous(name: str) -> None:
    assert type(outcome_of_cancel(failure(name), {}, frozenset())) is Ambiguous
    assert type(outcome_of_cancel(failure("OrderNotFound", status=503), {}, frozenset())) is Ambiguous
    assert type(outcome_of_cancel(failure("OrderNotFound", judged=False), {}, frozenset())) is Ambiguous


def test_a_cancel_comes_too_often() -> None:
    assert isinstance(outcome_of_cancel(failure("RateLimitExceeded"), {}, frozenset()), RateLimited)


def test_an_order_is_unknown_only_when_the_exchange_says_so() -> None:
    assert is_unknown_order(failure("OrderNotFound"), None)
    assert is_unknown_order(failure("ExchangeError", status=400, code="-2013"), BINANCE_UNKNOWN_ORDER)
    assert not is_unknown_order(failure("OrderNotFound", status=400, code="-2011"), BINANCE_UNKNOWN_ORDER)
    assert not is_unknown_order(failure("OrderNotFound", status=502), None)
    assert not is_unknown_order(failure("OrderNotFound", status=None), None)
    assert not is_unknown_order(failure("ExchangeError"), None)
    assert not is_unknown_order(failure("ExchangeNotAvailable", status=404), None)


def test_a_question_fails_or_comes_too_often() -> None:
    assert type(outcome_of_read(failure("InvalidOrder"), frozenset())) is ExchangeError
    assert type(outcome_of_read(failure("RequestTimeout", status=None), frozenset())) is ExchangeError
    assert isinstance(outcome_of_read(failure("DDoSProtection", status=418), frozenset()), RateLimited)


def test_a_refused_key_is_none_of_the_other_troubles() -> None:
    assert is_key_refused(failure("PermissionDenied"), {})
    assert is_key_refused(failure("DDoSProtection", status=401, code="-2015", sent=False), BINANCE_CODES)
    assert is_key_refused(failure("ExchangeError", status=400, code="-1022"), BINANCE_CODES)
    assert not is_key_refused(failure("PermissionDenied", status=503), {})
    assert not is_key_refused(failure("PermissionDenied", status=None), {})
    assert not is_key_refused(failure("InvalidNonce", status=400, code="-1021"), BINANCE_CODES)
    assert not is_key_refused(failure("ExchangeError"), {})


def test_a_question_with_a_key_that_worked_and_is_refused_is_no_rate_limit() -> None:
    seen = failure("DDoSProtection", status=401, code="-2015", sent=False)
    assert type(outcome_of_read(seen, BINANCE_RATE_CODES)) is ExchangeError


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7),
        (" 120 ", 120),
        ("0", 0),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("soon", None),
        ("", None),
        (None, None),
        ("-5", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: int | None) -> None:
    assert retry_after(header, NOW) == (None if seconds is None else timedelta(seconds=seconds))


def test_text_for_people_has_no_secrets() -> None:
    said = clean(
        "binance POST https://api.binance.com/api/v3/order?symbol=BTCUSDT&timestamp=1&signature=abcdef "
        'apiKey=KEY1 "secret": "SEC1" signature=ffff  and\nKEY2',
        ["KEY1", "KEY2", ""],
    )
    for hidden in ("abcdef", "timestamp", "KEY1", "KEY2", "SEC1", "ffff"):
        assert hidden not in said
    assert "https://api.binance.com/api/v3/order" in said
    assert "\n" not in said


def test_long_text_is_cut() -> None:
    assert len(clean("x" * 5000, [])) == 300
