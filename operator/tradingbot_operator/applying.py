"""Carries a plan out, and touches nothing that is not ours.

What is missing is made so that an object of the same name that somebody else has put there is refused and not taken
over; what we have made is changed by server-side apply, which also wins back what others have changed of it.
"""

from __future__ import annotations

import msgspec

from tradingbot_operator.children import Children
from tradingbot_operator.cluster import Cluster, Conflict, Missing
from tradingbot_operator.compare import difference
from tradingbot_operator.kinds import CONFIG_MAP, FOREIGN, KINDS, SERVICE_ACCOUNT, Manifest, kind_of, owner_of
from tradingbot_operator.names import Label
from tradingbot_operator.plan import Delete, Plan, Why, Write

_MERGED = (CONFIG_MAP.name, SERVICE_ACCOUNT.name)
"""Somebody else's object of these kinds could be added to without any conflict: so it is looked for first."""


class Foreign(Exception):
    """An object has the name that we need, and is not ours; or a kind is another operator's, which is not there."""


class Done(msgspec.Struct, frozen=True):
    writes: list[Write]
    deletes: list[Delete]
    in_vain: list[Write]
    """Of the writes, repairs after which the object is as it was: something in the cluster, such as an admission
    policy, wants it otherwise."""


async def carry_out(cluster: Cluster, children: Children, namespace: str, plan: Plan) -> Done:
    """Writes in their order, then deletes. Raises ``ApiError``, or ``Foreign``; what was done by then stays."""
    done = Done([], [], [])
    for write in plan.writes:
        found = await _write(cluster, write)
        children.put(kind_of(write.manifest), found)
        done.writes.append(write)
        if write.why is Why.DRIFTED and difference(found, write.manifest) == write.detail:
            done.in_vain.append(write)
    for delete in plan.deletes:
        kind = KINDS[delete.ref.kind]
        if await cluster.delete(kind, namespace, delete.ref.name, delete.uid):
            children.forget(kind, namespace, delete.ref.name, delete.uid)
            done.deletes.append(delete)
    return done


async def _write(cluster: Cluster, write: Write) -> Manifest:
    try:
        return await _written(cluster, write)
    except Missing as error:
        kind = kind_of(write.manifest)
        if kind not in FOREIGN:
            raise
        raise Foreign(
            f"{kind.name} of {kind.api_version} is not known to this cluster: install its operator, or leave out"
            " provider"
        ) from error


async def _written(cluster: Cluster, write: Write) -> Manifest:
    manifest = write.manifest
    if write.owners is not None:
        meta = manifest["metadata"]
        patch = {"metadata": {"ownerReferences": write.owners}}
        return await cluster.merge(kind_of(manifest), meta["namespace"], meta["name"], patch)
    if write.why not in (Why.NEW, Why.LOST):
        return await cluster.apply(manifest)
    if write.once:
        try:
            return await cluster.create(manifest)
        except Conflict:
            return await _ours(cluster, manifest)
    if write.ref.kind in _MERGED and await _read(cluster, manifest) is not None:
        await _ours(cluster, manifest)
        return await cluster.apply(manifest)
    try:
        return await cluster.apply(manifest, force=False)
    except Conflict:
        # The watch is behind, or another operator was faster: ours all the same.
        await _ours(cluster, manifest)
        return await cluster.apply(manifest)


async def _ours(cluster: Cluster, manifest: Manifest) -> Manifest:
    found = await _read(cluster, manifest)
    if found is None:
        raise Conflict(f"{manifest['kind']} {manifest['metadata']['name']} came and went")
    ours = owner_of(manifest)
    if owner_of(found) != ours:
        is_of_a_bot = ours is not None and ours.label == Label.BOT
        owner, way_out = ("bot", ", or give the bot another name") if is_of_a_bot else ("account", "")
        raise Foreign(
            f"{manifest['kind']} {manifest['metadata']['name']} is there already, and not made for this {owner}:"
            f" delete or rename it{way_out}"
        )
    return found


async def _read(cluster: Cluster, manifest: Manifest) -> Manifest | None:
    meta = manifest["metadata"]
    return await cluster.get(kind_of(manifest), meta["namespace"], meta["name"])
