"""What may not be evicted, and when."""

from __future__ import annotations

from typing import Any

import pytest

from support.specs import LIVE, PAPER, REMOVED, changed
from tradingbot_api import load_object
from tradingbot_operator.builders.disruption import budgets
from tradingbot_operator.names import Component, bot_selector


def test_execution_and_risk_of_a_live_bot_with_positions_are_guarded() -> None:
    guarded = {each["metadata"]["name"]: each["spec"] for each in budgets(load_object(LIVE), "a", has_positions=True)}
    assert set(guarded) == {"live-execution", "live-risk"}
    spec = guarded["live-risk"]
    assert spec["maxUnavailable"] == 0
    assert spec["selector"]["matchLabels"] == bot_selector("live", Component.RISK)


@pytest.mark.parametrize(
    ("base", "mode", "has_positions"), [(LIVE, "live", False), (LIVE, "testnet", True), (PAPER, "paper", True)]
)
def test_nothing_else_keeps_a_node_from_being_drained(base: dict[str, Any], mode: str, has_positions: bool) -> None:
    confirmation = {"liveConfirmation": REMOVED} if mode == "testnet" else {}
    bot = load_object(changed(base, {"mode": mode, **confirmation}))
    assert budgets(bot, "a", has_positions=has_positions) == []
