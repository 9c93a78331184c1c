"""Prices: where they came from, how old they are, and whether they are true."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec

from support.asking import ask, only
from support.evidence import (
    BAR,
    BITCOIN,
    ETHER,
    NEWEST,
    NOW,
    SINCE,
    bar,
    bars,
    candles,
    entry,
    evidence,
    heard,
    ledger,
    market,
    rules,
    settings,
)
from tradingbot_agents.bus.topology import RISK
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.checks import prices_approved
from tradingbot_agents.reality.evidence import Missing

PASSED, FAILED, UNKNOWN = Status.PASSED, Status.FAILED, Status.UNKNOWN
AWAY = Missing("it does not answer")
MINUTE = timedelta(minutes=1)


class TestFallbacks:
    def test_each_is_told_with_its_source_and_its_reason(self) -> None:
        used = heard("price_fallback_used", BITCOIN, "ticker", why="the candle store's last close is 400 s old")
        none = msgspec.structs.replace(
            heard("price_fallback_used", ETHER, "none", why="nothing answers"), count=3, first=NOW - 20 * MINUTE
        )
        status, told = ask("prices.fallbacks", ledger=ledger(heard=(used, none)))
        assert status is FAILED
        assert told == (
            "ETH/USDT: the price was not known at all, so nothing was bought (3 times, from 2026-03-01 11:41:00Z to"
            " 2026-03-01 11:56:00Z), at last because nothing answers",
            "BTC/USDT: the price was the exchange's ticker (once, at 2026-03-01 11:56:00Z), at last because the"
            " candle store's last close is 400 s old",
        )

    def test_an_alert_comes_first(self) -> None:
        used = heard("price_fallback_used", ETHER, "bus", at=NOW - 9 * MINUTE, why="x")
        alert = heard("price_fallback_alert", BITCOIN, "ticker", in_a_row=5, why="the store is empty")
        status, told = ask("prices.fallbacks", ledger=ledger(heard=(used, alert)))
        assert status is FAILED
        assert told[0].startswith("BTC/USDT: the price was the exchange's ticker, 5 in a row (once")

    def test_what_an_older_revision_did_does_not_count(self) -> None:
        used = heard("price_fallback_used", BITCOIN, "ticker", at=NOW - 20 * MINUTE, why="x")
        revisions = {RISK: NOW - 10 * MINUTE}
        assert ask("prices.fallbacks", ledger=ledger(heard=(used,), revisions=revisions))[0] is PASSED
        again = msgspec.structs.replace(used, count=2, last=NOW - MINUTE)
        assert ask("prices.fallbacks", ledger=ledger(heard=(again,), revisions=revisions))[0] is FAILED


class TestFresh:
    def old(self, *missing: int) -> dict[str, list[object]]:
        return {BITCOIN: [each for each in bars() if each.open_time <= NEWEST - 2 * BAR], ETHER: [*bars(ETHER)]}

    def test_a_bar_that_is_too_old(self) -> None:
        status, line = only("prices.fresh", candles=candles(candles=self.old()))
        assert (status, line) == (
            FAILED,
            "BTC/USDT: its newest bar closed at 2026-03-01 11:50:00Z, 11 min ago; 6 min is the limit",
        )

    def test_as_old_as_it_may_be(self) -> None:
        at = NEWEST + BAR + settings().maximum_price_age + BAR
        assert ask("prices.fresh", candles=candles(read_at=at), market=AWAY)[0] is PASSED
        assert ask("prices.fresh", candles=candles(read_at=at + MINUTE), market=AWAY)[0] is FAILED

    def test_none_at_all(self) -> None:
        status, line = only("prices.fresh", candles=candles(candles={BITCOIN: bars()}))
        assert (status, line) == (FAILED, "ETH/USDT: the candle store has no bar of it")

    def test_one_of_the_future_is_a_finding_even_when_the_exchange_is_quiet(self) -> None:
        future = {BITCOIN: [*bars(), bar(-3)], ETHER: bars(ETHER)}
        status, line = only("prices.fresh", candles=candles(candles=future))
        assert status is FAILED
        assert "ends at 2026-03-01 12:15:00Z, which is 14 min from now" in line

    def test_a_symbol_that_is_halted_is_no_fault(self) -> None:
        halted = {BITCOIN: rules(active=False), ETHER: rules(ETHER)}
        found = only("prices.fresh", candles=candles(candles=self.old()), market=market(rules=halted))
        assert found == (PASSED, "1 fresh; the exchange itself has nothing newer of BTC/USDT")

    def test_a_symbol_that_nobody_trades_is_no_fault(self) -> None:
        for theirs in (self.old()[BITCOIN], []):
            told = market(candles={BITCOIN: theirs, ETHER: bars(ETHER)})
            assert ask("prices.fresh", candles=candles(candles=self.old()), market=told)[0] is PASSED
        # Of a symbol that the exchange was not asked for nobody knows that.
        told = market(candles={ETHER: bars(ETHER)})
        assert ask("prices.fresh", candles=candles(candles=self.old()), market=told)[0] is FAILED


class TestStored:
    def poisoned(self, **changes: object) -> object:
        return candles(candles={BITCOIN: [*bars()[:-2], bar(1, **changes), bar(0)], ETHER: bars(ETHER)})  # type: ignore[arg-type]

    def test_a_poisoned_price_is_named(self) -> None:
        found = only("prices.stored", candles=self.poisoned(high=Decimal("120.5")))
        assert found == (FAILED, "BTC/USDT 2026-03-01 11:50:00Z: high is 120.5, and 101 on the exchange")
        changes = {"open": Decimal(90), "low": Decimal(80)}
        _, line = only("prices.stored", candles=self.poisoned(**changes))
        assert line.endswith("open is 90, and 100 on the exchange, low is 80, and 99 on the exchange")
        status, line = only(
            "prices.stored", candles=candles(candles={BITCOIN: [*bars()[:-1], bar(close="50")], ETHER: bars(ETHER)})
        )
        assert status is FAILED
        assert "close is 50, and 100 on the exchange" in line

    def test_a_tick_is_rounding(self) -> None:
        assert ask("prices.stored", candles=self.poisoned(high=Decimal("101.01")))[0] is PASSED
        assert ask("prices.stored", candles=self.poisoned(high=Decimal("101.011")))[0] is FAILED

    def test_without_rules_every_difference_counts(self) -> None:
        blind = {"market": market(rules={}), "ledger": AWAY}
        assert ask("prices.stored", candles=self.poisoned(high=Decimal("101.001")), **blind)[0] is FAILED

    def test_a_bar_that_the_exchange_never_had(self) -> None:
        theirs = {BITCOIN: [each for each in bars() if each != bar(4)], ETHER: bars(ETHER)}
        assert only("prices.stored", market=market(candles=theirs)) == (
            FAILED,
            "BTC/USDT 2026-03-01 11:35:00Z: the exchange has no such bar",
        )

    def test_missing_bars_and_the_newest_are_not_its_concern(self) -> None:
        ours = {BITCOIN: bars()[3:6], ETHER: bars(ETHER)}
        theirs = {BITCOIN: bars()[:-1], ETHER: bars(ETHER)[:-1]}
        assert ask("prices.stored", candles=candles(candles=ours))[0] is PASSED
        assert ask("prices.stored", market=market(candles=theirs))[0] is PASSED

    def test_without_a_bar_of_the_exchange_nobody_knows(self) -> None:
        found = only("prices.stored", market=market(candles={ETHER: bars(ETHER)}))
        assert found == (UNKNOWN, "BTC/USDT: the exchange gave no bar to compare with")


class TestApproved:
    """Entries of the tests are decided on at 100, which is a limit of 100.50; bars go from 99 to 101."""

    def test_a_wrong_price_is_found_though_no_log_admits_it(self) -> None:
        # DEV-70: a price that was in the code.
        wrong = entry(limit_price=Decimal("50.25"))
        status, line = only("prices.approved", ledger=ledger(orders=(wrong,)))
        assert (status, line) == (
            FAILED,
            "BTC/USDT at 2026-03-01 11:47:00Z (tbentry): approved at 50, but the exchange traded between 99 and 101"
            " then",
        )
        assert prices_approved.CHECK.severity == "severe"

    def test_the_edges_of_the_bars_with_a_tick(self) -> None:
        def limit(price: str) -> dict[str, object]:
            asked = rules().price.floor(Decimal(price) * Decimal("1.005"))
            return {"ledger": ledger(orders=(entry(limit_price=asked),))}

        for price in ("99", "101", "98.99", "101.01"):
            assert ask("prices.approved", **limit(price))[0] is PASSED, price
        for price in ("98.9", "101.1"):
            assert ask("prices.approved", **limit(price))[0] is FAILED, price

    def test_the_close_of_the_bar_before_is_a_price_of_that_time(self) -> None:
        """At 11:47 the newest close was that of 11:45, of a bar that opened at 11:40."""
        theirs = [
            msgspec.structs.replace(each, low=Decimal(59), close=Decimal(60), open=Decimal(60), high=Decimal(61))
            if each.open_time != NEWEST - 3 * BAR
            else each
            for each in bars()
        ]
        assert ask("prices.approved", market=market(candles={BITCOIN: theirs}))[0] is PASSED
        later = entry(at=NEWEST)
        assert (
            ask("prices.approved", market=market(candles={BITCOIN: theirs}), ledger=ledger(orders=(later,)))[0]
            is FAILED
        )

    def test_a_bar_that_is_not_over_may_hold_a_ticker(self) -> None:
        high = entry(at=NOW - timedelta(seconds=20), limit_price=Decimal("120.60"))
        status, line = only("prices.approved", ledger=ledger(orders=(high,)))
        assert status is UNKNOWN
        assert line.endswith(
            "approved at 120, but the exchange traded between 99 and 101 then, as far as its bars are over"
        )

    def test_without_a_bar_of_that_time_nobody_knows(self) -> None:
        found = only("prices.approved", market=market(candles={BITCOIN: bars()[-1:]}))
        assert found == (UNKNOWN, "BTC/USDT at 2026-03-01 11:47:00Z (tbentry): the exchange gave no bar of that time")

    def test_other_bots_exits_and_older_revisions_are_not_asked(self) -> None:
        wrong = Decimal("50.25")
        orders = (
            entry("tb1", bot="minors", limit_price=wrong),
            entry("tb2", leg=Leg.EXIT, limit_price=wrong),
            entry("tb3", at=SINCE - MINUTE, limit_price=wrong),
        )
        assert (
            only("prices.approved", ledger=ledger(orders=orders))[1] == "0 approved at a price that the exchange had"
        )
        old = entry(limit_price=wrong)
        assert ask("prices.approved", ledger=ledger(orders=(old,), revisions={RISK: NOW - 5 * MINUTE}))[0] is PASSED


def test_the_seed_s_story() -> None:
    """A source of prices that fails is mended by a new revision: the check fails before, and passes at the first run
    after, though what the old one wrote is still there."""
    lines = (heard("price_fallback_used", BITCOIN, "ticker", at=NOW - 20 * MINUTE, why="the store is empty"),)
    before = evidence(ledger=ledger(heard=lines))
    after = evidence(ledger=ledger(heard=lines, revisions={RISK: NOW - 7 * MINUTE}))
    assert ask("prices.fallbacks", ledger=before.ledger)[0] is FAILED
    assert ask("prices.fallbacks", ledger=after.ledger)[0] is PASSED
