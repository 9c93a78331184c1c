"""Evidence of the exchange: of the market as everybody sees it, and of the account as its owner does.

Nothing here raises for what is away or refused: that is ``Missing``, in words and without a key. No order is sent,
and the market is asked without a key even where there is one.

In mode paper the account is in execution's own books. They are asked of its process, or read in the data directory of
a run. Of ``tradingbot run`` the market is as old as its simulated exchange, which has a time of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime, timedelta
from itertools import takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import TIMEFRAMES
from tradingbot_agents.exchange.port import (
    Capabilities,
    ExchangeBalance,
    ExchangeError,
    ExchangeOrder,
    ExchangeTrade,
    MarketFeed,
    NotListed,
)
from tradingbot_agents.ledger.port import Books, LedgerError
from tradingbot_agents.reality.account import Shown
from tradingbot_agents.reality.evidence import AccountEvidence, Known, LedgerEvidence, MarketEvidence, Missing
from tradingbot_agents.runtime import cluster_names, paper_page, wiring
from tradingbot_agents.runtime.api_server import ApiServer, ApiUnavailable, ClusterAccess
from tradingbot_agents.runtime.connections import Connections, Variable
from tradingbot_agents.runtime.identity import account_key
from tradingbot_agents.telemetry import get_logger
from tradingbot_api import SIMULATED, TradingBot

if TYPE_CHECKING:
    # They cost megabytes that a check of another exchange does not need.
    from tradingbot_agents.exchange.candle_source import CandleSource
    from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange, ExchangeKeys
    from tradingbot_agents.exchange.paper_books import PaperBooks

T = TypeVar("T")

MOST = 2000
"""Bars of a symbol: as many as are read of the candle store."""

PAGE = 500
"""Bars that are asked for at once."""

ROUNDS = 4
"""Looks at the account, until the ledger was the same before and after one."""

PAUSE = timedelta(milliseconds=500)
"""Between two of them."""

MOST_LOOKED_UP = paper_page.MOST_ORDERS
"""Orders that are looked up one by one. That so many are live and not open is a finding by itself."""

_LONGEST_BOOKS = 2**23
"""Bytes of the paper exchange's document."""

_ME = "reality-check"

Address = tuple[str, int]
"""Host and port."""


class _Away(Exception):
    """In words, without a secret."""


# --- the market --------------------------------------------------------------------------------------------------


async def market_evidence(
    bot: TradingBot, spec_file: Path, *, since: datetime, clock: Clock, within: timedelta
) -> Known[MarketEvidence]:
    """The market of a bot whose agents are processes of their own: the exchange's, or a tape that is played in real
    time. Its bars are those that opened from ``since`` on and are over. Within ``within``."""
    spec = bot.spec

    async def look() -> MarketEvidence:
        if spec.exchange.name == SIMULATED:
            return await _tape_evidence(bot, spec_file, since, clock)
        async with _opened_exchange(bot, None, spec.symbols, clock, within) as exchange:
            rules = await _listed(exchange, spec.symbols)
            candles = await _all_candles(exchange, bot, rules, since, clock)
            return _market(
                bot,
                rules,
                candles,
                clock,
                # It is told as how far our clock is ahead of the other.
                offset=-exchange.clock_difference if exchange.tells_time else None,
                capabilities=exchange.capabilities,
            )

    return await _bounded(look, spec.exchange.name, within)


