"""Hands messages to the broker, and returns when it has them.

A connection of its own: a broker that is short of memory or disk stops reading from those that publish, and
acknowledgements must still get through then.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
from aio_pika import DeliveryMode
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed, PublishError
from aiormq import spec

from tradingbot_agents.bus.port import DependencyUnavailable, RequestTimedOut
from tradingbot_agents.bus.rabbitmq_link import (
    Link,
    LinkLost,
    apart,
    closed_channel,
    handed_over,
    opened_channel,
    why,
)
from tradingbot_agents.domain.messages import Message, decode, encode

RETRY_DELAY = 0.05
"""Seconds between attempts to hand over a message while the connection is up."""

LOOK_AGAIN = 1.0
"""Seconds between two looks at whether a broker that takes no messages is still the one connected to."""

REPLY_TO = "amq.rabbitmq.reply-to"
"""The broker's way back to the channel that asked, without a queue."""


class Returned(Exception):
    """No queue takes the message."""


class Publisher:
    def __init__(self, link: Link, limit: timedelta) -> None:
        """``limit`` is how long the broker may take to confirm, outages included."""
        self._link = link
        self._limit = limit.total_seconds()
        self._opening = asyncio.Lock()
        self._channel: AbstractChannel | None = None
        self._asking: AbstractChannel | None = None
        self._answers: dict[str, asyncio.Future[bytes]] = {}

    async def send(
        self, body: bytes, *, to: str, exchange: str = "", headers: dict[str, Any] | None = None, durable: bool = True
    ) -> None:
        """Into ``exchange`` with the routing key ``to``; without an exchange ``to`` names a queue. On return it is
        confirmed. A message whose confirmation was lost is sent again, so it may come twice. Raises ``Returned``, or
        ``DependencyUnavailable`` when the limit is over."""
        reason = "it is not connected"
        try:
            async with asyncio.timeout(self._limit):
                while True:
                    connection = await self._link.connection()
                    try:
                        if not await self._takes_messages(connection):
                            reason = "it is short of memory or of disk, and takes no messages"
                            continue
                        reason = "it gives no answer"
                        channel = await self._sending_channel(connection)
                        properties = spec.Basic.Properties(
                            headers=headers,
                            delivery_mode=DeliveryMode.PERSISTENT if durable else DeliveryMode.NOT_PERSISTENT,
                            content_type="application/json",
                        )
                        await self._publish(channel, body, properties, exchange, to)
                        return
                    except LinkLost as error:
                        reason = str(error)
                        await asyncio.sleep(RETRY_DELAY)
        except TimeoutError:
            raise DependencyUnavailable(
                f"RabbitMQ did not confirm a message within {self._limit:g} s: {reason}"
            ) from None

    async def _takes_messages(self, connection: AbstractConnection) -> bool:
        """Waits for it a while. What is sent to a broker that takes nothing stays on its way, a copy each time."""
        if connection.transport is None:
            raise LinkLost("the connection was lost")
        try:
            async with asyncio.timeout(LOOK_AGAIN):
                await connection.transport.connection.ready()
        except TimeoutError:
            return False
        return True

    async def _sending_channel(self, connection: AbstractConnection) -> AbstractChannel:
        async with self._opening:
            if self._channel is None or self._channel.is_closed:
                self._channel = await opened_channel(connection, confirms=True)
            return self._channel

    async def reply(self, body: bytes, *, to: str, correlation_id: str) -> None:
        """On a channel of its own, for a wrong address closes it. Raises ``Returned`` when who asked has gone, or
        ``LinkLost``: answers are not sent again."""
        channel = await opened_channel(await self._link.connection(), confirms=True)
        try:
            await self._publish(channel, body, spec.Basic.Properties(correlation_id=correlation_id), "", to)
        finally:
            await closed_channel(channel)

    async def ask(self, message: Message, queue: str, timeout: timedelta) -> Message:
        """Raises ``RequestTimedOut``."""
        limit = timeout.total_seconds()
        reason = "no answer to"
        number = uuid4().hex
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        try:
            async with asyncio.timeout(limit):
                while True:
                    try:
                        channel = await self._asking_channel()
                        # The broker wants it in milliseconds.
                        request = spec.Basic.Properties(
                            correlation_id=number, reply_to=REPLY_TO, expiration=str(round(limit * 1000))
                        )
                        await self._publish(channel, encode(message), request, "", queue)
                        reason = "no answer to"
                        break
                    except LinkLost:
                        await asyncio.sleep(RETRY_DELAY)
                    except Returned:
                        # Who answers may be about to start.
                        reason = "nobody answers"
                        await asyncio.sleep(RETRY_DELAY)
                body = await answer
        except TimeoutError:
            raise RequestTimedOut(f"{reason} {message.topic} within {limit:g} s (request {message.id})") from None
        finally:
            del self._answers[number]
        try:
            return decode(body)
        except msgspec.MsgspecError as error:
            raise RequestTimedOut(f"the answer to {message.topic} can not be read: {error}") from error

    async def _asking_channel(self) -> AbstractChannel:
        connection = await self._link.connection()
        async with self._opening:
            if self._asking is None or self._asking.is_closed:
                channel = await opened_channel(connection, confirms=True)
                queue = await apart(channel.get_queue(REPLY_TO, ensure=False))
                await apart(queue.consume(self._take_answer, no_ack=True))
                self._asking = channel
            return self._asking

    async def _take_answer(self, message: AbstractIncomingMessage) -> None:
        answer = self._answers.get(message.correlation_id or "")
        if answer is not None and not answer.done():
            answer.set_result(message.body)

    async def _publish(
        self, channel: AbstractChannel, body: bytes, properties: spec.Basic.Properties, exchange: str, to: str
    ) -> None:
        try:
            underlay = await channel.get_underlay_channel()
            # The caller's limit cuts it short: a broker that is short of memory is silent.
            await handed_over(
                underlay.basic_publish(body, exchange=exchange, routing_key=to, properties=properties, mandatory=True)
            )
        except PublishError:
            raise Returned(to) from None
        except (ChannelNotFoundEntity, ChannelPreconditionFailed) as error:
            # Somebody has deleted the exchange: it is made again with the next connection.
            raise LinkLost(why(error)) from error
