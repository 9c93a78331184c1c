"""The agent with positions: stops on the exchange and watched ones, targets, trailing stops, exits, dust."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from support.execution import CAPABILITIES, FIVE_MINUTES, LOOK_UP, NOW, SETTINGS, SYMBOL, TRAILING, D, candle
from support.execution_rig import Rig
from support.fake_venue import RETRY_AFTER, Spoil
from tradingbot_agents.domain.events import PositionProtected, PositionUnprotected
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import BotState, Leg, OrderType, Side
from tradingbot_agents.ledger.port import Adoption

from .conftest import RigFactory

WATCHED = msgspec.structs.replace(SETTINGS, stops_on_exchange=False)
HOUR = timedelta(hours=1)
TRAILED = msgspec.structs.replace(SETTINGS, trailing=TRAILING)


async def closed_by(rig: Rig) -> list[Leg]:
    await rig.check()
    return [trade.leg for trade in await rig.ledger.trades()]


# --- stops on the exchange -------------------------------------------------------------------------------


async def test_a_stop_that_filled_is_noticed_with_the_next_candle(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(SETTINGS, watch_interval=None, sweep_interval=None))
    await rig.start()
    await rig.approve()
    await rig.candle("96", low="95")
    assert await closed_by(rig) == [Leg.STOP]
    assert (await rig.position()).state is PositionState.FLAT
    assert rig.events()[-1] == "trade_closed"
    assert rig.venue.calls.count("cancel_order") == 0


async def test_a_stop_that_filled_is_noticed_by_the_watch(rig: Rig) -> None:
    await rig.approve()
    rig.venue.move(SYMBOL, D(94))
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]


async def test_what_a_stop_did_not_sell_is_sold_at_market(rig: Rig) -> None:
    await rig.approve()
    rig.venue.liquidity = D("0.3")
    rig.venue.move(SYMBOL, D(94))
    rig.venue.liquidity = None
    (stop,) = await rig.legs(Leg.STOP)
    rig.venue.cancel_by_hand(stop.client_order_id)
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]
    assert [(order.type, order.filled) for order in await rig.legs(Leg.STOP)] == [
        (OrderType.STOP_MARKET, D("0.3")),
        (OrderType.MARKET, D("0.699")),
    ]


async def hung_entry(rig: Rig) -> None:
    """An entry that the exchange has filled, and execution will notice with its next look: what is spoiled from
    now on meets the stop."""
    rig.venue.slow = True
    name = await rig.approve()
    rig.venue.slow = False
    rig.venue.settle(name)


async def test_a_refused_stop_is_said_and_placed_again(rig: Rig) -> None:
    await hung_entry(rig)
    rig.venue.spoil("create_order", Spoil.REFUSED)
    await rig.run(11)
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.REJECTED
    assert "position_unprotected" in rig.events()
    await rig.run(2)
    assert [order.state for order in await rig.legs(Leg.STOP)] == [OrderState.REJECTED, OrderState.OPEN]
    assert "position_protected" in rig.events()
    await rig.check()


async def test_a_refused_stop_is_watched_meanwhile(make_rig: RigFactory) -> None:
    patient = msgspec.structs.replace(SETTINGS, exit_retry=HOUR, exit_retry_longest=HOUR)
    rig = await make_rig(settings=patient)
    await rig.start()
    await hung_entry(rig)
    rig.venue.spoil("create_order", Spoil.REFUSED)
    await rig.run(60)
    assert len(await rig.legs(Leg.STOP)) == 1
    rig.venue.prices[SYMBOL] = D("94.9")
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]


async def adopting(make_rig: RigFactory, **levels: Any) -> Rig:
    """A rig that holds 2 BTC from before its start."""
    rig = await make_rig(open_account=False)
    adoption = Adoption(symbol=SYMBOL, amount=D(2), price=D(100), **levels)
    await rig.ledger.open_account({"USDT": D(1000), "BTC": D(2)}, [adoption], NOW, quote="USDT")
    await rig.open()
    rig.venue.base[SYMBOL] = D(2)
    await rig.start()
    return rig


async def test_an_adopted_position_is_protected_from_the_first_look(make_rig: RigFactory) -> None:
    rig = await adopting(make_rig, stop_price=D(95), target_price=D(110))
    (stop,) = await rig.legs(Leg.STOP)
    assert (stop.state, stop.stop_price, stop.amount) == (OrderState.OPEN, D(95), D(2))
    await rig.candle("111")
    assert (await rig.position()).state is PositionState.FLAT
    assert [trade.leg for trade in await rig.ledger.trades()] == [Leg.TARGET]


async def test_a_position_without_a_stop_price_is_said(make_rig: RigFactory) -> None:
    rig = await adopting(make_rig)
    await rig.candle("50")
    (told,) = [event for event in rig.sink.events if isinstance(event, PositionUnprotected)]
    assert "no stop price" in told.why
    assert (await rig.position()).state is PositionState.OPEN


@pytest.mark.parametrize("reason", ["entry", "target", "because"])
async def test_the_words_of_a_strategy_choose_no_leg(rig: Rig, reason: str) -> None:
    await rig.approve()
    decision = await rig.ask_exit(reason=reason)
    assert decision.detail == reason
    assert [order.side for order in await rig.legs(Leg.EXIT)] == [Side.SELL]
    assert [request.side for request in rig.venue.sent] == [Side.BUY, Side.SELL, Side.SELL], "entry, stop, sale"
    assert await closed_by(rig) == [Leg.EXIT]


async def test_a_rate_limited_stop_is_placed_after_the_pause_and_the_gap_is_told(rig: Rig) -> None:
    await hung_entry(rig)
    rig.venue.spoil("create_order", Spoil.RATE_LIMITED)
    await rig.run(10)
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.SUBMITTING]
    await rig.run(RETRY_AFTER.total_seconds())
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.OPEN
    (told,) = [event for event in rig.sink.events if isinstance(event, PositionProtected)]
    assert told.unprotected_seconds == RETRY_AFTER.total_seconds()
    assert rig.events().count("position_unprotected") == 1
    await rig.check()


async def test_a_stop_that_never_arrived_is_placed_again_under_another_id(rig: Rig) -> None:
    await hung_entry(rig)
    rig.venue.spoil("create_order", Spoil.LOST_REQUEST)
    await rig.run(120)
    stops = await rig.legs(Leg.STOP)
    assert [(stop.attempt, stop.state) for stop in stops] == [(0, OrderState.NOT_FOUND), (1, OrderState.OPEN)]
    assert stops[0].client_order_id != stops[1].client_order_id
    assert {"position_unprotected", "position_protected"} <= set(rig.events())
    await rig.check()


async def test_a_stop_that_somebody_cancelled_is_placed_again(rig: Rig) -> None:
    await rig.approve()
    (stop,) = await rig.legs(Leg.STOP)
    rig.venue.cancel_by_hand(stop.client_order_id)
    await rig.run(15)
    assert [order.state for order in await rig.legs(Leg.STOP)] == [OrderState.CANCELLED, OrderState.OPEN]
    await rig.check()


async def test_a_stop_limit_order_that_the_price_jumped_over_is_taken_over(make_rig: RigFactory) -> None:
    rig = await make_rig()
    rig.venue.capabilities = msgspec.structs.replace(CAPABILITIES, stop_market=False)
    await rig.start()
    await rig.approve()
    (stop,) = await rig.legs(Leg.STOP)
    assert (stop.type, stop.limit_price) == (OrderType.STOP_LIMIT, D("94.05"))
    rig.venue.prices[SYMBOL] = D(90)
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]
    assert rig.venue.named(stop.client_order_id).filled == 0


# --- watched stops and targets ---------------------------------------------------------------------------


async def test_a_watched_stop_sells_on_a_low(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(WATCHED, watch_interval=None))
    await rig.start()
    await rig.approve()
    assert await rig.legs(Leg.STOP) == []
    await rig.candle("97", low="95.01")
    assert (await rig.position()).state is PositionState.OPEN
    await rig.candle("97", low="95")
    assert await closed_by(rig) == [Leg.STOP]
    assert "position_unprotected" not in rig.events(), "watching is how it was meant"


async def test_a_watched_stop_sells_by_the_ticker(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=WATCHED)
    await rig.start()
    await rig.approve()
    rig.venue.prices[SYMBOL] = D(94)
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]


async def test_a_target_takes_the_position_over_from_its_stop(rig: Rig) -> None:
    await rig.approve()
    await rig.candle("111", high="112")
    (stop,) = await rig.legs(Leg.STOP)
    assert stop.state is OrderState.CANCELLED
    assert [order.state for order in await rig.legs(Leg.TARGET)] == [OrderState.FILLED]
    assert await closed_by(rig) == [Leg.TARGET]


async def test_bars_from_before_the_entry_and_history_sell_nothing(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(WATCHED, watch_interval=None))
    await rig.start()
    await rig.run(FIVE_MINUTES.total_seconds())
    await rig.approve()
    await rig.tell(candle("94", open_time=NOW))
    await rig.tell(candle("94", open_time=NOW + FIVE_MINUTES), backfill=True)
    assert (await rig.position()).state is PositionState.OPEN
    await rig.tell(candle("94", open_time=NOW + FIVE_MINUTES))
    assert (await rig.position()).state is PositionState.FLAT


async def test_a_stop_that_appears_after_its_position_was_sold_is_cancelled(rig: Rig) -> None:
    rig.venue.base[SYMBOL] = D(10)
    await hung_entry(rig)
    rig.venue.spoil("create_order", Spoil.LOST_REPLY)
    await rig.run(10)
    rig.venue.spoil("order_by_client_id", Spoil.NOT_VISIBLE, times=3)
    await rig.run(40)
    lost, second = await rig.legs(Leg.STOP)
    assert (lost.state, second.state) == (OrderState.NOT_FOUND, OrderState.OPEN)
    await rig.ask_exit()
    assert (await rig.position()).state is PositionState.FLAT
    await rig.run(120)
    assert "order_reappeared" in rig.events()
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.CANCELLED, OrderState.CANCELLED]
    assert rig.venue.open(SYMBOL) == []


# --- trailing stops --------------------------------------------------------------------------------------


async def test_a_trailing_stop_rises_in_the_books_and_on_the_exchange(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=TRAILED)
    await rig.start()
    await rig.approve(target_price=None)
    await rig.candle("102", high="102")
    held = await rig.position()
    assert (held.high_water, held.stop_price) == (D(102), D(95))

    await rig.candle("108", low="104", high="109")
    held = await rig.position()
    assert (held.high_water, held.stop_price) == (D(109), D("106.82"))
    assert [(stop.state, stop.stop_price) for stop in await rig.legs(Leg.STOP)] == [
        (OrderState.CANCELLED, D(95)),
        (OrderState.OPEN, D("106.82")),
    ]
    assert rig.events()[-2:] == ["position_unprotected", "position_protected"]

    await rig.candle("108", low="107", high="108.5")
    assert len(await rig.legs(Leg.STOP)) == 2, "it never falls"
    await rig.candle("106", low="106")
    assert await closed_by(rig) == [Leg.STOP]


async def test_a_price_that_fell_through_the_new_stop_is_sold(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(TRAILED, watch_interval=None))
    await rig.start()
    await rig.approve(target_price=None)
    await rig.candle("104", high="109")
    assert await closed_by(rig) == [Leg.STOP]
    assert [order.type for order in await rig.legs(Leg.STOP)] == [OrderType.STOP_MARKET, OrderType.MARKET]


async def test_a_trailing_stop_goes_on_after_a_restart(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=TRAILED)
    await rig.start()
    await rig.approve(target_price=None)
    await rig.candle("108", high="109")
    before = await rig.legs(Leg.STOP)
    await rig.start()
    assert await rig.legs(Leg.STOP) == before
    await rig.candle("107.5", high="110", backfill=True)
    assert (await rig.position()).high_water == D(109), "history alone moves nothing"
    await rig.candle("109.5", low="109")
    assert (await rig.position()).high_water == D(110), "but it counts with the next fresh bar"
    await rig.check()


async def test_a_move_that_was_interrupted_is_finished_by_the_next_process(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=TRAILED)
    await rig.start()
    await rig.approve(target_price=None)
    rig.venue.spoil("cancel_order", Spoil.LOST_REQUEST)
    await rig.candle("108", high="109")
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.CANCELLING]
    await rig.start()
    assert [(stop.state, stop.stop_price) for stop in await rig.legs(Leg.STOP)] == [
        (OrderState.CANCELLED, D(95)),
        (OrderState.OPEN, D("106.82")),
    ]
    await rig.check()


# --- exits -----------------------------------------------------------------------------------------------


async def test_a_sell_of_the_strategy_sells_what_the_stop_held(rig: Rig) -> None:
    await rig.approve()
    await rig.ask_exit()
    assert (await rig.position()).state is PositionState.FLAT
    (sold,) = await rig.legs(Leg.EXIT)
    assert (sold.type, sold.filled, sold.attempt) == (OrderType.MARKET, D("0.999"), 0)
    assert await closed_by(rig) == [Leg.EXIT]


async def test_a_stop_that_fills_before_its_cancel_is_booked_and_nothing_is_sold_twice(rig: Rig) -> None:
    await rig.approve()
    rig.venue.move(SYMBOL, D(94))
    await rig.ask_exit()
    assert await closed_by(rig) == [Leg.STOP]
    assert await rig.legs(Leg.EXIT) == []


async def test_a_stop_that_fills_in_part_before_its_cancel_leaves_the_rest_to_be_sold(rig: Rig) -> None:
    await rig.approve()
    rig.venue.liquidity = D("0.4")
    rig.venue.move(SYMBOL, D(94))
    rig.venue.liquidity = None
    await rig.ask_exit()
    assert [order.filled for order in await rig.legs(Leg.EXIT)] == [D("0.599")]
    assert await closed_by(rig) == [Leg.EXIT]


@pytest.mark.parametrize("spoil", [Spoil.LOST_REPLY, Spoil.LOST_REQUEST, Spoil.RATE_LIMITED])
async def test_a_cancel_without_an_answer_is_looked_up_and_asked_again(rig: Rig, spoil: Spoil) -> None:
    await rig.approve()
    rig.venue.spoil("cancel_order", spoil)
    await rig.ask_exit()
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.CANCELLING]
    assert await rig.legs(Leg.EXIT) == [], "nothing is sold before the stop's end is known"
    await rig.run(max(SETTINGS.cancel_retry, RETRY_AFTER).total_seconds())
    assert await closed_by(rig) == [Leg.EXIT]


async def test_a_sale_whose_outcome_is_open_holds_back_the_next(rig: Rig) -> None:
    await rig.approve()
    rig.venue.spoil("create_order", Spoil.LOST_REPLY)
    await rig.ask_exit()
    await rig.run(LOOK_UP.spacing.total_seconds())
    assert len(await rig.legs(Leg.EXIT)) == 1
    assert await closed_by(rig) == [Leg.EXIT]


async def test_what_the_market_did_not_take_is_offered_again(rig: Rig) -> None:
    await rig.approve()
    rig.venue.liquidity = D("0.4")
    await rig.ask_exit()
    assert (await rig.position()).amount == D("0.599")
    await rig.run(21)
    assert [(order.attempt, order.filled) for order in await rig.legs(Leg.EXIT)] == [
        (0, D("0.4")),
        (1, D("0.4")),
        (2, D("0.199")),
    ]
    assert await closed_by(rig) == [Leg.EXIT]


async def test_a_rest_that_can_not_be_sold_is_dust_and_left_alone(rig: Rig) -> None:
    await rig.approve()
    rig.venue.liquidity = D("0.96")
    await rig.ask_exit()
    await rig.run(11)
    held = await rig.position()
    assert (held.state, held.amount) == (PositionState.DUST, D("0.039"))
    assert rig.events().count("position_dust") == 1
    assert await closed_by(rig) == [Leg.EXIT]
    calls = len(rig.venue.calls)
    await rig.candle("100")
    await rig.start()
    assert [call for call in rig.venue.calls[calls:] if call in ("create_order", "cancel_order")] == []
    assert rig.events().count("trade_closed") == 1


async def test_a_sale_that_is_refused_again_and_again_is_severe_and_goes_on(rig: Rig) -> None:
    await rig.approve()
    rig.venue.spoil("create_order", Spoil.REFUSED, times=5)
    await rig.ask_exit()
    assert "position_unprotected" in rig.events()
    await rig.run(7)
    assert rig.events().count("exit_failing") == 1
    assert len(await rig.legs(Leg.EXIT)) == 3, "at 0, 2 and 6 seconds"
    await rig.run(60)
    assert rig.events().count("exit_failing") == 1
    assert await closed_by(rig) == [Leg.EXIT]


# --- the bot's state -------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [BotState.PAUSED, BotState.REDUCE_ONLY])
async def test_exits_work_without_entries(rig: Rig, state: BotState) -> None:
    await rig.approve()
    rig.state = state
    await rig.candle("111")
    assert await closed_by(rig) == [Leg.TARGET]


async def test_flatten_sells_everything_and_stays_flat(make_rig: RigFactory) -> None:
    rig = await make_rig(symbols=("BTC/USDT", "ETH/USDT"))
    await rig.start()
    await rig.approve()
    await rig.approve(symbol="ETH/USDT")
    rig.state = BotState.FLATTEN
    await rig.run(11)
    assert await closed_by(rig) == [Leg.FLATTEN, Leg.FLATTEN]
    await rig.approve()
    assert (await rig.position()).state is PositionState.FLAT
    await rig.check()


async def test_stopped_sends_nothing_and_books_what_happens(rig: Rig) -> None:
    await rig.approve()
    rig.state = BotState.STOPPED
    calls = len(rig.venue.calls)
    await rig.candle("111")
    await rig.ask_exit()
    await rig.run(60)
    assert [call for call in rig.venue.calls[calls:] if call in ("create_order", "cancel_order")] == []
    assert len(rig.venue.open(SYMBOL)) == 1, "the stop stays where it is"
    rig.venue.move(SYMBOL, D(94))
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]


async def test_a_stopped_bot_goes_on_where_it_was(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=WATCHED)
    await rig.start()
    await rig.approve()
    rig.state = BotState.STOPPED
    rig.venue.prices[SYMBOL] = D(90)
    await rig.run(60)
    assert (await rig.position()).state is PositionState.OPEN
    rig.state = BotState.RUNNING
    await rig.run(11)
    assert await closed_by(rig) == [Leg.STOP]
