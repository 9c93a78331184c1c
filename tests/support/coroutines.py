"""Runs a coroutine that waits for nothing outside itself, without an event loop.

State machines of Hypothesis are synchronous and take thousands of small steps; a loop for each would be most
of their time. A coroutine that does wait for something is a mistake of the test, and is said so.
"""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def run_now(coroutine: Coroutine[Any, Any, T]) -> T:
    try:
        coroutine.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    coroutine.close()
    raise AssertionError("the coroutine waited for something that is not there in this test")
