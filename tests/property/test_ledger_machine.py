"""The same random life on PostgreSQL and on the reference model: every answer and the whole state must agree, and
the ledger's invariants must hold after every step.

``LEDGER_EXAMPLES`` and ``LEDGER_STEPS`` make it longer: ``LEDGER_EXAMPLES=2000 LEDGER_STEPS=80 pytest …``.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, TypeVar

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from support.ledger import ACCOUNT, NOW, connect, entry, exit_leg, exit_request, fill, refusal, rules_of
from support.ledger_model import FINAL, LedgerModel, ModelAccount
from support.postgres import PostgresServer
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.orders import IllegalTransition, Order, OrderState
from tradingbot_agents.domain.values import BotState, Leg, Side
from tradingbot_agents.ledger.port import (
    Adoption,
    Epoch,
    EquityPoint,
    Hold,
    Ledger,
    LedgerError,
    Role,
)
from tradingbot_agents.ledger.postgres import PostgresLedger

T = TypeVar("T", bound=Callable[..., None])

pytestmark = [pytest.mark.postgres, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("LEDGER_EXAMPLES", "25"))
STEPS = int(os.environ.get("LEDGER_STEPS", "40"))

BOTS = ("majors", "minors")
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
ASSETS = ("USDT", "BTC", "ETH", "BNB")

bots = st.sampled_from(BOTS)
symbols = st.sampled_from(SYMBOLS)
roles = st.sampled_from(Role)
stale = st.sampled_from((False,) * 11 + (True,))
"""Whether to come with the epoch of a process that was replaced."""
which = st.integers(0, 999)
"""Picks one of what is there."""
budgets = st.sampled_from(("0.01", "5", "5", "16.91", "30", "67.63", "84.55"))
fractions = st.sampled_from(("0.1", "0.37", "0.5", "1", "1", "1", "1.2"))
prices = st.sampled_from(("99.5", "100", "100.00000001", "131.7"))
legs = st.sampled_from((Leg.STOP, Leg.TARGET, Leg.EXIT, Leg.FLATTEN))
finals = st.sampled_from(
    (None, None, OrderState.FILLED, OrderState.FILLED, OrderState.CANCELLED, OrderState.REJECTED)
)
fees = st.sampled_from((None, "base", "quote", "BNB", "BNB unvalued"))

TABLES = (
    "accounts, bots, balances, entries, decisions, orders, fills, positions, trades, indicator_performance, outbox,"
    " events, equity_points, market_rules, reality_reports,"
    " reality_memory"
)


async def outcome(call: Awaitable[Any]) -> Any:
    """What a call answers, or how it refuses: the type, and the words where both sides have the same."""
    try:
        return await call
    except IllegalTransition as error:
        return (IllegalTransition, str(error))
    except LedgerError as error:
        return type(error)


async def books_of(ledger: Ledger) -> tuple[Any, ...]:
    books = await ledger.account_books()
    return books.opened_at, books.newest_at, books.balances, books.live


async def state_of(ledger: Ledger) -> dict[str, Any]:
    """Everything that can be read of a bot; ids that a database hands out are left out."""
    return {
        "balances": await ledger.balances(),
        "positions": await ledger.positions(),
        "orders": await ledger.orders(),
        "to send": await ledger.orders_to_send(),
        "live": await ledger.live_orders(),
        "reservations": await ledger.reservations(),
        "fills": await ledger.fills(),
        "trades": await ledger.trades(),
        "last_trades": await ledger.trades(limit=2),
        "decisions": await ledger.decisions(),
        "refusals": await ledger.refusals(),
        "performance": await ledger.performance(),
        "outbox": {role: [row.message for row in await ledger.unpublished(role)] for role in Role},
        "hold": await ledger.hold(),
        "equity": await ledger.equity(),
        "entries": [(e.asset, e.amount, e.kind, e.cause, e.at) for e in await ledger.entries()],
        "rules": await ledger.market_rules(),
        "outside": (await ledger.holdings()).outside,
        "books": await books_of(ledger),
        "traded": await ledger.symbols_traded(NOW + timedelta(seconds=30)),
    }


WEIGHTED: list[str] = []
STRATEGIES: dict[str, st.SearchStrategy[dict[str, Any]]] = {}


def part_of_life(weight: int, **arguments: st.SearchStrategy[Any]) -> Callable[[T], T]:
    """Marks what may happen, and how often. Hypothesis picks rules evenly, and a random life would be full of
    refusals and end before its first fill."""

    def register(method: T) -> T:
        WEIGHTED.extend([method.__name__] * weight)
        STRATEGIES[method.__name__] = st.fixed_dictionaries(arguments)
        return method

    return register


class LedgerMachine(RuleBasedStateMachine):
    dsn: str
    runner: asyncio.Runner
    reals: dict[str, PostgresLedger]

    def __init__(self) -> None:
        super().__init__()
        account = ModelAccount(ACCOUNT)
        self.models = {bot: LedgerModel(account, bot) for bot in BOTS}
        self.epochs: dict[tuple[str, Role], list[Epoch]] = {(bot, role): [] for bot in BOTS for role in Role}
        self.touched: set[str] = set()
        self.counter = 0
        self.now: datetime = NOW
        self.orders: list[tuple[str, str]] = []
        self.fills: list[Fill] = []
        self.intents: list[tuple[str, str]] = []
        self.exits: list[str] = []
        """Causes of exits, to ask for them again."""
        self.causes: list[tuple[str, Decimal, str]] = []
        self.runner.run(self._clear())

    async def _clear(self) -> None:
        connection = await asyncpg.connect(self.dsn)
        await connection.execute(f"TRUNCATE {TABLES} RESTART IDENTITY")
        await connection.close()
        for real in self.reals.values():
            # As a new process: the ids of account and bot are new.
            real._account = real._bot = 0

    def both(self, bot: str, call: Callable[[Ledger], Awaitable[Any]]) -> Any:
        """Do it on both sides; the answer they agree on."""

        async def run() -> tuple[Any, Any]:
            return await outcome(call(self.reals[bot])), await outcome(call(self.models[bot]))

        self.touched.add(bot)
        real, model = self.runner.run(run())
        assert real == model, f"the ledger answers\n{real}\nand the model\n{model}"
        return real

    def new_name(self) -> str:
        self.counter += 1
        self.now += timedelta(seconds=1)
        return f"{self.counter}"

    def epoch(self, bot: str, role: Role, old: bool) -> Epoch:
        raised = self.epochs[bot, role]
        return raised[0] if old and len(raised) > 1 else raised[-1]

    def pick(self, number: int) -> tuple[str, Order]:
        """Some order, rather one that is not final."""
        account = self.models[BOTS[0]].account
        known = [account.orders[name] for _, name in self.orders if name in account.orders]
        unfinished = [order for order in known if order.state not in FINAL]
        among = unfinished if unfinished and number % 4 else known
        order = among[number % len(among)]
        return order.bot, order

    @rule(data=st.data())
    def live(self, data: st.DataObject) -> None:
        what = data.draw(st.sampled_from(WEIGHTED), label="what")
        of_an_order = ("claim", "change", "carry_on", "book", "explain", "look_for_unbooked")
        if what in of_an_order and not self.models[BOTS[0]].account.orders:
            what = "reserve"
        getattr(self, what)(**data.draw(STRATEGIES[what], label=what))

    # --- the account

    @initialize(adopt=st.booleans())
    def open(self, adopt: bool) -> None:
        opening = {"USDT": Decimal("84.54"), "ETH": Decimal("1.5"), "DOGE": Decimal(7)}
        held = Adoption(
            symbol="ETH/USDT", amount=Decimal("0.4"), price=Decimal(3000), stop_price=Decimal(2850), target_price=None
        )
        adoptions = [held] if adopt else []
        for bot in BOTS:
            self.both(bot, lambda ledger: ledger.open_account(opening, adoptions, NOW, quote="USDT"))
            for role in Role:
                self.raise_epoch(bot, role)

    def raise_epoch(self, bot: str, role: Role) -> None:
        self.epochs[bot, role].append(self.both(bot, lambda ledger: ledger.raise_epoch(role, self.now)))

    # --- risk

    @part_of_life(
        6,
        bot=bots,
        batch=st.lists(
            st.tuples(symbols, budgets, prices, st.sampled_from((None, None, 1, 2)), st.integers(0, 9)),
            min_size=1,
            max_size=4,
        ),
        old=stale,
    )
    def reserve(self, bot: str, batch: list[tuple[str, str, str, int | None, int]], old: bool) -> None:
        epoch = self.epoch(bot, Role.RISK, old)
        proposals = []
        for symbol, budget, price, most, again in batch:
            name = self.new_name()
            if again == 0 and self.intents:
                bot_then, name_then = self.intents[self.counter % len(self.intents)]
                name = name_then if bot_then == bot else name
            amount = str(Decimal(budget) / 132)
            proposals.append(
                entry(name, symbol, budget=budget, amount=amount[:12], price=price, most=most, at=self.now)
            )
            self.intents.append((bot, name))
            self.orders.append((bot, f"entry-{name}"))
        if len(proposals) == 1:
            self.both(bot, lambda ledger: ledger.reserve(epoch, proposals[0]))
        else:
            self.both(bot, lambda ledger: ledger.reserve_many(epoch, proposals))

    @part_of_life(1, bot=bots, symbol=symbols, again=st.booleans(), old=stale)
    def refuse(self, bot: str, symbol: str, again: bool, old: bool) -> None:
        epoch = self.epoch(bot, Role.RISK, old)
        asked = [refusal(self.new_name(), symbol)]
        if again and self.intents:
            asked.append(refusal(self.intents[self.counter % len(self.intents)][1], symbol))
        self.both(bot, lambda ledger: ledger.refuse(epoch, asked))

    @part_of_life(1, bot=bots, steps=st.dictionaries(symbols, st.sampled_from(("0.1", "0.01")), min_size=1))
    def keep_market_rules(self, bot: str, steps: dict[str, str]) -> None:
        rules = {symbol: rules_of(symbol, step) for symbol, step in steps.items()}
        self.both(bot, lambda ledger: ledger.keep_market_rules(rules, self.now))

    @part_of_life(2, bot=bots, symbol=symbols, role=roles, leg=legs, old=stale, again=which)
    def request_exit(self, bot: str, symbol: str, role: Role, leg: Leg, old: bool, again: int) -> None:
        epoch = self.epoch(bot, role, old)
        name = f"intent-{self.new_name()}"
        if again % 5 == 0 and self.exits:
            name = self.exits[again % len(self.exits)]
        self.exits.append(name)
        request = exit_request(name, symbol, leg=leg, at=self.now, bot=bot)
        self.both(bot, lambda ledger: ledger.request_exit(epoch, request))

    # --- execution

    @part_of_life(2, number=which, late=st.sampled_from((0, 0, 0, 301)), old=stale)
    def claim(self, number: int, late: int, old: bool) -> None:
        bot, order = self.pick(number)
        epoch = self.epoch(bot, Role.EXECUTION, old)
        at = order.created_at + timedelta(seconds=late)
        self.both(bot, lambda ledger: ledger.claim(epoch, order.client_order_id, at))

    @part_of_life(
        4,
        number=which,
        what=st.sampled_from(
            (
                "acknowledge",
                "acknowledge",
                "acknowledge other",
                "cancel",
                "lose",
                "deny",
                "not found",
            )
        ),
        old=stale,
    )
    def change(self, number: int, what: str, old: bool) -> None:
        bot, order = self.pick(number)
        name = order.client_order_id
        epoch = self.epoch(bot, Role.EXECUTION, old)
        at = self.now
        calls: dict[str, Callable[[Ledger], Awaitable[Any]]] = {
            "acknowledge": lambda ledger: ledger.acknowledge(epoch, name, f"x-{name}"),
            "acknowledge other": lambda ledger: ledger.acknowledge(epoch, name, f"y-{name}"),
            "cancel": lambda ledger: ledger.request_cancel(epoch, name, at),
            "lose": lambda ledger: ledger.lose_contact(epoch, name, "timeout", at),
            "deny": lambda ledger: ledger.deny(epoch, name, "paused", at),
            "not found": lambda ledger: ledger.not_found(epoch, name, at),
        }
        self.both(bot, calls[what])

    @part_of_life(8, number=which, fraction=fractions, price=prices, fee=fees)
    def carry_on(self, number: int, fraction: str, price: str, fee: str | None) -> None:
        """The next step that an order usually takes, so that random lives come to their ends too."""
        bot, order = self.pick(number)
        epoch = self.epoch(bot, Role.EXECUTION, False)
        name, at = order.client_order_id, self.now
        if order.state is OrderState.APPROVED:
            self.both(bot, lambda ledger: ledger.claim(epoch, name, order.created_at))
        elif order.state is OrderState.SUBMITTING and number % 3:
            self.both(bot, lambda ledger: ledger.acknowledge(epoch, name, f"x-{name}"))
        elif order.state is OrderState.CANCELLING:
            self.both(bot, lambda ledger: ledger.book(name, [], OrderState.CANCELLED, at, "by us"))
        else:
            made = self.new_fill(order, fraction, price, fee)
            self.fills.append(made)
            final = OrderState.FILLED if made.amount >= order.remaining else None
            self.both(bot, lambda ledger: ledger.book(name, [made], final, at))

    @part_of_life(3, bot=bots, symbol=symbols, leg=legs, price=prices, fee=fees)
    def sell_all(self, bot: str, symbol: str, leg: Leg, price: str, fee: str | None) -> None:
        """The usual end of a position."""
        epoch = self.epoch(bot, Role.EXECUTION, False)
        position = self.models[bot].position_of(bot, symbol)
        left = position.amount - self.models[bot].account.live_remainders(bot, symbol)
        if left <= 0:
            return
        request = exit_request(f"trade-{self.new_name()}", symbol, leg=leg, at=self.now, bot=bot)
        self.both(bot, lambda ledger: ledger.request_exit(epoch, request))
        proposal = exit_leg(f"leg-{self.new_name()}", str(left), leg=leg, symbol=symbol, at=self.now)
        order = self.both(bot, lambda ledger: ledger.submit_leg(epoch, proposal))
        self.orders.append((bot, order.client_order_id))
        made = self.new_fill(order, "1", price, fee)
        self.fills.append(made)
        self.both(bot, lambda ledger: ledger.book(order.client_order_id, [made], OrderState.FILLED, self.now))

    @part_of_life(
        4,
        number=which,
        parts=st.lists(st.tuples(fractions, prices, fees), max_size=3),
        repeat=st.booleans(),
        final=finals,
        teller=bots,
    )
    def book(
        self,
        number: int,
        parts: list[tuple[str, str, str | None]],
        repeat: bool,
        final: OrderState | None,
        teller: str,
    ) -> None:
        _, order = self.pick(number)
        fills = [self.new_fill(order, *part) for part in parts]
        if repeat:
            fills += [known for known in self.fills if known.client_order_id == order.client_order_id][-2:]
        self.fills += fills
        reason = "expired" if final is OrderState.CANCELLED else None
        self.both(teller, lambda ledger: ledger.book(order.client_order_id, fills, final, self.now, reason))

    def new_fill(self, order: Order, fraction: str, price: str, fee: str | None) -> Fill:
        base, quote = order.symbol.split("/")
        amount = max(order.remaining * Decimal(fraction), Decimal("0.0001"))
        made = fill(
            order.client_order_id,
            self.new_name(),
            str(amount),
            price,
            symbol=order.symbol,
            side=order.side,
            at=self.now,
        )
        charged = {
            None: None,
            "base": Fee(base, amount / 1000),
            "quote": Fee(quote, amount / 10),
            "BNB": Fee("BNB", Decimal("0.0001"), Decimal("0.07")),
            "BNB unvalued": Fee("BNB", Decimal("0.0001")),
        }[fee]
        return Fill(
            exchange_trade_id=made.exchange_trade_id,
            client_order_id=made.client_order_id,
            symbol=made.symbol,
            side=made.side,
            price=made.price,
            amount=made.amount,
            at=made.at,
            fee=charged,
        )

    @part_of_life(3, bot=bots, symbol=symbols, fraction=fractions, leg=legs, again=which, old=stale)
    def submit_leg(self, bot: str, symbol: str, fraction: str, leg: Leg, again: int, old: bool) -> None:
        epoch = self.epoch(bot, Role.EXECUTION, old)
        position = self.models[bot].position_of(bot, symbol)
        amount = max(position.amount * Decimal(fraction), Decimal("0.0001"))
        name = f"leg-{self.new_name()}"
        exits = [known for known in self.models[bot].own_orders() if known.side is Side.SELL]
        if again % 6 == 0 and exits:
            name = exits[again % len(exits)].client_order_id
        self.orders.append((bot, name))
        proposal = exit_leg(name, str(amount), leg=leg, symbol=symbol, at=self.now)
        self.both(bot, lambda ledger: ledger.submit_leg(epoch, proposal))

    @part_of_life(2, bot=bots, symbol=symbols, leg=legs, old=stale)
    def mark_dust(self, bot: str, symbol: str, leg: Leg, old: bool) -> None:
        epoch = self.epoch(bot, Role.EXECUTION, old)
        self.both(bot, lambda ledger: ledger.mark_dust(epoch, symbol, leg, self.now))

    # --- what comes from outside

    def settle_with(
        self, bot: str, movements: dict[str, Decimal], cause: str, holds: dict[str, Decimal], outdated: bool = False
    ) -> bool:
        at = self.now

        async def settle(ledger: Ledger) -> bool:
            seen = await ledger.account_books()
            if outdated:
                seen = msgspec.structs.replace(seen, newest_entry=seen.newest_entry - 1)
            return await ledger.settle_outside(seen, movements, holds, cause, at)

        done: bool = self.both(bot, settle)
        return done

    @part_of_life(
        1,
        bot=bots,
        movements=st.dictionaries(st.sampled_from(ASSETS), st.sampled_from((Decimal(-7), Decimal("0.5")))),
        holds=st.dictionaries(st.sampled_from(ASSETS), st.sampled_from((Decimal(3), Decimal("0.1")))),
        again=st.booleans(),
        outdated=st.booleans(),
    )
    def settle(
        self, bot: str, movements: dict[str, Decimal], holds: dict[str, Decimal], again: bool, outdated: bool
    ) -> None:
        cause = f"compared-{self.new_name()}"
        self.settle_with(bot, movements, cause, holds, outdated)
        if again:
            self.settle_with(bot, movements, cause, holds, outdated)

    @part_of_life(
        3,
        number=which,
        bot=bots,
        parts=st.lists(st.tuples(fractions, prices, fees), min_size=1, max_size=2),
        more=st.sampled_from((None, None, "BNB", "USDT")),
        halves=st.booleans(),
    )
    def explain(
        self, number: int, bot: str, parts: list[tuple[str, str, str | None]], more: str | None, halves: bool
    ) -> None:
        """Fills that were booked as a movement before they were known; ``more``: with something else in it."""
        _, order = self.pick(number)
        made = [self.new_fill(order, *part) for part in parts]
        self.fills += made
        moved: dict[str, Decimal] = {}
        for one in made:
            for asset, amount in one.balance_changes().items():
                moved[asset] = moved.get(asset, Decimal(0)) + amount
        if more is not None:
            moved[more] = moved.get(more, Decimal(0)) + Decimal(3)
        self.settle_with(bot, {asset: by for asset, by in moved.items() if by}, f"compared-{self.new_name()}", {})
        for fills in [[one] for one in made] if halves else [made]:
            self.both(bot, lambda ledger, fills=fills: ledger.book(order.client_order_id, fills, None, self.now))

    @part_of_life(1, number=which, bot=bots)
    def look_for_unbooked(self, number: int, bot: str) -> None:
        _, order = self.pick(number)
        trades = {"never-booked": order.exchange_order_id or "x-nobody", "anothers": "x-nobody"}
        if self.fills:
            known = self.fills[number % len(self.fills)]
            trades[known.exchange_trade_id] = f"x-{known.client_order_id}"
        self.both(bot, lambda ledger: ledger.unbooked_trades(order.symbol, trades))

    # --- the rest

    @part_of_life(
        4,
        bot=bots,
        what=st.sampled_from(
            ("watch", "outside", "outside", "holds", "hold", "release", "record", "measure", "epoch")
        ),
        symbol=symbols,
        asset=st.sampled_from(ASSETS),
        price=prices,
        amount=st.sampled_from(("-40", "-0.2", "0.5", "25", "25")),
        role=roles,
        number=which,
        old=stale,
    )
    def aside(
        self,
        bot: str,
        what: str,
        symbol: str,
        asset: str,
        price: str,
        amount: str,
        role: Role,
        number: int,
        old: bool,
    ) -> None:
        name = self.new_name()
        at = self.now
        epoch = self.epoch(bot, Role.EXECUTION, old)
        moved = (asset, Decimal(amount), f"outside-{name}")
        if what == "outside":
            if number % 3 == 0 and self.causes:
                moved = self.causes[number % len(self.causes)]
            self.causes.append(moved)
        held = Hold(state=(BotState.RUNNING, BotState.PAUSED)[number % 2], reason="strange", by="check", at=at)
        stop = Decimal(price) if number % 2 else None
        locked = {asset: max(moved[1], Decimal(0)), "USDT": Decimal(number % 7)} if number % 3 else {}
        worth = {"BTC": Decimal(price), "ETH": None if number % 5 == 0 else Decimal(price), "SOL": Decimal(7)}
        calls: dict[str, Callable[[Ledger], Awaitable[Any]]] = {
            "watch": lambda ledger: ledger.watch(epoch, symbol, Decimal(price), stop),
            "outside": lambda ledger: ledger.book_outside_movement(*moved, at),
            "holds": lambda ledger: ledger.set_outside_holds(locked),
            "hold": lambda ledger: ledger.place_hold(held),
            "release": lambda ledger: ledger.release_hold(),
            "record": lambda ledger: ledger.record_equity(EquityPoint(at, Decimal(price))),
            "measure": lambda ledger: ledger.measure_equity(at, "USDT", worth),
            "epoch": lambda ledger: ledger.check_epoch(epoch),
        }
        self.both(bot, calls[what])
        if what == "hold" and number % 4:
            self.both(bot, lambda ledger: ledger.release_hold())
        if what == "epoch" and number % 2:
            self.raise_epoch(bot, role)

    @part_of_life(1, bot=bots, role=roles, count=st.integers(0, 3))
    def publish(self, bot: str, role: Role, count: int) -> None:
        async def first(ledger: Ledger) -> list[Any]:
            rows = await ledger.unpublished(role, count)
            await ledger.mark_published([row.number for row in rows])
            return [row.message for row in rows]

        self.both(bot, first)

    # --- what must be true after each step

    @invariant()
    def the_same_state(self) -> None:
        """Of the bots that did something; all of them at the end."""
        for bot in sorted(self.touched):
            self.compare(bot)
        self.touched.clear()

    def teardown(self) -> None:
        for bot in BOTS:
            self.compare(bot)

    def compare(self, bot: str) -> None:
        async def states() -> tuple[dict[str, Any], dict[str, Any]]:
            return await state_of(self.reals[bot]), await state_of(self.models[bot])

        real, model = self.runner.run(states())
        for part, content in real.items():
            assert content == model[part], f"{bot}: {part}\nledger {content}\nmodel  {model[part]}"

    @invariant()
    def the_invariants_hold(self) -> None:
        checked = self.runner.run(self.reals[BOTS[0]].invariants())
        violated = {rule.name: rule.violations for rule in checked if rule.violations}
        assert not violated


def test_the_ledger_says_what_its_model_says(postgres: PostgresServer) -> None:
    with asyncio.Runner() as runner:
        dsn = runner.run(postgres.create_database())
        reals = {bot: runner.run(connect(dsn, bot)) for bot in BOTS}
        machine = type("Machine", (LedgerMachine,), {"dsn": dsn, "runner": runner, "reals": reals})
        try:
            run_state_machine_as_test(
                machine,
                settings=settings(
                    max_examples=EXAMPLES,
                    stateful_step_count=STEPS,
                    deadline=None,
                    suppress_health_check=list(HealthCheck),
                ),
            )
        finally:
            for real in reals.values():
                runner.run(real.close())
            runner.run(postgres.drop_database(dsn))
