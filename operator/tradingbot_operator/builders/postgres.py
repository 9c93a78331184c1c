"""PostgreSQL of an account: one server for all bots that name it, or a Cluster of CloudNativePG.

CloudNativePG removes a Cluster's volume together with the Cluster. So where ``stays`` says that the volume is to
outlive the last bot, it is the Cluster that has to.
"""

from __future__ import annotations

from urllib.parse import quote

from tradingbot_api import TradingBot, format_bytes, parse_bytes
from tradingbot_operator import images, names
from tradingbot_operator.builders import backends, pods
from tradingbot_operator.builders.backends import Access, Generate, SecretKey
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import POSTGRES_PORT, URL_KEY, Component, account_id

USER = "tradingbot"
DATABASE = "tradingbot"
PASSWORD_KEY = "password"

# 103 MiB were measured after ten minutes of two bots. The shared buffers, a quarter of the limit, fill with the
# ledger, which is below 1 GB after a busy year.
RESOURCES = backends.amounts("0.05", 192, 512)

_DATA_FOLDER = "/var/lib/postgresql/data"
_SECRETS_FOLDER = "/etc/postgresql-secrets"

_ALIVE = 'pg_isready -q -h 127.0.0.1 -U "$POSTGRES_USER" -d "$POSTGRES_DB"; test $? -ne 2'
"""A server that recovers after a crash refuses (1) and is alive; ended for that, it would never be done. One that
does not answer at all (2) is not."""


def access(bot: TradingBot) -> Access:
    external = bot.spec.database.external
    if external is not None:
        return Access(SecretKey(external.url_secret_ref.name, external.url_secret_ref.key))
    if _by_operator(bot):
        return Access(SecretKey(f"{_name(account_id(bot))}-app", "uri"))
    return Access(SecretKey(_name(account_id(bot)), URL_KEY))


def secret(account: str, bot: TradingBot, namespace: str, generate: Generate) -> Manifest | None:
    """Address and password: read at the first start, and never again once the volume exists."""
    if bot.spec.database.managed is None or _by_operator(bot):
        return None
    name, password = _name(account), generate(24)
    host = f"{name}.{namespace}.svc:{POSTGRES_PORT}"
    return backends.secret(
        name,
        namespace,
        names.account_labels(account, Component.POSTGRES),
        {
            PASSWORD_KEY: password,
            URL_KEY: f"postgresql://{USER}:{quote(password, safe='')}@{host}/{DATABASE}",
        },
    )


