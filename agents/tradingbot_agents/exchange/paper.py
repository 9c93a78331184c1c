"""A simulated exchange on a market that goes on: paper orders at real prices, in real time.

Its bars and prices are asked of a ``MarketFeed``, not heard over the bus: what happens while the process is away
happens to resting orders all the same, so they are matched with every bar that was missed, and a feed can be asked
for those. It asks only while an order rests, and for the price of the moment when one is sent.

An order is never matched with what was before it. Of the bar in which it was sent only the close is known to be after
it, so that bar counts by its close alone; prices that are asked for in between count as well, as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from hashlib import blake2b
from pathlib import Path

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import TIMEFRAMES, floor_time, from_millis, to_millis
from tradingbot_agents.exchange.books import BookOrder
from tradingbot_agents.exchange.matching import NO_MATCH, Match, match_at_price, match_in_bar
from tradingbot_agents.exchange.paper_books import IDENTITY, PaperBooks, statement_of
from tradingbot_agents.exchange.port import ExchangeOrderState, ExchangeTrade, MarketFeed
from tradingbot_agents.exchange.simulated_venue import SimulatedSettings, SimulatedVenue
from tradingbot_agents.exchange.state import ExchangeStateError, StateStore

PAGE = 500
"""Bars that are asked for at once."""

_RETRY = timedelta(seconds=2)
"""Before a bar that has closed, and is not told of yet, is asked for again."""

_MARK = timedelta(hours=1)
"""Of bars that did nothing to an order: after so many their end is written down, so that the next start need not ask
for all of them again."""

_FIRST_ID = "first_id"
_RULES = "rules:"
_PLAYED = "played:"
_ID_BITS = 40
_COUNT_BITS = 20


class PaperExchange(SimulatedVenue):
    """``TradingVenue`` over a ``MarketFeed``. Made by ``open``; ``market_rules`` must be asked before a symbol is
    traded."""

    def __init__(
        self,
        *,
        store: StateStore,
        feed: MarketFeed,
        timeframe: str,
        clock: Clock,
        settings: SimulatedSettings,
    ) -> None:
        facts = store.facts()
        super().__init__(
            store=store,
            rules={
                name.removeprefix(_RULES): msgspec.json.decode(text, type=SymbolRules)
                for name, text in facts.items()
                if name.startswith(_RULES)
            },
            clock=clock,
            seed=int(facts[_FIRST_ID]),
            settings=settings,
            faults=None,
            first_id=int(facts[_FIRST_ID]),
        )
        self._feed = feed
        self._timeframe = timeframe
        self._step = TIMEFRAMES[timeframe]
        self._newest: dict[str, Candle] = {}
        """The last bar of a symbol that was told of."""
        self._asked: dict[str, datetime] = {}
        self._turn = asyncio.Lock()
        """One at a time plays bars, or two would play the same."""
        self._taken = store.taken()
        self._marked = {
            name.removeprefix(_PLAYED): from_millis(int(text))
            for name, text in facts.items()
            if name.startswith(_PLAYED)
        }
        self._played = dict(self._marked)
        """The close of the last bar that resting orders were matched with, by symbol."""

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        account: str,
        feed: MarketFeed,
        timeframe: str,
        clock: Clock,
        settings: SimulatedSettings,
    ) -> PaperExchange:
        """Begin the books of ``account`` (a text that names account and bot) in ``directory``, or go on with those
        that are there. ``timeframe``: of the bars that orders are matched with.

        Raises ``ExchangeStateError`` when the directory can not be used or has another account's books, and its
        ``ExchangeStateInUse`` while another process has it.
        """
        store = StateStore(directory)
        if not StateStore.exists(directory):
            first_id = str(_first_id(account, clock.now()))
            store.create({IDENTITY: account, _FIRST_ID: first_id}, settings.initial_balances)
        store.open()
        try:
            found = store.facts().get(IDENTITY)
            if found != account:
                raise ExchangeStateError(
                    f"{directory} has the books of {found or 'a replay'}, and not of {account}: use another data "
                    "directory"
                )
            return cls(store=store, feed=feed, timeframe=timeframe, clock=clock, settings=settings)
        except BaseException:
            store.close()
            raise

    # TradingVenue

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        """The feed's, with the fees of the settings. Raises ``NotListed`` as it does."""
        fees = self._settings.fees
        found = {
            symbol: rules if fees is None else msgspec.structs.replace(rules, fees=fees)
            for symbol, rules in (await self._feed.market_rules(symbols)).items()
        }
        for symbol, rules in found.items():
            if self._rules.get(symbol) != rules:
                # Orders that rest need them when they are read again.
                self._store.note(_RULES + symbol, msgspec.json.encode(rules).decode())
                self._rules[symbol] = rules
        return found

    async def ticker(self, symbol: str) -> Ticker:
        """The feed's price of now; it reaches resting orders too."""
        ticker = await self._feed.ticker(symbol)
        if list(self._books.open_of(symbol)):
            async with self._turn:
                await self._touch(ticker)
        return ticker

    def give_up(self, order: Order) -> bool:
        """Of an order that the ledger has as live and sent: if these books do not have it, they are newer than it is,
        and it counts as cancelled from now on, with what it had filled. Whether that was so. May be repeated."""
        if self._store.newest_order(order.symbol, order.client_order_id) is not None:
            return False
        self._last_order += 1
        ended = BookOrder(
            id=self._last_order,
            client_order_id=order.client_order_id,
            symbol=order.symbol,
            side=order.side,
            type=order.type,
            time_in_force=order.time_in_force,
            amount=order.amount,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
            at=self._clock.now(),
            state=ExchangeOrderState.CANCELLED,
            filled=order.filled,
            cost=order.cost,
        )
        self._save([ended], [], {}, {})
        return True

    def statement(self, since: datetime, orders: Sequence[tuple[str, str]]) -> PaperBooks:
        """What the books say as they are written, for an audit: it plays nothing. See ``statement_of``. Raises
        ``ExchangeStateError``."""
        return statement_of(self._store, since=since, orders=orders, at=self._clock.now())

    def all_trades(self) -> list[ExchangeTrade]:
        """Every trade of the account, oldest first: for an audit against the ledger."""
        return [trade.told() for trade in self._store.all_trades()]

    # Of SimulatedVenue

    async def _catch_up(self, symbol: str | None) -> None:
        symbols = sorted({order.symbol for order in self._books.open.values()}) if symbol is None else [symbol]
        for each in symbols:
            async with self._turn:
                await self._play_missed(each)

    async def _quote(self, symbol: str) -> Candle | None:
        bar = await self._last_bar(symbol)
        return None if bar is None else _extended(bar, await self._feed.ticker(symbol))

    def _match_in_bar(self, order: BookOrder, bar: Candle) -> Match:
        if order.at >= bar.close_time:
            return NO_MATCH
        match = match_in_bar if order.at <= bar.open_time else match_at_price
        return match(order, bar, self._rules[bar.symbol], self._slip(order))

    # The market

    async def _play_missed(self, symbol: str) -> None:
        """Match the symbol's resting orders with the bars that have closed since the last look."""
        resting = list(self._books.open_of(symbol))
        if not resting:
            return
        # Bars before the oldest order that rests are nobody's.
        since = floor_time(min(order.at for order in resting), self._step)
        since = max(since, self._played.get(symbol, since))
        now = self._clock.now()
        asked = self._asked.get(symbol)
        if now < since + self._step or (asked is not None and now < asked + _RETRY):
            return
        while list(self._books.open_of(symbol)):
            bars = await self._feed.candles(symbol, self._timeframe, since=since, limit=PAGE)
            for bar in bars:
                since = bar.close_time
                self._play([bar], since, {_PLAYED + symbol: str(to_millis(since))})
                self._played[symbol], self._newest[symbol] = since, bar
            if len(bars) < PAGE:
                break
        self._asked[symbol] = now
        self._mark(symbol)

    def _mark(self, symbol: str) -> None:
        played = self._played.get(symbol)
        if played is None or played - self._marked.get(symbol, from_millis(0)) < _MARK:
            return
        self._store.note(_PLAYED + symbol, str(to_millis(played)))
        self._marked[symbol] = played

    async def _touch(self, ticker: Ticker) -> None:
        """Match resting orders with a price between two bars."""
        bar = await self._last_bar(ticker.symbol)
        if bar is None:
            return
        moment = _extended(bar, ticker)
        rules = self._rules[ticker.symbol]
        self._settle(
            [
                (order, moment, match_at_price(order, moment, rules, self._slip(order)))
                for order in self._books.open_of(ticker.symbol)
                if order.at <= ticker.at
            ],
            self._clock.now(),
            {},
        )

    async def _last_bar(self, symbol: str) -> Candle | None:
        """The newest that has closed: of how much is traded, and within which prices."""
        known = self._newest.get(symbol)
        if known is None or self._clock.now() >= known.close_time + self._step:
            found = await self._feed.candles(symbol, self._timeframe, limit=1)
            if found and (known is None or found[-1].open_time > known.open_time):
                known = self._newest[symbol] = found[-1]
        return known


def _extended(bar: Candle, ticker: Ticker) -> Candle:
    """The bar as if it went on to the ticker's price. It keeps its time and its volume."""
    return msgspec.structs.replace(
        bar, high=max(bar.high, ticker.last), low=min(bar.low, ticker.last), close=ticker.last
    )


def _first_id(account: str, at: datetime) -> int:
    """Ids of new books never meet those of earlier or of other ones: the ledger counts a trade by its id once."""
    text = f"{account}\n{at.isoformat()}".encode()
    return int.from_bytes(blake2b(text, digest_size=_ID_BITS // 8).digest(), "big") << _COUNT_BITS
