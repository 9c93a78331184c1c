"""What comes from outside is booked, and nothing that an order of ours explains.

The script of ``test_execution_faults`` goes on on an account that others use as well: they pay in, place orders and
trade, also between any two questions of a comparison; ended orders fill late, and trades may be hidden from every
list for long. In the end the books have what the exchange has, and what they say came from outside is what others
did. As long as trades are shown when they are made, nothing else is ever booked as from outside, not for a moment.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from property.test_execution_faults import ACTIONS, TROUBLE, Action, Story
from support.execution import SETTINGS, SYMBOL, D
from support.execution_rig import ACCOUNT, BOT, Rig
from support.fake_venue import SPOILS, FakeVenue, Spoil
from support.ledger_model import LedgerModel, ModelAccount
from support.sabotage import CRASHES, Harm, Plan
from tradingbot_agents.domain.ids import ORDER_ID_PREFIX
from tradingbot_agents.domain.values import Side
from tradingbot_agents.exchange.port import ExchangeOrderState
from tradingbot_agents.execution.fills import to_fill

RECONCILING = msgspec.structs.replace(
    SETTINGS, reconcile_interval=timedelta(minutes=1), reappear_window=timedelta(days=1)
)

DEPOSITS: st.SearchStrategy[Action] = st.tuples(
    st.just("deposit"), st.tuples(st.sampled_from(["USDT", "BNB"]), st.sampled_from(["3", "0.7"]))
)
LATE: st.SearchStrategy[Action] = st.tuples(st.just("late"), st.sampled_from(["0.1", "0.25"]))
PRICE: st.SearchStrategy[Action] = st.tuples(st.just("price"), st.sampled_from(["94", "100", "111"]))
BY_HAND: st.SearchStrategy[Action] = st.one_of(
    st.tuples(st.just("withdraw"), st.sampled_from(["2", "0.5"])),
    st.tuples(st.just("order"), st.sampled_from([("buy", "0.2", "90"), ("buy", "1", "100"), ("sell", "0.1", "120")])),
    st.tuples(st.just("trade"), st.none()),
    st.tuples(st.just("hide"), st.booleans()),
)
LEDGER_TROUBLE = st.tuples(
    st.tuples(
        st.sampled_from(["account_books", "settle_outside", "unbooked_trades", "symbols_traded", "book"]),
        st.integers(1, 6),
    ),
    st.sampled_from([*CRASHES, Harm.LEDGER_AWAY_BEFORE, Harm.LEDGER_AWAY_AFTER]),
)
VENUE_TROUBLE = st.one_of(
    st.tuples(
        st.tuples(st.just("balances"), st.integers(1, 12)),
        st.sampled_from([*CRASHES, Spoil.LOST_REQUEST, Spoil.STALE, Spoil.STALE]),
    ),
    st.tuples(
        st.tuples(st.just("trades"), st.integers(1, 6)),
        st.sampled_from([*CRASHES, Spoil.LOST_REQUEST, Spoil.RATE_LIMITED]),
    ),
)
PLANS: st.SearchStrategy[Plan] = st.lists(
    st.one_of(TROUBLE, LEDGER_TROUBLE, VENUE_TROUBLE), min_size=2, max_size=16
).map(dict)
ASKED = ("balances", "open_orders", "trades", "order_by_client_id")
Meanwhile = Mapping[tuple[str, int], Action]


def meanwhile(actions: st.SearchStrategy[Action]) -> st.SearchStrategy[Meanwhile]:
    """What others do right before the n-th question of a kind."""
    when = st.tuples(st.sampled_from(ASKED), st.integers(1, 10))
    return st.dictionaries(when, actions, max_size=6)


class SharedAccount:
    """What others do to the account, and what it came to."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.came: Counter[str] = Counter()
        self.hides = False
        self.gone = False

    def act(self, action: Action) -> bool:
        """``False``: it is none of theirs."""
        venue = self._rig.venue
        match action:
            case "deposit", (asset, amount):
                self._move(asset, D(amount))
            case "withdraw", amount:
                self._move("USDT", -D(amount))
            case "late", amount:
                self._fill_late(D(amount))
            case "order", (side, amount, price):
                venue.order_by_hand(SYMBOL, Side(side), amount, price, f"web_{len(venue.orders)}")
            case "trade", _:
                self._trade()
            case "hide", hides:
                self.hides = hides
                if not hides:
                    venue.hidden.clear()
            case "price", price:
                venue.move(SYMBOL, D(price))
            case _:
                return False
        return True

    def theirs(self) -> list[str]:
        """The exchange's ids of their orders."""
        return [
            order.exchange_order_id
            for order in self._rig.venue.orders.values()
            if not (order.client_order_id or "").startswith(ORDER_ID_PREFIX)
        ]

    def _move(self, asset: str, amount: Decimal) -> None:
        purse = self._rig.venue.purse
        purse[asset] = purse.get(asset, D(0)) + amount
        self.came[asset] += amount  # type: ignore[assignment]

    def _fill_late(self, most: Decimal) -> None:
        """An entry that had ended with a remainder, in the books too, filled some of it."""
        venue = self._rig.venue
        account: ModelAccount = self._rig.ledger.account  # type: ignore[attr-defined]
        for shown in venue.orders.values():
            known = account.orders.get(shown.client_order_id or "")
            if known is None or not known.state.is_final or known.side is not Side.BUY:
                continue
            if (
                shown.state is ExchangeOrderState.CANCELLED
                and shown.filled < shown.amount
                and known.exchange_order_id
            ):
                made = venue.fill_late(known.client_order_id, min(most, shown.amount - shown.filled))
                if self.hides:
                    venue.hidden.update(made)
                return

    def _trade(self) -> None:
        venue = self._rig.venue
        for name in self.theirs():
            if venue.orders[name].state is ExchangeOrderState.OPEN:
                known = len(venue.made)
                venue.fill_by_hand(name)
                for trade in venue.made[known:]:
                    for asset, amount in to_fill(trade, "", None).balance_changes().items():
                        self.came[asset] += amount  # type: ignore[assignment]
                return


