"""Rows for people, for programs and for spreadsheets, from the same data."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from tradingbot_agents.domain.spelling import spelled

Row = Mapping[str, Any]


def as_json(data: Any) -> str:
    return json.dumps(spelled(data), indent=2)


def as_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: "" if value is None else spelled(value) for key, value in row.items()})
    return text.getvalue().rstrip("\n")


def as_table(rows: Sequence[Row], columns: Sequence[str], *, empty: str) -> str:
    """Columns as wide as their widest cell, like ``kubectl get``."""
    if not rows:
        return empty
    cells = [[column.upper().replace("_", " ") for column in columns]]
    cells += [[_cell(row.get(column)) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells
    )


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M:%S}"
    return str(spelled(value))
