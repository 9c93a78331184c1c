"""The candle store on a real InfluxDB v2."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from support.candle_store_contract import CandleStoreContract
from support.influxdb import Influx, InfluxServer
from support.messages import START, a_candle, a_ticker
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.marketdata import CandleStore, CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.marketdata.influx import BATCH, InfluxCandleStore, InfluxSettings
from tradingbot_agents.marketdata.spool import Spool
from tradingbot_agents.telemetry import MemorySink

BAR = timedelta(minutes=5)
DAY = timedelta(days=1)
RETRY = timedelta(seconds=5)


class Room:
    """A store at a time at which the candles of the tests are recent."""

    def __init__(self, influx: Influx, folder: Path, bucket: str | None = None, token: str | None = None) -> None:
        self.clock = VirtualClock(START + 12 * timedelta(hours=1))
        self.sink = MemorySink()
        self.bucket = influx.new_bucket() if bucket is None else bucket
        self.store = InfluxCandleStore.open(
            influx.url,
            influx.token if token is None else token,
            InfluxSettings(
                organization=influx.organization,
                bucket=self.bucket,
                timeout=timedelta(seconds=1),
                retry_after=RETRY,
                look_back=30 * DAY,
            ),
            spool=Spool(folder, 1000),
            clock=self.clock,
            sink=self.sink,
            agent="data-collection",
        )


@asynccontextmanager
async def room(
    influx: Influx, folder: Path, bucket: str | None = None, token: str | None = None
) -> AsyncIterator[Room]:
    opened = Room(influx, folder, bucket, token)
    try:
        yield opened
    finally:
        await opened.store.close()


def killed_after(lines: int, command: list[str]) -> int:
    """Run the command, kill -9 it once it has said so many lines; how many it has said by its end."""
    folder = Path(__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        said = sum(1 for _, line in zip(range(lines), process.stdout, strict=False) if line)
        assert said == lines, "the writer ended by itself"
        process.kill()
        return said + sum(1 for _ in process.stdout)


class TestInfluxStoreKeepsTheContract(CandleStoreContract):
    @pytest.fixture
    async def store(self, influx: Influx, tmp_path: Path) -> AsyncIterator[CandleStore]:
        async with room(influx, tmp_path) as opened:
            yield opened.store


async def test_numbers_come_back_as_they_were_written(influx: Influx, tmp_path: Path) -> None:
    """Prices and volumes as exchanges have them, from tiny coins to large volumes."""
    texts = ("0.00000001", "0.1", "121556.65", "0.00001234", "99999999.99", "123456789012.345", "1e-7", "0")
    candles = [
        Candle("PEPE/USDT", "5m", START + index * BAR, *(Decimal(text) for _ in range(4)), volume=Decimal(text))
        for index, text in enumerate(texts)
    ]
    async with room(influx, tmp_path) as opened:
        await opened.store.write(candles)
        found = await opened.store.latest("PEPE/USDT", "5m", 100)
        assert found == candles
        assert all(type(candle.close) is Decimal for candle in found)


async def test_times_are_aware_utc(influx: Influx, tmp_path: Path) -> None:
    async with room(influx, tmp_path) as opened:
        await opened.store.write([a_candle(3)])
        found = await opened.store.last("BTC/USDT", "5m")
        assert found is not None
        assert found.open_time.isoformat() == (START + 3 * BAR).isoformat()
        assert found.id == a_candle(3).id


async def test_the_newest_are_found_however_long_ago_within_the_look_back(influx: Influx, tmp_path: Path) -> None:
    async with room(influx, tmp_path) as opened:
        await opened.store.write([a_candle(0), a_candle(1)])
        opened.clock.advance_to(START + 29 * DAY)
        assert await opened.store.last("BTC/USDT", "5m") == a_candle(1)
        assert await opened.store.latest("BTC/USDT", "5m", 50) == [a_candle(0), a_candle(1)]
        opened.clock.advance_to(START + 31 * DAY)
        assert await opened.store.last("BTC/USDT", "5m") is None


async def test_more_than_a_batch(influx: Influx, tmp_path: Path) -> None:
    candles = [a_candle(index, timeframe="1m") for index in range(BATCH + 50)]
    async with room(influx, tmp_path) as opened:
        opened.clock.advance_to(candles[-1].close_time)
        await opened.store.write(candles)
        assert await opened.store.latest("BTC/USDT", "1m", BATCH + 50) == candles


@pytest.mark.parametrize(
    "symbol",
    [
        'BTC/USDT" or true or r.symbol == "',
        'x") |> drop(columns: ["_time"]) //',
        "back\\slash",
        "comma, space = sign",
        "${bucket}",
    ],
)
async def test_what_comes_from_outside_is_never_part_of_a_query(influx: Influx, tmp_path: Path, symbol: str) -> None:
    async with room(influx, tmp_path) as opened:
        await opened.store.write([a_candle(0)])
        assert await opened.store.latest(symbol, "5m", 10) == []
        strange = msgspec.structs.replace(a_candle(1), symbol=symbol)
        await opened.store.write([strange])
        assert await opened.store.latest(symbol, "5m", 10) == [strange]
        assert await opened.store.latest("BTC/USDT", "5m", 10) == [a_candle(0)]


async def test_an_answer_that_breaks_off_is_no_answer(influx: Influx, tmp_path: Path) -> None:
    flux = """
