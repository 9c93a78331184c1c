"""Cron schedules in the five fields that a Kubernetes CronJob takes.

The check is basic (number of fields, characters, ranges), because Kubernetes checks again; its purpose is that
`tradingbot validate` finds a swapped field on the laptop.
"""

import re
from typing import Annotated

from .scalar import Scalar, ScalarInvalid

_PATTERN = r"^[0-9A-Za-z*/,-]+( [0-9A-Za-z*/,-]+){4}$"
_FIELDS = (
    ("minute", 0, 59, ()),
    ("hour", 0, 23, ()),
    ("day of the month", 1, 31, ()),
    ("month", 1, 12, ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")),
    ("day of the week", 0, 6, ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")),
)


def parse_schedule(text: str) -> str:
    """The schedule itself, after the check. Raises `ScalarInvalid`."""
    value: str = SCHEDULE.parse(text)
    return value


def _convert(text: str) -> str:
    for field, (name, low, high, names) in zip(text.split(" "), _FIELDS, strict=True):
        for part in field.split(","):
            if not _part_is_valid(part, low, high, names):
                raise ScalarInvalid(
                    f"has {part!r} as its {name}",
                    f"write *, a number from {low} to {high}, a range a-b, a step */n or a list of them there",
                )
    return text


def _part_is_valid(part: str, low: int, high: int, names: tuple[str, ...]) -> bool:
    span, slash, step = part.partition("/")
    if slash and not (re.fullmatch(r"[0-9]{1,2}", step) and 1 <= int(step) <= high):
        return False
    if span == "*":
        return True
    numbers = [_number(end, low, high, names) for end in span.split("-")]
    if len(numbers) > 2 or None in numbers:
        return False
    return numbers == sorted(numbers, key=lambda number: number or 0)


def _number(text: str, low: int, high: int, names: tuple[str, ...]) -> int | None:
    if text.upper() in names:
        return names.index(text.upper()) + low
    if re.fullmatch(r"[0-9]{1,2}", text) and low <= int(text) <= high:
        return int(text)
    return None


def _explain(text: str) -> tuple[str, str]:
    remedy = 'write five fields (minute, hour, day, month, weekday) with single spaces, such as "*/30 * * * *"'
    if text.startswith("@"):
        return "is a macro", remedy
    return f"has {len(text.split())} fields or a character that a schedule does not have", remedy


SCHEDULE = Scalar(
    name="cron schedule",
    pattern=_PATTERN,
    longest=200,
    example="*/30 * * * *",
    convert=_convert,
    format=str,
    explain=_explain,
)

Schedule = Annotated[str, SCHEDULE]
