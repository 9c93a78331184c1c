"""ccxt's dictionaries as our values, and our orders as ccxt's arguments. Pure.

ccxt is run with numbers as strings, and every number becomes a Decimal here by its text. What is missing or makes
no sense raises ``Unreadable``: the caller knows whether that is a read that failed or an order whose outcome is open.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.fills import Fee
from tradingbot_agents.domain.symbol_rules import FeeCurrency, Fees, Precision, PrecisionMode, SymbolRules
from tradingbot_agents.domain.ticker import Ticker
from tradingbot_agents.domain.values import ZERO, OrderType, Side, TimeInForce, from_millis
from tradingbot_agents.exchange.ccxt_dialects import Dialect
from tradingbot_agents.exchange.port import (
    Capabilities,
    ExchangeBalance,
    ExchangeOrder,
    ExchangeOrderState,
    ExchangeTrade,
    OrderRejected,
    OrderRequest,
)

Raw = Mapping[str, Any]

_MODES = {2: PrecisionMode.DECIMAL_PLACES, 3: PrecisionMode.SIGNIFICANT_DIGITS, 4: PrecisionMode.TICK_SIZE}
"""By ccxt's numbers for them."""

_STATES: Mapping[str | None, ExchangeOrderState] = {
    "open": ExchangeOrderState.OPEN,
    "canceling": ExchangeOrderState.OPEN,
    "closed": ExchangeOrderState.CLOSED,
    "canceled": ExchangeOrderState.CANCELLED,
    "expired": ExchangeOrderState.CANCELLED,
    "rejected": ExchangeOrderState.REJECTED,
}

_STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
_LIMITS = (OrderType.LIMIT, OrderType.STOP_LIMIT)


class Unreadable(Exception):
    """An answer lacks what is needed, or it makes no sense: what, and of what."""


class OrderArguments(msgspec.Struct, frozen=True):
    """Arguments of ccxt's ``create_order``, in its order."""

    symbol: str
    type: str
    side: str
    amount: str
    price: str | None
    params: Mapping[str, Any]


# --- market data


def rules_of(
    market: Raw, precision_mode: int, fee_currency: FeeCurrency, fees: tuple[Decimal, Decimal] | None = None
) -> SymbolRules:
    """The rules of a market of ccxt. ``fees`` are the account's own (maker, taker), as fractions, where known.

    Raises ``Unreadable``.
    """
    symbol = _text(market, "symbol", "a market")
    of = f"market {symbol}"
    mode = _MODES.get(precision_mode)
    if mode is None:
        raise Unreadable(f"{of}: precision mode {precision_mode} is not known")
    precision, limits = _part(market, "precision"), _part(market, "limits")
    amounts, costs, at_market = _part(limits, "amount"), _part(limits, "cost"), _part(limits, "market")
    if fees is None:
        fees = (_number(market, "maker", of), _number(market, "taker", of))
    currency = market.get("feeSide")
    try:
        return SymbolRules(
            symbol=symbol,
            base=_text(market, "base", of),
            quote=_text(market, "quote", of),
            amount=Precision(mode, _number(precision, "amount", f"{of}, precision")),
            price=Precision(mode, _number(precision, "price", f"{of}, precision")),
            fees=Fees(*fees, FeeCurrency(currency) if currency in list(FeeCurrency) else fee_currency),
            min_amount=_limit(amounts, "min", of) or ZERO,
            max_amount=_limit(amounts, "max", of),
            max_market_amount=_limit(at_market, "max", of),
            min_notional=_limit(costs, "min", of) or ZERO,
            max_notional=_limit(costs, "max", of),
            active=market.get("active") is not False,
        )
    except ValueError as error:
        raise Unreadable(f"{of}: {error}") from None


def candles_of(rows: Iterable[Sequence[Any]], symbol: str, timeframe: str, now: datetime | None) -> list[Candle]:
    """The bars that are closed at ``now`` by the exchange's clock (``None``: all), oldest first, each once.

    Raises ``Unreadable``.
    """
    bars: dict[datetime, Candle] = {}
    for row in rows:
        of = f"a bar of {symbol}"
        if len(row) < 6:
            raise Unreadable(f"{of} has {len(row)} numbers instead of 6")
        prices = [_decimal(row[place], f"{of}, number {place}") for place in range(1, 6)]
        bar = Candle(symbol, timeframe, from_millis(int(row[0])), *prices)
        if now is None or bar.close_time <= now:
            bars[bar.open_time] = bar
    return [bars[at] for at in sorted(bars)]


