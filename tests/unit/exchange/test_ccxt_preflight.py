"""Whether a key may be used: one test for each refusal, and what each exchange tells of a key."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import msgspec
import pytest

from tradingbot_agents.exchange.ccxt_preflight import KEY_QUESTIONS, AccountFacts, merged, refusals_of, report_of

WINDOW = timedelta(seconds=5)
GOOD = AccountFacts(
    exchange="binance",
    client_order_ids=True,
    account_id="7",
    may_trade=True,
    may_withdraw=False,
    bound_to_addresses=True,
    clock_difference=timedelta(milliseconds=20),
)


def reasons(expected: str | None = None, **facts: Any) -> list[str]:
    changed = msgspec.structs.replace(GOOD, **facts)
    return [refusal.reason for refusal in refusals_of(changed, WINDOW, expected)]


def test_a_good_key_is_accepted_without_a_word() -> None:
    report = report_of(GOOD, WINDOW, "7")
    assert (report.refusals, report.notes) == ((), ())


def test_a_key_that_may_withdraw_is_refused() -> None:
    assert reasons(may_withdraw=True) == ["key_may_withdraw"]


def test_a_key_that_may_not_trade_is_refused() -> None:
    assert reasons(may_trade=False) == ["key_may_not_trade"]


def test_a_key_of_another_account_is_refused() -> None:
    assert reasons(expected="8") == ["another_account"]
    assert reasons(expected="7") == []
    assert reasons(expected="8", account_id=None) == []


@pytest.mark.parametrize("seconds", [2.6, -2.6, 3600])
def test_a_clock_that_is_far_off_is_refused(seconds: float) -> None:
    assert reasons(clock_difference=timedelta(seconds=seconds)) == ["clock_difference"]


def test_a_clock_within_half_of_the_window_is_made_up_for() -> None:
    assert reasons(clock_difference=timedelta(seconds=2.5)) == []


def test_an_exchange_whose_ids_are_not_known_is_refused() -> None:
    assert reasons(client_order_ids=False, exchange="bitso") == ["client_order_ids_unknown"]


def test_a_key_that_the_exchange_refuses_is_refused() -> None:
    facts = {"account_id": None, "may_trade": None, "may_withdraw": None, "bound_to_addresses": None}
    assert reasons(key_problem="-2015 Invalid API-key", **facts) == ["key_refused"]


def test_no_key_is_refused() -> None:
    assert reasons(has_key=False) == ["no_key"]


def test_all_reasons_are_told_at_once_with_what_to_do() -> None:
    facts = msgspec.structs.replace(GOOD, may_withdraw=True, may_trade=False, clock_difference=timedelta(minutes=1))
    refusals = refusals_of(facts, WINDOW, "8")
    assert [refusal.reason for refusal in refusals] == [
        "clock_difference",
        "key_may_withdraw",
        "key_may_not_trade",
        "another_account",
    ]
    assert all(";" in refusal.text for refusal in refusals)


def test_what_is_not_known_is_no_refusal_but_a_note() -> None:
    facts = AccountFacts(exchange="kraken", client_order_ids=True, bound_to_addresses=False)
    report = report_of(facts, WINDOW, "7")
    assert report.refusals == ()
    assert len(report.notes) == 4


# What the exchanges tell


def facts_of(exchange: str, *answers: dict[str, Any]) -> dict[str, Any]:
    questions = KEY_QUESTIONS[exchange]
    return merged([question.read(answer) for question, answer in zip(questions, answers, strict=True)])


def test_binance_tells_by_its_account_and_its_restrictions() -> None:
    account = {"uid": 354937868, "canTrade": True, "canWithdraw": True}
    restrictions = {"ipRestrict": True, "enableWithdrawals": False, "enableSpotAndMarginTrading": True}
    assert facts_of("binance", account, restrictions) == {
        "account_id": "354937868",
        "may_trade": True,
        "may_withdraw": False,
        "bound_to_addresses": True,
    }
    assert not facts_of("binance", account | {"canTrade": False}, restrictions)["may_trade"]
    assert not facts_of("binance", account, restrictions | {"enableSpotAndMarginTrading": False})["may_trade"]
    assert facts_of("binance", account, restrictions | {"enableWithdrawals": True})["may_withdraw"]


def test_okx_tells_by_its_account() -> None:
    answer = {"code": "0", "data": [{"uid": "44705892343619584", "perm": "read_only,trade", "ip": "203.0.113.7"}]}
    assert facts_of("okx", answer) == {
        "account_id": "44705892343619584",
        "may_trade": True,
        "may_withdraw": False,
        "bound_to_addresses": True,
    }
    open_key = {"code": "0", "data": [{"uid": "4", "perm": "read_only,withdraw", "ip": ""}]}
    assert facts_of("okx", open_key) == {
        "account_id": "4",
        "may_trade": False,
        "may_withdraw": True,
        "bound_to_addresses": False,
    }


def test_bybit_tells_by_its_key() -> None:
    result = {
        "userID": 24617703,
        "readOnly": 0,
        "ips": ["203.0.113.7"],
        "permissions": {"Spot": ["SpotTrade"], "Wallet": ["AccountTransfer"]},
    }
    assert facts_of("bybit", {"result": result}) == {
        "account_id": "24617703",
        "may_trade": True,
        "may_withdraw": False,
        "bound_to_addresses": True,
    }
    assert not facts_of("bybit", {"result": result | {"readOnly": 1}})["may_trade"]
    rights = {"Spot": [], "Wallet": ["Withdraw"]}
    assert facts_of("bybit", {"result": result | {"permissions": rights, "ips": ["*"]}}) == {
        "account_id": "24617703",
        "may_trade": False,
        "may_withdraw": True,
        "bound_to_addresses": False,
    }


def test_kraken_tells_by_its_key() -> None:
    result = {"iban": "AA77 N84G", "permissions": ["query-funds", "modify-trades"], "ipAllowlist": []}
    assert facts_of("kraken", {"result": result}) == {
        "account_id": "AA77 N84G",
        "may_trade": True,
        "may_withdraw": False,
        "bound_to_addresses": False,
    }
    assert facts_of("kraken", {"result": result | {"permissions": ["withdraw-funds"]}})["may_withdraw"]


def test_coinbase_tells_by_its_key() -> None:
    answer = {"can_view": True, "can_trade": True, "can_transfer": False, "portfolio_uuid": "a-b"}
    assert facts_of("coinbase", answer) == {"account_id": "a-b", "may_trade": True, "may_withdraw": False}
    assert facts_of("coinbase", answer | {"can_transfer": True})["may_withdraw"]


@pytest.mark.parametrize("exchange", sorted(KEY_QUESTIONS))
def test_an_answer_that_tells_nothing_is_taken_for_nothing(exchange: str) -> None:
    empty: list[dict[str, Any]] = [{} for _ in KEY_QUESTIONS[exchange]]
    assert facts_of(exchange, *empty) == {}
