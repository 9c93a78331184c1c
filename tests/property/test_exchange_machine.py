"""The simulated exchange under random bars, orders, cancels and kills.

Two exchanges get the same calls at the same times. One is killed now and then and goes on from what it left behind;
the other lives on undisturbed. They must never differ, and the books of both must always add up, worked out here
from nothing but the trades and the open orders.
"""

from __future__ import annotations

import tempfile
from collections import defaultdict
from collections.abc import Awaitable, Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.coroutines import run_now
from support.replay import START, STEP, Bar, Replay, close_all, order
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees
from tradingbot_agents.domain.values import ONE, ZERO, OrderType, Side, TimeInForce
from tradingbot_agents.exchange.port import ExchangeError, ExchangeOrder, ExchangeOrderState, OrderRequest
from tradingbot_agents.exchange.simulated import SimulatedExchange

SYMBOLS = ("BTC/USDT", "ETH/USDT")
OPENING = {"USDT": Decimal(1000), "BTC": Decimal(5), "ETH": Decimal(0)}
BARS = 12

prices = st.decimals(Decimal(60), Decimal(140), places=2)
amounts = st.one_of(
    st.decimals(Decimal("0.05"), Decimal(8), places=4), st.decimals(Decimal("0.05"), Decimal(1), places=4)
)


@st.composite
def bars(draw: st.DrawFn) -> list[Bar]:
    rows: list[Bar] = []
    last = Decimal(100)
    for _ in range(BARS):
        opened = last if draw(st.booleans()) else draw(prices)
        closed = draw(prices)
        high = max(opened, closed) + draw(st.sampled_from([0, 0, 1, 10]))
        low = min(opened, closed) - draw(st.sampled_from([0, 0, 1, 10]))
        rows.append((opened, high, low, closed, draw(st.sampled_from([0, "0.7", 3, 20]))))
        last = closed
    return rows


