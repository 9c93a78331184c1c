"""Times as a report says them, to somebody who was woken by it."""

from __future__ import annotations

from datetime import datetime, timedelta


def moment(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}Z"


def lasting(span: timedelta) -> str:
    seconds = round(span.total_seconds())
    for name, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (name == "min" and seconds >= size):
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
