"""What holds for every check."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from datetime import timedelta
from types import FrameType

import msgspec
import pytest

from support.evidence import (
    BITCOIN,
    ETHER,
    NOW,
    account,
    bars,
    candles,
    entry,
    evidence,
    fill,
    heard,
    ledger,
    market,
    open_stop,
    stop,
    trade,
)
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.reality.check import GROUPS, Check, Status, all_checks, judge
from tradingbot_agents.reality.evidence import Evidence, Missing

CHECKS = all_checks()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_it_passes_on_a_clean_bot(check: Check) -> None:
    found = judge(check, evidence())
    assert found.status is Status.PASSED, found.told
    assert all(found.told), "it says what it looked at"


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_it_is_unknown_without_what_it_needs(check: Check) -> None:
    assert check.needs
    for source in check.needs:
        away = evidence(**{source.value: Missing("it does not answer")})
        found = judge(check, away)
        assert found.status is Status.UNKNOWN
        assert found.told == (f"{source.value}: it does not answer",)
        unasked = evidence(**{source.value: Missing("nobody gave it a key", wanted=False)})
        assert judge(check, unasked).status is Status.SKIPPED


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_it_can_do_without_everything_else(check: Check) -> None:
    sources = {"ledger", "account", "market", "candles", "messaging", "agents", "logs"}
    for source in sources - {each.value for each in check.needs}:
        found = judge(check, evidence(**{source: Missing("it does not answer")}))
        assert found.status in (Status.PASSED, Status.UNKNOWN)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_its_words_are_whole(check: Check) -> None:
    assert re.fullmatch(r"[a-z]+\.[a-z-]+", check.id)
    assert check.group in GROUPS
    assert check.asks.endswith("?")
    for text in (check.protects, check.remedy):
        assert text.endswith(".")
        assert "  " not in text


def test_evidence_is_not_changed_by_being_judged() -> None:
    found = evidence()
    before = msgspec.json.encode(found)
    for check in CHECKS:
        judge(check, found)
    assert msgspec.json.encode(found) == before


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.id)
def test_its_work_grows_no_faster_than_the_evidence(check: Check) -> None:
    """A bot that trades a lot, and whose books and exchange have nothing in common: its check must end, too."""
    few, many = _lines_run(check, _at_odds(100)), _lines_run(check, _at_odds(400))
    assert many <= 4 * few * 1.5


def _at_odds(count: int) -> Evidence:
    """Orders, fills, trades, open orders and candles, all of them wrong."""
    moments = [NOW - timedelta(minutes=14) + timedelta(milliseconds=100 * number) for number in range(count)]
    states = (OrderState.FILLED, OrderState.UNRESOLVED, OrderState.APPROVED, OrderState.OPEN, OrderState.REJECTED)
    orders = [
        entry(f"tb{number}", at, exchange_order_id=str(number), state=states[number % len(states)])
        for number, at in enumerate(moments)
    ]
    legs = [stop(f"ts{number}", at, exchange_order_id=f"s{number}") for number, at in enumerate(moments)]
    return evidence(
        ledger=ledger(
            orders=(*orders, *legs),
            fills=tuple(fill(order) for order in orders),
            heard=tuple(
                heard("position_unprotected", BITCOIN, str(number), at=at) for number, at in enumerate(moments)
            ),
        ),
        account=account(
            trades=tuple(
                trade(exchange_trade_id=f"x{number}", exchange_order_id=f"x{number}", at=at)
                for number, at in enumerate(moments)
            ),
            open_orders=tuple(
                open_stop(exchange_order_id=f"x{number}", client_order_id=f"tbx{number}") for number in range(count)
            ),
        ),
        candles=candles(candles={symbol: bars(symbol, count) for symbol in (BITCOIN, ETHER)}),
        market=market(candles={symbol: bars(symbol, count)[::2] for symbol in (BITCOIN, ETHER)}),
    )


def _lines_run(check: Check, found: Evidence) -> int:
    run = 0

    def count(frame: FrameType, event: str, argument: object) -> Callable[..., object]:
        nonlocal run
        run += 1
        return count

    before = sys.gettrace()
    sys.settrace(count)
    try:
        check.judge(found)
    finally:
        sys.settrace(before)
    return run