class _Watched:
    """A venue on which others act right before some of the questions."""

    def __init__(self, venue: FakeVenue, shared: SharedAccount, plan: Meanwhile) -> None:
        self._venue = venue
        self._shared = shared
        self._plan = plan
        self._counts: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._venue, name)
        if name not in ASKED:
            return found

        async def call(*args: Any) -> Any:
            self._counts[name] += 1
            action = self._plan.get((name, self._counts[name]))
            if action is not None and not self._shared.gone:
                self._shared.act(action)
            return await found(*args)

        return call


class SharedStory(Story):
    def __init__(self, rig: Rig, plan: Plan, meanwhile: Meanwhile) -> None:
        super().__init__(rig, plan)
        self.shared = SharedAccount(rig)
        watched = _Watched(rig.venue, self.shared, meanwhile)
        around: Callable[..., Any] = self.saboteur.venue
        self.saboteur.venue = lambda venue: around(watched)  # type: ignore[method-assign]

    async def act(self, action: Action) -> None:
        if not self.shared.act(action):
            await super().act(action)

    async def end_well(self) -> None:
        """The others leave, too, and nothing is hidden any more."""
        self.shared.act(("hide", False))
        self.shared.gone = True
        await super().end_well()

    def hang(self, slow: bool) -> None:
        """Theirs are not ours to settle."""
        hidden = {name: self.rig.venue.orders.pop(name) for name in self.shared.theirs()}
        super().hang(slow)
        self.rig.venue.orders.update(hidden)


