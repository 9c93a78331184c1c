"""What the agents read: pinned by revision, and the state beside it."""

from __future__ import annotations

from typing import Any

import pytest

from support.specs import LIVE, changed
from tradingbot_api import TradingBot, load_object, load_text
from tradingbot_operator import names
from tradingbot_operator.builders import config
from tradingbot_operator.kinds import Manifest

IMAGE = "example.invalid/agents:1"
WORKLOADS = {"risk": [{"kind": "StatefulSet", "spec": {"replicas": 1}}]}


def a_bot(changes: dict[str, Any] | None = None, metadata: dict[str, Any] | None = None) -> TradingBot:
    document = changed(LIVE, changes or {})
    document["metadata"] |= metadata or {}
    return load_object(document)


def test_a_revision_is_the_spec_and_the_image() -> None:
    revision = config.pinned(a_bot(), IMAGE)
    assert len(revision) == 12
    assert int(revision, 16) >= 0
    assert config.pinned(a_bot(), "example.invalid/agents:2") != revision
    assert config.pinned(a_bot({"risk.stopLoss": "0.06"}), IMAGE) != revision


def test_neither_state_nor_metadata_is_part_of_a_revision() -> None:
    other = a_bot({"state": "Paused"}, {"labels": {"team": "one"}, "annotations": {"note": "two"}})
    assert config.pinned(other, IMAGE) == config.pinned(a_bot(), IMAGE)


def test_defaults_written_out_are_the_same_revision() -> None:
    assert config.pinned(a_bot({"timeframe": "5m"}), IMAGE) == config.pinned(a_bot(), IMAGE)


def a_config(bot: TradingBot) -> Manifest:
    return config.spec_config(bot, "trading", IMAGE, "0123456789ab", WORKLOADS)


def test_a_pinned_spec_is_immutable_and_named_by_its_revision() -> None:
    manifest = a_config(a_bot())
    assert manifest["immutable"] is True
    assert manifest["metadata"]["name"] == "live-spec-0123456789ab"
    assert manifest["metadata"]["namespace"] == "trading"
    assert manifest["metadata"]["labels"][names.Label.BOT.value] == "live"
    assert names.Label.COMPONENT.value not in manifest["metadata"]["labels"]


def test_a_pinned_revision_is_read_as_it_was() -> None:
    bot = a_bot({"state": "ReduceOnly", "agents.risk.affinity": {"nodeAffinity": {}}})
    pinned = config.read_spec_config(a_config(bot))
    assert pinned.image == IMAGE
    assert pinned.workloads == WORKLOADS
    assert pinned.bot.spec == bot.spec
    assert (pinned.bot.metadata.name, pinned.bot.metadata.namespace) == ("live", "trading")
    assert config.pinned(pinned.bot, pinned.image) == config.pinned(bot, IMAGE)


def test_the_agents_read_the_file_as_it_is() -> None:
    text = a_config(a_bot())["data"][config.SPEC_KEY]
    assert load_text(text).spec == a_bot().spec


def test_a_pinned_spec_does_not_hold_what_changes_without_a_revision() -> None:
    note = {"annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x" * 1000}}
    assert a_config(a_bot(metadata=note)) == a_config(a_bot())


@pytest.mark.parametrize("given", [None, "Flatten"])
def test_the_state_is_one_word_that_may_differ_from_the_spec(given: str | None) -> None:
    manifest = config.state_config(a_bot({"state": "Paused"}), "trading", given)
    assert manifest["metadata"]["name"] == names.state_config("live")
    assert manifest["data"] == {config.STATE_KEY: given or "Paused"}
    assert "immutable" not in manifest
