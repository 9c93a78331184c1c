"""Whether a key may be used for trading: what the exchange tells of it, and what follows. Pure.

It is asked before a bot starts. A key that may take money off the exchange is refused, for a bot never needs that;
so is one that may not trade, one of another account than the books', and a clock so far off that signed requests
are refused or, worse, accepted late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import msgspec

from tradingbot_agents.exchange.ccxt_dialects import named_exchanges

Raw = Mapping[str, Any]


class AccountFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a key and its account. ``None``: the exchange does not tell."""

    exchange: str
    client_order_ids: bool
    has_key: bool = True
    key_problem: str | None = None
    """Why the exchange does not accept the key, in its words; then the rest is not known."""
    account_id: str | None = None
    """The exchange's own id of the account; the same for all of its keys."""
    may_trade: bool | None = None
    may_withdraw: bool | None = None
    bound_to_addresses: bool | None = None
    """The key works from listed addresses only."""
    clock_difference: timedelta = timedelta(0)
    """How far our clock is ahead of the exchange's."""


class Refusal(msgspec.Struct, frozen=True):
    """Why the key is not used: a code, and what to do."""

    reason: str
    text: str


class AccountReport(msgspec.Struct, frozen=True):
    """What ``check_account`` found. The bot may start when there are no refusals."""

    facts: AccountFacts
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...]
    """What a person should know, though it stops nothing."""


def report_of(facts: AccountFacts, receive_window: timedelta, expected_account: str | None) -> AccountReport:
    """``receive_window``: how late a request may be. ``expected_account``: the id in the books, if there is one."""
    return AccountReport(facts, refusals_of(facts, receive_window, expected_account), notes_of(facts))


def refusals_of(facts: AccountFacts, receive_window: timedelta, expected_account: str | None) -> tuple[Refusal, ...]:
    """Every reason not to trade with the key."""
    refusals = []
    if not facts.client_order_ids:
        refusals.append(
            Refusal(
                "client_order_ids_unknown",
                f"exchange.name is {facts.exchange}: how it names orders by ids of ours is not known here, so an "
                f"order whose answer is lost could not be found again; trade on one of {named_exchanges()}, or use "
                f"mode paper",
            )
        )
    if not facts.has_key:
        refusals.append(
            Refusal("no_key", "exchange.credentialsSecretRef: the Secret holds no key; put apiKey and secret into it")
        )
        return tuple(refusals)
    if abs(facts.clock_difference) * 2 > receive_window:
        ahead = "ahead of" if facts.clock_difference > timedelta(0) else "behind"
        refusals.append(
            Refusal(
                "clock_difference",
                f"our clock is {abs(facts.clock_difference).total_seconds():g} s {ahead} the exchange's, more than "
                f"half of exchange.receiveWindow ({receive_window.total_seconds():g} s); synchronise the clock",
            )
        )
    if facts.key_problem is not None:
        refusals.append(
            Refusal(
                "key_refused",
                f"the exchange does not accept the key ({facts.key_problem}); check the Secret, and the addresses "
                f"that the key is bound to",
            )
        )
        return tuple(refusals)
    if facts.may_withdraw:
        refusals.append(
            Refusal(
                "key_may_withdraw",
                "the key may withdraw, which a bot never needs; make a key without that right, and delete this one",
            )
        )
    if facts.may_trade is False:
        refusals.append(
            Refusal("key_may_not_trade", "the key may not trade; give it the right to trade on the spot market")
        )
    if expected_account is not None and facts.account_id is not None and facts.account_id != expected_account:
        refusals.append(
            Refusal(
                "another_account",
                f"the key is of the exchange's account {facts.account_id}, but the books are of {expected_account}; "
                f"use a key of that account, or another account.name",
            )
        )
    return tuple(refusals)


def notes_of(facts: AccountFacts) -> tuple[str, ...]:
    """What is not known or not as it should be, but no reason to refuse."""
    if not facts.has_key or facts.key_problem is not None:
        return ()
    notes = []
    if facts.may_withdraw is None:
        notes.append("the exchange does not tell whether the key may withdraw: make sure that it may not")
    if facts.may_trade is None:
        notes.append("the exchange does not tell whether the key may trade")
    if facts.bound_to_addresses is False:
        notes.append("the key works from every address: bind it to those of the cluster")
    if facts.account_id is None:
        notes.append("the exchange does not tell the account's id: it can not be compared with the books'")
    return tuple(notes)


