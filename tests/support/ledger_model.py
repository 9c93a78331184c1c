"""The ledger's reference model: it says what every call must answer, in the plainest way we know.

It is written differently from the real one on purpose. Nothing is kept that can be computed: totals are the sum of
the entries and reserved is the sum of what orders and positions hold, each time somebody asks. It keeps everything
in memory, so a deterministic simulation can use it as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Context, Decimal, localcontext

import msgspec

from support.ledger import approved_order
from tradingbot_agents.domain import ids
from tradingbot_agents.domain.events import Event, Reason
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.messages import ExecutionReport, Message
from tradingbot_agents.domain.orders import (
    IllegalTransition,
    Order,
    OrderEvent,
    OrderState,
    Reservation,
    ReservationState,
)
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ZERO, BotState, Leg, Side, cut
from tradingbot_agents.ledger.port import (
    AccountKey,
    Adoption,
    Balance,
    BookedSince,
    Booking,
    Books,
    Decision,
    Entry,
    EntryProposal,
    Epoch,
    EquityPoint,
    ExitRequest,
    Fenced,
    Hold,
    HoldExceeded,
    Holdings,
    Invariant,
    KnownRules,
    LedgerError,
    LegProposal,
    OutboxRow,
    Outcome,
    Performance,
    Refusal,
    Reversal,
    Role,
    Trade,
    UnknownOrder,
)

S = OrderState
LIVE = (S.SUBMITTING, S.OPEN, S.CANCELLING, S.UNRESOLVED)
FINAL = (S.FILLED, S.CANCELLED, S.REJECTED, S.DENIED, S.NOT_FOUND)

EXACT = Context(prec=60)
"""Python rounds to 28 digits otherwise."""

replace = msgspec.structs.replace


def total_of(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(EXACT):
        return sum(amounts, ZERO)


def plain(amount: Decimal) -> str:
    """Without zeros at the end."""
    with localcontext(EXACT):
        return f"{amount.normalize():f}"


class ModelBot:
    def __init__(self) -> None:
        self.epochs = {Role.RISK: 0, Role.EXECUTION: 0}
        self.hold: Hold | None = None
        self.decisions: dict[str, Decision] = {}
        self.positions: dict[str, Position] = {}
        """Their ``exit_hold`` is not kept up: see ``ModelAccount.exit_hold``."""
        self.bought: dict[str, tuple[Decimal, Decimal]] = {}
        """Of the round trip in progress: amount and cost."""
        self.last_orders: dict[str, str] = {}
        """Of each symbol: whose fill was the last to change the position."""
        self.trades: list[Trade] = []
        self.entry_orders: list[str | None] = []
        """Of each trade."""
        self.outbox: dict[Role, list[OutboxRow]] = {Role.RISK: [], Role.EXECUTION: []}
        self.equity: dict[datetime, EquityPoint] = {}
        self.events: list[Event] = []


class ModelAccount:
    """What all bots of an account share."""

    def __init__(self, key: AccountKey) -> None:
        self.key = key
        self.quote: str | None = None
        self.opened_at: datetime | None = None
        self.entries: list[Entry] = []
        self.assets: set[str] = set()
        self.set_aside: dict[str, Decimal] = {}
        self.locked_outside: dict[str, Decimal] = {}
        self.bots: dict[str, ModelBot] = {}
        self.orders: dict[str, Order] = {}
        self.proposals: dict[str, EntryProposal] = {}
        self.drawn: dict[str, Decimal] = {}
        self.fills: dict[tuple[str, str], tuple[str, Fill]] = {}
        self.numbers = 0
        self.rules: dict[str, KnownRules] = {}

    def total(self, asset: str) -> Decimal:
        return total_of(entry.amount for entry in self.entries if entry.asset == asset)

    def available(self, asset: str) -> Decimal:
        with localcontext(EXACT):
            return self.balance(asset).available

    def held(self, order: Order) -> Decimal:
        if order.leg is not Leg.ENTRY or order.state in FINAL:
            return ZERO
        budget = self.proposals[order.client_order_id].reserve_amount
        return max(total_of((budget, -self.drawn[order.client_order_id])), ZERO)

    def live_remainders(self, bot: str, symbol: str) -> Decimal:
        return total_of(
            max(total_of((order.amount, -order.filled)), ZERO)
            for order in self.orders.values()
            if order.bot == bot and order.symbol == symbol and order.leg is not Leg.ENTRY and order.state in LIVE
        )

    def exit_hold(self, bot: str, symbol: str) -> Decimal:
        amount = self.bots[bot].positions.get(symbol, Position(symbol=symbol)).amount
        return min(self.live_remainders(bot, symbol), max(amount, ZERO))

    def reserved(self, asset: str) -> Decimal:
        entries = (
            self.held(order)
            for order in self.orders.values()
            if order.leg is Leg.ENTRY and self.proposals[order.client_order_id].reserve_asset == asset
        )
        exits = (
            self.exit_hold(name, symbol)
            for name, bot in self.bots.items()
            for symbol in bot.positions
            if symbol.split("/")[0] == asset
        )
        return total_of((*entries, *exits))

    def balance(self, asset: str) -> Balance:
        return Balance(
            asset=asset,
            total=self.total(asset),
            reserved=self.reserved(asset),
            outside_holds=max(self.set_aside.get(asset, ZERO), self.locked_outside.get(asset, ZERO)),
            set_aside=self.set_aside.get(asset, ZERO),
        )

    def enter(self, asset: str, amount: Decimal, kind: str, cause: str, at: datetime) -> bool:
        if any((entry.asset, entry.kind, entry.cause) == (asset, kind, cause) for entry in self.entries):
            return False
        number = len(self.entries) + 1
        self.entries.append(Entry(number=number, asset=asset, amount=amount, kind=kind, cause=cause, at=at))
        self.assets.add(asset)
        return True


class LedgerModel:
    """One bot's view of a ``ModelAccount``; implements ``port.Ledger``."""

    def __init__(self, account: ModelAccount, bot: str) -> None:
        self.account = account
        self.name = bot

    @property
    def bot(self) -> ModelBot:
        return self.account.bots.setdefault(self.name, ModelBot())

    def fence(self, epoch: Epoch) -> None:
        current = self.bot.epochs[epoch.role]
        if epoch.number != current:
            raise Fenced(epoch, current)

    def post(self, bot: str, role: Role, message: Message) -> None:
        self.account.numbers += 1
        self.account.bots[bot].outbox[role].append(OutboxRow(self.account.numbers, message))

    def known(self, client_order_id: str) -> Order:
        if client_order_id not in self.account.orders:
            raise UnknownOrder(client_order_id)
        return self.account.orders[client_order_id]

    def position_of(self, bot: str, symbol: str) -> Position:
        kept = self.account.bots[bot].positions.get(symbol, Position(symbol=symbol))
        return replace(kept, exit_hold=self.account.exit_hold(bot, symbol))

    # --- the account

    async def open_account(
        self, opening: Mapping[str, Decimal], adopt: Sequence[Adoption], at: datetime, *, quote: str
    ) -> bool:
        account = self.account
        adopted: dict[str, Decimal] = {}
        for adoption in adopt:
            base = adoption.symbol.split("/")[0]
            adopted[base] = adopted.get(base, ZERO) + adoption.amount
        for asset, amount in adopted.items():
            if amount > opening.get(asset, ZERO):
                raise LedgerError(
                    f"{amount} {asset} is to be adopted, the account has {opening.get(asset, ZERO)}: adopt less"
                )
        if account.quote is not None:
            if account.quote != quote:
                raise LedgerError("another quote currency")
            return False
        account.quote = quote
        account.opened_at = at
        for asset, amount in opening.items():
            account.assets.add(asset)
            if amount:
                account.enter(asset, amount, "opening", "opening", at)
            if asset != quote:
                account.set_aside[asset] = amount - adopted.get(asset, ZERO)
        for adoption in adopt:
            cost = adoption.amount * adoption.price
            self.bot.positions[adoption.symbol] = Position(
                symbol=adoption.symbol,
                state=PositionState.OPEN,
                amount=adoption.amount,
                cost=cost,
                trade_id=ids.trade_id(self.name, adoption.symbol, "adopted"),
                opened_at=at,
                stop_price=adoption.stop_price,
                target_price=adoption.target_price,
                high_water=adoption.price,
            )
            self.bot.bought[adoption.symbol] = (adoption.amount, cost)
        return True

    async def raise_epoch(self, role: Role, at: datetime) -> Epoch:
        self.bot.epochs[role] += 1
        return Epoch(role, self.bot.epochs[role])

    # --- risk

    async def reserve(self, epoch: Epoch, proposal: EntryProposal) -> Decision:
        self.fence(epoch)
        if proposal.intent_id in self.bot.decisions:
            return replace(self.bot.decisions[proposal.intent_id], new=False)
        available = self.account.available(proposal.reserve_asset)
        reason, detail = self.objection(proposal, available)
        if reason is None:
            self.account.proposals[proposal.client_order_id] = proposal
            self.account.drawn[proposal.client_order_id] = ZERO
            self.account.orders[proposal.client_order_id] = approved_order(self.name, proposal)
            available = total_of((available, -proposal.reserve_amount))
        approved = reason is None
        decision = Decision(
            intent_id=proposal.intent_id,
            symbol=proposal.symbol,
            side=Side.BUY,
            outcome=Outcome.APPROVED if approved else Outcome.REJECTED,
            reason=reason,
            detail=detail,
            confidence=proposal.confidence,
            client_order_id=proposal.client_order_id if approved else None,
            reserved=proposal.reserve_amount if approved else None,
            available_after=available,
            at=proposal.at,
        )
        self.bot.decisions[proposal.intent_id] = decision
        return decision

    def objection(self, proposal: EntryProposal, available: Decimal) -> tuple[Reason | None, str]:
        hold = self.bot.hold
        if hold is not None and hold.state is not BotState.RUNNING:
            return Reason.NOT_TRADABLE_STATE, f"{hold.state.value} by {hold.by}: {hold.reason}"
        busy = {symbol for symbol, position in self.bot.positions.items() if position.is_held}
        for order in self.account.orders.values():
            if order.bot == self.name and order.leg is Leg.ENTRY and order.state not in FINAL:
                busy.add(order.symbol)
        if proposal.symbol in busy:
            return Reason.POSITION_ALREADY_OPEN, f"{proposal.symbol} has a position or an unfinished entry"
        most = proposal.max_open_positions
        if most is not None and len(busy) >= most:
            return Reason.MAX_OPEN_POSITIONS, f"{len(busy)} of at most {most} positions are open"
        if proposal.reserve_amount > available:
            asked, left = plain(proposal.reserve_amount), plain(available)
            detail = f"{asked} {proposal.reserve_asset} are needed, {left} are available"
            return Reason.INSUFFICIENT_AVAILABLE_BALANCE, detail
        return None, ""

    async def reserve_many(
        self, epoch: Epoch, proposals: Sequence[EntryProposal], as_of: int | None = None
    ) -> list[Decision]:
        self.fence(epoch)
        if proposals and as_of is not None and as_of != len(self.account.entries):
            raise BookedSince
        return [await self.reserve(epoch, proposal) for proposal in proposals]

    async def refuse(self, epoch: Epoch, refusals: Sequence[Refusal]) -> list[Decision]:
        self.fence(epoch)
        decided = []
        for refusal in refusals:
            earlier = self.bot.decisions.get(refusal.intent_id)
            if earlier is not None:
                decided.append(replace(earlier, new=False))
                continue
            decision = Decision(
                intent_id=refusal.intent_id,
                symbol=refusal.symbol,
                side=refusal.side,
                outcome=Outcome.REJECTED,
                reason=refusal.reason,
                detail=refusal.detail,
                confidence=refusal.confidence,
                client_order_id=None,
                reserved=None,
                available_after=None,
                at=refusal.at,
            )
            self.bot.decisions[refusal.intent_id] = decision
            decided.append(decision)
        return decided

    async def request_exit(self, epoch: Epoch, request: ExitRequest) -> Decision:
        if request.leg is Leg.ENTRY:
            raise ValueError("an entry is no exit")
        self.fence(epoch)
        of_risk = epoch.role is Role.RISK
        if of_risk and request.cause in self.bot.decisions:
            return replace(self.bot.decisions[request.cause], new=False)
        position = self.position_of(self.name, request.symbol)
        decision = Decision(
            intent_id=request.cause,
            symbol=request.symbol,
            side=Side.SELL,
            outcome=Outcome.APPROVED if position.is_held else Outcome.REJECTED,
            reason=None if position.is_held else Reason.INSUFFICIENT_BASE_BALANCE,
            detail=request.reason if position.is_held else f"this bot has no position in {request.symbol}",
            confidence=request.confidence,
            client_order_id=None,
            reserved=None,
            available_after=None,
            at=request.at,
            new=of_risk or position.state is not PositionState.CLOSING,
        )
        if position.state is PositionState.OPEN:
            self.bot.positions[request.symbol] = replace(
                position, state=PositionState.CLOSING, closing_reason=request.leg.value
            )
        if of_risk:
            self.bot.decisions[request.cause] = decision
        if position.is_held and decision.new and request.message is not None:
            self.post(self.name, epoch.role, request.message)
        return decision

    async def decision(self, intent_id: str, entry_order: str) -> Decision | None:
        found = self.bot.decisions.get(intent_id)
        return None if found is None else replace(found, new=False)

    # --- execution

    async def claim(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order | None:
        self.fence(epoch)
        order = self.known(client_order_id)
        if order.state is not S.APPROVED:
            return None
        if order.expires_at is not None and at > order.expires_at:
            self.end(replace(order, state=S.DENIED, finished_at=at, reason="stale_intent"))
            return None
        claimed = replace(order, state=S.SUBMITTING, claimed_at=at, reason=None)
        self.account.orders[client_order_id] = claimed
        return claimed

    async def check_epoch(self, epoch: Epoch) -> None:
        self.fence(epoch)

    async def submit_leg(self, epoch: Epoch, proposal: LegProposal) -> Order:
        if proposal.leg is Leg.ENTRY:
            raise ValueError("an entry is no exit")
        self.fence(epoch)
        if proposal.client_order_id in self.account.orders:
            return self.account.orders[proposal.client_order_id]
        position = self.position_of(self.name, proposal.symbol)
        live = self.account.live_remainders(self.name, proposal.symbol)
        if total_of((live, proposal.amount)) > position.amount:
            raise HoldExceeded(proposal.client_order_id)
        self.bot.positions[proposal.symbol] = replace(position, exit_attempts=position.exit_attempts + 1)
        order = Order(
            client_order_id=proposal.client_order_id,
            bot=self.name,
            symbol=proposal.symbol,
            side=Side.SELL,
            leg=proposal.leg,
            type=proposal.type,
            time_in_force=proposal.time_in_force,
            amount=proposal.amount,
            limit_price=proposal.limit_price,
            stop_price=proposal.stop_price,
            state=S.SUBMITTING,
            cause=proposal.cause,
            attempt=proposal.attempt,
            correlation_id=proposal.correlation_id,
            created_at=proposal.at,
            expires_at=None,
            claimed_at=proposal.at,
        )
        self.account.orders[proposal.client_order_id] = order
        return order

    async def acknowledge(self, epoch: Epoch, client_order_id: str, exchange_order_id: str) -> Order:
        self.fence(epoch)
        order = self.known(client_order_id)
        if order.state in (S.SUBMITTING, S.UNRESOLVED, S.NOT_FOUND):
            order = replace(order, state=S.OPEN, exchange_order_id=exchange_order_id, finished_at=None, reason=None)
        elif order.state is S.OPEN and order.exchange_order_id is None:
            order = replace(order, exchange_order_id=exchange_order_id)
        elif order.exchange_order_id != exchange_order_id:
            raise IllegalTransition(client_order_id, order.state, OrderEvent.ACKNOWLEDGE)
        self.account.orders[client_order_id] = order
        return order

    def step(self, client_order_id: str, event: OrderEvent, sources: tuple[OrderState, ...], to: OrderState) -> Order:
        """The order in state ``to``; it must be in one of ``sources``, or there already."""
        order = self.known(client_order_id)
        if order.state is to:
            return order
        if order.state not in sources:
            raise IllegalTransition(client_order_id, order.state, event)
        return replace(order, state=to, reason=None)

    async def request_cancel(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order:
        self.fence(epoch)
        order = self.step(client_order_id, OrderEvent.REQUEST_CANCEL, (S.OPEN,), S.CANCELLING)
        self.account.orders[client_order_id] = order
        return order

    async def lose_contact(self, epoch: Epoch, client_order_id: str, reason: str, at: datetime) -> Order:
        self.fence(epoch)
        before = self.known(client_order_id)
        order = self.step(
            client_order_id, OrderEvent.LOSE_CONTACT, (S.SUBMITTING, S.OPEN, S.CANCELLING), S.UNRESOLVED
        )
        if before.state is not S.UNRESOLVED:
            order = replace(order, reason=reason)
        self.account.orders[client_order_id] = order
        return order

    async def deny(self, epoch: Epoch, client_order_id: str, reason: str, at: datetime) -> Order:
        self.fence(epoch)
        before = self.known(client_order_id)
        order = self.step(client_order_id, OrderEvent.DENY, (S.APPROVED, S.SUBMITTING), S.DENIED)
        return order if before.state is S.DENIED else self.end(replace(order, finished_at=at, reason=reason))

    async def not_found(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order:
        self.fence(epoch)
        before = self.known(client_order_id)
        order = self.step(client_order_id, OrderEvent.NOT_FOUND, (S.UNRESOLVED,), S.NOT_FOUND)
        return order if before.state is S.NOT_FOUND else self.end(replace(order, finished_at=at))

    def end(self, order: Order) -> Order:
        """Keep an order that ended without fills, and tell of it."""
        self.account.orders[order.client_order_id] = order
        assert order.finished_at is not None
        self.post(order.bot, Role.EXECUTION, self.report(order, order.finished_at, None))
        return order

    def report(self, order: Order, at: datetime, trade: Trade | None, *, dust: bool = False) -> ExecutionReport:
        parts = (order.client_order_id, order.state.value, plain(order.filled))
        if dust:
            assert trade is not None
            parts = (order.client_order_id, trade.trade_id, "dust")
        return ExecutionReport(
            id="report." + ids.digest(*parts),
            correlation_id=order.correlation_id,
            causation_id=order.client_order_id,
            bot=order.bot,
            producer="execution",
            at=at,
            symbol=order.symbol,
            side=order.side,
            leg=order.leg,
            client_order_id=order.client_order_id,
            state=order.state,
            filled=order.filled,
            average_price=cut(order.cost / order.filled) if order.filled else None,
            reason=order.reason,
            closed_trade=None if trade is None else trade.trade_id,
            profit=None if trade is None else trade.profit,
        )

    async def book(
        self,
        client_order_id: str,
        fills: Sequence[Fill],
        final: OrderState | None,
        at: datetime,
        reason: str | None = None,
    ) -> Booking:
        with localcontext(EXACT):
            return self.book_exactly(client_order_id, fills, final, at, reason)

    def book_exactly(
        self, client_order_id: str, fills: Sequence[Fill], final: OrderState | None, at: datetime, reason: str | None
    ) -> Booking:
        account = self.account
        order = self.known(client_order_id)
        unknown = [fill for fill in fills if (fill.symbol, fill.exchange_trade_id) not in account.fills]
        ends = final is not None and order.state not in FINAL
        if not unknown and not ends:
            return Booking(
                order=order,
                position=self.position_of(order.bot, order.symbol),
                new_fills=(),
                closed_trade=None,
                overdrawn=(),
            )
        if order.state is S.APPROVED:
            event = {
                S.FILLED: OrderEvent.COMPLETE,
                S.CANCELLED: OrderEvent.END_CANCELLED,
                S.REJECTED: OrderEvent.REJECT,
            }
            raise IllegalTransition(client_order_id, order.state, OrderEvent.FILL if final is None else event[final])
        new: list[Fill] = []
        touched: set[str] = set()
        for fill in unknown:
            if (fill.symbol, fill.exchange_trade_id) in account.fills:
                continue
            new.append(fill)
            account.fills[fill.symbol, fill.exchange_trade_id] = (order.bot, fill)
            touched |= self.enter_fill(fill)
            order = replace(order, filled=order.filled + fill.amount, cost=order.cost + fill.price * fill.amount)
            account.orders[client_order_id] = order
            self.move_position(order, fill)
            account.bots[order.bot].last_orders[order.symbol] = client_order_id
        reversals, doubtful = self.reverse(new, at)
        for back in reversals:
            moved = total_of(fill.balance_changes().get(back.asset, ZERO) for fill in new)
            if total_of((moved, back.amount)) == ZERO:
                touched.discard(back.asset)
        if ends:
            assert final is not None
            order = replace(order, state=final, finished_at=at, reason=reason)
        elif order.state is S.SUBMITTING:
            order = replace(order, state=S.OPEN)
        account.orders[client_order_id] = order
        trade = None
        position = self.position_of(order.bot, order.symbol)
        if order.side is Side.SELL and position.is_held and position.amount <= ZERO:
            trade = self.finish(order.bot, position, PositionState.FLAT, new[-1].at, order.leg)
        self.post(order.bot, Role.EXECUTION, self.report(order, at, trade))
        return Booking(
            order=order,
            position=self.position_of(order.bot, order.symbol),
            new_fills=tuple(new),
            closed_trade=trade,
            overdrawn=tuple(balance for asset in sorted(touched) if (balance := account.balance(asset)).total < ZERO),
            reversals=reversals,
            doubtful=doubtful,
        )

    def enter_fill(self, fill: Fill) -> set[str]:
        base, quote = fill.symbol.split("/")
        cause = f"{fill.symbol}:{fill.exchange_trade_id}"
        worth = fill.price * fill.amount
        got, paid = (fill.amount, -worth) if fill.side is Side.BUY else (-fill.amount, worth)
        self.account.enter(base, got, "fill", cause, fill.at)
        self.account.enter(quote, paid, "fill", cause, fill.at)
        if fill.fee is None or not fill.fee.amount:
            return {base, quote}
        self.account.enter(fill.fee.asset, -fill.fee.amount, "fee", cause, fill.at)
        return {base, quote, fill.fee.asset}

    def move_position(self, order: Order, fill: Fill) -> None:
        bot = self.account.bots[order.bot]
        base, quote = fill.symbol.split("/")
        worth = fill.price * fill.amount
        fee_base = fee_quote = fee_worth = ZERO
        if fill.fee is not None:
            if fill.fee.asset == base:
                fee_base = fill.fee.amount
                fee_worth = fee_base * fill.price
            elif fill.fee.asset == quote:
                fee_quote = fee_worth = fill.fee.amount
            else:
                fee_quote = fee_worth = fill.fee.quote_value or ZERO
        position = self.position_of(order.bot, order.symbol)
        if fill.side is Side.SELL:
            gone = fill.amount + fee_base
            share = position.cost if gone >= position.amount else cut(position.cost * gone / position.amount)
            profit = worth - fee_quote - share
            position = replace(
                position,
                amount=position.amount - gone,
                cost=position.cost - share,
                realised=position.realised + profit,
                trade_realised=position.trade_realised + profit,
            )
        else:
            in_reserve_asset = fill.fee is not None and fill.fee.asset == quote
            self.account.drawn[order.client_order_id] += worth + (fee_quote if in_reserve_asset else ZERO)
            received, paid = fill.amount - fee_base, worth + fee_quote
            if not position.is_held and position.amount + received > ZERO:
                proposal = self.account.proposals[order.client_order_id]
                again = bot.entry_orders.count(order.client_order_id)
                opener = f"{order.client_order_id}+{again}" if again else order.client_order_id
                position = replace(
                    position,
                    state=PositionState.OPEN,
                    trade_id=ids.trade_id(order.bot, order.symbol, opener),
                    entry_order=order.client_order_id,
                    opened_at=fill.at,
                    stop_price=proposal.stop_price,
                    target_price=proposal.target_price,
                    high_water=fill.price,
                    trade_realised=ZERO,
                    trade_fees=ZERO,
                )
                bot.bought[order.symbol] = (ZERO, ZERO)
            position = replace(position, amount=position.amount + received, cost=position.cost + paid)
            amount, cost = bot.bought.get(order.symbol, (ZERO, ZERO))
            bot.bought[order.symbol] = (amount + received, cost + paid)
        bot.positions[order.symbol] = replace(
            position, fees=position.fees + fee_worth, trade_fees=position.trade_fees + fee_worth
        )

    def finish(self, name: str, position: Position, state: PositionState, at: datetime, leg: Leg) -> Trade:
        bot = self.account.bots[name]
        assert position.trade_id is not None
        assert position.opened_at is not None
        bought, cost = bot.bought[position.symbol]
        entry = position.entry_order
        trade = Trade(
            trade_id=position.trade_id,
            symbol=position.symbol,
            opened_at=position.opened_at,
            closed_at=at,
            bought=bought,
            cost=cost,
            profit=position.trade_realised,
            fees=position.trade_fees,
            leg=leg,
            indicators=() if entry is None else self.account.proposals[entry].indicators,
        )
        bot.trades.append(trade)
        bot.entry_orders.append(entry)
        bot.positions[position.symbol] = Position(
            symbol=position.symbol,
            state=state,
            amount=position.amount,
            cost=position.cost,
            realised=position.realised,
            fees=position.fees,
        )
        bot.bought.pop(position.symbol)
        return trade

    async def mark_dust(self, epoch: Epoch, symbol: str, leg: Leg, at: datetime) -> Trade | None:
        self.fence(epoch)
        position = self.position_of(self.name, symbol)
        if position.state is PositionState.DUST:
            return [trade for trade in self.bot.trades if trade.symbol == symbol][-1]
        if not position.is_held:
            return None
        trade = self.finish(self.name, position, PositionState.DUST, at, leg)
        if symbol in self.bot.last_orders:
            last = self.account.orders[self.bot.last_orders[symbol]]
            self.post(self.name, Role.EXECUTION, self.report(last, at, trade, dust=True))
        return trade

    async def watch(self, epoch: Epoch, symbol: str, high_water: Decimal, stop_price: Decimal | None) -> None:
        self.fence(epoch)
        position = self.position_of(self.name, symbol)
        if position.is_held:
            self.bot.positions[symbol] = replace(position, high_water=high_water, stop_price=stop_price)

    # --- market rules

    async def keep_market_rules(self, rules: Mapping[str, SymbolRules], at: datetime) -> None:
        for symbol, now in rules.items():
            known = self.account.rules.get(symbol)
            if known is None or known.rules != now:
                self.account.rules[symbol] = KnownRules(now, at, at)
            else:
                self.account.rules[symbol] = KnownRules(now, known.since, max(known.read_at, at))

    async def market_rules(self) -> dict[str, KnownRules]:
        return dict(self.account.rules)

    # --- outside, messages, holds, events, equity

    async def book_outside_movement(self, asset: str, amount: Decimal, cause: str, at: datetime) -> None:
        self.account.enter(asset, amount, "outside", cause, at)

    async def set_outside_holds(self, holds: Mapping[str, Decimal]) -> None:
        self.account.locked_outside = dict(holds)
        self.account.assets |= holds.keys()

    async def account_books(self) -> Books:
        account = self.account
        newest = account.entries[-1] if account.entries else None
        return Books(
            opened_at=account.opened_at,
            newest_entry=0 if newest is None else newest.number,
            newest_at=None if newest is None else newest.at,
            balances=await self.balances(),
            live=tuple(order for order in account.orders.values() if order.state in LIVE),
        )

    async def symbols_traded(self, since: datetime) -> list[str]:
        return sorted(
            {
                order.symbol
                for order in self.account.orders.values()
                if order.state is not S.APPROVED and (order.finished_at is None or order.finished_at >= since)
            }
        )

    async def unbooked_trades(self, symbol: str, orders: Mapping[str, str]) -> dict[str, Order]:
        ours = {order.exchange_order_id: order for order in self.account.orders.values() if order.symbol == symbol}
        unbooked = (trade for trade in orders if (symbol, trade) not in self.account.fills)
        return {trade: ours[orders[trade]] for trade in unbooked if orders[trade] in ours}

    async def settle_outside(
        self, seen: Books, movements: Mapping[str, Decimal], holds: Mapping[str, Decimal], cause: str, at: datetime
    ) -> bool:
        if any((entry.kind, entry.cause, entry.asset in movements) == ("outside", cause, True)
               for entry in self.account.entries):  # fmt: skip
            return True
        if (await self.account_books()).mark != seen.mark:
            return False
        for asset, amount in movements.items():
            self.account.enter(asset, amount, "outside", cause, at)
        await self.set_outside_holds(holds)
        return True

    def reverse(self, fills: Sequence[Fill], at: datetime) -> tuple[tuple[Reversal, ...], tuple[str, ...]]:
        """Take back the movements that the fills were; and those that are like them and stay."""
        standing: dict[str, dict[str, Decimal]] = {}
        moved_at: dict[str, datetime] = {}
        for entry in self.account.entries:
            if entry.kind in ("outside", "reversal"):
                amounts = standing.setdefault(entry.cause, {})
                amounts[entry.asset] = total_of((amounts.get(entry.asset, ZERO), entry.amount))
                moved_at.setdefault(entry.cause, entry.at)
        left = list(fills)

        def known_by(cause: str) -> dict[str, Decimal]:
            changes: dict[str, Decimal] = {}
            for fill in left:
                if fill.at <= moved_at[cause]:
                    for asset, amount in fill.balance_changes().items():
                        changes[asset] = total_of((changes.get(asset, ZERO), amount))
            return {asset: amount for asset, amount in changes.items() if amount}

        reversals: list[Reversal] = []
        others: list[str] = []
        for cause in sorted(standing, key=lambda cause: (moved_at[cause], cause)):
            changes = known_by(cause)
            if changes and changes.items() <= standing[cause].items():
                left = [fill for fill in left if fill.at > moved_at[cause]]
                for asset in sorted(changes):
                    self.account.enter(asset, -changes[asset], "reversal", cause, at)
                    reversals.append(Reversal(asset=asset, amount=-changes[asset], cause=cause))
            else:
                others.append(cause)
        stands = {cause: {asset for asset, amount in standing[cause].items() if amount} for cause in others}
        return tuple(reversals), tuple(cause for cause in others if known_by(cause).keys() & stands[cause])

    async def unpublished(self, role: Role, limit: int = 100) -> list[OutboxRow]:
        return self.bot.outbox[role][:limit]

    async def mark_published(self, numbers: Sequence[int]) -> None:
        for role, rows in self.bot.outbox.items():
            self.bot.outbox[role] = [row for row in rows if row.number not in numbers]

    async def hold(self) -> Hold | None:
        return self.bot.hold

    async def place_hold(self, hold: Hold) -> None:
        self.bot.hold = hold

    async def release_hold(self) -> bool:
        held, self.bot.hold = self.bot.hold is not None, None
        return held

    async def record_events(self, events: Sequence[Event]) -> None:
        self.bot.events += [event for event in events if event not in self.bot.events]

    async def record_equity(self, point: EquityPoint) -> None:
        self.bot.equity[point.at] = point

    async def measure_equity(
        self, at: datetime, quote: str, prices: Mapping[str, Decimal | None]
    ) -> tuple[dict[str, Balance], Decimal | None]:
        balances = await self.balances()
        named = {quote: Decimal(1), **prices}
        if any(price is None and asset in balances and balances[asset].own for asset, price in named.items()):
            return balances, None
        priced = {asset: price for asset, price in named.items() if price is not None}
        with localcontext(EXACT):
            worth = total_of(balances[asset].own * price for asset, price in priced.items() if asset in balances)
            came = total_of(
                entry.amount * priced[entry.asset]
                for entry in self.account.entries
                if entry.kind in ("outside", "reversal") and entry.asset in priced
            )
            self.bot.equity[at] = EquityPoint(at, worth - came, came)
        return balances, self.bot.equity[at].equity

    # --- reading

    async def balances(self) -> dict[str, Balance]:
        return {asset: self.account.balance(asset) for asset in sorted(self.account.assets)}

    async def positions(self) -> dict[str, Position]:
        return {symbol: self.position_of(self.name, symbol) for symbol in sorted(self.bot.positions)}

    def own_orders(self) -> list[Order]:
        return [order for order in self.account.orders.values() if order.bot == self.name]

    async def orders_to_send(self) -> list[Order]:
        return [order for order in self.own_orders() if order.state is S.APPROVED]

    async def live_orders(self) -> list[Order]:
        return [order for order in self.own_orders() if order.state in LIVE]

    async def order(self, client_order_id: str) -> Order | None:
        return self.account.orders.get(client_order_id)

    async def orders(self, limit: int | None = None) -> list[Order]:
        return self.own_orders()[::-1][:limit]

    async def reservations(self) -> list[Reservation]:
        return [
            Reservation(
                client_order_id=order.client_order_id,
                asset=self.account.proposals[order.client_order_id].reserve_asset,
                amount=self.account.proposals[order.client_order_id].reserve_amount,
                drawn=self.account.drawn[order.client_order_id],
                state=ReservationState.HELD,
            )
            for order in self.account.orders.values()
            if order.leg is Leg.ENTRY and order.state not in FINAL
        ]

    async def fills(self, limit: int | None = None) -> list[Fill]:
        return [fill for bot, fill in self.account.fills.values() if bot == self.name][::-1][:limit]

    async def trades(self, since: datetime | None = None, limit: int | None = None) -> list[Trade]:
        found = [trade for trade in self.bot.trades if since is None or trade.closed_at >= since]
        found.sort(key=lambda trade: trade.closed_at)
        return found if limit is None else found[max(len(found) - limit, 0) :]

    async def decisions(self, limit: int | None = None) -> list[Decision]:
        return [replace(decision, new=False) for decision in self.bot.decisions.values()][::-1][:limit]

    async def refusals(self) -> dict[str, int]:
        reasons = [decision.reason for decision in self.bot.decisions.values() if decision.reason is not None]
        return {reason.value: reasons.count(reason) for reason in sorted(set(reasons))}

    async def performance(self) -> dict[str, Performance]:
        counts: dict[str, tuple[int, int]] = {}
        for trade in self.bot.trades:
            for indicator in set(trade.indicators):
                wins, losses = counts.get(indicator, (0, 0))
                counts[indicator] = (wins + 1, losses) if trade.profit > ZERO else (wins, losses + 1)
        return {indicator: Performance(indicator, *counts[indicator]) for indicator in sorted(counts)}

    async def equity(self, since: datetime | None = None) -> list[EquityPoint]:
        return [self.bot.equity[at] for at in sorted(self.bot.equity) if since is None or at >= since]

    async def holdings(self) -> Holdings:
        outside: dict[str, Decimal] = {}
        with localcontext(EXACT):
            for entry in self.account.entries:
                if entry.kind in ("outside", "reversal"):
                    outside[entry.asset] = outside.get(entry.asset, ZERO) + entry.amount
        told = {asset: amount for asset, amount in sorted(outside.items()) if amount}
        return Holdings(await self.balances(), told, len(self.account.entries))

    async def entries(self, limit: int | None = None) -> list[Entry]:
        return self.account.entries[::-1][:limit]

    async def invariants(self) -> list[Invariant]:
        """None: what the real ledger must keep in step is computed here."""
        return []

    async def close(self) -> None:
        pass
