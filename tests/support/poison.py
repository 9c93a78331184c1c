"""In the pod of an agent that may write to InfluxDB: a stored bar is falsified, and put right again.

python -m support.poison spoil ORGANIZATION BUCKET SYMBOL TIMEFRAME     prints the bar as it was
python -m support.poison write ORGANIZATION BUCKET LINE                 a bar as it was printed
"""

from __future__ import annotations

import csv
import os
import sys
import urllib.parse
import urllib.request
from datetime import datetime
from pathlib import Path

FIELDS = ("open", "high", "low", "close", "volume")
FACTOR = 1.02
BACK = 4
"""So many bars before the newest: nobody writes it any more."""


def ask(path: str, body: str, kind: str, **query: str) -> str:
    url, token = (
        Path(os.environ[f"TRADINGBOT_TIME_SERIES_{each}_FILE"]).read_text().strip() for each in ("URL", "TOKEN")
    )
    request = urllib.request.Request(
        f"{url}{path}?{urllib.parse.urlencode(query)}",
        body.encode(),
        {"Authorization": f"Token {token}", "Content-Type": kind, "Accept": "application/csv"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        told: str = answer.read().decode()
        return told


def line(symbol: str, timeframe: str, opened: datetime, values: dict[str, float]) -> str:
    fields = ",".join(f"{name}={value!r}" for name, value in values.items())
    return f"candles,symbol={symbol},timeframe={timeframe} {fields} {int(opened.timestamp())}"


def stored(organization: str, bucket: str, symbol: str, timeframe: str) -> tuple[datetime, dict[str, float]]:
    flux = f"""from(bucket: "{bucket}") |> range(start: -1h)
      |> filter(fn: (r) => r._measurement == "candles" and r.symbol == "{symbol}" and r.timeframe == "{timeframe}")
      |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
      |> group() |> sort(columns: ["_time"], desc: true) |> limit(n: {BACK})"""
    rows = list(csv.DictReader(ask("/api/v2/query", flux, "application/vnd.flux", org=organization).splitlines()))
    row = rows[-1]
    return datetime.fromisoformat(row["_time"]), {name: float(row[name]) for name in FIELDS}


def write(organization: str, bucket: str, text: str) -> None:
    ask("/api/v2/write", text, "text/plain", org=organization, bucket=bucket, precision="s")


if __name__ == "__main__":
    what, organization, bucket, *more = sys.argv[1:]
    if what == "write":
        write(organization, bucket, *more)
    else:
        symbol, timeframe = more
        opened, values = stored(organization, bucket, symbol, timeframe)
        spoilt = {name: value * (1 if name == "volume" else FACTOR) for name, value in values.items()}
        write(organization, bucket, line(symbol, timeframe, opened, spoilt))
        print(line(symbol, timeframe, opened, values))
