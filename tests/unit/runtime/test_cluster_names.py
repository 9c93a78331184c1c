"""Agents and operator know each other's names by heart: here they are held equal."""

from __future__ import annotations

from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.runtime import cluster_names
from tradingbot_operator import names
from tradingbot_operator.kinds import TRADING_BOT


def test_labels_and_annotations_are_those_that_the_operator_gives() -> None:
    assert cluster_names.BOT == names.Label.BOT
    assert cluster_names.COMPONENT == names.Label.COMPONENT
    assert cluster_names.REVISION == names.Annotation.REVISION


def test_a_bot_is_where_the_operator_looks_for_it() -> None:
    assert f"{names.GROUP}/{names.VERSION}" == cluster_names.API
    assert cluster_names.PLURAL == names.PLURAL
    assert TRADING_BOT.name == cluster_names.KIND


def test_agents_are_called_as_their_components() -> None:
    assert set(AGENTS) == {component.value for component in names.AGENTS}
