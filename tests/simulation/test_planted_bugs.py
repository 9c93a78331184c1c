"""The simulation finds what it is for: each bug that is planted, within a stated number of seeds."""

from __future__ import annotations

import re

import pytest

from support.simulation.planted import PLANTED
from support.simulation.run import simulate


@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    planted = PLANTED[bug]
    planted.patch(monkeypatch)
    for seed in range(planted.within):
        if any(re.search(planted.says, violation) for violation in simulate(seed).violations):
            return
    pytest.fail(f"{bug}: not found in {planted.within} seeds")
