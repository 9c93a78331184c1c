"""Where a reality check looks: a bot on servers of its own, in a cluster or not, or the data directory of a run.

A place gathers all of its evidence at once, each source within a share of ``realityCheck.timeLimit``, so that a look
takes no longer than its slowest source. What is not there to be asked is missing with the reason, and not passed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

import msgspec

from tradingbot_agents.bus.topology import AGENTS, EXECUTION
from tradingbot_agents.clock import Clock, VirtualClock
from tradingbot_agents.clock.system import SystemClock
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.ledger.datadir import DataDirMismatch
from tradingbot_agents.ledger.port import LedgerUnavailable
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.reality.audit import LOOKS
from tradingbot_agents.reality.evidence import (
    AccountEvidence,
    AgentsEvidence,
    CandleEvidence,
    Evidence,
    Known,
    LedgerEvidence,
    Logs,
    MarketEvidence,
    MessagingEvidence,
    Missing,
)
from tradingbot_agents.runtime import wiring
from tradingbot_agents.runtime.api_server import ClusterAccess, read_access
from tradingbot_agents.runtime.connections import (
    Audited,
    Secret,
    Variable,
    read_audited,
    read_database,
)
from tradingbot_agents.runtime.data import find_data_dir, identity_at, opened_database
from tradingbot_agents.runtime.gathering_files import logs_of_file
from tradingbot_agents.runtime.identity import account_key, default_data_dir, running_revision
from tradingbot_api import TradingBot

SETTLE = timedelta(seconds=5)
"""Between two looks: an order that is on its way has arrived by then, and a fill is booked."""


class Place(Protocol):
    clock: Clock
    cluster: ClusterAccess | None
    """Where the bot is a TradingBot that can be told."""

    def hidden(self) -> set[str]:
        """Texts that must show nowhere."""
        ...

    async def gather(self) -> Evidence:
        """A look. Raises nothing for what is away."""
        ...

    async def settle(self) -> None:
        """Between two looks."""
        ...

    async def open_ledger(self) -> PostgresLedger:
        """To keep the report in; closed with the place. Raises ``LedgerError``."""
        ...


class Wanted(Protocol):
    """What a person asked for: ``RealityOptions``."""

    @property
    def spec(self) -> Path: ...
    @property
    def data_dir(self) -> Path | None: ...
    @property
    def log(self) -> str | None: ...
    @property
    def agents(self) -> Mapping[str, tuple[str, int]]: ...
    @property
    def window(self) -> timedelta | None: ...


async def open_place(
    stack: AsyncExitStack, bot: TradingBot, options: Wanted, environment: Mapping[str, str]
) -> Place:
    """A data directory where one is named, or where the environment names no database. Raises
    ``ConnectionsInvalid``, ``DataDirError`` and ``LedgerUnavailable``."""
    if options.data_dir is None and read_database(environment) is not None:
        return Servers(stack, bot, options, environment)
    path = find_data_dir(options.data_dir or default_data_dir(bot))
    named = identity_at(path)["bot"]
    if named != bot.metadata.name:
        raise DataDirMismatch(
            f"{path} is of bot {named}, and {options.spec} is of bot {bot.metadata.name}: name the spec or the"
            " directory of one bot"
        )
    dsn = await stack.enter_async_context(opened_database(path))
    return DataDirectory(stack, bot, options, path, dsn)


class _Look:
    """What both kinds of places have."""

    def __init__(
        self, stack: AsyncExitStack, bot: TradingBot, options: Wanted, clock: Clock, dsn: Callable[[], str]
    ) -> None:
        """``dsn`` is the database's address, asked for at each connection."""
        self._stack = stack
        self._dsn = dsn
        self._bot = bot
        self._options = options
        self.clock = clock
        self._settings = wiring.reality_settings(bot)
        self._window = options.window or bot.spec.reality_check.window
        self._limit = bot.spec.reality_check.time_limit / (LOOKS + 1)
        """For each source of a look."""
        self._ledger: PostgresLedger | None = None
        self._logs: Known[Logs] | None = None

    async def open_ledger(self) -> PostgresLedger:
        if self._ledger is None:
            self._ledger = await PostgresLedger.connect(
                self._dsn,
                account_key(self._bot),
                self._bot.metadata.name,
                command_timeout=min(self._limit, self._bot.spec.database.statement_timeout).total_seconds(),
            )
            self._stack.push_async_callback(self._ledger.close)
        return self._ledger

    async def _ledger_evidence(self) -> Known[LedgerEvidence]:
        from tradingbot_agents.runtime.gathering_ledger import ledger_evidence

        return await ledger_evidence(
            self._dsn,
            self._settings,
            account_key(self._bot),
            since=self.clock.now() - self._window,
            within=self._limit,
            clock=self.clock,
        )

    def _earlier(self) -> datetime:
        """What is told at the window's begin may rest on something before it."""
        return self.clock.now() - self._window - self._settings.margin

    async def _once(self, read: Callable[[], Awaitable[Known[Logs]]]) -> Known[Logs]:
        """Logs are long, and what was told stays told: they are read in the first look only."""
        if self._logs is None:
            self._logs = await read()
        return self._logs


