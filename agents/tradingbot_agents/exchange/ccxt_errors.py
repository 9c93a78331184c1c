"""What an exchange's failure means: done, not done, or nobody knows. Pure: the failure is an argument.

Capital is released when an order is surely not done, so that must be sure. It is so in three cases only: nothing
was sent; the exchange judged the request (its answer was recognised as a refusal) with one of the codes or classes
below; or it said that there were too many requests. Everything else is ``Ambiguous``, also an error of a class that
says "refused" when it came up after the exchange had answered with success.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import msgspec

from tradingbot_agents.exchange.port import (
    Ambiguous,
    CancelRefused,
    ExchangeError,
    InsufficientFunds,
    OrderRejected,
    RateLimited,
)

RETRY_AFTER = timedelta(seconds=60)
"""When an exchange says "too many requests" and not for how long: most count by the minute."""

_TEXT_LIMIT = 300
_HIDDEN = "***"


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A call that failed, as far as it can be told."""

    classes: tuple[str, ...]
    """Names of the error's class and of those that it is derived from, the most special one first."""
    text: str
    """For people; without secrets."""
    sent: bool
    """A request that changes something had left, or may have."""
    judged: bool = False
    """The exchange answered, and its answer was recognised as an error."""
    followed: bool = False
    """The answer is to another request than the first that changes something, which had been answered before."""
    status: int | None = None
    """The answer's HTTP status; ``None``: there was no whole answer."""
    code: str | None = None
    """The exchange's own code."""
    retry_after: timedelta | None = None


_BY_CLASS: tuple[tuple[str, str], ...] = (
    ("InsufficientFunds", "insufficient_funds"),
    ("DuplicateOrderId", "duplicate_client_order_id"),
    ("OrderImmediatelyFillable", "stop_would_trigger_immediately"),
    ("OrderNotFillable", "order_refused"),
    ("ContractUnavailable", "symbol_not_trading"),
    ("BadSymbol", "unknown_symbol"),
    ("MarketClosed", "symbol_not_trading"),
    ("NotSupported", "order_type_not_supported"),
    ("AuthenticationError", "not_permitted"),
    ("RestrictedLocation", "not_permitted"),
    ("OperationRejected", "order_refused"),
    ("ArgumentsRequired", "bad_request"),
    ("BadRequest", "bad_request"),
    ("InvalidOrder", "order_refused"),
)
"""ccxt's classes of errors with which a request is surely not done, and the reason code. The first that fits."""

_NOT_ABOUT_A_NEW_ORDER = frozenset({"OrderNotFound", "OrderNotCached"})
"""Derived from ``InvalidOrder``, but no answer to a new order: what they mean there is not known."""

_RATE_CLASSES = frozenset({"RateLimitExceeded", "DDoSProtection"})

_WORDS: tuple[tuple[str, str], ...] = (
    ("duplicate", "duplicate_client_order_id"),
    ("clordid already exist", "duplicate_client_order_id"),
    ("client order id already exist", "duplicate_client_order_id"),
    ("would trigger immediately", "stop_would_trigger_immediately"),
    ("insufficient balance", "insufficient_funds"),
    ("insufficient fund", "insufficient_funds"),
    ("market is closed", "symbol_not_trading"),
    ("market_lot_size", "above_maximum_amount"),
    ("lot_size", "off_amount_step"),
    ("evenly divisible by lot size", "off_amount_step"),
    ("price_filter", "off_price_tick"),
    ("percent_price", "price_out_of_range"),
    ("notional", "below_minimum_notional"),
    ("max_num_", "too_many_open_orders"),
    ("max_position", "above_maximum_position"),
    ("order type", "order_type_not_supported"),
    ("ordertype", "order_type_not_supported"),
    ("orders are not supported", "order_type_not_supported"),
    ("triggerprice parameter is not allowed", "order_type_not_supported"),
    ("not permitted", "not_permitted"),
    ("restricted", "not_permitted"),
)
"""Words of a refusal that say more than its code or class. The first that fits."""

BINANCE_CODES: Mapping[str, str] = {
    "-1002": "not_permitted",
    "-1013": "order_refused",
    "-1014": "order_refused",
    "-1020": "order_refused",
    "-1021": "clock_difference",
    "-1022": "bad_signature",
    "-1100": "bad_request",
    "-1101": "bad_request",
    "-1102": "bad_request",
    "-1103": "bad_request",
    "-1104": "bad_request",
    "-1105": "bad_request",
    "-1106": "bad_request",
    "-1108": "unknown_symbol",
    "-1111": "off_amount_step",
    "-1114": "bad_request",
    "-1115": "bad_request",
    "-1116": "order_type_not_supported",
    "-1117": "bad_request",
    "-1118": "bad_request",
    "-1121": "unknown_symbol",
    "-1128": "bad_request",
    "-1130": "bad_request",
    "-1131": "bad_request",
    "-2010": "order_refused",
    "-2011": "order_refused",
    "-2014": "not_permitted",
    "-2015": "not_permitted",
}
"""Binance's codes with which a request is surely not done. Not here, and so ambiguous: -1000 and -1001 (internal
errors), -1006 and -1007 ("execution status unknown"), and whatever is new."""

BINANCE_RATE_CODES = frozenset({"-1003", "-1015"})
BINANCE_UNKNOWN_ORDER = "-2013"


