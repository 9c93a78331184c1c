"""The command line: what it takes, what it answers when it can not, and its exit codes, as they are documented."""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.specs import PAPER, spec_text
from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli import main as command_line
from tradingbot_agents.cli.main import main
from tradingbot_agents.exchange.candle_files import CandleFileInvalid
from tradingbot_agents.exchange.candle_source import CandleSourceError
from tradingbot_agents.exchange.market_rules import MarketRulesInvalid, NoMarketRules
from tradingbot_agents.exchange.state import ExchangeStateError
from tradingbot_agents.ledger.datadir import DataDirForeign, DataDirLocked, DataDirMismatch
from tradingbot_agents.ledger.embedded import DataVersionError, EmbeddedPostgresError
from tradingbot_agents.ledger.migrate import MigrationError, SchemaOutdated, SchemaUnknown
from tradingbot_agents.ledger.port import Epoch, Fenced, LedgerUnavailable, Role
from tradingbot_agents.runtime import reality
from tradingbot_agents.runtime import run as running
from tradingbot_agents.runtime.supervisor import AgentGaveUp
from tradingbot_agents.runtime.wiring import NotRunnable
from tradingbot_api import load_text

DOCUMENT = (Path(__file__).parents[3] / "docs" / "command.md").read_text()


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> list[running.RunOptions]:
    """The options that ``run`` is called with; it does nothing."""
    calls: list[running.RunOptions] = []

    async def instead(options: running.RunOptions) -> int:
        calls.append(options)
        return exit_codes.OK

    monkeypatch.setattr(running, "run", instead)
    return calls


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The last line of what is said of arguments that are refused."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == exit_codes.BAD_INPUT
    return capsys.readouterr().err.splitlines()[-1]


# ------------------------------------------------------------------------------------------------- arguments


def test_run_without_options_leaves_all_to_the_spec(given: list[running.RunOptions]) -> None:
    assert main(["run", "bot.yaml"]) == exit_codes.OK
    assert given == [
        running.RunOptions(
            spec=Path("bot.yaml"),
            candles=None,
            speed=None,
            seed=None,
            data_dir=None,
            until=None,
            output=None,
            report=None,
        )
    ]


def test_every_option_of_run_arrives(given: list[running.RunOptions], tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    options = "--candles c --speed 60 --seed 7 --data-dir d --until 2024-03-01T12:00+01:00 --output json"
    assert main(["run", "bot.yaml", *options.split(), "--report", str(report)]) == exit_codes.OK
    assert given == [
        running.RunOptions(
            spec=Path("bot.yaml"),
            candles=Path("c"),
            speed=Decimal(60),
            seed=7,
            data_dir=Path("d"),
            until=datetime(2024, 3, 1, 11, tzinfo=UTC),
            output="json",
            report=report,
        )
    ]


def test_a_time_without_a_zone_is_utc_and_max_is_no_limit(given: list[running.RunOptions]) -> None:
    main(["run", "bot.yaml", "--until", "2024-03-01", "--speed", "max"])
    assert given[0].until == datetime(2024, 3, 1, tzinfo=UTC)
    assert given[0].speed == Decimal("Infinity")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run"], "the following arguments are required: SPEC"),
        ([], "the following arguments are required: COMMAND"),
        (["fly"], "invalid choice: 'fly'"),
        (["run", "b", "--speed", "0"], "'0' is not a speed; write \"max\", or how many times real time"),
        (["run", "b", "--speed", "-1"], "argument --speed"),
        (["run", "b", "--speed", "nan"], "'nan' is not a speed"),
        (["run", "b", "--speed", "10x"], "'10x' is not a speed; write \"10\", without the x"),
        (["run", "b", "--seed", "1.5"], "'1.5' is not a whole number"),
        (["run", "b", "--until", "noon"], "'noon' is not a time, such as 2024-03-01T12:00Z"),
        (["run", "b", "--output", "xml"], "invalid choice: 'xml'"),
        (["run", "b", "--report", "/nowhere/at/all.json"], "can not be written: name a file in a folder of yours"),
        (["run", "b", "--report", "/"], "'/' is a folder: name a file in it"),
        (["orders", "--limit", "0"], "'0' is not a whole number above zero"),
        (["status", "--output", "csv"], "invalid choice: 'csv'"),
        (["hold", "Running", "--reason", "x"], "invalid choice: 'Running'"),
        (["hold", "Paused"], "the following arguments are required: --reason"),
    ],
)
def test_what_can_not_be_meant_is_refused_with_a_remedy(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert said in refusal(capsys, *arguments)


@pytest.mark.parametrize("way", [[], ["run"]], ids=["short", "whole"])
def test_every_option_of_a_reality_check_arrives(monkeypatch: pytest.MonkeyPatch, way: list[str]) -> None:
    calls: list[reality.RealityOptions] = []

    async def instead(options: reality.RealityOptions, environment: object) -> int:
        calls.append(options)
        return exit_codes.CHECK_FAILED

    monkeypatch.setattr(reality, "check_reality", instead)
    arguments = [
        "--log",
        "-",
        "--agent",
        "risk=[::1]:8080",
        "--agent",
        "execution=here:81",
        "--window",
        "2h",
        "--dry-run",
    ]
    code = main(["reality-check", *way, "bot.yaml", "--data-dir", "there", *arguments, "--output", "json"])
    assert code == exit_codes.CHECK_FAILED
    assert calls == [
        reality.RealityOptions(
            spec=Path("bot.yaml"),
            data_dir=Path("there"),
            log="-",
            agents={"risk": ("::1", 8080), "execution": ("here", 81)},
            window=timedelta(hours=2),
            output="json",
            dry_run=True,
        )
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--agent", "broker=here:80"], "'broker=here:80' names no agent, such as risk=127.0.0.1:8080"),
        (["--agent", "risk=here"], "'here' is not an address, such as 0.0.0.0:8080"),
        (["--window", "soon"], "'soon' "),
    ],
)
def test_a_reality_check_refuses_what_it_can_not_mean(
    capsys: pytest.CaptureFixture[str], given: list[str], said: str
) -> None:
    assert said in refusal(capsys, "reality-check", "bot.yaml", *given)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert re.fullmatch(r"tradingbot \d+\.\d+\.\d+\S*\n", capsys.readouterr().out)


