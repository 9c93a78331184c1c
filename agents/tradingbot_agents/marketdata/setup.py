"""Buckets, retention and the downsampling task of InfluxDB: made by ``tradingbot migrate``, safe to repeat.

Apart from the store, for it needs the client's larger half; no agent imports it.
"""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta

from influxdb_client import BucketRetentionRules, InfluxDBClient, Task, TaskUpdateRequest
from influxdb_client.rest import ApiException
from urllib3.exceptions import HTTPError

from tradingbot_agents.marketdata.influx import MEASUREMENT, translated
from tradingbot_agents.marketdata.plan import TimeSeriesPlan
from tradingbot_agents.marketdata.port import CandleStoreUnavailable

# Imports stand before anything else, the task's options too.
_IMPORTS = 'import "date"\n\n'

_FLUX = """
hour = date.truncate(t: now(), unit: 1h)
candles = from(bucket: BUCKET)
    |> range(start: date.sub(d: LATE, from: hour), stop: hour)
    |> filter(fn: (r) => r._measurement == MEASUREMENT and r.timeframe == TIMEFRAME)
hourly = (field, fn) => candles
    |> filter(fn: (r) => r._field == field)
    |> aggregateWindow(every: 1h, fn: fn, createEmpty: false, timeSrc: "_start")

union(tables: [
    hourly(field: "open", fn: first),
    hourly(field: "high", fn: max),
    hourly(field: "low", fn: min),
    hourly(field: "close", fn: last),
    hourly(field: "volume", fn: sum),
])
    |> set(key: "timeframe", value: "1h")
    |> to(bucket: HOURLY)
"""


def hourly_flux(plan: TimeSeriesPlan, options: str = "") -> str:
    """The task's script. A task takes no parameters, so its values are literals, quoted as Flux quotes."""
    return (
        _IMPORTS
        + options
        + _FLUX.replace("BUCKET", _literal(plan.bucket))
        .replace("MEASUREMENT", _literal(MEASUREMENT))
        .replace("TIMEFRAME", _literal(plan.timeframe))
        .replace("LATE", f"{max(plan.late // timedelta(hours=1), 1)}h")
        .replace("HOURLY", _literal(plan.hourly_bucket))
    )


async def prepare(url: str, token: str, plan: TimeSeriesPlan) -> list[str]:
    """Make what is missing and change what differs; returns what was done, in words.

    Raises ``CandleStoreUnavailable`` or ``CandleStoreRefused``.
    """
    return await asyncio.to_thread(_prepare, url, token, plan)


def _prepare(url: str, token: str, plan: TimeSeriesPlan) -> list[str]:
    done: list[str] = []
    with InfluxDBClient(url=url, token=token, org=plan.organization, timeout=10_000) as client:
        try:
            _bucket(client, plan.organization, plan.bucket, plan.retention, done)
            if plan.downsamples:
                _bucket(client, plan.organization, plan.hourly_bucket, plan.hourly_retention, done)
                _task(client, plan, done)
        except ApiException as error:
            raise translated(error) from None
        except (HTTPError, OSError) as error:
            raise CandleStoreUnavailable(f"InfluxDB does not answer: {type(error).__name__}") from error
    return done


def _bucket(client: InfluxDBClient, organization: str, name: str, retention: timedelta, done: list[str]) -> None:
    buckets = client.buckets_api()
    seconds = int(retention.total_seconds())
    found = buckets.find_bucket_by_name(name)
    if found is None:
        rules = BucketRetentionRules(type="expire", every_seconds=seconds)
        buckets.create_bucket(bucket_name=name, retention_rules=rules, org=organization)
        done.append(f"bucket {name} made, which keeps {retention.days} days")
        return
    if [rule.every_seconds for rule in found.retention_rules] != [seconds]:
        # Left as it is, the length of a shard may be more than the new retention, which the server refuses.
        found.retention_rules = [
            BucketRetentionRules(
                type="expire", every_seconds=seconds, shard_group_duration_seconds=_shard_seconds(retention)
            )
        ]
        buckets.update_bucket(bucket=found)
        done.append(f"bucket {name} keeps {retention.days} days now")


def _shard_seconds(retention: timedelta) -> int:
    """What the server gives a new bucket of this retention."""
    if retention < timedelta(days=2):
        return 3600
    return 86400 if retention < timedelta(days=180) else 7 * 86400


def _task(client: InfluxDBClient, plan: TimeSeriesPlan, done: list[str]) -> None:
    tasks = client.tasks_api()
    script = hourly_flux(plan, f"option task = {{name: {_literal(plan.task)}, every: 1h, offset: 5m}}\n")
    known = [task for task in tasks.find_tasks(name=plan.task) if task.name == plan.task]
    if not known:
        [organization] = client.organizations_api().find_organizations(org=plan.organization)
        tasks.create_task(_task_of(plan.task, organization.id, script))
        done.append(f"task {plan.task!r} made")
    elif known[0].flux != script:
        # The script alone: with the task's other fields the server would write them into it.
        tasks.update_task_request(known[0].id, TaskUpdateRequest(flux=script))
        done.append(f"task {plan.task!r} changed")


def _task_of(name: str, organization: str, script: str) -> Task:
    return Task(id=0, name=name, org_id=organization, status="active", flux=script)


def _literal(text: str) -> str:
    """A Flux string: JSON's escapes, and no interpolation."""
    return json.dumps(text, ensure_ascii=False).replace("${", "\\${")
