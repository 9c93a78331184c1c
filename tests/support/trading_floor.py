"""Two bots that share an account, on an exchange that is a pod; and its books, held against theirs."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

from support.kubernetes import Json
from support.on_a_node import Bot, Exchange, Namespace

UP = 240.0
"""Seconds from apply to trading, of two bots with servers of their own."""
BACK = 90.0


class Floor:
    """Where the two trade."""

    def __init__(self, namespace: Namespace) -> None:
        self.namespace = namespace
        self.exchange = Exchange(namespace, shake=20)
        self.alpha, self.beta = self.bots = Bot(namespace, "alpha"), Bot(namespace, "beta")

    def start(self) -> None:
        self.exchange.start()
        # One hears of the market by the websocket, the other asks; only one's check runs by itself.
        by_itself = {"realityCheck.suspend": False, "realityCheck.schedule": "* * * * *"}
        self.alpha.apply({"exchange.feed": "websocket", **by_itself})
        self.beta.apply({"updateStrategy": "Auto"})
        self.trade()

    def trade(self, limit: float = UP) -> None:
        for bot in self.bots:
            bot.trades(limit)

    def trades_again(self, limit: float = BACK) -> None:
        """A trade is made from now on."""
        before = self.exchange.trades()
        self.namespace.until(lambda: self.exchange.trades() > before, "another trade", limit)

    def settle(self) -> None:
        """Both are paused and nothing is under way: no order waits, what rests on the exchange are stops."""
        for bot in self.bots:
            bot.state("Paused")
        self.namespace.until(self._quiet, "nothing is under way", BACK)

    def _quiet(self) -> bool:
        told = [bot.command("status") for bot in self.bots]
        resting = self.resting()
        return (
            not any(each["orders_to_send"] for each in told)
            and sum(each["live_orders"] for each in told) == len(resting)
            and all(each["type"].startswith("STOP") for each in resting)
        )

    def resting(self) -> list[Json]:
        """Orders that the exchange has."""
        return [each for each in self.exchange.books()["orders"] if each["status"] in ("NEW", "PARTIALLY_FILLED")]

    def go_on(self) -> None:
        for bot in self.bots:
            bot.state("Running")
        self.trade(BACK)

    def compare(self) -> None:
        """The exchange's books and the bots' say the same: nothing is lost, and nothing is there twice."""
        books = self.exchange.books()
        fills = [fill for bot in self.bots for fill in bot.command("fills", "--limit", "100000")]
        booked = Counter(fill["exchange_trade_id"] for fill in fills)
        assert booked == Counter(str(trade["id"]) for trade in books["trades"])
        orders = [order for bot in self.bots for order in bot.command("orders", "--limit", "100000")]
        known = {order["client_order_id"]: Decimal(order["filled"]) for order in orders}
        sent = [order["client_order_id"] for order in books["orders"]]
        assert len(set(sent)) == len(sent), "no order was sent twice"
        there = {order["client_order_id"]: Decimal(order["filled"]) for order in books["orders"]}
        assert there.items() <= known.items()
        for bot in self.bots:
            status = bot.command("status")
            assert status["invariants"]["violated"] == []
            told = {each["asset"]: Decimal(each["total"]) for each in status["balances"] if Decimal(each["total"])}
            assert told == {asset: Decimal(total) for asset, total in books["balances"].items()}
        assert books["refused"] == 0, "no order asked for more than there was"
