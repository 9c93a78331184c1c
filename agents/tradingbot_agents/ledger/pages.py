"""The pages of the books, read and written: statements around one order, inside a transaction that has locked the
account (``PostgresLedger._enter``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext

import msgspec

from tradingbot_agents.domain import messages
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.values import ZERO, split_symbol
from tradingbot_agents.ledger import rows
from tradingbot_agents.ledger.booking import EXACT, BookedEntry, Folio, Holding, Movement
from tradingbot_agents.ledger.database import Connection
from tradingbot_agents.ledger.port import Balance, Books, Role, Trade, UnknownOrder

# The order, its position, and what the other live exit legs of that position may still sell.
_FOLIO = f"""
SELECT {rows.ORDER_COLUMNS}, o.reserve_asset, o.reserve_amount, o.reserve_drawn,
    o.bot, o.protect_stop, o.protect_target, o.indicators,
    (SELECT coalesce(sum(greatest(l.amount - l.filled, 0)), 0) FROM orders l
        WHERE l.account = o.account AND l.bot = o.bot AND l.finished_at IS NULL
            AND l.symbol = o.symbol AND l.leg <> 'entry' AND l.number <> o.number) AS other_remainders,
    ARRAY(SELECT f.exchange_trade_id FROM fills f
        WHERE f.account = o.account AND f.symbol = o.symbol AND f.exchange_trade_id = ANY ($3)) AS known_fills,
    (SELECT count(*) FROM trades t WHERE t.bot = o.bot AND t.entry_order = o.client_order_id) AS round_trips,
    (SELECT max(e.at) FROM entries e WHERE e.account = o.account AND e.kind IN ('outside', 'reversal')) AS moved_at
FROM orders o JOIN bots b ON b.id = o.bot WHERE o.account = $1 AND o.client_order_id = $2
"""

_HOLDING = f"""
SELECT {rows.POSITION_COLUMNS},
    (SELECT e.indicators FROM orders e
        WHERE e.account = $1 AND e.client_order_id = p.entry_order) AS trade_indicators
FROM positions p WHERE p.bot = $2 AND p.symbol = $3
"""

_HOLDING_FIELDS = (*Position.__struct_fields__, "bought", "bought_cost", "last_order")

_SAVE_HOLDING = (
    f"INSERT INTO positions (bot, {', '.join(_HOLDING_FIELDS)})"
    f" VALUES ({rows.placeholders(len(_HOLDING_FIELDS) + 1)}) ON CONFLICT (bot, symbol) DO UPDATE SET "
    + ", ".join(f"{name} = excluded.{name}" for name in _HOLDING_FIELDS if name != "symbol")
)

_MOVE = """
UPDATE balances b SET total = b.total + c.total, reserved = b.reserved + c.reserved,
    bookings = b.bookings + 1, shortfall = greatest(0, b.reserved + c.reserved + b.outside_holds - b.total - c.total)
FROM unnest($2::text[], $3::numeric[], $4::numeric[]) AS c (asset, total, reserved)
WHERE b.account = $1 AND b.asset = c.asset
RETURNING b.asset, b.total, b.reserved, b.outside_holds, b.set_aside
"""

_ADD_ENTRIES = """
INSERT INTO entries (account, asset, amount, kind, cause, at)
SELECT $1, * FROM unnest($2::text[], $3::numeric[], $4::text[], $5::text[], $6::timestamptz[])
"""

# What is taken back leaves no amount.
_MOVEMENTS = """
SELECT cause, asset, sum(amount) AS amount, min(at) AS at FROM entries
WHERE account = $1 AND kind IN ('outside', 'reversal')
GROUP BY cause, asset HAVING min(at) >= $2 AND sum(amount) <> 0 ORDER BY cause, asset
"""

_SET_HOLDS = """
UPDATE balances b SET outside_holds = h.held, shortfall = greatest(0, b.reserved + h.held - b.total)
FROM (SELECT asset, greatest(set_aside, coalesce(n.held, 0)) AS held FROM balances
    LEFT JOIN unnest($2::text[], $3::numeric[]) AS n (asset, held) USING (asset) WHERE account = $1) h
WHERE b.account = $1 AND b.asset = h.asset AND b.outside_holds <> h.held
"""

_ADD_FILLS = """
INSERT INTO fills (account, bot, symbol, exchange_trade_id, client_order_id, side, price, amount, at,
    fee_asset, fee_amount, fee_quote_value)
SELECT $1, $2, * FROM unnest($3::text[], $4::text[], $5::text[], $6::text[], $7::numeric[], $8::numeric[],
    $9::timestamptz[], $10::text[], $11::numeric[], $12::numeric[])
