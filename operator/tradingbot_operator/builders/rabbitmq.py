"""RabbitMQ of a bot's own: one small broker, or a resource of the RabbitMQ Cluster Operator.

What is in its queues is never the only copy: the ledger is the truth, and a message only wakes. So a broker that the
Cluster Operator makes may lose its volume with its resource, as that operator has it: ``storage.whenDeleted`` is not
for it. A volume that stayed would even be of no use, for the password in it goes with the resource.
"""

from __future__ import annotations

from urllib.parse import quote

from tradingbot_api import TradingBot, format_bytes
from tradingbot_operator import images, names
from tradingbot_operator.builders import backends, pods
from tradingbot_operator.builders.backends import Access, Generate, SecretKey
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AMQP_PORT, URL_KEY, Component

USER = "tradingbot"
USER_FILE = "user.conf"

# 80 MiB were measured in a pod of a bot that trades; the queues of a bot are short.
RESOURCES = backends.amounts("0.05", 128, 384)

_WATERMARK = 0.5
"""Of the memory limit: above it the broker takes no messages until some are gone. Erlang may need twice its memory
for a moment, and must not be killed then."""

_SETTINGS = """\
vm_memory_high_watermark.absolute = {watermark}
# Of a volume of 1 GiB; what it comes with would be a broker that blocks from the start.
disk_free_limit.absolute = 100MiB
# The write-ahead log of all quorum queues: what it comes with is half of such a volume.
raft.wal_max_size_bytes = 16777216
log.console = true
log.console.level = warning
# As the agents'; what it comes with is coloured, which no log collector shows.
log.console.formatter = json
"""

_OWN_SETTINGS = """\
log.file = false
# The user of the address has all rights, from anywhere, and no other user exists.
loopback_users = none
"""
"""Beyond those, for a broker of ours."""

SETTINGS_FILE = "tradingbot.conf"
PLUGINS_FILE = "enabled_plugins"

_CONFIG_FOLDER = "/etc/rabbitmq"
"""In place of the image's own. Every file of ``conf.d`` is taken for settings, so the plugins are not there."""

_HOME = "/var/lib/rabbitmq"
_DATA_FOLDER = f"{_HOME}/mnesia"

_ERLANG = (
    # A bot uses one core at the most; each scheduler of the machine costs memory, and one that waits must not spin.
    "+S 1:1 +sbwt none +sbwtdcpu none +sbwtdio none"
    # It is alone: nobody outside of its pod has to reach the machine itself, which would do whatever it is told.
    " -kernel inet_dist_use_interface {127,0,0,1}"
)

_GRACE = 60
"""Seconds: it closes its queues, and a long log is written to the end."""


def access(bot: TradingBot) -> Access:
    messaging = bot.spec.messaging
    if messaging.external is not None:
        return Access(SecretKey(messaging.external.url_secret_ref.name, messaging.external.url_secret_ref.key))
    if _by_operator(bot):
        return Access(SecretKey(f"{_name(bot)}-default-user", "connection_string"))
    return Access(SecretKey(_name(bot), URL_KEY))


def secret(bot: TradingBot, namespace: str, generate: Generate) -> Manifest | None:
    """The user, as the broker reads it at its first start and as the programs are given it. ``None``: it is not ours
    to make."""
    if bot.spec.messaging.managed is None or _by_operator(bot):
        return None
    name, password = _name(bot), generate(24)
    return backends.secret(
        name,
        namespace,
        names.bot_labels(bot.metadata.name, Component.RABBITMQ),
        {
            USER_FILE: f"default_user = {USER}\ndefault_pass = {password}\n",
            # %2F is the virtual host /.
            URL_KEY: f"amqp://{USER}:{quote(password, safe='')}@{name}.{namespace}.svc:{AMQP_PORT}/%2F",
        },
    )


