"""InfluxDB v2 of a bot's own.

Its image sets it up at the first start (organization, user, token) by variables that it never reads again once its
volume exists. So the Secret is made once, and the pod may keep the variables for ever.
"""

from __future__ import annotations

from tradingbot_api import TradingBot
from tradingbot_operator import images, names
from tradingbot_operator.builders import backends, pods
from tradingbot_operator.builders.backends import Access, Generate, SecretKey
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import INFLUXDB_PORT, TOKEN_KEY, URL_KEY, Component

USER = "tradingbot"
PASSWORD_KEY = "password"

SETUP_BUCKET = "setup"
"""InfluxDB's setup wants one; the bot's own are made by ``tradingbot migrate``, with their retention."""

# 75 MiB were measured in a pod after ten minutes, 95 to 145 MB with many candles; a query over years takes more for a
# moment.
RESOURCES = backends.amounts("0.05", 160, 512)

_COLLECTED_ABOVE = 0.8
"""Of the memory limit: from there on Go collects its garbage more eagerly, before the kernel ends the process."""

_DATA_FOLDER = "/var/lib/influxdb2"
_CONFIG_FOLDER = "/etc/influxdb2"
_SECRETS_FOLDER = "/etc/influxdb-secrets"


def access(bot: TradingBot) -> Access:
    external = bot.spec.time_series.external
    if external is not None:
        url, token = external.url_secret_ref, external.token_secret_ref
        return Access(SecretKey(url.name, url.key), SecretKey(token.name, token.key))
    return Access(SecretKey(_name(bot), URL_KEY), SecretKey(_name(bot), TOKEN_KEY))


def secret(bot: TradingBot, namespace: str, generate: Generate) -> Manifest | None:
    """Address, token and password. It must never change: InfluxDB reads them at its first start, and never again once
    its volume exists."""
    if bot.spec.time_series.managed is None:
        return None
    name = _name(bot)
    return backends.secret(
        name,
        namespace,
        names.bot_labels(bot.metadata.name, Component.INFLUXDB),
        {
            URL_KEY: f"http://{name}.{namespace}.svc:{INFLUXDB_PORT}",
            TOKEN_KEY: generate(48),
            PASSWORD_KEY: generate(24),
        },
    )


def managed(bot: TradingBot, namespace: str) -> list[Manifest]:
    """Everything but the Secret; nothing when it is external."""
    settings = bot.spec.time_series.managed
    if settings is None:
        return []
    name, labels = _name(bot), names.bot_labels(bot.metadata.name, Component.INFLUXDB)
    selector = names.bot_selector(bot.metadata.name, Component.INFLUXDB)
    healthy = {"httpGet": {"path": "/health", "port": "http"}, "timeoutSeconds": 5}
    resources = pods.resources(RESOURCES, settings.resources)
    collected_above = int(backends.memory_limit(resources) * _COLLECTED_ABOVE)
    container = {
        "name": "influxdb",
        "image": settings.image or images.INFLUXDB,
        "env": [
            {"name": "DOCKER_INFLUXDB_INIT_MODE", "value": "setup"},
            {"name": "DOCKER_INFLUXDB_INIT_USERNAME", "value": USER},
            {"name": "DOCKER_INFLUXDB_INIT_ORG", "value": bot.spec.time_series.organization},
            {"name": "DOCKER_INFLUXDB_INIT_BUCKET", "value": SETUP_BUCKET},
            {"name": "DOCKER_INFLUXDB_INIT_PASSWORD_FILE", "value": f"{_SECRETS_FOLDER}/{PASSWORD_KEY}"},
            {"name": "DOCKER_INFLUXDB_INIT_ADMIN_TOKEN_FILE", "value": f"{_SECRETS_FOLDER}/{TOKEN_KEY}"},
            {"name": "INFLUXD_REPORTING_DISABLED", "value": "true"},
            {"name": "INFLUXD_UI_DISABLED", "value": "true"},
            # A small node: 64 MiB of newest points in memory instead of a gigabyte, one compaction at a time.
            {"name": "INFLUXD_STORAGE_CACHE_MAX_MEMORY_SIZE", "value": str(64 * backends.MEBIBYTE)},
            {"name": "INFLUXD_STORAGE_CACHE_SNAPSHOT_MEMORY_SIZE", "value": str(8 * backends.MEBIBYTE)},
            {"name": "INFLUXD_STORAGE_MAX_CONCURRENT_COMPACTIONS", "value": "1"},
            {"name": "INFLUXD_QUERY_CONCURRENCY", "value": "4"},
            {"name": "INFLUXD_QUERY_QUEUE_SIZE", "value": "64"},
            {"name": "INFLUXD_LOG_LEVEL", "value": "warn"},
            {"name": "GOMEMLIMIT", "value": f"{collected_above}B"},
        ],
        "ports": [{"name": "http", "containerPort": INFLUXDB_PORT, "protocol": "TCP"}],
        # The first start sets it up with a server of its own, on another port, and then starts the lasting one.
        "startupProbe": {**healthy, "periodSeconds": 1, "failureThreshold": 300},
        "livenessProbe": {**healthy, "periodSeconds": 30, "failureThreshold": 4},
        "readinessProbe": {**healthy, "periodSeconds": 2, "failureThreshold": 5},
        "resources": resources,
        "volumeMounts": [
            {"name": "data", "mountPath": _DATA_FOLDER},
            # Its setup writes the client's configuration there.
            {"name": "config", "mountPath": _CONFIG_FOLDER},
            {"name": "secrets", "mountPath": _SECRETS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    volumes: list[Manifest] = [
        {"name": "config", **pods.empty_dir(16 * backends.MEBIBYTE)},
        pods.secret_files(name, PASSWORD_KEY, TOKEN_KEY),
        {"name": "tmp", **pods.empty_dir(64 * backends.MEBIBYTE)},
    ]
    return [
        backends.service(name, namespace, labels, selector, "http", INFLUXDB_PORT),
        backends.stateful_set(
            name,
            namespace,
            labels,
            selector,
            uid=images.INFLUXDB_UID,
            gid=images.INFLUXDB_GID,
            container=container,
            volume=settings.storage,
            volumes=volumes,
            # 2.7 has no handler for SIGTERM and ends at once; each write is on disk before it is answered.
            grace=30,
            pod=pods.HEARS_ITS_END,
        ),
    ]


def stays(bot: TradingBot) -> bool:
    """Whether its volume, and so its Secret, outlives the bot."""
    settings = bot.spec.time_series.managed
    return settings is not None and settings.storage.when_deleted == "Retain"


def _name(bot: TradingBot) -> str:
    return names.child(bot.metadata.name, Component.INFLUXDB)
