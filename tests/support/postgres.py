"""A PostgreSQL server for a whole test session, and a fresh, migrated database for each test that asks."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

import asyncpg

from tradingbot_agents.ledger.embedded import EmbeddedPostgres
from tradingbot_agents.ledger.migrate import migrate

# A test's data need not outlive the machine. What is measured or killed starts a server of its own.
FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "60"}

_TEMPLATE = "ledger_template"

_MEMORY = Path("/dev/shm")


def _has_room(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and shutil.disk_usage(folder).free > 2**30


class PostgresServer:
    """A started server. Databases are made and dropped through it; ``dsn`` is its administration database."""

    def __init__(self, dsn: str) -> None:
        self.dsn = dsn
        self._numbers = count(1)
        self._migrated = False

    def dsn_of(self, database: str) -> str:
        return self.dsn.replace("/tradingbot?", f"/{database}?")

    async def create_database(self, *, migrated: bool = True) -> str:
        """The DSN of a new database, empty or with the ledger's schema."""
        if migrated and not self._migrated:
            await self._execute(f"CREATE DATABASE {_TEMPLATE}")
            await migrate(self.dsn_of(_TEMPLATE))
            self._migrated = True
        name = f"test_{next(self._numbers)}"
        template = _TEMPLATE if migrated else "template1"
        await self._execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.dsn_of(name)

    async def drop_database(self, dsn: str) -> None:
        """Also with connections left open."""
        name = dsn.partition("?")[0].rpartition("/")[2]
        await self._execute(f"DROP DATABASE {name} WITH (FORCE)")

    async def _execute(self, statement: str) -> None:
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def scratch_dir() -> Iterator[Path]:
    """A folder that the server's user may enter when the tests run as root (pytest's own is closed), with a path
    short enough for a socket, and in memory where there is room: a cluster has a thousand files."""
    path = Path(tempfile.mkdtemp(prefix="tb-", dir=_MEMORY if _has_room(_MEMORY) else None))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """Start the server, from outside of any event loop, and stop it at the end."""
    with scratch_dir() as path:
        server = EmbeddedPostgres(path, settings=FAST)
        try:
            yield PostgresServer(asyncio.run(server.start()))
        finally:
            asyncio.run(server.stop())
