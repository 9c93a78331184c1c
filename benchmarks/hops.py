"""From a candle to an order over four hops, and what our own layers cost of that.

    python benchmarks/hops.py [--rounds N]

A candle is published; technical analysis, strategy and risk, each a process as in production, make a signal, an
intent and an approved order of it, first come first served; the order is taken from its queue. RabbitMQ confirms
every message, intents and orders are in quorum queues, and the reservation is a durable commit (fsync on).

The peer is a bare chain in the same run, in interleaved rounds: three processes that take a message with aio-pika,
pass its body on with a confirmation, and acknowledge; over the same topology (a candle also goes to risk and to
execution), the third with a commit that checks, holds and inserts one row. It computes no indicator, sizes nothing
and knows no price.

``latency`` is of one candle at a time, ``rate`` of a window of candles under way. With the ranking window
(``approval.order: byConfidence``) an intent waits for others on purpose; that is printed apart.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count, cycle
from pathlib import Path
from typing import Any, Protocol

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

import aio_pika
import asyncpg
import yaml

from support import wishful
from support.influxdb import Influx
from support.process import Process
from support.rabbitmq import RabbitServer
from support.specs import LIVE, changed
from support.stack import TESTS, AgentProcess, servers_of_a_benchmark
from tradingbot_agents.bus.port import HandlerFailed
from tradingbot_agents.bus.rabbitmq import RabbitBus
from tradingbot_agents.bus.rabbitmq_topology import Names, queue_arguments
from tradingbot_agents.bus.topology import RISK, STRATEGY, TECHNICAL_ANALYSIS
from tradingbot_agents.clock.system import SystemClock, Turns
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.messages import CandleClosed, OrderApproved, encode
from tradingbot_agents.domain.symbol_rules import Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import floor_time
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.marketdata.influx import InfluxCandleStore
from tradingbot_agents.marketdata.spool import Spool
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.runtime.wiring import bus_queues, messaging_settings, time_series_settings
from tradingbot_agents.telemetry import MemorySink
from tradingbot_api import TradingBot, load_text

SYMBOLS = tuple(
    f"{base}/USDT" for base in ("BTC", "ETH", "SOL", "BNB", "XRP", "ADA", "DOGE", "AVAX", "DOT", "LINK", "LTC", "UNI")
)
BAR = timedelta(minutes=1)
WINDOW = 16
LATENCIES = 60
"""Candles of a round, one at a time."""
STREAM = 400
"""Candles of a round, ``len(SYMBOLS)`` under way."""
GOALS = {"p50": 1.25, "p99": 1.5, "rate": 0.60}
LIMIT = 30.0
PRICE = Decimal(100)
"""All the time, or risk would say that it ran away from the intent."""

CHANGES: dict[str, Any] = {
    "symbols": list(SYMBOLS),
    "timeframe": "1m",
    "exchange.endpoint": "http://127.0.0.1:1",
    "strategy.plugin": {"path": wishful.PATH, "parameters": {"confidence": "0.8"}},
    "strategy.window": WINDOW,
    "strategy.signalMemoryCandles": 1,
    "strategy.indicators": [{"name": "rsi", "period": 5}, {"name": "emaCross", "fast": 3, "slow": 8}],
    # The bars of a benchmark come faster than time passes: they begin days ago.
    "strategy.signalMaxAge": "9d",
    "risk.maxPriceAge": "9d",
    "risk.sizing": {"method": "fixedFractional", "fraction": "0.00001"},
    "risk.approval": {"order": "firstComeFirstServed"},
    "data.history": 20,
}

BARE = """
CREATE TABLE bare_balances (asset text PRIMARY KEY, total numeric NOT NULL, reserved numeric NOT NULL);
INSERT INTO bare_balances VALUES ('USDT', 1000000000000, 0);
CREATE TABLE bare_orders (id text PRIMARY KEY, amount numeric NOT NULL);
CREATE FUNCTION bare_reserve(_id text, _amount numeric) RETURNS boolean LANGUAGE plpgsql AS $body$
BEGIN
    PERFORM FROM bare_balances WHERE asset = 'USDT' AND total - reserved >= _amount FOR UPDATE;
    UPDATE bare_balances SET reserved = reserved + _amount WHERE asset = 'USDT';
    INSERT INTO bare_orders VALUES (_id, _amount);
    RETURN true;
