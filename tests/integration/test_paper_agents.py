"""Paper in five processes: a real exchange's market or a tape, orders in books of execution's own, and no key."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from support.influxdb import InfluxServer
from support.market import PRICES
from support.process import LIMIT
from support.rabbit_bus import until
from support.rabbitmq import INSTALLED, RabbitServer
from support.replay import flat, lines, write_lines
from support.specs import REMOVED
from support.stack import MONEY, NAME, AgentProcess, Stack, running_stack
from tradingbot_agents.bus.topology import AGENTS, DATA_COLLECTION, EXECUTION, RISK
from tradingbot_agents.clock.system import SystemClock
from tradingbot_agents.domain.orders import OrderState
from tradingbot_agents.domain.values import Leg
from tradingbot_agents.exchange.state import StateStore
from tradingbot_agents.ledger.port import Role
from tradingbot_agents.ledger.postgres import PostgresLedger
from tradingbot_agents.reality.evidence import AccountEvidence, MarketEvidence
from tradingbot_agents.runtime.connections import Connections
from tradingbot_agents.runtime.gathering_exchange import account_evidence, account_of_bot, market_evidence

pytestmark = [
    pytest.mark.minutes,
    pytest.mark.process,
    pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True),
]

PAPER: dict[str, Any] = {
    "mode": "paper",
    "liveConfirmation": REMOVED,
    "exchange.credentialsSecretRef": REMOVED,
    "exchange.simulated": {"participation": "1"},
    "account.paperBalances": {"USDT": str(MONEY)},
}
BOOKS = Path(".tradingbot") / NAME / "paper"


@asynccontextmanager
async def paper_stack(
    rabbitmq: RabbitServer, influx: InfluxServer, changes: Mapping[str, Any]
) -> AsyncIterator[Stack]:
    """No agent is given a key."""
    async with running_stack(rabbitmq, influx, changes) as stack:
        environment = {name: value for name, value in stack.environment.items() if "EXCHANGE" not in name}
        stack.agents = {name: AgentProcess(name, stack.spec, environment) for name in AGENTS}
        yield stack


async def settled(stack: Stack, limit: float = LIMIT) -> None:
    """Until nothing is under way, and each position has a stop that rests."""
    deadline = time.monotonic() + limit
    async with stack.ledger() as ledger:
        while not await _is_quiet(ledger):
            if time.monotonic() > deadline:
                waiting = [*await ledger.orders_to_send(), *await ledger.live_orders()]
                raise AssertionError(f"not settled: {waiting}, {await ledger.positions()}")
            await asyncio.sleep(0.1)


async def _is_quiet(ledger: PostgresLedger) -> bool:
    live = await ledger.live_orders()
    held = {symbol for symbol, position in (await ledger.positions()).items() if position.is_held}
    return (
        not await ledger.orders_to_send()
        and all(order.leg is Leg.STOP and order.state is OrderState.OPEN for order in live)
        and held == {order.symbol for order in live}
        and not any([await ledger.unpublished(role) for role in Role])
    )


async def compare(stack: Stack) -> None:
    """The paper exchange's books and the ledger's say the same; execution must have ended."""
    store = StateStore(stack.folder / BOOKS)
    store.open()
    try:
        totals = {asset: total for asset, total in store.totals().items() if total}
        trades = {str(trade.id): trade for trade in store.all_trades()}
        resting = {order.client_order_id for order in store.open_orders()}
        async with stack.ledger() as ledger:
            balances = await ledger.balances()
            assert {asset: balance.total for asset, balance in balances.items() if balance.total} == totals
            fills = {fill.exchange_trade_id: fill for fill in await ledger.fills()}
            assert set(fills) == set(trades), "each trade is booked, and booked once"
            for name, trade in trades.items():
                assert (fills[name].amount, fills[name].price) == (trade.amount, trade.price)
            assert {order.client_order_id for order in await ledger.live_orders()} == resting
            orders = await ledger.orders()
            for order in orders:
                there = store.newest_order(order.symbol, order.client_order_id)
                assert order.filled == (Decimal(0) if there is None else there.filled)
            assert [each for each in await ledger.invariants() if each.violations] == []
            assert [entry for entry in await ledger.entries() if entry.kind in ("outside", "reversal")] == []
    finally:
        store.close()


async def looked_at(stack: Stack) -> None:
    """What a reality check is told while execution runs is what the ledger says."""
    port = (await stack.agents[EXECUTION].tells("listening"))["port"]

    async def execution() -> tuple[str, int]:
        return "127.0.0.1", port

    async with stack.ledger() as ledger:

        async def opened() -> PostgresLedger:
            return ledger

        began = datetime.now(UTC) - timedelta(hours=1)
        account = await account_evidence(
            account_of_bot(stack.bot, Connections({}), execution),
            opened,
            since=began,
            clock=SystemClock(),
            within=timedelta(seconds=20),
        )
        assert isinstance(account, AccountEvidence), account.why
        booked = {asset: each.total for asset, each in (await ledger.balances()).items() if each.total}
        assert {asset: each.total for asset, each in account.balances.items() if each.total} == booked
        assert {each.client_order_id for each in account.open_orders} == {
            order.client_order_id for order in await ledger.live_orders()
        }
        assert {each.exchange_trade_id for each in account.trades} == {
            fill.exchange_trade_id for fill in await ledger.fills()
        }
    bot, clock = stack.bot, SystemClock()
    market = await market_evidence(bot, stack.spec, since=began, clock=clock, within=timedelta(seconds=20))
    assert isinstance(market, MarketEvidence), market.why
    assert set(market.candles) == set(PRICES)
    assert (await stack.agents[DATA_COLLECTION].page("/paper-books"))[0] == 404


async def bought(stack: Stack) -> set[str]:
    async with stack.ledger() as ledger:
        return {symbol for symbol, position in (await ledger.positions()).items() if position.is_held}


async def test_paper_trades_on_a_real_exchanges_market_and_sends_it_nothing(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with paper_stack(own_rabbitmq, own_influx, PAPER) as stack:
        stack.start()
        await stack.ready()
        await stack.agents[EXECUTION].tells("fill_booked", count=3)
        await settled(stack)
        await looked_at(stack)
        # Between two bars, by the price that execution watches.
        stack.market.move("SOL/USDT", stack.market.prices["SOL/USDT"] * Decimal("0.94"))
        closed = await stack.agents[EXECUTION].tells("trade_closed")
        assert (closed["symbol"], closed["leg"]) == ("SOL/USDT", "stop")
        # While nobody looks, as on a real exchange.
        await stack.agents[EXECUTION].kill()
        stack.market.move("ETH/USDT", stack.market.prices["ETH/USDT"] * Decimal("0.94"))
        stack.start()
        closed = await stack.agents[EXECUTION].tells("trade_closed")
        assert (closed["symbol"], closed["leg"]) == ("ETH/USDT", "stop")
        assert Decimal(closed["profit"]) < 0
        await stack.ready()
        await settled(stack)
        ended = await stack.stop()
        assert {name: (life.code, life.err) for name, life in ended.items()} == dict.fromkeys(stack.agents, (0, ""))
        await compare(stack)
        assert stack.exchange.count("GET klines") > 0, "its market was asked for"
        assert not any("account" in seen.request or "order" in seen.request.lower() for seen in stack.exchange.seen)
        assert not stack.exchange.books.orders
        assert not stack.told("outside_movement_booked")


async def test_kills_of_execution_lose_nothing_and_double_nothing(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    dice = random.Random(7)
    async with paper_stack(own_rabbitmq, own_influx, PAPER) as stack:
        execution = stack.agents[EXECUTION]
        stack.start()
        await execution.tells("agent_started")
        for _ in range(8):
            # From its first moments, over entries, to stops.
            await asyncio.sleep(dice.uniform(0.0, 1.5))
            await execution.kill()
            execution.start()
        await until(lambda: len(stack.told("trade_approved")) == 3)
        await stack.ready()
        await settled(stack)
        assert await bought(stack) == set(PRICES)
        changes = {"exchange.endpoint": stack.exchange.url, "timeSeries.organization": own_influx.organization}
        stack.write_spec({**PAPER, **changes, "state": "Flatten"})
        for _ in range(5):
            await asyncio.sleep(dice.uniform(0.3, 1.5))
            await execution.kill()
            execution.start()
        deadline = time.monotonic() + LIMIT
        while await bought(stack):
            assert time.monotonic() < deadline, execution.process.output
            await asyncio.sleep(0.1)
        await settled(stack)
        await stack.stop()
        await compare(stack)
        assert len(stack.told("trade_approved")) == 3


async def test_two_bots_of_one_paper_account_share_its_money_and_no_trade(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    """Each has books of its own; what there is to spend, the ledger alone knows."""
    async with paper_stack(own_rabbitmq, own_influx, {**PAPER, "risk.stopLoss": "0.01"}) as stack:
        other = stack.folder / "other.yaml"
        other.write_text(stack.spec.read_text().replace(f"name: {NAME}", "name: other"))
        environment = {name: value for name, value in stack.environment.items() if "EXCHANGE" not in name}
        others = {name: AgentProcess(name, other, environment) for name in AGENTS}
        try:
            stack.start()
            for agent in others.values():
                agent.start()
            decided = [stack.agents[RISK], others[RISK]]
            # Whoever comes second for the last of the money; the other may be at its next candle by then.
            await until(
                lambda: (
                    sum(e["event"] == "trade_approved" for a in decided for e in a.told) >= 3
                    and any(e.get("reason") == "insufficient_available_balance" for a in decided for e in a.told)
                )
            )
            approved = [e for agent in decided for e in agent.told if e["event"] == "trade_approved"]
            assert len(approved) == 3, "three times 30 % of 1000, and not six times"
            await until(
                lambda: (
                    sum(e["event"] == "fill_booked" for a in (stack.agents, others) for e in a[EXECUTION].told) == 3
                )
            )
            await asyncio.gather(stack.stop(), *(agent.stop() for agent in others.values()))
        finally:
            for agent in others.values():
                agent.clean()
        totals = {"USDT": -MONEY}
        trades: list[str] = []
        for bot in (NAME, "other"):
            store = StateStore(stack.folder / ".tradingbot" / bot / "paper")
            store.open()
            trades += [str(trade.id) for trade in store.all_trades()]
            for asset, total in store.totals().items():
                totals[asset] = totals.get(asset, Decimal(0)) + total
            store.close()
        assert len(set(trades)) == len(trades) == 3
        async with stack.ledger() as ledger:
            balances = await ledger.balances()
            assert {asset: balance.total for asset, balance in balances.items()} == totals
            assert [each for each in await ledger.invariants() if each.violations] == []


async def test_a_second_process_of_execution_waits_until_the_first_has_ended(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    """They would share the books of the paper exchange, which no epoch fences off."""
    async with paper_stack(own_rabbitmq, own_influx, PAPER) as stack:
        first = stack.agents[EXECUTION]
        first.start()
        await first.is_ready()
        second = AgentProcess(EXECUTION, stack.spec, stack.environment)
        try:
            second.start()
            await second.lacks("another process has this simulated exchange open; wait for it to end")
            assert (await first.stop()).code == 0
            await second.is_ready()
            assert (await second.stop()).code == 0
        finally:
            second.clean()


async def test_books_that_are_lost_are_told_and_their_stops_are_placed_again(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    """As when somebody has removed the volume, and kept the database."""
    async with paper_stack(own_rabbitmq, own_influx, PAPER) as stack:
        stack.start()
        await stack.agents[EXECUTION].tells("fill_booked", count=3)
        await settled(stack)
        await stack.agents[EXECUTION].kill()
        (stack.folder / BOOKS).rename(stack.folder / "lost")
        async with stack.ledger() as ledger:
            before = {order.client_order_id for order in await ledger.live_orders()}
        stack.start()
        note = await stack.agents[EXECUTION].tells("account_note")
        assert "count as cancelled" in note["note"]
        assert all(order in note["note"] for order in before)
        await stack.ready()
        await settled(stack)
        async with stack.ledger() as ledger:
            after = {order.client_order_id for order in await ledger.live_orders()}
        assert len(after) == 3
        assert not after & before
        # And they are worth something.
        stack.market.move("BTC/USDT", stack.market.prices["BTC/USDT"] * Decimal("0.94"))
        assert (await stack.agents[EXECUTION].tells("trade_closed"))["symbol"] == "BTC/USDT"
        await settled(stack)
        await stack.stop()
        async with stack.ledger() as ledger:
            assert [each for each in await ledger.invariants() if each.violations] == []


async def test_a_tape_is_traded_in_real_time_by_five_processes(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    changes = {
        **PAPER,
        "exchange.name": "simulated",
        "exchange.replay": {"source": "candles", "speed": "1"},
    }
    async with running_stack(own_rabbitmq, own_influx) as stack:
        folder = stack.folder / "candles"
        folder.mkdir()
        # So old that nobody would trade on it, if it were not moved.
        began = datetime(2024, 3, 1, tzinfo=UTC)
        for symbol, price in PRICES.items():
            bars = [flat(Decimal(price) * (1000 + place % 3) / 1000) for place in range(600)]
            name = f"{symbol.replace('/', '_')}-1m.csv"
            write_lines(folder / name, lines(bars, began, timedelta(minutes=1)))
        stack.write_spec({**changes, "timeSeries.organization": own_influx.organization})
        environment = {name: value for name, value in stack.environment.items() if "EXCHANGE" not in name}
        stack.agents = {name: AgentProcess(name, stack.spec, environment) for name in AGENTS}
        requests = len(stack.exchange.seen)
        stack.start()
        await stack.ready()
        moved = await stack.agents[EXECUTION].tells("replay_moved_to_now")
        assert moved["repeats_after_seconds"] == 600 * 60
        await stack.agents[EXECUTION].tells("fill_booked", count=3)
        await settled(stack)
        await stack.agents[EXECUTION].kill()
        stack.start()
        await stack.ready()
        await settled(stack)
        assert await bought(stack) == set(PRICES)
        status, text = await stack.agents[RISK].page("/metrics")
        assert status == 200
        assert 'tradingbot_trades_approved_total{agent="risk",bot="stack"} 3.0' in text
        await stack.stop()
        await compare(stack)
        assert len(stack.exchange.seen) == requests, "no exchange was asked"
