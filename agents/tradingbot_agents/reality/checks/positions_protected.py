"""Whether a stop stands under every position, and for how long none did."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

import msgspec

from tradingbot_agents.domain.events import Severity
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import Position, PositionState
from tradingbot_agents.domain.symbol_rules import SymbolRules
from tradingbot_agents.domain.values import ZERO, Leg, OrderType, Side
from tradingbot_agents.reality.check import Check, Judgement, judged, skipped
from tradingbot_agents.reality.evidence import Evidence, Heard, MarketEvidence, Source, known
from tradingbot_agents.reality.happenings import counting, how_often
from tradingbot_agents.reality.market import is_halted, rules_of
from tradingbot_agents.reality.words import lasting, moment, times

STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)

_STOOD = frozenset({OrderState.FILLED, OrderState.CANCELLED, OrderState.NOT_FOUND})
"""How a stop ends that has stood until then."""

_DOUBTFUL = (OrderState.CANCELLING, OrderState.UNRESOLVED)
"""What a stop becomes that may still stand, or not any more."""


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """A position that has no stop now."""

    why: str
    since: datetime | None
    """``None``: nobody says."""


class Past(msgspec.Struct, frozen=True, kw_only=True):
    """Gaps of the window that are over."""

    lasted: timedelta
    """Each of them."""
    count: int
    told: str


def judge(evidence: Evidence) -> Judgement:
    settings = evidence.settings
    if not settings.has_stop:
        return skipped("the spec asks for no stop: spec.risk.stopLoss is 0")
    ledger = known(evidence.ledger)
    breaches: list[str] = []
    doubts: list[str] = []
    counts: dict[str, int] = {}
    told: list[str] = []
    for symbol, position in sorted(ledger.positions.items()):
        if not position.is_held:
            continue
        found = _standing(evidence, position)
        if isinstance(found, str):
            counts[found] = counts.get(found, 0) + 1
            continue
        words = f"{symbol}: {position.amount:f} is not protected"
        if is_halted(evidence, symbol):
            told.append(f"{words}, and the exchange has halted it")
        elif found.since is None:
            doubts.append(f"{words}, since when is not known: {found.why}")
        elif ledger.read_at - found.since > settings.protect_within:
            lasts = lasting(ledger.read_at - found.since)
            breaches.append(f"{words} since {moment(found.since)}, {lasts}: {found.why}")
        else:
            told.append(f"{words} for {lasting(ledger.read_at - found.since)} so far: {found.why}")
    over = [*_ended_by_a_stop(evidence), *_ended_by_a_sale(evidence)]
    breaches += [each.told for each in over if each.lasted > settings.protect_within]
    breaches += [_failing(each) for each in counting(evidence, "exit_failing")]
    parts = [f"{count} {how}" for how, count in sorted(counts.items())]
    if over:
        longest = lasting(max(each.lasted for each in over))
        parts.append(f"{times(sum(each.count for each in over))} one had no stop for a while, {longest} at most")
    return judged(breaches, "; ".join([*parts, *told]) or "no position is held", doubts=doubts)


def _standing(evidence: Evidence, position: Position) -> str | Gap:
    """How a position that is held is protected, in words, or why it is not."""
    if position.state is PositionState.CLOSING:
        return "being sold"
    ledger, symbol = known(evidence.ledger), position.symbol
    rules = ledger.rules[symbol].rules if symbol in ledger.rules else rules_of(evidence, symbol)
    if rules is None:
        return Gap(why="nobody has its market rules, so what a stop must cover is not known", since=None)
    if rules.is_dust(position.amount, _price(evidence, position)):
        return "dust, which nobody can sell"
    began = _began(evidence, position)
    if position.stop_price is None:
        return Gap(why="the books have no stop price for it", since=began)
    stops = [order for order in _own(evidence, symbol) if order.type in STOPS and order.side is Side.SELL]
    live = [order for order in stops if order.state.is_live]
    standing = [order for order in live if order.state is OrderState.OPEN]
    covered = sum((order.remaining for order in standing), ZERO)
    wanted = _to_cover(rules, position.amount, position.stop_price)
    if covered >= wanted:
        return "with a stop on the exchange"
    since = max([began, *(order.finished_at for order in stops if order.state in _STOOD and order.finished_at)])
    if standing:
        return Gap(why=f"its stop covers {covered:f} of {wanted:f}", since=max(since, _grew(evidence, symbol, since)))
    said = _said(evidence, symbol, since)
    why = "" if said is None else f": {said.sample.get('why', '?')}"
    doubtful = [order for order in live if order.state in _DOUBTFUL]
    if doubtful:
        newest = max(order.created_at for order in doubtful)
        return Gap(why=f"its stop is {doubtful[-1].state.value}{why}", since=_began_again(evidence, symbol, newest))
    if live:
        return Gap(why=f"its stop is {live[-1].state.value}{why}", since=since)
    rests = _rests_there(evidence)
    if rests is False:
        return "with a stop that execution watches"
    if rests is None and said is None:
        return Gap(why="whether the exchange can hold one is not known, and it has none", since=None)
    return Gap(why=f"the ledger has no live stop of it{why}", since=since)


def _own(evidence: Evidence, symbol: str) -> list[Order]:
    """Orders of this bot in a symbol, oldest first."""
    orders = known(evidence.ledger).orders
    return sorted(
        (order for order in orders if order.bot == evidence.settings.bot and order.symbol == symbol),
        key=lambda each: each.created_at,
    )


def _price(evidence: Evidence, position: Position) -> Decimal:
    """The newest that is known of it."""
    if isinstance(evidence.market, MarketEvidence):
        bars = evidence.market.candles.get(position.symbol, ())
        if bars:
            return bars[-1].close
    return position.average_cost or position.stop_price or ZERO


def _to_cover(rules: SymbolRules, amount: Decimal, stop: Decimal) -> Decimal:
    """What one stop order can sell of a position."""
    limits = [rules.max_amount, rules.max_market_amount]
    if rules.max_notional is not None:
        limits.append(rules.max_notional / stop)
    return rules.floor_amount(min([rules.sellable(amount), *(limit for limit in limits if limit is not None)]))


def _rests_there(evidence: Evidence) -> bool | None:
    """Whether stops are to rest on the exchange; ``None``: nobody says whether it can hold them."""
    if not evidence.settings.stops_on_exchange:
        return False
    can = evidence.market.capabilities if isinstance(evidence.market, MarketEvidence) else None
    return None if can is None else can.stop_market or can.stop_limit


def _began(evidence: Evidence, position: Position) -> datetime:
    return position.opened_at or known(evidence.ledger).opened_at or evidence.since


def _grew(evidence: Evidence, symbol: str, otherwise: datetime) -> datetime:
    """When an entry last added to the position."""
    entries = (order for order in _own(evidence, symbol) if order.leg is Leg.ENTRY and order.filled)
    return max((order.finished_at or order.created_at for order in entries), default=otherwise)


def _said(evidence: Evidence, symbol: str, since: datetime) -> Heard | None:
    """What execution said last of a gap, at ``since`` or later."""
    found = [each for each in evidence.heard("position_unprotected") if each.key[0] == symbol and each.last >= since]
    return max(found, key=lambda each: each.last, default=None)


def _began_again(evidence: Evidence, symbol: str, placed: datetime) -> datetime | None:
    """When the gap under a stop began that was placed then: no row has the time of a cancel."""
    said = _said(evidence, symbol, placed)
    if said is None:
        return None
    return said.first if said.first >= placed else said.last


def _ended_by_a_stop(evidence: Evidence) -> list[Past]:
    found: list[Past] = []
    for each in counting(evidence, "position_protected"):
        lasted = _lasted(each)
        told = f"{each.key[0]}: it was without a stop for {lasting(lasted)} ({how_often(each)})"
        found.append(Past(lasted=lasted, count=each.count, told=told))
    return found


def _lasted(each: Heard) -> timedelta:
    """By its key, or where there were too many to tell apart, of the last one."""
    for told in (each.key[-1], each.sample.get("unprotected_seconds")):
        try:
            return timedelta(seconds=float(str(told)))
        except ValueError:
            continue
    return timedelta(0)


def _ended_by_a_sale(evidence: Evidence) -> list[Past]:
    """Gaps after which there was no stop any more: the position was sold, or is being sold. One of a position that
    is open is judged as it is now."""
    ledger = known(evidence.ledger)
    protected = counting(evidence, "position_protected")
    found: list[Past] = []
    for each in counting(evidence, "position_unprotected"):
        symbol, begin = each.key[0], each.last
        if any(other.key[0] == symbol and other.last >= begin for other in protected):
            continue
        position = ledger.positions.get(symbol)
        closed = [trade.closed_at for trade in ledger.trades if trade.symbol == symbol and trade.closed_at >= begin]
        if closed:
            end, how = min(closed), "was sold"
        elif position is not None and position.state is PositionState.CLOSING:
            end, how = ledger.read_at, "is being sold"
        else:
            continue
        told = f"{symbol}: it was without a stop for {lasting(end - begin)}, from {moment(begin)} on, and {how}"
        found.append(Past(lasted=end - begin, count=1, told=told))
    return found


def _failing(each: Heard) -> str:
    symbol, leg = each.key
    return f"{symbol}: no attempt does anything ({leg}, {how_often(each)}): {each.sample.get('why', '?')}"


CHECK = Check(
    id="positions.protected",
    asks="Does a stop stand under every position, and did one stand all the time?",
    protects="Without a stop a position loses as much as the market likes.",
    needs=(Source.LEDGER,),
    severity=Severity.WARNING,
    remedy=(
        "The reason is told. If the exchange refuses the stop, see lots.rejections; if execution does not run,"
        " see agents.ready. A position without a stop price was adopted without one: sell it on the exchange, or"
        " set spec.state to Flatten. While it stays, place a stop by hand, or sell by hand. A gap that is over is"
        " told until it lies before the window."
    ),
    judge=judge,
)
