"""What a TradingBot's status says: facts in, conditions and columns out. Pure.

Each writer of a status owns its fields and no others: risk what the account is worth and holds, execution its own
state, the reality check its result, the operator the rest. A condition's time is that of its last change, and never
that of a look.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec

from tradingbot_api import format_timestamp, parse_timestamp
from tradingbot_operator.diagnosis import Problem
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AGENTS, Component

FACTS_STALE = timedelta(minutes=20)
"""Risk reports at least every ten minutes; twice that and nobody knows."""

LONGEST_MESSAGE = 1000
"""Characters: a condition is read in a terminal."""


class Deletion(msgspec.Struct, frozen=True, kw_only=True):
    phase: str
    waiting_for: str
    since: datetime
    deadline: datetime | None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What a reconcile has found out about a bot."""

    generation: int
    invalid: str = ""
    """Why the spec can not be used."""
    failure: str = ""
    """Why the last reconcile could not do all that it wanted."""
    hands_off: bool = False
    """A person has asked the operator to leave the children alone."""
    wanted_state: str = ""
    revision: str | None = None
    pending: str | None = None
    pending_why: str = ""
    agents: Mapping[Component, Agent] = msgspec.field(default_factory=dict)
    migrating: bool = False
    servers: Mapping[str, str] = msgspec.field(default_factory=dict)
    """By name in the status (``messaging`` and so on): "ready", or what it lacks."""
    problems: Sequence[Problem] = ()
    held: Sequence[str] = ()
    """What the bots of the account share, and is left as it is while this one's positions are open."""
    deletion: Deletion | None = None


class Agent(msgspec.Struct, frozen=True, kw_only=True):
    ready: bool
    revision: str | None
    restarts: int = 0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    type: str
    status: str
    reason: str
    message: str


def status_of(findings: Findings, before: Manifest, now: datetime) -> Manifest:
    """The operator's part of the status; ``before`` is the whole of it as it is."""
    conditions = [
        _written(condition, findings.generation, before, now) for condition in _conditions(findings, before, now)
    ]
    ready = sum(agent.ready for agent in findings.agents.values())
    status: Manifest = {
        "observedGeneration": findings.generation,
        "conditions": conditions,
        "state": reached(findings, before),
        "wantedState": findings.wanted_state or None,
        "ready": f"{ready}/{len(AGENTS)}",
        "readyAgents": ready,
        "revision": findings.revision,
        "pendingRevision": findings.pending if not findings.failure else before.get("pendingRevision"),
        "agents": {component.value: _agent(agent) for component, agent in findings.agents.items()} or None,
        "children": dict(findings.servers) or None,
        "deletion": None if findings.deletion is None else _deletion(findings.deletion),
    }
    return {name: value for name, value in status.items() if value is not None}


def reached(findings: Findings, before: Manifest) -> str:
    """The state that risk and execution both say they are in. Flatten is reached when nothing is held any more."""
    reports = before.get("agents") or {}
    states = {(reports.get(name) or {}).get("state") for name in (Component.RISK.value, Component.EXECUTION.value)}
    if len(states) == 1 and (state := states.pop()) is not None:
        flat = before.get("openPositions") == 0 and before.get("liveOrders") == 0
        return "Flattening" if state == "Flatten" and not flat else str(state)
    return str(before.get("state") or "Starting") if any(states) else "Starting"


def news(before: Manifest, after: Manifest) -> list[Condition]:
    """The conditions whose status or reason has changed: each is an Event. Of a new bot it is what goes on, and what
    is wrong, but not all that is not so yet."""
    earlier = {one["type"]: (one["status"], one["reason"]) for one in before.get("conditions") or []}
    return [
        Condition(type=one["type"], status=one["status"], reason=one["reason"], message=one["message"])
        for one in after["conditions"]
        if earlier.get(one["type"]) != (one["status"], one["reason"])
        and (one["type"] in earlier or one["status"] == "True")
    ]


def differs(before: Manifest, after: Manifest) -> bool:
    """Whether the status has to be written."""
    for name in ("observedGeneration", "state", "wantedState", "ready", "revision", "pendingRevision", "deletion"):
        if before.get(name) != after.get(name):
            return True
    if (before.get("children") or {}) != (after.get("children") or {}):
        return True
    known = {one["type"]: one for one in before.get("conditions") or []}
    if any(known.get(one["type"]) != one for one in after["conditions"]):
        return True
    agents = before.get("agents") or {}
    return any(
        (agents.get(name) or {}).get(field) != value
        for name, agent in (after.get("agents") or {}).items()
        for field, value in agent.items()
    )


def _conditions(findings: Findings, before: Manifest, now: datetime) -> list[Condition]:
    return [
        _ready(findings),
        _progressing(findings),
        _degraded(findings),
        _trading(findings, before, now),
        _drift(findings, before),
    ]


def _ready(findings: Findings) -> Condition:
    waiting = _waiting(findings)
    if findings.invalid:
        return _no("Ready", "InvalidSpec", findings.invalid)
    if findings.problems:
        more = f" (and {len(findings.problems) - 1} more: see Degraded)" if len(findings.problems) > 1 else ""
        return _no("Ready", findings.problems[0].reason, f"{findings.problems[0]}{more}")
    if waiting:
        return _no("Ready", "NotReady", f"waiting for {', '.join(waiting)}")
    return _yes("Ready", "AllReady", f"all {len(AGENTS)} agents are ready")