# ---------------------------------------------------------------------------------------------- documentation


def commands() -> dict[str, argparse.ArgumentParser]:
    parser = command_line._parser()
    (action,) = (each for each in parser._actions if isinstance(each, argparse._SubParsersAction))
    found: dict[str, argparse.ArgumentParser] = action.choices
    return found


def parsers(name: str) -> list[argparse.ArgumentParser]:
    """Of a command, and of what it has below it."""
    parser = commands()[name]
    below = [each for each in parser._actions if isinstance(each, argparse._SubParsersAction)]
    return [parser, *(inner for each in below for inner in each.choices.values())]


def options_of(name: str) -> set[str]:
    return {option for parser in parsers(name) for each in parser._actions for option in each.option_strings}


@pytest.mark.parametrize("name", sorted(commands()))
def test_every_command_and_option_is_in_the_document(name: str) -> None:
    assert re.search(rf"^\| `{name}\b", DOCUMENT, re.MULTILINE), f"{name} is missing from the table of commands"
    for option in options_of(name):
        if option.startswith("--") and option != "--help":
            assert f"`{option}" in DOCUMENT or f" {option} " in DOCUMENT, f"{name} {option}"


def test_the_document_names_no_command_or_option_that_is_not_there() -> None:
    table_of_commands = DOCUMENT.partition("## run")[0]
    assert set(re.findall(r"^\| `([a-z-]+)[ `]", table_of_commands, re.MULTILINE)) == set(commands())
    options = {option for name in commands() for option in options_of(name)}
    assert set(re.findall(r"`(--[a-z-]+)", DOCUMENT)) - options <= {"--version", "--help"}


def test_every_exit_code_is_in_the_document_and_no_other() -> None:
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", DOCUMENT, re.MULTILINE)}
    assert documented == {value for name, value in vars(exit_codes).items() if name.isupper()}


def test_the_run_ends_with_the_documented_codes() -> None:
    assert (running.OK, running.INVARIANT_VIOLATED, running.INTERRUPTED) == (
        exit_codes.OK,
        exit_codes.INVARIANT_VIOLATED,
        exit_codes.INTERRUPTED,
    )


# ------------------------------------------------------------------------------------------------- exit codes


def spec_invalid() -> Exception:
    with pytest.raises(Exception, match="mistake") as refused:
        load_text(spec_text(PAPER, risk__stopLoss=0.05))
    return refused.value


