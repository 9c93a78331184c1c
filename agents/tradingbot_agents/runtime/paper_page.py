"""Execution's page with the books of its paper exchange, and the question that a reality check asks for it.

Only execution in mode paper has it: the exchange is a part of its process, and nobody else can say what it has. The
page tells no secret and takes no order; what is asked is what its address says.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from tradingbot_agents.runtime.health import Page

if TYPE_CHECKING:
    from tradingbot_agents.exchange.paper import PaperExchange

PATH = "/paper-books"

MOST_ORDERS = 50
"""That one question may ask for: it must fit into a request's head."""

_SINCE = "since"
_ORDER = "order"
"""Symbol and client order id, with a space between."""


def question(since: datetime, orders: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The query of ``PATH``. Of ``orders`` no more than ``MOST_ORDERS``."""
    return [(_SINCE, since.isoformat()), *((_ORDER, f"{symbol} {name}") for symbol, name in orders[:MOST_ORDERS])]


def answer(exchange: PaperExchange | None, query: Mapping[str, Sequence[str]]) -> Page:
    """``exchange`` ``None``: it is not open yet."""
    from tradingbot_agents.exchange.paper_books import to_json
    from tradingbot_agents.exchange.state import ExchangeStateError

    if exchange is None:
        return Page(503, b"the paper exchange is not open yet\n")
    try:
        (told,) = query.get(_SINCE, ())
        since = datetime.fromisoformat(told).astimezone(UTC)
        orders = [_order(each) for each in query.get(_ORDER, ())[:MOST_ORDERS]]
    except (ValueError, OverflowError):
        return Page(400, f"ask {PATH}?{_SINCE}=TIME&{_ORDER}=SYMBOL+ID\n".encode())
    try:
        return Page(200, to_json(exchange.statement(since, orders)), "application/json")
    except ExchangeStateError as error:
        return Page(503, f"{error}\n".encode())


def _order(told: str) -> tuple[str, str]:
    """Raises ``ValueError``."""
    symbol, name = told.split(" ")
    return symbol, name
