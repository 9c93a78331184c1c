"""What is outside of an agent's process: opened when it is there, looked at while it runs, closed at the end.

A part that is away is waited for, with growing pauses, and told; it never ends the process. What no waiting mends
(a wrong password is not among it: somebody mends that without us) is raised as what it is.

Each part imports its own library: no process pays for one that it does not use.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from tradingbot_agents.bus import HandlerFailed
from tradingbot_agents.bus.topology import DATA_COLLECTION, EXECUTION, RISK
from tradingbot_agents.clock import Clock
from tradingbot_agents.clock.system import Turns
from tradingbot_agents.domain.events import Event, StreamLost, StreamRecovered
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.exchange.port import ExchangeError, MarketFeed, NotListed, TradingVenue
from tradingbot_agents.ledger.port import Hold, LedgerError, LedgerUnavailable
from tradingbot_agents.runtime import wiring
from tradingbot_agents.runtime.connections import NEEDS, Connections, Secret, Variable
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.telemetry import Sink, get_logger
from tradingbot_api import SIMULATED, TradingBot

if TYPE_CHECKING:
    from tradingbot_agents.bus.rabbitmq import RabbitBus
    from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange, ExchangeKeys
    from tradingbot_agents.exchange.ccxt_streams import StreamedFeed, StreamNotice
    from tradingbot_agents.exchange.paper import PaperExchange
    from tradingbot_agents.exchange.replay_feed import ReplayFeed
    from tradingbot_agents.ledger.postgres import PostgresLedger
    from tradingbot_agents.marketdata.influx import InfluxCandleStore

DATABASE = "database"
MESSAGING = "messaging"
TIME_SERIES = "time-series"
EXCHANGE = "exchange"
ACCOUNT = "account"
MARKET_RULES = "market-rules"


PAPER_FOLDER = "paper"
"""Of the data directory: the books of the exchange that paper orders are sent to."""

FINEST = "1m"

NOT_CONNECTED = "RabbitMQ is not connected: see that it runs, and its address"


class PartUnavailable(Exception):
    """It can not be used yet. The text says why, and what to do when it stays so."""


class Part:
    """One of them. The base does nothing: a part says only what it has to."""

    name: str
    required = True
    """Whether an agent can not start, or be started again, without it."""
    tells_itself = False
    """Whether it emits ``dependency_away`` by itself."""

    async def open(self) -> None:
        """Raises ``PartUnavailable``; then it is called again."""

    async def probe(self) -> str | None:
        """Why it can not be used now, or ``None``. Asked every ``probeInterval``, and only when it is open."""
        return None

    async def tend(self) -> None:
        """What is to be done now and then. Must not raise for a part that is away."""

    async def close(self) -> None:
        """Safe to call for one that was never opened."""


class MessagingPart(Part):
    name = MESSAGING
    tells_itself = True

    def __init__(
        self,
        bot: TradingBot,
        agent: str,
        url: Secret,
        *,
        clock: Clock,
        turns: Turns,
        sink: Sink,
        on_failure: Callable[[HandlerFailed], None],
    ) -> None:
        from tradingbot_agents.bus.rabbitmq import RabbitBus

        self.bus: RabbitBus = RabbitBus(
            url.reveal,
            wiring.bus_queues(bot),
            wiring.messaging_settings(bot, agent),
            clock=clock,
            turns=turns,
            sink=sink,
            on_failure=on_failure,
        )
        self._patience = bot.spec.runtime.ledger_retry_delay.total_seconds()
        self._started = False

    async def open(self) -> None:
        if not self._started:
            self.bus.start()
            self._started = True
        try:
            async with asyncio.timeout(self._patience):
                await self.bus.until_connected()
        except TimeoutError:
            raise PartUnavailable(NOT_CONNECTED) from None

    async def probe(self) -> str | None:
        return None if self.bus.connected else NOT_CONNECTED

    async def close(self) -> None:
        if self._started:
            await self.bus.close()


class DatabasePart(Part):
    """The ledger. ``ledger`` is there once it is open."""

    name = DATABASE

    def __init__(self, bot: TradingBot, url: Secret) -> None:
        self._bot = bot
        self._url = url
        self.ledger: PostgresLedger | None = None

    async def open(self) -> None:
        """Raises ``SchemaUnknown`` for the data of a newer release, too."""
        from tradingbot_agents.ledger.migrate import SchemaOutdated, check_schema
        from tradingbot_agents.ledger.postgres import PostgresLedger

        try:
            await check_schema(self._url.reveal())
            self.ledger = await PostgresLedger.connect(
                self._url.reveal,
                account_key(self._bot),
                self._bot.metadata.name,
                command_timeout=self._bot.spec.database.statement_timeout.total_seconds(),
            )
        except (LedgerUnavailable, SchemaOutdated) as error:
            raise PartUnavailable(str(error)) from error

    async def probe(self) -> str | None:
        assert self.ledger is not None, "only what is open is asked"
        try:
            await self.ledger.hold()
        except LedgerUnavailable as error:
            return str(error)
        return None

    async def close(self) -> None:
        if self.ledger is not None:
            await self.ledger.close()


class NoHolds:
    """For agents that see no ledger: nothing that they do depends on a hold."""

    async def hold(self) -> Hold | None:
        return None


class TimeSeriesPart(Part):
    """The candle store. Agents do without, or wait, by themselves while it is away."""

    name = TIME_SERIES
    required = False

    def __init__(
        self, bot: TradingBot, agent: str, url: Secret, token: Secret, spool: Path | None, *, clock: Clock, sink: Sink
    ) -> None:
        """``spool``: the folder of an agent that writes."""
        self._bot = bot
        self._agent = agent
        self._url = url
        self._token = token
        self._spool = spool
        self._clock = clock
        self._sink = sink
        self._drain_at: datetime | None = None
        self._used = ""
        self.store: InfluxCandleStore | None = None

    async def open(self) -> None:
        from tradingbot_agents.marketdata.influx import InfluxCandleStore
        from tradingbot_agents.marketdata.spool import Spool

        series = self._bot.spec.time_series
        self._used = self._token.reveal()
        self.store = InfluxCandleStore.open(
            self._url.reveal(),
            self._used,
            wiring.time_series_settings(self._bot),
            spool=None if self._spool is None else Spool(self._spool, series.spool_length),
            clock=self._clock,
            sink=self._sink,
            agent=self._agent,
        )

    async def probe(self) -> str | None:
        assert self.store is not None, "only what is open is asked"
        return await self.store.problem()

    async def tend(self) -> None:
        assert self.store is not None, "only what is open is tended"
        token = self._token.reveal()
        if token != self._used:
            self._used = token
            self.store.use_token(token)
            get_logger().info("time_series_token_renewed", agent=self._agent)
        now = self._clock.now()
        if self._spool is None or (self._drain_at is not None and now < self._drain_at):
            return
        self._drain_at = now + self._bot.spec.time_series.retry_delay
        await self.store.drain()

    async def close(self) -> None:
        if self.store is not None:
            await self.store.close()


class FeedPart(Part):
    """The exchange's market data, which needs no key."""

    name = EXCHANGE

    def __init__(self, bot: TradingBot, clock: Clock, sink: Sink, *, agent: str) -> None:
        self._agent = agent
        self._bot = bot
        self._clock = clock
        self._sink = sink
        self._asked_at: datetime | None = None
        self._problem: str | None = None
        self._streams: StreamedFeed | None = None
        self.exchange: CcxtExchange | None = None

    @property
    def feed(self) -> MarketFeed | None:
        return self._streams or self.exchange

    @property
    def bars(self) -> str:
        """The timeframe that paper orders are matched with: the finest, or the bot's own."""
        assert self.exchange is not None, "it is open"
        return FINEST if FINEST in self.exchange.timeframes else self._bot.spec.timeframe

    def _streamed(self) -> bool:
        # What is traded is asked about, and not overheard.
        return self._agent == DATA_COLLECTION and self._bot.spec.exchange.feed == "websocket"

    async def open(self) -> None:
        """Raises ``UnknownExchange`` and ``NoStreams``, too."""
        from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange

        if self.exchange is None:
            self.exchange = CcxtExchange(
                settings=wiring.exchange_settings(self._bot),
                clock=self._clock,
                keys=self._keys(),
                streams=self._streamed(),
            )
        try:
            await self.exchange.market_rules(self._bot.spec.symbols)
        except NotListed as error:
            # One that was delisted must not keep the others from being traded, or from being sold.
            get_logger().warning("symbols_not_listed", agent=self._agent, why=str(error))
        except ExchangeError as error:
            raise PartUnavailable(f"{self._bot.spec.exchange.name}: {error}") from error
        if self._streamed():
            from tradingbot_agents.exchange.ccxt_streams import StreamedFeed

            self._streams = StreamedFeed(
                exchange=self.exchange,
                settings=wiring.stream_settings(self._bot),
                clock=self._clock,
                notice=self._tell_stream,
            )
            await self._streams.start()

    def _tell_stream(self, notice: StreamNotice) -> None:
        told: Event
        if notice.working:
            told = StreamRecovered(
                at=notice.at,
                agent=DATA_COLLECTION,
                symbol=notice.symbol,
                stream=notice.kind.value,
                silent_seconds=None if notice.silent is None else notice.silent.total_seconds(),
            )
        else:
            told = StreamLost(
                at=notice.at,
                agent=DATA_COLLECTION,
                symbol=notice.symbol,
                stream=notice.kind.value,
                why=notice.why,
            )
        self._sink.emit(told)

    def _keys(self) -> ExchangeKeys | None:
        return None

    async def _ask(self, exchange: CcxtExchange) -> None:
        """A small request, which tells whether the exchange answers."""
        await exchange.ticker(self._bot.spec.symbols[0])

    async def probe(self) -> str | None:
        """Asked of the exchange once in ``exchange.pollInterval``, and more often while it is away."""
        assert self.exchange is not None, "only what is open is asked"
        now = self._clock.now()
        spec = self._bot.spec
        pause = spec.exchange.poll_interval if self._problem is None else 2 * spec.runtime.ledger_retry_delay
        if self._asked_at is None or now >= self._asked_at + pause:
            self._asked_at = now
            try:
                await self._ask(self.exchange)
            except ExchangeError as error:
                self._problem = f"{spec.exchange.name}: {error}"
            else:
                self._problem = None
        return self._problem

    async def close(self) -> None:
        if self._streams is not None:
            await self._streams.stop()
        if self.exchange is not None:
            await self.exchange.close()


