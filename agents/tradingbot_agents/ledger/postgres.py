"""The ledger on PostgreSQL: the half that writes.

Approvals are one SQL function each (``migrations/0002_functions.sql``): they are asked for at the rate of the
market. Everything else happens at the rate of orders; it locks the account, reads what it needs, decides with the
pure functions of ``booking``, and writes the difference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, localcontext

import asyncpg
import msgspec

from tradingbot_agents.domain import ids
from tradingbot_agents.domain.events import Event, Reason
from tradingbot_agents.domain.fills import Fill
from tradingbot_agents.domain.orders import Order, OrderEvent, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, Leg, Side, split_symbol
from tradingbot_agents.ledger import booking, pages, reports, rows
from tradingbot_agents.ledger.booking import EXACT, BookedEntry, Folio, Holding
from tradingbot_agents.ledger.database import Address, Connection, Database, Recover
from tradingbot_agents.ledger.port import (
    AccountKey,
    Adoption,
    Balance,
    BookedSince,
    Booking,
    Books,
    Decision,
    EntryProposal,
    Epoch,
    EquityPoint,
    ExitRequest,
    Hold,
    HoldExceeded,
    LedgerError,
    LegProposal,
    Outcome,
    Refusal,
    Retention,
    Reversal,
    Role,
    Trade,
    UnknownOrder,
)
from tradingbot_agents.ledger.reading import NOBODY, LedgerReader
from tradingbot_agents.ledger.reports import Decide, Lease, NewReport
from tradingbot_agents.ledger.retention import Removed, cutoffs, newest_record, prune, prune_reports

# The round trip of a holding that was adopted has no entry order.
_ADOPTED = "adopted"


class PostgresLedger(LedgerReader):
    """Implements ``port.Ledger``. Make one with ``connect``; ``close`` it."""

    _database: Database

    @classmethod
    async def connect(
        cls,
        address: Address,
        account: AccountKey,
        bot: str,
        *,
        pool_size: int = 4,
        command_timeout: float = 30.0,
        recover: Recover | None = None,
    ) -> PostgresLedger:
        """Writes nothing: account and bot come into being with ``open_account`` and ``raise_epoch``.

        ``recover`` brings back a server of our own that died; calls then wait for it and go on.

        ``command_timeout`` is in seconds; a statement that takes longer raises ``LedgerUnavailable``, as does a
        database that can not be reached; one that must be mended by a person raises its ``LedgerAccessRefused``.
        """
        database = await Database.connect(
            address, pool_size=pool_size, command_timeout=command_timeout, recover=recover
        )
        return cls(database, account, bot)

    # --- the account -----------------------------------------------------------------------------------

    async def open_account(
        self, opening: Mapping[str, Decimal], adopt: Sequence[Adoption], at: datetime, *, quote: str
    ) -> bool:
        adopted: dict[str, Decimal] = {}
        with localcontext(EXACT):
            for adoption in adopt:
                base, _ = split_symbol(adoption.symbol)
                adopted[base] = adopted.get(base, ZERO) + adoption.amount
        for asset, amount in adopted.items():
            if amount > opening.get(asset, ZERO):
                raise LedgerError(
                    f"{amount} {asset} is to be adopted, the account has {opening.get(asset, ZERO)}: adopt less"
                )

        async def work(connection: Connection) -> bool:
            await self._create(connection)
            await self._enter(connection)
            known = await connection.fetchval("SELECT quote FROM accounts WHERE id = $1", self._account)
            if known is not None:
                if known != quote:
                    raise LedgerError(
                        f"account {self._account_key} was opened with quote currency {known}, not {quote}:"
                        " name another account, or the currency it was opened with"
                    )
                return False
            await connection.execute(
                "UPDATE accounts SET opened_at = $2, quote = $3 WHERE id = $1", self._account, at, quote
            )
            set_aside = {
                asset: ZERO if asset == quote else amount - adopted.get(asset, ZERO)
                for asset, amount in opening.items()
            }
            await connection.execute(
                "INSERT INTO balances (account, asset, total, set_aside, outside_holds)"
                " SELECT $1, o.asset, o.total, o.set_aside, o.set_aside"
                " FROM unnest($2::text[], $3::numeric[], $4::numeric[]) AS o (asset, total, set_aside)",
                self._account,
                list(opening),
                list(opening.values()),
                list(set_aside.values()),
            )
            await pages.write_entries(
                connection,
                self._account,
                [BookedEntry(asset, amount, "opening", "opening", at) for asset, amount in opening.items() if amount],
            )
            for adoption in adopt:
                await self._adopt(connection, adoption, at)
            return True

        return await self._database.transaction(work)

    async def _adopt(self, connection: Connection, adoption: Adoption, at: datetime) -> None:
        with localcontext(EXACT):
            cost = adoption.amount * adoption.price
        position = Position(
            symbol=adoption.symbol,
            state=PositionState.OPEN,
            amount=adoption.amount,
            cost=cost,
            trade_id=ids.trade_id(self._bot_name, adoption.symbol, _ADOPTED),
            opened_at=at,
            stop_price=adoption.stop_price,
            target_price=adoption.target_price,
            high_water=adoption.price,
        )
        holding = Holding(position=position, bought=adoption.amount, bought_cost=cost)
        await pages.save_holding(connection, self._bot, holding)
        await connection.execute(
            "UPDATE positions SET adopted = amount WHERE bot = $1 AND symbol = $2", self._bot, adoption.symbol
        )

    async def raise_epoch(self, role: Role, at: datetime) -> Epoch:
        column = role.value

        async def work(connection: Connection) -> int:
            await self._create(connection)
            await self._enter(connection)
            number: int = await connection.fetchval(
                f"UPDATE bots SET {column}_epoch = {column}_epoch + 1, {column}_since = $2 WHERE id = $1"
                f" RETURNING {column}_epoch",
                self._bot,
                at,
            )
            return number

        return Epoch(role, await self._database.transaction(work))

    async def know_exchange_account(self, told: str) -> str:
        """The exchange's own id of this account: ``told`` the first time, and the same for ever. Raises
        ``LedgerError`` when other books in this database are of ``told``: both would promise the same money."""

        async def work(connection: Connection) -> str:
            await self._create(connection)
            await self._enter(connection)
            key = self._account_key
            other = await connection.fetchval(
                "SELECT name FROM accounts WHERE mode = $1 AND exchange = $2 AND endpoint = $3"
                " AND exchange_account = $4 AND id <> $5",
                key.mode.value,
                key.exchange,
                key.endpoint,
                told,
                self._account,
            )
            if other is not None:
                raise LedgerError(
                    f"account.name is {key.name}, but the key is of the exchange's account {told}, whose books are"
                    f" those of {other}: name that account, or use a key of another one"
                )
            known: str = await connection.fetchval(
                "UPDATE accounts SET exchange_account = coalesce(exchange_account, $2) WHERE id = $1"
                " RETURNING exchange_account",
                self._account,
                told,
            )
            return known

        return await self._database.transaction(work)

    async def _create(self, connection: Connection) -> None:
        key = self._account_key
        identity = (key.mode.value, key.exchange, key.endpoint, key.name)
        await connection.execute(
            "INSERT INTO accounts (mode, exchange, endpoint, name) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
            *identity,
        )
        self._account = await connection.fetchval(
            "SELECT id FROM accounts WHERE mode = $1 AND exchange = $2 AND endpoint = $3 AND name = $4", *identity
        )
        await connection.execute(
            "INSERT INTO bots (account, name) VALUES ($1, $2) ON CONFLICT DO NOTHING", self._account, self._bot_name
        )
        self._bot = await connection.fetchval(
            "SELECT id FROM bots WHERE account = $1 AND name = $2", self._account, self._bot_name
        )

    async def _enter(self, connection: Connection, epoch: Epoch | None = None) -> None:
        """Lock the account, and refuse a stale epoch."""
        await connection.execute(
            "SELECT enter($1, $2, $3, $4)",
            self._account,
            self._bot,
            None if epoch is None else epoch.role.value,
            None if epoch is None else epoch.number,
        )

    # --- risk ------------------------------------------------------------------------------------------

    async def reserve(self, epoch: Epoch, proposal: EntryProposal) -> Decision:
        return (await self.reserve_many(epoch, (proposal,)))[0]

    async def reserve_many(
        self, epoch: Epoch, proposals: Sequence[EntryProposal], as_of: int | None = None
    ) -> list[Decision]:
        """An intent that was decided before costs a further round trip."""
        if not proposals:
            return []
        asked = [rows.proposal(proposal) for proposal in proposals]
        if as_of is None:
            [[answers]] = await self._ask("reserve", epoch, asked)
        else:
            [[answers]] = await self._ask("reserve_as_of", epoch, asked, as_of)
        if answers is None:
            raise BookedSince(f"the account is not as it was after {as_of} bookings")
        return [
            _entry_decision(proposal, answer)
            if answer is not None
            else await self._decided_before(proposal.intent_id, proposal.client_order_id)
            for proposal, answer in zip(proposals, answers, strict=True)
        ]

    async def refuse(self, epoch: Epoch, refusals: Sequence[Refusal]) -> list[Decision]:
        [[news]] = await self._ask("refuse", epoch, msgspec.json.encode(refusals).decode())
        return [
            _refused(refusal) if new else await self._decided_before(refusal.intent_id, refusal.entry_order)
            for refusal, new in zip(refusals, news, strict=True)
        ]

    async def _ask(self, function: str, epoch: Epoch, *asked: object) -> list[asyncpg.Record]:
        await self._identify()
        return await self._call(
            function, self._account, self._bot, epoch.role.value, epoch.number, *asked, epoch=epoch
        )

    async def _decided_before(self, intent_id: str, entry_order: str) -> Decision:
        decision = await self.decision(intent_id, entry_order)
        if decision is None:
            raise LedgerError(f"the decision of intent {intent_id} is gone: somebody else deletes rows of the ledger")
        if decision.intent_id != intent_id:
            raise LedgerError(f"order {entry_order} of intent {intent_id} belongs to intent {decision.intent_id}")
        return decision

    async def request_exit(self, epoch: Epoch, request: ExitRequest) -> Decision:
        if not request.leg.is_exit:
            raise ValueError(f"the exit of {request.symbol} for {request.cause} has the leg {request.leg.value}")
        of_risk = epoch.role is Role.RISK

        async def work(connection: Connection) -> Decision:
            await self._enter(connection, epoch)
            if of_risk:
                earlier = await connection.fetchrow(f"{rows.DECIDED} AND intent_id = $2", self._bot, request.cause)
                if earlier is not None:
                    return rows.decision(earlier)
            state = await connection.fetchval(
                "SELECT state FROM positions WHERE bot = $1 AND symbol = $2", self._bot, request.symbol
            )
            held = state in (PositionState.OPEN, PositionState.CLOSING)
            if state == PositionState.OPEN:
                await connection.execute(
                    "UPDATE positions SET state = 'closing', closing_reason = $3 WHERE bot = $1 AND symbol = $2",
                    self._bot,
                    request.symbol,
                    request.leg.value,
                )
            decision = Decision(
                intent_id=request.cause,
                symbol=request.symbol,
                side=Side.SELL,
                outcome=Outcome.APPROVED if held else Outcome.REJECTED,
                reason=None if held else Reason.INSUFFICIENT_BASE_BALANCE,
                detail=request.reason if held else f"this bot has no position in {request.symbol}",
                confidence=request.confidence,
                client_order_id=None,
                reserved=None,
                available_after=None,
                at=request.at,
                new=of_risk or state != PositionState.CLOSING,
            )
            if of_risk:
                await connection.execute(
                    "INSERT INTO decisions (bot, intent_id, symbol, side, reason, detail, confidence,"
                    " correlation_id, at) VALUES ($1, $2, $3, 'sell', $4, $5, $6, $7, $8)",
                    self._bot,
                    decision.intent_id,
                    decision.symbol,
                    decision.reason,
                    decision.detail,
                    decision.confidence,
                    request.correlation_id,
                    decision.at,
                )
            if held and decision.new and request.message is not None:
                await pages.post(connection, self._bot, epoch.role, request.message)
            return decision

        await self._identify()
        return await self._database.transaction(work, epoch)

    # --- execution -------------------------------------------------------------------------------------

    async def claim(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order | None:
        async def work(connection: Connection) -> Order | None:
            await self._enter(connection, epoch)
            bot, before, _, _ = await pages.load_folio(connection, self._account, client_order_id)
            if before.order.state is not OrderState.APPROVED:
                return None
            if before.order.expires_at is not None and at > before.order.expires_at:
                denied = booking.advance(before, OrderEvent.DENY, at, Reason.STALE_INTENT.value)
                await pages.save(connection, self._account, bot, before, denied)
                await pages.post(connection, bot, Role.EXECUTION, booking.report(denied.order, at, None))
                return None
            after = booking.advance(before, OrderEvent.CLAIM, at)
            await pages.save(connection, self._account, bot, before, after)
            return after.order

        await self._identify()
        return await self._database.transaction(work, epoch)

    async def check_epoch(self, epoch: Epoch) -> None:
        await self._identify()
        await self._call("check_epoch", self._bot, epoch.role.value, epoch.number, epoch=epoch)

    async def submit_leg(self, epoch: Epoch, proposal: LegProposal) -> Order:
        if not proposal.leg.is_exit:
            raise ValueError(f"order {proposal.client_order_id} is no exit: its leg is {proposal.leg.value}")

        async def work(connection: Connection) -> Order:
            await self._enter(connection, epoch)
            try:
                return (await pages.load_folio(connection, self._account, proposal.client_order_id))[1].order
            except UnknownOrder:
                pass
            holding = await pages.load_holding(connection, self._account, self._bot, proposal.symbol)
            others = await pages.live_remainders(connection, self._account, self._bot, proposal.symbol)
            position = holding.position
            with localcontext(EXACT):
                if others + proposal.amount > position.amount:
                    raise HoldExceeded(
                        f"{proposal.leg.value} order {proposal.client_order_id} would sell {proposal.amount}"
                        f" {proposal.symbol}: the position has {position.amount}, and its live exit legs may sell"
                        f" {others} of that"
                    )
                before = Folio(
                    order=_leg_order(self._bot_name, proposal),
                    reservation=None,
                    protect_stop=None,
                    protect_target=None,
                    holding=holding,
                    other_remainders=others,
                )
                counted = msgspec.structs.replace(position, exit_attempts=position.exit_attempts + 1)
                after = booking.with_hold(
                    msgspec.structs.replace(before, holding=msgspec.structs.replace(holding, position=counted))
                )
            order = after.order
            await pages.add_leg(connection, self._account, self._bot, order)
            await pages.save(connection, self._account, self._bot, before, after)
            return order

        await self._identify()
        return await self._database.transaction(work, epoch)

    async def acknowledge(self, epoch: Epoch, client_order_id: str, exchange_order_id: str) -> Order:
        def change(before: Folio) -> Folio:
            order = before.order
            if order.state is OrderState.NOT_FOUND:
                after = booking.advance(before, OrderEvent.REAPPEAR, None)
            elif order.state in (OrderState.SUBMITTING, OrderState.UNRESOLVED):
                after = booking.advance(before, OrderEvent.ACKNOWLEDGE, None)
            elif order.exchange_order_id == exchange_order_id:
                return before
            elif order.state is OrderState.OPEN and order.exchange_order_id is None:
                # A fill told of it first.
                after = before
            else:
                return booking.advance(before, OrderEvent.ACKNOWLEDGE, None)
            known = msgspec.structs.replace(after.order, exchange_order_id=exchange_order_id)
            return msgspec.structs.replace(after, order=known)

        return await self._change(epoch, client_order_id, change)

    async def request_cancel(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order:
        return await self._advance(epoch, client_order_id, OrderEvent.REQUEST_CANCEL, OrderState.CANCELLING, at)

    async def lose_contact(self, epoch: Epoch, client_order_id: str, reason: str, at: datetime) -> Order:
        return await self._advance(epoch, client_order_id, OrderEvent.LOSE_CONTACT, OrderState.UNRESOLVED, at, reason)

    async def deny(self, epoch: Epoch, client_order_id: str, reason: str, at: datetime) -> Order:
        return await self._advance(epoch, client_order_id, OrderEvent.DENY, OrderState.DENIED, at, reason)

    async def not_found(self, epoch: Epoch, client_order_id: str, at: datetime) -> Order:
        return await self._advance(epoch, client_order_id, OrderEvent.NOT_FOUND, OrderState.NOT_FOUND, at)

    async def _advance(
        self,
        epoch: Epoch,
        client_order_id: str,
        event: OrderEvent,
        answered: OrderState,
        at: datetime | None,
        reason: str | None = None,
    ) -> Order:
        """Make a transition; in the state ``answered`` it was made before."""

        def change(before: Folio) -> Folio:
            return before if before.order.state is answered else booking.advance(before, event, at, reason)

        return await self._change(epoch, client_order_id, change)

    async def _change(self, epoch: Epoch, client_order_id: str, change: Callable[[Folio], Folio]) -> Order:
        async def work(connection: Connection) -> Order:
            await self._enter(connection, epoch)
            bot, before, _, _ = await pages.load_folio(connection, self._account, client_order_id)
            after = change(before)
            if after.order != before.order:
                await pages.save(connection, self._account, bot, before, after)
                ended = after.order.finished_at
                if ended is not None:
                    await pages.post(connection, bot, Role.EXECUTION, booking.report(after.order, ended, None))
            return after.order

        await self._identify()
        return await self._database.transaction(work, epoch)

    async def book(
        self,
        client_order_id: str,
        fills: Sequence[Fill],
        final: OrderState | None,
        at: datetime,
        reason: str | None = None,
    ) -> Booking:
        if final is not None and final not in booking.FINAL_EVENTS:
            raise ValueError(f"an exchange ends an order as filled, cancelled or rejected, not as {final.value}")

        async def work(connection: Connection) -> Booking:
            await self._enter(connection)
            trade_ids = [fill.exchange_trade_id for fill in fills]
            bot, before, known, round_trips = await pages.load_folio(
                connection, self._account, client_order_id, trade_ids
            )
            order = before.order
            for fill in fills:
                if (fill.client_order_id, fill.symbol, fill.side) != (client_order_id, order.symbol, order.side):
                    raise ValueError(
                        f"{fill} is not of order {client_order_id}, a {order.side.value} of {order.symbol}"
                    )
            fresh = {fill.exchange_trade_id: fill for fill in fills if fill.exchange_trade_id not in known}
            new = tuple(fresh.values())
            after, trade = booking.book(before, new, final, at, reason, round_trips)
            if after == before:
                return Booking(
                    order=order, position=before.holding.position, new_fills=(), closed_trade=None, overdrawn=()
                )
            entries = [entry for fill in new for entry in booking.entries_of(fill)]
            reversals: tuple[Reversal, ...] = ()
            doubtful: tuple[str, ...] = ()
            first = min((fill.at for fill in new), default=None)
            if first is not None and before.moved_at is not None and first <= before.moved_at:
                moved = await pages.movements(connection, self._account, first)
                reversals, doubtful = booking.explained(new, moved)
                entries += [BookedEntry(back.asset, back.amount, "reversal", back.cause, at) for back in reversals]
            if new:
                await pages.write_fills(connection, self._account, bot, new)
                await pages.write_entries(connection, self._account, entries)
            balances = await pages.save(connection, self._account, bot, before, after, entries)
            changed = booking.changes_by(entries)
            if trade is not None:
                await pages.write_trade(connection, bot, before.holding.position.entry_order, trade)
            await pages.post(connection, bot, Role.EXECUTION, booking.report(after.order, at, trade))
            return Booking(
                order=after.order,
                position=after.holding.position,
                new_fills=new,
                closed_trade=trade,
                overdrawn=tuple(one for one in balances if one.total < ZERO and one.asset in changed),
                reversals=reversals,
                doubtful=doubtful,
            )

        await self._identify()
        return await self._database.transaction(work)

    async def mark_dust(self, epoch: Epoch, symbol: str, leg: Leg, at: datetime) -> Trade | None:
        async def work(connection: Connection) -> Trade | None:
            await self._enter(connection, epoch)
            before = await pages.load_holding(connection, self._account, self._bot, symbol)
            if before.position.state is PositionState.DUST:
                row = await connection.fetchrow(
                    f"SELECT {rows.TRADE_COLUMNS} FROM trades WHERE bot = $1 AND symbol = $2"
                    " ORDER BY number DESC LIMIT 1",
                    self._bot,
                    symbol,
                )
                return None if row is None else rows.trade(row)
            if not before.position.is_held:
                return None
            trade = before.finished(at, leg)
            await pages.save_holding(connection, self._bot, before.closed(PositionState.DUST))
            await pages.write_trade(connection, self._bot, before.position.entry_order, trade)
            if before.last_order is not None:
                bot, folio, _, _ = await pages.load_folio(connection, self._account, before.last_order)
                told = booking.dust_report(folio.order, at, trade)
                await pages.post(connection, bot, Role.EXECUTION, told)
            return trade

        await self._identify()
        return await self._database.transaction(work, epoch)

    async def watch(self, epoch: Epoch, symbol: str, high_water: Decimal, stop_price: Decimal | None) -> None:
        await self._identify()
        await self._call(
            "watch",
            self._account,
            self._bot,
            epoch.role.value,
            epoch.number,
            symbol,
            high_water,
            stop_price,
            epoch=epoch,
        )

    # --- outside ---------------------------------------------------------------------------------------

    async def book_outside_movement(self, asset: str, amount: Decimal, cause: str, at: datetime) -> None:
        async def work(connection: Connection) -> None:
            await self._enter(connection)
            new = await connection.fetchval(
                "INSERT INTO entries (account, asset, amount, kind, cause, at) VALUES ($1, $2, $3, 'outside', $4, $5)"
                " ON CONFLICT DO NOTHING RETURNING true",
                self._account,
                asset,
                amount,
                cause,
                at,
            )
            if new:
                await pages.move(connection, self._account, {asset: (amount, ZERO)})

        await self._identify()
        await self._database.transaction(work)

    async def set_outside_holds(self, holds: Mapping[str, Decimal]) -> None:
        async def work(connection: Connection) -> None:
            await self._enter(connection)
            await pages.set_holds(connection, self._account, holds)

        await self._identify()
        await self._database.transaction(work)

    async def settle_outside(
        self, seen: Books, movements: Mapping[str, Decimal], holds: Mapping[str, Decimal], cause: str, at: datetime
    ) -> bool:
        async def work(connection: Connection) -> bool:
            await self._enter(connection)
            done = await connection.fetchval(
                "SELECT count(*) FROM entries"
                " WHERE cause = $2 AND kind = 'outside' AND asset = ANY ($3) AND account = $1",
                self._account,
                cause,
                list(movements),
            )
            if done:
                return True
            if (await pages.books(connection, self._account)).mark != seen.mark:
                return False
            await pages.write_entries(
                connection,
                self._account,
                [BookedEntry(asset, amount, "outside", cause, at) for asset, amount in movements.items()],
            )
            await pages.move(connection, self._account, {asset: (by, ZERO) for asset, by in movements.items()})
            await pages.set_holds(connection, self._account, holds)
            return True

        await self._identify()
        return await self._database.transaction(work)

    async def keep_market_rules(self, rules: Mapping[str, SymbolRules], at: datetime) -> None:
        symbols = sorted(rules)
        told = [msgspec.json.encode(rules[symbol]).decode() for symbol in symbols]

        async def work(connection: Connection) -> None:
            await self._enter(connection)
            # One statement each: what the first has moved, the second must see.
            await connection.execute(
                "UPDATE market_rules m SET read_at = greatest(m.read_at, $4)"
                " FROM unnest($2::text[], $3::jsonb[]) AS n (symbol, rules)"
                " WHERE m.account = $1 AND m.symbol = n.symbol AND m.rules = n.rules AND m.since ="
                " (SELECT max(since) FROM market_rules l WHERE l.account = $1 AND l.symbol = n.symbol)",
                self._account,
                symbols,
                told,
                at,
            )
            await connection.execute(
                "INSERT INTO market_rules (account, symbol, since, read_at, rules)"
                " SELECT $1, n.symbol, $4, $4, n.rules FROM unnest($2::text[], $3::jsonb[]) AS n (symbol, rules)"
                " WHERE n.rules IS DISTINCT FROM (SELECT rules FROM market_rules l"
                "  WHERE l.account = $1 AND l.symbol = n.symbol ORDER BY since DESC LIMIT 1)"
                " ON CONFLICT (account, symbol, since) DO UPDATE SET rules = excluded.rules",
                self._account,
                symbols,
                told,
                at,
            )

        await self._identify()
        if symbols and self._account != NOBODY:
            await self._database.transaction(work)

    # --- messages, holds, events, equity ---------------------------------------------------------------

    async def mark_published(self, numbers: Sequence[int]) -> None:
        await self._identify()
        await self._call("mark_published", self._bot, list(numbers))

    async def place_hold(self, hold: Hold) -> None:
        async def work(connection: Connection) -> None:
            await self._enter(connection)
            await self._place_hold(connection, hold)

        await self._identify()
        await self._database.transaction(work)

    async def _place_hold(self, connection: Connection, hold: Hold) -> None:
        await connection.execute(
            "UPDATE bots SET hold_state = $2, hold_reason = $3, hold_by = $4, hold_at = $5 WHERE id = $1",
            self._bot,
            hold.state.value,
            hold.reason,
            hold.by,
            hold.at,
        )

    async def release_hold(self) -> bool:
        async def work(connection: Connection) -> bool:
            await self._enter(connection)
            released = await connection.fetchval(
                "UPDATE bots SET hold_state = NULL, hold_reason = NULL, hold_by = NULL, hold_at = NULL"
                " WHERE id = $1 AND hold_state IS NOT NULL RETURNING true",
                self._bot,
            )
            return bool(released)

        await self._identify()
        return await self._database.transaction(work)

    async def record_events(self, events: Sequence[Event]) -> None:
        await self._identify()
        told = []
        for event in events:
            fields = event.fields()
            told.append(
                {
                    "digest": ids.digest(event.name, msgspec.json.encode(fields).decode()),
                    "name": event.name,
                    "severity": event.severity.value,
                    "at": event.at,
                    "fields": fields,
                }
            )
        await self._call("record_events", self._bot, msgspec.json.encode(told).decode())

    async def record_equity(self, point: EquityPoint) -> None:
        await self._identify()
        await self._call("record_equity", self._bot, point.at, point.equity, point.outside)

    async def measure_equity(
        self, at: datetime, quote: str, prices: Mapping[str, Decimal | None]
    ) -> tuple[dict[str, Balance], Decimal | None]:
        await self._identify()
        assets = [quote, *prices]
        values = [ONE, *prices.values()]
        found = await self._call("measure_equity", self._account, self._bot, at, assets, values)
        return {row["asset"]: rows.balance(row) for row in found}, found[0]["equity"] if found else None

    async def prune(self, retention: Retention, now: datetime, *, dry_run: bool) -> list[Removed]:
        """Remove this bot's records that are older than ``retention`` (with ``dry_run``: count them). Empty: there is
        nothing in the ledger yet. Not of ``port.Ledger``: no agent does it."""
        await self._identify()
        newest = await newest_record(self._database, self._account, self._bot, now)
        removed = (
            []
            if newest is None
            else await prune(self._database, self._bot, cutoffs(retention, newest), dry_run=dry_run)
        )
        return [*removed, *await prune_reports(self._database, self._bot, retention.reports, now, dry_run=dry_run)]

    # --- the reality check -----------------------------------------------------------------------------
    # Not of ``port.Ledger``: no agent does it.

    async def keep_report(self, report: NewReport) -> int:
        """Its number. A bot has one report of a moment, the newest. Also of a bot that has not begun yet."""

        async def work(connection: Connection) -> int:
            await self._create(connection)
            return await reports.keep(connection, self._bot, report)

        await self._identify()
        return await self._database.transaction(work)

    async def lease_telling(self, token: str, now: datetime, until: datetime) -> Lease | None:
        """The right to tell people of this bot, until ``end_telling`` or ``until``. ``None``: another check has it.
        ``token`` is new for each that asks."""

        async def work(connection: Connection) -> Lease | None:
            await self._create(connection)
            return await reports.lease(connection, self._bot, token, now, until)

        await self._identify()
        return await self._database.transaction(work)

    async def end_telling(self, lease: Lease, told: bytes) -> bool:
        """Write down what people have been told (JSON). ``False``: the lease had run out and is another's, and
        nothing was written."""
        await self._identify()
        return await self._database.transaction(
            lambda connection: reports.end_lease(connection, self._bot, lease.token, told)
        )

    async def hold_by_check(self, decide: Decide) -> Hold | None:
        """Place the hold that ``decide`` decides on, if any, and remember for which failures: one transaction."""

        async def work(connection: Connection) -> Hold | None:
            await self._create(connection)
            await self._enter(connection)
            before = await reports.held_for(connection, self._bot)
            hold, after = decide(await self._present_hold(connection), before)
            if hold is not None:
                await self._place_hold(connection, hold)
            if after != before:
                await reports.remember_held_for(connection, self._bot, after)
            return hold

        await self._identify()
        return await self._database.transaction(work)

    async def _call(self, function: str, *arguments: object, epoch: Epoch | None = None) -> list[asyncpg.Record]:
        """One SQL function, in one round trip."""
        query = f"SELECT * FROM {function}({rows.placeholders(len(arguments))})"
        return await self._database.write(lambda connection: connection.fetch(query, *arguments), epoch)


def _entry_decision(proposal: EntryProposal, answer: str) -> Decision:
    """``answer`` of the SQL function ``reserve``."""
    available, _, refusal = answer.partition(" ")
    reason, _, detail = refusal.partition(" ")
    approved = not reason
    return Decision(
        intent_id=proposal.intent_id,
        symbol=proposal.symbol,
        side=Side.BUY,
        outcome=Outcome.APPROVED if approved else Outcome.REJECTED,
        reason=None if approved else Reason(reason),
        detail=detail,
        confidence=proposal.confidence,
        client_order_id=proposal.client_order_id if approved else None,
        reserved=proposal.reserve_amount if approved else None,
        available_after=Decimal(available),
        at=proposal.at,
    )


def _refused(refusal: Refusal) -> Decision:
    return Decision(
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


def _leg_order(bot: str, proposal: LegProposal) -> Order:
    return Order(
        client_order_id=proposal.client_order_id,
        bot=bot,
        symbol=proposal.symbol,
        side=Side.SELL,
        leg=proposal.leg,
        type=proposal.type,
        time_in_force=proposal.time_in_force,
        amount=proposal.amount,
        limit_price=proposal.limit_price,
        stop_price=proposal.stop_price,
        state=OrderState.SUBMITTING,
        cause=proposal.cause,
        attempt=proposal.attempt,
        correlation_id=proposal.correlation_id,
        created_at=proposal.at,
        expires_at=None,
        claimed_at=proposal.at,
    )
