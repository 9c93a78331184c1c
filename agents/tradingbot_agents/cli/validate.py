"""``tradingbot validate``: every mistake of a spec at once, or the word that it is fine."""

from __future__ import annotations

from pathlib import Path

from tradingbot_agents.cli import exit_codes
from tradingbot_agents.cli.output import as_json
from tradingbot_api import SpecInvalid, load_file


def validate(spec: Path, output: str) -> int:
    try:
        bot = load_file(spec)
    except SpecInvalid as error:
        if output == "json":
            print(as_json({"valid": False, "mistakes": [_mistake(mistake) for mistake in error.mistakes]}))
        else:
            print(error)
        return exit_codes.BAD_INPUT
    if output == "json":
        print(as_json({"valid": True, "mistakes": []}))
    else:
        count = len(bot.spec.symbols)
        about = f"{bot.spec.mode}, {bot.spec.exchange.name}, {count} symbol{'' if count == 1 else 's'}"
        print(f"{spec}: {bot.metadata.name} is valid ({about})")
    return exit_codes.OK


def _mistake(mistake: object) -> dict[str, object]:
    return {name: getattr(mistake, name) for name in ("path", "line", "value", "problem", "remedy")}
