"""Whether an object is as its manifest says.

The API server adds what a manifest leaves out (defaults, the cluster's addresses), so an object must *cover* its
manifest: have every field of it with the same value, and lists of the same length. What is more in an object than
in its manifest is its own or somebody else's. A field that we have stopped to say is not found this way; for that
each object carries the hash of the manifest that it was made of.

An operator that compared more strictly would write again and again what the server keeps changing; one that asked the
server by applying would write all the time.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec

from tradingbot_api import ScalarInvalid, parse_bytes, parse_cpu
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import Annotation

_AMOUNTS = frozenset({"requests", "limits"})
"""Below them are quantities, which the server may write otherwise than we do: 1000m is 1."""


def digest(manifest: Manifest) -> str:
    """Of its content: equal for equal manifests."""
    return hashlib.sha256(msgspec.json.encode(manifest, order="sorted")).hexdigest()[:16]


def sealed(manifest: Manifest, owners: list[Manifest]) -> Manifest:
    """The manifest as it is applied: with its owners, and with the hash of all that."""
    meta = manifest["metadata"]
    owned = {**manifest, "metadata": {**meta, **({"ownerReferences": owners} if owners else {})}}
    annotations = {**meta.get("annotations", {}), Annotation.MANIFEST.value: digest(owned)}
    return {**owned, "metadata": {**owned["metadata"], "annotations": annotations}}


def difference(found: Manifest, manifest: Manifest) -> str | None:
    """Where, and how, an object is not as its manifest says; ``None``: it covers it."""
    for part, wanted in manifest.items():
        if part == "stringData":
            # Kept as ``data``; of Secrets only the keys are known here.
            missing = sorted(set(wanted) - set(found.get("data") or {}))
            if missing:
                return f"{', '.join(missing)} is missing"
            continue
        problem = _difference(found.get(part), wanted, part, amounts=False)
        if problem is not None:
            return problem
    return None


def _difference(found: Any, wanted: Any, path: str, *, amounts: bool) -> str | None:
    if isinstance(wanted, dict):
        if not isinstance(found, dict):
            # An empty object may be left out.
            return f"{path} is missing" if wanted else None
        for key, value in wanted.items():
            problem = _difference(found.get(key), value, f"{path}.{key}", amounts=amounts or key in _AMOUNTS)
            if problem is not None:
                return problem
        return None
    if isinstance(wanted, list):
        if not isinstance(found, list):
            return f"{path} is missing" if wanted else None
        if len(found) != len(wanted):
            return f"{path} has {len(found)} items, not {len(wanted)}"
        for index, (one, other) in enumerate(zip(found, wanted, strict=True)):
            problem = _difference(one, other, f"{path}[{index}]", amounts=amounts)
            if problem is not None:
                return problem
        return None
    if found == wanted or (amounts and _same_amount(found, wanted)):
        return None
    if found is None:
        # The server leaves out what is empty.
        return f"{path} is missing" if wanted not in ("", False, 0, None) else None
    return f"{path} is {found!r}, not {wanted!r}"


def _same_amount(one: Any, other: Any) -> bool:
    for parse in (parse_bytes, parse_cpu):
        try:
            if parse(str(one)) == parse(str(other)):
                return True
        except ScalarInvalid:
            continue
    return False
