"""What a reality check sees of a real InfluxDB, and that it says so when it sees nothing."""

from __future__ import annotations

import asyncio
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from support.asking import ask, only
from support.evidence import NOW as NOON
from support.evidence import SINCE, bar
from support.evidence import settings as bot_settings
from support.influxdb import Influx, InfluxServer
from support.messages import START, a_candle
from support.silent_server import silent_server
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.marketdata.influx import InfluxCandleStore, InfluxSettings
from tradingbot_agents.marketdata.spool import Spool
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.evidence import CandleEvidence, Known, Missing
from tradingbot_agents.runtime import gathering_candles
from tradingbot_agents.runtime.gathering_candles import candle_evidence
from tradingbot_agents.telemetry import MemorySink

BAR = timedelta(minutes=5)
NOW = START + timedelta(hours=12)
CLOCK = VirtualClock(NOW)


def settings(influx: Influx, bucket: str) -> InfluxSettings:
    return InfluxSettings(
        organization=influx.organization,
        bucket=bucket,
        timeout=timedelta(seconds=5),
        retry_after=timedelta(seconds=5),
        look_back=timedelta(days=30),
    )


async def filled(influx: Influx, folder: Path, *candles: Candle) -> str:
    bucket = influx.new_bucket()
    store = InfluxCandleStore.open(
        influx.url,
        influx.token,
        settings(influx, bucket),
        spool=Spool(folder, 1000),
        clock=CLOCK,
        sink=MemorySink(),
        agent="tests",
    )
    await store.write(candles)
    await store.close()
    return bucket


async def look(
    influx: Influx,
    bucket: str,
    *symbols: str,
    url: str | None = None,
    token: str | None = None,
    limit: timedelta = timedelta(seconds=20),
) -> Known[CandleEvidence]:
    return await candle_evidence(
        lambda: url or influx.url,
        lambda: token or influx.token,
        settings(influx, bucket),
        symbols or ("BTC/USDT",),
        "5m",
        since=NOW - timedelta(hours=1),
        clock=CLOCK,
        limit=limit,
    )


async def test_the_bars_of_the_window_and_no_others(influx: Influx, tmp_path: Path) -> None:
    # 144 bars until now, one that is under way, and one of the future.
    bitcoin = [a_candle(index) for index in range(146)]
    other = [a_candle(index, timeframe="1m") for index in range(700, 720)]
    bucket = await filled(influx, tmp_path, *bitcoin, *other, a_candle(140, symbol="ETH/USDT"))
    found = await look(influx, bucket, "BTC/USDT", "ETH/USDT")
    assert isinstance(found, CandleEvidence)
    assert found.candles == {"BTC/USDT": bitcoin[132:], "ETH/USDT": [a_candle(140, symbol="ETH/USDT")]}
    assert (found.since, found.read_at) == (NOW - timedelta(hours=1), NOW)


async def test_without_one_in_the_window_it_is_the_newest(influx: Influx, tmp_path: Path) -> None:
    bucket = await filled(influx, tmp_path, a_candle(3), a_candle(4))
    found = await look(influx, bucket, "BTC/USDT", "ETH/USDT")
    assert isinstance(found, CandleEvidence)
    assert found.candles == {"BTC/USDT": [a_candle(4)], "ETH/USDT": []}


async def test_it_is_bounded_and_says_from_when_on(
    influx: Influx, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gathering_candles, "MOST", 5)
    bucket = await filled(influx, tmp_path, *(a_candle(index) for index in range(144)))
    found = await look(influx, bucket)
    assert isinstance(found, CandleEvidence)
    assert found.since == NOW - 3 * BAR
    assert found.candles == {"BTC/USDT": [a_candle(index) for index in range(141, 144)]}


async def test_a_poisoned_price_is_found(influx: Influx, tmp_path: Path) -> None:
    """Written by somebody beside data collection, as what it is checked against stays right."""
    true = [bar(back) for back in range(5)]
    # The bars of the evidence lie at another time than the clock of these tests.
    clock = VirtualClock(NOON)
    bucket = await filled(influx, tmp_path, *true)
    stamp = int(true[2].open_time.timestamp())
    influx.write(bucket, f"candles,symbol=BTC/USDT,timeframe=5m close=50,low=50 {stamp}")
    found = await candle_evidence(
        lambda: influx.url,
        lambda: influx.token,
        settings(influx, bucket),
        ("BTC/USDT",),
        "5m",
        since=SINCE,
        clock=clock,
        limit=timedelta(seconds=20),
    )
    told = only("prices.stored", candles=found, settings=bot_settings(symbols=("BTC/USDT",)))
    assert told == (
        Status.FAILED,
        "BTC/USDT 2026-03-01 11:45:00Z: close is 50, and 100 on the exchange, low is 50, and 99 on the exchange",
    )
    assert ask("feed.age", candles=found, settings=bot_settings(symbols=("BTC/USDT",)))[0] is Status.PASSED


async def test_a_store_that_is_away_or_refuses_is_missing_and_no_secret_is_told(influx: Influx) -> None:
    bucket = influx.new_bucket()
    for found in (
        await look(influx, bucket, url="http://127.0.0.1:1", token="sesame"),
        await look(influx, bucket, token="sesame"),
        await look(influx, "no-such-bucket"),
        await look(influx, bucket, url="nonsense", token="sesame"),
    ):
        assert isinstance(found, Missing)
        assert found.wanted
        assert found.why.startswith("the candle store could not be read: ")
        assert "sesame" not in found.why


async def test_a_store_that_is_frozen_costs_the_limit_only(own_influx: InfluxServer, tmp_path: Path) -> None:
    bucket = await filled(own_influx, tmp_path, a_candle(140))
    own_influx.send(signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = await look(
            own_influx, bucket, *(f"X{number}/USDT" for number in range(20)), limit=timedelta(seconds=1)
        )
        assert time.monotonic() - began < 4
    finally:
        own_influx.send(signal.SIGCONT)
    assert isinstance(found, Missing)
    assert isinstance(await look(own_influx, bucket), CandleEvidence)


async def test_who_cancels_is_obeyed() -> None:
    async with silent_server() as server:
        influx = Influx(f"http://127.0.0.1:{server.port}", "token", "tests")
        looking = asyncio.create_task(look(influx, "bucket"))
        await server.called.wait()
        looking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await looking
