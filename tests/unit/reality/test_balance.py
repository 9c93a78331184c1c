"""The balance lock: its invariants, what it refused, what it holds, and who writes."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.asking import ask, only
from support.evidence import (
    BEGAN,
    NOW,
    SINCE,
    agents,
    entry,
    heard,
    invariants,
    ledger,
    log,
    pod,
    pods,
    stop,
)
from tradingbot_agents.bus.topology import EXECUTION, RISK, STRATEGY
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.orders import Order, OrderState, Reservation
from tradingbot_agents.domain.values import ZERO, Leg
from tradingbot_agents.ledger.invariants import RULES
from tradingbot_agents.ledger.port import Balance
from tradingbot_agents.reality.check import Status, all_checks
from tradingbot_agents.reality.checks import accounting_entries, balance_invariants, balance_lock
from tradingbot_agents.reality.evidence import Epochs, LedgerEvidence, Logs, Missing

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
AWAY = Missing("it does not answer")
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def severity(check: str) -> str:
    return next(each.severity.value for each in all_checks() if each.id == check)


class TestInvariants:
    def test_each_of_the_ledger_s_belongs_to_one_check(self) -> None:
        promises, happened = balance_invariants.OWN, accounting_entries.OWN
        assert promises | happened == {rule.name for rule in RULES}
        assert not promises & happened

    @pytest.mark.parametrize("name", sorted(balance_invariants.OWN))
    def test_one_that_is_broken(self, name: str) -> None:
        broken = ledger(invariants=invariants(**{name: "USDT: 5 too much"}))
        assert only("balance.invariants", ledger=broken) == (FAILED, f"{name}: USDT: 5 too much")

    def test_those_about_what_has_happened_are_another_check_s(self) -> None:
        broken = ledger(invariants=invariants(total_is_sum_of_entries="USDT: total is 5"))
        assert only("balance.invariants", ledger=broken) == (PASSED, "6 invariants hold")

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("balance.invariants", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def having(**totals: str) -> LedgerEvidence:
    """Books with other totals."""
    told = {
        asset: Balance(asset=asset, total=Decimal(total), reserved=ZERO, outside_holds=ZERO)
        for asset, total in totals.items()
    }
    clean = ledger()
    return ledger(books=msgspec.structs.replace(clean.books, balances={**clean.books.balances, **told}))


class TestLock:
    def test_nothing_was_refused(self) -> None:
        assert only("balance.lock") == (PASSED, "no intent was refused")

    def test_nine_refusals_are_the_lock_at_work(self) -> None:
        refusals = {"insufficient_available_balance": 7, "position_already_open": 2}
        assert only("balance.lock", ledger=ledger(refusals=refusals)) == (
            PASSED,
            "9 intents were refused: the lock at work (insufficient_available_balance 7, position_already_open 2)",
        )

    def test_what_risk_refuses_is_told_apart(self) -> None:
        refusals = {"max_open_positions": 1, "no_fresh_price": 3, "stale_intent": 0}
        assert only("balance.lock", ledger=ledger(refusals=refusals)) == (
            PASSED,
            "1 intent was refused: the lock at work (max_open_positions 1);"
            " 3 intents were refused: risk at work (no_fresh_price 3)",
        )

    def test_every_reason_is_the_lock_s_or_risk_s(self) -> None:
        assert set(Reason) - balance_lock.OF_THE_LOCK - balance_lock.OF_RISK == {Reason.DUPLICATE_INTENT}

    @pytest.mark.parametrize("reason", ["duplicate_intent", "moon_is_full"])
    def test_a_reason_that_none_should_have(self, reason: str) -> None:
        refusals = {"insufficient_available_balance": 7, reason: 1}
        assert only("balance.lock", ledger=ledger(refusals=refusals)) == (
            FAILED,
            f"1 intent was refused for {reason}, which is no reason to refuse one that this version knows",
        )

    def test_a_booking_took_it_below_zero(self) -> None:
        told = ledger(heard=(heard("overdrawn", "USDT", agent=EXECUTION, total="-3.50"),))
        assert only("balance.lock", ledger=told) == (
            FAILED,
            "USDT: a booking took it below zero (once, at 2026-03-01 11:56:00Z), at last to -3.50",
        )
        assert severity("balance.lock") == "severe"

    def test_what_is_below_zero_is_told_once_and_for_as_long_as_it_is(self) -> None:
        short = having(BNB="-0.01")
        assert only("balance.lock", ledger=short) == (FAILED, "BNB: the books have -0.01, less than nothing")
        told = msgspec.structs.replace(short, heard=(heard("overdrawn", "BNB", agent=EXECUTION, total="-0.01"),))
        assert only("balance.lock", ledger=told) == (FAILED, "BNB: the books have -0.01, less than nothing")

    def test_nothing_is_enough(self) -> None:
        assert ask("balance.lock", ledger=having(BNB="0"))[0] is PASSED

    def test_what_an_older_revision_overdrew_counts_no_more(self) -> None:
        mended = {STRATEGY: BEGAN, RISK: BEGAN, EXECUTION: NOW - MINUTE}
        told = ledger(heard=(heard("overdrawn", "USDT", agent=EXECUTION, total="-3.50"),), revisions=mended)
        assert ask("balance.lock", ledger=told)[0] is PASSED

    def test_an_entry_that_the_exchange_had_no_money_for_is_told(self) -> None:
        refused = entry(
            "tb1", state=OrderState.REJECTED, filled=ZERO, cost=ZERO, reason="insufficient_funds: balance is too low"
        )
        others = (
            msgspec.structs.replace(refused, client_order_id="tb5", finished_at=SINCE),
            msgspec.structs.replace(refused, client_order_id="tb2", bot="minors"),
            msgspec.structs.replace(refused, client_order_id="tb3", finished_at=SINCE - SECOND),
            msgspec.structs.replace(refused, client_order_id="tb4", reason="order_refused: no"),
        )
        assert only("balance.lock", ledger=ledger(orders=(refused, *others))) == (
            PASSED,
            "no intent was refused; the exchange refused 2 for want of money, see positions.holdings (tb1, tb5)",
        )

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("balance.lock", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def waiting(**changes: Any) -> Order:
    """An entry that holds its money: approved, and not sent yet."""
    fields: dict[str, Any] = {
        "at": NOW - 10 * SECOND,
        "state": OrderState.APPROVED,
        "filled": ZERO,
        "cost": ZERO,
        "exchange_order_id": None,
        "claimed_at": None,
        "finished_at": None,
    }
    return entry("tb1", **{**fields, **changes})


def reserved(**changes: Any) -> Reservation:
    fields: dict[str, Any] = {"client_order_id": "tb1", "asset": "USDT", "amount": Decimal("10.07")}
    return Reservation(**{**fields, **changes})


def holding(*reservations: Reservation, orders: tuple[Order, ...]) -> LedgerEvidence:
    return ledger(reservations=reservations, orders=(*orders, stop(), entry()))


class TestReservations:
    def test_nothing_is_under_way(self) -> None:
        assert only("balance.reservations") == (PASSED, "nothing is reserved")

    @pytest.mark.parametrize(
        "order",
        [
            waiting(),
            waiting(state=OrderState.SUBMITTING, claimed_at=NOW),
            waiting(state=OrderState.OPEN, at=NOW - 20 * MINUTE, exchange_order_id="1003"),
            waiting(state=OrderState.UNRESOLVED, at=NOW - 20 * MINUTE),
        ],
        ids=lambda order: order.state.value,
    )
    def test_each_has_its_entry(self, order: Order) -> None:
        found = only("balance.reservations", ledger=holding(reserved(), orders=(order,)))
        assert found == (PASSED, "1 reservations, each with its entry")

    def test_one_without_an_order(self) -> None:
        assert only("balance.reservations", ledger=holding(reserved(), orders=())) == (
            FAILED,
            "10.07 USDT are held for tb1, and there is no such order",
        )

    def test_what_fills_drew_is_not_held_any_more(self) -> None:
        drawn = reserved(drawn=Decimal("4.07"))
        assert only("balance.reservations", ledger=holding(drawn, orders=())) == (
            FAILED,
            "6.00 USDT are held for tb1, and there is no such order",
        )

    def test_one_of_an_order_that_has_ended(self) -> None:
        ended = waiting(state=OrderState.CANCELLED, finished_at=NOW - MINUTE)
        assert only("balance.reservations", ledger=holding(reserved(), orders=(ended,))) == (
            FAILED,
            "10.07 USDT are held for tb1, which is cancelled",
        )

    def test_one_of_an_order_that_sells(self) -> None:
        exit_ = waiting(state=OrderState.OPEN, leg=Leg.STOP)
        assert only("balance.reservations", ledger=holding(reserved(), orders=(exit_,))) == (
            FAILED,
            "10.07 USDT are held for tb1, which is an order of leg stop",
        )

    def test_one_that_is_too_small(self) -> None:
        assert only(
            "balance.reservations", ledger=holding(reserved(amount=Decimal("10.04")), orders=(waiting(),))
        ) == (
            FAILED,
            "10.04 USDT are held for tb1, which may cost 10.050",
        )
        exact = reserved(amount=Decimal("10.05"))
        assert ask("balance.reservations", ledger=holding(exact, orders=(waiting(),)))[0] is PASSED
        # What a fill and its fee drew is booked whatever was held.
        partly = waiting(state=OrderState.OPEN, filled=Decimal("0.05"), cost=Decimal("5"))
        small = reserved(amount=Decimal("10.04"), drawn=Decimal("5.01"))
        assert ask("balance.reservations", ledger=holding(small, orders=(partly,)))[0] is PASSED

    @pytest.mark.parametrize("state", [OrderState.APPROVED, OrderState.OPEN, OrderState.UNRESOLVED])
    def test_an_entry_without_one(self, state: OrderState) -> None:
        assert only("balance.reservations", ledger=holding(orders=(waiting(state=state),))) == (
            FAILED,
            f"tb1 ({state.value}) may still buy 0.1 of BTC/USDT, and nothing is held for it",
        )

    def test_one_that_waits_in_vain(self) -> None:
        # Its minute to be sent, half a minute until execution looks for it, and the clocks' five seconds.
        late = 95 * SECOND
        at_last = holding(reserved(), orders=(waiting(at=NOW - late),))
        assert ask("balance.reservations", ledger=at_last)[0] is PASSED
        too_late = holding(reserved(), orders=(waiting(at=NOW - late - SECOND),))
        assert only("balance.reservations", ledger=too_late) == (
            FAILED,
            "10.07 USDT are held for tb1, which was approved 1 min ago, and neither sent nor refused",
        )

    def test_another_bot_s_waits_as_long_as_its_own_spec_says(self) -> None:
        other = waiting(at=NOW - 10 * MINUTE, bot="minors")
        assert ask("balance.reservations", ledger=holding(reserved(), orders=(other,)))[0] is PASSED
        # What it holds without an order is everybody's.
        ended = waiting(bot="minors", state=OrderState.FILLED)
        assert ask("balance.reservations", ledger=holding(reserved(), orders=(ended,)))[0] is FAILED

    def test_that_execution_is_late_is_not_severe(self) -> None:
        assert severity("balance.reservations") == "warning"

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("balance.reservations", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def fenced(*, agent: str = RISK, epoch: int = 2, at: datetime = NOW - 5 * MINUTE, **changes: Any) -> LedgerEvidence:
    return ledger(heard=(heard("fenced_off", agent, agent=agent, at=at, role=agent, epoch=epoch),), **changes)


def taken_over(at: datetime, **changes: Any) -> Epochs:
    """Risk's epoch began then."""
    fields: dict[str, Any] = {"risk": 3, "risk_since": at, "execution": 3, "execution_since": BEGAN}
    return Epochs(**{**fields, **changes})


