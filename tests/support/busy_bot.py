"""A bot that trades as often as it can on a day of real candles: what a test of interruptions needs.

Short periods, tight stops and targets, a trailing stop, every protection with limits that are reached, and more
wishes than money, so that a moment picked at random is likely to be in the middle of something.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from support.process import CANDLES, Finished, Json, Workshop
from support.specs import changed

SYMBOLS = ("BTC", "ETH", "SOL")
START = datetime(2024, 3, 4, tzinfo=UTC)
"""A wild week: each of the three moved by more than a tenth within a day."""
END = START + timedelta(days=1)
"""When the last bar of ``write_candles`` closes."""

BUSY: dict[str, Any] = {
    "apiVersion": "tradingbot.dev/v1alpha1",
    "kind": "TradingBot",
    "metadata": {"name": "busy"},
    "spec": {
        "mode": "paper",
        "exchange": {"name": "simulated", "replay": {"source": "candles"}},
        "account": {"name": "busy", "quoteCurrency": "USDT", "paperBalances": {"USDT": "300"}},
        "symbols": [f"{base}/USDT" for base in SYMBOLS],
        "timeframe": "5m",
        "strategy": {
            "fusion": "hybrid",
            "minConfidence": "0.30",
            "window": 30,
            "signalMemoryCandles": 2,
            "hybrid": {"threshold": "0.30"},
            "bayesian": {"priorStrength": 4, "threshold": "0.40"},
            "timeDecay": {"threshold": "0.30"},
            "consensus": {"threshold": "0.40"},
            "indicators": [
                {"name": "emaCross", "fast": 3, "slow": 8},
                {"name": "rsi", "period": 5, "oversold": 35, "overbought": 65},
                {"name": "bollinger", "period": 10, "stdDev": "1.5"},
                {"name": "vwap", "period": 10, "stdDev": "1.5"},
                {"name": "obv", "period": 8},
            ],
        },
        "risk": {
            "sizing": {"method": "fixedFractional", "fraction": "0.45"},
            "approval": {"order": "byConfidence", "window": "250ms"},
            "stopLoss": "0.006",
            "takeProfit": "0.012",
            "trailingStop": {"distance": "0.004", "activateAt": "0.004"},
            "equityInterval": "15m",
            "protections": [
                {"name": "maxDrawdown", "limit": "0.02", "lookback": "6h", "pause": "30m"},
                {"name": "dailyLoss", "limit": "0.20"},
                {"name": "cooldown", "pause": "10m"},
                {"name": "stopLossGuard", "count": 3, "lookback": "1h", "pause": "20m"},
                {"name": "maxOpenPositions", "count": 2},
                {"name": "maxSymbolShare", "share": "0.60"},
                {"name": "minRewardToRisk", "ratio": "1.2"},
            ],
        },
    },
}

VARIANTS: dict[str, dict[str, Any]] = {
    "by confidence": {},
    "first come": {"risk.approval": {"order": "firstComeFirstServed"}, "strategy.fusion": "bayesian"},
    "kelly": {
        "risk.sizing": {"method": "kelly", "fraction": "0.30", "kelly": {"minimumTrades": 5, "cap": "0.45"}},
        "strategy.fusion": "bayesian",
    },
    "stops watched": {"execution": {"stopsOnExchange": False}, "strategy.fusion": "timeDecay"},
}
"""Changes to the spec, by what they are about."""


def write_candles(folder: Path, *, days: float = 1.0, start: datetime = START) -> Path:
    """A slice of the carried candles, as plain CSV."""
    folder.mkdir()
    first = int(start.timestamp() * 1000)
    last = int((start + timedelta(days=days)).timestamp() * 1000)
    for base in SYMBOLS:
        with gzip.open(CANDLES / f"{base}_USDT-5m.csv.gz", "rt") as file:
            header, *rows = file.read().splitlines()
        chosen = [row for row in rows if first <= int(row.partition(",")[0]) < last]
        (folder / f"{base}_USDT-5m.csv").write_text("\n".join([header, *chosen]) + "\n")
    return folder


def write_spec(path: Path, changes: dict[str, Any] | None = None) -> Path:
    path.write_text(yaml.safe_dump(changed(BUSY, changes or {}), sort_keys=False))
    return path


def outcome(shop: Workshop, finished: Finished, data_dir: str) -> Json:
    """All that a run ended with: its report, and its orders, fills and positions as the reading commands tell them.

    Two runs that were interrupted differently have the same outcome. Only the moments within a bar, which are
    spent by latencies, are not compared: a second process does not wait again for what the first has done.
    """
    report = finished.report
    for trade in report["closedTrades"]:
        for moment in ("openedAt", "closedAt"):
            trade[moment] = _minute(trade[moment])
    report["closedTrades"].sort(key=lambda trade: (trade["closedAt"], trade["symbol"]))
    told: Json = {"report": report}
    for what in ("orders", "fills", "positions"):
        read = shop.run(what, "--data-dir", data_dir, "--output", "json")
        assert read.code == 0, read
        told[what] = json.loads(read.out)
    for order in told["orders"]:
        order["created_at"] = _minute(order["created_at"])
        del order["exchange_order_id"]
    for fill in told["fills"]:
        fill["at"] = _minute(fill["at"])
        del fill["exchange_trade_id"]
    for position in told["positions"]:
        position["opened_at"] = position["opened_at"] and _minute(position["opened_at"])
    told["orders"].sort(key=lambda order: (order["created_at"], order["client_order_id"]))
    told["fills"].sort(key=lambda fill: (fill["at"], fill["client_order_id"], fill["amount"]))
    return told


def _minute(moment: str) -> str:
    return moment[:16]


def differences(wanted: Any, found: Any, place: str = "") -> Iterator[str]:
    """Where two JSON documents differ, in words."""
    if isinstance(wanted, dict) and isinstance(found, dict):
        for key in sorted({*wanted, *found}):
            yield from differences(wanted.get(key), found.get(key), f"{place}.{key}")
    elif isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        for number, (one, other) in enumerate(zip(wanted, found, strict=True)):
            yield from differences(one, other, f"{place}[{number}]")
    elif wanted != found:
        yield f"{place}: {wanted} was wanted, {found} is there"
