"""Positions: the tables they are in, what is held, and what protects it."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.asking import ask, only
from support.evidence import (
    BITCOIN,
    ETHER,
    NOW,
    account,
    bar,
    entry,
    evidence,
    heard,
    ledger,
    market,
    open_stop,
    rules,
    settings,
    stop,
)
from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, Precision, PrecisionMode
from tradingbot_agents.domain.values import ZERO, Leg, Mode, OrderType, Side
from tradingbot_agents.exchange.port import Capabilities, ExchangeBalance, ExchangeOrderState
from tradingbot_agents.ledger.port import Balance, Trade
from tradingbot_agents.reality.check import Status, judge
from tradingbot_agents.reality.checks import positions_holdings, positions_protected, positions_stops
from tradingbot_agents.reality.evidence import AccountEvidence, Heard, LedgerEvidence, Missing

PASSED, FAILED, UNKNOWN, SKIPPED = Status.PASSED, Status.FAILED, Status.UNKNOWN, Status.SKIPPED
AWAY = Missing("it does not answer")
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
WATCHING = Capabilities(stop_market=False, stop_limit=False, client_order_ids=True)


class TestSchema:
    def test_what_is_wrong_is_told(self) -> None:
        found = only("positions.schema", ledger=ledger(schema="migration 0005 is pending"))
        assert found == (FAILED, "migration 0005 is pending")

    def test_it_is_this_version_s(self) -> None:
        assert only("positions.schema") == (PASSED, "the tables are those of this version")

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("positions.schema", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def holding(**balances: str) -> AccountEvidence:
    """The exchange with other totals."""
    shown = {asset: ExchangeBalance(Decimal(total), ZERO) for asset, total in balances.items()}
    return account(balances={**account().balances, **shown})


class TestHoldings:
    def test_free_and_locked_are_one(self) -> None:
        told = {
            "USDT": ExchangeBalance(Decimal("900"), Decimal("89.99")),
            "BTC": ExchangeBalance(ZERO, Decimal("0.0999")),
        }
        assert only("positions.holdings", account=account(balances=told)) == (
            PASSED,
            "2 assets are there as the books say",
        )

    def test_what_is_missing_on_the_exchange(self) -> None:
        assert only("positions.holdings", account=holding(USDT="900")) == (
            FAILED,
            "USDT: the exchange has 900, and the books 989.99",
        )
        gone = account(balances={"USDT": account().balances["USDT"]})
        assert only("positions.holdings", account=gone) == (FAILED, "BTC: the exchange has 0, and the books 0.0999")
        check = positions_holdings.CHECK
        assert (check.severity, check.compares) == ("severe", True)

    def test_a_fill_that_was_booked_twice(self) -> None:
        twice = {
            "USDT": Balance(asset="USDT", total=Decimal("979.98"), reserved=ZERO, outside_holds=ZERO),
            "BTC": Balance(asset="BTC", total=Decimal("0.1998"), reserved=ZERO, outside_holds=ZERO),
        }
        books = msgspec.structs.replace(ledger().books, balances=twice)
        assert only("positions.holdings", ledger=ledger(books=books)) == (
            FAILED,
            "BTC: the exchange has 0.0999, and the books 0.1998",
        )

    def test_a_deposit_is_no_breach_and_is_told(self) -> None:
        assert ask("positions.holdings", account=holding(USDT="1989.99", SOL="3")) == (
            UNKNOWN,
            (
                "SOL: the exchange has 3, and the books 0: a deposit is booked when execution compares the account"
                " the next time",
                "USDT: the exchange has 1989.99, and the books 989.99: a deposit is booked when execution compares"
                " the account the next time",
            ),
        )

    def test_a_sale_by_hand_is_found_by_what_it_took(self) -> None:
        assert only("positions.holdings", account=holding(BTC="0", USDT="999.97")) == (
            FAILED,
            "BTC: the exchange has 0, and the books 0.0999",
        )

    def test_nobody_deposits_on_paper(self) -> None:
        found = only("positions.holdings", settings=settings(mode=Mode.PAPER), account=holding(USDT="1000"))
        assert found == (FAILED, "USDT: the exchange has 1000, and the books 989.99")

    def test_less_than_can_be_sold_is_dust(self) -> None:
        assert only("positions.holdings", account=holding(BTC="0.099891")) == (
            PASSED,
            "2 assets are there as the books say; dust apart: BTC -0.000009",
        )
        assert ask("positions.holdings", account=holding(BTC="0.09989"))[0] is FAILED
        # More of it is no deposit either.
        assert ask("positions.holdings", account=holding(BTC="0.099909"))[0] is PASSED

    def test_the_smallest_lot_is_that_of_its_symbol(self) -> None:
        known = ledger().rules
        lots = {
            BITCOIN: msgspec.structs.replace(known[BITCOIN], rules=rules(min_amount=Decimal("0.001"))),
            ETHER: known[ETHER],
        }
        assert ask("positions.holdings", ledger=ledger(rules=lots), account=holding(BTC="0.0990"))[0] is PASSED
        digits = Precision(PrecisionMode.SIGNIFICANT_DIGITS, Decimal(2))
        lots[BITCOIN] = msgspec.structs.replace(known[BITCOIN], rules=rules(amount=digits))
        assert ask("positions.holdings", ledger=ledger(rules=lots), account=holding(BTC="0.0994"))[0] is PASSED
        assert ask("positions.holdings", ledger=ledger(rules=lots), account=holding(BTC="0.0980"))[0] is FAILED

    def test_the_exchange_rounds_what_nobody_sells(self) -> None:
        assert ask("positions.holdings", account=holding(USDT="989.98999999"))[0] is PASSED
        assert ask("positions.holdings", account=holding(USDT="989.98999998"))[0] is FAILED

    def test_positions_that_have_more_than_there_is(self) -> None:
        positions = {BITCOIN: Decimal("0.0999"), "BTC/EUR": Decimal("0.1")}
        assert only("positions.holdings", ledger=ledger(account_positions=positions)) == (
            FAILED,
            "BTC: the exchange has 0.0999, and all positions together 0.1999",
        )
        none = ledger(account_positions={"SOL/USDT": Decimal(1)})
        assert only("positions.holdings", ledger=none) == (
            FAILED,
            "SOL: the exchange has 0, and all positions together 1",
        )

    def test_one_of_which_there_is_nothing_anywhere_is_not_counted(self) -> None:
        assert only("positions.holdings", account=holding(SOL="0"))[1] == "2 assets are there as the books say"

    def test_an_account_that_is_not_open_has_nothing_to_compare(self) -> None:
        books = msgspec.structs.replace(ledger().books, opened_at=None, balances={})
        assert only("positions.holdings", ledger=ledger(books=books)) == (SKIPPED, "the account is not open yet")

    @pytest.mark.parametrize("source", ["ledger", "account"])
    def test_without_one_of_the_two_nobody_knows(self, source: str) -> None:
        assert only("positions.holdings", **{source: AWAY}) == (UNKNOWN, f"{source}: it does not answer")


def held(*orders: Order, events: tuple[Heard, ...] = (), trades: tuple[Trade, ...] = (), **changes: Any) -> Any:
    """The ledger with these orders of its one position, with changes to that."""
    position = msgspec.structs.replace(ledger().positions[BITCOIN], **changes)
    return ledger(positions={BITCOIN: position}, orders=(*orders, entry()), heard=events, trades=trades)


def gap(ago: timedelta, why: str = "its stop moves from 95 to 97", **changes: Any) -> Heard:
    return msgspec.structs.replace(
        heard("position_unprotected", BITCOIN, agent=EXECUTION, at=NOW - ago, why=why), **changes
    )


def covered_again(seconds: str, ago: timedelta = MINUTE) -> Heard:
    return heard("position_protected", BITCOIN, seconds, agent=EXECUTION, at=NOW - ago, unprotected_seconds=0)


def closed(ago: timedelta) -> Trade:
    return Trade(
        trade_id="trade-1",
        symbol=BITCOIN,
        opened_at=NOW - 14 * MINUTE,
        closed_at=NOW - ago,
        bought=Decimal("0.1"),
        cost=Decimal("10.01"),
        profit=Decimal("-0.5"),
        fees=Decimal("0.02"),
        leg=Leg.STOP,
        indicators=(),
    )


class TestProtected:
    """The one position was opened 14 minutes ago, and may be a minute without a stop."""

    def test_a_stop_on_the_exchange(self) -> None:
        assert only("positions.protected") == (PASSED, "1 with a stop on the exchange")

    def test_no_position(self) -> None:
        assert only("positions.protected", ledger=ledger(positions={})) == (PASSED, "no position is held")
        flat = {BITCOIN: Position(symbol=BITCOIN)}
        assert only("positions.protected", ledger=ledger(positions=flat)) == (PASSED, "no position is held")

    def test_one_that_never_had_a_stop(self) -> None:
        assert only("positions.protected", ledger=held()) == (
            FAILED,
            "BTC/USDT: 0.0999 is not protected since 2026-03-01 11:47:00Z, 14 min: the ledger has no live stop of it",
        )

    def test_what_execution_says_of_it_is_told(self) -> None:
        found = held(events=(gap(13 * MINUTE, "the exchange refused its stop (order_refused: x)"),))
        status, told = only("positions.protected", ledger=found)
        assert status is FAILED
        assert told.endswith("of it: the exchange refused its stop (order_refused: x)")

    def test_as_long_as_it_may_be(self) -> None:
        for ago, status in ((MINUTE, PASSED), (MINUTE + SECOND, FAILED)):
            assert ask("positions.protected", ledger=held(opened_at=NOW - ago))[0] is status
        assert only("positions.protected", ledger=held(opened_at=NOW - 20 * SECOND)) == (
            PASSED,
            "BTC/USDT: 0.0999 is not protected for 20 s so far: the ledger has no live stop of it",
        )

    def test_one_whose_stop_ended(self) -> None:
        for state in (OrderState.CANCELLED, OrderState.FILLED, OrderState.NOT_FOUND):
            for ago, status in ((30 * SECOND, PASSED), (2 * MINUTE, FAILED)):
                ended = stop(state=state, finished_at=NOW - ago)
                assert ask("positions.protected", ledger=held(ended))[0] is status, (state, ago)

    def test_one_that_was_refused_again_and_again_never_protected(self) -> None:
        again = stop(state=OrderState.REJECTED, finished_at=NOW - 10 * SECOND)
        sending = stop("tbstop2", at=NOW - SECOND, state=OrderState.SUBMITTING, exchange_order_id=None)
        assert only("positions.protected", ledger=held(again)) == only("positions.protected", ledger=held())
        status, told = only("positions.protected", ledger=held(again, sending))
        assert status is FAILED
        assert told.endswith("since 2026-03-01 11:47:00Z, 14 min: its stop is submitting")

    def test_one_that_is_being_replaced(self) -> None:
        """No row has the time of a cancel: the event has it, of whichever gap it is."""
        moving = stop(state=OrderState.CANCELLING)
        assert only("positions.protected", ledger=held(moving, events=(gap(20 * SECOND),))) == (
            PASSED,
            "BTC/USDT: 0.0999 is not protected for 20 s so far: its stop is cancelling: its stop moves from 95 to 97",
        )
        assert ask("positions.protected", ledger=held(moving, events=(gap(2 * MINUTE),)))[0] is FAILED
        # Of earlier gaps only the last time counts; of one that is told again by a new process, the first.
        older = gap(10 * SECOND, first=NOW - 30 * MINUTE, count=3)
        assert ask("positions.protected", ledger=held(moving, events=(older,)))[0] is PASSED
        again = gap(10 * SECOND, first=NOW - 2 * MINUTE, count=2)
        assert ask("positions.protected", ledger=held(moving, events=(again,)))[0] is FAILED

    def test_one_whose_stop_nobody_knows_of(self) -> None:
        lost = stop(state=OrderState.UNRESOLVED)
        for events in ((), (gap(14 * MINUTE),)):
            assert only("positions.protected", ledger=held(lost, events=events))[0] is UNKNOWN
        assert only("positions.protected", ledger=held(lost)) == (
            UNKNOWN,
            "BTC/USDT: 0.0999 is not protected, since when is not known: its stop is unresolved",
        )

    def test_a_stop_that_covers_a_part(self) -> None:
        part = stop(amount=Decimal("0.05"))
        assert only("positions.protected", ledger=held(part)) == (
            FAILED,
            "BTC/USDT: 0.0999 is not protected since 2026-03-01 11:47:02Z, 13 min: its stop covers 0.05 of 0.0999",
        )
        both = held(part, stop("tbstop2", amount=Decimal("0.0499")))
        assert ask("positions.protected", ledger=both)[0] is PASSED

    def test_a_position_that_has_grown_just_now(self) -> None:
        grown = held(stop(), entry("tb2", at=NOW - 30 * SECOND), amount=Decimal("0.1998"))
        assert only("positions.protected", ledger=grown) == (
            PASSED,
            "BTC/USDT: 0.1998 is not protected for 28 s so far: its stop covers 0.0999 of 0.1998",
        )

    def test_a_sale_makes_no_position_grow(self) -> None:
        sold = entry("tb2", at=NOW - 30 * SECOND, leg=Leg.EXIT, side=Side.SELL)
        assert ask("positions.protected", ledger=held(stop(amount=Decimal("0.05")), sold))[0] is FAILED

    def test_a_stop_that_is_filled_in_part_covers_the_rest(self) -> None:
        part = stop(filled=Decimal("0.05"), cost=Decimal("4.75"))
        assert ask("positions.protected", ledger=held(part, amount=Decimal("0.0499")))[0] is PASSED

    @pytest.mark.parametrize(
        "changes",
        [
            {"max_amount": Decimal("0.05")},
            {"max_market_amount": Decimal("0.05")},
            {"max_notional": Decimal("4.75")},
            {"amount": Precision(PrecisionMode.TICK_SIZE, Decimal("0.05"))},
        ],
    )
    def test_no_more_must_be_covered_than_one_order_can_sell(self, changes: dict[str, Any]) -> None:
        lots = {BITCOIN: msgspec.structs.replace(ledger().rules[BITCOIN], rules=rules(**changes))}
        for amount, status in ((Decimal("0.05"), PASSED), (Decimal("0.0499"), FAILED)):
            found = msgspec.structs.replace(held(stop(amount=amount)), rules=lots)
            assert ask("positions.protected", ledger=found)[0] is status, amount

    def test_the_fee_of_a_sale_in_what_is_sold_need_not_be_covered(self) -> None:
        fees = Fees(maker=ZERO, taker=Decimal("0.001"), currency=FeeCurrency.BASE)
        lots = {BITCOIN: msgspec.structs.replace(ledger().rules[BITCOIN], rules=rules(fees=fees))}
        for amount, status in ((Decimal("0.0998"), PASSED), (Decimal("0.09979"), FAILED)):
            found = msgspec.structs.replace(held(stop(amount=amount)), rules=lots)
            assert ask("positions.protected", ledger=found)[0] is status, amount

    def test_what_is_no_stop_of_ours_protects_nothing(self) -> None:
        for other in (
            stop(bot="minors"),
            stop(symbol=ETHER),
            stop(type=OrderType.LIMIT, leg=Leg.TARGET),
            stop(side=Side.BUY),
        ):
            assert ask("positions.protected", ledger=held(other))[0] is FAILED

    def test_dust_needs_none(self) -> None:
        for little in (Decimal("0.000009"), Decimal("0.049")):
            found = only("positions.protected", ledger=held(amount=little))
            assert found == (PASSED, "1 dust, which nobody can sell")
        assert ask("positions.protected", ledger=held(amount=Decimal("0.05")))[0] is FAILED
        marked = held(state=PositionState.DUST, amount=Decimal("0.000009"))
        assert only("positions.protected", ledger=marked) == (PASSED, "no position is held")

    def test_dust_is_judged_by_the_newest_price(self) -> None:
        fallen = market(candles={BITCOIN: [bar(1), bar(0, close="40")]})
        assert ask("positions.protected", ledger=held(), market=fallen)[0] is PASSED

    def test_without_the_market_dust_is_judged_by_what_was_paid(self) -> None:
        # At the stop's price it could be sold.
        cheap = held(amount=Decimal("0.054"), cost=Decimal("4.86"))
        assert ask("positions.protected", ledger=cheap, market=AWAY)[0] is PASSED
        assert ask("positions.protected", ledger=held(amount=Decimal("0.06")), market=AWAY)[0] is UNKNOWN

    def test_one_that_is_being_sold_needs_none(self) -> None:
        assert only("positions.protected", ledger=held(state=PositionState.CLOSING)) == (PASSED, "1 being sold")

    def test_one_that_was_adopted_without_a_stop_price(self) -> None:
        status, told = only("positions.protected", ledger=held(stop_price=None))
        assert status is FAILED
        assert told.endswith("the books have no stop price for it")
        # Nor does a stop of another hand make up for it.
        adopted = held(stop(), stop_price=None, opened_at=None, trade_id=None)
        status, told = only("positions.protected", ledger=adopted)
        assert status is FAILED
        assert "since 2026-02-26 12:01:00Z, 3 d" in told

    def test_a_stop_that_execution_watches(self) -> None:
        watched = (PASSED, "1 with a stop that execution watches")
        assert only("positions.protected", ledger=held(), settings=settings(stops_on_exchange=False)) == watched
        assert only("positions.protected", ledger=held(), market=market(capabilities=WATCHING)) == watched
        for name in ("stop_market", "stop_limit"):
            can = msgspec.structs.replace(WATCHING, **{name: True})
            assert ask("positions.protected", ledger=held(), market=market(capabilities=can))[0] is FAILED

    def test_an_exchange_of_which_nobody_says_what_it_can(self) -> None:
        for blind in (AWAY, market(capabilities=None)):
            assert only("positions.protected", ledger=held(), market=blind) == (
                UNKNOWN,
                "BTC/USDT: 0.0999 is not protected, since when is not known: whether the exchange can hold one is not"
                " known, and it has none",
            )
            # Execution speaks of a gap only where it can.
            told = held(events=(gap(13 * MINUTE),))
            assert ask("positions.protected", ledger=told, market=blind)[0] is FAILED
            assert ask("positions.protected", market=blind)[0] is PASSED

    def test_a_halted_symbol_can_have_none(self) -> None:
        halted = market(rules={BITCOIN: rules(active=False), ETHER: rules(ETHER)})
        assert only("positions.protected", ledger=held(), market=halted) == (
            PASSED,
            "BTC/USDT: 0.0999 is not protected, and the exchange has halted it",
        )

    def test_without_rules_nobody_knows(self) -> None:
        blind = msgspec.structs.replace(held(stop()), rules={})
        assert ask("positions.protected", ledger=blind)[0] is PASSED
        status, told = only("positions.protected", ledger=blind, market=market(rules={}))
        assert status is UNKNOWN
        assert told.endswith("nobody has its market rules, so what a stop must cover is not known")

    def test_a_bot_without_stops_is_not_asked(self) -> None:
        found = only("positions.protected", settings=settings(has_stop=False), ledger=held())
        assert found == (SKIPPED, "the spec asks for no stop: spec.risk.stopLoss is 0")

    def test_gaps_that_are_over_are_told(self) -> None:
        events = (covered_again("0.4"), msgspec.structs.replace(covered_again("12.5"), count=2))
        assert only("positions.protected", ledger=held(stop(), events=events)) == (
            PASSED,
            "1 with a stop on the exchange; 3 times one had no stop for a while, 12 s at most",
        )

    def test_one_that_was_long(self) -> None:
        assert only("positions.protected", ledger=held(stop(), events=(covered_again("61"), covered_again("3")))) == (
            FAILED,
            "BTC/USDT: it was without a stop for 1 min (once, at 2026-03-01 12:00:00Z)",
        )
        assert ask("positions.protected", ledger=held(stop(), events=(covered_again("60"),)))[0] is PASSED

    def test_one_of_an_older_revision_does_not_count(self) -> None:
        found = msgspec.structs.replace(
            held(stop(), events=(covered_again("61"),)), revisions={EXECUTION: NOW - 30 * SECOND}
        )
        assert ask("positions.protected", ledger=found)[0] is PASSED

    def test_gaps_that_nobody_tells_apart_are_judged_by_the_last(self) -> None:
        together = msgspec.structs.replace(covered_again("(others)"), sample={"unprotected_seconds": "90.5"})
        assert ask("positions.protected", ledger=held(stop(), events=(together,)))[0] is FAILED
        silent = msgspec.structs.replace(covered_again("(others)"), sample={})
        assert ask("positions.protected", ledger=held(stop(), events=(silent,)))[0] is PASSED

    def test_a_gap_that_ended_with_a_sale(self) -> None:
        def sold(after: timedelta, *events: Heard) -> LedgerEvidence:
            # One trip before, and one after it.
            trades = (closed(12 * MINUTE), closed(10 * MINUTE - after), closed(SECOND))
            found: LedgerEvidence = held(trades=trades, events=(gap(10 * MINUTE), *events))
            return msgspec.structs.replace(found, positions={})

        assert only("positions.protected", ledger=sold(2 * MINUTE)) == (
            FAILED,
            "BTC/USDT: it was without a stop for 2 min, from 2026-03-01 11:51:00Z on, and was sold",
        )
        assert only("positions.protected", ledger=sold(30 * SECOND)) == (
            PASSED,
            "once one had no stop for a while, 30 s at most",
        )
        # A stop stood in between.
        again = covered_again("0.5", 9 * MINUTE)
        assert ask("positions.protected", ledger=sold(8 * MINUTE, again))[0] is PASSED

    def test_a_gap_of_a_position_that_is_being_sold(self) -> None:
        found = held(events=(gap(5 * MINUTE),), state=PositionState.CLOSING)
        assert only("positions.protected", ledger=found) == (
            FAILED,
            "BTC/USDT: it was without a stop for 5 min, from 2026-03-01 11:56:00Z on, and is being sold",
        )

    def test_attempts_that_do_nothing(self) -> None:
        failing = heard("exit_failing", BITCOIN, "stop", agent=EXECUTION, why="not_permitted: x")
        found = only("positions.protected", ledger=held(stop(), events=(failing,)))
        assert found == (
            FAILED,
            "BTC/USDT: no attempt does anything (stop, once, at 2026-03-01 11:56:00Z): not_permitted: x",
        )

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("positions.protected", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")
        assert judge(positions_protected.CHECK, evidence(account=AWAY, logs=AWAY)).status is PASSED


NAMED = "BTC/USDT: the stop of 0.0999 at 95 (tbstop)"


class TestStops:
    def test_one_that_was_cancelled_on_the_exchange(self) -> None:
        gone = account(open_orders=(), looked_up={"tbstop": None})
        assert only("positions.stops", account=gone) == (FAILED, f"{NAMED} is not on the exchange")
        ended = account(open_orders=(), looked_up={"tbstop": open_stop(state=ExchangeOrderState.CANCELLED)})
        assert only("positions.stops", account=ended) == (FAILED, f"{NAMED} is cancelled on the exchange")
        check = positions_stops.CHECK
        assert (check.severity, check.compares) == ("severe", True)

    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            ({"stop_price": Decimal(90)}, "its trigger is 90"),
            ({"amount": Decimal("0.05")}, "its amount is 0.05"),
            ({"side": Side.BUY}, "it is to buy BTC/USDT"),
            ({"symbol": ETHER}, "it is to sell ETH/USDT"),
            ({"amount": Decimal("0.05"), "stop_price": Decimal(90)}, "its amount is 0.05, its trigger is 90"),
        ],
    )
    def test_one_that_is_another_there(self, changes: dict[str, Any], told: str) -> None:
        found = only("positions.stops", account=account(open_orders=(open_stop(**changes),)))
        assert found == (FAILED, f"{NAMED}: on the exchange {told}")

    def test_the_limit_of_one_with_a_limit(self) -> None:
        ours = ledger(orders=(stop(type=OrderType.STOP_LIMIT, limit_price=Decimal(94)),))
        theirs = account(open_orders=(open_stop(type=OrderType.STOP_LIMIT, limit_price=Decimal(80)),))
        assert only("positions.stops", ledger=ours, account=theirs) == (
            FAILED,
            f"{NAMED}: on the exchange its limit is 80, and 94 in the ledger",
        )
        right = account(open_orders=(open_stop(type=OrderType.STOP_LIMIT, limit_price=Decimal("94.0")),))
        assert ask("positions.stops", ledger=ours, account=right)[0] is PASSED

    def test_it_is_known_by_either_id_and_by_being_looked_up(self) -> None:
        for theirs in (open_stop(client_order_id=None), open_stop(exchange_order_id="another")):
            assert ask("positions.stops", account=account(open_orders=(theirs,)))[0] is PASSED
        found = account(open_orders=(), looked_up={"tbstop": open_stop()})
        assert only("positions.stops", account=found) == (
            PASSED,
            "1 stops are on the exchange as the ledger has them",
        )

    def test_an_order_without_an_id_is_nobody_s(self) -> None:
        ours = ledger(orders=(stop(exchange_order_id=None),))
        other = account(open_orders=(open_stop(client_order_id=None, exchange_order_id="77"),))
        assert ask("positions.stops", ledger=ours, account=other)[0] is UNKNOWN

    def test_one_that_nobody_asked_for(self) -> None:
        assert only("positions.stops", account=account(open_orders=())) == (
            UNKNOWN,
            f"{NAMED} is not among the open orders, and nobody asked for it",
        )

    def test_an_exchange_that_does_not_tell_the_trigger(self) -> None:
        silent = account(open_orders=(open_stop(stop_price=None),))
        assert only("positions.stops", account=silent) == (
            UNKNOWN,
            f"{NAMED}: the exchange does not tell its trigger",
        )

    def test_what_ended_is_under_way_or_another_s_is_not_asked(self) -> None:
        orders = (
            entry(),
            stop("tb1", bot="minors"),
            stop("tb2", state=OrderState.CANCELLED),
            stop("tb3", state=OrderState.SUBMITTING),
            stop("tb4", state=OrderState.UNRESOLVED),
            stop("tb5", type=OrderType.LIMIT, leg=Leg.TARGET),
        )
        found = only("positions.stops", ledger=ledger(orders=orders), account=account(open_orders=()))
        assert found == (PASSED, "0 stops are on the exchange as the ledger has them")

    @pytest.mark.parametrize("source", ["ledger", "account"])
    def test_without_one_of_the_two_nobody_knows(self, source: str) -> None:
        assert only("positions.stops", **{source: AWAY}) == (UNKNOWN, f"{source}: it does not answer")
