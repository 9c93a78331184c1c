"""The CustomResourceDefinition of a TradingBot, made of the types.

A structural schema says what a field is: its type, pattern, bounds, default and description, and how it merges under
server-side apply. What takes more than one field is a CEL rule of `crd_rules`. A field that is `DERIVED` has no
default here, since the API server cannot derive it; one that is `NEVER_DEFAULTED` has none, so that a misspelt field,
which the API server prunes, does not become a silent change of risk. All other defaults are stored with the object,
as `resolved` writes them.
"""

from collections.abc import Iterable
from typing import Any, Literal, get_args, get_origin

import msgspec

from .building import Field, Hint, fields_of, is_struct, take_apart
from .crd_rules import rules_of
from .dumping import plain_value
from .model import DERIVED
from .scalar import Scalar
from .status import Status
from .timestamps import TIMESTAMP
from .types import API_VERSION, KIND, Spec, TradingBot

Json = dict[str, Any]

PLURAL = "tradingbots"
_GROUP, _VERSION = API_VERSION.split("/")

# (heading, type, path, 1: only with -o wide, description)
_COLUMNS: tuple[tuple[str, str, str, int, str], ...] = (
    ("Mode", "string", ".spec.mode", 0, "paper, testnet or live."),
    ("State", "string", ".status.state", 0, "The state that it has reached."),
    ("Ready", "string", ".status.ready", 0, "Agents that are ready, of all."),
    ("Equity", "string", ".status.equity", 0, "What the account is worth, in its quote currency."),
    ("Positions", "integer", ".status.openPositions", 0, "Positions that are held."),
    ("Check", "string", ".status.lastRealityCheck.result", 0, "Result of the last reality check."),
    ("Checked", "date", ".status.lastRealityCheck.at", 0, "Time since the last reality check."),
    ("Age", "date", ".metadata.creationTimestamp", 0, "Time since it was made."),
    ("Exchange", "string", ".spec.exchange.name", 1, "Where it trades."),
    ("Account", "string", ".spec.account.name", 1, "Whose balance it uses."),
    ("Symbols", "string", ".spec.symbols", 1, "What it trades."),
    ("Wanted", "string", ".spec.state", 1, "The state that is asked for."),
    ("Revision", "string", ".status.revision", 1, "Revision of the spec that is applied."),
    ("Message", "string", '.status.conditions[?(@.type=="Ready")].message', 1, "What it waits for."),
)


