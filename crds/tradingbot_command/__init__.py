"""The console scripts ``tradingbot`` and ``tradingbot-operator``.

An extra can not choose among the scripts of a distribution: both are there wherever one of them is. So they start
here, beside the types that are everywhere, and the one whose side was not installed says so, where it would be a
traceback otherwise. It imports nothing that a command does not use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

NOT_INSTALLED = 2
"""Exit code: bad input, as both commands have it."""


def agents() -> int:
    def start() -> int:
        from tradingbot_agents.cli.main import main

        return main()

    return _run("tradingbot", "agents", start)


def operator() -> int:
    def start() -> int:
        from tradingbot_operator.main import main

        return main()

    return _run("tradingbot-operator", "operator", start)


def _run(command: str, extra: str, start: Callable[[], int]) -> int:
    try:
        return start()
    except ModuleNotFoundError:
        missing = _missing(extra)
        if not missing:
            # Everything is installed: a defect, or a plug-in's own.
            raise
    print(
        f"{command}: tradingbot[{extra}] is not installed here ({missing[0]} is missing): pip install"
        f" 'tradingbot[{extra}]', or use the image tradingbot-{extra}",
        file=sys.stderr,
    )
    return NOT_INSTALLED


def _missing(extra: str) -> list[str]:
    """Our package, or what else the extra installs, as far as it is not there."""
    import re
    from importlib.metadata import PackageNotFoundError, distribution, requires
    from importlib.util import find_spec

    package = f"tradingbot_{extra}"
    if find_spec(package) is None:
        return [package]
    missing = []
    for line in requires("tradingbot") or ():
        found = re.match(rf"([\w.-]+).*;.*\bextra == ['\"]{extra}['\"]", line)
        if found is None:
            continue
        try:
            distribution(found[1])
        except PackageNotFoundError:
            missing.append(found[1])
    return missing