END
$body$;
"""
BARE_EXCHANGE = "bare"
FIRST = "market.candle"
LAST = "execution.orders"
HOPS = (
    ("technical-analysis.candles", "analysis.signal"),
    ("strategy.signals", "trade.intent"),
    ("risk.intents", "trade.order"),
)
"""The queue that a process reads, and the topic of what it makes of it."""
ASIDE = "risk.candles"
"""Risk takes the candles as well; the third process of the bare chain only acknowledges them."""


class Chain(Protocol):
    """One of the two."""

    async def send(self, symbol: str) -> None:
        """A candle of the symbol begins its way."""
        ...

    async def arrived(self) -> str:
        """The symbol of the next order. Its clock stops here."""
        ...

    async def clear(self) -> None:
        """What has arrived is ended, so that its symbol can be sent again."""
        ...


class Ours:
    def __init__(self, bus: RabbitBus, bot: str, janitor: asyncpg.Connection[asyncpg.Record]) -> None:
        self._bus = bus
        self._bot = bot
        self._janitor = janitor
        self._orders: asyncio.Queue[OrderApproved] = asyncio.Queue()
        self._live: list[str] = []
        begin = floor_time(datetime.now(UTC), BAR) - timedelta(days=8)
        self._next = dict.fromkeys(SYMBOLS, begin)

    async def prepare(self) -> None:
        await self._bus.consume("execution.orders", self._took)
        for symbol in SYMBOLS:
            for _ in range(WINDOW + 4):
                await self._publish(symbol, backfill=True)

    async def _took(self, order: OrderApproved) -> None:
        self._orders.put_nowait(order)

    async def send(self, symbol: str) -> None:
        await self._publish(symbol, backfill=False)

    async def _publish(self, symbol: str, *, backfill: bool) -> None:
        opened = self._next[symbol]
        self._next[symbol] = opened + BAR
        price = PRICE
        candle = Candle(symbol, "1m", opened, price, price + 1, price - 1, price, volume=Decimal(10))
        await self._bus.publish(
            CandleClosed(
                id=candle.id,
                correlation_id=candle.id,
                causation_id=candle.id,
                bot=self._bot,
                producer="data-collection",
                at=datetime.now(UTC),
                candle=candle,
                backfill=backfill,
            )
        )

    async def arrived(self) -> str:
        order = await self._orders.get()
        self._live.append(order.client_order_id)
        return order.symbol

    async def clear(self) -> None:
        """As execution would, which is no part of the way to it."""
        await self._janitor.execute(
            "UPDATE orders SET state = 'denied', finished_at = created_at WHERE client_order_id = ANY ($1)",
            self._live,
        )
        self._live.clear()


class Bare:
    """The publishing end and the taking end of the bare chain."""

    def __init__(self, url: str, bot: TradingBot, body: bytes) -> None:
        self._url = url
        self._bot = bot
        self._body = body
        self._numbers = count()
        self._arrived: asyncio.Queue[str] = asyncio.Queue()

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        async with await aio_pika.connect(self._url) as connection:
            channel = await connection.channel()
            exchange = await channel.declare_exchange(BARE_EXCHANGE, aio_pika.ExchangeType.TOPIC, durable=True)
            names = Names(BARE_EXCHANGE)
            for spec in bus_queues(self._bot):
                queue = await channel.declare_queue(
                    f"bare.{spec.name}", durable=True, arguments=queue_arguments(spec, names)
                )
                for topic in spec.topics:
                    await queue.bind(exchange, f"{topic}.*")
            self._exchange = exchange
            last = await (await connection.channel()).get_queue(f"bare.{LAST}")
            await last.consume(self._took)
            yield

    async def _took(self, message: aio_pika.abc.AbstractIncomingMessage) -> None:
        self._arrived.put_nowait(str(message.headers["symbol"]))
        await message.ack()

    async def send(self, symbol: str) -> None:
        await _pass_on(self._exchange, FIRST, symbol, f"{symbol}.{next(self._numbers)}", self._body)

    async def arrived(self) -> str:
        return await self._arrived.get()

    async def clear(self) -> None:
        """A row of the bare chain is in nobody's way."""


async def _pass_on(exchange: aio_pika.abc.AbstractExchange, to: str, symbol: str, name: str, body: bytes) -> None:
    durable = to in ("trade.intent", "trade.order")
    message = aio_pika.Message(
        body,
        message_id=name,
        headers={"symbol": symbol},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT if durable else aio_pika.DeliveryMode.NOT_PERSISTENT,
    )
    await exchange.publish(message, f"{to}.{symbol.replace('/', '_')}", mandatory=True)


async def relay(url: str, hop: int, dsn: str) -> None:
    """A process of the bare chain: takes, commits (the last one), passes on, acknowledges."""
    source, target = HOPS[hop]
    database = await asyncpg.connect(dsn) if hop == len(HOPS) - 1 else None
    async with await aio_pika.connect(url) as connection:
        channel = await connection.channel()
        await channel.set_qos(prefetch_count=100)
        exchange = await channel.get_exchange(BARE_EXCHANGE)
        queue = await channel.get_queue(f"bare.{source}")
        if database is not None:
            aside = await (await connection.channel()).get_queue(f"bare.{ASIDE}")
            await aside.consume(lambda message: message.ack())
        print("ready", flush=True)
        async with queue.iterator() as messages:
            async for message in messages:
                name = str(message.message_id)
                if database is not None:
                    await database.fetchval("SELECT bare_reserve($1, $2)", name, Decimal("67.63"))
                await _pass_on(exchange, target, str(message.headers["symbol"]), name, message.body)
                await message.ack()


