"""The agents: which run, how they are, what waits for them, and what they said."""

from __future__ import annotations

from datetime import timedelta

import pytest

from support.asking import ask, only
from support.evidence import NOW, SINCE, agents, heard, ledger, log, logs, market, messaging, pod, pods, queues
from tradingbot_agents.bus.topology import DATA_COLLECTION, EXECUTION, RISK, STRATEGY
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.checks import agents_single
from tradingbot_agents.reality.evidence import Letter, Logs, Missing

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
MINUTE = timedelta(minutes=1)


class TestRevision:
    def test_an_old_one_that_was_left_running(self) -> None:
        found = only("agents.revision", agents=agents(pods=pods(STRATEGY, revision="r1")))
        assert found == (FAILED, "strategy: majors-strategy-0 runs revision r1, and r2 is wanted")

    def test_one_that_is_not_there(self) -> None:
        rest = tuple(each for each in pods() if each.agent != DATA_COLLECTION)
        assert only("agents.revision", agents=agents(pods=rest)) == (FAILED, "data-collection: there is none")

    def test_one_that_is_there_twice(self) -> None:
        twice = (*pods(), pod(STRATEGY, place="majors-strategy-1"))
        found = only("agents.revision", agents=agents(pods=twice))
        assert found == (FAILED, "strategy: there are 2: majors-strategy-0, majors-strategy-1")

    def test_without_a_wanted_one_all_must_be_the_same(self) -> None:
        found = only("agents.revision", agents=agents(wanted_revision=None))
        assert found == (PASSED, "all at one revision; nobody says which is wanted")
        mixed = agents(wanted_revision=None, pods=pods(RISK, revision="r1"))
        assert only("agents.revision", agents=mixed) == (FAILED, "the agents run 2 revisions: r1, r2")

    def test_one_that_does_not_say(self) -> None:
        found = only("agents.revision", agents=agents(pods=pods(RISK, revision=None)))
        assert found == (UNKNOWN, "risk: majors-risk-0 does not say which revision it runs")


class TestSingle:
    @pytest.mark.parametrize("agent", [RISK, EXECUTION])
    def test_two_writers_are_severe(self, agent: str) -> None:
        twice = (*pods(), pod(agent, place="by-hand", revision=None))
        assert only("agents.single", agents=agents(pods=twice)) == (
            FAILED,
            f"{agent}: there are 2: by-hand (revision unknown), majors-{agent}-0 (revision r2)",
        )
        assert agents_single.CHECK.severity == "severe"

    def test_two_of_another_are_not(self) -> None:
        twice = (*pods(), pod(STRATEGY, place="by-hand"))
        assert ask("agents.single", agents=agents(pods=twice))[0] is PASSED


class TestReady:
    def test_one_that_is_not(self) -> None:
        waits = pods(RISK, ready=False, why_not="it waits for the database")
        found = only("agents.ready", agents=agents(pods=waits))
        assert found == (FAILED, "majors-risk-0: not ready: it waits for the database")

    def test_one_that_was_restarted_in_the_window(self) -> None:
        again = pods(RISK, restarts=4, restarted_at=NOW - 3 * MINUTE, ended="OOMKilled (137)")
        assert only("agents.ready", agents=agents(pods=again)) == (
            FAILED,
            "majors-risk-0: restarted at 2026-03-01 11:58:00Z, 4 times in all: OOMKilled (137)",
        )
        before = pods(RISK, restarts=4, restarted_at=SINCE - MINUTE, ended="OOMKilled (137)")
        assert ask("agents.ready", agents=agents(pods=before))[0] is PASSED

    def test_one_that_was_built_anew(self) -> None:
        event = heard("agent_restarted", STRATEGY, agent="runtime", error="ValueError: no")
        found = only("agents.ready", logs=logs(RISK), ledger=ledger(heard=(event,)))
        assert found == (
            FAILED,
            "strategy: built anew once, at 2026-03-01 11:56:00Z, at last because of ValueError: no",
        )

    def test_a_part_that_was_away_is_told(self) -> None:
        events = (heard("dependency_away", "database"), heard("dependency_away", "exchange", agent=EXECUTION))
        assert only("agents.ready", ledger=ledger(heard=events)) == (
            PASSED,
            "5 ready, none restarted; database told as away once; exchange told as away once",
        )


