"""Candles and tickers on disk while the store is away, oldest first.

One file of JSON lines, appended to and read from the front. It survives the end of the process without ``fsync``:
after a power cut the last lines may be missing, and a back-fill brings them. A line that a kill cut off is
neither and is passed over. While the disk is full they are in memory, and on disk again with the first write that
succeeds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.ticker import Ticker

_FILE = "candles.jsonl"

Kept = Candle | Ticker

_candle = msgspec.json.Decoder(Candle)
_ticker = msgspec.json.Decoder(Ticker)


class Spool:
    def __init__(self, folder: Path, limit: int) -> None:
        """``limit`` is the most of both that it keeps. Raises ``OSError`` when the folder can not be used."""
        if limit < 1:
            raise ValueError(f"limit of the spool is {limit}, but it must keep at least 1 candle")
        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / _FILE
        self._limit = limit
        self._waiting = self._read()
        self.problem: str | None = None
        """Why the file is not what waits here: a write failed, maybe in the middle of a line."""
        if self._path.exists():
            # What a kill has cut off must not run into the next line.
            self._try(self._rewrite)

    def __len__(self) -> int:
        return len(self._waiting)

    def append(self, items: Sequence[Kept]) -> int:
        """Keep them behind the others; returns how many of the oldest were dropped for want of room. When they can
        not be written, they are in memory and ``problem`` says why."""
        self._waiting += items
        dropped = max(len(self._waiting) - self._limit, 0)
        del self._waiting[:dropped]
        whole = dropped > 0 or self.problem is not None
        self._try(self._rewrite if whole else lambda: self._add(items))
        return dropped

    def first(self, count: int) -> list[Kept]:
        """The oldest."""
        return self._waiting[:count]

    def delivered(self, count: int) -> None:
        """The oldest are in the store now. When that can not be written, the next start has them again."""
        del self._waiting[:count]
        self._try(self._rewrite)

    def _read(self) -> list[Kept]:
        try:
            content = self._path.read_bytes()
        except FileNotFoundError:
            return []
        kept: list[Kept] = []
        for line in content.splitlines():
            try:
                kept.append(_candle.decode(line) if b'"timeframe"' in line else _ticker.decode(line))
            except msgspec.DecodeError:
                continue
        return kept[-self._limit :]

    def _rewrite(self) -> None:
        """Whole or not at all, so that a kill in between loses nothing."""
        fresh = self._path.with_suffix(".new")
        fresh.write_bytes(_lines(self._waiting))
        os.replace(fresh, self._path)

    def _add(self, items: Sequence[Kept]) -> None:
        with self._path.open("ab") as file:
            file.write(_lines(items))

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except OSError as error:
            self.problem = error.strerror or str(error)
        else:
            self.problem = None


def _lines(items: Sequence[Kept]) -> bytes:
    return b"".join(msgspec.json.encode(item) + b"\n" for item in items)
