"""The one source of prices: a chain that is bounded and loud, and ends in "no" (the lesson DEV-70).

The candle store's last close, if fresh → the last close seen on the bus, if fresh → the exchange's ticker,
asked of data collection over the bus within a time limit → no fresh price, no trade. Every step below the first
is an event. No price is written in the code.
"""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from decimal import Decimal

import msgspec

from tradingbot_agents.bus import Bus, RequestTimedOut
from tradingbot_agents.bus.topology import RISK
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import PriceFallbackAlert, PriceFallbackUsed, Reason
from tradingbot_agents.domain.messages import TickerReply, TickerRequest
from tradingbot_agents.domain.values import TIMEFRAMES, ZERO
from tradingbot_agents.marketdata import CandleStore
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import PriceSettings
from tradingbot_agents.telemetry import Sink

STORE, BUS, TICKER, NONE = "store", "bus", "ticker", "none"
"""The steps, by the name that events and metrics give them."""


class Price(msgspec.Struct, frozen=True):
    value: Decimal
    at: datetime
    source: str


class PriceSource:
    """``answers`` counts how often each step answered, for metrics."""

    def __init__(
        self,
        settings: PriceSettings,
        *,
        bot: str,
        timeframe: str,
        store: CandleStore,
        bus: Bus,
        clock: Clock,
        sink: Sink,
    ) -> None:
        self._settings = settings
        self._bot = bot
        self._timeframe = timeframe
        self._store = store
        self._bus = bus
        self._clock = clock
        self._sink = sink
        self._cache: dict[str, tuple[datetime, Candle | None, str]] = {}
        self._seen: dict[str, Candle] = {}
        self._in_a_row: dict[str, int] = {}
        self.answers: Counter[str] = Counter()

    def saw(self, candle: Candle) -> None:
        """A closed bar came over the bus. Called for every bar: it must cost next to nothing."""
        last = self._seen.get(candle.symbol)
        if last is None or candle.open_time > last.open_time:
            self._seen[candle.symbol] = candle

    async def fresh(self, symbol: str, correlation_id: str | None = None) -> Price | Refused:
        """The price of ``symbol``, no older than the limit, or ``no_fresh_price`` with what each step said."""
        candle, why = await self._stored(symbol)
        if candle is not None and not (why := self._too_old(candle.close_time, "the candle store's last close")):
            self._in_a_row[symbol] = 0
            self.answers[STORE] += 1
            return Price(candle.close, candle.close_time, STORE)
        whys = [why]
        found = self._from_bus(symbol, whys) or await self._from_ticker(symbol, whys)
        self._tell(symbol, found.source if found else NONE, "; ".join(whys), correlation_id)
        return found or Refused(Reason.NO_FRESH_PRICE, f"{symbol}: {'; '.join(whys)}")

    async def newest(self, symbol: str) -> Price | None:
        """The newest close that is at hand, however old: for valuing, never to trade at. The store is asked only when
        it may have a newer one than the bus has brought."""
        seen = self._seen.get(symbol)
        if seen is not None and self._clock.now() < seen.close_time + TIMEFRAMES[self._timeframe]:
            return Price(seen.close, seen.close_time, BUS)
        stored, _ = await self._stored(symbol)
        if seen is not None and (stored is None or seen.open_time > stored.open_time):
            return Price(seen.close, seen.close_time, BUS)
        return None if stored is None else Price(stored.close, stored.close_time, STORE)

    def at_hand(self, symbol: str) -> Decimal | None:
        """The last close on the bus, when it is the newest that can be expected. Asks nobody."""
        seen = self._seen.get(symbol)
        if seen is None or self._clock.now() - seen.close_time > self._settings.max_age + TIMEFRAMES[self._timeframe]:
            return None
        return seen.close

    async def expected(self, symbol: str) -> Price | None:
        """The newest close, when it is the newest that can be expected (a bar and the limit old at most): to value a
        holding by, never to trade at. Tells nobody when there is none."""
        newest = await self.newest(symbol)
        limit = self._settings.max_age + TIMEFRAMES[self._timeframe]
        return None if newest is None or self._clock.now() - newest.at > limit else newest

    async def known(self, symbol: str) -> Price | Refused:
        """The price to value a holding by, never to trade at: the one of ``expected``. Beyond that the chain of
        ``fresh`` is asked, loudly."""
        return await self.expected(symbol) or await self.fresh(symbol)

    async def _stored(self, symbol: str) -> tuple[Candle | None, str]:
        now = self._clock.now()
        cached = self._cache.get(symbol)
        if cached is not None and now - cached[0] < self._settings.cache_for:
            return cached[1], cached[2]
        why = "the candle store has no candle"
        try:
            candle = await self._store.last(symbol, self._timeframe)
        # Whatever keeps the store from answering is what this chain is for, and the event tells it.
        except Exception as error:
            candle, why = None, f"the candle store failed with {type(error).__name__}: {error}"
        self._cache[symbol] = (now, candle, why)
        return candle, why

    def _from_bus(self, symbol: str, whys: list[str]) -> Price | None:
        candle = self._seen.get(symbol)
        if candle is None:
            whys.append("no candle came over the bus")
            return None
        too_old = self._too_old(candle.close_time, "the last close on the bus")
        if too_old:
            whys.append(too_old)
            return None
        return Price(candle.close, candle.close_time, BUS)

    async def _from_ticker(self, symbol: str, whys: list[str]) -> Price | None:
        now = self._clock.now()
        request_id = f"ticker.{symbol}.{now.isoformat()}"
        request = TickerRequest(
            id=request_id,
            correlation_id=request_id,
            causation_id=request_id,
            bot=self._bot,
            producer=RISK,
            at=now,
            symbol=symbol,
        )
        try:
            reply = await self._bus.request(request, self._settings.ticker_timeout)
        except RequestTimedOut as error:
            whys.append(f"no ticker: {error}")
            return None
        if not isinstance(reply, TickerReply) or reply.symbol != symbol:
            whys.append("the answer was no ticker of this symbol")
        elif reply.price is None or reply.priced_at is None:
            whys.append(f"no ticker: {reply.error or 'the exchange gave no price'}")
        elif not reply.price.is_finite() or reply.price <= ZERO:
            whys.append(f"the ticker's price is {reply.price}")
        elif too_old := self._too_old(reply.priced_at, "the ticker"):
            whys.append(too_old)
        else:
            return Price(reply.price, reply.priced_at, TICKER)
        return None

    def _too_old(self, at: datetime, what: str) -> str:
        age = (self._clock.now() - at).total_seconds()
        limit = self._settings.max_age.total_seconds()
        return f"{what} is {age:g} s old, older than {limit:g} s" if age > limit else ""

    def _tell(self, symbol: str, source: str, why: str, correlation_id: str | None) -> None:
        self.answers[source] += 1
        count = self._in_a_row[symbol] = self._in_a_row.get(symbol, 0) + 1
        now = self._clock.now()
        self._sink.emit(
            PriceFallbackUsed(
                at=now, agent=RISK, correlation_id=correlation_id, symbol=symbol, source=source, why=why
            )
        )
        if count == self._settings.alert_after:
            self._sink.emit(
                PriceFallbackAlert(
                    at=now,
                    agent=RISK,
                    correlation_id=correlation_id,
                    symbol=symbol,
                    source=source,
                    in_a_row=count,
                    why=why,
                )
            )
