"""What the operator has made, as the API server has it now: kept up by a watch of each kind.

kopf watches the TradingBots. Their children are watched here, because the server then sends only those that carry our
label (a cluster has many other Secrets), and because each of some forty objects of a bot is kept in the fewest bytes
that the comparison with its manifest needs. No Secret's value is kept.

A reconcile may come before the watch has told of its last writes: so they are put in here at once, and what the watch
tells later and is older changes nothing.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable, Iterator

import msgspec

from tradingbot_operator.cluster import OPENED, ApiError, Busy, Cluster, Gone, Missing, Refused
from tradingbot_operator.kinds import (
    CONFIG_MAP,
    FOREIGN,
    POD,
    SECRET,
    Kind,
    Manifest,
    Owner,
    Ref,
    owner_of,
    version_of,
)
from tradingbot_operator.names import MANAGER, Label

SELECTOR = f"{Label.MANAGED_BY.value}={MANAGER}"

FIRST_PAUSE = 0.2
LONGEST_PAUSE = 30.0
"""Seconds between attempts at a server that is away."""

NOT_INSTALLED_PAUSE = 300.0
"""Seconds until a kind of another operator is looked for again."""


class Child(msgspec.Struct, frozen=True):
    """One object, packed."""

    uid: str
    version: int
    packed: bytes

    def unpack(self) -> Manifest:
        found: Manifest = msgspec.json.decode(self.packed)
        return found


def kept(kind: Kind, found: Manifest) -> Manifest:
    """What of an object is kept."""
    meta = {key: value for key, value in found["metadata"].items() if key not in ("managedFields", "selfLink")}
    slim: Manifest = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": meta}
    rest = {key: value for key, value in found.items() if key not in slim}
    if kind is SECRET:
        rest = {"data": dict.fromkeys(found.get("data") or {}, ""), "type": found.get("type")}
    elif kind is CONFIG_MAP and found.get("immutable"):
        # A pinned revision is the largest thing that a bot has; it is read again when it is needed, which is seldom.
        rest = {"data": dict.fromkeys(found.get("data") or {}, ""), "immutable": True}
    elif kind is POD:
        spec = found.get("spec", {})
        rest = {"spec": {"nodeName": spec.get("nodeName")}, "status": _of_a_pod(found.get("status", {}))}
    return slim | rest


def _of_a_pod(status: Manifest) -> Manifest:
    names = ("phase", "reason", "message", "conditions", "containerStatuses", "initContainerStatuses")
    return {name: status[name] for name in names if name in status}


class Children:
    """Run ``follow`` for as long as it is used."""

    def __init__(
        self,
        cluster: Cluster,
        kinds: Iterable[Kind],
        namespaces: Iterable[str] | None,
        *,
        on_change: Callable[[Owner], None],
        on_trouble: Callable[[Kind, str, int], None],
    ) -> None:
        """``namespaces`` ``None``: all of them. ``on_change`` is told whose child has changed; ``on_trouble`` that a
        kind can not be watched, why, and how often in a row (0: it can again)."""
        self._cluster = cluster
        self._places = [
            (kind, place) for kind in kinds for place in (namespaces if namespaces is not None else (None,))
        ]
        self._on_change = on_change
        self._on_trouble = on_trouble
        self._children: dict[Owner, dict[Ref, Child]] = {}
        self._owners: dict[tuple[str, str], dict[str, Owner]] = {}
        """By kind and namespace, of each name."""
        self._unseen = set(self._places)
        self.synced = asyncio.Event()
        """Everything that is there has been seen once."""
        self._cut: dict[tuple[Kind, str | None], int] = {}
        """How often in a row a place could not be read."""

    def __len__(self) -> int:
        return sum(map(len, self._children.values()))

    @property
    def away(self) -> int:
        """Kinds that can not be watched now."""
        return len(self._cut)

    def of(self, owner: Owner) -> dict[Ref, Manifest]:
        return {ref: child.unpack() for ref, child in self._children.get(owner, {}).items()}

    def put(self, kind: Kind, found: Manifest) -> None:
        """It was just read or written."""
        owner = owner_of(found)
        meta = found["metadata"]
        ref = Ref(kind.name, meta["name"])
        names = self._owners.setdefault((kind.name, meta["namespace"]), {})
        before = names.get(ref.name)
        known = None if before is None else self._children[before].get(ref)
        if known is not None and version_of(found) < known.version:
            # Of another uid it is the end of an older one of its name.
            return
        if before is not None and before != owner:
            self._drop(before, ref)
        if owner is None:
            return
        names[ref.name] = owner
        packed = msgspec.json.encode(kept(kind, found))
        self._children.setdefault(owner, {})[ref] = Child(meta["uid"], version_of(found), packed)

    def forget(self, kind: Kind, namespace: str, name: str, uid: str) -> None:
        """It is deleted, or about to be. Another of its name stays."""
        owner = self._owners.get((kind.name, namespace), {}).get(name)
        if owner is None:
            return
        ref = Ref(kind.name, name)
        if self._children[owner][ref].uid == uid:
            self._drop(owner, ref)

    def _drop(self, owner: Owner, ref: Ref) -> None:
        del self._owners[ref.kind, owner.namespace][ref.name]
        children = self._children[owner]
        del children[ref]
        if not children:
            del self._children[owner]

    # --- watching --------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """For ever."""
        async with asyncio.TaskGroup() as group:
            for kind, place in self._places:
                group.create_task(
                    self._follow(kind, place), name=f"watch {kind.plural} in {place or 'all namespaces'}"
                )

    async def _follow(self, kind: Kind, place: str | None) -> None:
        version: str | None = None
        while True:
            try:
                if version is None:
                    version = await self._list(kind, place)
                async for change, found in self._cluster.watch(kind, place, version, SELECTOR):
                    if change == OPENED:
                        if self._cut.pop((kind, place), 0):
                            self._on_trouble(kind, "it is watched again", 0)
                        continue
                    version = found["metadata"]["resourceVersion"]
                    self._take(kind, change, found)
            except Gone:
                version = None
                # A server that finds everything too old is not to be asked without end.
                await asyncio.sleep(FIRST_PAUSE * random.uniform(0.5, 1.0))
            except (Missing, Refused) as error:
                version = None
                if kind not in FOREIGN:
                    # Without it nothing can be decided: told, and waited for, as for a server that is away.
                    await self._pause(kind, place, error)
                    continue
                # Not installed, or the chart was not told that it is.
                for each in sorted(self._forget_others(kind, place, set(), None)):
                    self._on_change(each)
                self._saw(kind, place)
                await asyncio.sleep(NOT_INSTALLED_PAUSE)
            except ApiError as error:
                await self._pause(kind, place, error)

    async def _pause(self, kind: Kind, place: str | None, error: ApiError) -> None:
        times = self._cut[kind, place] = self._cut.get((kind, place), 0) + 1
        self._on_trouble(kind, str(error), times)
        least = error.retry_after if isinstance(error, Busy) else 0.0
        longest = min(FIRST_PAUSE * 2 ** min(times - 1, 20), LONGEST_PAUSE)
        # Fifteen watches must not come back in the same moment.
        await asyncio.sleep(max(least, longest * random.uniform(0.5, 1.0)))

    async def _list(self, kind: Kind, place: str | None) -> str:
        there: set[tuple[str, str]] = set()
        changed: set[Owner] = set()
        version = ""
        try:
            async for items, told in self._cluster.pages(kind, place, SELECTOR):
                version = told
                for item in items:
                    there.add((item["metadata"]["namespace"], item["metadata"]["name"]))
                    self.put(kind, item)
                    owner = owner_of(item)
                    if owner is not None:
                        changed.add(owner)
            changed |= self._forget_others(kind, place, there, int(version))
        finally:
            # Also of a list that broke off: what was put in is known from then on, and no news any more.
            for each in sorted(changed):
                self._on_change(each)
        self._saw(kind, place)
        return version

    def _saw(self, kind: Kind, place: str | None) -> None:
        self._unseen.discard((kind, place))
        if not self._unseen:
            self.synced.set()

    def _take(self, kind: Kind, change: str, found: Manifest) -> None:
        if change == "BOOKMARK":
            return
        owner = owner_of(found)
        if change == "DELETED":
            meta = found["metadata"]
            self.forget(kind, meta["namespace"], meta["name"], meta["uid"])
        else:
            self.put(kind, found)
        if owner is not None:
            self._on_change(owner)

    def _forget_others(
        self, kind: Kind, place: str | None, there: set[tuple[str, str]], version: int | None
    ) -> set[Owner]:
        """What is no longer there is forgotten: it was deleted while nobody watched. But not what is newer than the
        list: we have made it while the list was under way. Whose they were."""
        changed = set()
        for namespace, name, owner in list(self._known(kind, place)):
            ref = Ref(kind.name, name)
            if (namespace, name) not in there and (version is None or self._children[owner][ref].version <= version):
                self._drop(owner, ref)
                changed.add(owner)
        return changed

    def _known(self, kind: Kind, place: str | None) -> Iterator[tuple[str, str, Owner]]:
        for (name_of_kind, namespace), names in self._owners.items():
            if name_of_kind == kind.name and place in (None, namespace):
                for name, owner in names.items():
                    yield namespace, name, owner
