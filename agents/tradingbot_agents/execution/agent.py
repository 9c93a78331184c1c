"""The execution agent: woken by messages, candles and timers, it brings orders and positions to where they
should be.

Every wake does the same: look at what is due, name the next step of each position, take it. What was
interrupted is named again by the next wake, and every step is safe to repeat, because the ledger has it under
a deterministic id before it is taken. A symbol without a live order and without a position costs nothing.

Positions are followed by candles and, where ``watch_interval`` is set, by the exchange's ticker. At a start
everything unfinished is taken up before anything new: orders first, then positions, then approved entries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec
import structlog

from tradingbot_agents.bus import Bus, DependencyUnavailable
from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.clock import Clock, TimerHandle, Timers
from tradingbot_agents.domain.events import (
    Event,
    ExitFailing,
    FencedOff,
    PositionDust,
    PositionProtected,
    PositionUnprotected,
    SymbolHalted,
    SymbolTrades,
)
from tradingbot_agents.domain.messages import CandleClosed, OrderApproved
from tradingbot_agents.domain.orders import IllegalTransition, Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, BotState, Leg, OrderType
from tradingbot_agents.exchange.port import ExchangeError, NotListed, TradingVenue
from tradingbot_agents.execution.desk import Desk
from tradingbot_agents.execution.exits import (
    STOP_TYPES,
    Dust,
    Leave,
    Observation,
    Protect,
    Rest,
    Sell,
    Step,
    Terms,
    Withdraw,
    attempts_in_vain,
    closing_leg,
    entry_must_go,
    follow,
    next_step,
    observe_candle,
)
from tradingbot_agents.execution.fills import DatedPrice
from tradingbot_agents.execution.reconciler import Reconciler
from tradingbot_agents.execution.settings import Settings
from tradingbot_agents.execution.view import View
from tradingbot_agents.ledger.outbox import OutboxRelay
from tradingbot_agents.ledger.port import (
    ExitRequest,
    Fenced,
    HoldExceeded,
    Ledger,
    LedgerError,
    LedgerUnavailable,
    Role,
)
from tradingbot_agents.telemetry import Sink

RECENT_ORDERS = 500
"""How many of the newest orders a start reads to find those that were not found."""

RECENT_FILLS = 100
"""How many of the newest fills are read to find a position's last: it was booked a moment ago."""