COINBASE_CODES: Mapping[str, str] = {
    "INSUFFICIENT_FUND": "insufficient_funds",
    "PREVIEW_INSUFFICIENT_FUND": "insufficient_funds",
    "UNSUPPORTED_ORDER_CONFIGURATION": "order_type_not_supported",
    "PERMISSION_DENIED": "not_permitted",
    "INVALID_ARGUMENT": "bad_request",
    "PREVIEW_STOP_PRICE_ABOVE_LAST_TRADE_PRICE": "stop_would_trigger_immediately",
}
"""Coinbase's reasons of a refused order. ccxt knows them, but looks for them in another place of the answer."""


def outcome_of_create(failure: Failure, codes: Mapping[str, str], rate_codes: frozenset[str]) -> ExchangeError:
    """``OrderRejected`` and ``RateLimited`` only when the order is surely not there, else ``Ambiguous``.

    ``codes``: the exchange's own, where they are known; then its classes in ccxt are not asked for an answer that
    has a code.
    """
    if is_rate_limit(failure, rate_codes):
        return RateLimited(_wait(failure))
    code = _refusal(failure, codes)
    if code is None:
        return Ambiguous(failure.text)
    if code == "insufficient_funds":
        return InsufficientFunds(failure.text)
    return OrderRejected(code, failure.text)


def outcome_of_cancel(failure: Failure, codes: Mapping[str, str], rate_codes: frozenset[str]) -> ExchangeError:
    """``CancelRefused`` when the order is surely not cancelled by this, else ``RateLimited`` or ``Ambiguous``."""
    if is_rate_limit(failure, rate_codes):
        return RateLimited(_wait(failure))
    unknown = _is_judged(failure) and not failure.followed and "OrderNotFound" in failure.classes
    if unknown or _refusal(failure, codes) is not None:
        return CancelRefused(failure.text)
    return Ambiguous(failure.text)


def outcome_of_read(failure: Failure, rate_codes: frozenset[str]) -> ExchangeError:
    """Reading changes nothing: it failed, or it came too often."""
    if is_rate_limit(failure, rate_codes):
        return RateLimited(_wait(failure))
    return ExchangeError(failure.text)


def is_unknown_order(failure: Failure, unknown_code: str | None) -> bool:
    """Whether the exchange said that it has no such order, and not that something went wrong.

    ``unknown_code``: its own code for that, where it is known.
    """
    if not _is_judged(failure):
        return False
    if unknown_code is not None and failure.code is not None:
        return failure.code == unknown_code
    return "OrderNotFound" in failure.classes


def is_rate_limit(failure: Failure, rate_codes: frozenset[str]) -> bool:
    """Whether the request was not processed because there were too many."""
    if failure.followed:
        return False
    if failure.status in (418, 429):
        return True
    if not _is_judged(failure):
        return not failure.sent and bool(_RATE_CLASSES & set(failure.classes))
    if rate_codes and failure.code is not None:
        # ccxt takes Binance's -2015 (key, address or rights) for a ban when the key has worked before.
        return failure.code in rate_codes
    return bool(_RATE_CLASSES & set(failure.classes))


def is_key_refused(failure: Failure, codes: Mapping[str, str]) -> bool:
    """Whether the exchange said that it does not accept the key, its signature, its rights or its address."""
    if not _is_judged(failure):
        return False
    if codes and failure.code is not None:
        return codes.get(failure.code) in ("not_permitted", "bad_signature")
    return "AuthenticationError" in failure.classes


def _wait(failure: Failure) -> timedelta:
    return RETRY_AFTER if failure.retry_after is None else failure.retry_after


def _is_judged(failure: Failure) -> bool:
    # The status first: an answer from a gateway (5xx) may quote anything, also the words of a refusal.
    return failure.judged and failure.status is not None and failure.status < 500


def _refusal(failure: Failure, codes: Mapping[str, str]) -> str | None:
    """The reason code of a request that is surely not done, or ``None``."""
    if not failure.sent:
        return _word(failure.text) or _class_code(failure.classes) or "not_sent"
    if not _is_judged(failure) or failure.followed:
        return None
    told = failure.code if codes else None
    code = _class_code(failure.classes) if told is None else codes.get(told)
    if code is None:
        return None
    return code if code in ("clock_difference", "bad_signature") else _word(failure.text) or code


def _class_code(classes: Sequence[str]) -> str | None:
    if _NOT_ABOUT_A_NEW_ORDER & set(classes):
        return None
    return next((code for name, code in _BY_CLASS if name in classes), None)


def _word(text: str) -> str | None:
    lower = text.lower()
    return next((code for word, code in _WORDS if word in lower), None)


def retry_after(header: str | None, now: datetime) -> timedelta | None:
    """The wait that a ``Retry-After`` header asks for: seconds, or a date. ``None`` when it says nothing."""
    if header is None:
        return None
    text = header.strip()
    try:
        if text.isdecimal():
            return timedelta(seconds=int(text))
        until = parsedate_to_datetime(text)
        return max(until.replace(tzinfo=until.tzinfo or UTC) - now, timedelta(0))
    except (ValueError, OverflowError):
        return None


_QUERY = re.compile(r"((?:https?|wss?)://[^\s?\"']+)\?[^\s\"']*")
_SIGNED = re.compile(
    r"(?i)\b(signature|sign|apikey|api_key|api-key|secret|passphrase|password|token)(\"?\s*[=:]\s*)[^\s&,}]+"
)


def clean(text: str, secrets: Sequence[str]) -> str:
    """``text`` for people: without queries of addresses, signatures and ``secrets``, and not too long."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, _HIDDEN)
    text = _QUERY.sub(r"\1?" + _HIDDEN, text)
    text = _SIGNED.sub(r"\1\2" + _HIDDEN, text)
    text = " ".join(text.split())
    return text if len(text) <= _TEXT_LIMIT else text[: _TEXT_LIMIT - 1] + "…"