def custom_resource_definition() -> Json:
    """The manifest, as JSON has it."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{PLURAL}.{_GROUP}"},
        "spec": {
            "group": _GROUP,
            "names": {
                "kind": KIND,
                "listKind": f"{KIND}List",
                "plural": PLURAL,
                "singular": KIND.lower(),
                "shortNames": ["tb"],
                "categories": ["all"],
            },
            "scope": "Namespaced",
            "versions": [
                {
                    "name": _VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in _COLUMNS],
                    "schema": {"openAPIV3Schema": _root()},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, priority: int, description: str) -> Json:
    return {"name": name, "type": kind, "jsonPath": path, "priority": priority, "description": description}


def _root() -> Json:
    schema: Json = {
        "type": "object",
        "description": _first_line(TradingBot),
        "properties": {
            "apiVersion": {"type": "string", "description": f"Version of this format: {API_VERSION}."},
            "kind": {"type": "string", "description": f"Always {KIND}."},
            "metadata": {"type": "object"},
            "spec": {**_struct(Spec), "description": _first_line(Spec)},
            "status": {**_struct(Status), "description": _first_line(Status)},
        },
        "required": ["spec"],
    }
    return _ruled(schema, rules_of(TradingBot))


def _first_line(cls: type[msgspec.Struct]) -> str:
    return (cls.__doc__ or "").splitlines()[0]


def _struct(cls: type[msgspec.Struct]) -> Json:
    fields = fields_of(cls)
    schema: Json = {"type": "object", "properties": {field.key: _field(field) for field in fields}}
    if required := [field.key for field in fields if field.info.required]:
        schema["required"] = required
    return _ruled(schema, rules_of(cls))


def _field(field: Field) -> Json:
    hint = field.hint
    description = hint.description
    schema = _value(hint)
    if (default := _default(field)) is not None:
        if hint.never_defaulted:
            description += _for_paper(default)
        else:
            schema["default"] = default
    return {"type": schema.pop("type"), "description": description, **schema}


def _for_paper(default: Any) -> str:
    if isinstance(default, str):
        return f' Mode paper takes "{default}" when it is not given; testnet and live must write it out.'
    return " Testnet and live must write it out."


def _default(field: Field) -> Any:
    """What the field is when nobody writes it, as JSON has it; None: it has no default, or a derived one."""
    if field.info.default_factory is not msgspec.NODEFAULT:
        if is_struct(field.hint.base):
            return _default_object(field.hint.base)
        return plain_value(field.annotation, field.info.default_factory())
    if field.info.default in (msgspec.NODEFAULT, DERIVED, None):
        return None
    return plain_value(field.annotation, field.info.default)


def _default_object(cls: type[msgspec.Struct]) -> Json:
    """Its fields' defaults, written out: the API server holds the rules of the object against this default as it
    stands, before it fills anything in."""
    values = {field.key: _default(field) for field in fields_of(cls) if not field.hint.never_defaulted}
    return {key: value for key, value in values.items() if value is not None}


def _value(hint: Hint) -> Json:
    """The schema of a value without its description and default."""
    base, origin = hint.base, get_origin(hint.base)
    if hint.preserved:
        schema: Json = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    elif hint.scalar is not None:
        schema = _scalar(hint.scalar)
    elif is_struct(base):
        schema = _struct(base)
    elif origin is Literal:
        schema = {"type": "string", "enum": list(get_args(base))}
    elif origin is tuple:
        schema = {
            "type": "array",
            **_bounds(hint, {"min_length": "minItems", "max_length": "maxItems"}),
            **_merging(hint),
            "items": _value(take_apart(get_args(base)[0])),
        }
    elif origin is dict:
        key, value = get_args(base)
        schema = {
            "type": "object",
            **_bounds(hint, {"max_length": "maxProperties"}),
            "additionalProperties": _value(take_apart(value)),
        }
        if (scalar := take_apart(key).scalar) is not None:
            remedy = f'a key is not a {scalar.name}: write one such as "{scalar.example}"'
            schema = _ruled(
                schema, [{"rule": f"self.all(key, key.matches({_quoted(scalar.pattern)}))", "message": remedy}]
            )
    elif base is bool:
        schema = {"type": "boolean"}
    elif base is int:
        schema = {"type": "integer", **_bounds(hint, {"ge": "minimum", "le": "maximum"})}
    else:
        schema = {"type": "string", **_bounds(hint, {"max_length": "maxLength"})}
    if hint.whole:
        schema["x-kubernetes-map-type"] = "atomic"
    return schema


def _scalar(scalar: Scalar) -> Json:
    schema: Json = {"type": "string", "maxLength": scalar.longest}
    if scalar is TIMESTAMP:
        # CEL then has it as a moment that can be compared, and not as text.
        return {**schema, "format": "date-time", "pattern": scalar.pattern}
    schema["pattern"] = scalar.pattern
    # A pattern's own message shows the pattern; this one shows what to write.
    remedy = f'is not a {scalar.name}: write one such as "{scalar.example}"'
    return _ruled(schema, [{"rule": f"self.matches({_quoted(scalar.pattern)})", "message": remedy}])


def _quoted(pattern: str) -> str:
    """A pattern as a raw text of CEL."""
    return f"r'{pattern}'"


def _merging(hint: Hint) -> Json:
    if hint.merged is None:
        return {"x-kubernetes-list-type": "atomic"}
    if hint.merged.key is None:
        return {"x-kubernetes-list-type": "set"}
    return {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": [hint.merged.key]}


def _bounds(hint: Hint, names: dict[str, str]) -> Json:
    bounds = {name: hint.bound(meta) for meta, name in names.items()}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _ruled(schema: Json, rules: Iterable[Json]) -> Json:
    written = [*schema.get("x-kubernetes-validations", ()), *rules]
    return {**schema, "x-kubernetes-validations": written} if written else schema