class ExecutionAgent:
    name = EXECUTION

    def __init__(
        self,
        *,
        bot: str,
        account: str,
        symbols: Sequence[str],
        settings: Settings,
        clock: Clock,
        timers: Timers,
        bus: Bus,
        sink: Sink,
        ledger: Ledger,
        venue: TradingVenue,
        state: Callable[[], BotState],
    ) -> None:
        """``account`` is the account key's text, which client order ids are made from. ``state`` is the
        stricter of what the spec and the ledger's hold say now."""
        self._symbols = tuple(symbols)
        self._settings = settings
        self._clock = clock
        self._timers = timers
        self._bus = bus
        self._sink = sink
        self._ledger = ledger
        self._venue = venue
        self._state = state
        self._view = View()
        self._desk = Desk(
            bot=bot,
            account=account,
            settings=settings,
            clock=clock,
            sink=sink,
            ledger=ledger,
            venue=venue,
            view=self._view,
            state=state,
        )
        self._reconciler = (
            None
            if settings.reconcile_interval is None
            else Reconciler(
                bot=bot, settings=settings, clock=clock, sink=sink, ledger=ledger, venue=venue, desk=self._desk
            )
        )
        self._reconcile_at: datetime | None = None
        self._relay = OutboxRelay(ledger, Role.EXECUTION, bus)
        self._rules: dict[str, SymbolRules] = {}
        self._rules_read_at = clock.now()
        self._correlations: dict[str, str] = {}
        """Correlation id by round trip."""
        self._history_highs: dict[str, tuple[str, Decimal]] = {}
        """Round trip and highest price of its back-filled bars, by symbol, until the next look counts it."""
        self._gaps: dict[str, datetime] = {}
        """Since when a position that should have a stop on the exchange has none, where that was said."""
        self._rests: dict[str, datetime] = {}
        """When a position is to be looked at again, by symbol."""
        self._wake: tuple[datetime, TimerHandle] | None = None
        self._retry_at: datetime | None = None
        self._stale = False
        """The outcome of a ledger call is open: read the view anew before anything else."""
        self._lock = asyncio.Lock()

    # --- start and stop --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Fence off an older process, take up all that is unfinished, then listen. Raises what keeps it from
        starting (``LedgerUnavailable``, ``ExchangeError``): the supervisor starts a new one."""
        async with self._lock:
            try:
                await self._recover()
            except Fenced as error:
                self._say_fenced(error)
                raise
            finally:
                self._plan_wake()
        await self._bus.consume("execution.orders", self._on_order)
        await self._bus.consume("execution.candles", self._on_candle)
        settings = self._settings
        for interval, work in (
            (settings.watch_interval, self._watch),
            (settings.sweep_interval, self._sweep),
            (settings.inspect_interval, self._search),
            (settings.rules_interval, self._read_rules),
        ):
            if interval is not None:
                self._timers.every(self.name, interval, self._on_timer(work))

    async def stop(self) -> None:
        """Nothing is held: stops stay on the exchange, and the ledger knows what is unfinished."""
        if self._wake is not None:
            self._wake[1].cancel()
            self._wake = None

    async def _recover(self) -> None:
        self._desk.epoch = await self._ledger.raise_epoch(Role.EXECUTION, self._clock.now())
        await self._refresh()
        self._rules_read_at = self._clock.now()
        await self._take_rules(await self._asked_rules(sorted({*self._symbols, *self._view.active_symbols()})))
        recent = await self._ledger.orders(RECENT_ORDERS)
        self._desk.keep_watching([order for order in recent if order.state is OrderState.NOT_FOUND])
        for order in self._view.live_orders():
            await self._desk.pursue(order)
        await self._inspect()
        for symbol in self._view.active_symbols():
            await self._look_after(symbol, None)
        if self._reconciler is not None:
            await self._reconcile(self._reconciler)
        await self._send_entries()
        await self._relay.flush()

    @property
    def reconciled(self) -> bool:
        """Whether the account was compared with the exchange since the start, or need not be: entries are sent."""
        return self._reconciler is None or self._reconciler.done

    async def _refresh(self) -> None:
        self._view.replace(await self._ledger.positions(), await self._ledger.live_orders())
        self._desk.start_over()
        self._stale = False

    # --- wakes -----------------------------------------------------------------------------------------

    async def _on_order(self, message: OrderApproved) -> None:
        await self._handle(self._take_entry if message.leg is Leg.ENTRY else self._take_exits)

    async def _on_candle(self, message: CandleClosed) -> None:
        candle = message.candle
        symbol = candle.symbol
        prices = self._desk.prices
        prices[symbol] = DatedPrice(candle.close, candle.close_time)
        if not self._view.is_active(symbol) and not self._stale:
            return
        position = self._view.position(symbol)
        seen = observe_candle(candle, position.opened_at if position is not None else None)
        if message.backfill:
            if seen is not None:
                self._remember_high(symbol, seen)
            return

        async def look() -> None:
            await self._look(symbol, seen, looking=True)

        await self._handle(look)

    def _on_timer(self, work: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
        async def handler() -> None:
            try:
                await self._handle(work)
            except DependencyUnavailable as error:
                delay = self._settings.ledger_retry
                self._retry_at = self._clock.now() + delay
                self._plan_wake()
                structlog.get_logger().warning(
                    "ledger_unavailable", agent=self.name, error=str(error), retry_seconds=delay.total_seconds()
                )

        return handler

    async def _handle(self, work: Callable[[], Awaitable[None]]) -> None:
        """Run one wake's work alone. Raises ``DependencyUnavailable`` while the ledger can not be reached, and
        ``Fenced``, loudly, when a newer process has taken over."""
        async with self._lock:
            try:
                if self._stale:
                    await self._refresh()
                try:
                    await work()
                except (IllegalTransition, HoldExceeded) as error:
                    # Bookings carry no epoch: an older process that is not gone yet may have told the books what this
                    # view does not know. What is wrong by the books as well is raised by the second try.
                    structlog.get_logger().warning("view_outdated", agent=self.name, error=str(error))
                    await self._refresh()
                    await work()
                if self._desk.unpublished:
                    await self._flush()
            except Fenced as error:
                self._say_fenced(error)
                raise
            except LedgerUnavailable as error:
                self._stale = True
                self._desk.unpublished = True
                raise DependencyUnavailable(str(error)) from error
            finally:
                self._plan_wake()

    def _say_fenced(self, error: Fenced) -> None:
        self._sink.emit(
            FencedOff(at=self._clock.now(), agent=self.name, role=error.epoch.role.value, epoch=error.epoch.number)
        )

    def _plan_wake(self) -> None:
        due = self._retry_at  # While the ledger is away, nothing that is due can be done.
        if due is None:
            planned = (self._desk.next_due(), self._reconcile_at, *self._rests.values())
            due = min((due for due in planned if due is not None), default=None)
        if self._wake is not None:
            if self._wake[0] == due:
                return
            self._wake[1].cancel()
            self._wake = None
        if due is not None:
            self._wake = (due, self._timers.at(self.name, due, self._wake_up))

    async def _wake_up(self) -> None:
        # First of all: a wake whose work can not even be begun has fired as well, and must be planned anew.
        self._wake = None
        await self._on_timer(self._on_wake)()

    async def _on_wake(self) -> None:
        if self._retry_at is not None and self._retry_at <= self._clock.now():
            self._retry_at = None
            await self._sweep()
            return
        due = self._reconcile_at
        if self._reconciler is not None and due is not None and due <= self._clock.now():
            # An order that appears after all explains what would come from outside else.
            await self._inspect()
            await self._reconcile(self._reconciler)
            await self._send_entries()
        # Also of what is not active any more: a view that was read anew may lack what a look was planned for, and
        # nobody else would take the plan away.
        for symbol in sorted({*self._view.active_symbols(), *self._rests}):
            await self._look(symbol, None, looking=False)

    async def _take_entry(self) -> None:
        await self._send_entries()

    async def _take_exits(self) -> None:
        self._view.replace_positions(await self._ledger.positions())
        for symbol in self._view.active_symbols():
            await self._look(symbol, None, looking=False)

    async def _watch(self) -> None:
        for symbol in self._view.active_symbols():
            position = self._view.position(symbol)
            seen = None
            if position is not None and position.is_held:
                try:
                    ticker = await self._venue.ticker(symbol)
                except ExchangeError as error:
                    structlog.get_logger().warning("ticker_failed", agent=self.name, symbol=symbol, error=str(error))
                else:
                    self._desk.prices[symbol] = DatedPrice(ticker.last, ticker.at)
                    if position.opened_at is None or ticker.at >= position.opened_at:
                        seen = Observation(ticker.last, ticker.last, ticker.last)
            await self._look(symbol, seen, looking=True)

    async def _sweep(self) -> None:
        # One that has nothing to write would never learn that a newer process has taken over.
        await self._ledger.check_epoch(self._desk.epoch)
        await self._refresh()
        for symbol in self._view.active_symbols():
            await self._look(symbol, None, looking=False)
        await self._send_entries()
        await self._flush()

    async def _search(self) -> None:
        await self._inspect()
        for symbol in self._view.active_symbols():
            await self._look(symbol, None, looking=False)

    async def _inspect(self) -> None:
        try:
            await self._desk.inspect()
        except ExchangeError as error:
            structlog.get_logger().warning("inspection_failed", agent=self.name, error=str(error))

    async def _reconcile(self, reconciler: Reconciler) -> None:
        """Compare the account with the exchange, and look after what was found."""
        # Should this one break off, there is a next.
        self._reconcile_at = self._clock.now() + self._settings.look_up.margin
        self._reconcile_at = await reconciler.run()
        for symbol in self._view.active_symbols():
            await self._look_after(symbol, None)

    async def _read_rules(self) -> None:
        self._rules_read_at = self._clock.now()
        try:
            rules = await self._asked_rules(sorted(self._rules))
        except ExchangeError as error:
            structlog.get_logger().warning("market_rules_failed", agent=self.name, error=str(error))
        else:
            await self._take_rules(rules)

    async def _renew_rules(self) -> None:
        """More often than else, while something that is held does not trade."""
        if self._clock.now() >= self._rules_read_at + self._settings.exit_retry_longest:
            await self._read_rules()

    async def _asked_rules(self, symbols: Sequence[str]) -> dict[str, SymbolRules]:
        """Of what is not listed any more, the rules as they were known last, for symbols that do not trade. Raises
        ``ExchangeError``, also for a symbol that was never known."""
        try:
            return dict(await self._venue.market_rules(symbols))
        except NotListed as error:
            known = await self._ledger.market_rules()
            if any(symbol not in known for symbol in error.symbols):
                raise
            gone = {symbol: msgspec.structs.replace(known[symbol].rules, active=False) for symbol in error.symbols}
            listed = [symbol for symbol in symbols if symbol not in gone]
            return {**await self._venue.market_rules(listed), **gone}

    async def _take_rules(self, rules: Mapping[str, SymbolRules]) -> None:
        now = self._clock.now()
        for symbol, told in sorted(rules.items()):
            before = self._rules.get(symbol)
            if told.active is (before is None or before.active):
                continue
            news: Event = SymbolTrades(at=now, agent=self.name, symbol=symbol)
            if not told.active:
                why = "the exchange says that it is halted, or lists it no more"
                news = SymbolHalted(at=now, agent=self.name, symbol=symbol, why=why)
            self._sink.emit(news)
        self._rules.update(rules)
        await self._ledger.keep_market_rules(rules, now)

    # --- orders and positions --------------------------------------------------------------------------

    async def _send_entries(self) -> None:
        if not self.reconciled:
            return
        for order in await self._ledger.orders_to_send():
            await self._desk.send_entry(order)
            await self._look_after(order.symbol, None)
            if self._desk.unpublished:
                await self._flush()

    async def _look(self, symbol: str, seen: Observation | None, looking: bool) -> None:
        """Look at the symbol's live orders that are due (``looking``: at all of them), then at its position."""
        for order in self._view.live(symbol):
            if self._desk.is_due(order, looking):
                await self._desk.pursue(order)
            current = self._view.order(order)
            if current is not None and current.leg is Leg.ENTRY and current.state is OrderState.OPEN:
                position = self._view.position(symbol)
                if entry_must_go(current, position, self._state(), self._clock.now(), self._settings):
                    await self._desk.cancel(current)
        await self._look_after(symbol, seen)
        if self._desk.unpublished:
            await self._flush()

    async def _look_after(self, symbol: str, seen: Observation | None) -> None:
        """Take the position's steps until there is nothing to do now."""
        self._rests.pop(symbol, None)
        if seen is not None:
            seen = self._with_history(symbol, seen)
        while True:
            position = self._view.position(symbol)
            if position is None or not position.is_held:
                self._gaps.pop(symbol, None)
                await self._end_exits(symbol)
                return
            if not self._rules[symbol].active:
                await self._renew_rules()
            terms = Terms(rules=self._rules[symbol], capabilities=self._venue.capabilities, settings=self._settings)
            trailing = self._settings.trailing
            if seen is not None and trailing is not None and position.state is PositionState.OPEN:
                seen, trail = follow(position, seen, trailing, terms.rules)
                if trail is not None:
                    await self._ledger.watch(self._desk.epoch, symbol, trail.high_water, trail.stop_price)
                    position = msgspec.structs.replace(
                        position, high_water=trail.high_water, stop_price=trail.stop_price
                    )
                    self._view.take_position(position)
            live = self._view.live(symbol)
            stops: list[Order] = []
            sales: list[Order] = []
            price = None
            if not any(order.leg.is_exit for order in live):
                stops, sales = await self._history(position)
                price = await self._known_price(symbol)
            step = next_step(
                position,
                live=live,
                stops=stops,
                sales=sales,
                seen=seen,
                price=price,
                terms=terms,
                state=self._state(),
                now=self._clock.now(),
            )
            if isinstance(step, Rest):
                self._note_protection(position, live, step)
                return
            await self._take(step, position, live)

    async def _end_exits(self, symbol: str) -> None:
        """A late fill may have sold a position under its stop: nothing is left that the stop may sell."""
        for order in self._view.live(symbol):
            if order.leg.is_exit and order.state is OrderState.OPEN and self._state().allows_exits:
                await self._desk.cancel(order)

    async def _take(self, step: Step, position: Position, live: Sequence[Order]) -> None:
        symbol = position.symbol
        match step:
            case Protect():
                await self._send_leg(position, Leg.STOP, step.type, step)
            case Withdraw():
                if position.state is PositionState.OPEN and len(live) == 1:
                    self._note_gap(position, step.why)
                await self._desk.cancel(step.order)
            case Leave():
                await self._request_exit(position, step)
            case Sell():
                await self._send_leg(position, step.leg, OrderType.MARKET, step)
            case Dust():
                ended_at = await self._last_traded(symbol)
                trade = await self._ledger.mark_dust(self._desk.epoch, symbol, step.leg, ended_at)
                self._desk.unpublished = True
                self._view.replace_positions(await self._ledger.positions())
                correlation_id = await self._correlation(position)
                self._sink.emit(
                    PositionDust(
                        at=self._clock.now(),
                        agent=self.name,
                        correlation_id=correlation_id,
                        symbol=symbol,
                        amount=position.amount,
                    )
                )
                if trade is not None:
                    self._desk.announce_closed(trade, correlation_id)

    async def _send_leg(self, position: Position, leg: Leg, order_type: OrderType, step: Protect | Sell) -> None:
        await self._desk.send_leg(
            trade=_trade(position),
            correlation_id=await self._correlation(position),
            symbol=position.symbol,
            leg=leg,
            order_type=order_type,
            amount=step.amount,
            stop_price=step.stop_price if isinstance(step, Protect) else None,
            limit_price=step.limit_price if isinstance(step, Protect) else None,
        )
        held = self._view.position(position.symbol)
        if held is None or not held.is_held:
            return
        attempts = [
            order
            for order in await self._desk.legs(_trade(position), leg)
            if (order.type in STOP_TYPES) is isinstance(step, Protect)
        ]
        vain = attempts_in_vain(attempts)
        if not attempts[-1].state.is_live and vain and vain % self._settings.max_exit_attempts == 0:
            self._sink.emit(
                ExitFailing(
                    at=self._clock.now(),
                    agent=self.name,
                    correlation_id=attempts[-1].correlation_id,
                    symbol=position.symbol,
                    leg=leg,
                    attempts=vain,
                    why=attempts[-1].reason or attempts[-1].state.value,
                )
            )

    async def _request_exit(self, position: Position, step: Leave) -> None:
        """The leg goes into the books, so that a restart knows what the exit is (``closing_leg``)."""
        await self._ledger.request_exit(
            self._desk.epoch,
            ExitRequest(
                cause=_trade(position),
                symbol=position.symbol,
                leg=step.leg,
                reason=step.why,
                confidence=ONE,
                correlation_id=await self._correlation(position),
                at=self._clock.now(),
                message=None,
            ),
        )
        self._desk.unpublished = True
        self._view.replace_positions(await self._ledger.positions())
        now = self._view.position(position.symbol)
        if now is not None and now.state is PositionState.OPEN:
            raise LedgerError(
                f"the exit of {position.symbol} was recorded ({step.why}), but its position is open still"
            )

    async def _history(self, position: Position) -> tuple[list[Order], list[Order]]:
        """The round trip's stop orders, and the market sales of its exit."""
        trade = _trade(position)
        if position.state is PositionState.OPEN:
            return await self._desk.legs(trade, Leg.STOP), []
        leg = closing_leg(position)
        return [], [order for order in await self._desk.legs(trade, leg) if order.type not in STOP_TYPES]

    async def _last_traded(self, symbol: str) -> datetime:
        """When the exchange last traded for us: when a round trip that leaves dust ended, whenever it is noticed."""
        for fill in await self._ledger.fills(RECENT_FILLS):
            if fill.symbol == symbol:
                return fill.at
        return self._clock.now()

    async def _known_price(self, symbol: str) -> Decimal | None:
        """The last price seen, or the exchange's where none was seen yet, as after a start."""
        known = self._desk.prices.get(symbol)
        if known is None:
            try:
                ticker = await self._venue.ticker(symbol)
            except ExchangeError:
                return None
            known = self._desk.prices[symbol] = DatedPrice(ticker.last, ticker.at)
        return known.price

    async def _correlation(self, position: Position) -> str:
        """The chain of the entry that opened the position; an adopted one begins its own."""
        trade = _trade(position)
        known = self._correlations.get(trade)
        if known is None:
            entry = None if position.entry_order is None else await self._ledger.order(position.entry_order)
            known = self._correlations[trade] = trade if entry is None else entry.correlation_id
        return known

    async def _flush(self) -> None:
        await self._relay.flush()
        self._desk.unpublished = False

    # --- protection ------------------------------------------------------------------------------------

    def _remember_high(self, symbol: str, seen: Observation) -> None:
        position = self._view.position(symbol)
        if self._settings.trailing is None or position is None:
            return
        trade, high = self._history_highs.get(symbol, ("", seen.high))
        if trade != _trade(position):
            high = seen.high
        self._history_highs[symbol] = (_trade(position), max(high, seen.high))

    def _with_history(self, symbol: str, seen: Observation) -> Observation:
        """Count the highest price of back-filled bars with the first fresh look."""
        remembered = self._history_highs.pop(symbol, None)
        position = self._view.position(symbol)
        if remembered is None or position is None or remembered[0] != _trade(position) or remembered[1] <= seen.high:
            return seen
        return Observation(seen.last, seen.low, remembered[1])

    def _note_protection(self, position: Position, live: Sequence[Order], step: Rest) -> None:
        if step.until is not None:
            self._rests[position.symbol] = step.until
        stop = next((order for order in live if order.type in STOP_TYPES and order.state is OrderState.OPEN), None)
        if stop is None:
            if step.why:
                self._note_gap(position, step.why)
            return
        began = self._gaps.pop(position.symbol, None)
        if began is not None and stop.stop_price is not None:
            now = self._clock.now()
            self._sink.emit(
                PositionProtected(
                    at=now,
                    agent=self.name,
                    correlation_id=stop.correlation_id,
                    symbol=position.symbol,
                    stop_price=stop.stop_price,
                    unprotected_seconds=(now - began).total_seconds(),
                )
            )

    def _note_gap(self, position: Position, why: str) -> None:
        """Said once for each gap: a stop that is placed at once after its entry leaves none to speak of."""
        if position.symbol in self._gaps:
            return
        now = self._gaps[position.symbol] = self._clock.now()
        self._sink.emit(
            PositionUnprotected(
                at=now,
                agent=self.name,
                correlation_id=self._correlations.get(_trade(position)),
                symbol=position.symbol,
                why=why,
            )
        )


def _trade(position: Position) -> str:
    """What names the orders of the position's exits."""
    return position.trade_id or position.symbol
