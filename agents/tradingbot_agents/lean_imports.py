"""Imports of large libraries by halves: their parts are loaded when they are used, and not because the package is.

Some packages import all that they have in their ``__init__``: hundreds of modules, of which an agent needs ten, in
each of five processes. Here such a package is put into ``sys.modules`` as it is found on disk but without its
``__init__`` having run; a name that the ``__init__`` would have imported is imported when somebody asks for it.
``benchmarks/memory.py`` says what that is worth.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any


def import_by_halves(*packages: str) -> None:
    """Each of them, the outer before the inner. One that is imported already stays as it is."""
    for name in packages:
        if name in sys.modules:
            continue
        spec = find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name} is not installed; install tradingbot[agents]", name=name)
        package = module_from_spec(spec)
        vars(package)["__getattr__"] = _when_asked(name, _names_of(name, Path(spec.origin)))
        sys.modules[name] = package
        parent, _, child = name.rpartition(".")
        if parent:
            # As the import system does: who has the outer one reaches the inner one through it.
            setattr(sys.modules[parent], child, package)


@contextmanager
def hidden(module: str) -> Iterator[None]:
    """For libraries that use a module if it is there: it is not there, unless it is imported already."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[module]


def _names_of(package: str, source: Path) -> Mapping[str, tuple[str, str]]:
    """What the package's ``__init__`` imports by name: from which module, and as what."""
    names = {}
    for statement in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.module is not None:
            module = statement.module if statement.level == 0 else f"{package}.{statement.module}"
            for alias in statement.names:
                names[alias.asname or alias.name] = (module, alias.name)
    return names


def _when_asked(package: str, names: Mapping[str, tuple[str, str]]) -> Callable[[str], Any]:
    def get(name: str) -> Any:
        if name in names:
            module, what = names[name]
            found = getattr(importlib.import_module(module), what)
            setattr(sys.modules[package], name, found)
            return found
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return get
