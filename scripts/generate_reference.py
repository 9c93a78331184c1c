"""Writes the published contracts of ``docs/reference/`` from the types, so that the two never differ.

``python scripts/generate_reference.py`` writes; with ``--check`` it only says which files are out of date, and
ends with 1 if there are any.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tradingbot_agents.domain import events, messages
from tradingbot_agents.reality import news, report

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"


def reference() -> dict[str, str]:
    """What each generated file should hold, by its name."""
    schemas = {
        "messages.schema.json": messages.json_schema(),
        "events.schema.json": events.json_schema(),
        "reality-report.schema.json": report.json_schema(),
        "reality-message.schema.json": news.json_schema(),
    }
    return {name: json.dumps(schema, indent=2, ensure_ascii=False) + "\n" for name, schema in schemas.items()}


def outdated(folder: Path) -> list[str]:
    """Names of the files that are missing or differ from the types."""
    return [name for name, text in reference().items() if _read(folder / name) != text]


def _read(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Write docs/reference/ from the types.")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    check: bool = parser.parse_args(arguments).check
    stale = outdated(REFERENCE)
    if check:
        for name in stale:
            print(f"docs/reference/{name} is out of date: run python scripts/generate_reference.py", file=sys.stderr)
        return 1 if stale else 0
    REFERENCE.mkdir(parents=True, exist_ok=True)
    for name, text in reference().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