# --- what the exchanges tell of a key


class KeyQuestion(msgspec.Struct, frozen=True):
    """A question to the exchange about the key, by the name of ccxt's method, and what its answer says."""

    method: str
    read: Callable[[Raw], dict[str, Any]]
    """Fields of ``AccountFacts``."""
    on_testnet: bool = True


def _binance_account(raw: Raw) -> dict[str, Any]:
    return {"account_id": _id(raw.get("uid")), "may_trade": _flag(raw.get("canTrade"))}


def _binance_restrictions(raw: Raw) -> dict[str, Any]:
    return {
        "may_trade": _flag(raw.get("enableSpotAndMarginTrading")),
        "may_withdraw": _flag(raw.get("enableWithdrawals")),
        "bound_to_addresses": _flag(raw.get("ipRestrict")),
    }


def _okx_account(raw: Raw) -> dict[str, Any]:
    entry = _first(raw.get("data"))
    rights = {right.strip() for right in str(entry.get("perm") or "").split(",")} - {""}
    return {
        "account_id": _id(entry.get("uid")),
        "may_trade": "trade" in rights if rights else None,
        "may_withdraw": "withdraw" in rights if rights else None,
        "bound_to_addresses": bool(entry["ip"]) if "ip" in entry else None,
    }


def _bybit_key(raw: Raw) -> dict[str, Any]:
    result = _dict(raw.get("result"))
    rights = _dict(result.get("permissions"))
    read_only = _flag(result.get("readOnly"))
    addresses = result.get("ips")
    return {
        "account_id": _id(result.get("userID")),
        "may_trade": None if not rights else bool(rights.get("Spot")) and not read_only,
        "may_withdraw": None if not rights else "Withdraw" in (rights.get("Wallet") or ()),
        "bound_to_addresses": None if addresses is None else "*" not in addresses,
    }


def _kraken_key(raw: Raw) -> dict[str, Any]:
    result = _dict(raw.get("result"))
    rights = result.get("permissions")
    known = isinstance(rights, list) and bool(rights)
    told = set(rights) if isinstance(rights, list) else set()
    addresses = result.get("ipAllowlist")
    return {
        "account_id": _id(result.get("iban")),
        "may_trade": "modify-trades" in told if known else None,
        "may_withdraw": "withdraw-funds" in told if known else None,
        "bound_to_addresses": None if addresses is None else bool(addresses),
    }


def _coinbase_key(raw: Raw) -> dict[str, Any]:
    return {
        "account_id": _id(raw.get("portfolio_uuid")),
        "may_trade": _flag(raw.get("can_trade")),
        "may_withdraw": _flag(raw.get("can_transfer")),
    }


_BINANCE = (
    KeyQuestion("privateGetAccount", _binance_account),
    KeyQuestion("sapiGetAccountApiRestrictions", _binance_restrictions, on_testnet=False),
)

KEY_QUESTIONS: Mapping[str, tuple[KeyQuestion, ...]] = {
    "binance": _BINANCE,
    "binanceus": _BINANCE[:1],
    "okx": (KeyQuestion("privateGetAccountConfig", _okx_account),),
    "bybit": (KeyQuestion("privateGetV5UserQueryApi", _bybit_key),),
    "kraken": (KeyQuestion("privatePostGetApiKeyInfo", _kraken_key),),
    "coinbase": (KeyQuestion("v3PrivateGetBrokerageKeyPermissions", _coinbase_key),),
}
"""What is asked, by exchange. Of a key on others nothing is known but that it works."""


def merged(answers: list[dict[str, Any]]) -> dict[str, Any]:
    """The answers together. A right to trade needs all that tell of it: the account's and the key's."""
    facts: dict[str, Any] = {}
    for answer in answers:
        for name, value in answer.items():
            if value is None:
                continue
            facts[name] = facts.get(name, True) and value if name == "may_trade" else value
    return facts


def _flag(value: Any) -> bool | None:
    if isinstance(value, bool):
        return value
    if isinstance(value, int | str) and str(value).lower() in ("0", "1", "true", "false"):
        return str(value).lower() in ("1", "true")
    return None


def _id(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _dict(value: Any) -> Raw:
    return value if isinstance(value, Mapping) else {}


def _first(value: Any) -> Raw:
    return _dict(value[0]) if isinstance(value, list) and value else {}
