"""Values as people and programs read them: a decimal is a string without an exponent, wherever it leaves us."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec


def spelled(value: Any) -> Any:
    """``value`` (a struct, a mapping, a sequence or a plain value) as JSON-able data."""
    return _plain(msgspec.to_builtins(value, builtin_types=(Decimal,)))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value
