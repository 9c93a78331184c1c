"""Reports of a reality check with the findings that a test is about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Finding, Report, result_of

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
HALF_HOUR = timedelta(minutes=30)


def finding(check: str, status: Status, at: datetime = NOW, **changes: Any) -> Finding:
    """One that is new at ``at``, and a warning when it fails."""
    fields: dict[str, Any] = {
        "id": check,
        "status": status,
        "severity": Severity.WARNING,
        "told": (f"{check} says why",),
        "asks": "Is it so?",
        "protects": "The money.",
        "remedy": f"Mend {check}.",
        "docs": f"docs/reality-checks.md#{check.replace('.', '')}",
        "since": at,
        "runs": 1,
        "before": None,
        "trend": ".",
    }
    return Finding(**{**fields, **changes})


def report(*findings: Finding, at: datetime = NOW, **changes: Any) -> Report:
    fields: dict[str, Any] = {
        "bot": "majors",
        "account": "paper/simulated/main",
        "at": at,
        "seconds": 1.5,
        "evidence_since": at - timedelta(minutes=35),
        "counts_from": {},
        "revision": None,
        "sources": {},
        "looks": 1,
        "result": result_of(each.status for each in findings),
        "since": at,
        "runs": 1,
        "findings": findings,
    }
    return Report(**{**fields, **changes})
