"""Both scripts are wherever one of them is: the one whose side was not installed says so."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from importlib import import_module
from importlib.metadata import requires
from pathlib import Path

import pytest

import tradingbot_command
from support.process import REPOSITORY

SCRIPTS: dict[str, str] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["scripts"]
EXTRAS = {"tradingbot": "agents", "tradingbot-operator": "operator"}
ARGUMENTS = {"tradingbot": ("run", "bot.yaml"), "tradingbot-operator": ("run",)}
MAINS = {"agents": "tradingbot_agents.cli.main", "operator": "tradingbot_operator.main"}


def started(script: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Asked to run, as in an environment that has ``path`` and the standard library."""
    module, _, function = SCRIPTS[script].partition(":")
    program = (
        f"import sys; sys.path[:0] = {[str(each) for each in path]}\n"
        f"from {module} import {function}; sys.exit({function}())"
    )
    return subprocess.run(
        [sys.executable, "-I", "-S", "-W", "error", "-c", program, *ARGUMENTS[script]],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("script", EXTRAS)
def test_an_image_says_that_it_has_not_the_other_side(script: str) -> None:
    extra = EXTRAS[script]
    done = started(script, REPOSITORY / "crds")
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    assert line == (
        f"{script}: tradingbot[{extra}] is not installed here (tradingbot_{extra} is missing): pip install"
        f" 'tradingbot[{extra}]', or use the image tradingbot-{extra}"
    )


@pytest.mark.parametrize("script", EXTRAS)
def test_an_extra_that_was_not_asked_for_is_named(script: str, tmp_path: Path) -> None:
    """The wheel has all packages of ours, and an extra only what they need."""
    extra = EXTRAS[script]
    metadata = tmp_path / "tradingbot-0.1.0.dist-info"
    metadata.mkdir()
    needs = "".join(f"Requires-Dist: {line}\n" for line in requires("tradingbot") or ())
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.4\nName: tradingbot\nVersion: 0.1.0\n{needs}")
    done = started(script, tmp_path, *(REPOSITORY / each for each in ("crds", "agents", "operator")))
    assert (done.returncode, done.stdout) == (2, "")
    [line] = done.stderr.splitlines()
    first = {"agents": "aio-pika", "operator": "aiohttp"}[extra]
    assert line.startswith(f"{script}: tradingbot[{extra}] is not installed here ({first} is missing): pip install ")


@pytest.mark.parametrize("extra", MAINS)
def test_what_is_installed_is_started(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(import_module(MAINS[extra]), "main", lambda: 7)
    assert getattr(tradingbot_command, extra)() == 7


@pytest.mark.parametrize("extra", MAINS)
def test_a_module_that_is_missing_by_a_defect_is_no_missing_installation(
    extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, MAINS[extra], None)
    with pytest.raises(ModuleNotFoundError, match=MAINS[extra]):
        getattr(tradingbot_command, extra)()


def test_a_command_pays_nothing_for_it() -> None:
    program = (
        "import __future__, collections.abc, sys; before = set(sys.modules); import tradingbot_command\n"
        "print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["tradingbot_command"]
