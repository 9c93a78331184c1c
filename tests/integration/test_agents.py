"""Five processes, as in production: RabbitMQ, InfluxDB, PostgreSQL, and ccxt against an exchange on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
from decimal import Decimal

import pytest

from support.influxdb import InfluxServer
from support.market import PRICES
from support.process import Process
from support.rabbit_bus import until
from support.rabbitmq import NEXT_AND_THEN_ALL, RabbitServer
from support.stack import Stack, running_stack

pytestmark = pytest.mark.parametrize("rabbitmq_server", NEXT_AND_THEN_ALL, indirect=True)

STOPPED_WITHIN = 20.0


async def test_five_processes_trade_whatever_the_order_in_which_they_and_their_servers_start(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with running_stack(own_rabbitmq, own_influx) as stack:
        own_rabbitmq.kill()
        stack.start(["risk", "strategy", "execution"])
        await stack.agents["risk"].tells("dependency_away")
        assert (await stack.agents["risk"].page("/live"))[0] == 200
        await stack.agents["risk"].lacks("messaging: RabbitMQ is not connected")
        await asyncio.to_thread(own_rabbitmq.start)
        stack.start()
        await stack.ready()

        await _three_entries_are_protected(stack)
        await _a_stop_closes_its_position(stack)
        await _state_is_obeyed_and_other_changes_wait(stack)
        await _people_can_look(stack)
        await _metrics_tell(stack)

        await stack.settled()
        ended = await asyncio.wait_for(stack.stop(), STOPPED_WITHIN)
        assert {name: (life.code, life.err) for name, life in ended.items()} == dict.fromkeys(stack.agents, (0, ""))
        await stack.compare()
        _nothing_secret_was_told(stack)


async def _three_entries_are_protected(stack: Stack) -> None:
    """From the newest candle over four hops to the exchange, and a stop for each that rests there."""
    await stack.agents["execution"].tells("fill_booked", count=3)
    books = stack.exchange.books
    await until(lambda: sum(order.type == "STOP_LOSS" and order.open for order in books.orders) == 3)
    approved = stack.told("trade_approved")
    assert {event["symbol"] for event in approved} == set(PRICES)
    assert {event["bot"] for event in approved} == {"stack"}
    fills = stack.told("fill_booked")
    assert {event["correlation_id"] for event in fills} == {event["correlation_id"] for event in approved}


async def _a_stop_closes_its_position(stack: Stack) -> None:
    stack.market.move("SOL/USDT", stack.market.prices["SOL/USDT"] * Decimal("0.94"))
    closed = await stack.agents["execution"].tells("trade_closed")
    assert (closed["symbol"], closed["leg"]) == ("SOL/USDT", "stop")
    assert Decimal(closed["profit"]) < 0


async def _state_is_obeyed_and_other_changes_wait(stack: Stack) -> None:
    changes = {"exchange.endpoint": stack.exchange.url, "timeSeries.organization": stack.influx.organization}
    # A server that is frozen, and not away, takes everybody's whole timeout.
    stack.influx.send(signal.SIGSTOP)
    stack.write_spec({**changes, "state": "Paused"})
    for name in ("risk", "execution"):
        told = await stack.agents[name].tells("state_changed", limit=5)
        assert told["state"] == "Paused"
    stack.influx.send(signal.SIGCONT)
    stack.write_spec({**changes, "state": "Paused", "risk.stopLoss": "0.06"})
    await stack.agents["risk"].tells("spec_change_pending", limit=5)


async def _people_can_look(stack: Stack) -> None:
    async def answer(*arguments: str) -> object:
        process = Process(
            [*arguments, "--spec", str(stack.spec), "--output", "json"], stack.folder, stack.environment
        )
        finished = await asyncio.to_thread(process.finish)
        assert finished.code == 0, finished
        return json.loads(finished.out)

    status = await answer("status")
    assert isinstance(status, dict)
    assert (status["bot"], status["account"], status["open_positions"]) == ("stack", "live/binance/main", 2)
    orders = await answer("orders", "--limit", "3")
    assert isinstance(orders, list)
    assert len(orders) == 3


async def _metrics_tell(stack: Stack) -> None:
    status, text = await stack.agents["risk"].page("/metrics")
    assert status == 200
    assert 'tradingbot_trades_approved_total{agent="risk",bot="stack"} 3.0' in text
    assert 'tradingbot_dependency_up{agent="risk",bot="stack",dependency="database"} 1.0' in text


def _nothing_secret_was_told(stack: Stack) -> None:
    lives = [life for agent in stack.agents.values() for life in agent.lives]
    for secret in (stack.exchange.key.key, stack.exchange.key.secret, stack.influx.token, "signature="):
        assert not any(secret in life.out + life.err for life in lives), secret
