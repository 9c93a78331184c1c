"""Who is told what, and when: each change once, an interval apart, and nothing that a receiver does not want."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.reports import HALF_HOUR, NOW, finding, report
from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality import news
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.news import Memory, Message, Receiver, decide
from tradingbot_agents.reality.report import Finding

P, F, U, S = Status.PASSED, Status.FAILED, Status.UNKNOWN, Status.SKIPPED
INTERVAL = timedelta(minutes=5)


def receiver(minimum: Severity = Severity.INFO, interval: timedelta = INTERVAL) -> Receiver:
    return Receiver(name="phone", minimum=minimum, interval=interval)


class Person:
    """A receiver over some runs."""

    def __init__(self, minimum: Severity = Severity.INFO, interval: timedelta = INTERVAL) -> None:
        self.receiver = receiver(minimum, interval)
        self.memory = Memory()

    def told(
        self, *findings: Finding, at: datetime = NOW, sent: bool = True, hold: str | None = None
    ) -> Message | None:
        outcome = decide(report(*findings, at=at, hold=hold), self.receiver, self.memory, at)
        delivered = sent and outcome.message is not None
        self.memory = outcome.if_sent if delivered else outcome.if_not
        # As the ledger gives it back.
        kept = news.memories_from_json(news.memories_to_json({"phone": self.memory}))
        assert kept == {"phone": self.memory}
        return outcome.message


def shown(message: Message | None) -> list[tuple[str, Status, Status]]:
    assert message is not None
    return [(each.check, each.before, each.status) for each in message.news]


def test_a_failure_is_told_once_and_then_that_it_is_well_again() -> None:
    person = Person()
    assert person.told(finding("feed.age", P)) is None
    first = person.told(finding("feed.age", F), at=NOW + HALF_HOUR)
    assert shown(first) == [("feed.age", P, F)]
    assert first is not None
    assert (first.kind, first.severity) == ("problem", Severity.WARNING)
    assert person.told(finding("feed.age", F), at=NOW + 2 * HALF_HOUR) is None
    last = person.told(finding("feed.age", P), at=NOW + 3 * HALF_HOUR)
    assert shown(last) == [("feed.age", F, P)]
    assert last is not None
    assert (last.kind, last.severity) == ("recovery", Severity.INFO)
    assert person.told(finding("feed.age", P), at=NOW + 4 * HALF_HOUR) is None
    assert person.memory == Memory(), "nothing is left to remember"


def test_what_is_wrong_already_when_somebody_is_told_for_the_first_time() -> None:
    old = finding("feed.age", F, NOW - timedelta(days=2), runs=96, before=F)
    message = Person().told(old, finding("orders.fills", U), finding("lots.rules", S))
    assert shown(message) == [("feed.age", P, F), ("orders.fills", P, U)]
    assert message is not None
    assert "FAILED feed.age, since 2026-02-27 12:00:00Z (2 d)" in message.text


def test_unknown_is_told_and_a_failure_out_of_it_again() -> None:
    person = Person()
    assert shown(person.told(finding("feed.age", U))) == [("feed.age", P, U)]
    assert shown(person.told(finding("feed.age", F), at=NOW + HALF_HOUR)) == [("feed.age", U, F)]
    assert shown(person.told(finding("feed.age", U), at=NOW + 2 * HALF_HOUR)) == [("feed.age", F, U)]
    # What is not asked any more is not wrong any more.
    assert shown(person.told(finding("feed.age", S), at=NOW + 3 * HALF_HOUR)) == [("feed.age", U, S)]


def test_nobody_is_told_what_is_not_severe_enough_nor_that_it_is_well_again() -> None:
    person = Person(Severity.SEVERE)
    assert person.told(finding("feed.age", F)) is None
    severe = finding("orders.fills", F, severity=Severity.SEVERE)
    assert shown(person.told(finding("feed.age", F), severe)) == [("orders.fills", P, F)]
    # That a severe failure is not known to last is no end of it; what it was told ends when it passes.
    unknown = msgspec.structs.replace(severe, status=U)
    assert person.told(finding("feed.age", P), unknown, at=NOW + HALF_HOUR) is None
    assert person.told(severe, at=NOW + 2 * HALF_HOUR) is None
    passed = msgspec.structs.replace(severe, status=P)
    assert shown(person.told(passed, at=NOW + 3 * HALF_HOUR)) == [("orders.fills", F, P)]


def test_unknown_is_a_warning_at_the_most() -> None:
    severe = finding("orders.fills", U, severity=Severity.SEVERE)
    assert Person(Severity.SEVERE).told(severe) is None
    message = Person(Severity.WARNING).told(severe)
    assert message is not None
    assert message.severity is Severity.WARNING
    assert Person(Severity.WARNING).told(finding("lots.rules", U, severity=Severity.INFO)) is None


def test_what_comes_within_the_interval_is_in_the_next_message() -> None:
    person = Person(interval=timedelta(hours=1))
    assert person.told(finding("feed.age", F)) is not None
    minute = timedelta(minutes=1)
    assert person.told(finding("feed.age", P, NOW + minute), at=NOW + minute) is None
    assert person.told(finding("feed.age", U, NOW + 2 * minute), at=NOW + 2 * minute) is None
    assert person.told(finding("feed.age", P, NOW + 3 * minute), at=NOW + 3 * minute) is None
    other = person.told(finding("feed.age", P, NOW + 3 * minute), finding("orders.fills", F), at=NOW + 4 * minute)
    assert shown(other) == [("orders.fills", P, F)], "another matter has an interval of its own"
    later = NOW + timedelta(hours=1)
    message = person.told(finding("feed.age", P, NOW + 3 * minute), finding("orders.fills", F), at=later)
    assert shown(message) == [("feed.age", F, P)]
    assert message is not None
    assert [each.status for each in message.news[0].meanwhile] == [P, U]
    assert "meanwhile: passed since 2026-03-01 12:01:00Z, unknown since 2026-03-01 12:02:00Z" in message.text


def test_a_failure_that_came_and_went_within_the_interval_is_told() -> None:
    person = Person(interval=timedelta(hours=1))
    person.told(finding("feed.age", F))
    assert person.told(finding("feed.age", P), at=NOW + timedelta(hours=2)) is not None
    within = NOW + timedelta(hours=2, minutes=10)
    assert person.told(finding("feed.age", F, within), at=within) is None
    assert person.told(finding("feed.age", P, within), at=within + INTERVAL) is None
    message = person.told(finding("feed.age", P), at=NOW + timedelta(hours=3))
    assert message is not None
    assert [each.status for each in message.news[0].meanwhile] == [F]
    assert message.news[0].status is P


def test_a_message_that_was_not_sent_is_made_again_with_what_came_meanwhile() -> None:
    person = Person()
    assert person.told(finding("feed.age", F), sent=False) is not None
    second = person.told(finding("feed.age", F), finding("orders.fills", U), at=NOW + HALF_HOUR, sent=False)
    assert shown(second) == [("feed.age", P, F), ("orders.fills", P, U)]
    third = person.told(finding("feed.age", P), finding("orders.fills", U), at=NOW + 2 * HALF_HOUR)
    assert shown(third) == [("feed.age", P, P), ("orders.fills", P, U)]
    assert third is not None
    assert [each.status for each in third.news[0].meanwhile] == [F]
    assert third.failing_since == NOW
    assert "Messages to you failed since 2026-03-01 12:00:00Z" in third.text
    assert person.memory.failing_since is None
    assert person.told(finding("feed.age", P), finding("orders.fills", U), at=NOW + 3 * HALF_HOUR) is None


def test_a_hold_is_told_to_everybody_until_it_is_known() -> None:
    person = Person(Severity.SEVERE)
    words = "held at ReduceOnly: orders.fills failed"
    first = person.told(finding("feed.age", P), hold=words, sent=False)
    assert first is not None
    assert (first.holds, first.severity, first.kind) == ((words,), Severity.SEVERE, "problem")
    second = person.told(finding("feed.age", P), at=NOW + HALF_HOUR)
    assert second is not None
    assert second.holds == (words,)
    assert f"The bot is {words}" in second.text
    assert second.title.startswith("majors: HELD")
    assert person.told(finding("feed.age", P), at=NOW + 2 * HALF_HOUR) is None


def test_a_check_that_another_release_does_not_make_is_not_wrong_for_ever() -> None:
    person = Person()
    person.told(finding("feed.age", F))
    assert shown(person.told(finding("orders.fills", P), at=NOW + HALF_HOUR)) == [("feed.age", F, S)]
    assert person.told(finding("orders.fills", P), at=NOW + 2 * HALF_HOUR) is None
    assert person.memory == Memory()


def test_the_text_says_what_is_wrong_why_and_what_to_do() -> None:
    message = Person().told(
        finding("orders.fills", F, severity=Severity.SEVERE, told=("one", "two", "three", "four")),
        finding("feed.age", U),
    )
    assert message is not None
    assert message.title == "majors: FAILED orders.fills; UNKNOWN feed.age"
    assert message.text == (
        "FAILED orders.fills, severe, since 2026-03-01 12:00:00Z\n"
        "- one\n- two\n- three\n- and 1 more\n"
        "do: Mend orders.fills.\n"
        "see docs/reality-checks.md#ordersfills\n\n"
        "UNKNOWN feed.age, since 2026-03-01 12:00:00Z\n"
        "- feed.age says why\n"
        "do: Mend feed.age.\n"
        "see docs/reality-checks.md#feedage\n\n"
        "Now, of all checks of paper/simulated/main: 1 failed, 1 unknown, 0 passed: orders.fills, feed.age"
    )


def test_many_failures_are_one_message_that_every_receiver_takes() -> None:
    many = [finding(f"group.check-{number}", F, told=("x" * 5000,) * 9) for number in range(60)]
    worst = finding("balance.invariants", F, severity=Severity.SEVERE)
    message = Person().told(*many, worst, hold="h" * 900)
    assert message is not None
    assert len(message.news) == 61
    assert len(message.text) <= news.LONGEST_TEXT
    assert message.text.index("balance.invariants") < message.text.index("group.check-0")
    assert "Now, of all checks" in message.text
    assert message.title == "majors: HELD; FAILED group.check-0, group.check-1, group.check-2 and 58 more"


def test_the_body_of_a_webhook_follows_its_schema() -> None:
    message = Person().told(finding("orders.fills", F), hold="held at Paused: why")
    assert message is not None
    body = msgspec.json.decode(news.to_json(message))
    assert msgspec.json.decode(news.to_json(message), type=Message) == message
    assert body["version"] == 1
    assert body["news"][0]["status"] == "failed"
    schema = news.json_schema()
    assert set(schema["$defs"]["Message"]["required"]) <= set(body)
    assert set(schema["$defs"]["Message"]["properties"]) == set(body)


def test_slack_takes_no_sign_of_ours_for_one_of_its_own() -> None:
    message = Person().told(finding("orders.fills", F, told=("<!channel> a & b",)))
    assert message is not None
    text = msgspec.json.decode(news.slack_json(message))["text"]
    assert text.startswith("*majors: FAILED orders.fills*\n")
    assert "&lt;!channel&gt; a &amp; b" in text


@pytest.mark.parametrize("text", ["", "[]", '{"phone": 1}', '{"phone": {"checks": {"a": {"status": "other"}}}}'])
def test_a_memory_that_can_not_be_read_is_none(text: str) -> None:
    assert news.memories_from_json(text) == {}


# --- whatever happens


Run = tuple[dict[str, Status], int, bool]
CHECKS = ("feed.age", "orders.fills", "lots.rules")
SEVERITIES = dict(zip(CHECKS, (Severity.WARNING, Severity.SEVERE, Severity.INFO), strict=True))
RUNS = st.lists(
    st.tuples(st.dictionaries(st.sampled_from(CHECKS), st.sampled_from(Status)), st.integers(1, 20), st.booleans()),
    max_size=30,
)


@given(RUNS, st.sampled_from(Severity), st.integers(0, 30))
def test_a_receiver_knows_what_is_so_and_is_never_told_more_often(
    runs: Sequence[Run], minimum: Severity, minutes: int
) -> None:
    interval = timedelta(minutes=minutes)
    person = Person(minimum, interval)
    ranks = list(Severity)
    last: dict[str, datetime] = {}
    knows: dict[str, Status] = {}
    at = NOW

    def hear(statuses: dict[str, Status], sent: bool) -> Message | None:
        findings = [finding(check, status, at, severity=SEVERITIES[check]) for check, status in statuses.items()]
        message = person.told(*findings, at=at, sent=sent)
        if message is None or not sent:
            return message
        assert message.news
        for each in message.news:
            # What is well long enough is forgotten, and passed.
            assert each.before in ((was,) if (was := knows.get(each.check, P)) in (F, U) else (was, P))
            assert each.check not in last or at - last[each.check] >= interval
            heard = [each.status, *(change.status for change in each.meanwhile)]
            if any(status in (F, U) for status in heard):
                assert ranks.index(SEVERITIES[each.check]) >= ranks.index(minimum)
            last[each.check], knows[each.check] = at, each.status
        return message

    for statuses, pause, sent in runs:
        at += timedelta(minutes=pause)
        hear(statuses, sent)
    # When nothing changes any more, one message at the most is left, and after it everything is known.
    statuses = runs[-1][0] if runs else {}
    at += interval + timedelta(minutes=1)
    hear(statuses, True)
    at += timedelta(minutes=1)
    assert hear(statuses, True) is None
    for check in CHECKS:
        status = statuses.get(check, S)
        known_to_be_wrong = knows.get(check, P) in (F, U)
        if status in (P, S):
            assert not known_to_be_wrong
        elif status is F and ranks.index(SEVERITIES[check]) >= ranks.index(minimum):
            # Severe ones may be told and unknown since, which is no news for who wants the severe only.
            assert knows[check] is F
