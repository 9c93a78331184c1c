"""An agent's environment: values or files, every problem at once, and no secret in any text."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradingbot_agents.bus.topology import AGENTS, EXECUTION, STRATEGY
from tradingbot_agents.runtime.connections import NEEDS, ConnectionsInvalid, Secret, Variable, read_connections

EVERYTHING = {
    "TRADINGBOT_DATABASE_URL": "postgresql://bot:hush@db/ledger",
    "TRADINGBOT_MESSAGING_URL": "amqp://bot:hush@mq/",
    "TRADINGBOT_TIME_SERIES_URL": "http://influx:8086",
    "TRADINGBOT_TIME_SERIES_TOKEN": "hush",
    "TRADINGBOT_EXCHANGE_API_KEY": "hush",
    "TRADINGBOT_EXCHANGE_SECRET": "hush",
}


@pytest.mark.parametrize("agent", AGENTS)
def test_an_agent_gets_what_it_needs_and_no_more(agent: str) -> None:
    found = read_connections(agent, EVERYTHING)
    assert set(found.values) == NEEDS[agent]


def test_only_execution_gets_the_exchanges_key() -> None:
    with_key = [agent for agent in AGENTS if Variable.EXCHANGE_SECRET in NEEDS[agent]]
    assert with_key == [EXECUTION]


def test_paper_has_no_key_even_where_there_is_one() -> None:
    found = read_connections(EXECUTION, {**EVERYTHING, "TRADINGBOT_EXCHANGE_PASSWORD": "third"}, paper=True)
    assert set(found.values) == {Variable.MESSAGING_URL, Variable.DATABASE_URL}
    without = {name: value for name, value in EVERYTHING.items() if "EXCHANGE" not in name}
    assert set(read_connections(EXECUTION, without, paper=True).values) == set(found.values)


def test_a_password_is_for_exchanges_that_have_one() -> None:
    assert read_connections(EXECUTION, EVERYTHING).get(Variable.EXCHANGE_PASSWORD) is None
    found = read_connections(EXECUTION, {**EVERYTHING, "TRADINGBOT_EXCHANGE_PASSWORD": "third"})
    assert found[Variable.EXCHANGE_PASSWORD].reveal() == "third"


def test_a_password_s_file_may_be_missing_and_what_it_holds_may_change(tmp_path: Path) -> None:
    file = tmp_path / "exchange-password"
    environment = {**EVERYTHING, "TRADINGBOT_EXCHANGE_PASSWORD_FILE": str(file)}
    assert read_connections(EXECUTION, environment).get(Variable.EXCHANGE_PASSWORD) is None
    file.write_text("third")
    found = read_connections(EXECUTION, environment)[Variable.EXCHANGE_PASSWORD]
    assert found.reveal() == "third"
    file.write_text("fourth")
    assert found.reveal() == "fourth"


def test_every_problem_is_told_at_once_and_no_value(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.write_text("\n")
    with pytest.raises(ConnectionsInvalid) as raised:
        read_connections(
            EXECUTION,
            {
                "TRADINGBOT_DATABASE_URL": "mysql://bot:hush@db",
                "TRADINGBOT_MESSAGING_URL": "amqp://hush@mq",
                "TRADINGBOT_MESSAGING_URL_FILE": "also",
                "TRADINGBOT_EXCHANGE_API_KEY_FILE": str(tmp_path / "missing"),
                "TRADINGBOT_EXCHANGE_SECRET_FILE": str(empty),
            },
        )
    assert str(raised.value).splitlines() == [
        "the execution agent can not start with this environment:",
        "  TRADINGBOT_DATABASE_URL must be an address that begins with postgresql:// or postgres://",
        "  TRADINGBOT_MESSAGING_URL and TRADINGBOT_MESSAGING_URL_FILE are both set: set one of them",
        f"  TRADINGBOT_EXCHANGE_API_KEY_FILE: {tmp_path / 'missing'} can not be read (No such file or directory):"
        " mount the file there",
        f"  TRADINGBOT_EXCHANGE_SECRET_FILE: {empty} is empty: write the value into it",
    ]
    with pytest.raises(ConnectionsInvalid, match="TRADINGBOT_DATABASE_URL is not set: set it, or"):
        read_connections(STRATEGY, {})


def test_a_rotated_file_is_taken_up(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("old\n")
    secret = read_connections(
        EXECUTION, {**EVERYTHING, "TRADINGBOT_EXCHANGE_API_KEY": "", "TRADINGBOT_EXCHANGE_API_KEY_FILE": str(file)}
    )[Variable.EXCHANGE_API_KEY]
    assert secret.reveal() == "old"
    file.write_text("new\n")
    assert secret.reveal() == "new"
    file.unlink()
    assert secret.reveal() == "new"
    file.write_text("")
    assert secret.reveal() == "new"


def test_no_text_shows_a_secret(tmp_path: Path) -> None:
    file = tmp_path / "key"
    for secret in (Secret("hush"), Secret("hush", file)):
        assert "hush" not in f"{secret!r} {secret}"
    assert "hush" not in repr(read_connections(EXECUTION, EVERYTHING))
