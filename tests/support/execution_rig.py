"""The execution agent over a ledger and a fake exchange, with time and messages driven by the test."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from support.execution import CAPABILITIES, FIVE_MINUTES, NOW, RULES, SETTINGS, SYMBOL, D
from support.fake_venue import FakeVenue
from support.queues import BOT_QUEUES
from tradingbot_agents.bus import EmbeddedBus, HandlerFailed
from tradingbot_agents.bus.topology import EXECUTION, RISK
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.clock.virtual import TimerFailed
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.ids import client_order_id
from tradingbot_agents.domain.messages import CandleClosed, OrderApproved
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.values import BotState, Leg, Mode, OrderType, Side, split_symbol
from tradingbot_agents.exchange.port import TradingVenue
from tradingbot_agents.execution.agent import ExecutionAgent
from tradingbot_agents.execution.settings import Settings
from tradingbot_agents.ledger.outbox import OutboxRelay
from tradingbot_agents.ledger.port import AccountKey, Decision, EntryProposal, Epoch, ExitRequest, Ledger, Role
from tradingbot_agents.telemetry.sink import MemorySink

BOT = "majors"
ACCOUNT = AccountKey(mode=Mode.PAPER, exchange="fake", endpoint="", name="main")
OPENING = {"USDT": D(1000)}


class Rig:
    """``ledger`` belongs to ``ACCOUNT`` and ``BOT``. Call ``open`` first."""

    def __init__(
        self, ledger: Ledger, *, settings: Settings = SETTINGS, symbols: tuple[str, ...] = (SYMBOL,)
    ) -> None:
        self.ledger: Ledger = ledger
        self.settings = settings
        self.symbols = symbols
        self.clock = VirtualClock(NOW)
        self.timers = VirtualTimers(self.clock)
        self.bus = EmbeddedBus(self.clock, BOT_QUEUES)
        self.sink = MemorySink()
        rules = {}
        for symbol in symbols:
            base, quote = split_symbol(symbol)
            rules[symbol] = msgspec.structs.replace(RULES, symbol=symbol, base=base, quote=quote)
        self.venue = FakeVenue(self.clock, rules, dict.fromkeys(symbols, D(100)), CAPABILITIES)
        self.venue.purse = dict(OPENING)
        self.state = BotState.RUNNING
        self.agent: ExecutionAgent | None = None
        self.risk: Epoch
        self._numbers = 0
        self._relay: OutboxRelay

    async def open(self) -> None:
        await self.ledger.open_account(OPENING, (), NOW, quote="USDT")
        self.risk = await self.ledger.raise_epoch(Role.RISK, NOW)
        self._relay = OutboxRelay(self.ledger, Role.RISK, self.bus)

    # --- the agent -------------------------------------------------------------------------------------

    async def start(self, ledger: Ledger | None = None, venue: TradingVenue | None = None) -> ExecutionAgent:
        """Build a new agent over the same books, as a supervisor does."""
        await self.end()
        agent = self.agent = ExecutionAgent(
            bot=BOT,
            account=str(ACCOUNT),
            symbols=self.symbols,
            settings=self.settings,
            clock=self.clock,
            timers=self.timers,
            bus=self.bus,
            sink=self.sink,
            ledger=self.ledger if ledger is None else ledger,
            venue=self.venue if venue is None else venue,
            state=lambda: self.state,
        )
        await agent.start()
        return agent

    async def end(self) -> None:
        await self.bus.detach(EXECUTION)
        self.timers.cancel_all(EXECUTION)
        if self.agent is not None:
            await self.agent.stop()
            self.agent = None

    async def lose_everything(self) -> None:
        """The process dies: agent, messages and timers are gone, ledger and exchange stay."""
        await self.end()
        self.timers = VirtualTimers(self.clock)
        self.bus = EmbeddedBus(self.clock, BOT_QUEUES)
        self._relay = OutboxRelay(self.ledger, Role.RISK, self.bus)
        await self._relay.flush()

    async def drain(self) -> None:
        """Deliver what waits. Raises what a handler raised."""
        try:
            while await self.bus.step():
                pass
        except HandlerFailed as failure:
            raise failure.__cause__ or failure from failure

    async def run(self, seconds: float) -> None:
        """Let virtual time pass, timers and messages in their order. Raises what a handler raised."""
        await self.run_until(self.clock.now() + timedelta(seconds=seconds))

    async def run_until(self, end: datetime, until: Callable[[], bool] = lambda: False) -> None:
        await self.drain()
        while not until():
            due = self.timers.next_due()
            retry = self.bus.next_retry()
            if retry is not None and (due is None or retry < due):
                due = retry
            if due is None or due > end:
                break
            self.clock.advance_to(due)
            try:
                await self.timers.fire_next()
            except TimerFailed as failure:
                raise failure.__cause__ or failure from failure
            await self.drain()
        else:
            return
        self.clock.advance_to(end)
        await self.drain()

    # --- what others do --------------------------------------------------------------------------------

    def entry_id(self, intent_id: str) -> str:
        return client_order_id(str(ACCOUNT), BOT, intent_id, Leg.ENTRY, 0)

    async def approve(self, amount: str = "1", *, announce: bool = True, must: bool = True, **changes: Any) -> str:
        """Risk approves an entry at up to 101 with a stop at 95 and a target at 110; its client order id.
        ``must``: the ledger is expected to agree."""
        self._numbers += 1
        symbol = changes.pop("symbol", SYMBOL)
        intent_id = f"intent-{self._numbers}"
        name = self.entry_id(intent_id)
        now = self.clock.now()
        limit = D(101)
        proposal = EntryProposal(
            intent_id=intent_id,
            client_order_id=name,
            symbol=symbol,
            confidence=D("0.8"),
            amount=D(amount),
            limit_price=limit,
            reserve_asset="USDT",
            reserve_amount=D(amount) * limit * D("1.001"),
            stop_price=D(95),
            target_price=D(110),
            indicators=("rsi",),
            correlation_id=f"candle-{self._numbers}",
            at=now,
            expires_at=now + timedelta(minutes=1),
            max_open_positions=None,
        )
        decision = await self.ledger.reserve(self.risk, msgspec.structs.replace(proposal, **changes))
        assert decision.reason is None or not must, decision
        if announce:
            await self.bus.publish(self._message(f"order.{intent_id}", symbol, Side.BUY, Leg.ENTRY, name))
            await self.drain()
        return name

    async def ask_exit(self, symbol: str = SYMBOL, *, announce: bool = True, reason: str = "consensus") -> Decision:
        """Risk approves a SELL of the strategy."""
        self._numbers += 1
        intent_id = f"intent-{self._numbers}"
        request = ExitRequest(
            cause=intent_id,
            symbol=symbol,
            leg=Leg.EXIT,
            reason=reason,
            confidence=D("0.8"),
            correlation_id=f"candle-{self._numbers}",
            at=self.clock.now(),
            message=self._message(f"order.{intent_id}", symbol, Side.SELL, Leg.EXIT, None),
        )
        decision = await self.ledger.request_exit(self.risk, request)
        if announce:
            await self._relay.flush()
            await self.drain()
        return decision

    async def candle(
        self,
        close: str,
        low: str | None = None,
        high: str | None = None,
        *,
        symbol: str = SYMBOL,
        backfill: bool = False,
    ) -> None:
        """A bar passes: the exchange sees its low, then its close; then the bar is told."""
        opened = self.clock.now()
        await self.run_until(opened + FIVE_MINUTES)
        for price in (low, close):
            if price is not None and not backfill:
                self.venue.move(symbol, D(price))
        bar = Candle(
            symbol, "5m", opened - (opened - NOW) % FIVE_MINUTES, D(close), D(high or close), D(low or close),
            D(close), D(1000),
        )  # fmt: skip
        await self.tell(bar, backfill)

    async def tell(self, bar: Candle, backfill: bool = False) -> None:
        await self.bus.publish(
            CandleClosed(
                id=bar.id,
                correlation_id=bar.id,
                causation_id=bar.id,
                bot=BOT,
                producer="test",
                at=self.clock.now(),
                candle=bar,
                backfill=backfill,
            )
        )
        await self.drain()

    def _message(self, name: str, symbol: str, side: Side, leg: Leg, order: str | None) -> OrderApproved:
        return OrderApproved(
            id=name,
            correlation_id=name,
            causation_id=name,
            bot=BOT,
            producer=RISK,
            at=self.clock.now(),
            symbol=symbol,
            side=side,
            leg=leg,
            client_order_id=order,
            order_type=OrderType.LIMIT,
        )

    # --- what is ---------------------------------------------------------------------------------------

    async def order(self, client_order_id: str) -> Order:
        order = await self.ledger.order(client_order_id)
        assert order is not None
        return order

    async def position(self, symbol: str = SYMBOL) -> Position:
        return (await self.ledger.positions()).get(symbol, Position(symbol=symbol))

    async def legs(self, leg: Leg) -> list[Order]:
        """The orders of a leg, oldest first."""
        return [order for order in reversed(await self.ledger.orders()) if order.leg is leg]

    def events(self) -> list[str]:
        return [event.name for event in self.sink.events]

    async def check_invariants(self) -> None:
        violations = [f"{rule.name}: {one}" for rule in await self.ledger.invariants() for one in rule.violations]
        assert violations == []

    async def check(self) -> None:
        """What must be true at any moment when nothing is under way."""
        await self.check_invariants()
        booked = {fill.exchange_trade_id: fill.amount for fill in await self.ledger.fills()}
        assert booked == {trade.exchange_trade_id: trade.amount for trade in self.venue.made}
        known = {order.client_order_id: order for order in await self.ledger.orders()}
        for shown in await self.venue.open_orders():
            assert shown.client_order_id in known
            assert known[shown.client_order_id].state.is_live
        for symbol in self.symbols:
            held = await self.position(symbol)
            assert held.amount == self.venue.base.get(symbol, Decimal(0))
