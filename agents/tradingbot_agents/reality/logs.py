"""Hears a log: bytes in, and what they are evidence of out, in bounded memory and faster than lines can be decoded.

Of a bot's log almost every line is no evidence. So events, errors and tracebacks are looked for in whole blocks, and
only the lines that have one are cut out and decoded. What is kept does not grow with the log: events are counted in
groups, and of errors there are the newest.

It understands the lines of ``--output json``. A readable log holds no evidence that a machine could trust: it has no
times in it for us, so it is never complete.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tradingbot_agents.domain.events import AgentStarted, RunStarted
from tradingbot_agents.reality.evidence import EVENTS_HEARD, AgentLog, Heard

SUPERVISOR = "supervisor"
"""Of the log of all agents in one process: has what names none of them."""

OTHERS = "(others)"
"""Stands for the values of groups for which there was no room."""

MOST_GROUPS = 500
"""Of one agent; the events of further ones are counted by their name alone."""
MOST_ERRORS = 5
LONGEST_ERROR = 500
"""Characters."""

LONGEST_LINE = 2**20
"""Bytes. A longer one is not read, and counts as an error."""

SLACK = timedelta(minutes=1)
"""A process starts before its first line; it takes longest while everything starts on a small node."""

_BLOCK = 2**18
"""Far below ``LONGEST_LINE``: so a line that is too long is one that spans blocks."""

_MOST_FIELDS = 30
_LONGEST_VALUE = 200
_NAMES = sorted({*EVENTS_HEARD, AgentStarted.name, RunStarted.name})
_ERRORS = frozenset({"error", "critical"})
_TRACEBACK = b"Traceback (most recent call last)"
_OF_THE_LINE = frozenset({"event", "level", "timestamp", "bot"})
"""What the log adds to an event's own fields."""

_Find = Callable[[bytes, int, int], int]
_Fields = dict[str, Any]


def _finders() -> tuple[_Find, ...]:
    """Each answers where in a part of a block the next line of a kind is, or -1."""
    events = re.compile(b'"event": "(?:' + "|".join(map(re.escape, _NAMES)).encode() + b')"')

    def event(block: bytes, start: int, end: int) -> int:
        found = events.search(block, start, end)
        return -1 if found is None else found.start()

    def text(wanted: bytes) -> _Find:
        return lambda block, start, end: block.find(wanted, start, end)

    return event, *(text(f'"level": "{level}"'.encode()) for level in sorted(_ERRORS)), text(_TRACEBACK)


_FINDERS = _finders()
_DECODER = msgspec.json.Decoder(_Fields)


