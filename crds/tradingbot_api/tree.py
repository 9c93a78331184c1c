"""A spec as it was written: a tree of texts that remember their line and how YAML read them.

The loader works on this instead of plain Python values, for by the time that YAML has made values of a text it is too
late: `0.05` is a float, `on` is True, `2024-01-01` is a date, a key given twice is given once, and nobody knows the
line. Also made from JSON-like objects, as an API server gives them; those have no lines.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from .mistakes import Mistake, Path, shortened, write_path

Kind = Literal["text", "integer", "number", "boolean", "null", "date", "other"]

LARGEST_TEXT = 1_000_000
"""Bytes of a spec. An API server takes about 1.5 MB; a real spec has some kilobytes."""

_LARGEST_TREE = 20_000
_DEEPEST_TREE = 50


class Leaf(msgspec.Struct, frozen=True, kw_only=True):
    """One value as written (without its quotes), and what YAML takes it for."""

    text: str
    kind: Kind
    line: int | None


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A value of an object, with the line of its key."""

    key_line: int | None
    node: "Node"


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """An object."""

    entries: dict[str, Entry]
    line: int | None


class Items(msgspec.Struct, frozen=True, kw_only=True):
    """A list."""

    nodes: tuple["Node", ...]
    line: int | None


Node = Leaf | Branch | Items


def locate(root: Node, path: Path) -> tuple[Node | None, int | None]:
    """The node at a path, or None, and the line of its key, or of the nearest thing above it."""
    node: Node | None = root
    line = root.line
    for step in path:
        if isinstance(node, Branch) and step in node.entries:
            entry = node.entries[step]
            node, line = entry.node, entry.key_line
        elif isinstance(node, Items) and isinstance(step, int) and step < len(node.nodes):
            node = node.nodes[step]
            line = node.line
        else:
            return None, line
    return node, line


def plain(node: Node) -> Any:
    """The values of a part of the spec that is passed on as it is."""
    if isinstance(node, Branch):
        return {key: plain(entry.node) for key, entry in node.entries.items()}
    if isinstance(node, Items):
        return [plain(item) for item in node.nodes]
    if node.kind == "boolean":
        return node.text.lower() == "true"
    if node.kind == "integer" and re.fullmatch(r"-?[0-9]{1,18}", node.text):
        return int(node.text)
    return None if node.kind == "null" else node.text


def from_object(value: object) -> Node:
    """A tree of a JSON-like value. Raises TypeError for what JSON does not have."""
    if isinstance(value, Mapping):
        entries = {str(key): Entry(key_line=None, node=from_object(item)) for key, item in value.items()}
        return Branch(entries=entries, line=None)
    if isinstance(value, list | tuple):
        return Items(nodes=tuple(from_object(item) for item in value), line=None)
    if isinstance(value, str):
        return Leaf(text=value, kind="text", line=None)
    if isinstance(value, bool):
        return Leaf(text="true" if value else "false", kind="boolean", line=None)
    if isinstance(value, int):
        return Leaf(text=str(value), kind="integer", line=None)
    if isinstance(value, float):
        return Leaf(text=str(value), kind="number", line=None)
    if value is None:
        return Leaf(text="null", kind="null", line=None)
    raise TypeError(f"a spec cannot hold a {type(value).__name__}")