class VenuePart(FeedPart):
    """The exchange as execution trades on it, with the key that is in the Secret now."""

    def __init__(self, bot: TradingBot, connections: Connections, clock: Clock, sink: Sink) -> None:
        super().__init__(bot, clock, sink, agent=EXECUTION)
        self._connections = connections
        self._used: ExchangeKeys | None = None

    def _keys(self) -> ExchangeKeys | None:
        from tradingbot_agents.exchange.ccxt_exchange import ExchangeKeys

        password = self._connections.get(Variable.EXCHANGE_PASSWORD)
        self._used = ExchangeKeys(
            self._connections[Variable.EXCHANGE_API_KEY].reveal(),
            self._connections[Variable.EXCHANGE_SECRET].reveal(),
            None if password is None else password.reveal(),
        )
        return self._used

    async def _ask(self, exchange: CcxtExchange) -> None:
        # It needs the key: one that was revoked is found before an order needs it.
        await exchange.balances()

    async def tend(self) -> None:
        assert self.exchange is not None, "only what is open is tended"
        self.renew_keys(self.exchange)

    def renew_keys(self, exchange: CcxtExchange) -> None:
        before, now = self._used, self._keys()
        if now is not None and now != before:
            exchange.use_keys(now)
            get_logger().info("exchange_keys_renewed", agent=EXECUTION)
            self._asked_at = None

    async def admit(self, ledger: PostgresLedger) -> None:
        """See ``Venue``."""
        assert self.exchange is not None, "it is opened before"
        # A key that is refused may be replaced meanwhile.
        self.renew_keys(self.exchange)
        report = await self.exchange.check_account()
        if report.refusals:
            raise PartUnavailable("; ".join(refusal.text for refusal in report.refusals))
        told = report.facts.account_id
        if told is not None and (known := await ledger.know_exchange_account(told)) != told:
            raise PartUnavailable(
                f"the key is of the exchange's account {told}, but the books are of {known};"
                " use a key of that account, or another account.name"
            )
        for note in report.notes:
            get_logger().warning("account_note", agent=EXECUTION, note=note)


