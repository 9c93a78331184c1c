"""A page with commands and what they print, as a test runs it: so that a guide can not rot.

A block of ``sh`` is run as it stands; a block of ``text`` right after it is what a person sees then. Figures, times
and the width of columns are everybody's own, and ``…`` stands for what is left out: a part of a line, or whole lines.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_DURATION = re.compile(r"\b(?:\d+[dhms])+\b")
_NUMBER = re.compile(r"\d(?:[\d,.]*\d)?")


@dataclass(frozen=True)
class Step:
    heading: str
    """Of the section."""
    commands: str
    prints: str | None
    """``None``: the page does not show it."""


def steps(page: str) -> list[Step]:
    """Of a page of Markdown, in its order. ``ValueError``: a text that no command prints."""
    found: list[Step] = []
    fresh = False
    for match in _BLOCK.finditer(page):
        kind, body = match.groups()
        if kind == "sh":
            found.append(Step(_heading(page[: match.start()]), body, None))
        elif kind == "text":
            if not fresh:
                raise ValueError(f"no command before: {body}")
            found[-1] = Step(found[-1].heading, found[-1].commands, body)
        fresh = kind == "sh"
    return found


def _heading(before: str) -> str:
    headings = re.findall(r"^#+ (.+)$", _BLOCK.sub("", before), re.MULTILINE)
    return headings[-1] if headings else ""


def is_as_shown(shown: str, printed: str) -> bool:
    """Whether ``printed`` is what a page shows."""
    parts = []
    for line in shown.splitlines():
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(".*".join(re.escape(_plain(part)) for part in _plain(line).split("…")) + r"\n")
    plain = "".join(_plain(line) + "\n" for line in printed.splitlines())
    return re.fullmatch("".join(parts), plain) is not None


def _plain(line: str) -> str:
    return " ".join(_NUMBER.sub("0", _DURATION.sub("0s", line)).split())
