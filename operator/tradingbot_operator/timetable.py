"""When the reality check of a bot is late, by its schedule: nobody else would notice that it does not run any more.

Schedules are read as Kubernetes reads them, in UTC. Where day of the month and day of the week are both limited, a
day of either is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from itertools import islice

import msgspec

from tradingbot_api import ScalarInvalid, parse_duration, parse_schedule, parse_timestamp
from tradingbot_api.defaults import REALITY_CHECK_SCHEDULE, REALITY_CHECK_SUSPENDED
from tradingbot_operator.builders import check
from tradingbot_operator.kinds import Manifest

MISSED = 2
"""Runs after which it is late: one may be passed over while the one before is not done."""

_LONGEST = 4 * 366
"""Days until a schedule is said to have no run: the 29th of February."""

_RANGES = (range(60), range(24), range(1, 32), range(1, 13), range(7))
_NAMES = {
    name: number
    for names in ("SUN MON TUE WED THU FRI SAT", "_ JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC")
    for number, name in enumerate(names.split())
}


class Checked(msgspec.Struct, frozen=True):
    """The reality check of a bot, as its metrics tell it. Times are Unix times."""

    result: str | None
    """passed, failed, severe (an invariant is broken) or unknown; ``None``: there was none yet."""
    at: float | None
    late: float | None
    """From when on it is; ``None``: it never is, for it is suspended."""


def checked(body: Manifest) -> Checked:
    """Of a TradingBot, as the API server has it."""
    status = body.get("status") or {}
    last = status.get("lastRealityCheck") or {}
    reasons = {one["type"]: one.get("reason") for one in status.get("conditions") or []}
    broken = last.get("result") == "failed" and reasons.get("RealityCheckPassed") == "InvariantBroken"
    at = parse_timestamp(last["at"]) if last.get("at") else None
    late = _late(body, at)
    return Checked(
        result="severe" if broken else last.get("result"),
        at=None if at is None else at.timestamp(),
        late=None if late is None else late.timestamp(),
    )


def _late(body: Manifest, at: datetime | None) -> datetime | None:
    settings = (body.get("spec") or {}).get("realityCheck") or {}
    made = body["metadata"].get("creationTimestamp")
    times = [each for each in (at, parse_timestamp(made) if made else None) if each is not None]
    if settings.get("suspend", REALITY_CHECK_SUSPENDED) or body["metadata"].get("deletionTimestamp") or not times:
        return None
    try:
        schedule = parse_schedule(settings.get("schedule", REALITY_CHECK_SCHEDULE))
        limit = parse_duration(settings["timeLimit"]) if "timeLimit" in settings else None
    except ScalarInvalid:
        # The spec can not be used; its condition says so.
        return None
    due = next(islice(runs(schedule, max(times)), MISSED - 1, None), None)
    return None if due is None else due + check.longest(limit)


def runs(schedule: str, after: datetime) -> Iterator[datetime]:
    """Later than ``after``, and in order; it ends where there is none for years."""
    minutes, hours, days, months, weekdays = _sets(schedule)
    either = _is_limited(schedule.split(" ")[2]) and _is_limited(schedule.split(" ")[4])
    for number in range(_LONGEST):
        day = (after + timedelta(days=number)).astimezone(UTC).date()
        by_month, by_week = day.day in days, day.isoweekday() % 7 in weekdays
        if day.month not in months or not ((by_month or by_week) if either else (by_month and by_week)):
            continue
        for hour in hours:
            for minute in minutes:
                run = datetime.combine(day, time(hour, minute), UTC)
                if run > after:
                    yield run


@lru_cache(maxsize=1024)
def _sets(schedule: str) -> tuple[tuple[int, ...], ...]:
    fields = zip(schedule.split(" "), _RANGES, strict=True)
    return tuple(
        tuple(sorted({each for part in field.split(",") for each in _numbers(part, whole)}))
        for field, whole in fields
    )


def _numbers(part: str, whole: range) -> range:
    span, slash, step = part.partition("/")
    if span == "*":
        first, last = whole[0], whole[-1]
    else:
        first, *end = (_NAMES[each.upper()] if each.upper() in _NAMES else int(each) for each in span.split("-"))
        last = end[0] if end else whole[-1] if slash else first
    return range(first, last + 1, int(step) if slash else 1)


def _is_limited(field: str) -> bool:
    return not any(part in ("*", "*/1") for part in field.split(","))
