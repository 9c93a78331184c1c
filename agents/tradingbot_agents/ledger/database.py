"""Connections to PostgreSQL, and what their failures mean: try again, give up for now, or say it.

Every call of the ledger is idempotent, so a call whose connection broke is repeated without anybody noticing: once,
or, where the server is our own to bring back, after that. It is safe also when the first attempt was committed and
only its answer got lost: the second one finds it done and answers so. (``claim`` then answers ``None``; its order
is ``submitting`` and is looked up at the exchange.)

Behind a pooler that gives a connection to each transaction (PgBouncer), no session is ours: prepared statements and
settings of one call are not there in the next. It is recognised when a connection opens, and then every call is one
transaction that brings its settings along, with statements that have no name.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypeVar
from urllib.parse import parse_qsl, urlsplit

import asyncpg
import msgspec

from tradingbot_agents.ledger.port import Epoch, Fenced, LedgerAccessRefused, LedgerError, LedgerUnavailable

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

# What a pooler carries over to each server that it gives us; of any other setting it may refuse the connection.
_CARRIED_BY_POOLERS = ("application_name", "timezone")

Address: TypeAlias = str | Callable[[], str]
"""A database's URL, or what tells the URL of now: a rotated password is taken up by the next connection."""

Recover = Callable[[], Awaitable[object]]
"""Returns once the server runs again (or did all the time). Raises when it can not be brought back."""

# Seconds for which an answer may be later than the server's own limit of a statement: then the line is dead.
_LINE_MARGIN = 5.0

# A server that was brought back and is gone again at once, so many times, is not coming back.
_LOSSES_WITH_RECOVERY = 5

# Raised by the function `enter`; the message is the current epoch.
_FENCED = "TB001"

_CONFLICT_RETRIES = 5

# Nothing was done, and the same call may do better at once. Two transactions that wait for each other can not happen
# as long as all lock the account first; a foreign session (a backup, a person) may still bring it about.
_CONFLICTS = (
    asyncpg.DeadlockDetectedError,
    asyncpg.SerializationError,
    asyncpg.StatementCompletionUnknownError,
    asyncpg.LockNotAvailableError,
    # A migration changed a table under a statement that was prepared before; asyncpg has forgotten it by now.
    asyncpg.InvalidCachedStatementError,
)

# Only somebody between us and the server loses or mixes up prepared statements.
_STATEMENT_LOST = (asyncpg.InvalidSQLStatementNameError, asyncpg.DuplicatePreparedStatementError)