def ticker_of(raw: Raw, symbol: str, now: datetime) -> Ticker:
    """The last price; at ``now`` where the exchange tells no time. Raises ``Unreadable``."""
    return Ticker(symbol, _number(raw, "last", f"the ticker of {symbol}"), _time(raw) or now)


# --- the account


def balances_of(raw: Raw, assets: Iterable[str]) -> dict[str, ExchangeBalance]:
    """Every asset that the account has something of, and each of ``assets``. Raises ``Unreadable``."""
    free, used, total = _part(raw, "free"), _part(raw, "used"), _part(raw, "total")
    balances = {}
    for asset in sorted({*free, *used, *total, *assets}):
        of = f"the balance of {asset}"
        balance = _balance(_optional(free, asset, of), _optional(used, asset, of), _optional(total, asset, of))
        if balance.total != ZERO or asset in assets:
            balances[asset] = balance
    return balances


def _balance(free: Decimal | None, used: Decimal | None, total: Decimal | None) -> ExchangeBalance:
    if free is None:
        free = (total or ZERO) - (used or ZERO)
    if used is None:
        used = (total if total is not None else free) - free
    return ExchangeBalance(free, used)


def order_of(
    raw: Raw,
    *,
    symbol: str | None = None,
    client_order_id: str | None = None,
    request: OrderRequest | None = None,
    now: datetime,
) -> ExchangeOrder:
    """An order that the exchange tells of.

    ``symbol`` and ``client_order_id`` are those that were asked for; ``request`` what was sent. They fill in what
    an exchange leaves out, and an answer to a cancel may name the cancel instead of the order. An order without a
    state is open as far as anybody knows. Raises ``Unreadable``.
    """
    of = f"order {client_order_id or raw.get('id')}"
    side = raw.get("side") or (request.side.value if request else None)
    if side not in ("buy", "sell"):
        raise Unreadable(f"{of}: its side is {side!r}")
    status = raw.get("status")
    state = _STATES.get(status) if status is not None else ExchangeOrderState.OPEN
    if state is None:
        raise Unreadable(f"{of}: its state is {status!r}")
    amount = _optional(raw, "amount", of) or (request.amount if request else None)
    filled = _optional(raw, "filled", of)
    remaining = _optional(raw, "remaining", of)
    if amount is None and filled is not None and remaining is not None:
        amount = filled + remaining
    if filled is None:
        if state is not ExchangeOrderState.OPEN and amount is not None and remaining is not None:
            filled = amount - remaining
        elif state is ExchangeOrderState.OPEN:
            filled = ZERO
    if amount is None or filled is None:
        raise Unreadable(f"{of}: the exchange tells no {'amount' if amount is None else 'filled amount'}")
    if state is ExchangeOrderState.CLOSED and filled < amount:
        state = ExchangeOrderState.CANCELLED
    average = _optional(raw, "average", of)
    cost = _optional(raw, "cost", of)
    if cost is None or (cost == ZERO and filled > ZERO):
        cost = filled * average if average is not None else ZERO
    stop = (
        _positive(raw, "triggerPrice", of) or _positive(raw, "stopPrice", of) or _positive(raw, "stopLossPrice", of)
    )
    kind = _order_type(str(raw.get("type") or ""), stop, request)
    limit = _positive(raw, "price", of) if kind in _LIMITS else None
    return ExchangeOrder(
        exchange_order_id=_text(raw, "id", of),
        client_order_id=client_order_id or raw.get("clientOrderId") or None,
        symbol=symbol or _text(raw, "symbol", of),
        side=Side(side),
        type=kind,
        state=state,
        amount=amount,
        filled=filled,
        cost=cost,
        limit_price=limit if limit is not None or request is None else request.limit_price,
        stop_price=stop if stop is not None or request is None else request.stop_price,
        at=_time(raw) or now,
    )


