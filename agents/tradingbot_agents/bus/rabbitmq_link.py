"""One connection to RabbitMQ that is kept up: opened again, with growing pauses, for as long as it is wanted.

The library's own reconnecting connection restores consumers behind the back of whoever holds their messages. Here a
lost connection is a fact that its users see: what was not acknowledged is forgotten, and comes again.

Where the library closes a channel it cancels what waits on it, which looks like a cancelled caller. ``apart`` and
``handed_over`` keep the two apart: the end of the channel is ``LinkLost`` for the caller.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import msgspec
from aio_pika.abc import AbstractChannel, AbstractConnection
from aio_pika.connection import Connection, make_url
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError

T = TypeVar("T")

ANSWER_LIMIT = 15.0
"""Seconds for one answer of the broker. A queue's leader may be elected meanwhile; longer is a fault."""

HEARTBEAT = 10
"""Seconds: a connection that is open and silent counts as lost after some three of them."""

TELLS = (ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError)
"""What the broker says about a queue or a message, and not about the connection."""

_LOST = (AMQPError, RuntimeError, OSError, TimeoutError)


class LinkLost(Exception):
    """The connection or a channel of it is no more."""


class Pauses(msgspec.Struct, frozen=True):
    """Between attempts."""

    first: timedelta
    longest: timedelta

    def pause(self, attempt: int) -> timedelta:
        """Before the attempt after number ``attempt`` (from 1): doubled each time, up to the longest."""
        # The exponent is bounded, for an outage may last for days.
        return min(self.first * int(2 ** min(attempt - 1, 30)), self.longest)


async def apart(work: Coroutine[Any, Any, T] | Awaitable[T], limit: float | None = ANSWER_LIMIT) -> T:
    """The result of a call of the library, in a task of its own: one that does not end when it is cancelled is left
    behind. Raises ``LinkLost``, also after ``limit`` seconds, or one of ``TELLS``."""
    task = asyncio.ensure_future(work)
    task.add_done_callback(_seen)
    try:
        await asyncio.wait({task}, timeout=limit)
    except asyncio.CancelledError:
        task.cancel()
        raise
    if not task.done():
        task.cancel()
        raise LinkLost(f"RabbitMQ gave no answer within {limit:g} s")
    if task.cancelled():
        raise LinkLost("the connection to RabbitMQ was lost")
    error = task.exception()
    if error is None:
        return task.result()
    if _is_lost(error):
        raise LinkLost(why(error)) from error
    raise error


async def handed_over(work: Awaitable[T]) -> T:
    """Like ``apart``, for what is done for every message: without a limit, and without a task, which costs as much as
    the call. For calls that end at once when they are cancelled."""
    task = asyncio.current_task()
    cancelled = task.cancelling() if task is not None else 0
    try:
        return await work
    except asyncio.CancelledError as error:
        if task is None or task.cancelling() > cancelled:
            raise
        raise LinkLost("the connection to RabbitMQ was lost") from error
    except Exception as error:
        if _is_lost(error):
            raise LinkLost(why(error)) from error
        raise


def _is_lost(error: BaseException) -> bool:
    # Where it has no better reason, the library ends what waits with a bare Exception.
    return not isinstance(error, TELLS) and (isinstance(error, _LOST) or type(error) is Exception)


def why(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _seen(task: asyncio.Future[Any]) -> None:
    """Its outcome is known, also where nobody waits any more."""
    if not task.cancelled():
        task.exception()


async def opened_channel(connection: AbstractConnection, *, confirms: bool = False) -> AbstractChannel:
    """Raises ``LinkLost``."""
    try:
        channel = connection.channel(publisher_confirms=confirms, on_return_raises=confirms)
    except RuntimeError as error:
        raise LinkLost(why(error)) from error
    await apart(channel.initialize())
    return channel


async def closed_channel(channel: AbstractChannel) -> None:
    """Close it, if it is open; what it held unacknowledged goes back to its place."""
    if not channel.is_closed:
        with suppress(LinkLost):
            await apart(channel.close())


def new_connection(url: str, name: str) -> Connection:
    """Not connected yet. Raises ``LinkLost`` without the address, which may hold a password."""
    try:
        address = make_url(url, heartbeat=HEARTBEAT)
        known = address.scheme in ("amqp", "amqps") and bool(address.host)
    except ValueError:
        known = False
    if not known:
        raise LinkLost("the address of RabbitMQ can not be understood: write amqp://user:password@host:port/vhost")
    return Connection(address, client_properties={"connection_name": name})


class Link:
    def __init__(
        self,
        url: Callable[[], str],
        name: str,
        *,
        limit: timedelta,
        pauses: Pauses,
        on_away: Callable[[int, str], None],
        prepare: Callable[[AbstractConnection], Awaitable[None]] | None = None,
    ) -> None:
        """``url`` is asked before every attempt, so that a rotated password is taken up; ``limit`` is for one
        attempt; ``prepare`` readies a new connection before anybody uses it; ``on_away`` is told of attempts that
        failed in a row, and why."""
        self._url = url
        self._name = name
        self._limit = limit.total_seconds()
        self._pauses = pauses
        self._prepare = prepare
        self._on_away = on_away
        self._connection: Connection | None = None
        self._up = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        # The library logs every lost connection with its traceback; here that is an event, told once.
        for logger in ("aiormq", "aio_pika"):
            logging.getLogger(logger).setLevel(logging.CRITICAL)

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_up(), name=f"rabbitmq {self._name}")

    @property
    def is_up(self) -> bool:
        return self._up.is_set()

    async def connection(self) -> AbstractConnection:
        """The one of now, as soon as there is one."""
        while True:
            await self._up.wait()
            if self._connection is not None:
                return self._connection

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
            self._task = None

    async def _keep_up(self) -> None:
        attempt = 0
        while True:
            lost = asyncio.Event()
            try:
                connection = await self._open(lost)
            except Exception as error:
                # Whatever it is, a supervisor could do no better than try again, and people are told.
                attempt += 1
                self._on_away(attempt, str(error) if isinstance(error, LinkLost) else why(error))
                await asyncio.sleep(self._pauses.pause(attempt).total_seconds())
                continue
            attempt = 1
            self._connection = connection
            self._up.set()
            try:
                await lost.wait()
            finally:
                self._up.clear()
                self._connection = None
                await self._shut(connection)
            self._on_away(attempt, "the connection was lost")
            await asyncio.sleep(self._pauses.pause(attempt).total_seconds())

    async def _open(self, lost: asyncio.Event) -> Connection:
        connection = new_connection(self._url(), self._name)
        try:
            connection.close_callbacks.add(lambda *_: lost.set())
            await apart(connection.connect(timeout=self._limit), self._limit)
            if self._prepare is not None:
                await self._prepare(connection)
        except BaseException:
            await self._shut(connection)
            raise
        return connection

    async def _shut(self, connection: Connection) -> None:
        """Free what it holds. Also one that never opened or is long lost: its destructor would do it, later."""
        with suppress(LinkLost):
            await apart(connection.close(), self._limit)
