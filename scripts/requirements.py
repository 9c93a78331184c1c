"""Prints what an extra of pyproject.toml needs, one requirement a line, so that an image installs it in a layer of
its own, before the source: ``python requirements.py agents``, in the folder of pyproject.toml."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path


def requirements(pyproject: str, extra: str) -> list[str]:
    """Those of the project itself, then those of ``extra``. Raises ``KeyError``: there is no such extra."""
    project = tomllib.loads(pyproject)["project"]
    return [*project["dependencies"], *project["optional-dependencies"][extra]]


if __name__ == "__main__":
    print("\n".join(requirements(Path("pyproject.toml").read_text(encoding="utf-8"), sys.argv[1])))
