"""Rows of the ledger's tables as the structs that everybody uses, and the column lists that make them."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import asyncpg

from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.orders import Order, OrderState, Reservation, ReservationState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.values import Leg, OrderType, Side, TimeInForce
from tradingbot_agents.ledger.port import Balance, Decision, Entry, EntryProposal, Outcome, Trade

ORDER_COLUMNS = (
    "o.client_order_id, b.name AS bot_name, o.symbol, o.side, o.leg, o.type, o.time_in_force, o.amount,"
    " o.limit_price, o.stop_price, o.state, o.cause, o.attempt, o.correlation_id, o.created_at, o.expires_at,"
    " o.filled, o.cost, o.exchange_order_id, o.claimed_at, o.finished_at, o.reason"
)
RESERVATION_COLUMNS = "o.client_order_id, o.reserve_asset, o.reserve_amount, o.reserve_drawn, o.finished_at"
POSITION_COLUMNS = (
    "symbol, state, amount, cost, exit_hold, trade_id, entry_order, opened_at, stop_price, target_price, high_water,"
    " closing_reason, exit_attempts, realised, fees, trade_realised, trade_fees, bought, bought_cost, last_order"
)
# Decisions of intents that made no order. Takes the bot as $1.
DECIDED = """
SELECT number, intent_id, symbol, side, reason, detail, confidence, NULL AS client_order_id,
    NULL::numeric AS reserved, available_after, at
FROM decisions WHERE bot = $1
"""
# Entries, as the decisions that they are. Takes bot and account as $1 and $2.
ENTRIES = """
SELECT number, cause AS intent_id, symbol, side, NULL AS reason, '' AS detail, confidence, client_order_id,
    reserve_amount AS reserved, available_after, created_at AS at
FROM orders WHERE bot = $1 AND account = $2 AND leg = 'entry'
"""
TRADE_COLUMNS = "trade_id, symbol, opened_at, closed_at, bought, cost, profit, fees, leg, indicators"


def order(row: asyncpg.Record) -> Order:
    return Order(
        client_order_id=row["client_order_id"],
        bot=row["bot_name"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        leg=Leg(row["leg"]),
        type=OrderType(row["type"]),
        time_in_force=TimeInForce(row["time_in_force"]),
        amount=row["amount"],
        limit_price=row["limit_price"],
        stop_price=row["stop_price"],
        state=OrderState(row["state"]),
        cause=row["cause"],
        attempt=row["attempt"],
        correlation_id=row["correlation_id"],
        created_at=row["created_at"],
        expires_at=row["expires_at"],
        filled=row["filled"],
        cost=row["cost"],
        exchange_order_id=row["exchange_order_id"],
        claimed_at=row["claimed_at"],
        finished_at=row["finished_at"],
        reason=row["reason"],
    )


def reservation(row: asyncpg.Record) -> Reservation | None:
    """``None`` of an exit order. What an entry reserves is held until it is finished."""
    if row["reserve_asset"] is None:
        return None
    return Reservation(
        client_order_id=row["client_order_id"],
        asset=row["reserve_asset"],
        amount=row["reserve_amount"],
        drawn=row["reserve_drawn"],
        state=ReservationState.HELD if row["finished_at"] is None else ReservationState.SETTLED,
    )


def position(row: asyncpg.Record) -> Position:
    return Position(
        symbol=row["symbol"],
        state=PositionState(row["state"]),
        amount=row["amount"],
        cost=row["cost"],
        exit_hold=row["exit_hold"],
        trade_id=row["trade_id"],
        entry_order=row["entry_order"],
        opened_at=row["opened_at"],
        stop_price=row["stop_price"],
        target_price=row["target_price"],
        high_water=row["high_water"],
        closing_reason=row["closing_reason"],
        exit_attempts=row["exit_attempts"],
        realised=row["realised"],
        fees=row["fees"],
        trade_realised=row["trade_realised"],
        trade_fees=row["trade_fees"],
    )


def decision(row: asyncpg.Record) -> Decision:
    """A decision of before."""
    return Decision(
        intent_id=row["intent_id"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        outcome=Outcome.APPROVED if row["reason"] is None else Outcome.REJECTED,
        reason=Reason(row["reason"]) if row["reason"] is not None else None,
        detail=row["detail"],
        confidence=row["confidence"],
        client_order_id=row["client_order_id"],
        reserved=row["reserved"],
        available_after=row["available_after"],
        at=row["at"],
        new=False,
    )


def fill(row: asyncpg.Record) -> Fill:
    asset: str | None = row["fee_asset"]
    amount: Decimal | None = row["fee_amount"]
    return Fill(
        exchange_trade_id=row["exchange_trade_id"],
        client_order_id=row["client_order_id"],
        symbol=row["symbol"],
        side=Side(row["side"]),
        price=row["price"],
        amount=row["amount"],
        at=row["at"],
        fee=Fee(asset, amount, row["fee_quote_value"]) if asset is not None and amount is not None else None,
    )


def balance(row: asyncpg.Record) -> Balance:
    return Balance(
        asset=row["asset"],
        total=row["total"],
        reserved=row["reserved"],
        outside_holds=row["outside_holds"],
        set_aside=row["set_aside"],
    )


def trade(row: asyncpg.Record) -> Trade:
    return Trade(
        trade_id=row["trade_id"],
        symbol=row["symbol"],
        opened_at=row["opened_at"],
        closed_at=row["closed_at"],
        bought=row["bought"],
        cost=row["cost"],
        profit=row["profit"],
        fees=row["fees"],
        leg=Leg(row["leg"]),
        indicators=tuple(row["indicators"]),
    )


def entry(row: asyncpg.Record) -> Entry:
    return Entry(
        number=row["number"],
        asset=row["asset"],
        amount=row["amount"],
        kind=row["kind"],
        cause=row["cause"],
        at=row["at"],
    )


def proposal(asked: EntryProposal) -> list[str | None]:
    """A row of what the SQL function ``reserve`` takes; it names the columns."""
    return [
        asked.intent_id,
        asked.client_order_id,
        asked.symbol,
        str(asked.confidence),
        str(asked.amount),
        str(asked.limit_price),
        asked.reserve_asset,
        str(asked.reserve_amount),
        _text(asked.stop_price),
        _text(asked.target_price),
        _array(asked.indicators),
        asked.correlation_id,
        asked.at.isoformat(),
        asked.expires_at.isoformat(),
        _text(asked.max_open_positions),
    ]


def _text(value: Decimal | int | None) -> str | None:
    return None if value is None else str(value)


def _array(texts: Sequence[str]) -> str:
    """The literal of a ``text[]``."""
    quoted = (text.replace("\\", "\\\\").replace('"', '\\"') for text in texts)
    return "{" + ",".join(f'"{text}"' for text in quoted) + "}"


def placeholders(count: int, first: int = 1) -> str:
    """``$1, $2 …``"""
    return ", ".join(f"${number}" for number in range(first, first + count))


def columns(written: Sequence[Sequence[object]]) -> list[list[object]]:
    """Rows, at least one, as the arrays that ``unnest`` takes."""
    return [list(column) for column in zip(*written, strict=True)]