# --- measuring


async def latencies(chain: Chain, symbols: Iterator[str]) -> list[float]:
    """Seconds of each candle, one at a time."""
    taken = []
    for _ in range(LATENCIES):
        symbol = next(symbols)
        began = time.perf_counter()
        await chain.send(symbol)
        arrived = await asyncio.wait_for(chain.arrived(), LIMIT)
        taken.append(time.perf_counter() - began)
        assert arrived == symbol
        await chain.clear()
    return taken


async def rate(chain: Chain) -> float:
    """Candles a second, each symbol's next one sent when its order has arrived."""
    began = time.perf_counter()
    await asyncio.gather(*(chain.send(symbol) for symbol in SYMBOLS))
    for done in range(STREAM):
        symbol = await asyncio.wait_for(chain.arrived(), LIMIT)
        await chain.clear()
        if done < STREAM - len(SYMBOLS):
            await chain.send(symbol)
    return STREAM / (time.perf_counter() - began)


def percentile(values: Sequence[float], share: float) -> float:
    return sorted(values)[min(int(len(values) * share), len(values) - 1)]


async def contest(chains: dict[str, Chain], rounds: int) -> None:
    times: dict[str, list[float]] = {name: [] for name in chains}
    rates: dict[str, list[float]] = {name: [] for name in chains}
    for number in range(rounds + 1):
        for name, chain in chains.items():
            symbols = cycle(SYMBOLS)
            taken, speed = await latencies(chain, symbols), await rate(chain)
            # The first round warms up.
            if number:
                times[name] += taken
                rates[name].append(speed)
    print(f"{'':<22}{'p50 ms':>9}{'p99 ms':>9}{'candles/s':>11}")
    for name in chains:
        print(
            f"{name:<22}{percentile(times[name], 0.5) * 1e3:>9.2f}{percentile(times[name], 0.99) * 1e3:>9.2f}"
            f"{statistics.median(rates[name]):>11.0f}"
        )
    ours, bare = times["ours"], times["bare chain"]
    for share, key in ((0.5, "p50"), (0.99, "p99")):
        ratio = percentile(ours, share) / percentile(bare, share)
        print(f"{key}: {ratio:.2f}x of the bare chain, goal {GOALS[key]:g}x")
    speed = statistics.median(a / b for a, b in zip(rates["ours"], rates["bare chain"], strict=True))
    print(f"rate: {speed:.0%} of the bare chain, goal {GOALS['rate']:.0%}")


async def ranked(ours: Ours) -> None:
    taken = await latencies(ours, cycle(SYMBOLS))
    print(
        f"with the ranking window of 250 ms: p50 {percentile(taken, 0.5) * 1e3:.0f} ms,"
        f" p99 {percentile(taken, 0.99) * 1e3:.0f} ms"
    )


# --- setting up


@asynccontextmanager
async def our_chain(
    folder: Path, rabbitmq: RabbitServer, influx: Influx, dsn: str, name: str, changes: dict[str, Any]
) -> AsyncIterator[tuple[Ours, TradingBot]]:
    document = changed(LIVE, {**CHANGES, "timeSeries.organization": influx.organization, **changes})
    document["metadata"]["name"] = name
    document["spec"]["account"]["name"] = name
    document["spec"]["liveConfirmation"] = f"trade real money on binance/{name}"
    spec = folder / f"{name}.yaml"
    spec.write_text(yaml.safe_dump(document))
    bot = load_text(spec.read_text())
    environment = {
        "TRADINGBOT_MESSAGING_URL": rabbitmq.url,
        "TRADINGBOT_DATABASE_URL": dsn,
        "TRADINGBOT_TIME_SERIES_URL": influx.url,
        "TRADINGBOT_TIME_SERIES_TOKEN": influx.token,
        "PYTHONPATH": str(TESTS),
    }
    migrated = await asyncio.to_thread(Process(["migrate", spec], folder, environment).finish)
    assert migrated.code == 0, migrated
    ledger = await PostgresLedger.connect(dsn, account_key(bot), name)
    now = datetime.now(UTC)
    await ledger.open_account({"USDT": Decimal(10**12)}, (), now, quote="USDT")
    await ledger.keep_market_rules({symbol: rules(symbol) for symbol in SYMBOLS}, now)
    await ledger.close()
    await fill_store(influx, bot)
    agents = [AgentProcess(each, spec, environment) for each in (TECHNICAL_ANALYSIS, STRATEGY, RISK)]
    failures: list[HandlerFailed] = []
    bus = RabbitBus(
        lambda: rabbitmq.url,
        bus_queues(bot),
        messaging_settings(bot, "benchmark"),
        clock=SystemClock(),
        turns=Turns(),
        sink=MemorySink(),
        on_failure=failures.append,
    )
    janitor = await asyncpg.connect(dsn, server_settings={"synchronous_commit": "off"})
    try:
        for agent in agents:
            agent.start()
        await asyncio.gather(*(agent.is_ready() for agent in agents))
        async with bus:
            await bus.until_connected()
            ours = Ours(bus, name, janitor)
            await ours.prepare()
            try:
                yield ours, bot
            except TimeoutError:
                # Why nothing came is in what they told.
                raise SystemExit("\n".join(agent.process.output[-3000:] for agent in agents)) from None
    finally:
        for agent in agents:
            agent.clean()
        await janitor.close()


