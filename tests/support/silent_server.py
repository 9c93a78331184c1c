"""A server that takes every call and says nothing, as one does that hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class SilentServer:
    def __init__(self) -> None:
        self.port = 0
        self.called = asyncio.Event()
        self._calls: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._calls.add(task)
        self.called.set()
        try:
            with suppress(OSError):
                await reader.read()
        finally:
            writer.transport.abort()

    async def close(self) -> None:
        """Whoever still waits is hung up on."""
        for call in self._calls:
            call.cancel()
        if self._calls:
            await asyncio.wait(self._calls)


@asynccontextmanager
async def silent_server() -> AsyncIterator[SilentServer]:
    """At ``port`` of 127.0.0.1."""
    server = SilentServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        await server.close()
        await listening.wait_closed()
