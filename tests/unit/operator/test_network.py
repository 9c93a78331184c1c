"""Who may speak to whom: the policies are applied to pods as a cluster's network does it."""

from __future__ import annotations

from typing import Any

import pytest

from support.network_policies import Network
from support.specs import LIVE, PAPER, changed
from tradingbot_api import TradingBot, load_object
from tradingbot_operator.builders.network import of_account, of_bot
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AGENTS, Component, account_id, account_labels, bot_labels

BOT = load_object(LIVE)
OTHER = load_object(changed(LIVE, {}) | {"metadata": {"name": "other"}})
"""Of the same account."""
STRANGER: dict[str, str] = {"app": "stranger"}
OUTSIDE = None
"""Not a pod: anywhere outside the cluster."""

D, T, S, R, E = AGENTS
PROGRAMS = (*AGENTS, Component.MIGRATION, Component.PRUNE, Component.REALITY_CHECK)


def policies(*bots: TradingBot) -> list[Manifest]:
    found = [policy for bot in bots for policy in of_bot(bot, "trading")]
    names = [policy["metadata"]["name"] for policy in found]
    assert len(set(names)) == len(names)
    return found + of_account(bots[0], "trading")


def pod(component: Component, bot: TradingBot = BOT) -> dict[str, str]:
    return bot_labels(bot.metadata.name, component)


def of_the_account(component: Component) -> dict[str, str]:
    return account_labels(account_id(BOT), component)


NETWORK = Network(policies(BOT, OTHER))


# ------------------------------------------------------------------------------------------- what works


@pytest.mark.parametrize("component", PROGRAMS)
def test_each_program_reaches_the_servers_that_it_needs_and_no_other(component: Component) -> None:
    servers = {
        "rabbitmq": (pod(Component.RABBITMQ), 5672, {D, T, S, R, E, Component.REALITY_CHECK}),
        "influxdb": (pod(Component.INFLUXDB), 8086, {D, T, R, Component.MIGRATION, Component.REALITY_CHECK}),
        "postgres": (
            of_the_account(Component.POSTGRES),
            5432,
            {S, R, E, Component.MIGRATION, Component.PRUNE, Component.REALITY_CHECK},
        ),
    }
    for labels, port, users in servers.values():
        assert NETWORK.allows(pod(component), labels, port) is (component in users)
        assert not NETWORK.allows(pod(component), labels, 22)


@pytest.mark.parametrize("component", PROGRAMS)
def test_who_trades_or_collects_or_asks_the_api_server_reaches_https_outside(component: Component) -> None:
    reach = {D, E, R, Component.REALITY_CHECK}
    assert NETWORK.allows(pod(component), OUTSIDE, 443) is (component in reach)
    assert NETWORK.allows(pod(component), OUTSIDE, 6443) is (component in {R, E, Component.REALITY_CHECK})
    assert not NETWORK.allows(pod(component), OUTSIDE, 80)


@pytest.mark.parametrize("component", PROGRAMS)
def test_each_program_finds_names(component: Component) -> None:
    assert NETWORK.allows(pod(component), STRANGER, 53, "UDP")
    assert NETWORK.allows(pod(component), STRANGER, 53)


def test_a_stranger_reaches_the_metrics_of_the_agents_and_nothing_else() -> None:
    for component in PROGRAMS:
        assert NETWORK.allows(STRANGER, pod(component), 8080) is (component in AGENTS)
        assert not NETWORK.allows(STRANGER, pod(component), 443)
    for labels, port in ((Component.RABBITMQ, 5672), (Component.INFLUXDB, 8086)):
        assert not NETWORK.allows(STRANGER, pod(labels), port)
    assert not NETWORK.allows(STRANGER, of_the_account(Component.POSTGRES), 5432)


def test_agents_do_not_reach_each_other() -> None:
    for one in AGENTS:
        for other in AGENTS:
            assert not NETWORK.allows(pod(one), pod(other), 8080)


