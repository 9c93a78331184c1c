"""What is to be there for a bot, and for the database of an account. Pure, but for the randomness of generated
secrets.

**A revision** is the resolved spec, the image, and the workloads that this version of the operator makes of them:
pods that run are left alone when an operator of another version would make others. It is pinned in one immutable
ConfigMap, from which its pods mount the spec, and from which the operator takes the workloads again for as long as
they run.

What changes no agent (RBAC, network, the check, the removal of old history) follows the revision that is applied;
``state``, and how to update and delete, follow the spec as it is.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from itertools import chain

import msgspec

from tradingbot_api import SpecInvalid, TradingBot
from tradingbot_operator import names
from tradingbot_operator.builders import (
    access,
    agents,
    backup,
    check,
    config,
    disruption,
    influxdb,
    migration,
    network,
    postgres,
    prune,
    rabbitmq,
)
from tradingbot_operator.kinds import Manifest, Ref, ref_of
from tradingbot_operator.names import AGENTS, Annotation, Component
from tradingbot_operator.plan import Wanted
from tradingbot_operator.revisions import Pod

_REVISION_LENGTH = 12

_SERVERS = (Component.RABBITMQ, Component.INFLUXDB)
"""A bot's own."""

_OF_A_REVISION = ("ConfigMap", "StatefulSet")
"""Of a server: its settings, which it reads when it starts, go with its pod."""

READY, NOT_READY = "ready", "not ready"


class Pinned(msgspec.Struct, frozen=True):
    revision: str
    bot: TradingBot
    image: str
    workloads: dict[Component, list[Manifest]]
    """Of the agents, one each; and of the servers that are managed as StatefulSets, those with their settings."""


class Reference(msgspec.Struct, frozen=True):
    """A Secret that a person has to bring."""

    component: str
    name: str
    keys: tuple[str, ...]
    why: str


# --- revisions ------------------------------------------------------------------------------------------------


def pin(bot: TradingBot, namespace: str, image: str) -> Pinned:
    """The revision that a spec asks for."""
    unnamed = _workloads(bot, namespace, image, "")
    content = msgspec.json.encode([config.pinned(bot, image), unnamed], order="sorted")
    revision = hashlib.sha256(content).hexdigest()[:_REVISION_LENGTH]
    return Pinned(revision, bot, image, _workloads(bot, namespace, image, revision))


def _workloads(bot: TradingBot, namespace: str, image: str, revision: str) -> dict[Component, list[Manifest]]:
    found = {each: [agents.workload(each, bot, namespace, image, revision)] for each in AGENTS}
    for component in _SERVERS:
        own = [each for each in _server(component, bot, namespace) if each["kind"] in _OF_A_REVISION]
        if own:
            found[component] = own
    return found


def _server(component: Component, bot: TradingBot, namespace: str) -> list[Manifest]:
    if component is Component.RABBITMQ:
        return rabbitmq.managed(bot, namespace)
    return influxdb.managed(bot, namespace)


def pin_ref(bot: str, revision: str) -> Ref:
    return Ref("ConfigMap", names.spec_config(bot, revision))


def unpin(revision: str, found: Manifest) -> Pinned | None:
    """``None``: another version of the operator pinned it, in a way that this one does not take."""
    try:
        told = config.read_spec_config(found)
        workloads = {Component(name): each for name, each in told.workloads.items()}
    except (SpecInvalid, KeyError, ValueError, msgspec.MsgspecError):
        return None
    return Pinned(revision, told.bot, told.image, workloads)


# --- a bot ------------------------------------------------------------------------------------------------------