class TestWriters:
    def test_one_of_each(self) -> None:
        assert only("balance.writers") == (PASSED, "risk writes with epoch 3, execution writes with epoch 3")
        assert severity("balance.writers") == "severe"

    @pytest.mark.parametrize("agent", [RISK, EXECUTION])
    def test_one_that_was_fenced_off(self, agent: str) -> None:
        assert only("balance.writers", ledger=fenced(agent=agent)) == (
            FAILED,
            f"{agent}: a process was fenced off by a newer one (once, at 2026-03-01 11:56:00Z), at last of epoch 2",
        )

    def test_under_an_older_revision_it_counts_no_more(self) -> None:
        mended = {STRATEGY: BEGAN, RISK: NOW - MINUTE, EXECUTION: BEGAN}
        assert ask("balance.writers", ledger=fenced(revisions=mended))[0] is PASSED

    def test_the_one_before_may_run_on_for_seconds(self) -> None:
        began = NOW - 5 * MINUTE
        risk = agents(pods=pods(RISK, started_at=began - 5 * SECOND))
        after = fenced(at=began + 35 * SECOND, epochs=taken_over(began))
        assert only("balance.writers", ledger=after, agents=risk) == (
            PASSED,
            "risk writes with epoch 3, execution writes with epoch 3, risk: the process before this one ran on for"
            " 35 s",
        )
        longer = fenced(at=began + 36 * SECOND, epochs=taken_over(began))
        assert ask("balance.writers", ledger=longer, agents=risk)[0] is FAILED

    def test_that_excuses_no_other_process(self) -> None:
        began = NOW - 5 * MINUTE
        risk = agents(pods=pods(RISK, started_at=began - 5 * SECOND))
        for epoch in (1, 3, 4):
            other = fenced(at=began + SECOND, epoch=epoch, epochs=taken_over(began))
            assert ask("balance.writers", ledger=other, agents=risk)[0] is FAILED

    def test_two_that_take_over_from_each_other(self) -> None:
        one = heard("fenced_off", RISK, epoch=2, role=RISK, at=NOW - MINUTE)
        often = msgspec.structs.replace(one, count=7, first=NOW - 10 * MINUTE)
        told = ledger(heard=(often,), epochs=taken_over(NOW - MINUTE))
        assert only("balance.writers", ledger=told, agents=agents(pods=pods(RISK, started_at=NOW - MINUTE))) == (
            FAILED,
            "risk: a process was fenced off by a newer one (7 times, from 2026-03-01 11:51:00Z to 2026-03-01"
            " 12:00:00Z), at last of epoch 2",
        )

    def test_a_start_begins_an_epoch(self) -> None:
        told = ledger(epochs=taken_over(NOW - 5 * MINUTE))
        for began in (NOW - 20 * MINUTE, NOW - 5 * MINUTE - SECOND, NOW - 4 * MINUTE):
            assert ask("balance.writers", ledger=told, agents=agents(pods=pods(RISK, started_at=began)))[0] is PASSED

    def test_so_does_a_container_that_is_started_again(self) -> None:
        told = ledger(epochs=taken_over(NOW - 5 * MINUTE))
        again = agents(pods=pods(RISK, restarts=1, restarted_at=NOW - 6 * MINUTE, ended="OOMKilled"))
        assert ask("balance.writers", ledger=told, agents=again)[0] is PASSED

    def test_and_an_agent_that_is_built_anew(self) -> None:
        epochs = taken_over(NOW - 5 * MINUTE)
        built = heard("agent_restarted", RISK, agent="supervisor", at=NOW - 6 * MINUTE)
        assert ask("balance.writers", ledger=ledger(epochs=epochs, heard=(built,)))[0] is PASSED
        said = Logs(agents={"supervisor": log("supervisor", heard=(built,))})
        assert ask("balance.writers", ledger=ledger(epochs=epochs), logs=said)[0] is PASSED
        other = msgspec.structs.replace(built, key=(EXECUTION,))
        assert ask("balance.writers", ledger=ledger(epochs=epochs, heard=(other,)))[0] is UNKNOWN

    def test_one_that_nobody_began_is_not_known(self) -> None:
        told = ledger(epochs=taken_over(NOW - 5 * MINUTE))
        words = "risk: epoch 3 began at 2026-03-01 11:56:00Z, and no process that is known started then"
        assert only("balance.writers", ledger=told) == (UNKNOWN, words)
        early = agents(pods=pods(RISK, started_at=NOW - 20 * MINUTE - SECOND))
        assert only("balance.writers", ledger=told, agents=early) == (UNKNOWN, words)
        # Another agent's start explains nothing.
        other = agents(pods=pods(EXECUTION, started_at=NOW - 6 * MINUTE))
        assert only("balance.writers", ledger=told, agents=other) == (UNKNOWN, words)

    def test_it_is_said_of_execution_as_well(self) -> None:
        epochs = taken_over(BEGAN, execution=9, execution_since=NOW - MINUTE)
        words = "execution: epoch 9 began at 2026-03-01 12:00:00Z, and no process that is known started then"
        assert only("balance.writers", ledger=ledger(epochs=epochs)) == (UNKNOWN, words)

    def test_an_epoch_of_before_the_window_was_judged_before(self) -> None:
        told = ledger(epochs=taken_over(SINCE - SECOND))
        assert ask("balance.writers", ledger=told)[0] is PASSED
        assert ask("balance.writers", ledger=ledger(epochs=taken_over(SINCE)))[0] is UNKNOWN

    def test_nobody_can_say_of_processes_that_were_not_asked(self) -> None:
        told = ledger(epochs=taken_over(NOW - 5 * MINUTE))
        assert ask("balance.writers", ledger=told, agents=AWAY)[0] is PASSED
        silent = tuple(pod(each.agent, started_at=None) for each in pods())
        assert ask("balance.writers", ledger=told, agents=agents(pods=silent))[0] is PASSED

    def test_a_ledger_in_which_nobody_has_written(self) -> None:
        fresh = Epochs(risk=0, risk_since=None, execution=0, execution_since=None)
        assert ask("balance.writers", ledger=ledger(epochs=fresh))[0] is PASSED

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("balance.writers", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")
