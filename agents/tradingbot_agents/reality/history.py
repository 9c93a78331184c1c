"""Reports as the ledger keeps them: written, and read again, also those of another release."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from tradingbot_agents.ledger.reports import NewReport, StoredReport
from tradingbot_agents.reality.report import VERSION, Report, from_json, to_json
from tradingbot_agents.reality.words import moment


class History(msgspec.Struct, frozen=True):
    reports: tuple[Report, ...]
    """Those that this release can read, in the order that they were given in."""
    passed_over: tuple[str, ...]
    """The others, a line each."""


def to_keep(report: Report) -> NewReport:
    return NewReport(at=report.at, result=report.result.value, hold=report.hold, document=to_json(report))


def read(stored: Iterable[StoredReport]) -> History:
    reports: list[Report] = []
    passed_over: list[str] = []
    for each in stored:
        try:
            reports.append(decoded(each))
        except ValueError as error:
            passed_over.append(str(error))
    return History(tuple(reports), tuple(passed_over))


class _Versioned(msgspec.Struct):
    version: int


def decoded(stored: StoredReport) -> Report:
    """Raises ``ValueError`` for one that this release can not read."""
    which = f"report {stored.number} of {moment(stored.at)}"
    try:
        version = msgspec.json.decode(stored.document, type=_Versioned).version
        if version != VERSION:
            raise ValueError(f"{which} has version {version}, and this release reads version {VERSION}")
        return from_json(stored.document)
    except msgspec.MsgspecError as error:
        # A validation error is a ValueError as well, and does not say of what.
        raise ValueError(f"{which} can not be read: {error}") from error
