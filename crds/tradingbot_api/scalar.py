"""Values that a spec writes as text with a pattern of its own.

Money, fractions and durations are text in a spec so that no YAML or JSON parser on the way (a person's editor,
kubectl, the API server, a dashboard) can turn them into a float. Each kind of such text is one `Scalar`: a pattern
that the CRD can carry, how it becomes a Python value, how it is written again, and what to say to a person who
wrote it differently.
"""

import re
from collections.abc import Callable
from typing import Any

import msgspec


class ScalarInvalid(ValueError):
    """Text that is not of a scalar's kind: `problem` continues "VALUE ...", `remedy` says what to write instead."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}; {remedy}")
        self.problem = problem
        self.remedy = remedy


class Scalar(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of text.

    `pattern` is anchored and in the common part of Python's and RE2's syntax, for the CRD carries it as it is.
    `longest` is in characters: without it the API server takes a rule on the text to be too costly. Of a
    text that is longer the API server says nothing else, so it is larger than what the pattern of a number allows.
    `convert` is given only text that matches it and may still refuse (`ScalarInvalid`) what a pattern cannot say.
    `explain` is given the text that does not match and answers (problem, remedy).
    """

    name: str
    pattern: str
    longest: int
    example: str
    convert: Callable[[str], Any]
    format: Callable[[Any], str]
    explain: Callable[[str], tuple[str, str]]

    def parse(self, text: str) -> Any:
        """The Python value of the text. Raises `ScalarInvalid`."""
        # `fullmatch`, because `$` also matches before a final line feed.
        if re.fullmatch(self.pattern, text) is None:
            raise ScalarInvalid(*self.explain(text))
        if len(text) > self.longest:
            raise ScalarInvalid(f"is {len(text)} characters long", f"shorten it to at most {self.longest}")
        return self.convert(text)


def text_scalar(
    name: str, pattern: str, longest: int, example: str, explain: Callable[[str], tuple[str, str]]
) -> Scalar:
    """A scalar that stays text in Python: only its pattern and length matter."""
    return Scalar(
        name=name, pattern=pattern, longest=longest, example=example, convert=str, format=str, explain=explain
    )