_LOST = (
    OSError,
    asyncpg.PostgresConnectionError,
    asyncpg.InsufficientResourcesError,
    # Among them: the server gave the statement up, for it took too long, or waited too long for a lock.
    asyncpg.OperatorInterventionError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    # The server became a standby, or always was one: the one that takes writes is behind a new connection.
    asyncpg.ReadOnlySQLTransactionError,
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
    """One connection that writes, and a small pool that reads.

    The account's lock would serialise our writes anyway, and a pool's hand-over costs a reservation a
    tenth of its rate. Reads do not wait for it.
    """

    def __init__(
        self,
        address: Address,
        *,
        pool_size: int,
        command_timeout: float,
        recover: Recover | None,
    ) -> None:
        self._address = address
        self._settings = {**SESSION, "statement_timeout": f"{command_timeout * 1000:.0f}"}
        self._limit = command_timeout + _LINE_MARGIN
        self._recover = recover
        self._pooled = False
        self._pool = asyncpg.create_pool(
            # A task in the background keeps more than none, and would print what the caller is told anyway.
            min_size=0,
            max_size=pool_size,
            connect=self._connect_reader,
            # A reset would be a round trip after every call, and there is nothing to reset.
            reset=_nothing_to_reset,
        )
        self._watchdog = _Watchdog(command_timeout + _LINE_MARGIN)
        self._writer: Connection | None = None
        self._writing = asyncio.Lock()

    @classmethod
    async def connect(
        cls, address: Address, *, pool_size: int, command_timeout: float, recover: Recover | None = None
    ) -> Database:
        """``command_timeout``, in seconds: after it the server gives a statement up, and a little later we the line.
        ``recover`` brings a dead server back; with it, a call waits for that and goes on.

        Raises ``LedgerUnavailable``, of which ``LedgerAccessRefused`` is one."""
        database = cls(address, pool_size=pool_size, command_timeout=command_timeout, recover=recover)
        await database._pool
        try:
            await database.fetchrow("SELECT 1")
        except BaseException:
            await database.close()
            raise
        return database

    @property
    def pooled(self) -> bool:
        """Whether a pooler stands before the server."""
        return self._pooled

    async def _connect(self, answer_limit: float | None) -> asyncpg.Connection[asyncpg.Record]:
        address = self._address if isinstance(self._address, str) else self._address()
        opened = await open_connection(
            address, self._settings, limit=self._limit, answer_limit=answer_limit, pooled=self._pooled
        )
        self._pooled = self._pooled or opened.pooled
        return opened.connection

    async def _connect_reader(self, *_: Any, **__: Any) -> asyncpg.Connection[asyncpg.Record]:
        """For the pool, which would give an address and options that it does not have."""
        return await self._connect(self._limit)

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
        """The result of ``work``, whose statements are transactions of their own, or together one behind a pooler.

        Raises ``Fenced`` (of ``epoch``), ``LedgerUnavailable`` or ``LedgerError``.
        """
        return await self._persist(lambda: self._on_writer(self._ours(work)), epoch)

    def _ours(self, work: Callable[[Connection], Awaitable[T]]) -> Callable[[Connection], Awaitable[T]]:
        """``work``, with our settings also where no session keeps them."""

        async def within(connection: Connection) -> T:
            return await (self._within(connection, work) if self._pooled else work(connection))

        return within

    async def _within(
        self,
        connection: Connection,
        work: Callable[[Connection], Awaitable[T]],
        settings: Mapping[str, str] | None = None,
        **options: Any,
    ) -> T:
        """The result of ``work`` as one transaction with ``options``. ``settings`` hold for it alone."""
        local = {**(self._settings if self._pooled else {}), **(settings or {})}
        for name in _CARRIED_BY_POOLERS:
            local.pop(name, None)
        async with connection.transaction(**options):
            if local:
                await connection.execute("; ".join(f"SET LOCAL {name} = '{value}'" for name, value in local.items()))
            return await work(connection)

    async def _on_writer(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async with self._writing:
            if self._writer is None or self._writer.is_closed():
                # Its answers have the watchdog.
                self._writer = await self._connect(None)
            writer = self._writer
            self._watchdog.begin(writer)
            try:
                if writer.is_in_transaction():
                    # The call that had it was cancelled at a bad moment.
                    await writer.execute("ROLLBACK")
                return await _use(writer, work)
            except (*_LOST, *_STATEMENT_LOST):
                # Closed in a moment, and until then in no state to be used.
                writer.terminate()
                raise
            finally:
                self._watchdog.end()

    async def read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of ``work``, which only reads. Raises ``LedgerUnavailable`` or ``LedgerError``."""
        return await self._read(self._ours(work))

    async def _read(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        async def use() -> T:
            async with self._pool.acquire() as connection:
                return await _use(connection, work)

        return await self._persist(use, None)

    async def _persist(self, use: Callable[[], Awaitable[T]], epoch: Epoch | None) -> T:
        losses = conflicts = 0
        while True:
            try:
                return await use()
            except (*_CONFLICTS, *_STATEMENT_LOST) as error:
                conflicts += 1
                if conflicts > _CONFLICT_RETRIES:
                    raise LedgerUnavailable(
                        f"{conflicts} attempts met a conflict with other sessions ({error}): repeat the call"
                    ) from error
                if isinstance(error, _STATEMENT_LOST):
                    self._pooled = True
                    await self._pool.expire_connections()
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
            return await self._within(connection, work)

        return await self._persist(lambda: self._on_writer(whole), epoch)

    async def snapshot(self, work: Callable[[Connection], Awaitable[T]]) -> T:
        """The result of ``work``, all of whose statements see the database as it is now."""

        async def whole(connection: Connection) -> T:
            # Who asks for one snapshot reads everything.
            settings = {"enable_seqscan": "on", "plan_cache_mode": "auto"}
            return await self._within(connection, work, settings, isolation="repeatable_read", readonly=True)

        return await self._read(whole)

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


class Opened(msgspec.Struct, frozen=True):
    connection: Any
    """An ``asyncpg.Connection``."""
    pooled: bool
    """Whether a pooler stands before the server: then there is no session, only transactions."""


async def open_connection(
    dsn: str,
    settings: Mapping[str, str] = SESSION,
    *,
    limit: float,
    answer_limit: float | None = None,
    pooled: bool = False,
) -> Opened:
    """Connect. ``limit`` is in seconds, as is ``answer_limit``, of each answer later. ``pooled``: there is known to
    be a pooler.

    Raises ``LedgerAccessRefused`` when only a person can mend it, and else what asyncpg raises. No error shows the
    password.
    """
    try:
        _refuse_missing_files(dsn)
        if not pooled:
            connection = await _connect_session(dsn, settings, limit, answer_limit)
            if connection is not None:
                return Opened(connection, pooled=False)
        connection = await asyncpg.connect(
            dsn,
            server_settings={name: settings[name] for name in _CARRIED_BY_POOLERS if name in settings},
            statement_cache_size=0,
            timeout=limit,
            command_timeout=answer_limit,
        )
        return Opened(connection, pooled=True)
    except asyncpg.TargetServerAttributeNotMatched as error:
        raise ConnectionError("no server of the address is what target_session_attrs demands now") from error
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError):
        # It ended in the middle of the greeting, and knew nothing against us.
        raise
    except ssl.SSLError as error:
        raise LedgerAccessRefused(_not_trusted(error)) from error
    except ConnectionError as error:
        if "rejected SSL upgrade" not in str(error):
            raise
        raise LedgerAccessRefused(
            "the ledger's database does not speak TLS, which the sslmode of its address demands: turn it on there"
            " (ssl = on), or see what it is that answers at this address"
        ) from error
    except (
        asyncpg.InvalidAuthorizationSpecificationError,
        asyncpg.InvalidCatalogNameError,
        # A pooler's way to say either.
        asyncpg.ProtocolViolationError,
    ) as error:
        refusal = _not_let_in(error)
        if refusal is None:
            raise
        raise LedgerAccessRefused(refusal) from error
    except (ValueError, asyncpg.ClientConfigurationError) as error:
        # What it says of the address may be a part of the password.
        told = (
            str(error) if isinstance(error, asyncpg.ClientConfigurationError) and "invalid" not in str(error) else ""
        )
        raise LedgerAccessRefused(
            f"the address of the ledger's database can not be read{f' ({told})' if told else ''}: write it as"
            " postgresql://user:password@host:port/database?sslmode=verify-full, and any of : / ? # @ % within the"
            " password as %3A %2F %3F %23 %40 %25"
        ) from None


def _not_let_in(error: asyncpg.PostgresError) -> str | None:
    if isinstance(error, asyncpg.InvalidAuthorizationSpecificationError) or "authentication failed" in str(error):
        return (
            f"the ledger's database does not let us in ({error}): correct user or password in its address,"
            " or allow the user there (pg_hba.conf)"
        )
    if isinstance(error, asyncpg.InvalidCatalogNameError) or "does not exist" in str(error):
        return f"the ledger's database is not there ({error}): create it, or correct its name in the address"
    return None


async def _connect_session(
    dsn: str, settings: Mapping[str, str], limit: float, answer_limit: float | None
) -> asyncpg.Connection[asyncpg.Record] | None:
    """A connection whose session is ours, or ``None``: a pooler refuses our settings, or does not pass them on."""
    try:
        connection = await asyncpg.connect(
            dsn, server_settings=dict(settings), timeout=limit, command_timeout=answer_limit
        )
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" not in str(error):
            raise
        return None
    ours = False
    try:
        found = await connection.fetchval("SELECT current_setting('plan_cache_mode')", timeout=limit)
        ours = found == settings.get("plan_cache_mode", found)
    except _STATEMENT_LOST:
        pass
    finally:
        if not ours:
            connection.terminate()
    return connection if ours else None


def _refuse_missing_files(dsn: str) -> None:
    for name, value in parse_qsl(urlsplit(dsn).query):
        if name in ("sslrootcert", "sslcert", "sslkey", "sslcrl") and not Path(value).is_file():
            raise LedgerAccessRefused(
                f"{name} of the address of the ledger's database: there is no file {value}: mount it there,"
                " or correct the path"
            )


def _not_trusted(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"the ledger's database can not be trusted ({error.verify_message.rstrip('.')}): its certificate must be"
            " of the authority in sslrootcert and, for verify-full, name the host of the address: name the right"
            " file, or the host's real name"
        )
    return (
        f"TLS with the ledger's database fails ({error.reason or error}): see that sslrootcert, sslcert and sslkey"
        " are PEM files that belong together, and which versions of TLS the server takes"
    )


async def _nothing_to_reset(connection: Connection) -> None:
    pass


def _unreachable(error: BaseException) -> str:
    does = "takes no writes" if isinstance(error, asyncpg.ReadOnlySQLTransactionError) else "does not answer"
    return (
        f"the ledger's database {does} ({type(error).__name__}: {error}): what was in flight may or may not"
        " be committed, repeat the call once it runs again"
    )