from(bucket: bucket) |> range(start: begin, stop: end) |> filter(fn: (r) => r._field == "close") |> yield(name: "one")
from(bucket: bucket) |> range(start: begin, stop: end)
    |> map(fn: (r) => ({r with x: if r._field == "low" then die(msg: "broken") else 1})) |> yield(name: "two")
"""
    async with room(influx, tmp_path) as opened:
        await opened.store.write([a_candle(0)])
        # Both run side by side: where the second fails before a row of the first is sent, the whole query is refused.
        for _ in range(100):
            with pytest.raises((CandleStoreUnavailable, CandleStoreRefused)) as refused:
                await opened.store.query(flux, {"bucket": opened.bucket, "begin": START, "end": START + DAY})
            if refused.type is CandleStoreUnavailable:
                break
        refused.match("broke off its answer")


async def test_half_a_candle_is_none(influx: Influx, tmp_path: Path) -> None:
    async with room(influx, tmp_path) as opened:
        influx.write(opened.bucket, f"candles,symbol=BTC/USDT,timeframe=5m close=1 {int(START.timestamp())}")
        assert await opened.store.last("BTC/USDT", "5m") is None
        await opened.store.write([a_candle(1)])
        assert await opened.store.latest("BTC/USDT", "5m", 10) == [a_candle(1)]


async def test_rows_of_an_aggregate_have_no_time(influx: Influx, tmp_path: Path) -> None:
    mean = (
        'from(bucket: bucket) |> range(start: begin, stop: end) |> filter(fn: (r) => r._field == "close") |> mean()'
    )
    async with room(influx, tmp_path) as opened:
        await opened.store.write([a_candle(0, close="100"), a_candle(1, close="102")])
        [row] = await opened.store.query(mean, {"bucket": opened.bucket, "begin": START, "end": START + DAY})
        assert "_time" not in row
        assert row["_value"] == 101.0


async def test_an_outage_loses_nothing_and_keeps_the_order(own_influx: InfluxServer, tmp_path: Path) -> None:
    async with room(own_influx, tmp_path) as opened:
        store = opened.store
        await store.write([a_candle(0)])
        own_influx.stop(signal.SIGKILL)
        assert await store.problem() is not None
        for index in range(1, 6):
            await store.write([a_candle(index)])
        with pytest.raises(CandleStoreUnavailable):
            await store.last("BTC/USDT", "5m")
        own_influx.start()
        opened.clock.advance_to(opened.clock.now() + RETRY)
        await store.write([a_candle(6)])
        assert await store.problem() is None
        assert await store.latest("BTC/USDT", "5m", 100) == [a_candle(index) for index in range(7)]
        assert [(event.name, event.fields().get("candles")) for event in opened.sink.events] == [
            ("candles_spooled", None),
            ("candles_delivered", 6),
        ]


async def test_a_frozen_server_costs_one_timeout_now_and_then(own_influx: InfluxServer, tmp_path: Path) -> None:
    async with room(own_influx, tmp_path) as opened:
        own_influx.send(signal.SIGSTOP)
        try:
            began = time.monotonic()
            for index in range(20):
                await opened.store.write([a_candle(index)])
            # One timeout of a second; twenty would be twenty.
            assert time.monotonic() - began < 5
        finally:
            own_influx.send(signal.SIGCONT)
        await opened.store.write([a_candle(20)])
        assert len(Spool(tmp_path, 1000)) == 21
        opened.clock.advance_to(opened.clock.now() + RETRY)
        await opened.store.write([a_candle(21)])
        assert await opened.store.latest("BTC/USDT", "5m", 100) == [a_candle(index) for index in range(22)]
        assert [event.name for event in opened.sink.events] == ["candles_spooled", "candles_delivered"]


WRITER = """
import asyncio, sys
from pathlib import Path
from support.influxdb import Influx
from support.messages import a_candle
from integration.test_influx_store import room

