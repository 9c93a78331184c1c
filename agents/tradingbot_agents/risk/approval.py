"""In which order the intents of one window get the balance, when it does not suffice for all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tradingbot_agents.domain.messages import TradeIntent
from tradingbot_agents.risk.settings import ApprovalOrder


def without_repeats(intents: Iterable[TradeIntent]) -> list[TradeIntent]:
    """Each intent once, by its id, where it came first: a redelivery is no second wish."""
    first: dict[str, TradeIntent] = {}
    for intent in intents:
        first.setdefault(intent.id, intent)
    return list(first.values())


def contradictions(intents: Iterable[TradeIntent]) -> list[TradeIntent]:
    """Those that carry the id of one that came before them and say something else: no redelivery, but a producer
    that gives one id twice. The first is decided, and these are not."""
    first: dict[str, TradeIntent] = {}
    return [intent for intent in intents if first.setdefault(intent.id, intent) != intent]


def rank(intents: Sequence[TradeIntent], order: ApprovalOrder, symbols: Sequence[str]) -> list[TradeIntent]:
    """Best first. By confidence: the higher one, then the earlier one, then the symbol that the spec names
    first; by arrival: as they came."""
    if order is ApprovalOrder.FIRST_COME_FIRST_SERVED:
        return list(intents)
    place = {symbol: index for index, symbol in enumerate(symbols)}
    return sorted(
        intents,
        key=lambda intent: (-intent.confidence, intent.at, place.get(intent.symbol, len(place)), intent.symbol),
    )
