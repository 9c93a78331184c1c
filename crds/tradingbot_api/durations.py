"""Durations: a whole number and one unit, `250ms` `30s` `5m` `1h` `7d`.

One unit only, so that equal durations are easy to compare by eye and a structural schema can check them. Months and
years are left out on purpose: `m` is minutes.
"""

import re
from datetime import timedelta
from decimal import Decimal
from typing import Annotated

from .scalar import Scalar

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
    "s": timedelta(seconds=1),
    "ms": timedelta(milliseconds=1),
}

# What people write, for the remedy only.
_ALIASES = {
    "d": "d day days",
    "h": "h hr hrs hour hours",
    "m": "m min mins minute minutes",
    "s": "s sec secs second seconds",
    "ms": "ms msec millis millisecond milliseconds",
}
_UNIT_OF = {alias: unit for unit, aliases in _ALIASES.items() for alias in aliases.split()}

# Nine digits of days are the most that a timedelta holds.
_POSITIVE = r"^[1-9][0-9]{0,8}(ms|s|m|h|d)$"
_OR_ZERO = r"^(0|[1-9][0-9]{0,8})(ms|s|m|h|d)$"


def parse_duration(text: str) -> timedelta:
    """`"5m"` → five minutes; zero is allowed. Raises `ScalarInvalid`."""
    value: timedelta = DURATION_OR_ZERO.parse(text)
    return value


def format_duration(value: timedelta) -> str:
    """The shortest text for a duration, in the largest unit that divides it. Raises ValueError when it is negative
    or finer than a millisecond, for no text can say that."""
    if value < timedelta(0) or value % _UNITS["ms"]:
        raise ValueError(
            f"a duration of {value!r} cannot be written: it must be a whole number of milliseconds, 0 or more"
        )
    if not value:
        return "0s"
    unit = next(unit for unit, length in _UNITS.items() if not value % length)
    return f"{value // _UNITS[unit]}{unit}"


def _convert(text: str) -> timedelta:
    number = text.rstrip("dhms")
    return int(number) * _UNITS[text[len(number) :]]


def _explain(text: str) -> tuple[str, str]:
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return "has no unit", f"write the unit: {text}s, {text}m, {text}h (units are ms, s, m, h, d)"
    guess = _guess(text)
    if guess is not None:
        return "is not written as a duration", f"write {guess}"
    return (
        "is not a duration",
        "write a whole number and one unit of ms, s, m, h, d, such as 250ms, 30s, 5m, 1h or 7d",
    )


def _guess(text: str) -> str | None:
    """What `1h30m`, `1.5h`, `5 min` or `30S` were meant to be."""
    parts = re.findall(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s*([A-Za-z]+)\s*", text)
    if not parts or "".join(number + unit for number, unit in parts) != re.sub(r"\s", "", text):
        return None
    total = Decimal(0)
    for number, unit in parts:
        known = _UNIT_OF.get(unit.lower())
        if known is None:
            return None
        total += Decimal(number) * (_UNITS[known] // _UNITS["ms"])
    if total != total.to_integral_value() or not 0 < total < 10**14:
        return None
    return format_duration(timedelta(milliseconds=int(total)))


def _explain_positive(text: str) -> tuple[str, str]:
    if re.fullmatch(_OR_ZERO, text):
        return "is no time at all", "write a duration above zero"
    return _explain(text)


DURATION = Scalar(
    name="duration",
    pattern=_POSITIVE,
    longest=64,
    example="30s",
    convert=_convert,
    format=format_duration,
    explain=_explain_positive,
)
DURATION_OR_ZERO = Scalar(
    name="duration, 0s allowed",
    pattern=_OR_ZERO,
    longest=64,
    example="250ms",
    convert=_convert,
    format=format_duration,
    explain=_explain,
)

Duration = Annotated[timedelta, DURATION]
DurationOrZero = Annotated[timedelta, DURATION_OR_ZERO]
