"""The reference model's account with sums that are kept: a run asks for them ten thousand times.

The plain model computes each from all that ever happened, which the property tests want. The checks in the end
compare what is kept here with the entries themselves.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from support.ledger_model import LedgerModel, ModelAccount, ModelBot
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import ZERO, Leg
from tradingbot_agents.ledger.port import AccountKey, Entry


class OrderBook(dict[str, Order]):
    """All orders by their client order id, and apart those that are not final."""

    def __init__(self) -> None:
        super().__init__()
        self.unfinished: dict[str, Order] = {}

    def __setitem__(self, name: str, order: Order) -> None:
        super().__setitem__(name, order)
        if order.state.is_final:
            self.unfinished.pop(name, None)
        else:
            self.unfinished[name] = order


class SummedAccount(ModelAccount):
    def __init__(self, key: AccountKey) -> None:
        super().__init__(key)
        self.orders: OrderBook = OrderBook()
        self._totals: dict[str, Decimal] = {}
        self._entered: set[tuple[str, str, str]] = set()

    def total(self, asset: str) -> Decimal:
        return self._totals.get(asset, ZERO)

    def enter(self, asset: str, amount: Decimal, kind: str, cause: str, at: datetime) -> bool:
        if (asset, kind, cause) in self._entered:
            return False
        self._entered.add((asset, kind, cause))
        self._totals[asset] = self.total(asset) + amount
        number = len(self.entries) + 1
        self.entries.append(Entry(number=number, asset=asset, amount=amount, kind=kind, cause=cause, at=at))
        self.assets.add(asset)
        return True

    def live_remainders(self, bot: str, symbol: str) -> Decimal:
        live = ZERO
        for order in self.orders.unfinished.values():
            if order.symbol == symbol and order.leg is not Leg.ENTRY and order.bot == bot and order.state.is_live:
                live += max(order.amount - order.filled, ZERO)
        return live

    def reserved(self, asset: str) -> Decimal:
        reserved = ZERO
        for order in self.orders.unfinished.values():
            if order.leg is Leg.ENTRY and self.proposals[order.client_order_id].reserve_asset == asset:
                reserved += self.held(order)
        for name, bot in self.bots.items():
            for symbol in bot.positions:
                if symbol.startswith(asset + "/"):
                    reserved += self.exit_hold(name, symbol)
        return reserved


class SummedLedger(LedgerModel):
    def __init__(self, account: SummedAccount, bot: str) -> None:
        super().__init__(account, bot)
        self.account: SummedAccount = account
        self._bot = account.bots.setdefault(bot, ModelBot())

    @property
    def bot(self) -> ModelBot:
        return self._bot

    async def orders_to_send(self) -> list[Order]:
        return [order for order in self._unfinished() if order.state is OrderState.APPROVED]

    async def live_orders(self) -> list[Order]:
        return [order for order in self._unfinished() if order.state.is_live]

    def _unfinished(self) -> list[Order]:
        return [order for order in self.account.orders.unfinished.values() if order.bot == self.name]
