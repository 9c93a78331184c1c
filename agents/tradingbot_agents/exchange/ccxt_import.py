"""Loads one exchange's class of ccxt, and only that one.

``import ccxt`` runs a package that imports all its exchanges, twice over (their blocking and their async classes):
some 70 MB that a bot never uses. What the class itself needs is a tenth of that. So the two packages are put into
``sys.modules`` as they are found on disk but without their ``__init__`` having run, with the few names in them that
ccxt's own modules take from there. Other exchanges' classes still come when they are asked for, one at a time.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from importlib.util import find_spec, module_from_spec
from types import ModuleType
from typing import Any


class UnknownExchange(Exception):
    """ccxt has no exchange of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"exchange.name is {name!r}, which ccxt does not know; use the id of one of its exchanges")
        self.name = name


class NoStreams(Exception):
    """ccxt has no websockets of the exchange."""

    def __init__(self, name: str) -> None:
        super().__init__(f"exchange.feed is websocket, but ccxt has no websockets of {name}; use rest")
        self.name = name


def exchange_class(name: str, streams: bool = False) -> Any:
    """ccxt's async class of the exchange; with ``streams``, the one that has its websockets too.

    Raises ``UnknownExchange`` or ``NoStreams``.
    """
    _prepare()
    if not name.isidentifier() or find_spec(f"ccxt.async_support.{name}") is None:
        raise UnknownExchange(name)
    found = _class("ccxt.async_support", name)
    if found is None:
        raise UnknownExchange(name)
    if not streams:
        return found
    if "ccxt.pro" not in sys.modules:
        _bare("ccxt.pro")
    if find_spec(f"ccxt.pro.{name}") is None:
        raise NoStreams(name)
    return _class("ccxt.pro", name)


def _class(package: str, name: str) -> Any:
    found = getattr(importlib.import_module(f"{package}.{name}"), name, None)
    if not isinstance(found, type):
        return None
    # The import has put the module under that name, where ccxt's own modules look for the class.
    setattr(sys.modules[package], name, found)
    return found


def _prepare() -> None:
    if "ccxt" in sys.modules:
        return
    package = _bare("ccxt")
    base: Any = importlib.import_module("ccxt.base.exchange")
    errors: Any = importlib.import_module("ccxt.base.errors")
    taken = {name: getattr(errors, name) for name in errors.__all__}
    vars(package).update(taken, Exchange=base.Exchange)
    vars(_bare("ccxt.async_support")).update(taken)


def _bare(name: str) -> ModuleType:
    spec = find_spec(name)
    if spec is None:
        raise ModuleNotFoundError("ccxt is not installed; install tradingbot[agents]", name="ccxt")
    package = module_from_spec(spec)
    sys.modules[name] = package
    vars(package)["__getattr__"] = _by_name(name)
    return package


def _by_name(package: str) -> Callable[[str], Any]:
    """What a package answers for a name that it does not have: the exchange's class, loaded now."""

    def get(name: str) -> Any:
        if not name.startswith("_") and find_spec(f"{package}.{name}") is not None:
            found = _class(package, name)
            return sys.modules[f"{package}.{name}"] if found is None else found
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