class Servers(_Look):
    """A bot on servers of its own: agents as pods, or as processes."""

    def __init__(
        self, stack: AsyncExitStack, bot: TradingBot, options: Wanted, environment: Mapping[str, str]
    ) -> None:
        database = read_database(environment, required=True)
        assert database is not None, "it is required"
        super().__init__(stack, bot, options, SystemClock(), database.reveal)
        self.cluster: ClusterAccess | None = read_access(environment)
        self._revision = running_revision(bot, environment)
        self._audited: Audited = read_audited(environment, paper=bot.spec.mode == "paper")

    def hidden(self) -> set[str]:
        return self._audited.connections.hidden()

    async def settle(self) -> None:
        await self.clock.sleep(SETTLE)

    async def gather(self) -> Evidence:
        from tradingbot_agents.runtime.gathering_exchange import unshared

        at = self.clock.now()
        ledger, account, market, candles, messaging, agents = await asyncio.gather(
            self._ledger_evidence(),
            self._account(),
            self._market(),
            self._candles(),
            self._messaging(),
            self._agents(),
        )
        return Evidence(
            at=at,
            since=at - self._window,
            settings=self._settings,
            ledger=ledger,
            account=unshared(self._bot, account, ledger),
            market=market,
            candles=candles,
            messaging=messaging,
            agents=agents,
            logs=await self._once(lambda: self._read_logs(ledger, agents)),
        )

    async def _account(self) -> Known[AccountEvidence]:
        from tradingbot_agents.runtime.gathering_exchange import account_evidence, account_of_bot

        return await account_evidence(
            account_of_bot(self._bot, self._audited.connections, self._execution()),
            self.open_ledger,
            since=self._earlier(),
            clock=self.clock,
            within=self._limit,
        )

    def _execution(self) -> Callable[[], Awaitable[tuple[str, int]]] | None:
        """Where it listens, if that is known."""
        cluster, named = self.cluster, self._options.agents.get(EXECUTION)
        if named is None and cluster is None:
            return None

        async def address() -> tuple[str, int]:
            if named is not None:
                return named
            from tradingbot_agents.runtime.gathering_exchange import execution_in_cluster

            assert cluster is not None, "one of both is known"
            return await execution_in_cluster(cluster, self._bot.metadata.name)

        return address

    async def _market(self) -> Known[MarketEvidence]:
        from tradingbot_agents.runtime.gathering_exchange import market_evidence

        return await market_evidence(
            self._bot, self._options.spec, since=self._earlier(), clock=self.clock, within=self._limit
        )

    async def _candles(self) -> Known[CandleEvidence]:
        url, token = self._given(Variable.TIME_SERIES_URL), self._given(Variable.TIME_SERIES_TOKEN)
        if isinstance(url, Missing):
            return url
        if isinstance(token, Missing):
            return token
        from tradingbot_agents.runtime.gathering_candles import candle_evidence

        return await candle_evidence(
            url.reveal,
            token.reveal,
            wiring.time_series_settings(self._bot),
            self._bot.spec.symbols,
            self._bot.spec.timeframe,
            since=self._earlier(),
            clock=self.clock,
            limit=self._limit,
        )

    async def _messaging(self) -> Known[MessagingEvidence]:
        url = self._given(Variable.MESSAGING_URL)
        if isinstance(url, Missing):
            return url
        from tradingbot_agents.runtime.gathering_messaging import messaging_evidence

        return await messaging_evidence(
            url.reveal,
            self._bot.metadata.name,
            wiring.bus_queues(self._bot),
            clock=self.clock,
            limit=self._limit,
        )

    def _given(self, variable: Variable) -> Secret | Missing:
        found = self._audited.connections.get(variable)
        if found is not None:
            return found
        return Missing(self._audited.missing.get(variable, f"{variable.value} is not set"))

    async def _agents(self) -> Known[AgentsEvidence]:
        if self.cluster is not None:
            from tradingbot_agents.runtime.gathering_cluster import ClusterGatherer

            try:
                async with asyncio.timeout(self._limit.total_seconds()):
                    return await ClusterGatherer(self.cluster, self._bot.metadata.name, AGENTS).agents()
            except TimeoutError:
                return Missing(f"the API server did not tell within {self._limit.total_seconds():g} s")
        from tradingbot_agents.runtime.gathering_processes import process_evidence

        return await process_evidence(
            self._options.agents,
            wanted=self._revision,
            state=BotState(self._bot.spec.state),
            clock=self.clock,
            limit=min(self._limit, timedelta(seconds=10)),
        )

    async def _read_logs(self, ledger: Known[LedgerEvidence], agents: Known[AgentsEvidence]) -> Known[Logs]:
        since = self.clock.now() - self._window
        if self._options.log is None and self.cluster is not None:
            from tradingbot_agents.runtime.gathering_cluster import ClusterGatherer

            gatherer = ClusterGatherer(self.cluster, self._bot.metadata.name, AGENTS)
            return await gatherer.logs(since=since, within=self._limit)
        return await _logs_of(self._options.log, since, self._limit, ledger, _eldest(agents))


