"""A person changes the state of a running bot, by its file and by command, and reads its books meanwhile."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.busy_bot import write_candles, write_spec
from support.process import Finished, Json, Process, Workshop, workshop

pytestmark = pytest.mark.process

DATA = ("--data-dir", "data")
SPEED = "6000"
"""A day of candles in 14 s: enough to change the state six times on the way."""


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as shop:
        write_candles(shop.path / "candles")
        yield shop


@pytest.fixture(scope="module")
def spec(shop: Workshop) -> Path:
    return shop.path / "bot.yaml"


def say(spec: Path, state: str) -> None:
    """Replaced in one step, as an editor or a mounted ConfigMap does it."""
    fresh = spec.with_suffix(".new")
    write_spec(fresh, {"state": state, "runtime": {"specInterval": "50ms"}})
    fresh.replace(spec)


class Books:
    """What the reading commands tell of a data directory."""

    def __init__(self, shop: Workshop, data_dir: str) -> None:
        self._shop = shop
        self._data_dir = data_dir

    def __call__(self, what: str, output: str = "json") -> Any:
        finished = self._shop.run(what, "--data-dir", self._data_dir, "--output", output)
        assert finished.code == 0, finished
        return json.loads(finished.out) if output == "json" else finished.out

    def held(self) -> list[str]:
        return [each["symbol"] for each in self("positions") if each["state"] in ("open", "closing")]


def reached(process: Process, state: str, limit: float = 20.0) -> None:
    """The newest state that was told is this one."""

    def told(lines: list[str]) -> bool:
        changes = [json.loads(line) for line in lines if '"event": "state_changed"' in line]
        return bool(changes) and changes[-1]["state"] == state

    assert process.wait_for(told, limit)


def told_of(finished: Finished) -> dict[str, list[Json]]:
    """The events by the state in which they were told; a state that came twice is one."""
    state = "Running"
    told: dict[str, list[Json]] = {}
    for event in finished.events:
        if event["event"] == "state_changed":
            state = event["state"]
        told.setdefault(state, []).append(event)
    return told


def count(events: list[Json], name: str, **fields: str) -> int:
    return sum(
        1
        for event in events
        if event["event"] == name and all(event[field] == value for field, value in fields.items())
    )


def test_the_state_is_obeyed_while_it_runs(shop: Workshop, spec: Path) -> None:
    books = Books(shop, "data")
    say(spec, "Running")
    process = shop.start("run", spec, *DATA, "--output", "json", "--speed", SPEED)
    assert process.wait_for_event("fill_booked")

    say(spec, "Paused")
    reached(process, "Paused")
    assert process.wait_for_event("trade_closed", 1), "an exit or a stop works while it is paused"

    say(spec, "Running")
    reached(process, "Running")
    approved = len(books("orders"))
    assert process.wait_for_event("trade_approved", 4)

    placed = shop.run("hold", "Flatten", "--reason", "going for a walk", *DATA)
    assert placed.code == 0, placed
    assert "tradingbot release --data-dir data" in placed.out
    reached(process, "Flatten")
    assert process.wait_for(lambda _: not books.held(), 20)
    assert books("status")["hold"]["reason"] == "going for a walk"
    assert len(books("orders")) >= approved

    say(spec, "Stopped")
    reached(process, "Stopped")
    released = shop.run("release", *DATA)
    assert (released.code, released.out) == (0, "released: what spec.state says counts again\n")
    assert shop.run("release", *DATA).out == "there was no hold\n"
    assert process.runs_for(0.5)
    say(spec, "ReduceOnly")
    reached(process, "ReduceOnly")
    assert process.runs_for(0.5)
    say(spec, "Running")
    reached(process, "Running")

    finished = process.finish()
    assert finished.code == 0, finished
    told = told_of(finished)
    assert set(told) == {"Running", "Paused", "Flatten", "Stopped", "ReduceOnly"}
    assert count(told["Running"], "trade_approved", side="buy") >= 2
    for state in ("Paused", "Flatten", "Stopped", "ReduceOnly"):
        assert count(told[state], "trade_approved", side="buy") == 0
    for leg in ("entry", "exit", "target", "flatten"):
        assert count(told["Stopped"], "fill_booked", leg=leg) == 0
    assert finished.report["refusals"]["not_tradable_state"] >= 1
    assert finished.report["invariants"]["violated"] == 0


def test_a_file_that_is_broken_or_changed_otherwise_changes_nothing(shop: Workshop) -> None:
    spec = shop.path / "edited.yaml"
    say(spec, "Running")
    process = shop.start("run", spec, "--data-dir", "edited", "--output", "json", "--speed", SPEED)
    assert process.wait_for_event("run_started")
    good = spec.read_text()
    spec.write_text(good.replace("Running", "Runing"))
    assert process.wait_for_event("spec_file_refused")
    spec.write_text(good.replace("stopLoss: '0.006'", "stopLoss: '0.007'"))
    assert process.wait_for_event("spec_change_pending")
    killed = process.kill()
    assert count(killed.events, "state_changed") == 0
    (refused,) = killed.named("spec_file_refused")
    assert "did you mean Running?" in refused["why"]


COLUMNS = {
    "positions": {"symbol", "state", "amount", "average_cost", "stop"},
    "orders": {"created_at", "client_order_id", "symbol", "side", "leg", "state", "filled"},
    "fills": {"at", "symbol", "side", "amount", "price", "cost", "fee", "fee_asset", "exchange_trade_id"},
}


def read_everything(books: Books) -> dict[str, int]:
    """How many rows each command tells, in every format that it has."""
    status = books("status")
    assert (status["bot"], status["invariants"]["violated"]) == ("busy", [])
    assert books("status", "text").startswith("busy on paper/simulated/busy")
    numbers = {"trades": status["trades"]}
    for what, columns in COLUMNS.items():
        rows = books(what)
        assert all(columns <= set(row) for row in rows)
        heading, *lines = books(what, "text").splitlines()
        assert heading.startswith(next(iter(rows[0])).upper().replace("_", " "))
        assert len(lines) >= len(rows)
        numbers[what] = len(rows)
    fills = list(csv.DictReader(io.StringIO(books("fills", "csv"))))
    assert COLUMNS["fills"] <= set(fills[0])
    assert len(fills) >= numbers["fills"]
    return numbers


def test_the_books_are_read_while_it_runs_and_after(shop: Workshop) -> None:
    spec, books = shop.path / "read.yaml", Books(shop, "read")
    say(spec, "Running")
    process = shop.start("run", spec, "--data-dir", "read", "--output", "json", "--speed", "3000")
    assert process.wait_for_event("trade_closed", 2)
    meanwhile = read_everything(books)
    assert process.kill().code == -9, "it was read while it ran"
    assert books("status")["trades"] >= meanwhile["trades"] >= 2
    finished = shop.run("run", spec, "--data-dir", "read", "--output", "json")
    assert finished.code == 0, finished
    after = read_everything(books)
    assert (after["fills"], after["trades"]) == (finished.report["fills"], finished.report["trades"])
