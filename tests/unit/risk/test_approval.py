"""Who gets the balance first."""

from __future__ import annotations

from datetime import timedelta

from support.messages import START
from support.risk import SETTINGS, a_wish
from tradingbot_agents.domain.messages import TradeIntent
from tradingbot_agents.risk.approval import rank, without_repeats
from tradingbot_agents.risk.settings import ApprovalOrder

LATER = START + timedelta(milliseconds=10)


def names(intents: list[TradeIntent]) -> list[str]:
    return [intent.id for intent in intents]


def ranked(*intents: TradeIntent, order: ApprovalOrder = ApprovalOrder.BY_CONFIDENCE) -> list[str]:
    return names(rank(intents, order, SETTINGS.symbols))


def test_the_most_confident_comes_first() -> None:
    low = a_wish("BTC/USDT", confidence="0.6000", name="low")
    high = a_wish("SOL/USDT", confidence="0.9000", at=LATER, name="high")
    assert ranked(low, high) == ["high", "low"]


def test_as_confident_the_earlier_comes_first() -> None:
    late = a_wish("BTC/USDT", at=LATER, name="late")
    early = a_wish("SOL/USDT", name="early")
    assert ranked(late, early) == ["early", "late"]


def test_as_confident_and_as_early_the_spec_decides() -> None:
    """BTC stands before SOL in the spec; a symbol that is not in it comes last."""
    wishes = [a_wish(symbol, name=symbol) for symbol in ("DOGE/USDT", "SOL/USDT", "BTC/USDT")]
    assert ranked(*wishes) == ["BTC/USDT", "SOL/USDT", "DOGE/USDT"]


def test_first_come_first_served() -> None:
    low = a_wish("SOL/USDT", confidence="0.6000", at=LATER, name="low")
    high = a_wish("BTC/USDT", confidence="0.9000", name="high")
    assert ranked(low, high, order=ApprovalOrder.FIRST_COME_FIRST_SERVED) == ["low", "high"]


def test_a_redelivery_is_no_second_wish() -> None:
    first, second = a_wish("BTC/USDT", name="first"), a_wish("ETH/USDT", name="second")
    assert names(without_repeats([first, second, first])) == ["first", "second"]
