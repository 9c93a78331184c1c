"""From an intent to an entry that is decided but for the money: limit, amount, stop, target, or a refusal.

Rounding is towards the safe side throughout, and the exit is checked before the entry: a position that could
not be sold at its stop is not opened.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import msgspec

from tradingbot_agents.bus.topology import RISK
from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.ids import client_order_id
from tradingbot_agents.domain.messages import OrderApproved, TradeIntent
from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.spelling import percent, plain
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ONE, ZERO, Leg, OrderType, Side
from tradingbot_agents.ledger.port import EntryProposal
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import Settings

FIRST_ATTEMPT = 1
"""An entry is tried once: a new try is a new intent."""


class Levels(msgspec.Struct, frozen=True):
    """Prices of one entry, all on the symbol's tick."""

    limit: Decimal
    """The worst price that is paid."""
    stop: Decimal
    target: Decimal | None


def propose(
    intent: TradeIntent,
    *,
    price: Decimal,
    budget: Decimal,
    rules: SymbolRules,
    settings: Settings,
    now: datetime,
) -> EntryProposal | Refused:
    """The entry that ``intent`` becomes at a fresh ``price`` with ``budget`` of quote currency.

    The whole budget is reserved. ``amount * limit`` and the taker's fee in quote currency are within it; a fee
    in base currency is taken from what is bought, and costs nothing more.
    """
    if not rules.active:
        return Refused(Reason.SYMBOL_NOT_TRADING, f"the exchange does not trade {intent.symbol} now")
    # Only upwards: a price that fell costs less than the strategy expected, and the limit bounds it anyway.
    highest = intent.expected_price * (ONE + settings.worst_price_slippage)
    if price > highest:
        return Refused(
            Reason.STALE_INTENT,
            f"the price ran away: {plain(price)}, more than {percent(settings.worst_price_slippage)} above the"
            f" {plain(intent.expected_price)} that was expected",
        )
    levels = levels_at(price, rules, settings)
    if levels.limit <= ZERO:
        return Refused(Reason.NO_FRESH_PRICE, f"a price of {plain(price)} is below the price tick of {intent.symbol}")
    amount = rules.floor_amount(budget / (levels.limit * (ONE + rules.fees.taker)))
    problem = rules.order_problem(OrderType.LIMIT, amount, levels.limit)
    if problem is not None:
        return Refused(Reason(problem.reason), f"{problem}, with a budget of {plain(budget)} at {levels.limit:f}")
    unsellable = rules.exit_problem(amount, levels.stop * (ONE - settings.worst_price_slippage))
    if unsellable is not None:
        return Refused(
            Reason.EXIT_NOT_SELLABLE,
            f"{amount:f} {rules.base} could not be sold at the stop of {levels.stop:f}, fee and slippage taken off:"
            f" {unsellable}",
        )
    refused = _reward_problem(price, levels, rules, settings)
    if refused is not None:
        return refused
    return EntryProposal(
        intent_id=intent.id,
        client_order_id=entry_order_id(settings.account, intent),
        symbol=intent.symbol,
        confidence=intent.confidence,
        amount=amount,
        limit_price=levels.limit,
        reserve_asset=rules.quote,
        reserve_amount=budget,
        stop_price=levels.stop,
        target_price=levels.target,
        indicators=intent.indicators,
        correlation_id=intent.correlation_id,
        at=now,
        expires_at=intent.expires_at,
        max_open_positions=settings.protections.max_open_positions,
    )


def entry_order_id(account: str, intent: TradeIntent) -> str:
    """The client order id of the entry that an intent makes."""
    return client_order_id(account, intent.bot, intent.id, Leg.ENTRY, FIRST_ATTEMPT)


def entry_message(bot: str, entry: EntryProposal | Order) -> OrderApproved:
    """What wakes execution to send an approved entry, just decided or from the books."""
    cause, at = (entry.cause, entry.created_at) if isinstance(entry, Order) else (entry.intent_id, entry.at)
    return OrderApproved(
        id=_message_id(cause),
        correlation_id=entry.correlation_id,
        causation_id=cause,
        bot=bot,
        producer=RISK,
        at=at,
        symbol=entry.symbol,
        side=Side.BUY,
        leg=Leg.ENTRY,
        client_order_id=entry.client_order_id,
        amount=entry.amount,
        limit_price=entry.limit_price,
        order_type=OrderType.LIMIT,
    )


def exit_message(intent: TradeIntent, now: datetime) -> OrderApproved:
    """What wakes execution to sell. It has neither order nor amount yet: execution takes the position over from its
    stop first."""
    return OrderApproved(
        id=_message_id(intent.id),
        correlation_id=intent.correlation_id,
        causation_id=intent.id,
        bot=intent.bot,
        producer=RISK,
        at=now,
        symbol=intent.symbol,
        side=intent.side,
        leg=Leg.EXIT,
        client_order_id=None,
    )


def _message_id(intent_id: str) -> str:
    return f"order.{intent_id}"


def levels_at(price: Decimal, rules: SymbolRules, settings: Settings) -> Levels:
    """Limit, stop and target of an entry at ``price``: the buy rounded down, the sales up."""
    target = None
    if settings.take_profit is not None:
        target = rules.safe_price(Side.SELL, price * (ONE + settings.take_profit))
    return Levels(
        limit=rules.safe_price(Side.BUY, price * (ONE + settings.worst_price_slippage)),
        stop=rules.safe_price(Side.SELL, price * (ONE - settings.stop_loss)),
        target=target,
    )


def symbol_share_problem(held: Decimal, budget: Decimal, equity: Decimal, settings: Settings) -> Refused | None:
    """Why ``budget`` on top of what is ``held`` in the symbol (both in quote currency) is too much for it."""
    limit = settings.protections.max_symbol_share
    if limit is None or held + budget <= limit * equity:
        return None
    return Refused(
        Reason.PROTECTION_ACTIVE,
        f"maxSymbolShare: {plain(held + budget)} in one symbol would be {percent((held + budget) / equity)} of the"
        f" equity of {plain(equity)}, above {percent(limit)}",
    )


def _reward_problem(price: Decimal, levels: Levels, rules: SymbolRules, settings: Settings) -> Refused | None:
    """Target's distance over stop's distance from the price, the taker's fee of both trades taken off."""
    least = settings.protections.min_reward_to_risk
    if least is None:
        return None
    if levels.target is None:
        return Refused(
            Reason.PROTECTION_ACTIVE,
            "minRewardToRisk: there is no target to measure the reward by; set risk.takeProfit or remove the rule",
        )
    paid = price * (ONE + rules.fees.taker)
    after_fee = ONE - rules.fees.taker
    reward = levels.target * after_fee - paid
    risk = paid - levels.stop * after_fee
    if risk <= ZERO or reward >= least * risk:
        return None
    return Refused(
        Reason.PROTECTION_ACTIVE,
        f"minRewardToRisk: {plain(reward)} to win against {plain(risk)} to lose, fees taken off, is"
        f" {plain((reward / risk).quantize(Decimal('0.01')))}, below {plain(least)}",
    )
