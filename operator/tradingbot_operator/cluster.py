"""The API server: the one place where the operator speaks to it.

Raw requests over the official client's connection, without its models: an object is what JSON has, what the operator
does not know passes unharmed, and a manifest is sent as it was built. Every error says what it means for the caller:

- ``Conflict``, ``Missing``, ``Gone``: look again;
- ``Refused``: the server has understood and says no; a person, or another manifest, must mend that;
- ``Busy``, ``Away``: later; ``Busy`` tells when.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio import config
from kubernetes.aio.client import ApiClient, Configuration

from tradingbot_operator.kinds import Kind, Manifest, kind_of
from tradingbot_operator.names import MANAGER

APPLY = "application/apply-patch+yaml"
MERGE = "application/merge-patch+json"

ANSWER_LIMIT = 30.0
"""Seconds for one answer: a server that is slow is waited for, one that is frozen is not."""

WATCH_FOR = 290
"""Seconds after which the server ends a watch by itself; it is taken up where it ended. Load balancers in between
often cut what is older than five minutes, without a word."""

OPENED = "OPENED"
"""The first thing that a watch tells: the server has taken it."""

PAGE = 100
"""Objects of a list in one answer."""

CONNECTIONS = 40
"""At once: a watch each of some fifteen kinds, and the writes of several bots."""


class ApiError(Exception):
    """What the API server, or the way to it, has answered."""


class Away(ApiError):
    """It can not be reached, does not answer, or fails itself."""


class Busy(ApiError):
    """It asks to be left alone for a while."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after
        """Seconds."""


class Conflict(ApiError):
    """The object is there already, or is not as it was."""


class Missing(ApiError):
    """There is no such object, or no such kind."""


class Gone(ApiError):
    """That version is too old to go on from: list anew."""


class Refused(ApiError):
    """Not allowed or not valid."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> ApiError:
    """What an answer of 400 and above means."""
    message = _message(body) or f"HTTP {status}"
    match status:
        case 404:
            return Missing(message)
        case 409:
            return Conflict(message)
        case 410:
            return Gone(message)
        case 429:
            return Busy(message, _retry_after(headers))
        case _ if status >= 500:
            return Busy(message, _retry_after(headers)) if "Retry-After" in headers else Away(message)
    return Refused(message, status)


def _message(body: bytes) -> str:
    try:
        status = msgspec.json.decode(body)
    except msgspec.DecodeError:
        return body[:200].decode(errors="replace").strip()
    return str(status.get("message", "")) if isinstance(status, dict) else ""


def _retry_after(headers: Mapping[str, str]) -> float:
    try:
        return max(float(headers.get("Retry-After", "1")), 0.1)
    except ValueError:
        return 1.0


async def configuration(kubeconfig: Path | None) -> Configuration:
    """Of ``kubeconfig`` (or ``KUBECONFIG``), or of the pod's service account. Raises ``ConfigException``."""
    found = Configuration()
    if kubeconfig is not None:
        await config.load_kube_config(config_file=str(kubeconfig), client_configuration=found)
    elif "KUBERNETES_SERVICE_HOST" in os.environ:
        config.load_incluster_config(client_configuration=found)
    else:
        await config.load_kube_config(client_configuration=found)
    found.connection_pool_maxsize = CONNECTIONS
    return found


