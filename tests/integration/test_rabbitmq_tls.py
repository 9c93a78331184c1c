"""RabbitMQ by TLS: an ``amqps`` address names the authority, and a server that is not vouched for gets nothing."""

from __future__ import annotations

import shutil
from datetime import timedelta

import pytest

from support.bus_contract import Reader
from support.messages import an_intent
from support.rabbit_bus import Rig, new_bot, until
from support.rabbitmq import INSTALLED, running_rabbitmq
from tradingbot_agents.bus import DependencyUnavailable
from tradingbot_agents.domain.events import DependencyAway


async def test_messages_go_by_tls_and_only_to_a_server_that_is_vouched_for() -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with: install it")
    reader = Reader()
    with running_rabbitmq(INSTALLED, tls=True) as server:
        url = f"amqps://guest:guest@127.0.0.1:{server.tls_port}/"
        async with Rig(f"{url}?cafile={server.certificate}", new_bot()) as rig:
            await rig.bus.consume("risk.intents", reader)
            await rig.bus.publish(an_intent(1))
            await until(lambda: bool(reader.got))
            assert await rig.box.list() == ()
        async with Rig(url, new_bot(), publish_limit=timedelta(milliseconds=500)) as rig:
            with pytest.raises(DependencyUnavailable):
                await rig.bus.publish(an_intent(1))
            away = [event for event in rig.sink.events if isinstance(event, DependencyAway)]
            assert away
            assert "certificate" in away[0].why.lower()
            assert "guest:guest" not in str(away)