async def replayed_market(
    data_dir: Path,
    bot: TradingBot,
    spec_file: Path,
    *,
    since: datetime,
    clock: Clock,
    within: timedelta,
    candles: Path | None = None,
) -> Known[MarketEvidence]:
    """The market of a ``tradingbot run``, up to the bar that its simulated exchange has played last. ``candles``: in
    place of the spec's, as the run was told; ``clock``: at ``replayed_until``."""

    def read() -> tuple[dict[str, SymbolRules], dict[str, Sequence[Candle]]]:
        source = _source(bot, spec_file, candles)
        facts, place = _facts_and_place(data_dir)
        if facts.get("candles") != source.fingerprint:
            raise _Away(f"the run in {data_dir} plays other candles than the spec names: name its own with --candles")
        place = place or source.start_time
        bar = TIMEFRAMES[source.timeframe]
        found: dict[str, Sequence[Candle]] = {}
        for file in source.files:
            bars = file.rows(max(since, place - MOST * bar))
            found[file.symbol] = list(takewhile(lambda each: each.open_time + bar <= place, bars))
        return _rules_of(bot, spec_file, source), found

    async def look() -> MarketEvidence:
        # Whole files are read, meanwhile other places are looked at.
        rules, found = await asyncio.to_thread(read)
        return _market(bot, rules, found, clock, offset=None, capabilities=None)

    return await _bounded(look, bot.spec.exchange.name, within)


def replayed_until(data_dir: Path) -> datetime | None:
    """The time that the simulated exchange of a run has reached; ``None``: it has not played a bar. Raises
    ``ExchangeStateError``."""
    _, place = _facts_and_place(data_dir)
    return place


async def _tape_evidence(bot: TradingBot, spec_file: Path, since: datetime, clock: Clock) -> MarketEvidence:
    from tradingbot_agents.exchange.replay_feed import ReplayFeed

    def load() -> tuple[ReplayFeed, dict[str, SymbolRules]]:
        source = _source(bot, spec_file, None)
        rules = _rules_of(bot, spec_file, source)
        # It checks every candle.
        return ReplayFeed(source=source, rules=rules, clock=clock, history=bot.spec.history), rules

    feed, rules = await asyncio.to_thread(load)
    candles = await _all_candles(feed, bot, rules, since, clock)
    return _market(bot, rules, candles, clock, offset=None, capabilities=None)


def _market(
    bot: TradingBot,
    rules: Mapping[str, SymbolRules],
    candles: Mapping[str, Sequence[Candle]],
    clock: Clock,
    *,
    offset: timedelta | None,
    capabilities: Capabilities | None,
) -> MarketEvidence:
    if bot.spec.mode == "paper":
        # What the paper exchange changes of its market: the fees, and which orders are taken.
        paper = wiring.simulated_settings(bot)
        capabilities = paper.capabilities
        if paper.fees is not None:
            rules = {symbol: msgspec.structs.replace(each, fees=paper.fees) for symbol, each in rules.items()}
    return MarketEvidence(
        read_at=clock.now(), rules=rules, candles=candles, clock_offset=offset, capabilities=capabilities
    )


async def _all_candles(
    feed: MarketFeed, bot: TradingBot, symbols: Mapping[str, SymbolRules], since: datetime, clock: Clock
) -> dict[str, Sequence[Candle]]:
    timeframe = bot.spec.timeframe
    bar, now = TIMEFRAMES[timeframe], clock.now()
    since = max(since, now - MOST * bar)
    found: dict[str, Sequence[Candle]] = {}
    for symbol in symbols:
        bars: list[Candle] = []
        begin = since
        # A page that is not full may be one that the exchange cuts by a limit of its own.
        while begin + bar <= now:
            page = await feed.candles(symbol, timeframe, since=begin, limit=PAGE)
            if not page:
                break
            bars += page
            begin = page[-1].close_time
        found[symbol] = bars
    return found


async def _listed(exchange: CcxtExchange, symbols: Sequence[str]) -> dict[str, SymbolRules]:
    """The rules of those that the exchange has; of none of them there is nothing to be seen."""
    try:
        return dict(await exchange.market_rules(symbols))
    except NotListed as error:
        left = [symbol for symbol in symbols if symbol not in error.symbols]
        if not left:
            raise
        get_logger().warning("symbols_not_listed", agent=_ME, why=str(error))
        return dict(await exchange.market_rules(left))


