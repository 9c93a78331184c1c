"""The story that the reality check was made for: prices came from a fallback until 12:54, when a new revision mended
it. The check fails before, and passes at the first run after, though the old lines are still in the log; what the
lock refused meanwhile is told as the lock at work."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import msgspec

from support.evidence import BEGAN, evidence, heard, ledger, log, logs
from tradingbot_agents.bus.topology import AGENTS, EXECUTION, RISK, STRATEGY
from tradingbot_agents.domain.events import AgentStarted, Reason
from tradingbot_agents.reality.audit import audit
from tradingbot_agents.reality.check import Check, Status, all_checks
from tradingbot_agents.reality.evidence import Evidence, Heard, Logs
from tradingbot_agents.reality.logs import Scan
from tradingbot_agents.reality.report import Report, as_text

MENDED = datetime(2026, 3, 1, 12, 54, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
WINDOW = 35 * MINUTE
WHY = "the candle store's last close is 400 s old"
FALLBACKS = [MENDED - (2 + 5 * bar) * MINUTE for bar in range(6)]
"""One for each candle of the half hour before."""


def line(at: datetime, event: str, level: str, **fields: str) -> bytes:
    own = {"bot": "majors", "at": at.isoformat(), "agent": RISK, **fields}
    return json.dumps({**own, "event": event, "level": level, "timestamp": at.isoformat()}).encode() + b"\n"


def the_log(until: datetime) -> bytes:
    """What risk has told by then: one file, whatever was started anew meanwhile."""
    lines = {BEGAN: line(BEGAN, AgentStarted.name, "info", revision="r1")}
    for at in FALLBACKS:
        lines[at] = line(at, "price_fallback_used", "warning", symbol="BTC/USDT", source="ticker", why=WHY)
        lines[at + MINUTE] = line(
            at + MINUTE, "database_failed", "error", error="ValueError: InfluxDB is asked wrong"
        )
    lines[MENDED] = line(MENDED, AgentStarted.name, "info", revision="r2")
    lines[until] = line(until, "candle_handled", "debug", symbol="BTC/USDT")
    return b"".join(text for at, text in sorted(lines.items()) if at <= until)


def gathered(at: datetime) -> Evidence:
    """As it is at a moment: the running revision is the first one, and from 12:54 on the second."""
    began = MENDED if at >= MENDED else BEGAN
    scan = Scan([RISK], since=at - WINDOW)
    scan.feed(the_log(at))
    read = Logs(agents={**logs().agents, RISK: scan.logs(lacks="")[RISK]})
    rows: tuple[Heard, ...] = tuple(
        heard("price_fallback_used", "BTC/USDT", "ticker", at=each, why=WHY) for each in FALLBACKS if each <= at
    )
    return evidence(
        at=at,
        since=at - WINDOW,
        ledger=ledger(
            read_at=at,
            asked_at=at,
            heard=rows,
            revisions={STRATEGY: began, RISK: began, EXECUTION: began},
            refusals={Reason.INSUFFICIENT_AVAILABLE_BALANCE.value: 7, Reason.POSITION_ALREADY_OPEN.value: 2},
        ),
        logs=read,
    )


def asked() -> list[Check]:
    """What the story is about."""
    return [each for each in all_checks() if each.id in ("prices.fallbacks", "agents.errors", "balance.lock")]


async def run(at: datetime, past: list[Report]) -> Report:
    async def gather() -> Evidence:
        return gathered(at)

    async def settle() -> None:
        raise AssertionError("nothing of it is seen in two places")

    return await audit(asked(), gather, settle, account="main", agents=AGENTS, past=past)


async def test_it_fails_before_the_fix_and_passes_at_the_first_run_after() -> None:
    before = await run(MENDED - 9 * MINUTE, [])
    after = await run(MENDED + 6 * MINUTE, [before])
    found = {each.id: each for each in before.findings}
    assert before.result is Status.FAILED
    assert found["prices.fallbacks"].status is Status.FAILED
    assert found["prices.fallbacks"].told[-1] == (
        f"BTC/USDT: the price was the exchange's ticker (once, at 2026-03-01 12:42:00Z), at last because {WHY}"
    )
    assert found["agents.errors"].status is Status.FAILED
    assert [(each.id, each.status) for each in after.findings] == [(each.id, Status.PASSED) for each in asked()]
    assert after.result is Status.PASSED
    text = as_text(after)
    assert "what risk tells counts from 2026-03-01 12:54:00Z" in text
    assert "prices.fallbacks: failed -> passed" in text
    # They are in what was read all the same.
    assert the_log(after.at).count(b"price_fallback_used") == len(FALLBACKS)
    assert all(each >= after.evidence_since for each in FALLBACKS[:5])


async def test_had_it_not_been_mended_the_old_lines_would_count() -> None:
    found = gathered(MENDED + 6 * MINUTE)
    first = msgspec.structs.replace(
        ledger(heard=found.ledger.heard),  # type: ignore[union-attr]
        revisions={STRATEGY: BEGAN, RISK: BEGAN, EXECUTION: BEGAN},
    )
    unmended = msgspec.structs.replace(found, ledger=first, logs=Logs(agents={RISK: log(RISK)}))
    [check] = [each for each in asked() if each.id == "prices.fallbacks"]
    assert check.judge(unmended).status is Status.FAILED


async def test_nine_refusals_are_the_lock_at_work() -> None:
    report = await run(MENDED + 6 * MINUTE, [])
    [found] = [each for each in report.findings if each.id == "balance.lock"]
    assert (found.status, found.told) == (
        Status.PASSED,
        ("9 intents were refused: the lock at work (insufficient_available_balance 7, position_already_open 2)",),
    )
    assert "9 intents were refused: the lock at work" in as_text(report)
