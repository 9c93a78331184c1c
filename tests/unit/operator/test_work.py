"""One at a time for each key, many side by side, and a key that fails in nobody's way."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from support.fast_loop import run_fast
from tradingbot_operator.work import Again, Over, Pace, Workers

PACE = Pace(
    concurrency=2,
    first_retry=timedelta(seconds=1),
    longest_retry=timedelta(seconds=10),
    resync=timedelta(minutes=5),
)


class Rig:
    """Workers whose work takes a second, and what they did."""

    def __init__(self, work: Callable[[str], Awaitable[Again | Over | None]] | None = None) -> None:
        self.began: list[tuple[float, str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.failed: list[tuple[str, int]] = []
        self._custom = work
        self.least = 0.0
        self.workers: Workers[str] = Workers(
            self._work,
            PACE,
            on_failure=self._failed,
            jitter=lambda: 1.0,
        )

    def _failed(self, key: str, error: Exception, times: int) -> float:
        self.failed.append((key, times))
        return self.least

    async def _work(self, key: str) -> Again | Over | None:
        self.began.append((asyncio.get_running_loop().time(), key))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await asyncio.sleep(1)
            return None if self._custom is None else await self._custom(key)
        finally:
            self.at_once -= 1

    def times(self, key: str) -> list[float]:
        return [at for at, which in self.began if which == key]


async def _boom(key: str) -> Again | None:
    if key == "poisoned":
        raise RuntimeError(key)
    return None


def test_a_key_is_worked_on_once_at_a_time_and_again_when_it_was_woken_meanwhile() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.workers.wake("a")
        await asyncio.sleep(0.5)
        for _ in range(3):
            rig.workers.wake("a")
        await asyncio.sleep(5)
        assert rig.times("a") == [0, 1]
        assert rig.most_at_once == 1
        await rig.workers.stop(timedelta(seconds=1))

    run_fast(scenario())


def test_keys_are_worked_on_side_by_side_up_to_the_limit() -> None:
    async def scenario() -> None:
        rig = Rig()
        for key in "abcd":
            rig.workers.wake(key)
        assert rig.workers.waiting == 4
        await asyncio.sleep(3)
        assert [at for at, _ in rig.began] == [0, 0, 1, 1]
        assert rig.most_at_once == 2
        await rig.workers.stop(timedelta(seconds=1))

    run_fast(scenario())


def test_one_that_fails_waits_longer_each_time_and_blocks_nobody() -> None:
    async def scenario() -> None:
        rig = Rig(_boom)
        rig.workers.wake("poisoned")
        rig.workers.wake("good")
        await asyncio.sleep(60)
        # Each attempt takes a second; the pauses are 1, 2, 4, 8, 10, 10 ...
        assert rig.times("poisoned")[:6] == [0, 2, 5, 10, 19, 30]
        assert rig.failed[:3] == [("poisoned", 1), ("poisoned", 2), ("poisoned", 3)]
        assert rig.times("good") == [0]
        assert rig.workers.failures("poisoned") > 3
        await rig.workers.stop(timedelta(seconds=1))

    run_fast(scenario())


def test_a_change_does_not_hurry_one_that_fails_but_is_not_kept_waiting_either() -> None:
    """What a failed reconcile has written wakes it: without a pause it would turn in circles. What a person mends is
    tried within a second, and not after the long pause of many failures."""

    async def scenario() -> None:
        rig = Rig(_boom)
        rig.workers.wake("poisoned")
        await asyncio.sleep(0.5)
        rig.workers.wake("poisoned")
        await asyncio.sleep(1.2)
        assert rig.times("poisoned") == [0]
        await asyncio.sleep(30)
        last = rig.times("poisoned")[-1]
        await asyncio.sleep(last + 1 + 4 - asyncio.get_running_loop().time())
        rig.workers.wake("poisoned")
        await asyncio.sleep(0.1)
        assert rig.times("poisoned")[-1] == last + 5
        await rig.workers.stop(timedelta(seconds=1))

    run_fast(scenario())


def test_a_server_that_asks_for_patience_gets_it() -> None:
    async def scenario() -> None:
        rig = Rig(_boom)
        rig.least = 7.0
        rig.workers.wake("poisoned")
        await asyncio.sleep(3)
        rig.workers.wake("poisoned")
        await asyncio.sleep(7)
        assert rig.times("poisoned") == [0, 8]
        await rig.workers.stop(timedelta(seconds=1))

    run_fast(scenario())


@pytest.mark.parametrize(("again", "second"), [(None, 1 + 300 * 1.25), (Again(timedelta(seconds=8)), 1 + 10)])
def test_it_is_looked_at_again_by_itself(again: Again | None, second: float) -> None:
    async def work(key: str) -> Again | None:
        return again

    async def scenario() -> None:
        rig = Rig(work)
        rig.workers.wake("a")
        await asyncio.sleep(second + 0.5)
        assert rig.times("a") == [0, second]
        rig.workers.drop("a")
        await rig.workers.stop(timedelta(seconds=2))

    run_fast(scenario())


def test_further_looks_come_less_and_less_often() -> None:
    async def work(key: str) -> Again | None:
        return Again(timedelta(seconds=8))

    async def scenario() -> None:
        rig = Rig(work)
        rig.workers.wake("a")
        await asyncio.sleep(2000)
        gaps = [later - earlier for earlier, later in zip(rig.times("a"), rig.times("a")[1:], strict=False)]
        # A second of work, and 10, 20, 40 ... with the jitter of this rig, up to the resync.
        assert gaps[:7] == [11, 21, 41, 81, 161, 321, 376]
        began = len(rig.times("a"))
        rig.workers.wake("a")
        await asyncio.sleep(40)
        first, second, third = rig.times("a")[began:]
        assert (second - first, third - second) == (11, 21), "after a change the pauses begin anew"
        rig.workers.drop("a")
        await rig.workers.stop(timedelta(seconds=2))

    run_fast(scenario())


def test_what_is_known_to_be_due_is_looked_at_then() -> None:
    due = [40.0, 29.0, 8.0]

    async def work(key: str) -> Again | None:
        return Again(timedelta(seconds=8), by=timedelta(seconds=due.pop(0)) if due else None)

    async def scenario() -> None:
        rig = Rig(work)
        rig.workers.wake("a")
        await asyncio.sleep(100)
        gaps = [later - earlier for earlier, later in zip(rig.times("a"), rig.times("a")[1:], strict=False)]
        assert gaps == [11, 21, 9], "the third would be 41"
        rig.workers.drop("a")
        await rig.workers.stop(timedelta(seconds=2))

    run_fast(scenario())


def test_one_that_is_gone_is_not_looked_at_again() -> None:
    async def scenario() -> None:
        rig = Rig()
        rig.workers.wake("a")
        await asyncio.sleep(2)
        rig.workers.drop("a")
        await asyncio.sleep(1000)
        assert rig.times("a") == [0]

    run_fast(scenario())


def test_one_that_is_no_more_is_looked_at_only_when_it_is_woken() -> None:
    async def over(key: str) -> Over:
        return Over()

    async def scenario() -> None:
        rig = Rig(over)
        rig.workers.wake("gone")
        await asyncio.sleep(3600)
        assert rig.times("gone") == [0]
        rig.workers.wake("gone")
        await asyncio.sleep(10)
        assert rig.times("gone") == [0, 3600]
        await rig.workers.stop(timedelta(seconds=2))

    run_fast(scenario())


def test_a_stop_lets_what_runs_end_and_starts_nothing_more() -> None:
    async def scenario() -> None:
        rig = Rig()
        for key in "abc":
            rig.workers.wake(key)
        await asyncio.sleep(0.5)
        await rig.workers.stop(timedelta(seconds=5))
        assert [key for _, key in rig.began] == ["a", "b"]
        assert rig.at_once == 0
        rig.workers.wake("d")
        assert rig.workers.waiting == 0

    run_fast(scenario())


def test_a_stop_waits_no_longer_than_its_limit() -> None:
    async def forever(key: str) -> Again | None:
        await asyncio.sleep(1000)
        return None

    async def scenario() -> None:
        rig = Rig(forever)
        rig.workers.wake("a")
        await asyncio.sleep(2)
        began = asyncio.get_running_loop().time()
        await rig.workers.stop(timedelta(seconds=3))
        assert asyncio.get_running_loop().time() - began == 3
        assert rig.workers.waiting == 0

    run_fast(scenario())
