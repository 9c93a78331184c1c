"""Writes the CustomResourceDefinition ``crds/tradingbots.yaml`` from the types, so that the two never differ.

``python scripts/generate_crd.py`` writes; with ``--check`` it only says whether the file is out of date, and ends
with 1 if it is.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import yaml

from tradingbot_api.crd import custom_resource_definition

FILE = Path(__file__).resolve().parent.parent / "crds" / "tradingbots.yaml"

HEADER = "# Generated from crds/tradingbot_api by scripts/generate_crd.py (`make crd`). Do not edit.\n"


def text() -> str:
    """What the file should hold."""
    return HEADER + yaml.safe_dump(custom_resource_definition(), sort_keys=False, allow_unicode=True, width=118)


def outdated(file: Path) -> bool:
    """Whether the file is missing or differs from the types."""
    return not file.exists() or file.read_text(encoding="utf-8") != text()


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write crds/tradingbots.yaml from the types.")
    parser.add_argument("--check", action="store_true", help="only say whether it is out of date")
    check: bool = parser.parse_args(arguments).check
    if not outdated(FILE):
        return 0
    if check:
        print(f"crds/{FILE.name} is out of date: run python scripts/generate_crd.py", file=sys.stderr)
        return 1
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
