"""What ``status``, ``positions``, ``orders``, ``fills``, ``hold``, ``release`` and ``migrate`` print."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from tradingbot_agents.cli import exit_codes, migrating
from tradingbot_agents.cli.main import main
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.spelling import spelled
from tradingbot_agents.domain.values import BotState, Leg, OrderType, Side, TimeInForce
from tradingbot_agents.ledger.datadir import DataDir
from tradingbot_agents.ledger.migrate import required_version
from tradingbot_agents.ledger.port import Balance, EquityPoint, Hold, Invariant
from tradingbot_agents.runtime import data as data_dirs

AT = datetime(2024, 3, 21, 22, 15, 0, 300000, tzinfo=UTC)
IDENTITY = {"bot": "majors", "mode": "paper", "exchange": "simulated", "endpoint": "", "account": "main"}

ENTRY = Order(
    client_order_id="tbentry",
    bot="majors",
    symbol="SHIB/USDT",
    side=Side.BUY,
    leg=Leg.ENTRY,
    type=OrderType.LIMIT,
    time_in_force=TimeInForce.IOC,
    amount=Decimal("1000000"),
    limit_price=Decimal("0.00000812"),
    stop_price=None,
    state=OrderState.FILLED,
    filled=Decimal("1000000"),
    cost=Decimal("8.12"),
    cause="intent",
    correlation_id="candle",
    attempt=1,
    created_at=AT,
    expires_at=AT,
    exchange_order_id="17",
)
"""Prices of such a coin are where exponents would creep in."""

FILL = Fill(
    exchange_trade_id="4",
    client_order_id="tbentry",
    symbol="SHIB/USDT",
    side=Side.BUY,
    amount=Decimal("1000000"),
    price=Decimal("0.00000812"),
    fee=Fee(asset="SHIB", amount=Decimal("1E+3"), quote_value=Decimal("0.00812")),
    at=AT,
)
HELD = Position(
    symbol="SHIB/USDT",
    state=PositionState.OPEN,
    amount=Decimal("999000.00"),
    cost=Decimal("8.12"),
    opened_at=AT,
    stop_price=Decimal("0.00000771"),
    target_price=Decimal("0.00000893"),
    fees=Decimal("0.00812"),
)
SOLD = Position(symbol="BTC/USDT", realised=Decimal("-7.50"), fees=Decimal("1.25"), stop_price=Decimal(60000))


class Books:
    """A ledger that answers with what a test gave it."""

    def __init__(self) -> None:
        self.held: Hold | None = None
        self.broken: tuple[str, ...] = ()
        self.empty = False

    def _rows(self, *rows: Any) -> list[Any]:
        return [] if self.empty else list(rows)

    async def balances(self) -> dict[str, Balance]:
        usdt = Balance(asset="USDT", total=Decimal("84.54"), reserved=Decimal("67.63"), outside_holds=Decimal(0))
        return {each.asset: each for each in self._rows(usdt)}

    async def positions(self) -> dict[str, Position]:
        return {each.symbol: each for each in self._rows(HELD, SOLD)}

    async def orders(self, limit: int | None = None) -> list[Order]:
        return self._rows(ENTRY, ENTRY)[:limit]

    async def fills(self, limit: int | None = None) -> list[Fill]:
        return self._rows(FILL, FILL)[:limit]

    async def live_orders(self) -> list[Order]:
        return self._rows(ENTRY)

    async def orders_to_send(self) -> list[Order]:
        return []

    async def trades(self) -> list[Any]:
        return self._rows("one", "two")

    async def refusals(self) -> dict[str, int]:
        refused = {Reason.STALE_INTENT.value: 1, Reason.INSUFFICIENT_AVAILABLE_BALANCE.value: 2}
        return {} if self.empty else refused

    async def equity(self) -> list[EquityPoint]:
        return self._rows(EquityPoint(AT, Decimal("1084.5449")))

    async def invariants(self) -> list[Invariant]:
        return [Invariant(name="no_overcommitment", protects="money", violations=self.broken)]

    async def hold(self) -> Hold | None:
        return self.held

    async def place_hold(self, hold: Hold) -> None:
        self.held = hold

    async def release_hold(self) -> bool:
        had, self.held = self.held is not None, None
        return had


@pytest.fixture
def books(monkeypatch: pytest.MonkeyPatch) -> Books:
    books = Books()

    @asynccontextmanager
    async def opened(path: Path, *, update_schema: bool = False) -> AsyncIterator[Books]:
        yield books

    for module in (data_dirs, migrating):
        monkeypatch.setattr(module, "opened_ledger", opened)
    return books


@pytest.fixture
def data(tmp_path: Path, books: Books) -> str:
    DataDir.open(tmp_path / "data", now=AT, identity=IDENTITY).close()
    return str(tmp_path / "data")


def printed(capsys: pytest.CaptureFixture[str], data: str, *arguments: str) -> str:
    assert main([*arguments, "--data-dir", data]) == exit_codes.OK
    shown = capsys.readouterr()
    assert shown.err == ""
    return shown.out


STATUS = """\
majors on paper/simulated/main
  hold        none
  equity      1,084.54 at 2024-03-21 22:15 UTC
  positions   1 open
  orders      1 live, 0 to send
  trades      2 closed, -7.50 realised, 1.26 fees
  refusals    insufficient_available_balance 2, stale_intent 1
  invariants  1 checked, all hold

