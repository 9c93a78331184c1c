"""What one answer of the exchange means for an order."""

from __future__ import annotations

from datetime import timedelta

import msgspec
import pytest

from support.execution import LOOK_UP, NOW, SYMBOL, D, order
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import OrderType, Side
from tradingbot_agents.exchange.port import ExchangeOrder, ExchangeOrderState, ExchangeTrade
from tradingbot_agents.execution.resolve import (
    LookUps,
    distinct,
    final_state,
    has_news,
    resolve_found,
    resolve_missing,
    send_problem,
)

AFTER = NOW + LOOK_UP.send_limit + LOOK_UP.receive_window
IMMEDIATE = msgspec.structs.replace(LOOK_UP, immediate_not_found=True)


def shown(state: ExchangeOrderState, filled: str) -> ExchangeOrder:
    return ExchangeOrder(
        exchange_order_id="41",
        client_order_id="tb-entry",
        symbol=SYMBOL,
        side=Side.BUY,
        type=OrderType.LIMIT,
        state=state,
        amount=D(1),
        filled=D(filled),
        at=NOW,
    )


def trade(number: str, amount: str) -> ExchangeTrade:
    return ExchangeTrade(
        exchange_trade_id=number,
        exchange_order_id="41",
        symbol=SYMBOL,
        side=Side.BUY,
        price=D(100),
        amount=D(amount),
        at=NOW,
    )


@pytest.mark.parametrize(
    ("state", "filled", "order_state", "expected"),
    [
        (ExchangeOrderState.OPEN, "0.5", OrderState.OPEN, None),
        (ExchangeOrderState.CLOSED, "1", OrderState.OPEN, OrderState.FILLED),
        (ExchangeOrderState.CLOSED, "0.5", OrderState.OPEN, OrderState.CANCELLED),
        (ExchangeOrderState.CANCELLED, "1", OrderState.OPEN, OrderState.FILLED),
        (ExchangeOrderState.CANCELLED, "0.5", OrderState.OPEN, OrderState.CANCELLED),
        (ExchangeOrderState.REJECTED, "0", OrderState.OPEN, OrderState.REJECTED),
        (ExchangeOrderState.REJECTED, "0", OrderState.CANCELLING, OrderState.CANCELLED),
        (ExchangeOrderState.REJECTED, "0.5", OrderState.OPEN, OrderState.CANCELLED),
    ],
)
def test_final_state(
    state: ExchangeOrderState, filled: str, order_state: OrderState, expected: OrderState | None
) -> None:
    assert final_state(order(state=order_state), shown(state, filled)) is expected


def test_an_end_waits_for_its_last_trade() -> None:
    half = resolve_found(order(), shown(ExchangeOrderState.CLOSED, "1"), [trade("1", "0.5")], NOW, LOOK_UP)
    assert half.final is None
    assert half.trades == (trade("1", "0.5"),)
    assert half.look_again == NOW + LOOK_UP.spacing

    both = [trade("1", "0.5"), trade("2", "0.5")]
    whole = resolve_found(order(), shown(ExchangeOrderState.CLOSED, "1"), both, NOW, LOOK_UP)
    assert whole.final is OrderState.FILLED
    assert whole.look_again is None


def test_a_repeated_trade_does_not_stand_for_a_missing_one() -> None:
    twice = [trade("1", "0.5"), trade("1", "0.5")]
    assert distinct(twice) == (trade("1", "0.5"),)
    assert resolve_found(order(), shown(ExchangeOrderState.CLOSED, "1"), twice, NOW, LOOK_UP).final is None


def test_an_order_without_news_needs_no_trades() -> None:
    half_booked = order(filled=D("0.5"), state=OrderState.OPEN)
    assert not has_news(half_booked, shown(ExchangeOrderState.CANCELLED, "0.5"))
    done = resolve_found(half_booked, shown(ExchangeOrderState.CANCELLED, "0.5"), [], NOW, LOOK_UP)
    assert done.final is OrderState.CANCELLED
    assert has_news(half_booked, shown(ExchangeOrderState.OPEN, "0.6"))


def test_not_found_needs_the_limits_and_several_look_ups_over_a_margin() -> None:
    lost = order(state=OrderState.UNRESOLVED)
    early, history = resolve_missing(lost, LookUps(), AFTER - timedelta(seconds=1), LOOK_UP)
    assert not early.not_found
    assert history.misses == 0, "a look-up before the last moment of arrival says nothing"

    first, history = resolve_missing(lost, history, AFTER, LOOK_UP)
    second, history = resolve_missing(lost, history, AFTER + timedelta(seconds=1), LOOK_UP)
    third, history = resolve_missing(lost, history, AFTER + timedelta(seconds=2), LOOK_UP)
    assert history == LookUps(3, AFTER)
    assert not any(one.not_found for one in (first, second, third)), "three in a row are not spread"
    last, _ = resolve_missing(lost, history, AFTER + LOOK_UP.margin, LOOK_UP)
    assert last.not_found


def test_a_margin_alone_is_not_enough() -> None:
    lost = order(state=OrderState.UNRESOLVED)
    _, history = resolve_missing(lost, LookUps(), AFTER, LOOK_UP)
    second, _ = resolve_missing(lost, history, AFTER + 10 * LOOK_UP.margin, LOOK_UP)
    assert not second.not_found
    assert second.look_again == AFTER + 10 * LOOK_UP.margin + LOOK_UP.spacing


def test_an_authoritative_look_up_decides_at_once() -> None:
    assert resolve_missing(order(state=OrderState.UNRESOLVED), LookUps(), NOW, IMMEDIATE)[0].not_found


@pytest.mark.parametrize("settings", [LOOK_UP, IMMEDIATE])
def test_a_confirmed_order_is_never_believed_to_be_missing(settings: object) -> None:
    confirmed = order(state=OrderState.OPEN, exchange_order_id="41")
    history = LookUps()
    verdicts = []
    for number in range(6):
        at = AFTER + number * LOOK_UP.spacing
        verdict, history = resolve_missing(confirmed, history, at, settings)  # type: ignore[arg-type]
        verdicts.append(verdict)
    assert not any(verdict.not_found for verdict in verdicts)
    assert [verdict.lost for verdict in verdicts] == [False, False, True, True, True, True]

    lost, _ = resolve_missing(
        msgspec.structs.replace(confirmed, state=OrderState.UNRESOLVED), history, AFTER + timedelta(days=1), LOOK_UP
    )
    assert not lost.not_found
    assert not lost.lost
    assert lost.look_again is not None


def test_an_order_is_sent_only_within_its_limits() -> None:
    claimed = order()
    limit = NOW + LOOK_UP.send_limit
    assert send_problem(claimed, limit, LOOK_UP, taken_up=False) is None
    late = send_problem(claimed, limit + timedelta(microseconds=1), LOOK_UP, taken_up=False)
    assert late is not None
    assert late.startswith("send_limit")
    assert send_problem(claimed, NOW + timedelta(seconds=30), LOOK_UP, taken_up=True) is None
    expired = send_problem(claimed, NOW + timedelta(minutes=2), LOOK_UP, taken_up=True)
    assert expired is not None
    assert expired.startswith("stale_intent")
