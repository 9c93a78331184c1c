"""Writing a TradingBot: with every default filled in, so that what runs can be pinned, compared and read.

Decimals, durations and quantities are written in their own patterns; equal bots have equal text.
"""

import hashlib
from typing import Any, get_args, get_origin

import msgspec

from .building import fields_of, is_struct, take_apart
from .tree import NEWER_NUMBER
from .types import TradingBot

_REVISION_LENGTH = 12


def resolved(bot: TradingBot) -> dict[str, Any]:
    """The whole object, defaults included, as JSON has it: objects, lists, text, whole numbers, booleans. What is
    not set is left out. Loading it again gives an equal bot."""
    data = plain_value(TradingBot, bot)
    assert isinstance(data, dict)
    return data


def dump(bot: TradingBot) -> str:
    """The resolved object as YAML text, in the types' order of fields."""
    import yaml  # here, so that importing the types costs no YAML

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    # Text that a newer YAML would take for a number is quoted as well.
    Dumper.add_implicit_resolver("tag:yaml.org,2002:float", NEWER_NUMBER, list("-+.0123456789"))
    text: str = yaml.dump(resolved(bot), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=110)
    return text


def revision(bot: TradingBot) -> str:
    """A short name for the resolved spec: equal for equal specs, whatever their text, and for nothing else.

    `state` is not part of it, since it is obeyed without a restart, and neither is the metadata.
    """
    spec = {key: value for key, value in resolved(bot)["spec"].items() if key != "state"}
    text = msgspec.json.encode({"apiVersion": bot.api_version, "spec": spec}, order="sorted")
    return hashlib.sha256(text).hexdigest()[:_REVISION_LENGTH]


def plain_value(annotation: Any, value: Any) -> Any:
    hint = take_apart(annotation)
    if value is None or hint.preserved:
        return value
    if hint.scalar is not None:
        return hint.scalar.format(value)
    if is_struct(hint.base):
        written = (
            (field.key, plain_value(field.annotation, getattr(value, field.name))) for field in fields_of(hint.base)
        )
        return {key: item for key, item in written if item is not None}
    if get_origin(hint.base) is tuple:
        return [plain_value(get_args(hint.base)[0], item) for item in value]
    if get_origin(hint.base) is dict:
        return {key: plain_value(get_args(hint.base)[1], item) for key, item in value.items()}
    return value
