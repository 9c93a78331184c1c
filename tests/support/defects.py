"""Ways to break a running bot on purpose, each of which a reality check must name, and how each is mended.

Most are done behind the back of agents that are stopped for as long (SIGSTOP): some of them would mend it by
themselves before anybody could look.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import aio_pika
import asyncpg
import msgspec
from aio_pika.abc import HeadersType

from support.market import BAR
from support.stack import Stack
from tradingbot_agents.bus.rabbitmq_topology import Names
from tradingbot_agents.bus.topology import EXECUTION, RISK, STRATEGY, TECHNICAL_ANALYSIS
from tradingbot_agents.domain.values import floor_time

Break = Callable[[Stack], AbstractAsyncContextManager[None]]

_WRITERS = (STRATEGY, RISK, EXECUTION)


class Defect(msgspec.Struct, frozen=True):
    name: str
    named: frozenset[str]
    """Checks that must fail."""
    broken: Break
    """It is broken while this lasts."""
    frozen: tuple[str, ...] = _WRITERS
    """Agents that do nothing meanwhile, and are not asked."""
    unknown: frozenset[str] = frozenset()
    """Checks that must be unknown."""


def sql(breaks: str, mends: str) -> Break:
    """Statements in the ledger, with a superuser's right to what no agent can do."""

    @asynccontextmanager
    async def broken(stack: Stack) -> AsyncIterator[None]:
        connection = await asyncpg.connect(stack.dsn)
        try:
            await connection.execute(breaks)
            try:
                yield
            finally:
                await connection.execute(mends)
        finally:
            await connection.close()

    return broken


def row(table: str, where: str, change: str | None) -> Break:
    """Rows are deleted, or changed (``SET …``), and put back as they were."""
    breaks = f"DELETE FROM {table} WHERE {where}" if change is None else f"UPDATE {table} SET {change} WHERE {where}"
    return sql(
        f"CREATE TABLE kept AS SELECT * FROM {table} WHERE {where}; {breaks}",
        f"DELETE FROM {table} t USING kept WHERE t.{{key}} = kept.{{key}};".format(key=_KEYS[table])
        + f"INSERT INTO {table} OVERRIDING SYSTEM VALUE SELECT * FROM kept; DROP TABLE kept",
    )


_KEYS = {"fills": "number", "orders": "number", "entries": "number", "positions": "symbol", "balances": "asset"}

_FIRST_FILL = "number = (SELECT min(number) FROM fills)"
_NEWEST_ENTRY = "number = (SELECT max(number) FROM orders WHERE leg = 'entry' AND filled > 0)"
_A_STOP = "number = (SELECT max(number) FROM orders WHERE leg = 'stop' AND state = 'open')"
_ONE_HELD = "symbol = (SELECT min(symbol) FROM positions WHERE state = 'open')"


def event(name: str, severity: str, agent: str, fields: str) -> Break:
    """A row as an agent writes it."""
    return sql(
        "INSERT INTO events (bot, digest, name, severity, at, fields) SELECT max(id), 'seeded', "
        f"'{name}', '{severity}', now(), jsonb_build_object('agent', '{agent}', 'at', now()) || '{fields}' FROM bots",
        "DELETE FROM events WHERE digest = 'seeded'",
    )


# --- InfluxDB ----------------------------------------------------------------------------------------------------


def _bar_of_the_past(stack: Stack) -> datetime:
    return floor_time(datetime.now(UTC), BAR) - 4 * BAR


def _bucket(stack: Stack) -> str:
    from tradingbot_agents.runtime.wiring import time_series_settings

    return time_series_settings(stack.bot).bucket


async def _write_bar(stack: Stack, opened: datetime, factor: Decimal) -> None:
    candle = stack.exchange.candle("BTC/USDT", "1m", opened)
    fields = ",".join(
        f"{name}={getattr(candle, name) * (1 if name == 'volume' else factor):f}"
        for name in ("open", "high", "low", "close", "volume")
    )
    line = f"candles,symbol=BTC/USDT,timeframe=1m {fields} {int(opened.timestamp())}"
    stack.influx.write(_bucket(stack), line)


