"""What differs between exchanges behind ccxt: names of parameters, ways to look an order up, order types, fees.

An exchange that is not in the table gives market data only. To trade there, its client order ids would have to be
known: an order whose answer was lost can be found again by nothing else, and guessing by amount and price could
take another's order for ours. So it is refused before the start (see ``ccxt_preflight``) rather than traded half
blind; a line in the table, tried against the exchange, is what it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from typing import Any

import msgspec

from tradingbot_agents.domain.symbol_rules import FeeCurrency
from tradingbot_agents.exchange.ccxt_errors import (
    BINANCE_CODES,
    BINANCE_RATE_CODES,
    BINANCE_UNKNOWN_ORDER,
    COINBASE_CODES,
)


class LookUp(StrEnum):
    """How an order is found by its client order id."""

    BY_CLIENT_ID = "by_client_id"
    """The exchange takes the id itself."""
    IN_LISTS = "in_lists"
    """Among the open orders, then among the ended ones: in this order none that ends meanwhile is missed."""


class OrderTrades(StrEnum):
    """How the trades of one order are read."""

    BY_ORDER_ID = "by_order_id"
    OF_SYMBOL = "of_symbol"
    """From the account's trades of the symbol since the order was placed."""


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """One exchange's ways."""

    create_id: str | None = None
    """Parameter that gives a new order its client order id; ``None``: not known, so no trading."""
    look_up: LookUp = LookUp.IN_LISTS
    look_up_id: str | None = None
    """Parameter of the look-up (or of the lists, where they can be asked for one id)."""
    ended_orders: str = "fetch_closed_orders"
    """ccxt's method for orders that have ended, filled or not."""
    cancel_id: str | None = None
    """Parameter of the cancel; ``None``: by the exchange's own id, which is looked up first."""
    trades: OrderTrades = OrderTrades.OF_SYMBOL
    trades_page: int = 50
    """The most trades in one answer. A full page is never taken for all."""
    trades_limit: bool = True
    """The page's size is asked for; else it is the exchange's own."""
    trades_span: timedelta = timedelta(days=7)
    """The longest time that one question about the account's trades may cover."""
    trades_of_all: bool = False
    """The exchange tells the account's trades of all symbols together. ccxt would filter them, and a page of which
    most are of others would look as if it were not full."""
    newest_trades: bool = False
    """Without times, the newest page is told however old its trades are."""
    open_orders_page: int | None = None
    """The most open orders in one answer; ``None``: all of them."""
    stop_market: bool = False
    stop_limit: bool = False
    market_buy: bool = False
    """Takes a market BUY by its amount; elsewhere it is by cost, and refused by us."""
    fee_currency: FeeCurrency = FeeCurrency.GET
    balance_parameters: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """For ccxt's ``fetch_balance``."""
    options: Mapping[str, Any] = msgspec.field(default_factory=dict)
    """For ccxt's ``options``."""
    bursts: bool = False
    """Counts requests in a window, so that they may come all at once: an order waits behind no read."""
    receive_window: bool = False
    """Takes the option ``recvWindow``, in milliseconds."""
    code_of: Callable[[Mapping[str, Any]], Any] = lambda body: body.get("code")
    """The exchange's own code in the body of an answer."""
    codes: Mapping[str, str] = msgspec.field(default_factory=dict)
    """Its own codes of surely refused requests; empty: ccxt's classes decide."""
    rate_codes: frozenset[str] = frozenset()
    unknown_order_code: str | None = None
    market_parameters: Callable[[Sequence[str]], Mapping[str, str]] | None = None
    """Narrows the list of markets to those of the given ids."""
    order_types_of: Callable[[Mapping[str, Any]], frozenset[str] | None] | None = None
    """The order types of a market by its raw entry, in the exchange's words."""


def _binance_markets(ids: Sequence[str]) -> Mapping[str, str]:
    return {"symbols": "[" + ",".join(f'"{market_id}"' for market_id in ids) + "]"}


def _binance_order_types(info: Mapping[str, Any]) -> frozenset[str] | None:
    types = info.get("orderTypes")
    return frozenset(str(name) for name in types) if isinstance(types, list) else None


