"""Rows as a table, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum

from tradingbot_agents.cli.output import as_csv, as_json, as_table


class Colour(StrEnum):
    RED = "red"


ROW = {
    "symbol": "BTC/USDT",
    "amount": Decimal("0.00348360"),
    "fee": Decimal("6.582E-8"),
    "at": datetime(2024, 3, 1, 12, 0, 0, 300000, tzinfo=UTC),
    "state": Colour.RED,
    "stop": None,
}


def test_json_has_decimals_as_strings_never_as_floats_or_with_exponents() -> None:
    (row,) = json.loads(as_json([ROW]))
    assert row == {
        "symbol": "BTC/USDT",
        "amount": "0.00348360",
        "fee": "0.00000006582",
        "at": "2024-03-01T12:00:00.300000Z",
        "state": "red",
        "stop": None,
    }


def test_csv_has_a_header_and_an_empty_cell_for_what_is_not_there() -> None:
    text = as_csv([ROW], ("symbol", "amount", "fee", "stop", "state"))
    assert text == "symbol,amount,fee,stop,state\nBTC/USDT,0.00348360,0.00000006582,,red"
    assert as_csv([], ("symbol", "amount")) == "symbol,amount"


def test_csv_quotes_what_needs_it() -> None:
    said = 'said "no", then\nnothing'
    text = as_csv([{"reason": said}], ("reason",))
    assert list(csv.DictReader(io.StringIO(text))) == [{"reason": said}]


def test_a_table_is_as_wide_as_its_widest_cells() -> None:
    rows = [ROW, {**ROW, "symbol": "A/B", "amount": Decimal("1200.50"), "fee": Decimal(0)}]
    assert as_table(rows, ("symbol", "amount", "fee", "at", "stop"), empty="nothing") == (
        "SYMBOL     AMOUNT      FEE             AT                    STOP\n"
        "BTC/USDT   0.0034836   0.00000006582   2024-03-01 12:00:00   -\n"
        "A/B        1200.5      0               2024-03-01 12:00:00   -"
    )


def test_a_table_names_its_columns_in_words_and_an_empty_one_says_so() -> None:
    assert as_table([{"average_cost": 1}], ("average_cost",), empty="").splitlines()[0] == "AVERAGE COST"
    assert as_table([], ("symbol",), empty="no orders yet") == "no orders yet"
