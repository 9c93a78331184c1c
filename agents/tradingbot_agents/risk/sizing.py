"""How large a position is: a fraction of equity, capped by the size of the account, floored to the quote step.

A size is a function of equity, price and record only. It is never shrunk to what happens to be left: a budget
that is not available is refused by the ledger, not made smaller here.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.events import Reason
from tradingbot_agents.domain.spelling import percent, plain
from tradingbot_agents.domain.symbol_rules import floor_to
from tradingbot_agents.domain.values import ONE, ZERO
from tradingbot_agents.ledger.port import Trade
from tradingbot_agents.risk.refused import Refused
from tradingbot_agents.risk.settings import KellySettings, SizeCap, SizingMethod, SizingSettings, VolatilitySettings


class Size(msgspec.Struct, frozen=True):
    """``fraction`` of equity after the cap; ``budget`` in quote currency, everything included."""

    fraction: Decimal
    budget: Decimal


def size(
    settings: SizingSettings,
    *,
    equity: Decimal,
    price: Decimal,
    atr: Decimal | None,
    trades: Sequence[Trade],
    quote_step: Decimal,
) -> Size | Refused:
    """The budget of one entry. ``price`` and ``atr`` in quote currency; ``trades`` oldest first.

    Refused with ``no_edge`` when the method says to bet nothing: Kelly without an edge, or a volatility that
    is not known (the intent carries no average true range): a risk that can not be measured is not taken.
    """
    if equity <= ZERO:
        return Refused(Reason.INSUFFICIENT_AVAILABLE_BALANCE, f"the account's equity is {plain(equity)}")
    wanted = _fraction(settings, price, atr, trades)
    if isinstance(wanted, Refused):
        return wanted
    fraction = min(wanted, cap(settings.caps, equity), ONE)
    return Size(fraction, floor_to(equity * fraction, quote_step))


def cap(caps: Sequence[SizeCap], equity: Decimal) -> Decimal:
    """The largest fraction of equity for one position of an account of this size."""
    for each in caps:
        if each.below is None or equity < each.below:
            return each.fraction
    # Without an open end the caps say nothing about a larger account: the strictest of them holds there.
    return min(each.fraction for each in caps)


def _fraction(
    settings: SizingSettings, price: Decimal, atr: Decimal | None, trades: Sequence[Trade]
) -> Decimal | Refused:
    match settings.method:
        case SizingMethod.FIXED_FRACTIONAL:
            return settings.fraction
        case SizingMethod.KELLY:
            return kelly(settings.kelly, settings.fraction, trades)
        case SizingMethod.VOLATILITY:
            return volatility(settings.volatility, price, atr)
        case SizingMethod.HYBRID:
            by_record = kelly(settings.kelly, settings.fraction, trades)
            if isinstance(by_record, Refused):
                return by_record
            by_range = volatility(settings.volatility, price, atr)
            if isinstance(by_range, Refused):
                return by_range
            return min(settings.fraction, by_record, by_range)


def kelly(settings: KellySettings, fallback: Decimal, trades: Sequence[Trade]) -> Decimal | Refused:
    """Kelly's ``W - (1 - W) / R`` from the latest trades, times the multiplier, at most the cap.

    ``W`` is the share of trades that won, ``R`` the mean gain over the mean loss, each as a fraction of what
    the trade cost, so that large and small trades count alike. A trade that broke even did not win.
    """
    # What cost nothing (an adopted gift) has no gain as a fraction of its cost.
    counted = [trade for trade in trades if trade.cost > ZERO][-settings.lookback_trades :]
    if len(counted) < settings.minimum_trades:
        return min(fallback, settings.cap)
    gains = [trade.profit / trade.cost for trade in counted if trade.profit > ZERO]
    losses = [-trade.profit / trade.cost for trade in counted if trade.profit <= ZERO]
    win_rate = Decimal(len(gains)) / len(counted)
    mean_gain = sum(gains, ZERO) / len(gains) if gains else ZERO
    mean_loss = sum(losses, ZERO) / len(losses) if losses else ZERO
    if mean_loss == ZERO:
        edge = win_rate
    elif mean_gain == ZERO:
        edge = -ONE
    else:
        edge = win_rate - (ONE - win_rate) * mean_loss / mean_gain
    if edge <= ZERO:
        return Refused(
            Reason.NO_EDGE,
            f"Kelly says to bet nothing: {len(gains)} of the last {len(counted)} trades won,"
            f" {percent(mean_gain)} on average, and the others lost {percent(mean_loss)}",
        )
    return min(edge * settings.multiplier, settings.cap)


def volatility(settings: VolatilitySettings, price: Decimal, atr: Decimal | None) -> Decimal | Refused:
    """The fraction of equity at which a move of ``atr_multiple`` ranges costs ``target_risk`` of it."""
    if atr is None or atr <= ZERO:
        known = "no average true range" if atr is None else f"an average true range of {plain(atr)}"
        return Refused(
            Reason.NO_EDGE,
            f"sizing by volatility can not measure the risk: the intent carries {known}",
        )
    return settings.target_risk * price / (settings.atr_multiple * atr)
