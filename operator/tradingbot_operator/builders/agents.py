"""The five agents: four Deployments, and the StatefulSet of risk.

Each workload is built alone, for a new revision reaches them one after another. None has ever two pods by our doing:
a Deployment recreates (the old pod has ended before the new one begins), and risk has the one name that a StatefulSet
gives its one pod. Where a lost node makes two of execution all the same, its epoch in the ledger fences the older one
off.

Of what a pod is given, the addresses and keys are files in one folder (a projected volume, mounted as a whole, so
that a rotated key arrives without a restart), and only those that its agent needs; the exchange's key is in
execution only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import StrEnum

import msgspec

from tradingbot_api import (
    SIMULATED,
    AgentOverrides,
    EnvVar,
    ResourceAmounts,
    Resources,
    SecretRef,
    TradingBot,
    UrlSecretRef,
)
from tradingbot_operator import names
from tradingbot_operator.builders import config, influxdb, pods, postgres, rabbitmq
from tradingbot_operator.builders.access import has_token
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AGENT_PORT, AGENTS, Annotation, Component

UID = 10001
"""Of the agents' image."""

METRICS = "metrics"
"""The port's name, for a ServiceMonitor or PodMonitor."""

SECRETS_FOLDER = "/etc/tradingbot/secrets"
DATA_FOLDER = "/var/lib/tradingbot"

MEBIBYTE = 2**20


class Variable(StrEnum):
    """Of the environment; each is given as ``NAME_FILE``."""

    DATABASE_URL = "TRADINGBOT_DATABASE_URL"
    MESSAGING_URL = "TRADINGBOT_MESSAGING_URL"
    TIME_SERIES_URL = "TRADINGBOT_TIME_SERIES_URL"
    TIME_SERIES_TOKEN = "TRADINGBOT_TIME_SERIES_TOKEN"
    EXCHANGE_API_KEY = "TRADINGBOT_EXCHANGE_API_KEY"
    EXCHANGE_SECRET = "TRADINGBOT_EXCHANGE_SECRET"
    EXCHANGE_PASSWORD = "TRADINGBOT_EXCHANGE_PASSWORD"

    @property
    def file(self) -> str:
        """Its name in ``SECRETS_FOLDER``."""
        return self.removeprefix("TRADINGBOT_").lower().replace("_", "-")


OPTIONAL = frozenset({Variable.EXCHANGE_PASSWORD})
"""Few exchanges have one. A key that is not in the Secret is no file, which the agents know."""

MARKET_DATA = frozenset({Variable.TIME_SERIES_URL, Variable.TIME_SERIES_TOKEN})
EXCHANGE_KEY = frozenset({Variable.EXCHANGE_API_KEY, Variable.EXCHANGE_SECRET, Variable.EXCHANGE_PASSWORD})

NEEDS: Mapping[Component, frozenset[Variable]] = {
    Component.DATA_COLLECTION: MARKET_DATA | {Variable.MESSAGING_URL},
    Component.TECHNICAL_ANALYSIS: MARKET_DATA | {Variable.MESSAGING_URL},
    Component.STRATEGY: frozenset({Variable.MESSAGING_URL, Variable.DATABASE_URL}),
    Component.RISK: MARKET_DATA | {Variable.MESSAGING_URL, Variable.DATABASE_URL},
    Component.EXECUTION: EXCHANGE_KEY | {Variable.MESSAGING_URL, Variable.DATABASE_URL},
    Component.MIGRATION: MARKET_DATA | {Variable.DATABASE_URL},
    Component.PRUNE: frozenset({Variable.DATABASE_URL}),
    Component.REALITY_CHECK: MARKET_DATA | EXCHANGE_KEY | {Variable.MESSAGING_URL, Variable.DATABASE_URL},
}
"""What each program needs at most; the agents' half is ``tradingbot_agents.runtime.connections.NEEDS``."""

_CREDENTIALS = {
    Variable.EXCHANGE_API_KEY: "apiKey",
    Variable.EXCHANGE_SECRET: "secret",
    Variable.EXCHANGE_PASSWORD: "password",
}

# Requests are what docs/performance.md measured of three symbols, and a little; limits are far above, for fifty
# symbols and a full spool, and still tell a leak. One core is all that Python's one loop can use, so that limit
# slows no stop.
_LIMITS = ResourceAmounts(cpu=Decimal(1), memory=256 * MEBIBYTE)


def _amounts(cpu: str, mebibytes: int) -> Resources:
    return Resources(requests=ResourceAmounts(cpu=Decimal(cpu), memory=mebibytes * MEBIBYTE), limits=_LIMITS)


