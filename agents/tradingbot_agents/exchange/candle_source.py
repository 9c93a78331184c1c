"""Which candle files a replay reads, and their bars merged by time.

A source is a directory of ``BASE_QUOTE-TIMEFRAME*.csv[.gz]`` or one file. Two files that could both be meant are
an error: a replay that picked one of them by chance would be a different run tomorrow.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import TIMEFRAMES, split_symbol
from tradingbot_agents.exchange.candle_files import CandleFile, CandleFileReport

_NAME = re.compile(r"(?P<base>[^_-]+)_(?P<quote>[^_-]+)-(?P<timeframe>\d+[a-zA-Z])(?:-.*)?\.csv(?:\.gz)?")


class CandleSourceError(Exception):
    """The source does not say clearly which candles to replay."""


class Tick(msgspec.Struct, frozen=True, gc=False):
    """The bars that close at the same moment, in the order of the source's symbols."""

    close_time: datetime
    candles: tuple[Candle, ...]


class CandleSource:
    """One file for each symbol, all of the same timeframe."""

    def __init__(self, files: Sequence[CandleFile]) -> None:
        if not files:
            raise CandleSourceError("there is no symbol to replay: name at least one")
        timeframes = {file.timeframe for file in files}
        if len(timeframes) > 1:
            raise CandleSourceError(f"the files are of several timeframes: {', '.join(sorted(timeframes))}; use one")
        self.files = tuple(files)
        self.symbols = tuple(file.symbol for file in files)
        self.timeframe = files[0].timeframe
        self._fingerprint: str | None = None
        self._reports: tuple[CandleFileReport, ...] | None = None

    @property
    def fingerprint(self) -> str:
        """A hash over symbols, timeframe and every byte of the files: two sources that have the same one replay
        the same run. Raises ``CandleFileInvalid``."""
        if self._fingerprint is None:
            hasher = blake2b(digest_size=16)
            for file in self.files:
                hasher.update(f"{file.symbol}\x1f{file.timeframe}\x1f{file.digest()}\x1e".encode())
            self._fingerprint = hasher.hexdigest()
        return self._fingerprint

    def check(self) -> tuple[CandleFileReport, ...]:
        """Read and compare every line of every file, once. Raises ``CandleFileInvalid``."""
        if self._reports is None:
            self._reports = tuple(file.check() for file in self.files)
        return self._reports

    def trust(self, reports: Sequence[CandleFileReport]) -> None:
        """Take over what an earlier ``check`` of files with the same fingerprint found, instead of a new one."""
        self._reports = tuple(reports)

    @property
    def start_time(self) -> datetime:
        """When the first bar opens. Raises ``CandleFileInvalid``."""
        if self._reports is not None:
            return min(report.first_open for report in self._reports)
        return min(file.first_open() for file in self.files)


def merged(streams: Sequence[Iterator[Candle]], timeframe: str) -> Iterator[Tick]:
    """The bars of several streams by the moment at which they close."""
    step = TIMEFRAMES[timeframe]
    heads = [next(stream, None) for stream in streams]
    places = range(len(streams))
    while opens := [head.open_time for head in heads if head is not None]:
        opened = min(opens)
        bars = []
        for place in places:
            head = heads[place]
            if head is not None and head.open_time == opened:
                bars.append(head)
                heads[place] = next(streams[place], None)
        yield Tick(opened + step, tuple(bars))


def find_candles(
    source: Path,
    symbols: Sequence[str],
    timeframe: str,
    *,
    opens_from: datetime | None = None,
    opens_before: datetime | None = None,
) -> CandleSource:
    """The files of ``symbols`` in a directory, or the one file, cut to the bars that open in a span. Raises
    ``CandleSourceError`` when one is missing, or when several could be meant."""

    def opened(path: Path, symbol: str) -> CandleFile:
        return CandleFile(path, symbol, timeframe, opens_from=opens_from, opens_before=opens_before)

    if not source.exists():
        raise CandleSourceError(f"{source}: there is no such file or directory; name a place with candle files")
    if source.is_file():
        return CandleSource([opened(source, _single(source, symbols, timeframe))])
    names = sorted(path for path in source.iterdir() if path.is_file() and path.name.endswith((".csv", ".csv.gz")))
    files, problems = [], []
    for symbol in symbols:
        wanted = [path for path in names if _means(path, symbol, timeframe)]
        if len(wanted) == 1:
            files.append(opened(wanted[0], symbol))
        elif wanted:
            problems.append(
                f"{len(wanted)} files could be {symbol} {timeframe}: {', '.join(path.name for path in wanted)} "
                f"(for one symbol, name the file itself instead of the directory; otherwise move the others away)"
            )
        else:
            base, quote = split_symbol(symbol)
            seen = ", ".join(path.name for path in names[:20]) or "no candle file at all"
            problems.append(
                f"no file is {symbol} {timeframe}: it would be called {base}_{quote}-{timeframe}.csv.gz, "
                f"but the directory holds {seen}"
            )
    if problems:
        raise CandleSourceError(f"{source}: " + "; ".join(problems))
    return CandleSource(files)


def _single(path: Path, symbols: Sequence[str], timeframe: str) -> str:
    """The one symbol of a file that was named."""
    if len(symbols) != 1:
        raise CandleSourceError(
            f"{path} is one file, but the candles of {len(symbols)} symbols are wanted ({', '.join(symbols)}); "
            f"name a directory with a file for each"
        )
    match = _NAME.fullmatch(path.name)
    if match and not _means(path, symbols[0], timeframe):
        raise CandleSourceError(
            f"{path} is by its name {match['base']}/{match['quote']} {match['timeframe']}, "
            f"but {symbols[0]} {timeframe} is wanted; name another file, or change symbols or timeframe"
        )
    return symbols[0]


def _means(path: Path, symbol: str, timeframe: str) -> bool:
    match = _NAME.fullmatch(path.name)
    return match is not None and (f"{match['base']}/{match['quote']}", match["timeframe"]) == (symbol, timeframe)
