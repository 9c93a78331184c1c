"""Equity and tail risk, worked out by hand."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec
import pytest

from support.messages import START, a_candle
from tradingbot_agents.ledger.port import Balance, EquityPoint
from tradingbot_agents.risk.exposure import (
    Closes,
    TailRisk,
    held_symbols,
    outside_value,
    tail_risk,
    unit_values,
    value_account,
)

CENT = Decimal("0.01")
SYMBOLS = ("BTC/USDT", "ETH/USDT")


def balances(**totals: str) -> dict[str, Balance]:
    """With something reserved: it is the account's all the same."""
    return {
        asset: Balance(asset=asset, total=Decimal(total), reserved=Decimal(1), outside_holds=Decimal(0))
        for asset, total in totals.items()
    }


class TestEquity:
    def test_totals_at_their_prices(self) -> None:
        account = balances(USDT="16.91", BTC="0.00055")
        value = value_account(account, {"BTC/USDT": Decimal(120000)}, SYMBOLS, "USDT")
        assert value.equity == Decimal("82.91")
        assert value.held == {"BTC/USDT": Decimal(66)}
        assert value.exposure == Decimal(66)

    def test_what_no_symbol_is_about_counts_nothing(self) -> None:
        account = balances(USDT="100", BNB="3")
        assert held_symbols(account, SYMBOLS, "USDT") == []
        assert value_account(account, {}, SYMBOLS, "USDT").equity == Decimal(100)

    def test_an_asset_that_is_gone_needs_no_price(self) -> None:
        account = balances(USDT="100", BTC="0")
        assert held_symbols(account, SYMBOLS, "USDT") == []

    def test_what_is_overdrawn_counts_as_debt(self) -> None:
        account = balances(USDT="-5", ETH="0.1")
        assert held_symbols(account, SYMBOLS, "USDT") == ["ETH/USDT"]
        assert value_account(account, {"ETH/USDT": Decimal(100)}, SYMBOLS, "USDT").equity == Decimal(5)

    def test_a_missing_price_is_an_error_and_not_a_zero(self) -> None:
        with pytest.raises(KeyError):
            value_account(balances(ETH="1"), {}, SYMBOLS, "USDT")

    def test_an_empty_account(self) -> None:
        assert value_account({}, {}, SYMBOLS, "USDT").equity == 0

    def test_of_a_coin_that_was_set_aside_only_what_was_bought_counts(self) -> None:
        ignored = Balance(
            asset="BTC", total=Decimal(1), reserved=Decimal(0), outside_holds=Decimal(1), set_aside=Decimal(1)
        )
        account = {**balances(USDT="1000"), "BTC": ignored}
        prices = {"BTC/USDT": Decimal(100000)}
        assert held_symbols(account, SYMBOLS, "USDT") == []
        assert value_account(account, {}, SYMBOLS, "USDT").equity == 1000
        account["BTC"] = msgspec.structs.replace(ignored, total=Decimal("1.002"))
        value = value_account(account, prices, SYMBOLS, "USDT")
        assert (value.equity, value.held) == (Decimal(1200), {"BTC/USDT": Decimal(200)})


class TestUnitValues:
    def values(self, *points: tuple[str, str]) -> list[Decimal]:
        """Of (what was there, the sum of what came from outside)."""
        return unit_values(
            [
                EquityPoint(START + index * timedelta(hours=1), Decimal(gross) - Decimal(outside), Decimal(outside))
                for index, (gross, outside) in enumerate(points)
            ]
        )

    def test_without_movements_it_is_the_equity(self) -> None:
        assert self.values(("1000", "0"), ("970", "0"), ("1100", "0")) == [1000, 970, 1100]
        assert self.values(("1000", "500"), ("970", "500")) == [1000, 970]

    def test_a_loss_is_of_the_money_that_is_left(self) -> None:
        assert self.values(("1000", "0"), ("100", "-900"), ("10", "-900")) == [1000, 1000, 100]

    def test_a_deposit_makes_an_earlier_loss_no_smaller(self) -> None:
        assert self.values(("1000", "0"), ("900", "0"), ("9900", "9000")) == [1000, 900, 900]

    def test_a_withdrawal_makes_an_earlier_loss_no_larger(self) -> None:
        assert self.values(("1100", "0"), ("1050", "0"), ("50", "-1000"), ("55", "-1000")) == [1100, 1050, 1050, 1155]

    def test_taking_everything_is_no_loss_and_bringing_it_back_no_gain(self) -> None:
        points = (("1000", "0"), ("0", "-1000"), ("0", "-1000"), ("200", "-800"), ("100", "-800"))
        assert self.values(*points) == [1000, 1000, 1000, 1000, 500]

    def test_an_account_that_opens_empty_begins_with_its_first_money(self) -> None:
        assert self.values(("0", "0"), ("500", "500"), ("450", "500")) == [0, 500, 450]


