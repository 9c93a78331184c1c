"""What can be known of the images without building them: that their Dockerfiles copy, install and start what there
is, and run as whom Kubernetes is told."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from support.process import REPOSITORY
from tradingbot_operator import main as operator
from tradingbot_operator.builders import agents

PYPROJECT: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
PROJECT: dict[str, Any] = PYPROJECT["project"]

IMAGES = {"agents": "tradingbot", "operator": "tradingbot-operator"}
"""Which command each starts; the extra that it installs has the image's name."""


class Step(msgspec.Struct, frozen=True):
    instruction: str
    rest: str


class Stage(msgspec.Struct, frozen=True):
    base: str
    name: str
    steps: list[Step]

    def all(self, instruction: str) -> list[str]:
        return [step.rest for step in self.steps if step.instruction == instruction]

    def last(self, instruction: str) -> str:
        return self.all(instruction)[-1]


def read(image: str) -> tuple[list[Step], list[Stage]]:
    """What stands before the first stage, and the stages."""
    text = (REPOSITORY / image / "Dockerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    steps = [Step(*line.split(None, 1)) for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines()]
    before: list[Step] = []
    stages: list[Stage] = []
    for step in steps:
        if step.instruction == "FROM":
            base, _, name = step.rest.partition(" AS ")
            stages.append(Stage(base, name, []))
        elif stages:
            stages[-1].steps.append(step)
        else:
            before.append(step)
    return before, stages


def ignored(path: str) -> bool:
    """Whether ``.dockerignore`` keeps a path of the repository from the build: the last pattern that fits decides,
    and what fits a folder fits all below it."""
    verdict = False
    for line in (REPOSITORY / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        negated, pattern = pattern.startswith("!"), pattern.removeprefix("!")
        parts = re.escape(pattern).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
        if re.fullmatch(f"{parts}(/.*)?", path):
            verdict = not negated
    return verdict


@pytest.fixture(params=IMAGES)
def image(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def test_it_is_built_in_one_stage_and_run_from_another(image: str) -> None:
    before, (build, final) = read(image)
    assert [step.instruction for step in before] == ["ARG"], "the base image is the caller's choice"
    assert build.base == final.base == "${PYTHON_IMAGE}", "a virtual environment fits the Python that made it only"
    assert build.name == "build"
    copied = final.all("COPY")
    assert copied[0] == "--from=build /opt/tradingbot /opt/tradingbot"
    # Beside the programs only the candles, for a bot without any exchange.
    assert copied[1:] == (["examples/candles /usr/share/tradingbot/candles"] if image == "agents" else [])
    assert not any("pip" in run or "apt" in run for run in final.all("RUN"))
    assert "PIP_INDEX_URL" in build.all("ARG"), "so is the package index"
    assert not any("://" in step.rest for stage in (build, final) for step in stage.steps), (
        "no address is written down"
    )


def test_what_it_copies_is_there_and_is_sent(image: str) -> None:
    _, (build, _) = read(image)
    sources = [source for copy in build.all("COPY") for source in copy.split()[:-1]]
    assert image in sources
    for source in sources:
        assert (REPOSITORY / source).exists()
        files = [REPOSITORY / source] if (REPOSITORY / source).is_file() else (REPOSITORY / source).rglob("*.py")
        for file in files:
            if "__pycache__" not in file.parts:
                assert not ignored(file.relative_to(REPOSITORY).as_posix()), file


def test_the_candles_of_the_example_are_in_the_image() -> None:
    assert not ignored("examples/candles/BTC_USDT-5m.csv.gz")
    spec = yaml.safe_load((REPOSITORY / "examples" / "replay.yaml").read_text())["spec"]
    assert spec["exchange"]["replay"]["source"] == "/usr/share/tradingbot/candles"


@pytest.mark.parametrize(
    "path",
    [
        ".git/config",
        ".venv/bin/python",
        ".tradingbot/quickstart/ledger",
        "secrets/exchange-secret",
        "tests/conftest.py",
        "docs/rbac.md",
        "charts/tradingbot-operator/values.yaml",
        "examples/live.yaml",
        "examples/two-bots/trend.yaml",
        "scripts/simulate.py",
        "agents/Dockerfile",
        "agents/tradingbot_agents/__pycache__/x.pyc",
        "my-notes.txt",
    ],
)
def test_nothing_else_is_sent(path: str) -> None:
    assert ignored(path)


def test_it_installs_its_extra_and_the_packages_that_it_needs(image: str) -> None:
    _, (build, _) = read(image)
    runs = "\n".join(build.all("RUN"))
    assert f"requirements.py {image} > requirements.txt" in runs
    assert "--only-binary :all:" in runs, "nothing is compiled, on no architecture"
    printed = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "requirements.py", image],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    assert printed == [*PROJECT["dependencies"], *PROJECT["optional-dependencies"][image]]
    folders = {path.split("/")[0] for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    copied = {source for copy in build.all("COPY") for source in copy.split()[:-1]}
    assert copied & folders == {image, "crds"}, "each has its own package and the types, and not the other's"


def test_the_source_comes_after_the_packages(image: str) -> None:
    """Or every edited line would install them all again."""
    _, (build, _) = read(image)
    places = {step.rest: number for number, step in enumerate(build.steps)}
    install = next(number for rest, number in places.items() if "requirements.txt" in rest)
    assert install < places[f"{image} {image}"]
    assert install < places["crds crds"]


def test_it_starts_the_command(image: str) -> None:
    _, (_, final) = read(image)
    assert json.loads(final.last("ENTRYPOINT")) == [IMAGES[image]]
    # What it starts from there is tested in test_command_scripts.py.
    assert PROJECT["scripts"][IMAGES[image]] == f"tradingbot_command:{image}"
    assert "PATH=/opt/tradingbot/bin:$PATH" in final.last("ENV")


def test_it_runs_as_whom_the_manifests_say(image: str) -> None:
    _, (_, final) = read(image)
    assert final.last("USER") == f"{agents.UID}:{agents.UID}", (
        "a number: Kubernetes can not tell that a name is not root"
    )
    [made] = final.all("RUN")
    assert f"--gid {agents.UID}" in made
    assert f"--uid {agents.UID}" in made
    if image == "agents":
        assert final.last("WORKDIR") == agents.DATA_FOLDER
        assert f"install --directory --owner {agents.UID} --group {agents.UID} {agents.DATA_FOLDER}" in made


def test_it_writes_nothing_beside_its_volumes(image: str) -> None:
    _, (_, final) = read(image)
    assert "PYTHONDONTWRITEBYTECODE=1" in final.last("ENV")


def test_it_says_what_it_is(image: str) -> None:
    _, (_, final) = read(image)
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', final.last("LABEL")))
    assert labels["title"] == f"tradingbot-{image}"
    assert labels["licenses"] == PROJECT["license"]
    assert labels["version"] == "${VERSION}"
    assert labels["revision"] == "${REVISION}"
    assert f"VERSION={PROJECT['version']}" in final.all("ARG")


def test_the_operator_names_the_agents_image_of_its_own_version() -> None:
    assert f"tradingbot-agents:{PROJECT['version']}" == operator.DEFAULT_IMAGE


def test_an_extra_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text((REPOSITORY / "pyproject.toml").read_text())
    done = subprocess.run(
        [sys.executable, REPOSITORY / "scripts" / "requirements.py", "none"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
