"""How a bar fills an order: every case of the module's rules, with numbers."""

from __future__ import annotations

from decimal import Decimal

import pytest

from support.replay import START, order
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.books import BookOrder
from tradingbot_agents.exchange.market_rules import load_market_rules
from tradingbot_agents.exchange.matching import NO_MATCH, Match, chance, distance, match_at_once, match_in_bar

RULES = load_market_rules()["BTC/USDT"]
NO_SLIP = Decimal(0)


def bar(open_: object, high: object, low: object, close: object) -> Candle:
    prices = [Decimal(str(price)) for price in (open_, high, low, close)]
    return Candle("BTC/USDT", "5m", START, *prices, volume=Decimal(10))


def resting(side: Side, *, limit: object = None, stop: object = None, triggered: bool = False) -> BookOrder:
    request = order("a", side, 1, limit=limit, stop=stop)
    return BookOrder(
        id=1,
        client_order_id="a",
        symbol=request.symbol,
        side=side,
        type=request.type,
        time_in_force=request.time_in_force,
        amount=request.amount,
        limit_price=request.limit_price,
        stop_price=request.stop_price,
        at=START,
        triggered=triggered,
    )


def fills(price: object, *, maker: bool = False, triggers: bool = False) -> Match:
    return Match(Decimal(str(price)), maker, triggers)


TRIGGERS_ONLY = Match(None, triggers=True)


@pytest.mark.parametrize(
    ("side", "limit", "candle", "match"),
    [
        (Side.BUY, 100, bar(105, 106, 99, 104), fills(100, maker=True)),
        (Side.BUY, 100, bar(105, 106, 100, 104), NO_MATCH),  # a touch is not enough
        (Side.BUY, 100, bar(105, 106, 101, 104), NO_MATCH),
        (Side.BUY, 100, bar(97, 98, 96, 97), fills(97, maker=True)),  # opened below it
        (Side.SELL, 100, bar(95, 101, 94, 96), fills(100, maker=True)),
        (Side.SELL, 100, bar(95, 100, 94, 96), NO_MATCH),
        (Side.SELL, 100, bar(95, 99, 94, 96), NO_MATCH),
        (Side.SELL, 100, bar(103, 104, 102, 103), fills(103, maker=True)),
    ],
)
def test_a_resting_limit_order_needs_a_trade_through(side: Side, limit: int, candle: Candle, match: Match) -> None:
    assert match_in_bar(resting(side, limit=limit), candle, RULES, Decimal("0.01")) == match


@pytest.mark.parametrize(
    ("side", "stop", "slip", "candle", "match"),
    [
        (Side.SELL, 100, 0, bar(105, 106, 100, 104), fills(100, triggers=True)),  # a touch is enough
        (Side.SELL, 100, 0, bar(105, 106, 101, 104), NO_MATCH),
        (Side.SELL, 100, 0, bar(97, 98, 96, 97), fills(97, triggers=True)),  # a jump over it
        (Side.SELL, 100, "0.01", bar(105, 106, 90, 104), fills(99, triggers=True)),
        (Side.SELL, 100, "0.01", bar(105, 106, 99.5, 104), fills(99.5, triggers=True)),  # never outside the bar
        (Side.BUY, 100, 0, bar(95, 100, 94, 96), fills(100, triggers=True)),
        (Side.BUY, 100, 0, bar(95, 99, 94, 96), NO_MATCH),
        (Side.BUY, 100, 0, bar(103, 104, 102, 103), fills(103, triggers=True)),
        (Side.BUY, 100, "0.01", bar(95, 110, 94, 96), fills(101, triggers=True)),
        (Side.BUY, 100, "0.01", bar(95, 100.5, 94, 96), fills(100.5, triggers=True)),
    ],
)
def test_a_stop_is_triggered_by_a_touch_and_slips(
    side: Side, stop: int, slip: object, candle: Candle, match: Match
) -> None:
    assert match_in_bar(resting(side, stop=stop), candle, RULES, Decimal(str(slip))) == match


@pytest.mark.parametrize(("side", "price"), [(Side.SELL, "99"), (Side.BUY, "101")])
def test_the_rest_of_a_triggered_stop_goes_at_the_next_open(side: Side, price: str) -> None:
    rest = resting(side, stop=50, triggered=True)
    assert match_in_bar(rest, bar(100, 110, 90, 100), RULES, Decimal("0.01")) == fills(price)


