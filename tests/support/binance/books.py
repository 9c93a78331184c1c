"""The loopback exchange's books: balances, orders, trades, filters and matching. No I/O; time is an argument.

There is one price a symbol, which the test moves, and as much liquidity at it as the test says. What takes
liquidity is filled at that price; what rested is filled at its own limit, as on a real book.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import ROUND_DOWN, Decimal

from support.binance.symbols import BinanceSymbol

ZERO = Decimal(0)
UNIT = Decimal("0.00000001")
_CLIENT_ORDER_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
STOPS = ("STOP_LOSS", "STOP_LOSS_LIMIT")
LIMITS = ("LIMIT", "STOP_LOSS_LIMIT", "LIMIT_MAKER")


class Refused(Exception):
    """An answer with one of Binance's error codes."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(f"{code} {message}")
        self.code = code
        self.message = message
        self.status = status


@dataclass
class Balance:
    free: Decimal = ZERO
    locked: Decimal = ZERO

    @property
    def total(self) -> Decimal:
        return self.free + self.locked


@dataclass
class BinanceTrade:
    id: int
    order_id: int
    symbol: str
    side: str
    price: Decimal
    amount: Decimal
    fee: Decimal
    fee_asset: str
    maker: bool
    at: int
    """Milliseconds."""


@dataclass
class BinanceOrder:
    id: int
    client_order_id: str
    symbol: str
    side: str
    type: str
    time_in_force: str
    amount: Decimal
    price: Decimal
    stop_price: Decimal
    at: int
    updated: int
    status: str = "NEW"
    filled: Decimal = ZERO
    cost: Decimal = ZERO
    triggered: bool = False
    locked: Decimal = ZERO
    """What of the base (SELL) or quote (BUY) currency it holds."""
    trades: list[BinanceTrade] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.status in ("NEW", "PARTIALLY_FILLED")

    @property
    def remaining(self) -> Decimal:
        return self.amount - self.filled


