"""Behaviour: what was approved against what was executed."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from support.asking import ask, only
from support.evidence import BITCOIN, NOW, SINCE, entry, fill, ledger, market, rules, settings
from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees
from tradingbot_agents.domain.values import ZERO
from tradingbot_agents.reality.check import Status

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
MINUTE = timedelta(minutes=1)


class TestSlippage:
    def test_it_is_told_in_basis_points(self) -> None:
        orders = (entry(), entry("tb2", cost=Decimal("10.03")))
        found = only("behaviour.slippage", ledger=ledger(orders=orders))
        assert found == (PASSED, "2 filled, 20.0 basis points above the price on average, 30.0 at worst")

    def test_a_price_beyond_the_worst_one(self) -> None:
        beyond = entry(cost=Decimal("10.06"))
        assert only("behaviour.slippage", ledger=ledger(orders=(beyond,))) == (
            FAILED,
            "BTC/USDT at 2026-03-01 11:47:00Z (tbentry): paid 100.6 on average, and 100.5 was the worst price"
            " allowed",
        )
        assert ask("behaviour.slippage", ledger=ledger(orders=(entry(cost=Decimal("10.05")),)))[0] is PASSED

    def test_without_a_fill_there_is_none(self) -> None:
        unfilled = entry(filled=ZERO, cost=ZERO, state=OrderState.CANCELLED)
        assert only("behaviour.slippage", ledger=ledger(orders=(unfilled,))) == (PASSED, "no entry was filled")


class TestLatency:
    def test_it_is_told(self) -> None:
        found = only("behaviour.latency")
        assert found == (PASSED, "1 sent after 1.0 s (1.0 s at worst), filled 1.0 s (1.0 s at worst) later")

    def test_one_that_was_sent_late(self) -> None:
        late = entry(claimed_at=NOW - 14 * MINUTE + timedelta(seconds=31))
        assert only("behaviour.latency", ledger=ledger(orders=(late,))) == (
            FAILED,
            "BTC/USDT at 2026-03-01 11:47:00Z (tbentry): sent after 31.0 s, more than 30.0 s",
        )

    def test_one_of_an_older_revision_does_not_count(self) -> None:
        late = entry(claimed_at=NOW - 5 * MINUTE)
        revisions = {EXECUTION: NOW - 10 * MINUTE}
        found = only("behaviour.latency", ledger=ledger(orders=(late,), revisions=revisions))
        assert found == (PASSED, "no entry was sent")

    def test_one_that_was_not_sent_is_not_its_concern(self) -> None:
        waits = entry(state=OrderState.APPROVED, claimed_at=None, filled=ZERO, cost=ZERO)
        assert ask("behaviour.latency", ledger=ledger(orders=(waits,)))[0] is PASSED


class TestFees:
    def test_they_are_told(self) -> None:
        assert only("behaviour.fees") == (PASSED, "BTC/USDT 0.1 %")

    def test_more_than_double(self) -> None:
        dear = fill(fee=Fee("BTC", Decimal("0.00021")))
        found = only("behaviour.fees", ledger=ledger(fills=(dear,)))
        assert found == (FAILED, "BTC/USDT: 0.21 % was paid in 1 fills, and 0.1 % is expected")
        quote = fill(fee=Fee("USDT", Decimal("0.02002")))
        assert ask("behaviour.fees", ledger=ledger(fills=(quote,)))[0] is PASSED

    def test_the_expectation_of_the_settings_comes_first(self) -> None:
        assert ask("behaviour.fees", settings=settings(fees=Decimal("0.0004")))[0] is FAILED
        dear = rules(fees=Fees(maker=ZERO, taker=Decimal("0.0002"), currency=FeeCurrency.GET))
        assert ask("behaviour.fees", market=market(rules={BITCOIN: dear}))[0] is FAILED

    def test_a_fee_that_nobody_could_value(self) -> None:
        coin = fill(fee=Fee("BNB", Decimal("0.0001")))
        found = only("behaviour.fees", ledger=ledger(fills=(coin,)))
        assert found == (UNKNOWN, "BTC/USDT: what 1 of 1 fills cost in fees is not known")
        valued = fill(fee=Fee("BNB", Decimal("0.0001"), quote_value=Decimal("0.01")))
        assert ask("behaviour.fees", ledger=ledger(fills=(valued,)))[0] is PASSED

    def test_without_an_expectation_nobody_knows(self) -> None:
        found = ask("behaviour.fees", ledger=ledger(rules={}), market=market(rules={}))
        assert found == (UNKNOWN, ("BTC/USDT: 0.1 % was paid, and nobody says what is expected",))

    def test_others_and_older_fills_are_not_asked(self) -> None:
        dear = Fee("BTC", Decimal("0.01"))
        fills = (fill(at=SINCE - MINUTE, fee=dear), fill(symbol="SOL/USDT", fee=dear))
        assert only("behaviour.fees", ledger=ledger(fills=fills)) == (PASSED, "nothing was traded")