class Scan:
    """Reads one log, from its beginning to its end."""

    def __init__(
        self,
        agents: Sequence[str],
        *,
        since: datetime,
        counts_from: Mapping[str, datetime] | None = None,
        revision: str | None = None,
    ) -> None:
        """Of one agent, every line is its own; of several, each line is the agent's that it names, and
        ``SUPERVISOR`` has the rest. Nothing older than ``since`` counts, nor what an agent told before its
        ``counts_from`` (what writes the log began then). ``revision`` is the one of the spec that counts (``None``:
        the newest in the log): where another one had started, counting begins when this one did; that it was started
        once more changes nothing."""
        from_then = counts_from or {}
        names = (*agents, SUPERVISOR) if len(agents) > 1 else agents
        self._told = {
            agent: _Told(agent, max(since, from_then.get(agent, since)), revision, slack=SLACK) for agent in names
        }
        self._only = self._told[agents[0]] if len(agents) == 1 else None
        self._lines = 0
        self._begins: datetime | None = None
        self._newest: datetime | None = None
        self._last = b""
        """The last line that may be one of ours: its time is the log's end."""
        # A line that has not ended yet, or no more than its beginning when it is too long.
        self._rest = bytearray()
        self._size = 0
        # Of a traceback that has not ended: how far its lines are indented by what writes the log.
        self._indent: int | None = None
        self._tracebacks = _Errors()
        """Wait for the next line with a time: they have none."""

    def feed(self, chunk: bytes) -> None:
        """Any number of bytes, cut anywhere."""
        if len(chunk) <= _BLOCK:
            self._take(chunk)
            return
        for start in range(0, len(chunk), _BLOCK):
            self._take(chunk[start : start + _BLOCK])

    def end_of_part(self, *, cut: bool = False) -> None:
        """What is fed next is the log of another process, or of another start of it. ``cut``: it was not read to its
        end, so that a line that has not ended says nothing."""
        if self._size and not cut:
            self._end_line()
        self._rest, self._size = bytearray(), 0
        self._end_traceback()

    @property
    def begins(self) -> datetime | None:
        """When its first line was written."""
        return self._begins

    def logs(self, *, begins: datetime | None = None, lacks: str = "") -> dict[str, AgentLog]:
        """What was heard, by agent. ``begins``: the log is known to reach back to then, though only a later part of
        it was read. ``lacks``: why it was not all read, in words; empty: it was."""
        self.end_of_part(cut=bool(lacks))
        self._count_tracebacks(None)
        if begins is None or (self._begins is not None and self._begins < begins):
            begins = self._begins
        last = _fields_of(self._last)
        ends = self._newest if last is None else _time_of(last) or self._newest
        return {
            agent: told.log(lines=self._lines, begins=begins, ends=ends, lacks=lacks)
            for agent, told in self._told.items()
        }

    # --- from bytes to lines -----------------------------------------------------------------------------------

    def _take(self, block: bytes) -> None:
        stop = block.rfind(b"\n") + 1
        if not stop:
            self._keep(block)
            return
        start = 0
        if self._size:
            start = block.find(b"\n") + 1
            self._keep(block[: start - 1])
            self._end_line()
        if start < stop:
            self._search(block, start, stop)
        if stop < len(block):
            self._keep(block[stop:])

    def _keep(self, part: bytes) -> None:
        self._size += len(part)
        if self._size <= LONGEST_LINE:
            self._rest += part
        else:
            del self._rest[LONGEST_ERROR:]

    def _end_line(self) -> None:
        line, size = bytes(self._rest), self._size
        self._rest, self._size = bytearray(), 0
        if size <= LONGEST_LINE:
            self._search(line + b"\n", 0, len(line) + 1)
            return
        self._lines += 1
        self._end_traceback()
        start = line.decode(errors="replace")
        self._tracebacks.add(f"a line of more than {LONGEST_LINE} bytes, which was not read: {start}")

    def _search(self, block: bytes, at: int, end: int) -> None:
        """Whole lines."""
        self._lines += block.count(b"\n", at, end)
        brace = block.rfind(b"{", at, end)
        if brace >= 0:
            self._last = block[max(block.rfind(b"\n", at, brace) + 1, at) : block.index(b"\n", brace, end)]
        following = [-1] * len(_FINDERS)
        while at < end:
            begin = at
            if self._begins is not None and self._indent is None and not self._tracebacks.count:
                for each, find in enumerate(_FINDERS):
                    if following[each] < at:
                        found = find(block, at, end)
                        following[each] = found if found >= 0 else end
                hit = min(following)
                if hit == end:
                    return
                begin = max(block.rfind(b"\n", at, hit) + 1, at)
            stop = block.index(b"\n", begin if begin == at else hit, end)
            self._line(block[begin:stop])
            at = stop + 1

    # --- from lines to evidence ----------------------------------------------------------------------------------

    def _line(self, line: bytes) -> None:
        fields = _fields_of(line)
        if fields is None:
            self._text(line)
            return
        self._end_traceback()
        time = _time_of(fields)
        if time is not None:
            self._tell_time(time)
        event = fields.get("event")
        mine = self._whose(fields)
        revision = fields.get("revision")
        if time is not None and isinstance(revision, str) and event in (AgentStarted.name, RunStarted.name):
            for told in self._told.values() if event == RunStarted.name else (mine,):
                told.start(revision, time)
        if isinstance(event, str) and event in EVENTS_HEARD:
            if time is not None:
                mine.event(event, fields, time)
        elif fields.get("level") in _ERRORS:
            mine.errors(_Errors.of(_in_short(line, fields)), time)

    def _whose(self, fields: _Fields) -> _Told:
        if self._only is not None:
            return self._only
        agent = fields.get("agent")
        return self._told.get(agent if isinstance(agent, str) else SUPERVISOR) or self._told[SUPERVISOR]

    def _tell_time(self, time: datetime) -> None:
        if self._begins is None:
            self._begins = time
        self._newest = time if self._newest is None else max(time, self._newest)
        self._count_tracebacks(time)

    def _text(self, line: bytes) -> None:
        """A line that is not ours. A traceback is told by the line that ends it: it names the error."""
        at = line.find(_TRACEBACK)
        # In a line of JSON that is cut off, it belongs to the line.
        if at >= 0 and b"{" not in line[:at]:
            self._end_traceback()
            self._indent = at
        elif self._indent is not None:
            words = line[self._indent :].rstrip()
            if words and words[:1] not in b" \t":
                self._indent = None
                self._tracebacks.add("Traceback: " + words.decode(errors="replace"))

    def _end_traceback(self) -> None:
        if self._indent is not None:
            self._indent = None
            self._tracebacks.add("Traceback, and no line that says of what")

    def _count_tracebacks(self, time: datetime | None) -> None:
        if self._tracebacks.count:
            (self._only or self._told[SUPERVISOR]).errors(self._tracebacks, time)
            self._tracebacks = _Errors()


class _Errors:
    """How many there are, and the newest of them."""

    def __init__(self) -> None:
        self.count = 0
        self.newest: deque[str] = deque(maxlen=MOST_ERRORS)

    @classmethod
    def of(cls, line: str) -> _Errors:
        errors = cls()
        errors.add(line)
        return errors

    def add(self, line: str) -> None:
        self.count += 1
        self.newest.append(line[:LONGEST_ERROR])

    def join(self, later: _Errors) -> None:
        self.count += later.count
        self.newest.extend(later.newest)


