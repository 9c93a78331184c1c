"""Talks to the exchange and the ledger about one order at a time: sends it, looks it up, cancels it, books it.

What is about to be done is written down before it is done, and what was done is booked after. Between the two
a crash, a timeout or a lost ledger leaves the order ``submitting``, ``cancelling`` or ``unresolved``; it is
then looked up by its client order id, and nothing is ever sent again blindly.

An order that was claimed and never answered for (``submitting`` in the books of a new process) is the hard
case. Where look-ups may be late it becomes ``unresolved`` and waits for the whole schedule. Where the
exchange's look-up is authoritative at once (``immediate_not_found``), an order that the exchange does not know
was never sent: the new process's epoch has fenced off the old one, so it sends the order itself, under the same
id and within its expiry. A run that was killed there so ends with the trades of one that was not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.clock import Clock
from tradingbot_agents.domain.events import (
    FillBooked,
    LateFillBooked,
    OrderReappeared,
    OrderRejected,
    OrderResolved,
    OrderUnknown,
    OrderUnresolved,
    OutsideMovementDoubtful,
    OutsideMovementReversed,
    Overdrawn,
    TradeClosed,
)
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.ids import ORDER_ID_PREFIX, client_order_id
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import ZERO, BotState, Leg, OrderType, TimeInForce
from tradingbot_agents.exchange import port as exchange
from tradingbot_agents.execution.exits import STOP_TYPES
from tradingbot_agents.execution.fills import DatedPrice, is_fresh, pricing_symbol, to_fill
from tradingbot_agents.execution.resolve import (
    LookUps,
    Resolution,
    distinct,
    has_news,
    resolve_found,
    resolve_missing,
    send_problem,
)
from tradingbot_agents.execution.settings import Settings
from tradingbot_agents.execution.view import View
from tradingbot_agents.ledger.port import Booking, Epoch, Ledger, LegProposal, Trade
from tradingbot_agents.telemetry import Sink

_TO_ACKNOWLEDGE = (OrderState.SUBMITTING, OrderState.UNRESOLVED, OrderState.NOT_FOUND)


class Desk:
    """Orders of one bot. ``epoch`` must be set before anything is written."""

    epoch: Epoch

    def __init__(
        self,
        *,
        bot: str,
        account: str,
        settings: Settings,
        clock: Clock,
        sink: Sink,
        ledger: Ledger,
        venue: exchange.TradingVenue,
        view: View,
        state: Callable[[], BotState],
    ) -> None:
        self._bot = bot
        self._account = account
        self._settings = settings
        self._clock = clock
        self._sink = sink
        self._ledger = ledger
        self._venue = venue
        self._view = view
        self._state = state
        self._due: dict[str, datetime] = {}
        """Live orders that are looked at by themselves, and not before."""
        self._cancel_again: dict[str, datetime] = {}
        self._unsent: set[str] = set()
        """Submitting orders that the exchange said it did not process: they may be sent again."""
        self._look_ups: dict[str, LookUps] = {}
        self._missing: dict[str, Order] = {}
        """Orders that were not found, still looked for in case they appear after all."""
        self._reported: set[str] = set()
        self._legs: dict[tuple[str, Leg], dict[str, Order]] = {}
        """All orders of a round trip's leg by attempt, as far as they were asked for."""
        self.prices: dict[str, DatedPrice] = {}
        """The last price seen of each symbol."""
        self.unpublished = False
        """The outbox may have rows since the last flush."""

    # --- what is due -----------------------------------------------------------------------------------

    def is_due(self, order: Order, looking: bool) -> bool:
        """Whether to look at the order now; ``looking``: a candle or the watch looks at everything."""
        due = self._due.get(order.client_order_id)
        return looking if due is None else due <= self._clock.now()

    def next_due(self) -> datetime | None:
        return min(self._due.values(), default=None)

    def start_over(self) -> None:
        """The view was read anew: forget what was read before, and orders that have ended meanwhile."""
        self._legs.clear()
        live = {order.client_order_id for order in self._view.live_orders()}
        for known in (self._due, self._cancel_again, self._look_ups):
            for ended in known.keys() - live:
                del known[ended]
        self._unsent &= live

    def keep_watching(self, missing: list[Order]) -> None:
        """Orders that an earlier process did not find."""
        self._missing.update({order.client_order_id: order for order in missing})

    # --- sending ---------------------------------------------------------------------------------------

    async def send_entry(self, order: Order) -> None:
        """Claim an approved entry and send it, unless the bot's state or its age forbids it."""
        now = self._clock.now()
        if not self._state().allows_entries:
            await self._deny(order, f"not_tradable_state: the bot is {self._state().value}")
            return
        claimed = await self._ledger.claim(self.epoch, order.client_order_id, now)
        if claimed is None:
            current = await self._ledger.order(order.client_order_id)
            if current is not None and current.state is OrderState.DENIED:
                self._refused(current, current.reason or "stale_intent")
            elif current is not None and current.state.is_live and self._view.order(current) is None:
                # The ledger repeats a call whose answer was lost: the claim may have been our own.
                self._take(current)
                await self._look_up(current)
            return
        self._take(claimed)
        await self._send(claimed)

    async def send_leg(
        self,
        *,
        trade: str,
        correlation_id: str,
        symbol: str,
        leg: Leg,
        order_type: OrderType,
        amount: Decimal,
        stop_price: Decimal | None,
        limit_price: Decimal | None,
    ) -> None:
        """Write down the next attempt of an exit leg, and send it."""
        attempt = len(await self.legs(trade, leg))
        proposal = LegProposal(
            client_order_id=client_order_id(self._account, self._bot, trade, leg, attempt),
            symbol=symbol,
            leg=leg,
            type=order_type,
            time_in_force=TimeInForce.GTC if order_type in STOP_TYPES else TimeInForce.IOC,
            amount=amount,
            limit_price=limit_price,
            stop_price=stop_price,
            cause=trade,
            attempt=attempt,
            correlation_id=correlation_id,
            at=self._clock.now(),
        )
        order = await self._ledger.submit_leg(self.epoch, proposal)
        self._take(order)
        if order.state is OrderState.SUBMITTING:
            await self._send(order)

    async def legs(self, trade: str, leg: Leg) -> list[Order]:
        """All orders of a round trip's leg, by attempt. Read from the ledger once, and kept up to date."""
        known = self._legs.get((trade, leg))
        if known is None:
            known = {}
            while True:
                wanted = client_order_id(self._account, self._bot, trade, leg, len(known))
                order = await self._ledger.order(wanted)
                if order is None:
                    break
                known[wanted] = order
            self._legs[trade, leg] = known
        return list(known.values())

    async def _send(self, order: Order, taken_up: bool = False) -> None:
        state = self._state()
        if not (state.allows_entries if order.leg is Leg.ENTRY else state.allows_exits):
            await self._deny(order, f"not_tradable_state: the bot is {state.value}")
            return
        await self._ledger.check_epoch(self.epoch)
        limits = self._settings.look_up
        problem = send_problem(order, self._clock.now(), limits, taken_up)
        if problem is not None:
            await self._deny(order, problem)
            return
        # From here on it may be under way: only the exchange's own "not processed" puts it back.
        self._unsent.discard(order.client_order_id)
        self._due.pop(order.client_order_id, None)
        try:
            found = await self._venue.create_order(_request(order))
        except exchange.RateLimited as error:
            later = self._clock.now() + error.retry_after
            if send_problem(order, later, limits, taken_up=False) is not None:
                await self._deny(order, f"rate_limited: {error}")
                return
            self._unsent.add(order.client_order_id)
            self._due[order.client_order_id] = later
        except exchange.OrderRejected as error:
            if error.code == "duplicate_client_order_id":
                await self._lose(order, str(error))
            else:
                await self._book(order, Resolution(final=OrderState.REJECTED), str(error))
                self._refused(order, str(error))
        except exchange.ExchangeError as error:
            await self._lose(order, str(error) or type(error).__name__)
        else:
            await self._absorb(order, found)

    # --- looking up ------------------------------------------------------------------------------------

    async def pursue(self, order: Order) -> None:
        """Bring a live order one step further: send what was never sent, ask for what is open, cancel again."""
        if order.client_order_id in self._unsent:
            await self._send(order)
            return
        if not await self._look_up(order):
            return
        current = self._view.order(order)
        if current is None or current.state is not OrderState.CANCELLING or not self._state().allows_exits:
            return
        again = self._cancel_again.get(order.client_order_id)
        if again is None or again <= self._clock.now():
            await self.cancel(current)
        else:
            self._due[order.client_order_id] = again

    async def _look_up(self, order: Order) -> bool:
        """``False``: the exchange did not answer."""
        try:
            found = await self._venue.order_by_client_id(order.symbol, order.client_order_id)
        except exchange.ExchangeError as error:
            self._ask_again(order, error)
            return False
        if found is None:
            await self._resolve_missing(order)
        else:
            await self._absorb(order, found)
        return True

    async def _absorb(self, order: Order, found: exchange.ExchangeOrder) -> None:
        """Bring the books to what the exchange tells of an order."""
        was = order.state
        if was in _TO_ACKNOWLEDGE:
            order = await self._ledger.acknowledge(self.epoch, order.client_order_id, found.exchange_order_id)
            self._take(order)
            if was is OrderState.NOT_FOUND:
                self._missing.pop(order.client_order_id, None)
                self._sink.emit(
                    OrderReappeared(
                        at=self._clock.now(),
                        agent=EXECUTION,
                        correlation_id=order.correlation_id,
                        client_order_id=order.client_order_id,
                        symbol=order.symbol,
                    )
                )
        self._look_ups.pop(order.client_order_id, None)
        trades: list[exchange.ExchangeTrade] = []
        if has_news(order, found):
            try:
                trades = await self._venue.trades_of_order(order.symbol, found.exchange_order_id)
            except exchange.ExchangeError as error:
                self._ask_again(order, error)
                return
        resolution = resolve_found(order, found, trades, self._clock.now(), self._settings.look_up)
        if resolution.trades or resolution.final is not None:
            reason = None if resolution.final in (None, OrderState.FILLED) else f"the exchange: {found.state.value}"
            order = await self._book(order, resolution, reason)
        if was is OrderState.UNRESOLVED:
            self._resolved(order)
        if order.state.is_live:
            self._look_later(order, resolution.look_again)

    async def _resolve_missing(self, order: Order) -> None:
        limits = self._settings.look_up
        if order.state is OrderState.SUBMITTING:
            if limits.immediate_not_found:
                await self._send(order, taken_up=True)
                return
            order = await self._lose(order, "it was claimed, and whether it was sent is not known")
        history = self._look_ups.get(order.client_order_id, LookUps())
        resolution, history = resolve_missing(order, history, self._clock.now(), limits)
        self._look_ups[order.client_order_id] = history
        if resolution.not_found:
            order = await self._ledger.not_found(self.epoch, order.client_order_id, self._clock.now())
            self.unpublished = True
            self._take(order)
            self._missing[order.client_order_id] = order
            self._resolved(order)
            return
        if resolution.lost:
            order = await self._lose(order, "the exchange does not show it any more")
        self._look_later(order, resolution.look_again)

    async def _lose(self, order: Order, why: str) -> Order:
        now = self._clock.now()
        order = await self._ledger.lose_contact(self.epoch, order.client_order_id, why, now)
        self._take(order)
        limits = self._settings.look_up
        self._look_later(order, now if limits.immediate_not_found else now + limits.spacing)
        self._sink.emit(
            OrderUnresolved(
                at=now,
                agent=EXECUTION,
                correlation_id=order.correlation_id,
                client_order_id=order.client_order_id,
                symbol=order.symbol,
                why=why,
            )
        )
        return order

    def _look_later(self, order: Order, at: datetime | None) -> None:
        if at is None and order.type not in STOP_TYPES:
            # Nothing but a stop is meant to rest: its end is near, and nobody else announces it.
            at = self._clock.now() + self._settings.look_up.spacing
        if at is None:
            self._due.pop(order.client_order_id, None)
        else:
            self._due[order.client_order_id] = at

    def _ask_again(self, order: Order, error: exchange.ExchangeError) -> None:
        """A question that was not answered changes nothing: the order stays as it is until the next."""
        delay = error.retry_after if isinstance(error, exchange.RateLimited) else self._settings.look_up.spacing
        self._due[order.client_order_id] = self._clock.now() + delay

    # --- cancelling ------------------------------------------------------------------------------------

    async def cancel(self, order: Order) -> None:
        """Ask for the order's end and book what it was. Without an answer the order stays ``cancelling``, and
        is looked up before it is asked for again: a cancel may be repeated, but the order may have filled."""
        now = self._clock.now()
        if order.state is OrderState.OPEN:
            order = await self._ledger.request_cancel(self.epoch, order.client_order_id, now)
            self._take(order)
        else:
            await self._ledger.check_epoch(self.epoch)
        delay = self._settings.cancel_retry
        self._plan_cancel(order, now + delay)
        try:
            found = await self._venue.cancel_order(order.symbol, order.client_order_id)
        except exchange.CancelRefused:
            await self._look_up(order)
        except exchange.RateLimited as error:
            self._plan_cancel(order, now + error.retry_after)
            return
        except exchange.ExchangeError:
            return
        else:
            await self._absorb(order, found)
        if self._view.order(order) is not None:
            self._plan_cancel(order, now + delay)

    def _plan_cancel(self, order: Order, again: datetime) -> None:
        self._cancel_again[order.client_order_id] = again
        self._due[order.client_order_id] = again

    # --- what should not be there ----------------------------------------------------------------------

    async def inspect(self) -> None:
        """Look for orders that were not found and appear after all, and for ones that nobody wrote down."""
        now = self._clock.now()
        for order in list(self._missing.values()):
            if now - (order.finished_at or order.created_at) > self._settings.reappear_window:
                del self._missing[order.client_order_id]
                continue
            found = await self._venue.order_by_client_id(order.symbol, order.client_order_id)
            if found is not None:
                await self._absorb(order, found)
        for shown in await self._venue.open_orders():
            name = shown.client_order_id
            if name is None or not name.startswith(ORDER_ID_PREFIX) or name in self._reported:
                continue
            if any(order.client_order_id == name for order in self._view.live(shown.symbol)):
                continue
            await self._inspect(name, shown)

    async def _inspect(self, name: str, shown: exchange.ExchangeOrder) -> None:
        order = await self._ledger.order(name)
        if order is None:
            self._report_unknown(name, shown, "the books have no order of this id")
        elif order.bot != self._bot or order.state.is_live:
            return
        elif order.state is OrderState.NOT_FOUND:
            await self._absorb(order, shown)
        else:
            # The list of open orders lags: what was cancelled a moment ago may still be on it.
            found = await self._venue.order_by_client_id(shown.symbol, name)
            if found is not None and found.state is exchange.ExchangeOrderState.OPEN:
                self._report_unknown(name, shown, f"in the books it is {order.state.value}")

    def _report_unknown(self, name: str, shown: exchange.ExchangeOrder, why: str) -> None:
        self._reported.add(name)
        self._sink.emit(
            OrderUnknown(
                at=self._clock.now(),
                agent=EXECUTION,
                client_order_id=name,
                symbol=shown.symbol,
                why=f"{why}: it is left alone, look at it on the exchange",
            )
        )

    # --- booking ---------------------------------------------------------------------------------------

    async def book_found(self, order: Order, trades: Sequence[exchange.ExchangeTrade]) -> None:
        """Book trades that the look-ups of their order have not brought; it may be any bot's of the account, and may
        have ended in the books. Such trades say of a live order no more than that it filled."""
        late = order.state.is_final
        once = distinct(trades)
        filled = order.filled + sum((trade.amount for trade in once), ZERO)
        final = OrderState.FILLED if not late and filled >= order.amount else None
        booking = await self._settle(order, Resolution(trades=once, final=final), None)
        if late and booking.new_fills:
            self._sink.emit(
                LateFillBooked(
                    at=self._clock.now(),
                    agent=EXECUTION,
                    correlation_id=order.correlation_id,
                    client_order_id=order.client_order_id,
                    symbol=order.symbol,
                    state=order.state.value,
                    fills=len(booking.new_fills),
                )
            )

    async def _book(self, order: Order, resolution: Resolution, reason: str | None) -> Order:
        return (await self._settle(order, resolution, reason)).order

    async def _settle(self, order: Order, resolution: Resolution, reason: str | None) -> Booking:
        fills: list[Fill] = []
        for trade in resolution.trades:
            symbol = pricing_symbol(trade)
            price = await self._price_at(symbol, trade.at) if symbol is not None else None
            fills.append(to_fill(trade, order.client_order_id, price))
        now = self._clock.now()
        booking = await self._ledger.book(order.client_order_id, fills, resolution.final, now, reason)
        self.unpublished = True
        if booking.order.bot == self._bot:
            self._take(booking.order)
            self._view.take_position(booking.position)
        self._announce(booking)
        return booking

    async def _price_at(self, symbol: str, at: datetime) -> DatedPrice | None:
        """A price to value a fee with. ``None``: there is none close enough in time, and the fee stays unvalued."""
        max_age = self._settings.fee_price_max_age
        seen = self.prices.get(symbol)
        if seen is None or not is_fresh(seen, at, max_age):
            try:
                ticker = await self._venue.ticker(symbol)
            except exchange.ExchangeError:
                return None
            seen = DatedPrice(ticker.last, ticker.at)
        return seen if is_fresh(seen, at, max_age) else None

    def _announce(self, booking: Booking) -> None:
        order = booking.order
        now = self._clock.now()
        for fill in booking.new_fills:
            self._sink.emit(
                FillBooked(
                    at=now,
                    agent=EXECUTION,
                    correlation_id=order.correlation_id,
                    client_order_id=order.client_order_id,
                    exchange_trade_id=fill.exchange_trade_id,
                    symbol=fill.symbol,
                    side=fill.side,
                    leg=order.leg,
                    amount=fill.amount,
                    price=fill.price,
                    fee=fill.fee.amount if fill.fee is not None else ZERO,
                    fee_asset=fill.fee.asset if fill.fee is not None else None,
                )
            )
        for balance in booking.overdrawn:
            self._sink.emit(
                Overdrawn(
                    at=now,
                    agent=EXECUTION,
                    correlation_id=order.correlation_id,
                    asset=balance.asset,
                    total=balance.total,
                )
            )
        for back in booking.reversals:
            self._sink.emit(
                OutsideMovementReversed(
                    at=now,
                    agent=EXECUTION,
                    correlation_id=order.correlation_id,
                    asset=back.asset,
                    amount=back.amount,
                    cause=back.cause,
                    client_order_id=order.client_order_id,
                )
            )
        for cause in booking.doubtful:
            self._sink.emit(
                OutsideMovementDoubtful(
                    at=now,
                    agent=EXECUTION,
                    correlation_id=order.correlation_id,
                    cause=cause,
                    client_order_id=order.client_order_id,
                )
            )
        if booking.closed_trade is not None and order.bot == self._bot:
            self.announce_closed(booking.closed_trade, order.correlation_id)

    def announce_closed(self, trade: Trade, correlation_id: str) -> None:
        for leg in Leg:
            self._legs.pop((trade.trade_id, leg), None)
        self._sink.emit(
            TradeClosed(
                at=self._clock.now(),
                agent=EXECUTION,
                correlation_id=correlation_id,
                trade_id=trade.trade_id,
                symbol=trade.symbol,
                leg=trade.leg,
                profit=trade.profit,
            )
        )

    async def _deny(self, order: Order, why: str) -> None:
        denied = await self._ledger.deny(self.epoch, order.client_order_id, why, self._clock.now())
        self.unpublished = True
        self._take(denied)
        self._refused(denied, why)

    def _refused(self, order: Order, why: str) -> None:
        self._sink.emit(
            OrderRejected(
                at=self._clock.now(),
                agent=EXECUTION,
                correlation_id=order.correlation_id,
                client_order_id=order.client_order_id,
                symbol=order.symbol,
                leg=order.leg,
                why=why,
            )
        )

    def _resolved(self, order: Order) -> None:
        self._sink.emit(
            OrderResolved(
                at=self._clock.now(),
                agent=EXECUTION,
                correlation_id=order.correlation_id,
                client_order_id=order.client_order_id,
                symbol=order.symbol,
                state=order.state.value,
            )
        )

    def _take(self, order: Order) -> None:
        self._view.take_order(order)
        legs = self._legs.get((order.cause, order.leg))
        if legs is not None:
            legs[order.client_order_id] = order
        if not order.state.is_live:
            self._due.pop(order.client_order_id, None)
            self._cancel_again.pop(order.client_order_id, None)
            self._look_ups.pop(order.client_order_id, None)
            self._unsent.discard(order.client_order_id)


def _request(order: Order) -> exchange.OrderRequest:
    return exchange.OrderRequest(
        client_order_id=order.client_order_id,
        symbol=order.symbol,
        side=order.side,
        type=order.type,
        amount=order.amount,
        limit_price=order.limit_price,
        stop_price=order.stop_price,
        time_in_force=order.time_in_force,
    )
