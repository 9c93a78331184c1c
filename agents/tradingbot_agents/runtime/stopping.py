"""How a process is asked to stop: by a signal, and once is enough."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator


class Stop:
    """Asked for by a signal: the first finishes what is in flight, a second one ends at once."""

    def __init__(self) -> None:
        self.event = asyncio.Event()
        self.by: signal.Signals | None = None

    def ask(self, by: signal.Signals) -> None:
        if self.event.is_set():
            raise KeyboardInterrupt
        self.by = by
        self.event.set()


@contextlib.contextmanager
def asked_by_signals(stop: Stop) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    heard = [signal.SIGINT, signal.SIGTERM]
    # A closed terminal stops the run as well, unless it was started with nohup, which ignores that.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heard.append(signal.SIGHUP)
    for each in heard:
        loop.add_signal_handler(each, stop.ask, each)
    try:
        yield
    finally:
        for each in heard:
            loop.remove_signal_handler(each)
