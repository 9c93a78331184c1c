"""``tradingbot-operator``: the command of the operator's image.

``run`` is the operator. ``check-uninstall`` is what the chart asks before it removes it: whether TradingBots are
there, which nobody would look after any more.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version

from kubernetes.aio.config import ConfigException

from tradingbot_operator.cluster import ApiError, Cluster, configuration
from tradingbot_operator.kinds import TRADING_BOT
from tradingbot_operator.logs import configure_logging
from tradingbot_operator.process import Operator
from tradingbot_operator.settings import Settings, SettingsInvalid, read_settings

OK, FAILED, BAD_INPUT = 0, 1, 2

DEFAULT_IMAGE = f"tradingbot-agents:{version('tradingbot')}"
"""Of the operator's own version: they are built together."""


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        settings = read_settings(os.environ, default_image=DEFAULT_IMAGE)
    except SettingsInvalid as error:
        print(error, file=sys.stderr)
        return BAD_INPUT
    try:
        code: int = asyncio.run(options.work(settings))
        return code
    except ConfigException as error:
        print(
            f"no cluster is known: {error}; set KUBECONFIG, or run in a pod with a service account", file=sys.stderr
        )
        return BAD_INPUT


async def _run(settings: Settings) -> int:
    configure_logging(settings.log_format, settings.log_level)
    async with Operator(await configuration(None), settings) as operator:
        await operator.run()
    return OK


async def _check_uninstall(settings: Settings) -> int:
    cluster = Cluster(await configuration(None))
    try:
        places = settings.namespaces if settings.namespaces is not None else (None,)
        found = [
            each["metadata"]
            for place in places
            async for items, _ in cluster.pages(TRADING_BOT, place)
            for each in items
        ]
    except ApiError as error:
        print(f"whether TradingBots are there can not be found out: {error}", file=sys.stderr)
        return FAILED
    finally:
        await cluster.close()
    for meta in found:
        print(f"TradingBot {meta['name']} in namespace {meta['namespace']} is there", file=sys.stderr)
    if found:
        print(
            "nobody would look after them: delete them first, or uninstall with --no-hooks to leave them running",
            file=sys.stderr,
        )
    return FAILED if found else OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tradingbot-operator", description=__doc__)
    parser.add_argument("--version", action="version", version=version("tradingbot"))
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="the operator")
    run.set_defaults(work=_run)
    check = commands.add_parser("check-uninstall", help="whether TradingBots would be left alone")
    check.set_defaults(work=_check_uninstall)
    return parser


if __name__ == "__main__":
    sys.exit(main())
