"""Where messages go, on loopback: a web server, a mail server, and Telegram behind a proxy. Each notes what came."""

from __future__ import annotations

import asyncio
import email
import email.message
import email.policy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec
from aiohttp import web

from support.certificates import Authority


class Request(msgspec.Struct, frozen=True):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class WebReceiver:
    """Answers with ``statuses``, one a request, and the last one again and again."""

    def __init__(self) -> None:
        self.port = 0
        self.statuses = [200]
        self.headers: dict[str, str] = {}
        self.got: list[Request] = []

    def url(self, path: str = "/hook", user: str = "") -> str:
        return f"http://{f'{user}@' if user else ''}127.0.0.1:{self.port}{path}"

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append(Request(request.method, request.path_qs, dict(request.headers), await request.read()))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status, headers=self.headers, text='{"ok": true}')


@asynccontextmanager
async def web_receiver() -> AsyncIterator[WebReceiver]:
    receiver = WebReceiver()
    async with _serving(receiver, None) as receiver.port:
        yield receiver


@asynccontextmanager
async def _serving(receiver: WebReceiver, context: ssl.SSLContext | None) -> AsyncIterator[int]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        port: int = runner.addresses[0][1]
        yield port
    finally:
        await runner.cleanup()


@asynccontextmanager
async def telegram_receiver(folder: Path) -> AsyncIterator[tuple[WebReceiver, dict[str, str]]]:
    """Telegram's server, and the environment in which a process takes it for that."""
    authority = Authority(folder, "telegram-authority")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*authority.sign("api.telegram.org"))
    receiver = WebReceiver()
    async with _serving(receiver, context) as receiver.port, _proxy(receiver.port) as port:
        proxy = f"http://127.0.0.1:{port}"
        yield receiver, {"HTTPS_PROXY": proxy, "https_proxy": proxy, "REQUESTS_CA_BUNDLE": str(authority.file)}


@asynccontextmanager
async def _proxy(target: int) -> AsyncIterator[int]:
    """Leads everybody to ``target``, whatever they ask for."""
    tasks: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.write_eof()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        await reader.readuntil(b"\r\n\r\n")
        there, back = await asyncio.open_connection("127.0.0.1", target)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            for each in (writer, back):
                each.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port: int = server.sockets[0].getsockname()[1]
        yield port
    finally:
        server.close()
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class MailReceiver:
    """Speaks as much SMTP as a sender needs. ``refuses`` is its answer to each recipient, if it takes none."""

    def __init__(self) -> None:
        self.port = 0
        self.refuses: bytes | None = None
        self.got: list[email.message.EmailMessage] = []
        self.recipients: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async def say(line: bytes) -> None:
            writer.write(line + b"\r\n")
            await writer.drain()

        with suppress(OSError, asyncio.IncompleteReadError):
            await say(b"220 mail.test")
            while line := await reader.readline():
                verb = line[:4].upper()
                if verb == b"DATA":
                    await say(b"354 go on")
                    data = await reader.readuntil(b"\r\n.\r\n")
                    found = email.message_from_bytes(data[:-3], policy=email.policy.default)
                    assert isinstance(found, email.message.EmailMessage)
                    self.got.append(found)
                    await say(b"250 taken")
                elif verb == b"RCPT" and self.refuses is not None:
                    await say(self.refuses)
                elif verb == b"RCPT":
                    self.recipients.append(line.decode().partition("<")[2].partition(">")[0])
                    await say(b"250 well")
                elif verb == b"EHLO":
                    await say(b"250 mail.test")
                else:
                    await say(b"221 bye" if verb == b"QUIT" else b"250 well")
                    if verb == b"QUIT":
                        break
        writer.transport.abort()


@asynccontextmanager
async def mail_receiver() -> AsyncIterator[MailReceiver]:
    receiver = MailReceiver()
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()
        await server.wait_closed()