@asynccontextmanager
async def _poisoned(stack: Stack) -> AsyncIterator[None]:
    opened = _bar_of_the_past(stack)
    await _write_bar(stack, opened, Decimal("1.02"))
    try:
        yield
    finally:
        await _write_bar(stack, opened, Decimal(1))


@asynccontextmanager
async def _bar_missing(stack: Stack) -> AsyncIterator[None]:
    opened = _bar_of_the_past(stack)
    stack.influx.ask(
        "POST",
        f"/api/v2/delete?org={stack.influx.organization}&bucket={_bucket(stack)}",
        {
            "start": opened.isoformat(),
            "stop": (opened + timedelta(seconds=30)).isoformat(),
            "predicate": '_measurement="candles" AND symbol="BTC/USDT"',
        },
    )
    try:
        yield
    finally:
        await _write_bar(stack, opened, Decimal(1))


@asynccontextmanager
async def _influx_frozen(stack: Stack) -> AsyncIterator[None]:
    stack.influx.send(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.influx.send(signal.SIGCONT)


# --- the exchange ------------------------------------------------------------------------------------------------


def _order_by_hand(prefix: str) -> Break:
    """With a name as ours have (``tb…``), or another."""

    @asynccontextmanager
    async def broken(stack: Stack) -> AsyncIterator[None]:
        books = stack.exchange.books
        placed = books.place(
            symbol="BTCUSDT",
            side="BUY",
            type="LIMIT",
            time_in_force="GTC",
            quantity=Decimal("0.001"),
            price=Decimal("30000"),
            stop_price=None,
            client_order_id=f"{prefix}0123456789abcdef",
            now=stack.exchange.now(),
        )
        try:
            yield
        finally:
            if placed.open:
                books.cancel("BTCUSDT", placed.id, None, stack.exchange.now())
            # As it was: at the end the books are compared.
            books.orders.remove(placed)

    return broken


@asynccontextmanager
async def _stop_cancelled(stack: Stack) -> AsyncIterator[None]:
    books = stack.exchange.books
    stop = books.open_orders[0]
    books.cancel(stop.symbol, stop.id, None, stack.exchange.now())
    try:
        yield
    finally:
        # As it was: the cancel never happened.
        stop.status = "NEW"
        balance = books.balances[books.market(stop.symbol).base]
        balance.free -= stop.amount
        balance.locked += stop.amount
        stop.locked = stop.amount


@asynccontextmanager
async def _withdrawn(stack: Stack) -> AsyncIterator[None]:
    balance = stack.exchange.books.balances["USDT"]
    balance.free -= 50
    try:
        yield
    finally:
        balance.free += 50


@asynccontextmanager
async def _clock_moved(stack: Stack) -> AsyncIterator[None]:
    stack.exchange.skew = timedelta(seconds=8)
    try:
        yield
    finally:
        stack.exchange.skew = timedelta(0)


@asynccontextmanager
async def _rules_changed(stack: Stack) -> AsyncIterator[None]:
    market = stack.exchange.market("ETH/USDT")
    before = market.step
    market.step = before * 10
    try:
        yield
    finally:
        market.step = before


# --- the agents --------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _frozen(stack: Stack) -> AsyncIterator[None]:
    async with stack.frozen([STRATEGY]):
        yield


@asynccontextmanager
async def _consumer_gone(stack: Stack) -> AsyncIterator[None]:
    await stack.agents[TECHNICAL_ANALYSIS].kill()
    try:
        yield
    finally:
        stack.start([TECHNICAL_ANALYSIS])
        await stack.ready([TECHNICAL_ANALYSIS])


@asynccontextmanager
async def _old_revision(stack: Stack) -> AsyncIterator[None]:
    """The spec is another one now, and nobody has started the agents again."""
    stack.change_spec({"risk.stopLoss": "0.06"})
    try:
        yield
    finally:
        stack.change_spec({})


@asynccontextmanager
async def _dead_letter(stack: Stack) -> AsyncIterator[None]:
    names = Names(stack.bot.metadata.name)
    headers: HeadersType = {
        "id": "intent-1",
        "queue": "risk.intents",
        "reason": "seeded",
        "deliveries": 5,
        "at": datetime.now(UTC).isoformat(),
    }
    connection = await aio_pika.connect(stack.rabbitmq.url)
    try:
        channel = await connection.channel()
        message = aio_pika.Message(b"{}", headers=headers, delivery_mode=aio_pika.DeliveryMode.PERSISTENT)
        await channel.default_exchange.publish(message, names.dead_letters)
        try:
            yield
        finally:
            await (await channel.get_queue(names.dead_letters, ensure=False)).purge()
    finally:
        await connection.close()


@asynccontextmanager
async def _error_logged(stack: Stack) -> AsyncIterator[None]:
    now = datetime.now(UTC).isoformat()
    stack.more_log = (
        f'{{"event": "telling_failed", "level": "error", "agent": "risk", "bot": "stack", "timestamp": "{now}",'
        ' "error": "ValueError: seeded"}\n'
    )
    try:
        yield
    finally:
        stack.more_log = ""


DEFECTS = (
    Defect("a fill is deleted", frozenset({"orders.fills"}), row("fills", _FIRST_FILL, None)),
    Defect(
        "a fill is doubled",
        frozenset({"orders.fills"}),
        sql(
            "INSERT INTO fills (account, bot, symbol, exchange_trade_id, client_order_id, side, price, amount, at,"
            " fee_asset, fee_amount, fee_quote_value) SELECT account, bot, symbol, exchange_trade_id || '0',"
            " client_order_id, side, price, amount, at, fee_asset, fee_amount, fee_quote_value FROM fills"
            f" WHERE {_FIRST_FILL}",
            "DELETE FROM fills WHERE number = (SELECT max(number) FROM fills)",
        ),
    ),
    Defect(
        "a reservation is orphaned",
        frozenset({"balance.invariants"}),
        sql(
            "UPDATE balances SET reserved = reserved + 5 WHERE asset = 'USDT'",
            "UPDATE balances SET reserved = reserved - 5 WHERE asset = 'USDT'",
        ),
    ),
    Defect(
        "an approved order is never sent",
        frozenset({"orders.resolved"}),
        row(
            "orders", _NEWEST_ENTRY, "state = 'approved', claimed_at = NULL, finished_at = NULL, filled = 0, cost = 0"
        ),
    ),
    Defect(
        "money appears in the ledger",
        frozenset({"accounting.entries", "positions.holdings"}),
        sql(
            "UPDATE balances SET total = total + 10 WHERE asset = 'USDT'",
            "UPDATE balances SET total = total - 10 WHERE asset = 'USDT'",
        ),
    ),
    Defect(
        "an entry is deleted",
        frozenset({"accounting.entries"}),
        row("entries", "number = (SELECT max(number) FROM entries WHERE kind = 'fill')", None),
    ),
    Defect(
        "a position is edited", frozenset({"positions.holdings"}), row("positions", _ONE_HELD, "amount = amount * 2")
    ),
    Defect("a profit is invented", frozenset({"accounting.profit"}), row("positions", _ONE_HELD, "realised = 5")),
    Defect(
        "an order is off the lot size",
        frozenset({"lots.legal"}),
        row("orders", _NEWEST_ENTRY, "amount = amount + 0.000000001"),
    ),
    Defect(
        "the exchange refused a lot",
        frozenset({"lots.rejections"}),
        event(
            "order_rejected",
            "warning",
            EXECUTION,
            '{"symbol": "BTC/USDT", "leg": "entry", "client_order_id": "tbx", "why": "off_amount_step: LOT_SIZE"}',
        ),
        frozen=(),
    ),
    Defect(
        "the market rules are old",
        frozenset({"lots.rules"}),
        sql(
            "UPDATE market_rules SET read_at = read_at - interval '1 day', since = since - interval '1 day'",
            "UPDATE market_rules SET read_at = read_at + interval '1 day', since = since + interval '1 day'",
        ),
        frozen=(),
    ),
    Defect("the exchange changes its rules", frozenset({"lots.current"}), _rules_changed, frozen=()),
    Defect(
        "a migration is missing",
        frozenset({"positions.schema"}),
        sql(
            "CREATE TABLE kept AS SELECT * FROM _yoyo_migration WHERE migration_id LIKE '0005%';"
            " DELETE FROM _yoyo_migration WHERE migration_id LIKE '0005%'",
            "INSERT INTO _yoyo_migration SELECT * FROM kept; DROP TABLE kept",
        ),
        frozen=(),
    ),
    Defect("a stop is cancelled on the exchange", frozenset({"positions.stops"}), _stop_cancelled),
    Defect("an order is placed by hand", frozenset({"orders.unknown"}), _order_by_hand("tb")),
    Defect("money is withdrawn", frozenset({"positions.holdings"}), _withdrawn),
    Defect(
        "a stop is forgotten",
        frozenset({"balance.invariants", "orders.unknown"}),
        row("orders", _A_STOP, "state = 'cancelled', finished_at = now()"),
    ),
    Defect(
        "a position has had no stop for an hour",
        frozenset({"positions.protected"}),
        sql(
            "UPDATE positions SET opened_at = opened_at - interval '1 hour';"
            f" CREATE TABLE kept AS SELECT * FROM orders WHERE {_A_STOP}; DELETE FROM orders WHERE {_A_STOP}",
            "UPDATE positions SET opened_at = opened_at + interval '1 hour';"
            " INSERT INTO orders OVERRIDING SYSTEM VALUE SELECT * FROM kept; DROP TABLE kept",
        ),
    ),
    Defect(
        "an order is unresolved",
        frozenset({"orders.resolved"}),
        row(
            "orders",
            _A_STOP,
            "state = 'unresolved', created_at = now() - interval '1 hour', claimed_at = now() - interval '1 hour'",
        ),
    ),
    Defect("a price is poisoned in InfluxDB", frozenset({"prices.stored"}), _poisoned, frozen=()),
    Defect("a bar is missing in InfluxDB", frozenset({"feed.gaps"}), _bar_missing, frozen=()),
    Defect(
        "a fallback price is used",
        frozenset({"prices.fallbacks"}),
        event(
            "price_fallback_used",
            "warning",
            RISK,
            '{"symbol": "BTC/USDT", "source": "ticker", "reason": "the store has no candle"}',
        ),
        frozen=(),
    ),
    Defect(
        "an entry is approved at a wrong price",
        frozenset({"prices.approved"}),
        row("orders", _NEWEST_ENTRY, "limit_price = limit_price * 1.2"),
    ),
    Defect(
        "a fill is edited",
        frozenset({"orders.fills", "accounting.entries"}),
        row("fills", "number = (SELECT max(number) FROM fills WHERE side = 'buy')", "price = price * 1.2"),
    ),
    Defect("an entry slips", frozenset({"behaviour.slippage"}), row("orders", _NEWEST_ENTRY, "cost = cost * 1.2")),
    Defect(
        "a second writer takes over",
        frozenset({"balance.writers"}),
        event("fenced_off", "severe", RISK, '{"role": "risk", "epoch": 1, "current": 2}'),
        frozen=(),
    ),
    Defect("the exchange's clock is moved", frozenset({"agents.clock"}), _clock_moved),
    Defect("an agent hangs", frozenset({"agents.ready"}), _frozen, frozen=()),
    Defect("a consumer is gone", frozenset({"agents.queues", "agents.revision"}), _consumer_gone, frozen=()),
    Defect("an old revision is left running", frozenset({"agents.revision"}), _old_revision, frozen=()),
    Defect("a message is set aside", frozenset({"agents.dead-letters"}), _dead_letter, frozen=()),
    Defect("an agent tells an error", frozenset({"agents.errors"}), _error_logged, frozen=()),
    # The last: agents that were kept waiting for a price tell of it.
    Defect("InfluxDB hangs", frozenset(), _influx_frozen, unknown=frozenset({"prices.fresh", "prices.stored"})),
)
