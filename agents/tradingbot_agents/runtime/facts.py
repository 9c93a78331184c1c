"""What risk and execution tell of themselves on the TradingBot, in a cluster: pure, and when it is worth a write.

A write of a status goes to everybody who watches it. So equity is told past a step, small news at most every so
often, and only what somebody waits for at once: the state that is reached, and whether anything is held or under way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec

from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position
from tradingbot_agents.domain.values import BotState, Leg
from tradingbot_api.decimals import format_decimal
from tradingbot_api.timestamps import format_timestamp

EQUITY_STEP = Decimal("0.001")
"""Fraction of the equity told last, from which another one is news: what a person would see in the column."""

DIGITS = 6
"""Of the equity that is told: finer than what is news."""

PAUSE = timedelta(seconds=30)
"""Between two writes of news that nobody waits for."""

FRESH = timedelta(minutes=10)
"""A report is repeated after that long: one that is older says that risk has stopped reporting."""

MOST_POSITIONS = 100
"""That the status has room for; they are counted all the same."""


class Holding(msgspec.Struct, frozen=True, kw_only=True):
    """A position, as the status shows it. ``amount`` in base, ``average_price`` in quote currency."""

    symbol: str
    amount: Decimal
    average_price: Decimal | None
    protected: bool
    """A stop rests on the exchange, or execution watches the price of one."""


class Worth(msgspec.Struct, frozen=True, kw_only=True):
    """What the bot's account is worth, and what the bot holds, at one moment."""

    at: datetime
    equity: Decimal | None
    """In ``quote_currency``; ``None``: something that is held has no price now."""
    quote_currency: str
    holdings: tuple[Holding, ...]
    """By symbol."""
    live_orders: int

    @property
    def unprotected(self) -> int:
        return sum(not holding.protected for holding in self.holdings)


class Report(msgspec.Struct, frozen=True):
    state: BotState
    """That is reached: nothing that began in another one is under way."""
    worth: Worth | None
    """``None``: this agent does not tell of it."""


def worth_of(
    positions: Mapping[str, Position],
    live_orders: Sequence[Order],
    equity: Decimal | None,
    quote_currency: str,
    at: datetime,
) -> Worth:
    resting = {order.symbol for order in live_orders if order.leg is Leg.STOP and order.state is OrderState.OPEN}
    return Worth(
        at=at,
        equity=equity,
        quote_currency=quote_currency,
        holdings=tuple(
            Holding(
                symbol=symbol,
                amount=position.amount,
                average_price=position.average_cost,
                protected=symbol in resting or position.stop_price is not None,
            )
            for symbol, position in sorted(positions.items())
            if position.is_held
        ),
        live_orders=len(live_orders),
    )


def is_due(told: Report | None, report: Report, waited: timedelta) -> bool:
    """Whether ``report`` is to be written. ``told`` is what was written last, ``waited`` ago."""
    if told is None or _is_urgent(told, report):
        return True
    if told.worth is None or report.worth is None:
        return False
    if report.worth.at - told.worth.at >= FRESH:
        return True
    return waited >= PAUSE and _is_news(told.worth, report.worth)


def _is_urgent(told: Report, report: Report) -> bool:
    """Somebody may wait for it: that a state is reached, that nothing is held or sent any more, or that something is;
    a delete is refused by it. And a position without a stop is no small news."""
    if told.state is not report.state:
        return True
    before, now = told.worth, report.worth
    if before is None or now is None:
        return False
    return (
        [holding.symbol for holding in before.holdings] != [holding.symbol for holding in now.holdings]
        or before.unprotected != now.unprotected
        or (before.live_orders == 0) != (now.live_orders == 0)
    )


def _is_news(before: Worth, now: Worth) -> bool:
    if before.holdings != now.holdings or before.live_orders != now.live_orders:
        return True
    if before.equity is None or now.equity is None:
        return before.equity is not now.equity
    return abs(now.equity - before.equity) >= EQUITY_STEP * abs(before.equity) and now.equity != before.equity


def _for_people(equity: Decimal) -> Decimal:
    """As a column shows it: six digits, and never less than hundredths. What is counted with is in the ledger."""
    return equity.quantize(Decimal(1).scaleb(-max(2, DIGITS - 1 - equity.adjusted())))


def status_of(agent: str, revision: str | None, report: Report) -> dict[str, Any]:
    """The fields of the status that ``agent`` owns. What is not known is not in it, and so taken away."""
    told = {"state": report.state.value, "revision": revision}
    status: dict[str, Any] = {"agents": {agent: {name: value for name, value in told.items() if value is not None}}}
    worth = report.worth
    if worth is None:
        return status
    if worth.equity is not None:
        status["equity"] = format_decimal(_for_people(worth.equity))
    return status | {
        "quoteCurrency": worth.quote_currency,
        "openPositions": len(worth.holdings),
        "liveOrders": worth.live_orders,
        "unprotectedPositions": worth.unprotected,
        "factsAt": format_timestamp(worth.at.replace(microsecond=0)),
        "positions": [_position(holding) for holding in worth.holdings[:MOST_POSITIONS]],
    }


def _position(holding: Holding) -> dict[str, Any]:
    told: dict[str, Any] = {
        "symbol": holding.symbol,
        "amount": format_decimal(holding.amount),
        "protected": holding.protected,
    }
    if holding.average_price is not None:
        told["averagePrice"] = format_decimal(holding.average_price)
    return told