"""

_LIVE_REMAINDERS = """
SELECT coalesce(sum(greatest(amount - filled, 0)), 0) FROM orders
WHERE account = $1 AND bot = $2 AND finished_at IS NULL AND symbol = $3 AND leg <> 'entry'
"""

_ADD_LEG = """
INSERT INTO orders (account, bot, client_order_id, symbol, side, leg, type, time_in_force, amount, limit_price,
    stop_price, state, cause, attempt, correlation_id, created_at, claimed_at)
VALUES ($1, $2, $3, $4, 'sell', $5, $6, $7, $8, $9, $10, 'submitting', $11, $12, $13, $14, $14)
"""

_ADD_TRADE = f"""
INSERT INTO trades (bot, entry_order, {rows.TRADE_COLUMNS}) VALUES ($1, $2, {rows.placeholders(10, first=3)})
"""

_COUNT_PERFORMANCE = """
INSERT INTO indicator_performance AS i (bot, indicator, wins, losses)
SELECT $1, indicator, $3, $4 FROM unnest($2::text[]) AS indicator
ON CONFLICT (bot, indicator) DO UPDATE SET wins = i.wins + excluded.wins, losses = i.losses + excluded.losses
"""


async def load_folio(
    connection: Connection, account: int, client_order_id: str, trade_ids: Sequence[str] = ()
) -> tuple[int, Folio, frozenset[str], int]:
    """The order's bot, its folio, which of ``trade_ids`` are booked, and how many round trips it opened.

    Raises ``UnknownOrder``.
    """
    row = await connection.fetchrow(_FOLIO, account, client_order_id, list(trade_ids))
    if row is None:
        raise UnknownOrder(client_order_id)
    bot: int = row["bot"]
    folio = Folio(
        order=rows.order(row),
        reservation=rows.reservation(row),
        protect_stop=row["protect_stop"],
        protect_target=row["protect_target"],
        holding=await load_holding(connection, account, bot, row["symbol"]),
        other_remainders=row["other_remainders"],
        moved_at=row["moved_at"],
    )
    return bot, folio, frozenset(row["known_fills"]), row["round_trips"]


async def load_holding(connection: Connection, account: int, bot: int, symbol: str) -> Holding:
    row = await connection.fetchrow(_HOLDING, account, bot, symbol)
    if row is None:
        return Holding(position=Position(symbol=symbol))
    return Holding(
        position=rows.position(row),
        bought=row["bought"],
        bought_cost=row["bought_cost"],
        last_order=row["last_order"],
        indicators=tuple(row["trade_indicators"] or ()),
    )


async def save(
    connection: Connection, account: int, bot: int, before: Folio, after: Folio, entries: Sequence[BookedEntry] = ()
) -> list[Balance]:
    """Write what differs between two folios, and move the balances by it and by ``entries``; those balances."""
    order, reservation = after.order, after.reservation
    await connection.execute(
        "UPDATE orders SET state = $3, filled = $4, cost = $5, exchange_order_id = $6, claimed_at = $7,"
        " finished_at = $8, reason = $9, reserve_drawn = $10"
        " WHERE account = $1 AND client_order_id = $2",
        account,
        order.client_order_id,
        order.state.value,
        order.filled,
        order.cost,
        order.exchange_order_id,
        order.claimed_at,
        order.finished_at,
        order.reason,
        None if reservation is None else reservation.drawn,
    )
    if after.holding != before.holding:
        await save_holding(connection, bot, after.holding)
    with localcontext(EXACT):
        moves: dict[str, tuple[Decimal, Decimal]] = {}

        def add(asset: str, total: Decimal, reserved: Decimal) -> None:
            so_far = moves.get(asset, (ZERO, ZERO))
            moves[asset] = (so_far[0] + total, so_far[1] + reserved)

        booked = {entry.asset for entry in entries}
        for entry in entries:
            add(entry.asset, entry.amount, ZERO)
        if reservation is not None and before.reservation is not None:
            add(reservation.asset, ZERO, reservation.held - before.reservation.held)
        base, _ = split_symbol(order.symbol)
        add(base, ZERO, after.holding.position.exit_hold - before.holding.position.exit_hold)
    return await move(connection, account, {asset: by for asset, by in moves.items() if any(by) or asset in booked})


async def save_holding(connection: Connection, bot: int, holding: Holding) -> None:
    values = msgspec.structs.astuple(holding.position)
    await connection.execute(_SAVE_HOLDING, bot, *values, holding.bought, holding.bought_cost, holding.last_order)


async def move(connection: Connection, account: int, moves: Mapping[str, tuple[Decimal, Decimal]]) -> list[Balance]:
    """Change balances by (total, reserved) per asset; the balances afterwards."""
    if not moves:
        return []

    async def update(assets: Sequence[str]) -> list[Balance]:
        totals = [moves[asset][0] for asset in assets]
        reserved = [moves[asset][1] for asset in assets]
        return [rows.balance(row) for row in await connection.fetch(_MOVE, account, assets, totals, reserved)]

    moved = await update(sorted(moves))
    missing = sorted(moves.keys() - {balance.asset for balance in moved})
    if missing:
        await connection.execute(
            "INSERT INTO balances (account, asset) SELECT $1, unnest($2::text[])", account, missing
        )
        moved += await update(missing)
    return sorted(moved, key=lambda balance: balance.asset)


async def write_entries(connection: Connection, account: int, entries: Sequence[BookedEntry]) -> None:
    if entries:
        written = [msgspec.structs.astuple(entry) for entry in entries]
        await connection.execute(_ADD_ENTRIES, account, *rows.columns(written))


async def movements(connection: Connection, account: int, since: datetime) -> list[Movement]:
    """Outside movements that were booked at or after ``since`` and stand."""
    found: dict[str, tuple[datetime, dict[str, Decimal]]] = {}
    for row in await connection.fetch(_MOVEMENTS, account, since):
        found.setdefault(row["cause"], (row["at"], {}))[1][row["asset"]] = row["amount"]
    return [Movement(cause, at, amounts) for cause, (at, amounts) in found.items()]


async def set_holds(connection: Connection, account: int, holds: Mapping[str, Decimal]) -> None:
    await connection.execute(
        "INSERT INTO balances (account, asset) SELECT $1, unnest($2::text[]) ON CONFLICT DO NOTHING",
        account,
        list(holds),
    )
    await connection.execute(_SET_HOLDS, account, list(holds), list(holds.values()))


async def books(connection: Connection, account: int) -> Books:
    """Several statements: see that they see the same, by a snapshot or the account's lock."""
    opened_at = await connection.fetchval("SELECT opened_at FROM accounts WHERE id = $1", account)
    newest = await connection.fetchrow(
        "SELECT number, at FROM entries WHERE account = $1 ORDER BY number DESC LIMIT 1", account
    )
    balances = await connection.fetch(
        "SELECT asset, total, reserved, outside_holds, set_aside FROM balances WHERE account = $1 ORDER BY asset",
        account,
    )
    live = await connection.fetch(
        f"SELECT {rows.ORDER_COLUMNS} FROM orders o JOIN bots b ON b.id = o.bot"
        " WHERE o.account = $1 AND o.finished_at IS NULL AND o.state <> 'approved' ORDER BY o.number",
        account,
    )
    return Books(
        opened_at=opened_at,
        newest_entry=0 if newest is None else newest["number"],
        newest_at=None if newest is None else newest["at"],
        balances={row["asset"]: rows.balance(row) for row in balances},
        live=tuple(rows.order(row) for row in live),
    )


