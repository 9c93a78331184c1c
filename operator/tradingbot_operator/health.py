"""The pages for probes and Prometheus, served from the operator's own loop: one that is frozen answers nothing.

``/live`` fails only for what a restart mends; ``/ready`` until everything that is there has been seen once.
"""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web

from tradingbot_operator.metrics import CONTENT_TYPE, Metrics


class Pages:
    """A server of aiohttp, which kopf has imported already."""

    def __init__(self, metrics: Metrics, *, stuck: Callable[[], str], missing: Callable[[], str]) -> None:
        """``stuck`` and ``missing`` say what is wrong, or nothing."""
        self._metrics = metrics
        self._stuck = stuck
        self._missing = missing
        app = web.Application()
        app.add_routes(
            [
                web.get("/live", self._live),
                web.get("/ready", self._ready),
                web.get("/metrics", self._numbers),
            ]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which ``0`` leaves to the system. Raises ``OSError``."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound: int = self._runner.addresses[0][1]
        return bound

    async def stop(self) -> None:
        await self._runner.cleanup()

    async def _live(self, _: web.Request) -> web.Response:
        return _answer(self._stuck())

    async def _ready(self, _: web.Request) -> web.Response:
        return _answer(self._missing())

    async def _numbers(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics.page(), headers={"Content-Type": CONTENT_TYPE})


def _answer(problem: str) -> web.Response:
    return web.Response(text=f"{problem or 'ok'}\n", status=503 if problem else 200)
