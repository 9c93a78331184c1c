"""``tradingbot validate``, as a person and as a program reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.specs import LIVE, PAPER, spec_text
from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.main import main


def write(folder: Path, base: dict[str, Any] = PAPER, **changes: Any) -> str:
    path = folder / "bot.yaml"
    path.write_text(spec_text(base, **changes))
    return str(path)


def test_a_good_spec_is_said_to_be_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write(tmp_path, symbols=["BTC/USDT", "ETH/USDT"])
    assert main(["validate", spec]) == exit_codes.OK
    assert capsys.readouterr().out == f"{spec}: paper is valid (paper, simulated, 2 symbols)\n"


def test_a_spec_of_a_later_version_is_valid_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", write(tmp_path, LIVE)]) == exit_codes.OK
    assert "(live, binance, 1 symbol)" in capsys.readouterr().out


def test_every_mistake_is_said_with_its_place_value_and_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = write(tmp_path, risk={"stopLoss": 0.05}, timeframe="7m")
    assert main(["validate", spec]) == exit_codes.BAD_INPUT
    printed = capsys.readouterr()
    assert printed.err == ""
    heading, *mistakes = printed.out.splitlines()
    assert heading.endswith("2 mistakes")
    assert [line.split()[2].rstrip(":") for line in mistakes] == ["spec.risk.stopLoss", "spec.timeframe"]
    assert "write it in quotes" in mistakes[0]


def test_mistakes_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = write(tmp_path, risk={"stopLoss": 0.05})
    assert main(["validate", spec, "--output", "json"]) == exit_codes.BAD_INPUT
    answer = json.loads(capsys.readouterr().out)
    assert answer["valid"] is False
    (mistake,) = answer["mistakes"]
    assert set(mistake) == {"path", "line", "value", "problem", "remedy"}
    assert (mistake["path"], mistake["value"]) == ("spec.risk.stopLoss", "0.05")


def test_a_good_spec_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", write(tmp_path), "--output", "json"]) == exit_codes.OK
    assert json.loads(capsys.readouterr().out) == {"valid": True, "mistakes": []}
