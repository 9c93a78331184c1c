"""What the log says where there is no cluster: a file of ``tradingbot run``, or what comes down a pipe.

One process writes for all agents there, so each line is the agent's that it names. Only lines of ``--output json``
hold evidence; a readable log is told as not complete. A journal is piped in as it is
(``journalctl -u tradingbot -o cat``), and so are the logs of a composition of containers.
"""

from __future__ import annotations

import asyncio
import os
import select
import stat
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path

from tradingbot_agents.reality.evidence import Known, Logs, Missing
from tradingbot_agents.reality.logs import SLACK, Scan

MOST_BYTES = 2**32

STDIN = "-"

_CHUNK = 2**18


async def logs_of_file(
    file: Path | str,
    agents: Sequence[str],
    *,
    since: datetime,
    within: timedelta,
    counts_from: Mapping[str, datetime] | None = None,
    revision: str | None = None,
    nobody_before: datetime | None = None,
    most: int = MOST_BYTES,
) -> Known[Logs]:
    """What ``file`` says (``STDIN``: what comes down the pipe), read for no longer than ``within``. Of a file that
    has more than ``most`` bytes its end counts; of a pipe its beginning. ``counts_from`` and ``revision`` are as
    ``Scan`` has them. ``nobody_before``: when the eldest of the processes that run began; a log that begins with it
    lacks nothing. Raises nothing."""
    scan = Scan(agents, since=since, counts_from=counts_from, revision=revision)
    try:
        lacks = await asyncio.to_thread(_read, file, scan, within.total_seconds(), most)
    except (OSError, ValueError) as error:
        return Missing(f"{file} can not be read: {getattr(error, 'strerror', None) or error}")
    with_it = nobody_before is not None and scan.begins is not None and abs(scan.begins - nobody_before) <= SLACK
    return Logs(agents=scan.logs(begins=since if with_it else None, lacks=lacks))


def _read(file: Path | str, scan: Scan, seconds: float, most: int) -> str:
    """Returns what it lacks, in words."""
    deadline = time.monotonic() + seconds
    if file == STDIN:
        return _read_from(0, scan, deadline, seconds, most)
    # Without waiting for who writes to it, where it is a pipe with a name.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return _read_from(descriptor, scan, deadline, seconds, most)
    finally:
        os.close(descriptor)


def _read_from(descriptor: int, scan: Scan, deadline: float, seconds: float, most: int) -> str:
    status = os.fstat(descriptor)
    waits = not stat.S_ISREG(status.st_mode)
    skips = False
    if not waits and status.st_size - os.lseek(descriptor, 0, os.SEEK_CUR) > most:
        # One byte before: where that one ends a line, the next line is whole.
        os.lseek(descriptor, status.st_size - most - 1, os.SEEK_SET)
        skips = True
    left = most
    while True:
        if waits and not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            return f"it was not read to its end within {seconds:g} s"
        chunk = os.read(descriptor, _CHUNK)
        if not chunk:
            return ""
        if skips:
            _, ended, chunk = chunk.partition(b"\n")
            skips = not ended
        left -= len(chunk)
        if left < 0 and waits:
            scan.feed(chunk[:left])
            return f"only its first {most} bytes were read"
        scan.feed(chunk)
        if time.monotonic() > deadline:
            return f"it was not read to its end within {seconds:g} s"
