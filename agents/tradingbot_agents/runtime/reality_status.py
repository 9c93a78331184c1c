"""What the reality check writes on its TradingBot: a condition, the last result, and an Event when something changed.

Nothing here raises. The report is kept in the ledger and in the log of the check; that the API server does not take
it is told there too, and makes no check fail. The next run then writes what this one could not.

The status is written before the Event: a run whose status did not arrive leaves the condition as it was, and so the
change is still one for the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any
from uuid import uuid4

import msgspec

from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.report import Finding, Report
from tradingbot_agents.runtime import cluster_names
from tradingbot_agents.runtime.api_server import ApiServer, ApiUnavailable, ClusterAccess
from tradingbot_agents.telemetry import get_logger
from tradingbot_api.timestamps import format_timestamp

MANAGER = "tradingbot-reality-check"
"""Of the fields that it writes, and of no others; also who tells its Events."""

CONDITION = "RealityCheckPassed"

LONGEST_MESSAGE = 1000
"""Characters: a condition is read in a terminal, and of an Event's message the API server takes 1024."""

_MOST_FINDINGS = 5
"""With their reasons, in the condition's message."""

_STATUSES = {Status.PASSED: "True", Status.FAILED: "False", Status.UNKNOWN: "Unknown"}


class _Part(msgspec.Struct, rename="camel", frozen=True):
    """Of an object, as the API server tells it."""


class Condition(_Part, frozen=True):
    type: str
    status: str
    reason: str = ""
    observed_generation: int | None = None
    last_transition_time: str | None = None


class _Metadata(_Part, frozen=True):
    uid: str = ""


class _Status(_Part, frozen=True):
    revision: str | None = None
    conditions: tuple[Condition, ...] = ()


class Bot(_Part, frozen=True):
    """As it is before the check writes on it."""

    metadata: _Metadata = _Metadata()
    status: _Status = _Status()

    def condition(self, type_: str) -> Condition | None:
        return next((each for each in self.status.conditions if each.type == type_), None)


async def tell_status(access: ClusterAccess, bot: str, report: Report) -> None:
    """Write ``report`` on the TradingBot ``bot`` of this namespace. Raises nothing."""
    server = ApiServer(access)
    path = cluster_names.bot_path(access.namespace, bot)
    try:
        before = msgspec.json.decode(await server.get(path), type=Bot)
        manifest = {
            "apiVersion": cluster_names.API,
            "kind": cluster_names.KIND,
            "metadata": {"name": bot, "namespace": access.namespace},
            "status": status_of(report, before, access.revision),
        }
        await server.apply(f"{path}/status", {"fieldManager": MANAGER, "force": "true"}, manifest)
    except (ApiUnavailable, msgspec.MsgspecError) as error:
        get_logger().warning("reality_status_not_written", why=str(error))
        return
    if not is_news(report, before):
        return
    event = event_of(report, before, access.namespace, bot, unique=uuid4().hex[:16])
    try:
        await server.create(cluster_names.events_path(access.namespace), event)
    except ApiUnavailable as error:
        get_logger().warning("reality_event_not_written", why=str(error))


# --- what is written: pure ---------------------------------------------------------------------------------------


def status_of(report: Report, before: Bot, revision: str | None) -> dict[str, Any]:
    """The fields of the status that are the check's. ``revision`` is the one that the check itself runs."""
    now = format_timestamp(report.at.replace(microsecond=0))
    status, reason = _verdict(report)
    earlier = before.condition(CONDITION)
    same = earlier is not None and earlier.status == status
    condition: dict[str, Any] = {
        "type": CONDITION,
        "status": status,
        "reason": reason,
        "message": _cut(_message(report)),
        "lastTransitionTime": (earlier.last_transition_time if same and earlier is not None else None) or now,
    }
    generation = _generation(before, revision)
    if generation is not None:
        condition["observedGeneration"] = generation
    return {
        "conditions": [condition],
        "lastRealityCheck": {
            "at": now,
            "result": report.result.value,
            "summary": _cut(report.summary),
            "since": format_timestamp(report.since.replace(microsecond=0)),
        },
    }


def is_news(report: Report, before: Bot) -> bool:
    """Whether it is worth an Event: another verdict than the bot shows, or a check that says something else than in
    the last run. Where no run before is known, as while the ledger is away, the verdict alone decides: else each run
    would tell the same failure as a new one."""
    earlier = before.condition(CONDITION)
    if earlier is None or (earlier.status, earlier.reason) != _verdict(report):
        return True
    return _has_memory(report) and bool(report.changes)


def event_of(report: Report, before: Bot, namespace: str, bot: str, *, unique: str) -> dict[str, Any]:
    at = format_timestamp(report.at.replace(microsecond=0))
    passed = report.result is Status.PASSED
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{bot}.{unique}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": cluster_names.API,
            "kind": cluster_names.KIND,
            "name": bot,
            "namespace": namespace,
            "uid": before.metadata.uid,
        },
        "reason": CONDITION if passed else f"RealityCheck{report.result.value.capitalize()}",
        "message": _cut("; ".join([*_changes(report), report.summary])),
        "type": "Normal" if passed else "Warning",
        "source": {"component": MANAGER},
        "reportingComponent": MANAGER,
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }


def _verdict(report: Report) -> tuple[str, str]:
    """Status and reason of the condition."""
    if report.result is Status.FAILED:
        return _STATUSES[Status.FAILED], "InvariantBroken" if report.severe else "Failed"
    return _STATUSES[report.result], "Passed" if report.result is Status.PASSED else "EvidenceMissing"


def _message(report: Report) -> str:
    wrong = [*report.of(Status.FAILED), *report.of(Status.UNKNOWN)]
    told = [f"{each.id}: {each.told[0]}" for each in wrong[:_MOST_FINDINGS] if each.told]
    return "; ".join([report.summary, *([] if report.hold is None else [report.hold]), *told])


def _generation(before: Bot, revision: str | None) -> int | None:
    """Of the spec that was checked. The check runs the pinned spec of its revision: only where that is the applied
    one, and nothing of the spec waits, is it the spec of a generation that is known."""
    drift = before.condition("ConfigDrift")
    if revision is None or revision != before.status.revision or drift is None or drift.status != "False":
        return None
    return drift.observed_generation


def _changes(report: Report) -> list[str]:
    if not _has_memory(report):
        return []
    words: Mapping[str, Iterable[Finding]] = {
        "fails now": [each for each in report.changes if each.status is Status.FAILED],
        "not known now": [each for each in report.changes if each.status is Status.UNKNOWN],
        "passes again": [each for each in report.changes if each.status is Status.PASSED],
        "not asked any more": [each for each in report.changes if each.status is Status.SKIPPED],
    }
    return [f"{word}: {', '.join(each.id for each in found)}" for word, found in words.items() if found]


def _has_memory(report: Report) -> bool:
    return any(finding.before is not None for finding in report.findings)


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_MESSAGE else text[: LONGEST_MESSAGE - 1] + "…"
