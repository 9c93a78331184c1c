"""What a bot's spec says of who it is: its account in the ledger, its place on disk. Imports no database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tradingbot_agents.domain.values import Mode
from tradingbot_agents.ledger.port import AccountKey
from tradingbot_api import TradingBot, revision

HOME = Path(".tradingbot")
"""Beside the work, not in the home directory: a bot's data is found where it was started."""


def default_data_dir(bot: TradingBot) -> Path:
    return HOME / bot.metadata.name


def running_revision(bot: TradingBot, environment: Mapping[str, str]) -> str:
    """What tells one state of spec and program from the next. Who deploys says it, for only they know of another
    image; nobody does, and the spec alone counts."""
    return environment.get("TRADINGBOT_REVISION") or revision(bot)


def account_key(bot: TradingBot) -> AccountKey:
    return AccountKey(
        mode=Mode(bot.spec.mode),
        exchange=bot.spec.exchange.name,
        endpoint=bot.spec.exchange.endpoint or "",
        name=bot.spec.account.name,
    )


def account_of(identity: Mapping[str, str]) -> AccountKey:
    return AccountKey(
        mode=Mode(identity["mode"]),
        exchange=identity["exchange"],
        endpoint=identity["endpoint"],
        name=identity["account"],
    )


def identity_of(bot: TradingBot, seed: int, source: str) -> dict[str, str]:
    """What a data directory belongs to. ``source`` is the fingerprint of the candles."""
    return {
        "bot": bot.metadata.name,
        "mode": bot.spec.mode,
        "exchange": bot.spec.exchange.name,
        "endpoint": bot.spec.exchange.endpoint or "",
        "account": bot.spec.account.name,
        "quoteCurrency": bot.spec.account.quote_currency,
        "seed": str(seed),
        "candles": source,
    }
