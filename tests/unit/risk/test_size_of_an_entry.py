"""Sizes, each worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import pytest

from support.risk import a_trade, sizing
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.ledger.port import Trade
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import SizeCap, SizingMethod, SizingSettings
from tradingbot_agents.risk.sizing import Size, cap, size

CENT = Decimal("0.01")


def sized(
    settings: SizingSettings,
    equity: str,
    *,
    price: str = "100",
    atr: str | None = None,
    trades: Sequence[Trade] = (),
) -> Size | Refused:
    return size(
        settings,
        equity=Decimal(equity),
        price=Decimal(price),
        atr=None if atr is None else Decimal(atr),
        trades=trades,
        quote_step=CENT,
    )


def record(wins: int, gain: str, losses: int, loss: str) -> list[Trade]:
    return [a_trade(gain)] * wins + [a_trade(f"-{loss}")] * losses


class TestFixedFractional:
    def test_the_example_that_every_level_keeps(self) -> None:
        """80 % of 84.54 is 67.632: the budget is 67.63."""
        assert sized(sizing(fraction=Decimal("0.80")), "84.54") == Size(Decimal("0.80"), Decimal("67.63"))

    def test_a_budget_is_floored_to_the_quote_step(self) -> None:
        """10 % of 99.99 is 9.999: never 10.00."""
        assert sized(sizing(fraction=Decimal("0.10")), "99.99") == Size(Decimal("0.10"), Decimal("9.99"))

    @pytest.mark.parametrize("equity", ["0", "-3.10"])
    def test_without_equity_there_is_no_size(self, equity: str) -> None:
        answer = sized(sizing(), equity)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.INSUFFICIENT_AVAILABLE_BALANCE


class TestCaps:
    @pytest.mark.parametrize(
        ("equity", "budget"),
        [
            ("999.99", "799.99"),
            ("1000", "300.00"),
            ("9999.99", "2999.99"),
            ("10000", "1000.00"),
            ("50000", "5000.00"),
        ],
    )
    def test_the_cap_is_that_of_the_accounts_size(self, equity: str, budget: str) -> None:
        answer = sized(sizing(fraction=Decimal("0.90")), equity)
        assert isinstance(answer, Size)
        assert answer.budget == Decimal(budget)

    def test_a_fraction_below_the_cap_is_kept(self) -> None:
        assert sized(sizing(fraction=Decimal("0.05")), "50000") == Size(Decimal("0.05"), Decimal("2500.00"))

    def test_above_caps_without_an_open_end_the_strictest_holds(self) -> None:
        caps = (
            SizeCap(below=Decimal(100), fraction=Decimal("0.2")),
            SizeCap(below=Decimal(200), fraction=Decimal("0.5")),
        )
        assert cap(caps, Decimal(199)) == Decimal("0.5")
        assert cap(caps, Decimal(200)) == Decimal("0.2")

    def test_nothing_is_sized_above_the_whole_account(self) -> None:
        """1 % risk over a range of 0.1 % of the price would be five times the account."""
        free = sizing(SizingMethod.VOLATILITY, caps=(SizeCap(below=None, fraction=Decimal(1)),))
        assert sized(free, "100", price="100", atr="0.1") == Size(Decimal(1), Decimal("100.00"))


class TestKelly:
    def test_half_of_the_formula(self) -> None:
        """18 of 30 won 10 %, 12 lost 5 %: W = 0.6, R = 2, 0.6 - 0.4 / 2 = 0.4, half of it 0.2."""
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=record(18, "10", 12, "5"))
        assert answer == Size(Decimal("0.2"), Decimal("100.00"))

    def test_the_cap_of_kelly_binds(self) -> None:
        """24 of 30 won 10 %, 6 lost 5 %: 0.8 - 0.2 / 2 = 0.7, half of it 0.35, capped at 0.25."""
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=record(24, "10", 6, "5"))
        assert answer == Size(Decimal("0.25"), Decimal("125.00"))

    def test_a_negative_edge_bets_nothing(self) -> None:
        """9 of 30 won 5 %, 21 lost 5 %: 0.3 - 0.7 = -0.4."""
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=record(9, "5", 21, "5"))
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NO_EDGE
        assert "9 of the last 30 trades won, 5 %" in answer.detail

    def test_no_edge_at_all_bets_nothing(self) -> None:
        """15 of 30 won 5 %, 15 lost 5 %: 0.5 - 0.5 = 0."""
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=record(15, "5", 15, "5"))
        assert isinstance(answer, Refused)

    def test_never_having_won_bets_nothing(self) -> None:
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=record(0, "5", 30, "1"))
        assert isinstance(answer, Refused)

    def test_never_having_lost_is_still_capped(self) -> None:
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=record(30, "5", 0, "1"))
        assert answer == Size(Decimal("0.25"), Decimal("125.00"))

    def test_breaking_even_is_not_winning(self) -> None:
        """15 of 30 won, 15 came out even: W = 0.5 and no loss, so half of 0.5, at most 0.25."""
        even = [a_trade("10")] * 15 + [a_trade("0")] * 15
        assert sized(sizing(SizingMethod.KELLY), "500", trades=even) == Size(Decimal("0.25"), Decimal("125.00"))

    def test_large_and_small_trades_count_alike(self) -> None:
        """15 won 10 of 100 (10 %), 15 lost 10 of 200 (5 %): R = 2, 0.5 - 0.5 / 2 = 0.25, half of it 0.125."""
        trades = [a_trade("10", cost="100")] * 15 + [a_trade("-10", cost="200")] * 15
        assert sized(sizing(SizingMethod.KELLY), "500", trades=trades) == Size(Decimal("0.125"), Decimal("62.50"))

    def test_a_short_record_is_not_trusted(self) -> None:
        """29 wins are not 30: the fixed fraction, at most Kelly's cap."""
        wins = record(29, "10", 0, "5")
        assert sized(sizing(SizingMethod.KELLY, fraction=Decimal("0.10")), "500", trades=wins) == Size(
            Decimal("0.10"), Decimal("50.00")
        )
        assert sized(sizing(SizingMethod.KELLY, fraction=Decimal("0.80")), "500", trades=wins) == Size(
            Decimal("0.25"), Decimal("125.00")
        )

    def test_only_the_latest_trades_count(self) -> None:
        """200 losses that are older than the last 200 trades are forgotten."""
        old_losses, new = record(0, "1", 200, "5"), record(120, "10", 80, "5")
        answer = sized(sizing(SizingMethod.KELLY), "500", trades=[*old_losses, *new])
        assert answer == Size(Decimal("0.2"), Decimal("100.00"))


