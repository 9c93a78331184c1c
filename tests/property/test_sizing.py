"""Whatever the market, the account and the settings: what an entry may spend, and that it can be sold again."""

from __future__ import annotations

from decimal import Decimal

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from support.messages import START
from support.risk import SETTINGS, a_trade, a_wish, rules_of, sizing
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, SymbolRules, floor_to
from tradingbot_agents.domain.values import ONE, OrderType
from tradingbot_agents.ledger.port import EntryProposal, Trade
from tradingbot_agents.risk.proposal import propose
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import Settings, SizingMethod, SizingSettings
from tradingbot_agents.risk.sizing import Size, cap, size


def decimals(low: str, high: str, places: int = 8) -> st.SearchStrategy[Decimal]:
    return st.decimals(low, high, places=places, allow_nan=False, allow_infinity=False)


fractions = decimals("0.001", "1", 4)
equities = decimals("0.01", "1000000", 2)
prices = decimals("0.0001", "200000", 4)
steps = st.sampled_from(["1", "0.1", "0.001", "0.00001", "0.00000001"])
ticks = st.sampled_from(["1", "0.01", "0.0001", "0.00000001"])
quote_steps = st.sampled_from([Decimal("0.01"), Decimal("0.00000001")])


@st.composite
def rules(draw: st.DrawFn) -> SymbolRules:
    taker = draw(decimals("0", "0.02", 4))
    return rules_of(
        "BTC/USDT",
        draw(steps),
        draw(ticks),
        fees=Fees(maker=taker, taker=taker, currency=draw(st.sampled_from(FeeCurrency))),
        min_notional=draw(st.sampled_from([Decimal(0), Decimal(1), Decimal(5), Decimal(10)])),
    )


@st.composite
def settings_of_risk(draw: st.DrawFn) -> Settings:
    return msgspec.structs.replace(
        SETTINGS,
        stop_loss=draw(decimals("0.001", "0.9", 3)),
        take_profit=draw(st.none() | decimals("0.001", "3", 3)),
        worst_price_slippage=draw(decimals("0.0001", "0.2", 4)),
    )


@st.composite
def sizings(draw: st.DrawFn) -> SizingSettings:
    volatility = msgspec.structs.replace(SETTINGS.sizing.volatility, target_risk=draw(fractions))
    kelly = msgspec.structs.replace(
        SETTINGS.sizing.kelly, cap=draw(fractions), minimum_trades=draw(st.integers(1, 9))
    )
    return sizing(draw(st.sampled_from(SizingMethod)), fraction=draw(fractions), volatility=volatility, kelly=kelly)


trades = st.lists(decimals("-50", "50", 2).map(lambda profit: a_trade(str(profit))), max_size=12)
ranges = st.none() | decimals("0", "1000", 4)


@given(
    price=prices,
    budget=decimals("0.01", "100000", 2),
    rules=rules(),
    settings=settings_of_risk(),
)
def test_an_entry_is_covered_and_can_be_sold_again(
    price: Decimal, budget: Decimal, rules: SymbolRules, settings: Settings
) -> None:
    price = rules.price.floor(price)
    assume(price > 0)
    intent = a_wish("BTC/USDT", price=str(price))
    entry = propose(intent, price=price, budget=budget, rules=rules, settings=settings, now=START)
    assume(isinstance(entry, EntryProposal))
    assert isinstance(entry, EntryProposal)

    assert entry.reserve_amount == budget
    assert entry.amount * entry.limit_price * (ONE + rules.fees.taker) <= budget
    assert rules.order_problem(OrderType.LIMIT, entry.amount, entry.limit_price) is None
    assert price <= entry.limit_price <= price * (ONE + settings.worst_price_slippage)

    assert entry.stop_price is not None
    assert rules.price.holds(entry.stop_price)
    assert entry.stop_price >= price * (ONE - settings.stop_loss)
    if entry.target_price is not None:
        assert rules.price.holds(entry.target_price)
        assert entry.target_price > price

    worst_exit = entry.stop_price * (ONE - settings.worst_price_slippage)
    assert rules.exit_problem(entry.amount, worst_exit) is None
    left = rules.received_base(entry.amount)
    assert left > 0
    assert not rules.is_dust(left, rules.price.floor(worst_exit))


@given(settings=sizings(), equity=equities, price=prices, atr=ranges, trades=trades, step=quote_steps)
def test_a_budget_is_on_its_step_and_never_above_the_cap(
    settings: SizingSettings, equity: Decimal, price: Decimal, atr: Decimal | None, trades: list[Trade], step: Decimal
) -> None:
    answer = size(settings, equity=equity, price=price, atr=atr, trades=trades, quote_step=step)
    assume(isinstance(answer, Size))
    assert isinstance(answer, Size)
    assert 0 <= answer.budget <= equity * cap(settings.caps, equity)
    assert answer.budget <= equity * answer.fraction < answer.budget + step
    assert answer.budget == floor_to(answer.budget, step)
    if settings.method in (SizingMethod.FIXED_FRACTIONAL, SizingMethod.HYBRID):
        assert answer.fraction <= settings.fraction
    if settings.method in (SizingMethod.KELLY, SizingMethod.HYBRID):
        assert answer.fraction <= settings.kelly.cap


@given(settings=sizings(), equity=equities, more=equities, price=prices, atr=ranges, trades=trades)
def test_more_equity_is_never_a_smaller_budget_within_the_same_cap(
    settings: SizingSettings, equity: Decimal, more: Decimal, price: Decimal, atr: Decimal | None, trades: list[Trade]
) -> None:
    assume(cap(settings.caps, equity) == cap(settings.caps, equity + more))
    small, large = (
        size(settings, equity=each, price=price, atr=atr, trades=trades, quote_step=Decimal("0.01"))
        for each in (equity, equity + more)
    )
    if isinstance(small, Refused) or isinstance(large, Refused):
        assert small == large
    else:
        assert small.fraction == large.fraction
        assert small.budget <= large.budget


@given(price=prices, calm=decimals("0.0001", "1000", 4), more=decimals("0", "1000", 4))
def test_a_wilder_market_is_never_a_larger_size(price: Decimal, calm: Decimal, more: Decimal) -> None:
    settings = sizing(SizingMethod.VOLATILITY)
    small, large = (
        size(settings, equity=Decimal(900), price=price, atr=atr, trades=[], quote_step=Decimal("0.01"))
        for atr in (calm + more, calm)
    )
    assert isinstance(small, Size)
    assert isinstance(large, Size)
    assert small.budget <= large.budget


@given(wins=st.integers(0, 30), gain=decimals("0.01", "50", 2), loss=decimals("0.01", "50", 2))
def test_one_more_win_is_never_a_smaller_size(wins: int, gain: Decimal, loss: Decimal) -> None:
    def fraction(won: int) -> Decimal:
        record = [a_trade(str(gain))] * won + [a_trade(f"-{loss}")] * (31 - won)
        answer = size(
            sizing(SizingMethod.KELLY),
            equity=Decimal(900),
            price=Decimal(100),
            atr=None,
            trades=record,
            quote_step=Decimal("0.01"),
        )
        return Decimal(0) if isinstance(answer, Refused) else answer.fraction

    assert fraction(wins) <= fraction(wins + 1)