def of_bot(
    namespace: str,
    target: Pinned,
    pinned: Iterable[Pinned],
    revisions: Mapping[Component, Pinned],
    *,
    uid: str,
    state: str,
    migrating: bool,
    positions_open: bool,
) -> list[Wanted]:
    """What others need comes first. ``uid`` is the TradingBot's. ``pinned`` are the revisions whose ConfigMaps are
    kept; ``revisions`` that of each agent that is to be there now."""
    bot, image = target.bot, target.image
    wanted = [
        Wanted(manifest=manifest, once=True, owned=not stays)
        for manifest, stays in (
            (rabbitmq.secret(bot, namespace, _generate), rabbitmq.stays(bot)),
            (influxdb.secret(bot, namespace, _generate), influxdb.stays(bot)),
        )
        if manifest is not None
    ]
    wanted += [Wanted(manifest=_pin_config(each, namespace), once=True, comes_and_goes=True) for each in pinned]
    wanted += _simple([config.state_config(bot, namespace, state)])
    wanted += _simple(access.access(bot, namespace))
    wanted += _simple(network.of_bot(bot, namespace))
    wanted += _simple([agents.service(bot, namespace)])
    for component in _SERVERS:
        pinned_ones = {ref_of(each): each for each in target.workloads.get(component, ())}
        wanted += _simple(pinned_ones.get(ref_of(each), each) for each in _server(component, bot, namespace))
    claim = agents.paper_volume(bot, namespace)
    if claim is not None:
        wanted.append(Wanted(manifest=claim, once=True, owned=not agents.paper_volume_stays(bot)))
    if migrating:
        job = migration.job(bot, namespace, image, target.revision)
        wanted.append(Wanted(manifest=job, once=True, comes_and_goes=True))
    wanted += _simple(chain.from_iterable(revisions[each].workloads[each] for each in AGENTS if each in revisions))
    wanted += _simple(
        [
            check.cron_job(bot, namespace, image, target.revision, uid),
            prune.cron_job(bot, namespace, image, target.revision),
        ]
    )
    budgets = disruption.budgets(bot, namespace, has_positions=positions_open)
    wanted += [Wanted(manifest=manifest, comes_and_goes=True) for manifest in budgets]
    return wanted


def _pin_config(pinned: Pinned, namespace: str) -> Manifest:
    workloads = {component.value: manifests for component, manifests in pinned.workloads.items()}
    return config.spec_config(pinned.bot, namespace, pinned.image, pinned.revision, workloads)


def _simple(manifests: Iterable[Manifest]) -> list[Wanted]:
    return [Wanted(manifest=manifest) for manifest in manifests]


def _generate(size: int) -> str:
    return secrets.token_hex(size)


def kept_refs(bot: str, revision: str, agents_left_alone: Iterable[Component]) -> list[Ref]:
    """What is not wanted, and not removed either. Of the applied revision: its migration's Job, whose log can be read
    until Kubernetes removes it."""
    return [
        Ref("Job", names.migration_job(bot, revision)),
        *(workload_ref(bot, each) for each in agents_left_alone),
    ]


def workload_ref(bot: str, component: Component) -> Ref:
    return Ref("StatefulSet" if component is Component.RISK else "Deployment", names.child(bot, component))


# --- an account ---------------------------------------------------------------------------------------------------


def of_account(namespace: str, account: str, bot: TradingBot) -> list[Wanted]:
    """Its database and the backup of it, by the settings of ``bot``."""
    secret = postgres.secret(account, bot, namespace, _generate)
    wanted = [Wanted(manifest=secret, once=True, owned=not postgres.stays(bot))] if secret is not None else []
    wanted += _simple(network.of_account(bot, namespace))
    for manifest in postgres.managed(account, bot, namespace):
        # CloudNativePG removes the volume with its Cluster.
        stays = manifest["kind"] == "Cluster" and postgres.stays(bot)
        wanted.append(Wanted(manifest=manifest, owned=not stays))
    claim = backup.claim(account, bot, namespace)
    if claim is not None:
        wanted.append(Wanted(manifest=claim, once=True, owned=not postgres.stays(bot)))
    job = backup.cron_job(account, bot, namespace)
    if job is not None:
        wanted.append(Wanted(manifest=job))
    return wanted


def restarting(wanted: Iterable[Wanted]) -> list[Ref]:
    """Of these, what a change restarts."""
    return [ref_of(each.manifest) for each in wanted if each.manifest["kind"] in ("StatefulSet", "Cluster")]


# --- what is there --------------------------------------------------------------------------------------------------


def pod_of(there: Mapping[Ref, Manifest], bot: str, component: Component) -> Pod:
    """An agent's workload, as far as a roll has to know it."""
    found = there.get(workload_ref(bot, component))
    if found is None:
        return Pod(revision=None, ready=False)
    template = found["spec"]["template"]["metadata"]
    return Pod(revision=(template.get("annotations") or {}).get(Annotation.REVISION.value), ready=_is_ready(found))


def _is_ready(workload: Manifest) -> bool:
    """Its one pod is of the newest template, and ready."""
    status = workload.get("status") or {}
    if status.get("observedGeneration") != workload["metadata"].get("generation"):
        return False
    if workload["kind"] == "StatefulSet":
        newest = status.get("currentRevision") == status.get("updateRevision")
    else:
        newest = status.get("replicas") == status.get("updatedReplicas") == 1
    return newest and status.get("readyReplicas") == 1