class _Group:
    def __init__(self, time: datetime) -> None:
        self.count = 0
        self.first = self.last = time
        self.sample: _Fields = {}


class _Told:
    """What one agent has told, of the revision that counts."""

    def __init__(self, agent: str, counts_from: datetime, revision: str | None, *, slack: timedelta) -> None:
        self._agent = agent
        self._counts_from = counts_from
        self._wanted = revision
        self._slack = slack
        self._runs: str | None = None
        self._groups: dict[tuple[str, tuple[str, ...]], _Group] = {}
        self._errors = _Errors()

    @property
    def _counts(self) -> bool:
        """What was there before the first start is taken for the same revision's, for its start may be gone."""
        return self._wanted is None or self._runs in (None, self._wanted)

    def start(self, revision: str, time: datetime) -> None:
        before, self._runs = self._runs, revision
        if not self._counts or (before is not None and before != revision):
            self._groups.clear()
            self._errors = _Errors()
            self._counts_from = max(self._counts_from, time)

    def event(self, name: str, fields: _Fields, time: datetime) -> None:
        if not self._counts or time < self._counts_from:
            return
        by = EVENTS_HEARD[name]
        key = tuple(_shown(fields.get(each)) for each in by)
        if len(self._groups) >= MOST_GROUPS and (name, key) not in self._groups:
            key = (OTHERS,) * len(by)
        group = self._groups.setdefault((name, key), _Group(time))
        group.count += 1
        group.first = min(group.first, time)
        if time >= group.last:
            group.last = time
            group.sample = _sample(fields)

    def errors(self, errors: _Errors, time: datetime | None) -> None:
        """``time``: ``None`` when nobody knows it; then they count."""
        if self._counts and (time is None or time >= self._counts_from):
            self._errors.join(errors)

    def log(self, *, lines: int, begins: datetime | None, ends: datetime | None, lacks: str) -> AgentLog:
        lacks = lacks or self._lacks(begins)
        heard = [
            Heard(
                agent=self._agent,
                name=name,
                key=key,
                count=group.count,
                first=group.first,
                last=group.last,
                sample=group.sample,
            )
            for (name, key), group in self._groups.items()
        ]
        return AgentLog(
            agent=self._agent,
            counts_from=self._counts_from,
            begins=begins,
            ends=ends,
            complete=not lacks,
            lacks=lacks,
            lines=lines,
            heard=tuple(sorted(heard, key=lambda each: (each.first, each.name, each.key))),
            errors=self._errors.count,
            newest_lines=tuple(self._errors.newest),
        )

    def _lacks(self, begins: datetime | None) -> str:
        if not self._counts:
            return f"what runs is revision {self._runs}, not {self._wanted}"
        if begins is None:
            return "no line of it has a time, as those of --output json have"
        if begins > self._counts_from + self._slack:
            return f"it begins at {begins:%Y-%m-%d %H:%M:%S}Z: what was before is gone"
        return ""


# --- one line ----------------------------------------------------------------------------------------------------


def _fields_of(line: bytes) -> _Fields | None:
    """Something may be written before it, such as the name of a service; ``None``: it is no JSON object."""
    start = line.find(b"{")
    if start < 0:
        return None
    try:
        return _DECODER.decode(line[start:] if start else line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def time_in(line: bytes) -> datetime | None:
    """Of a line of a log; ``None``: it has none."""
    fields = _fields_of(line)
    return None if fields is None else _time_of(fields)


def _time_of(fields: _Fields) -> datetime | None:
    """An event's own, which in a replay is not when the line was written; else the line's."""
    for name in ("at", "timestamp"):
        text = fields.get(name)
        if isinstance(text, str):
            try:
                time = datetime.fromisoformat(text)
                return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
            except (ValueError, OverflowError):
                continue
    return None


def _shown(value: object) -> str:
    """A value of a field as text, and not much of it."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    return text[:_LONGEST_VALUE]


def _sample(fields: _Fields) -> _Fields:
    own = [(name, value) for name, value in fields.items() if name not in _OF_THE_LINE]
    return {
        name[:_LONGEST_VALUE]: value
        if value is None or isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63)
        else _shown(value)
        for name, value in own[:_MOST_FIELDS]
    }


def _in_short(line: bytes, fields: _Fields) -> str:
    """With the end of its traceback, which names the error."""
    exception = fields.get("exception")
    if not isinstance(exception, str):
        return line[line.find(b"{") :].decode(errors="replace")
    *_, ending = exception.rstrip().rsplit("\n", 1)
    ending = f" … {ending[: LONGEST_ERROR // 2]}"
    rest = json.dumps({name: value for name, value in fields.items() if name != "exception"})
    return rest[: LONGEST_ERROR - len(ending)] + ending
