"""A TCP line to PostgreSQL that knows its messages, so that it can be cut between exactly two of them."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

Server = Path | tuple[str, int]
"""A Unix socket, or host and port."""

_SSL_REQUEST = 80877103
_HEAD = 5


class Wire:
    """``server`` may be changed while it runs: who comes later is led there, as by a name after a failover."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.port = 0
        self.exchanges = 0
        """Requests that wait for an answer (a query, or the end of a pipeline), sent so far."""
        self.cuts = 0
        self._cut_request: int | None = None
        self._cut_answer: int | None = None
        self._answers = 0
        self._carriers: set[asyncio.Task[None]] = set()
        self._ends: list[asyncio.StreamWriter] = []

    def cut_request(self, number: int) -> None:
        """Break the line before the request that is ``number`` from now (1: the next) is whole at the server."""
        self._cut_request = self.exchanges + number

    def cut_answer(self, number: int) -> None:
        """Break the line in place of the answer that is ``number`` from now: what was asked is done."""
        self._cut_answer = self._answers + number

    def cut_all(self) -> None:
        for end in self._ends:
            end.transport.abort()
        self._ends.clear()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self.server, Path):
                there_reader, there_writer = await asyncio.open_unix_connection(self.server)
            else:
                there_reader, there_writer = await asyncio.open_connection(*self.server)
        except OSError:
            writer.transport.abort()
            return
        ends = (writer, there_writer)
        self._ends += ends
        asks_for_tls = await self._greet(reader, writer, there_reader, there_writer)
        if not asks_for_tls:
            self._carry(self._to_server(reader, there_writer, ends))
            self._carry(self._to_client(there_reader, writer, ends))

    async def _greet(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        there_reader: asyncio.StreamReader,
        there_writer: asyncio.StreamWriter,
    ) -> bool:
        """Whether the client has gone because it was refused TLS."""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await reader.readexactly(8)
                length, code = struct.unpack("!ll", head)
                there_writer.write(head + await reader.readexactly(length - 8))
                if code != _SSL_REQUEST:
                    return False
                writer.write(await there_reader.readexactly(1))
        writer.close()
        there_writer.close()
        return True

    def _carry(self, work: Awaitable[None]) -> None:
        carrier = asyncio.ensure_future(work)
        self._carriers.add(carrier)
        carrier.add_done_callback(self._carriers.discard)

    async def _to_server(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, ends: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        def passes(kind: bytes) -> bool:
            if kind in (b"Q", b"S"):
                self.exchanges += 1
                return self.exchanges != self._cut_request
            return True

        await self._pass_on(source, sink, ends, passes)

    async def _to_client(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, ends: tuple[asyncio.StreamWriter, ...]
    ) -> None:
        def passes(kind: bytes) -> bool:
            if kind == b"Z":
                self._answers += 1
                return self._answers != self._cut_answer
            return True

        # That it is done arrives together with the end of the answer, or not at all.
        await self._pass_on(source, sink, ends, passes, held=b"C")

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, ...],
        passes: Callable[[bytes], bool],
        held: bytes | None = None,
    ) -> None:
        waiting = b""
        with suppress(asyncio.IncompleteReadError, OSError):
            while True:
                head = await source.readexactly(_HEAD)
                kind = head[:1]
                message = head + await source.readexactly(struct.unpack("!l", head[1:])[0] - 4)
                if not passes(kind):
                    self.cuts += 1
                    for end in ends:
                        end.transport.abort()
                    return
                waiting += message
                if kind != held:
                    sink.write(waiting)
                    await sink.drain()
                    waiting = b""
        if waiting:
            sink.write(waiting)
        sink.close()

    async def close(self) -> None:
        for carrier in self._carriers:
            carrier.cancel()
        await asyncio.gather(*self._carriers, return_exceptions=True)
        self.cut_all()


@asynccontextmanager
async def wire_to(server: Server) -> AsyncIterator[Wire]:
    wire = Wire(server)
    listening = await asyncio.start_server(wire.serve, "127.0.0.1", 0)
    wire.port = listening.sockets[0].getsockname()[1]
    try:
        yield wire
    finally:
        listening.close()
        await wire.close()
        await listening.wait_closed()
