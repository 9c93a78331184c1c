"""Decimals and fractions: money and shares as quoted text, `"84.54"` `"0.05"`, exact from the file to the ledger.

A fraction is a share of one: five per cent is `"0.05"`. Percent signs, decimal commas, exponents and signs are
refused with what to write instead.
"""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated

from .scalar import Scalar

# Up to 18 places, as the smallest unit of any listed coin; the last digit that counts lies within them.
_ZERO_OR_MORE = r"^(0|[1-9][0-9]{0,17})(\.[0-9]{1,18})?$"
_ABOVE_ZERO = r"^(0\.[0-9]{0,17}[1-9]0{0,18}|[1-9][0-9]{0,17}(\.[0-9]{1,18})?)$"
_TO_ONE = r"^(0\.[0-9]{0,17}[1-9]0{0,18}|1(\.0{1,18})?)$"
_ZERO_TO_ONE = r"^(0(\.[0-9]{1,18})?|1(\.0{1,18})?)$"
_BELOW_ONE = r"^0\.[0-9]{0,17}[1-9]0{0,18}$"
_SPEED = r"^(max|0\.[0-9]{0,17}[1-9]0{0,18}|[1-9][0-9]{0,17}(\.[0-9]{1,18})?)$"


def parse_decimal(text: str) -> Decimal:
    """`"84.54"` → Decimal; zero is allowed, a sign is not. Raises `ScalarInvalid`."""
    value: Decimal = AMOUNT.parse(text)
    return value


def parse_fraction(text: str) -> Decimal:
    """`"0.05"` → Decimal above 0 and not above 1. Raises `ScalarInvalid`."""
    value: Decimal = FRACTION.parse(text)
    return value


def format_decimal(value: Decimal) -> str:
    """Plain digits with no exponent and no zeros at the end, so that equal values have equal text."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def parse_speed(text: str) -> Decimal:
    """`"max"` → Decimal infinity, `"60"` → sixty times real time. Raises `ScalarInvalid`."""
    value: Decimal = SPEED.parse(text)
    return value


def format_speed(value: Decimal) -> str:
    """The inverse of `parse_speed`."""
    return "max" if value.is_infinite() else format_decimal(value)


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(text)
    except InvalidOperation:
        return None
    return value if value.is_finite() else None


def _spelling(text: str) -> tuple[str, str] | None:
    """What is wrong with how it is written, apart from its size."""
    if text.strip() != text and _number(text.strip()) is not None:
        return "has spaces around it", f'write "{text.strip()}"'
    percent = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)\s*%", text)
    if percent:
        return "is a percentage", f'write it as a fraction of one: "{format_decimal(Decimal(percent[1]) / 100)}"'
    if re.fullmatch(r"[0-9]+,[0-9]+", text):
        return "has a decimal comma", f'write a point: "{text.replace(",", ".")}"'
    value = _number(text)
    if value is None:
        return "is not a decimal number", 'write plain digits with a point, such as "0.05" or "84.54"'
    if value < 0:
        return "is negative", "write it without a sign"
    plain = format_decimal(value) if abs(value.adjusted()) <= 18 else ""
    if plain != text and re.fullmatch(_ZERO_OR_MORE, plain) and not re.fullmatch(_ZERO_OR_MORE, text):
        return "is not written in plain digits", f'write "{plain}"'
    if not re.fullmatch(_ZERO_OR_MORE, text):
        return "has too many digits", "write at most 18 before and 18 after the point"
    return None


def _fraction_remedy(text: str, what: str) -> str:
    value = _number(text)
    if value is not None and 1 < value <= 100:
        return f'write {what}; {text} % is "{format_decimal(value / 100)}"'
    return f'write {what}; 5 % is "0.05"'


def _explain_amount(text: str) -> tuple[str, str]:
    return _spelling(text) or ("is not a decimal number", 'write plain digits such as "84.54"')


def _explain_positive(text: str) -> tuple[str, str]:
    return _spelling(text) or ("is zero", "write a number above zero")


def _explain_fraction(text: str) -> tuple[str, str]:
    what = "a fraction above 0 and not above 1"
    return _spelling(text) or (f"is not {what}", _fraction_remedy(text, what))


def _explain_fraction_or_zero(text: str) -> tuple[str, str]:
    what = "a fraction from 0 to 1"
    return _spelling(text) or (f"is not {what}", _fraction_remedy(text, what))


def _explain_below_one(text: str) -> tuple[str, str]:
    what = "a fraction above 0 and below 1"
    return _spelling(text) or (f"is not {what}", _fraction_remedy(text, what))


def _explain_speed(text: str) -> tuple[str, str]:
    if text.lower() in ("max", "maximum", "fast", "unlimited"):
        return "is not a speed", 'write "max"'
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?x", text):
        return "is not a speed", f'write "{text[:-1]}", without the x'
    return "is not a speed", 'write "max", or how many times real time, such as "60"'


def _convert_speed(text: str) -> Decimal:
    return Decimal("Infinity") if text == "max" else Decimal(text)


AMOUNT = Scalar(
    name="decimal of 0 or more",
    pattern=_ZERO_OR_MORE,
    longest=64,
    example="84.54",
    convert=Decimal,
    format=format_decimal,
    explain=_explain_amount,
)
POSITIVE_DECIMAL = Scalar(
    name="decimal above 0",
    pattern=_ABOVE_ZERO,
    longest=64,
    example="84.54",
    convert=Decimal,
    format=format_decimal,
    explain=_explain_positive,
)
FRACTION = Scalar(
    name="fraction above 0, up to 1",
    pattern=_TO_ONE,
    longest=64,
    example="0.05",
    convert=Decimal,
    format=format_decimal,
    explain=_explain_fraction,
)
FRACTION_OR_ZERO = Scalar(
    name="fraction from 0 to 1",
    pattern=_ZERO_TO_ONE,
    longest=64,
    example="0.001",
    convert=Decimal,
    format=format_decimal,
    explain=_explain_fraction_or_zero,
)
FRACTION_BELOW_ONE = Scalar(
    name="fraction above 0, below 1",
    pattern=_BELOW_ONE,
    longest=64,
    example="0.05",
    convert=Decimal,
    format=format_decimal,
    explain=_explain_below_one,
)
SPEED = Scalar(
    name="speed of a replay",
    pattern=_SPEED,
    longest=64,
    example="max",
    convert=_convert_speed,
    format=format_speed,
    explain=_explain_speed,
)

Amount = Annotated[Decimal, AMOUNT]
PositiveDecimal = Annotated[Decimal, POSITIVE_DECIMAL]
Fraction = Annotated[Decimal, FRACTION]
FractionOrZero = Annotated[Decimal, FRACTION_OR_ZERO]
FractionBelowOne = Annotated[Decimal, FRACTION_BELOW_ONE]
Speed = Annotated[Decimal, SPEED]
