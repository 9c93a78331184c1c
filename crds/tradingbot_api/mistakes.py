"""What is wrong with a spec, said so that a person can mend it without reading this code."""

from collections.abc import Sequence

import msgspec

Path = tuple[str | int, ...]

_LONGEST_VALUE = 60


class Mistake(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One mistake: where (`path`, and `line` in the file, from 1, where there is a file), the `value` that was found
    as it is written (None where nothing is), what is wrong with it, and what to do."""

    path: str
    line: int | None
    value: str | None
    problem: str
    remedy: str

    def __str__(self) -> str:
        where = f"{self.path}: " if self.path else ""
        what = f"{shortened(self.value)} {self.problem}" if self.value is not None else self.problem
        return f"{where}{what}; {self.remedy}"


class SpecInvalid(ValueError):
    """A spec that cannot be used. `mistakes` are all that were found, in the order of the file; `source` names it."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: (mistake.line or 0, mistake.path)))
        super().__init__(source, self.mistakes)

    def __str__(self) -> str:
        if len(self.mistakes) == 1 and not self.mistakes[0].path and self.mistakes[0].line is None:
            return f"{self.source}: {self.mistakes[0]}"
        count = "1 mistake" if len(self.mistakes) == 1 else f"{len(self.mistakes)} mistakes"
        places = [f"line {mistake.line}" if mistake.line is not None else "" for mistake in self.mistakes]
        width = max(map(len, places))
        lines = [
            f"  {place:<{width}}  {mistake}" if width else f"  {mistake}"
            for place, mistake in zip(places, self.mistakes, strict=True)
        ]
        return "\n".join([f"{self.source}: {count}", *lines])


def shortened(value: str) -> str:
    """A value for a message: on one line, its begin when it is long, and visible when it is empty or odd."""
    if not value or not value.isprintable():
        value = repr(value)
    return value if len(value) <= _LONGEST_VALUE else f"{value[: _LONGEST_VALUE - 1]}…"


def write_path(path: Path) -> str:
    """`("spec", "indicators", 2, "period")` → `spec.indicators[2].period`."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        elif step.replace("_", "").replace("-", "").isalnum():
            text += f".{step}" if text else step
        else:
            text += f"[{step!r}]"
    return text
