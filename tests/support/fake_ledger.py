"""The few promises of the ledger that the risk agent relies on, in memory, with faults on demand.

It is not the reference model: it keeps one account and one bot, books no fills, and lets a test set what the
account holds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

import msgspec

from support.ledger import approved_order
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.messages import Message
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.values import Side
from tradingbot_agents.ledger.port import (
    Balance,
    BookedSince,
    Decision,
    EntryProposal,
    Epoch,
    EquityPoint,
    ExitRequest,
    Fenced,
    Holdings,
    LedgerUnavailable,
    OutboxRow,
    Outcome,
    Refusal,
    Role,
    Trade,
)

ZERO = Decimal(0)


class FakeLedger:
    def __init__(self, **totals: str) -> None:
        self.totals = {asset: Decimal(total) for asset, total in totals.items()}
        self.set_aside: dict[str, Decimal] = {}
        self.reserved: dict[str, Decimal] = {}
        self.decided: dict[str, Decision] = {}
        self.proposals: list[EntryProposal] = []
        self.claimed: set[str] = set()
        """Client order ids of entries that execution has taken."""
        self.exits: list[ExitRequest] = []
        self.positions_open: set[str] = set()
        self.finished: list[Trade] = []
        self.points: dict[datetime, EquityPoint] = {}
        self.outside: dict[str, Decimal] = {}
        """Outside movements, per asset."""
        self.outbox: dict[int, Message] = {}
        self.epoch = 0
        self.calls: list[str] = []
        """What was asked, in order."""
        self.away_for = 0
        """So many of the next calls find no database."""
        self._rows = 0

    # --- risk ------------------------------------------------------------------------------------------

    async def raise_epoch(self, role: Role, at: datetime) -> Epoch:
        self._asked("raise_epoch")
        self.epoch += 1
        return Epoch(role, self.epoch)

    async def check_epoch(self, epoch: Epoch) -> None:
        self._asked("check_epoch", epoch)

    async def reserve_many(
        self, epoch: Epoch, proposals: Sequence[EntryProposal], as_of: int | None = None
    ) -> list[Decision]:
        self._asked("reserve_many", epoch)
        if as_of is not None and as_of != self.bookings:
            raise BookedSince
        return [self._reserve(proposal) for proposal in proposals]

    async def refuse(self, epoch: Epoch, refusals: Sequence[Refusal]) -> list[Decision]:
        self._asked("refuse", epoch)
        return [
            self._decide(
                Decision(
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
            )
            for refusal in refusals
        ]

    async def request_exit(self, epoch: Epoch, request: ExitRequest) -> Decision:
        self._asked("request_exit", epoch)
        has_position = request.symbol in self.positions_open
        decision = Decision(
            intent_id=request.cause,
            symbol=request.symbol,
            side=Side.SELL,
            outcome=Outcome.APPROVED if has_position else Outcome.REJECTED,
            reason=None if has_position else Reason.INSUFFICIENT_BASE_BALANCE,
            detail=request.reason if has_position else f"this bot holds no {request.symbol}",
            confidence=request.confidence,
            client_order_id=None,
            reserved=None,
            available_after=None,
            at=request.at,
        )
        kept = self._decide(decision)
        if kept.new and has_position:
            self.exits.append(request)
            if request.message is not None:
                self._send(request.message)
        return kept

    async def orders_to_send(self) -> list[Order]:
        self._asked("orders_to_send")
        return [
            approved_order("bot", proposal)
            for proposal in self.proposals
            if proposal.client_order_id not in self.claimed
        ]

    # --- messages --------------------------------------------------------------------------------------

    async def unpublished(self, role: Role, limit: int = 100) -> list[OutboxRow]:
        self._asked("unpublished")
        return [OutboxRow(number, message) for number, message in list(self.outbox.items())[:limit]]

    async def mark_published(self, numbers: Sequence[int]) -> None:
        self._asked("mark_published")
        for number in numbers:
            del self.outbox[number]

    # --- reading ---------------------------------------------------------------------------------------

    async def balances(self) -> dict[str, Balance]:
        self._asked("balances")
        return {
            asset: Balance(
                asset=asset,
                total=total,
                reserved=self.reserved.get(asset, ZERO),
                outside_holds=self.set_aside.get(asset, ZERO),
                set_aside=self.set_aside.get(asset, ZERO),
            )
            for asset, total in self.totals.items()
        }

    async def trades(self, since: datetime | None = None, limit: int | None = None) -> list[Trade]:
        self._asked("trades" if limit is None else f"trades(limit={limit})")
        found = [trade for trade in self.finished if since is None or trade.closed_at >= since]
        return found if limit is None else found[max(len(found) - limit, 0) :]

    async def equity(self, since: datetime | None = None) -> list[EquityPoint]:
        self._asked("equity")
        return [self.points[at] for at in sorted(self.points) if since is None or at >= since]

    async def record_equity(self, point: EquityPoint) -> None:
        self._asked("record_equity")
        self.points[point.at] = point

    async def measure_equity(
        self, at: datetime, quote: str, prices: Mapping[str, Decimal | None]
    ) -> tuple[dict[str, Balance], Decimal | None]:
        self._asked("measure_equity")
        balances = await self.balances()
        equity = outside = ZERO
        for asset, price in {quote: Decimal(1), **prices}.items():
            own = balances[asset].own if asset in balances else ZERO
            if own and price is None:
                return balances, None
            came = self.outside.get(asset, ZERO) * (price or ZERO)
            outside += came
            equity += own * (price or ZERO) - came
        self.points[at] = EquityPoint(at, equity, outside)
        return balances, equity

    async def holdings(self) -> Holdings:
        return Holdings(await self.balances(), dict(self.outside), self.bookings)

    # --- inside ----------------------------------------------------------------------------------------

    @property
    def bookings(self) -> int:
        """Tests book by writing what is there: another number for each state."""
        return hash((*self.totals.items(), *self.outside.items()))

    def available(self, asset: str) -> Decimal:
        return self.totals.get(asset, ZERO) - self.reserved.get(asset, ZERO) - self.set_aside.get(asset, ZERO)

    def _asked(self, call: str, epoch: Epoch | None = None) -> None:
        if self.away_for:
            self.away_for -= 1
            raise LedgerUnavailable("the database does not answer")
        if epoch is not None and epoch.number != self.epoch:
            raise Fenced(epoch, self.epoch)
        self.calls.append(call)

    def _reserve(self, proposal: EntryProposal) -> Decision:
        asset, wanted = proposal.reserve_asset, proposal.reserve_amount
        available = self.available(asset)
        reason, detail = None, ""
        if proposal.symbol in self.positions_open:
            reason, detail = Reason.POSITION_ALREADY_OPEN, f"a position in {proposal.symbol} is open"
        elif proposal.max_open_positions is not None and len(self.positions_open) >= proposal.max_open_positions:
            reason, detail = Reason.MAX_OPEN_POSITIONS, f"{len(self.positions_open)} positions are open"
        elif wanted > available:
            reason, detail = Reason.INSUFFICIENT_AVAILABLE_BALANCE, f"{wanted} wanted, {available} available"
        decision = Decision(
            intent_id=proposal.intent_id,
            symbol=proposal.symbol,
            side=Side.BUY,
            outcome=Outcome.APPROVED if reason is None else Outcome.REJECTED,
            reason=reason,
            detail=detail,
            confidence=proposal.confidence,
            client_order_id=proposal.client_order_id if reason is None else None,
            reserved=wanted if reason is None else None,
            available_after=available - wanted if reason is None else available,
            at=proposal.at,
        )
        kept = self._decide(decision)
        if kept.new and reason is None:
            self.proposals.append(proposal)
            self.positions_open.add(proposal.symbol)
            self.reserved[asset] = self.reserved.get(asset, ZERO) + wanted
        return kept

    def _decide(self, decision: Decision) -> Decision:
        before = self.decided.get(decision.intent_id)
        if before is not None:
            return msgspec.structs.replace(before, new=False)
        self.decided[decision.intent_id] = decision
        return decision

    def _send(self, message: Message) -> None:
        self._rows += 1
        self.outbox[self._rows] = message