async def write_fills(connection: Connection, account: int, bot: int, fills: Sequence[Fill]) -> None:
    written = [
        (
            fill.symbol,
            fill.exchange_trade_id,
            fill.client_order_id,
            fill.side.value,
            fill.price,
            fill.amount,
            fill.at,
            None if fill.fee is None else fill.fee.asset,
            None if fill.fee is None else fill.fee.amount,
            None if fill.fee is None else fill.fee.quote_value,
        )
        for fill in fills
    ]
    await connection.execute(_ADD_FILLS, account, bot, *rows.columns(written))


async def write_trade(connection: Connection, bot: int, entry_order: str | None, trade: Trade) -> None:
    values = msgspec.structs.astuple(trade)
    await connection.execute(_ADD_TRADE, bot, entry_order, *values)
    won = trade.profit > ZERO
    await connection.execute(_COUNT_PERFORMANCE, bot, sorted(set(trade.indicators)), int(won), int(not won))


async def post(connection: Connection, bot: int, role: Role, message: Message) -> None:
    await connection.execute(
        "INSERT INTO outbox (bot, role, message) VALUES ($1, $2, $3)",
        bot,
        role.value,
        messages.encode(message).decode(),
    )


async def live_remainders(connection: Connection, account: int, bot: int, symbol: str) -> Decimal:
    """What the live exit legs of a position may still sell."""
    remainders: Decimal = await connection.fetchval(_LIVE_REMAINDERS, account, bot, symbol)
    return remainders


async def add_leg(connection: Connection, account: int, bot: int, order: Order) -> None:
    await connection.execute(
        _ADD_LEG,
        account,
        bot,
        order.client_order_id,
        order.symbol,
        order.leg.value,
        order.type.value,
        order.time_in_force.value,
        order.amount,
        order.limit_price,
        order.stop_price,
        order.cause,
        order.attempt,
        order.correlation_id,
        order.created_at,
    )
