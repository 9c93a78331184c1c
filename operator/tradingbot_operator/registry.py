"""The TradingBots that are there, and which accounts they name."""

from __future__ import annotations

from tradingbot_api import SpecInvalid, TradingBot
from tradingbot_operator.bots import Bot, account_owner
from tradingbot_operator.kinds import Owner
from tradingbot_operator.names import account_id


class Registry:
    def __init__(self) -> None:
        self._bots: dict[Owner, Bot] = {}
        self._accounts: dict[Owner, str] = {}
        """By bot; one whose spec can not be read keeps the account that it had."""

    def __len__(self) -> int:
        return len(self._bots)

    def get(self, key: Owner) -> Bot | None:
        return self._bots.get(key)

    def put(self, bot: Bot) -> list[Owner]:
        """What it concerns: the bot, and its account when that has changed hands or settings."""
        before = self._bots.get(bot.owner)
        if before is not None and before.uid == bot.uid and bot.version < before.version:
            # What we have written ourselves is known already; the watch is behind.
            return []
        self._bots[bot.owner] = bot
        if before is not None and before.uid == bot.uid and _concerns(before) == _concerns(bot):
            return [bot.owner]
        account = _account(bot)
        if account is not None:
            self._accounts[bot.owner] = account
        account = self._accounts.get(bot.owner)
        return [bot.owner] if account is None else [bot.owner, account_owner(bot.namespace, account)]

    def remove(self, bot: Bot) -> list[Owner]:
        """Its account is concerned."""
        known = self._bots.get(bot.owner)
        if known is None or known.uid != bot.uid:
            return []
        del self._bots[bot.owner]
        account = self._accounts.pop(bot.owner, None)
        return [] if account is None else [account_owner(bot.namespace, account)]

    def bots_of(self, namespace: str, account: str) -> list[str]:
        """The names of the bots of an account, the eldest first: its settings count."""
        found = [
            self._bots[key]
            for key, name in self._accounts.items()
            if key.namespace == namespace and name == account and key in self._bots
        ]
        found.sort(key=lambda bot: (str(bot.body["metadata"].get("creationTimestamp", "")), bot.name))
        return [bot.name for bot in found]


def _concerns(bot: Bot) -> tuple[object, object]:
    """What an account has to do with: settings, and whether its database may be restarted."""
    return bot.body.get("spec"), bool(bot.positions)


def _account(bot: Bot) -> str | None:
    try:
        spec: TradingBot = bot.read()
    except SpecInvalid:
        return None
    return account_id(spec)