ERRORS: list[tuple[int, Exception]] = [
    (exit_codes.BAD_INPUT, spec_invalid()),
    (exit_codes.BAD_INPUT, CandleFileInvalid(Path("BTC.csv"), 7, "is empty", "remove it")),
    (exit_codes.BAD_INPUT, CandleSourceError("no file is BTC/USDT")),
    (exit_codes.BAD_INPUT, MarketRulesInvalid("rules.yaml: no step")),
    (exit_codes.BAD_INPUT, NoMarketRules("XYZ/USDT", None)),
    (exit_codes.BAD_INPUT, NotRunnable("spec.exchange.name: 'binance'")),
    (exit_codes.DATA_DIRECTORY, DataDirLocked("in use by process 7")),
    (exit_codes.DATA_DIRECTORY, DataDirForeign("is not a data directory")),
    (exit_codes.DATA_DIRECTORY, DataDirMismatch("belongs to another run")),
    (exit_codes.DATA_DIRECTORY, ExchangeStateError("the books are damaged")),
    (exit_codes.DATABASE, EmbeddedPostgresError("does not start")),
    (exit_codes.DATABASE, DataVersionError("is of PostgreSQL 99")),
    (exit_codes.DATABASE, LedgerUnavailable("does not answer")),
    (exit_codes.DATABASE, MigrationError("0007 failed")),
    (exit_codes.DATABASE, SchemaUnknown("is newer")),
    (exit_codes.DATABASE, SchemaOutdated("is older")),
    (exit_codes.GAVE_UP, AgentGaveUp("risk", 8, ValueError("a bug"))),
    (exit_codes.GAVE_UP, Fenced(Epoch(Role.RISK, 1), 2)),
]


def run_that(monkeypatch: pytest.MonkeyPatch, outcome: BaseException | int) -> int:
    async def instead(options: running.RunOptions) -> int:
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    monkeypatch.setattr(running, "run", instead)
    return main(["run", "bot.yaml"])


@pytest.mark.parametrize(("code", "error"), ERRORS, ids=[type(error).__name__ for _, error in ERRORS])
def test_an_error_that_is_expected_is_one_message_and_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int, error: Exception
) -> None:
    assert run_that(monkeypatch, error) == code
    printed = capsys.readouterr()
    assert printed.err == f"tradingbot: {error}\n"
    assert printed.out == ""


def test_a_defect_of_ours_shows_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    # Python prints an exception that nobody catches, and ends with 1, which is what the document says.
    with pytest.raises(ZeroDivisionError):
        run_that(monkeypatch, ZeroDivisionError("a bug"))


@pytest.mark.parametrize("code", [exit_codes.OK, exit_codes.INVARIANT_VIOLATED, exit_codes.INTERRUPTED])
def test_what_the_run_returns_is_the_code(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    assert run_that(monkeypatch, code) == code


def test_a_second_interrupt_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_that(monkeypatch, KeyboardInterrupt()) == exit_codes.INTERRUPTED


class Gone(io.StringIO):
    """An output whose reader has gone: found out when it is written, or only when it is flushed."""

    def __init__(self, descriptor: int, *, at_once: bool) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._at_once = at_once

    def fileno(self) -> int:
        return self._descriptor

    def write(self, text: str) -> int:
        if self._at_once:
            raise BrokenPipeError
        return len(text)

    def flush(self) -> None:
        raise BrokenPipeError


@pytest.mark.parametrize("at_once", [True, False])
def test_a_reader_that_has_seen_enough_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, at_once: bool
) -> None:
    spec = tmp_path / "bot.yaml"
    spec.write_text(spec_text(PAPER))
    with (tmp_path / "pipe").open("w") as pipe:
        monkeypatch.setattr(sys, "stdout", Gone(pipe.fileno(), at_once=at_once))
        assert main(["validate", str(spec)]) == exit_codes.OK
        # What Python writes when it ends goes nowhere, and fails no more.
        os.write(pipe.fileno(), b"the rest")
    assert (tmp_path / "pipe").read_bytes() == b""


def test_reading_commands_pass_on_what_they_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    from tradingbot_agents.cli import holds, migrating, reading

    calls: list[tuple[Any, ...]] = []

    def noted(name: str) -> Callable[..., Any]:
        async def instead(*arguments: Any) -> int:
            await asyncio.sleep(0)
            calls.append((name, *arguments))
            return exit_codes.OK

        return instead

    monkeypatch.setattr(reading, "read", noted("read"))
    monkeypatch.setattr(holds, "place", noted("place"))
    monkeypatch.setattr(holds, "release", noted("release"))
    monkeypatch.setattr(migrating, "migrate_data_dir", noted("migrate"))
    for line in (
        "status --data-dir d",
        "positions --output csv",
        "orders --limit 5",
        "fills --output json",
        "hold Paused --reason because",
        "release --data-dir d",
        "orders --spec bot.yaml",
        "hold Paused --reason because --spec bot.yaml",
        "migrate",
    ):
        assert main(line.split()) == exit_codes.OK
    readers = reading.READERS
    assert calls == [
        ("read", readers["status"], Path("d"), None, "text", None),
        ("read", readers["positions"], None, None, "csv", None),
        ("read", readers["orders"], None, None, "text", 5),
        ("read", readers["fills"], None, None, "json", None),
        ("place", None, None, "Paused", "because"),
        ("release", Path("d"), None),
        ("read", readers["orders"], None, Path("bot.yaml"), "text", None),
        ("place", None, Path("bot.yaml"), "Paused", "because"),
        ("migrate", None),
    ]
