"""Every name that the operator gives: of children, labels, annotations, ports and paths.

They are an interface: people select by the labels, NetworkPolicies rest on them, and a changed name is another object
beside the old one. A bot's name has at most 40 characters, so that the longest name made of it stays a DNS label.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum

from tradingbot_api import TradingBot

GROUP = "tradingbot.dev"
VERSION = "v1alpha1"
PLURAL = "tradingbots"

MANAGER = "tradingbot-operator"
"""Field manager of everything that is applied, and the value of ``MANAGED_BY``."""

FINALIZER = f"{GROUP}/deletion-policy"


class Label(StrEnum):
    MANAGED_BY = "app.kubernetes.io/managed-by"
    NAME = "app.kubernetes.io/name"
    INSTANCE = "app.kubernetes.io/instance"
    COMPONENT = "app.kubernetes.io/component"
    PART_OF = "app.kubernetes.io/part-of"
    BOT = f"{GROUP}/bot"
    """On what belongs to one bot."""
    ACCOUNT = f"{GROUP}/account"
    """On what belongs to an account: the database and its backup."""


class Annotation(StrEnum):
    """Of children, unless it says otherwise."""

    MANIFEST = f"{GROUP}/manifest"
    """Hash of the manifest that was applied last."""
    REVISION = f"{GROUP}/revision"
    """Of pods: the pinned revision that they run."""
    STATE = f"{GROUP}/state"
    """Of pods: the wanted state; its change makes the kubelet refresh the mounted ConfigMap at once."""
    PAUSED = f"{GROUP}/paused"
    """Of a TradingBot, by a person: "true" keeps the operator's hands off its children."""
    APPLY = f"{GROUP}/apply"
    """Of a TradingBot, by a person: the pending revision that may be applied."""
    ABANDON = f"{GROUP}/abandon"
    """Of a TradingBot, by a person: "true" gives up what the deletion waits for."""


class Component(StrEnum):
    DATA_COLLECTION = "data-collection"
    TECHNICAL_ANALYSIS = "technical-analysis"
    STRATEGY = "strategy"
    RISK = "risk"
    EXECUTION = "execution"
    REALITY_CHECK = "reality-check"
    MIGRATION = "migration"
    PRUNE = "prune"
    RABBITMQ = "rabbitmq"
    INFLUXDB = "influxdb"
    POSTGRES = "postgres"
    BACKUP = "backup"


AGENTS = (
    Component.DATA_COLLECTION,
    Component.TECHNICAL_ANALYSIS,
    Component.STRATEGY,
    Component.RISK,
    Component.EXECUTION,
)

PROGRAMS = (*AGENTS, Component.MIGRATION, Component.PRUNE, Component.REALITY_CHECK)
"""All that runs the agents' image."""

AGENT_PORT = 8080
"""/live, /ready and /metrics."""
AMQP_PORT = 5672
INFLUXDB_PORT = 8086
POSTGRES_PORT = 5432

URL_KEY = "url"
"""Of a generated Secret: the address with its user and password."""
TOKEN_KEY = "token"
"""Of InfluxDB's generated Secret."""


def child(bot: str, component: Component) -> str:
    """The workload, its Service, its ServiceAccount and so on: each kind has it once."""
    return f"{bot}-{component}"


def spec_config(bot: str, revision: str) -> str:
    """The immutable ConfigMap with the resolved spec of one revision."""
    return f"{bot}-spec-{revision}"


def state_config(bot: str) -> str:
    """The mutable ConfigMap with the wanted state."""
    return f"{bot}-state"


def account_id(bot: TradingBot) -> str:
    """A name for the ledger account (mode, exchange, endpoint, name): a label's value and a DNS label of up to 40
    characters: readable, and by its hash as unique as the account itself."""
    spec = bot.spec
    identity = "\n".join((spec.mode, spec.exchange.name, spec.exchange.endpoint or "", spec.account.name))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:8]
    readable = re.sub(r"[^a-z0-9]+", "-", f"{spec.mode}-{spec.exchange.name}-{spec.account.name}".lower())
    return f"{readable[:31].strip('-')}-{digest}"


def migration_job(bot: str, revision: str) -> str:
    """At most 63 characters, as its pods carry it as a label."""
    return f"{child(bot, Component.MIGRATION)}-{revision}"


def check_cron_job(bot: str) -> str:
    """To it are added eleven characters for each Job and six for its pod, so ``-reality-check`` would be too long
    behind a bot's name of 40."""
    return f"{bot}-check"


def deny_policy(owner: str) -> str:
    """Of a bot or an account: what nobody has allowed."""
    return f"{owner}-deny"


def database_policy(bot: str) -> str:
    """What lets a bot's pods into the account's database."""
    return f"{bot}-database"


def account_child(account: str, component: Component) -> str:
    """The database of an account, and what belongs to it."""
    return f"{account}-{component}"


def bot_labels(bot: str, component: Component) -> dict[str, str]:
    """Of a bot's child; the last two alone select its pods."""
    return _labels(Label.BOT, bot, component)


def account_labels(account: str, component: Component) -> dict[str, str]:
    """Of an account's child; the last two alone select its pods."""
    return _labels(Label.ACCOUNT, account, component)


def _labels(label: Label, owner: str, component: Component) -> dict[str, str]:
    return {
        Label.MANAGED_BY.value: MANAGER,
        Label.NAME.value: "tradingbot",
        Label.INSTANCE.value: owner,
        label.value: owner,
        Label.COMPONENT.value: component.value,
    }


def bot_selector(bot: str, component: Component) -> dict[str, str]:
    return {Label.BOT.value: bot, Label.COMPONENT.value: component.value}


def account_selector(account: str, component: Component) -> dict[str, str]:
    return {Label.ACCOUNT.value: account, Label.COMPONENT.value: component.value}