def _order_type(told: str, stop: Decimal | None, request: OrderRequest | None) -> OrderType:
    if request is not None:
        return request.type
    limited = "limit" in told.lower()
    if stop is not None or "stop" in told.lower():
        return OrderType.STOP_LIMIT if limited else OrderType.STOP_MARKET
    return OrderType.LIMIT if limited else OrderType.MARKET


def trades_of(rows: Iterable[Raw], symbol: str, exchange_order_id: str, asked_by_order: bool) -> list[ExchangeTrade]:
    """The trades of one order among ``rows``, oldest first, as often as they are told.

    ``asked_by_order``: a row that names no order is of this one. Raises ``Unreadable``.
    """
    trades = [
        trade_of(row, symbol, exchange_order_id)
        for row in rows
        if str(row.get("order")) == exchange_order_id or (asked_by_order and row.get("order") is None)
    ]
    return _in_order(trades)


def account_trades_of(rows: Iterable[Raw], symbol: str) -> list[ExchangeTrade]:
    """The account's trades of a symbol, oldest first. Raises ``Unreadable``."""
    return _in_order(trade_of(row, symbol, _text(row, "order", f"trade {row.get('id')}")) for row in rows)


def _in_order(trades: Iterable[ExchangeTrade]) -> list[ExchangeTrade]:
    # Ids of one moment by their length first: mostly they are numbers.
    return sorted(trades, key=lambda trade: (trade.at, len(trade.exchange_trade_id), trade.exchange_trade_id))


def trade_of(raw: Raw, symbol: str, exchange_order_id: str) -> ExchangeTrade:
    """Raises ``Unreadable``."""
    of = f"trade {raw.get('id')} of order {exchange_order_id}"
    side = raw.get("side")
    if side not in ("buy", "sell"):
        raise Unreadable(f"{of}: its side is {side!r}")
    at = _time(raw)
    if at is None:
        raise Unreadable(f"{of}: the exchange tells no time")
    return ExchangeTrade(
        exchange_trade_id=_text(raw, "id", of),
        exchange_order_id=exchange_order_id,
        symbol=symbol,
        side=Side(side),
        price=_number(raw, "price", of),
        amount=_number(raw, "amount", of),
        at=at,
        fee=fee_of(raw, of),
    )


def fee_of(raw: Raw, of: str) -> Fee | None:
    """In base, quote or a third asset. Raises ``Unreadable`` for fees in more than one asset: a fill has one."""
    told = raw.get("fees") or ([raw["fee"]] if raw.get("fee") else [])
    amounts: dict[str, Decimal] = {}
    for fee in told:
        amount = _optional(fee, "cost", of)
        if amount is None or amount == ZERO:
            continue
        asset = _text(fee, "currency", f"{of}, its fee")
        amounts[asset] = amounts.get(asset, ZERO) + amount
    if len(amounts) > 1:
        raise Unreadable(f"{of}: its fees are in {', '.join(sorted(amounts))}; a fill has one")
    return next((Fee(asset, amount) for asset, amount in amounts.items()), None)


# --- orders to the exchange


