"""The next step of a position, and the maths of the trailing stop."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from support.execution import (
    CAPABILITIES,
    FIVE_MINUTES,
    NOW,
    RULES,
    SETTINGS,
    TRAILING,
    D,
    candle,
    order,
    position,
    sale,
    stop_order,
)
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees
from tradingbot_agents.domain.values import BotState, Leg, OrderType
from tradingbot_agents.execution.exits import (
    Dust,
    Leave,
    Observation,
    Protect,
    Rest,
    Sell,
    Step,
    Terms,
    Trail,
    Withdraw,
    attempts_in_vain,
    closing_leg,
    entry_must_go,
    follow,
    next_step,
    observe_candle,
    retry_at,
    sellable,
)

TERMS = Terms(rules=RULES, capabilities=CAPABILITIES, settings=SETTINGS)
CLOSING = position(state=PositionState.CLOSING, closing_reason="consensus")


def at(last: str, low: str | None = None, high: str | None = None) -> Observation:
    return Observation(D(last), D(low or last), D(high or last))


def step(held: Position, **changes: Any) -> Step:
    arguments: dict[str, Any] = {
        "live": [],
        "stops": [],
        "sales": [],
        "seen": None,
        "price": D(100),
        "terms": TERMS,
        "state": BotState.RUNNING,
        "now": NOW + timedelta(minutes=5),
    }
    return next_step(held, **(arguments | changes))


# --- a position without an exit on the exchange ----------------------------------------------------------


def test_a_new_position_gets_its_stop() -> None:
    wanted = step(position(amount=D("0.123456"), stop_price=D("95.001")))
    assert wanted == Protect(
        type=OrderType.STOP_MARKET, amount=D("0.12345"), stop_price=D("95.01"), limit_price=None
    ), "the amount down to its step, the stop up to its tick"


def test_a_stop_limit_order_stands_in_where_there_is_no_stop_market() -> None:
    capabilities = msgspec.structs.replace(CAPABILITIES, stop_market=False)
    wanted = step(position(), terms=msgspec.structs.replace(TERMS, capabilities=capabilities))
    assert wanted == Protect(type=OrderType.STOP_LIMIT, amount=D(1), stop_price=D(95), limit_price=D("94.05"))


@pytest.mark.parametrize(
    "terms",
    [
        msgspec.structs.replace(TERMS, settings=msgspec.structs.replace(SETTINGS, stops_on_exchange=False)),
        msgspec.structs.replace(
            TERMS, capabilities=msgspec.structs.replace(CAPABILITIES, stop_market=False, stop_limit=False)
        ),
    ],
    ids=["not wanted", "not offered"],
)
def test_a_watched_stop_sells_when_it_is_reached(terms: Terms) -> None:
    assert step(position(), terms=terms, seen=at("96", low="95.01")) == Rest()
    reached = step(position(), terms=terms, seen=at("96", low="95"))
    assert isinstance(reached, Leave)
    assert reached.leg is Leg.STOP


def test_a_target_is_reached_by_the_last_price_not_by_a_touch() -> None:
    assert isinstance(step(position(), seen=at("109.99", high="120")), Protect)
    reached = step(position(), live=[stop_order()], seen=at("110"))
    assert isinstance(reached, Leave)
    assert reached.leg is Leg.TARGET


def test_a_position_without_a_stop_rests_and_that_is_said() -> None:
    bare = step(position(stop_price=None, target_price=None), seen=at("1"))
    assert isinstance(bare, Rest)
    assert "no stop price" in bare.why
    stopped = step(position(stop_price=None), state=BotState.STOPPED)
    assert stopped == Rest("the bot is Stopped")


def test_a_refused_stop_is_placed_again_after_a_pause_that_doubles() -> None:
    refused = [
        stop_order(
            state=OrderState.REJECTED, reason="insufficient_funds: not there yet", finished_at=NOW, attempt=tried
        )
        for tried in range(9)
    ]
    for tried, seconds in ((1, 2), (2, 4), (3, 8), (4, 16), (9, 16)):
        again = NOW + timedelta(seconds=seconds)
        waits = step(position(), stops=refused[:tried], now=again - timedelta(seconds=1))
        assert isinstance(waits, Rest)
        assert waits.until == again
        assert "insufficient_funds: not there yet" in waits.why
        assert isinstance(step(position(), stops=refused[:tried], now=again), Protect)
    moved = step(position(stop_price=D(96)), stops=refused, now=NOW)
    assert isinstance(moved, Protect), "another price is another question"


@pytest.mark.parametrize("reason", ["order_type_not_supported: stopMarket", "unknown_symbol: BTC/USDT"])
def test_a_stop_that_is_never_taken_is_watched_for_good(reason: str) -> None:
    refused = stop_order(state=OrderState.REJECTED, reason=reason, finished_at=NOW)
    watched = step(position(), stops=[refused], now=NOW + timedelta(days=1))
    assert isinstance(watched, Rest)
    assert reason in watched.why
    assert watched.until is None
    reached = step(position(), stops=[refused], seen=at("94"))
    assert isinstance(reached, Leave)


def test_a_stop_that_came_too_late_is_sold_at_once() -> None:
    refused = stop_order(state=OrderState.REJECTED, reason="would trigger", finished_at=NOW)
    late = step(position(), stops=[refused], price=D("94.99"))
    assert isinstance(late, Leave)
    assert late.leg is Leg.STOP
    told = stop_order(state=OrderState.REJECTED, reason="stop_would_trigger_immediately: 95", finished_at=NOW)
    behind = step(position(), stops=[told], price=D("95.01"), now=NOW)
    assert isinstance(behind, Leave), "the exchange knows the price sooner than we"
    assert behind.leg is Leg.STOP


@pytest.mark.parametrize("state", [OrderState.NOT_FOUND, OrderState.DENIED, OrderState.CANCELLED])
def test_a_stop_that_is_gone_is_placed_again_after_a_pause(state: OrderState) -> None:
    gone = stop_order(state=state, finished_at=NOW)
    waits = step(position(), stops=[gone], now=NOW + timedelta(seconds=1))
    assert isinstance(waits, Rest)
    assert waits.until == NOW + SETTINGS.exit_retry
    assert waits.why
    assert isinstance(step(position(), stops=[gone], now=NOW + SETTINGS.exit_retry), Protect)


def test_a_moved_stop_is_placed_without_a_pause() -> None:
    old = stop_order(state=OrderState.CANCELLED, finished_at=NOW)
    assert isinstance(step(position(stop_price=D(97)), stops=[old], now=NOW), Protect)


def test_what_a_stop_left_over_is_sold() -> None:
    half = stop_order(state=OrderState.CANCELLED, filled=D("0.5"), finished_at=NOW)
    left = step(position(amount=D("0.5")), stops=[half])
    assert isinstance(left, Leave)
    assert left.leg is Leg.STOP
    assert step(position(amount=D("0.000001")), stops=[half]) == Dust(Leg.STOP)


def test_a_position_too_small_to_sell_is_dust_once_its_entry_ended() -> None:
    small = position(amount=D("0.04"))
    assert step(small, price=D(100)) == Dust(Leg.EXIT)
    entry = order(state=OrderState.OPEN, exchange_order_id="1")
    waits = step(small, live=[entry])
    assert isinstance(waits, Rest)
    assert "below_minimum_notional" in waits.why


# --- a position with its stop on the exchange ------------------------------------------------------------


def test_a_resting_stop_is_left_alone() -> None:
    assert step(position(), live=[stop_order()], seen=at("100", low="94")) == Rest(), "the exchange does it"


def test_a_higher_stop_moves_the_resting_one() -> None:
    resting = stop_order()
    move = step(position(stop_price=D(97)), live=[resting], seen=at("100"))
    assert isinstance(move, Withdraw)
    assert move.order == resting
    triggered = stop_order(filled=D("0.1"))
    assert step(position(stop_price=D(97)), live=[triggered], seen=at("100")) == Rest(), "it is selling already"


def test_a_stop_that_covers_too_little_is_replaced() -> None:
    grown = step(position(amount=D(2)), live=[stop_order()])
    assert isinstance(grown, Withdraw)
    assert "grows" in grown.why


def test_a_price_below_the_new_stop_is_sold_and_not_moved() -> None:
    late = step(position(stop_price=D(97)), live=[stop_order()], seen=at("96.5"))
    assert isinstance(late, Leave)
    assert late.leg is Leg.STOP


def test_a_stop_limit_order_that_the_price_jumped_over_is_taken_over() -> None:
    resting = stop_order(type=OrderType.STOP_LIMIT, limit_price=D("94.05"))
    assert step(position(), live=[resting], seen=at("94.05")) == Rest()
    jumped = step(position(), live=[resting], seen=at("94.04"))
    assert isinstance(jumped, Leave)
    assert jumped.leg is Leg.STOP


def test_a_stop_of_unknown_outcome_does_not_excuse_a_reached_stop() -> None:
    unknown = stop_order(state=OrderState.UNRESOLVED)
    waits = step(position(), live=[unknown], seen=at("100"))
    assert isinstance(waits, Rest)
    assert waits.why
    assert isinstance(step(position(), live=[unknown], seen=at("94")), Leave)


def test_of_two_stops_the_older_one_goes() -> None:
    older = stop_order(client_order_id="tb-older")
    both = step(position(), live=[older, stop_order(attempt=1)])
    assert isinstance(both, Withdraw)
    assert both.order == older


# --- a closing position ----------------------------------------------------------------------------------


def test_a_sale_takes_over_from_the_stop_and_waits_for_its_end() -> None:
    resting = stop_order()
    taken = step(CLOSING, live=[resting])
    assert isinstance(taken, Withdraw)
    assert taken.order == resting
    assert isinstance(step(CLOSING, live=[stop_order(state=OrderState.CANCELLING)]), Rest)
    assert isinstance(step(CLOSING, live=[stop_order(state=OrderState.UNRESOLVED)]), Rest)
    assert step(CLOSING) == Sell(Leg.EXIT, D(1))


def test_a_sale_ends_the_entry_first() -> None:
    entry = order(state=OrderState.OPEN, exchange_order_id="1")
    first = step(CLOSING, live=[entry])
    assert isinstance(first, Withdraw)
    assert first.order == entry


@pytest.mark.parametrize(
    ("reason", "leg"),
    [
        ("target", Leg.TARGET),
        ("stop", Leg.STOP),
        ("flatten", Leg.FLATTEN),
        ("exit", Leg.EXIT),
        ("consensus", Leg.EXIT),
        ("entry", Leg.EXIT),
        (None, Leg.EXIT),
    ],
)
def test_the_leg_of_an_exit_is_in_the_books(reason: str | None, leg: Leg) -> None:
    assert closing_leg(position(state=PositionState.CLOSING, closing_reason=reason)) is leg


def test_a_rest_that_can_not_be_sold_is_dust() -> None:
    tiny = msgspec.structs.replace(CLOSING, amount=D("0.000009"))
    assert step(tiny) == Dust(Leg.EXIT)
    cheap = msgspec.structs.replace(CLOSING, amount=D("0.04"))
    assert step(cheap) == Dust(Leg.EXIT)
    assert step(cheap, price=None) == Sell(Leg.EXIT, D("0.04")), "without a price the exchange judges"


def test_what_the_market_did_not_take_is_offered_at_a_later_look() -> None:
    assert step(CLOSING, sales=[sale()], now=NOW) == Rest("its sale is cancelled"), "no timer: the next look"
    assert isinstance(step(CLOSING, sales=[sale()], now=NOW + SETTINGS.exit_retry), Sell)


def test_a_refused_sale_is_tried_again_by_a_timer() -> None:
    refused = sale(state=OrderState.REJECTED)
    assert step(CLOSING, sales=[refused], now=NOW) == Rest("its sale is rejected", NOW + SETTINGS.exit_retry)


def test_the_pause_doubles_up_to_its_longest_and_ends_with_a_fill() -> None:
    tries = [sale(attempt=number) for number in range(9)]
    pauses = [(retry_at(tries[: count + 1], SETTINGS) - NOW).total_seconds() for count in range(6)]
    assert pauses == [2, 4, 8, 16, 16, 16]
    assert attempts_in_vain(tries) == 9
    sold = [*tries, sale(filled=D("0.5"))]
    assert attempts_in_vain(sold) == 0
    assert retry_at(sold, SETTINGS) == NOW + SETTINGS.exit_retry


def test_stops_that_were_moved_are_no_failures() -> None:
    moved = [stop_order(state=OrderState.CANCELLED, attempt=number) for number in range(5)]
    assert attempts_in_vain(moved) == 0
    assert attempts_in_vain([*moved, stop_order(state=OrderState.DENIED)]) == 1


def test_an_order_is_no_larger_than_the_largest() -> None:
    assert sellable(position(amount=D(200)), RULES, D(100)) == D(50)


def test_an_order_is_worth_no_more_than_the_largest_notional() -> None:
    rules = msgspec.structs.replace(RULES, max_notional=D(1000))
    assert sellable(position(amount=D(20)), rules, D(95)) == D("10.52631"), "1000 / 95, down to the step"
    assert sellable(position(amount=D(20)), rules, None) == D(20), "without a price the exchange judges"
    terms = msgspec.structs.replace(TERMS, rules=rules)
    placed = step(position(amount=D(20)), terms=terms)
    assert isinstance(placed, Protect)
    assert rules.order_problem(placed.type, placed.amount, placed.stop_price) is None
    resting = stop_order(amount=placed.amount)
    assert step(position(amount=D(20)), terms=terms, live=[resting]) == Rest(), "it can not grow"
    assert step(msgspec.structs.replace(CLOSING, amount=D(20)), terms=terms, price=D(100)) == Sell(Leg.EXIT, D(10))


def test_a_fee_in_base_currency_is_kept_back() -> None:
    rules = msgspec.structs.replace(RULES, fees=Fees(maker=D("0.002"), taker=D("0.001"), currency=FeeCurrency.BASE))
    amount = sellable(position(), rules, None)
    assert amount == D("0.998")
    assert amount * D("1.002") <= 1


# --- the bot's state -------------------------------------------------------------------------------------


def test_stopped_sends_nothing() -> None:
    stopped: dict[str, Any] = {"state": BotState.STOPPED}
    assert step(CLOSING, live=[stop_order()], **stopped) == Rest("the bot is Stopped")
    assert step(position(), live=[stop_order()], seen=at("110"), **stopped) == Rest()
    assert step(position(stop_price=D(99)), live=[stop_order()], seen=at("96"), **stopped) == Rest()
    assert step(position(), seen=at("94"), **stopped) == Rest("the bot is Stopped")


def test_flatten_sells_what_is_held() -> None:
    flat = step(position(), live=[stop_order()], state=BotState.FLATTEN)
    assert isinstance(flat, Leave)
    assert flat.leg is Leg.FLATTEN


@pytest.mark.parametrize("state", [BotState.PAUSED, BotState.REDUCE_ONLY])
def test_exits_and_stops_work_without_entries(state: BotState) -> None:
    assert isinstance(step(position(), state=state), Protect)
    assert isinstance(step(CLOSING, state=state), Sell)


def test_when_a_resting_entry_goes() -> None:
    entry = order(state=OrderState.OPEN)
    soon = NOW + timedelta(seconds=1)
    assert entry_must_go(entry, None, BotState.RUNNING, soon, SETTINGS) == ""
    assert entry_must_go(entry, None, BotState.PAUSED, soon, SETTINGS) == ""
    assert "ReduceOnly" in entry_must_go(entry, None, BotState.REDUCE_ONLY, soon, SETTINGS)
    assert "Flatten" in entry_must_go(entry, None, BotState.FLATTEN, soon, SETTINGS)
    assert "sold" in entry_must_go(entry, CLOSING, BotState.RUNNING, soon, SETTINGS)
    late = NOW + SETTINGS.order_time_limit
    assert "30 s" in entry_must_go(entry, None, BotState.RUNNING, late, SETTINGS)
    assert entry_must_go(entry, None, BotState.STOPPED, late, SETTINGS) == ""


# --- the trailing stop -----------------------------------------------------------------------------------


def test_a_bar_before_the_entry_says_nothing() -> None:
    bar = candle("100", low="1", high="200", open_time=NOW)
    assert observe_candle(bar, NOW) == at("100", "1", "200")
    assert observe_candle(bar, NOW + timedelta(minutes=4)) == at("100"), "1 and 200 may have been before the entry"
    assert observe_candle(bar, NOW + FIVE_MINUTES) is None
    assert observe_candle(bar, None) == at("100", "1", "200")


def test_the_mark_rises_before_the_stop_follows() -> None:
    seen, trail = follow(position(), at("101", low="99", high="102"), TRAILING, RULES)
    assert trail == Trail(D(102), D(95)), "3 % of gain are not reached"
    assert seen == at("101", high="102")


def test_the_stop_follows_from_its_activation_up_to_the_tick() -> None:
    _, trail = follow(position(), at("103", high="103.333"), TRAILING, RULES)
    assert trail == Trail(D("103.333"), D("101.27")), "101.26634 rounded up"
    _, at_once = follow(
        position(stop_price=None), at("100.5"), msgspec.structs.replace(TRAILING, activate_at=None), RULES
    )
    assert at_once == Trail(D("100.5"), D("98.49"))


def test_the_stop_only_rises_and_only_by_its_step() -> None:
    held = position(stop_price=D("101.27"), high_water=D("103.333"))
    _, small = follow(held, at("103.4"), TRAILING, RULES)
    assert small == Trail(D("103.4"), D("101.27")), "101.34 is less than 0.1 % higher"
    _, enough = follow(held, at("103.5"), TRAILING, RULES)
    assert enough == Trail(D("103.5"), D("101.43"))
    assert follow(held, at("102"), TRAILING, RULES) == (at("102"), None)
    wide = position(stop_price=D(105))
    _, unchanged = follow(wide, at("106", high="106"), TRAILING, RULES)
    assert unchanged == Trail(D(106), D(105)), "a stop that stands higher stays"


def test_a_low_is_tested_against_the_stop_before_the_bar() -> None:
    seen, trail = follow(position(), at("104", low="95", high="105"), TRAILING, RULES)
    assert trail is None, "the old stop was reached: nothing is followed"
    assert seen.low == D(95)

    seen, trail = follow(position(), at("104", low="99", high="105"), TRAILING, RULES)
    assert trail == Trail(D(105), D("102.9"))
    assert seen.low == D(104), "99 may have been before 105"


def test_a_bar_that_is_seen_again_decides_the_same() -> None:
    bar = at("104", low="99", high="105")
    first, trail = follow(position(), bar, TRAILING, RULES)
    assert trail is not None
    followed = position(high_water=trail.high_water, stop_price=trail.stop_price)
    again, none = follow(followed, bar, TRAILING, RULES)
    assert none is None
    assert again == first
