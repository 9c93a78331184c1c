"""What a report has to say to somebody who is not looking: what changed, once, and when it is well again.

Each receiver is told by what it was told before, and not by what changed since the last report: a message that could
not be sent is made again at the next run, with what happened meanwhile. A failure that lasts is not repeated. Two
messages about the same check are an interval apart; what is held back for that is in the next one.

Without the memory, as while the database is away, everything that is wrong is told: once too often and not once too
seldom.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal

import msgspec

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Finding, Report
from tradingbot_agents.reality.words import lasting, moment

VERSION = 1
"""Of a message; fields are only added while it stays."""

MOST_CHANGES = 20
"""Of one check that are remembered while they are held back: the newest."""

LONGEST_TEXT = 3000
"""Characters. Telegram takes 4096, of which its spelling of some signs takes a part."""

_LONGEST_LINE = 300
_FEW = 3

_RANKS = {severity: rank for rank, severity in enumerate(Severity)}
_WRONG = (Status.FAILED, Status.UNKNOWN)


class Receiver(msgspec.Struct, frozen=True, kw_only=True):
    """One of ``spec.notifications``, without its address."""

    name: str
    minimum: Severity
    """Least severe news that it is told."""
    interval: timedelta
    """Least time between two messages about the same check."""


class Change(msgspec.Struct, frozen=True):
    status: Status
    at: datetime
    """Since when it is so."""


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """What a receiver knows of one check."""

    status: Status
    """As it was told last; PASSED, if nothing ever was."""
    at: datetime | None = None
    """When that was."""
    held: tuple[Change, ...] = ()
    """What it was not told yet, oldest first."""

    @property
    def newest(self) -> Status:
        """What it knows once it is told the rest."""
        return self.held[-1].status if self.held else self.status


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What one receiver was told."""

    checks: Mapping[str, Told] = {}
    """By id; without those that it needs to hear nothing of."""
    holds: tuple[str, ...] = ()
    """Holds that were placed and that it was not told of yet, in words."""
    failing_since: datetime | None = None
    """Since when nothing can be sent to it."""


class News(msgspec.Struct, frozen=True, kw_only=True):
    """Of one check."""

    check: str
    status: Status
    before: Status
    """As it was told last; PASSED, if nothing ever was."""
    severity: Severity
    """Of the failure; what is unknown is a warning at the most."""
    since: datetime
    told: tuple[str, ...]
    """Why, a line each."""
    remedy: str
    docs: str
    meanwhile: tuple[Change, ...]
    """What happened between the last message about it and now, if more than one thing did."""

    @property
    def wrong(self) -> bool:
        return self.status in _WRONG


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """What one receiver is sent: the body of a webhook, and the title and text of everything else."""

    version: int = VERSION
    kind: Literal["problem", "recovery"]
    """Recovery: nothing in it is wrong, though something else may be, see ``result``."""
    severity: Severity
    """The greatest of what is wrong in it; INFO, if nothing is."""
    bot: str
    account: str
    at: datetime
    """Of the report."""
    result: Status
    """Of the whole report: PASSED, FAILED or UNKNOWN."""
    summary: str
    """The whole report in a line."""
    news: tuple[News, ...]
    holds: tuple[str, ...]
    """That were placed on the bot."""
    failing_since: datetime | None
    """Since when earlier messages to this receiver failed."""
    title: str
    text: str
    """For people; some lines, not too many for any receiver."""


class Outcome(msgspec.Struct, frozen=True):
    """What is to be done for one receiver, and what it knows then."""

    message: Message | None
    if_sent: Memory
    if_not: Memory
    """Also when there is no message."""