ASSET   TOTAL   RESERVED   OUTSIDE HOLDS   AVAILABLE
USDT    84.54   67.63      0               16.91
"""


def test_status(capsys: pytest.CaptureFixture[str], data: str) -> None:
    assert printed(capsys, data, "status") == STATUS


def test_status_of_a_bot_that_did_nothing_yet(capsys: pytest.CaptureFixture[str], data: str, books: Books) -> None:
    books.empty = True
    text = printed(capsys, data, "status")
    assert "  equity      not counted yet\n" in text
    assert "  refusals    none\n" in text
    assert text.endswith("\nno balances\n")


def test_status_shows_a_hold_and_what_is_broken(capsys: pytest.CaptureFixture[str], data: str, books: Books) -> None:
    books.held = Hold(state=BotState.PAUSED, reason="a look", by="command", at=AT)
    books.broken = ("USDT by 3",)
    text = printed(capsys, data, "status")
    assert "  hold        Paused by command: a look\n" in text
    assert "  invariants  1 checked, 1 VIOLATED\n    no_overcommitment: USDT by 3\n" in text


def test_status_as_json(capsys: pytest.CaptureFixture[str], data: str, books: Books) -> None:
    books.held = Hold(state=BotState.PAUSED, reason="a look", by="command", at=AT)
    status = json.loads(printed(capsys, data, "status", "--output", "json"))
    assert status["bot"] == "majors"
    assert status["hold"] == {"state": "Paused", "reason": "a look", "by": "command", "at": spelled(AT)}
    assert status["equity"] == {"at": spelled(AT), "value": "1084.5449"}
    assert status["balances"] == [
        {"asset": "USDT", "total": "84.54", "reserved": "67.63", "outside_holds": "0", "available": "16.91"}
    ]
    assert (status["open_positions"], status["live_orders"], status["trades"]) == (1, 1, 2)
    assert (status["realised"], status["fees"]) == ("-7.50", "1.25812")
    assert status["invariants"] == {"checked": 1, "violated": []}


def test_positions(capsys: pytest.CaptureFixture[str], data: str) -> None:
    head, flat, held = printed(capsys, data, "positions").splitlines()
    assert head.split("  ")[0] == "SYMBOL"
    assert "AVERAGE COST" in head
    assert flat.split() == ["BTC/USDT", "flat", "0", "-", "-", "-", "-", "-7.5", "1.25"]
    assert held.split() == [
        "SHIB/USDT", "open", "999000", "0.000008128128", "0.00000771", "0.00000893", "2024-03-21", "22:15:00", "0",
        "0.00812",
    ]  # fmt: skip


def test_orders_with_prices_of_many_places(capsys: pytest.CaptureFixture[str], data: str) -> None:
    head, row, again = printed(capsys, data, "orders").splitlines()
    assert "EXCHANGE" not in head
    assert row == again
    assert row.split() == [
        "2024-03-21", "22:15:00", "tbentry", "SHIB/USDT", "buy", "entry", "limit", "1000000", "0.00000812", "-",
        "filled", "1000000", "0.00000812", "-",
    ]  # fmt: skip


def test_a_limit_gives_the_newest_so_many(capsys: pytest.CaptureFixture[str], data: str) -> None:
    assert len(printed(capsys, data, "orders", "--limit", "1").splitlines()) == 2
    assert len(json.loads(printed(capsys, data, "fills", "--limit", "1", "--output", "json"))) == 1


@pytest.mark.parametrize("command", ["positions", "orders", "fills"])
def test_no_number_is_a_float_or_has_an_exponent(capsys: pytest.CaptureFixture[str], data: str, command: str) -> None:
    rows = json.loads(printed(capsys, data, command, "--output", "json"))
    spreadsheet = list(csv.DictReader(io.StringIO(printed(capsys, data, command, "--output", "csv"))))
    assert len(rows) == len(spreadsheet) == 2
    for row, line in zip(rows, spreadsheet, strict=True):
        assert list(row) == list(line), "both have the same columns in the same order"
        for name, value in row.items():
            assert not isinstance(value, float)
            assert line[name] == ("" if value is None else value)
            if value is not None and value[:1].isdigit():
                assert "E" not in value.upper().replace("SHIB", "")


def test_fills_as_csv(capsys: pytest.CaptureFixture[str], data: str) -> None:
    assert printed(capsys, data, "fills", "--output", "csv", "--limit", "1") == (
        "at,symbol,side,amount,price,cost,fee,fee_asset,client_order_id,exchange_trade_id\n"
        "2024-03-21T22:15:00.300000Z,SHIB/USDT,buy,1000000,0.00000812,8.12000000,1000,SHIB,tbentry,4\n"
    )


@pytest.mark.parametrize("command", ["positions", "orders", "fills"])
def test_nothing_is_an_answer_in_every_format(
    capsys: pytest.CaptureFixture[str], data: str, books: Books, command: str
) -> None:
    with_rows = printed(capsys, data, command, "--output", "csv").splitlines()[0]
    books.empty = True
    assert printed(capsys, data, command) == f"no {command} yet\n"
    assert json.loads(printed(capsys, data, command, "--output", "json")) == []
    assert printed(capsys, data, command, "--output", "csv") == f"{with_rows}\n"


def test_hold_and_release(capsys: pytest.CaptureFixture[str], data: str, books: Books) -> None:
    assert printed(capsys, data, "hold", "Flatten", "--reason", "a look at the fees") == (
        f"held at Flatten; take it away with: tradingbot release --data-dir {data}\n"
    )
    assert books.held is not None
    assert (books.held.state, books.held.reason, books.held.by) == (BotState.FLATTEN, "a look at the fees", "command")
    assert books.held.at.tzinfo is UTC
    assert printed(capsys, data, "release") == "released: what spec.state says counts again\n"
    assert books.held is None
    assert printed(capsys, data, "release") == "there was no hold\n"


def test_migrate(capsys: pytest.CaptureFixture[str], data: str) -> None:
    assert printed(capsys, data, "migrate") == f"{data}: the schema is at {required_version()}\n"


@pytest.mark.parametrize("command", ["status", "positions", "orders", "fills", "release", "migrate"])
def test_a_place_without_a_bot_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, books: Books, command: str
) -> None:
    assert main([command, "--data-dir", str(tmp_path / "nowhere")]) == exit_codes.DATA_DIRECTORY
    assert "does not exist: name the data directory of a bot with --data-dir" in capsys.readouterr().err
