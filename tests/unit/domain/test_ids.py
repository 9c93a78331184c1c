"""Ids are functions of their cause. Their values are an interface: a changed id doubles what was done before."""

from __future__ import annotations

import re

import pytest

from tradingbot_agents.domain.ids import client_order_id, digest, intent_id, trade_id
from tradingbot_agents.domain.values import Leg, Side

CANDLE = "BTC/USDT.5m.2024-03-01T00:00Z"
EXCHANGES = {
    # What each exchange takes as a client order id: letters, digits and length.
    "Binance": r"[.A-Z:/a-z0-9_-]{1,36}",
    "Kraken (cl_ord_id, free text)": r"[a-zA-Z0-9]{1,18}",
    "OKX": r"[a-zA-Z0-9]{1,32}",
    "Bybit": r"[a-zA-Z0-9_-]{1,36}",
    "KuCoin": r"[a-zA-Z0-9_-]{1,40}",
}


def an_order_id(**changes: object) -> str:
    parts: dict[str, object] = {
        "account": "paper/simulated/main",
        "bot": "majors",
        "cause": "intent-1",
        "leg": Leg.ENTRY,
        "attempt": 1,
        **changes,
    }
    return client_order_id(**parts)  # type: ignore[arg-type]


def test_the_values_are_for_ever() -> None:
    assert an_order_id() == "tbcwscrm4u6277qgf4"
    assert intent_id("majors", "BTC/USDT", Side.BUY, CANDLE) == "intent-kgvxudc7ks7im5qs"
    assert trade_id("majors", "BTC/USDT", an_order_id()) == "trade-6akomntxkmyd3qar"


@pytest.mark.parametrize(
    "changes",
    [
        {"account": "live/binance/main"},
        {"bot": "minors"},
        {"cause": "intent-2"},
        {"leg": Leg.STOP},
        {"attempt": 2},
    ],
)
def test_whatever_differs_makes_another_order(changes: dict[str, object]) -> None:
    assert an_order_id(**changes) != an_order_id()


def test_each_leg_of_a_trade_has_its_own() -> None:
    assert len({an_order_id(leg=leg, attempt=attempt) for leg in Leg for attempt in range(100)}) == 100 * len(Leg)


@pytest.mark.parametrize("exchange", EXCHANGES)
def test_every_exchange_takes_it(exchange: str) -> None:
    for attempt in range(200):
        assert re.fullmatch(EXCHANGES[exchange], an_order_id(attempt=attempt))


def test_an_intent_is_one_per_bot_symbol_side_and_candle() -> None:
    base = ("majors", "BTC/USDT", Side.BUY, CANDLE)
    others = [
        ("minors", "BTC/USDT", Side.BUY, CANDLE),
        ("majors", "ETH/USDT", Side.BUY, CANDLE),
        ("majors", "BTC/USDT", Side.SELL, CANDLE),
        ("majors", "BTC/USDT", Side.BUY, "BTC/USDT.5m.2024-03-01T00:05Z"),
    ]
    assert intent_id(*base) == intent_id(*base)
    assert len({intent_id(*each) for each in (base, *others)}) == 5


def test_parts_do_not_run_into_each_other() -> None:
    assert digest("ab", "c") != digest("a", "bc")
    assert digest("a", "") != digest("a")
    assert re.fullmatch("[a-z2-7]{16}", digest("a"))
