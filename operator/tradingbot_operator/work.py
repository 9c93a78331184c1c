"""Who is reconciled when: one at a time for each bot, many bots side by side, and nobody in the way of another.

A key that is woken while it is worked on is worked on once more afterwards. One that fails is tried again after a
pause of its own that grows, and waits for nobody and keeps nobody waiting. Every key is also looked at from time to
time without being woken, each at another moment: what no watch has told is found then. Of one that is no more nothing
is kept.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Hashable
from datetime import timedelta
from typing import Generic, TypeVar

import msgspec

Key = TypeVar("Key", bound=Hashable)


class Pace(msgspec.Struct, frozen=True, kw_only=True):
    concurrency: int
    first_retry: timedelta
    longest_retry: timedelta
    resync: timedelta


class Again(msgspec.Struct, frozen=True):
    """Look once more after that long, though nothing failed; twice as long the next time, and so on up to the
    resync."""

    after: timedelta
    by: timedelta | None = None
    """At the latest after that long, however often it was asked for: something is known to be due then."""


class Over(msgspec.Struct, frozen=True):
    """There is nothing any more to look at: not again before it is woken."""


class Workers(Generic[Key]):
    """Within a running loop. ``work`` may raise; whoever wants to know is told by ``on_failure`` (key, error,
    attempts)."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[Again | Over | None]],
        pace: Pace,
        *,
        on_failure: Callable[[Key, Exception, int], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._work = work
        self._pace = pace
        self._on_failure = on_failure
        self._jitter = jitter
        self._free = asyncio.Semaphore(pace.concurrency)
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._woken: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._looks: dict[Key, int] = {}
        """How often in a row it was asked for another look."""
        self._not_before: dict[Key, float] = {}
        """Of keys that have failed: a change is no reason to try again in the same moment."""
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._stopping = False

    @property
    def waiting(self) -> int:
        """Keys that are worked on or wait for it."""
        return len(self._tasks)

    def failures(self, key: Key) -> int:
        """In a row."""
        return self._failures.get(key, 0)

    def wake(self, key: Key) -> None:
        # Something has changed: what it waits for may be near.
        self._looks.pop(key, None)
        loop = asyncio.get_running_loop()
        early = self._not_before.get(key, 0.0) - loop.time()
        if early <= 0 or key in self._tasks or self._stopping:
            self._begin(key)
            return
        self._cancel_timer(key)
        self._timers[key] = loop.call_later(early, self._ring, key)

    def _begin(self, key: Key) -> None:
        if self._stopping:
            return
        self._cancel_timer(key)
        if key in self._tasks:
            self._woken.add(key)
            return
        self._tasks[key] = asyncio.create_task(self._run(key), name=f"reconcile {key}")

    def drop(self, key: Key) -> None:
        """It is no more: not looked at again by itself."""
        self._cancel_timer(key)
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        self._looks.pop(key, None)

    async def stop(self, limit: timedelta) -> None:
        """What runs may end by itself within ``limit``."""
        self._stopping = True
        for key in list(self._timers):
            self._cancel_timer(key)
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=limit.total_seconds())
        for task in self._tasks.values():
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()))

    async def _run(self, key: Key) -> None:
        try:
            async with self._free:
                self._woken.discard(key)
                if self._stopping:
                    return
                pause = await self._once(key)
        finally:
            del self._tasks[key]
        if key in self._woken:
            self._woken.discard(key)
            self.wake(key)
            return
        if pause is not None and not self._stopping:
            self._timers[key] = asyncio.get_running_loop().call_later(pause, self._ring, key)

    async def _once(self, key: Key) -> float | None:
        """Seconds until the next look; ``None``: there is none."""
        try:
            again = await self._work(key)
        except Exception as error:
            times = self._failures[key] = self._failures.get(key, 0) + 1
            least = self._on_failure(key, error, times)
            growing = self._pace.first_retry.total_seconds() * 2 ** min(times - 1, 30)
            pause: float = min(growing, self._pace.longest_retry.total_seconds())
            pause = max(pause * (0.5 + self._jitter() / 2), least)
            soonest = max(self._pace.first_retry.total_seconds(), least)
            self._not_before[key] = asyncio.get_running_loop().time() + min(pause, soonest)
            return pause
        self._failures.pop(key, None)
        self._not_before.pop(key, None)
        if isinstance(again, Over):
            self._looks.pop(key, None)
            return None
        if again is None:
            self._looks.pop(key, None)
            after = self._pace.resync
        else:
            looks = self._looks[key] = self._looks.get(key, 0) + 1
            after = min(again.after * 2 ** min(looks - 1, 20), self._pace.resync)
        wait: float = after.total_seconds() * (0.75 + self._jitter() / 2)
        due = None if again is None else again.by
        return wait if due is None else min(wait, due.total_seconds())

    def _ring(self, key: Key) -> None:
        self._timers.pop(key, None)
        self._begin(key)

    def _cancel_timer(self, key: Key) -> None:
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
