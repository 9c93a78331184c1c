"""All of it, as in production: five agent processes on real servers, and an exchange of ours on loopback.

The exchange and the market live in the test's own loop. Everything else is a process that may be killed and started
again, and at the end the exchange's books are compared with the ledger's.
"""

from __future__ import annotations

import asyncio
import json
import signal
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

import yaml

from support.binance import BinanceServer
from support.influxdb import InfluxServer, find_influxd, running_influxd
from support.market import Market
from support.postgres import scratch_dir
from support.process import LIMIT, Finished, Json, Process
from support.rabbitmq import INSTALLED, RabbitServer, running_rabbitmq
from support.specs import LIVE, QUICK, changed
from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.port import Role
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.runtime.identity import account_key
from tradingbot_api import TradingBot, load_text

TESTS = Path(__file__).resolve().parent.parent
MONEY = Decimal(1000)
NAME = "stack"


class AgentProcess:
    """``tradingbot agent`` of one name, started any number of times."""

    def __init__(self, name: str, spec: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self._spec = spec
        self._environment = environment
        self._process: Process | None = None
        self.lives: list[Finished] = []
        """What came of those that have ended."""

    def start(self) -> None:
        assert self._process is None, f"{self.name} runs already"
        self._process = Process(
            ["agent", self.name, self._spec, "--listen", "127.0.0.1:0", "--output", "json"],
            cwd=self._spec.parent,
            environment=self._environment,
        )

    @property
    def process(self) -> Process:
        assert self._process is not None, f"{self.name} does not run"
        return self._process

    @property
    def running(self) -> bool:
        return self._process is not None

    @property
    def events(self) -> list[Json]:
        """What it has told in this life."""
        return [json.loads(line) for line in self.process.lines if line.startswith("{")]

    async def tells(self, event: str, count: int = 1, limit: float = LIMIT) -> Json:
        """The event, once it was told so often."""
        told = await asyncio.to_thread(self.process.wait_for_event, event, count, limit)
        assert told, f"{self.name} did not tell {event}: {self.process.output}"
        return [line for line in self.events if line["event"] == event][-1]

    async def page(self, path: str) -> tuple[int, str]:
        """Status and text of a page such as ``/ready``."""
        port = (await self.tells("listening"))["port"]

        def ask() -> tuple[int, str]:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.read().decode()

        return await asyncio.to_thread(ask)

    async def is_ready(self, limit: float = LIMIT) -> None:
        await self._until_ready_says(lambda status, text: status == 200, limit)

    async def lacks(self, what: str, limit: float = LIMIT) -> None:
        """Until it says that this is missing."""
        await self._until_ready_says(lambda status, text: status == 503 and what in text, limit)

    async def _until_ready_says(self, wanted: Callable[[int, str], bool], limit: float) -> None:
        deadline = time.monotonic() + limit
        status, text = 0, ""
        while not wanted(status, text):
            assert time.monotonic() < deadline, f"/ready of {self.name} says {status} {text}{self.process.output}"
            await asyncio.sleep(0.05)
            with suppress(OSError):
                status, text = await self.page("/ready")

    async def kill(self) -> None:
        await self._ended(self.process.kill)

    async def stop(self) -> Finished:
        """As a cluster does."""
        self.process.send(signal.SIGTERM)
        return await self._ended(self.process.finish)

    async def _ended(self, end: Callable[[], Finished]) -> Finished:
        finished = await asyncio.to_thread(end)
        self._process = None
        self.lives.append(finished)
        return finished

    def clean(self) -> None:
        if self._process is not None:
            self._process.end()
            self._process = None

    @property
    def told(self) -> list[Json]:
        """Over all lives."""
        earlier = [event for life in self.lives for event in life.events]
        return earlier + (self.events if self.running else [])


class Stack:
    def __init__(
        self, folder: Path, rabbitmq: RabbitServer, influx: InfluxServer, postgres: EmbeddedPostgres, dsn: str
    ) -> None:
        self.folder = folder
        self.rabbitmq = rabbitmq
        self.influx = influx
        self.postgres = postgres
        self.dsn = dsn
        self.exchange = BinanceServer(balances={"USDT": MONEY})
        self.market = Market(self.exchange)
        self.spec = folder / "bot.yaml"
        self.changes: dict[str, Any] = {}
        """Of the spec, against ``QUICK``."""
        self.more_log = ""
        """Lines that the agents' log has in addition."""
        self.more_environment: dict[str, str] = {}
        """Of the agents that are made from now on."""
        self.agents: dict[str, AgentProcess] = {}

    @property
    def bot(self) -> TradingBot:
        return load_text(self.spec.read_text())

    @property
    def environment(self) -> dict[str, str]:
        """Of every agent; each takes what is its own."""
        return {
            "TRADINGBOT_MESSAGING_URL": self.rabbitmq.url,
            "TRADINGBOT_DATABASE_URL": self.dsn,
            "TRADINGBOT_TIME_SERIES_URL": self.influx.url,
            "TRADINGBOT_TIME_SERIES_TOKEN": self.influx.token,
            "TRADINGBOT_EXCHANGE_API_KEY_FILE": str(self.folder / "api-key"),
            "TRADINGBOT_EXCHANGE_SECRET_FILE": str(self.folder / "secret"),
            "PYTHONPATH": str(TESTS),
        }

    def agent(self, name: str) -> AgentProcess:
        return AgentProcess(name, self.spec, {**self.environment, **self.more_environment})

    def change_spec(self, changes: Mapping[str, Any]) -> None:
        """In addition to what it was made with."""
        self.write_spec({**self.changes, **changes})

    def write_spec(self, changes: Mapping[str, Any]) -> None:
        document = changed(LIVE, {**QUICK, **changes})
        document["metadata"]["name"] = NAME
        fresh = self.spec.with_suffix(".new")
        fresh.write_text(yaml.safe_dump(document))
        fresh.replace(self.spec)

    async def ready(self, names: Iterable[str] = AGENTS) -> None:
        await asyncio.gather(*(self.agents[name].is_ready() for name in names))

    def start(self, names: Iterable[str] = AGENTS) -> None:
        for name in names:
            if not self.agents[name].running:
                self.agents[name].start()

    async def stop(self) -> dict[str, Finished]:
        running = [agent for agent in self.agents.values() if agent.running]
        ended = await asyncio.gather(*(agent.stop() for agent in running))
        return {agent.name: finished for agent, finished in zip(running, ended, strict=True)}

    def write_log(self) -> Path:
        """What all agents have told in all of their lives, as one log."""
        lives = [life.out for agent in self.agents.values() for life in agent.lives]
        now = ["".join(agent.process.lines) for agent in self.agents.values() if agent.running]
        file = self.folder / "agents.log"
        file.write_text("".join([*lives, *now, self.more_log]))
        return file

    @asynccontextmanager
    async def frozen(self, names: Iterable[str]) -> AsyncIterator[None]:
        """They do nothing meanwhile."""
        processes = [self.agents[name].process for name in names]
        for each in processes:
            each.send(signal.SIGSTOP)
        try:
            yield
        finally:
            for each in processes:
                each.send(signal.SIGCONT)

    async def check(self, *options: str, but: Iterable[str] = ()) -> Finished:
        """``tradingbot reality-check`` of the whole; the agents ``but`` are not asked."""
        ports = {
            name: (await agent.tells("listening"))["port"]
            for name, agent in self.agents.items()
            if agent.running and name not in but
        }
        places = [f"--agent={name}=127.0.0.1:{port}" for name, port in ports.items()]
        log = await asyncio.to_thread(self.write_log)
        arguments = ["reality-check", str(self.spec), f"--log={log}", *places, *options]
        process = Process(arguments, cwd=self.folder, environment=self.environment)
        return await asyncio.to_thread(process.finish)

    @asynccontextmanager
    async def ledger(self) -> AsyncIterator[PostgresLedger]:
        ledger = await PostgresLedger.connect(self.dsn, account_key(self.bot), NAME)
        try:
            yield ledger
        finally:
            await ledger.close()

    async def settled(self, limit: float = LIMIT) -> None:
        """Wait until nothing is under way: no order waits, and the exchange has only stops that rest."""
        deadline = time.monotonic() + limit
        async with self.ledger() as ledger:
            while not await self._is_quiet(ledger):
                if time.monotonic() > deadline:
                    waiting = [*await ledger.orders_to_send(), *await ledger.live_orders()]
                    raise AssertionError(f"not settled: {waiting}, {await ledger.positions()}")
                await asyncio.sleep(0.1)

    async def _is_quiet(self, ledger: PostgresLedger) -> bool:
        live = await ledger.live_orders()
        resting = {order.client_order_id for order in live}
        positions = await ledger.positions()
        held = {symbol for symbol, position in positions.items() if position.is_held}
        return (
            not await ledger.orders_to_send()
            and all(order.leg is Leg.STOP and order.state is OrderState.OPEN for order in live)
            and resting == {order.client_order_id for order in self.exchange.books.open_orders}
            and held == {order.symbol for order in live}
            and not any([await ledger.unpublished(role) for role in Role])
        )

    async def compare(self) -> None:
        """The exchange's books and the ledger's must say the same."""
        books = self.exchange.books
        async with self.ledger() as ledger:
            balances = await ledger.balances()
            assert {asset: b.total for asset, b in balances.items() if b.total} == books.totals()
            fills = {fill.exchange_trade_id: fill for fill in await ledger.fills()}
            assert set(fills) == {str(trade.id) for trade in books.trades}, "each trade is booked, and booked once"
            for trade in books.trades:
                booked = fills[str(trade.id)]
                assert (booked.amount, booked.price) == (trade.amount, trade.price)
            sent = [order.client_order_id for order in books.orders]
            assert len(set(sent)) == len(sent), "no order was sent twice"
            known = {order.client_order_id: order for order in await ledger.orders()}
            assert set(sent) <= set(known), "the ledger knows every order that is on the exchange"
            for order in books.orders:
                assert known[order.client_order_id].filled == order.filled
            violated = [each for each in await ledger.invariants() if each.violations]
            assert violated == []
            moved = [entry for entry in await ledger.entries() if entry.kind in ("outside", "reversal")]
            assert moved == [], "every change of a balance is explained by a fill of ours"

    def told(self, event: str) -> list[Json]:
        """By any agent, in any life."""
        return [line for agent in self.agents.values() for line in agent.told if line["event"] == event]


@asynccontextmanager
async def running_stack(
    rabbitmq: RabbitServer, influx: InfluxServer, changes: Mapping[str, Any] | None = None
) -> AsyncIterator[Stack]:
    """Servers, exchange and market run, and everything is migrated; no agent is started."""
    with scratch_dir() as folder:
        (folder / "ledger").mkdir(mode=0o755)
        postgres = EmbeddedPostgres(folder / "ledger", settings={"fsync": "off", "max_connections": "60"})
        stack = Stack(folder, rabbitmq, influx, postgres, await postgres.start())
        try:
            (folder / "api-key").write_text(stack.exchange.key.key)
            (folder / "secret").write_text(stack.exchange.key.secret)
            async with stack.exchange:
                walking = asyncio.create_task(stack.market.run())
                stack.changes = {
                    "exchange.endpoint": stack.exchange.url,
                    "timeSeries.organization": influx.organization,
                    **(changes or {}),
                }
                stack.change_spec({})
                stack.agents = {name: stack.agent(name) for name in AGENTS}
                migrated = await asyncio.to_thread(
                    Process(["migrate", stack.spec], cwd=folder, environment=stack.environment).finish
                )
                assert migrated.code == 0, migrated
                try:
                    yield stack
                finally:
                    for agent in stack.agents.values():
                        agent.clean()
                    walking.cancel()
                    with suppress(asyncio.CancelledError):
                        await walking
        finally:
            await postgres.stop()


@contextmanager
def servers_of_a_benchmark() -> Iterator[tuple[RabbitServer, InfluxServer]]:
    """RabbitMQ and InfluxDB of its own. Ends the program when there are none to start."""
    program = find_influxd()
    if program is None:
        raise SystemExit("no InfluxDB: run 'make servers'")
    with running_rabbitmq(INSTALLED) as rabbitmq, running_influxd(program) as influx:
        yield rabbitmq, influx