def decide(report: Report, receiver: Receiver, memory: Memory, now: datetime) -> Outcome:
    holds = (*memory.holds, *((report.hold,) if report.hold is not None else ()))
    news: list[News] = []
    sent: dict[str, Told] = {}
    unsent: dict[str, Told] = {}
    for finding in (*report.findings, *_gone(report, memory)):
        told = memory.checks.get(finding.id, Told(status=Status.PASSED))
        told = _noted(told, finding, receiver.minimum)
        unsent[finding.id] = sent[finding.id] = told
        if told.held and (told.at is None or now - told.at >= receiver.interval):
            news.append(_news(finding, told))
            sent[finding.id] = Told(status=told.newest, at=now)
    message = _message(report, news, holds, memory.failing_since) if news or holds else None
    return Outcome(
        message,
        Memory(checks=_needed(sent, receiver, now)),
        Memory(
            checks=_needed(unsent, receiver, now),
            holds=holds,
            failing_since=memory.failing_since if message is None else memory.failing_since or now,
        ),
    )


def _noted(told: Told, finding: Finding, minimum: Severity) -> Told:
    """With what is new of it, if the receiver is to be told: what is wrong and severe enough, and the end of what it
    knows (or will) to be wrong."""
    known = told.newest
    if finding.status in _WRONG:
        new = finding.status is not known and _RANKS[_severity(finding)] >= _RANKS[minimum]
    else:
        new = known in _WRONG
    if not new:
        return told
    held = (*told.held, Change(finding.status, finding.since))
    return msgspec.structs.replace(told, held=held[-MOST_CHANGES:])


def _severity(finding: Finding) -> Severity:
    if finding.status is Status.UNKNOWN and finding.severity is Severity.SEVERE:
        return Severity.WARNING
    return finding.severity


def _gone(report: Report, memory: Memory) -> list[Finding]:
    """Checks that a receiver knows to be wrong, and that another release does not make any more."""
    there = {finding.id for finding in report.findings}
    return [
        Finding(
            id=check,
            status=Status.SKIPPED,
            severity=Severity.INFO,
            told=("this release has no such check",),
            asks="",
            protects="",
            remedy="",
            docs="",
            since=report.at,
            runs=1,
            before=told.newest,
            trend="",
        )
        for check, told in memory.checks.items()
        if check not in there
    ]


def _needed(checks: Mapping[str, Told], receiver: Receiver, now: datetime) -> dict[str, Told]:
    """Without those that are well and whose last message is long enough ago."""
    return {
        check: told
        for check, told in checks.items()
        if told.held or told.status in _WRONG or (told.at is not None and now - told.at < receiver.interval)
    }


def _news(finding: Finding, told: Told) -> News:
    # The last one is what the news is; a finding that has changed since in a way that is not told is not that.
    newest = told.held[-1]
    same = newest.status is finding.status
    return News(
        check=finding.id,
        status=newest.status,
        before=told.status,
        severity=_severity(finding),
        since=newest.at,
        told=finding.told if same else (f"now {finding.status.value}", *finding.told),
        remedy=finding.remedy,
        docs=finding.docs,
        meanwhile=told.held[:-1],
    )


def _message(report: Report, news: Sequence[News], holds: tuple[str, ...], failing_since: datetime | None) -> Message:
    wrong = [each for each in news if each.wrong]
    severities = [Severity.SEVERE] * bool(holds) + [each.severity for each in wrong]
    return Message(
        kind="problem" if severities else "recovery",
        severity=max(severities, key=_RANKS.__getitem__, default=Severity.INFO),
        bot=report.bot,
        account=report.account,
        at=report.at,
        result=report.result,
        summary=report.summary,
        news=tuple(news),
        holds=holds,
        failing_since=failing_since,
        title=_title(report, news, holds),
        text=_text(report, news, holds, failing_since),
    )


# --- in words ----------------------------------------------------------------------------------------------------


def _title(report: Report, news: Sequence[News], holds: Sequence[str]) -> str:
    parts = [f"{word} {_named(found)}" for word, found in _by_word(news) if found]
    return f"{report.bot}: {'; '.join([*(['HELD'] if holds else []), *parts])}"


