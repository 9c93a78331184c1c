"""What to change, so that what is there becomes what is wanted. Pure: the applier carries it out.

What is pruned carries our label and belongs to this owner by its ownerReference: what a person or another
controller has put beside it is never touched, nor is what outlives its owner on purpose (volumes, and the Secrets
that open them).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from tradingbot_operator.compare import difference, sealed
from tradingbot_operator.kinds import Manifest, Ref, ref_of
from tradingbot_operator.names import Annotation


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """One object that is to be there."""

    manifest: Manifest
    once: bool = False
    """Made when it is missing, and never changed: generated Secrets, Jobs, what is immutable."""
    comes_and_goes: bool = False
    """It may become wanted at any time, and is then new, not lost."""
    owned: bool = True
    """Whether it goes with its owner. What keeps or opens a volume that stays must stay with it."""


class Why(StrEnum):
    NEW = "new"
    CHANGED = "changed"
    """We want something else than before."""
    LOST = "lost"
    """It had been there, and somebody has deleted it."""
    DRIFTED = "drifted"
    """Somebody has changed it."""


class Write(msgspec.Struct, frozen=True, kw_only=True):
    manifest: Manifest
    once: bool
    why: Why
    detail: str = ""
    owners: list[Manifest] | None = None
    """Only its owners are to be changed, to these."""

    @property
    def ref(self) -> Ref:
        return ref_of(self.manifest)


class Delete(msgspec.Struct, frozen=True, kw_only=True):
    ref: Ref
    uid: str


class Plan(msgspec.Struct, frozen=True):
    writes: list[Write]
    """In the order in which they are wanted: what others need comes first."""
    deletes: list[Delete]
    held: list[Ref] = []
    """What we want otherwise, and have left as it is."""

    @property
    def empty(self) -> bool:
        return not self.writes and not self.deletes


def owner_reference(bot: Manifest, *, controller: bool) -> Manifest:
    """Of a child: to the TradingBot that it goes with. An account's child has several, none of which controls it."""
    meta = bot["metadata"]
    reference: Manifest = {
        "apiVersion": "tradingbot.dev/v1alpha1",
        "kind": "TradingBot",
        "name": meta["name"],
        "uid": meta["uid"],
    }
    return {**reference, "controller": True, "blockOwnerDeletion": True} if controller else reference


def plan(
    wanted: Iterable[Wanted],
    there: Mapping[Ref, Manifest],
    owners: list[Manifest],
    *,
    settled: bool,
    keep: Iterable[Ref] = (),
    held: Iterable[Ref] = (),
) -> Plan:
    """``there`` is what carries our label and the owner's name. ``settled``: all of it had been made before, so
    that what is missing was lost. ``held``: left as it is when only we want it otherwise, but for its owners: it must
    not go with the first of them. ``keep``: not wanted, and not pruned either."""
    writes: list[Write] = []
    waiting: list[Ref] = []
    refs, left = set(keep), set(held)
    for each in wanted:
        manifest = sealed(each.manifest, owners if each.owned else [])
        ref = ref_of(manifest)
        refs.add(ref)
        found = there.get(ref)
        if found is None:
            lost = settled and not each.comes_and_goes
            writes.append(Write(manifest=manifest, once=each.once, why=Why.LOST if lost else Why.NEW))
            continue
        if found["metadata"].get("deletionTimestamp") is not None:
            # What is going must be gone before it can be made anew: its end wakes us.
            continue
        is_changed = _hash(found) != _hash(manifest)
        if is_changed and ref in left:
            waiting.append(ref)
        if each.once or (is_changed and ref in left):
            theirs = owners if each.owned else []
            if _owners(found) != {owner["uid"] for owner in theirs}:
                writes.append(Write(manifest=manifest, once=each.once, why=Why.CHANGED, owners=theirs))
            continue
        if is_changed:
            writes.append(Write(manifest=manifest, once=False, why=Why.CHANGED))
            continue
        detail = difference(found, manifest)
        if detail is not None:
            writes.append(Write(manifest=manifest, once=False, why=Why.DRIFTED, detail=detail))
    uids = {owner["uid"] for owner in owners}
    deletes = [
        Delete(ref=ref, uid=found["metadata"]["uid"])
        for ref, found in sorted(there.items())
        if ref not in refs and _belongs(found, uids)
    ]
    return Plan(writes, deletes, waiting)


def _hash(manifest: Manifest) -> str | None:
    found: str | None = (manifest["metadata"].get("annotations") or {}).get(Annotation.MANIFEST.value)
    return found


def _owners(found: Manifest) -> set[str]:
    return {reference["uid"] for reference in found["metadata"].get("ownerReferences") or []}


def _belongs(found: Manifest, uids: set[str]) -> bool:
    """To one of these owners, and to nobody else."""
    theirs = _owners(found)
    return found["metadata"].get("deletionTimestamp") is None and bool(theirs) and theirs <= uids
