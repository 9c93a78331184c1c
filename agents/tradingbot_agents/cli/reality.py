"""``reality-check history`` and ``show``: what earlier audits of a bot said. They only read."""

from __future__ import annotations

from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.output import Row, as_csv, as_json, as_table
from tradingbot_agents.ledger.reports import StoredReport
from tradingbot_agents.reality.history import decoded
from tradingbot_agents.reality.report import as_text
from tradingbot_agents.runtime.data import opened_books

_COLUMNS = ("number", "at", "result", "hold", "summary")


async def history(data_dir: Path | None, spec: Path | None, output: str, limit: int | None) -> int:
    """A line for each report, newest first."""
    async with opened_books(data_dir, spec) as books:
        rows = [_row(each) for each in await books.ledger.reports(limit)]
    if output == "json":
        print(as_json(rows))
    elif output == "csv":
        print(as_csv(rows, _COLUMNS))
    else:
        print(as_table(rows, _COLUMNS, empty="no check has reported yet"))
    return exit_codes.OK


async def show(data_dir: Path | None, spec: Path | None, output: str, number: int | None) -> int:
    """One report, by default the newest, as it was told then."""
    async with opened_books(data_dir, spec) as books:
        if number is None:
            stored = next(iter(await books.ledger.reports(1)), None)
        else:
            stored = await books.ledger.report(number)
    if stored is None:
        what = "no check has reported yet" if number is None else f"there is no report {number}, or it was pruned"
        print(f"{what}: tradingbot reality-check history lists those that there are")
        return exit_codes.BAD_INPUT
    if output == "json":
        print(stored.document)
        return exit_codes.OK
    try:
        report = decoded(stored)
    except ValueError as error:
        print(f"{error}; --output json shows it as it is")
        return exit_codes.BAD_INPUT
    print(as_text(report))
    return exit_codes.OK


def _row(stored: StoredReport) -> Row:
    try:
        summary = decoded(stored).summary
    except ValueError:
        summary = "of another release"
    return {
        "number": stored.number,
        "at": stored.at,
        "result": stored.result,
        "hold": stored.hold,
        "summary": summary,
    }