class TestTailRisk:
    CHANGES = tuple(index / 1000 for index in range(-10, 10))
    """Twenty bars, from -1 % to +0.9 %."""

    def returns(self, *changes: float) -> dict[datetime, float]:
        return {START + index * timedelta(minutes=5): change for index, change in enumerate(changes)}

    def test_nineteen_of_twenty_bars_lost_no_more(self) -> None:
        """1000 held: the two worst bars lost 10 and 9. 95 % lost 9 or less; the mean of the tail is 9.50."""
        risk = tail_risk(
            {"BTC/USDT": Decimal(1000)}, {"BTC/USDT": self.returns(*self.CHANGES)}, Decimal("0.95"), CENT
        )
        assert risk == TailRisk(Decimal("9.00"), Decimal("9.50"), 20)

    def test_what_moves_against_each_other_cancels_out(self) -> None:
        returns = {
            "BTC/USDT": self.returns(*self.CHANGES),
            "ETH/USDT": self.returns(*(-change for change in self.CHANGES)),
        }
        held = {"BTC/USDT": Decimal(1000), "ETH/USDT": Decimal(1000)}
        assert tail_risk(held, returns, Decimal("0.95"), CENT) == TailRisk(Decimal("0.00"), Decimal("0.00"), 20)

    def test_what_moves_together_adds_up(self) -> None:
        returns = dict.fromkeys(SYMBOLS, self.returns(*self.CHANGES))
        held = {"BTC/USDT": Decimal(1000), "ETH/USDT": Decimal(500)}
        assert tail_risk(held, returns, Decimal("0.95"), CENT).value_at_risk == Decimal("13.50")

    def test_a_tail_without_a_bar_is_not_known(self) -> None:
        returns = {"BTC/USDT": self.returns(*self.CHANGES[:19])}
        assert tail_risk({"BTC/USDT": Decimal(1000)}, returns, Decimal("0.95"), CENT) == TailRisk(None, None, 19)

    def test_only_gains_are_no_loss(self) -> None:
        returns = {"BTC/USDT": self.returns(*([0.01] * 20))}
        assert tail_risk({"BTC/USDT": Decimal(1000)}, returns, Decimal("0.95"), CENT).value_at_risk == 0

    def test_holding_nothing_risks_nothing(self) -> None:
        assert tail_risk({}, {}, Decimal("0.95"), CENT) == TailRisk(Decimal("0.00"), Decimal("0.00"), 0)


class TestCloses:
    def test_returns_from_close_to_close(self) -> None:
        closes = Closes(lookback=10)
        for index, close in enumerate(("100", "110", "99")):
            closes.add(a_candle(index, close=close))
        assert list(closes.returns("BTC/USDT").values()) == pytest.approx([0.1, -0.1])
        assert closes.returns("ETH/USDT") == {}

    def test_a_bar_that_comes_twice_counts_once(self) -> None:
        closes = Closes(lookback=10)
        for index in (0, 1, 1, 0):
            closes.add(a_candle(index, close=str(100 + index)))
        assert list(closes.returns("BTC/USDT").values()) == pytest.approx([0.01])

    def test_it_keeps_no_more_than_it_is_asked_for(self) -> None:
        closes = Closes(lookback=3)
        for index in range(50):
            closes.add(a_candle(index, close=str(100 + index)))
        assert len(closes.returns("BTC/USDT")) == 3


def test_what_came_from_outside_is_valued_as_the_equity_is() -> None:
    outside = {"USDT": Decimal("15.46"), "BTC": Decimal("0.001"), "XYZ": Decimal(3)}
    prices = {"BTC/USDT": Decimal(100000), "ETH/USDT": Decimal(4000)}
    assert outside_value(outside, prices, "USDT") == Decimal("115.46"), "what nobody has a price for counts nothing"
    assert outside_value({}, prices, "USDT") == 0
