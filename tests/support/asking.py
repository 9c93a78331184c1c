"""Asking one check by its name."""

from __future__ import annotations

from support.evidence import evidence
from tradingbot_agents.reality.check import Status, all_checks, judge

_CHECKS = {check.id: check for check in all_checks()}


def ask(check: str, **changes: object) -> tuple[Status, tuple[str, ...]]:
    """What it answers on the clean bot with these changes."""
    found = judge(_CHECKS[check], evidence(**changes))
    return found.status, found.told


def only(check: str, **changes: object) -> tuple[Status, str]:
    """The same, where it says one thing."""
    status, told = ask(check, **changes)
    (line,) = told
    return status, line
