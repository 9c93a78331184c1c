"""Lots: the market rules that orders are made by, and the orders that were made."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.asking import ask, only
from support.evidence import BITCOIN, ETHER, NOW, SINCE, entry, heard, ledger, market, rules, settings, stop
from tradingbot_agents.bus.topology import EXECUTION, RISK, STRATEGY
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.symbol_rules import Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.values import ZERO, Leg, OrderType, Side, TimeInForce
from tradingbot_agents.ledger.port import KnownRules
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.checks import lots_current
from tradingbot_agents.reality.checks.lots_rejections import is_of_lots
from tradingbot_agents.reality.evidence import LedgerEvidence, Missing

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
AWAY = Missing("it does not answer")
MINUTE = timedelta(minutes=1)


def refused(reason: str | None, order: str = "tb1", **changes: Any) -> Order:
    """An entry that the exchange did not take."""
    fields: dict[str, Any] = {
        "state": OrderState.REJECTED,
        "reason": reason,
        "filled": ZERO,
        "cost": ZERO,
        "exchange_order_id": None,
    }
    return entry(order, **{**fields, **changes})


def sale(order: str = "tbexit", **changes: Any) -> Order:
    """A market order, which has no price."""
    fields: dict[str, Any] = {
        "leg": Leg.EXIT,
        "side": Side.SELL,
        "type": OrderType.MARKET,
        "time_in_force": TimeInForce.IOC,
        "amount": Decimal("0.0999"),
        "limit_price": None,
        "expires_at": None,
    }
    return entry(order, **{**fields, **changes})


def ruled(**changes: Any) -> LedgerEvidence:
    """The ledger with other rules of Bitcoin, or otherwise known ones."""
    known = {name: changes.pop(name) for name in ("since", "read_at") if name in changes}
    found = ledger().rules
    theirs = msgspec.structs.replace(found[BITCOIN], rules=rules(**changes), **known)
    return ledger(rules={**found, BITCOIN: theirs})


class TestRejections:
    @pytest.mark.parametrize(
        "reason",
        [
            "off_amount_step: binance -1111 Precision is over the maximum defined for this asset",
            "off_price_tick: limit_price 100.503 is no multiple of 0.01",
            "below_minimum_amount: amount 0.000001 against 0.00001 of BTC/USDT",
            "below_minimum_notional: Filter failure: NOTIONAL",
            "above_maximum_amount: Filter failure: MARKET_LOT_SIZE",
            "order_refused: kraken EOrder:Order minimum not met",
            "bad_request: amount must have at most 4 decimals",
        ],
    )
    def test_one_for_its_size_or_price(self, reason: str) -> None:
        assert only("lots.rejections", ledger=ledger(orders=(entry(), refused(reason)))) == (
            FAILED,
            f"BTC/USDT at 2026-03-01 11:47:02Z (tb1): entry of 0.1 was refused: {reason}",
        )

    @pytest.mark.parametrize(
        "reason",
        [
            "insufficient_funds: the minimum balance",
            "stale_intent: it expired",
            "order_refused: post only",
            "the exchange: rejected",
        ],
    )
    def test_one_for_something_else_is_told(self, reason: str) -> None:
        code = reason.partition(":")[0]
        found = only("lots.rejections", ledger=ledger(orders=(entry(), refused(reason, state=OrderState.DENIED))))
        assert found == (
            PASSED,
            f"2 orders, none refused for its size or price; 1 refused for something else ({code})",
        )

    def test_one_without_a_reason_is_told(self) -> None:
        _, told = only("lots.rejections", ledger=ledger(orders=(refused(None),)))
        assert told.endswith("1 refused for something else (for a reason that is not told)")

    def test_nothing_was_sent(self) -> None:
        found = only("lots.rejections", ledger=ledger(orders=()))
        assert found == (PASSED, "0 orders, none refused for its size or price")

    def test_what_was_filled_later_was_not_refused(self) -> None:
        filled = entry(reason="below_minimum_notional: the first time")
        assert ask("lots.rejections", ledger=ledger(orders=(filled,)))[0] is PASSED

    def test_an_event_tells_it_though_its_row_is_gone(self) -> None:
        why = "below_minimum_notional: Filter failure: NOTIONAL"
        event = heard("order_rejected", BITCOIN, "stop", agent=EXECUTION, client_order_id="tb9", why=why)
        assert only("lots.rejections", ledger=ledger(heard=(event,))) == (
            FAILED,
            f"BTC/USDT: stop was refused (once, at 2026-03-01 11:56:00Z), at last: {why}",
        )
        # With its row it is told once; another reason is not of lots.
        rows = ledger(heard=(event,), orders=(refused(why, "tb9"),))
        assert len(ask("lots.rejections", ledger=rows)[1]) == 1
        other = heard(
            "order_rejected", BITCOIN, "stop", agent=EXECUTION, client_order_id="tb9", why="rate_limited: x"
        )
        assert ask("lots.rejections", ledger=ledger(heard=(other,)))[0] is PASSED

    def test_what_an_older_revision_made_or_saw_does_not_count(self) -> None:
        wrong = refused("off_amount_step: x")
        for agent, status in ((EXECUTION, PASSED), (RISK, PASSED), (STRATEGY, FAILED)):
            found = ledger(orders=(wrong,), revisions={agent: NOW - 10 * MINUTE})
            assert ask("lots.rejections", ledger=found)[0] is status
        # An exit is made by execution, whatever risk is.
        exit_ = sale(state=OrderState.REJECTED, reason="off_amount_step: x")
        assert ask("lots.rejections", ledger=ledger(orders=(exit_,), revisions={RISK: NOW - MINUTE}))[0] is FAILED

    def test_an_order_of_before_the_window_that_was_refused_within_it_counts(self) -> None:
        late = refused("off_amount_step: x", at=SINCE - MINUTE, finished_at=SINCE + MINUTE)
        assert ask("lots.rejections", ledger=ledger(orders=(late,)))[0] is FAILED
        early = refused("off_amount_step: x", at=SINCE - MINUTE, finished_at=SINCE - timedelta(seconds=1))
        assert ask("lots.rejections", ledger=ledger(orders=(early,)))[0] is PASSED

    def test_other_bots_are_judged_by_their_own(self) -> None:
        other = refused("off_amount_step: x", bot="minors")
        assert ask("lots.rejections", ledger=ledger(orders=(other,)))[0] is PASSED

    def test_words_of_a_code_that_is_known_are_not_read(self) -> None:
        assert not is_of_lots("not_permitted: below the minimum notional")
        assert not is_of_lots("")
        assert is_of_lots("off_amount_step")

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("lots.rejections", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


class TestLegal:
    @pytest.mark.parametrize(
        ("changes", "why"),
        [
            ({"amount": Decimal("0.100001")}, "off_amount_step: amount 0.100001 against 0.00001"),
            ({"limit_price": Decimal("100.503")}, "off_price_tick: price 100.503 against 0.01"),
            ({"amount": Decimal("0.00004")}, "below_minimum_notional: notional 0.0040200 against 5"),
        ],
    )
    def test_one_that_is_not(self, changes: dict[str, Any], why: str) -> None:
        wrong = entry(**changes)
        assert only("lots.legal", ledger=ledger(orders=(stop(), wrong))) == (
            FAILED,
            f"BTC/USDT at 2026-03-01 11:47:00Z (tbentry): entry of {wrong.amount}: {why}",
        )

    @pytest.mark.parametrize(
        "changes",
        [
            {"min_amount": Decimal("0.2")},
            {"max_amount": Decimal("0.09")},
            {"max_notional": Decimal(9)},
            {"amount": Precision(PrecisionMode.DECIMAL_PLACES, Decimal(0))},
        ],
    )
    def test_by_every_limit(self, changes: dict[str, Any]) -> None:
        assert ask("lots.legal", ledger=ruled(**changes))[0] is FAILED

    def test_a_stop_by_its_trigger_and_its_limit(self) -> None:
        for wrong in (
            stop(stop_price=Decimal("95.001")),
            stop(type=OrderType.STOP_LIMIT, limit_price=Decimal("94.001")),
            stop(type=OrderType.STOP_LIMIT, limit_price=Decimal(94), stop_price=Decimal("95.001")),
            stop(amount=Decimal("0.05263"), stop_price=Decimal(95)),
        ):
            assert ask("lots.legal", ledger=ledger(orders=(wrong,)))[0] is FAILED
        # By the limit, 5 is just reached.
        right = stop(type=OrderType.STOP_LIMIT, amount=Decimal("0.05"), limit_price=Decimal(100))
        assert ask("lots.legal", ledger=ledger(orders=(right,)))[0] is PASSED

    def test_one_at_market_by_its_amount_alone(self) -> None:
        # Its notional is of a price that nobody wrote down.
        small = sale(amount=Decimal("0.00002"))
        assert ask("lots.legal", ledger=ledger(orders=(small,)))[0] is PASSED
        off = sale(amount=Decimal("0.000015"))
        assert ask("lots.legal", ledger=ledger(orders=(off,)))[0] is FAILED
        most = ruled(max_market_amount=Decimal("0.05"))
        found = ask("lots.legal", ledger=msgspec.structs.replace(most, orders=(entry(), sale())))
        assert found == (
            FAILED,
            (
                "BTC/USDT at 2026-03-01 11:47:00Z (tbexit): exit of 0.0999: above_maximum_amount: amount 0.0999"
                " against 0.05",
            ),
        )

    def test_a_halted_symbol_is_no_matter_of_lots(self) -> None:
        assert ask("lots.legal", ledger=ruled(active=False))[0] is PASSED

    def test_one_of_before_the_rules_that_the_exchange_took(self) -> None:
        newer = ruled(since=NOW - 5 * MINUTE, min_amount=Decimal(1))
        assert only("lots.legal", ledger=newer) == (
            PASSED,
            "0 orders lie within the rules of their time; 2 older than the rules that are known, which the exchange"
            " took",
        )

    def test_one_of_before_the_rules_that_it_did_not_take(self) -> None:
        newer = msgspec.structs.replace(
            ruled(since=NOW - 5 * MINUTE), orders=(refused("exchange_away: x", "tbentry"),)
        )
        assert only("lots.legal", ledger=newer) == (
            UNKNOWN,
            "BTC/USDT at 2026-03-01 11:47:00Z (tbentry): it was made before the rules that are known were read, at"
            " 2026-03-01 11:56:00Z, and the exchange did not take it",
        )

    def test_one_of_the_very_moment_is_judged(self) -> None:
        known = msgspec.structs.replace(ruled(since=entry().created_at, min_amount=Decimal(1)), orders=(entry(),))
        assert ask("lots.legal", ledger=known)[0] is FAILED

    def test_without_rules_nobody_knows(self) -> None:
        status, told = ask("lots.legal", ledger=ledger(rules={}))
        assert status is UNKNOWN
        assert told[0].endswith("(tbentry): the ledger has no rules of its symbol")
        assert only("lots.legal", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")

    def test_others_and_older_ones_are_not_asked(self) -> None:
        off = Decimal("0.000015")
        orders = (
            entry("tb1", bot="minors", amount=off),
            entry("tb2", at=SINCE - MINUTE, amount=off),
            stop("tb3", at=SINCE - MINUTE, amount=off),
        )
        assert only("lots.legal", ledger=ledger(orders=orders))[1] == "0 orders lie within the rules of their time"
        # An entry is made by risk, an exit by execution.
        for agent, order in ((RISK, entry(amount=off)), (EXECUTION, stop(amount=off))):
            for revised in (RISK, EXECUTION):
                found = ledger(orders=(order,), revisions={revised: NOW - MINUTE})
                assert ask("lots.legal", ledger=found)[0] is (PASSED if revised == agent else FAILED)


class TestRules:
    def test_they_are_told_with_the_oldest(self) -> None:
        assert only("lots.rules", ledger=ruled(read_at=NOW - 64 * MINUTE)) == (
            PASSED,
            "rules of 2 symbols, the oldest read 64 min ago",
        )

    def test_ones_that_are_old(self) -> None:
        assert only("lots.rules", ledger=ruled(read_at=NOW - 66 * MINUTE)) == (
            FAILED,
            "BTC/USDT: its rules were read last at 2026-03-01 10:55:00Z, 66 min ago; 65 min is the limit",
        )

    def test_they_age_by_the_database_s_clock(self) -> None:
        found = msgspec.structs.replace(ledger(), read_at=NOW + 50 * MINUTE)
        assert ask("lots.rules", ledger=found)[0] is FAILED

    def test_none_of_a_symbol(self) -> None:
        found = ledger(rules={BITCOIN: ledger().rules[BITCOIN]})
        assert only("lots.rules", ledger=found) == (FAILED, "ETH/USDT: the ledger has no rules of it")

    def test_a_replay_reads_them_once(self) -> None:
        found = only(
            "lots.rules", settings=settings(exchange="simulated"), ledger=ruled(read_at=NOW - timedelta(days=3))
        )
        assert found == (PASSED, "rules of 2 symbols")

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("lots.rules", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


class TestCurrent:
    @pytest.mark.parametrize(
        ("changes", "told"),
        [
            (
                {"amount": Precision(PrecisionMode.TICK_SIZE, Decimal("0.001"))},
                "the step of amounts is 0.00001 (tickSize), and 0.001 (tickSize) on the exchange",
            ),
            (
                {"price": Precision(PrecisionMode.DECIMAL_PLACES, Decimal(2))},
                "the tick of prices is 0.01 (tickSize), and 2 (decimalPlaces) on the exchange",
            ),
            (
                {"min_amount": Decimal("0.001"), "min_notional": Decimal(10)},
                "the minimum amount is 0.00001, and 0.001 on the exchange, the minimum notional is 5, and 10 on the"
                " exchange",
            ),
            ({"max_amount": Decimal(900)}, "the maximum amount is none, and 900 on the exchange"),
            ({"max_notional": Decimal(900)}, "the maximum notional is none, and 900 on the exchange"),
            ({"max_market_amount": Decimal(9)}, "the maximum amount at market is none, and 9 on the exchange"),
            ({"active": False}, "whether it trades is yes, and no on the exchange"),
        ],
    )
    def test_a_field_that_differs_is_named_with_both_values(self, changes: dict[str, Any], told: str) -> None:
        theirs = {BITCOIN: rules(**changes), ETHER: rules(ETHER)}
        assert only("lots.current", market=market(rules=theirs)) == (FAILED, f"BTC/USDT: {told}")

    def test_every_field_is_compared_but_the_names_and_the_fees(self) -> None:
        fields = {each.name for each in msgspec.structs.fields(SymbolRules)}
        assert fields - set(lots_current.FIELDS) == {"symbol", "base", "quote", "fees"}
        assert lots_current.CHECK.compares

    def test_one_value_in_two_spellings_is_the_same(self) -> None:
        theirs = {BITCOIN: rules(min_notional=Decimal("5.000")), ETHER: rules(ETHER)}
        assert ask("lots.current", market=market(rules=theirs))[0] is PASSED

    def test_fees_are_the_account_s_own(self) -> None:
        theirs = {BITCOIN: rules(fees=Fees(maker=ZERO, taker=Decimal("0.00075"))), ETHER: rules(ETHER)}
        assert only("lots.current", market=market(rules=theirs)) == (
            PASSED,
            "2 symbols have the exchange's rules; fees are the account's own: BTC/USDT 0.1 % and 0.1 % in the ledger,"
            " 0 % and 0.075 % there",
        )

    def test_a_symbol_that_the_exchange_told_nothing_of(self) -> None:
        found = only("lots.current", market=market(rules={BITCOIN: rules()}))
        assert found == (UNKNOWN, "ETH/USDT: the exchange gave no rules to compare with")

    def test_one_that_the_ledger_has_none_of_is_not_its_concern(self) -> None:
        only_one: dict[str, KnownRules] = {BITCOIN: ledger().rules[BITCOIN]}
        assert only("lots.current", ledger=ledger(rules=only_one)) == (PASSED, "1 symbols have the exchange's rules")

    @pytest.mark.parametrize("source", ["ledger", "market"])
    def test_without_one_of_the_two_nobody_knows(self, source: str) -> None:
        assert only("lots.current", **{source: AWAY}) == (UNKNOWN, f"{source}: it does not answer")