def request_problem(
    request: OrderRequest, rules: SymbolRules, capabilities: Capabilities, dialect: Dialect
) -> OrderRejected | None:
    """Why we do not send the order, or ``None``.

    ccxt cuts amounts and prices to the grid without a word, and reads a price of a market order as a wish to spend
    a sum: an order that would not arrive as it was decided is refused here. Limits are left to the exchange, whose
    rules may be newer than ours.
    """
    kind = request.type
    supported = {OrderType.STOP_MARKET: capabilities.stop_market, OrderType.STOP_LIMIT: capabilities.stop_limit}
    if not supported.get(kind, True):
        return OrderRejected("order_type_not_supported", f"{kind.value} orders are not taken for {request.symbol}")
    if kind in _STOPS and request.time_in_force is not TimeInForce.GTC:
        return OrderRejected("order_type_not_supported", f"a {kind.value} order must be gtc, not ioc")
    if kind is OrderType.MARKET and request.side is Side.BUY and not dialect.market_buy:
        return OrderRejected("order_type_not_supported", "a market buy is by cost there, not by amount: send a limit")
    for name, price, wanted in (
        ("limit_price", request.limit_price, kind in _LIMITS),
        ("stop_price", request.stop_price, kind in _STOPS),
    ):
        if (price is not None) != wanted:
            return OrderRejected("bad_price", f"a {kind.value} order {'needs a' if wanted else 'has no'} {name}")
        if price is not None and (not price.is_finite() or price <= ZERO):
            return OrderRejected("bad_price", f"{name} is {price}; it must be above 0")
        if price is not None and not rules.price.holds(price):
            return OrderRejected("off_price_tick", f"{name} {price:f} is no multiple of {rules.price.step(price):f}")
    amount = request.amount
    if not amount.is_finite() or amount <= ZERO:
        return OrderRejected("below_minimum_amount", f"amount is {amount}; it must be above 0")
    if not rules.amount.holds(amount):
        return OrderRejected("off_amount_step", f"amount {amount:f} is no multiple of {rules.amount.step(amount):f}")
    return None


def order_arguments(request: OrderRequest, dialect: Dialect) -> OrderArguments:
    """What ``create_order`` is called with. The request must be without problems."""
    assert dialect.create_id is not None
    params: dict[str, Any] = {dialect.create_id: request.client_order_id}
    if request.type is OrderType.LIMIT:
        params["timeInForce"] = request.time_in_force.value.upper()
    if request.stop_price is not None:
        params["stopLossPrice"] = f"{request.stop_price:f}"
    return OrderArguments(
        symbol=request.symbol,
        type="limit" if request.type in _LIMITS else "market",
        side=request.side.value,
        amount=f"{request.amount:f}",
        price=None if request.limit_price is None else f"{request.limit_price:f}",
        params=params,
    )


def capabilities_of(dialect: Dialect, markets: Iterable[Raw]) -> Capabilities:
    """What the exchange takes for all of ``markets``."""
    stop_market, stop_limit = dialect.stop_market, dialect.stop_limit
    if dialect.order_types_of is not None:
        for market in markets:
            types = dialect.order_types_of(_part(market, "info"))
            if types is not None:
                stop_market = stop_market and "STOP_LOSS" in types
                stop_limit = stop_limit and "STOP_LOSS_LIMIT" in types
    return Capabilities(
        stop_market=stop_market, stop_limit=stop_limit, client_order_ids=dialect.create_id is not None
    )


def newest(orders: Iterable[Raw], client_order_id: str) -> Raw | None:
    """The newest order of that client order id."""
    mine = [order for order in orders if order.get("clientOrderId") == client_order_id]
    return max(mine, key=lambda order: int(order.get("timestamp") or 0), default=None)


# --- reading


def _part(raw: Raw, name: str) -> Raw:
    part = raw.get(name)
    return part if isinstance(part, Mapping) else {}


def _text(raw: Raw, name: str, of: str) -> str:
    value = raw.get(name)
    if value is None or value == "":
        raise Unreadable(f"{of} has no {name}")
    return str(value)


def _decimal(value: Any, what: str) -> Decimal:
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise Unreadable(f"{what} is {value!r}, not a number") from None
    if not number.is_finite():
        raise Unreadable(f"{what} is {value!r}, not a number")
    return number


def _optional(raw: Raw, name: str, of: str) -> Decimal | None:
    value = raw.get(name)
    return None if value is None or value == "" else _decimal(value, f"{of}: {name}")


def _number(raw: Raw, name: str, of: str) -> Decimal:
    number = _optional(raw, name, of)
    if number is None:
        raise Unreadable(f"{of} has no {name}")
    return number


def _positive(raw: Raw, name: str, of: str) -> Decimal | None:
    number = _optional(raw, name, of)
    return number if number is not None and number > ZERO else None


def _limit(raw: Raw, name: str, of: str) -> Decimal | None:
    """A limit; zero means that there is none."""
    return _positive(raw, name, of)


def _time(raw: Raw) -> datetime | None:
    millis = raw.get("timestamp")
    return None if millis is None else from_millis(int(millis))