def _coinbase_code(body: Mapping[str, Any]) -> Any:
    refusal = body.get("error_response")
    if not isinstance(refusal, Mapping):
        return None
    # The most exact reason is in one of the first two, which say so when they have none.
    reasons = (refusal.get(name) for name in ("preview_failure_reason", "new_order_failure_reason", "error"))
    return next((reason for reason in reasons if reason and not str(reason).startswith("UNKNOWN")), None)


_SPOT_ONLY: Mapping[str, Any] = {"defaultType": "spot", "fetchMarkets": {"types": ["spot"]}}

_BINANCE = Dialect(
    create_id="clientOrderId",
    look_up=LookUp.BY_CLIENT_ID,
    look_up_id="clientOrderId",
    cancel_id="clientOrderId",
    trades=OrderTrades.BY_ORDER_ID,
    trades_page=1000,
    trades_span=timedelta(hours=24),
    newest_trades=True,
    stop_market=True,
    stop_limit=True,
    market_buy=True,
    fee_currency=FeeCurrency.GET,
    options={
        **_SPOT_ONLY,
        "fetchMargins": False,
        "fetchCurrencies": False,
        "fetchOpenOrders": {"warnWithoutSymbol": False},
    },
    bursts=True,
    receive_window=True,
    codes=BINANCE_CODES,
    rate_codes=BINANCE_RATE_CODES,
    unknown_order_code=BINANCE_UNKNOWN_ORDER,
    market_parameters=_binance_markets,
    order_types_of=_binance_order_types,
)

DIALECTS: Mapping[str, Dialect] = {
    "binance": _BINANCE,
    # The same interface, for the exchange's American house.
    "binanceus": _BINANCE,
    "kraken": Dialect(
        create_id="clientOrderId",
        look_up=LookUp.IN_LISTS,
        look_up_id="clientOrderId",
        cancel_id="clientOrderId",
        trades_page=50,
        trades_limit=False,
        trades_of_all=True,
        bursts=True,
        stop_market=True,
        stop_limit=True,
        market_buy=True,
        fee_currency=FeeCurrency.QUOTE,
    ),
    # A stop there is an order of another kind, with ids of its own, that makes the real one when it triggers: the
    # trades could not be found by our id. So stops are watched by us instead; the same holds for Bybit's spot.
    "okx": Dialect(
        create_id="clientOrderId",
        look_up=LookUp.BY_CLIENT_ID,
        look_up_id="clientOrderId",
        cancel_id="clientOrderId",
        trades=OrderTrades.BY_ORDER_ID,
        trades_page=100,
        open_orders_page=100,
        options=_SPOT_ONLY,
    ),
    "bybit": Dialect(
        create_id="clientOrderId",
        look_up=LookUp.IN_LISTS,
        look_up_id="orderLinkId",
        ended_orders="fetch_canceled_and_closed_orders",
        cancel_id="orderLinkId",
        trades=OrderTrades.BY_ORDER_ID,
        trades_page=100,
        open_orders_page=50,
        options={**_SPOT_ONLY, "fetchCurrencies": False},
        bursts=True,
        receive_window=True,
    ),
    # ccxt makes an id of its own from "clientOrderId" there, so the exchange's own name is given.
    "coinbase": Dialect(
        create_id="client_order_id",
        look_up=LookUp.IN_LISTS,
        ended_orders="fetch_orders",
        trades_page=250,
        open_orders_page=100,
        stop_limit=True,
        fee_currency=FeeCurrency.QUOTE,
        # The older interface, ccxt's choice, does not tell what open orders lock.
        balance_parameters={"v3": True},
        code_of=_coinbase_code,
        codes=COINBASE_CODES,
    ),
}

_DATA_ONLY = Dialect(options={"defaultType": "spot"})


def dialect_of(exchange: str) -> Dialect:
    """The exchange's line in the table, or one that gives market data only."""
    return DIALECTS.get(exchange, _DATA_ONLY)


def named_exchanges() -> str:
    """For messages."""
    return ", ".join(sorted(DIALECTS))
