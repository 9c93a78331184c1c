"""What is heard in a log, however its bytes come: as much as who decodes every line would hear, and no more."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.domain.events import AgentStarted, PriceFallbackUsed
from tradingbot_agents.reality.evidence import EVENTS_HEARD, AgentLog
from tradingbot_agents.reality.logs import (
    LONGEST_ERROR,
    LONGEST_LINE,
    MOST_ERRORS,
    MOST_GROUPS,
    OTHERS,
    SLACK,
    SUPERVISOR,
    Scan,
)
from tradingbot_agents.telemetry.sink import LogSink, configure_logging

SINCE = datetime(2026, 3, 1, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
OLD, NEW = "0123456789ab", "ba9876543210"
TRACEBACK = b'Traceback (most recent call last):\n  File "agent.py", line 1, in run\n    run()\nValueError: planted\n'


def line(event: str, minutes: float = 0, level: str = "info", **fields: Any) -> bytes:
    """As telemetry/sink.py writes it."""
    at = (SINCE + minutes * MINUTE).isoformat()
    own = {"bot": "majors", "at": at, "agent": "risk", **fields}
    return json.dumps({**own, "event": event, "level": level, "timestamp": at}).encode() + b"\n"


def fallback(minutes: float = 0, **fields: Any) -> bytes:
    return line(
        "price_fallback_used", minutes, "warning", **{"symbol": "BTC/USDT", "source": "ticker", "why": "x", **fields}
    )


def started(minutes: float, revision: str, event: str = "agent_started", **fields: Any) -> bytes:
    return line(event, minutes, revision=revision, **fields)


def candle(minutes: float = 0) -> bytes:
    return line("candle_handled", minutes, "debug", symbol="BTC/USDT")


def scanned(log: bytes | Iterable[bytes], *, lacks: str = "", **arguments: Any) -> AgentLog:
    scan = Scan(["risk"], **{"since": SINCE, **arguments})
    for chunk in [log] if isinstance(log, bytes) else log:
        scan.feed(chunk)
    return scan.logs(lacks=lacks)["risk"]


def count(log: AgentLog, name: str = "price_fallback_used") -> int:
    return sum(each.count for each in log.heard if each.name == name)


# --------------------------------------------------------------------------------------------- what is evidence


def test_events_are_counted_in_groups_with_their_times_and_the_last_ones_fields() -> None:
    told = scanned(
        candle(0) + fallback(1) + fallback(3, why="again") + candle(4) + fallback(2) + fallback(5, symbol="ETH/USDT")
    )
    bitcoin, ether = told.heard
    assert (bitcoin.name, bitcoin.key, bitcoin.count) == ("price_fallback_used", ("BTC/USDT", "ticker"), 3)
    assert (bitcoin.first, bitcoin.last) == (SINCE + MINUTE, SINCE + 3 * MINUTE)
    assert bitcoin.sample["why"] == "again"
    assert not {"event", "level", "timestamp", "bot"} & bitcoin.sample.keys()
    assert (ether.key, ether.count) == (("ETH/USDT", "ticker"), 1)
    assert (told.lines, told.begins, told.ends) == (6, SINCE, SINCE + 5 * MINUTE)
    assert told.complete


def test_it_hears_what_the_sink_of_the_agents_writes() -> None:
    stream = io.StringIO()
    configure_logging("json", "debug", stream)
    sink = LogSink("majors", lambda: None)
    sink.emit(
        AgentStarted(
            at=SINCE,
            agent="risk",
            mode="paper",
            exchange="binance",
            account="main",
            symbols=("BTC/USDT",),
            state="Running",
            revision=NEW,
        )
    )
    sink.emit(PriceFallbackUsed(at=SINCE, agent="risk", symbol="BTC/USDT", source="none", why='"quoted" \n ü'))
    try:
        raise ValueError("planted")
    except ValueError:
        structlog.get_logger().exception("handler_failed", agent="risk")
    told = scanned(stream.getvalue().encode())
    assert [(each.name, each.key) for each in told.heard] == [
        ("agent_started", (NEW,)),
        ("price_fallback_used", ("BTC/USDT", "none")),
    ]
    assert told.heard[1].sample["why"] == '"quoted" \n ü'
    (error,) = told.newest_lines
    assert "handler_failed" in error
    assert error.endswith("ValueError: planted")


def test_what_only_looks_like_an_event_is_none() -> None:
    quoted = line("candle_handled", why='"event": "price_fallback_used"')
    nested = line("candle_handled", inner={"event": "price_fallback_used", "level": "error"})
    cut = fallback()[:-20] + b"\n"
    told = scanned(candle() + quoted + nested + cut + b'"event": "price_fallback_used"\n[1]\n\n')
    assert (told.heard, told.errors) == ((), 0)


def test_the_name_of_a_service_may_stand_before_each_line() -> None:
    log = b"".join(
        b"risk-1  | " + each for each in (candle() + fallback() + TRACEBACK + candle()).splitlines(keepends=True)
    )
    told = scanned(log)
    assert count(told) == 1
    assert told.newest_lines == ("Traceback: ValueError: planted",)


# ----------------------------------------------------------------------------------------------------- errors


def test_errors_are_counted_and_the_newest_are_kept_not_all_of_each() -> None:
    log = candle() + b"".join(line(f"failed_{number}", number, "error", why="x" * 1000) for number in range(50))
    told = scanned(log + line("library_warning", 51, "critical", why="last"))
    assert told.errors == 51
    assert len(told.newest_lines) == MOST_ERRORS
    assert all(len(each) <= LONGEST_ERROR for each in told.newest_lines)
    assert '"why": "last"' in told.newest_lines[-1]
    assert told.heard == ()


def test_an_event_that_is_an_error_is_an_event() -> None:
    told = scanned(line("fenced_off", level="error", role="risk", epoch=3))
    assert (count(told, "fenced_off"), told.errors) == (1, 0)


def test_a_traceback_is_one_error_by_the_words_that_end_it() -> None:
    chained = TRACEBACK + b"\nDuring handling of the above exception, another exception occurred:\n\n" + TRACEBACK
    told = scanned(candle() + chained.replace(b"planted", b"second", 2) + candle(1))
    assert told.errors == 2
    assert told.newest_lines == ("Traceback: ValueError: second",) * 2
    told = scanned(candle() + b"Traceback (most recent call last):\n  File x\n" + candle(1))
    assert told.newest_lines == ("Traceback, and no line that says of what",)
    assert scanned(candle() + TRACEBACK).errors == 1, "it is the end of the log"
    assert scanned(TRACEBACK + candle(-1)).errors == 0, "it is older than what counts"


# --------------------------------------------------------------------------------------------------- what counts


def test_what_is_older_than_the_window_does_not_count() -> None:
    told = scanned(candle(-10) + fallback(-0.001) + fallback(0) + line("x", -1, "error") + line("x", 1, "error"))
    assert (count(told), told.errors) == (1, 1)
    told = scanned(candle(-10) + fallback(0) + fallback(6), counts_from={"risk": SINCE + 5 * MINUTE})
    assert (count(told), told.counts_from) == (1, SINCE + 5 * MINUTE)


SEED = b"".join(fallback(minute) for minute in range(1, 8))


def test_evidence_of_an_old_revision_does_not_count_and_of_the_new_one_does() -> None:
    log = started(0, OLD) + SEED + line("boom", 8, "error") + TRACEBACK + started(10, NEW)
    told = scanned(log + candle(11))
    assert (count(told), told.errors) == (0, 0)
    assert told.counts_from == SINCE + 10 * MINUTE
    assert told.complete
    assert [each.key for each in told.heard] == [(NEW,)]
    told = scanned(log + fallback(11) + TRACEBACK)
    assert (count(told), told.errors) == (1, 1)


def test_a_plain_restart_keeps_what_the_revision_has_told() -> None:
    told = scanned(started(0, NEW) + SEED + started(10, NEW) + fallback(11))
    assert count(told) == 8
    assert told.counts_from == SINCE
    (starts,) = [each for each in told.heard if each.name == "agent_started"]
    assert starts.count == 2


def test_a_revision_that_comes_back_counts_from_then_and_keeps_that_over_its_restarts() -> None:
    log = started(0, NEW) + SEED + started(10, OLD) + SEED + started(20, NEW) + fallback(21) + started(22, NEW)
    told = scanned(log)
    assert (count(told), told.counts_from) == (1, SINCE + 20 * MINUTE)


def test_what_was_before_the_first_start_is_the_same_revisions() -> None:
    """A rotated log does not have the start any more."""
    assert count(scanned(SEED + started(10, NEW), revision=NEW)) == 7
    assert count(scanned(SEED + started(10, NEW))) == 7


def test_another_revision_than_the_wanted_one_tells_nothing() -> None:
    told = scanned(started(0, NEW) + SEED + started(10, OLD) + fallback(11) + TRACEBACK, revision=NEW)
    assert (told.heard, told.errors, told.complete) == ((), 0, False)
    assert told.lacks == f"what runs is revision {OLD}, not {NEW}"
    assert not scanned(SEED + started(10, OLD), revision=NEW).heard


# ---------------------------------------------------------------------------------------------------- complete


def test_a_rotated_log_is_not_complete() -> None:
    told = scanned(candle(2) + fallback(3))
    assert not told.complete
    assert told.lacks == "it begins at 2026-03-01 12:02:00Z: what was before is gone"
    assert scanned(candle(1)).complete, "a process starts before its first line"
    assert scanned(candle(2), counts_from={"risk": SINCE + 1.5 * MINUTE}).complete
    # What is gone is another revision's.
    assert scanned(candle(2) + started(3, OLD) + started(4, NEW)).complete


def test_it_may_be_known_that_the_log_reaches_further_back_than_what_was_read_of_it() -> None:
    scan = Scan(["risk"], since=SINCE)
    scan.feed(candle(20))
    told = scan.logs(begins=SINCE - MINUTE)["risk"]
    assert (told.complete, told.begins) == (True, SINCE - MINUTE)


def test_a_log_that_was_not_read_to_its_end_is_not_complete_and_its_last_line_says_nothing() -> None:
    told = scanned(candle() + fallback() + TRACEBACK.rstrip(b"\n"), lacks="only its first bytes were read")
    assert (told.complete, told.lacks) == (False, "only its first bytes were read")
    assert count(told) == 1
    assert count(scanned(candle() + fallback()[:-1])) == 1, "an end without a newline is an end"
    assert count(scanned(candle() + fallback()[:-1], lacks="cut")) == 0


@pytest.mark.parametrize("log", [b"", b"\n\n", b"2026-03-01 12:00 [warning  ] price_fallback_used symbol=BTC/USDT\n"])
def test_a_readable_or_empty_log_is_no_evidence(log: bytes) -> None:
    told = scanned(log)
    assert (told.complete, told.begins, told.ends, told.heard) == (False, None, None, ())


# ------------------------------------------------------------------------------------------ all agents in one log


def test_the_log_of_one_process_is_told_agent_by_agent() -> None:
    log = started(0, NEW, "run_started", agent="supervisor") + fallback(1) + fallback(2, agent="execution")
    log += line("agent_restarted", 3, "warning", agent="supervisor", restarted="risk") + TRACEBACK + candle(4)
    scan = Scan(AGENTS, since=SINCE)
    scan.feed(log)
    told = scan.logs()
    assert set(told) == {*AGENTS, SUPERVISOR}
    assert {agent: count(each) for agent, each in told.items() if count(each)} == {"risk": 1, "execution": 1}
    assert count(told[SUPERVISOR], "agent_restarted") == 1
    assert {agent: each.errors for agent, each in told.items() if each.errors} == {SUPERVISOR: 1}
    assert all(each.complete and each.lines == 9 for each in told.values())


def test_the_start_of_a_run_is_the_start_of_every_agent() -> None:
    log = started(0, OLD, "run_started", agent="supervisor") + fallback(1) + fallback(1, agent="execution")
    log += started(2, NEW, "run_started", agent="supervisor") + fallback(3, agent="execution")
    scan = Scan(AGENTS, since=SINCE)
    scan.feed(log)
    told = scan.logs()
    assert (count(told["risk"]), count(told["execution"])) == (0, 1)
    assert {each.counts_from for each in told.values()} == {SINCE + 2 * MINUTE}


def test_the_start_of_one_agent_is_no_other_ones() -> None:
    log = started(0, OLD) + started(0, OLD, agent="execution") + fallback(1) + fallback(1, agent="execution")
    scan = Scan(AGENTS, since=SINCE)
    scan.feed(log + started(2, NEW))
    told = scan.logs()
    assert (count(told["risk"]), count(told["execution"])) == (0, 1)


# ------------------------------------------------------------------------------------------------------ bounds


def test_groups_have_a_bound_and_what_is_beyond_is_counted_by_name() -> None:
    log = candle() + b"".join(fallback(symbol=f"C{number}/USDT") for number in range(MOST_GROUPS + 20))
    told = scanned(log + line("fenced_off", level="error", role="risk") + line("candles_dropped", candles=1))
    others = [each for each in told.heard if each.key and set(each.key) == {OTHERS}]
    assert [(each.name, each.key, each.count) for each in others] == [
        ("fenced_off", (OTHERS,), 1),
        ("price_fallback_used", (OTHERS, OTHERS), 20),
    ]
    assert count(told) == MOST_GROUPS + 20
    assert count(told, "candles_dropped") == 1


def test_a_sample_has_a_bound() -> None:
    many = {f"field_{number}": "y" * 5000 for number in range(100)}
    told = scanned(fallback(symbol="S" * 10_000, why=["z" * 10_000], big=10**40, small=3, yes=True, no=None, **many))
    (heard,) = told.heard
    assert len(msgspec.json.encode(heard)) < 10_000
    assert heard.sample["big"] == str(10**40)
    assert (heard.sample["small"], heard.sample["yes"], heard.sample["no"]) == (3, True, None)


def test_a_line_without_end_blows_no_memory_and_is_told() -> None:
    scan = Scan(["risk"], since=SINCE)
    scan.feed(candle())
    part = b"x" * 2**16
    tracemalloc.start()
    try:
        for _ in range(1000):
            scan.feed(part)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 3 * LONGEST_LINE
    scan.feed(b"\n" + fallback())
    told = scan.logs()["risk"]
    assert (count(told), told.errors, told.lines) == (1, 1, 3)
    assert told.newest_lines[0].startswith(f"a line of more than {LONGEST_LINE} bytes")


def test_what_is_kept_does_not_grow_with_the_log() -> None:
    scan = Scan(["risk"], since=SINCE)
    block = b"".join([fallback(client_order_id=f"o{number}") + candle() for number in range(500)]) + TRACEBACK
    scan.feed(block)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(50):
            scan.feed(block)
        after, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2**16
    assert most - before < 2**21


# ----------------------------------------------------------------------------- as decoding every line would have it


def naive(log: bytes, revision: str | None) -> tuple[dict[tuple[str, tuple[str, ...]], int], int, datetime]:
    """Counts by group, errors, and from when on it counts: line by line, with everything in memory. An error that is
    not JSON has the time of the next line that has one."""
    entries: list[tuple[Any, datetime | None]] = []
    for each in log.split(b"\n"):
        try:
            fields = json.loads(each)
            time = datetime.fromisoformat(fields["at"])
        except ValueError:
            if each.startswith(b"ValueError"):
                entries.append(({"level": "error"}, None))
            continue
        entries = [(before, time if at is None else at) for before, at in entries]
        entries.append((fields, time))
    begin, counts_from, running = 0, SINCE, None
    for index, (fields, time) in enumerate(entries):
        if fields.get("event") == "agent_started":
            other = revision is not None and fields["revision"] != revision
            if other or running not in (None, fields["revision"]):
                assert time is not None
                begin, counts_from = index, max(counts_from, time)
            running = fields["revision"]
    if revision is not None and running not in (None, revision):
        entries = []
    groups: dict[tuple[str, tuple[str, ...]], int] = {}
    errors = 0
    for fields, time in entries[begin:]:
        if time is not None and time < counts_from:
            continue
        name = fields.get("event")
        if name in EVENTS_HEARD:
            key = (name, tuple(str(fields[each]) for each in EVENTS_HEARD[name]))
            groups[key] = groups.get(key, 0) + 1
        elif fields.get("level") == "error":
            errors += 1
    return groups, errors, counts_from


SYMBOLS = st.sampled_from(["BTC/USDT", "ETH/USDT", 'a"b', "ü"])
PIECES = st.one_of(
    st.just(candle),
    st.just(lambda minutes: TRACEBACK),
    st.just(lambda minutes: b"\n"),
    st.just(lambda minutes: b"plain words {\n"),
    st.just(lambda minutes: line("handler_failed", minutes, "error")),
    st.builds(lambda symbol: lambda minutes: fallback(minutes, symbol=symbol), SYMBOLS),
    st.builds(lambda symbol: lambda minutes: line("feed_recovered", minutes, symbol=symbol), SYMBOLS),
    st.builds(lambda revision: lambda minutes: started(minutes, revision), st.sampled_from([OLD, NEW])),
    st.builds(lambda size: lambda minutes: line("talks", minutes, why="w" * size), st.integers(0, 5000)),
)
LOGS = st.lists(st.tuples(PIECES, st.integers(-20, 20)), max_size=30).map(
    lambda pieces: b"".join(
        piece(minutes) for (piece, _), minutes in zip(pieces, sorted(each[1] for each in pieces), strict=True)
    )
)
REVISIONS = st.sampled_from([None, OLD, NEW])


def cut(log: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(log) + 1) for place in places} | {0, len(log)})
    return [log[start:end] for start, end in pairwise(ends)]


@given(LOGS, st.lists(st.integers(min_value=0), max_size=20), REVISIONS)
def test_wherever_the_bytes_are_cut_the_same_is_heard(log: bytes, places: list[int], revision: str | None) -> None:
    whole = scanned(log, revision=revision)
    assert scanned(cut(log, places), revision=revision) == whole
    if len(log) < 5000:
        assert scanned([log[at : at + 1] for at in range(len(log))], revision=revision) == whole


@given(LOGS, REVISIONS)
def test_it_hears_what_decoding_every_line_would_hear(log: bytes, revision: str | None) -> None:
    told = scanned(log, revision=revision)
    groups, errors, counts_from = naive(log, revision)
    assert {(each.name, each.key): each.count for each in told.heard} == groups
    assert (told.errors, told.counts_from) == (errors, counts_from)
    assert told.lines == log.count(b"\n")
    times = [
        SINCE if not each else datetime.fromisoformat(json.loads(each)["at"])
        for each in log.split(b"\n")
        if each.startswith(b"{")
    ]
    assert told.begins == (times[0] if times else None)
    if times and told.begins is not None and told.begins > told.counts_from + SLACK:
        assert not told.complete


@pytest.mark.parametrize("size", [LONGEST_LINE - 1, LONGEST_LINE, LONGEST_LINE + 1, 3 * LONGEST_LINE])
@pytest.mark.parametrize("chunk", [1000, 2**16, 2**22])
def test_what_is_too_long_does_not_depend_on_the_chunks(size: int, chunk: int) -> None:
    empty = len(fallback(why="")) - 1
    log = candle() + fallback(why="x" * (size - empty)) + candle(1)
    told = scanned(log[at : at + chunk] for at in range(0, len(log), chunk))
    assert (count(told), told.errors) == ((1, 0) if size <= LONGEST_LINE else (0, 1))