@pytest.mark.parametrize(
    ("side", "stop", "limit", "slip", "candle", "match"),
    [
        (Side.SELL, 100, 98, 0, bar(105, 106, 99, 104), fills(100, triggers=True)),
        (Side.SELL, 100, 98, "0.05", bar(105, 106, 90, 104), fills(98, triggers=True)),  # slips no further
        (Side.SELL, 100, 98, 0, bar(97, 99, 96, 97), TRIGGERS_ONLY),  # a jump over the limit: it rests
        (Side.SELL, 100, 98, 0, bar(105, 106, 101, 104), NO_MATCH),
        (Side.BUY, 100, 102, 0, bar(95, 101, 94, 96), fills(100, triggers=True)),
        (Side.BUY, 100, 102, "0.05", bar(95, 110, 94, 96), fills(102, triggers=True)),
        (Side.BUY, 100, 102, 0, bar(103, 104, 101, 103), TRIGGERS_ONLY),
    ],
)
def test_a_stop_limit_order_never_passes_its_limit(
    side: Side, stop: int, limit: int, slip: object, candle: Candle, match: Match
) -> None:
    assert match_in_bar(resting(side, stop=stop, limit=limit), candle, RULES, Decimal(str(slip))) == match


def test_a_triggered_stop_limit_order_is_a_limit_order() -> None:
    rest = resting(Side.SELL, stop=100, limit=98, triggered=True)
    assert match_in_bar(rest, bar(96, 98, 95, 97), RULES, NO_SLIP) == NO_MATCH
    assert match_in_bar(rest, bar(96, 99, 95, 97), RULES, NO_SLIP) == fills(98, maker=True)


@pytest.mark.parametrize(
    ("side", "limit", "slip", "candle", "match"),
    [
        (Side.BUY, None, 0, bar(100, 110, 90, 100), fills(100)),
        (Side.BUY, None, "0.01", bar(100, 110, 90, 100), fills(101)),
        (Side.BUY, None, "0.2", bar(100, 110, 90, 100), fills(110)),
        (Side.SELL, None, "0.01", bar(100, 110, 90, 100), fills(99)),
        (Side.SELL, None, "0.2", bar(100, 110, 90, 100), fills(90)),
        (Side.BUY, 100, 0, bar(100, 110, 90, 100), fills(100)),
        (Side.BUY, 100.5, "0.01", bar(100, 110, 90, 100), fills(100.5)),
        (Side.BUY, 99.99, 0, bar(100, 110, 90, 100), NO_MATCH),
        (Side.SELL, 99.5, "0.01", bar(100, 110, 90, 100), fills(99.5)),
        (Side.SELL, 100.01, 0, bar(100, 110, 90, 100), NO_MATCH),
    ],
)
def test_an_order_that_arrives_trades_at_the_last_close(
    side: Side, limit: object, slip: object, candle: Candle, match: Match
) -> None:
    assert match_at_once(resting(side, limit=limit), candle, RULES, Decimal(str(slip))) == match


def test_slippage_is_rounded_against_the_order_onto_the_tick() -> None:
    candle = bar("100.00", "110", "90", "100.00")
    slip = Decimal("0.000123")
    assert match_at_once(resting(Side.BUY), candle, RULES, slip) == fills("100.02")
    assert match_at_once(resting(Side.SELL), candle, RULES, slip) == fills("99.98")


def test_a_bar_off_the_tick_still_gives_a_price_on_it() -> None:
    candle = bar("100.005", "100.005", "100.005", "100.005")
    for side in Side:
        price = match_at_once(resting(side), candle, RULES, NO_SLIP).price
        assert price is not None
        assert RULES.price.holds(price)
        assert abs(price - candle.close) < RULES.price.value


def test_the_order_nearest_to_the_open_is_served_first() -> None:
    candle = bar(100, 120, 80, 100)
    assert distance(resting(Side.BUY, limit=95), candle) == 5
    assert distance(resting(Side.SELL, stop=93), candle) == 7
    assert distance(resting(Side.SELL, stop=93, limit=90), candle) == 7
    assert distance(resting(Side.SELL, stop=93, limit=90, triggered=True), candle) == 10
    assert distance(resting(Side.SELL, stop=93, triggered=True), candle) == 0


def test_chance_is_a_function_of_its_event() -> None:
    assert chance(1, "slip", 7, 0) == chance(1, "slip", 7, 0)
    others = {chance(2, "slip", 7, 0), chance(1, "slip", 7, 1), chance(1, "slip", 70), chance(1, "lost", 7, 0)}
    assert chance(1, "slip", 7, 0) not in others
    assert len(others) == 4


def test_chance_is_spread_over_0_to_1() -> None:
    drawn = [chance(1, "x", n) for n in range(1000)]
    assert all(0 <= value < 1 for value in drawn)
    assert Decimal("0.45") < sum(drawn) / 1000 < Decimal("0.55")
