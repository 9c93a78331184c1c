"""The command line: parses, calls, and turns errors into one clear message and a documented exit code."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

from tradingbot_agents.cli import exit_codes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    options = _parser().parse_args(_completed(sys.argv[1:] if arguments is None else arguments))
    try:
        code: int = options.command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader (head, less) has seen enough. What is still buffered would fail again when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.OK
    except KeyboardInterrupt:
        return exit_codes.INTERRUPTED
    except Exception as error:
        failure = _exit_code(error)
        if failure == exit_codes.UNEXPECTED:
            raise
        print(f"tradingbot: {error}", file=sys.stderr)
        return failure
    return code


def _completed(arguments: Sequence[str]) -> list[str]:
    """``reality-check SPEC`` is ``reality-check run SPEC``."""
    given = list(arguments)
    if given[:1] == ["reality-check"] and given[1:2] and given[1] not in (*_REALITY, "-h", "--help"):
        given.insert(1, "run")
    return given


_REALITY = ("run", "history", "show")

_AGENTS = ("data-collection", "technical-analysis", "strategy", "risk", "execution")
"""``bus.topology.AGENTS``, without its imports."""


def _exit_code(error: Exception) -> int:
    from tradingbot_api import SpecInvalid

    if isinstance(error, SpecInvalid):
        return exit_codes.BAD_INPUT

    from tradingbot_agents.bus import DependencyUnavailable
    from tradingbot_agents.exchange.candle_files import CandleFileInvalid
    from tradingbot_agents.exchange.candle_source import CandleSourceError
    from tradingbot_agents.exchange.ccxt_import import NoStreams, UnknownExchange
    from tradingbot_agents.exchange.market_rules import MarketRulesInvalid, NoMarketRules
    from tradingbot_agents.exchange.state import ExchangeStateError
    from tradingbot_agents.ledger.datadir import DataDirError
    from tradingbot_agents.ledger.port import Fenced, LedgerError
    from tradingbot_agents.marketdata import CandleStoreRefused, CandleStoreUnavailable
    from tradingbot_agents.runtime.connections import ConnectionsInvalid
    from tradingbot_agents.runtime.health import NotListening
    from tradingbot_agents.runtime.supervisor import AgentGaveUp
    from tradingbot_agents.runtime.wiring import NotRunnable

    bad_input = CandleFileInvalid | CandleSourceError | MarketRulesInvalid | NoMarketRules | NotRunnable
    if isinstance(
        error, bad_input | ConnectionsInvalid | CandleStoreRefused | NotListening | UnknownExchange | NoStreams
    ):
        return exit_codes.BAD_INPUT
    if isinstance(error, DataDirError | ExchangeStateError):
        return exit_codes.DATA_DIRECTORY
    if isinstance(error, AgentGaveUp | Fenced):
        return exit_codes.GAVE_UP
    if isinstance(error, LedgerError | CandleStoreUnavailable | DependencyUnavailable):
        return exit_codes.DATABASE
    return exit_codes.UNEXPECTED


def _run(options: argparse.Namespace) -> int:
    from tradingbot_agents.runtime.run import RunOptions, run

    return asyncio.run(
        run(
            RunOptions(
                spec=options.spec,
                candles=options.candles,
                speed=options.speed,
                seed=options.seed,
                data_dir=options.data_dir,
                until=options.until,
                output=options.output,
                report=options.report,
            )
        )
    )


def _agent(options: argparse.Namespace) -> int:
    from tradingbot_agents.runtime.process import AgentOptions, run_agent

    return asyncio.run(
        run_agent(
            AgentOptions(
                name=options.name,
                spec=options.spec,
                listen=options.listen,
                data_dir=options.data_dir,
                output=options.output or ("text" if sys.stdout.isatty() else "json"),
                state_file=options.state_file,
            ),
            os.environ,
        )
    )


def _validate(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.validate import validate

    return validate(options.spec, options.output)


def _read(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.reading import READERS, read

    return asyncio.run(read(READERS[options.name], options.data_dir, options.spec, options.output, options.limit))


def _hold(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.holds import place

    return asyncio.run(place(options.data_dir, options.spec, options.state, options.reason))


def _release(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.holds import release

    return asyncio.run(release(options.data_dir, options.spec))


def _dead_letters(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.dead_letters import put_back, show

    if options.requeue is not None:
        return asyncio.run(put_back(options.spec, *options.requeue))
    return asyncio.run(show(options.spec, options.output))


def _reality_check(options: argparse.Namespace) -> int:
    from tradingbot_agents.runtime.reality import RealityOptions, check_reality

    return asyncio.run(
        check_reality(
            RealityOptions(
                spec=options.spec,
                data_dir=options.data_dir,
                log=options.log,
                agents=dict(options.agent),
                window=options.window,
                output=options.output or ("text" if sys.stdout.isatty() else "both"),
                dry_run=options.dry_run,
            ),
            os.environ,
        )
    )


def _reality_history(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.reality import history

    return asyncio.run(history(options.data_dir, options.spec, options.output, options.limit))


def _reality_show(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.reality import show

    return asyncio.run(show(options.data_dir, options.spec, options.output, options.number))


def _migrate(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.migrating import migrate_data_dir, migrate_environment
    from tradingbot_agents.clock.system import SystemClock

    if options.spec is not None:
        return asyncio.run(migrate_environment(options.spec, options.wait, SystemClock()))
    return asyncio.run(migrate_data_dir(options.data_dir))


def _prune(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.pruning import prune

    return asyncio.run(prune(options.spec, options.data_dir, options.output, dry_run=options.dry_run))


def _backup(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.backing_up import write

    return asyncio.run(write(options.file, options.data_dir))


def _restore(options: argparse.Namespace) -> int:
    from tradingbot_agents.cli.backing_up import read

    return asyncio.run(read(options.file))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tradingbot",
        description="Five agents around one fenced authority over the account's balance.",
        epilog="Exit codes: 0 done, 2 bad input, 3 data directory, 4 database, 5 gave up, 6 invariant violated, "
        "7 a reality check failed, 8 it could not know, 130 interrupted. See docs/command.md.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('tradingbot')}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a bot: all five agents in one process")
    run.add_argument("spec", type=Path, metavar="SPEC", help="the TradingBot, a YAML file")
    run.add_argument("--candles", type=Path, metavar="DIR", help="replay these candles, not the spec's replay.source")
    run.add_argument("--speed", type=_speed, metavar="max|N", help="replay speed: max, or N times real time")
    run.add_argument("--seed", type=_seed, metavar="N", help="randomness of the simulated exchange (default: 1)")
    run.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="where everything is kept (default: .tradingbot/NAME)"
    )
    run.add_argument("--until", type=_time, metavar="TIME", help="stop at this time of the candles, ISO 8601 in UTC")
    run.add_argument(
        "--output",
        choices=("text", "json"),
        help="text: a live view, or readable lines; json: structured events, one a line (default: as fits)",
    )
    run.add_argument("--report", type=_file_to_write, metavar="FILE", help="write the report as JSON")
    run.set_defaults(command=_run)

    agent = commands.add_parser("agent", help="run one agent as a process, on RabbitMQ, InfluxDB and PostgreSQL")
    agent.add_argument(
        "name",
        choices=_AGENTS,
        metavar="NAME",
        help="data-collection, technical-analysis, strategy, risk or execution",
    )
    agent.add_argument("spec", type=Path, metavar="SPEC", help="the TradingBot, a YAML file")
    agent.add_argument(
        "--state-file",
        type=Path,
        metavar="FILE",
        help="the state that is asked for, in one word, is in this file and not in the spec",
    )
    agent.add_argument(
        "--listen",
        type=_address,
        metavar="HOST:PORT",
        default=("127.0.0.1", 8080),
        help="where /live, /ready and /metrics answer (default: 127.0.0.1:8080; port 0: any)",
    )
    agent.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="for candles that InfluxDB does not take (default: .tradingbot/NAME)",
    )
    agent.add_argument(
        "--output", choices=("text", "json"), help="readable lines, or structured events (default: as fits)"
    )
    agent.set_defaults(command=_agent)

    validate = commands.add_parser("validate", help="check a spec and say every mistake at once")
    validate.add_argument("spec", type=Path, metavar="SPEC")
    validate.add_argument("--output", choices=("text", "json"), default="text")
    validate.set_defaults(command=_validate)

    for name, explanation, formats in (
        ("status", "state, equity, positions and refusals in short", ("text", "json")),
        ("positions", "what is held, with stops and profit", ("text", "json", "csv")),
        ("orders", "orders, newest first", ("text", "json", "csv")),
        ("fills", "fills, newest first", ("text", "json", "csv")),
    ):
        reader = commands.add_parser(name, help=f"{explanation}; also while the bot runs")
        _place(reader)
        reader.add_argument("--output", choices=formats, default="text")
        if name != "status":
            reader.add_argument("--limit", type=_count, metavar="N", help="at most so many rows")
        reader.set_defaults(command=_read, name=name, limit=None)

    hold = commands.add_parser("hold", help="restrict a bot now, whatever its spec says, until release")
    hold.add_argument("state", choices=("Paused", "ReduceOnly", "Flatten", "Stopped"))
    hold.add_argument("--reason", required=True, help="why, for whoever reads it later")
    _place(hold)
    hold.set_defaults(command=_hold)

    release = commands.add_parser("release", help="take a hold away")
    _place(release)
    release.set_defaults(command=_release)

    letters = commands.add_parser(
        "dead-letters", help="messages that no agent could handle, and another chance for one"
    )
    letters.add_argument("spec", type=Path, metavar="SPEC", help="the TradingBot, a YAML file")
    letters.add_argument(
        "--requeue",
        nargs=2,
        metavar=("QUEUE", "ID"),
        help="put this one back into its queue; an intent that has expired is refused then",
    )
    letters.add_argument("--output", choices=("text", "json"), default="text")
    letters.set_defaults(command=_dead_letters)

    _reality_parsers(
        commands.add_parser("reality-check", help="an audit of the bot against reality: SPEC, or history, show")
    )

    migrate = commands.add_parser(
        "migrate", help="bring a data directory, or with SPEC what the environment names, to this version"
    )
    migrate.add_argument("spec", type=Path, nargs="?", metavar="SPEC", help="a TradingBot that runs on real parts")
    migrate.add_argument(
        "--wait",
        type=_duration,
        default=timedelta(0),
        metavar="TIME",
        help="with SPEC: for servers that do not answer yet (default: not at all)",
    )
    _data_dir(migrate)
    migrate.set_defaults(command=_migrate)

    prune = commands.add_parser("prune", help="remove from the ledger what is older than spec.database.history keeps")
    prune.add_argument("spec", type=Path, metavar="SPEC", help="the TradingBot, a YAML file")
    prune.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="of the bot (default: the database of TRADINGBOT_DATABASE_URL, else .tradingbot/NAME)",
    )
    prune.add_argument("--dry-run", action="store_true", help="count what would be removed, and leave it")
    prune.add_argument("--output", choices=("text", "json"), default="text")
    prune.set_defaults(command=_prune)

    backup = commands.add_parser("backup", help="write the ledger to a file, also while the bot runs")
    backup.add_argument("file", type=Path, metavar="FILE", help="must not exist yet")
    _data_dir(backup)
    backup.set_defaults(command=_backup)

    restore = commands.add_parser(
        "restore",
        help="fill the empty database of TRADINGBOT_DATABASE_URL with a backup; its bots are held at ReduceOnly",
    )
    restore.add_argument("file", type=Path, metavar="FILE", help="a file that backup wrote")
    restore.set_defaults(command=_restore)
    return parser


def _reality_parsers(parser: argparse.ArgumentParser) -> None:
    parser.usage = "tradingbot reality-check [run] SPEC [...] | history [...] | show [NUMBER] [...]"
    ways = parser.add_subparsers(required=True, metavar="WAY", prog="tradingbot reality-check")
    run = ways.add_parser("run", help="audit the bot of SPEC, wherever it runs (run may be left out)")
    run.add_argument("spec", type=Path, metavar="SPEC", help="the TradingBot, a YAML file")
    run.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="of tradingbot run (default: the database of TRADINGBOT_DATABASE_URL, else .tradingbot/NAME)",
    )
    run.add_argument(
        "--log",
        metavar="FILE",
        help="what the agents have logged as JSON; -: what is piped in (default: the pods' logs, in a cluster)",
    )
    run.add_argument(
        "--agent",
        type=_agent_address,
        action="append",
        default=[],
        metavar="NAME=HOST:PORT",
        help="where an agent's /ready and /metrics answer, without a cluster; once for each",
    )
    run.add_argument("--window", type=_duration, metavar="TIME", help="how far back (default: the spec's)")
    run.add_argument(
        "--output",
        choices=("text", "json", "both"),
        help="a report for people, one line of JSON, or one after the other (default: as fits)",
    )
    run.add_argument("--dry-run", action="store_true", help="report only: keep, hold, tell and send nothing")
    run.set_defaults(command=_reality_check)
    history = ways.add_parser("history", help="a line for each report, newest first")
    history.add_argument("--limit", type=_count, metavar="N", help="at most so many")
    history.add_argument("--output", choices=("text", "json", "csv"), default="text")
    history.set_defaults(command=_reality_history)
    show = ways.add_parser("show", help="one report, by default the newest")
    show.add_argument("number", type=_count, nargs="?", metavar="NUMBER", help="of the history")
    show.add_argument("--output", choices=("text", "json"), default="text")
    show.set_defaults(command=_reality_show)
    for each in (history, show):
        _place(each)


def _place(parser: argparse.ArgumentParser) -> None:
    place = parser.add_mutually_exclusive_group()
    place.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="of the bot (default: the only one in .tradingbot)"
    )
    place.add_argument(
        "--spec", type=Path, metavar="SPEC", help="of a bot whose ledger is the database of TRADINGBOT_DATABASE_URL"
    )


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="of the bot (default: the only one in .tradingbot)"
    )


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not an address, such as 0.0.0.0:8080")
    return host.strip("[]"), int(port)


def _agent_address(text: str) -> tuple[str, tuple[str, int]]:
    name, equals, address = text.partition("=")
    if not equals or name not in _AGENTS:
        raise argparse.ArgumentTypeError(f"{text!r} names no agent, such as risk=127.0.0.1:8080")
    return name, _address(address)


def _duration(text: str) -> timedelta:
    from tradingbot_api import ScalarInvalid
    from tradingbot_api.durations import DURATION

    try:
        found: timedelta = DURATION.parse(text)
    except ScalarInvalid as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    return found


def _speed(text: str) -> Decimal:
    from tradingbot_api import ScalarInvalid
    from tradingbot_api.decimals import SPEED

    try:
        speed: Decimal = SPEED.parse(text)
    except ScalarInvalid as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None
    return speed


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number, such as 1")
    return int(text)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above zero")
    return int(text)


def _file_to_write(text: str) -> Path:
    """Refused now, and not after the run whose result it is for."""
    path = Path(text)
    if path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is a folder: name a file in it")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise argparse.ArgumentTypeError(f"{text!r} can not be written: name a file in a folder of yours")
    return path


def _time(text: str) -> datetime:
    try:
        when = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a time, such as 2024-03-01T12:00Z") from None
    return when.replace(tzinfo=UTC) if when.tzinfo is None else when.astimezone(UTC)


if __name__ == "__main__":
    sys.exit(main())