class ReplayPart(Part):
    """Candle files that are played as a market: see ``ReplayFeed``."""

    name = EXCHANGE

    def __init__(self, bot: TradingBot, spec_file: Path, clock: Clock, *, agent: str) -> None:
        self._bot = bot
        self._spec_file = spec_file
        self._clock = clock
        self._agent = agent
        self.feed: ReplayFeed | None = None

    @property
    def bars(self) -> str:
        return self._bot.spec.timeframe

    async def open(self) -> None:
        """Raises ``CandleSourceError``, ``CandleFileInvalid``, ``MarketRulesInvalid`` and ``NoMarketRules``, too."""
        from tradingbot_agents.exchange.candle_source import find_candles
        from tradingbot_agents.exchange.replay_feed import ReplayFeed

        spec = self._bot.spec
        replay = spec.exchange.replay
        assert replay is not None, "a valid spec of the simulated exchange has a replay"
        self.feed = ReplayFeed(
            source=find_candles(
                wiring.beside(self._spec_file, replay.source),
                spec.symbols,
                spec.timeframe,
                opens_from=replay.start_time,
                opens_before=replay.end_time,
            ),
            rules=wiring.simulated_rules(self._bot, self._spec_file),
            clock=self._clock,
            history=spec.history,
        )
        get_logger().info(
            "replay_moved_to_now", agent=self._agent, repeats_after_seconds=self.feed.length.total_seconds()
        )


