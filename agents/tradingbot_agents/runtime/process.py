"""``tradingbot agent``: one agent as a process, for as long as it is wanted.

Read ``AgentProcess.run`` from top to bottom. Nothing outside needs to be there first: what is away is waited for, and
told. The agent itself is supervised as in ``tradingbot run``: one that fails is taken apart and built anew. A part
that is away is not its failure, and is waited for without a limit.

While it works, a beat looks at the spec file and writes events down; apart from it, for a frozen one takes long, the
parts are looked after, and in a cluster what risk and execution know is written on the TradingBot. On SIGTERM what
runs is finished within ``runtime.stopLimit``; what is not is left as a kill would leave it, and the next start takes
it up from the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Literal

import msgspec

from tradingbot_agents.bus import DependencyUnavailable, HandlerFailed
from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.clock.system import SystemClock, SystemTimers, Turns
from tradingbot_agents.domain.events import AgentStarted, DependencyAway, DependencyBack
from tradingbot_agents.exchange.port import ExchangeError
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.marketdata import CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.runtime import paper_page, wiring
from tradingbot_agents.runtime import parts as outside
from tradingbot_agents.runtime.api_server import ClusterAccess
from tradingbot_agents.runtime.building import Kit, build
from tradingbot_agents.runtime.cluster import KUBERNETES, BotStatus, Teller, read_cluster
from tradingbot_agents.runtime.connections import NEEDS, Connections, Variable, read_connections
from tradingbot_agents.runtime.control import StateControl
from tradingbot_agents.runtime.event_rows import EventRows
from tradingbot_agents.runtime.facts import Worth, worth_of
from tradingbot_agents.runtime.health import AGENT, Health, HealthServer, NotListening, Page, Query
from tradingbot_agents.runtime.identity import default_data_dir, running_revision
from tradingbot_agents.runtime.parts import Outside, PaperPart, Part, PartUnavailable
from tradingbot_agents.runtime.stopping import Stop, asked_by_signals
from tradingbot_agents.runtime.supervisor import Agent, Backoff, Supervisor
from tradingbot_agents.telemetry import FanOut, LogSink, Sink, configure_logging, get_logger, worth_telling
from tradingbot_agents.telemetry.metrics import CONTENT_TYPE, Metrics
from tradingbot_api import TradingBot, load_file

OK = 0

GARBAGE_THRESHOLD = 10_000
"""New containers between two looks for reference cycles: at Python's own 700 each tenth look goes through everything
that is young, in the middle of a decision. `benchmarks/hops.py`."""


class AgentOptions(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    spec: Path
    listen: tuple[str, int]
    """Host and port of probes and metrics."""
    data_dir: Path | None
    output: Literal["text", "json"]
    state_file: Path | None = None
    """Says the state that is asked for, instead of the spec."""


async def run_agent(options: AgentOptions, environment: Mapping[str, str]) -> int:
    """Run one agent until it is asked to stop; returns the exit code."""
    bot = load_file(options.spec)
    wiring.check_deployable(bot)
    connections = read_connections(options.name, environment, paper=bot.spec.mode == "paper")
    cluster = read_cluster(options.name, environment)
    stop = Stop()
    with asked_by_signals(stop):
        revision = running_revision(bot, environment)
        return await AgentProcess(bot, options, connections, cluster, revision, stop).run()


def away(error: BaseException) -> str | None:
    """The part that is away, when that is what ``error`` says. An agent that met it has not failed."""
    match error:
        case LedgerUnavailable():
            return outside.DATABASE
        case CandleStoreUnavailable() | CandleStoreRefused():
            return outside.TIME_SERIES
        case ExchangeError():
            return outside.EXCHANGE
        case DependencyUnavailable():
            return (away(error.__cause__) if error.__cause__ is not None else None) or outside.MESSAGING
    return None


class AgentProcess:
    def __init__(
        self,
        bot: TradingBot,
        options: AgentOptions,
        connections: Connections,
        cluster: ClusterAccess | None,
        revision: str,
        stop: Stop,
    ) -> None:
        """``cluster``: how its TradingBot is reached, if there is one to be told."""
        self._bot = bot
        self._name = options.name
        self._options = options
        self._cluster = cluster
        self._revision = revision
        self._stop = stop
        self._clock = SystemClock()
        self._turns = Turns()
        self._failures: asyncio.Queue[Exception] = asyncio.Queue()
        self._health = Health(bot.spec.runtime.stuck_after.total_seconds(), self._turns.longest)
        self._metrics = Metrics(bot.metadata.name, self._name)
        self._metrics.started(self._clock.now(), revision)
        self._rows = EventRows()
        configure_logging(
            options.output, bot.spec.runtime.log_level, bot=bot.metadata.name, hidden=connections.hidden
        )
        sinks: list[Sink] = [LogSink(bot.metadata.name, on_lost=stop.event.set), self._metrics]
        needs = NEEDS[self._name]
        if Variable.DATABASE_URL in needs:
            sinks.append(self._rows)
        self._sink = FanOut(sinks)
        self._timers = SystemTimers(self._clock, self._turns, lambda owner, error: self._failures.put_nowait(error))
        self._outside = Outside.of(
            self._name,
            bot,
            connections,
            spec_file=options.spec,
            data_dir=options.data_dir or default_data_dir(bot),
            clock=self._clock,
            turns=self._turns,
            sink=self._sink,
            on_failure=self._failures.put_nowait,
        )
        self._opened: list[Part] = []
        self._lost: dict[str, float] = {}
        """Since when parts that were open are away, in monotonic seconds."""
        self._control: StateControl | None = None
        self._agent: Agent | None = None
        """As built last."""

    async def run(self) -> int:
        """Until it is asked to stop. Raises what keeps it from working: another process may have taken over."""
        async with AsyncExitStack() as stack:
            await self._listen(stack)
            for part in self._outside.all:
                stack.push_async_callback(part.close)
            await self._until_stopped(self._open_parts())
            if self._stop.event.is_set():
                return OK
            supervisor = self._supervised()
            try:
                works = [self._work(supervisor), self._beat(), self._look_after_parts()]
                if self._cluster is not None:
                    works.append(self._tell(self._teller(self._cluster)))
                await self._until_stopped(*works)
            finally:
                self._health.lacks(AGENT, "it is stopping")
                await self._finish(supervisor)
        return OK

    async def _until_stopped(self, *works: Awaitable[None]) -> None:
        """Until a stop is asked for, or one of them has ended; what it raises is raised, and the others cancelled."""
        tasks = [asyncio.ensure_future(work) for work in (*works, self._stop.event.wait())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    # --- probes and metrics ----------------------------------------------------------------------------

    async def _listen(self, stack: AsyncExitStack) -> None:
        server = HealthServer(
            {
                "/live": self._health.live,
                "/ready": self._health.ready,
                "/metrics": lambda: Page(200, self._metrics.page(), CONTENT_TYPE),
            },
            self._asked_pages(),
        )
        host, port = self._options.listen
        try:
            bound = await server.start(host, port)
        except OSError as error:
            raise NotListening(
                f"--listen: {host}:{port} can not be used ({os.strerror(error.errno or 0)}): name another address"
            ) from error
        stack.push_async_callback(server.stop)
        get_logger().info("listening", agent=self._name, host=host, port=bound)

    def _asked_pages(self) -> Mapping[str, Callable[[Query], Page]]:
        trading = self._outside.trading
        if not isinstance(trading, PaperPart):
            return {}
        return {paper_page.PATH: lambda query: paper_page.answer(trading.exchange, query)}

    # --- parts -----------------------------------------------------------------------------------------

    async def _open_parts(self) -> None:
        for part in self._outside.all:
            self._health.lacks(part.name, "it is not open yet")
            self._metrics.dependency(part.name, False)
        # One after another: later ones read from earlier ones, and all are needed.
        for part in self._outside.all:
            await self._open(part)

    async def _open(self, part: Part) -> None:
        backoff = self._backoff
        attempt = 0
        began = time.monotonic()
        while True:
            attempt += 1
            try:
                await part.open()
                break
            except PartUnavailable as error:
                self._health.lacks(part.name, str(error))
                if worth_telling(attempt) and not part.tells_itself:
                    self._tell_away(part, attempt, str(error))
            await self._clock.sleep(backoff.pause(attempt))
        self._opened.append(part)
        self._health.has(part.name)
        self._metrics.dependency(part.name, True)
        if attempt > 1:
            self._tell_back(part, time.monotonic() - began)

    @property
    def _backoff(self) -> Backoff:
        """Of waiting for a part: one attempt costs little, and who waits for it loses money by waiting long."""
        retry = self._bot.spec.runtime.ledger_retry_delay
        return msgspec.structs.replace(wiring.restarts(self._bot), first=retry / 4, longest=retry)

    async def _all_there(self) -> None:
        """Wait until everything answers that an agent can not do without."""
        while True:
            problems = [await part.probe() for part in self._opened if part.required]
            if not any(problems):
                return
            await self._clock.sleep(self._backoff.first)

    def _tell_away(self, part: Part, attempt: int, why: str) -> None:
        self._sink.emit(
            DependencyAway(at=self._clock.now(), agent=self._name, what=part.name, attempt=attempt, why=why)
        )

    def _tell_back(self, part: Part, seconds: float) -> None:
        self._sink.emit(
            DependencyBack(at=self._clock.now(), agent=self._name, what=part.name, seconds=round(seconds, 3))
        )

    # --- work ------------------------------------------------------------------------------------------

    def _supervised(self) -> Supervisor:
        ledger = self._outside.ledger
        self._control = StateControl(
            self._bot,
            self._options.spec,
            ledger or outside.NoHolds(),
            self._clock,
            self._sink,
            state_file=self._options.state_file,
        )
        kit = Kit(
            bot=self._bot,
            clock=self._clock,
            timers=self._timers,
            bus=self._outside.messaging.bus,
            sink=self._sink,
            state=self._control,
            ledger=ledger,
            store=self._outside.store,
            rules=self._outside.rules,
            feed=self._outside.feed,
            venue=self._outside.venue,
        )
        return Supervisor(
            {self._name: partial(self._build, kit)},
            order=(self._name,),
            bus=self._outside.messaging.bus,
            timers=self._timers,
            clock=self._clock,
            sink=self._sink,
            backoff=wiring.restarts(self._bot),
            restore=self._all_there,
            fatal=self._fatal(),
            outage=away,
            settle=self._settle,
        )

    def _fatal(self) -> tuple[type[Exception], ...]:
        """What a new agent in this process does not mend."""
        if self._name != EXECUTION or self._bot.spec.mode != "paper":
            return ()
        from tradingbot_agents.exchange.state import ExchangeStateError

        # The paper exchange could not write its books, and answers nothing more.
        return (ExchangeStateError,)

    def _build(self, kit: Kit) -> Agent:
        self._agent = build(self._name, kit, live=True)
        return self._agent

    async def _work(self, supervisor: Supervisor) -> None:
        """Start the agent, and a new one whenever it has failed."""
        await self._look_at_state()
        self._tell_start()
        await supervisor.start()
        # What is there by now stays until the end: do not look at it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(GARBAGE_THRESHOLD)
        while True:
            self._health.has(AGENT)
            failure = await self._failures.get()
            self._health.lacks(AGENT, "it failed, and is started again")
            error = failure.__cause__ if isinstance(failure, HandlerFailed) else failure
            await supervisor.recover(self._name, error or failure)

    async def _settle(self) -> None:
        """Of an agent that was detached: what still runs ends, and what failed with it is no news."""
        await self._turns.settled()
        while not self._failures.empty():
            error = self._failures.get_nowait()
            get_logger().warning("failed_as_well", agent=self._name, error=f"{type(error).__name__}: {error}")

    async def _beat(self) -> None:
        """The state that is asked for is obeyed soon, whatever else is slow."""
        while True:
            await self._look_at_state()
            await self._write_rows()
            self._metrics.turn(self._turns.longest())
            await self._clock.sleep(self._bot.spec.runtime.spec_interval)

    def _teller(self, cluster: ClusterAccess) -> Teller:
        assert self._control is not None, "it is made before anything works"
        name = self._bot.metadata.name
        return Teller(
            agent=self._name,
            revision=cluster.revision,
            state=self._control,
            settled=self._turns.settled,
            worth=self._worth if self._name == RISK else None,
            look_interval=self._bot.spec.runtime.probe_interval,
            apply=BotStatus(cluster, self._name, name).apply,
            clock=self._clock,
            sink=self._sink,
            up=partial(self._metrics.dependency, KUBERNETES),
        )

    async def _tell(self, teller: Teller) -> None:
        while True:
            if self._health.works:
                await teller.beat()
            await self._clock.sleep(self._bot.spec.runtime.spec_interval)

    async def _worth(self) -> Worth:
        """Raises ``LedgerUnavailable``."""
        from tradingbot_agents.risk.agent import RiskAgent

        agent, ledger = self._agent, self._outside.ledger
        assert isinstance(agent, RiskAgent), "only risk tells of it"
        assert ledger is not None, "it is open before the agent is built"
        equity = await agent.worth()
        orders = await ledger.live_orders()
        # After the orders: one that fills in between is a position then, and not nothing at all.
        positions = await ledger.positions()
        return worth_of(positions, orders, equity, self._bot.spec.account.quote_currency, self._clock.now())

    async def _look_after_parts(self) -> None:
        """Apart from the beat: one that is frozen takes its whole timeout."""
        while True:
            for part in self._opened:
                self._judge(part, await part.probe())
                await part.tend()
            await self._clock.sleep(self._bot.spec.runtime.probe_interval)

    def _judge(self, part: Part, problem: str | None) -> None:
        self._metrics.dependency(part.name, problem is None)
        since = self._lost.get(part.name)
        if problem is None:
            self._health.has(part.name)
            if since is not None:
                del self._lost[part.name]
                self._tell_back(part, time.monotonic() - since)
            return
        if part.required:
            self._health.lacks(part.name, problem)
        if since is None:
            self._lost[part.name] = time.monotonic()
            if not part.tells_itself:
                self._tell_away(part, 1, problem)

    async def _look_at_state(self) -> None:
        assert self._control is not None, "it is made before anything works"
        # That the ledger is away is told by its part; the state that is known stays.
        with contextlib.suppress(LedgerUnavailable):
            await self._control.refresh()

    async def _write_rows(self) -> None:
        if self._outside.ledger is not None:
            with contextlib.suppress(LedgerUnavailable):
                await self._rows.write(self._outside.ledger)

    async def _finish(self, supervisor: Supervisor) -> None:
        """What runs comes to its end, if it does so in time."""
        limit = self._bot.spec.runtime.stop_limit.total_seconds()
        try:
            async with asyncio.timeout(limit):
                await supervisor.stop()
                await self._write_rows()
        except TimeoutError:
            get_logger().warning(
                "stop_limit_reached", agent=self._name, seconds=limit, why="the next start takes up what is left"
            )

    def _tell_start(self) -> None:
        spec = self._bot.spec
        assert self._control is not None, "it is made before anything works"
        self._sink.emit(
            AgentStarted(
                at=self._clock.now(),
                agent=self._name,
                mode=spec.mode,
                exchange=spec.exchange.name,
                account=spec.account.name,
                symbols=spec.symbols,
                state=self._control().value,
                revision=self._revision,
            )
        )
