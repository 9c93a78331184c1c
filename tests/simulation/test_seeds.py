"""Some hundreds of seeds of the deterministic simulation, and those that found something.

``python scripts/simulate.py --seeds 10000`` runs many more, and ``--seed N --trace`` shows one step by step.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from support.simulation.faults import NEVER, STATES, Fault
from support.simulation.run import Result, simulate

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "simulate.py"

BLOCKS = [*range(5), *(pytest.param(block, marks=pytest.mark.minutes) for block in range(5, 20))]
EACH = 20
"""Seeds in a test: a failure names its seed, and says which of the blocks to run again."""

NAMED = {
    "execution that had nothing to write never learned that it was fenced off": 30,
    "risk that no intent reached never learned that it was fenced off": 2,
    "a wake of execution that met no ledger was its last one": 654,
}
"""Seeds that found a bug, by what it was. The code is mended, so they pass. What a seed does changes with the agents,
so each bug has a test of its own in ``unit`` too."""


def in_words(result: Result) -> str:
    return f"{'; '.join(result.violations)}\n  python scripts/simulate.py --seed {result.seed} --trace"


@pytest.mark.parametrize("block", BLOCKS)
def test_every_invariant_holds(block: int) -> None:
    tally: Counter[tuple[Fault, str]] = Counter()
    for seed in range(block * EACH, (block + 1) * EACH):
        result = simulate(seed)
        assert result.violations == [], in_words(result)
        assert result.candles >= 300
        assert result.orders >= 20
        assert result.faults >= 10
        tally.update(result.tally)
    assert {fault for fault, _ in tally} == set(Fault)
    impossible = [pair for pair in tally if pair[0] in NEVER and pair[1] in NEVER[pair[0]][1]]
    assert impossible == [], "a pair that was said to be impossible: mend the reason in faults.py"
    assert {state for _, state in tally} == set(STATES)


@pytest.mark.parametrize("seed", NAMED.values(), ids=NAMED)
def test_a_seed_that_found_something_finds_it_no_more(seed: int) -> None:
    result = simulate(seed)
    assert result.violations == [], in_words(result)


def test_a_seed_is_one_run() -> None:
    """Also with its steps kept, and in processes whose hashes differ."""
    first = simulate(7)
    assert first.violations == [], in_words(first)
    assert simulate(7, keep_lines=True).digest == first.digest
    assert simulate(8).digest != first.digest

    def told(hash_seed: str) -> str:
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
        command = [sys.executable, str(SCRIPT), "--seed", "7"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert first.digest in told("1")
    assert first.digest in told("2")
