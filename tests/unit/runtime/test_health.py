"""The probes and the metrics of a process, asked over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families

from tradingbot_agents.domain.events import (
    Event,
    ExposureMeasured,
    PriceFallbackUsed,
    Reason,
    TradeApproved,
    TradeRejected,
)
from tradingbot_agents.domain.values import Side
from tradingbot_agents.runtime.health import REQUEST_LIMIT, Health, HealthServer, Page, Query
from tradingbot_agents.telemetry.metrics import CONTENT_TYPE, Metrics

NOW = datetime(2024, 3, 1, tzinfo=UTC)

Ask = Callable[[bytes], Awaitable[tuple[int, bytes]]]


@asynccontextmanager
async def serving(**pages: Callable[[], Page]) -> AsyncIterator[Ask]:
    server = HealthServer({f"/{name}": page for name, page in pages.items()})
    port = await server.start("127.0.0.1", 0)

    async def ask(request: bytes) -> tuple[int, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(request)
        answer = await reader.read()
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return int(head.split()[1]), body

    try:
        yield ask
    finally:
        await server.stop()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


async def test_a_page_is_asked_for_by_its_path() -> None:
    async with serving(live=lambda: Page(200, b"alive\n")) as ask:
        assert await ask(get("/live")) == (200, b"alive\n")
        assert await ask(get("/live?probe=1")) == (200, b"alive\n")
        assert await ask(get("/")) == (404, b"there is /live\n")
        assert (await ask(b"POST /live HTTP/1.1\r\n\r\n"))[0] == 405
        assert (await ask(b"nonsense\r\n\r\n"))[0] == 400


async def test_a_page_may_depend_on_what_is_asked() -> None:
    def echo(query: Query) -> Page:
        return Page(200, repr(sorted(query.items())).encode())

    server = HealthServer({"/live": lambda: Page(200, b"alive\n")}, {"/echo": echo})
    port = await server.start("127.0.0.1", 0)
    try:
        for path, told in (
            ("/echo?b=1&a=x%20y&b=2", b"[('a', ['x y']), ('b', ['1', '2'])]"),
            ("/echo", b"[]"),
            ("/live?a=1", b"alive\n"),
            ("/other", b"there is /live, /echo\n"),
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(get(path))
            assert (await reader.read()).partition(b"\r\n\r\n")[2] == told
            writer.close()
            await writer.wait_closed()
    finally:
        await server.stop()


async def test_a_request_without_an_end_is_closed_and_harms_nobody() -> None:
    server = HealthServer({"/live": lambda: Page(200, b"alive\n")})
    port = await server.start("127.0.0.1", 0)
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /live HTTP/1.1\r\n" + b"x" * 2 * REQUEST_LIMIT)
    assert await reader.read() == b""
    writer.close()
    silent_reader, silent = await asyncio.open_connection("127.0.0.1", port)
    await server.stop()
    assert await silent_reader.read() == b""
    silent.close()


def test_it_is_ready_when_nothing_is_missing() -> None:
    health = Health(60.0, lambda: 0.0)
    assert health.ready() == Page(503, b"agent: it has not started\n")
    health.lacks("database", "it does not answer")
    health.has("agent")
    assert health.ready() == Page(503, b"database: it does not answer\n")
    assert health.live().status == 200
    health.has("database")
    assert health.ready() == Page(200, b"ready\n")


def test_a_handler_that_does_not_end_is_a_dead_process() -> None:
    turn = 59.0
    health = Health(60.0, lambda: turn)
    assert health.live().status == 200
    turn = 61.0
    assert health.live() == Page(503, b"a handler has been running for 61 s\n")


def test_events_become_metrics() -> None:
    metrics = Metrics("majors", "risk")
    rejected = TradeRejected(
        at=NOW,
        agent="risk",
        symbol="BTC/USDT",
        side=Side.BUY,
        reason=Reason.NO_FRESH_PRICE,
        detail="",
        confidence=Decimal("0.5"),
    )
    approved = TradeApproved(
        at=NOW,
        agent="risk",
        symbol="BTC/USDT",
        side=Side.BUY,
        confidence=Decimal("0.5"),
        client_order_id="tb1",
        amount=None,
        limit_price=None,
        reserved=None,
        available_after=None,
    )
    measured = ExposureMeasured(
        at=NOW,
        agent="risk",
        equity=Decimal("84.54"),
        exposure=Decimal(0),
        confidence=Decimal("0.95"),
        value_at_risk=Decimal(0),
        expected_shortfall=Decimal(0),
        returns=0,
    )
    fallback = PriceFallbackUsed(at=NOW, agent="risk", symbol="BTC/USDT", source="ticker", why="the store is away")
    events: list[Event] = [rejected, rejected, approved, measured, fallback]
    for event in events:
        metrics.emit(event)
    metrics.dependency("database", True)
    metrics.dependency("messaging", False)
    metrics.turn(1.5)
    found = {
        (sample.name, *(value for name, value in sorted(sample.labels.items()) if name not in ("bot", "agent"))): (
            sample.value
        )
        for family in text_string_to_metric_families(metrics.page().decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }
    assert found == {
        ("tradingbot_events_total", "trade_rejected", "info"): 2.0,
        ("tradingbot_events_total", "trade_approved", "info"): 1.0,
        ("tradingbot_events_total", "exposure_measured", "info"): 1.0,
        ("tradingbot_events_total", "price_fallback_used", "warning"): 1.0,
        ("tradingbot_trades_approved_total",): 1.0,
        ("tradingbot_trades_rejected_total", "no_fresh_price"): 2.0,
        ("tradingbot_price_fallbacks_total", "ticker"): 1.0,
        ("tradingbot_equity",): 84.54,
        ("tradingbot_dependency_up", "database"): 1.0,
        ("tradingbot_dependency_up", "messaging"): 0.0,
        ("tradingbot_turn_seconds",): 1.5,
    }
    assert CONTENT_TYPE.startswith("text/plain")
