"""Golden replays: what two examples come to on the candles that the project carries, to the last digit.

The reports are explained in ``golden/README.md``. They change only with a reason, which goes into the changelog;
then they are written anew with ``make golden``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise
from pathlib import Path

import pytest

from support.busy_bot import differences
from support.process import CANDLES, REPOSITORY, Json, Workshop, workshop
from support.replay import MARKET_DATA

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

GOLDEN = Path(__file__).parent / "golden"
WRITE = bool(os.environ.get("TRADINGBOT_WRITE_GOLDEN"))


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as shop:
        yield shop


def replay(shop: Workshop, example: str) -> tuple[Json, list[Json]]:
    """The report of an example, and the events on the way to it."""
    file = shop.path / f"{example}.json"
    spec = REPOSITORY / "examples" / f"{example}.yaml"
    finished = shop.start(
        "run", spec, "--candles", CANDLES, "--data-dir", example, "--report", file, "--output", "json", "--seed", "1"
    ).finish(limit=280)
    assert finished.code == 0, finished
    report: Json = json.loads(file.read_text())
    assert finished.report == report
    return report, finished.events


@pytest.mark.parametrize("example", ["quickstart", "origin"])
def test_a_golden_replay(shop: Workshop, example: str) -> None:
    report, events = replay(shop, example)
    check_sums(report)
    golden = GOLDEN / f"{example}.json"
    if WRITE:
        golden.write_text(json.dumps(report, indent=2) + "\n")
    wrong = list(differences(json.loads(golden.read_text()), report))
    assert not wrong, "\n".join(wrong)
    if example == "origin":
        check_lock(report, events)


def check_sums(report: Json) -> None:
    """How the figures of any of these hang together: see ``golden/README.md``."""
    assert report["finished"]
    assert (report["invariants"]["violated"], report["invariants"]["details"]) == (0, [])
    assert report["decisions"] == report["approved"] + sum(report["refusals"].values())
    entries = report["trades"] + sum(1 for position in report["positions"] if position["state"] == "open")
    on_signal = sum(1 for trade in report["closedTrades"] if trade["closedBy"] == "exit")
    assert report["approved"] == entries + on_signal
    assert report["fills"] == entries + report["trades"]
    start, end = Decimal(report["equity"]["start"]), Decimal(report["equity"]["end"])
    # Costs are kept to 12 places.
    assert abs(start + Decimal(report["profit"]) + Decimal(report["unrealised"]) - end) < Decimal("1e-9")


def check_lock(report: Json, events: list[Json]) -> None:
    """84.54 USDT and 80 % of it for one position: the first intent gets 67.63, and another finds 16.91."""
    approved = [event for event in events if event["event"] == "trade_approved" and event["side"] == "buy"]
    assert (approved[0]["reserved"], approved[0]["available_after"]) == ("67.63", "16.91")
    assert report["refusals"]["insufficient_available_balance"] > 0
    held = [(trade["openedAt"], trade["closedAt"]) for trade in report["closedTrades"]]
    for (_, closed), (opened, _) in pairwise(held):
        assert closed <= opened, "one position at a time is all that the lock leaves room for"


WHOLE = MARKET_DATA / "BTC_USDT-1h-2017-2024.csv.gz"

HOURLY = """\
apiVersion: tradingbot.dev/v1alpha1
kind: TradingBot
metadata: {name: hourly}
spec:
  mode: paper
  exchange: {name: simulated, replay: {source: candles}}
  account: {name: hourly, quoteCurrency: USDT, paperBalances: {USDT: "1000"}}
  symbols: [BTC/USDT]
  timeframe: 1h
  strategy: {fusion: consensus, consensus: {minimumAgreement: 4, threshold: "0.80"}}
  risk: {stopLoss: "0.10", takeProfit: "0.20", equityInterval: 1d}
"""


@pytest.mark.skipif(not WHOLE.exists(), reason=f"{WHOLE.name} is not part of the project: see TRADINGBOT_MARKET_DATA")
def test_a_whole_file_with_its_real_gaps(shop: Workshop) -> None:
    """Every day up to the end of 2018, which has eight of the gaps; with ``TRADINGBOT_WHOLE_FILES=1`` to its end."""
    (shop.path / "hourly.yaml").write_text(HOURLY)
    until = () if os.environ.get("TRADINGBOT_WHOLE_FILES") else ("--until", "2019-01-01")
    options = ("--candles", WHOLE, "--data-dir", "hourly", "--output", "json", *until)
    finished = shop.start("run", "hourly.yaml", *options).finish(limit=280)
    assert finished.code == 0, finished.err
    report = finished.report
    assert report["finished"] is not bool(until)
    assert report["invariants"]["violated"] == 0
    assert report["candles"] == finished.named("run_ended")[0]["candles"] > (10_000 if until else 58_000)
    assert report["trades"] > 10
    gaps = finished.named("candle_gap")
    in_all = {(gap["after"], gap["before"]): gap["missing"] for gap in gaps if gap["agent"] == "supervisor"}
    assert len(in_all) == 28
    met = {(gap["after"], gap["before"]): gap["missing"] for gap in gaps if gap["agent"] == "data-collection"}
    assert len(met) == (8 if until else 28)
    assert met.items() <= in_all.items()
