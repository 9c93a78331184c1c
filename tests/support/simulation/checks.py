"""The invariants of the design, checked against the exchange's own books and not only against the ledger's word."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal

from support.simulation.exchange import STOPS
from support.simulation.world import World, run
from tradingbot_agents.bus.topology import AGENTS
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.position import PositionState
from tradingbot_agents.domain.values import ZERO, Leg
from tradingbot_agents.exchange.port import ExchangeOrderState
from tradingbot_agents.execution.exits import sellable
from tradingbot_agents.ledger.port import Role

NEVER_SAID = (
    "order_unknown",
    "order_reappeared",
    "outside_movement_booked",
    "overdrawn",
    "message_dead_lettered",
)
"""Events that tell of a broken promise, or of somebody else on the account. The exchange of the simulation breaks
none, and nobody else is there."""


class StepChecks:
    """After each commit that moves money. Sums go on from where they were, for a run has many commits."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._counted = 0
        self.totals: dict[str, Decimal] = {}

    def __call__(self, call: str) -> None:
        account = self._world.account
        for entry in account.entries[self._counted :]:
            self.totals[entry.asset] = self.totals.get(entry.asset, ZERO) + entry.amount
        self._counted = len(account.entries)
        for asset, total in self.totals.items():
            # Not less what others hold: they may have come after us.
            reserved = account.reserved(asset)
            if reserved > max(total, ZERO):
                self._world.violate(f"{reserved} {asset} are reserved after {call}, of {total}")
        for symbol, position in account.bots[self._world.bot].positions.items():
            live = account.live_remainders(self._world.bot, symbol)
            if live > max(position.amount, ZERO):
                self._world.violate(f"after {call} live exits may sell {live} of {position.amount} in {symbol}")


def in_the_end(world: World, steps: StepChecks, stops_on_exchange: bool) -> Iterator[str]:
    """What is wrong when all trouble is over and all is final. Nothing is, in a good run."""
    yield from _processes(world)
    orders = {order.client_order_id: order for order in run(world.ledger.orders())}
    yield from _orders(world, orders)
    yield from _fills(world)
    yield from _balances(world, steps)
    yield from _positions(world, orders, stops_on_exchange)


def _processes(world: World) -> Iterator[str]:
    for name in AGENTS:
        if name not in world.current:
            yield f"{name} is down"
    for process in world.owners.values():
        if process.alive and world.current.get(process.name) is not process:
            yield f"{process.owner} was fenced off and is there still"
    for name in NEVER_SAID:
        if world.events[name]:
            yield f"{name} was said {world.events[name]} times"
    yield from world.venue.complaints
    for letter in world.bus.dead_letters():
        yield f"message {letter.message.id} of {letter.queue} is a dead letter: {letter.reason}"
    for role in Role:
        if run(world.ledger.unpublished(role)):
            yield f"the outbox of {role.value} is not empty"
    for queue, depth in world.bus.depths().items():
        if depth:
            yield f"{depth} messages are left in {queue}"


def _orders(world: World, orders: dict[str, Order]) -> Iterator[str]:
    shown = {order.client_order_id: order for order in world.venue.orders.values()}
    for name, there in shown.items():
        known = orders.get(name or "")
        if known is None:
            yield f"order {name} is on the exchange and not in the ledger"
        elif known.state.is_final is (there.state is ExchangeOrderState.OPEN):
            yield f"order {name} is {there.state.value} on the exchange and {known.state.value} in the ledger"
        elif known.filled != there.filled:
            yield f"order {name} is filled by {there.filled} on the exchange and {known.filled} in the ledger"
    for name, order in orders.items():
        if order.state.is_final:
            if name not in shown and order.filled:
                yield f"order {name} has fills and never was on the exchange"
        elif order.state is not OrderState.OPEN or order.type not in STOPS:
            yield f"order {name} of leg {order.leg.value} is {order.state.value} in the end"
        elif name not in shown:
            yield f"order {name} is open in the ledger and not on the exchange"


def _fills(world: World) -> Iterator[str]:
    booked = sorted((fill.symbol, fill.exchange_trade_id, fill.amount) for fill in run(world.ledger.fills()))
    traded = sorted((trade.symbol, trade.exchange_trade_id, trade.amount) for trade in world.venue.done)
    if booked != traded:
        missing, extra = sorted(set(traded) - set(booked)), sorted(set(booked) - set(traded))
        yield f"trades of the exchange that are not booked: {missing[:5]}; fills that nobody traded: {extra[:5]}"


def _balances(world: World, steps: StepChecks) -> Iterator[str]:
    steps("the end")
    balances = run(world.ledger.balances())
    for asset in sorted({*balances, *world.venue.totals}):
        total = balances[asset].total if asset in balances else ZERO
        if total != steps.totals.get(asset, ZERO):
            yield f"the total of {asset} is {total}, its entries sum up to {steps.totals.get(asset)}"
        if total != world.venue.totals.get(asset, ZERO):
            yield f"the ledger has {total} {asset}, the exchange {world.venue.totals.get(asset, ZERO)}"
    if reservations := run(world.ledger.reservations()):
        yield f"{len(reservations)} reservations are held in the end"
    live = [order for order in run(world.ledger.live_orders()) if order.leg is not Leg.ENTRY]
    for asset, balance in balances.items():
        exits = [order for order in live if order.symbol.startswith(asset + "/")]
        held = sum((order.remaining for order in exits), ZERO)
        if balance.reserved != held:
            yield f"{balance.reserved} {asset} are reserved in the end, live exits hold {held}"


def _positions(world: World, orders: dict[str, Order], stops_on_exchange: bool) -> Iterator[str]:
    for symbol, position in run(world.ledger.positions()).items():
        rules, price = world.venue.rules[symbol], world.venue.prices[symbol]
        live = [order for order in orders.values() if order.symbol == symbol and not order.state.is_final]
        if not position.is_held:
            if live:
                yield f"{symbol} is {position.state.value} and has {len(live)} live orders"
            continue
        if position.state is PositionState.CLOSING:
            yield f"{symbol} is closing in the end"
            continue
        if position.stop_price is None:
            yield f"{symbol} has no stop price"
            continue
        stops = [order for order in orders.values() if order.symbol == symbol and order.leg is Leg.STOP]
        stops = [order for order in stops if order.cause == position.trade_id]
        if not stops_on_exchange:
            if live:
                yield f"{symbol} is watched and has live orders"
            if price <= position.stop_price:
                yield f"{symbol} is at {price}, below its stop {position.stop_price}, and not sold"
            continue
        wanted = sellable(position, rules, position.stop_price)
        if rules.order_problem(stops[-1].type if stops else STOPS[0], wanted, position.stop_price) is not None:
            continue  # Too little for a stop: the price is watched.
        if [(order.amount - order.filled, order.stop_price) for order in live] != [(wanted, position.stop_price)]:
            told = [f"{order.remaining} at {order.stop_price}, {order.state.value}" for order in live]
            yield f"{symbol} needs a stop of {wanted} at {position.stop_price} and has {told}"
