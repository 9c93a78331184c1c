"""``status``, ``positions``, ``orders`` and ``fills``: what a bot's ledger says, also while it runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.output import Row, as_csv, as_json, as_table
from tradingbot_agents.domain.values import ZERO
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.runtime.data import OpenedBooks, opened_books


class Reader(msgspec.Struct, frozen=True):
    """Rows of one kind, their columns, and what to say when there are none."""

    rows: Callable[[PostgresLedger, int | None], Awaitable[list[Row]]]
    columns: tuple[str, ...]
    empty: str
    not_in_table: tuple[str, ...] = ()
    """Columns that only JSON and CSV have."""


async def read(
    reader: Reader | None, data_dir: Path | None, spec: Path | None, output: str, limit: int | None
) -> int:
    """Print what a reader reads; ``None`` is the status."""
    async with opened_books(data_dir, spec) as books:
        if reader is None:
            status = await _status(books)
            print(as_json(status) if output == "json" else _status_text(status))
            return exit_codes.OK
        rows = await reader.rows(books.ledger, limit)
    if output == "json":
        print(as_json(rows))
    elif output == "csv":
        print(as_csv(rows, reader.columns))
    else:
        shown = [column for column in reader.columns if column not in reader.not_in_table]
        print(as_table(rows, shown, empty=reader.empty))
    return exit_codes.OK


async def _positions(ledger: PostgresLedger, limit: int | None) -> list[Row]:
    positions = await ledger.positions()
    rows: list[Row] = [
        {
            "symbol": position.symbol,
            "state": position.state,
            "amount": position.amount,
            "average_cost": position.average_cost,
            "stop": position.stop_price if position.is_held else None,
            "target": position.target_price if position.is_held else None,
            "opened_at": position.opened_at if position.is_held else None,
            "realised": position.realised,
            "fees": position.fees,
        }
        for _, position in sorted(positions.items())
    ]
    return rows[:limit]


async def _orders(ledger: PostgresLedger, limit: int | None) -> list[Row]:
    return [
        {
            "created_at": order.created_at,
            "client_order_id": order.client_order_id,
            "symbol": order.symbol,
            "side": order.side,
            "leg": order.leg,
            "type": order.type,
            "amount": order.amount,
            "limit_price": order.limit_price,
            "stop_price": order.stop_price,
            "state": order.state,
            "filled": order.filled,
            "average_price": _rounded(order.average_price),
            "reason": order.reason,
            "exchange_order_id": order.exchange_order_id,
        }
        for order in await ledger.orders(limit)
    ]


async def _fills(ledger: PostgresLedger, limit: int | None) -> list[Row]:
    return [
        {
            "at": fill.at,
            "symbol": fill.symbol,
            "side": fill.side,
            "amount": fill.amount,
            "price": fill.price,
            "cost": fill.cost,
            "fee": fill.fee.amount if fill.fee is not None else ZERO,
            "fee_asset": fill.fee.asset if fill.fee is not None else None,
            "client_order_id": fill.client_order_id,
            "exchange_trade_id": fill.exchange_trade_id,
        }
        for fill in await ledger.fills(limit)
    ]


def _rounded(price: Decimal | None) -> Decimal | None:
    return None if price is None else round(price, 8)


async def _status(books: OpenedBooks) -> dict[str, Any]:
    ledger = books.ledger
    balances = await ledger.balances()
    positions = await ledger.positions()
    hold = await ledger.hold()
    equity = await ledger.equity()
    invariants = await ledger.invariants()
    account = books.account
    return {
        "bot": books.bot,
        "account": "/".join((account.mode.value, account.exchange, account.name)),
        "hold": None if hold is None else {"state": hold.state, "reason": hold.reason, "by": hold.by, "at": hold.at},
        "equity": {"at": equity[-1].at, "value": equity[-1].equity} if equity else None,
        "balances": [
            {
                "asset": balance.asset,
                "total": balance.total,
                "reserved": balance.reserved,
                "outside_holds": balance.outside_holds,
                "available": balance.available,
            }
            for _, balance in sorted(balances.items())
        ],
        "open_positions": sum(1 for position in positions.values() if position.is_held),
        "live_orders": len(await ledger.live_orders()),
        "orders_to_send": len(await ledger.orders_to_send()),
        "trades": len(await ledger.trades()),
        "realised": sum((position.realised for position in positions.values()), ZERO),
        "fees": sum((position.fees for position in positions.values()), ZERO),
        "refusals": await ledger.refusals(),
        "invariants": {
            "checked": len(invariants),
            "violated": [f"{invariant.name}: {text}" for invariant in invariants for text in invariant.violations],
        },
    }


def _status_text(status: dict[str, Any]) -> str:
    violated = status["invariants"]["violated"]
    refusals = ", ".join(f"{reason} {count}" for reason, count in sorted(status["refusals"].items())) or "none"
    lines = [
        f"{status['bot']} on {status['account']}",
        f"  hold        {_hold_text(status['hold'])}",
        f"  equity      {_equity_text(status['equity'])}",
        f"  positions   {status['open_positions']} open",
        f"  orders      {status['live_orders']} live, {status['orders_to_send']} to send",
        f"  trades      {status['trades']} closed, {status['realised']:,.2f} realised, {status['fees']:,.2f} fees",
        f"  refusals    {refusals}",
        f"  invariants  {status['invariants']['checked']} checked, "
        + ("all hold" if not violated else f"{len(violated)} VIOLATED"),
        *(f"    {text}" for text in violated),
        "",
        as_table(
            status["balances"], ("asset", "total", "reserved", "outside_holds", "available"), empty="no balances"
        ),
    ]
    return "\n".join(lines)


def _hold_text(hold: dict[str, Any] | None) -> str:
    return "none" if hold is None else f"{hold['state'].value} by {hold['by']}: {hold['reason']}"


def _equity_text(equity: dict[str, Any] | None) -> str:
    return "not counted yet" if equity is None else f"{equity['value']:,.2f} at {equity['at']:%Y-%m-%d %H:%M} UTC"


READERS: dict[str, Reader | None] = {
    "status": None,
    "positions": Reader(
        _positions,
        ("symbol", "state", "amount", "average_cost", "stop", "target", "opened_at", "realised", "fees"),
        "no positions yet",
    ),
    "orders": Reader(
        _orders,
        (
            "created_at",
            "client_order_id",
            "symbol",
            "side",
            "leg",
            "type",
            "amount",
            "limit_price",
            "stop_price",
            "state",
            "filled",
            "average_price",
            "reason",
            "exchange_order_id",
        ),
        "no orders yet",
        not_in_table=("exchange_order_id",),
    ),
    "fills": Reader(
        _fills,
        (
            "at",
            "symbol",
            "side",
            "amount",
            "price",
            "cost",
            "fee",
            "fee_asset",
            "client_order_id",
            "exchange_trade_id",
        ),
        "no fills yet",
        not_in_table=("exchange_trade_id",),
    ),
}
