"""What the outside may ask a process: is it alive, is it ready, how much has it done.

It answers from the agent's own loop. A loop that is frozen answers nothing, and that is the right answer; a handler
that does not end is told as dead here. ``/live`` fails only for what a restart mends, ``/ready`` for anything that is
missing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import parse_qs

import msgspec

REQUEST_LIMIT = 8192
"""Bytes of a request's head; probes send some hundred."""

REQUEST_SECONDS = 5.0
"""For a request to arrive whole; a connection that says nothing is closed."""


AGENT = "agent"
"""What is missing while the agent itself does not run."""


class NotListening(Exception):
    """The address for probes and metrics can not be used."""


class Page(msgspec.Struct, frozen=True):
    status: int
    body: bytes
    content_type: str = "text/plain; charset=utf-8"


Query = Mapping[str, Sequence[str]]

_REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class HealthServer:
    """Serves GET of a few fixed paths. Small on purpose: a web framework would cost each agent 20 MB."""

    def __init__(
        self, pages: Mapping[str, Callable[[], Page]], asked: Mapping[str, Callable[[Query], Page]] | None = None
    ) -> None:
        """``asked``: pages that depend on the query of their address."""
        self._pages = pages
        self._asked = asked or {}
        self._server: asyncio.Server | None = None
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self, host: str, port: int) -> int:
        """Listen; returns the port, which ``0`` leaves to the system. Raises ``OSError``."""
        self._server = await asyncio.start_server(self._serve, host, port, limit=REQUEST_LIMIT)
        bound: int = self._server.sockets[0].getsockname()[1]
        return bound

    async def stop(self) -> None:
        if self._server is None:
            return
        self._server.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._answering.add(task)
        try:
            async with asyncio.timeout(REQUEST_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                page = self._page(head)
                writer.write(
                    f"HTTP/1.1 {page.status} {_REASONS[page.status]}\r\n"
                    f"Content-Type: {page.content_type}\r\n"
                    f"Content-Length: {len(page.body)}\r\n"
                    "Connection: close\r\n\r\n".encode()
                    + page.body
                )
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            # Whoever asked has gone, or asks for something else than a page.
            pass
        finally:
            self._answering.discard(task)
            writer.close()

    def _page(self, head: bytes) -> Page:
        parts = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        if len(parts) != 3:
            return Page(400, b"not a request\n")
        method, target, _ = parts
        if method != "GET":
            return Page(405, b"only GET\n")
        path, _, query = target.partition("?")
        if (page := self._pages.get(path)) is not None:
            return page()
        if (asked := self._asked.get(path)) is not None:
            return asked(parse_qs(query))
        return Page(404, f"there is {', '.join([*self._pages, *self._asked])}\n".encode())


class Health:
    """What is known of the process. Pure: told by the process, asked by the pages."""

    def __init__(self, stuck_after: float, longest_turn: Callable[[], float]) -> None:
        """``stuck_after``: seconds after which a handler that has not ended counts as never ending."""
        self._stuck_after = stuck_after
        self._longest_turn = longest_turn
        self._missing: dict[str, str] = {AGENT: "it has not started"}

    def lacks(self, what: str, why: str) -> None:
        self._missing[what] = why

    def has(self, what: str) -> None:
        self._missing.pop(what, None)

    @property
    def missing(self) -> dict[str, str]:
        return dict(self._missing)

    @property
    def works(self) -> bool:
        """Whether the agent itself runs, whatever of its parts is away."""
        return AGENT not in self._missing

    def live(self) -> Page:
        turn = self._longest_turn()
        if turn > self._stuck_after:
            return Page(503, f"a handler has been running for {turn:.0f} s\n".encode())
        return Page(200, b"alive\n")

    def ready(self) -> Page:
        if self._missing:
            lines = "".join(f"{what}: {why}\n" for what, why in sorted(self._missing.items()))
            return Page(503, lines.encode())
        return Page(200, b"ready\n")
