"""What a valid spec must be besides, by where it is to run."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.specs import LIVE, PAPER, bot_of
from tradingbot_api import cluster_mistakes, load_file, process_mistakes

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


def test_what_may_run_anywhere_has_no_mistake() -> None:
    for bot in (bot_of(LIVE), bot_of(PAPER), bot_of(PAPER, exchange__replay={"source": "/my/candles", "speed": "1"})):
        assert cluster_mistakes(bot) == process_mistakes(bot) == []


def test_processes_of_their_own_are_in_real_time() -> None:
    [mistake] = process_mistakes(bot_of(PAPER, exchange__replay={"source": "candles", "speed": "60"}))
    assert str(mistake) == (
        "spec.exchange.replay.speed: 60 times real time is for one process, and agents in processes of their own are"
        " in real time; write speed: \"1\", or use 'tradingbot run'"
    )


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"exchange__replay": {"source": "my-candles"}}, "spec.exchange.replay.source"),
        ({"exchange__replay": {"source": "candles/../../mine"}}, "spec.exchange.replay.source"),
        ({"exchange__simulated": {"marketRules": "rules.json"}}, "spec.exchange.simulated.marketRules"),
    ],
)
def test_on_a_cluster_nothing_is_beside_the_spec(changes: dict[str, object], path: str) -> None:
    bot = bot_of(PAPER, **changes)
    [mistake] = cluster_mistakes(bot)
    assert mistake.path == path
    assert "on a cluster nothing is beside it" in mistake.problem
    assert process_mistakes(bot) == []


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.yaml")), ids=lambda file: file.stem)
def test_every_example_of_a_single_bot_may_run_on_a_cluster(file: Path) -> None:
    if "\n---\n" in file.read_text():
        pytest.skip("of several documents")
    assert cluster_mistakes(load_file(file)) == []
