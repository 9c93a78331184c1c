"""``kill -9`` of the real process at any moment: the same command goes on, and ends as if nothing had happened.

A dozen kills are made every day; ``TRADINGBOT_KILLS=200`` makes more, at moments that follow from the number of
the round, so that one which fails can be made again.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from support.busy_bot import END, VARIANTS, differences, outcome, write_candles, write_spec
from support.process import Json, Process, Workshop, workshop
from tradingbot_agents.exchange.state import StateStore

KILLS = int(os.environ.get("TRADINGBOT_KILLS", "12"))
FIRST_ROUND = int(os.environ.get("TRADINGBOT_KILLS_FIRST_ROUND", "0"))

BAR = timedelta(minutes=5)
KILLS_A_ROUND = 6
MOMENTS = ("trade_approved", "trade_rejected", "fill_booked", "position_protected", "position_unprotected")
RARE_MOMENTS = ("position_dust", "trade_closed", "protection_triggered", "exposure_measured", "run_started")

pytestmark = [pytest.mark.process, pytest.mark.timeout(60 + 15 * KILLS)]


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    with workshop() as shop:
        write_candles(shop.path / "candles")
        yield shop


def start(shop: Workshop, spec: str, data_dir: str, *options: str) -> Process:
    return shop.start("run", spec, "--data-dir", data_dir, "--output", "json", "--seed", "7", *options)


def interrupt(process: Process, moments: random.Random) -> str | None:
    """Let it run to a moment that is drawn, and kill it; what was drawn, or ``None`` when it had ended before."""
    if moments.random() < 0.3:
        delay = moments.uniform(0.0, 1.5)
        told, reached = f"{delay:.3f} s after its start", process.runs_for(delay)
    else:
        event = moments.choice(MOMENTS if moments.random() < 0.8 else RARE_MOMENTS)
        count, delay = moments.randint(1, 8), moments.choice((0.0, 0.0, 0.001, 0.003, 0.01, 0.03))
        told = f"{delay:.3f} s after {event} number {count}"
        reached = process.wait_for_event(event, count) and (not delay or process.runs_for(delay))
    if not reached:
        return None
    return told if process.kill().code == -9 else None


def test_a_killed_run_ends_as_an_undisturbed_one(shop: Workshop) -> None:
    names = list(VARIANTS)[: 2 if KILLS <= 12 else None]
    wanted: dict[str, Json] = {}
    kills = 0
    number = FIRST_ROUND
    while kills < KILLS:
        name = names[number % len(names)]
        moments = random.Random(number)
        spec = str(write_spec(shop.path / f"{name}.yaml", VARIANTS[name]))
        if name not in wanted:
            wanted[name] = outcome(shop, start(shop, spec, f"undisturbed {name}").finish(), f"undisturbed {name}")
            assert wanted[name]["report"]["trades"] >= 5
            assert wanted[name]["report"]["refusals"]["protection_active"]
        data_dir = f"killed {number}"
        history: list[str] = []
        process = start(shop, spec, data_dir)
        while len(history) < KILLS_A_ROUND and (moment := interrupt(process, moments)) is not None:
            history.append(moment)
            process = start(shop, spec, data_dir)
        finished = process.finish()
        assert finished.code == 0, f"round {number}, {name}, killed {'; '.join(history)}:\n{finished}"
        found = outcome(shop, finished, data_dir)
        wrong = list(differences(wanted[name], found))
        assert not wrong, f"round {number}, {name}, killed {'; '.join(history)}:\n" + "\n".join(wrong)
        kills += len(history)
        number += 1


def test_what_the_last_bar_sets_off_is_done_though_the_kill_comes_after_it_was_played(shop: Workshop) -> None:
    """The exchange's place is written before anybody sees the bar: all bars are played, and nothing is decided."""
    spec = str(write_spec(shop.path / "last bar.yaml", VARIANTS["first come"]))
    wanted = outcome(shop, start(shop, spec, "whole").finish(), "whole")
    before = start(shop, spec, "cut off", "--until", (END - BAR).isoformat()).finish()
    assert before.report["decisions"] < wanted["report"]["decisions"], "the last bar must have decisions"
    place_reached(shop.path / "cut off" / "exchange", END)
    found = outcome(shop, start(shop, spec, "cut off").finish(), "cut off")
    assert not list(differences(wanted, found))


def place_reached(exchange: Path, place: datetime) -> None:
    store = StateStore(exchange)
    store.open()
    store.write_place(place)
    store.close()