class DataDirectory(_Look):
    """What ``tradingbot run`` leaves, or writes in this moment. Time is the candles'."""

    cluster: ClusterAccess | None = None

    def __init__(self, stack: AsyncExitStack, bot: TradingBot, options: Wanted, path: Path, dsn: str) -> None:
        from tradingbot_agents.runtime.gathering_exchange import replayed_until

        reached = replayed_until(path)
        if reached is None:
            raise LedgerUnavailable(f"the run of {path} has not begun: no candle was played yet")
        super().__init__(stack, bot, options, VirtualClock(reached), lambda: dsn)
        self._path = path

    def hidden(self) -> set[str]:
        return set()

    async def settle(self) -> None:
        """Nothing moves by itself: a run that goes on is looked at as it is then."""
        await asyncio.sleep(0)

    async def gather(self) -> Evidence:
        from tradingbot_agents.runtime.gathering_exchange import replayed_account, replayed_market

        at = self.clock.now()
        ledger = await self._ledger_evidence()
        if isinstance(ledger, LedgerEvidence):
            # The database's clock is of today, and says nothing of the candles' time.
            ledger = msgspec.structs.replace(ledger, read_at=ledger.asked_at)
        one_process = "all agents are one process, which has"
        return Evidence(
            at=at,
            since=at - self._window,
            settings=self._settings,
            ledger=ledger,
            account=await replayed_account(
                self._path, self.open_ledger, since=self._earlier(), clock=self.clock, within=self._limit
            ),
            market=await replayed_market(
                self._path,
                self._bot,
                self._options.spec,
                since=self._earlier(),
                clock=self.clock,
                within=self._limit,
            ),
            candles=Missing(f"{one_process} its candles in memory", wanted=False),
            messaging=Missing(f"{one_process} no broker", wanted=False),
            agents=Missing(f"{one_process} no pods", wanted=False),
            logs=await self._once(lambda: _logs_of(self._options.log, at - self._window, self._limit, ledger)),
        )


async def _logs_of(
    log: str | None,
    since: datetime,
    within: timedelta,
    ledger: Known[LedgerEvidence],
    nobody_before: datetime | None = None,
) -> Known[Logs]:
    if log is None:
        return Missing("nobody said where the agents log: name it with --log FILE", wanted=False)
    counts_from = {} if isinstance(ledger, Missing) else ledger.revisions
    return await logs_of_file(
        log, AGENTS, since=since, within=within, counts_from=counts_from, nobody_before=nobody_before
    )


def _eldest(agents: Known[AgentsEvidence]) -> datetime | None:
    """When the first of the processes began, if all of them say it."""
    if isinstance(agents, Missing) or {pod.agent for pod in agents.pods} != set(AGENTS):
        return None
    began = [pod.started_at for pod in agents.pods if pod.started_at is not None]
    return min(began) if len(began) == len(agents.pods) else None