RESOURCES: Mapping[Component, Resources] = {
    Component.DATA_COLLECTION: _amounts("0.025", 80),
    Component.TECHNICAL_ANALYSIS: _amounts("0.025", 80),
    Component.STRATEGY: _amounts("0.025", 56),
    Component.RISK: _amounts("0.05", 64),
    Component.EXECUTION: _amounts("0.05", 80),
    Component.MIGRATION: _amounts("0.025", 96),
    Component.PRUNE: _amounts("0.025", 64),
    Component.REALITY_CHECK: _amounts("0.025", 96),
}

_TEMPORARY = 64 * MEBIBYTE
_SPOOLED = 400
"""Bytes on disk for one candle, at the most."""

_PAPER_BOOKS = 2**30
"""Some MB are used; most storage classes give no less than 1 GiB."""

_STARTING = {"periodSeconds": 2, "timeoutSeconds": 5, "failureThreshold": 90}
"""Until it listens, which waits for nothing outside: a second on a free node, and far below three minutes on a small
one on which everything starts at once."""

_FROZEN_AFTER = 60
_LIVENESS_PERIOD = 10
"""Seconds. A loop that does not answer for a minute watches no stop either; a busy one answers late, but in time."""

_AFTER_STOPPING = 10
"""Seconds beyond ``runtime.stopLimit``: connections are closed, the last log lines leave."""

_HISTORY = 2
_PROGRESS = 600
"""Seconds until a roll-out that makes no progress is said to have failed: an image may take minutes on a slow
line."""


# ------------------------------------------------------------------------------------------------- workloads


def workload(component: Component, bot: TradingBot, namespace: str, image: str, revision: str) -> Manifest:
    """The Deployment or StatefulSet of one agent, at ``revision``, which is what ``bot`` and ``image`` are."""
    name = bot.metadata.name
    metadata = pods.metadata(names.child(name, component), namespace, names.bot_labels(name, component))
    common = {
        "replicas": 1,
        "revisionHistoryLimit": _HISTORY,
        "selector": {"matchLabels": names.bot_selector(name, component)},
        "template": _agent(component, bot, image, revision),
    }
    if component is not Component.RISK:
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": metadata,
            "spec": common | {"progressDeadlineSeconds": _PROGRESS, "strategy": {"type": "Recreate"}},
        }
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata,
        "spec": common
        | {
            "serviceName": names.child(name, component),
            "updateStrategy": {"type": "RollingUpdate"},
            # In order, the controller would wait for a broken pod to become ready before it replaces it by a mended
            # one: for ever. Of one replica there is no order, and never two pods of the one name.
            "podManagementPolicy": "Parallel",
        },
    }


def service(bot: TradingBot, namespace: str) -> Manifest:
    """The headless one that risk's StatefulSet asks for."""
    name = bot.metadata.name
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": pods.metadata(
            names.child(name, Component.RISK), namespace, names.bot_labels(name, Component.RISK)
        ),
        "spec": {
            "clusterIP": "None",
            "selector": names.bot_selector(name, Component.RISK),
            "ports": [{"name": METRICS, "port": AGENT_PORT, "targetPort": METRICS}],
        },
    }


def paper_volume(bot: TradingBot, namespace: str) -> Manifest | None:
    """In mode paper: the claim for the simulated exchange's books, which execution keeps. They are the other half of
    the ledger: one without the other does not add up. So they go when the ledger's volume goes, and stay with it
    (``paper_volume_stays``)."""
    if bot.spec.mode != "paper":
        return None
    name = bot.metadata.name
    managed = bot.spec.database.managed
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": pods.metadata(
            names.child(name, Component.EXECUTION), namespace, names.bot_labels(name, Component.EXECUTION)
        ),
        "spec": pods.claim_spec(_PAPER_BOOKS, None if managed is None else managed.storage.class_name),
    }


def paper_volume_stays(bot: TradingBot) -> bool:
    """Whether it outlives the bot. An external database does, so its other half must."""
    managed = bot.spec.database.managed
    return managed is None or managed.storage.when_deleted == "Retain"


