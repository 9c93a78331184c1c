"""A line between a client and a server on a Unix socket that can go dead: it stays open and carries nothing more."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


class Line:
    def __init__(self, server: Path) -> None:
        self._server = server
        self._carriers: set[asyncio.Task[None]] = set()
        self._writers: list[asyncio.StreamWriter] = []
        self.opened = 0
        """How many clients have come."""

    def go_dead(self) -> None:
        """Whoever is connected now hears nothing more; who comes later is served."""
        for carrier in self._carriers:
            carrier.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.opened += 1
        there_reader, there_writer = await asyncio.open_unix_connection(self._server)
        self._writers += [writer, there_writer]
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            carrier = asyncio.create_task(self._carry(source, sink))
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            sink.write(data)
            await sink.drain()
        sink.close()

    def close(self) -> None:
        self.go_dead()
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def line_to(server: Path, at: Path) -> AsyncIterator[Line]:
    """A line to the socket ``server``, as the socket ``at``."""
    line = Line(server)
    listening = await asyncio.start_unix_server(line.serve, at)
    try:
        yield line
    finally:
        listening.close()
        line.close()
        await listening.wait_closed()
