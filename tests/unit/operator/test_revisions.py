"""Which revision runs, and the order in which pods go to a new one."""

from __future__ import annotations

from typing import Any

import pytest

from tradingbot_operator.names import AGENTS, Component
from tradingbot_operator.revisions import ROLL_ORDER, Pod, choose, rolled, started

E, R = Component.EXECUTION, Component.RISK


def chosen(**changes: Any) -> tuple[str, str | None]:
    facts: dict[str, Any] = {
        "asked": "new",
        "running": "old",
        "strategy": "Manual",
        "approved": None,
        "positions": 1,
        "real_orders": True,
        "how": "do this",
    }
    choice = choose(**{**facts, **changes})
    return choice.revision, choice.pending


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, ("old", "new")),
        ({"running": None}, ("new", None)),
        ({"running": "new"}, ("new", None)),
        ({"positions": 0}, ("new", None)),
        ({"positions": None}, ("old", "new")),
        ({"positions": None, "real_orders": False}, ("new", None)),
        ({"positions": 2, "real_orders": False}, ("old", "new")),
        ({"strategy": "Auto"}, ("new", None)),
        ({"approved": "new"}, ("new", None)),
        ({"approved": "another"}, ("old", "new")),
    ],
)
def test_a_bot_that_holds_positions_waits_for_a_person(
    changes: dict[str, Any], expected: tuple[str, str | None]
) -> None:
    assert chosen(**changes) == expected


@pytest.mark.parametrize(
    ("positions", "words"),
    [(1, "a position is open"), (3, "3 positions are open"), (None, "it is not known whether positions are open")],
)
def test_why_it_waits_and_what_to_do(positions: int | None, words: str) -> None:
    choice = choose(
        asked="new",
        running="old",
        strategy="Manual",
        approved=None,
        positions=positions,
        real_orders=True,
        how="kubectl annotate …",
    )
    assert choice.waits_for == f"{words}; to apply it all the same: kubectl annotate …"


def pods(**revisions: tuple[str | None, bool]) -> dict[Component, Pod]:
    found = {each: Pod(revision="old", ready=True) for each in AGENTS}
    for name, (revision, ready) in revisions.items():
        found[Component(name.replace("_", "-"))] = Pod(revision=revision, ready=ready)
    return found


def test_the_first_time_all_start_at_once() -> None:
    nothing = {each: Pod(revision=None, ready=False) for each in AGENTS}
    assert set(rolled("new", nothing).values()) == {"new"}
    assert not started("new", nothing)


def test_one_after_the_other_each_when_the_one_before_is_ready() -> None:
    found = pods()
    given: list[Component] = []
    for _ in AGENTS:
        now = [each for each, revision in rolled("new", found).items() if revision == "new"]
        [nxt] = [each for each in now if each not in given]
        given.append(nxt)
        found[nxt] = Pod(revision="new", ready=False)
        assert [each for each, revision in rolled("new", found).items() if revision == "new"] == now
        found[nxt] = Pod(revision="new", ready=True)
    assert tuple(given) == ROLL_ORDER
    assert started("new", found)


def test_a_pod_that_does_not_become_ready_stops_the_roll() -> None:
    found = pods(execution=("new", True), risk=("new", False))
    assert {each for each, revision in rolled("new", found).items() if revision == "new"} == {E, R}


def test_one_that_went_back_is_not_taken_forward_before_the_first() -> None:
    """A change of mind in the middle of a roll: everything goes back in the same order."""
    found = pods(execution=("new", True), risk=("new", True))
    assert rolled("old", found)[E] == "old"
    assert rolled("old", found)[R] == "new"


def test_one_that_was_deleted_in_the_middle_of_a_roll_comes_back_as_it_is_wanted() -> None:
    found = pods(execution=("new", False), strategy=(None, False))
    assert rolled("new", found)[Component.STRATEGY] == "new"
    assert rolled("new", found)[R] == "old"
