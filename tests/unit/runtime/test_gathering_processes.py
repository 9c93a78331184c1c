"""Agents without Kubernetes, asked on their own pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from support.silent_server import silent_server
from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.domain.values import BotState
from tradingbot_agents.reality.evidence import AgentsEvidence, Missing
from tradingbot_agents.runtime.gathering_processes import Address, process_evidence
from tradingbot_agents.runtime.health import AGENT, Health, HealthServer, Page
from tradingbot_agents.telemetry.metrics import CONTENT_TYPE, Metrics

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BEGAN = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)


@asynccontextmanager
async def an_agent(name: str, *, missing: str | None = None) -> AsyncIterator[Address]:
    """Its pages, as a process serves them."""
    health, metrics = Health(60, lambda: 0.0), Metrics("majors", name)
    metrics.started(BEGAN, "r2")
    health.has(AGENT)
    if missing is not None:
        health.lacks("database", missing)
    server = HealthServer({"/ready": health.ready, "/metrics": lambda: Page(200, metrics.page(), CONTENT_TYPE)})
    port = await server.start("127.0.0.1", 0)
    try:
        yield "127.0.0.1", port
    finally:
        await server.stop()


async def asked(**addresses: Address) -> AgentsEvidence:
    found = await process_evidence(
        addresses, wanted="r3", state=BotState.RUNNING, clock=VirtualClock(NOW), limit=timedelta(seconds=5)
    )
    assert isinstance(found, AgentsEvidence)
    return found


async def test_an_agent_says_what_it_runs_since_when_and_whether_it_is_ready() -> None:
    async with an_agent(RISK) as risk, an_agent(EXECUTION, missing="it is not open yet") as execution:
        found = await asked(risk=risk, execution=execution)
    assert (found.read_at, found.wanted_revision, found.state) == (NOW, "r3", BotState.RUNNING)
    second, first = found.pods
    assert (first.agent, first.revision, first.ready, first.started_at) == (RISK, "r2", True, BEGAN)
    assert first.place == f"risk at 127.0.0.1:{risk[1]}"
    assert (second.agent, second.ready, second.why_not) == (EXECUTION, False, "database: it is not open yet")


async def test_one_that_is_not_there_is_not_ready() -> None:
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    (pod,) = (await asked(risk=("127.0.0.1", port))).pods
    assert (pod.ready, pod.revision) == (False, None)
    assert pod.why_not.startswith("it does not answer: ")


async def test_one_that_is_frozen_is_not_waited_for() -> None:
    async with silent_server() as server:
        found = await process_evidence(
            {RISK: ("127.0.0.1", server.port)},
            wanted="r3",
            state=BotState.RUNNING,
            clock=VirtualClock(NOW),
            limit=timedelta(milliseconds=50),
        )
    assert isinstance(found, AgentsEvidence)
    assert found.pods[0].why_not == "it does not answer within 0.05 s"


async def test_what_is_no_agent_is_told() -> None:
    async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"220 mail.example.org ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answers, "127.0.0.1", 0)
    async with server:
        (pod,) = (await asked(risk=("127.0.0.1", server.sockets[0].getsockname()[1]))).pods
    assert pod.why_not == "it does not answer: what it says to /ready is no answer"


async def test_without_an_address_nothing_is_asked() -> None:
    found = await process_evidence(
        {}, wanted="r3", state=BotState.RUNNING, clock=VirtualClock(NOW), limit=timedelta(seconds=5)
    )
    assert isinstance(found, Missing)
    assert not found.wanted
