"""What an audit says: one structure, as text for people and as one line of JSON for machines.

A report rests on the ones before it: since when a check says what it says, how often in a row, and how it was in the
last runs. So the tenth report of the same failure does not read as ten new ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Check, Judgement, Status
from tradingbot_agents.reality.evidence import Evidence, Missing, Source
from tradingbot_agents.reality.words import lasting, moment

VERSION = 1
"""Of the JSON; fields are only added while it stays."""

TREND = 12
"""Runs that the line of marks shows, this one included."""

MARKS: Mapping[Status, str] = {Status.PASSED: ".", Status.FAILED: "x", Status.UNKNOWN: "?", Status.SKIPPED: "-"}
NO_MARK = " "
"""The check was not there then."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """The answer of one check, and what it means."""

    id: str
    status: Status
    severity: Severity
    """Of a failure."""
    told: tuple[str, ...]
    """Why, a line each."""
    asks: str
    protects: str
    remedy: str
    docs: str
    since: datetime
    """Of the first run in a row that had this status."""
    runs: int
    """How many those are."""
    before: Status | None
    """Of the run before; ``None``: it was not there."""
    trend: str
    """The last runs, oldest first, a mark each: passed ``.``, failed ``x``, unknown ``?``, skipped ``-``."""

    @property
    def changed(self) -> bool:
        """Whether it is news: a check that fails for the first time it is asked is some, one that passes then is
        none."""
        if self.before is None:
            return self.status in (Status.FAILED, Status.UNKNOWN)
        return self.before is not self.status and {self.before, self.status} != {Status.PASSED, Status.SKIPPED}


class Report(msgspec.Struct, frozen=True, kw_only=True):
    version: int = VERSION
    bot: str
    account: str
    at: datetime
    seconds: float
    """That it took."""
    evidence_since: datetime
    """Where the window of evidence begins; an agent's own counts from ``counts_from``, if that is later."""
    counts_from: Mapping[str, datetime]
    """By agent: when its running revision began, or the window."""
    revision: str | None
    """That the agents are to run, if somebody says."""
    sources: Mapping[str, str]
    """By place: ``known``, or why it could not be looked at."""
    looks: int
    """How often evidence was gathered: a difference between two places counts when it is seen again."""
    result: Status
    """PASSED, FAILED or UNKNOWN."""
    since: datetime
    """Of the first run in a row with this result."""
    runs: int
    findings: tuple[Finding, ...]
    hold: str | None = None
    """The hold that this report placed, in words."""

    def of(self, status: Status) -> list[Finding]:
        return [finding for finding in self.findings if finding.status is status]

    @property
    def severe(self) -> list[Finding]:
        """Broken invariants."""
        return [each for each in self.of(Status.FAILED) if each.severity is Severity.SEVERE]

    @property
    def changes(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.changed]

    @property
    def summary(self) -> str:
        """In a line."""
        counts = [
            f"{len(found)} {word}"
            for status, word in _WORDS.items()
            if (found := self.of(status)) or status is Status.PASSED
        ]
        named = [finding.id for finding in (*self.of(Status.FAILED), *self.of(Status.UNKNOWN))]
        more = f": {', '.join(named[:5])}{f' and {len(named) - 5} more' if len(named) > 5 else ''}" if named else ""
        return ", ".join(counts) + more


_WORDS = {
    Status.FAILED: "failed",
    Status.UNKNOWN: "unknown",
    Status.PASSED: "passed",
    Status.SKIPPED: "not asked",
}


def result_of(statuses: Iterable[Status]) -> Status:
    """Of the whole: one that failed makes it failed, one that is not known makes it unknown."""
    found = set(statuses)
    if Status.FAILED in found:
        return Status.FAILED
    return Status.UNKNOWN if Status.UNKNOWN in found or Status.PASSED not in found else Status.PASSED


def build(
    checks: Sequence[Check],
    judgements: Mapping[str, Judgement],
    evidence: Evidence,
    *,
    account: str,
    agents: Sequence[str],
    revision: str | None,
    looks: int,
    seconds: float,
    past: Sequence[Report],
) -> Report:
    """``past`` are the reports before, newest first."""
    before = past[0] if past else None
    at = evidence.at
    findings = tuple(_finding(check, judgements[check.id], at, past) for check in checks)
    result = result_of(finding.status for finding in findings)
    same = before is not None and before.result is result
    return Report(
        bot=evidence.settings.bot,
        account=account,
        at=at,
        seconds=round(seconds, 3),
        evidence_since=evidence.since,
        counts_from={agent: evidence.counts_from(agent) for agent in agents},
        revision=revision,
        sources={
            source.value: found.why if isinstance(found := evidence.of(source), Missing) else "known"
            for source in Source
        },
        looks=looks,
        result=result,
        since=before.since if same and before is not None else at,
        runs=before.runs + 1 if same and before is not None else 1,
        findings=findings,
    )


