"""Who may speak to whom. Nothing is allowed to or from a bot's pods, except what is listed here, each with its
reason.

NetworkPolicies add up, and none can take back what another allows. So what ours do not allow, a person allows by one
of their own that selects ``tradingbot.dev/bot``: a proxy, a back end on an unusual port. They know ports and labels
but no host names: where the other side is outside the cluster, a port to anywhere is the closest that can be said.

A database belongs to an account, whose bots come and go: each bot brings the policy that lets its own pods in, and
takes it away when it goes.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from tradingbot_api import TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import pods
from tradingbot_operator.builders.access import has_token
from tradingbot_operator.builders.agents import Variable, needs, reaches_exchange, told_at
from tradingbot_operator.builders.config import shared_labels
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import (
    AGENT_PORT,
    AGENTS,
    AMQP_PORT,
    INFLUXDB_PORT,
    POSTGRES_PORT,
    PROGRAMS,
    Component,
    Label,
    account_id,
)

DNS_PORT = 53
HTTPS_PORT = 443
API_SERVER_PORTS = (HTTPS_PORT, 6443)
"""Of its Service, and of the server behind it: a network looks at an address before or after it is translated."""
STREAM_PORT = 9443
"""Of Binance's websockets; the others' are behind ``HTTPS_PORT``."""

EXTERNAL_AMQP_PORTS = (5671, AMQP_PORT)
EXTERNAL_INFLUXDB_PORTS = (HTTPS_PORT, INFLUXDB_PORT)
EXTERNAL_POSTGRES_PORTS = (POSTGRES_PORT, 6432)
"""The usual ones: the address itself is in a Secret. 6432 is PgBouncer's."""

CLOUD_NATIVE_PG = "cnpg.io/cluster"
"""Label of the pods of CloudNativePG, with the name of their Cluster."""

RECEIVER_PORTS = (80, HTTPS_PORT, 465, 587)
"""Of webhooks, chats and mail servers, whose addresses are in Secrets."""

Rule = Manifest


def of_bot(bot: TradingBot, namespace: str) -> list[Manifest]:
    """The policies of a bot's own pods and servers, and the door of the account's database for them."""
    name = bot.metadata.name
    policies = [_policy(names.deny_policy(name), namespace, shared_labels(name), {Label.BOT.value: name}, [], [])]
    for component in PROGRAMS:
        # Metrics are read by whoever the cluster's monitoring is; a Job has none.
        ingress = [_from(None, AGENT_PORT)] if component in AGENTS else []
        policies.append(_of_component(bot, namespace, component, ingress, _egress(bot, component)))
    if bot.spec.messaging.managed is not None:
        policies.append(_messaging(bot, namespace))
    if bot.spec.time_series.managed is not None:
        users = _users(bot, Variable.TIME_SERIES_URL)
        # It asks nobody for anything: its reports home are switched off.
        policies.append(_of_component(bot, namespace, Component.INFLUXDB, [_from(users, INFLUXDB_PORT)], []))
    if _has_database_of_ours(bot):
        account = account_id(bot)
        policies.append(
            _policy(
                names.database_policy(name),
                namespace,
                shared_labels(name),
                names.account_selector(account, Component.POSTGRES),
                [_from(_users(bot, Variable.DATABASE_URL), POSTGRES_PORT)],
                None,
            )
        )
    return policies


def of_account(bot: TradingBot, namespace: str) -> list[Manifest]:
    """The policies of an account's own pods. CloudNativePG's are its own matter: they speak to the API server and to
    its operator."""
    if not _has_database_of_ours(bot):
        return []
    account = account_id(bot)
    database, backup = (names.account_selector(account, each) for each in (Component.POSTGRES, Component.BACKUP))
    labels = {each: names.account_labels(account, each) for each in (Component.POSTGRES, Component.BACKUP)}
    everything = {Label.ACCOUNT.value: account}
    return [
        _policy(names.deny_policy(account), namespace, labels[Component.POSTGRES], everything, [], []),
        # The backup comes in here; each bot lets its own pods in. It asks nobody for anything.
        _policy(
            names.account_child(account, Component.POSTGRES),
            namespace,
            labels[Component.POSTGRES],
            database,
            [_from([_pods(backup)], POSTGRES_PORT)],
            [],
        ),
        # It writes to its own volume only.
        _policy(
            names.account_child(account, Component.BACKUP),
            namespace,
            labels[Component.BACKUP],
            backup,
            [],
            [_dns(), _to([_pods(database)], POSTGRES_PORT)],
        ),
    ]