def is_migrated(there: Mapping[Ref, Manifest], bot: str, revision: str) -> bool:
    job = there.get(Ref("Job", names.migration_job(bot, revision)))
    conditions = ((job or {}).get("status") or {}).get("conditions") or []
    return any(one["type"] == "Complete" and one["status"] == "True" for one in conditions)


def servers(bot: TradingBot, there: Mapping[Ref, Manifest], database: Mapping[Ref, Manifest]) -> dict[str, str]:
    """Of each server, by its name in the status: whether it is ready. Of one that is there already nothing is known
    here: the agents tell."""
    name = bot.metadata.name
    found = {"messaging": "external", "timeSeries": "external", "database": "external"}
    if bot.spec.messaging.managed is not None:
        manifests = rabbitmq.managed(bot, "")
        found["messaging"] = _server_state(there, manifests, names.child(name, Component.RABBITMQ))
    if bot.spec.time_series.managed is not None:
        found["timeSeries"] = _server_state(there, [], names.child(name, Component.INFLUXDB))
    if bot.spec.database.managed is not None:
        account = names.account_id(bot)
        manifests = postgres.managed(account, bot, "")
        found["database"] = _server_state(database, manifests, names.account_child(account, Component.POSTGRES))
    return found


def _server_state(there: Mapping[Ref, Manifest], manifests: Iterable[Manifest], name: str) -> str:
    refs = [Ref("StatefulSet", name), *(ref_of(each) for each in manifests if each["kind"] in _BY_OTHERS)]
    for ref in refs:
        found = there.get(ref)
        if found is None:
            continue
        if ref.kind == "StatefulSet":
            return READY if _is_ready(found) else NOT_READY
        status = found.get("status") or {}
        # RabbitmqCluster has a condition, CloudNativePG's Cluster a count.
        conditions = {one["type"]: one["status"] for one in status.get("conditions") or []}
        ready = conditions.get("AllReplicasReady") == "True" or (status.get("readyInstances") or 0) >= 1
        return READY if ready else NOT_READY
    return NOT_READY


_BY_OTHERS = frozenset({"RabbitmqCluster", "Cluster"})


def references(bot: TradingBot) -> list[Reference]:
    """The Secrets that a person has to bring, of all that a spec names."""
    spec = bot.spec
    found: list[Reference] = []
    credentials = agents.credentials(Component.EXECUTION, bot)
    if credentials is not None:
        found.append(
            Reference(
                Component.EXECUTION,
                credentials.name,
                ("apiKey", "secret"),
                f"it is to hold the key of {spec.exchange.name} (spec.exchange.credentialsSecretRef)",
            )
        )
    if spec.messaging.external is not None:
        url = spec.messaging.external.url_secret_ref
        why = "it is to hold RabbitMQ's address (spec.messaging.external.urlSecretRef)"
        found.append(Reference("messaging", url.name, (url.key,), why))
    if spec.time_series.external is not None:
        url, token = spec.time_series.external.url_secret_ref, spec.time_series.external.token_secret_ref
        for each, what in ((url, "address"), (token, "token")):
            why = f"it is to hold InfluxDB's {what} (spec.timeSeries.external)"
            found.append(Reference("timeSeries", each.name, (each.key,), why))
    if spec.database.external is not None:
        url = spec.database.external.url_secret_ref
        why = "it is to hold PostgreSQL's address (spec.database.external.urlSecretRef)"
        found.append(Reference("database", url.name, (url.key,), why))
    credentials = agents.credentials(Component.REALITY_CHECK, bot)
    if credentials is not None:
        why = f"it is to hold a key of {spec.exchange.name} that only reads (spec.realityCheck.credentialsSecretRef)"
        found.append(Reference(Component.REALITY_CHECK, credentials.name, ("apiKey", "secret"), why))
    for notification in spec.notifications:
        url = notification.url_secret_ref
        why = f"it is to hold the address of the notification {notification.name} (spec.notifications)"
        found.append(Reference(Component.REALITY_CHECK, url.name, (url.key,), why))
    ping = spec.reality_check.ping_url_secret_ref
    if ping is not None:
        why = "it is to hold the address that is called after a passed check (spec.realityCheck.pingUrlSecretRef)"
        found.append(Reference(Component.REALITY_CHECK, ping.name, (ping.key,), why))
    return found
