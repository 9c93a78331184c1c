"""``prune`` on the command line: what it passes on, and what it refuses before it opens anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.specs import PAPER, spec_text
from tradingbot_agents.cli import exit_codes, pruning
from tradingbot_agents.cli.main import main


def test_what_is_asked_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Any, ...]] = []

    async def noted(spec: Path, data_dir: Path | None, output: str, *, dry_run: bool) -> int:
        calls.append((spec, data_dir, output, dry_run))
        return exit_codes.OK

    monkeypatch.setattr(pruning, "prune", noted)
    for line in ("prune bot.yaml", "prune bot.yaml --data-dir d --dry-run --output json"):
        assert main(line.split()) == exit_codes.OK
    assert calls == [(Path("bot.yaml"), None, "text", False), (Path("bot.yaml"), Path("d"), "json", True)]


def test_without_a_database_it_is_the_bots_own_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TRADINGBOT_DATABASE_URL", raising=False)
    monkeypatch.delenv("TRADINGBOT_DATABASE_URL_FILE", raising=False)
    Path("bot.yaml").write_text(spec_text(PAPER))
    assert main(["prune", "bot.yaml"]) == exit_codes.DATA_DIRECTORY
    assert ".tradingbot/paper does not exist" in capsys.readouterr().err


def test_a_history_that_would_forget_a_decision_too_early_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = tmp_path / "bot.yaml"
    spec.write_text(spec_text(PAPER, database__history__refusals="1h"))
    assert main(["prune", str(spec)]) == exit_codes.BAD_INPUT
    assert "spec.database.history.refusals" in capsys.readouterr().err