class TestQueues:
    def test_a_queue_without_its_consumer(self) -> None:
        found = only("agents.queues", messaging=messaging(queues=queues(consumers=0, messages=3)))
        assert found == (FAILED, "risk.intents: nobody reads it, 3 wait; risk should")

    def test_a_backlog(self) -> None:
        assert ask("agents.queues", messaging=messaging(queues=queues(messages=100)))[0] is PASSED
        found = only("agents.queues", messaging=messaging(queues=queues(messages=101)))
        assert found == (FAILED, "risk.intents: 101 wait, more than 100; risk does not keep up")
        assert ask("agents.queues", messaging=messaging(queues=queues(messages=101, durable=False)))[0] is PASSED

    def test_a_queue_that_is_gone(self) -> None:
        found = only("agents.queues", messaging=messaging(absent=("risk.intents",)))
        assert found == (FAILED, "risk.intents: RabbitMQ has no such queue")


class TestDeadLetters:
    def test_each_is_told(self) -> None:
        letter = Letter(queue="risk.intents", message_id="intent-1", reason="ValueError: no", at=NOW - MINUTE)
        found = only("agents.dead-letters", messaging=messaging(dead_letters=(letter,), dead_letters_waiting=1))
        assert found == (FAILED, "risk.intents: intent-1, set aside at 2026-03-01 12:00:00Z: ValueError: no")
        status, told = ask(
            "agents.dead-letters", messaging=messaging(dead_letters=(letter,), dead_letters_waiting=70)
        )
        assert status is FAILED
        assert told[0] == "70 dead letters, of which 1 were read"

    def test_some_that_could_not_be_read(self) -> None:
        assert ask("agents.dead-letters", messaging=messaging(dead_letters_waiting=2))[0] is FAILED


class TestClock:
    def test_the_database_s(self) -> None:
        found = only("agents.clock", ledger=ledger(asked_at=NOW - timedelta(seconds=6)))
        assert found == (FAILED, "the database's clock is 6.0 s ahead of ours")

    def test_the_exchange_s(self) -> None:
        found = only("agents.clock", market=market(clock_offset=timedelta(seconds=-90)))
        assert found == (FAILED, "the exchange's clock is 90.0 s behind ours")
        silent = only("agents.clock", market=market(clock_offset=None))
        assert silent == (PASSED, "the database's clock is 0.0 s behind ours")

    def test_an_agent_s(self) -> None:
        found = only("agents.clock", logs=logs(RISK, ends=NOW + 6 * MINUTE))
        assert found == (
            FAILED,
            "risk's clock is ahead of ours: it wrote a line at 2026-03-01 12:07:00Z, and it is 2026-03-01 12:01:00Z",
        )


class TestErrors:
    def test_a_traceback(self) -> None:
        found = only("agents.errors", logs=logs(RISK, newest_lines=("Traceback (most recent call last): …",)))
        assert found == (FAILED, "risk: Traceback (most recent call last): …")
        status, told = ask("agents.errors", logs=logs(RISK, newest_lines=("one", "two"), errors=9))
        assert (status, told) == (
            FAILED,
            ("risk: one", "risk: two", "risk: 7 more lines that tell an error"),
        )
        _, long = only("agents.errors", logs=logs(RISK, newest_lines=("x" * 5000,)))
        assert len(long) < 400

    def test_a_log_that_was_rotated_away(self) -> None:
        """It is a doubt where a log is all there is, and none where the ledger has the events."""
        for agent, status in ((DATA_COLLECTION, UNKNOWN), (RISK, PASSED)):
            assert ask("agents.errors", logs=logs(agent, complete=False))[0] is status
            away = Logs(agents={**logs().agents, agent: Missing("403 Forbidden")})
            assert ask("agents.errors", logs=away)[0] is status

    def test_an_agent_that_was_not_asked_for_is_no_doubt(self) -> None:
        away = Logs(agents={RISK: log(RISK), DATA_COLLECTION: Missing("no file", wanted=False)})
        told = ask("agents.errors", logs=away)
        assert told == (UNKNOWN, ("technical-analysis: there is no log of it",))