class BinanceBooks:
    """One account."""

    def __init__(self, symbols: Iterable[BinanceSymbol], balances: dict[str, Decimal]) -> None:
        self.symbols = {symbol.id: symbol for symbol in symbols}
        self.balances = {asset: Balance(amount) for asset, amount in balances.items()}
        self.prices: dict[str, Decimal] = {}
        """Last price by symbol id."""
        self.liquidity: dict[str, Decimal] = {}
        """What the market takes and gives at the present price, by symbol id; not there: as much as one likes."""
        self.fee = Decimal("0.001")
        self.fees_in_bnb = False
        """Fees are taken in BNB while there is enough of it, at 75 %, as Binance does when told to."""
        self.parts = 1
        """Trades that a fill is split into."""
        self.orders: list[BinanceOrder] = []
        self.trades: list[BinanceTrade] = []

    # --- what a test asks

    def totals(self) -> dict[str, Decimal]:
        return {asset: balance.total for asset, balance in self.balances.items() if balance.total}

    def orders_of(self, client_order_id: str) -> list[BinanceOrder]:
        return [order for order in self.orders if order.client_order_id == client_order_id]

    @property
    def open_orders(self) -> list[BinanceOrder]:
        return [order for order in self.orders if order.open]

    def move(self, symbol: str, price: Decimal, now: int, liquidity: Decimal | None = None) -> None:
        """The symbol's last price changes, and what it meets is triggered and filled."""
        self.prices[symbol] = price
        if liquidity is None:
            self.liquidity.pop(symbol, None)
        else:
            self.liquidity[symbol] = liquidity
        for order in [order for order in self.orders if order.open and order.symbol == symbol]:
            if order.type in STOPS and not order.triggered:
                reached = price <= order.stop_price if order.side == "SELL" else price >= order.stop_price
                if not reached:
                    continue
                order.triggered = True
                order.updated = now
                self._take(order, price, now)
                if order.type == "STOP_LOSS" and order.open:
                    self._end(order, "EXPIRED", now)
            elif order.price >= price if order.side == "BUY" else order.price <= price:
                self._fill(order, order.price, order.remaining, now, maker=True)

    # --- what a request asks

    def place(
        self,
        *,
        symbol: str,
        side: str,
        type: str,
        time_in_force: str | None,
        quantity: Decimal | None,
        price: Decimal | None,
        stop_price: Decimal | None,
        client_order_id: str,
        now: int,
    ) -> BinanceOrder:
        """Raises ``Refused``."""
        market = self.market(symbol)
        last = self.prices.get(symbol)
        if side not in ("BUY", "SELL"):
            raise Refused(-1117, "Invalid side.")
        if type not in ("MARKET", "LIMIT", *STOPS) or type not in market.order_types:
            raise Refused(-1116, "Invalid orderType.")
        if quantity is None:
            raise Refused(-1102, "Mandatory parameter 'quantity' was not sent, was empty/null, or malformed.")
        if type in LIMITS and (price is None or time_in_force is None):
            missing = "price" if price is None else "timeInForce"
            raise Refused(-1102, f"Mandatory parameter '{missing}' was not sent, was empty/null, or malformed.")
        if type not in LIMITS and (price is not None or time_in_force is not None):
            sent = "price" if price is not None else "timeInForce"
            raise Refused(-1106, f"Parameter '{sent}' sent when not required.")
        if (stop_price is not None) != (type in STOPS):
            if stop_price is None:
                raise Refused(-1102, "Mandatory parameter 'stopPrice' was not sent, was empty/null, or malformed.")
            raise Refused(-1106, "Parameter 'stopPrice' sent when not required.")
        if time_in_force not in (None, "GTC", "IOC"):
            raise Refused(-1115, "Invalid timeInForce.")
        if not _CLIENT_ORDER_ID.fullmatch(client_order_id):
            raise Refused(
                -1100,
                "Illegal characters found in parameter 'newClientOrderId'; legal range is '^[.A-Z:a-z0-9_-]{1,36}$'.",
            )
        if market.status != "TRADING" or last is None:
            raise Refused(-1013, "Market is closed.")
        self._filters(market, type, side, quantity, price, stop_price, last)
        if any(order.open and order.client_order_id == client_order_id for order in self.orders):
            raise Refused(-2010, "Duplicate order sent.")
        if stop_price is not None and (stop_price >= last if side == "SELL" else stop_price <= last):
            raise Refused(-2010, "Stop price would trigger immediately.")
        asset = market.base if side == "SELL" else market.quote
        worst = price if price is not None else stop_price if stop_price is not None else last
        need = quantity if side == "SELL" else quantity * worst
        held = self.balances.setdefault(asset, Balance())
        if held.free < need:
            raise Refused(-2010, "Account has insufficient balance for requested action.")
        order = BinanceOrder(
            id=len(self.orders) + 1001,
            client_order_id=client_order_id,
            symbol=symbol,
            side=side,
            type=type,
            time_in_force=time_in_force or "GTC",
            amount=quantity,
            price=price or ZERO,
            stop_price=stop_price or ZERO,
            at=now,
            updated=now,
            locked=need,
        )
        held.free -= need
        held.locked += need
        self.orders.append(order)
        if type not in STOPS:
            self._take(order, last, now)
            if order.open and (type == "MARKET" or time_in_force == "IOC"):
                self._end(order, "EXPIRED", now)
        return order

    def cancel(self, symbol: str, order_id: int | None, client_order_id: str | None, now: int) -> BinanceOrder:
        """Raises ``Refused``."""
        self.market(symbol)
        for order in reversed(self.orders):
            if order.open and order.symbol == symbol and _is_named(order, order_id, client_order_id):
                self._end(order, "CANCELED", now)
                return order
        raise Refused(-2011, "Unknown order sent.")

    def find(self, symbol: str, order_id: int | None, client_order_id: str | None) -> BinanceOrder:
        """The newest of that name. Raises ``Refused``."""
        self.market(symbol)
        for order in reversed(self.orders):
            if order.symbol == symbol and _is_named(order, order_id, client_order_id):
                return order
        raise Refused(-2013, "Order does not exist.")

    def market(self, symbol: str) -> BinanceSymbol:
        if symbol not in self.symbols:
            raise Refused(-1121, "Invalid symbol.")
        return self.symbols[symbol]

    # --- matching

    def _take(self, order: BinanceOrder, last: Decimal, now: int) -> None:
        """Fill at once what the order's limit allows."""
        if order.type in LIMITS and (order.price < last if order.side == "BUY" else order.price > last):
            return
        self._fill(order, last, order.remaining, now, maker=False)

    def _fill(self, order: BinanceOrder, price: Decimal, wanted: Decimal, now: int, maker: bool) -> None:
        market = self.symbols[order.symbol]
        amount = min(wanted, self.liquidity.get(order.symbol, wanted))
        amount = (amount // market.step) * market.step
        if order.side == "BUY" and order.type not in LIMITS:
            # A stop that buys may be filled above what it holds: then it gets what its money buys.
            affordable = (order.locked + self.balances[market.quote].free) / price
            amount = min(amount, (affordable // market.step) * market.step)
        if amount <= ZERO:
            return
        if order.symbol in self.liquidity:
            self.liquidity[order.symbol] -= amount
        part = (amount / self.parts // market.step) * market.step
        for number in range(self.parts):
            piece = part if number < self.parts - 1 else amount - part * (self.parts - 1)
            if piece > ZERO:
                self._trade(order, price, piece, now, maker)
        order.status = "FILLED" if order.remaining == ZERO else "PARTIALLY_FILLED"
        if not order.open:
            self._release(order)

    def _trade(self, order: BinanceOrder, price: Decimal, amount: Decimal, now: int, maker: bool) -> None:
        market = self.symbols[order.symbol]
        base = self.balances.setdefault(market.base, Balance())
        quote = self.balances.setdefault(market.quote, Balance())
        cost = amount * price
        if order.side == "BUY":
            drawn = min(order.locked, amount * order.price if order.type in LIMITS else cost)
            order.locked -= drawn
            quote.locked -= drawn
            quote.free += drawn - cost
            base.free += amount
        else:
            order.locked -= amount
            base.locked -= amount
            quote.free += cost
        fee, fee_asset = self._fee(market, order.side, amount, cost)
        self.balances[fee_asset].free -= fee
        order.filled += amount
        order.cost += cost
        order.updated = now
        trade = BinanceTrade(
            id=len(self.trades) + 5001,
            order_id=order.id,
            symbol=order.symbol,
            side=order.side,
            price=price,
            amount=amount,
            fee=fee,
            fee_asset=fee_asset,
            maker=maker,
            at=now,
        )
        order.trades.append(trade)
        self.trades.append(trade)

    def _fee(self, market: BinanceSymbol, side: str, amount: Decimal, cost: Decimal) -> tuple[Decimal, str]:
        price_of_bnb = self.prices.get("BNB" + market.quote)
        if self.fees_in_bnb and price_of_bnb:
            fee = (cost * self.fee * Decimal("0.75") / price_of_bnb).quantize(UNIT, ROUND_DOWN)
            if self.balances.setdefault("BNB", Balance()).free >= fee:
                return fee, "BNB"
        if side == "BUY":
            return (amount * self.fee).quantize(UNIT, ROUND_DOWN), market.base
        return (cost * self.fee).quantize(UNIT, ROUND_DOWN), market.quote

    def _end(self, order: BinanceOrder, status: str, now: int) -> None:
        order.status = status
        order.updated = now
        self._release(order)

    def _release(self, order: BinanceOrder) -> None:
        market = self.symbols[order.symbol]
        held = self.balances[market.base if order.side == "SELL" else market.quote]
        held.locked -= order.locked
        held.free += order.locked
        order.locked = ZERO

    # --- filters

    def _filters(
        self,
        market: BinanceSymbol,
        type: str,
        side: str,
        quantity: Decimal,
        price: Decimal | None,
        stop_price: Decimal | None,
        last: Decimal,
    ) -> None:
        for name, value in (("quantity", quantity), ("price", price), ("stopPrice", stop_price)):
            exponent = 0 if value is None else value.normalize().as_tuple().exponent
            if isinstance(exponent, int) and exponent < -8:
                raise Refused(-1111, f"Parameter '{name}' has too much precision.")
        for value in (price, stop_price):
            if value is not None and (not market.min_price <= value <= market.max_price or value % market.tick):
                raise Refused(-1013, "Filter failure: PRICE_FILTER")
        if price is not None and not last * market.multiplier_down <= price <= last * market.multiplier_up:
            raise Refused(-1013, "Filter failure: PERCENT_PRICE_BY_SIDE")
        if not market.min_amount <= quantity <= market.max_amount or quantity % market.step:
            raise Refused(-1013, "Filter failure: LOT_SIZE")
        if type in ("MARKET", "STOP_LOSS") and quantity > market.max_market_amount:
            raise Refused(-1013, "Filter failure: MARKET_LOT_SIZE")
        measured = price if price is not None else stop_price if stop_price is not None else last
        if quantity * measured < market.min_notional:
            raise Refused(-1013, "Filter failure: NOTIONAL")
        if type != "MARKET" and quantity * measured > market.max_notional:
            raise Refused(-1013, "Filter failure: NOTIONAL")
        mine = [order for order in self.orders if order.open and order.symbol == market.id]
        if len(mine) >= market.max_orders and type != "MARKET":
            raise Refused(-1013, "Filter failure: MAX_NUM_ORDERS")
        stops = sum(order.type in STOPS and not order.triggered for order in mine)
        if type in STOPS and stops >= market.max_algo_orders:
            raise Refused(-1013, "Filter failure: MAX_NUM_ALGO_ORDERS")


def _is_named(order: BinanceOrder, order_id: int | None, client_order_id: str | None) -> bool:
    return order.id == order_id if order_id is not None else order.client_order_id == client_order_id