def _agent(component: Component, bot: TradingBot, image: str, revision: str) -> Manifest:
    runtime = bot.spec.runtime
    probe_period = max(1, math.ceil(runtime.probe_interval.total_seconds()))
    frozen_after = min(_FROZEN_AFTER, runtime.stuck_after.total_seconds())
    container = {
        "args": [
            "agent",
            component.value,
            config.SPEC_FILE,
            "--state-file",
            config.STATE_FILE,
            "--listen",
            f"0.0.0.0:{AGENT_PORT}",
            "--data-dir",
            DATA_FOLDER,
            "--output",
            "json",
        ],
        "ports": [{"name": METRICS, "containerPort": AGENT_PORT, "protocol": "TCP"}],
        "startupProbe": _probe("/live", **_STARTING),
        # The agent itself tells a handler that never ends (runtime.stuckAfter); what is away is no reason to restart.
        "livenessProbe": _probe(
            "/live",
            periodSeconds=_LIVENESS_PERIOD,
            timeoutSeconds=5,
            failureThreshold=max(1, math.ceil(frozen_after / _LIVENESS_PERIOD)),
        ),
        # It knows nothing newer than its own last look at its parts.
        "readinessProbe": _probe("/ready", periodSeconds=probe_period, timeoutSeconds=5, failureThreshold=2),
    }
    volumes: list[Manifest] = [{"name": "state", "configMap": {"name": names.state_config(bot.metadata.name)}}]
    mounts = [{"name": "state", "mountPath": config.STATE_FOLDER, "readOnly": True}]
    data = _data(component, bot)
    if data is not None:
        volumes.append({"name": "data", **data})
        mounts.append({"name": "data", "mountPath": DATA_FOLDER})
    grace = math.ceil(runtime.stop_limit.total_seconds()) + _AFTER_STOPPING
    return template(
        component,
        bot,
        image,
        revision,
        container,
        volumes=volumes,
        mounts=mounts,
        pod={"terminationGracePeriodSeconds": grace},
    )


def _data(component: Component, bot: TradingBot) -> Manifest | None:
    """Where an agent keeps something on disk, if it does."""
    if component is Component.DATA_COLLECTION:
        # The spool of candles while InfluxDB is away. It outlives a crash, and what goes with the pod is fetched from
        # the exchange again, so it is worth no volume that would tie the pod to a node. A rewrite holds it twice, and
        # what grows above its limit is evicted.
        most = 2 * _SPOOLED * bot.spec.time_series.spool_length + _TEMPORARY
        return pods.empty_dir(math.ceil(most / MEBIBYTE) * MEBIBYTE)
    if component is Component.EXECUTION and bot.spec.mode == "paper":
        return {"persistentVolumeClaim": {"claimName": names.child(bot.metadata.name, component)}}
    return None


def _probe(path: str, **times: int) -> Manifest:
    return {"httpGet": {"path": path, "port": METRICS}, **times}


# --------------------------------------------------------------------------- pods of the agents' image


def template(
    component: Component,
    bot: TradingBot,
    image: str,
    revision: str,
    container: Manifest,
    *,
    volumes: list[Manifest],
    mounts: list[Manifest],
    pod: Manifest,
    environment: Sequence[Manifest] = (),
) -> Manifest:
    """A pod's template with the pinned spec, the secrets that ``component`` needs and the overrides of its spec.
    ``container``, ``pod`` and ``environment`` are what it has beyond that."""
    name = bot.metadata.name
    overrides = overrides_of(component, bot) or AgentOverrides()
    security = pods.security_context(UID, UID)
    spec: Manifest = {
        "serviceAccountName": names.child(name, component),
        "automountServiceAccountToken": has_token(component),
        # Addresses of every Service of the namespace, as variables, are of no use and may be taken for settings.
        "enableServiceLinks": False,
        **pods.HEARS_ITS_END,
        "securityContext": security.pod,
        "containers": [
            {
                "name": component.value,
                "image": image,
                "imagePullPolicy": "IfNotPresent",
                "env": _environment(component, bot, overrides, environment),
                "resources": pods.resources(RESOURCES[component], overrides.resources),
                "securityContext": security.container,
                "volumeMounts": [
                    {"name": "spec", "mountPath": config.SPEC_FOLDER, "readOnly": True},
                    {"name": "secrets", "mountPath": SECRETS_FOLDER, "readOnly": True},
                    {"name": "tmp", "mountPath": "/tmp"},
                    *mounts,
                ],
                **container,
            }
        ],
        "volumes": [
            {"name": "spec", "configMap": {"name": names.spec_config(name, revision)}},
            {"name": "secrets", "projected": {"defaultMode": 0o440, "sources": _sources(component, bot)}},
            {"name": "tmp", **pods.empty_dir(_TEMPORARY)},
            *volumes,
        ],
        **pod,
    }
    if overrides.node_selector:
        spec["nodeSelector"] = dict(overrides.node_selector)
    if overrides.tolerations:
        spec["tolerations"] = [_given(toleration) for toleration in overrides.tolerations]
    if overrides.affinity:
        spec["affinity"] = overrides.affinity
    annotations = {**overrides.annotations, Annotation.REVISION.value: revision}
    return {
        "metadata": {"labels": names.bot_labels(name, component), "annotations": annotations},
        "spec": spec,
    }


def overrides_of(component: Component, bot: TradingBot) -> AgentOverrides | None:
    """What the spec changes of a component's pods."""
    if component in (Component.MIGRATION, Component.PRUNE):
        return None
    found: AgentOverrides | None = getattr(bot.spec.agents, component.value.replace("-", "_"))
    return found


