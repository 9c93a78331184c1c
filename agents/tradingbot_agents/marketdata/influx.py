"""Candles and tickers in InfluxDB v2.

Written as float fields; read back, a float becomes the Decimal of its shortest text, which is what was written for
anything up to 15 digits. Queries are Flux with parameters: what comes from outside is never part of a query's text.

Every query has a bounded range. How far back the newest candles lie is not known (an exchange has pauses), so the
range begins with what is asked for and grows until enough is found or the look-back is reached.

While InfluxDB is away or refuses, candles go to a spool on disk, and are delivered in order afterwards: nothing that
is wrong with it stops data collection, whose candles guard open positions. Reads raise ``CandleStoreUnavailable`` or
``CandleStoreRefused``.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Self

import aiohttp
import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.events import CandlesDelivered, CandlesDropped, CandlesSpooled
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import TIMEFRAMES
from tradingbot_agents.marketdata.influx_library import (
    ApiException,
    FluxCsvParserException,
    FluxQueryException,
    InfluxDBClientAsync,
    Point,
    WritePrecision,
)
from tradingbot_agents.marketdata.port import CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.marketdata.spool import Kept, Spool
from tradingbot_agents.telemetry import Sink

MEASUREMENT = "candles"
FIELDS = ("open", "high", "low", "close", "volume")
TICKER = "tickers"

TICKER_LOOK_BACK = timedelta(days=1)
"""An older one is history, and no last price. Also how far ahead the exchange's clock may be."""

BATCH = 1000
"""Candles in one request, some 100 kB."""

GROWTH = 8
"""By how much the range of a query grows when it held too few candles."""

_SECONDS: Any = WritePrecision.S

_NEWEST = """
from(bucket: bucket)
    |> range(start: begin, stop: end)
    |> filter(fn: (r) => r._measurement == measurement and r.symbol == symbol and r.timeframe == timeframe)
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.open and exists r.high and exists r.low and exists r.close and exists r.volume)
    |> group()
    |> sort(columns: ["_time"], desc: true)
    |> limit(n: count)
"""

_LAST_TICKER = """
from(bucket: bucket)
    |> range(start: begin, stop: end)
    |> filter(fn: (r) => r._measurement == measurement and r.symbol == symbol and r._field == "last")
    |> last()
"""

_TOO_OLD = re.compile(r"(outside|beyond) retention policy")
"""How InfluxDB says that it kept a batch but for what is older than the bucket's retention."""

_AWAY = (aiohttp.ClientError, TimeoutError, OSError)

_MISTAKES = {
    401: "the token is not accepted: give one that may read and write the bucket",
    403: "the token may not use this bucket: give one that may read and write it",
    404: "the bucket or the organization is not there: run 'tradingbot migrate', or name the right ones in the spec",
}


class InfluxSettings(msgspec.Struct, frozen=True, kw_only=True):
    organization: str
    bucket: str
    timeout: timedelta
    """For one answer."""
    retry_after: timedelta
    """Since a failed delivery. Until then ``write`` tries none, for each may cost the whole timeout."""
    look_back: timedelta
    """The oldest candle that is ever asked for; no more than the bucket keeps."""


