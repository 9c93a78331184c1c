"""What a comparison of the account with the exchange means. Pure: the books, the exchange's answers and the time are
arguments.

The books are never set to what the exchange says. They are compared with it while nothing is under way and every fill
of ours is booked; only what still differs came from outside, and is booked as that. A difference may still be a fill
that the exchange's lists do not show yet, or a balance that lags: so it must be the same in two comparisons, apart by
the margin after which "not found" is believed as well. One look is enough at a start before which nothing was booked
for as long.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, localcontext

import msgspec

from tradingbot_agents.domain import ids
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import ZERO, Side, split_symbol
from tradingbot_agents.exchange.port import ExchangeBalance, ExchangeOrder
from tradingbot_agents.ledger.booking import EXACT
from tradingbot_agents.ledger.port import Balance, Books


class Doubt(msgspec.Struct, frozen=True):
    """A difference that was seen, and is not booked yet. Positive: the exchange has more."""

    amount: Decimal
    since: datetime


def in_flight(live: Iterable[Order]) -> str | None:
    """Why the account can not be compared now: what an order does is not known."""
    for order in live:
        if order.state is not OrderState.OPEN:
            return f"order {order.client_order_id} of {order.bot} is {order.state.value}"
    return None


def match(
    live: Sequence[Order], shown: Sequence[ExchangeOrder]
) -> tuple[list[tuple[Order, ExchangeOrder | None]], list[ExchangeOrder]]:
    """Our live orders, each with the open order that the exchange shows of it; and the open orders that are left."""
    left = list(shown)
    pairs: list[tuple[Order, ExchangeOrder | None]] = []
    for order in live:
        there = next((one for one in left if one.is_of(order)), None)
        if there is not None:
            left.remove(there)
        pairs.append((order, there))
    return pairs, left


def unsettled(order: Order, shown: ExchangeOrder | None) -> str | None:
    """Why an open order keeps the account from being compared: not all of its fills are booked, as far as the
    exchange says. One that has ended there, with all of them booked, does not."""
    if shown is None:
        return f"order {order.client_order_id} of {order.bot} is open in the books, and the exchange does not show it"
    if shown.filled != order.filled:
        return (
            f"order {order.client_order_id} of {order.bot} has filled {shown.filled} on the exchange,"
            f" {order.filled} in the books"
        )
    return None


def contradiction(order: Order) -> str | None:
    """Why an order that is open on the exchange, and not live in the books, keeps the account from being compared:
    it may trade at any moment."""
    return (
        f"order {order.client_order_id} of {order.bot} is open on the exchange, and {order.state.value} in the books"
    )


def same_balances(one: Mapping[str, ExchangeBalance], other: Mapping[str, ExchangeBalance]) -> bool:
    """Whether nothing moved; an asset that is not there is one of which there is nothing."""
    nothing = ExchangeBalance(ZERO, ZERO)
    return all(one.get(asset, nothing) == other.get(asset, nothing) for asset in one.keys() | other.keys())


def compared(books: Mapping[str, Balance], shown: Mapping[str, ExchangeBalance]) -> list[str]:
    """The assets whose totals are compared: an exchange lists hundreds of which there is nothing."""
    return sorted(books.keys() | {asset for asset, balance in shown.items() if balance.total})


def differences(books: Mapping[str, Balance], shown: Mapping[str, ExchangeBalance]) -> dict[str, Decimal]:
    """How much more of each asset the exchange has, free and used together, than the books: only what is not zero."""
    found = {}
    with localcontext(EXACT):
        for asset in compared(books, shown):
            there = shown[asset].free + shown[asset].used if asset in shown else ZERO
            difference = there - (books[asset].total if asset in books else ZERO)
            if difference:
                found[asset] = difference
    return found


def judge(
    found: Mapping[str, Decimal], doubts: Mapping[str, Doubt], now: datetime, margin: timedelta
) -> tuple[dict[str, Decimal], dict[str, Doubt]]:
    """Which differences are booked as movements now, and which wait until they are ``margin`` old."""
    movements: dict[str, Decimal] = {}
    left: dict[str, Doubt] = {}
    for asset, amount in found.items():
        doubt = doubts.get(asset)
        if doubt is None or doubt.amount != amount:
            doubt = Doubt(amount, now)
        if now - doubt.since >= margin:
            movements[asset] = amount
        else:
            left[asset] = doubt
    return movements, left


def margin_now(books: Books, now: datetime, margin: timedelta, starting: bool) -> timedelta:
    """How old a difference must be: at a start, none is, unless something was booked so shortly before that the
    exchange's balances may not have it yet."""
    calm = books.newest_at is None or now - books.newest_at >= margin
    return timedelta(0) if starting and calm else margin


def movement_cause(bot: str, books: Books, movements: Mapping[str, Decimal]) -> str:
    """Names the movements that a comparison found: the same for the same bot, books and amounts. Another for each
    bot, so that of several that find the same one books it, and tells of it."""
    amounts = [f"{asset} {movements[asset]:f}" for asset in sorted(movements)]
    return "compared." + ids.digest(bot, books.newest_entry, *amounts)


def outside_holds(live: Sequence[Order], shown: Mapping[str, ExchangeBalance]) -> dict[str, Decimal]:
    """What open orders of others lock, per asset: what the exchange says is locked, less what ours lock there."""
    ours: dict[str, Decimal] = {}
    with localcontext(EXACT):
        for order in live:
            base, quote = split_symbol(order.symbol)
            left = max(order.remaining, ZERO)
            if order.side is Side.SELL:
                ours[base] = ours.get(base, ZERO) + left
            elif order.limit_price is not None:
                ours[quote] = ours.get(quote, ZERO) + left * order.limit_price
        locked = {asset: balance.used - ours.get(asset, ZERO) for asset, balance in shown.items()}
    return {asset: amount for asset, amount in sorted(locked.items()) if amount > ZERO}


def undoubted_holds(
    held: Mapping[str, Decimal], books: Mapping[str, Balance], doubted: Collection[str]
) -> dict[str, Decimal]:
    """``held``, and of assets whose total is in doubt what the books hold: a balance that lags shows what an order of
    ours locked before it ended, and that is nobody else's."""
    kept = {asset: books[asset].outside_holds for asset in doubted if asset in books}
    told = {asset: amount for asset, amount in held.items() if asset not in doubted}
    return told | {asset: amount for asset, amount in kept.items() if amount > ZERO}


def holds_differ(books: Mapping[str, Balance], holds: Mapping[str, Decimal]) -> bool:
    """Whether the books hold something else than ``holds``, and what was set aside."""
    if any(asset not in books for asset in holds):
        return True
    return any(
        balance.outside_holds != max(balance.set_aside, holds.get(asset, ZERO)) for asset, balance in books.items()
    )


def trades_since(books: Books, read_until: datetime | None, window: timedelta, now: datetime) -> datetime:
    """From when on the exchange's trades are read. ``read_until``: up to when this process has read them; a new one
    begins with what was booked last. ``window``: how late a list may show a trade."""
    return (read_until or books.newest_at or books.opened_at or now) - window


def next_try(attempts: int, spacing: timedelta, longest: timedelta) -> timedelta:
    """Before a comparison that could not be made is tried again; ``attempts`` in a row, the first is 1."""
    doubled = spacing
    for _ in range(attempts - 1):
        doubled *= 2
        if doubled >= longest:
            return longest
    return doubled
