"""The replay of a whole candle file through all five agents: its rate, its memory, and how soon it decides.

    python benchmarks/replay.py [CANDLE_FILE]

Without a file it takes ``BTC_USDT-5m.csv.gz`` of ``TRADINGBOT_MARKET_DATA`` (default: ``../shared/market-data``),
and without that the candles that the project carries. It runs the real command as a process and prints each
figure with its limit and the ratio; nothing is asserted.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
COMMAND = str(Path(sys.executable).with_name("tradingbot"))

CANDLES_PER_SECOND = 3000
PEAK_MEGABYTES = 120
FIRST_DECISION_SECONDS = 1.0
FIRST_DECISION_IN_ALL_SECONDS = 3.0

SPEC = """\
apiVersion: tradingbot.dev/v1alpha1
kind: TradingBot
metadata: {name: benchmark}
spec:
  mode: paper
  exchange:
    name: simulated
    replay: {source: CANDLES, speed: max}
  account: {name: main, quoteCurrency: QUOTE, paperBalances: {QUOTE: "10000"}}
  symbols: [SYMBOL]
  timeframe: TIMEFRAME
  strategy:
    fusion: consensus
    # Rarely reached, so that most candles make no trade.
    minConfidence: "0.80"
    consensus: {minimumAgreement: 4, threshold: "0.80"}
"""


def main() -> None:
    candles = Path(sys.argv[1]) if len(sys.argv) > 1 else default_candles()
    with workspace() as place:
        spec = write_spec(candles, place)
        whole, peak = replay(spec, place / "whole")
        report = whole[-1]["report"]
        ended = next(event for event in whole if event["event"] == "run_ended")
        print(
            f"{candles.name}: {report['candles']:,} candles, {report['decisions']} decisions, {report['fills']} fills"
        )
        line("candles a second, ledger durable", ended["candles_per_second"], CANDLES_PER_SECOND, at_least=True)
        line("peak memory of the process, MB", peak, PEAK_MEGABYTES, at_least=False)
        first_decision(whole, spec, place / "again")


def first_decision(whole: list[dict[str, Any]], spec: Path, data_dir: Path) -> None:
    """Stop an hour before the first decision, start again, and see how long the decision takes."""
    decided = next((event for event in whole if event["event"] in ("trade_approved", "trade_rejected")), None)
    if decided is None:
        print("no decision in these candles: nothing to time")
        return
    before = datetime.fromisoformat(decided["at"]) - timedelta(hours=1)
    after = datetime.fromisoformat(decided["at"]) + timedelta(hours=1)
    replay(spec, data_dir, "--until", before.isoformat())
    began = time.time()
    events, _ = replay(spec, data_dir, "--until", after.isoformat())
    answered = written(next(event for event in events if event["event"] == "run_started"))
    first = written(next(event for event in events if event["event"] in ("trade_approved", "trade_rejected")))
    line("first decision after the ledger answers, s", first - answered, FIRST_DECISION_SECONDS, at_least=False)
    line("first decision in all, s", first - began, FIRST_DECISION_IN_ALL_SECONDS, at_least=False)


def replay(spec: Path, data_dir: Path, *options: str) -> tuple[list[dict[str, Any]], float]:
    """The run's events, and the peak of its resident memory in MB."""
    process = subprocess.Popen(
        [COMMAND, "run", str(spec), "--data-dir", str(data_dir), "--output", "json", *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    events = [json.loads(text) for text in process.stdout]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"the run ended with exit code {process.returncode}")
    return events, megabytes(usage)


def megabytes(usage: resource.struct_rusage) -> float:
    """Linux counts in kilobytes, macOS in bytes."""
    return usage.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def written(event: dict[str, Any]) -> float:
    return datetime.fromisoformat(event["timestamp"]).timestamp()


def line(what: str, value: float, limit: float, *, at_least: bool) -> None:
    bound = "at least" if at_least else "at most"
    print(f"  {what:<45} {value:>10,.2f}   {bound} {limit:,.0f}   ratio {value / limit:.2f}")


def default_candles() -> Path:
    data = Path(os.environ.get("TRADINGBOT_MARKET_DATA", ROOT.parent / "shared" / "market-data"))
    found = data / "BTC_USDT-5m.csv.gz"
    return found if found.exists() else ROOT / "examples" / "candles" / "BTC_USDT-5m.csv.gz"


def write_spec(candles: Path, place: Path) -> Path:
    symbol, _, rest = candles.name.partition("-")
    base, _, quote = symbol.partition("_")
    text = SPEC.replace("CANDLES", str(candles.resolve())).replace("SYMBOL", f"{base}/{quote}")
    text = text.replace("QUOTE", quote).replace("TIMEFRAME", rest.split(".")[0].split("-")[0])
    spec = place / "benchmark.yaml"
    spec.write_text(text)
    return spec


@contextmanager
def workspace() -> Iterator[Path]:
    """A folder that the embedded server's user may enter when this runs as root."""
    place = Path(tempfile.mkdtemp(prefix="tradingbot-benchmark-"))
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
