"""A process that ended at the worst moment, and the next one that takes up what it left."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from support.execution import FIVE_MINUTES, LOOK_UP, RULES, SETTINGS, SYMBOL, TRAILING, D, candle
from support.execution_rig import ACCOUNT, BOT, Rig
from support.failing_ledger import Crash, FailingLedger
from support.fake_venue import Spoil
from support.ledger_model import LedgerModel, ModelAccount
from support.sabotage import CRASHES, Plan, Saboteur
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.messages import CandleClosed
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import Leg, OrderType, Side
from tradingbot_agents.exchange.port import OrderRequest
from tradingbot_agents.execution.settings import Settings
from tradingbot_agents.ledger.port import Fenced, Ledger, LedgerUnavailable, Role
from tradingbot_agents.ledger.postgres import PostgresLedger

from .conftest import RigFactory

IMMEDIATE = msgspec.structs.replace(SETTINGS, look_up=msgspec.structs.replace(LOOK_UP, immediate_not_found=True))


async def crash_at(rig: Rig, call: str, *, done: bool, start: bool = True) -> FailingLedger:
    """The process that runs from now on ends at its next ``call``, before or after it took effect."""
    ledger = FailingLedger(rig.ledger)
    if start:
        await rig.start(ledger)
    ledger.fail(call, Crash(), done=done)
    return ledger


async def test_a_claim_that_may_have_been_sent_waits_for_the_whole_schedule(rig: Rig) -> None:
    await crash_at(rig, "claim", done=True)
    with pytest.raises(Crash):
        await rig.approve()
    await rig.start()
    (order,) = await rig.ledger.live_orders()
    assert order.state is OrderState.UNRESOLVED
    assert "order_unresolved" in rig.events()
    await rig.run(60)
    assert (await rig.order(order.client_order_id)).state is OrderState.NOT_FOUND
    assert rig.venue.sent == []
    await rig.check()


async def test_where_a_look_up_is_authoritative_the_claimed_order_is_sent(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=IMMEDIATE)
    await crash_at(rig, "claim", done=True)
    with pytest.raises(Crash):
        await rig.approve()
    rig.clock.advance_to(rig.clock.now() + timedelta(seconds=50))
    await rig.start()
    (entry,) = await rig.legs(Leg.ENTRY)
    assert entry.state is OrderState.FILLED
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.OPEN]
    await rig.check()


@pytest.mark.parametrize("settings", [SETTINGS, IMMEDIATE], ids=["late look-ups", "authoritative look-ups"])
async def test_a_claim_whose_first_answer_was_lost_is_taken_up(make_rig: RigFactory, settings: Settings) -> None:
    """The ledger asks again after a lost connection, and is told that the order is not approved any more."""
    rig = await make_rig(settings=settings)

    class Forgetful(FailingLedger):
        def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
            method = super().__getattr__(name)
            if name != "claim":
                return method

            async def twice(*args: Any) -> Any:
                await method(*args)
                return await method(*args)

            return twice

    await rig.start(Forgetful(rig.ledger))
    name = await rig.approve()
    if settings is IMMEDIATE:
        assert (await rig.order(name)).state is OrderState.FILLED
        assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.OPEN]
    else:
        assert (await rig.order(name)).state is OrderState.UNRESOLVED
        await rig.run(60)
        assert (await rig.order(name)).state is OrderState.NOT_FOUND
        assert rig.venue.sent == []
        assert await rig.ledger.reservations() == []
    await rig.check()


async def test_an_expired_claim_is_denied_instead(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=IMMEDIATE)
    await crash_at(rig, "claim", done=True)
    with pytest.raises(Crash):
        await rig.approve()
    rig.clock.advance_to(rig.clock.now() + timedelta(minutes=2))
    await rig.start()
    (entry,) = await rig.legs(Leg.ENTRY)
    assert entry.state is OrderState.DENIED
    assert rig.venue.sent == []
    await rig.check()


ENTRY_CALLS = ["orders_to_send", "claim", "check_epoch", "acknowledge", "book", "submit_leg", "unpublished"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", ENTRY_CALLS)
async def test_a_crash_in_an_entry_ends_as_if_there_had_been_none(
    make_rig: RigFactory, call: str, done: bool
) -> None:
    rig = await make_rig(settings=IMMEDIATE)
    await crash_at(rig, call, done=done)
    with pytest.raises(Crash):
        await rig.approve()
    await rig.start()
    await rig.drain()
    assert [(request.type, request.amount) for request in rig.venue.sent] == [
        (OrderType.LIMIT, D(1)),
        (OrderType.STOP_MARKET, D("0.999")),
    ]
    assert [order.state for order in await rig.legs(Leg.ENTRY)] == [OrderState.FILLED]
    assert [order.state for order in await rig.legs(Leg.STOP)] == [OrderState.OPEN]
    assert rig.bus.depths()["strategy.reports"] >= 1
    await rig.check()


EXIT_CALLS = ["request_exit", "request_cancel", "book", "submit_leg", "check_epoch", "acknowledge", "order"]


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", EXIT_CALLS)
async def test_a_crash_in_an_exit_ends_as_if_there_had_been_none(make_rig: RigFactory, call: str, done: bool) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(IMMEDIATE, watch_interval=None, sweep_interval=None))
    await rig.start()
    await rig.approve()
    await crash_at(rig, call, done=done)
    with pytest.raises(Crash):
        await rig.candle("111")
    await rig.start()
    await rig.tell(candle("111", open_time=rig.clock.now() - FIVE_MINUTES))
    assert (await rig.position()).state is PositionState.FLAT
    assert [(order.state, order.filled) for order in await rig.legs(Leg.TARGET)] == [(OrderState.FILLED, D("0.999"))]
    assert [trade.leg for trade in await rig.ledger.trades()] == [Leg.TARGET]
    await rig.check()


@pytest.mark.parametrize("done", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("call", ["watch", "request_cancel", "book", "submit_leg", "acknowledge"])
async def test_a_crash_in_a_move_of_the_stop_decides_the_same_again(
    make_rig: RigFactory, call: str, done: bool
) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(IMMEDIATE, trailing=TRAILING))
    await rig.start()
    await rig.approve(target_price=None)
    await crash_at(rig, call, done=done)
    bar = candle("108", low="101", high="109", open_time=rig.clock.now())
    with pytest.raises(Crash):
        await rig.candle("108", low="101", high="109")
    await rig.start()
    await rig.tell(bar)
    held = await rig.position()
    assert (held.state, held.high_water, held.stop_price) == (PositionState.OPEN, D(109), D("106.82"))
    assert [(stop.state, stop.stop_price) for stop in await rig.legs(Leg.STOP)] == [
        (OrderState.CANCELLED, D(95)),
        (OrderState.OPEN, D("106.82")),
    ]
    await rig.check()


async def test_a_position_without_a_stop_gets_one_before_anything_new(rig: Rig) -> None:
    rig.symbols = ("BTC/USDT", "ETH/USDT")
    rig.venue.rules["ETH/USDT"] = msgspec.structs.replace(RULES, symbol="ETH/USDT", base="ETH")
    rig.venue.prices["ETH/USDT"] = D(100)
    await crash_at(rig, "submit_leg", done=False)
    with pytest.raises(Crash):
        await rig.approve()
    await rig.end()
    await rig.approve(symbol="ETH/USDT")
    await rig.start()
    assert [(request.symbol, request.type) for request in rig.venue.sent] == [
        ("BTC/USDT", OrderType.LIMIT),
        ("BTC/USDT", OrderType.STOP_MARKET),
        ("ETH/USDT", OrderType.LIMIT),
        ("ETH/USDT", OrderType.STOP_MARKET),
    ]
    await rig.check()


Step = tuple[str, ...]

STORY: list[Step] = [
    ("approve",),
    ("bar", "102", "99", "103.5"),
    ("bar", "105", "103", "106"),
    ("bar", "104", "103", "105"),  # the trailing stop sells
    ("liquidity", "0.4"),
    ("approve",),
    ("bar", "100"),
    ("liquidity", "0.25"),
    ("exit",),
    ("bar", "99"),
    ("liquidity", ""),
    ("bar", "99"),
    ("approve",),
    ("bar", "111"),
]
"""A trailing stop, an exit in parts, a target."""


async def play(rig: Rig, saboteur: Saboteur) -> list[object]:
    """The story, with the whole process started again whenever it dies. What the exchange traded."""

    async def start() -> None:
        await rig.start(saboteur.ledger(rig.ledger), saboteur.venue(rig.venue))

    async def once(work: Callable[[], Awaitable[object]], bar: Candle | None = None) -> None:
        try:
            await work()
        except Crash:
            while True:
                await rig.lose_everything()
                with contextlib.suppress(Crash):
                    await start()
                    break
            await (rig.drain() if bar is None else rig.tell(bar))

    await once(start)
    for step, *arguments in STORY:
        match step:
            case "approve":
                rig.venue.prices[SYMBOL] = D(100)
                await once(rig.approve)
            case "exit":
                await once(rig.ask_exit)
            case "liquidity":
                rig.venue.liquidity = D(arguments[0]) if arguments[0] else None
            case _:
                opened = rig.clock.now()
                await once(lambda opened=opened: rig.run_until(opened + FIVE_MINUTES))  # type: ignore[misc]
                bar = candle(*arguments, open_time=opened)
                for price in (bar.low, bar.close):
                    rig.venue.move(SYMBOL, price)
                await once(lambda bar=bar: rig.tell(bar), bar)  # type: ignore[misc]
    await rig.check()
    return [(trade.side, trade.price, trade.amount, trade.at) for trade in rig.venue.made]


LOCKSTEP = msgspec.structs.replace(
    IMMEDIATE, trailing=TRAILING, watch_interval=None, sweep_interval=None, inspect_interval=None
)


async def play_on(ledger: Ledger, plan: Plan) -> tuple[list[object], Saboteur]:
    rig = Rig(ledger, settings=LOCKSTEP)
    await rig.open()
    saboteur = Saboteur(plan)
    return await play(rig, saboteur), saboteur


async def test_a_process_that_dies_anywhere_ends_with_the_trades_of_one_that_did_not() -> None:
    undisturbed, saboteur = await play_on(LedgerModel(ModelAccount(ACCOUNT), BOT), {})
    assert len(undisturbed) > 10
    for call in saboteur.seen:
        for harm in CRASHES:
            again, _ = await play_on(LedgerModel(ModelAccount(ACCOUNT), BOT), {call: harm})
            assert again == undisturbed, f"{harm.value} {call}"


@pytest.mark.postgres
async def test_the_real_ledger_tells_the_same_story(ledger_dsn: str) -> None:
    expected, saboteur = await play_on(LedgerModel(ModelAccount(ACCOUNT), BOT), {})
    ledger = await PostgresLedger.connect(ledger_dsn, ACCOUNT, BOT)
    try:
        told, _ = await play_on(ledger, {saboteur.seen[len(saboteur.seen) // 2]: CRASHES[0]})
    finally:
        await ledger.close()
    assert told == expected


async def test_a_look_that_was_planned_for_a_position_ends_with_it(rig: Rig) -> None:
    """The view is read anew and lacks the position, for another process booked its end: the planned look must come
    once, and not for ever."""
    ledger = FailingLedger(rig.ledger)
    await rig.start(ledger)
    await rig.approve()
    (stop,) = await rig.legs(Leg.STOP)
    rig.venue.cancel_by_hand(stop.client_order_id)
    await rig.run_until(rig.clock.now() + FIVE_MINUTES, until=lambda: "position_unprotected" in rig.events())

    ledger.fail("orders_to_send", LedgerUnavailable("away"))
    await rig.approve(must=False)
    sold = Fill(
        exchange_trade_id="late",
        client_order_id=stop.client_order_id,
        symbol=SYMBOL,
        side=Side.SELL,
        price=D(95),
        amount=(await rig.position()).amount,
        at=rig.clock.now(),
        fee=None,
    )
    await rig.ledger.book(stop.client_order_id, [sold], None, rig.clock.now())
    wakes = itertools.count()
    await rig.run_until(rig.clock.now() + timedelta(seconds=8), until=lambda: next(wakes) > 100)
    assert next(wakes) < 20
    assert (await rig.position()).state is PositionState.FLAT


async def test_a_wake_that_meets_no_ledger_is_not_the_last_one(make_rig: RigFactory) -> None:
    """The books must be read anew first, and that fails: what the wake was planned for is still to be done."""
    alone = {"watch_interval": None, "sweep_interval": None, "inspect_interval": None}
    rig = await make_rig(settings=msgspec.structs.replace(SETTINGS, **alone))
    ledger = FailingLedger(rig.ledger)
    await rig.start(ledger)
    await rig.approve()
    (stop,) = await rig.legs(Leg.STOP)
    rig.venue.cancel_by_hand(stop.client_order_id)
    await rig.candle("100")
    assert "position_unprotected" in rig.events()

    ledger.fail("orders_to_send", LedgerUnavailable("away"))
    for _ in range(10):
        ledger.fail("positions", LedgerUnavailable("away"))
    await rig.approve(must=False)
    await rig.run(60)
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.CANCELLED, OrderState.OPEN]


async def test_a_process_with_nothing_to_write_learns_that_it_is_fenced_off(rig: Rig) -> None:
    await rig.start()
    await rig.ledger.raise_epoch(Role.EXECUTION, rig.clock.now())
    with pytest.raises(Fenced):
        await rig.run(61)
    assert "fenced_off" in rig.events()


async def test_an_end_that_an_older_process_booked_is_read_and_not_fought_over(rig: Rig) -> None:
    await rig.start()
    rig.venue.slow = True
    name = await rig.approve()
    rig.venue.cancel_by_hand(name)
    await rig.ledger.book(name, [], OrderState.CANCELLED, rig.clock.now())
    rig.venue.spoil("order_by_client_id", Spoil.LOST_REQUEST, times=20)
    await rig.run(SETTINGS.order_time_limit.total_seconds() + 15)
    assert (await rig.order(name)).state is OrderState.CANCELLED
    assert "cancel_order" not in rig.venue.calls
    rig.venue.spoils.clear()
    rig.venue.slow = False
    await rig.approve()
    assert [stop.state for stop in await rig.legs(Leg.STOP)] == [OrderState.OPEN]
    await rig.check()


async def test_an_order_that_nobody_wrote_down_is_reported_once_and_left_alone(rig: Rig) -> None:
    await rig.venue.create_order(
        OrderRequest(
            client_order_id="tbaaaaaaaaaaaaaaaa",
            symbol=SYMBOL,
            side=Side.BUY,
            type=OrderType.LIMIT,
            amount=D(1),
            limit_price=D(50),
        )
    )
    await rig.start()
    await rig.run(600)
    assert rig.events() == ["order_unknown"]
    assert len(rig.venue.open(SYMBOL)) == 1


async def test_a_quiet_candle_touches_neither_ledger_nor_exchange(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=msgspec.structs.replace(SETTINGS, watch_interval=None, sweep_interval=None))
    ledger = FailingLedger(rig.ledger)
    await rig.start(ledger)
    ledger.calls.clear()
    rig.venue.calls.clear()
    await rig.tell(candle("100"))
    assert (ledger.calls, rig.venue.calls) == ([], [])

    await rig.approve()
    ledger.calls.clear()
    rig.venue.calls.clear()
    await rig.tell(candle("100"))
    assert (ledger.calls, rig.venue.calls) == ([], ["order_by_client_id"])


async def test_a_quiet_candle_is_cheap(make_rig: RigFactory) -> None:
    """The budget is 20 µs without a position and 150 µs with one; ten times that is a mistake on any machine."""
    rig = await make_rig(settings=msgspec.structs.replace(SETTINGS, watch_interval=None, sweep_interval=None))
    agent = await rig.start()
    bar = candle("100", open_time=rig.clock.now())
    await rig.tell(bar)
    told = CandleClosed(
        id=bar.id,
        correlation_id=bar.id,
        causation_id=bar.id,
        bot="majors",
        producer="test",
        at=rig.clock.now(),
        candle=bar,
    )

    async def per_candle() -> float:
        best = 1.0
        for _ in range(5):
            began = time.perf_counter()
            for _ in range(200):
                await agent._on_candle(told)
            best = min(best, (time.perf_counter() - began) / 200)
        return best

    idle = await per_candle()
    await rig.approve()
    held = await per_candle()
    assert idle < 200e-6
    assert held < 1500e-6


async def test_dust_that_is_noticed_later_ended_with_its_last_trade(make_rig: RigFactory) -> None:
    rig = await make_rig(settings=IMMEDIATE)
    await rig.start()
    await rig.approve()
    rig.venue.liquidity = D("0.96")
    await crash_at(rig, "mark_dust", done=False)
    with pytest.raises(Crash):
        await rig.ask_exit()
    sale, *_ = await rig.ledger.fills()
    rig.clock.advance_to(sale.at + timedelta(seconds=30))
    await rig.start()
    (trade,) = await rig.ledger.trades()
    assert (trade.leg, trade.closed_at) == (Leg.EXIT, sale.at)
    await rig.check()
