"""Binance's market streams: subscriptions over websockets that can fall silent, be cut, or be refused."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import Any

from aiohttp import WSMsgType, web

from support.binance.symbols import eight
from tradingbot_agents.domain.candle import Candle
from tradingbot_agents.domain.values import to_millis


class Streams:
    """All connections. Nothing is sent by itself: a test pushes."""

    def __init__(self) -> None:
        self.silent: set[str] = set()
        """Streams (such as ``btcusdt@miniTicker``) that are connected and send nothing; ``*``: all of them."""
        self.refused = False
        """New connections are answered with 503."""
        self.subscribed: Counter[str] = Counter()
        """How often each stream was subscribed to, ever."""
        self._sockets: dict[web.WebSocketResponse, set[str]] = {}
        self._changed = asyncio.Event()

    def listeners(self, stream: str) -> int:
        return sum(stream in streams for streams in self._sockets.values())

    async def until(self, stream: str, times: int = 1) -> None:
        """Wait until the stream has been subscribed to so often. Raises ``TimeoutError`` after some seconds."""
        async with asyncio.timeout(10):
            while self.subscribed[stream] < times:
                self._changed.clear()
                await self._changed.wait()

    async def push(self, stream: str, message: dict[str, Any]) -> int:
        """To how many it was sent."""
        if stream in self.silent or "*" in self.silent:
            return 0
        listening = [socket for socket, streams in self._sockets.items() if stream in streams]
        for socket in listening:
            await socket.send_str(json.dumps(message))
        return len(listening)

    async def cut(self) -> None:
        """End every connection."""
        for socket in list(self._sockets):
            await socket.close(code=1001)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if self.refused:
            return web.Response(status=503)
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._sockets[socket] = set()
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT:
                    await self._hear(socket, json.loads(message.data))
        finally:
            del self._sockets[socket]
        return socket

    async def _hear(self, socket: web.WebSocketResponse, message: dict[str, Any]) -> None:
        streams = message.get("params") or []
        if message.get("method") == "SUBSCRIBE":
            self._sockets[socket].update(streams)
            self.subscribed.update(streams)
            self._changed.set()
        elif message.get("method") == "UNSUBSCRIBE":
            self._sockets[socket].difference_update(streams)
        await socket.send_str(json.dumps({"result": None, "id": message.get("id")}))


def ticker_message(market: str, last: Decimal, now: int) -> dict[str, Any]:
    price = eight(last)
    return {
        "e": "24hrMiniTicker",
        "E": now,
        "s": market,
        "c": price,
        "o": price,
        "h": price,
        "l": price,
        "v": "1000.00000000",
        "q": eight(last * 1000),
    }


def candle_message(candle: Candle, market: str, now: int) -> dict[str, Any]:
    opened = to_millis(candle.open_time)
    closed = to_millis(candle.close_time) - 1
    return {
        "e": "kline",
        "E": now,
        "s": market,
        "k": {
            "t": opened,
            "T": closed,
            "s": market,
            "i": candle.timeframe,
            "f": 1,
            "L": 2,
            "o": eight(candle.open),
            "c": eight(candle.close),
            "h": eight(candle.high),
            "l": eight(candle.low),
            "v": eight(candle.volume),
            "n": 100,
            "x": now > closed + timedelta(seconds=1) // timedelta(milliseconds=1),
            "q": eight(candle.volume * candle.close),
            "V": eight(candle.volume / 2),
            "Q": eight(candle.volume * candle.close / 2),
            "B": "0",
        },
    }
