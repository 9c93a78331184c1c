"""How fast a log is judged, and in how much memory.

    python benchmarks/reality_logs.py [--size MB] [--rounds N]

A log as an agent writes it at level debug (candles, signals, approvals, some events, an error and a traceback) is
written to a temporary file, and then read from there in interleaved rounds: by the reality check's ``Scan``, and by a
bare loop that decodes every line with ``msgspec.json.decode`` and does nothing with it. Each reads in a process of
its own, whose memory is told. Rates are by processor time: neither waits for anything, and so what else the machine
does counts for little.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from tradingbot_agents.reality.logs import Scan

GOAL_RATIO = 1.0
GOAL_MEMORY = 150
"""MB, at the most, while a gigabyte is read."""

CHUNK = 2**16
"""As much as a connection gives at once."""

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT", "BNB/USDT", "XRP/USDT")


def line(at: datetime, event: str, level: str, **fields: object) -> bytes:
    """As telemetry/sink.py has it."""
    written = {"bot": "benchmark", "at": at.isoformat(), "agent": "risk", **fields}
    written |= {"event": event, "level": level, "timestamp": at.isoformat().replace("+00:00", "Z")}
    return json.dumps(written).encode() + b"\n"


def round_of(number: int) -> Iterator[bytes]:
    """A hundred lines and a few, ten milliseconds apart."""
    at = BEGIN + timedelta(seconds=number)
    step = timedelta(milliseconds=10)
    if number == 0:
        yield line(at, "agent_started", "info", mode="live", symbols=list(SYMBOLS), revision="0123456789ab")
    for index in range(20):
        symbol = SYMBOLS[index % len(SYMBOLS)]
        cause = f"candle.{symbol}.1m.{at.isoformat()}"
        prices = {"open": "121556.65", "high": "121602.10", "low": "121490.01", "close": "121581.47"}
        yield line(at, "candle_handled", "debug", symbol=symbol, correlation_id=cause, volume="12.0412", **prices)
        yield line(at, "price_asked", "debug", symbol=symbol, source="bus", price="121581.47", age_seconds=0.8123)
        yield line(
            at, "signal_weighed", "debug", symbol=symbol, indicator="emaCross", confidence="0.8123", weight="1"
        )
        yield line(at, "loop_turned", "debug", queue="risk.intents", seconds=0.0012, waiting=0)
        if index % 5 == 0:
            yield line(
                at,
                "trade_approved",
                "info",
                correlation_id=cause,
                symbol=symbol,
                side="BUY",
                confidence="0.8123",
                client_order_id=f"tb{number:010}{index:04}",
                amount="0.00055",
                limit_price="121556.65",
                reserved="67.63",
                available_after="16.91",
            )
        at += 5 * step
    if number % 5 == 0:
        yield line(at, "price_fallback_used", "warning", symbol=SYMBOLS[number % 3], source="ticker", why="no price")
    if number % 500 == 3:
        yield line(at, "library_warning", "error", library="aiormq", why="connection lost")
    if number % 5000 == 3:
        yield b'Traceback (most recent call last):\n  File "a.py", line 1, in a\nValueError: planted\n'


def write(file: Path, size: int) -> int:
    """Returns how many lines."""
    lines = 0
    with file.open("wb") as output:
        number = 0
        while output.tell() < size:
            for each in round_of(number):
                output.write(each)
                lines += each.count(b"\n")
            number += 1
    return lines


def scan(file: Path) -> str:
    heard = Scan(["risk"], since=BEGIN)
    with file.open("rb", buffering=0) as log:
        while chunk := log.read(CHUNK):
            heard.feed(chunk)
    told = heard.logs()["risk"]
    assert told.complete, told.lacks
    events = sum(each.count for each in told.heard)
    return f"{told.lines} lines, {events} events in {len(told.heard)} groups, {told.errors} errors"


def bare(file: Path) -> str:
    lines = broken = 0
    with file.open("rb") as log:
        for each in log:
            lines += 1
            try:
                msgspec.json.decode(each)
            except msgspec.DecodeError:
                broken += 1
    return f"{lines} lines, {broken} of them no JSON"


WAYS: dict[str, Callable[[Path], str]] = {"scan": scan, "bare": bare}


def measure(way: str, file: Path) -> tuple[float, float, str]:
    """Seconds, the most memory in MB, and what it has found; in a process of its own."""
    command = [sys.executable, __file__, "--read", way, str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, memory, found = done.stdout.strip().split(" ", 2)
    return float(seconds), float(memory), found


def read(way: str, file: Path) -> None:
    started = time.process_time()
    found = WAYS[way](file)
    seconds = time.process_time() - started
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(seconds, memory / (2**20 if sys.platform == "darwin" else 2**10), found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=1000, help="MB of log (default 1000)")
    parser.add_argument("--rounds", type=int, default=3, help="measured rounds (default 3)")
    parser.add_argument("--read", nargs=2, metavar=("WAY", "FILE"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read is not None:
        read(given.read[0], Path(given.read[1]))
        return
    with tempfile.TemporaryDirectory(prefix="tradingbot-benchmark-") as folder:
        file = Path(folder) / "log"
        lines = write(file, given.size * 10**6)
        size = file.stat().st_size / 1e6
        print(f"{size:,.0f} MB, {lines:,} lines of {size * 1e6 / lines:.0f} bytes")
        rates: dict[str, list[float]] = {way: [] for way in WAYS}
        memory = dict.fromkeys(WAYS, 0.0)
        for number in range(given.rounds):
            for way in WAYS:
                seconds, most, found = measure(way, file)
                rates[way].append(size / seconds)
                memory[way] = max(memory[way], most)
                if number == 0:
                    print(f"{way}: {found}")
        for way, each in rates.items():
            print(f"{way:<6}{statistics.median(each):>8,.0f} MB/s   at most {memory[way]:,.0f} MB of memory")
        ratios = [ours / theirs for ours, theirs in zip(rates["scan"], rates["bare"], strict=True)]
        print(f"scan / bare {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}), goal {GOAL_RATIO}")
        print(f"memory of scan {memory['scan']:.0f} MB, goal {GOAL_MEMORY} MB")


if __name__ == "__main__":
    main()
