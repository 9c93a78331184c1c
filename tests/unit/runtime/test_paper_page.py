"""The page with the paper exchange's books: what it is asked, and what it says to nonsense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import parse_qs, urlencode

from support.evidence import stop
from support.replay import SETTINGS
from tradingbot_agents.clock import VirtualClock
from tradingbot_agents.exchange.paper import PaperExchange
from tradingbot_agents.exchange.paper_books import of_json
from tradingbot_agents.exchange.port import ExchangeOrderState, MarketFeed
from tradingbot_agents.runtime.health import REQUEST_LIMIT
from tradingbot_agents.runtime.paper_page import MOST_ORDERS, answer, question

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SINCE = NOW - timedelta(hours=1)


def exchange(folder: Path) -> PaperExchange:
    """Its market is never asked."""
    feed: MarketFeed = object()  # type: ignore[assignment]
    return PaperExchange.open(
        folder, account="paper/x/main, bot a", feed=feed, timeframe="1m", clock=VirtualClock(NOW), settings=SETTINGS
    )


def asked(since: datetime, *orders: tuple[str, str]) -> dict[str, list[str]]:
    """As it arrives."""
    return parse_qs(urlencode(question(since, orders)))


def test_it_tells_the_books_and_what_became_of_an_order(tmp_path: Path) -> None:
    venue = exchange(tmp_path)
    try:
        venue.give_up(stop("tb-lost"))
        page = answer(venue, asked(SINCE, ("BTC/USDT", "tb-lost"), ("BTC/USDT", "tb:never/.-")))
    finally:
        venue.close()
    assert (page.status, page.content_type) == (200, "application/json")
    books = of_json(page.body)
    assert (books.account, books.read_at, books.trades_since) == ("paper/x/main, bot a", NOW, SINCE)
    assert books.balances["USDT"].free == 10000
    there = books.looked_up["tb-lost"]
    assert there is not None
    assert there.state is ExchangeOrderState.CANCELLED
    assert books.looked_up["tb:never/.-"] is None


def test_a_time_of_another_zone_is_the_same_time(tmp_path: Path) -> None:
    venue = exchange(tmp_path)
    try:
        page = answer(venue, asked(SINCE.astimezone(timezone(timedelta(hours=5)))))
    finally:
        venue.close()
    assert of_json(page.body).trades_since == SINCE


def test_before_the_exchange_is_open_and_after_it_is_closed_there_is_nothing(tmp_path: Path) -> None:
    assert answer(None, asked(SINCE)).status == 503
    venue = exchange(tmp_path)
    venue.close()
    page = answer(venue, asked(SINCE))
    assert (page.status, b"closed" in page.body) == (503, True)


def test_nonsense_is_told_how_to_ask(tmp_path: Path) -> None:
    venue = exchange(tmp_path)
    try:
        for query in ("", "since=now", "since=2026-03-01T12:00:00Z&order=tb1", "since=1&since=2", "since=9999999"):
            page = answer(venue, parse_qs(query))
            assert (page.status, page.body) == (400, b"ask /paper-books?since=TIME&order=SYMBOL+ID\n"), query
    finally:
        venue.close()


def test_a_question_fits_into_a_request() -> None:
    orders = [("1000SATS/FDUSD", f"tb{number:034d}") for number in range(2 * MOST_ORDERS)]
    query = question(SINCE, orders)
    assert len(query) == 1 + MOST_ORDERS
    assert len(urlencode(query)) < REQUEST_LIMIT - 1000
