"""Fixtures for the real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.influxdb import Influx, InfluxServer, find_influxd, influx_of_the_environment, running_influxd

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
