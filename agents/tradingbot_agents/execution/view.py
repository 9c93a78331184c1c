"""What execution remembers of the ledger, so that a candle without a decision touches neither ledger nor
exchange.

It holds what the ledger's calls answered. The ledger stays the truth: after a call whose outcome is open the
view is read anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tradingbot_agents.domain.orders import Order
from tradingbot_agents.domain.position import Position


class View:
    def __init__(self) -> None:
        self._positions: dict[str, Position] = {}
        self._orders: dict[str, dict[str, Order]] = {}

    def replace(self, positions: Mapping[str, Position], orders: Iterable[Order]) -> None:
        self._positions = dict(positions)
        self._orders = {}
        for order in sorted(orders, key=lambda order: order.created_at):
            self.take_order(order)

    def replace_positions(self, positions: Mapping[str, Position]) -> None:
        self._positions = dict(positions)

    def take_position(self, position: Position) -> None:
        self._positions[position.symbol] = position

    def take_order(self, order: Order) -> None:
        if order.state.is_live:
            self._orders.setdefault(order.symbol, {})[order.client_order_id] = order
            return
        live = self._orders.get(order.symbol)
        if live is not None:
            live.pop(order.client_order_id, None)
            if not live:
                del self._orders[order.symbol]

    def position(self, symbol: str) -> Position | None:
        return self._positions.get(symbol)

    def order(self, order: Order) -> Order | None:
        """The order as it is now, or ``None`` when it is not live any more."""
        orders = self._orders.get(order.symbol)
        return orders.get(order.client_order_id) if orders is not None else None

    def live(self, symbol: str) -> list[Order]:
        """Orders of the symbol that the exchange may have, oldest first."""
        orders = self._orders.get(symbol)
        return list(orders.values()) if orders is not None else []

    def live_orders(self) -> list[Order]:
        return [order for orders in self._orders.values() for order in orders.values()]

    def is_active(self, symbol: str) -> bool:
        """Whether there is something to look after: a live order, or a position."""
        if symbol in self._orders:
            return True
        position = self._positions.get(symbol)
        return position is not None and position.is_held

    def active_symbols(self) -> list[str]:
        held = {symbol for symbol, position in self._positions.items() if position.is_held}
        return sorted(held | self._orders.keys())
