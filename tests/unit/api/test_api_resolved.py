"""The resolved spec: complete, plain, stable, and itself a valid spec."""

import json
from typing import Any

import pytest
import yaml

from support.specs import LIVE, PAPER, bot_of, changed
from tradingbot_api import dump, load_object, load_text, resolved, revision


@pytest.mark.parametrize("base", [PAPER, LIVE], ids=["paper", "live"])
def test_the_resolved_spec_is_itself_a_valid_spec(base: dict[str, Any]) -> None:
    bot = bot_of(base)
    assert load_text(dump(bot)) == bot
    assert load_object(resolved(bot)) == bot
    assert yaml.safe_load(dump(bot)) == resolved(bot)


def test_everything_is_plain_and_in_its_own_pattern() -> None:
    data = resolved(bot_of(PAPER, risk__stopLoss="0.050", data__staleAfter="120s"))
    assert json.loads(json.dumps(data)) == data
    spec = data["spec"]
    assert spec["risk"]["stopLoss"] == "0.05"
    assert spec["data"]["staleAfter"] == "2m"
    assert spec["exchange"]["replay"]["speed"] == "max"
    assert spec["account"]["quoteStep"] == "0.01"
    assert spec["strategy"]["indicators"][0] == {
        "name": "emaCross",
        "id": "emaCross-12-26",
        "weight": "1",
        "fast": 12,
        "slow": 26,
    }
    assert spec["messaging"]["managed"]["storage"]["size"] == "1Gi"
    assert "external" not in spec["messaging"]


def test_text_that_another_yaml_takes_for_a_number_is_quoted() -> None:
    bot = load_object(changed(PAPER, {"account.name": "1e3", "exchange.replay.source": "0o17"}))
    assert "name: '1e3'" in dump(bot)
    assert load_text(dump(bot)) == bot


def test_equal_specs_have_one_revision_whatever_their_text() -> None:
    short = revision(bot_of(PAPER))
    assert revision(bot_of(PAPER, timeframe="5m", risk__stopLoss="0.050", data__staleAfter="120s")) == short
    assert revision(bot_of(PAPER, state="Paused")) == short
    assert revision(load_text(dump(bot_of(PAPER)))) == short
    assert revision(bot_of(PAPER, risk__stopLoss="0.06")) != short
    assert revision(bot_of(PAPER, symbols=["ETH/USDT"])) != short


def test_the_name_is_not_part_of_the_revision() -> None:
    body = changed(PAPER, {})
    body["metadata"] = {"name": "another", "labels": {"a": "b"}}
    assert revision(load_object(body)) == revision(bot_of(PAPER))