def _source(bot: TradingBot, spec_file: Path, candles: Path | None) -> CandleSource:
    from tradingbot_agents.exchange.candle_source import find_candles

    replay = bot.spec.exchange.replay
    assert replay is not None, "a valid spec of the simulated exchange has a replay"
    return find_candles(
        candles or wiring.beside(spec_file, replay.source),
        bot.spec.symbols,
        bot.spec.timeframe,
        opens_from=replay.start_time,
        opens_before=replay.end_time,
    )


def _rules_of(bot: TradingBot, spec_file: Path, source: CandleSource) -> dict[str, SymbolRules]:
    from tradingbot_agents.exchange.market_rules import rules_of

    return dict(rules_of(wiring.simulated_rules(bot, spec_file), source.symbols, None))


def _facts_and_place(data_dir: Path) -> tuple[Mapping[str, str], datetime | None]:
    from tradingbot_agents.exchange.state import StateStore

    with StateStore.copied(_folder_of(data_dir)) as store:
        return store.facts(), store.place()


def _folder_of(data_dir: Path) -> Path:
    from tradingbot_agents.runtime.run import EXCHANGE_FOLDER

    return data_dir / EXCHANGE_FOLDER


# --- the account -------------------------------------------------------------------------------------------------


class ComparedLedger(Protocol):
    """What is read of the ledger, to know what to ask for, and whether it stood still meanwhile."""

    async def account_books(self) -> Books: ...

    async def symbols_traded(self, since: datetime) -> list[str]: ...


class _Told(msgspec.Struct, frozen=True, kw_only=True):
    """The account at one look."""

    balances: Mapping[str, ExchangeBalance]
    open_orders: tuple[ExchangeOrder, ...]
    looked_up: Mapping[str, ExchangeOrder | None]
    trades: tuple[ExchangeTrade, ...]
    trades_since: datetime


Tell = Callable[[datetime, Sequence[str], Sequence[Order]], Awaitable[_Told]]
"""Of a time and the symbols, the trades; of the ledger's live orders what became of those that are not open."""


class AccountPlace(Protocol):
    """Where the account is seen."""

    @property
    def name(self) -> str:
        """In words."""
        ...

    def opened(self, clock: Clock, within: timedelta) -> AbstractAsyncContextManager[Tell]: ...


OpenLedger = Callable[[], Awaitable[ComparedLedger]]
"""May raise ``LedgerError``."""


async def account_evidence(
    place: AccountPlace | Missing,
    ledger: OpenLedger,
    *,
    since: datetime,
    clock: Clock,
    within: timedelta,
    pause: timedelta = PAUSE,
) -> Known[AccountEvidence]:
    """What the account has, and its trades from ``since`` on, within ``within``: looked at anew a few times, until
    the ledger stood still meanwhile, for else the two can not be compared. ``place``: see ``account_of_bot``."""
    if isinstance(place, Missing):
        return place

    async def look() -> Known[AccountEvidence]:
        books = await ledger()
        async with place.opened(clock, within) as tell:
            for attempt in range(ROUNDS):
                if attempt:
                    await asyncio.sleep(pause.total_seconds())
                before = await books.account_books()
                told = await tell(since, await books.symbols_traded(since), before.live)
                if (await books.account_books()).mark == before.mark:
                    return AccountEvidence(
                        read_at=clock.now(),
                        balances=told.balances,
                        open_orders=told.open_orders,
                        looked_up=told.looked_up,
                        trades=told.trades,
                        trades_since=told.trades_since,
                    )
        return Missing("the ledger changed whenever the exchange was asked: the two can not be compared")

    return await _bounded(look, place.name, within)


async def replayed_account(
    data_dir: Path, ledger: OpenLedger, *, since: datetime, clock: Clock, within: timedelta, pause: timedelta = PAUSE
) -> Known[AccountEvidence]:
    """The account of a ``tradingbot run``, whether it runs now or not."""
    return await account_evidence(_RunAccount(data_dir), ledger, since=since, clock=clock, within=within, pause=pause)


