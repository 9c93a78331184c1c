"""From the tree of a spec to the typed spec, driven by the types themselves, with every mistake on the way.

msgspec's own decoder stops at its first mistake. This walk goes on: what is wrong is noted and left out, and an
object that lacks something is a `Partial`, so that the rules can still look at all that is right. There is no second
description of the fields anywhere: types, bounds, patterns, defaults and descriptions come from the annotations.
"""

import difflib
import re
from collections.abc import Iterator
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from .mistakes import Mistake, Path, write_path
from .model import DERIVED, Merged, NeverDefaulted, Preserved, Whole
from .scalar import Scalar, ScalarInvalid
from .tree import NAMES, Branch, Items, Leaf, Node, plain, written


class Missing:
    """The type of `MISSING`."""


MISSING = Missing()
"""Stands for a value that could not be made; its mistake is noted."""


class NotReadable(Exception):
    """A rule asked a `Partial` for something that is not there; the mistake is noted already, the rule is skipped."""


class Partial:
    """An object with mistakes: has those fields that are right, and those that have a default of their own."""

    def __init__(self, values: dict[str, object]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> object:
        try:
            return self._values[name]
        except KeyError:
            raise NotReadable(name) from None


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """An annotation taken apart."""

    base: Any
    optional: bool
    scalar: Scalar | None
    preserved: bool
    never_defaulted: bool
    merged: Merged | None
    whole: bool
    meta: tuple[msgspec.Meta, ...]

    @property
    def description(self) -> str:
        return next((meta.description for meta in self.meta if meta.description), "")

    def bound(self, name: str) -> Any:
        return next((value for meta in self.meta if (value := getattr(meta, name)) is not None), None)


def take_apart(annotation: Any) -> Hint:
    """`Annotated[int | None, Meta(ge=1), doc("...")]` → int, optional, with its marks."""
    optional = False
    marks: list[Any] = []
    while True:
        origin = get_origin(annotation)
        if origin is Annotated:
            annotation, *more = get_args(annotation)
            marks += more
        elif origin in (Union, UnionType) and len(get_args(annotation)) == 2 and NoneType in get_args(annotation):
            annotation = next(part for part in get_args(annotation) if part is not NoneType)
            optional = True
        else:
            break
    return Hint(
        base=annotation,
        optional=optional,
        scalar=next((mark for mark in marks if isinstance(mark, Scalar)), None),
        preserved=any(isinstance(mark, Preserved) for mark in marks),
        never_defaulted=any(isinstance(mark, NeverDefaulted) for mark in marks),
        merged=next((mark for mark in marks if isinstance(mark, Merged)), None),
        whole=any(isinstance(mark, Whole) for mark in marks),
        meta=tuple(mark for mark in marks if isinstance(mark, msgspec.Meta)),
    )


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """A field of an object: its name in Python and in files, its type, its default."""

    name: str
    key: str
    annotation: Any
    info: msgspec.structs.FieldInfo

    @property
    def hint(self) -> Hint:
        return take_apart(self.annotation)


@cache
def fields_of(cls: type[msgspec.Struct]) -> tuple[Field, ...]:
    """The fields of a type, in its order."""
    hints = get_type_hints(cls, include_extras=True)
    return tuple(
        Field(name=info.name, key=info.encode_name, annotation=hints[info.name], info=info)
        for info in msgspec.structs.fields(cls)
    )


def is_struct(base: Any) -> bool:
    """Whether it is the type of an object of the spec."""
    return isinstance(base, type) and issubclass(base, msgspec.Struct)


@cache
def _homes(root: type[msgspec.Struct]) -> dict[str, tuple[str, ...]]:
    """Where in the whole spec a field of a name lives, for fields that were put into the wrong object."""
    homes: dict[str, tuple[str, ...]] = {}
    for path, field in _all_fields(root, ""):
        homes[field.key] = (*homes.get(field.key, ()), path)
    return homes


def _all_fields(cls: type[msgspec.Struct], above: str) -> Iterator[tuple[str, Field]]:
    for field in fields_of(cls):
        path = f"{above}.{field.key}" if above else field.key
        yield path, field
        base = field.hint.base
        if is_struct(base):
            yield from _all_fields(base, path)
        elif get_origin(base) is tuple and is_struct(item := take_apart(get_args(base)[0]).base):
            yield from _all_fields(item, f"{path}[]")


class Built(msgspec.Struct, frozen=True):
    """An object that was made, whole or partial, with its type and its place."""

    cls: type[msgspec.Struct]
    value: Any
    path: Path


class Builder:
    """One walk. `mistakes` and `objects` grow while it goes."""

    def __init__(self, root: type[msgspec.Struct]) -> None:
        self.mistakes: list[Mistake] = []
        self.objects: list[Built] = []
        self._root = root

    def build(self, node: Node) -> Any:
        """The root object; a `Partial`, or `MISSING`, when there were mistakes."""
        return self._struct(self._root, node, (), node.line)

    def _struct(self, cls: type[msgspec.Struct], node: Node, path: Path, line: int | None) -> Any:
        if not isinstance(node, Branch):
            if isinstance(node, Leaf) and node.kind == "null":
                return self._no_value(node, path, line)
            names = ", ".join(field.key for field in fields_of(cls)[:4])
            return self._mistake(node, path, line, "is not an object", f"write its fields below it: {names} …")
        values: dict[str, object] = {}
        whole = True
        meant: set[str | None] = set()
        for key, entry in node.entries.items():
            if all(field.key != key for field in fields_of(cls)):
                near, problem, remedy = self._unknown(cls, key, node)
                meant.add(near)
                self._mistake(None, (*path, key), entry.key_line, problem, remedy)
                whole = False
        for field in fields_of(cls):
            if field.key in node.entries:
                entry = node.entries[field.key]
                value = self._value(field.annotation, entry.node, (*path, field.key), entry.key_line)
                whole = whole and value is not MISSING and not _has_partial(value)
                if value is not MISSING:
                    values[field.name] = value
            elif field.info.required:
                whole = False
                if field.key in meant:
                    continue  # a misspelt field is one mistake, not two
                self._mistake(None, (*path, field.key), line, "is missing", f"add it: {_expected(field.hint)}")
            elif field.info.default_factory is not msgspec.NODEFAULT:
                values[field.name] = field.info.default_factory()
            elif field.info.default is not DERIVED:
                values[field.name] = field.info.default
        built = cls(**values) if whole else Partial(values)
        self.objects.append(Built(cls, built, path))
        return built

    def _unknown(self, cls: type[msgspec.Struct], key: str, node: Branch) -> tuple[str | None, str, str]:
        """The field that was meant, if there is one near, the problem and the remedy."""
        known = [field.key for field in fields_of(cls)]
        elsewhere = _homes(self._root).get(key, ())
        near = _nearest(key, [name for name in known if name not in node.entries])
        if near and (not elsewhere or near.lower() == key.lower()):
            return near, "is not a known field", f"did you mean {near}?"
        if elsewhere:
            return None, "is not a field of this object", f"move it to {' or '.join(elsewhere[:2])}"
        return None, "is not a known field", f"remove it; there are {', '.join(known)}"

    def _value(self, annotation: Any, node: Node, path: Path, line: int | None) -> Any:
        hint = take_apart(annotation)
        if is_struct(hint.base):
            return self._struct(hint.base, node, path, line)
        if isinstance(node, Leaf) and node.kind == "null":
            return self._no_value(node, path, line)
        if isinstance(node, Leaf) and node.kind == "other":
            return MISSING  # its tag has a mistake of its own
        if hint.preserved:
            if isinstance(node, Branch):
                return plain(node)
            return self._mistake(
                node, path, line, "is not an object", "write it as Kubernetes has it in a pod's spec"
            )
        if hint.scalar is not None:
            return self._scalar(hint.scalar, node, path, line)
        origin = get_origin(hint.base)
        if origin is Literal:
            return self._choice(get_args(hint.base), node, path, line)
        if origin is tuple:
            return self._items(hint, node, path, line)
        if origin is dict:
            return self._mapping(hint, node, path, line)
        if hint.base is bool:
            return self._boolean(node, path, line)
        if hint.base is int:
            return self._integer(hint, node, path, line)
        return self._text(node, path, line)

    def _scalar(self, scalar: Scalar, node: Node, path: Path, line: int | None) -> Any:
        if not isinstance(node, Leaf):
            return self._mistake(
                node, path, line, f"is not a {scalar.name}", f'write one, such as "{scalar.example}"'
            )
        try:
            value = scalar.parse(node.text)
        except ScalarInvalid as error:
            bare = "" if node.kind == "text" else f"is {NAMES[node.kind]}, and "
            return self._mistake(node, path, line, bare + error.problem, error.remedy)
        if node.kind != "text":
            return self._bare(node, path, line)
        return value

    def _text(self, node: Node, path: Path, line: int | None) -> Any:
        if not isinstance(node, Leaf):
            return self._mistake(node, path, line, "is not text", "write it as one text")
        if node.kind != "text":
            return self._bare(node, path, line)
        return node.text

    def _bare(self, node: Leaf, path: Path, line: int | None) -> Any:
        return self._mistake(node, path, line, f"is {NAMES[node.kind]}", f'write it in quotes: "{node.text}"')

    def _choice(self, options: tuple[str, ...], node: Node, path: Path, line: int | None) -> Any:
        if isinstance(node, Leaf) and node.text in options:
            return node.text if node.kind == "text" else self._bare(node, path, line)
        near = _nearest(node.text, options) if isinstance(node, Leaf) else None
        if len(options) == 1:
            return self._mistake(node, path, line, "is not what it must be", f"write {options[0]}")
        remedy = f"did you mean {near}?" if near else "write one of them"
        return self._mistake(node, path, line, f"is not one of {', '.join(options)}", remedy)

    def _boolean(self, node: Node, path: Path, line: int | None) -> Any:
        if isinstance(node, Leaf) and node.text in ("true", "false"):
            if node.kind == "boolean":
                return node.text == "true"
            return self._mistake(node, path, line, "is text", f"write it without quotes: {node.text}")
        return self._mistake(node, path, line, "is neither true nor false", "write true or false")

    def _integer(self, hint: Hint, node: Node, path: Path, line: int | None) -> Any:
        if not isinstance(node, Leaf) or not re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.text):
            return self._mistake(node, path, line, "is not a whole number", "write plain digits, such as 14")
        if node.kind != "integer":
            return self._mistake(node, path, line, "is text", f"write it without quotes: {node.text}")
        value = int(node.text)
        low, high = hint.bound("ge"), hint.bound("le")
        if low is not None and value < low:
            return self._mistake(node, path, line, "is too small", f"write {low} or more")
        if high is not None and value > high:
            return self._mistake(node, path, line, "is too large", f"write {high} or less")
        return value

    def _items(self, hint: Hint, node: Node, path: Path, line: int | None) -> Any:
        if not isinstance(node, Items):
            example = node.text if isinstance(node, Leaf) else "…"
            return self._mistake(node, path, line, "is not a list", f"write it as a list: [{example}]")
        low, high = hint.bound("min_length"), hint.bound("max_length")
        count = len(node.nodes)
        if low is not None and count < low:
            return self._mistake(None, path, line, "is an empty list", f"write at least {low}")
        if high is not None and count > high:
            return self._mistake(None, path, line, f"has {count} items", f"write at most {high}")
        annotation = get_args(hint.base)[0]
        values = [self._value(annotation, item, (*path, index), item.line) for index, item in enumerate(node.nodes)]
        return MISSING if MISSING in values else tuple(values)

    def _mapping(self, hint: Hint, node: Node, path: Path, line: int | None) -> Any:
        if not isinstance(node, Branch):
            return self._mistake(node, path, line, "is not an object", "write names and values: {name: value}")
        high = hint.bound("max_length")
        if high is not None and len(node.entries) > high:
            return self._mistake(None, path, line, f"has {len(node.entries)} entries", f"write at most {high}")
        key_hint, value_annotation = take_apart(get_args(hint.base)[0]), get_args(hint.base)[1]
        values = {}
        whole = True
        for key, entry in node.entries.items():
            if key_hint.scalar is not None:
                leaf = Leaf(text=key, kind="text", line=entry.key_line)
                whole = self._scalar(key_hint.scalar, leaf, (*path, key), entry.key_line) is not MISSING and whole
            value = self._value(value_annotation, entry.node, (*path, key), entry.key_line)
            whole = whole and value is not MISSING
            values[key] = value
        return values if whole else MISSING

    def _no_value(self, node: Node, path: Path, line: int | None) -> Missing:
        return self._mistake(None, path, line, "has no value", "write one, or remove the line")

    def _mistake(self, node: Node | None, path: Path, line: int | None, problem: str, remedy: str) -> Missing:
        value = None if node is None else written(node)
        self.mistakes.append(Mistake(path=write_path(path), line=line, value=value, problem=problem, remedy=remedy))
        return MISSING


def _has_partial(value: object) -> bool:
    return isinstance(value, Partial) or (
        isinstance(value, tuple) and any(isinstance(item, Partial) for item in value)
    )


def _nearest(word: str, options: Any) -> str | None:
    """The option that was probably meant, whatever its capitals."""
    lower = {option.lower(): option for option in options}
    near = difflib.get_close_matches(word.lower(), lower, n=1, cutoff=0.6)
    return lower[near[0]] if near else None


def _expected(hint: Hint) -> str:
    if get_origin(hint.base) is Literal and len(get_args(hint.base)) == 1:
        return str(get_args(hint.base)[0])
    if get_origin(hint.base) is Literal:
        return f"one of {', '.join(get_args(hint.base))}"
    example = f', such as "{hint.scalar.example}"' if hint.scalar is not None else ""
    sentence = hint.description.split(". ")[0].rstrip(".")
    return f"{sentence[0].lower()}{sentence[1:]}{example}"
