"""Accounting: whether the books are the sum of what happened, what was earned, and what came from outside."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.asking import ask, only
from support.evidence import BEGAN, BITCOIN, ETHER, NOW, SINCE, bar, heard, invariants, ledger, market
from tradingbot_agents.bus.topology import EXECUTION, RISK, STRATEGY
from tradingbot_agents.ledger.port import EquityPoint
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.checks import accounting_entries, accounting_outside, accounting_profit
from tradingbot_agents.reality.evidence import Heard, LedgerEvidence, Missing

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
AWAY = Missing("it does not answer")
MINUTE = timedelta(minutes=1)


class TestEntries:
    def test_they_hold(self) -> None:
        assert only("accounting.entries") == (PASSED, "4 invariants hold")
        assert accounting_entries.CHECK.severity == "severe"

    @pytest.mark.parametrize("name", sorted(accounting_entries.OWN))
    def test_one_that_is_broken(self, name: str) -> None:
        broken = ledger(invariants=invariants(**{name: "USDT: total is 10, its entries sum up to 0"}))
        assert only("accounting.entries", ledger=broken) == (
            FAILED,
            f"{name}: USDT: total is 10, its entries sum up to 0",
        )

    def test_those_about_promises_are_another_check_s(self) -> None:
        broken = ledger(invariants=invariants(never_overcommitted="USDT: 5 too much"))
        assert ask("accounting.entries", ledger=broken)[0] is PASSED

    def test_one_that_nobody_asked_for_does_not_hold_by_that(self) -> None:
        rest = tuple(each for each in invariants() if each.name != "total_is_sum_of_entries")
        assert only("accounting.entries", ledger=ledger(invariants=rest)) == (
            UNKNOWN,
            "total_is_sum_of_entries: nobody has asked for it",
        )

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("accounting.entries", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def earning(told: str, counted: str) -> LedgerEvidence:
    positions = dict(ledger().positions)
    positions[BITCOIN] = msgspec.structs.replace(positions[BITCOIN], realised=Decimal(told))
    positions[ETHER] = msgspec.structs.replace(positions[BITCOIN], symbol=ETHER, realised=Decimal(0))
    return ledger(positions=positions, profit_told=Decimal(told), profit_counted=Decimal(counted))


class TestProfit:
    def test_it_is_told_as_it_is_counted(self) -> None:
        found = only("accounting.profit", ledger=earning("-12.50", "-12.5"))
        assert found == (PASSED, "-12.5 USDT of realised profit, told and counted again")

    def test_one_that_was_invented(self) -> None:
        assert only("accounting.profit", ledger=earning("5", "-0.25")) == (
            FAILED,
            "the positions tell of 5 USDT, and their fills make -0.25; told of BTC/USDT 5",
        )
        assert accounting_profit.CHECK.severity == "warning"

    def test_one_that_was_lost(self) -> None:
        assert only("accounting.profit", ledger=earning("0", "7.5")) == (
            FAILED,
            "the positions tell of 0 USDT, and their fills make 7.5",
        )

    def test_the_eighth_place_counts_and_what_is_cut_after_it_does_not(self) -> None:
        assert ask("accounting.profit", ledger=earning("1.000000009999", "1"))[0] is PASSED
        assert ask("accounting.profit", ledger=earning("1.00000001", "1"))[0] is FAILED
        assert ask("accounting.profit", ledger=earning("0.99999999", "1"))[0] is FAILED

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("accounting.profit", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def moved(amount: str, asset: str = "USDT", name: str = "outside_movement_booked", **changes: Any) -> Heard:
    event = heard(name, asset, amount, agent=EXECUTION, asset=asset, amount=amount)
    return msgspec.structs.replace(event, **changes)


def worth(*gross: str, heard: tuple[Heard, ...], **changes: Any) -> LedgerEvidence:
    """An account with these values in the window, oldest first; a tenth of each came from outside."""
    points = tuple(
        EquityPoint(NOW - (len(gross) - at) * MINUTE, Decimal(value) * 9 / 10, Decimal(value) / 10)
        for at, value in enumerate(gross)
    )
    return ledger(equity=points, heard=heard, **changes)


class TestOutside:
    def test_nothing_came_or_went(self) -> None:
        assert only("accounting.outside") == (PASSED, "nothing came from outside, or went there")
        assert accounting_outside.CHECK.severity == "warning"

    def test_a_little_is_told(self) -> None:
        little = worth("1000", heard=(moved("4"), moved("-5.5")))
        assert only("accounting.outside", ledger=little) == (
            PASSED,
            "USDT: -1.5 in 2 movements from outside",
        )

    @pytest.mark.parametrize("amount", ["-50", "+50"])
    def test_much_is_for_a_person_to_look_at(self, amount: str) -> None:
        much = worth("1000", heard=(moved(amount),))
        assert only("accounting.outside", ledger=much) == (
            FAILED,
            f"USDT: {amount} in 1 movements from outside, 5 % of what the account is worth",
        )

    def test_a_hundredth_is_not_much(self) -> None:
        assert ask("accounting.outside", ledger=worth("1000", heard=(moved("10"),)))[0] is PASSED
        assert ask("accounting.outside", ledger=worth("1000", heard=(moved("10.01"),)))[0] is FAILED

    def test_what_came_and_went_again_moved_twice(self) -> None:
        both = worth("1000", heard=(moved("500"), moved("-500")))
        assert only("accounting.outside", ledger=both) == (
            FAILED,
            "USDT: +0 in 2 movements from outside, 100 % of what the account is worth",
        )

    def test_many_of_the_same_amount_are_counted(self) -> None:
        often = worth("1000", heard=(moved("4", count=3),))
        assert only("accounting.outside", ledger=often) == (
            FAILED,
            "USDT: +12 in 3 movements from outside, 1.2 % of what the account is worth",
        )

    def test_what_was_withdrawn_is_gone_from_the_newest_value(self) -> None:
        # A hundredth of what is left would be less than this.
        assert ask("accounting.outside", ledger=worth("1000", "10", heard=(moved("-9"),)))[0] is PASSED

    def test_another_asset_counts_by_its_price(self) -> None:
        some = worth("1000", heard=(moved("0.2", "BTC"),))
        told = market(candles={BITCOIN: [bar(1, close="10"), bar(0, close="100")]})
        assert only("accounting.outside", ledger=some, market=told) == (
            FAILED,
            "BTC: +0.2 in 1 movements from outside, 2 % of what the account is worth",
        )
        cheap = market(candles={BITCOIN: [bar(0, close="50")]})
        assert ask("accounting.outside", ledger=some, market=cheap)[0] is PASSED

    def test_one_of_which_nobody_knows_the_price(self) -> None:
        some = worth("1000", heard=(moved("3", "AIR"),))
        words = "AIR: +3 in 1 movements from outside, and nobody says what AIR is worth"
        assert only("accounting.outside", ledger=some) == (UNKNOWN, words)
        bitcoin = worth("1000", heard=(moved("3", "BTC"),))
        assert ask("accounting.outside", ledger=bitcoin, market=AWAY)[0] is UNKNOWN

    def test_an_account_of_which_nobody_knows_the_value(self) -> None:
        words = "USDT: +3 in 1 movements from outside, and nobody says what the account is worth"
        for told in (worth(heard=(moved("3"),)), worth("0", heard=(moved("3"),))):
            assert only("accounting.outside", ledger=told) == (UNKNOWN, words)

    def test_what_a_late_fill_explains_did_not_happen(self) -> None:
        back = moved("50", name="outside_movement_reversed")
        assert only("accounting.outside", ledger=worth("1000", heard=(moved("-50"), back))) == (
            PASSED,
            "nothing came from outside, or went there",
        )
        other = moved("49", name="outside_movement_reversed")
        assert ask("accounting.outside", ledger=worth("1000", heard=(moved("-50"), other)))[0] is FAILED
        once = worth("1000", heard=(moved("-50", count=2), back))
        assert only("accounting.outside", ledger=once)[1].startswith("USDT: -50 in 1 movements")
        # One that was booked before the window.
        assert ask("accounting.outside", ledger=worth("1000", heard=(back,)))[0] is PASSED

    def test_more_than_could_be_told_apart(self) -> None:
        many = worth("1000", heard=(moved("(others)", "(others)", count=900),))
        assert only("accounting.outside", ledger=many) == (
            UNKNOWN,
            "(others): there were too many movements to tell all their amounts",
        )

    def test_one_of_an_older_revision_counts_no_more(self) -> None:
        newer = {STRATEGY: BEGAN, RISK: BEGAN, EXECUTION: NOW - MINUTE}
        assert ask("accounting.outside", ledger=worth("1000", heard=(moved("50"),), revisions=newer))[0] is PASSED
        early = moved("50", first=SINCE - MINUTE, last=SINCE - MINUTE)
        assert ask("accounting.outside", ledger=worth("1000", heard=(early,)))[0] is PASSED

    def test_the_sums_since_the_opening_are_told(self) -> None:
        told = ledger(outside={"USDT": Decimal("-100"), "BTC": Decimal("0.5"), "SOL": Decimal(0)})
        assert only("accounting.outside", ledger=told) == (
            PASSED,
            "nothing came from outside, or went there; in all, since the account was opened: BTC +0.5, USDT -100",
        )

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("accounting.outside", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")
