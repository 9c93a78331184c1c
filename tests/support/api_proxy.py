"""A way to the API server that fails on command: it refuses, throttles, delays, cuts watches and loses answers.

It stands on loopback between a client and the real server, speaks plain HTTP to the client, and passes the client's
own token on, so that identities and rights stay what they are.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from aiohttp import web
from yarl import URL

from support.loop_thread import LoopThread, break_off

_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "upgrade"})
"""Headers of one connection; they are not passed on."""

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

_WRITES = frozenset(_VERBS.values())

LARGEST = 8 * 2**20
"""Bytes of a request's body."""


class Asked(msgspec.Struct, frozen=True):
    """A request, in the words of RBAC."""

    verb: str
    resource: str
    """Plural, without its group."""
    name: str
    subresource: str


class Fault:
    """What becomes of the next ``times`` requests that match; empty words match everything."""

    def __init__(self, times: int, verb: str, resource: str, subresource: str, **what: Any) -> None:
        self.left = times
        self.what = what
        self._verb, self._resource, self._subresource = verb, resource, subresource

    @property
    def spent(self) -> bool:
        return self.left <= 0

    def meets(self, asked: Asked) -> bool:
        return (
            not self.spent
            and self._verb in ("", asked.verb)
            and self._resource in ("", asked.resource)
            and self._subresource in ("", asked.subresource)
        )


def asked_of(method: str, path: str, is_watch: bool) -> Asked:
    """``/apis/apps/v1/namespaces/x/deployments/y/status`` and its like."""
    parts = [part for part in path.split("/") if part]
    rest = parts[2:] if parts[:1] == ["api"] else parts[3:] if parts[:1] == ["apis"] else []
    if len(rest) > 2 and rest[0] == "namespaces":
        rest = rest[2:]
    resource, name, subresource = (*rest, "", "", "")[:3]
    verb = _VERBS.get(method) or ("watch" if is_watch else "get" if name else "list")
    return Asked(verb, resource, name, subresource)


