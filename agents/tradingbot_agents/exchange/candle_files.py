"""Candle files: what a replay reads. CSV or gzip CSV, streamed, never loaded.

A file is read twice, for two reasons. ``check`` goes over the whole of it before a run begins, so that a broken
line near the end is found while nothing has been written yet; it compares floats, because that is several
times quicker than building candles. ``CandleFile.rows`` then streams exact decimals while the replay runs.
"""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from tradingbot_agents.domain.candle import Candle, candle_problem
from tradingbot_agents.domain.values import TIMEFRAMES, from_millis

if TYPE_CHECKING:
    from _csv import Reader

COLUMNS = ("ts_ms", "open", "high", "low", "close", "volume")
"""In any order; further columns are ignored. Prices in quote, volume in base currency, times in milliseconds."""

_TIME_NAMES = ("ts_ms", "timestamp", "time")
_LONGEST_HEADER = 4096
_GAPS_KEPT = 100
_LARGEST = 1e18
"""Numbers at or above it are no market's, and would overflow the arithmetic of the books."""

_PLAUSIBLE_MILLIS = range(10**11, 10**14)
"""1973 to 5138: a smaller number is a time in seconds, a larger one in micro- or nanoseconds."""


class CandleFileInvalid(Exception):
    """A candle file can not be replayed: ``path``, ``line`` (1-based, ``None`` for the file as a whole), what is
    wrong, and what to do."""

    def __init__(self, path: Path, line: int | None, problem: str, remedy: str) -> None:
        where = f"{path}" if line is None else f"{path}, line {line}"
        super().__init__(f"{where}: {problem}; {remedy}")
        self.path = path
        self.line = line
        self.problem = problem
        self.remedy = remedy


class Gap(msgspec.Struct, frozen=True):
    """Bars that a file does not have: ``missing`` of them between the opens ``after`` and ``before``."""

    after: datetime
    before: datetime
    missing: int


class CandleFileReport(msgspec.Struct, frozen=True, kw_only=True):
    """What ``check`` found in a good file. ``gaps`` holds the first hundred; ``gap_count`` counts all."""

    symbol: str
    name: str
    bars: int
    first_open: datetime
    last_open: datetime
    gap_count: int
    missing_bars: int
    gaps: tuple[Gap, ...]


class _Layout(NamedTuple):
    """How many fields a line has, and where each of ``COLUMNS`` stands."""

    width: int
    places: tuple[int, ...]


_Raw = tuple[_Layout, int, list[str]]
"""A line that is not parsed yet: the file's layout, the line's number, its fields."""


