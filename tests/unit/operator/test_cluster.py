"""What an answer of the API server, or of whatever stands before it, means."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from kubernetes.aio.client import Configuration

from tradingbot_operator.cluster import Away, Cluster, Gone
from tradingbot_operator.kinds import POD, Manifest

PAGE = "<html>the gateway is being restarted</html>\n"


@asynccontextmanager
async def answered(answer: web.StreamResponse | str, *, status: int = 200) -> AsyncIterator[Cluster]:
    """A cluster whose server says always the same: a text, or the first half of one."""

    async def say(request: web.Request) -> web.StreamResponse:
        if isinstance(answer, str):
            return web.Response(text=answer, status=status)
        await answer.prepare(request)
        await answer.write(b'{"kind": ')
        assert request.transport is not None
        request.transport.abort()
        return answer

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", say)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    cluster = Cluster(Configuration(host=f"http://127.0.0.1:{runner.addresses[0][1]}"))
    try:
        yield cluster
    finally:
        await cluster.close()
        await runner.cleanup()


async def watched(cluster: Cluster) -> list[str]:
    async with asyncio.timeout(10):
        return [change async for change, _ in cluster.watch(POD, "n", "1")]


async def listed(cluster: Cluster) -> list[Manifest]:
    return [item async for items, _ in cluster.pages(POD, None) for item in items]


def half(status: int) -> web.StreamResponse:
    return web.StreamResponse(status=status, headers={"Content-Length": "100"})


async def test_an_answer_that_is_not_json_is_a_server_that_is_away() -> None:
    """It would be taken for a defect of the operator, and told on every bot; a watch would end the process."""
    async with answered(PAGE) as cluster:
        with pytest.raises(Away, match="is not JSON: '<html>the gateway is being restarted"):
            await cluster.get(POD, "n", "a")
        with pytest.raises(Away, match="is not JSON"):
            await listed(cluster)
        with pytest.raises(Away, match="is not JSON"):
            await watched(cluster)


@pytest.mark.parametrize("status", [200, 503])
async def test_an_answer_that_is_cut_is_a_server_that_is_away(status: int) -> None:
    async with answered(half(status)) as cluster:
        with pytest.raises(Away):
            await cluster.get(POD, "n", "a")
    async with answered(half(status)) as cluster:
        with pytest.raises(Away):
            await watched(cluster)


async def test_a_watch_that_is_refused_tells_why() -> None:
    async with answered('{"kind": "Status", "message": "too old"}', status=410) as cluster:
        with pytest.raises(Gone, match="too old"):
            await watched(cluster)
