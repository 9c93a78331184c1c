"""Evidence of agents that run as processes without Kubernetes: their own pages for probes and metrics say it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import msgspec

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.reality.evidence import AgentEvidence, AgentsEvidence, Known, Missing

Address = tuple[str, int]
"""Host and port."""

_MOST = 2**20
"""Bytes of a page; an agent's metrics are some 20 kB."""

_INFO = re.compile(r'^tradingbot_agent_info\{[^}]*revision="([^"]*)"[^}]*\} 1\.0$', re.MULTILINE)
_BEGAN = re.compile(r"^tradingbot_agent_start_time_seconds\{[^}]*\} ([0-9.e+]+)$", re.MULTILINE)


class _NoAnswer(Exception):
    """In words."""


async def process_evidence(
    addresses: Mapping[str, Address], *, wanted: str, state: BotState, clock: Clock, limit: timedelta
) -> Known[AgentsEvidence]:
    """Of the agents whose addresses are given, each asked for no longer than ``limit``. One that does not answer is
    told as not ready. ``wanted`` is the revision of the spec. Raises nothing."""
    if not addresses:
        return Missing("nobody said where the agents listen: name them with --agent NAME=HOST:PORT", wanted=False)
    pods = await asyncio.gather(
        *(_ask(agent, address, limit.total_seconds()) for agent, address in sorted(addresses.items()))
    )
    return AgentsEvidence(read_at=clock.now(), wanted_revision=wanted, pods=tuple(pods), state=state)


async def _ask(agent: str, address: Address, seconds: float) -> AgentEvidence:
    host, port = address
    silent = AgentEvidence(
        agent=agent,
        place=f"{agent} at {host}:{port}",
        revision=None,
        ready=False,
        why_not="",
        restarts=0,
        restarted_at=None,
        ended="",
        started_at=None,
    )
    try:
        async with asyncio.timeout(seconds):
            status, words = await _page(address, "/ready")
            _, metrics = await _page(address, "/metrics")
    except TimeoutError:
        return msgspec.structs.replace(silent, why_not=f"it does not answer within {seconds:g} s")
    except (OSError, _NoAnswer) as error:
        return msgspec.structs.replace(silent, why_not=f"it does not answer: {error}")
    revision, began = _INFO.search(metrics), _BEGAN.search(metrics)
    return msgspec.structs.replace(
        silent,
        revision=None if revision is None else revision[1],
        ready=status == 200,
        why_not="" if status == 200 else "; ".join(words.split("\n")).strip("; "),
        started_at=None if began is None else datetime.fromtimestamp(float(began[1]), UTC),
    )


async def _page(address: Address, path: str) -> tuple[int, str]:
    host, port = address
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        answer = bytearray()
        while chunk := await reader.read(2**16):
            answer += chunk
            if len(answer) > _MOST:
                raise _NoAnswer(f"its page {path} is longer than {_MOST} bytes")
    finally:
        writer.close()
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    found = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if found is None:
        raise _NoAnswer(f"what it says to {path} is no answer")
    return int(found[1]), body.decode(errors="replace")