class TestVolatility:
    def test_two_ranges_cost_the_target_risk(self) -> None:
        """1 % of 400 is 4; two ranges of 2 are 4 a coin: one coin at 100 is a quarter of 400."""
        assert sized(sizing(SizingMethod.VOLATILITY), "400", price="100", atr="2") == Size(
            Decimal("0.25"), Decimal("100.00")
        )

    def test_the_wilder_the_smaller(self) -> None:
        assert sized(sizing(SizingMethod.VOLATILITY), "400", price="100", atr="4") == Size(
            Decimal("0.125"), Decimal("50.00")
        )

    @pytest.mark.parametrize("atr", [None, "0"])
    @pytest.mark.parametrize("method", [SizingMethod.VOLATILITY, SizingMethod.HYBRID])
    def test_a_risk_that_can_not_be_measured_is_not_taken(self, method: SizingMethod, atr: str | None) -> None:
        answer = sized(sizing(method), "400", atr=atr)
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NO_EDGE
        assert "average true range" in answer.detail


class TestHybrid:
    @pytest.mark.parametrize(
        ("fraction", "atr", "smallest"),
        [
            ("0.10", "2", "0.10"),  # the fixed fraction; Kelly says 0.2, volatility 0.25
            ("0.80", "2", "0.2"),  # Kelly
            ("0.80", "5", "0.1"),  # volatility: 0.01 * 100 / (2 * 5)
        ],
    )
    def test_the_smallest_of_the_three(self, fraction: str, atr: str, smallest: str) -> None:
        settings = sizing(SizingMethod.HYBRID, fraction=Decimal(fraction))
        answer = sized(settings, "500", price="100", atr=atr, trades=record(18, "10", 12, "5"))
        assert isinstance(answer, Size)
        assert answer.fraction == Decimal(smallest)

    def test_without_an_edge_nothing(self) -> None:
        answer = sized(sizing(SizingMethod.HYBRID), "500", atr="2", trades=record(9, "5", 21, "5"))
        assert isinstance(answer, Refused)
        assert answer.reason is Reason.NO_EDGE