class PaperPart(Part):
    """The simulated exchange that execution has in its own process in mode paper, on another part's market. It needs
    no key, and its books are on disk."""

    name = EXCHANGE

    def __init__(self, bot: TradingBot, market: FeedPart | ReplayPart, folder: Path, clock: Clock) -> None:
        """``folder``: its own, for the books."""
        self._bot = bot
        self._market = market
        self._folder = folder
        self._clock = clock
        self.exchange: PaperExchange | None = None

    async def open(self) -> None:
        """Raises ``ExchangeStateError`` and what its market raises, too."""
        from tradingbot_agents.exchange.paper import PaperExchange
        from tradingbot_agents.exchange.state import ExchangeStateInUse

        await self._market.open()
        assert self._market.feed is not None, "it is open"
        try:
            self.exchange = PaperExchange.open(
                self._folder,
                account=f"{account_key(self._bot)}, bot {self._bot.metadata.name}",
                feed=self._market.feed,
                timeframe=self._market.bars,
                clock=self._clock,
                settings=wiring.paper_settings(self._bot),
            )
        except ExchangeStateInUse as error:
            # The process before this one is ending: it can not be fenced off from its own books.
            raise PartUnavailable(str(error)) from error

    async def admit(self, ledger: PostgresLedger) -> None:
        """See ``Venue``."""
        assert self.exchange is not None, "it is opened before"
        # Nobody else can have ended them: the books were lost, and the ledger was not.
        sent = [order for order in await ledger.live_orders() if order.exchange_order_id is not None]
        gone = [order.client_order_id for order in sent if self.exchange.give_up(order)]
        if gone:
            get_logger().warning(
                "account_note",
                agent=EXECUTION,
                note=f"the paper exchange's books in {self._folder} are newer than the ledger's: {', '.join(gone)}"
                " rested in the lost ones, and count as cancelled",
            )

    async def probe(self) -> str | None:
        return await self._market.probe()

    async def close(self) -> None:
        if self.exchange is not None:
            self.exchange.close()
        await self._market.close()


Venue: TypeAlias = VenuePart | PaperPart
"""What execution trades on. ``admit(ledger)`` finds out whether it may: raises ``PartUnavailable``, ``ExchangeError``
or ``LedgerError``."""


class AccountPart(Part):
    """The account, fit to be traded on: the key is one for a bot, and the books are open."""

    name = ACCOUNT

    def __init__(self, bot: TradingBot, database: DatabasePart, venue: Venue, clock: Clock) -> None:
        self._bot = bot
        self._database = database
        self._venue = venue
        self._clock = clock

    async def open(self) -> None:
        from tradingbot_agents.runtime.opening import open_account

        exchange, ledger = self._venue.exchange, self._database.ledger
        assert exchange is not None, "it is opened before"
        assert ledger is not None, "it is opened before"
        try:
            await self._venue.admit(ledger)
            await open_account(self._bot, ledger, exchange, self._clock)
        except (ExchangeError, LedgerError) as error:
            raise PartUnavailable(str(error)) from error


