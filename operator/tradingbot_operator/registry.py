"""The TradingBots that are there, packed, and which accounts they name."""

from __future__ import annotations

import hashlib

import msgspec

from tradingbot_api import SpecInvalid
from tradingbot_operator.bots import Bot, account_owner
from tradingbot_operator.kinds import Owner
from tradingbot_operator.names import account_id
from tradingbot_operator.timetable import Checked, checked


class _Known(msgspec.Struct, frozen=True):
    uid: str
    version: int
    made: str
    packed: bytes
    """As objects of Python a spec with its defaults takes thirty times as much."""
    concerns: bytes
    """What of it an account has to do with: its settings, and whether its database may be restarted."""
    checked: Checked
    ready: int
    """Agents."""


class Registry:
    def __init__(self) -> None:
        self._bots: dict[Owner, _Known] = {}
        self._accounts: dict[Owner, Owner] = {}
        """Of each bot; one whose spec can not be read keeps the account that it had."""
        self._members: dict[Owner, set[Owner]] = {}

    def __len__(self) -> int:
        return len(self._bots)

    def get(self, key: Owner) -> Bot | None:
        known = self._bots.get(key)
        return None if known is None else Bot(msgspec.json.decode(known.packed))

    def known(self) -> list[tuple[Owner, str]]:
        """Every bot, with its uid."""
        return [(key, known.uid) for key, known in self._bots.items()]

    def checks(self) -> list[tuple[Owner, Checked]]:
        """The reality check of every bot."""
        return [(key, known.checked) for key, known in self._bots.items()]

    def ready(self) -> list[tuple[Owner, int]]:
        """How many agents of every bot are ready."""
        return [(key, known.ready) for key, known in self._bots.items()]

    def put(self, bot: Bot) -> list[Owner]:
        """What it concerns: the bot, and its account when that has changed hands or settings."""
        before = self._bots.get(bot.owner)
        if before is not None and bot.version <= before.version:
            # What we have written ourselves is known already; the watch is behind. Or it is the end of an older one
            # of its name, told after the beginning of this one.
            return []
        known = self._bots[bot.owner] = _known(bot)
        if before is not None and before.uid == known.uid and before.concerns == known.concerns:
            return [bot.owner]
        left = self._accounts.get(bot.owner)
        try:
            account = account_owner(bot.namespace, account_id(bot.read()))
        except SpecInvalid:
            return [bot.owner] if left is None else [bot.owner, left]
        self._leave(bot.owner)
        self._accounts[bot.owner] = account
        self._members.setdefault(account, set()).add(bot.owner)
        return [bot.owner, account] if left in (None, account) else [bot.owner, account, left]

    def remove(self, bot: Owner, uid: str) -> list[Owner]:
        """Its account is concerned."""
        known = self._bots.get(bot)
        if known is None or known.uid != uid:
            return []
        del self._bots[bot]
        account = self._leave(bot)
        return [] if account is None else [account]

    def bots_of(self, account: Owner) -> list[Owner]:
        """The bots of an account, the eldest first: its settings count."""
        return sorted(self._members.get(account, ()), key=lambda each: (self._bots[each].made, each.name))

    def _leave(self, bot: Owner) -> Owner | None:
        account = self._accounts.pop(bot, None)
        if account is not None:
            members = self._members[account]
            members.discard(bot)
            if not members:
                del self._members[account]
        return account


def _known(bot: Bot) -> _Known:
    meta = {key: value for key, value in bot.body["metadata"].items() if key != "managedFields"}
    concerns = msgspec.json.encode([bot.body.get("spec"), bool(bot.positions)], order="sorted")
    return _Known(
        uid=bot.uid,
        version=bot.version,
        made=str(meta.get("creationTimestamp", "")),
        packed=msgspec.json.encode({**bot.body, "metadata": meta}),
        concerns=hashlib.sha256(concerns).digest(),
        checked=checked(bot.body),
        ready=bot.status.get("readyAgents") or 0,
    )
