"""Values as people and programs read them: a decimal is a string without an exponent, wherever it leaves us."""

from __future__ import annotations

from decimal import Context, Decimal
from typing import Any

import msgspec


def spelled(value: Any) -> Any:
    """``value`` (a struct, a mapping, a sequence or a plain value) as JSON-able data."""
    return _jsonable(msgspec.to_builtins(value, builtin_types=(Decimal,)))


def _jsonable(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {key: _jsonable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(each) for each in value]
    return value


_SHOWN = Context(prec=8)


def plain(value: Decimal) -> str:
    """A figure for people: eight significant digits, no exponent."""
    return f"{_SHOWN.plus(value).normalize():f}"


def percent(fraction: Decimal) -> str:
    """``0.1534`` as ``15.34 %``."""
    return f"{(fraction * 100).quantize(Decimal('0.01')).normalize():f} %"