class Cluster:
    """Close it after use."""

    def __init__(self, settings: Configuration) -> None:
        self._client = ApiClient(settings)
        self._client.user_agent = MANAGER
        self.writes = 0
        """Requests that may change something, ever."""
        self.requests: dict[tuple[str, int], int] = {}
        """By verb and status; 0: no answer."""

    async def close(self) -> None:
        await self._client.close()

    async def get(self, kind: Kind, namespace: str | None, name: str) -> Manifest | None:
        try:
            found: Manifest = await self._json("GET", kind.path(namespace, name))
        except Missing:
            return None
        return found

    async def apply(self, manifest: Manifest, *, force: bool = True) -> Manifest:
        """Server-side apply under our field manager. With ``force`` we take over what others have changed of what we
        say; without it that raises ``Conflict``."""
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta["namespace"], meta["name"])
        query = {"fieldManager": MANAGER, **({"force": "true"} if force else {})}
        found: Manifest = await self._json("PATCH", path, query, manifest, APPLY)
        return found

    async def apply_status(self, manifest: Manifest, manager: str) -> Manifest:
        """The fields of ``status`` that belong to ``manager``, all of them: what is left out is given up."""
        meta = manifest["metadata"]
        path = kind_of(manifest).path(meta["namespace"], meta["name"]) + "/status"
        found: Manifest = await self._json("PATCH", path, {"fieldManager": manager, "force": "true"}, manifest, APPLY)
        return found

    async def create(self, manifest: Manifest) -> Manifest:
        """Raises ``Conflict`` when it is there already."""
        path = kind_of(manifest).path(manifest["metadata"]["namespace"])
        found: Manifest = await self._json("POST", path, {"fieldManager": MANAGER}, manifest)
        return found

    async def merge(self, kind: Kind, namespace: str, name: str, patch: Manifest) -> Manifest:
        found: Manifest = await self._json(
            "PATCH", kind.path(namespace, name), {"fieldManager": MANAGER}, patch, MERGE
        )
        return found

    async def delete(self, kind: Kind, namespace: str, name: str, uid: str) -> bool:
        """That very object; whether it was there."""
        options = {
            "preconditions": {"uid": uid},
            "propagationPolicy": "Background",
        }
        try:
            await self._json("DELETE", kind.path(namespace, name), body=options)
        except (Missing, Conflict):
            return False
        return True

    async def pages(
        self, kind: Kind, namespace: str | None, selector: str = ""
    ) -> AsyncIterator[tuple[list[Manifest], str]]:
        """All of them, some at a time, for as Python's objects they take ten times as much as on the wire; with each
        page the version from which a watch goes on. Items lack ``apiVersion`` and ``kind``. Raises ``Gone`` when the
        server has forgotten the list before its end."""
        query = {"limit": str(PAGE), **({"labelSelector": selector} if selector else {})}
        while True:
            page = await self._json("GET", kind.path(namespace), query)
            yield page["items"] or [], page["metadata"]["resourceVersion"]
            more = page["metadata"].get("continue")
            if not more:
                return
            query["continue"] = more

    async def watch(
        self, kind: Kind, namespace: str | None, version: str, selector: str = ""
    ) -> AsyncIterator[tuple[str, Manifest]]:
        """``OPENED`` and nothing; then ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, and the object, until
        the server ends it. Raises ``Gone``."""
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": version,
            "timeoutSeconds": str(WATCH_FOR),
            **({"labelSelector": selector} if selector else {}),
        }
        limit = aiohttp.ClientTimeout(total=None, sock_connect=ANSWER_LIMIT, sock_read=WATCH_FOR + ANSWER_LIMIT)
        response = await self._send("GET", kind.path(namespace), query, None, "", limit)
        try:
            if response.status >= 400:
                raise error_of(response.status, response.headers, await _read(response))
            yield OPENED, {}
            async for line in _lines(response):
                event = _decoded(line)
                if event["type"] == "ERROR":
                    status = event["object"]
                    raise error_of(status.get("code", 500), {}, msgspec.json.encode(status))
                yield event["type"], event["object"]
        finally:
            response.close()

    async def log_tail(self, namespace: str, pod: str, container: str, lines: int, *, previous: bool) -> str:
        """The last lines that a container wrote."""
        path = f"/api/v1/namespaces/{namespace}/pods/{pod}/log"
        query = {"container": container, "tailLines": str(lines), "limitBytes": "16384"}
        if previous:
            query["previous"] = "true"
        return (await self._answer("GET", path, query)).decode(errors="replace")

    # --- one request -----------------------------------------------------------------------------------

    async def _json(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content: str = "application/json",
    ) -> Any:
        return _decoded(await self._answer(verb, path, query, body, content))

    async def _answer(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Manifest | None = None,
        content: str = "application/json",
    ) -> bytes:
        if verb != "GET":
            self.writes += 1
        limit = aiohttp.ClientTimeout(total=ANSWER_LIMIT)
        response = await self._send(verb, path, query, body, content, limit)
        try:
            found = await _read(response)
        finally:
            response.release()
        if response.status >= 400:
            raise error_of(response.status, response.headers, found)
        return found

    async def _send(
        self,
        verb: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Manifest | None,
        content: str,
        limit: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": "application/json", "User-Agent": MANAGER, "Content-Type": content or "application/json"}
        url = self._client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        try:
            await self._client.update_params_for_auth(headers, [], ["BearerToken"], path, verb, body)
            answer = await self._client.rest_client.request(
                verb, url, headers=headers, body=body, _request_timeout=limit
            )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._count(verb, 0)
            raise Away(f"the API server does not answer: {_why(error)}") from error
        response: aiohttp.ClientResponse = answer.response
        self._count(verb, response.status)
        return response

    def _count(self, verb: str, status: int) -> None:
        self.requests[verb, status] = self.requests.get((verb, status), 0) + 1


async def _read(response: aiohttp.ClientResponse) -> bytes:
    try:
        return await response.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Away(f"the API server's answer was cut: {_why(error)}") from error


def _decoded(answer: bytes) -> Any:
    try:
        return msgspec.json.decode(answer)
    except msgspec.DecodeError as error:
        # Of a proxy in between: what the server itself says is JSON.
        raise Away(f"what was answered is not JSON: {answer[:200].decode(errors='replace')!r}") from error


async def _lines(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Of any length: an object may be longer than any buffer."""
    rest = bytearray()
    try:
        async for chunk in response.content.iter_any():
            rest += chunk
            *whole, last = rest.split(b"\n")
            if whole:
                for line in whole:
                    if line:
                        yield bytes(line)
                rest = bytearray(last)
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise Away(f"the watch was cut: {_why(error)}") from error
    except asyncio.IncompleteReadError as error:
        raise Away("the watch was cut") from error


def _why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