def _by_word(news: Sequence[News]) -> list[tuple[str, list[str]]]:
    return [
        ("FAILED", [each.check for each in news if each.status is Status.FAILED]),
        ("UNKNOWN", [each.check for each in news if each.status is Status.UNKNOWN]),
        ("well again:", [each.check for each in news if not each.wrong]),
    ]


def _named(checks: Sequence[str]) -> str:
    return ", ".join(checks[:_FEW]) + (f" and {len(checks) - _FEW} more" if len(checks) > _FEW else "")


def _text(report: Report, news: Sequence[News], holds: Sequence[str], failing_since: datetime | None) -> str:
    head = [*(f"The bot is {hold}" for hold in holds)]
    if failing_since is not None:
        head.append(f"Messages to you failed since {moment(failing_since)}; this has what they had to say.")
    tail = f"Now, of all checks of {report.account}: {report.summary}"
    ordered = sorted(news, key=lambda each: (not each.wrong, -_RANKS[each.severity]))
    blocks = ["\n".join(_cut(line) for line in head)] if head else []
    left = LONGEST_TEXT - len(tail) - sum(map(len, blocks)) - _LONGEST_LINE - 10
    shown = 0
    for each in ordered:
        block = "\n".join(_cut(line) for line in _block(each, report.at))
        left -= len(block) + 2
        if left < 0 and shown:
            break
        blocks.append(block)
        shown += 1
    if shown < len(ordered):
        blocks.append(_cut(f"and {', '.join(each.check for each in ordered[shown:])}"))
    return "\n\n".join([*blocks, tail])[:LONGEST_TEXT]


def _block(news: News, at: datetime) -> list[str]:
    if not news.wrong:
        word = "Not asked any more" if news.status is Status.SKIPPED else "Well again"
        return [f"{word}: {news.check} (was {news.before.value}), since {moment(news.since)}", *_meanwhile(news)]
    severe = ", severe" if news.severity is Severity.SEVERE else ""
    more = len(news.told) - _FEW
    return [
        f"{news.status.value.upper()} {news.check}{severe}, since {moment(news.since)}"
        + (f" ({lasting(at - news.since)})" if news.since < at else ""),
        *_meanwhile(news),
        *(f"- {line}" for line in news.told[:_FEW]),
        *([f"- and {more} more"] if more > 0 else []),
        f"do: {news.remedy}",
        f"see {news.docs}",
    ]


def _meanwhile(news: News) -> list[str]:
    if not news.meanwhile:
        return []
    told = ", ".join(f"{each.status.value} since {moment(each.at)}" for each in news.meanwhile[-_FEW:])
    more = len(news.meanwhile) - _FEW
    return [f"meanwhile: {f'{more} changes more, ' if more > 0 else ''}{told}"]


def _cut(line: str) -> str:
    return line if len(line) <= _LONGEST_LINE else f"{line[: _LONGEST_LINE - 2]} …"


# --- as JSON -----------------------------------------------------------------------------------------------------


def to_json(message: Message) -> bytes:
    """The body of a webhook with format ``json``."""
    return msgspec.json.encode(message)


def json_schema() -> dict[str, Any]:
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What a reality check sends to a webhook",
        **msgspec.json.schema(Message),
    }


def slack_json(message: Message) -> bytes:
    """The body of an incoming webhook of Slack, and of what takes the same: Mattermost, Rocket.Chat, Discord's
    ``/slack``."""
    text = f"*{_slack(message.title)}*\n{_slack(message.text)}"
    return msgspec.json.encode({"text": text})


def _slack(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def memories_to_json(memories: Mapping[str, Memory]) -> bytes:
    return msgspec.json.encode(memories)


def memories_from_json(text: bytes | str) -> dict[str, Memory]:
    """By receiver. What can not be read, as that of another release, is nothing: people are told once more."""
    found: dict[str, Memory] = {}
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.MsgspecError:
        return found
    for name, each in raw.items():
        try:
            found[name] = msgspec.json.decode(each, type=Memory)
        except msgspec.MsgspecError:
            continue
    return found