class InfluxCandleStore:
    """Implements ``CandleStore``. Made by ``open``, within a running loop; ``close`` it."""

    def __init__(
        self,
        client: InfluxDBClientAsync,
        settings: InfluxSettings,
        *,
        spool: Spool | None,
        clock: Clock,
        sink: Sink,
        agent: str,
    ) -> None:
        """``spool``: ``None`` for one that only reads."""
        self._client = client
        self._settings = settings
        self._own_spool = spool
        self._clock = clock
        self._sink = sink
        self._agent = agent
        self._writing = asyncio.Lock()
        self._retry_at: datetime | None = None
        self._told: type[Exception] | None = None
        """What of the outage that lasts was told already: that it is away, or that it refuses."""
        self._told_disk = False
        self._delivered = 0

    @classmethod
    def open(
        cls,
        url: str,
        token: str,
        settings: InfluxSettings,
        *,
        spool: Spool | None,
        clock: Clock,
        sink: Sink,
        agent: str,
    ) -> Self:
        """``agent`` is told as the source of events. Nothing is asked yet: the server may still be away."""
        client = InfluxDBClientAsync(
            url=url,
            token=token,
            org=settings.organization,
            timeout=int(settings.timeout.total_seconds() * 1000),
        )
        return cls(client, settings, spool=spool, clock=clock, sink=sink, agent=agent)

    def use_token(self, token: str) -> None:
        """From the next request on."""
        self._client.api_client.set_default_header("Authorization", f"Token {token}")

    @property
    def _spool(self) -> Spool:
        if self._own_spool is None:
            raise ValueError("a store without a spool is for reading")
        return self._own_spool

    async def close(self) -> None:
        await self._client.close()

    async def problem(self) -> str | None:
        """Why it does not answer now, or ``None``."""
        try:
            return None if await self._client.ping() else "it does not answer as InfluxDB does"
        except _AWAY as error:
            return _why(error)

    async def write(self, candles: Sequence[Candle]) -> None:
        """What InfluxDB does not take now is in the spool, and told. While it is away this takes one timeout now and
        then, and no time else."""
        await self._write(candles)

    async def write_tickers(self, tickers: Sequence[Ticker]) -> None:
        await self._write(tickers)

    async def _write(self, candles: Sequence[Kept]) -> None:
        if not candles:
            return
        async with self._writing:
            if len(self._spool):
                self._keep(candles)
                if self._retry_at is None or self._clock.now() >= self._retry_at:
                    await self._deliver()
                return
            for begin in range(0, len(candles), BATCH):
                try:
                    await self._send(candles[begin : begin + BATCH])
                except (CandleStoreUnavailable, CandleStoreRefused) as error:
                    self._keep(candles[begin:])
                    self._tell(error)
                    return

    async def drain(self) -> None:
        """Deliver what is in the spool, if the store takes it again. To be called now and then."""
        more = True
        while more:
            # Apart for each batch: who writes waits for one of them, not for all.
            async with self._writing:
                more = await self._deliver()

    async def last_ticker(self, symbol: str) -> Ticker | None:
        now = self._clock.now()
        rows = await self.query(
            _LAST_TICKER,
            {
                "bucket": self._settings.bucket,
                "measurement": TICKER,
                "symbol": symbol,
                "begin": now - TICKER_LOOK_BACK,
                "end": now + TICKER_LOOK_BACK,
            },
        )
        newest = max(rows, key=lambda row: row["_time"], default=None)
        if newest is None:
            return None
        return Ticker(symbol, as_decimal(newest["_value"]), newest["_time"].astimezone(UTC))

    async def last(self, symbol: str, timeframe: str) -> Candle | None:
        found = await self.latest(symbol, timeframe, 1)
        return found[0] if found else None

    async def latest(self, symbol: str, timeframe: str, limit: int) -> list[Candle]:
        if limit < 1:
            return []
        bar = TIMEFRAMES[timeframe]
        # A bar that opened just now is not over; one more is for clocks that differ.
        end = self._clock.now() + bar
        reach = bar * (limit + 2)
        while True:
            reach = min(reach, self._settings.look_back)
            rows = await self._newest(symbol, timeframe, end - reach, end, limit)
            if len(rows) >= limit or reach >= self._settings.look_back:
                return [_candle(symbol, timeframe, row) for row in reversed(rows)]
            reach *= GROWTH

    async def between(self, symbol: str, timeframe: str, begin: datetime, end: datetime, limit: int) -> list[Candle]:
        """The bars that opened from ``begin`` until before ``end``, oldest first; of more than ``limit`` the newest.
        Raises ``CandleStoreUnavailable`` or ``CandleStoreRefused``."""
        rows = await self._newest(symbol, timeframe, begin, end, limit)
        return [_candle(symbol, timeframe, row) for row in reversed(rows)]

    async def _newest(
        self, symbol: str, timeframe: str, begin: datetime, end: datetime, limit: int
    ) -> list[dict[str, Any]]:
        return await self.query(
            _NEWEST,
            {
                "bucket": self._settings.bucket,
                "measurement": MEASUREMENT,
                "symbol": symbol,
                "timeframe": timeframe,
                "begin": begin,
                "end": end,
                "count": limit,
            },
        )

    async def query(self, flux: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        """The rows of a Flux query, all tables one after the other. Times are aware UTC; a row of an aggregate has no
        ``_time``. Raises ``CandleStoreUnavailable`` or ``CandleStoreRefused``."""
        try:
            tables = await self._client.query_api().query(flux, params=dict(parameters))
        except ApiException as error:
            raise translated(error) from None
        except (FluxQueryException, FluxCsvParserException) as error:
            # With the first rows the status is sent: what fails later comes as one more row, or as half of one.
            raise CandleStoreUnavailable(f"InfluxDB broke off its answer: {_why(error)}") from error
        except _AWAY as error:
            raise CandleStoreUnavailable(f"InfluxDB does not answer: {_why(error)}") from error
        return [dict(record.values) for table in tables for record in table.records]

    async def _deliver(self) -> bool:
        """Send the oldest batch of the spool; whether there are more."""
        batch = self._spool.first(BATCH)
        if not batch:
            return False
        try:
            await self._send(batch)
        except (CandleStoreUnavailable, CandleStoreRefused) as error:
            self._tell(error)
            return False
        self._spool.delivered(len(batch))
        self._tell_disk()
        self._delivered += len(batch)
        if len(self._spool):
            return True
        self._sink.emit(CandlesDelivered(at=self._clock.now(), agent=self._agent, candles=self._delivered))
        self._retry_at, self._told, self._delivered = None, None, 0
        return False

    async def _send(self, candles: Sequence[Kept]) -> None:
        """One batch."""
        try:
            await self._client.write_api().write(
                bucket=self._settings.bucket,
                record=[_point(candle) for candle in candles],
                write_precision=_SECONDS,
            )
        except ApiException as error:
            # The rest is kept, and what is too old for the bucket would have been forgotten by now: sent again, it
            # would be refused again, and hold up all that comes after it.
            if not _only_too_old(error):
                raise translated(error) from None
        except _AWAY as error:
            raise CandleStoreUnavailable(f"InfluxDB does not answer: {_why(error)}") from error

    def _keep(self, candles: Sequence[Kept]) -> None:
        dropped = self._spool.append(candles)
        self._tell_disk()
        if dropped:
            self._sink.emit(CandlesDropped(at=self._clock.now(), agent=self._agent, candles=dropped))

    def _tell(self, error: Exception) -> None:
        """Once for each time that it is away, and once more when it is back but refuses."""
        self._retry_at = self._clock.now() + self._settings.retry_after
        if self._told is not type(error):
            self._told = type(error)
            self._sink.emit(CandlesSpooled(at=self._clock.now(), agent=self._agent, why=str(error)))

    def _tell_disk(self) -> None:
        problem = self._spool.problem
        if problem and not self._told_disk:
            why = f"the spool can not be written ({problem}), so candles are in memory only: mend its folder"
            self._sink.emit(CandlesSpooled(at=self._clock.now(), agent=self._agent, why=why))
        self._told_disk = problem is not None


def as_field(number: Decimal) -> float:
    """What InfluxDB keeps of a number."""
    return float(number)


def as_decimal(stored: float) -> Decimal:
    """The shortest text that means this float: what was written, for anything up to 15 digits."""
    return Decimal(repr(stored))


def _point(item: Kept) -> Any:
    if isinstance(item, Candle):
        return _candle_point(item)
    return Point(TICKER).tag("symbol", item.symbol).field("last", as_field(item.last)).time(item.at, _SECONDS)


def _candle_point(candle: Candle) -> Any:
    point = Point(MEASUREMENT).tag("symbol", candle.symbol).tag("timeframe", candle.timeframe)
    for field in FIELDS:
        point.field(field, as_field(getattr(candle, field)))
    return point.time(candle.open_time, _SECONDS)


def _candle(symbol: str, timeframe: str, row: Mapping[str, Any]) -> Candle:
    opened: datetime = row["_time"]
    values = {field: as_decimal(row[field]) for field in FIELDS}
    return Candle(symbol=symbol, timeframe=timeframe, open_time=opened.astimezone(UTC), **values)


def _only_too_old(error: ApiException) -> bool:
    if error.status != 422:
        return False
    try:
        message = str(json.loads(error.body)["message"])
    except (ValueError, TypeError, KeyError):
        return False
    return _TOO_OLD.search(message) is not None and "field type conflict" not in message


def translated(error: ApiException) -> Exception:
    """As what the store raises. The status alone decides: bodies and headers may hold what no log must show."""
    status = error.status or 0
    if status in _MISTAKES:
        return CandleStoreRefused(f"InfluxDB: {_MISTAKES[status]}")
    if status == 429 or status >= 500:
        return CandleStoreUnavailable(f"InfluxDB answers {status}")
    return CandleStoreRefused(f"InfluxDB refuses a query or candles with {status}: this is a defect of this version")


def _why(error: BaseException) -> str:
    return type(error).__name__ if isinstance(error, TimeoutError) else f"{type(error).__name__}: {error}"