async def main(url, token, organization, bucket, folder):
    async with room(Influx(url, token, organization), Path(folder), bucket) as opened:
        for index in range(1_000):
            await opened.store.write([a_candle(index)])
            print(index, flush=True)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_what_was_spooled_survives_a_kill_of_the_writer(own_influx: InfluxServer, tmp_path: Path) -> None:
    bucket = own_influx.new_bucket()
    own_influx.stop()
    arguments = [own_influx.url, own_influx.token, own_influx.organization, bucket, str(tmp_path)]
    said = await asyncio.to_thread(killed_after, 25, [sys.executable, "-c", WRITER, *arguments])
    own_influx.start()
    spooled = Spool(tmp_path, 1000).first(1000)
    # What write returned for is there; the one that it was at may be, too.
    assert len(spooled) in (said, said + 1)
    async with room(own_influx, tmp_path, bucket) as opened:
        opened.clock.advance_to(spooled[-1].close_time)
        await opened.store.drain()
        assert await opened.store.latest("BTC/USDT", "5m", 1000) == spooled
        assert spooled == [a_candle(index) for index in range(len(spooled))]
        await opened.store.drain()
        assert [event.name for event in opened.sink.events] == ["candles_delivered"]


async def test_a_wrong_token_or_bucket_is_said_with_its_remedy_and_no_secret(influx: Influx, tmp_path: Path) -> None:
    async with room(influx, tmp_path / "one", token="hush-hush") as opened:
        with pytest.raises(CandleStoreRefused, match="the token is not accepted") as refused:
            await opened.store.last("BTC/USDT", "5m")
        assert "hush" not in f"{refused.value!r} {refused.value.__cause__}"
        await opened.store.write([a_candle(0)])
        [told] = opened.sink.events
        assert told.name == "candles_spooled"
        assert str(told.fields()["why"]).startswith("InfluxDB: the token is not accepted: give one")
        assert "hush" not in f"{told!r} {opened.store!r}"
    async with room(influx, tmp_path / "two", bucket="no-such-bucket") as opened:
        with pytest.raises(CandleStoreRefused, match="run 'tradingbot migrate'"):
            await opened.store.latest("BTC/USDT", "5m", 5)
        await opened.store.write([a_candle(0)])
        [told] = opened.sink.events
        assert "run 'tradingbot migrate'" in str(told.fields()["why"])
        assert Spool(tmp_path / "two", 1000).first(10) == [a_candle(0)]
    # With the remedy done, the next one delivers it.
    async with room(influx, tmp_path / "two") as mended:
        await mended.store.write([a_candle(1)])
        assert await mended.store.latest("BTC/USDT", "5m", 5) == [a_candle(0), a_candle(1)]


async def test_a_renewed_token_is_used_from_the_next_request_on(influx: Influx, tmp_path: Path) -> None:
    async with room(influx, tmp_path, token="revoked") as opened:
        await opened.store.write([a_candle(0)])
        assert [event.name for event in opened.sink.events] == ["candles_spooled"]
        opened.store.use_token(influx.token)
        await opened.store.drain()
        assert await opened.store.latest("BTC/USDT", "5m", 5) == [a_candle(0)]


async def test_tickers_of_an_outage_are_delivered_with_the_candles_of_it(
    own_influx: InfluxServer, tmp_path: Path
) -> None:
    async with room(own_influx, tmp_path) as opened:
        own_influx.stop()
        await opened.store.write_tickers([a_ticker(seconds=0, last="99.5")])
        await opened.store.write([a_candle(0)])
        await opened.store.write_tickers([a_ticker(seconds=30, last="99.75")])
        own_influx.start()
        await opened.store.drain()
        assert await opened.store.last_ticker("BTC/USDT") == a_ticker(seconds=30, last="99.75")
        assert await opened.store.last("BTC/USDT", "5m") == a_candle(0)
