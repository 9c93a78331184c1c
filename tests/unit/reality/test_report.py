"""What a report says, of the runs before it as well, and when a difference between two places counts."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.values import Mode
from tradingbot_agents.reality.audit import audit
from tradingbot_agents.reality.check import (
    MOST_TOLD,
    Check,
    Judgement,
    Status,
    all_checks,
    judge,
    judged,
    passed,
    skipped,
)
from tradingbot_agents.reality.evidence import Evidence, Missing, Settings, Source
from tradingbot_agents.reality.report import Report, as_text, from_json, json_schema, result_of, to_json

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)
AWAY = Missing("it does not answer")
SETTINGS = Settings(
    bot="majors",
    mode=Mode.PAPER,
    exchange="binance",
    symbols=("BTC/USDT",),
    quote="USDT",
    timeframe=timedelta(minutes=5),
    poll_interval=timedelta(seconds=30),
    feed="rest",
    maximum_price_age=timedelta(minutes=2),
    rules_interval=timedelta(hours=1),
    reconcile_interval=timedelta(minutes=5),
    protect_within=timedelta(minutes=1),
    resolve_within=timedelta(minutes=1),
    send_within=timedelta(seconds=30),
    slippage=Decimal("0.005"),
    has_stop=True,
    stops_on_exchange=True,
    fees=None,
    backlog=10,
)
NOTHING = Evidence(
    at=START,
    since=START - timedelta(minutes=35),
    settings=SETTINGS,
    ledger=AWAY,
    account=Missing("no key for it", wanted=False),
    market=AWAY,
    candles=AWAY,
    messaging=AWAY,
    agents=AWAY,
    logs=AWAY,
)


class Asked:
    """A check whose answers are given, one a look; the last one again and again."""

    def __init__(self, check: str, *answers: Judgement, compares: bool = False, severe: bool = False) -> None:
        self._answers = list(answers)
        self.check = Check(
            id=check,
            asks="Is it so?",
            protects="The money.",
            needs=(),
            severity=Severity.SEVERE if severe else Severity.WARNING,
            remedy="Mend it.",
            judge=lambda _: self._answers.pop(0) if len(self._answers) > 1 else self._answers[0],
            compares=compares,
        )


BROKEN = judged(["one is missing"], "all are there")
WELL = passed("all are there")


def run(asked: Sequence[Asked], past: Sequence[Report] = (), at: datetime = START) -> Report:
    async def gather() -> Evidence:
        return msgspec.structs.replace(NOTHING, at=at, since=at - timedelta(minutes=35))

    async def settle() -> None:
        return None

    return asyncio.run(
        audit(
            [each.check for each in asked], gather, settle, account="paper/binance/main", agents=["risk"], past=past
        )
    )


def test_a_check_without_its_evidence_is_unknown_whatever_it_would_say() -> None:
    check = msgspec.structs.replace(Asked("orders.fills", WELL).check, needs=(Source.LEDGER, Source.ACCOUNT))
    assert judge(check, NOTHING) == Judgement(Status.UNKNOWN, ("ledger: it does not answer",))
    unasked = msgspec.structs.replace(check, needs=(Source.ACCOUNT,))
    assert judge(unasked, NOTHING) == skipped("account: no key for it")


@pytest.mark.parametrize("check", all_checks(), ids=lambda check: check.id)
def test_every_check_says_unknown_without_evidence(check: Check) -> None:
    assert judge(check, NOTHING).status in (Status.UNKNOWN, Status.SKIPPED)
    assert check.docs == f"docs/reality-checks.md#{check.id.replace('.', '')}"


def test_breaches_come_before_doubts_and_what_is_beyond_is_counted() -> None:
    assert judged(["a"], "well", doubts=["b"]) == Judgement(Status.FAILED, ("a",))
    assert judged([], "well", doubts=["b"]) == Judgement(Status.UNKNOWN, ("b",))
    many = judged([str(number) for number in range(MOST_TOLD + 3)], "well").told
    assert len(many) == MOST_TOLD + 1
    assert many[-1] == "and 3 more"


def test_the_result_of_all() -> None:
    assert result_of([Status.PASSED, Status.SKIPPED]) is Status.PASSED
    assert result_of([Status.PASSED, Status.UNKNOWN]) is Status.UNKNOWN
    assert result_of([Status.PASSED, Status.UNKNOWN, Status.FAILED]) is Status.FAILED
    assert result_of([Status.SKIPPED]) is Status.UNKNOWN, "nothing was looked at"


def test_what_fails_again_and_again_says_since_when() -> None:
    past: list[Report] = []
    for number, answer in enumerate((WELL, BROKEN, BROKEN, BROKEN, WELL)):
        past.insert(0, run([Asked("feed.age", answer)], past, START + number * HALF_HOUR))
    mended, third, _, first, _ = past
    (finding,) = third.findings
    assert (finding.since, finding.runs, finding.trend) == (START + HALF_HOUR, 3, ".xxx")
    assert (third.result, third.since, third.runs) == (Status.FAILED, START + HALF_HOUR, 3)
    assert not third.changes, "it is no news any more"
    assert [each.id for each in first.changes] == ["feed.age"]
    assert [(each.id, each.before, each.status) for each in mended.changes] == [
        ("feed.age", Status.FAILED, Status.PASSED)
    ]
    assert "since 2026-03-01 12:30:00Z (60 min, 3 runs in a row)" in as_text(third)


def test_a_difference_counts_when_a_second_look_sees_it() -> None:
    seen_once = run([Asked("orders.fills", BROKEN, WELL, compares=True)])
    assert (seen_once.result, seen_once.looks) == (Status.PASSED, 2)
    seen_twice = run([Asked("orders.fills", BROKEN, compares=True)])
    assert (seen_twice.result, seen_twice.looks) == (Status.FAILED, 2)
    # One that begins to differ in the last look has not been seen twice.
    late = run(
        [
            Asked("orders.fills", BROKEN, WELL, BROKEN, compares=True),
            Asked("positions.holdings", WELL, BROKEN, WELL, compares=True),
        ]
    )
    assert late.looks == 3
    assert [each.status for each in late.findings] == [Status.UNKNOWN, Status.PASSED]
    at_once = run([Asked("balance.invariants", BROKEN, severe=True)])
    assert (at_once.result, at_once.looks) == (Status.FAILED, 1)
    assert [each.id for each in at_once.severe] == ["balance.invariants"]


def test_the_text_has_what_is_wrong_first_and_every_check_in_a_table() -> None:
    report = run([Asked("lots.rejections", WELL), Asked("orders.fills", BROKEN, severe=True)])
    text = as_text(report)
    assert text.index("FAILED orders.fills, severe, now") < text.index("lots.rejections")
    for words in (
        "Reality check of majors (paper/binance/main)",
        "FAILED now: 1 failed, 1 passed: orders.fills",
        "  - one is missing",
        "  do: Mend it.",
        "  see docs/reality-checks.md#ordersfills",
        "ledger could not be looked at: it does not answer",
        "orders.fills: new -> failed",
    ):
        assert words in text
    assert max(len(line) for line in text.splitlines()) < 160


def test_as_json_it_is_one_line_that_is_read_again() -> None:
    report = run([Asked("orders.fills", BROKEN)])
    line = to_json(report)
    assert b"\n" not in line
    assert from_json(line) == report
    assert set(json_schema()["$defs"]["Report"]["required"]) >= {"bot", "at", "result", "findings"}