class ApiProxy:
    """Its ``url`` is the server of ``kubeconfig_of``. Close it at the end."""

    def __init__(self, kubeconfig: Path) -> None:
        """``kubeconfig``: of a client with a token."""
        self._access: dict[str, Any] = json.loads(kubeconfig.read_text())
        cluster = self._access["clusters"][0]["cluster"]
        self._upstream = str(cluster["server"])
        self._trusted = ssl.create_default_context(cafile=cluster.get("certificate-authority"), cadata=_data(cluster))
        self._thread = LoopThread("api-proxy")
        self._faults: list[Fault] = []
        self._watches: dict[asyncio.Task[Any], tuple[Asked, Callable[[], None]]] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self.seen: list[Asked] = []
        """Every request that came, in its order."""
        self._frozen = threading.Event()
        self._until_frozen = 0
        """Writes; 0: never."""
        self._port = 0
        self._thread.wait_for(self._start())

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def kubeconfig(self, file: Path) -> Path:
        """The client's own, but for the server; written to ``file``."""
        cluster = {"name": self._access["clusters"][0]["name"], "cluster": {"server": self.url}}
        file.touch(mode=0o600)
        file.write_text(json.dumps({**self._access, "clusters": [cluster]}))
        return file

    def close(self) -> None:
        self._thread.wait_for(self._stop())
        self._thread.close()

    # --- what a test commands ------------------------------------------------------------------------------

    def answer(
        self,
        status: int,
        times: int = 1,
        *,
        verb: str = "",
        resource: str = "",
        subresource: str = "",
        retry_after: int | None = None,
    ) -> Fault:
        """Instead of asking the server."""
        return self._add(Fault(times, verb, resource, subresource, status=status, retry_after=retry_after))

    def delay(
        self, seconds: float, times: int, *, verb: str = "", resource: str = "", subresource: str = ""
    ) -> Fault:
        """Answers come so much later."""
        return self._add(Fault(times, verb, resource, subresource, delay=seconds))

    def lose(self, times: int = 1, *, verb: str = "", resource: str = "", subresource: str = "") -> Fault:
        """The server carries it out; the client's connection breaks before it hears of it."""
        return self._add(Fault(times, verb, resource, subresource, lose=True))

    def open_watches(self, resource: str = "") -> int:
        """Those that the server answered, and that go on."""
        return self._thread.do(lambda: sum(resource in ("", asked.resource) for asked, _ in self._watches.values()))

    def cut_watches(self, resource: str = "") -> int:
        """The connections of those that are open break; how many."""
        return self._thread.do(lambda: self._end_watches(resource, expired=False))

    def expire_watches(self, resource: str = "") -> int:
        """Those that are open are told that their version is too old (410 Gone), and end; how many."""
        return self._thread.do(lambda: self._end_watches(resource, expired=True))

    @contextmanager
    def away(self) -> Iterator[None]:
        """Nobody listens, and what is open breaks."""
        self._thread.wait_for(self._leave())
        try:
            yield
        finally:
            self._thread.wait_for(self._listen())

    def freeze_at_write(self, number: int) -> threading.Event:
        """The server carries that write out, and nobody hears anything from then on: a moment to kill the client.
        The event tells that it has come."""

        def begin() -> threading.Event:
            self._frozen.clear()
            self._until_frozen = number
            return self._frozen

        return self._thread.do(begin)

    def clear(self) -> None:
        """No faults any more."""

        def mend() -> None:
            self._faults.clear()
            self._frozen.clear()
            self._until_frozen = 0

        self._thread.do(mend)

    # --- the proxy -----------------------------------------------------------------------------------------

    def _add(self, fault: Fault) -> Fault:
        self._thread.do(lambda: self._faults.append(fault))
        return fault

    async def _start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self._trusted, limit=0),
            timeout=aiohttp.ClientTimeout(total=None),
            auto_decompress=False,
            skip_auto_headers=("Accept-Encoding", "User-Agent"),
        )
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{path:.*}", self._pass)
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, handler_cancellation=True, shutdown_timeout=1.0
        )
        await self._runner.setup()
        await self._listen()

    async def _stop(self) -> None:
        self._break_all()
        await self._runner.cleanup()
        await self._session.close()

    async def _listen(self) -> None:
        self._site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await self._site.start()
        self._port = self._runner.addresses[0][1]

    async def _leave(self) -> None:
        await self._site.stop()
        self._break_all()

    def _break_all(self) -> None:
        server = self._runner.server
        assert server is not None
        for connection in server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    def _end_watches(self, resource: str, *, expired: bool) -> int:
        found = [task for task, (asked, _) in self._watches.items() if resource in ("", asked.resource)]
        for task in found:
            if expired:
                self._expired.add(task)
                task.cancel()
            else:
                self._watches[task][1]()
        return len(found)

    async def _pass(self, request: web.Request) -> web.StreamResponse:
        asked = asked_of(request.method, request.path, request.query.get("watch") in ("1", "true"))
        self.seen.append(asked)
        fault = next((each for each in self._faults if each.meets(asked)), None)
        what: dict[str, Any] = {}
        if fault is not None:
            fault.left -= 1
            what = fault.what
        if self._frozen.is_set():
            await _for_ever()
        freezes = self._until_frozen == 1 and asked.verb in _WRITES
        if asked.verb in _WRITES and self._until_frozen:
            self._until_frozen -= 1
        if "status" in what:
            return _refusal(what["status"], what["retry_after"])
        body = await request.read()
        headers = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP]
        url = URL(self._upstream + request.raw_path, encoded=True)
        answer = await self._session.request(request.method, url, headers=headers, data=body or None)
        try:
            if freezes:
                await answer.read()
                self._frozen.set()
                await _for_ever()
            if what.get("lose"):
                await answer.read()
                _break(request)
                return web.Response()
            await asyncio.sleep(what.get("delay", 0))
            return await self._answer(request, asked, answer)
        finally:
            break_off(answer)

    async def _answer(self, request: web.Request, asked: Asked, answer: aiohttp.ClientResponse) -> web.StreamResponse:
        response = web.StreamResponse(status=answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _HOP:
                response.headers.add(name, value)
        try:
            await response.prepare(request)
            if asked.verb == "watch":
                await self._stream(asked, request, answer, response)
            else:
                await response.write(await answer.read())
        except ConnectionResetError:
            # The client has gone.
            _break(request)
        return response

    async def _stream(
        self, asked: Asked, request: web.Request, answer: aiohttp.ClientResponse, response: web.StreamResponse
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._watches[task] = (asked, lambda: _break(request))
        try:
            async for chunk in answer.content.iter_any():
                await response.write(chunk)
        except asyncio.CancelledError:
            if task not in self._expired:
                raise
            task.uncancel()
            gone = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 410, "reason": "Expired"}
            event = {"type": "ERROR", "object": {**gone, "message": "too old resource version"}}
            await response.write(json.dumps(event).encode() + b"\n")
        finally:
            self._watches.pop(task, None)
            self._expired.discard(task)


async def _for_ever() -> None:
    """Until the client has gone: then its handler is cancelled."""
    await asyncio.Event().wait()


def _break(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _refusal(status: int, retry_after: int | None) -> web.Response:
    body = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status, "message": "by the test"}
    return web.json_response(
        body, status=status, headers={} if retry_after is None else {"Retry-After": str(retry_after)}
    )


def _data(cluster: dict[str, Any]) -> str | None:
    data = cluster.get("certificate-authority-data")
    return None if data is None else base64.b64decode(data).decode()
