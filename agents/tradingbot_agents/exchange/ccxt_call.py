"""One call through ccxt: its class made so that every call leaves a trace of what was sent and answered.

ccxt's errors alone do not tell whether an order may exist: the same class comes up before a request is sent, as the
exchange's refusal, and while an answer of success is read. So what happened is noted on the way.
"""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections.abc import Mapping
from contextvars import ContextVar
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.values import to_millis
from tradingbot_agents.exchange.ccxt_dialects import Dialect
from tradingbot_agents.exchange.ccxt_import import exchange_class
from tradingbot_agents.exchange.ccxt_mapping import Unreadable
from tradingbot_agents.exchange.port import ExchangeError

MILLISECOND = timedelta(milliseconds=1)

# ccxt writes every request with its key and signature at DEBUG: whoever turns that on for everything must not get it.
_ccxt_log = logging.getLogger(f"{__name__}.ccxt")
_ccxt_log.setLevel(logging.WARNING)


class Trace:
    """What happened in one call, as far as it matters for its outcome."""

    __slots__ = ("body", "followed", "headers", "judged", "sent", "sent_any", "status")

    def __init__(self) -> None:
        self.sent = False
        self.sent_any = False
        self.followed = False
        self.judged = False
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.body: Any = None

    def begin(self, method: str) -> None:
        """Another request of the same call: what the one before it was answered counts no more. A GET sends nothing
        that could be done: some exchanges are asked for the account's kind before an order is sent."""
        self.followed = self.sent
        self.sent = self.sent or method != "GET"
        self.sent_any = True
        self.judged = False
        self.status = None
        self.headers = {}
        self.body = None


TRACE: ContextVar[Trace | None] = ContextVar("ccxt_call", default=None)


class NoTurn(Exception):
    """The call waited too long for its turn among the requests that the exchange's limits allow."""


def make_exchange(
    name: str,
    *,
    dialect: Dialect,
    clock: Clock,
    endpoint: str | None,
    testnet: bool,
    patience: timedelta,
    receive_window: timedelta,
    streams: bool,
) -> Any:
    """An instance of ccxt's class that tells its traces. Raises ``UnknownExchange`` or ``ExchangeError``."""
    made = traced_class(exchange_class(name, streams), patience, clock)(
        {
            "enableRateLimit": True,
            "timeout": patience // MILLISECOND,
            "logger": _ccxt_log,
            "timeout_on_exit": 0,
            "enableLastHttpResponse": False,
            "enableLastResponseHeaders": False,
            "rateLimiterAlgorithm": "rollingWindow" if dialect.bursts else "leakyBucket",
            "options": {
                **dialect.options,
                **({"recvWindow": receive_window // MILLISECOND} if dialect.receive_window else {}),
            },
        }
    )
    if testnet:
        try:
            made.set_sandbox_mode(True)
        except Exception as error:
            raise ExchangeError(
                f"{name} has no testnet ({type(error).__name__}); use mode paper, or another exchange"
            ) from None
    if endpoint is not None:
        made.urls["api"] = redirected(made.urls["api"], endpoint)
    return made


def redirected(address: Any, endpoint: str) -> Any:
    """ccxt's addresses (one, or a tree of them) with ``endpoint`` in place of scheme and host. Streams keep theirs:
    ``ws`` for ``http``, ``wss`` for ``https``."""
    if isinstance(address, Mapping):
        return {name: redirected(part, endpoint) for name, part in address.items()}
    if not isinstance(address, str):
        return address
    old, base = urlsplit(address), urlsplit(endpoint)
    scheme = base.scheme
    if old.scheme in ("ws", "wss"):
        scheme = "wss" if base.scheme == "https" else "ws"
    return urlunsplit((scheme, base.netloc, base.path.rstrip("/") + old.path, old.query, old.fragment))


def traced_class(cls: Any, patience: timedelta, clock: Clock) -> Any:
    """``cls`` with numbers as strings and our clock, a note of what each call sent and was answered, and a limit to
    how long a call waits for its turn: an order must not leave when nobody waits for it any more."""

    def open_session(self: Any, lazy: bool = False) -> None:
        if self.session is not None:
            cls.open(self, lazy)
            return
        with warnings.catch_warnings():
            # ccxt asks aiohttp for something that newer Pythons have made needless, and aiohttp says so each time.
            warnings.filterwarnings("ignore", "enable_cleanup_closed", DeprecationWarning)
            cls.open(self, lazy)

    async def throttle(self: Any, cost: Any = None) -> Any:
        try:
            async with asyncio.timeout(patience.total_seconds()):
                return await cls.throttle(self, cost)
        except TimeoutError:
            raise NoTurn(f"not sent: no turn within {patience.total_seconds():g} s at the exchange's limit") from None

    async def fetch(self: Any, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
        trace = TRACE.get()
        if trace is not None:
            trace.begin(method)
        answer = await cls.fetch(self, url, method, headers, body)
        if not isinstance(answer, dict | list):
            # ccxt reads a list of nothing out of a text, and "no open orders" would be believed.
            raise Unreadable("the exchange's answer is no JSON")
        return answer

    def handle_errors(
        self: Any, code: int, reason: str, url: str, method: str, headers: Any, body: str, response: Any, *rest: Any
    ) -> Any:
        trace = TRACE.get()
        if trace is not None:
            trace.status, trace.headers, trace.body = code, headers or {}, response
        try:
            return cls.handle_errors(self, code, reason, url, method, headers, body, response, *rest)
        except Exception:
            if trace is not None:
                trace.judged = True
            raise

    def handle_http_status_code(self: Any, code: int, reason: str, url: str, method: str, body: str) -> Any:
        try:
            return cls.handle_http_status_code(self, code, reason, url, method, body)
        except Exception:
            trace = TRACE.get()
            if trace is not None:
                trace.judged = True
            raise

    def on_connected(self: Any, client: Any, message: Any = None) -> None:
        self.stream_connections += 1
        cls.on_connected(self, client, message)

    return type(
        cls.__name__,
        (cls,),
        {
            "stream_connections": 0,
            "on_connected": on_connected,
            "number": str,
            "milliseconds": staticmethod(lambda: to_millis(clock.now())),
            "open": open_session,
            "throttle": throttle,
            "fetch": fetch,
            "handle_errors": handle_errors,
            "handle_http_status_code": handle_http_status_code,
        },
    )
