"""Orders: whether their outcome is known, and whether ledger and exchange have the same orders and the same fills."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from support.asking import ask, only
from support.evidence import (
    ETHER,
    NOW,
    SINCE,
    account,
    agents,
    entry,
    fill,
    heard,
    ledger,
    open_stop,
    stop,
    trade,
)
from tradingbot_agents.bus.topology import EXECUTION
from tradingbot_agents.domain.fills import Fee, Fill
from tradingbot_agents.domain.orders import Order, OrderState
from tradingbot_agents.domain.values import ZERO, BotState, Leg, OrderType, Side
from tradingbot_agents.exchange.port import ExchangeOrder, ExchangeOrderState, ExchangeTrade
from tradingbot_agents.ledger.port import Balance, Hold
from tradingbot_agents.reality.check import Status
from tradingbot_agents.reality.checks import orders_fills, orders_missing, orders_resolved, orders_unknown
from tradingbot_agents.reality.evidence import LedgerEvidence, Missing

PASSED, FAILED, UNKNOWN, SKIPPED = Status.PASSED, Status.FAILED, Status.UNKNOWN, Status.SKIPPED
AWAY = Missing("it does not answer")
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)
TRADE = "BTC/USDT at 2026-03-01 11:47:02Z: buy 0.1 at 100.1 (trade trade-of-tbentry of tbentry)"


def under_way(state: OrderState, at: datetime = NOW - 10 * SECOND, **changes: Any) -> Order:
    """An entry that has not ended."""
    sent = state is not OrderState.APPROVED
    fields: dict[str, Any] = {
        "state": state,
        "filled": ZERO,
        "cost": ZERO,
        "exchange_order_id": "1003" if state is OrderState.OPEN else None,
        "claimed_at": at if sent else None,
        "finished_at": None,
    }
    return entry("tb1", at, **{**fields, **changes})


def with_orders(*orders: Order, **changes: Any) -> LedgerEvidence:
    return ledger(orders=(*orders, stop(), entry()), **changes)


class TestResolved:
    def test_a_stop_may_rest(self) -> None:
        assert only("orders.resolved") == (PASSED, "none is under way")
        old = stop(at=NOW - timedelta(days=2), state=OrderState.CANCELLING)
        assert ask("orders.resolved", ledger=ledger(orders=(old,)))[0] is PASSED

    @pytest.mark.parametrize(
        ("state", "limit", "words"),
        [
            (OrderState.APPROVED, "30 s", "is approved, and not sent"),
            (OrderState.SUBMITTING, "1 min", "was sent, and nobody has an answer"),
            (OrderState.OPEN, "1 min", "rests on the exchange, and should have ended"),
            (OrderState.CANCELLING, "1 min", "is being cancelled, and does not end"),
            (OrderState.UNRESOLVED, "1 min", "is unresolved"),
        ],
    )
    def test_one_that_takes_too_long(self, state: OrderState, limit: str, words: str) -> None:
        # The clocks' five seconds are on top.
        most = 5 * SECOND + (30 * SECOND if state is OrderState.APPROVED else MINUTE)
        at_last = with_orders(under_way(state, NOW - most))
        assert only("orders.resolved", ledger=at_last) == (PASSED, "1 under way, none for too long")
        too_late = with_orders(under_way(state, NOW - most - SECOND))
        assert ask("orders.resolved", ledger=too_late)[0] is FAILED
        found = only("orders.resolved", ledger=with_orders(under_way(state, NOW - 10 * MINUTE)))
        since = "since 2026-03-01 11:51:00Z (10 min"
        assert found == (FAILED, f"BTC/USDT: entry tb1 {words} {since}; {limit} is the limit)")

    @pytest.mark.parametrize("state", [OrderState.SUBMITTING, OrderState.UNRESOLVED])
    def test_a_stop_of_which_nobody_knows_whether_it_is_there(self, state: OrderState) -> None:
        lost = stop(at=NOW - 10 * MINUTE, claimed_at=NOW - 10 * MINUTE, state=state, reason="a timeout")
        status, told = only("orders.resolved", ledger=ledger(orders=(lost,)))
        assert status is FAILED
        assert told.startswith("BTC/USDT: stop tbstop ")
        assert told.endswith(": a timeout") == (state is OrderState.UNRESOLVED)

    def test_it_counts_from_when_contact_was_lost(self) -> None:
        lost = stop(at=NOW - timedelta(days=2), claimed_at=NOW - timedelta(days=2), state=OrderState.UNRESOLVED)
        event = heard("order_unresolved", "tbstop", agent=EXECUTION, at=NOW - 20 * SECOND)
        told = ledger(orders=(lost,), heard=(event,))
        assert only("orders.resolved", ledger=told) == (
            PASSED,
            "1 under way, none for too long; outcomes were open once in the window",
        )
        # Of another order, of another time, and never: it is older than anybody heard.
        for other in (
            msgspec.structs.replace(event, key=("tbother",)),
            msgspec.structs.replace(event, first=NOW - 5 * MINUTE, last=NOW - 5 * MINUTE),
        ):
            assert ask("orders.resolved", ledger=ledger(orders=(lost,), heard=(other,)))[0] is FAILED
        assert ask("orders.resolved", ledger=ledger(orders=(lost,)))[0] is FAILED

    def test_what_is_known_again_is_told(self) -> None:
        told = ledger(heard=(heard("order_unresolved", "tbentry", agent=EXECUTION),))
        assert only("orders.resolved", ledger=told) == (
            PASSED,
            "none is under way; outcomes were open once in the window",
        )

    def test_while_it_is_stopped_not_even_a_cancel_is_sent(self) -> None:
        rests = under_way(OrderState.OPEN, NOW - 10 * MINUTE)
        stopped = agents(state=BotState.STOPPED)
        assert only("orders.resolved", ledger=with_orders(rests), agents=stopped) == (PASSED, "none is under way")
        hold = Hold(state=BotState.STOPPED, reason="a test", by="somebody", at=NOW)
        assert ask("orders.resolved", ledger=with_orders(rests, hold=hold))[0] is PASSED
        paused = agents(state=BotState.PAUSED)
        assert ask("orders.resolved", ledger=with_orders(rests), agents=paused)[0] is FAILED
        # What was sent is looked up all the same.
        lost = under_way(OrderState.UNRESOLVED, NOW - 10 * MINUTE)
        assert ask("orders.resolved", ledger=with_orders(lost), agents=stopped)[0] is FAILED

    def test_without_the_agents_it_is_not_taken_for_stopped(self) -> None:
        rests = under_way(OrderState.OPEN, NOW - 10 * MINUTE)
        assert ask("orders.resolved", ledger=with_orders(rests), agents=AWAY)[0] is FAILED

    def test_it_has_its_time_from_when_it_was_sent(self) -> None:
        sent = under_way(OrderState.OPEN, NOW - 10 * MINUTE, claimed_at=NOW - 10 * SECOND)
        assert ask("orders.resolved", ledger=with_orders(sent))[0] is PASSED
        gone = account(looked_up={"tb1": None})
        assert ask("orders.missing", ledger=with_orders(sent), account=gone)[0] is PASSED

    def test_an_exit_is_to_end_as_an_entry_is(self) -> None:
        exit_ = under_way(OrderState.OPEN, NOW - 10 * MINUTE, leg=Leg.EXIT, side=Side.SELL, type=OrderType.MARKET)
        assert ask("orders.resolved", ledger=with_orders(exit_))[0] is FAILED

    def test_other_bots_are_judged_by_their_own(self) -> None:
        other = under_way(OrderState.UNRESOLVED, NOW - 10 * MINUTE, bot="minors")
        assert ask("orders.resolved", ledger=with_orders(other))[0] is PASSED

    def test_it_is_no_breach_of_the_money(self) -> None:
        assert orders_resolved.CHECK.severity == "warning"

    def test_without_the_ledger_nobody_knows(self) -> None:
        assert only("orders.resolved", ledger=AWAY) == (UNKNOWN, "ledger: it does not answer")


def there(name: str | None, **changes: Any) -> ExchangeOrder:
    """An order to buy that is open on the exchange, for long."""
    fields: dict[str, Any] = {
        "exchange_order_id": "2001",
        "client_order_id": name,
        "side": Side.BUY,
        "type": OrderType.LIMIT,
        "amount": Decimal("0.5"),
        "limit_price": Decimal("90"),
        "stop_price": None,
        "at": NOW - timedelta(hours=1),
    }
    return open_stop(**{**fields, **changes})


def holding_outside(amount: str, asset: str = "USDT") -> LedgerEvidence:
    """A ledger that holds something for orders of others."""
    clean = ledger()
    total = clean.books.balances[asset].total
    held = Balance(asset=asset, total=total, reserved=ZERO, outside_holds=Decimal(amount))
    return ledger(books=msgspec.structs.replace(clean.books, balances={**clean.books.balances, asset: held}))


class TestUnknown:
    def test_ours_is_in_the_ledger(self) -> None:
        assert only("orders.unknown") == (PASSED, "1 are in the ledger as well")
        check = orders_unknown.CHECK
        assert (check.severity, check.compares) == ("severe", True)

    def test_one_with_an_id_of_ours_that_it_does_not_have(self) -> None:
        told = account(open_orders=(open_stop(), there("tb0123456789abcdef")))
        assert only("orders.unknown", account=told) == (
            FAILED,
            "buy 0.5 BTC/USDT at 90 (tb0123456789abcdef) is open on the exchange, and the ledger has no such order,"
            " or it ended there long ago",
        )

    @pytest.mark.parametrize(
        "state", [OrderState.CANCELLED, OrderState.FILLED, OrderState.NOT_FOUND, OrderState.REJECTED]
    )
    def test_one_that_has_ended_in_the_ledger(self, state: OrderState) -> None:
        forgotten = stop(state=state, finished_at=NOW - MINUTE)
        assert only("orders.unknown", ledger=ledger(orders=(forgotten, entry()))) == (
            FAILED,
            f"sell 0.0999 BTC/USDT at 95 (tbstop) is open on the exchange, and {state.value} in the ledger",
        )

    def test_one_that_was_never_sent(self) -> None:
        told = account(open_orders=(there("tb1"),))
        assert only("orders.unknown", ledger=with_orders(under_way(OrderState.APPROVED)), account=told) == (
            FAILED,
            "buy 0.5 BTC/USDT at 90 (tb1) is open on the exchange, and approved in the ledger, so it was never sent",
        )

    @pytest.mark.parametrize("state", [OrderState.SUBMITTING, OrderState.UNRESOLVED, OrderState.CANCELLING])
    def test_one_that_is_live_in_the_ledger_whatever_its_state(self, state: OrderState) -> None:
        told = account(open_orders=(there("tb1"),))
        assert ask("orders.unknown", ledger=with_orders(under_way(state)), account=told)[0] is PASSED

    def test_another_bot_s_is_known_as_well(self) -> None:
        other = under_way(OrderState.OPEN, bot="minors")
        told = account(open_orders=(there("tb1"),))
        assert ask("orders.unknown", ledger=with_orders(other), account=told)[0] is PASSED

    def test_an_exchange_that_tells_no_ids_of_ours(self) -> None:
        nameless = account(open_orders=(open_stop(client_order_id=None),))
        assert only("orders.unknown", account=nameless) == (PASSED, "1 are in the ledger as well")
        ended = ledger(orders=(stop(state=OrderState.CANCELLED, finished_at=NOW), entry()))
        assert ask("orders.unknown", account=nameless, ledger=ended)[0] is FAILED

    def test_another_symbol_s_order_may_have_the_same_number(self) -> None:
        # Of an order that has ended here, and of one that is open.
        for number in ("1001", "1002"):
            other = there("web_1", symbol=ETHER, exchange_order_id=number, at=NOW)
            told = account(open_orders=(open_stop(), other))
            assert only("orders.unknown", account=told) == (
                PASSED,
                "1 are in the ledger as well; 1 are not the bot's and are left alone: buy 0.5 ETH/USDT at 90 (web_1)",
            )
        traded_by_hand = account(trades=(trade(), trade(exchange_trade_id="t2", symbol=ETHER)))
        assert only("orders.unknown", account=traded_by_hand) == (
            PASSED,
            "1 are in the ledger as well; 1 trades of orders that are not the bot's: see accounting.outside",
        )

    @pytest.mark.parametrize("name", ["web_1", None])
    def test_one_that_was_placed_by_hand_is_left_alone(self, name: str | None) -> None:
        told = account(open_orders=(open_stop(), there(name)))
        assert only("orders.unknown", ledger=holding_outside("45"), account=told) == (
            PASSED,
            "1 are in the ledger as well; 1 are not the bot's and are left alone: buy 0.5 BTC/USDT at 90"
            f" ({name or '2001'})",
        )

    def test_what_it_locks_and_nobody_holds(self) -> None:
        told = account(open_orders=(open_stop(), there("web_1"), there("web_2", filled=Decimal("0.1"))))
        assert only("orders.unknown", ledger=holding_outside("80.9"), account=told) == (
            FAILED,
            "USDT: orders that are not the bot's lock 81.0, and the ledger holds 80.9 for such",
        )
        assert ask("orders.unknown", ledger=holding_outside("80.99999999"), account=told)[0] is PASSED

    def test_what_a_sale_by_hand_locks(self) -> None:
        sale = there("web_1", side=Side.SELL, symbol=ETHER)
        told = account(open_orders=(open_stop(), sale))
        assert only("orders.unknown", account=told) == (
            FAILED,
            "ETH: orders that are not the bot's lock 0.5, and the ledger holds 0 for such",
        )

    def test_execution_has_its_time_to_learn_of_it(self) -> None:
        # Its interval, what an order in flight may take, and the clocks' five seconds.
        due = 6 * MINUTE + 5 * SECOND
        fresh = account(open_orders=(open_stop(), there("web_1", at=NOW - due)))
        assert ask("orders.unknown", account=fresh)[0] is PASSED
        late = account(open_orders=(open_stop(), there("web_1", at=NOW - due - SECOND)))
        assert ask("orders.unknown", account=late)[0] is FAILED

    def test_what_waits_for_a_trigger_may_lock_nothing(self) -> None:
        waits = there("web_1", type=OrderType.STOP_LIMIT, stop_price=Decimal(95))
        told = account(open_orders=(open_stop(), waits))
        assert ask("orders.unknown", account=told)[0] is PASSED

    def test_trades_of_others_are_told(self) -> None:
        by_hand = trade(exchange_trade_id="t2", exchange_order_id="2001")
        early = trade(exchange_trade_id="t3", exchange_order_id="2002", at=SINCE + 4 * SECOND)
        at_once = trade(exchange_trade_id="t5", exchange_order_id="2003", at=SINCE + 5 * SECOND)
        ours = trade(exchange_trade_id="t4", exchange_order_id="1002")
        again = trade(exchange_trade_id="t6", exchange_order_id="2001")
        told = account(trades=(trade(), by_hand, again, early, at_once, ours))
        words = "3 trades of orders that are not the bot's: see accounting.outside"
        assert only("orders.unknown", account=told) == (PASSED, f"1 are in the ledger as well; {words}")
        # The open stop is ours, though its number has not been written down yet; an order by hand is not.
        sent = ledger(orders=(stop(exchange_order_id=None, state=OrderState.SUBMITTING), entry()))
        rests = msgspec.structs.replace(told, open_orders=(open_stop(), there("web_1", at=NOW)))
        status, said = only("orders.unknown", ledger=sent, account=rests)
        assert (status, said.endswith(f"; {words}")) == (PASSED, True)

    @pytest.mark.parametrize("check", ["orders.unknown", "orders.fills"])
    def test_before_the_account_is_open_there_is_nothing_to_ask(self, check: str) -> None:
        fresh = ledger(books=msgspec.structs.replace(ledger().books, opened_at=None))
        assert only(check, ledger=fresh) == (SKIPPED, "the account is not open yet")

    @pytest.mark.parametrize("place", ["ledger", "account"])
    def test_without_either_nobody_knows(self, place: str) -> None:
        assert only("orders.unknown", **{place: AWAY}) == (UNKNOWN, f"{place}: it does not answer")


class TestMissing:
    def test_all_are_there(self) -> None:
        assert only("orders.missing") == (PASSED, "1 are open on the exchange as well")
        check = orders_missing.CHECK
        assert (check.severity, check.compares) == ("warning", True)

    def test_one_that_the_exchange_does_not_know(self) -> None:
        gone = account(open_orders=(), looked_up={"tbstop": None})
        assert only("orders.missing", account=gone) == (
            FAILED,
            "BTC/USDT: stop tbstop of majors is open, and the exchange knows no such order",
        )

    @pytest.mark.parametrize(
        ("state", "filled"),
        [
            (ExchangeOrderState.CANCELLED, "0"),
            (ExchangeOrderState.CLOSED, "0.0999"),
            (ExchangeOrderState.REJECTED, "0"),
        ],
    )
    def test_one_that_has_ended_there(self, state: ExchangeOrderState, filled: str) -> None:
        ended = account(open_orders=(), looked_up={"tbstop": open_stop(state=state, filled=Decimal(filled))})
        assert only("orders.missing", account=ended) == (
            FAILED,
            "BTC/USDT: stop tbstop of majors is open, and on the exchange it is"
            f" {state.value} with {filled} of 0.0999 filled",
        )

    def test_one_that_ended_a_moment_ago_is_about_to_be_booked(self) -> None:
        ended = open_stop(state=ExchangeOrderState.CLOSED, filled=Decimal("0.0999"))

        def sold(at: datetime) -> dict[str, Any]:
            just = trade(exchange_trade_id="t2", exchange_order_id="1002", at=at)
            return {"account": account(open_orders=(), looked_up={"tbstop": ended}, trades=(trade(), just))}

        assert only("orders.missing", **sold(NOW - MINUTE)) == (
            PASSED,
            "0 are open on the exchange as well; 1 ended a moment ago",
        )
        assert ask("orders.missing", **sold(NOW - MINUTE - SECOND))[0] is FAILED

    def test_one_that_was_sent_a_moment_ago(self) -> None:
        told = account(looked_up={"tb1": None})
        fresh = with_orders(under_way(OrderState.OPEN, NOW - MINUTE))
        assert ask("orders.missing", ledger=fresh, account=told)[0] is PASSED
        old = with_orders(under_way(OrderState.OPEN, NOW - MINUTE - SECOND))
        assert ask("orders.missing", ledger=old, account=told)[0] is FAILED

    def test_one_that_nobody_asked_for(self) -> None:
        assert only("orders.missing", account=account(open_orders=())) == (
            UNKNOWN,
            "BTC/USDT: stop tbstop of majors is open, is not among the exchange's open orders, and nobody asked for"
            " it",
        )

    def test_all_bots_of_the_account_are_looked_at(self) -> None:
        other = stop(bot="minors", state=OrderState.CANCELLING)
        gone = account(open_orders=(), looked_up={"tbstop": None})
        assert only("orders.missing", ledger=ledger(orders=(other,)), account=gone) == (
            FAILED,
            "BTC/USDT: stop tbstop of minors is cancelling, and the exchange knows no such order",
        )

    @pytest.mark.parametrize("state", [OrderState.APPROVED, OrderState.SUBMITTING, OrderState.UNRESOLVED])
    def test_what_the_exchange_need_not_have(self, state: OrderState) -> None:
        told = with_orders(under_way(state, NOW - 10 * MINUTE))
        assert ask("orders.missing", ledger=told, account=account(looked_up={"tb1": None}))[0] is PASSED

    def test_it_is_found_by_the_exchange_s_number_as_well(self) -> None:
        assert ask("orders.missing", account=account(open_orders=(open_stop(client_order_id=None),)))[0] is PASSED
        # One of another symbol is not it, and its trades say nothing of it.
        other = open_stop(client_order_id="web_1", symbol=ETHER)
        just = trade(exchange_trade_id="t2", exchange_order_id="1002", symbol=ETHER, at=NOW)
        hidden = account(open_orders=(other,), looked_up={"tbstop": None}, trades=(trade(), just))
        assert ask("orders.missing", account=hidden)[0] is FAILED
        # No number is nobody's.
        nameless = stop(exchange_order_id=None)
        told = account(open_orders=(), looked_up={"tbstop": None})
        assert ask("orders.missing", ledger=ledger(orders=(nameless,)), account=told)[0] is FAILED

    @pytest.mark.parametrize("place", ["ledger", "account"])
    def test_without_either_nobody_knows(self, place: str) -> None:
        assert only("orders.missing", **{place: AWAY}) == (UNKNOWN, f"{place}: it does not answer")


def booked(*fills: Fill) -> LedgerEvidence:
    return ledger(fills=fills)


def traded(*trades: ExchangeTrade, **changes: Any) -> dict[str, Any]:
    return {"account": account(trades=trades, **changes)}


class TestFills:
    def test_each_is_there_once(self) -> None:
        assert only("orders.fills") == (PASSED, "1 fills are booked, 1 trades are on the exchange")
        check = orders_fills.CHECK
        assert (check.severity, check.compares) == ("severe", True)

    def test_one_that_is_not_booked(self) -> None:
        assert only("orders.fills", ledger=booked()) == (FAILED, f"{TRADE} is on the exchange, and not booked")

    def test_one_of_the_last_moments_is_about_to_be_booked(self) -> None:
        def sold(at: datetime) -> dict[str, Any]:
            return traded(trade(), trade(exchange_trade_id="t2", exchange_order_id="1002", side=Side.SELL, at=at))

        assert only("orders.fills", **sold(NOW - MINUTE)) == (
            PASSED,
            "1 fills are booked, 2 trades are on the exchange; 1 of the last moments are not booked yet",
        )
        assert only("orders.fills", **sold(NOW - MINUTE - SECOND)) == (
            FAILED,
            "BTC/USDT at 2026-03-01 11:59:59Z: sell 0.1 at 100.1 (trade t2 of tbstop) is on the exchange, and not"
            " booked",
        )

    def test_of_an_order_that_has_ended_all_were_booked(self) -> None:
        late = trade(exchange_trade_id="t2", at=NOW)
        assert ask("orders.fills", **traded(trade(), late))[0] is FAILED

    def test_one_that_the_exchange_does_not_have(self) -> None:
        assert only("orders.fills", **traded()) == (
            FAILED,
            f"{TRADE} is booked, and the exchange has no such trade",
        )

    def test_one_that_is_booked_again_under_another_id(self) -> None:
        again = fill(exchange_trade_id="trade-of-tbentry0")
        assert only("orders.fills", ledger=booked(again, fill())) == (
            FAILED,
            "BTC/USDT at 2026-03-01 11:47:02Z: buy 0.1 at 100.1 (trade trade-of-tbentry0 of tbentry) is booked, and"
            " the exchange has no such trade: it looks like trade trade-of-tbentry once more",
        )
        # Another amount is another trade.
        status, told = only("orders.fills", ledger=booked(msgspec.structs.replace(again, amount=Decimal(1)), fill()))
        assert (status, told.endswith("no such trade")) == (FAILED, True)

    def test_one_that_is_booked_twice_under_its_own(self) -> None:
        assert only("orders.fills", ledger=booked(fill(), fill())) == (
            FAILED,
            "BTC/USDT: trade trade-of-tbentry is booked 2 times",
        )

    def test_exchanges_repeat_trades(self) -> None:
        assert only("orders.fills", **traded(trade(), trade())) == (
            PASSED,
            "1 fills are booked, 1 trades are on the exchange",
        )

    @pytest.mark.parametrize(
        ("changes", "words"),
        [
            ({"price": Decimal("100.2")}, "its price is 100.2"),
            ({"amount": Decimal("0.09")}, "its amount is 0.09"),
            ({"side": Side.SELL}, "it is to sell"),
            ({"exchange_order_id": "1002"}, "it is of order 1002, and not of 1001"),
            ({"fee": Fee("BTC", Decimal("0.0002"))}, "its fee is 0.0002 BTC, and 0.0001 BTC in the books"),
            ({"fee": Fee("BNB", Decimal("0.0001"))}, "its fee is 0.0001 BNB, and 0.0001 BTC in the books"),
            ({"fee": Fee("BTC", ZERO)}, "its fee is none, and 0.0001 BTC in the books"),
        ],
    )
    def test_one_that_is_booked_otherwise(self, changes: dict[str, Any], words: str) -> None:
        assert only("orders.fills", **traded(trade(**changes))) == (
            FAILED,
            f"{TRADE} is booked, but on the exchange {words}",
        )

    def test_a_fee_that_the_books_lack(self) -> None:
        assert only("orders.fills", ledger=booked(fill(fee=None))) == (
            FAILED,
            f"{TRADE} is booked, but on the exchange its fee is 0.0001 BTC, and none in the books",
        )

    def test_a_fee_that_the_exchange_s_list_leaves_out(self) -> None:
        assert ask("orders.fills", **traded(trade(fee=None)))[0] is PASSED

    def test_no_fee_is_a_fee_of_nothing(self) -> None:
        free = {"ledger": booked(fill(fee=None)), **traded(trade(fee=Fee("BTC", ZERO)))}
        assert ask("orders.fills", **free)[0] is PASSED

    def test_what_a_fee_is_worth_is_ours_to_say(self) -> None:
        paid = Fee("BNB", Decimal("0.01"))
        valued = Fee("BNB", Decimal("0.01"), Decimal("6.2"))
        assert ask("orders.fills", ledger=booked(fill(fee=valued)), **traded(trade(fee=paid)))[0] is PASSED

    def test_every_symbol_counts_its_trades_by_itself(self) -> None:
        ether = msgspec.structs.replace(entry("tb2"), symbol=ETHER, exchange_order_id="1004")
        bought = fill(ether, exchange_trade_id="trade-of-tbentry")
        told = ledger(orders=(ether, stop(), entry()), fills=(bought, fill()))
        theirs = trade(symbol=ETHER, exchange_order_id="1004")
        assert ask("orders.fills", ledger=told, **traded(trade(), theirs))[0] is PASSED
        assert ask("orders.fills", ledger=told, **traded(trade()))[0] is FAILED

    def test_and_its_orders(self) -> None:
        by_hand = trade(exchange_trade_id="t2", symbol=ETHER)
        assert only("orders.fills", **traded(trade(), by_hand)) == (
            PASSED,
            "1 fills are booked, 1 trades are on the exchange",
        )

    @pytest.mark.parametrize("since", [SINCE, SINCE - 5 * MINUTE, SINCE + 10 * MINUTE])
    def test_what_is_older_than_window_and_list_is_not_judged(self, since: datetime) -> None:
        begin = max(since, SINCE)
        early = begin - SECOND
        old = ledger(fills=(fill(exchange_trade_id="old", at=early), fill()))
        assert ask("orders.fills", ledger=old, **traded(trade(), trades_since=since))[0] is PASSED
        unbooked = trade(exchange_trade_id="old", at=begin)
        assert ask("orders.fills", **traded(unbooked, trade(), trades_since=since))[0] is FAILED
        unbooked = trade(exchange_trade_id="old", at=early)
        assert ask("orders.fills", **traded(unbooked, trade(), trades_since=since))[0] is PASSED
        at_once = ledger(fills=(fill(exchange_trade_id="old", at=begin), fill()))
        assert ask("orders.fills", ledger=at_once, **traded(trade(), trades_since=since))[0] is FAILED

    def test_a_trade_whose_time_differs_is_the_same_trade(self) -> None:
        other = booked(fill(at=SINCE - MINUTE))
        assert ask("orders.fills", ledger=other)[0] is PASSED
        early = traded(trade(at=SINCE - SECOND), trades_since=SINCE - 5 * MINUTE)
        assert ask("orders.fills", **early)[0] is PASSED

    def test_trades_of_others_are_theirs(self) -> None:
        by_hand = trade(exchange_trade_id="t2", exchange_order_id="2001")
        assert only("orders.fills", **traded(trade(), by_hand)) == (
            PASSED,
            "1 fills are booked, 1 trades are on the exchange",
        )

    @pytest.mark.parametrize("place", ["ledger", "account"])
    def test_without_either_nobody_knows(self, place: str) -> None:
        assert only("orders.fills", **{place: AWAY}) == (UNKNOWN, f"{place}: it does not answer")