def unshared(
    bot: TradingBot, account: Known[AccountEvidence], ledger: Known[LedgerEvidence]
) -> Known[AccountEvidence]:
    """The account, if what was looked at is all of it. Bots that share a paper account have an exchange each, and the
    books of one are not the account's."""
    if bot.spec.mode != "paper" or isinstance(account, Missing) or isinstance(ledger, Missing):
        return account
    others = [name for name in ledger.bots if name != bot.metadata.name]
    if not others:
        return account
    return Missing(
        f"the paper account is shared with {', '.join(others)}, and each bot's paper exchange has its own part of it",
        wanted=False,
    )


class ExchangeAccount:
    """On a real exchange, with a key that should only read."""

    def __init__(self, bot: TradingBot, connections: Connections) -> None:
        """``connections``: with the key."""
        self._bot = bot
        self._connections = connections

    @property
    def name(self) -> str:
        return self._bot.spec.exchange.name

    @asynccontextmanager
    async def opened(self, clock: Clock, within: timedelta) -> AsyncIterator[Tell]:
        keys = _keys(self._connections)
        async with _opened_exchange(self._bot, keys, self._bot.spec.symbols, clock, within) as exchange:
            await self._judge_key(exchange)

            async def tell(since: datetime, symbols: Sequence[str], live: Sequence[Order]) -> _Told:
                return await self._look(exchange, since, symbols, live)

            yield tell

    async def _judge_key(self, exchange: CcxtExchange) -> None:
        facts = (await exchange.check_account()).facts
        if facts.key_problem is not None:
            raise _Away(
                f"the exchange does not accept the key ({facts.key_problem}); check the Secret of"
                " realityCheck.credentialsSecretRef, and the addresses that the key is bound to"
            )
        for may, what in ((facts.may_trade, "trade"), (facts.may_withdraw, "withdraw")):
            if may:
                get_logger().warning(
                    "account_note",
                    agent=_ME,
                    note=f"the key of the reality check may {what}: give it one that may only read",
                )

    async def _look(
        self, exchange: CcxtExchange, since: datetime, traded: Sequence[str], live: Sequence[Order]
    ) -> _Told:
        wanted = dict.fromkeys([*self._bot.spec.symbols, *traded, *(order.symbol for order in live)])
        listed = await _listed(exchange, list(wanted))
        balances = await exchange.balances()
        shown = await exchange.open_orders()
        looked_up: dict[str, ExchangeOrder | None] = {}
        for order in _not_shown(live, shown):
            if order.symbol in listed:
                looked_up[order.client_order_id] = await exchange.order_by_client_id(
                    order.symbol, order.client_order_id
                )
        trades = [trade for symbol in listed for trade in await exchange.trades(symbol, since)]
        return _Told(
            balances=balances,
            open_orders=tuple(shown),
            looked_up=looked_up,
            trades=tuple(sorted(trades, key=lambda trade: trade.at)),
            trades_since=since,
        )


class PaperAccount:
    """In the books of execution's process, asked at its own page."""

    name = "the paper exchange"

    def __init__(self, bot: TradingBot, address: Callable[[], Awaitable[Address]]) -> None:
        """``address``: where execution listens; may raise ``ApiUnavailable``."""
        self._bot = bot
        self._address = address

    @asynccontextmanager
    async def opened(self, clock: Clock, within: timedelta) -> AsyncIterator[Tell]:
        address = await self._address()

        async def tell(since: datetime, symbols: Sequence[str], live: Sequence[Order]) -> _Told:
            books = await self._ask(address, since, live)
            # One question has room for some only, and of those that are open nothing had to be asked.
            closed = _not_shown(live, books.open_orders)
            left = [order for order in closed if order.client_order_id not in books.looked_up]
            told = _told(books)
            if not left:
                return told
            more = await self._ask(address, since, left)
            return msgspec.structs.replace(told, looked_up={**books.looked_up, **more.looked_up})

        yield tell

    async def _ask(self, address: Address, since: datetime, orders: Sequence[Order]) -> PaperBooks:
        asked = [(order.symbol, order.client_order_id) for order in orders]
        books = await _asked_books(address, paper_page.question(since, asked))
        wanted = f"{account_key(self._bot)}, bot {self._bot.metadata.name}"
        if books.account != wanted:
            raise _Away(f"who answers at {_spelled(address)} has the books of {books.account or 'a replay'}")
        return books


