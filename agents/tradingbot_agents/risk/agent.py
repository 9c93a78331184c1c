"""The risk agent: it collects intents, decides each once and for ever, and lets the ledger decide on the money.

A batch is decided in an order that a kill can not change: refusals, then all entries in one transaction, then
exits. Entries come before exits because an exit that execution has already carried out when the rest of its
batch is decided again would have freed money that the first time was not there.

What it must not forget is in the ledger: decisions by intent id, approved entries, trades, equity points, messages
in the outbox. Intents are acknowledged when they are decided, so that a crash loses none. Messages of bars touch
memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.bus import Bus, DependencyUnavailable
from tradingbot_agents.bus.topology import RISK
from tradingbot_agents.clock import Clock, Timers
from tradingbot_agents.domain.events import (
    ExposureMeasured,
    FencedOff,
    ProtectionTriggered,
    Reason,
    TradeApproved,
    TradeRejected,
)
from tradingbot_agents.domain.messages import CandleClosed, ExecutionReport, TradeIntent
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import TIMEFRAMES, ZERO, BotState, Leg, Side, floor_time, split_symbol
from tradingbot_agents.ledger.outbox import OutboxRelay
from tradingbot_agents.ledger.port import (
    BookedSince,
    Decision,
    EntryProposal,
    Epoch,
    EquityPoint,
    ExitRequest,
    Fenced,
    Holdings,
    Ledger,
    LedgerUnavailable,
    Outcome,
    Refusal,
    Role,
    Trade,
)
from tradingbot_agents.marketdata import CandleStore
from tradingbot_agents.risk.approval import contradictions, rank, without_repeats
from tradingbot_agents.risk.exposure import (
    Closes,
    Valuation,
    held_symbols,
    outside_value,
    tail_risk,
    value_account,
)
from tradingbot_agents.risk.price import Price, PriceSource
from tradingbot_agents.risk.proposal import (
    entry_message,
    entry_order_id,
    exit_message,
    propose,
    symbol_share_problem,
)
from tradingbot_agents.risk.protections import (
    EQUITY_DELAY,
    Active,
    Announcer,
    active_protections,
    equity_since,
    trades_since,
)
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import ApprovalOrder, Settings, SizingMethod
from tradingbot_agents.risk.sizing import size
from tradingbot_agents.telemetry import Sink

TRADES_A_BAR = 2
"""Of one symbol, at most: it is entered and sold again by its stop within one bar, after one of before was sold."""


class _Plan(msgspec.Struct):
    refused: list[tuple[TradeIntent, Refused]]
    proposals: list[EntryProposal]
    """Best first."""
    active: list[Active]
    """Protections in force."""


class RiskAgent:
    name = RISK

    def __init__(
        self,
        *,
        bot: str,
        settings: Settings,
        clock: Clock,
        timers: Timers,
        bus: Bus,
        sink: Sink,
        ledger: Ledger,
        store: CandleStore,
        rules: Mapping[str, SymbolRules],
        state: Callable[[], BotState],
    ) -> None:
        """``rules`` by symbol; whoever owns it may refresh it in place. ``state`` is the stricter of the spec's
        and the ledger's hold, as known now; the ledger checks the hold again as it reserves."""
        self._bot = bot
        self._settings = settings
        self._clock = clock
        self._timers = timers
        self._bus = bus
        self._sink = sink
        self._ledger = ledger
        self._rules = rules
        self._state = state
        self._relay = OutboxRelay(ledger, Role.RISK, bus)
        self._closes = Closes(settings.value_at_risk.lookback_candles)
        self._announcer = Announcer()
        self._epoch: Epoch | None = None
        self._equity: tuple[datetime, list[EquityPoint]] | None = None
        """Since when, and the points."""
        self._holdings: Holdings | None = None
        """As last read. A reservation that rests on them is refused when more has been booked since."""
        self.prices = PriceSource(
            settings.price, bot=bot, timeframe=settings.timeframe, store=store, bus=bus, clock=clock, sink=sink
        )

    async def start(self) -> None:
        """Fence off an older process, publish what it left behind, then listen."""
        now = self._clock.now()
        self._epoch = await self._ledger.raise_epoch(Role.RISK, now)
        await self._announce_waiting()
        await self._relay.flush()
        await self._keep_opening_equity(now)
        approval = self._settings.approval
        by_arrival = approval.order is ApprovalOrder.FIRST_COME_FIRST_SERVED
        await self._bus.consume("risk.candles", self._on_candle)
        await self._bus.consume("risk.reports", self._on_report)
        await self._bus.consume_batches(
            "risk.intents", self._on_intents, timedelta(0) if by_arrival else approval.window
        )
        interval = self._settings.equity_interval
        first = floor_time(now - EQUITY_DELAY, interval) + EQUITY_DELAY
        self._timers.every(self.name, interval, self._keep_equity, first if first >= now else first + interval)
        if self._settings.outbox_interval is not None:
            self._timers.every(self.name, self._settings.outbox_interval, self._publish)

    async def stop(self) -> None:
        """Nothing to release: consumers and timers are taken away by whoever stops it."""

    async def exposure(self) -> ExposureMeasured | Refused:
        """What the account is worth and could lose now, or ``no_fresh_price`` for something that it holds."""
        valuation = await self._value({}, await self._ledger.holdings())
        return valuation if isinstance(valuation, Refused) else self._measured(valuation)

    async def worth(self) -> Decimal | None:
        """The account's equity in quote currency, for people to look at; ``None`` when something that is held has no
        price now. It is told to nobody and decides nothing. Raises ``LedgerUnavailable``."""
        settings = self._settings
        balances = await self._ledger.balances()
        prices: dict[str, Decimal] = {}
        for symbol in held_symbols(balances, settings.symbols, settings.quote_currency):
            price = await self.prices.expected(symbol)
            if price is None:
                return None
            prices[symbol] = price.value
        return value_account(balances, prices, settings.symbols, settings.quote_currency).equity

    async def _publish(self) -> None:
        with self._ledger_faults():
            # One that no intent reaches would never learn that a newer process has taken over.
            await self._ledger.check_epoch(self._current_epoch)
            await self._relay.flush()

    # --- messages --------------------------------------------------------------------------------------

    async def _on_candle(self, message: CandleClosed) -> None:
        self.prices.saw(message.candle)
        self._closes.add(message.candle)

    async def _on_report(self, report: ExecutionReport) -> None:
        """A closed trade may set off a protection: it is told at once, and not with the next intent."""
        # A fill has probably been booked: to find that out by a refused reservation takes longer.
        self._holdings = None
        if report.closed_trade is None:
            return
        with self._ledger_faults():
            now = self._clock.now()
            self._announce(await self._protections(now, None), now, report.correlation_id)

    async def _on_intents(self, intents: list[TradeIntent]) -> None:
        for intent in contradictions(intents):
            self._sink.emit(
                TradeRejected(
                    at=self._clock.now(),
                    agent=self.name,
                    correlation_id=intent.correlation_id,
                    symbol=intent.symbol,
                    side=intent.side,
                    reason=Reason.DUPLICATE_INTENT,
                    detail=f"another intent of id {intent.id} came before it, and is the one that is decided",
                    confidence=intent.confidence,
                )
            )
        with self._ledger_faults():
            await self._decide(without_repeats(intents))

    @contextmanager
    def _ledger_faults(self) -> Iterator[None]:
        try:
            yield
        except LedgerUnavailable as error:
            raise DependencyUnavailable(str(error)) from error
        except Fenced as error:
            self._sink.emit(
                FencedOff(
                    at=self._clock.now(), agent=self.name, role=error.epoch.role.value, epoch=error.epoch.number
                )
            )
            raise

    # --- decisions -------------------------------------------------------------------------------------

    async def _decide(self, intents: Sequence[TradeIntent]) -> None:
        now = self._clock.now()
        state = self._state()
        refused: list[tuple[TradeIntent, Refused]] = []
        wanted: list[TradeIntent] = []
        exits: list[TradeIntent] = []
        for intent in intents:
            verdict = self._refused_at_sight(intent, state, now)
            if verdict is not None:
                refused.append((intent, verdict))
            elif intent.side is Side.BUY:
                wanted.append(intent)
            else:
                exits.append(intent)
        if wanted:
            ranked = rank(wanted, self._settings.approval.order, self._settings.symbols)
            prices, without_price = await self._prices(ranked)
            if refused or not await self._approve_at_once(ranked, prices, without_price, now):
                self._holdings = await self._ledger.holdings()
                plan = await self._plan(ranked, self._holdings, prices, without_price, now)
                self._announce(plan.active, now, ranked[0].correlation_id)
                await self._refuse([*refused, *plan.refused], now)
                await self._reserve(plan.proposals)
        elif refused:
            await self._refuse(refused, now)
        for intent in exits:
            await self._exit(intent, now)
        if exits:
            await self._relay.flush()

    def _refused_at_sight(self, intent: TradeIntent, state: BotState, now: datetime) -> Refused | None:
        if now > intent.expires_at:
            late = (now - intent.expires_at).total_seconds()
            return Refused(Reason.STALE_INTENT, f"it expired {late:g} s before it could be decided")
        if not (state.allows_entries if intent.side is Side.BUY else state.allows_exits):
            what = "entries" if intent.side is Side.BUY else "orders"
            return Refused(Reason.NOT_TRADABLE_STATE, f"the bot is {state.value}: no {what}")
        if intent.symbol not in self._settings.symbols or intent.symbol not in self._rules:
            return Refused(Reason.SYMBOL_NOT_TRADING, f"{intent.symbol} is not among the symbols of this bot")
        return None

    async def _prices(self, intents: Sequence[TradeIntent]) -> tuple[dict[str, Decimal], dict[str, Refused]]:
        """By symbol; and why there is none."""
        prices: dict[str, Decimal] = {}
        without_price: dict[str, Refused] = {}
        for intent in intents:
            if intent.symbol in prices or intent.symbol in without_price:
                continue
            price = await self.prices.fresh(intent.symbol, intent.correlation_id)
            if isinstance(price, Refused):
                without_price[intent.symbol] = price
            else:
                prices[intent.symbol] = price.value
        return prices, without_price

    async def _approve_at_once(
        self,
        ranked: Sequence[TradeIntent],
        prices: dict[str, Decimal],
        without_price: Mapping[str, Refused],
        now: datetime,
    ) -> bool:
        """Reserve for all of them by the holdings that are known, if nothing speaks against it: that saves a question
        to the ledger, which finds out by itself when they are known no longer. ``False``: nothing is done, and
        nothing told."""
        holdings = self._holdings
        if holdings is None or without_price:
            return False
        plan = await self._plan(ranked, holdings, prices, without_price, now)
        if plan.refused or plan.active:
            return False
        try:
            await self._reserve(plan.proposals, as_of=holdings.bookings)
        except BookedSince:
            return False
        self._announce((), now, ranked[0].correlation_id)
        return True

    async def _plan(
        self,
        ranked: Sequence[TradeIntent],
        holdings: Holdings,
        prices: dict[str, Decimal],
        without_price: Mapping[str, Refused],
        now: datetime,
    ) -> _Plan:
        """What each intent becomes, best first. ``prices`` gets those that it had to ask for."""
        if not prices:
            return _Plan([(intent, without_price[intent.symbol]) for intent in ranked], [], [])
        valuation = await self._value(prices, holdings)
        if isinstance(valuation, Refused):
            return _Plan([(intent, without_price.get(intent.symbol, valuation)) for intent in ranked], [], [])
        active = await self._protections(now, valuation)
        trades = await self._record()
        plan = _Plan([], [], active)
        for intent in ranked:
            entry = without_price.get(intent.symbol) or self._entry(
                intent, prices[intent.symbol], valuation, active, trades, now
            )
            if isinstance(entry, Refused):
                plan.refused.append((intent, entry))
            else:
                plan.proposals.append(entry)
        return plan

    def _entry(
        self,
        intent: TradeIntent,
        price: Decimal,
        valuation: Valuation,
        active: Sequence[Active],
        trades: Sequence[Trade],
        now: datetime,
    ) -> EntryProposal | Refused:
        for protection in active:
            if protection.binds(intent.symbol):
                return Refused(Reason.PROTECTION_ACTIVE, str(protection))
        settings = self._settings
        sized = size(
            settings.sizing,
            equity=valuation.equity,
            price=price,
            atr=intent.atr,
            trades=trades,
            quote_step=settings.quote_step,
        )
        if isinstance(sized, Refused):
            return sized
        held = valuation.held.get(intent.symbol, ZERO)
        too_much = symbol_share_problem(held, sized.budget, valuation.equity, settings)
        if too_much is not None:
            return too_much
        return propose(
            intent,
            price=price,
            budget=sized.budget,
            rules=self._rules[intent.symbol],
            settings=settings,
            now=now,
        )

    # --- the ledger ------------------------------------------------------------------------------------

    async def _refuse(self, refused: Sequence[tuple[TradeIntent, Refused]], now: datetime) -> None:
        if not refused:
            return
        refusals = [
            Refusal(
                intent_id=intent.id,
                entry_order=entry_order_id(self._settings.account, intent),
                symbol=intent.symbol,
                side=intent.side,
                reason=verdict.reason,
                detail=verdict.detail,
                confidence=intent.confidence,
                correlation_id=intent.correlation_id,
                at=now,
            )
            for intent, verdict in refused
        ]
        decisions = await self._ledger.refuse(self._current_epoch, refusals)
        for refusal, decision in zip(refusals, decisions, strict=True):
            self._tell(decision, refusal.correlation_id, None)

    async def _reserve(self, proposals: Sequence[EntryProposal], as_of: int | None = None) -> None:
        """Raises ``BookedSince``, with ``as_of``."""
        if not proposals:
            return
        decisions = await self._ledger.reserve_many(self._current_epoch, proposals, as_of)
        repeated = False
        try:
            for proposal, decision in zip(proposals, decisions, strict=True):
                if decision.outcome is Outcome.APPROVED and decision.new:
                    await self._bus.publish(entry_message(self._bot, proposal))
                elif decision.outcome is Outcome.APPROVED:
                    repeated = True
        finally:
            # After the orders are on their way; and also when they are not, for none of these is new once more.
            for proposal, decision in zip(proposals, decisions, strict=True):
                self._tell(decision, proposal.correlation_id, proposal)
        if repeated:
            # It came again because whoever decided it failed, perhaps before the announcement.
            await self._announce_waiting()

    async def _announce_waiting(self) -> None:
        """Of all entries that are approved and not claimed."""
        for order in await self._ledger.orders_to_send():
            await self._bus.publish(entry_message(self._bot, order))

    async def _exit(self, intent: TradeIntent, now: datetime) -> None:
        request = ExitRequest(
            cause=intent.id,
            symbol=intent.symbol,
            leg=Leg.EXIT,
            reason=intent.reason,
            confidence=intent.confidence,
            correlation_id=intent.correlation_id,
            at=now,
            message=exit_message(intent, now),
        )
        decision = await self._ledger.request_exit(self._current_epoch, request)
        self._tell(decision, intent.correlation_id, None)

    @property
    def _current_epoch(self) -> Epoch:
        if self._epoch is None:
            raise RuntimeError("the risk agent decides nothing before start()")
        return self._epoch

    def _tell(self, decision: Decision, correlation_id: str, proposal: EntryProposal | None) -> None:
        """One event a decision; one that had been decided before was told then."""
        if not decision.new:
            return
        if decision.outcome is Outcome.APPROVED:
            self._sink.emit(
                TradeApproved(
                    at=decision.at,
                    agent=self.name,
                    correlation_id=correlation_id,
                    symbol=decision.symbol,
                    side=decision.side,
                    confidence=decision.confidence,
                    client_order_id=decision.client_order_id,
                    amount=proposal.amount if proposal else None,
                    limit_price=proposal.limit_price if proposal else None,
                    reserved=decision.reserved,
                    available_after=decision.available_after,
                )
            )
            return
        if decision.reason is None:
            raise ValueError(f"the ledger refused intent {decision.intent_id} without a reason")
        self._sink.emit(
            TradeRejected(
                at=decision.at,
                agent=self.name,
                correlation_id=correlation_id,
                symbol=decision.symbol,
                side=decision.side,
                reason=decision.reason,
                detail=decision.detail,
                confidence=decision.confidence,
            )
        )

    # --- protections, equity ---------------------------------------------------------------------------

    async def _protections(self, now: datetime, valuation: Valuation | None) -> list[Active]:
        """Those in force; ``valuation`` is the account as it is now, when its prices are at hand.

        They are judged as of the last close: how long after it the decision comes depends on latencies and on
        restarts, and a pause of whole bars ends within these moments.
        """
        now = floor_time(now, TIMEFRAMES[self._settings.timeframe])
        settings = self._settings.protections
        trades: list[Trade] = []
        equity: list[EquityPoint] = []
        since = trades_since(settings, now)
        if since is not None:
            trades = await self._ledger.trades(since)
        since = equity_since(settings, now)
        if since is not None:
            equity = await self._points(since)
            if valuation is not None:
                equity = [*equity, self._point(now, valuation)]
        return active_protections(settings, now, trades=trades, equity=equity)

    def _announce(self, active: Sequence[Active], now: datetime, correlation_id: str | None) -> None:
        for each in self._announcer.news(active, now):
            self._sink.emit(
                ProtectionTriggered(
                    at=now,
                    agent=self.name,
                    correlation_id=correlation_id,
                    protection=each.protection,
                    symbol=each.symbol,
                    until=each.until,
                    detail=each.detail,
                )
            )

    async def _record(self) -> list[Trade]:
        """The finished trades that the sizing counts. Those that ended with the same bar are in the order of
        their symbols, for in which order they were booked may depend on a restart: so a few more than are counted
        are read, and the bar that the limit may cut through is not among those that count."""
        settings = self._settings
        if settings.sizing.method not in (SizingMethod.KELLY, SizingMethod.HYBRID):
            return []
        bar = TIMEFRAMES[settings.timeframe]
        margin = TRADES_A_BAR * len(settings.symbols)
        trades = await self._ledger.trades(limit=settings.sizing.kelly.lookback_trades + margin)
        return sorted(trades, key=lambda trade: (floor_time(trade.closed_at, bar), trade.symbol))

    async def _value(self, known: dict[str, Decimal], holdings: Holdings) -> Valuation | Refused:
        """The account at the prices that are known, and at the last ones of what else it holds: ``known`` has them
        afterwards."""
        settings = self._settings
        balances = holdings.balances
        held = held_symbols(balances, settings.symbols, settings.quote_currency)
        for symbol in settings.symbols:
            if symbol in known:
                continue
            price: Price | Refused | None
            if symbol in held:
                price = await self.prices.known(symbol)
                if isinstance(price, Refused):
                    return Refused(price.reason, f"the equity is not known, for {price.detail}")
            else:
                # Only to value outside movements of what is gone by now; they must not look like a loss.
                price = await self.prices.newest(symbol)
            if price is not None:
                known[symbol] = price.value
        valuation = value_account(balances, known, settings.symbols, settings.quote_currency)
        outside = outside_value(holdings.outside, known, settings.quote_currency)
        return msgspec.structs.replace(valuation, outside=outside)

    def _point(self, at: datetime, valuation: Valuation) -> EquityPoint:
        """Outside movements are neither profit nor drawdown: they are taken off."""
        return EquityPoint(at, valuation.equity - valuation.outside, valuation.outside)

    async def _points(self, since: datetime) -> list[EquityPoint]:
        """Equity as it was recorded, by this agent alone: so what was read once is known until it records more."""
        if self._equity is None or since < self._equity[0]:
            self._equity = (since, await self._ledger.equity(since))
        return [point for point in self._equity[1] if point.at >= since]

    def _measured(self, valuation: Valuation) -> ExposureMeasured:
        confidence = self._settings.value_at_risk.confidence
        returns = {symbol: self._closes.returns(symbol) for symbol in valuation.held}
        risk = tail_risk(valuation.held, returns, confidence, self._settings.quote_step)
        return ExposureMeasured(
            at=self._clock.now(),
            agent=self.name,
            equity=valuation.equity,
            exposure=valuation.exposure,
            confidence=confidence,
            value_at_risk=risk.value_at_risk,
            expected_shortfall=risk.expected_shortfall,
            returns=risk.returns,
        )

    async def _keep_equity(self) -> None:
        """A point that could not be valued whole is left out: half of the account would look like a drawdown.

        At the prices at hand it is one question to the ledger; when one is missing or old, the chain is asked."""
        settings = self._settings
        # The timer's moment, not the clock's: what came before it may have taken longer, and comes only once.
        at = floor_time(self._clock.now() - EQUITY_DELAY, self._settings.equity_interval) + EQUITY_DELAY
        prices = {symbol: self.prices.at_hand(symbol) for symbol in settings.symbols}
        by_base = {split_symbol(symbol)[0]: price for symbol, price in prices.items()}
        self._equity = None
        balances, equity = await self._ledger.measure_equity(at, settings.quote_currency, by_base)
        if equity is not None:
            known = {symbol: price for symbol, price in prices.items() if price is not None}
            valuation: Valuation | Refused = value_account(balances, known, settings.symbols, settings.quote_currency)
        else:
            valuation = await self._value({}, await self._ledger.holdings())
        if isinstance(valuation, Refused):
            return
        if equity is None:
            await self._ledger.record_equity(self._point(at, valuation))
            self._equity = None
        self._sink.emit(self._measured(valuation))

    async def _keep_opening_equity(self, now: datetime) -> None:
        """Where drawdown is measured from, until the first regular point. Only of an account that holds nothing
        but quote currency: prices come with the first bars, after the start."""
        if await self._ledger.equity(now - self._settings.equity_interval):
            return
        holdings = await self._ledger.holdings()
        settings = self._settings
        if not held_symbols(holdings.balances, settings.symbols, settings.quote_currency):
            valuation = value_account(holdings.balances, {}, settings.symbols, settings.quote_currency)
            outside = outside_value(holdings.outside, {}, settings.quote_currency)
            await self._ledger.record_equity(self._point(now, msgspec.structs.replace(valuation, outside=outside)))
