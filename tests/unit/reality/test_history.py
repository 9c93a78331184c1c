"""Reports of the past, and what becomes of those that this release can not read."""

from __future__ import annotations

import msgspec
import pytest

from support.reports import HALF_HOUR, NOW, finding, report
from tradingbot_agents.ledger.reports import StoredReport
from tradingbot_agents.reality import history
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Report

OURS = report(finding("orders.fills", Status.FAILED), hold="held at Paused: why")


def stored(document: str, number: int = 7) -> StoredReport:
    return StoredReport(number=number, at=NOW, result="failed", hold=None, document=document)


def kept(which: Report, number: int = 7) -> StoredReport:
    new = history.to_keep(which)
    return StoredReport(number=number, at=new.at, result=new.result, hold=new.hold, document=new.document.decode())


def test_what_is_kept_is_read_again() -> None:
    one = kept(OURS)
    assert (one.at, one.result, one.hold) == (NOW, "failed", "held at Paused: why")
    assert history.decoded(one) == OURS


def test_one_of_another_release_is_passed_over_with_a_word() -> None:
    newer = msgspec.json.encode({"version": 2, "bot": "majors"}).decode()
    later = msgspec.structs.replace(OURS, at=NOW + HALF_HOUR)
    found = history.read([kept(later, 9), stored(newer, 8), stored("[]", 6), kept(OURS, 5)])
    assert found.reports == (later, OURS)
    version, shape = found.passed_over
    assert version == "report 8 of 2026-03-01 12:00:00Z has version 2, and this release reads version 1"
    assert shape.startswith("report 6 of 2026-03-01 12:00:00Z can not be read: ")


@pytest.mark.parametrize(
    "document",
    ['{"version": 1}', '{"version": "1"}', "", msgspec.json.encode(OURS).decode().replace('"failed"', '"burnt"')],
)
def test_one_that_is_broken_is_told_as_a_value_error(document: str) -> None:
    with pytest.raises(ValueError, match="report 7 of 2026-03-01 12:00:00Z can not be read"):
        history.decoded(stored(document))


def test_fields_that_another_release_added_are_passed_over() -> None:
    more = {**msgspec.json.decode(msgspec.json.encode(OURS)), "weather": "fine"}
    assert history.decoded(stored(msgspec.json.encode(more).decode())) == OURS