@asynccontextmanager
async def bare_chain(rabbitmq: RabbitServer, dsn: str, bot: TradingBot) -> AsyncIterator[Bare]:
    connection = await asyncpg.connect(dsn)
    await connection.execute(BARE)
    await connection.close()
    bare = Bare(rabbitmq.url, bot, candle_body(bot))
    async with bare.opened():
        relays = [start_relay(hop, rabbitmq.url, dsn) for hop in range(len(HOPS))]
        try:
            for each in relays:
                assert each.stdout is not None
                await asyncio.to_thread(each.stdout.readline)
            yield bare
        finally:
            for each in relays:
                each.kill()
                each.wait()
                assert each.stdout is not None
                each.stdout.close()


def start_relay(hop: int, url: str, dsn: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--relay", str(hop), url, dsn], stdout=subprocess.PIPE, text=True
    )


def candle_body(bot: TradingBot) -> bytes:
    now = datetime.now(UTC)
    candle = Candle(SYMBOLS[0], "1m", floor_time(now, BAR), *(Decimal("100.25") for _ in range(4)), Decimal(10))  # type: ignore[misc]
    name = candle.id
    return encode(
        CandleClosed(
            id=name,
            correlation_id=name,
            causation_id=name,
            bot=bot.metadata.name,
            producer="bare",
            at=now,
            candle=candle,
        )
    )


async def fill_store(influx: Influx, bot: TradingBot) -> None:
    """The last closes, as data collection would have written them: risk asks for them first."""
    store = InfluxCandleStore.open(
        influx.url,
        influx.token,
        time_series_settings(bot),
        spool=Spool(Path(tempfile.mkdtemp()), 100),
        clock=SystemClock(),
        sink=MemorySink(),
        agent="benchmark",
    )
    opened = floor_time(datetime.now(UTC), BAR) - BAR
    price = PRICE
    await store.write([Candle(symbol, "1m", opened, price, price, price, price, Decimal(10)) for symbol in SYMBOLS])
    await store.close()


def rules(symbol: str) -> SymbolRules:
    base, _, quote = symbol.partition("/")
    return SymbolRules(
        symbol=symbol,
        base=base,
        quote=quote,
        amount=Precision(PrecisionMode.TICK_SIZE, Decimal("0.00001")),
        price=Precision(PrecisionMode.TICK_SIZE, Decimal("0.01")),
        min_amount=Decimal("0.00001"),
        min_notional=Decimal(5),
        fees=Fees(maker=Decimal("0.001"), taker=Decimal("0.001")),
    )


async def run(folder: Path, rabbitmq: RabbitServer, influx: Influx, rounds: int) -> None:
    server = EmbeddedPostgres(folder / "ledger")
    dsn = await server.start()
    try:
        async with AsyncExitStack() as stack:
            ours, bot = await stack.enter_async_context(
                our_chain(folder, rabbitmq, influx, dsn, "hops", {"timeSeries.bucket": "hops"})
            )
            bare = await stack.enter_async_context(bare_chain(rabbitmq, dsn, bot))
            await contest({"ours": ours, "bare chain": bare}, rounds)
        by_confidence = {"risk.approval": {"order": "byConfidence"}, "timeSeries.bucket": "ranked"}
        async with our_chain(folder, rabbitmq, influx, dsn, "ranked", by_confidence) as (ours, _):
            await ranked(ours)
    finally:
        await server.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds (default 5)")
    parser.add_argument("--relay", nargs=3, metavar=("HOP", "URL", "DSN"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.relay is not None:
        hop, url, dsn = options.relay
        asyncio.run(relay(url, int(hop), dsn))
        return
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tradingbot-benchmark-")))
        # The server is another user when we are root.
        folder.chmod(0o755)
        (folder / "ledger").mkdir(mode=0o755)
        rabbitmq, influx = stack.enter_context(servers_of_a_benchmark())
        asyncio.run(run(folder, rabbitmq, influx, options.rounds))


if __name__ == "__main__":
    main()