async def tell(rig: Rig, script: list[Action], plan: Plan, meanwhile: Meanwhile) -> SharedStory:
    rig.settings = RECONCILING
    rig.venue.purse["BNB"] = D(0)
    await rig.open()
    story = SharedStory(rig, plan, meanwhile)
    await story.start()
    for action in script:
        await story.act(action)
    await story.end_well()
    return story


async def outside(rig: Rig) -> list[tuple[str, str, Decimal]]:
    return [
        (entry.kind, entry.asset, entry.amount)
        for entry in await rig.ledger.entries()
        if entry.kind in ("outside", "reversal")
    ]


async def check_end(story: SharedStory) -> None:
    rig = story.rig
    ours = {asset: balance.total for asset, balance in (await rig.ledger.balances()).items() if balance.total}
    assert ours == {asset: total for asset, total in rig.venue.totals().items() if total}
    booked = {fill.exchange_trade_id for fill in await rig.ledger.fills()}
    theirs = story.shared.theirs()
    assert booked == {trade.exchange_trade_id for trade in rig.venue.made if trade.exchange_order_id not in theirs}
    net: Counter[str] = Counter()
    for _, asset, amount in await outside(rig):
        net[asset] += amount  # type: ignore[assignment]
    assert {asset: amount for asset, amount in net.items() if amount} == {
        asset: amount for asset, amount in story.shared.came.items() if amount
    }
    open_orders = [order for order in rig.venue.orders.values() if order.state is ExchangeOrderState.OPEN]
    left = [order for order in open_orders if order.exchange_order_id in theirs and order.side is Side.BUY]
    locked = sum(((order.amount - order.filled) * (order.limit_price or D(0)) for order in left), D(0))
    assert (await rig.ledger.balances())["USDT"].outside_holds == locked


def run(body: Callable[[Rig], Awaitable[None]]) -> None:
    async def whole() -> None:
        await body(Rig(LedgerModel(ModelAccount(ACCOUNT), BOT)))

    asyncio.run(whole())


@settings(max_examples=100, deadline=None)
@given(
    script=st.lists(st.one_of(ACTIONS, DEPOSITS, LATE), min_size=3, max_size=14),
    plan=PLANS,
    meanwhile=meanwhile(st.one_of(DEPOSITS, LATE, PRICE)),
)
def test_what_an_order_of_ours_explains_is_never_booked_as_from_outside(
    script: list[Action], plan: Plan, meanwhile: Meanwhile
) -> None:
    """Others only pay in. An order that is shown too late to be believed would be no more than a trade by hand."""
    visible = {
        call: harm
        for call, harm in plan.items()
        if not (call[0] == "order_by_client_id" and harm is Spoil.NOT_VISIBLE)
    }

    async def body(rig: Rig) -> None:
        story = await tell(rig, [("liquidity", "0.3"), ("approve", "1"), *script], visible, meanwhile)
        await check_end(story)
        assert {(kind, asset) for kind, asset, _ in await outside(rig)} <= {("outside", "USDT"), ("outside", "BNB")}
        assert all(amount > 0 for _, _, amount in await outside(rig))

    run(body)


@settings(max_examples=100, deadline=None)
@given(
    script=st.lists(st.one_of(ACTIONS, DEPOSITS, LATE, BY_HAND), min_size=3, max_size=16),
    plan=PLANS,
    meanwhile=meanwhile(st.one_of(DEPOSITS, LATE, PRICE, BY_HAND)),
)
def test_in_the_end_the_books_say_what_others_did(script: list[Action], plan: Plan, meanwhile: Meanwhile) -> None:
    async def body(rig: Rig) -> None:
        await check_end(await tell(rig, [("liquidity", "0.3"), ("approve", "1"), *script], plan, meanwhile))

    run(body)


def test_the_plans_meet_the_calls_of_a_comparison() -> None:
    """A plan names a call as the venue does, or it would spoil nothing."""
    assert set(ASKED) <= set(dir(FakeVenue))
    assert {"open_orders", "order_by_client_id"} <= set(SPOILS)