def _finding(check: Check, judgement: Judgement, at: datetime, past: Sequence[Report]) -> Finding:
    told = [_found(report, check.id) for report in past[: TREND - 1]]
    last = told[0] if told else None
    same = last is not None and last.status is judgement.status
    marks = [NO_MARK if each is None else MARKS[each.status] for each in reversed(told)]
    return Finding(
        id=check.id,
        status=judgement.status,
        severity=check.severity,
        told=judgement.told,
        asks=check.asks,
        protects=check.protects,
        remedy=check.remedy,
        docs=check.docs,
        since=last.since if same and last is not None else at,
        runs=last.runs + 1 if same and last is not None else 1,
        before=None if last is None else last.status,
        trend="".join(marks) + MARKS[judgement.status],
    )


def _found(report: Report, check: str) -> Finding | None:
    return next((finding for finding in report.findings if finding.id == check), None)


# --- as JSON ---------------------------------------------------------------------------------------------------


def to_json(report: Report) -> bytes:
    """One line."""
    return msgspec.json.encode(report)


def from_json(text: bytes | str) -> Report:
    """Raises ``msgspec.MsgspecError`` for what is no report of this version."""
    return msgspec.json.decode(text, type=Report)


def json_schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "The report of a reality check",
        **msgspec.json.schema(Report),
    }


# --- as text -----------------------------------------------------------------------------------------------------

_SHOWN = {
    Status.PASSED: "passed",
    Status.FAILED: "FAILED",
    Status.UNKNOWN: "UNKNOWN",
    Status.SKIPPED: "not asked",
}


def as_text(report: Report) -> str:
    """For people: what is wrong first, then what changed, then every check in a table."""
    lines = [
        f"Reality check of {report.bot} ({report.account}), {moment(report.at)}",
        f"{_SHOWN[report.result].upper()} {_since(report.since, report.at, report.runs)}: {report.summary}",
        f"evidence of {lasting(report.at - report.evidence_since)}, gathered in {report.seconds:.1f} s"
        + (f", {report.looks} looks" if report.looks > 1 else ""),
    ]
    lines += [f"  {source} could not be looked at: {why}" for source, why in _missing(report)]
    later = {agent: at for agent, at in report.counts_from.items() if at > report.evidence_since}
    lines += [f"  what {agent} tells counts from {moment(at)}" for agent, at in later.items()]
    if report.hold is not None:
        lines.append(f"  HOLD: {report.hold}")
    for finding in (*report.of(Status.FAILED), *report.of(Status.UNKNOWN)):
        lines += ["", *_in_detail(finding, report.at)]
    if report.changes:
        lines += ["", "Changed since the last run:"]
        lines += [f"  {each.id}: {each.before or 'new'} -> {each.status}" for each in report.changes]
    return "\n".join([*lines, "", *_table(report)])


def _in_detail(finding: Finding, at: datetime) -> list[str]:
    severe = ", severe" if finding.status is Status.FAILED and finding.severity is Severity.SEVERE else ""
    return [
        f"{_SHOWN[finding.status]} {finding.id}{severe}, {_since(finding.since, at, finding.runs)}",
        f"  {finding.asks}",
        *(f"  - {line}" for line in finding.told),
        f"  protects: {finding.protects}",
        f"  do: {finding.remedy}",
        f"  see {finding.docs}",
    ]


def _table(report: Report) -> list[str]:
    rows = [("check", "result", "since", "last runs", "evidence")]
    rows += [
        (
            finding.id,
            _SHOWN[finding.status],
            moment(finding.since),
            finding.trend.rjust(TREND),
            finding.told[0] if finding.told else "",
        )
        for finding in report.findings
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    return [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:4], widths, strict=True)), row[4]]).rstrip()
        for row in rows
    ]


def _missing(report: Report) -> list[tuple[str, str]]:
    return [(source, why) for source, why in report.sources.items() if why != "known"]


def _since(since: datetime, at: datetime, runs: int) -> str:
    if runs == 1:
        return "now"
    return f"since {moment(since)} ({lasting(at - since)}, {runs} runs in a row)"
