"""What a test in another process does with the exchange: the same as ``BinanceServer``'s methods, by HTTP.

=================================  =====================================================================
``POST /control/move``             ``{"symbol": "BTC/USDT", "price": "121556.65", "liquidity": "0.5"}``
``POST /control/candles``          a list of candles, with ``open_time`` in ISO 8601 and numbers as strings
``POST /control/faults``           ``{"request": "POST order", "kind": "cut_after"}``, and what else a fault has
``POST /control/hand``             ``{"symbol": "BTC/USDT", "quantity": "0.001", "price": "30000", "name": "tb1"}``:
                                   a limit order to buy, as a person places it
``POST /control/forget``           ``{"name": "tb1"}``: it is cancelled, and was never there
``GET /control/books``             orders, trades, total balances, and how many orders were refused
=================================  =====================================================================

``liquidity`` and all further fields of a fault may be left out.
"""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from support.binance.faults import Fault
from tradingbot_agents.domain.candle import Candle

if TYPE_CHECKING:
    from support.binance.server import BinanceServer


class Move(msgspec.Struct):
    symbol: str
    price: str
    liquidity: str | None = None


class ByHand(msgspec.Struct):
    symbol: str
    quantity: Decimal
    price: Decimal
    name: str


class Named(msgspec.Struct):
    name: str


class PlannedFault(msgspec.Struct):
    request: str
    kind: str
    status: int = 503
    body: str = Fault.body
    retry_after: str | None = None


def add_control(application: web.Application, server: BinanceServer) -> None:
    async def move(request: web.Request) -> web.Response:
        wanted = await _body(request, Move)
        server.move(wanted.symbol, wanted.price, wanted.liquidity)
        await server.push_ticker(wanted.symbol)
        return web.json_response({})

    async def candles(request: web.Request) -> web.Response:
        for candle in await _body(request, list[Candle]):
            await server.push_candle(candle)
        return web.json_response({})

    async def faults(request: web.Request) -> web.Response:
        wanted = await _body(request, PlannedFault)
        fault = msgspec.convert(
            {
                "kind": wanted.kind,
                "status": wanted.status,
                "body": wanted.body,
                "retry_after": wanted.retry_after,
            },
            Fault,
        )
        server.faults.plan(wanted.request, fault)
        return web.json_response({})

    async def hand(request: web.Request) -> web.Response:
        wanted = await _body(request, ByHand)
        server.books.place(
            symbol=wanted.symbol.replace("/", ""),
            side="BUY",
            type="LIMIT",
            time_in_force="GTC",
            quantity=wanted.quantity,
            price=wanted.price,
            stop_price=None,
            client_order_id=wanted.name,
            now=server.now(),
        )
        return web.json_response({})

    async def forget(request: web.Request) -> web.Response:
        wanted = await _body(request, Named)
        for order in server.books.orders_of(wanted.name):
            if order.open:
                server.books.cancel(order.symbol, order.id, None, server.now())
            server.books.orders.remove(order)
        return web.json_response({})

    async def books(request: web.Request) -> web.Response:
        told = {
            "orders": server.books.orders,
            "trades": server.books.trades,
            "balances": server.books.totals(),
            "refused": sum(seen.request == "POST order" and seen.status >= 400 for seen in server.seen),
        }
        return web.Response(body=msgspec.json.encode(told), content_type="application/json")

    application.router.add_post("/control/move", move)
    application.router.add_post("/control/candles", candles)
    application.router.add_post("/control/faults", faults)
    application.router.add_post("/control/hand", hand)
    application.router.add_post("/control/forget", forget)
    application.router.add_get("/control/books", books)


async def _body(request: web.Request, kind: Any) -> Any:
    try:
        return msgspec.json.decode(await request.read(), type=kind)
    except msgspec.ValidationError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
