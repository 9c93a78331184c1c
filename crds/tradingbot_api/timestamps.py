"""Moments: RFC 3339 with an offset, so that no one's local time zone decides where a replay starts."""

import re
from datetime import UTC, datetime
from typing import Annotated

from .scalar import Scalar, ScalarInvalid

_PATTERN = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})$"


def parse_timestamp(text: str) -> datetime:
    """`"2024-01-01T00:00:00Z"` → aware UTC datetime. Raises `ScalarInvalid`."""
    value: datetime = TIMESTAMP.parse(text)
    return value


def format_timestamp(value: datetime) -> str:
    """An aware datetime in UTC, as short as it is exact."""
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _convert(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise ScalarInvalid("is no moment of the calendar", "write one such as 2024-01-01T00:00:00Z") from error


def _explain(text: str) -> tuple[str, str]:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
        return "is a date without a time", f'write "{text}T00:00:00Z"'
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return "is not a moment", 'write it as RFC 3339 with an offset, such as "2024-01-01T00:00:00Z"'
    if parsed.tzinfo is None:
        return "has no time zone", f'write "{parsed.isoformat()}Z" for UTC'
    return "is not written as RFC 3339", f'write "{format_timestamp(parsed)}"'


TIMESTAMP = Scalar(
    name="moment",
    pattern=_PATTERN,
    longest=64,
    example="2024-01-01T00:00:00Z",
    convert=_convert,
    format=format_timestamp,
    explain=_explain,
)

Timestamp = Annotated[datetime, TIMESTAMP]
