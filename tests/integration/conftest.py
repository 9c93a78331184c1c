"""Fixtures for the real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.influxdb import Influx, InfluxServer, find_influxd, influx_of_the_environment, running_influxd
from support.rabbitmq import INSTALLED, VERSIONS, RabbitServer, rabbitmq_of_the_environment, running_rabbitmq

NO_INFLUXD = (
    "no InfluxDB: run 'make servers', or set TRADINGBOT_INFLUX_URL, TRADINGBOT_INFLUX_TOKEN and TRADINGBOT_INFLUX_ORG"
)


@pytest.fixture(scope="session")
def influx() -> Iterator[Influx]:
    """A server for the whole session; each test makes a bucket of its own."""
    given = influx_of_the_environment()
    if given is not None:
        yield given
        return
    program = find_influxd()
    if program is None:
        pytest.skip(NO_INFLUXD)
    with running_influxd(program) as server:
        yield server


@pytest.fixture
def own_influx() -> Iterator[InfluxServer]:
    """A server that the test may stop and kill."""
    program = find_influxd()
    if program is None:
        pytest.skip("no influxd of our own to stop: run 'make servers'")
    with running_influxd(program) as server:
        yield server


@pytest.fixture(scope="session", params=VERSIONS)
def rabbitmq_server(request: pytest.FixtureRequest) -> Iterator[str | RabbitServer]:
    """For the whole session: the address of the one in the environment, or one of our own of each version."""
    given = rabbitmq_of_the_environment()
    if given is None:
        with running_rabbitmq(request.param) as server:
            yield server
    elif request.param == INSTALLED:
        yield given
    else:
        pytest.skip("TRADINGBOT_RABBITMQ_URL names one server: the tests run on that alone")


@pytest.fixture
def rabbitmq(rabbitmq_server: str | RabbitServer) -> str:
    """The address of a server; each test has a bot of its own on it."""
    return rabbitmq_server if isinstance(rabbitmq_server, str) else rabbitmq_server.url


@pytest.fixture
def own_rabbitmq(rabbitmq_server: str | RabbitServer) -> Iterator[RabbitServer]:
    """A server that the test may kill."""
    if isinstance(rabbitmq_server, str):
        pytest.skip("the RabbitMQ of TRADINGBOT_RABBITMQ_URL is not ours to kill")
    yield rabbitmq_server
    rabbitmq_server.start()
