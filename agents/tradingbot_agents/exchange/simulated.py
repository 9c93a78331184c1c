"""The simulated exchange that is played from candle files: the replay and the tests trade on it.

It is driven by the clock alone. Every call first plays the bars that have closed by ``clock.now()``: they are
matched against resting orders, one bar after the other, and only then become visible. The place in the candles is as
durable as the books (see ``state``), so a run that is killed goes on as if nothing had happened.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice, takewhile
from pathlib import Path

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import TIMEFRAMES, to_millis
from tradingbot_agents.exchange.candle_files import CandleFileInvalid, CandleFileReport
from tradingbot_agents.exchange.candle_source import CandleSource, Tick, merged
from tradingbot_agents.exchange.faults import Faults
from tradingbot_agents.exchange.market_rules import rules_of
from tradingbot_agents.exchange.port import ExchangeError, ExchangeTrade
from tradingbot_agents.exchange.simulated_venue import SimulatedSettings, SimulatedVenue
from tradingbot_agents.exchange.state import PLACE, ExchangeStateError, StateStore

__all__ = ["SimulatedExchange", "SimulatedSettings"]


def _open_time(candle: Candle) -> datetime:
    return candle.open_time


_FINISHED = "finished"


class SimulatedExchange(SimulatedVenue):
    """``MarketFeed`` and ``TradingVenue`` over candle files. Made by ``open``."""

    def __init__(
        self,
        *,
        store: StateStore,
        source: CandleSource,
        rules: Mapping[str, SymbolRules],
        clock: Clock,
        seed: int,
        settings: SimulatedSettings,
        faults: Faults | None,
    ) -> None:
        super().__init__(store=store, rules=dict(rules), clock=clock, seed=seed, settings=settings, faults=faults)
        self._source = source
        self._files = {file.symbol: file for file in source.files}
        place = store.place()
        self._place = source.start_time if place is None else place
        self._bars: dict[str, list[Candle]] = {}
        self._seen: dict[str, int] = {}
        streams: list[Iterator[Candle]] = []
        for file in source.files:
            self._seen[file.symbol], self._bars[file.symbol], stream = file.resume(self._place, settings.history)
            streams.append(stream)
        self._ticks = merged(streams, source.timeframe)
        self._tick: Tick | None = next(self._ticks, None)
        self._taken = {
            symbol: taken for symbol, taken in store.taken().items() if taken.bar == self._last_close(symbol)
        }

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        source: CandleSource,
        rules: Mapping[str, SymbolRules],
        clock: Clock,
        seed: int,
        settings: SimulatedSettings,
        faults: Faults | None = None,
    ) -> SimulatedExchange:
        """Begin a run in ``directory``, or go on with the one that is there.

        A new run checks every candle first, and writes nothing when one is bad. Raises ``CandleFileInvalid``,
        ``NoMarketRules``, or ``ExchangeStateError`` when the directory can not be used, another process has it, or
        it belongs to a run with another seed, other candles or other opening balances.
        """
        known = rules_of(rules, source.symbols, None)
        if settings.fees is not None:
            known = {symbol: msgspec.structs.replace(rule, fees=settings.fees) for symbol, rule in known.items()}
        opening = {asset: str(amount) for asset, amount in sorted(settings.initial_balances.items())}
        identity = {
            "seed": str(seed),
            "candles": source.fingerprint,
            "opening": msgspec.json.encode(opening).decode(),
        }
        store = StateStore(directory)
        if not StateStore.exists(directory):
            reports = msgspec.json.encode(source.check()).decode()
            store.create({**identity, "reports": reports}, settings.initial_balances)
        store.open()
        try:
            facts = store.facts()
            for name, told in (("seed", "seed"), ("candles", "candles"), ("opening", "opening balances")):
                if facts.get(name) != identity[name]:
                    raise ExchangeStateError(
                        f"{directory} belongs to a run with other {told} ({facts.get(name)}, now {identity[name]}); "
                        f"start with the same {told}, or use another data directory"
                    )
            source.trust(msgspec.json.decode(facts["reports"], type=tuple[CandleFileReport, ...]))
            return cls(
                store=store, source=source, rules=known, clock=clock, seed=seed, settings=settings, faults=faults
            )
        except BaseException:
            store.close()
            raise

    # What the runtime asks

    @property
    def start_time(self) -> datetime:
        """When the first bar opens."""
        return self._source.start_time

    @property
    def end_time(self) -> datetime:
        """When the last bar closes."""
        return max(report.last_open for report in self.reports) + TIMEFRAMES[self._source.timeframe]

    def last_price(self, symbol: str) -> Decimal | None:
        """The close of the last bar that was played, or ``None`` before the first. Asks nothing, counts no call."""
        bar = self._last_bar(symbol)
        return None if bar is None else bar.close

    def opening_price(self, symbol: str) -> Decimal | None:
        """The first bar's open, or ``None`` for a symbol that is not replayed."""
        file = self._files.get(symbol)
        return None if file is None else next(file.rows()).open

    @property
    def place(self) -> datetime:
        """The close of the last bar that has been played, or ``start_time``: a clock goes on here after a restart."""
        return self._place

    def next_close(self) -> datetime | None:
        """When the next bar closes, or ``None`` when all have been played."""
        return None if self._tick is None else self._tick.close_time

    @property
    def finished(self) -> bool:
        """Whether a run has said that it was done with the last bar. That all bars are played says less: what the
        last one sets off is decided after it was played, and a kill may come in between."""
        return _FINISHED in self._store.facts()

    def finish(self) -> None:
        """Nothing is left to be done with the last bar."""
        self._store.note(_FINISHED, self._place.isoformat())

    @property
    def progress(self) -> tuple[int, int]:
        """Bars played, and bars in all."""
        return sum(self._seen.values()), sum(report.bars for report in self.reports)

    @property
    def reports(self) -> Sequence[CandleFileReport]:
        """What is in the candle files: counts, times, gaps."""
        return self._source.check()

    def all_trades(self) -> list[ExchangeTrade]:
        """Every trade of the account, oldest first: for an audit against the ledger."""
        self._advance(self._clock.now())
        return [trade.told() for trade in self._store.all_trades()]

    # The market, for MarketFeed and TradingVenue

    async def market_rules(self, symbols: Sequence[str]) -> Mapping[str, SymbolRules]:
        await self._request("market_rules", "", None)
        return {symbol: self._rules_of(symbol) for symbol in symbols}

    async def candles(
        self, symbol: str, timeframe: str, since: datetime | None = None, limit: int = 500
    ) -> list[Candle]:
        await self._request("candles", symbol, symbol)
        if timeframe != self._source.timeframe:
            raise ExchangeError(f"the candles replayed are {self._source.timeframe}, not {timeframe}")
        if limit < 1:
            raise ExchangeError(f"limit is {limit}; it must be at least 1")
        self._rules_of(symbol)
        if since is None:
            return self.last_bars(symbol, limit)
        bars = self._bars[symbol]
        if self._seen[symbol] > len(bars) and since < bars[0].open_time:
            return list(islice(self._played(symbol, since), limit))
        first = bisect_left(bars, since, key=_open_time)
        return bars[first : first + limit]

    def last_bars(self, symbol: str, count: int) -> list[Candle]:
        """The newest visible ones, oldest first. Not a request: a report asks here, and meets no faults."""
        bars = self._bars[symbol]
        if self._seen[symbol] > len(bars) and len(bars) < count:
            return list(deque(self._played(symbol, None), maxlen=count))
        return bars[-count:]

    async def ticker(self, symbol: str) -> Ticker:
        """The close of the last bar, at the time of that close."""
        await self._request("ticker", symbol, symbol)
        self._rules_of(symbol)
        bar = self._last_bar(symbol)
        if bar is None:
            raise ExchangeError(f"{symbol} has no price yet: its first bar has not closed")
        return Ticker(symbol, bar.close, bar.close_time)

    # Of SimulatedVenue

    async def _catch_up(self, symbol: str | None) -> None:
        self._advance(self._clock.now())

    async def _quote(self, symbol: str) -> Candle | None:
        return self._last_bar(symbol)

    def _advance(self, now: datetime) -> None:
        """Play the bars that have closed by ``now``."""
        if self._broken is not None:
            raise self._broken
        tick = self._tick
        if tick is None or tick.close_time > now:
            return
        keep = self._settings.history
        try:
            while tick is not None and tick.close_time <= now:
                if self._books.open:
                    self._play(tick.candles, tick.close_time, {PLACE: str(to_millis(tick.close_time))})
                for bar in tick.candles:
                    bars = self._bars[bar.symbol]
                    bars.append(bar)
                    self._seen[bar.symbol] += 1
                    if len(bars) >= 2 * keep:
                        del bars[:-keep]
                self._place = tick.close_time
                tick = self._tick = next(self._ticks, None)
            self._store.write_place(self._place)
        except (ExchangeStateError, CandleFileInvalid) as error:
            self._broken = error
            raise

    # Small helpers

    def _last_bar(self, symbol: str) -> Candle | None:
        bars = self._bars[symbol]
        return bars[-1] if bars else None

    def _last_close(self, symbol: str) -> datetime | None:
        bar = self._last_bar(symbol) if symbol in self._bars else None
        return None if bar is None else bar.close_time

    def _played(self, symbol: str, since: datetime | None) -> Iterator[Candle]:
        """Bars that are visible, from the file."""
        last = self._place - TIMEFRAMES[self._source.timeframe]
        return takewhile(lambda bar: bar.open_time <= last, self._files[symbol].rows(since))