def managed(bot: TradingBot, namespace: str) -> list[Manifest]:
    """Everything but the Secret; nothing when it is external."""
    settings = bot.spec.messaging.managed
    if settings is None:
        return []
    if _by_operator(bot):
        return [_cluster(bot, namespace)]
    name, labels = _name(bot), names.bot_labels(bot.metadata.name, Component.RABBITMQ)
    selector = names.bot_selector(bot.metadata.name, Component.RABBITMQ)
    # By TCP, and not by its own tools: each call of them starts an Erlang machine, which takes a second of one core.
    # A port that answers is a broker whose listeners run, and they run last.
    listening = {"tcpSocket": {"port": "amqp"}, "timeoutSeconds": 5}
    resources = pods.resources(RESOURCES, settings.resources)
    container = {
        "name": "rabbitmq",
        "image": settings.image or images.RABBITMQ,
        "env": [
            # Its data is kept under its own name, and the pod's may resolve late.
            {"name": "RABBITMQ_NODENAME", "value": "rabbit@localhost"},
            {"name": "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "value": _ERLANG},
            {"name": "ERL_EPMD_ADDRESS", "value": "127.0.0.1"},
        ],
        "ports": [{"name": "amqp", "containerPort": AMQP_PORT, "protocol": "TCP"}],
        "startupProbe": {**listening, "periodSeconds": 1, "failureThreshold": 300},
        "livenessProbe": {**listening, "periodSeconds": 30, "failureThreshold": 4},
        "readinessProbe": {**listening, "periodSeconds": 2, "failureThreshold": 5},
        "resources": resources,
        "volumeMounts": [
            # The cookie is made there at each start. Not on the volume: Erlang refuses one that its group may read,
            # and Kubernetes may give the files of a volume to its group.
            {"name": "home", "mountPath": _HOME},
            {"name": "data", "mountPath": _DATA_FOLDER},
            {"name": "config", "mountPath": _CONFIG_FOLDER, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},
            {"name": "log", "mountPath": "/var/log/rabbitmq"},
        ],
    }
    volumes: list[Manifest] = [
        {
            "name": "config",
            "projected": {
                "defaultMode": 0o440,
                "sources": [
                    {
                        "configMap": {
                            "name": name,
                            "items": [
                                {"key": SETTINGS_FILE, "path": f"conf.d/10-{SETTINGS_FILE}"},
                                {"key": PLUGINS_FILE, "path": PLUGINS_FILE},
                            ],
                        }
                    },
                    {"secret": {"name": name, "items": [{"key": USER_FILE, "path": f"conf.d/20-{USER_FILE}"}]}},
                ],
            },
        },
        {"name": "home", **pods.empty_dir(16 * backends.MEBIBYTE)},
        {"name": "tmp", **pods.empty_dir(64 * backends.MEBIBYTE)},
        {"name": "log", **pods.empty_dir(16 * backends.MEBIBYTE)},
    ]
    return [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": pods.metadata(name, namespace, labels),
            "data": {SETTINGS_FILE: _settings(resources) + _OWN_SETTINGS, PLUGINS_FILE: "[].\n"},
        },
        backends.service(name, namespace, labels, selector, "amqp", AMQP_PORT),
        backends.stateful_set(
            name,
            namespace,
            labels,
            selector,
            uid=images.RABBITMQ_UID,
            gid=images.RABBITMQ_GID,
            container=container,
            volume=settings.storage,
            volumes=volumes,
            grace=_GRACE,
            pod=pods.HEARS_ITS_END,
        ),
    ]


def _cluster(bot: TradingBot, namespace: str) -> Manifest:
    """One node, for the RabbitMQ Cluster Operator."""
    settings = bot.spec.messaging.managed
    assert settings is not None, "only what is managed is made"
    resources = pods.resources(RESOURCES, settings.resources)
    spec: Manifest = {
        "replicas": 1,
        "resources": resources,
        "persistence": {"storage": format_bytes(settings.storage.size)},
        "rabbitmq": {"additionalConfig": _settings(resources)},
        "terminationGracePeriodSeconds": _GRACE,
    }
    if settings.image is not None:
        spec["image"] = settings.image
    if settings.storage.class_name is not None:
        spec["persistence"]["storageClassName"] = settings.storage.class_name
    return {
        "apiVersion": "rabbitmq.com/v1beta1",
        "kind": "RabbitmqCluster",
        "metadata": pods.metadata(_name(bot), namespace, names.bot_labels(bot.metadata.name, Component.RABBITMQ)),
        "spec": spec,
    }


def _settings(resources: Manifest) -> str:
    return _SETTINGS.format(watermark=int(backends.memory_limit(resources) * _WATERMARK))


def stays(bot: TradingBot) -> bool:
    """Whether its volume, and so its Secret, outlives the bot."""
    settings = bot.spec.messaging.managed
    return settings is not None and settings.storage.when_deleted == "Retain"


def _by_operator(bot: TradingBot) -> bool:
    settings = bot.spec.messaging.managed
    return settings is not None and settings.provider == "RabbitmqCluster"


def _name(bot: TradingBot) -> str:
    return names.child(bot.metadata.name, Component.RABBITMQ)