class _RunAccount:
    """In the simulated exchange's books of a ``tradingbot run``, whether it runs now or not."""

    name = "the simulated exchange"

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    @asynccontextmanager
    async def opened(self, clock: Clock, within: timedelta) -> AsyncIterator[Tell]:
        from tradingbot_agents.exchange.paper_books import statement_of
        from tradingbot_agents.exchange.state import StateStore

        def read(since: datetime, asked: Sequence[tuple[str, str]]) -> PaperBooks:
            with StateStore.copied(_folder_of(self._data_dir)) as store:
                return statement_of(store, since=since, orders=asked, at=clock.now())

        async def tell(since: datetime, symbols: Sequence[str], live: Sequence[Order]) -> _Told:
            # Each costs a look into a copy that is at hand.
            asked = [(order.symbol, order.client_order_id) for order in live]
            return _told(await asyncio.to_thread(read, since, asked))

        yield tell


def account_of_bot(
    bot: TradingBot, connections: Connections, execution: Callable[[], Awaitable[Address]] | None
) -> AccountPlace | Missing:
    """Of a bot whose agents are processes of their own. ``execution``: its address, if it is known."""
    if bot.spec.mode == "paper":
        if execution is None:
            return Missing(
                "nobody said where execution listens, which has the paper exchange: name it with"
                f" --agent {EXECUTION}=HOST:PORT",
                wanted=False,
            )
        return PaperAccount(bot, execution)
    if connections.get(Variable.EXCHANGE_API_KEY) is None or connections.get(Variable.EXCHANGE_SECRET) is None:
        return Missing(
            "no key of the exchange was given to the check: name the Secret of one that may only read in"
            " realityCheck.credentialsSecretRef",
            wanted=False,
        )
    return ExchangeAccount(bot, connections)


# --- where execution listens -------------------------------------------------------------------------------------


class _Port(msgspec.Struct, rename="camel", frozen=True):
    container_port: int
    name: str = ""


class _Container(msgspec.Struct, frozen=True):
    ports: tuple[_Port, ...] = ()


class _PodSpec(msgspec.Struct, frozen=True):
    containers: tuple[_Container, ...] = ()


class _PodStatus(msgspec.Struct, frozen=True):
    phase: str = ""
    pod_ip: str = msgspec.field(default="", name="podIP")


class _Metadata(msgspec.Struct, rename="camel", frozen=True):
    creation_timestamp: datetime


class _Pod(msgspec.Struct, frozen=True):
    metadata: _Metadata
    spec: _PodSpec
    status: _PodStatus = _PodStatus()


class _Pods(msgspec.Struct, frozen=True):
    items: tuple[_Pod, ...] = ()


async def execution_in_cluster(access: ClusterAccess, bot: str) -> Address:
    """The address of its newest pod that runs: no Service has it, for nobody else asks. Raises ``ApiUnavailable``."""
    wanted = f"{cluster_names.BOT}={bot},{cluster_names.COMPONENT}={EXECUTION}"
    found = await ApiServer(access).get(cluster_names.pods_path(access.namespace), {"labelSelector": wanted})
    try:
        pods = msgspec.json.decode(found, type=_Pods).items
    except msgspec.MsgspecError as error:
        raise ApiUnavailable(f"the API server's answer is not understood: {error}") from error
    for pod in sorted(pods, key=lambda each: each.metadata.creation_timestamp, reverse=True):
        ports = [port.container_port for container in pod.spec.containers for port in container.ports]
        if pod.status.phase == "Running" and pod.status.pod_ip and ports:
            return pod.status.pod_ip, ports[0]
    raise ApiUnavailable(f"no pod of {EXECUTION} runs")


# --- small parts -------------------------------------------------------------------------------------------------


