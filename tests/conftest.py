"""Fixtures that several folders of tests share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings

from support.postgres import PostgresServer, running_server, scratch_dir

# A busy machine is slow, not wrong. CI tries the same examples each time; a developer's machine looks for new ones.
settings.register_profile("everyday", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True, database=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "everyday")


@pytest.fixture(autouse=True)
def _structlog_as_it_was() -> Iterator[None]:
    """A command that a test runs in this process sets where logs go; the next test's go where it looks for them."""
    yield
    structlog.reset_defaults()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's server. It is not durable: for speed only."""
    with running_server() as server:
        yield server


@pytest.fixture
async def ledger_dsn(postgres: PostgresServer) -> AsyncIterator[str]:
    """The DSN of a database of this test's own, with the ledger's schema and nothing in it."""
    dsn = await postgres.create_database()
    yield dsn
    await postgres.drop_database(dsn)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """An empty folder in which a server of the test's own can live, also as root."""
    with scratch_dir() as path:
        yield path