def managed(account: str, bot: TradingBot, namespace: str) -> list[Manifest]:
    """Everything but the Secret, by the settings of ``bot``; nothing when it is external."""
    settings = bot.spec.database.managed
    if settings is None:
        return []
    if _by_operator(bot):
        return [_cluster(account, bot, namespace)]
    name, labels = _name(account), names.account_labels(account, Component.POSTGRES)
    selector = names.account_selector(account, Component.POSTGRES)
    # Over TCP and with the database's name: while the first start sets it up it answers on its socket only.
    ready = {
        "exec": {"command": ["pg_isready", "-q", "-h", "127.0.0.1", "-U", USER, "-d", DATABASE]},
        "timeoutSeconds": 5,
    }
    resources = pods.resources(RESOURCES, settings.resources)
    container = {
        "name": "postgres",
        "image": settings.image or images.POSTGRES,
        "args": [part for setting, value in _settings(resources).items() for part in ("-c", f"{setting}={value}")],
        "env": [
            # A folder of its own: the volume's root may hold lost+found, and must belong to the user alone.
            {"name": "PGDATA", "value": f"{_DATA_FOLDER}/pgdata"},
            {"name": "POSTGRES_USER", "value": USER},
            {"name": "POSTGRES_DB", "value": DATABASE},
            {"name": "POSTGRES_PASSWORD_FILE", "value": f"{_SECRETS_FOLDER}/{PASSWORD_KEY}"},
            # In the order of bytes: an order that comes from the system changes with the system, and then indexes of
            # texts are wrong. Nothing in the ledger is sorted for people.
            {
                "name": "POSTGRES_INITDB_ARGS",
                "value": "--data-checksums --encoding=UTF8 --locale=C --auth-host=scram-sha-256",
            },
        ],
        "ports": [{"name": "postgresql", "containerPort": POSTGRES_PORT, "protocol": "TCP"}],
        # After a crash it may replay a long log first.
        "startupProbe": {**ready, "periodSeconds": 3, "failureThreshold": 200},
        "livenessProbe": {
            "exec": {"command": ["sh", "-c", _ALIVE]},
            "timeoutSeconds": 10,
            "periodSeconds": 30,
            "failureThreshold": 4,
        },
        "readinessProbe": {**ready, "periodSeconds": 5, "failureThreshold": 2},
        "resources": resources,
        "volumeMounts": [
            {"name": "data", "mountPath": _DATA_FOLDER},
            {"name": "socket", "mountPath": "/var/run/postgresql"},
            {"name": "secrets", "mountPath": _SECRETS_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "memory", "mountPath": "/dev/shm"},
        ],
    }
    volumes: list[Manifest] = [
        {"name": "socket", **pods.empty_dir(backends.MEBIBYTE)},
        pods.secret_files(name, PASSWORD_KEY),
        {"name": "tmp", **pods.empty_dir(64 * backends.MEBIBYTE)},
        # What containers get by default is too little for parallel queries.
        {"name": "memory", **pods.empty_dir(128 * backends.MEBIBYTE, in_memory=True)},
    ]
    return [
        backends.service(name, namespace, labels, selector, "postgresql", POSTGRES_PORT),
        backends.stateful_set(
            name,
            namespace,
            labels,
            selector,
            uid=images.POSTGRES_UID,
            gid=images.POSTGRES_GID,
            container=container,
            volume=settings.storage,
            volumes=volumes,
            # The image asks to be stopped by SIGINT: it ends its clients' sessions and writes a checkpoint.
            grace=120,
            # Not pods.HEARS_ITS_END: another process may then have the number that a file of the volume has kept, and
            # the server would take it for a second one on this volume.
        ),
    ]


def _cluster(account: str, bot: TradingBot, namespace: str) -> Manifest:
    """One instance, for CloudNativePG: it makes the Secret ``<name>-app`` with the address."""
    settings = bot.spec.database.managed
    assert settings is not None, "only what is managed is made"
    resources = pods.resources(RESOURCES, settings.resources)
    spec: Manifest = {
        "instances": 1,
        "bootstrap": {"initdb": {"database": DATABASE, "owner": USER, "dataChecksums": True}},
        "storage": {"size": format_bytes(settings.storage.size)},
        "resources": resources,
        "postgresql": {"parameters": _settings(resources)},
    }
    if settings.image is not None:
        spec["imageName"] = settings.image
    if settings.storage.class_name is not None:
        spec["storage"]["storageClass"] = settings.storage.class_name
    return {
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": pods.metadata(_name(account), namespace, names.account_labels(account, Component.POSTGRES)),
        "spec": spec,
    }


def _settings(resources: Manifest) -> dict[str, str]:
    """Without what makes a commit durable (fsync, full_page_writes, synchronous_commit): PostgreSQL has it on. Only
    what every version of the last years knows, for the image may be a person's own."""
    limit = backends.memory_limit(resources) // backends.MEBIBYTE
    promised = parse_bytes(resources["requests"]["memory"]) // backends.MEBIBYTE
    return {
        # A quarter and a half, as its manual says. What is not promised may not be there: CloudNativePG refuses
        # buffers above it.
        "shared_buffers": f"{max(min(limit // 4, promised), 1)}MB",
        "effective_cache_size": f"{max(limit // 2, 1)}MB",
        "maintenance_work_mem": "32MB",
        # On a small volume, and replayed within seconds after a crash.
        "max_wal_size": "512MB",
        # A dead client is noticed, and its locks are freed, within half a minute.
        "tcp_keepalives_idle": "15",
        "tcp_keepalives_interval": "5",
        "tcp_keepalives_count": "3",
    }


def stays(bot: TradingBot) -> bool:
    """Whether its volume, and so its Secret, outlives the account's last bot."""
    settings = bot.spec.database.managed
    return settings is not None and settings.storage.when_deleted == "Retain"


def _by_operator(bot: TradingBot) -> bool:
    settings = bot.spec.database.managed
    return settings is not None and settings.provider == "CloudNativePG"


def _name(account: str) -> str:
    return names.account_child(account, Component.POSTGRES)
