"""Whatever the exchange, the ledger and the process do, in the end the books say what happened.

A run is a script of what the market and risk do, and a plan of what goes wrong with which call of the agent:
timeouts before and after the exchange acted, rate limits, refusals, orders and trades that are shown late or
twice, a ledger that is away, and processes that die. When the trouble is over, the ledger's fills are the
exchange's trades, no order is on the exchange that the ledger does not know, the holds match, and every position
is protected, being sold, or dust.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from support.execution import LOOK_UP, SETTINGS, SYMBOL, TRAILING, D
from support.execution_rig import ACCOUNT, BOT, Rig
from support.failing_ledger import Crash
from support.fake_venue import SPOILS, Spoil
from support.ledger_model import LedgerModel, ModelAccount
from support.sabotage import LEDGER_CALLS, Plan, Saboteur, harms_of
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import BotState, Leg, OrderType
from tradingbot_agents.execution.exits import STOP_TYPES
from tradingbot_agents.ledger.port import LedgerUnavailable

Action = tuple[str, Any]

ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.tuples(st.just("approve"), st.sampled_from(["1", "0.4", "0.06"])),
    st.tuples(st.just("exit"), st.none()),
    st.tuples(st.just("price"), st.sampled_from(["94", "96", "100", "104", "109", "111"])),
    st.tuples(st.just("candle"), st.sampled_from(["96", "100", "105", "111"])),
    st.tuples(st.just("wait"), st.sampled_from([1, 4, 11, 35])),
    st.tuples(st.just("liquidity"), st.sampled_from([None, "0.3", "0.02"])),
    st.tuples(st.just("slow"), st.booleans()),
    st.tuples(st.just("state"), st.sampled_from(list(BotState))),
    st.tuples(st.just("restart"), st.none()),
)
TROUBLE = st.one_of(
    st.sampled_from(["create_order", "cancel_order"]),
    st.sampled_from(list(SPOILS)),
    st.sampled_from(LEDGER_CALLS),
).flatmap(lambda call: st.tuples(st.tuples(st.just(call), st.integers(1, 4)), st.sampled_from(harms_of(call))))
PLANS: st.SearchStrategy[Plan] = st.lists(TROUBLE, min_size=3, max_size=20).map(dict)
OPTIONS = st.fixed_dictionaries(
    {"authoritative": st.booleans(), "on_exchange": st.booleans(), "trailing": st.booleans()}
)


class Story:
    """A rig whose agent is started again whenever it dies."""

    def __init__(self, rig: Rig, plan: Plan) -> None:
        self.rig = rig
        self.saboteur = Saboteur(plan)

    async def live(self, what: Callable[[], Any]) -> None:
        """Do ``what``; if the agent dies of it, a new one takes up the work."""
        try:
            await what()
        except (Crash, LedgerUnavailable):
            await self.start()

    async def start(self) -> None:
        while True:
            try:
                await self.rig.start(self.saboteur.ledger(self.rig.ledger), self.saboteur.venue(self.rig.venue))
                await self.rig.drain()
            except Exception as error:
                # What the exchange does not answer at a start ends the start, as a dead process does.
                if self.saboteur.active and not isinstance(error, AssertionError):
                    continue
                raise
            return

    async def act(self, action: Action) -> None:
        rig = self.rig
        match action:
            case "approve", amount:
                await self.live(lambda: rig.approve(amount, must=False))
            case "exit", _:
                await self.live(rig.ask_exit)
            case "price", price:
                rig.venue.move(SYMBOL, D(price))
            case "candle", close:
                await self.live(lambda: rig.candle(close))
            case "wait", seconds:
                await self.live(lambda: rig.run(seconds))
            case "liquidity", amount:
                rig.venue.liquidity = None if amount is None else D(amount)
            case "slow", slow:
                self.hang(slow)
            case "state", state:
                rig.state = state
            case "restart", _:
                await self.start()

    def hang(self, slow: bool) -> None:
        rig = self.rig
        rig.venue.slow = slow
        if slow:
            return
        for order in rig.venue.open(SYMBOL):
            if order.type not in STOP_TYPES and order.client_order_id is not None:
                rig.venue.settle(order.client_order_id)

    async def end_well(self) -> None:
        """The trouble is over: whatever was begun is finished."""
        rig = self.rig
        self.saboteur.active = False
        rig.venue.spoils.clear()
        rig.venue.liquidity = None
        rig.state = BotState.RUNNING
        self.hang(False)
        await self.start()
        await rig.run(timedelta(minutes=10).total_seconds())


async def tell(rig: Rig, script: list[Action], plan: Plan, options: dict[str, bool]) -> None:
    if options["authoritative"]:
        plan = {call: harm for call, harm in plan.items() if harm is not Spoil.NOT_VISIBLE}
    rig.settings = msgspec.structs.replace(
        SETTINGS,
        look_up=msgspec.structs.replace(LOOK_UP, immediate_not_found=options["authoritative"]),
        stops_on_exchange=options["on_exchange"],
        trailing=TRAILING if options["trailing"] else None,
        reappear_window=timedelta(days=1),
    )
    await rig.open()
    story = Story(rig, plan)
    await story.start()
    for action in script:
        await story.act(action)
    await story.end_well()
    await check_end(rig, options)


async def check_end(rig: Rig, options: dict[str, bool]) -> None:
    await rig.check()
    assert "order_unknown" not in rig.events()
    live = await rig.ledger.live_orders()
    assert {order.state for order in live} <= {OrderState.OPEN}
    assert {order.type for order in live} <= set(STOP_TYPES)
    names = [request.client_order_id for request in rig.venue.sent]
    accepted = [order.client_order_id for order in rig.venue.orders.values()]
    assert len(accepted) == len(set(accepted)), "an order was sent twice"
    assert set(accepted) <= set(names)
    assert await rig.ledger.reservations() == []
    assert await rig.ledger.orders_to_send() == []

    position = await rig.position()
    if position.state is PositionState.OPEN and options["on_exchange"]:
        assert position.stop_price is not None
        stops = [order for order in await rig.legs(Leg.STOP) if order.type is OrderType.STOP_MARKET]
        if stops[-1].state is OrderState.REJECTED:
            # Refused by the exchange: then the price is watched.
            assert live == []
        else:
            assert [(order.stop_price, order.remaining) for order in live] == [
                (position.stop_price, rig.venue.rules[SYMBOL].floor_amount(position.amount))
            ]
    else:
        assert live == []
        assert position.state is not PositionState.CLOSING


@settings(max_examples=150, deadline=None)
@given(script=st.lists(ACTIONS, min_size=3, max_size=14), plan=PLANS, options=OPTIONS)
def test_the_books_say_what_happened(script: list[Action], plan: Plan, options: dict[str, bool]) -> None:
    rig = Rig(LedgerModel(ModelAccount(ACCOUNT), BOT))
    asyncio.run(tell(rig, [("approve", "1"), *script], plan, options))
