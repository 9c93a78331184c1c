"""A TCP line between a client and a server that a test can cut, as a lost network or a killed client does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress


class TcpLine:
    def __init__(self, host: str, port: int) -> None:
        self._there = (host, port)
        self._carriers: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0
        self.carried = 0
        """Bytes, both ways."""

    def cut(self) -> None:
        """Whoever is connected now is connected no more; nobody says goodbye."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self._there)
        except OSError:
            writer.transport.abort()
            return
        self._writers.add(there_writer)
        for source, sink in ((reader, there_writer), (there_reader, writer)):
            carrier = asyncio.create_task(self._carry(source, sink))
            self._carriers.add(carrier)
            carrier.add_done_callback(self._carriers.discard)

    async def _carry(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                self.carried += len(data)
                sink.write(data)
                await sink.drain()
        sink.close()

    async def close(self) -> None:
        self.cut()
        while self._carriers:
            await asyncio.wait(set(self._carriers))


@asynccontextmanager
async def tcp_line_to(host: str, port: int) -> AsyncIterator[TcpLine]:
    """A line to ``host`` and ``port``, at ``port`` of 127.0.0.1."""
    line = TcpLine(host, port)
    listening = await asyncio.start_server(line.serve, "127.0.0.1", 0)
    line.port = listening.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        listening.close()
        await line.close()
        await listening.wait_closed()
