"""Deterministic ids: the same cause gives the same id, so that a replay or a redelivery changes nothing.

Client order ids are 18 characters of ``[a-z2-7]``: the shortest limit among the exchanges we name (Kraken's
``cl_ord_id``) takes them, and so do all others.
"""

from __future__ import annotations

import base64
from hashlib import blake2b

from tradingbot_agents.domain.values import Leg, Side

ORDER_ID_PREFIX = "tb"


def digest(*parts: object) -> str:
    """80 bits of a hash of ``parts`` in lower-case base32: 16 characters."""
    joined = "\x1f".join(str(part) for part in parts).encode()
    return base64.b32encode(blake2b(joined, digest_size=10).digest()).decode().lower()


def client_order_id(account: str, bot: str, cause: str, leg: Leg, attempt: int) -> str:
    """Names an order: a function of its cause (an intent or a trade), its leg and the attempt."""
    return ORDER_ID_PREFIX + digest(account, bot, cause, leg.value, attempt)


def intent_id(bot: str, symbol: str, side: Side, candle_id: str) -> str:
    """One intent per bot, symbol, side and candle."""
    return "intent-" + digest(bot, symbol, side.value, candle_id)


def trade_id(bot: str, symbol: str, entry_order: str) -> str:
    """Names one round trip of a position, from its first entry to flat."""
    return "trade-" + digest(bot, symbol, entry_order)
