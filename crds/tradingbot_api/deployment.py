"""What a valid spec must be besides, by where it is to run. The agents ask it of themselves at their start, and the
operator before it makes anything."""

from pathlib import PurePosixPath

from .decimals import format_speed
from .mistakes import Mistake
from .types import TradingBot

SHARED_FOLDER = PurePosixPath("/usr/share/tradingbot")
"""Of the agents' image: where a relative path is looked for that is not beside the spec."""

SHARED_CANDLES = "candles"
"""What it has."""


def process_mistakes(bot: TradingBot) -> list[Mistake]:
    """Of a bot whose agents are processes of their own. They are in real time, which is as fast as they go: "max"."""
    replay = bot.spec.exchange.replay
    if replay is None or replay.speed == 1 or replay.speed.is_infinite():
        return []
    return [
        _mistake(
            "exchange.replay.speed",
            format_speed(replay.speed),
            "times real time is for one process, and agents in processes of their own are in real time",
            "write speed: \"1\", or use 'tradingbot run'",
        )
    ]


def cluster_mistakes(bot: TradingBot) -> list[Mistake]:
    """Of a bot on a cluster: its pods have the spec, and of the folder beside it only what their image brings."""
    found = process_mistakes(bot)
    replay, simulated = bot.spec.exchange.replay, bot.spec.exchange.simulated
    if replay is not None and _is_away(replay.source):
        found.append(
            _mistake(
                "exchange.replay.source",
                replay.source,
                "is relative to the spec file, and on a cluster nothing is beside it",
                f"write {SHARED_CANDLES}, which the agents' image brings, or the path of a folder in your own image",
            )
        )
    rules = None if simulated is None else simulated.market_rules
    if rules is not None and _is_away(rules):
        found.append(
            _mistake(
                "exchange.simulated.marketRules",
                rules,
                "is relative to the spec file, and on a cluster nothing is beside it",
                "write the path of a file in your own image of the agents, or leave it out",
            )
        )
    return found


def _is_away(path: str) -> bool:
    parts = PurePosixPath(path)
    return not parts.is_absolute() and (parts.parts[0] != SHARED_CANDLES or ".." in parts.parts)


def _mistake(path: str, value: str, problem: str, remedy: str) -> Mistake:
    return Mistake(path=f"spec.{path}", line=None, value=value, problem=problem, remedy=remedy)
