"""One agent as a process: what it refuses, what it waits for, and how it ends."""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest
import yaml

from support.binance import ApiKey
from support.influxdb import InfluxServer
from support.process import Finished, Process
from support.rabbit_bus import until
from support.rabbitmq import INSTALLED, RabbitServer
from support.specs import LIVE, PAPER, changed
from support.stack import AgentProcess, running_stack

NOWHERE = {
    "TRADINGBOT_MESSAGING_URL": "amqp://guest:guest@127.0.0.1:1/",
    "TRADINGBOT_DATABASE_URL": "postgresql://nobody:hush-hush@127.0.0.1:1/nothing",
    "TRADINGBOT_TIME_SERIES_URL": "http://127.0.0.1:1",
    "TRADINGBOT_TIME_SERIES_TOKEN": "hush-hush",
}

pytestmark = pytest.mark.process


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "bot.yaml"
    path.write_text(yaml.safe_dump(LIVE))
    return path


def run(spec: Path, *arguments: str, environment: dict[str, str]) -> Finished:
    return Process(["agent", *arguments, "--output", "json"], spec.parent, environment).finish()


def test_a_replay_that_hurries_is_refused_with_what_to_do_instead(tmp_path: Path) -> None:
    spec = tmp_path / "paper.yaml"
    spec.write_text(yaml.safe_dump(changed(PAPER, {"exchange.replay.speed": "10"})))
    ended = run(spec, "risk", str(spec), environment=NOWHERE)
    assert ended.code == 2
    assert "exchange.replay.speed: 10 times real time is for one process" in ended.err
    assert "write speed: \"1\", or use 'tradingbot run'" in ended.err


def test_an_environment_that_lacks_things_is_refused_with_all_of_them(spec: Path) -> None:
    environment = dict.fromkeys(NOWHERE, "") | {"TRADINGBOT_MESSAGING_URL": "http://wrong"}
    ended = run(spec, "execution", str(spec), environment=environment)
    assert ended.code == 2
    for wanted in (
        "TRADINGBOT_DATABASE_URL is not set",
        "TRADINGBOT_MESSAGING_URL must be an address that begins with amqp:// or amqps://",
        "TRADINGBOT_EXCHANGE_API_KEY is not set: set it, or TRADINGBOT_EXCHANGE_API_KEY_FILE",
    ):
        assert wanted in ended.err


def test_an_address_in_use_is_refused(spec: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        ended = run(spec, "risk", str(spec), "--listen", address, environment=NOWHERE)
    assert ended.code == 2
    assert f"--listen: {address} can not be used (Address already in use): name another address" in ended.err


async def test_one_whose_parts_are_all_away_lives_says_what_it_lacks_and_stops_at_once(spec: Path) -> None:
    agent = AgentProcess("strategy", spec, NOWHERE)
    try:
        agent.start()
        await agent.lacks("messaging: RabbitMQ is not connected")
        assert (await agent.page("/live"))[0] == 200
        assert (
            'dependency_up{agent="strategy",bot="live",dependency="messaging"} 0.0'
            in (await agent.page("/metrics"))[1]
        )
        ended = await asyncio.wait_for(agent.stop(), 10)
    finally:
        agent.clean()
    assert (ended.code, ended.err) == (0, "")
    assert "hush" not in ended.out


@pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True)
async def test_a_key_that_may_withdraw_is_waited_out_and_its_successor_taken_up(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with running_stack(own_rabbitmq, own_influx) as stack:
        stack.exchange.key.withdraw = True
        execution = stack.agents["execution"]
        execution.start()
        await execution.lacks("account: the key may withdraw")
        assert stack.exchange.count("POST order") == 0
        other = ApiKey(key="another-key", secret="another-secret")
        stack.exchange.keys[other.key] = other
        (stack.folder / "secret").write_text(other.secret)
        (stack.folder / "api-key").write_text(other.key)
        await execution.is_ready()
        # And once more while it works; the old key is worth nothing from now on.
        third = ApiKey(key="a-third-key", secret="a-third-secret")
        stack.exchange.keys[third.key] = third
        (stack.folder / "secret").write_text(third.secret)
        (stack.folder / "api-key").write_text(third.key)
        await execution.tells("exchange_keys_renewed", count=2)
        del stack.exchange.keys[other.key]
        reads = stack.exchange.count("GET account")
        await until(lambda: stack.exchange.count("GET account") > reads)
        assert stack.exchange.seen[-1].status == 200
        ended = await execution.stop()
    assert ended.code == 0
    for secret in (stack.exchange.key.secret, other.secret, third.secret, other.key, third.key):
        assert secret not in ended.out + ended.err


@pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True)
async def test_a_second_process_of_execution_fences_the_first_off(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with running_stack(own_rabbitmq, own_influx) as stack:
        first = stack.agents["execution"]
        first.start()
        await first.is_ready()
        second = AgentProcess("execution", stack.spec, stack.environment)
        try:
            second.start()
            await second.is_ready()
            ended = await asyncio.to_thread(first.process.finish)
            assert ended.code == 5
            assert [event["role"] for event in ended.named("fenced_off")] == ["execution"]
            assert second.process.runs_for(0.5)
            assert (await second.stop()).code == 0
        finally:
            second.clean()


@pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True)
async def test_the_books_of_one_account_take_no_key_of_another(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    async with running_stack(own_rabbitmq, own_influx) as stack:
        execution = stack.agents["execution"]
        execution.start()
        await execution.is_ready()
        await execution.stop()
        stack.exchange.account_id += 1
        execution.start()
        await execution.lacks("another account.name")
        assert (await execution.stop()).code == 0


@pytest.mark.parametrize("rabbitmq_server", [INSTALLED], indirect=True)
async def test_a_streamed_feed_that_breaks_goes_on_by_rest_and_comes_back(
    own_rabbitmq: RabbitServer, own_influx: InfluxServer
) -> None:
    """As data collection's process has it: told, and nothing missed."""
    changes = {"exchange.feed": "websocket", "symbols": ["BTC/USDT"], "runtime.restartDelay": "200ms"}
    async with running_stack(own_rabbitmq, own_influx, changes) as stack:
        collection = stack.agents["data-collection"]
        collection.start()
        await collection.is_ready()
        streams = stack.exchange.streams
        await streams.until("btcusdt@miniTicker")
        await stack.exchange.push_ticker("BTC/USDT")
        await collection.tells("stream_recovered")
        await streams.cut()
        lost = await collection.tells("stream_lost")
        assert (lost["symbol"], lost["level"]) == ("BTC/USDT", "warning")
        assert (await collection.page("/ready"))[0] == 200
        await streams.until("btcusdt@miniTicker", times=2)
        await stack.exchange.push_ticker("BTC/USDT")
        back = await collection.tells("stream_recovered", count=2)
        assert back["silent_seconds"] >= 0
        assert stack.exchange.count("GET klines") > 0, "history comes by REST"
        assert (await collection.stop()).code == 0
