"""From an intent to an entry: the figures of the design, and every refusal that comes before the money."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.messages import START
from support.risk import RULES, SETTINGS, a_wish, protecting, rules_of, with_settings
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.ids import client_order_id
from tradingbot_agents.domain.messages import OrderApproved
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees
from tradingbot_agents.domain.values import Leg, OrderType, Side
from tradingbot_agents.ledger.port import EntryProposal
from tradingbot_agents.risk.proposal import entry_message, levels_at, propose, symbol_share_problem
from tradingbot_agents.risk.refused import Refused

NOW = START + timedelta(milliseconds=250)
SOL = RULES["SOL/USDT"]


def proposed(budget: str, price: str = "100", **changes: Any) -> EntryProposal | Refused:
    arguments: dict[str, Any] = {"rules": SOL, "settings": SETTINGS, "now": NOW, **changes}
    intent = arguments.pop("intent", None) or a_wish("SOL/USDT", price=price)
    return propose(intent, price=Decimal(price), budget=Decimal(budget), **arguments)


def refusal(answer: EntryProposal | Refused) -> tuple[Reason, str]:
    assert isinstance(answer, Refused)
    return answer.reason, answer.detail


def test_the_figures_of_the_design() -> None:
    """BTC at 121,556.65 with 67.63 to spend: the limit is 0.5 % above (122,164.433… down to the cent); the fee
    taken off, 67.63 / (122164.43 * 1.001) is 0.000553, and 0.00055 after the step."""
    intent = a_wish("BTC/USDT", price="121556.65")
    answer = propose(
        intent,
        price=Decimal("121556.65"),
        budget=Decimal("67.63"),
        rules=RULES["BTC/USDT"],
        settings=SETTINGS,
        now=NOW,
    )
    order_id = client_order_id("paper/simulated/main", "bot", intent.id, Leg.ENTRY, 1)
    assert answer == EntryProposal(
        intent_id=intent.id,
        client_order_id=order_id,
        symbol="BTC/USDT",
        confidence=Decimal("0.7500"),
        amount=Decimal("0.00055"),
        limit_price=Decimal("122164.43"),
        reserve_asset="USDT",
        reserve_amount=Decimal("67.63"),
        stop_price=Decimal("115478.82"),
        target_price=Decimal("133712.32"),
        indicators=("emaCross", "rsi"),
        correlation_id=intent.correlation_id,
        at=NOW,
        expires_at=intent.expires_at,
        max_open_positions=None,
    )
    assert entry_message("bot", answer) == OrderApproved(
        id=f"order.{intent.id}",
        correlation_id=intent.correlation_id,
        causation_id=intent.id,
        bot="bot",
        producer="risk",
        at=NOW,
        symbol="BTC/USDT",
        side=Side.BUY,
        leg=Leg.ENTRY,
        client_order_id=order_id,
        amount=Decimal("0.00055"),
        limit_price=Decimal("122164.43"),
        order_type=OrderType.LIMIT,
    )


def test_the_limit_of_open_positions_goes_to_the_ledger() -> None:
    answer = proposed("50", settings=protecting(max_open_positions=2))
    assert isinstance(answer, EntryProposal)
    assert answer.max_open_positions == 2


def test_without_take_profit_there_is_no_target() -> None:
    levels = levels_at(Decimal(100), SOL, with_settings(take_profit=None))
    assert (levels.limit, levels.stop, levels.target) == (Decimal("100.5"), Decimal(95), None)


def test_a_symbol_that_does_not_trade() -> None:
    reason, detail = refusal(proposed("50", rules=msgspec.structs.replace(SOL, active=False)))
    assert reason is Reason.SYMBOL_NOT_TRADING
    assert "SOL/USDT" in detail


def test_a_market_that_ran_away() -> None:
    """0.5 % above 100 is 100.50: that is still bought, a cent more is not."""
    intent = a_wish("SOL/USDT", price="100")
    assert isinstance(proposed("50", "100.50", intent=intent), EntryProposal)
    reason, detail = refusal(proposed("50", "100.51", intent=intent))
    assert reason is Reason.STALE_INTENT
    assert "100.51, more than 0.5 % above the 100 " in detail


def test_a_market_that_fell_is_bought() -> None:
    assert isinstance(proposed("50", "90", intent=a_wish("SOL/USDT", price="100")), EntryProposal)


@pytest.mark.parametrize(
    ("budget", "limits", "reason"),
    [
        ("4.90", {}, Reason.BELOW_MINIMUM_NOTIONAL),  # 0.048 * 100.5 = 4.824
        ("50", {"min_amount": Decimal("0.5")}, Reason.BELOW_MINIMUM_AMOUNT),
        ("50", {"max_amount": Decimal("0.4")}, Reason.ABOVE_MAXIMUM_AMOUNT),
        ("50", {"max_notional": Decimal(40)}, Reason.ABOVE_MAXIMUM_NOTIONAL),
        ("0.05", {}, Reason.BELOW_MINIMUM_AMOUNT),  # 0.000 after the step
    ],
)
def test_what_the_exchange_would_refuse(budget: str, limits: dict[str, Decimal], reason: Reason) -> None:
    found, detail = refusal(proposed(budget, rules=msgspec.structs.replace(SOL, **limits)))
    assert found is reason
    assert "at 100.5" in detail


def test_an_exit_that_could_not_be_sold() -> None:
    """5.20 buys 0.051 for 5.13, above the minimum of 5. After the fee 0.050 are left to sell, and at the stop of
    95 less 0.5 % they are worth 4.73: below it."""
    reason, detail = refusal(proposed("5.20"))
    assert reason is Reason.EXIT_NOT_SELLABLE
    assert "below_minimum_notional: notional 4.726" in detail
    # 5.70 buys 0.056; 0.055 are left, worth 5.20 at the stop.
    assert isinstance(proposed("5.70"), EntryProposal)


def test_a_fee_in_a_third_asset_leaves_all_that_was_bought() -> None:
    """With the fee paid in another coin 0.053 stay 0.053, worth 5.0098 at the worst; in base only 0.052 are left."""
    fees = Fees(maker=Decimal("0.001"), taker=Decimal("0.001"), currency=FeeCurrency.OTHER)
    assert isinstance(proposed("5.34", rules=msgspec.structs.replace(SOL, fees=fees)), EntryProposal)
    assert refusal(proposed("5.34"))[0] is Reason.EXIT_NOT_SELLABLE


def test_a_price_below_the_tick() -> None:
    coarse = rules_of("SOL/USDT", "0.001", tick="1")
    assert refusal(proposed("50", "0.5", rules=coarse))[0] is Reason.NO_FRESH_PRICE


def test_reward_to_risk_counts_the_fees() -> None:
    """100 in, 110 or 95 out, 0.1 % each way: 109.89 - 100.10 = 9.79 against 100.10 - 94.905 = 5.195, so 1.88."""
    assert isinstance(proposed("50", settings=protecting(min_reward_to_risk=Decimal("1.88"))), EntryProposal)
    reason, detail = refusal(proposed("50", settings=protecting(min_reward_to_risk=Decimal("1.89"))))
    assert reason is Reason.PROTECTION_ACTIVE
    assert detail == "minRewardToRisk: 9.79 to win against 5.195 to lose, fees taken off, is 1.88, below 1.89"


def test_reward_to_risk_needs_a_target() -> None:
    settings = msgspec.structs.replace(protecting(min_reward_to_risk=Decimal("1.5")), take_profit=None)
    reason, detail = refusal(proposed("50", settings=settings))
    assert reason is Reason.PROTECTION_ACTIVE
    assert "risk.takeProfit" in detail


def test_the_share_of_one_symbol() -> None:
    settings = protecting(max_symbol_share=Decimal("0.30"))
    held, equity = Decimal(10), Decimal(100)
    assert symbol_share_problem(held, Decimal(20), equity, settings) is None
    refused = symbol_share_problem(held, Decimal("20.01"), equity, settings)
    assert refused is not None
    assert refused.reason is Reason.PROTECTION_ACTIVE
    assert refused.detail.startswith("maxSymbolShare: 30.01 in one symbol would be 30.01 % of the equity of 100")
    assert symbol_share_problem(held, Decimal(1000), equity, SETTINGS) is None
