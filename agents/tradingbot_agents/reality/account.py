"""What several checks ask of the account: what the exchange has of an order of ours."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from tradingbot_agents.domain.orders import Order
from tradingbot_agents.exchange.port import ExchangeOrder, ExchangeTrade
from tradingbot_agents.reality.evidence import AccountEvidence

_Number = tuple[str, str]
"""Symbol and the exchange's number: exchanges number the orders of each symbol by themselves."""


class Shown:
    """Orders of the exchange, among which ours are found however many they are; by what ``ExchangeOrder.is_of`` goes
    by."""

    def __init__(self, orders: Sequence[ExchangeOrder]) -> None:
        # Of two with one name the first counts.
        backwards = orders[::-1]
        self._by_name = {each.client_order_id: each for each in backwards if each.client_order_id}
        self._by_number = {_number(each): each for each in backwards}

    def of(self, order: Order) -> ExchangeOrder | None:
        found = self._by_name.get(order.client_order_id)
        if found is None and order.exchange_order_id is not None:
            found = self._by_number.get((order.symbol, order.exchange_order_id))
        return found


class OnTheExchange:
    """All that the evidence has of an order."""

    def __init__(self, account: AccountEvidence) -> None:
        self._open = Shown(account.open_orders)
        self._looked_up = account.looked_up
        self._traded: dict[_Number, datetime] = {}
        for trade in account.trades:
            number = _number(trade)
            self._traded[number] = max(trade.at, self._traded.get(number, trade.at))

    def shown(self, order: Order) -> ExchangeOrder | None:
        """As it is among the open ones, or was found when it was looked up."""
        return self._open.of(order) or self._looked_up.get(order.client_order_id)

    def traded(self, order: Order) -> datetime | None:
        """When it did last, as far as trades were read."""
        return None if order.exchange_order_id is None else self._traded.get((order.symbol, order.exchange_order_id))


def _number(each: ExchangeOrder | ExchangeTrade) -> _Number:
    return each.symbol, each.exchange_order_id
