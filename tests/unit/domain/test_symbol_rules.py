"""Rounding and limits, against the filters that Binance publishes for real symbols (the lesson DEV-67)."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot_agents.domain.symbol_rules import (
    FeeCurrency,
    Fees,
    OrderProblem,
    Precision,
    PrecisionMode,
    SymbolRules,
    floor_to,
)
from tradingbot_agents.domain.values import OrderType, Side
from tradingbot_agents.exchange.market_rules import load_market_rules

REAL = load_market_rules()
BTC = REAL["BTC/USDT"]


def tick(value: str) -> Precision:
    return Precision(PrecisionMode.TICK_SIZE, Decimal(value))


def places(value: str) -> Precision:
    return Precision(PrecisionMode.DECIMAL_PLACES, Decimal(value))


def digits(value: str) -> Precision:
    return Precision(PrecisionMode.SIGNIFICANT_DIGITS, Decimal(value))


# The published filters: symbol, amount step, price tick, minimum amount, minimum notional


@pytest.mark.parametrize(
    ("symbol", "step", "price_tick", "least", "notional"),
    [
        ("BTC/USDT", "0.00001", "0.01", "0.00001", "5"),
        ("ETH/USDT", "0.0001", "0.01", "0.0001", "5"),
        ("SOL/USDT", "0.001", "0.01", "0.001", "5"),
        ("BNB/USDT", "0.001", "0.1", "0.001", "5"),
        ("XRP/USDT", "1", "0.0001", "1", "5"),
        ("DOGE/USDT", "1", "0.00001", "1", "1"),
        ("ADA/USDT", "0.1", "0.0001", "0.1", "5"),
        ("AVAX/USDT", "0.01", "0.01", "0.01", "5"),
        ("TRX/USDT", "0.1", "0.0001", "0.1", "5"),
        ("SHIB/USDT", "1", "0.00000001", "1", "1"),
        ("PEPE/USDT", "1", "0.00000001", "1", "1"),
    ],
)
def test_the_data_file_has_the_published_filters(
    symbol: str, step: str, price_tick: str, least: str, notional: str
) -> None:
    rules = REAL[symbol]
    assert (rules.amount.value, rules.price.value) == (Decimal(step), Decimal(price_tick))
    assert (rules.min_amount, rules.min_notional) == (Decimal(least), Decimal(notional))


@pytest.mark.parametrize(
    ("symbol", "amount", "floored"),
    [
        ("BTC/USDT", "0.000556345", "0.00055"),
        ("BTC/USDT", "0.00000999", "0"),
        ("ETH/USDT", "0.02219999", "0.0221"),
        ("SOL/USDT", "0.5999999", "0.599"),
        ("XRP/USDT", "107.99", "107"),
        ("DOGE/USDT", "400.9999999", "400"),
        ("ADA/USDT", "12.39", "12.3"),
        ("SHIB/USDT", "3500000.9", "3500000"),
        ("PEPE/USDT", "0.99", "0"),
    ],
)
def test_amounts_are_rounded_down_to_the_step(symbol: str, amount: str, floored: str) -> None:
    assert REAL[symbol].floor_amount(Decimal(amount)) == Decimal(floored)


@pytest.mark.parametrize(
    ("symbol", "price", "buy", "sell"),
    [
        ("BTC/USDT", "115478.8175", "115478.81", "115478.82"),
        ("BTC/USDT", "133712.315", "133712.31", "133712.32"),
        ("BNB/USDT", "512.349", "512.3", "512.4"),
        ("XRP/USDT", "0.61555", "0.6155", "0.6156"),
        ("DOGE/USDT", "0.089561", "0.08956", "0.08957"),
        ("SHIB/USDT", "0.000013561", "0.00001356", "0.00001357"),
        ("SHIB/USDT", "0.00001356", "0.00001356", "0.00001356"),
        ("PEPE/USDT", "0.0000070399", "0.00000703", "0.00000704"),
    ],
)
def test_sell_prices_go_up_and_buy_prices_down(symbol: str, price: str, buy: str, sell: str) -> None:
    assert REAL[symbol].safe_price(Side.BUY, Decimal(price)) == Decimal(buy)
    assert REAL[symbol].safe_price(Side.SELL, Decimal(price)) == Decimal(sell)


def test_the_design_example_of_84_54_usdt() -> None:
    equity, price = Decimal("84.54"), Decimal("121556.65")
    budget = floor_to(equity * Decimal("0.80"), Decimal("0.01"))
    assert budget == Decimal("67.63")
    assert equity - budget == Decimal("16.91")
    assert BTC.floor_amount(budget / price) == Decimal("0.00055")
    assert price * Decimal("0.95") == Decimal("115478.8175")
    assert BTC.safe_price(Side.SELL, price * Decimal("0.95")) == Decimal("115478.82")
    assert price * Decimal("1.10") == Decimal("133712.315")
    assert BTC.safe_price(Side.SELL, price * Decimal("1.10")) == Decimal("133712.32")


@pytest.mark.parametrize("rules", REAL.values(), ids=REAL)
def test_every_real_symbol_takes_its_smallest_order_and_refuses_a_step_less(rules: SymbolRules) -> None:
    price = rules.price.ceil(max(rules.min_notional / rules.min_amount, rules.price.value))
    assert rules.order_problem(OrderType.LIMIT, rules.min_amount, price) is None
    less = rules.min_amount - rules.amount.value
    problem = rules.order_problem(OrderType.LIMIT, less, price)
    assert problem is not None
    assert problem.reason == "below_minimum_amount"
    below = rules.price.floor(price - rules.price.value)
    if below * rules.min_amount < rules.min_notional:
        problem = rules.order_problem(OrderType.LIMIT, rules.min_amount, below)
        assert problem is not None
        assert problem.reason == "below_minimum_notional"


# The three precision modes


@pytest.mark.parametrize(
    ("precision", "value", "floor", "ceil"),
    [
        (tick("0.05"), "1.07", "1.05", "1.10"),
        (tick("0.0025"), "0.00499", "0.0025", "0.005"),
        (tick("5"), "12", "10", "15"),
        (tick("0.00001"), "-0.1234567", "-0.12346", "-0.12345"),
        (places("3"), "1.23456", "1.234", "1.235"),
        (places("0"), "7.9", "7", "8"),
        (places("-2"), "12345", "12300", "12400"),
        (places("-2"), "99", "0", "100"),
        (digits("3"), "123456", "123000", "124000"),
        (digits("3"), "0.00012345", "0.000123", "0.000124"),
        (digits("3"), "9.996", "9.99", "10"),
        (digits("1"), "0.05", "0.05", "0.05"),
        (digits("5"), "0", "0", "0"),
        (
            tick("1e-18"),
            "123456789.0000000000000000015",
            "123456789.000000000000000001",
            "123456789.000000000000000002",
        ),
    ],
)
def test_each_precision_mode(precision: Precision, value: str, floor: str, ceil: str) -> None:
    assert precision.floor(Decimal(value)) == Decimal(floor)
    assert precision.ceil(Decimal(value)) == Decimal(ceil)


@pytest.mark.parametrize(
    ("precision", "value"),
    [
        (tick("0.00001"), "0.999999999999999999999999999999999999"),
        (places("8"), "99999999999999999999.999999999"),
        (digits("3"), "9.9999999999999999999999999999999"),
        (tick("0.00000001"), "123456789012345678901234567890.123456789"),
    ],
)
def test_a_number_of_many_digits_is_not_rounded_past_itself(precision: Precision, value: str) -> None:
    number = Decimal(value)
    assert precision.floor(number) < number < precision.ceil(number)
    assert not precision.holds(number)


def test_one_value_has_one_text() -> None:
    assert str(tick("0.00001").floor(Decimal("0.500001"))) == "0.5"
    assert str(tick("100").floor(Decimal("1234"))) == "1200"
    assert str(tick("0.01").ceil(Decimal("-0.001"))) == "0"


@pytest.mark.parametrize(
    ("mode", "value", "problem"),
    [
        ("tickSize", "0", "above zero"),
        ("tickSize", "-0.1", "above zero"),
        ("tickSize", "NaN", "above zero"),
        ("decimalPlaces", "1.5", "whole number"),
        ("decimalPlaces", "Infinity", "whole number"),
        ("significantDigits", "NaN", "whole number"),
        ("significantDigits", "0", "at least 1"),
    ],
)
def test_a_grid_that_can_not_be_is_refused(mode: str, value: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        Precision(PrecisionMode(mode), Decimal(value))


grids = st.one_of(
    st.builds(
        lambda mantissa, exponent: Precision(PrecisionMode.TICK_SIZE, Decimal(mantissa).scaleb(exponent)),
        st.sampled_from([1, 2, 5, 25, 125]),
        st.integers(-18, 3),
    ),
    st.builds(lambda n: Precision(PrecisionMode.DECIMAL_PLACES, Decimal(n)), st.integers(-4, 18)),
    st.builds(lambda n: Precision(PrecisionMode.SIGNIFICANT_DIGITS, Decimal(n)), st.integers(1, 12)),
)
numbers = st.builds(
    lambda mantissa, exponent: Decimal(mantissa).scaleb(exponent), st.integers(-(10**24), 10**24), st.integers(-24, 6)
)


@given(grids, numbers)
def test_floor_and_ceil_enclose_the_value_on_the_grid(grid: Precision, value: Decimal) -> None:
    floor, ceil = grid.floor(value), grid.ceil(value)
    assert floor <= value <= ceil
    assert grid.holds(floor)
    assert grid.holds(ceil)
    assert (floor == ceil) == grid.holds(value)
    assert ceil - floor <= grid.step(value)


@given(grids, numbers)
def test_rounding_twice_changes_nothing(grid: Precision, value: Decimal) -> None:
    assert grid.floor(grid.floor(value)) == grid.floor(value)
    assert grid.ceil(grid.ceil(value)) == grid.ceil(value)


# Limits


@pytest.mark.parametrize(
    ("order_type", "amount", "price", "reason"),
    [
        (OrderType.LIMIT, "0", "60000", "below_minimum_amount"),
        (OrderType.LIMIT, "-1", "60000", "below_minimum_amount"),
        (OrderType.LIMIT, "0.000009", "60000", "below_minimum_amount"),
        (OrderType.LIMIT, "9000.00001", "60000", "above_maximum_amount"),
        (OrderType.MARKET, "129.84958", "60000", "above_maximum_amount"),
        (OrderType.STOP_MARKET, "129.84958", "60000", "above_maximum_amount"),
        (OrderType.LIMIT, "129.84958", "60000", None),
        (OrderType.LIMIT, "0.000011", "60000", "off_amount_step"),
        (OrderType.LIMIT, "0.001", "60000.001", "off_price_tick"),
        (OrderType.STOP_MARKET, "0.001", "60000.001", "off_price_tick"),
        (OrderType.MARKET, "0.001", "60000.001", None),
        (OrderType.LIMIT, "0.00008", "60000", "below_minimum_notional"),
        (OrderType.LIMIT, "0.00009", "60000", None),
        (OrderType.LIMIT, "9000", "60000", "above_maximum_notional"),
    ],
)
def test_each_limit_of_btc(order_type: OrderType, amount: str, price: str, reason: str | None) -> None:
    problem = BTC.order_problem(order_type, Decimal(amount), Decimal(price))
    assert (problem.reason if problem else None) == reason


def test_a_symbol_that_does_not_trade_takes_no_order() -> None:
    halted = msgspec.structs.replace(BTC, active=False)
    problem = halted.order_problem(OrderType.LIMIT, Decimal("0.001"), Decimal("60000"))
    assert problem is not None
    assert problem.reason == "symbol_not_trading"


def test_a_problem_reads_as_a_sentence() -> None:
    problem = OrderProblem("below_minimum_notional", "notional", Decimal("4.8"), Decimal("5"))
    assert str(problem) == "below_minimum_notional: notional 4.8 against 5"


# The exit of a position stays sellable


def test_a_fee_in_base_makes_the_smallest_buy_unsellable() -> None:
    doge = REAL["DOGE/USDT"]
    assert doge.received_base(Decimal("12")) == Decimal("11.988")
    assert doge.exit_problem(Decimal("12"), Decimal("0.09")) == OrderProblem(
        "below_minimum_notional", "notional", Decimal("0.99"), Decimal("1")
    )
    assert doge.exit_problem(Decimal("13"), Decimal("0.09")) is None


def test_a_sale_whose_fee_is_taken_in_base_keeps_it_back_everywhere() -> None:
    rules = msgspec.structs.replace(
        BTC, fees=Fees(Decimal("0.001"), Decimal("0.002"), FeeCurrency.BASE), min_amount=Decimal("1")
    )
    held = rules.received_base(Decimal("1.003"))
    assert rules.floor_amount(held) == Decimal("1.00099")
    assert rules.sellable(held) == Decimal("0.99899"), "of 1.000994"
    assert rules.exit_problem(Decimal("1.003"), Decimal("60000")) == OrderProblem(
        "below_minimum_amount", "amount", Decimal("0.99899"), Decimal("1")
    )
    assert rules.is_dust(held, Decimal("60000"))
    assert rules.exit_problem(Decimal("1.005"), Decimal("60000")) is None
    assert not rules.is_dust(rules.received_base(Decimal("1.005")), Decimal("60000"))
    assert BTC.sellable(Decimal("1.000999")) == Decimal("1.00099"), "a fee in what is received costs no base"


def test_a_fee_in_quote_leaves_the_whole_buy() -> None:
    in_quote = msgspec.structs.replace(
        REAL["DOGE/USDT"], fees=Fees(Decimal("0.001"), Decimal("0.001"), FeeCurrency.QUOTE)
    )
    assert in_quote.received_base(Decimal("12")) == Decimal("12")
    assert in_quote.exit_problem(Decimal("12"), Decimal("0.09")) is None


def test_a_move_to_the_stop_makes_a_small_buy_unsellable() -> None:
    assert BTC.order_problem(OrderType.MARKET, Decimal("0.00009"), Decimal("63000")) is None
    assert BTC.exit_problem(Decimal("0.00009"), Decimal("60000")) == OrderProblem(
        "below_minimum_notional", "notional", Decimal("4.8"), Decimal("5")
    )


def test_dust_is_what_no_order_can_sell() -> None:
    assert BTC.is_dust(Decimal("0.000009"), Decimal("60000"))
    assert BTC.is_dust(Decimal("0.0000899"), Decimal("60000"))
    assert not BTC.is_dust(Decimal("0.00009"), Decimal("60000"))
    assert BTC.is_dust(Decimal("0"), Decimal("60000"))


@given(st.sampled_from(sorted(REAL)), st.integers(1, 10**6), st.integers(1, 10**6))
def test_what_passes_the_exit_rule_can_be_sold(symbol: str, steps: int, ticks: int) -> None:
    rules = REAL[symbol]
    bought, price = steps * rules.amount.value, ticks * rules.price.value
    if rules.exit_problem(bought, price) is None:
        held = rules.received_base(bought)
        sold = rules.sellable(held)
        assert sold <= bought
        assert not rules.is_dust(held, price)
        assert rules.order_problem(OrderType.MARKET, sold, price) is None


@pytest.mark.parametrize(
    ("value", "step", "expected"),
    [("67.632", "0.01", "67.63"), ("67.639", "0.01", "67.63"), ("0.009", "0.01", "0.00"), ("1234.5", "1", "1234")],
)
def test_budgets_are_floored_to_the_quote_step(value: str, step: str, expected: str) -> None:
    assert str(floor_to(Decimal(value), Decimal(step))) == expected