def _waiting(findings: Findings) -> list[str]:
    servers = [f"{name} ({state})" for name, state in findings.servers.items() if state == "not ready"]
    if findings.migrating:
        return [*servers, "the migrations"]
    return [
        *servers,
        *(name.value for name in AGENTS if name not in findings.agents or not findings.agents[name].ready),
    ]


def _progressing(findings: Findings) -> Condition:
    if findings.hands_off:
        return _no("Progressing", "Paused", "the annotation tradingbot.dev/paused keeps the operator's hands off")
    if findings.invalid:
        return _no("Progressing", "InvalidSpec", "nothing is changed until the spec is mended")
    if findings.failure:
        return _yes("Progressing", "Retrying", findings.failure)
    if findings.deletion is not None:
        return _yes("Progressing", "Deleting", f"waiting for {findings.deletion.waiting_for}")
    if findings.migrating:
        return _yes("Progressing", "Migrating", "tables and buckets are made ready before any agent starts")
    behind = [name.value for name, agent in findings.agents.items() if agent.revision != findings.revision]
    if behind:
        return _yes("Progressing", "Rolling", f"still to get revision {findings.revision}: {', '.join(behind)}")
    if _waiting(findings) and not findings.problems:
        return _yes("Progressing", "Starting", "everything is made; not all of it is ready yet")
    if findings.problems:
        return _no("Progressing", "UpToDate", "everything is made; what is wrong with it is said by Degraded")
    return _no("Progressing", "UpToDate", "everything is as it should be")


def _degraded(findings: Findings) -> Condition:
    if findings.invalid:
        return _yes("Degraded", "InvalidSpec", findings.invalid)
    if findings.failure:
        return _yes("Degraded", "ReconcileFailed", findings.failure)
    if findings.problems:
        return _yes("Degraded", findings.problems[0].reason, _joined(map(str, findings.problems)))
    return _no("Degraded", "NothingWrong", "nothing is known to be wrong")


def _trading(findings: Findings, before: Manifest, now: datetime) -> Condition:
    told = _time(before.get("factsAt"))
    state = reached(findings, before)
    if told is None:
        return _no("Trading", "NotStarted", "the risk agent has not reported yet")
    if now - told > FACTS_STALE:
        return Condition(
            type="Trading",
            status="Unknown",
            reason="NoReport",
            message=f"the risk agent has not reported since {format_timestamp(told)}",
        )
    if state != "Running":
        asked = f", and {findings.wanted_state} is asked for" if findings.wanted_state not in ("", state) else ""
        return _no("Trading", state, f"the bot is {state}{asked}")
    return _yes("Trading", "Running", "entries and exits work")


def _drift(findings: Findings, before: Manifest) -> Condition:
    if findings.invalid and findings.revision is not None:
        why = f"the spec can not be used, and revision {findings.revision} runs on"
        return _yes("ConfigDrift", "InvalidSpec", why)
    held = (
        f"{', '.join(findings.held)} would be restarted by a change, which stops every bot of the account: it waits"
        " until this bot's positions are closed; to apply it all the same, set updateStrategy: Auto"
    )
    if findings.pending is not None:
        why = f"revision {findings.pending} is pending, {findings.revision} runs on: {findings.pending_why}"
        return _yes("ConfigDrift", "Pending", f"{why}; {held}" if findings.held else why)
    if findings.held:
        return _yes("ConfigDrift", "DatabaseHeld", held)
    if findings.failure:
        # It came before that was found out.
        for one in before.get("conditions") or []:
            if one["type"] == "ConfigDrift":
                return Condition(type=one["type"], status=one["status"], reason=one["reason"], message=one["message"])
    return _no("ConfigDrift", "Applied", "what runs is what the spec says")


def _yes(name: str, reason: str, message: str) -> Condition:
    return Condition(type=name, status="True", reason=reason, message=message)


def _no(name: str, reason: str, message: str) -> Condition:
    return Condition(type=name, status="False", reason=reason, message=message)


def _joined(parts: Any) -> str:
    return "; ".join(parts)


def _written(condition: Condition, generation: int, before: Manifest, now: datetime) -> Manifest:
    since = format_timestamp(now.replace(microsecond=0))
    for earlier in before.get("conditions") or []:
        if earlier["type"] == condition.type and earlier["status"] == condition.status:
            since = earlier["lastTransitionTime"]
    message = condition.message
    return {
        "type": condition.type,
        "status": condition.status,
        "reason": condition.reason,
        "message": message if len(message) <= LONGEST_MESSAGE else message[: LONGEST_MESSAGE - 1] + "…",
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }


def _agent(agent: Agent) -> Manifest:
    told: Manifest = {"ready": agent.ready, "restarts": agent.restarts}
    return told


def _deletion(deletion: Deletion) -> Manifest:
    told: Manifest = {
        "phase": deletion.phase,
        "waitingFor": deletion.waiting_for,
        "since": format_timestamp(deletion.since),
    }
    if deletion.deadline is not None:
        told["deadline"] = format_timestamp(deletion.deadline)
    return told


def _time(text: Any) -> datetime | None:
    return parse_timestamp(text) if isinstance(text, str) else None