def _egress(bot: TradingBot, component: Component) -> list[Rule]:
    """What a program of ours asks for."""
    wanted = needs(component, bot)
    rules = [_dns()]
    if Variable.MESSAGING_URL in wanted:
        if bot.spec.messaging.managed is not None:
            rules.append(_to([_pods(names.bot_selector(bot.metadata.name, Component.RABBITMQ))], AMQP_PORT))
        else:
            rules.append(_to(None, *EXTERNAL_AMQP_PORTS))
    if Variable.TIME_SERIES_URL in wanted:
        if bot.spec.time_series.managed is not None:
            rules.append(_to([_pods(names.bot_selector(bot.metadata.name, Component.INFLUXDB))], INFLUXDB_PORT))
        else:
            rules.append(_to(None, *EXTERNAL_INFLUXDB_PORTS))
    if Variable.DATABASE_URL in wanted:
        rules.append(_to_database(bot))
    if reaches_exchange(component, bot):
        # Its addresses change and are not ours to know.
        rules.append(_to(None, *_exchange_ports(bot, component)))
    if component is Component.REALITY_CHECK and bot.spec.mode == "paper":
        # Where the orders went: the paper exchange is a part of execution, which tells its books beside its metrics.
        rules.append(_to([_pods(names.bot_selector(bot.metadata.name, Component.EXECUTION))], AGENT_PORT))
    if told_at(component, bot):
        rules.append(_to(None, *RECEIVER_PORTS))
    if has_token(component):
        # It is outside every policy's labels: its address is the cluster's matter.
        rules.append(_to(None, *API_SERVER_PORTS))
    return rules


def _to_database(bot: TradingBot) -> Rule:
    managed = bot.spec.database.managed
    account = account_id(bot)
    if managed is None:
        return _to(None, *EXTERNAL_POSTGRES_PORTS)
    if managed.provider == "CloudNativePG":
        cluster = {CLOUD_NATIVE_PG: names.account_child(account, Component.POSTGRES)}
        return _to([_pods(cluster)], POSTGRES_PORT)
    return _to([_pods(names.account_selector(account, Component.POSTGRES))], POSTGRES_PORT)


def _has_database_of_ours(bot: TradingBot) -> bool:
    managed = bot.spec.database.managed
    return managed is not None and managed.provider == "StatefulSet"


def _exchange_ports(bot: TradingBot, component: Component) -> list[int]:
    ports = {HTTPS_PORT}
    endpoint = bot.spec.exchange.endpoint
    if endpoint is not None:
        # Another address of the exchange: a proxy, or a test server on any port.
        address = urlsplit(endpoint)
        ports.add(address.port or (80 if address.scheme in ("http", "ws") else HTTPS_PORT))
    if component is Component.DATA_COLLECTION and bot.spec.exchange.feed == "websocket":
        ports.add(STREAM_PORT)
    return sorted(ports)


def _messaging(bot: TradingBot, namespace: str) -> Manifest:
    managed = bot.spec.messaging.managed
    assert managed is not None, "only a managed RabbitMQ has pods"
    egress = []
    if managed.provider == "RabbitmqCluster":
        # That operator's RabbitMQ finds its peers by asking the API server; its pods inherit our labels.
        egress = [_dns(), _to(None, *API_SERVER_PORTS)]
    users = _users(bot, Variable.MESSAGING_URL)
    return _of_component(bot, namespace, Component.RABBITMQ, [_from(users, AMQP_PORT)], egress)


def _users(bot: TradingBot, variable: Variable) -> list[Manifest]:
    """The bot's programs that are given an address, as peers."""
    users = [component.value for component in PROGRAMS if variable in needs(component, bot)]
    return [
        {
            "podSelector": {
                "matchLabels": {Label.BOT.value: bot.metadata.name},
                "matchExpressions": [{"key": Label.COMPONENT.value, "operator": "In", "values": users}],
            }
        }
    ]


def _pods(labels: dict[str, str]) -> Manifest:
    return {"podSelector": {"matchLabels": labels}}


def _dns() -> Rule:
    """To anywhere: a cluster's resolver has no label that all clusters share, and may be on the node."""
    return {"ports": [{"protocol": protocol, "port": DNS_PORT} for protocol in ("UDP", "TCP")]}


def _to(peers: list[Manifest] | None, *ports: int) -> Rule:
    """``None``: anywhere."""
    return _rule("to", peers, ports)


def _from(peers: list[Manifest] | None, *ports: int) -> Rule:
    """``None``: from anywhere."""
    return _rule("from", peers, ports)


def _rule(direction: str, peers: list[Manifest] | None, ports: tuple[int, ...]) -> Rule:
    rule: Rule = {"ports": [{"protocol": "TCP", "port": port} for port in ports]}
    return rule if peers is None else {direction: peers, **rule}


def _of_component(
    bot: TradingBot, namespace: str, component: Component, ingress: list[Rule], egress: list[Rule]
) -> Manifest:
    name = bot.metadata.name
    return _policy(
        names.child(name, component),
        namespace,
        names.bot_labels(name, component),
        names.bot_selector(name, component),
        ingress,
        egress,
    )


def _policy(
    name: str,
    namespace: str,
    labels: dict[str, str],
    selector: dict[str, str],
    ingress: list[Rule],
    egress: list[Rule] | None,
) -> Manifest:
    """``egress`` ``None``: it says nothing of that direction."""
    spec: Manifest = {"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"], "ingress": ingress}
    if egress is not None:
        spec |= {"policyTypes": ["Ingress", "Egress"], "egress": egress}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": pods.metadata(name, namespace, labels),
        "spec": spec,
    }
