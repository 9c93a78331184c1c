"""What the ledger keeps for a while: from the spec to the time before which it goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from support.specs import PAPER, bot_of, mistakes_of, spec_text
from tradingbot_agents.ledger.port import Retention
from tradingbot_agents.ledger.retention import cutoffs
from tradingbot_agents.runtime.wiring import retention

NEWEST = datetime(2026, 5, 20, 13, 45, tzinfo=UTC)


def days(number: int) -> timedelta:
    return timedelta(days=number)


@pytest.mark.parametrize("field", ["events", "severeEvents", "refusals", "equity"])
def test_a_field_of_the_spec_changes_its_limit_and_no_other(field: str) -> None:
    before = retention(bot_of(PAPER))
    after = retention(bot_of(PAPER, **{f"database__history__{field}": "123d"}))
    name = {"severeEvents": "severe_events"}.get(field, field)
    assert {each: getattr(after, each) for each in Retention.__struct_fields__} == {
        **{each: getattr(before, each) for each in Retention.__struct_fields__},
        name: days(123),
    }


def test_reports_of_the_reality_check_are_kept_for_as_long_as_it_says() -> None:
    assert retention(bot_of(PAPER)).reports == days(30)
    changed = retention(bot_of(PAPER, realityCheck__retention="7d"))
    assert changed == msgspec.structs.replace(retention(bot_of(PAPER)), reports=days(7))


def test_a_protection_sees_every_point_as_far_as_it_looks_back() -> None:
    protections = [{"name": "maxDrawdown", "lookback": "30d"}, {"name": "stopLossGuard", "lookback": "2d"}]
    short = bot_of(PAPER, risk__protections=protections, database__history__equity="5d")
    limit = retention(short).equity
    assert limit == days(30)
    # The day in which it begins to look is whole as well.
    assert cutoffs(retention(short), NEWEST).equity == datetime(2026, 4, 20, tzinfo=UTC) <= NEWEST - limit


def test_the_day_in_progress_is_never_thinned() -> None:
    bot = bot_of(PAPER, risk__protections=[], database__history__equity="1s")
    assert cutoffs(retention(bot), NEWEST).equity == datetime(2026, 5, 19, tzinfo=UTC)


def test_a_refusal_is_kept_for_as_long_as_its_intent_may_come_again() -> None:
    (mistake,) = mistakes_of(spec_text(PAPER, database__history__refusals="23h"))
    assert "spec.database.history.refusals" in str(mistake)
    assert "write 1d or more" in str(mistake)
    assert mistakes_of(spec_text(PAPER, database__history__refusals="1d")) == ()


def test_each_kind_has_its_own_limit() -> None:
    limits = cutoffs(
        Retention(events=days(1), severe_events=days(2), refusals=days(3), equity=days(4), reports=days(5)),
        newest=NEWEST,
    )
    assert limits.events == datetime(2026, 5, 19, 13, 45, tzinfo=UTC)
    assert limits.severe_events == datetime(2026, 5, 18, 13, 45, tzinfo=UTC)
    assert limits.refusals == datetime(2026, 5, 17, 13, 45, tzinfo=UTC)
    assert limits.equity == datetime(2026, 5, 16, tzinfo=UTC)
