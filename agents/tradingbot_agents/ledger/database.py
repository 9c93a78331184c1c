"""Connections to PostgreSQL, and what their failures mean: try again, give up for now, or say it.

Every call of the ledger is idempotent, so a call whose connection broke is repeated without anybody noticing: once,
or, where the server is our own to bring back, after that. It is safe also when the first attempt was committed and
only its answer got lost: the second one finds it done and answers so. (``claim`` then answers ``None``; its order
is ``submitting`` and is looked up at the exchange.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

import asyncpg

from tradingbot_agents.ledger.port import Epoch, Fenced, LedgerError, LedgerUnavailable

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"
T = TypeVar("T")

SESSION = {
    "application_name": "tradingbot",
    "timezone": "UTC",
    "jit": "off",
    # Each statement of ours finds its rows by an index. A plan that is made while the tables are empty would scan
    # them, and stay until they are analysed: in a quick replay that is a million rows later.
    "enable_seqscan": "off",
    # The planner takes a plan made for one set of values for a little cheaper, and would make one for each call.
    "plan_cache_mode": "force_generic_plan",
}
"""Settings of each of our connections."""

Recover = Callable[[], Awaitable[object]]
"""Returns once the server runs again (or did all the time). Raises when it can not be brought back."""

# Seconds for which an answer may be later than the server's own limit of a statement: then the line is dead.
_LINE_MARGIN = 5.0

# A server that was brought back and is gone again at once, so many times, is not coming back.
_LOSSES_WITH_RECOVERY = 5

# Raised by the function `enter`; the message is the current epoch.
_FENCED = "TB001"

# Two transactions that wait for each other can not happen as long as all lock the account first; a foreign
# session (a backup, a person) may still bring it about.
_CONFLICT_RETRIES = 5

_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    # The server gave the statement up: it took too long, or waited too long for a lock.
    asyncpg.QueryCanceledError,
)


class _Watchdog:
    """Breaks the connection of a call that is not answered in time.

    A timer for each call would cost a reservation a twentieth of its rate. This one rings once in a while, and looks
    whether the call that was going on when it was set is going on still.
    """

    def __init__(self, limit: float) -> None:
        """``limit`` in seconds."""
        self._limit = limit
        self._watched: Connection | None = None
        self._began = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        self._watched = connection
        self._began = loop.time()
        if self._timer is None:
            self._timer = loop.call_later(self._limit, self._look)

    def end(self) -> None:
        self._watched = None

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._watched is None:
            return
        loop = asyncio.get_running_loop()
        left = self._began + self._limit - loop.time()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        else:
            self._watched.terminate()


class Database:
    """One connection that writes, and a small pool that reads. None carries session state.

    The lock of the account's row would serialise our writes anyway, and a pool's hand-over costs a reservation a
    tenth of its rate. Reads do not wait for it.
    """

    def __init__(
        self,
        pool: asyncpg.Pool[asyncpg.Record],
        connect: Callable[[], Awaitable[Connection]],
        recover: Recover | None,
        command_timeout: float,
    ) -> None:
        self._pool = pool
        self._connect = connect
        self._recover = recover
        self._watchdog = _Watchdog(command_timeout + _LINE_MARGIN)
        self._writer: Connection | None = None
        self._writing = asyncio.Lock()

    @classmethod
    async def connect(
        cls, dsn: str, *, pool_size: int, command_timeout: float, recover: Recover | None = None
    ) -> Database:
        """``command_timeout``, in seconds: after it the server gives a statement up, and a little later we the line.
        ``recover`` brings a dead server back; with it, a call waits for that and goes on.

        Raises ``LedgerUnavailable``."""
        session = {**SESSION, "statement_timeout": f"{command_timeout * 1000:.0f}"}
        pool = asyncpg.create_pool(
            dsn,
            # A task in the background keeps more than none, and would print what the caller is told anyway.
            min_size=0,
            max_size=pool_size,
            # A reset would be a round trip after every call, and there is nothing to reset.
            reset=_nothing_to_reset,
            command_timeout=command_timeout + _LINE_MARGIN,
            server_settings=session,
        )

        async def writer() -> Connection:
            return await asyncpg.connect(dsn, server_settings=session, timeout=command_timeout + _LINE_MARGIN)

        database = cls(await pool, writer, recover, command_timeout)
        try:
            await database.fetchrow("SELECT 1")
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Say goodbye, for as long as somebody listens."""
        async with self._writing:
            self._watchdog.close()
            try:
                async with asyncio.timeout(_LINE_MARGIN):
                    if self._writer is not None:
                        await self._writer.close()
                    await self._pool.close()
            except TimeoutError:
                if self._writer is not None:
                    self._writer.terminate()
                self._pool.terminate()
            self._writer = None

    async def write(self, work: Callable[[Connection], Awaitable[T]], epoch: Epoch | None = None) -> T:
        """The result of ``work``, whose statements are transactions of their own unless it opens one.

        Raises ``Fenced`` (of ``epoch``), ``LedgerUnavailable`` or ``LedgerError``.
        """
        return await self._persist(lambda: self._on_writer(work), epoch)

    async def _on_writer(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._writing:
            if self._writer is None or self._writer.is_closed():
                self._writer = await self._connect()
            writer = self._writer
            self._watchdog.begin(writer)
            try:
                if writer.is_in_transaction():
                    # The call that had it was cancelled at a bad moment.
                    await writer.execute("ROLLBACK")
                return await _use(writer, work)
            except _LOST:
                # Closed in a moment, and until then in no state to be used.
                writer.terminate()
                raise
            finally:
                self._watchdog.end()

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of ``work``, which only reads. Raises ``LedgerUnavailable`` or ``LedgerError``."""

        async def use() -> T:
            async with self._pool.acquire() as connection:
                return await _use(connection, work)

        return await self._persist(use, None)

    async def _persist(self, use: Callable[[], Awaitable[T]], epoch: Epoch | None) -> T:
        losses = conflicts = 0
        while True:
            try:
                return await use()
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                conflicts += 1
                if conflicts > _CONFLICT_RETRIES:
                    raise LedgerUnavailable(
                        f"{conflicts} attempts met a conflict with other sessions ({error}): repeat the call"
                    ) from error
            except _LOST as error:
                losses += 1
                if losses > (_LOSSES_WITH_RECOVERY if self._recover is not None else 1):
                    raise LedgerUnavailable(_unreachable(error)) from error
                if self._recover is not None:
                    await self._recover()
                await self._pool.expire_connections()
            except asyncpg.IntegrityConstraintViolationError as error:
                raise LedgerError(f"the ledger refuses what would break its rules: {error}") from error
            except asyncpg.PostgresError as error:
                if error.sqlstate == _FENCED and epoch is not None:
                    raise Fenced(epoch, int(str(error))) from None
                raise LedgerError(f"the ledger's database refuses the statement: {error}") from error

    async def transaction(self, work: Callable[[Connection], Awaitable[T]], epoch: Epoch | None = None) -> T:
        """The result of ``work``, which is one transaction: all of it, or nothing."""

        async def whole(connection: Connection) -> T:
            async with connection.transaction():
                return await work(connection)

        return await self.write(whole, epoch)

    async def snapshot(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of ``work``, all of whose statements see the database as it is now."""

        async def whole(connection: Connection) -> T:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                # Who asks for one snapshot reads everything.
                await connection.execute("SET LOCAL enable_seqscan = on; SET LOCAL plan_cache_mode = auto")
                return await work(connection)

        return await self.read(whole)

    async def fetch(self, query: str, *arguments: Any) -> list[asyncpg.Record]:
        return await self.read(lambda connection: connection.fetch(query, *arguments))

    async def fetchrow(self, query: str, *arguments: Any) -> asyncpg.Record | None:
        return await self.read(lambda connection: connection.fetchrow(query, *arguments))


async def _use(connection: Connection, work: Callable[[Connection], Awaitable[T]]) -> T:
    try:
        return await work(connection)
    except asyncpg.InterfaceError as error:
        if connection.is_closed():
            raise asyncpg.ConnectionDoesNotExistError(str(error)) from error
        raise
    except asyncpg.InternalClientError as error:
        # The server's goodbye came while nothing was asked, and the end of the line has not come yet.
        connection.terminate()
        raise asyncpg.ConnectionDoesNotExistError(str(error)) from error


async def _nothing_to_reset(connection: Connection) -> None:
    pass


def _unreachable(error: BaseException) -> str:
    return (
        f"the ledger's database does not answer ({type(error).__name__}: {error}): what was in flight may or may not"
        " be committed, repeat the call once it runs again"
    )
