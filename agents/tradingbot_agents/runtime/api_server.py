"""The API server of the Kubernetes cluster that this process runs in, for the few requests that our programs make.

Each request makes its own connection, for there are few of them, and so a token or a CA that was exchanged in the
mounted folder is taken up by itself. No Kubernetes client is loaded for them.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from tradingbot_agents.runtime.connections import ConnectionsInvalid

if TYPE_CHECKING:
    import aiohttp

_FOLDER = "/var/run/secrets/kubernetes.io/serviceaccount"
"""Where a cluster mounts the token and the CA of a pod's service account."""

_ANSWER_SECONDS = 10.0
_SILENT_SECONDS = 30.0
"""Of an answer that is long: between two parts of it. A node reads through a log before it says the first word."""

_LONGEST_ANSWER = 2**24
_LONGEST_MESSAGE = 300


class ApiUnavailable(Exception):
    """The API server did not do it. The text says why, and holds no secret."""


class ClusterAccess(msgspec.Struct, frozen=True, kw_only=True):
    """How this process reaches its TradingBot."""

    server: str
    """``https://HOST:PORT``"""
    namespace: str
    folder: Path
    """Has ``token`` and ``ca.crt``."""
    revision: str | None
    """The pinned revision that the pod runs."""


def read_access(environment: Mapping[str, str]) -> ClusterAccess | None:
    """``None``: this process is in no cluster, or has nothing to do there. Raises ``ConnectionsInvalid``."""
    if environment.get("TRADINGBOT_KUBERNETES") != "1":
        return None
    names = ("TRADINGBOT_NAMESPACE", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT")
    missing = [name for name in names if not environment.get(name)]
    if missing:
        raise ConnectionsInvalid(
            f"TRADINGBOT_KUBERNETES is 1, but {', '.join(missing)} is not set: set it, or unset TRADINGBOT_KUBERNETES"
        )
    namespace, host, port = (environment[name] for name in names)
    return ClusterAccess(
        server=f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}",
        namespace=namespace,
        folder=Path(environment.get("TRADINGBOT_SERVICE_ACCOUNT_DIR") or _FOLDER),
        revision=environment.get("TRADINGBOT_REVISION") or None,
    )


class ApiServer:
    """All of its methods raise ``ApiUnavailable``, and nothing else."""

    def __init__(self, access: ClusterAccess) -> None:
        self._access = access

    async def get(self, path: str, query: Mapping[str, str] | None = None) -> bytes:
        """The whole answer."""
        parts: list[bytes] = []
        if not await self._read("GET", path, query or {}, parts.append, most=_LONGEST_ANSWER):
            raise ApiUnavailable(f"the API server's answer is longer than {_LONGEST_ANSWER} bytes")
        return b"".join(parts)

    async def apply(self, path: str, query: Mapping[str, str], manifest: Mapping[str, Any]) -> None:
        """Server-side."""
        body = msgspec.json.encode(manifest)
        headers = {"Content-Type": "application/apply-patch+yaml"}
        async with self._asked("PATCH", path, query, body=body, headers=headers):
            pass

    async def create(self, path: str, manifest: Mapping[str, Any]) -> None:
        body = msgspec.json.encode(manifest)
        async with self._asked("POST", path, {}, body=body, headers={"Content-Type": "application/json"}):
            pass

    async def pour(self, path: str, query: Mapping[str, str], into: Callable[[bytes], None], *, most: int) -> bool:
        """A long answer, part by part, and no more than ``most`` bytes of it. Returns whether that was all."""
        return await self._read("GET", path, query, into, most=most, patient=True)

    async def _read(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        into: Callable[[bytes], None],
        *,
        most: int,
        patient: bool = False,
    ) -> bool:
        left = most
        async with self._asked(method, path, query, patient=patient) as answer:
            async for part in answer.content.iter_any():
                into(part[:left])
                left -= len(part)
                if left < 0:
                    return False
        return True

    @asynccontextmanager
    async def _asked(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        import aiohttp
        from aiohttp.connector import NEEDS_CLEANUP_CLOSED

        seconds = _SILENT_SECONDS if patient else _ANSWER_SECONDS
        limit = (
            aiohttp.ClientTimeout(total=None, connect=_ANSWER_SECONDS, sock_read=seconds)
            if patient
            else aiohttp.ClientTimeout(total=seconds)
        )
        try:
            token = (self._access.folder / "token").read_text(encoding="utf-8").strip()
            trusted = ssl.create_default_context(cafile=str(self._access.folder / "ca.crt"))
            async with (
                # Of a request that is given up before its answer, the end would be a polite one as well.
                aiohttp.TCPConnector(enable_cleanup_closed=NEEDS_CLEANUP_CLOSED) as connector,
                aiohttp.ClientSession(timeout=limit, connector=connector) as session,
                session.request(
                    method,
                    self._access.server + path,
                    params=query,
                    data=body,
                    headers={"Authorization": f"Bearer {token}", "Accept": "application/json", **(headers or {})},
                    ssl=trusted,
                    allow_redirects=False,
                ) as answer,
            ):
                try:
                    if answer.status >= 300:
                        words = _message(await answer.content.read(_LONGEST_ANSWER))
                        raise ApiUnavailable(f"the API server says {answer.status}: {words}")
                    yield answer
                finally:
                    _break_off(answer)
        except TimeoutError as error:
            raise ApiUnavailable(f"the API server did not answer within {seconds:g} s") from error
        except aiohttp.ClientConnectorCertificateError as error:
            raise ApiUnavailable(f"the API server's certificate is not trusted: {error.certificate_error}") from error
        except aiohttp.ClientConnectorError as error:
            raise ApiUnavailable(f"{self._access.server} can not be reached: {error.os_error}") from error
        # Also a missing token, a CA that is none, and a name that is not one of a host.
        except (OSError, ValueError, aiohttp.ClientError) as error:
            raise ApiUnavailable(f"{type(error).__name__}: {error}") from error


def _break_off(answer: aiohttp.ClientResponse) -> None:
    """Of an answer that was not read to its end: a polite end of TLS waits for the peer, and maybe for longer than
    the loop is there."""
    if answer.connection is not None and answer.connection.transport is not None:
        answer.connection.transport.abort()


def _message(body: bytes) -> str:
    try:
        found = msgspec.json.decode(body, type=dict[str, Any]).get("message")
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    return str(found or "without a reason")[:_LONGEST_MESSAGE]
