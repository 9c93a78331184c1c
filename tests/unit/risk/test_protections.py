"""Each protection by hand: when it comes into force, for whom, and until when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from support.risk import NO_PROTECTIONS, a_point, a_trade
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.ledger.port import EquityPoint, Trade
from tradingbot_agents.risk.protections import Active, Announcer, active_protections, equity_since, trades_since
from tradingbot_agents.risk.settings import Cooldown, DailyLoss, MaxDrawdown, Protections, StopLossGuard

NOON = datetime(2024, 3, 5, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

DRAWDOWN = MaxDrawdown(limit=Decimal("0.15"), lookback=7 * DAY, pause=DAY)
GUARD = StopLossGuard(count=3, lookback=DAY, pause=12 * HOUR, per_symbol=False)


def rules(**changes: Any) -> Protections:
    return msgspec.structs.replace(NO_PROTECTIONS, **changes)


def active(
    settings: Protections, *, trades: Sequence[Trade] = (), equity: Sequence[EquityPoint] = (), now: datetime = NOON
) -> list[Active]:
    return active_protections(settings, now, trades=trades, equity=equity)


def test_without_rules_nothing_is_in_force_and_nothing_is_read() -> None:
    assert active(NO_PROTECTIONS, trades=[a_trade("-50")], equity=[a_point("1", NOON)]) == []
    assert equity_since(NO_PROTECTIONS, NOON) is None
    assert trades_since(NO_PROTECTIONS, NOON) is None


class TestMaxDrawdown:
    def test_at_the_limit_it_is_in_force_for_the_pause(self) -> None:
        """100 to 85 is 15 %."""
        points = [a_point("100", NOON - 2 * HOUR), a_point("85", NOON - HOUR), a_point("95", NOON)]
        [found] = active(rules(max_drawdown=DRAWDOWN), equity=points)
        assert (found.protection, found.symbol, found.until) == ("maxDrawdown", None, NOON - HOUR + DAY)
        assert "equity of 85 was 15 % below the 100 of 2024-03-05 10:00Z, limit 15 %" in found.detail

    def test_above_the_limit_it_is_not(self) -> None:
        points = [a_point("100", NOON - HOUR), a_point("85.01", NOON)]
        assert active(rules(max_drawdown=DRAWDOWN), equity=points) == []

    def test_the_pause_ends(self) -> None:
        points = [a_point("100", NOON - 2 * DAY), a_point("80", NOON - DAY), a_point("90", NOON)]
        just_before = NOON - timedelta(microseconds=1)
        assert len(active(rules(max_drawdown=DRAWDOWN), equity=points[:2], now=just_before)) == 1
        assert active(rules(max_drawdown=DRAWDOWN), equity=points) == []

    def test_while_it_stays_deep_the_pause_begins_anew(self) -> None:
        points = [a_point("100", NOON - 3 * DAY), a_point("80", NOON - 2 * DAY), a_point("80", NOON)]
        [found] = active(rules(max_drawdown=DRAWDOWN), equity=points)
        assert found.until == NOON + DAY

    def test_a_high_beyond_the_lookback_is_forgotten(self) -> None:
        points = [a_point("100", NOON - 7 * DAY - HOUR), a_point("80", NOON - 7 * DAY), a_point("80", NOON)]
        assert active(rules(max_drawdown=DRAWDOWN), equity=points) == []

    def test_a_high_after_the_low_is_no_drawdown(self) -> None:
        points = [a_point("80", NOON - HOUR), a_point("100", NOON)]
        assert active(rules(max_drawdown=DRAWDOWN), equity=points) == []

    def test_the_high_is_the_highest_and_not_the_first(self) -> None:
        points = [a_point(str(equity), NOON + index * HOUR) for index, equity in enumerate((90, 100, 95, 84))]
        [found] = active(rules(max_drawdown=DRAWDOWN), equity=points, now=NOON + 3 * HOUR)
        assert "16 % below the 100" in found.detail

    def test_a_loss_of_what_a_withdrawal_left_counts_whole(self) -> None:
        """1000, of which 900 are withdrawn; 90 of the other 100 are lost."""
        points = [
            a_point("1000", NOON - 2 * HOUR),
            EquityPoint(NOON - HOUR, Decimal(1000), Decimal(-900)),
            EquityPoint(NOON, Decimal(910), Decimal(-900)),
        ]
        assert active(rules(max_drawdown=DRAWDOWN), equity=points[:2]) == []
        [found] = active(rules(max_drawdown=DRAWDOWN), equity=points)
        assert "equity of 10 was 90 % below the 100 of 2024-03-05 11:00Z" in found.detail

    def test_it_looks_back_far_enough_for_a_breach_that_still_pauses(self) -> None:
        assert equity_since(rules(max_drawdown=DRAWDOWN), NOON) == NOON - 8 * DAY


class TestDailyLoss:
    LIMIT = rules(daily_loss=DailyLoss(limit=Decimal("0.05")))
    MIDNIGHT = datetime(2024, 3, 5, tzinfo=UTC)

    def test_until_the_next_day(self) -> None:
        points = [a_point("100", self.MIDNIGHT - HOUR), a_point("95", self.MIDNIGHT + HOUR), a_point("99", NOON)]
        [found] = active(self.LIMIT, equity=points)
        assert (found.protection, found.symbol, found.until) == ("dailyLoss", None, self.MIDNIGHT + DAY)
        assert found.detail == "the day began with 100 and fell to 95, 5 % less, limit 5 %"

    def test_a_smaller_loss_is_allowed(self) -> None:
        points = [a_point("100", self.MIDNIGHT - HOUR), a_point("95.01", NOON)]
        assert active(self.LIMIT, equity=points) == []

    def test_the_loss_of_yesterday_is_forgotten(self) -> None:
        points = [a_point("100", self.MIDNIGHT - 5 * HOUR), a_point("80", self.MIDNIGHT - HOUR), a_point("80", NOON)]
        assert active(self.LIMIT, equity=points) == []

    def test_without_a_point_of_yesterday_the_first_of_today_begins_the_day(self) -> None:
        points = [a_point("100", self.MIDNIGHT + HOUR), a_point("94", NOON)]
        assert len(active(self.LIMIT, equity=points)) == 1

    def test_without_a_point_of_today_nothing_is_lost_today(self) -> None:
        assert active(self.LIMIT, equity=[a_point("100", self.MIDNIGHT - HOUR)]) == []

    def test_a_loss_of_yesterdays_last_bar_is_not_of_today(self) -> None:
        second = timedelta(seconds=1)
        points = [
            a_point("1000", self.MIDNIGHT - HOUR + second),
            a_point("900", self.MIDNIGHT + second),
            a_point("905", self.MIDNIGHT + HOUR + second),
        ]
        assert active(self.LIMIT, equity=points) == []
        assert len(active(self.LIMIT, equity=[*points, a_point("855", NOON)])) == 1

    def test_what_was_lost_while_nobody_was_there_counts(self) -> None:
        points = [a_point("100", self.MIDNIGHT - HOUR), a_point("94", self.MIDNIGHT + timedelta(seconds=2))]
        assert len(active(self.LIMIT, equity=points)) == 1

    def test_a_withdrawal_hides_no_loss(self) -> None:
        points = [
            a_point("1000", self.MIDNIGHT),
            EquityPoint(self.MIDNIGHT + HOUR, Decimal(1000), Decimal(-900)),
            EquityPoint(NOON, Decimal(990), Decimal(-900)),
        ]
        [found] = active(self.LIMIT, equity=points)
        assert found.detail == "the day began with 100 and fell to 90, 10 % less, limit 5 %"

    def test_it_looks_back_to_the_day_before(self) -> None:
        assert equity_since(self.LIMIT, NOON) == self.MIDNIGHT - DAY


class TestCooldown:
    def test_after_a_loss_the_symbol_rests(self) -> None:
        settings = rules(cooldown=Cooldown(pause=HOUR, per_symbol=True))
        trades = [a_trade("-2.5", NOON - HOUR / 2, symbol="ETH/USDT"), a_trade("3", NOON, symbol="BTC/USDT")]
        [found] = active(settings, trades=trades)
        assert (found.symbol, found.until) == ("ETH/USDT", NOON + HOUR / 2)
        assert found.binds("ETH/USDT")
        assert not found.binds("BTC/USDT")
        assert str(found) == "cooldown until 2024-03-05 12:30:00Z: ETH/USDT closed with a loss of 2.5"

    def test_or_all_of_them_rest(self) -> None:
        settings = rules(cooldown=Cooldown(pause=HOUR, per_symbol=False))
        trades = [a_trade("-1", NOON - 2 * HOUR, symbol="ETH/USDT"), a_trade("-1", NOON - HOUR / 4)]
        [found] = active(settings, trades=trades)
        assert (found.symbol, found.until) == (None, NOON + HOUR * 3 / 4)
        assert found.binds("SOL/USDT")

    def test_it_ends(self) -> None:
        settings = rules(cooldown=Cooldown(pause=HOUR, per_symbol=True))
        just_before = NOON - HOUR - timedelta(microseconds=1)
        assert active(settings, trades=[a_trade("-1", just_before)]) == []
        assert len(active(settings, trades=[a_trade("-1", NOON - HOUR)])) == 1
        assert trades_since(settings, NOON) == NOON - HOUR

    def test_a_win_needs_no_rest(self) -> None:
        assert active(rules(cooldown=Cooldown(pause=HOUR, per_symbol=True)), trades=[a_trade("1", NOON)]) == []


class TestStopLossGuard:
    def stops(self, *hours_ago: float, symbol: str = "BTC/USDT") -> list[Trade]:
        return [a_trade("-5", NOON - hours * HOUR, symbol=symbol, leg=Leg.STOP) for hours in hours_ago]

    def test_three_stops_within_a_day(self) -> None:
        [found] = active(rules(stop_loss_guard=GUARD), trades=self.stops(20, 8, 2))
        assert (found.protection, found.symbol, found.until) == ("stopLossGuard", None, NOON + 10 * HOUR)
        assert found.detail == "3 stop-losses between 2024-03-04 16:00Z and 2024-03-05 10:00Z"

    def test_two_are_not_three(self) -> None:
        assert active(rules(stop_loss_guard=GUARD), trades=self.stops(8, 2)) == []

    def test_three_that_lie_further_apart(self) -> None:
        assert active(rules(stop_loss_guard=GUARD), trades=self.stops(26, 8, 1)) == []

    def test_the_latest_three_count(self) -> None:
        [found] = active(rules(stop_loss_guard=GUARD), trades=self.stops(23, 22, 21, 1))
        assert found.until == NOON + 11 * HOUR

    def test_an_earlier_three_still_pause_when_the_latest_do_not(self) -> None:
        """A stop after a long time completes no three, and does not end the pause of those before."""
        quick = msgspec.structs.replace(GUARD, lookback=2 * HOUR)
        [found] = active(rules(stop_loss_guard=quick), trades=self.stops(11, 10.5, 10, 1))
        assert found.until == NOON + 2 * HOUR

    def test_it_ends(self) -> None:
        assert active(rules(stop_loss_guard=GUARD), trades=self.stops(14, 13, 12.001)) == []
        assert len(active(rules(stop_loss_guard=GUARD), trades=self.stops(14, 13, 12))) == 1
        assert trades_since(rules(stop_loss_guard=GUARD), NOON) == NOON - 36 * HOUR

    def test_other_exits_and_trailed_profits_are_no_stop_losses(self) -> None:
        trades = [*self.stops(5, 4), a_trade("-5", NOON, leg=Leg.EXIT), a_trade("5", NOON, leg=Leg.STOP)]
        assert active(rules(stop_loss_guard=GUARD), trades=trades) == []

    def test_by_symbol(self) -> None:
        settings = rules(stop_loss_guard=msgspec.structs.replace(GUARD, per_symbol=True))
        mixed = self.stops(5, 4) + self.stops(3, 2, 1, symbol="ETH/USDT")
        [found] = active(settings, trades=mixed)
        assert found.symbol == "ETH/USDT"


class TestAnnouncer:
    def of(self, until: datetime, name: str = "cooldown", symbol: str | None = None) -> Active:
        return Active(name, symbol, until, "why")

    def test_an_activation_is_told_once(self) -> None:
        announcer, first = Announcer(), self.of(NOON + HOUR)
        assert announcer.news([first], NOON) == [first]
        assert announcer.news([first], NOON + HOUR / 2) == []

    def test_one_that_is_prolonged_is_still_the_same(self) -> None:
        announcer = Announcer()
        announcer.news([self.of(NOON + HOUR)], NOON)
        assert announcer.news([self.of(NOON + 2 * HOUR)], NOON + HOUR / 2) == []
        assert announcer.news([self.of(NOON + 2 * HOUR)], NOON + HOUR * 3 / 2) == []

    def test_one_that_had_ended_is_told_again(self) -> None:
        announcer, again = Announcer(), self.of(NOON + 3 * HOUR)
        announcer.news([self.of(NOON + HOUR)], NOON)
        assert announcer.news([again], NOON + HOUR) == [again]

    def test_each_rule_and_symbol_is_told_by_itself(self) -> None:
        announcer, both = Announcer(), [self.of(NOON + HOUR, symbol="BTC/USDT"), self.of(NOON + HOUR, "dailyLoss")]
        announcer.news([self.of(NOON + HOUR)], NOON)
        assert announcer.news(both, NOON) == both