def test_servers_ask_nobody_for_anything() -> None:
    for server in (pod(Component.RABBITMQ), pod(Component.INFLUXDB), of_the_account(Component.POSTGRES)):
        for port in (443, 5672, 8086, 5432):
            assert not NETWORK.allows(server, OUTSIDE, port)


def test_a_pod_that_is_not_known_is_shut_off() -> None:
    unknown = pod(Component.STRATEGY) | {"app.kubernetes.io/component": "debug"}
    assert not NETWORK.allows(unknown, OUTSIDE, 443)
    assert not NETWORK.allows(unknown, STRANGER, 53, "UDP")
    assert not NETWORK.allows(STRANGER, unknown, 8080)


# ------------------------------------------------------------------------------------------- many bots


def test_bots_of_one_account_share_its_database_and_nothing_else() -> None:
    assert NETWORK.allows(pod(E, OTHER), of_the_account(Component.POSTGRES), 5432)
    assert not NETWORK.allows(pod(E, OTHER), pod(Component.RABBITMQ), 5672)
    assert not NETWORK.allows(pod(D, OTHER), pod(Component.INFLUXDB), 8086)


def test_a_bot_that_goes_takes_its_door_of_the_database_with_it() -> None:
    left = Network(policies(BOT))
    assert not left.allows(pod(E, OTHER), of_the_account(Component.POSTGRES), 5432)
    assert left.allows(pod(E), of_the_account(Component.POSTGRES), 5432)


def test_a_bot_of_another_account_does_not_reach_this_one_s_database() -> None:
    apart = load_object(
        changed(LIVE, {"account.name": "apart", "liveConfirmation": "trade real money on binance/apart"})
        | {"metadata": {"name": "apart"}}
    )
    both = Network([*policies(BOT), *policies(apart)])
    assert not both.allows(pod(E, apart), of_the_account(Component.POSTGRES), 5432)


def test_the_backup_reaches_the_database_and_nothing_else() -> None:
    backup = of_the_account(Component.BACKUP)
    assert NETWORK.allows(backup, of_the_account(Component.POSTGRES), 5432)
    assert NETWORK.allows(backup, STRANGER, 53, "UDP")
    assert not NETWORK.allows(backup, OUTSIDE, 443)
    assert not NETWORK.allows(backup, pod(Component.RABBITMQ), 5672)


# -------------------------------------------------------------------------------------- other settings


def network(base: dict[str, Any] = LIVE, **changes: Any) -> Network:
    return Network(
        policies(load_object(changed(base, {key.replace("__", "."): value for key, value in changes.items()})))
    )


def test_servers_that_are_there_already_are_reached_on_their_usual_ports() -> None:
    external = network(
        messaging={"external": {"urlSecretRef": {"name": "rabbit"}}},
        timeSeries={"external": {"urlSecretRef": {"name": "influx"}, "tokenSecretRef": {"name": "influx"}}},
        database={"external": {"urlSecretRef": {"name": "ledger"}}},
    )
    M, P, C = Component.MIGRATION, Component.PRUNE, Component.REALITY_CHECK
    for port, users in (
        (5672, {*AGENTS, C}),
        (5671, {*AGENTS, C}),
        (8086, {D, T, R, M, C}),
        (5432, {S, R, E, M, P, C}),
        (6432, {S, R, E, M, P, C}),
    ):
        for component in PROGRAMS:
            assert external.allows(pod(component), OUTSIDE, port) is (component in users)
    servers = {Component.RABBITMQ.value, Component.INFLUXDB.value, Component.POSTGRES.value}
    selected = [str(each["spec"]["podSelector"]) for each in external.policies]
    assert not any(server in selector for server in servers for selector in selected)


