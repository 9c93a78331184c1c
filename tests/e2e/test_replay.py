"""A person installs the chart and applies the example that needs no exchange. What counts is what kubectl tells."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from support.on_a_node import Bot, Figures, Namespace
from tradingbot_agents.reality.check import all_checks

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

REPLAY = Path(__file__).resolve().parents[2] / "examples" / "replay.yaml"

UP = 120.0
"""Seconds from apply to trading, with the images there."""

BACK = 60.0
"""Seconds from the death of every pod to trading."""


@pytest.fixture
def bot(trading: Namespace, figures: Figures) -> Bot:
    made = Bot(trading, "replay")
    since = time.monotonic()
    made.kubectl("apply", "-f", REPLAY)
    made.trades(UP)
    figures.note(f"trading {time.monotonic() - since:.1f} s after kubectl apply")
    return made


def test_it_trades_is_audited_survives_its_pods_and_leaves_what_it_says(bot: Bot, figures: Figures) -> None:
    assert {name: bot.row()[name] for name in ("MODE", "STATE", "READY", "EQUITY")} == {
        "MODE": "paper",
        "STATE": "Running",
        "READY": "5/5",
        "EQUITY": "1000",
    }
    # It was never wrong on the way: its servers start at the same time, and that is no fault.
    assert "Degraded" not in bot.events()

    for use in bot.namespace.uses(60):
        figures.note(f"at rest {use}")

    first = bot.check("first")
    assert first.wrong == {}, first.log
    assert set(first.findings) == {check.id for check in all_checks()}
    assert "Reality check of replay" in first.log
    assert bot.row()["CHECK"] == "passed"
    assert bot.condition("RealityCheckPassed")["status"] == "True"

    since = time.monotonic()
    bot.kubectl("delete", "pods", "--all", "--wait=true", "--timeout=90s")
    bot.trades(BACK)
    figures.note(f"trading {time.monotonic() - since:.1f} s after the death of every pod of a bot began")

    bot.state("Paused")
    assert bot.row()["STATE"] == "Paused"
    assert bot.condition("Trading")["reason"] == "Paused"

    bot.kubectl("delete", "tb", bot.name, "--timeout=60s")
    bot.namespace.until(lambda: not bot.pods(), "its pods are gone", 60)
    # deletionPolicy is Retain: money, candles and messages are still there.
    left = bot.kubectl("get", "pvc", "-o", "name").split()
    assert {f"persistentvolumeclaim/data-replay-{server}-0" for server in ("rabbitmq", "influxdb")} <= set(left)