class ExchangeMachine(RuleBasedStateMachine):
    @initialize(
        btc=bars(),
        eth=bars(),
        currency=st.sampled_from([FeeCurrency.GET, FeeCurrency.BASE, FeeCurrency.QUOTE]),
        slippage=st.sampled_from([ZERO, Decimal("0.02")]),
        participation=st.sampled_from([ONE, Decimal("0.25")]),
    )
    def begin(
        self, btc: list[Bar], eth: list[Bar], currency: FeeCurrency, slippage: Decimal, participation: Decimal
    ) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.rows = {"BTC/USDT": btc, "ETH/USDT": eth}
        self.participation = participation
        self.fees = Fees(Decimal("0.001"), Decimal("0.003"), currency)
        replays = []
        for name in ("undisturbed", "disturbed"):
            directory = Path(self.folder.name) / name
            directory.mkdir()
            replays.append(
                Replay(
                    directory,
                    self.rows,
                    seed=7,
                    initial_balances=OPENING,
                    fees=self.fees,
                    slippage=slippage,
                    participation=participation,
                    history=3,
                )
            )
        self.undisturbed, self.disturbed = replays
        self.passed = timedelta(0)
        self.names = 0
        self.requests: list[OrderRequest] = []
        self.wait(1)

    def teardown(self) -> None:
        close_all()
        if hasattr(self, "folder"):
            self.folder.cleanup()

    def both(self, call: Callable[[SimulatedExchange], Awaitable[Any]]) -> Any:
        """The same call to both, with the same outcome: a result, or the same error."""
        outcomes = []
        for replay in (self.undisturbed, self.disturbed):
            replay.clock.advance_to(START + self.passed)
            try:
                outcomes.append(run_now(call(replay.exchange)))
            except ExchangeError as error:
                outcomes.append((type(error), str(error)))
        assert outcomes[0] == outcomes[1]
        return outcomes[0]

    @rule(steps=st.integers(1, 3))
    def wait(self, steps: int) -> None:
        self.passed += steps * STEP
        self.both(lambda exchange: exchange.balances())

    @rule(seconds=st.integers(1, 400))
    def wait_a_little(self, seconds: int) -> None:
        self.passed += timedelta(seconds=seconds)
        self.both(lambda exchange: exchange.balances())

    def send(self, request: OrderRequest) -> None:
        outcome = self.both(lambda exchange: exchange.create_order(request))
        if isinstance(outcome, ExchangeOrder):
            self.requests.append(request)

    def name(self) -> str:
        self.names += 1
        return f"order{self.names}"

    @rule(symbol=st.sampled_from(SYMBOLS), side=st.sampled_from(Side), amount=amounts)
    def market(self, symbol: str, side: Side, amount: Decimal) -> None:
        self.send(order(self.name(), side, amount, symbol=symbol))

    @rule(
        symbol=st.sampled_from(SYMBOLS), side=st.sampled_from(Side), amount=amounts, limit=prices, ioc=st.booleans()
    )
    def limit(self, symbol: str, side: Side, amount: Decimal, limit: Decimal, ioc: bool) -> None:
        self.send(order(self.name(), side, amount, symbol=symbol, limit=limit, ioc=ioc))

    @rule(
        symbol=st.sampled_from(SYMBOLS),
        side=st.sampled_from(Side),
        amount=amounts,
        stop=prices,
        limit=st.one_of(st.none(), prices),
    )
    def stop(self, symbol: str, side: Side, amount: Decimal, stop: Decimal, limit: Decimal | None) -> None:
        self.send(order(self.name(), side, amount, symbol=symbol, stop=stop, limit=limit))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        self.both(lambda exchange: exchange.cancel_order(request.symbol, request.client_order_id))

    @precondition(lambda self: self.requests)
    @rule(data=st.data())
    def use_a_name_again(self, data: st.DataObject) -> None:
        request = data.draw(st.sampled_from(self.requests))
        self.send(order(request.client_order_id, Side.BUY, "0.1", symbol=request.symbol))

    @rule()
    def kill(self) -> None:
        self.names += 1
        place = self.disturbed.exchange.place
        self.disturbed = self.disturbed.killed(f"killed{self.names}")
        assert self.disturbed.exchange.place == place

    @invariant()
    def neither_knows_more_than_the_other(self) -> None:
        if not hasattr(self, "passed"):
            return
        for call in (SimulatedExchange.balances, SimulatedExchange.open_orders):
            self.both(call)
        for symbol in SYMBOLS:
            self.both(lambda exchange, symbol=symbol: exchange.candles(symbol, "5m"))  # type: ignore[misc]
        assert self.undisturbed.exchange.all_trades() == self.disturbed.exchange.all_trades()
        assert self.undisturbed.exchange.progress == self.disturbed.exchange.progress

    @invariant()
    def balances_are_the_opening_ones_and_every_trade(self) -> None:
        if not hasattr(self, "passed"):
            return
        totals = defaultdict(Decimal, OPENING)
        for trade in self.undisturbed.exchange.all_trades():
            base, quote = trade.symbol.split("/")
            sign = 1 if trade.side is Side.BUY else -1
            totals[base] += sign * trade.amount
            totals[quote] -= sign * trade.amount * trade.price
            assert trade.fee is not None
            totals[trade.fee.asset] -= trade.fee.amount
        balances = self.both(lambda exchange: exchange.balances())
        assert {asset: held.total for asset, held in balances.items()} == totals
        assert all(held.free >= 0 for held in balances.values())

    @invariant()
    def what_is_used_is_what_open_orders_need(self) -> None:
        if not hasattr(self, "passed"):
            return
        in_base, in_quote = (
            ONE + self.fees.taker if self.fees.currency is currency else ONE
            for currency in (FeeCurrency.BASE, FeeCurrency.QUOTE)
        )
        used: dict[str, Decimal] = defaultdict(Decimal)
        stops_that_buy = False
        for opened in self.both(lambda exchange: exchange.open_orders()):
            base, quote = opened.symbol.split("/")
            left = opened.amount - opened.filled
            assert opened.state is ExchangeOrderState.OPEN
            if opened.side is Side.SELL:
                used[base] += left * in_base
            elif opened.limit_price is not None:
                used[quote] += left * opened.limit_price * in_quote
            else:
                stops_that_buy = True
        for asset, held in self.both(lambda exchange: exchange.balances()).items():
            if asset == "USDT" and stops_that_buy:
                assert held.used >= used[asset]
            else:
                assert held.used == used[asset]

    @invariant()
    def every_trade_is_one_that_the_market_allowed(self) -> None:
        if not hasattr(self, "passed"):
            return
        exchange = self.undisturbed.exchange
        trades = exchange.all_trades()
        assert [trade.exchange_trade_id for trade in trades] == [str(number + 1) for number in range(len(trades))]
        taken: dict[tuple[str, int], Decimal] = defaultdict(Decimal)
        for trade in trades:
            bar = min((trade.at - START) // STEP, BARS) - 1
            _, high, low, _, volume = (Decimal(str(value)) for value in self.rows[trade.symbol][bar])
            rules = self.undisturbed.rules[trade.symbol]
            assert low <= trade.price <= high
            assert rules.price.holds(trade.price)
            assert rules.amount.holds(trade.amount)
            taken[trade.symbol, bar] += trade.amount
            assert taken[trade.symbol, bar] <= volume * self.participation

    @invariant()
    def every_order_is_what_its_trades_say(self) -> None:
        if not hasattr(self, "passed"):
            return
        trades = self.undisturbed.exchange.all_trades()
        for request in self.requests:
            told = self.both(lambda exchange, r=request: exchange.order_by_client_id(r.symbol, r.client_order_id))  # type: ignore[misc]
            own = [trade for trade in trades if trade.exchange_order_id == told.exchange_order_id]
            assert told.filled == sum((trade.amount for trade in own), ZERO) <= told.amount
            assert told.cost == sum((trade.amount * trade.price for trade in own), ZERO)
            assert (told.state is ExchangeOrderState.CLOSED) == (told.filled == told.amount)
            if told.type is OrderType.MARKET or request.time_in_force is TimeInForce.IOC:
                assert told.state is not ExchangeOrderState.OPEN
            if told.limit_price is not None:
                worse = max if told.side is Side.BUY else min
                assert all(worse(trade.price, told.limit_price) == told.limit_price for trade in own)


ExchangeMachine.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestExchangeMachine = ExchangeMachine.TestCase