def test_cloud_native_pg_s_own_pods_are_left_to_it() -> None:
    cloud = network(database={"managed": {"provider": "CloudNativePG"}})
    cluster = {"cnpg.io/cluster": f"{account_id(BOT)}-postgres"}
    assert cloud.allows(pod(E), cluster, 5432)
    assert not cloud.allows(pod(D), cluster, 5432)
    assert not cloud.allows(pod(E), {"cnpg.io/cluster": "another"}, 5432)
    assert of_account(load_object(changed(LIVE, {"database.managed.provider": "CloudNativePG"})), "trading") == []


def test_the_rabbitmq_of_its_operator_may_ask_the_api_server_for_its_peers() -> None:
    foreign = network(messaging={"managed": {"provider": "RabbitmqCluster"}})
    assert foreign.allows(pod(Component.RABBITMQ), OUTSIDE, 6443)
    assert not NETWORK.allows(pod(Component.RABBITMQ), OUTSIDE, 6443)


@pytest.mark.parametrize(
    ("endpoint", "port"),
    [
        ("http://exchange.test:8999", 8999),
        ("http://exchange.test", 80),
        ("https://proxy.example.com/binance", 443),
        ("ws://exchange.test", 80),
    ],
)
def test_an_exchange_at_another_address_is_reached_on_its_port(endpoint: str, port: int) -> None:
    elsewhere = network(exchange__endpoint=endpoint)
    assert elsewhere.allows(pod(E), OUTSIDE, port)
    assert elsewhere.allows(pod(D), OUTSIDE, port)
    assert not elsewhere.allows(pod(S), OUTSIDE, port)


def test_data_collection_hears_streams_on_their_port_when_it_is_asked_to() -> None:
    assert network(exchange__feed="websocket").allows(pod(D), OUTSIDE, 9443)
    assert not network(exchange__feed="websocket").allows(pod(E), OUTSIDE, 9443)
    assert not NETWORK.allows(pod(D), OUTSIDE, 9443)


def test_a_simulated_exchange_is_nowhere_outside() -> None:
    simulated = network(PAPER)
    bot = load_object(PAPER)
    assert not simulated.allows(pod(D, bot), OUTSIDE, 443)
    assert simulated.allows(pod(E, bot), OUTSIDE, 6443)


def test_the_check_looks_at_the_market_wherever_it_is_with_a_key_or_without() -> None:
    elsewhere = {"exchange__endpoint": "http://exchange.test:8999"}
    for key in ({}, {"realityCheck__credentialsSecretRef": {"name": "read-only"}}):
        assert network(**elsewhere, **key).allows(pod(Component.REALITY_CHECK), OUTSIDE, 8999)
    simulated = network(PAPER)
    assert not simulated.allows(pod(Component.REALITY_CHECK, load_object(PAPER)), OUTSIDE, 8999)


def test_the_check_alone_reaches_who_is_told_of_it_on_their_usual_ports() -> None:
    receiver = {"name": "phone", "format": "telegram", "urlSecretRef": {"name": "telegram", "key": "url"}}
    for given in ({"notifications": [receiver]}, {"realityCheck__pingUrlSecretRef": {"name": "ping", "key": "url"}}):
        told = network(**given)
        for port in (80, 443, 465, 587):
            assert told.allows(pod(Component.REALITY_CHECK), OUTSIDE, port)
        assert not any(told.allows(pod(agent), OUTSIDE, 587) for agent in AGENTS)
    assert not NETWORK.allows(pod(Component.REALITY_CHECK), OUTSIDE, 587)


def test_the_check_reaches_executions_books_in_mode_paper_and_no_other_agent() -> None:
    bot = load_object(PAPER)
    paper = network(PAPER)
    assert [agent for agent in AGENTS if paper.allows(pod(Component.REALITY_CHECK, bot), pod(agent, bot), 8080)] == [
        E
    ]
    assert not paper.allows(pod(Component.REALITY_CHECK, bot), pod(E, bot), 22)
    assert not paper.allows(pod(Component.REALITY_CHECK, bot), pod(E, BOT), 8080), "of another bot"
    assert not any(NETWORK.allows(pod(Component.REALITY_CHECK), pod(agent), 8080) for agent in AGENTS)
