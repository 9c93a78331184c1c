"""A severe failure holds the bot once, and no check takes away what a person decided."""

from __future__ import annotations

from datetime import timedelta

from support.reports import HALF_HOUR, NOW, finding, report
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.port import Hold
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.holding import BY, holding, words
from tradingbot_agents.reality.report import Finding, Report

P, F, U = Status.PASSED, Status.FAILED, Status.UNKNOWN
NONE: frozenset[str] = frozenset()


def severe(check: str = "orders.fills", status: Status = F) -> Finding:
    return finding(check, status, severity=Severity.SEVERE)


def at_run(number: int, *findings: Finding) -> Report:
    return report(*findings, at=NOW + number * HALF_HOUR)


def by_a_person(state: BotState) -> Hold:
    return Hold(state=state, reason="on holiday", by="command", at=NOW - timedelta(days=1))


class Bot:
    """Its hold, and what the check remembers, over some runs."""

    def __init__(self, on_severe: BotState | None = BotState.REDUCE_ONLY) -> None:
        self.on_severe = on_severe
        self.hold: Hold | None = None
        self.held_for = NONE
        self.runs = 0

    def checked(self, *findings: Finding) -> Hold | None:
        placed, self.held_for = holding(at_run(self.runs, *findings), self.on_severe, self.hold, self.held_for)
        self.runs += 1
        self.hold = placed or self.hold
        return placed


def test_a_severe_failure_holds_the_bot_and_says_why() -> None:
    placed = Bot().checked(severe(), severe("balance.invariants"), finding("feed.age", F))
    assert placed == Hold(
        state=BotState.REDUCE_ONLY,
        reason="balance.invariants, orders.fills failed in the reality check of 2026-03-01 12:00:00Z",
        by=BY,
        at=NOW,
    )
    assert words(placed) == f"held at ReduceOnly: {placed.reason}"


def test_nothing_else_holds_it() -> None:
    bot = Bot()
    assert bot.checked(finding("feed.age", F), severe(status=U), severe("balance.invariants", P)) is None
    assert bot.held_for == NONE


def test_report_holds_nothing_and_a_changed_setting_counts_at_the_next_run() -> None:
    bot = Bot(on_severe=None)
    assert bot.checked(severe()) is None
    bot.on_severe = BotState.PAUSED
    placed = bot.checked(severe())
    assert placed is not None
    assert placed.state is BotState.PAUSED


def test_what_a_person_released_is_not_held_again_until_it_has_passed_in_between() -> None:
    bot = Bot()
    assert bot.checked(severe()) is not None
    assert bot.checked(severe()) is None, "once"
    bot.hold = None
    assert bot.checked(severe()) is None
    assert bot.checked(severe(status=U)) is None
    assert bot.checked(severe()) is None, "unknown is not passed"
    assert bot.checked(severe(status=P)) is None
    assert bot.checked(severe()) is not None


def test_another_failure_holds_it_again() -> None:
    bot = Bot()
    bot.checked(severe())
    bot.hold = None
    placed = bot.checked(severe(), severe("balance.invariants"))
    assert placed is not None
    assert placed.reason.startswith("balance.invariants, orders.fills failed")
    assert bot.held_for == {"balance.invariants", "orders.fills"}


def test_a_hold_of_a_person_that_is_as_strict_stays_and_ours_follows_its_release() -> None:
    bot = Bot()
    bot.hold = by_a_person(BotState.FLATTEN)
    assert bot.checked(severe()) is None
    assert bot.hold == by_a_person(BotState.FLATTEN)
    bot.hold = None
    assert bot.checked(severe()) is not None


def test_one_that_is_less_strict_is_made_stricter_and_named() -> None:
    bot = Bot()
    bot.hold = by_a_person(BotState.PAUSED)
    placed = bot.checked(severe())
    assert placed is not None
    assert placed.state is BotState.REDUCE_ONLY
    assert placed.reason.endswith("(before: Paused by command, on holiday)")


def test_what_was_stricter_stays_so() -> None:
    bot = Bot()
    bot.checked(severe())
    bot.on_severe = BotState.PAUSED
    placed = bot.checked(severe(), severe("balance.invariants"))
    assert placed is not None
    assert placed.state is BotState.REDUCE_ONLY


def test_a_check_that_is_not_made_any_more_is_forgotten() -> None:
    bot = Bot()
    bot.checked(severe())
    bot.checked(finding("feed.age", P))
    assert bot.held_for == NONE


def test_asked_again_for_an_answer_that_got_lost_it_is_the_same() -> None:
    found = at_run(0, severe())
    placed, held_for = holding(found, BotState.REDUCE_ONLY, None, NONE)
    assert holding(found, BotState.REDUCE_ONLY, placed, held_for) == (placed, held_for)


def test_many_failures_are_counted() -> None:
    placed = Bot().checked(*(severe(f"orders.check-{number}") for number in range(9)))
    assert placed is not None
    assert "orders.check-4 and 4 more failed" in placed.reason
