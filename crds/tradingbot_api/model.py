"""What every type of the spec has in common, and the marks that say what its annotations cannot.

The types are the single source: the loader walks them, the resolved spec is written from them, and the CRD's
structural schema and the reference are generated from them. A field's annotation carries its description, for
`kubectl explain` and the reference.
"""

import re
from typing import Any, Final

import msgspec


class Model(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Base of every object of the spec: frozen, keyword-only, camelCase in files."""


class Derived:
    """The type of `DERIVED`."""

    def __repr__(self) -> str:
        return "DERIVED"


DERIVED: Final[Any] = Derived()
"""A default that depends on other fields. `__post_init__` replaces it, so that no reader ever meets it; a schema
has no default for such a field."""


class NeverDefaulted:
    """Marks a field that testnet and live must write out, and for which a CRD carries no default.

    An API server prunes a misspelt field before anyone sees it; with a default, the typo would become a silent change
    of risk.
    """


NEVER_DEFAULTED: Final = NeverDefaulted()


class Preserved:
    """Marks a field whose inside is Kubernetes' own and is passed on as it is
    (`x-kubernetes-preserve-unknown-fields`)."""


PRESERVED: Final = Preserved()


class Merged(msgspec.Struct, frozen=True):
    """How a list merges when several apply parts of it (server-side apply). A list without this mark is one value,
    and whoever applies it owns all of it: right where the order counts or nothing names an item."""

    key: str | None = None
    """The field, as it stands in files, that tells the items apart; None: the items are simple and are a set."""


AS_SET: Final = Merged()


def keyed(key: str) -> Merged:
    """A list whose items are told apart by a field that each must have; no two may be equal in it."""
    return Merged(key)


class Whole:
    """Marks an object that is one value for server-side apply: nobody owns a part of it."""


WHOLE: Final = Whole()


def doc(description: str) -> msgspec.Meta:
    """A field's description: what it is, its unit, what its values mean."""
    return msgspec.Meta(description=description)


def settle(struct: msgspec.Struct, name: str, value: object) -> None:
    """Gives a `DERIVED` field its value. Only for `__post_init__`, before anyone else holds the object."""
    if getattr(struct, name) is DERIVED:
        msgspec.structs.force_setattr(struct, name, value)


def camel(name: str) -> str:
    """A Python field name as it stands in files: `poll_interval` → `pollInterval`."""
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