class MarketRulesPart(Part):
    """The market rules as execution read them last: risk reaches no exchange. They come with an opened account."""

    name = MARKET_RULES

    def __init__(self, bot: TradingBot, database: DatabasePart, clock: Clock) -> None:
        self._bot = bot
        self._database = database
        self._clock = clock
        self._read_at: datetime | None = None
        self.rules: dict[str, SymbolRules] = {}

    async def open(self) -> None:
        try:
            await self._read()
        except LedgerUnavailable as error:
            raise PartUnavailable(str(error)) from error
        missing = [symbol for symbol in self._bot.spec.symbols if symbol not in self.rules]
        if missing:
            raise PartUnavailable(
                f"the execution agent has not read the rules of {', '.join(missing)} yet: see that it runs"
            )

    async def tend(self) -> None:
        interval: timedelta = self._bot.spec.exchange.rules_interval
        if self._read_at is not None and self._clock.now() < self._read_at + interval:
            return
        try:
            await self._read()
        except LedgerUnavailable:
            # The database tells that itself; the rules that are known stay.
            return

    async def _read(self) -> None:
        ledger = self._database.ledger
        if ledger is None:
            raise PartUnavailable("the database is not open yet")
        known = await ledger.market_rules()
        self.rules.update({symbol: found.rules for symbol, found in known.items()})
        self._read_at = self._clock.now()


class Outside(msgspec.Struct, kw_only=True):
    """All parts of one agent's process."""

    messaging: MessagingPart
    database: DatabasePart | None = None
    time_series: TimeSeriesPart | None = None
    market: FeedPart | ReplayPart | None = None
    """Without a key; of data collection."""
    trading: Venue | None = None
    account: AccountPart | None = None
    market_rules: MarketRulesPart | None = None

    @classmethod
    def of(
        cls,
        agent: str,
        bot: TradingBot,
        connections: Connections,
        *,
        spec_file: Path,
        data_dir: Path,
        clock: Clock,
        turns: Turns,
        sink: Sink,
        on_failure: Callable[[HandlerFailed], None],
    ) -> Outside:
        """What the agent is given, and no more. Nothing is opened yet."""

        def market() -> FeedPart | ReplayPart:
            if bot.spec.exchange.name == SIMULATED:
                return ReplayPart(bot, spec_file, clock, agent=agent)
            return FeedPart(bot, clock, sink, agent=agent)

        needs = NEEDS[agent]
        parts = cls(
            messaging=MessagingPart(
                bot,
                agent,
                connections[Variable.MESSAGING_URL],
                clock=clock,
                turns=turns,
                sink=sink,
                on_failure=on_failure,
            )
        )
        if Variable.DATABASE_URL in needs:
            parts.database = DatabasePart(bot, connections[Variable.DATABASE_URL])
        if Variable.TIME_SERIES_URL in needs:
            parts.time_series = TimeSeriesPart(
                bot,
                agent,
                connections[Variable.TIME_SERIES_URL],
                connections[Variable.TIME_SERIES_TOKEN],
                data_dir / "spool" if agent == DATA_COLLECTION else None,
                clock=clock,
                sink=sink,
            )
        if agent == DATA_COLLECTION:
            parts.market = market()
        if agent == EXECUTION:
            assert parts.database is not None, "it is among its needs"
            if bot.spec.mode == "paper":
                parts.trading = PaperPart(bot, market(), data_dir / PAPER_FOLDER, clock)
            else:
                parts.trading = VenuePart(bot, connections, clock, sink)
            parts.account = AccountPart(bot, parts.database, parts.trading, clock)
        if agent == RISK:
            assert parts.database is not None, "it is among its needs"
            parts.market_rules = MarketRulesPart(bot, parts.database, clock)
        return parts

    @property
    def all(self) -> list[Part]:
        """In the order in which they are opened: later ones read from earlier ones."""
        parts = (
            self.messaging,
            self.database,
            self.time_series,
            self.market,
            self.trading,
            self.account,
            self.market_rules,
        )
        return [part for part in parts if part is not None]

    @property
    def ledger(self) -> PostgresLedger | None:
        return None if self.database is None else self.database.ledger

    @property
    def store(self) -> InfluxCandleStore | None:
        return None if self.time_series is None else self.time_series.store

    @property
    def feed(self) -> MarketFeed | None:
        return None if self.market is None else self.market.feed

    @property
    def venue(self) -> TradingVenue | None:
        return None if self.trading is None else self.trading.exchange

    @property
    def rules(self) -> dict[str, SymbolRules] | None:
        return None if self.market_rules is None else self.market_rules.rules
