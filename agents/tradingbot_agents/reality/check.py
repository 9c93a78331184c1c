"""What a check is, and how all of them are found: each is one file in ``checks/`` with a ``CHECK``.

A check is a question with a yes or a no, asked of evidence that was gathered before. It neither asks anybody nor
remembers anything, so each has a test in which it passes, one in which it fails, and one without its evidence.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from importlib import import_module

import msgspec

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.reality.evidence import Evidence, Source

PAGE = "docs/reality-checks.md"


class Status(StrEnum):
    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """Its evidence could not be gathered, or does not reach far enough to say."""
    SKIPPED = "skipped"
    """There is nothing to ask: it does not concern this bot, or it was not given what it would need."""


class Judgement(msgspec.Struct, frozen=True):
    """The answer of one check. ``told`` is why, in words, a line each."""

    status: Status
    told: tuple[str, ...]


MOST_TOLD = 20
"""Lines of one check; what is beyond is counted."""


def passed(*told: str) -> Judgement:
    return Judgement(Status.PASSED, told)


def skipped(why: str) -> Judgement:
    return Judgement(Status.SKIPPED, (why,))


def unknown(*why: str) -> Judgement:
    return Judgement(Status.UNKNOWN, why)


def judged(breaches: Sequence[str], otherwise: str, *, doubts: Sequence[str] = ()) -> Judgement:
    """Failed with every breach; else unknown with every doubt (evidence that does not reach far enough); else
    passed, with what was looked at."""
    if breaches:
        return Judgement(Status.FAILED, _few(breaches))
    if doubts:
        return Judgement(Status.UNKNOWN, _few(doubts))
    return Judgement(Status.PASSED, (otherwise,))


def _few(lines: Sequence[str]) -> tuple[str, ...]:
    if len(lines) <= MOST_TOLD:
        return tuple(lines)
    return (*lines[:MOST_TOLD], f"and {len(lines) - MOST_TOLD} more")


class Check(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    """``GROUP.NAME``: stable, an interface."""
    asks: str
    """The question, such as "Is every position protected by a stop?"."""
    protects: str
    """What is lost when the answer is no."""
    needs: tuple[Source, ...]
    """Without one of these it is unknown."""
    severity: Severity
    """Of a failure. SEVERE: an invariant of the books or of the money; ``onSevere`` follows."""
    remedy: str
    judge: Callable[[Evidence], Judgement]
    compares: bool = False
    """Whether it holds two places against each other, which are never read in the same moment: a failure must be seen
    again in a second look."""

    @property
    def group(self) -> str:
        return self.id.partition(".")[0]

    @property
    def docs(self) -> str:
        return f"{PAGE}#{self.id.replace('.', '')}"


GROUPS = ("lots", "balance", "positions", "prices", "feed", "orders", "agents", "accounting", "behaviour")
"""In the order of a report."""


def all_checks() -> tuple[Check, ...]:
    """Every check that there is, in the order of a report."""
    from tradingbot_agents.reality import checks

    found: list[Check] = [
        import_module(f"{checks.__name__}.{module.name}").CHECK for module in pkgutil.iter_modules(checks.__path__)
    ]
    return tuple(sorted(found, key=lambda each: (GROUPS.index(each.group), each.id)))


def judge(check: Check, evidence: Evidence) -> Judgement:
    """Of one check: unknown without what it needs, whatever it would say."""
    missing = evidence.missing(check.needs)
    if missing:
        wanted = [(source, each) for source, each in missing if each.wanted]
        told = tuple(f"{source.value}: {each.why}" for source, each in wanted or missing)
        return Judgement(Status.UNKNOWN if wanted else Status.SKIPPED, told)
    return check.judge(evidence)


def judge_all(checks: Iterable[Check], evidence: Evidence) -> dict[str, Judgement]:
    """By id."""
    return {check.id: judge(check, evidence) for check in checks}
