"""What the loopback exchange can be told to do wrong, request by request."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import StrEnum


class FaultKind(StrEnum):
    HANG_BEFORE = "hang_before"
    """Nothing is done and nothing answered."""
    HANG_AFTER = "hang_after"
    """It is done, and nothing is answered."""
    CUT_BEFORE = "cut_before"
    CUT_AFTER = "cut_after"
    CUT_BODY_AFTER = "cut_body_after"
    """It is done, and the connection ends in the middle of the answer's body."""
    ERROR_BEFORE = "error_before"
    """Nothing is done; answered with the fault's status and body."""
    ERROR_AFTER = "error_after"


AFTER = frozenset({FaultKind.HANG_AFTER, FaultKind.CUT_AFTER, FaultKind.CUT_BODY_AFTER, FaultKind.ERROR_AFTER})


@dataclass(frozen=True)
class Fault:
    kind: FaultKind
    status: int = 503
    body: str = '{"code":-1000,"msg":"An unknown error occurred while processing the request."}'
    retry_after: str | None = None
    """Seconds, as the header says them."""


def rate_limited(retry_after: str | None = "7") -> Fault:
    body = '{"code":-1003,"msg":"Too much request weight used; current limit is 6000 request weight per 1 MINUTE."}'
    return Fault(FaultKind.ERROR_BEFORE, 429, body, retry_after)


def banned(retry_after: str = "120") -> Fault:
    body = '{"code":-1003,"msg":"Way too much request weight used; IP banned until 1764079200000."}'
    return Fault(FaultKind.ERROR_BEFORE, 418, body, retry_after)


class Faults:
    """Faults by request (such as ``POST order``), taken in the order in which they were planned."""

    def __init__(self) -> None:
        self._planned: dict[str, deque[Fault]] = {}

    def plan(self, request: str, *faults: Fault) -> None:
        self._planned.setdefault(request, deque()).extend(faults)

    def take(self, request: str) -> Fault | None:
        planned = self._planned.get(request)
        return planned.popleft() if planned else None

    @property
    def left(self) -> int:
        """Planned and not met yet."""
        return sum(len(planned) for planned in self._planned.values())
