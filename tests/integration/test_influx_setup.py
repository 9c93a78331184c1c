"""Buckets, retention and the downsampling task, on a real InfluxDB v2."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from support.busy_bot import write_spec
from support.influxdb import Influx
from support.postgres import PostgresServer
from support.process import Finished, Process
from tradingbot_agents.clock.system import SystemClock
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import floor_time
from tradingbot_agents.ledger.migrate import known_migrations, required_version
from tradingbot_agents.marketdata import CandleStoreRefused, CandleStoreUnavailable
from tradingbot_agents.marketdata.influx import InfluxCandleStore, InfluxSettings
from tradingbot_agents.marketdata.plan import TimeSeriesPlan
from tradingbot_agents.marketdata.setup import hourly_flux, prepare
from tradingbot_agents.marketdata.spool import Spool
from tradingbot_agents.telemetry import MemorySink

DAY, HOUR, BAR = timedelta(days=1), timedelta(hours=1), timedelta(minutes=5)


def a_plan(influx: Influx, **changes: object) -> TimeSeriesPlan:
    plan = TimeSeriesPlan(
        organization=influx.organization,
        bucket=f"market-{uuid.uuid4().hex[:8]}",
        retention=365 * DAY,
        hourly_retention=5 * 365 * DAY,
        timeframe="5m",
        late=3 * HOUR,
    )
    return msgspec.structs.replace(plan, **changes)


def kept(influx: Influx, bucket: str) -> list[int]:
    [found] = influx.ask("GET", f"/api/v2/buckets?name={bucket}")["buckets"]
    return [rule["everySeconds"] for rule in found["retentionRules"]]


def a_store(influx: Influx, bucket: str, folder: Path) -> InfluxCandleStore:
    settings = InfluxSettings(
        organization=influx.organization,
        bucket=bucket,
        timeout=timedelta(seconds=5),
        retry_after=timedelta(seconds=5),
        look_back=30 * DAY,
    )
    return InfluxCandleStore.open(
        influx.url,
        influx.token,
        settings,
        spool=Spool(folder / bucket, 10),
        clock=SystemClock(),
        sink=MemorySink(),
        agent="data-collection",
    )


async def test_it_makes_what_is_missing_once(influx: Influx) -> None:
    plan = a_plan(influx)
    assert await prepare(influx.url, influx.token, plan) == [
        f"bucket {plan.bucket} made, which keeps 365 days",
        f"bucket {plan.bucket}_1h made, which keeps 1825 days",
        f"task 'tradingbot {plan.bucket} hourly' made",
    ]
    assert await prepare(influx.url, influx.token, plan) == []
    assert kept(influx, plan.bucket) == [365 * 86400]
    assert kept(influx, plan.hourly_bucket) == [1825 * 86400]
    [task] = influx.ask("GET", f"/api/v2/tasks?name=tradingbot%20{plan.bucket}%20hourly")["tasks"]
    assert (task["status"], task["every"], task["offset"]) == ("active", "1h", "5m")


async def test_what_changed_is_changed(influx: Influx) -> None:
    plan = a_plan(influx)
    await prepare(influx.url, influx.token, plan)
    other = msgspec.structs.replace(plan, retention=30 * DAY, timeframe="15m")
    assert await prepare(influx.url, influx.token, other) == [
        f"bucket {plan.bucket} keeps 30 days now",
        f"task 'tradingbot {plan.bucket} hourly' changed",
    ]
    assert kept(influx, plan.bucket) == [30 * 86400]
    assert await prepare(influx.url, influx.token, other) == []


@pytest.mark.parametrize("days", [1, 3, 200])
async def test_retention_may_become_shorter_and_longer(influx: Influx, days: int) -> None:
    plan = a_plan(influx)
    await prepare(influx.url, influx.token, plan)
    for retention in (days * DAY, plan.retention, days * DAY):
        changed = msgspec.structs.replace(plan, retention=retention)
        told = f"bucket {plan.bucket} keeps {retention.days} days now"
        assert await prepare(influx.url, influx.token, changed) == [told]
        assert kept(influx, plan.bucket) == [retention.days * 86400]


async def test_what_is_older_than_the_retention_holds_up_nothing(influx: Influx, tmp_path: Path) -> None:
    plan = a_plan(influx, retention=DAY)
    await prepare(influx.url, influx.token, plan)
    newest = floor_time(datetime.now(UTC), BAR) - BAR

    def bar(age: timedelta) -> Candle:
        return Candle("BTC/USDT", "5m", newest - age, *(Decimal(7),) * 4, volume=Decimal(1))

    store = a_store(influx, plan.bucket, tmp_path)
    try:
        await store.write([bar(3 * DAY), bar(BAR), bar(2 * DAY)])
        await store.write([bar(0 * DAY)])
        assert await store.latest("BTC/USDT", "5m", 10) == [bar(BAR), bar(0 * DAY)]
        assert len(Spool(tmp_path / plan.bucket, 10)) == 0
    finally:
        await store.close()


async def test_hourly_candles_need_no_summing_up(influx: Influx) -> None:
    plan = a_plan(influx, timeframe="1h")
    assert await prepare(influx.url, influx.token, plan) == [f"bucket {plan.bucket} made, which keeps 365 days"]


async def test_the_task_sums_up_whole_hours(influx: Influx, tmp_path: Path) -> None:
    plan = a_plan(influx)
    await prepare(influx.url, influx.token, plan)
    hour = floor_time(datetime.now(UTC), HOUR) - HOUR

    def bar(index: int, symbol: str = "BTC/USDT") -> Candle:
        price = Decimal(100 + index)
        return Candle(symbol, "5m", hour + index * BAR, price, price + 5, price - 5, price + 1, Decimal("0.5"))

    store, hourly = a_store(influx, plan.bucket, tmp_path), a_store(influx, plan.hourly_bucket, tmp_path)
    try:
        # Twelve bars of the last whole hour, and one of the hour that goes on.
        await store.write([bar(index) for index in range(13)])
        await store.query(hourly_flux(plan), {})
        expected = Candle(
            "BTC/USDT", "1h", hour, Decimal(100), Decimal(116), Decimal(95), Decimal(112), volume=Decimal(6)
        )
        assert await hourly.latest("BTC/USDT", "1h", 10) == [expected]
        # Once more changes nothing.
        await store.query(hourly_flux(plan), {})
        assert await hourly.latest("BTC/USDT", "1h", 10) == [expected]
    finally:
        await store.close()
        await hourly.close()


async def test_names_are_quoted(influx: Influx, tmp_path: Path) -> None:
    plan = a_plan(influx, bucket="odd ${now()} \\ name")
    assert (await prepare(influx.url, influx.token, plan))[2].startswith("task ")
    store = a_store(influx, plan.bucket, tmp_path)
    try:
        assert await store.query(hourly_flux(plan), {}) == []
    finally:
        await store.close()


async def test_what_is_wrong_is_said_without_the_token(influx: Influx) -> None:
    with pytest.raises(CandleStoreRefused, match="the token is not accepted") as refused:
        await prepare(influx.url, "hush-hush", a_plan(influx))
    assert "hush" not in f"{refused.value!r} {refused.value.__cause__}"
    with pytest.raises(CandleStoreUnavailable, match="does not answer"):
        await prepare("http://127.0.0.1:9", influx.token, a_plan(influx))


async def test_the_command(influx: Influx, postgres: PostgresServer, tmp_path: Path) -> None:
    dsn = await postgres.create_database(migrated=False)
    token = tmp_path / "token"
    token.write_text(influx.token)
    bucket = f"market-{uuid.uuid4().hex[:8]}"
    spec = write_spec(
        tmp_path / "bot.yaml",
        {"timeSeries": {"organization": influx.organization, "bucket": bucket, "retention": "9d"}},
    )
    environment = {
        "TRADINGBOT_DATABASE_URL": dsn,
        "TRADINGBOT_TIME_SERIES_URL": influx.url,
        "TRADINGBOT_TIME_SERIES_TOKEN_FILE": str(token),
    }

    def run(**changes: str) -> Finished:
        process = Process(["migrate", spec], tmp_path, {**environment, **changes})
        return process.finish()

    first = await asyncio.to_thread(run)
    assert first.code == 0, first
    database, time_series = first.out.splitlines()
    assert database == f"database: the schema is at {required_version()} ({', '.join(known_migrations())} applied)"
    assert f"bucket {bucket} made, which keeps 9 days" in time_series
    assert kept(influx, bucket) == [9 * 86400]
    again = await asyncio.to_thread(run)
    assert again.out.splitlines() == [
        f"database: the schema is at {required_version()}",
        "time series: all is as it should be",
    ]
    away = await asyncio.to_thread(lambda: run(TRADINGBOT_TIME_SERIES_URL="http://127.0.0.1:9"))
    assert (away.code, away.err.startswith("tradingbot: InfluxDB does not answer")) == (4, True)
    half = await asyncio.to_thread(lambda: run(TRADINGBOT_TIME_SERIES_URL=""))
    assert (half.code, "belong together: set both" in half.err) == (2, True)
    await postgres.drop_database(dsn)