class CandleFile:
    """The bars of one symbol and timeframe in one file, or those of a span of it."""

    def __init__(
        self,
        path: Path,
        symbol: str,
        timeframe: str,
        *,
        opens_from: datetime | None = None,
        opens_before: datetime | None = None,
    ) -> None:
        """Bars that open before ``opens_from``, or not before ``opens_before``, are as if they were not there; they
        are checked all the same."""
        if timeframe not in TIMEFRAMES:
            raise ValueError(f"timeframe {timeframe!r} is not one of {', '.join(TIMEFRAMES)}")
        self.path = path
        self.symbol = symbol
        self.timeframe = timeframe
        self._step = TIMEFRAMES[timeframe]
        self._step_ms = int(self._step.total_seconds() * 1000)
        self._opens_from = 0 if opens_from is None else _millis_up(opens_from)
        self._opens_before = _PLAUSIBLE_MILLIS.stop if opens_before is None else _millis_up(opens_before)
        self._is_cut = opens_from is not None or opens_before is not None

    def digest(self) -> str:
        """A hash of the file's bytes, in hex, with the span's milliseconds if there is one. Raises
        ``CandleFileInvalid`` when it can not be read."""
        hasher = blake2b(digest_size=16)
        try:
            with self.path.open("rb") as file:
                while block := file.read(1 << 18):
                    hasher.update(block)
        except OSError as error:
            raise self._unreadable(error) from error
        digest = hasher.hexdigest()
        return f"{digest}.{self._opens_from}.{self._opens_before}" if self._is_cut else digest

    def first_open(self) -> datetime:
        """When the first bar opens. Raises ``CandleFileInvalid``."""
        for candle in self.rows():
            return candle.open_time
        raise self._no_bars()

    def rows(self, opens_from: datetime | None = None) -> Iterator[Candle]:
        """The bars in order, from the first that opens at or after ``opens_from``. Raises ``CandleFileInvalid``
        where a line can not be understood or the order is broken."""
        if opens_from is None:
            return self._candles(self._raw())
        return self.resume(opens_from, keep=0)[2]

    def resume(self, opens_from: datetime, keep: int) -> tuple[int, list[Candle], Iterator[Candle]]:
        """How many bars open before ``opens_from``, the last ``keep`` of them, and the stream of the rest.
        What is only counted is not parsed. Raises ``CandleFileInvalid``."""
        below = _millis_up(opens_from)
        before = 0
        kept: deque[_Raw] = deque(maxlen=keep)
        stream = self._raw()
        rest: Iterator[_Raw] = iter(())
        for raw in stream:
            layout, line, row = raw
            if self._opens_at(layout, line, row) >= below:
                rest = chain((raw,), stream)
                break
            before += 1
            kept.append(raw)
        return before, list(self._candles(kept)), self._candles(rest)

    def _raw(self) -> Iterator[_Raw]:
        with self._lines() as (reader, layout):
            if not self._is_cut:
                for row in reader:
                    yield layout, reader.line_num, row
                return
            for row in reader:
                opened = self._opens_at(layout, reader.line_num, row)
                if opened >= self._opens_before:
                    return
                if opened >= self._opens_from:
                    yield layout, reader.line_num, row

    def _opens_at(self, layout: _Layout, line: int, row: Sequence[str]) -> int:
        try:
            return int(row[layout.places[0]])
        except (ValueError, IndexError) as error:
            raise self._explain(layout, line, row, -1) from error

    def _candles(self, raws: Iterable[_Raw]) -> Iterator[Candle]:
        symbol, timeframe, step_ms, step = self.symbol, self.timeframe, self._step_ms, self._step
        previous = -1
        opened = from_millis(0)
        for layout, line, row in raws:
            t, o, h, lo, c, v = layout.places
            try:
                ts = int(row[t])
                opened = opened + step if ts - previous == step_ms else from_millis(ts)
                candle = Candle(
                    symbol,
                    timeframe,
                    opened,
                    Decimal(row[o]),
                    Decimal(row[h]),
                    Decimal(row[lo]),
                    Decimal(row[c]),
                    Decimal(row[v]),
                )
            except (ValueError, ArithmeticError, IndexError) as error:
                raise self._explain(layout, line, row, previous) from error
            if ts <= previous:
                raise self._explain(layout, line, row, previous)
            previous = ts
            yield candle

    def check(self) -> CandleFileReport:
        """Read all of it and compare every number. Raises ``CandleFileInvalid`` at the first bad line. What is
        reported are the bars of the span."""
        opens_from, opens_before = self._opens_from, self._opens_before
        step = self._step_ms
        low_ms, high_ms = _PLAUSIBLE_MILLIS.start, _PLAUSIBLE_MILLIS.stop
        largest = _LARGEST
        bars = first = last = gap_count = missing = 0
        previous = -1
        gaps: list[Gap] = []
        with self._lines() as (reader, layout):
            width, (t, o, h, lo, c, v) = layout
            for row in reader:
                try:
                    ts = int(row[t])
                    low = float(row[lo])
                    high = float(row[h])
                    good = (
                        0.0 < low <= float(row[o]) <= high < largest
                        and low <= float(row[c]) <= high
                        and 0.0 <= float(row[v]) < largest
                        and ts > previous
                        and ts % step == 0
                        and low_ms <= ts < high_ms
                        and len(row) == width
                    )
                except (ValueError, IndexError):
                    good = False
                if not good:
                    raise self._explain(layout, reader.line_num, row, previous)
                previous = ts
                if not opens_from <= ts < opens_before:
                    continue
                if not bars:
                    first = ts
                elif ts - last != step:
                    gap_count += 1
                    missing += (ts - last) // step - 1
                    if gap_count <= _GAPS_KEPT:
                        gaps.append(Gap(from_millis(last), from_millis(ts), (ts - last) // step - 1))
                last = ts
                bars += 1
        if not bars:
            raise self._no_bars()
        return CandleFileReport(
            symbol=self.symbol,
            name=self.path.name,
            bars=bars,
            first_open=from_millis(first),
            last_open=from_millis(last),
            gap_count=gap_count,
            missing_bars=missing,
            gaps=tuple(gaps),
        )

    @contextmanager
    def _lines(self) -> Iterator[tuple[Reader, _Layout]]:
        """A reader that stands behind the header, and the layout. Whatever the file's bytes do to the
        reader becomes ``CandleFileInvalid``."""
        reader: Reader | None = None
        compressed = self.path.suffix == ".gz"
        try:
            with self.path.open("rb") as raw:
                binary: io.BufferedIOBase = gzip.GzipFile(fileobj=raw) if compressed else raw
                text = io.TextIOWrapper(io.BufferedReader(binary, 1 << 17), encoding="utf-8-sig", newline="")
                with text:
                    header = text.readline(_LONGEST_HEADER)
                    layout = self._layout(header)
                    reader = csv.reader(_after(header, text), strict=True)
                    next(reader)
                    yield reader, layout
        except OSError as error:  # gzip.BadGzipFile is one
            if isinstance(error, gzip.BadGzipFile):
                raise self._invalid(
                    _line_of(reader),
                    f"it is not a gzip file or is damaged ({error})",
                    "download it again, or name it .csv if it is not compressed",
                ) from error
            raise self._unreadable(error) from error
        except (EOFError, zlib.error) as error:
            raise self._invalid(
                _line_of(reader) or 1,
                f"the gzip data is cut off or damaged soon after this line ({error})",
                "copy or download the file again",
            ) from error
        except UnicodeDecodeError as error:
            hint = "; it looks like gzip: name it .csv.gz" if error.object[:2] == b"\x1f\x8b" else ""
            raise self._invalid(
                _line_of(reader) or 1,
                f"the text soon after this line is not UTF-8 ({error.reason})",
                "save the file as UTF-8 CSV" + hint,
            ) from error
        except csv.Error as error:
            raise self._invalid(
                _line_of(reader), f"this is not CSV ({error})", "correct or remove the line"
            ) from error

    def _layout(self, header: str) -> _Layout:
        if not header.strip():
            raise self._invalid(1, "the file is empty", f"its first line must name the columns {','.join(COLUMNS)}")
        if len(header) >= _LONGEST_HEADER and not header.endswith("\n"):
            raise self._invalid(
                1, "the first line has no end", f"its first line must name the columns {','.join(COLUMNS)}"
            )
        try:
            names = [name.strip().lower() for name in next(csv.reader([header], strict=True))]
        except csv.Error as error:
            raise self._invalid(
                1, f"the header is not CSV ({error})", f"it must name the columns {','.join(COLUMNS)}"
            ) from error
        time_name = next((name for name in _TIME_NAMES if name in names), None)
        missing = [name for name in COLUMNS[1:] if name not in names]
        if time_name is None:
            missing.insert(0, COLUMNS[0])
        if missing:
            raise self._invalid(
                1,
                f"column {', '.join(missing)} is missing from the header {header.strip()[:200]!r}",
                f"the first line must name the columns {','.join(COLUMNS)}",
            )
        twice = [name for name in (time_name, *COLUMNS[1:]) if names.count(name or "") > 1]
        if twice:
            raise self._invalid(1, f"column {', '.join(map(str, twice))} appears twice", "keep one of them")
        return _Layout(len(names), tuple(names.index(name or "") for name in (time_name, *COLUMNS[1:])))

    def _explain(self, layout: _Layout, line: int, row: Sequence[str], previous: int) -> CandleFileInvalid:
        """The error for a line that ``rows`` or ``check`` did not like."""
        fix = "correct or remove the line"
        if not row:
            return self._invalid(line, "the line is empty", "remove it")
        if len(row) != layout.width:
            return self._invalid(line, f"it has {len(row)} fields, but the header names {layout.width}", fix)
        values = {name: row[place] for name, place in zip(COLUMNS, layout.places, strict=True)}
        try:
            ts = int(values["ts_ms"])
        except ValueError:
            return self._invalid(line, f"ts_ms is {values['ts_ms']!r}, not a whole number of milliseconds", fix)
        if ts not in _PLAUSIBLE_MILLIS:
            unit = "seconds" if 0 < ts < _PLAUSIBLE_MILLIS.start else "micro- or nanoseconds"
            seen = f"ts_ms is {ts}, which is no time in milliseconds"
            if ts > 0:
                seen += f" (it looks like {unit})"
            return self._invalid(line, seen, "give the bar's open time in milliseconds since 1970, UTC")
        if ts % self._step_ms:
            return self._invalid(
                line,
                f"ts_ms is {ts} ({from_millis(ts).isoformat()}), which does not lie on the {self.timeframe} grid",
                f"a bar must open at a multiple of {self.timeframe}: is the file of another timeframe?",
            )
        if ts == previous:
            return self._invalid(
                line, f"it is a second bar of {from_millis(ts).isoformat()}", "remove one of the two"
            )
        if ts < previous:
            return self._invalid(
                line,
                f"its bar of {from_millis(ts).isoformat()} is older than the one before it "
                f"({from_millis(previous).isoformat()})",
                "sort the file by ts_ms",
            )
        numbers: dict[str, Decimal] = {}
        for name in COLUMNS[1:]:
            try:
                numbers[name] = Decimal(values[name])
            except InvalidOperation:
                return self._invalid(line, f"{name} is {values[name]!r}, not a number", fix)
            if numbers[name].is_finite() and numbers[name] >= Decimal(_LARGEST):
                return self._invalid(line, f"{name} is {values[name]}, which is too large to be true", fix)
        candle = Candle(self.symbol, self.timeframe, from_millis(ts), **numbers)
        return self._invalid(line, candle_problem(candle) or "its numbers can not be used", fix)

    def _no_bars(self) -> CandleFileInvalid:
        if self._is_cut:
            return self._invalid(
                None,
                "none of its bars opens within the time that is to be replayed",
                "change startTime and endTime of the replay, or give a file that covers them",
            )
        return self._invalid(None, "it has a header and no bars", "give a file with candles")

    def _unreadable(self, error: OSError) -> CandleFileInvalid:
        return self._invalid(None, f"it can not be read ({error.strerror or error})", "check the path and its rights")

    def _invalid(self, line: int | None, problem: str, remedy: str) -> CandleFileInvalid:
        return CandleFileInvalid(self.path, line, problem, remedy)


def _after(header: str, text: io.TextIOWrapper) -> Iterator[str]:
    yield header
    yield from text


def _line_of(reader: Reader | None) -> int | None:
    return None if reader is None else reader.line_num


def _millis_up(at: datetime) -> int:
    """Milliseconds since the epoch, rounded up: a bar that opens at or after ``at`` has at least this."""
    return -((from_millis(0) - at) // timedelta(milliseconds=1))