async def _bounded(look: Callable[[], Awaitable[T]], name: str, within: timedelta) -> T | Missing:
    # None of these modules is heavy; what they import of ccxt comes later.
    from tradingbot_agents.exchange.candle_files import CandleFileInvalid
    from tradingbot_agents.exchange.candle_source import CandleSourceError
    from tradingbot_agents.exchange.ccxt_import import UnknownExchange
    from tradingbot_agents.exchange.market_rules import MarketRulesInvalid, NoMarketRules
    from tradingbot_agents.exchange.state import ExchangeStateError

    try:
        async with asyncio.timeout(within.total_seconds()):
            return await look()
    except TimeoutError:
        return Missing(f"{name} did not tell all that was asked within {within.total_seconds():g} s")
    except LedgerError as error:
        return Missing(f"the ledger could not be read, to compare {name} with it: {error}")
    except (_Away, ApiUnavailable, ExchangeError, ExchangeStateError, UnknownExchange) as error:
        return Missing(f"{name} could not be asked: {error}")
    except (CandleFileInvalid, CandleSourceError, MarketRulesInvalid, NoMarketRules) as error:
        return Missing(f"{name} could not be asked: {error}")
    except Exception as error:
        # Its text is a library's, and may hold an address with a signature.
        return Missing(f"{name} could not be asked: {type(error).__name__}")


@asynccontextmanager
async def _opened_exchange(
    bot: TradingBot, keys: ExchangeKeys | None, symbols: Sequence[str], clock: Clock, within: timedelta
) -> AsyncIterator[CcxtExchange]:
    from tradingbot_agents.exchange.ccxt_exchange import CcxtExchange

    settings = wiring.exchange_settings(bot)
    exchange = CcxtExchange(
        settings=msgspec.structs.replace(
            settings, symbols=tuple(symbols), request_timeout=min(settings.request_timeout, within)
        ),
        clock=clock,
        keys=keys,
    )
    try:
        yield exchange
    finally:
        await exchange.close()


def _keys(connections: Connections) -> ExchangeKeys:
    from tradingbot_agents.exchange.ccxt_exchange import ExchangeKeys

    password = connections.get(Variable.EXCHANGE_PASSWORD)
    return ExchangeKeys(
        connections[Variable.EXCHANGE_API_KEY].reveal(),
        connections[Variable.EXCHANGE_SECRET].reveal(),
        None if password is None else password.reveal(),
    )


def _not_shown(live: Sequence[Order], orders: Sequence[ExchangeOrder]) -> list[Order]:
    shown = Shown(orders)
    return [order for order in live if shown.of(order) is None][:MOST_LOOKED_UP]


def _told(books: PaperBooks) -> _Told:
    return _Told(
        balances=books.balances,
        open_orders=books.open_orders,
        looked_up=books.looked_up,
        trades=books.trades,
        trades_since=books.trades_since,
    )


async def _asked_books(address: Address, query: Sequence[tuple[str, str]]) -> PaperBooks:
    """Raises ``_Away``."""
    import aiohttp
    from yarl import URL

    from tradingbot_agents.exchange.paper_books import BooksUnreadable, of_json

    host, port = address
    url = URL.build(scheme="http", host=host, port=port, path=paper_page.PATH, query=query)
    body = bytearray()
    try:
        async with aiohttp.ClientSession() as session, session.get(url, allow_redirects=False) as answer:
            async for part in answer.content.iter_any():
                body += part
                if len(body) > _LONGEST_BOOKS:
                    raise _Away(f"execution's books are longer than {_LONGEST_BOOKS} bytes")
    except (OSError, ValueError, aiohttp.ClientError) as error:
        raise _Away(f"execution does not answer at {_spelled(address)}: {type(error).__name__}") from error
    if answer.status != 200:
        words = bytes(body[:300]).decode(errors="replace").strip()
        raise _Away(f"execution at {_spelled(address)} says {answer.status}: {words}")
    try:
        return of_json(bytes(body))
    except BooksUnreadable as error:
        raise _Away(f"execution at {_spelled(address)}: {error}") from error


def _spelled(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
