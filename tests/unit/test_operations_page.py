"""``docs/operations.md`` says what to do on everything that calls for somebody, and on nothing that is not there."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import msgspec
import pytest

from tradingbot_agents.cli import main as command_line
from tradingbot_agents.domain.events import EVENTS, Reason, Severity
from tradingbot_agents.telemetry.metrics import Metrics
from tradingbot_api.building import fields_of, is_struct, take_apart
from tradingbot_api.model import camel
from tradingbot_api.types import Spec

PAGE = (Path(__file__).parents[2] / "docs" / "operations.md").read_text()


def sections(chapter: str) -> dict[str, str]:
    """The text of each ``###`` section of a ``##`` chapter, by its heading."""
    (found,) = re.findall(rf"^## {re.escape(chapter)}\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL)
    _, *parts = re.split(r"^### (.+)\n", found, flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize(
    ("chapter", "severity"), [("Severe events", Severity.SEVERE), ("Warnings", Severity.WARNING)]
)
def test_every_event_that_calls_for_somebody_has_its_section(chapter: str, severity: Severity) -> None:
    told = sections(chapter)
    assert list(told) == sorted(f"`{name}`" for name, event in EVENTS.items() if event.severity is severity)
    assert all(len(text.split()) > 8 for text in told.values()), "a section says what to do"


def test_every_metric_has_its_section() -> None:
    names = [
        family.name + ("_total" if family.type == "counter" else "")
        for family in Metrics("bot", "agent").registry.collect()
    ]
    assert list(sections("Metrics")) == names


def test_every_probe_has_its_section() -> None:
    assert list(sections("Probes")) == ["/live", "/ready", "/metrics"]


def test_events_fields_and_reasons_that_are_named_are_there() -> None:
    """Each word in code that is written like one of ours is one."""
    words = set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", PAGE))
    fields = {field for event in EVENTS.values() for field in event.__struct_fields__}
    others = {"pg_stat_activity", "pg_dump", "exchange_keys_renewed"}
    assert words - set(EVENTS) - fields - {reason.value for reason in Reason} - others == set()


def test_commands_and_options_that_are_named_are_there() -> None:
    (action,) = (each for each in command_line._parser()._actions if isinstance(each, argparse._SubParsersAction))
    commands: dict[str, argparse.ArgumentParser] = action.choices
    named = set(re.findall(r"tradingbot ([a-z]+(?:-[a-z]+)*)", PAGE))
    assert named - set(commands) == set()
    assert {"status", "hold", "release", "backup", "restore", "migrate", "prune", "dead-letters"} <= named
    nested = [
        inner
        for parser in commands.values()
        for below in parser._actions
        if isinstance(below, argparse._SubParsersAction)
        for inner in below.choices.values()
    ]
    parsers = [*commands.values(), *nested]
    options = {option for parser in parsers for each in parser._actions for option in each.option_strings}
    assert set(re.findall(r"(?<!-)--[a-z][a-z-]*", PAGE)) - options == set()


def paths(cls: type[msgspec.Struct], above: str = "") -> set[str]:
    found = set()
    for field in fields_of(cls):
        name = f"{above}{camel(field.name)}"
        found.add(name)
        base = take_apart(field.hint.base).base
        if is_struct(base):
            found |= paths(base, f"{name}.")
    return found


def test_fields_of_the_spec_that_are_named_are_there() -> None:
    named = {each.removeprefix("spec.") for each in re.findall(r"`([a-z]\w*(?:\.\w+)+)`", PAGE)}
    assert len(named) >= 10
    assert named - paths(Spec) == set()


def test_pages_that_it_points_to_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", PAGE):
        assert (Path(__file__).parents[2] / "docs" / target).is_file(), target
