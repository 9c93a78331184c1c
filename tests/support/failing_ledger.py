"""A ledger that fails where a test wants it to, before or after the call had its effect."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from tradingbot_agents.ledger.port import Ledger


class Crash(Exception):
    """The process ends here."""


class FailingLedger:
    """Passes every call on to ``ledger``; ``calls`` are the names of those that were made."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._failures: list[tuple[str, bool, Exception]] = []
        self.calls: list[str] = []

    def fail(self, call: str, error: Exception, *, done: bool = False) -> None:
        """The next such call raises ``error``; ``done``: after it took effect."""
        self._failures.append((call, done, error))

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._ledger, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            failure = next((failure for failure in self._failures if failure[0] == name), None)
            if failure is None:
                return await method(*args, **kwargs)
            self._failures.remove(failure)
            if failure[1]:
                await method(*args, **kwargs)
            raise failure[2]

        return call
