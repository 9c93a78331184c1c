"""Reading a TradingBot: from a file, from text, from an object of the API server. All mistakes at once, or a bot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .building import Builder
from .mistakes import Mistake, SpecInvalid
from .rules import check
from .tree import LARGEST_TEXT, Node, Unreadable, from_object, from_yaml
from .types import TradingBot

_KEPT_METADATA = ("name", "namespace", "labels", "annotations")


def load_file(path: str | Path) -> TradingBot:
    """The TradingBot of a YAML file. Raises `SpecInvalid`, also for a file that cannot be read."""
    source = str(path)
    try:
        with Path(path).open("rb") as file:
            content = file.read(LARGEST_TEXT + 1)
    except FileNotFoundError as error:
        raise _unusable(source, "there is no such file", "check the path") from error
    except IsADirectoryError as error:
        raise _unusable(source, "is a folder", "name the file in it") from error
    except PermissionError as error:
        raise _unusable(source, "may not be read by this user", "change its permissions") from error
    except (OSError, ValueError) as error:
        raise _unusable(source, f"cannot be read: {error}", "check the path and the disk") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise _unusable(source, "is not UTF-8", "save it as UTF-8", line) from error
    return load_text(text, source)


def load_text(text: str, source: str = "spec") -> TradingBot:
    """The TradingBot of a YAML text; `source` names it in messages. Raises `SpecInvalid`."""
    try:
        tree, mistakes = from_yaml(text)
    except Unreadable as error:
        raise SpecInvalid(source, [error.mistake]) from error
    return _load(tree, mistakes, source)


def load_object(body: Mapping[str, Any], source: str = "TradingBot") -> TradingBot:
    """The TradingBot of an object as the API server gives it. What only the server writes (status, uid, managed
    fields) is passed over. Raises `SpecInvalid`, whose mistakes have no lines."""
    kept = {key: value for key, value in body.items() if key != "status"}
    if isinstance(metadata := kept.get("metadata"), Mapping):
        kept["metadata"] = {key: metadata[key] for key in _KEPT_METADATA if metadata.get(key) is not None}
    return _load(from_object(kept), [], source)


def _load(tree: Node, mistakes: list[Mistake], source: str) -> TradingBot:
    builder = Builder(TradingBot)
    bot = builder.build(tree)
    mistakes = [*mistakes, *builder.mistakes, *check(builder.objects, tree)]
    if mistakes:
        raise SpecInvalid(source, mistakes)
    assert isinstance(bot, TradingBot)
    return bot


def _unusable(source: str, problem: str, remedy: str, line: int | None = None) -> SpecInvalid:
    return SpecInvalid(source, [Mistake(path="", line=line, value=None, problem=problem, remedy=remedy)])
