"""An event loop in a thread, for servers and watchers that a synchronous test has at its side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import aiohttp

T = TypeVar("T")

LIMIT = 30.0
"""Seconds for what is done in the loop at a test's request."""

_LAST_TURNS = 10


class LoopThread:
    """Runs from its construction until ``close``."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    def wait_for(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, from any other thread."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    def do(self, work: Callable[[], T]) -> T:
        """The same for what needs no waiting."""

        async def done() -> T:
            return work()

        return self.wait_for(done())

    def close(self) -> None:
        """What still runs is cancelled."""

        async def cancel_all() -> None:
            rest = asyncio.all_tasks() - {asyncio.current_task()}
            for task in rest:
                task.cancel()
            await asyncio.gather(*rest, return_exceptions=True)
            # One that was given up in the middle of a handshake, or that ends politely, waits for its peer: the loop
            # alone still knows it, and would leave it open.
            for transport in list(getattr(self._loop, "_transports", {}).values()):
                transport.abort()
            # Connections that were broken are closed by callbacks of callbacks.
            for _ in range(_LAST_TURNS):
                await asyncio.sleep(0)

        self.wait_for(cancel_all())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()


def break_off(answer: aiohttp.ClientResponse) -> None:
    """End its connection, if it is not read to its end: a polite end of TLS waits for the peer, and maybe for longer
    than the loop is there."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()
    answer.close()