class Unreadable(Exception):
    """Text that is no YAML document of one object: the one mistake that hides all others."""

    def __init__(self, problem: str, remedy: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.mistake = Mistake(path="", line=line, value=None, problem=problem, remedy=remedy)


def from_yaml(text: str) -> tuple[Node, list[Mistake]]:
    """The tree of a YAML document, and the mistakes that YAML itself allows: a key given twice, tags, merges.

    Raises `Unreadable` when there is no tree to speak of.
    """
    import yaml  # here, so that importing the types costs no YAML

    if len(text) > LARGEST_TEXT:
        raise Unreadable(f"is larger than {LARGEST_TEXT:,} bytes", "is it the right file? a spec has some kilobytes")
    try:
        loader = yaml.SafeLoader(text)
        documents: list[Any] = []
        while loader.check_node():
            documents.append(loader.get_node())
    except yaml.MarkedYAMLError as error:
        raise _syntax(error) from error
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise Unreadable(
            "holds a character that no text file has", "remove it or save the file again", line
        ) from error
    except RecursionError as error:
        raise Unreadable("is nested too deeply", "is it the right file?") from error
    # `---` with nothing behind it is an empty document; tools put it at the end of files.
    documents = [node for node in documents if not (isinstance(node, yaml.ScalarNode) and not node.value)]
    if not documents:
        raise Unreadable("is empty", "write a TradingBot: apiVersion, kind, metadata and spec")
    if len(documents) > 1:
        line = documents[1].start_mark.line + 1
        raise Unreadable(f"holds {len(documents)} documents, separated by ---", "keep one TradingBot in a file", line)
    return _Reader().read(documents[0])


def _syntax(error: Any) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else None
    problem = str(error.problem or error.context)
    if "\\t" in problem:
        remedy = "indent with spaces: YAML allows no tabs there"
    elif "alias" in str(error.context):
        remedy = 'put text that begins with * in quotes, such as "*/30 * * * *"'
    elif "undefined alias" in problem:
        remedy = "put text that begins with * in quotes"
    elif "mapping values are not allowed" in problem:
        remedy = 'check the indentation, and put text that holds ": " in quotes'
    elif "cannot start any token" in problem:
        remedy = "put text that begins with this character in quotes"
    else:
        remedy = "check indentation, brackets and quotes at this line and the one above"
    return Unreadable(f"is not YAML: {problem}", remedy, line)


_PREFIX = "tag:yaml.org,2002:"
_KINDS: dict[str, Kind] = {
    "str": "text",
    "int": "integer",
    "float": "number",
    "bool": "boolean",
    "null": "null",
    "timestamp": "date",
    "value": "text",
}

# Numbers to YAML 1.2 and Kubernetes, but not to YAML 1.1, whose rules PyYAML follows: 1e3, 0o17.
NEWER_NUMBER = re.compile(r"[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+|0o[0-7]+")


class _Reader:
    """Makes our tree of PyYAML's."""

    def __init__(self) -> None:
        self.mistakes: list[Mistake] = []
        self.nodes = 0

    def read(self, document: Any) -> tuple[Node, list[Mistake]]:
        return self._node(document, ()), self.mistakes

    def _node(self, node: Any, path: Path) -> Node:
        import yaml

        # An anchor that holds itself is endless, and a few that hold each other can stand for billions of values.
        self.nodes += 1
        if self.nodes > _LARGEST_TREE or len(path) > _DEEPEST_TREE:
            raise Unreadable(
                "is nested too deeply or holds too many values",
                "write values out instead of using anchors, or is it the wrong file?",
                node.start_mark.line + 1,
            )
        if isinstance(node, yaml.MappingNode):
            self._check_tag(node, "map", path)
            return self._branch(node, path)
        if isinstance(node, yaml.SequenceNode):
            self._check_tag(node, "seq", path)
            nodes = tuple(self._node(item, (*path, index)) for index, item in enumerate(node.value))
            return Items(nodes=nodes, line=node.start_mark.line + 1)
        return self._leaf(node, path)

    def _leaf(self, node: Any, path: Path) -> Leaf:
        line = node.start_mark.line + 1
        kind = _KINDS.get(node.tag.removeprefix(_PREFIX), "other")
        if kind == "other":
            self._tag_mistake(node, path)
        if kind == "text" and node.style is None and NEWER_NUMBER.fullmatch(node.value):
            kind = "number"
        return Leaf(text=node.value, kind=kind, line=line)

    def _branch(self, node: Any, path: Path) -> Branch:
        import yaml

        entries: dict[str, Entry] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self._add(path, line, None, "has an object or list as a key", "keys are text")
                continue
            leaf = self._leaf(key, path) if key.tag != f"{_PREFIX}merge" else None
            if leaf is None:
                self._add(path, line, "<<", "is a merge, which specs do not have", "write the fields out")
                continue
            if leaf.kind not in ("text", "other"):
                self._add(
                    (*path, leaf.text),
                    line,
                    leaf.text,
                    f"as a key is {NAMES[leaf.kind]} to YAML",
                    f'write it in quotes: "{leaf.text}"',
                )
            if leaf.text in entries:
                first = entries[leaf.text].key_line
                self._add(
                    (*path, leaf.text), line, None, f"is given twice, in line {first} too", "keep one of the two"
                )
                continue
            entries[leaf.text] = Entry(key_line=line, node=self._node(value, (*path, leaf.text)))
        return Branch(entries=entries, line=node.start_mark.line + 1)

    def _check_tag(self, node: Any, expected: str, path: Path) -> None:
        if node.tag != _PREFIX + expected:
            self._tag_mistake(node, path)

    def _tag_mistake(self, node: Any, path: Path) -> None:
        tag = node.tag.replace(_PREFIX, "!!")
        self._add(path, node.start_mark.line + 1, tag, "is a tag that specs do not have", "remove it")

    def _add(self, path: Path, line: int, value: str | None, problem: str, remedy: str) -> None:
        self.mistakes.append(Mistake(path=write_path(path), line=line, value=value, problem=problem, remedy=remedy))


NAMES: dict[Kind, str] = {
    "text": "text",
    "integer": "a bare number",
    "number": "a bare number",
    "boolean": "a yes-or-no value",
    "null": "nothing at all",
    "date": "a bare date",
    "other": "of an unknown kind",
}
"""How a person calls each kind."""


def written(node: Node) -> str:
    """A node as a message shows it."""
    if isinstance(node, Branch):
        return "{" + shortened(", ".join(node.entries)) + "}"
    if isinstance(node, Items):
        return f"a list of {len(node.nodes)}"
    return node.text
