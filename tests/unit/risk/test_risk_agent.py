"""The risk agent on the embedded bus, with time in the test's hands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.fake_ledger import FakeLedger
from support.messages import START, a_candle, a_candle_message
from support.queues import BOT_QUEUES
from support.risk import RULES, SETTINGS, a_point, a_trade, a_wish, protecting, sizing, with_settings
from tradingbot_agents.bus import EmbeddedBus, HandlerFailed
from tradingbot_agents.clock import VirtualClock, VirtualTimers
from tradingbot_agents.clock.virtual import TimerFailed
from tradingbot_agents.domain.events import (
    ExposureMeasured,
    ProtectionTriggered,
    Reason,
    TradeApproved,
    TradeRejected,
)
from tradingbot_agents.domain.messages import ExecutionReport, Message, OrderApproved, TradeIntent
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import TIMEFRAMES, BotState, Leg, Side
from tradingbot_agents.ledger.port import Fenced, LedgerUnavailable
from tradingbot_agents.marketdata.memory import MemoryCandleStore
from tradingbot_agents.risk.agent import RiskAgent
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import (
    ApprovalOrder,
    ApprovalSettings,
    Cooldown,
    MaxDrawdown,
    Settings,
    SizingMethod,
)
from tradingbot_agents.telemetry import MemorySink

PRICES = {"BTC/USDT": "121556.65", "ETH/USDT": "4470.25", "SOL/USDT": "228.17"}
CLOSED = START + timedelta(minutes=5)
"""When the first bar closes: intents come then."""
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
D = Decimal
A_TENTH = with_settings(sizing=sizing(fraction=D("0.10")))
FIRST_COME = ApprovalSettings(order=ApprovalOrder.FIRST_COME_FIRST_SERVED, window=timedelta(0))


class Bench:
    """One risk agent, and everything around it."""

    def __init__(self, ledger: FakeLedger, settings: Settings = SETTINGS, at: datetime = CLOSED) -> None:
        self.ledger = ledger
        self.settings = settings
        self.clock = VirtualClock(at)
        self.timers = VirtualTimers(self.clock)
        self.bus = EmbeddedBus(self.clock, BOT_QUEUES)
        self.sink = MemorySink()
        self.store = MemoryCandleStore(capacity=10)
        self.state = BotState.RUNNING
        self.orders: list[OrderApproved] = []
        self.agent = self._an_agent()

    def _an_agent(self) -> RiskAgent:
        return RiskAgent(
            bot="bot",
            settings=self.settings,
            clock=self.clock,
            timers=self.timers,
            bus=self.bus,
            sink=self.sink,
            ledger=self.ledger,
            store=self.store,
            rules=RULES,
            state=lambda: self.state,
        )

    async def start(self, closes: Mapping[str, str] = PRICES) -> Bench:
        """With a bar of each symbol in ``closes`` that closes as the agent starts."""
        for symbol, price in closes.items():
            await self.close_a_bar(symbol, price)
        await self.bus.consume("execution.orders", self._keep_order)
        await self.agent.start()
        await self.run()
        return self

    async def restart(self) -> None:
        """As the supervisor does it: everything of the old one is taken away."""
        await self.bus.detach(self.agent.name)
        self.timers.cancel_all(self.agent.name)
        await self.agent.stop()
        self.agent = self._an_agent()
        await self.agent.start()
        await self.run()

    async def _keep_order(self, order: OrderApproved) -> None:
        self.orders.append(order)

    async def close_a_bar(self, symbol: str, price: str, store: bool = True) -> None:
        """A bar that closes now."""
        index = (self.clock.now() - START) // TIMEFRAMES["5m"] - 1
        candle = a_candle(index, symbol=symbol, close=price)
        if store:
            await self.store.write([candle])
        await self.bus.publish(a_candle_message(candle))

    async def run(self, until: datetime | None = None) -> None:
        """Deliver everything, and let time pass to ``until`` (no further than it is now without it)."""
        until = until or self.clock.now()
        while True:
            while await self.bus.step():
                pass
            dues = [due for due in (self.timers.next_due(), self.bus.next_due()) if due is not None and due <= until]
            if not dues:
                self.clock.advance_to(until)
                return
            self.clock.advance_to(min(dues))
            await self.timers.fire_next()

    async def decide(self, *intents: TradeIntent, wait: timedelta = SECOND / 2) -> None:
        for intent in intents:
            await self.bus.publish(intent)
        await self.run(self.clock.now() + wait)

    def approved(self) -> list[TradeApproved]:
        return [event for event in self.sink.events if isinstance(event, TradeApproved)]

    def rejected(self) -> list[tuple[str, Reason]]:
        return [(event.symbol, event.reason) for event in self.sink.events if isinstance(event, TradeRejected)]

    def why(self) -> str:
        """The detail of the only refusal."""
        [event] = [event for event in self.sink.events if isinstance(event, TradeRejected)]
        return event.detail

    def triggered(self) -> list[ProtectionTriggered]:
        return [event for event in self.sink.events if isinstance(event, ProtectionTriggered)]


def wishes(*symbols_and_confidences: tuple[str, str], at: datetime = CLOSED) -> list[TradeIntent]:
    return [
        a_wish(symbol, price=PRICES[symbol], confidence=confidence, at=at)
        for symbol, confidence in symbols_and_confidences
    ]


def account(**totals: str) -> FakeLedger:
    return FakeLedger(**(totals or {"USDT": "84.54"}))


def a_report() -> ExecutionReport:
    return ExecutionReport(
        id="report-1",
        correlation_id="chain-1",
        causation_id="tb1",
        bot="bot",
        producer="execution",
        at=CLOSED,
        symbol="BTC/USDT",
        side=Side.SELL,
        leg=Leg.STOP,
        client_order_id="tb1",
        state=OrderState.OPEN,
        filled=Decimal(0),
        average_price=None,
    )


class TestTheExample:
    """84.54 USDT, 80 %, three intents at once: one is approved with 67.63, 16.91 remain, two are refused."""

    THREE = (("BTC/USDT", "0.7000"), ("ETH/USDT", "0.9000"), ("SOL/USDT", "0.8000"))

    @pytest.mark.parametrize(
        ("approval", "winner", "losers"),
        [
            (SETTINGS.approval, "ETH/USDT", ["SOL/USDT", "BTC/USDT"]),
            (FIRST_COME, "BTC/USDT", ["ETH/USDT", "SOL/USDT"]),
        ],
        ids=["byConfidence", "firstComeFirstServed"],
    )
    async def test_one_is_approved(self, approval: ApprovalSettings, winner: str, losers: list[str]) -> None:
        bench = await Bench(account(), with_settings(approval=approval)).start()
        await bench.decide(*wishes(*self.THREE))

        [approved] = bench.approved()
        assert (approved.symbol, approved.reserved, approved.available_after) == (
            winner,
            Decimal("67.63"),
            Decimal("16.91"),
        )
        assert bench.rejected() == [(symbol, Reason.INSUFFICIENT_AVAILABLE_BALANCE) for symbol in losers]
        assert bench.ledger.available("USDT") == Decimal("16.91")
        [order] = bench.orders
        assert order.symbol == winner
        assert bench.ledger.outbox == {}

    async def test_bitcoin_with_the_figures_of_the_design(self) -> None:
        bench = await Bench(account()).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000"), ("ETH/USDT", "0.8000"), ("SOL/USDT", "0.7000")))
        [proposal] = bench.ledger.proposals
        assert proposal.amount == Decimal("0.00055")
        assert proposal.stop_price == Decimal("115478.82")
        assert proposal.target_price == Decimal("133712.32")
        assert proposal.reserve_amount == Decimal("67.63")
        assert proposal.expires_at == CLOSED + timedelta(minutes=1)
        [order] = bench.orders
        assert (order.client_order_id, order.amount) == (proposal.client_order_id, Decimal("0.00055"))

    async def test_they_wait_for_the_window(self) -> None:
        bench = await Bench(account()).start()
        [first, second] = wishes(("BTC/USDT", "0.7000"), ("ETH/USDT", "0.9000"))
        await bench.decide(first, wait=timedelta(milliseconds=200))
        assert bench.ledger.decided == {}
        await bench.decide(second)
        assert [event.symbol for event in bench.approved()] == ["ETH/USDT"]
        assert bench.approved()[0].at == CLOSED + timedelta(milliseconds=250)


class TestDecidedOnce:
    async def test_a_redelivered_intent_changes_and_tells_nothing(self) -> None:
        bench = await Bench(account()).start()
        intents = wishes(("BTC/USDT", "0.9000"), ("ETH/USDT", "0.7000"))
        await bench.decide(*intents)
        told, reserved = len(bench.sink.events), dict(bench.ledger.reserved)
        bench.ledger.claimed = {proposal.client_order_id for proposal in bench.ledger.proposals}
        await bench.decide(*intents, *intents)
        assert len(bench.sink.events) == told
        assert bench.ledger.reserved == reserved
        assert len(bench.orders) == 1

    async def test_a_new_process_knows_what_was_decided(self) -> None:
        bench = await Bench(account()).start()
        [intent] = wishes(("BTC/USDT", "0.9000"))
        await bench.decide(intent)
        await bench.restart()
        await bench.decide(intent)
        assert len(bench.approved()) == 1
        assert bench.rejected() == []

    async def test_an_approved_intent_that_comes_again_too_late_stays_approved(self) -> None:
        bench = await Bench(account()).start()
        [intent] = wishes(("BTC/USDT", "0.9000"))
        await bench.decide(intent)
        bench.clock.advance_to(intent.expires_at + SECOND)
        await bench.decide(intent)
        assert bench.rejected() == []
        assert bench.ledger.decided[intent.id].reason is None


class TestRefusedAtSight:
    async def test_an_expired_one(self) -> None:
        bench = await Bench(account()).start()
        await bench.decide(a_wish("BTC/USDT", price="121556.65", at=CLOSED, lives=timedelta(milliseconds=100)))
        assert bench.rejected() == [("BTC/USDT", Reason.STALE_INTENT)]
        assert bench.why() == "it expired 0.15 s before it could be decided"

    @pytest.mark.parametrize("state", [BotState.PAUSED, BotState.REDUCE_ONLY, BotState.FLATTEN])
    async def test_entries_while_the_bot_may_only_sell(self, state: BotState) -> None:
        bench = await Bench(account(USDT="84.54", ETH="0.01")).start()
        bench.ledger.positions_open.add("ETH/USDT")
        bench.state = state
        await bench.decide(*wishes(("BTC/USDT", "0.9000")), a_wish("ETH/USDT", Side.SELL, at=CLOSED))
        assert bench.rejected() == [("BTC/USDT", Reason.NOT_TRADABLE_STATE)]
        assert [event.symbol for event in bench.approved()] == ["ETH/USDT"]

    async def test_everything_while_it_is_stopped(self) -> None:
        bench = await Bench(account(USDT="84.54", ETH="0.01")).start()
        bench.ledger.positions_open.add("ETH/USDT")
        bench.state = BotState.STOPPED
        await bench.decide(*wishes(("BTC/USDT", "0.9000")), a_wish("ETH/USDT", Side.SELL, at=CLOSED))
        assert bench.rejected() == [
            ("BTC/USDT", Reason.NOT_TRADABLE_STATE),
            ("ETH/USDT", Reason.NOT_TRADABLE_STATE),
        ]
        assert bench.orders == []

    async def test_a_symbol_that_is_not_the_bots(self) -> None:
        bench = await Bench(account()).start()
        await bench.decide(a_wish("DOGE/USDT", at=CLOSED))
        assert bench.rejected() == [("DOGE/USDT", Reason.SYMBOL_NOT_TRADING)]


class TestPrices:
    async def test_without_a_fresh_price_no_trade(self) -> None:
        """One symbol without a price does not keep the others from being traded."""
        bench = await Bench(account()).start({"BTC/USDT": PRICES["BTC/USDT"]})
        await bench.decide(*wishes(("BTC/USDT", "0.7000"), ("ETH/USDT", "0.9000")))
        assert bench.rejected() == [("ETH/USDT", Reason.NO_FRESH_PRICE)]
        assert [event.symbol for event in bench.approved()] == ["BTC/USDT"]
        [event] = bench.sink.named("price_fallback_used")
        assert event.correlation_id is not None

    async def test_without_any_price_no_trade(self) -> None:
        bench = await Bench(account(), at=CLOSED + timedelta(minutes=2)).start({})
        await bench.decide(*wishes(("BTC/USDT", "0.7000"), ("ETH/USDT", "0.9000"), at=bench.clock.now()))
        assert {reason for _, reason in bench.rejected()} == {Reason.NO_FRESH_PRICE}

    async def test_a_holding_without_a_price_leaves_the_equity_unknown(self) -> None:
        bench = await Bench(account(USDT="84.54", ETH="0.01")).start({"BTC/USDT": PRICES["BTC/USDT"]})
        await bench.decide(*wishes(("BTC/USDT", "0.7000")))
        assert bench.rejected() == [("BTC/USDT", Reason.NO_FRESH_PRICE)]
        assert bench.why().startswith("the equity is not known, for ETH/USDT: ")

    async def test_a_market_that_ran_away(self) -> None:
        bench = await Bench(account()).start()
        await bench.decide(a_wish("BTC/USDT", price="120000", at=CLOSED))
        assert bench.rejected() == [("BTC/USDT", Reason.STALE_INTENT)]


class TestSizes:
    async def test_they_are_of_the_whole_equity_and_never_shrunk(self) -> None:
        """50 USDT and 0.01 ETH at 4470.25: equity 94.70, 80 % of it 75.76, more than the 50 that are there."""
        bench = await Bench(account(USDT="50", ETH="0.01")).start()
        await bench.decide(*wishes(("BTC/USDT", "0.7000")))
        assert bench.rejected() == [("BTC/USDT", Reason.INSUFFICIENT_AVAILABLE_BALANCE)]
        assert bench.why() == "75.76 wanted, 50 available"

    async def test_kelly_reads_the_record(self) -> None:
        ledger = account()
        ledger.finished = [a_trade("-5", START)] * 30
        bench = await Bench(ledger, with_settings(sizing=sizing(SizingMethod.KELLY))).start()
        await bench.decide(*wishes(("BTC/USDT", "0.7000")))
        assert bench.rejected() == [("BTC/USDT", Reason.NO_EDGE)]

    @pytest.mark.parametrize("seconds", [(0.1, 0.3), (0.3, 0.1)])
    async def test_kelly_counts_trades_of_one_bar_in_the_order_of_their_symbols(
        self, seconds: tuple[float, float]
    ) -> None:
        """Which of them was booked first may depend on a restart; here the loss is the last that counts."""
        won, lost = (CLOSED - HOUR + timedelta(seconds=late) for late in seconds)
        trades = [a_trade("5", won, symbol="BTC/USDT"), a_trade("-5", lost, symbol="ETH/USDT")]
        ledger = account()
        ledger.finished = sorted(trades, key=lambda trade: trade.closed_at)
        kelly = msgspec.structs.replace(SETTINGS.sizing.kelly, minimum_trades=1, lookback_trades=1)
        settings = with_settings(sizing=sizing(SizingMethod.KELLY, kelly=kelly))
        bench = await Bench(ledger, settings).start()
        await bench.decide(*wishes(("BTC/USDT", "0.7000")))
        assert bench.rejected() == [("BTC/USDT", Reason.NO_EDGE)]

    async def test_too_small_for_the_exchange(self) -> None:
        bench = await Bench(account(USDT="6")).start()
        await bench.decide(*wishes(("BTC/USDT", "0.7000")))
        assert bench.rejected() == [("BTC/USDT", Reason.BELOW_MINIMUM_NOTIONAL)]

    async def test_an_exit_that_could_not_be_sold(self) -> None:
        """5.44 buys 0.023 SOL for 5.27; after fee and stop they would be below the minimum."""
        bench = await Bench(account(USDT="6.80")).start()
        await bench.decide(*wishes(("SOL/USDT", "0.7000")))
        assert bench.rejected() == [("SOL/USDT", Reason.EXIT_NOT_SELLABLE)]


class TestProtections:
    COOLDOWN = protecting(cooldown=Cooldown(pause=HOUR, per_symbol=True))

    def with_a_loss(self) -> FakeLedger:
        ledger = account(USDT="84.54", BTC="0.00001")
        ledger.finished = [a_trade("-3", CLOSED - HOUR / 2)]
        ledger.positions_open.add("BTC/USDT")
        return ledger

    async def test_they_refuse_entries_by_name_and_are_told_once(self) -> None:
        bench = await Bench(self.with_a_loss(), self.COOLDOWN).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000"), ("ETH/USDT", "0.7000")))
        await bench.decide(a_wish("BTC/USDT", price=PRICES["BTC/USDT"], at=bench.clock.now(), name="another"))
        assert bench.rejected() == [("BTC/USDT", Reason.PROTECTION_ACTIVE)] * 2
        assert [event.symbol for event in bench.approved()] == ["ETH/USDT"]
        [event] = bench.triggered()
        assert (event.protection, event.symbol, event.until) == ("cooldown", "BTC/USDT", CLOSED + HOUR / 2)
        [refusal, _] = bench.sink.named("trade_rejected")
        assert isinstance(refusal, TradeRejected)
        assert refusal.detail == "cooldown until 2024-03-01 00:35:00Z: BTC/USDT closed with a loss of 3"

    @pytest.mark.parametrize("took", ["0", "0.05", "0.95"])
    @pytest.mark.parametrize("late", ["0", "0.05", "0.95"])
    async def test_a_pause_of_whole_bars_does_not_depend_on_latencies(self, took: str, late: str) -> None:
        """The loss was booked ``took`` seconds after one close, the decision comes ``late`` after another, a pause
        later. A restart changes both, and must not change what is decided."""
        ledger = account()
        ledger.finished = [a_trade("-3", CLOSED - HOUR + timedelta(seconds=float(took)))]
        bench = await Bench(ledger, self.COOLDOWN).start()
        bench.clock.advance_to(CLOSED + timedelta(seconds=float(late)))
        await bench.decide(a_wish("BTC/USDT", price=PRICES["BTC/USDT"], at=bench.clock.now()))
        assert bench.rejected() == [("BTC/USDT", Reason.PROTECTION_ACTIVE)]

    async def test_never_exits(self) -> None:
        bench = await Bench(self.with_a_loss(), self.COOLDOWN).start()
        await bench.decide(a_wish("BTC/USDT", Side.SELL, at=CLOSED))
        assert [event.side for event in bench.approved()] == [Side.SELL]

    async def test_a_drawdown_survives_a_restart(self) -> None:
        ledger = account()
        ledger.points = {
            at: a_point(equity, at) for equity, at in [("100", CLOSED - 2 * HOUR), ("85", CLOSED - HOUR)]
        }
        settings = protecting(max_drawdown=MaxDrawdown(limit=Decimal("0.15"), lookback=7 * DAY, pause=DAY))
        bench = await Bench(ledger, settings).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        await bench.restart()
        await bench.decide(a_wish("ETH/USDT", price=PRICES["ETH/USDT"], at=bench.clock.now()))
        assert bench.rejected() == [("BTC/USDT", Reason.PROTECTION_ACTIVE), ("ETH/USDT", Reason.PROTECTION_ACTIVE)]

    @pytest.mark.parametrize(("outside", "refused"), [("0", True), ("-15.46", False)])
    async def test_money_that_was_taken_out_is_no_drawdown(self, outside: str, refused: bool) -> None:
        """100 before, 84.54 now: lost 15.46 %, or taken out by the owner."""
        ledger = account()
        ledger.points = {CLOSED - HOUR: a_point("100", CLOSED - HOUR)}
        ledger.outside = {"USDT": Decimal(outside)}
        settings = protecting(max_drawdown=MaxDrawdown(limit=Decimal("0.15"), lookback=7 * DAY, pause=DAY))
        bench = await Bench(ledger, settings).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        assert bench.rejected() == ([("BTC/USDT", Reason.PROTECTION_ACTIVE)] if refused else [])

    async def test_coins_that_were_taken_out_are_none_either(self) -> None:
        """0.01 ETH of 44.70 left the account: nothing is held any more, and nothing was lost."""
        ledger = account()
        ledger.points = {CLOSED - HOUR: a_point("129.24", CLOSED - HOUR)}
        ledger.outside = {"ETH": Decimal("-0.01")}
        settings = protecting(max_drawdown=MaxDrawdown(limit=Decimal("0.15"), lookback=7 * DAY, pause=DAY))
        bench = await Bench(ledger, settings).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        assert bench.rejected() == []

    async def test_a_closed_trade_sets_one_off_at_once(self) -> None:
        bench = await Bench(self.with_a_loss(), self.COOLDOWN).start()
        report = a_report()
        calls = len(bench.ledger.calls)
        await bench.bus.publish(report)
        await bench.run()
        assert (bench.triggered(), bench.ledger.calls[calls:]) == ([], [])
        await bench.bus.publish(msgspec.structs.replace(report, id="report-2", closed_trade="trade-1"))
        await bench.run()
        [event] = bench.triggered()
        assert (event.protection, event.correlation_id) == ("cooldown", "chain-1")

    async def test_the_ledger_counts_the_open_positions(self) -> None:
        bench = await Bench(account(USDT="500"), protecting(max_open_positions=1)).start()
        small = msgspec.structs.replace(bench.settings, sizing=sizing(fraction=Decimal("0.10")))
        bench.settings = small
        await bench.restart()
        await bench.decide(*wishes(("BTC/USDT", "0.9000"), ("ETH/USDT", "0.7000")))
        assert bench.rejected() == [("ETH/USDT", Reason.MAX_OPEN_POSITIONS)]

    async def test_the_share_of_one_symbol_counts_what_is_held(self) -> None:
        """0.01 ETH is 44.70 of an equity of 544.70; 10 % more would be 18.21 % of it."""
        settings = msgspec.structs.replace(
            protecting(max_symbol_share=Decimal("0.15")), sizing=sizing(fraction=Decimal("0.10"))
        )
        bench = await Bench(account(USDT="500", ETH="0.01"), settings).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000"), ("ETH/USDT", "0.7000")))
        assert [event.symbol for event in bench.approved()] == ["BTC/USDT"]
        assert bench.rejected() == [("ETH/USDT", Reason.PROTECTION_ACTIVE)]
        assert bench.why().startswith("maxSymbolShare: 99.1725 in one symbol would be 18.21 %")


class TestExits:
    async def test_a_sell_wakes_execution(self) -> None:
        ledger = account(USDT="16.91", BTC="0.00055")
        ledger.positions_open.add("BTC/USDT")
        bench = await Bench(ledger).start()
        await bench.decide(a_wish("BTC/USDT", Side.SELL, at=CLOSED, name="sell"))
        [order] = bench.orders
        assert (order.id, order.side, order.leg, order.client_order_id) == ("order.sell", Side.SELL, Leg.EXIT, None)
        [request] = ledger.exits
        assert (request.cause, request.leg, request.reason) == ("sell", Leg.EXIT, "consensus")

    async def test_without_a_position_it_is_refused_by_its_own_reason(self) -> None:
        bench = await Bench(account()).start()
        await bench.decide(a_wish("BTC/USDT", Side.SELL, at=CLOSED))
        assert bench.rejected() == [("BTC/USDT", Reason.INSUFFICIENT_BASE_BALANCE)]
        assert bench.orders == []

    async def test_a_sell_needs_no_price(self) -> None:
        ledger = account(USDT="16.91", BTC="0.00055")
        ledger.positions_open.add("BTC/USDT")
        bench = await Bench(ledger).start({})
        await bench.decide(a_wish("BTC/USDT", Side.SELL, at=CLOSED))
        assert len(bench.approved()) == 1

    async def test_a_batch_is_written_in_an_order_that_a_kill_can_not_change(self) -> None:
        ledger = account(USDT="84.54", ETH="0.01")
        ledger.positions_open.add("ETH/USDT")
        bench = await Bench(ledger).start()
        await bench.decide(
            a_wish("ETH/USDT", Side.SELL, at=CLOSED), *wishes(("BTC/USDT", "0.9000")), a_wish("DOGE/USDT", at=CLOSED)
        )
        writes = [call for call in ledger.calls if call in ("refuse", "reserve_many", "request_exit")]
        assert writes == ["refuse", "reserve_many", "request_exit"]


class TestWhatIsKnownOfTheAccount:
    """The holdings are read once, and again when something has been booked since."""

    async def test_it_is_asked_once(self) -> None:
        bench = await Bench(account(USDT="1000"), A_TENTH).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        asked = bench.ledger.calls.count("balances")
        await bench.decide(*wishes(("ETH/USDT", "0.9000")))
        assert [proposal.symbol for proposal in bench.ledger.proposals] == ["BTC/USDT", "ETH/USDT"]
        assert bench.ledger.calls.count("balances") == asked

    @pytest.mark.parametrize("told", [True, False])
    async def test_a_size_is_of_what_the_account_is_worth_now(self, told: bool) -> None:
        """Whoever booked it: this bot's execution tells risk by a report, another bot's does not."""
        bench = await Bench(account(USDT="1000"), A_TENTH).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        bench.ledger.totals["USDT"] = D("500")
        if told:
            await bench.bus.publish(a_report())
            await bench.run()
        tried = bench.ledger.calls.count("reserve_many")
        await bench.decide(*wishes(("ETH/USDT", "0.9000")))
        first, second = bench.ledger.proposals
        assert (first.reserve_amount, second.reserve_amount) == (D("100.00"), D("50.00"))
        assert bench.ledger.calls.count("reserve_many") - tried == (1 if told else 2)
        assert len(bench.approved()) == len(bench.orders) == 2

    async def test_nothing_is_refused_by_what_is_no_longer_so(self) -> None:
        """By the old holdings the share of the symbol would be too much."""
        settings = msgspec.structs.replace(protecting(max_symbol_share=D("0.50")), sizing=sizing(fraction=D("0.40")))
        bench = await Bench(account(USDT="100", BTC="0.001"), settings).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        assert [reason for *_, reason in bench.rejected()] == [Reason.PROTECTION_ACTIVE]
        bench.ledger.totals = {"USDT": D("1000")}
        await bench.decide(*wishes(("BTC/USDT", "0.9000"), at=CLOSED + SECOND))
        assert [event.symbol for event in bench.approved()] == ["BTC/USDT"]


class TestFaults:
    async def test_intents_wait_for_a_database_that_is_away(self) -> None:
        bench = await Bench(account()).start()
        bench.ledger.away_for = 2
        await bench.decide(*wishes(("BTC/USDT", "0.9000")), wait=10 * SECOND)
        assert [event.symbol for event in bench.approved()] == ["BTC/USDT"]
        assert bench.bus.dead_letters() == ()
        assert len(bench.orders) == 1

    async def test_an_answer_that_was_lost_is_asked_for_again(self) -> None:
        """Away right after the reservation: the decision stands, and the order is announced with the next try."""
        bench = await Bench(account()).start()
        reserve = bench.ledger.reserve_many

        async def reserve_and_go_away(*arguments: Any) -> Sequence[Any]:
            await reserve(*arguments)
            raise LedgerUnavailable("the answer was lost")

        bench.ledger.reserve_many = reserve_and_go_away  # type: ignore[method-assign]
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        assert bench.orders == []
        bench.ledger.reserve_many = reserve  # type: ignore[method-assign]
        await bench.run(bench.clock.now() + 10 * SECOND)
        assert len(bench.orders) == len(bench.ledger.proposals) == 1
        assert bench.rejected() == []

    async def test_a_process_that_was_fenced_off_says_so_and_ends(self) -> None:
        bench = await Bench(account()).start()
        bench.ledger.epoch += 1
        with pytest.raises(HandlerFailed) as failed:
            await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        assert isinstance(failed.value.__cause__, Fenced)
        [event] = bench.sink.named("fenced_off")
        assert event.fields()["role"] == "risk"
        assert bench.ledger.decided == {}

    async def test_a_new_process_fences_off_the_old_one_and_publishes_what_it_left(self) -> None:
        bench = await Bench(account()).start()
        [intent] = wishes(("BTC/USDT", "0.9000"))
        await bench.decide(intent)
        [entry] = bench.orders
        bench.ledger.outbox = {7: msgspec.structs.replace(entry, id="order.exit")}
        await bench.restart()
        assert bench.ledger.epoch == 2
        assert [order.id for order in bench.orders] == [f"order.{intent.id}", f"order.{intent.id}", "order.exit"]
        assert bench.orders[1] == entry

    async def test_an_entry_that_was_claimed_is_announced_no_more(self) -> None:
        bench = await Bench(account()).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        bench.ledger.claimed = {proposal.client_order_id for proposal in bench.ledger.proposals}
        await bench.restart()
        assert len(bench.orders) == 1

    async def test_an_entry_whose_announcement_failed_is_announced_when_its_intent_comes_again(self) -> None:
        bench = await Bench(account()).start()
        publish = bench.bus.publish

        async def fail(message: Message) -> None:
            raise ConnectionError("the bus is gone")

        bench.bus.publish = fail  # type: ignore[method-assign]
        [intent] = wishes(("BTC/USDT", "0.9000"))
        await publish(intent)
        bench.clock.advance_to(CLOSED + SECOND)
        with pytest.raises(HandlerFailed):
            await bench.bus.step()
        assert len(bench.approved()) == 1
        bench.bus.publish = publish  # type: ignore[method-assign]
        await bench.run()
        assert [order.id for order in bench.orders] == [f"order.{intent.id}"]
        assert len(bench.approved()) == 1

    async def test_the_backup_timer_publishes_what_is_left(self) -> None:
        bench = await Bench(account(), with_settings(outbox_interval=30 * SECOND)).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        bench.ledger.outbox = {7: msgspec.structs.replace(bench.orders.pop(), id="order.exit")}
        await bench.run(CLOSED + 31 * SECOND)
        assert len(bench.orders) == 1
        assert bench.ledger.outbox == {}

    async def test_one_that_no_intent_reaches_learns_that_it_is_fenced_off(self) -> None:
        bench = await Bench(account(), with_settings(outbox_interval=30 * SECOND)).start()
        await bench.decide(*wishes(("BTC/USDT", "0.9000")))
        bench.ledger.outbox = {7: msgspec.structs.replace(bench.orders.pop(), id="order.exit")}
        bench.ledger.epoch += 1
        with pytest.raises(TimerFailed) as failed:
            await bench.run(CLOSED + 31 * SECOND)
        assert isinstance(failed.value.__cause__, Fenced)
        assert len(bench.sink.named("fenced_off")) == 1
        assert bench.orders == []


class TestEquity:
    ON_THE_HOUR = START + HOUR

    async def test_the_opening_equity_of_cash(self) -> None:
        bench = await Bench(account()).start()
        assert list(bench.ledger.points.values()) == [a_point("84.54", CLOSED)]

    async def test_an_account_with_coins_waits_for_their_prices(self) -> None:
        bench = await Bench(account(USDT="50", ETH="0.01")).start()
        assert bench.ledger.points == {}
        assert bench.sink.events == []

    async def test_a_restart_adds_no_point(self) -> None:
        bench = await Bench(account()).start()
        bench.clock.advance_to(CLOSED + 60 * SECOND)
        await bench.restart()
        assert list(bench.ledger.points) == [CLOSED]

    async def test_it_is_kept_after_each_interval(self) -> None:
        """50 USDT and 0.01 ETH, first at 4500 and then at 4000."""
        bench = await Bench(account(USDT="50", ETH="0.01")).start()
        for hours, price in ((1, "4500"), (2, "4000")):
            await bench.run(START + hours * HOUR)
            await bench.close_a_bar("ETH/USDT", price)
        await bench.run(START + 2 * HOUR + 10 * SECOND)
        assert list(bench.ledger.points.values()) == [
            a_point("95.00", START + HOUR + SECOND),
            a_point("90.00", START + 2 * HOUR + SECOND),
        ]
        measured = [event for event in bench.sink.events if isinstance(event, ExposureMeasured)]
        assert [(event.equity, event.exposure) for event in measured] == [
            (Decimal("95.00"), Decimal("45.00")),
            (Decimal("90.00"), Decimal("40.00")),
        ]

    async def test_a_restart_in_between_keeps_the_beat(self) -> None:
        bench = await Bench(account()).start()
        bench.clock.advance_to(self.ON_THE_HOUR)
        await bench.restart()
        await bench.run(self.ON_THE_HOUR + 2 * SECOND)
        assert list(bench.ledger.points) == [CLOSED, self.ON_THE_HOUR + SECOND]

    async def test_what_delays_the_timer_does_not_move_the_point(self) -> None:
        bench = await Bench(account()).start()
        bench.clock.advance_to(self.ON_THE_HOUR + 3 * SECOND)
        await bench.run(self.ON_THE_HOUR + 4 * SECOND)
        assert list(bench.ledger.points) == [CLOSED, self.ON_THE_HOUR + SECOND]

    async def test_outside_movements_are_taken_off(self) -> None:
        bench = await Bench(account(USDT="184.54")).start()
        bench.ledger.outside = {"USDT": Decimal(100)}
        await bench.run(self.ON_THE_HOUR + 2 * SECOND)
        assert bench.ledger.points[self.ON_THE_HOUR + SECOND].equity == Decimal("84.54")

    async def test_a_point_that_can_not_be_valued_is_left_out(self) -> None:
        bench = await Bench(account(USDT="50", ETH="0.01")).start()
        await bench.run(self.ON_THE_HOUR + 2 * SECOND)
        assert bench.ledger.points == {}
        assert len(bench.sink.named("price_fallback_used")) == 1

    async def test_exposure_on_demand(self) -> None:
        """Twenty bars that fall by 1 % each: 44.10 held, and a bar may cost about 0.44."""
        bench = await Bench(account(USDT="50", ETH="0.01")).start({})
        for bar in range(21):
            await bench.run(CLOSED + bar * TIMEFRAMES["5m"])
            await bench.close_a_bar("ETH/USDT", str(4410 / Decimal("0.99") ** (20 - bar)))
        await bench.run()
        answer = await bench.agent.exposure()
        assert isinstance(answer, ExposureMeasured)
        assert (answer.equity, answer.exposure, answer.returns) == (Decimal("94.10"), Decimal("44.10"), 20)
        assert answer.value_at_risk == answer.expected_shortfall == Decimal("0.44")

    async def test_worth_is_the_equity_at_the_newest_prices_and_is_told_to_nobody(self) -> None:
        bench = await Bench(account(USDT="50", ETH="0.01")).start({})
        await bench.close_a_bar("ETH/USDT", "4410")
        await bench.run()
        told = len(bench.sink.events)
        assert await bench.agent.worth() == Decimal("94.10")
        assert len(bench.sink.events) == told

    async def test_worth_without_a_price_is_not_known_and_no_alarm(self) -> None:
        bench = await Bench(account(USDT="50", ETH="0.01")).start({})
        assert await bench.agent.worth() is None
        assert bench.sink.named("price_fallback_used") == []

    async def test_exposure_without_a_price(self) -> None:
        bench = await Bench(account(USDT="50", ETH="0.01")).start({})
        answer = await bench.agent.exposure()
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NO_FRESH_PRICE


async def test_a_bar_that_makes_no_decision_asks_the_ledger_nothing() -> None:
    bench = await Bench(account()).start()
    calls = len(bench.ledger.calls)
    for bar in range(2, 6):
        bench.clock.advance_to(START + bar * TIMEFRAMES["5m"])
        await bench.close_a_bar("BTC/USDT", "121000")
        await bench.run()
    assert bench.ledger.calls[calls:] == []


async def test_nothing_is_decided_before_the_start() -> None:
    bench = Bench(account())
    await bench.bus.consume_batches("risk.intents", bench.agent._on_intents, timedelta(0))
    with pytest.raises(HandlerFailed) as failed:
        await bench.decide(a_wish("DOGE/USDT", at=CLOSED))
    assert "before start()" in str(failed.value.__cause__)


async def test_what_was_ignored_at_the_opening_does_not_make_sizes() -> None:
    """1 BTC of before, worth a hundred times the cash: sizes are of the 84.54 USDT."""
    ledger = account(USDT="84.54", BTC="1")
    ledger.set_aside["BTC"] = Decimal(1)
    bench = await Bench(ledger).start()
    await bench.decide(*wishes(("BTC/USDT", "0.9000")))
    [approved] = bench.approved()
    assert approved.reserved == Decimal("67.63")
    assert next(iter(ledger.points.values())).equity == Decimal("84.54")


async def test_two_intents_of_one_id_are_no_redelivery() -> None:
    bench = await Bench(account()).start()
    [first, other] = wishes(("BTC/USDT", "0.9000"), ("ETH/USDT", "0.8000"))
    same_id = msgspec.structs.replace(other, id=first.id)
    await bench.decide(first, first, same_id)
    assert [event.symbol for event in bench.approved()] == ["BTC/USDT"]
    assert bench.rejected() == [("ETH/USDT", Reason.DUPLICATE_INTENT)]
    assert list(bench.ledger.decided) == [first.id]


async def test_kelly_reads_no_more_of_the_record_than_it_counts() -> None:
    settings = with_settings(sizing=sizing(SizingMethod.KELLY))
    bench = await Bench(account(), settings).start()
    await bench.decide(*wishes(("BTC/USDT", "0.9000")))
    most = settings.sizing.kelly.lookback_trades + 2 * len(settings.symbols)
    assert [call for call in bench.ledger.calls if call.startswith("trades(")] == [f"trades(limit={most})"]