def needs(component: Component, bot: TradingBot) -> frozenset[Variable]:
    """What a program is given: its needs, but no key where there is none to be had, as in mode paper."""
    return NEEDS[component] if credentials(component, bot) is not None else NEEDS[component] - EXCHANGE_KEY


def credentials(component: Component, bot: TradingBot) -> SecretRef | None:
    """The Secret of the exchange's key that a component gets: execution the one that trades, the reality check the
    one that only reads."""
    if component is Component.EXECUTION:
        return bot.spec.exchange.credentials_secret_ref if bot.spec.mode != "paper" else None
    return bot.spec.reality_check.credentials_secret_ref if component is Component.REALITY_CHECK else None


def told_at(component: Component, bot: TradingBot) -> dict[str, UrlSecretRef]:
    """The addresses that the reality check tells what it finds, by their file in ``SECRETS_FOLDER``, where the agents
    look for them (``tradingbot_agents.runtime.addresses``)."""
    if component is not Component.REALITY_CHECK:
        return {}
    found = {f"notification-{each.name}": each.url_secret_ref for each in bot.spec.notifications}
    ping = bot.spec.reality_check.ping_url_secret_ref
    return found if ping is None else found | {"ping-url": ping}


def reaches_exchange(component: Component, bot: TradingBot) -> bool:
    """Also in mode paper: candles and market rules are a real exchange's, if it is not a simulated one."""
    if bot.spec.exchange.name == SIMULATED:
        return False
    # The check looks at the market without a key, too.
    return component in (Component.DATA_COLLECTION, Component.EXECUTION, Component.REALITY_CHECK)


def _environment(
    component: Component, bot: TradingBot, overrides: AgentOverrides, more: Sequence[Manifest]
) -> list[Manifest]:
    own: list[Manifest] = [
        {"name": f"{variable.value}_FILE", "value": f"{SECRETS_FOLDER}/{variable.file}"}
        for variable in Variable
        if variable in needs(component, bot)
    ]
    if has_token(component):
        own += [
            {"name": "TRADINGBOT_KUBERNETES", "value": "1"},
            {"name": "TRADINGBOT_NAMESPACE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
        ]
    if component in AGENTS or component is Component.REALITY_CHECK:
        # Each says with its start what it runs: what another revision told is no evidence of this one.
        field = f"metadata.annotations['{Annotation.REVISION.value}']"
        own.append({"name": "TRADINGBOT_REVISION", "valueFrom": {"fieldRef": {"fieldPath": field}}})
    own += more
    taken = {each["name"] for each in own}
    return own + [_variable(variable) for variable in overrides.env if variable.name not in taken]


def _variable(variable: EnvVar) -> Manifest:
    reference = variable.value_from_secret
    if reference is None:
        return {"name": variable.name, "value": variable.value}
    return {"name": variable.name, "valueFrom": {"secretKeyRef": {"name": reference.name, "key": reference.key}}}


def _sources(component: Component, bot: TradingBot) -> list[Manifest]:
    """Of the projected volume: one for each Secret that the program needs, and of it only the keys that it needs. A
    missing one keeps the pod from starting; what is optional is a source of its own, for it is so as a whole."""
    items: dict[tuple[str, bool], list[Manifest]] = {}
    for variable in Variable:
        if variable in needs(component, bot):
            secret, key = _place(variable, component, bot)
            items.setdefault((secret, variable in OPTIONAL), []).append({"key": key, "path": variable.file})
    for file, reference in told_at(component, bot).items():
        # Without an address the check goes on, and says so.
        items.setdefault((reference.name, True), []).append({"key": reference.key, "path": file})
    return [
        {"secret": {"name": secret, "items": wanted, "optional": optional}}
        for (secret, optional), wanted in items.items()
    ]


def _place(variable: Variable, component: Component, bot: TradingBot) -> tuple[str, str]:
    """Secret and key that hold a variable's value."""
    if variable in EXCHANGE_KEY:
        reference = credentials(component, bot)
        assert reference is not None, "without one there is no need of a key"
        return reference.name, _CREDENTIALS[variable]
    match variable:
        case Variable.DATABASE_URL:
            found = postgres.access(bot).url
        case Variable.MESSAGING_URL:
            found = rabbitmq.access(bot).url
        case Variable.TIME_SERIES_URL:
            found = influxdb.access(bot).url
        case _:
            token = influxdb.access(bot).token
            assert token is not None, "InfluxDB's access has a token"
            found = token
    return found.name, found.key


def _given(struct: msgspec.Struct) -> Manifest:
    """A struct of the spec as Kubernetes writes it, without what is not set."""
    written: Manifest = msgspec.to_builtins(struct)
    return {key: value for key, value in written.items() if value is not None}
