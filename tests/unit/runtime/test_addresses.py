"""Addresses that are secrets: where they are found, and that none of them shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradingbot_agents.runtime.addresses import (
    NoAddress,
    hidden,
    notification_file,
    notification_variable,
    read_notification,
    read_ping,
    scrubbed,
    speaks,
)
from tradingbot_agents.runtime.connections import Secret

TELEGRAM = "tgram://123456789:abcdefghijABCDEFGHIJ/-10012315544"
MAIL = "mailtos://me:p%40ssword@smtp.example.org:465?from=bot@example.org&to=me@example.org"
HOOK = "https://hooks.example.org/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"


def shown(address: Secret | NoAddress) -> str:
    assert isinstance(address, Secret), address
    return address.reveal()


def why(address: Secret | NoAddress) -> str:
    assert isinstance(address, NoAddress), address
    return address.why


def test_the_names_that_the_operator_knows_too() -> None:
    assert notification_variable("on-call-2") == "TRADINGBOT_NOTIFICATION_ON_CALL_2"
    assert notification_file("on-call-2") == "notification-on-call-2"


def test_an_address_is_a_variable_or_a_file(tmp_path: Path) -> None:
    file = tmp_path / "hook"
    file.write_text(f"{HOOK}\n")
    assert shown(read_notification("phone", {"TRADINGBOT_NOTIFICATION_PHONE": f" {HOOK} "})) == HOOK
    from_file = read_notification("phone", {"TRADINGBOT_NOTIFICATION_PHONE_FILE": str(file)})
    assert shown(from_file) == HOOK
    file.write_text(f"{HOOK}-rotated")
    assert shown(from_file) == f"{HOOK}-rotated"
    assert shown(read_ping({"TRADINGBOT_PING_URL": "http://ping"})) == "http://ping"


def test_or_it_lies_beside_the_other_secrets(tmp_path: Path) -> None:
    environment = {"TRADINGBOT_DATABASE_URL_FILE": str(tmp_path / "database-url")}
    assert "notification-phone is not there: make the Secret" in why(read_notification("phone", environment))
    (tmp_path / "notification-phone").write_text(TELEGRAM)
    (tmp_path / "ping-url").write_text("https://ping")
    assert shown(read_notification("phone", environment)) == TELEGRAM
    assert shown(read_ping(environment)) == "https://ping"
    other = environment | {"TRADINGBOT_NOTIFICATION_PHONE": HOOK}
    assert shown(read_notification("phone", other)) == HOOK


def test_what_is_missing_or_wrong_is_told_with_its_remedy(tmp_path: Path) -> None:
    name = "TRADINGBOT_NOTIFICATION_PHONE"
    file = tmp_path / "hook"
    assert f"set {name}, or {name}_FILE" in why(read_notification("phone", {}))
    both = {name: HOOK, f"{name}_FILE": str(file)}
    assert why(read_notification("phone", both)) == f"{name} and {name}_FILE are both set: set one of them"
    file.write_text("  \n")
    assert "is empty" in why(read_notification("phone", {f"{name}_FILE": str(file)}))
    file.write_bytes(b"\xff\xfe")
    assert "it is not text" in why(read_notification("phone", {f"{name}_FILE": str(file)}))
    assert "can not be read" in why(read_notification("phone", {f"{name}_FILE": str(tmp_path)}))


def test_addresses_and_what_in_them_opens_a_door_are_hidden() -> None:
    found = hidden([Secret(TELEGRAM), Secret(MAIL), Secret(HOOK), NoAddress("not there")])
    assert {TELEGRAM, MAIL, HOOK, "p%40ssword", "p@ssword", "X" * 24, "123456789:abcdefghijABCDEFGHIJ"} <= found
    # A log without these words would tell nothing.
    assert not {"services", "https", "me", ""} & found


@pytest.mark.parametrize("address", [TELEGRAM, MAIL, HOOK])
def test_words_about_an_address_do_not_say_where_it_leads(address: str) -> None:
    words = scrubbed(f"HTTPSConnectionPool: {address} as bot@example.org: refused", address)
    for part in ("abcdefghij", "123456789", "12315544", "ssword", "smtp.example.org", "XXXX", "hooks.example"):
        assert part not in words
    assert words.startswith("HTTPSConnectionPool: ***")
    assert words.endswith("refused")


def test_what_an_address_begins_with() -> None:
    assert speaks(HOOK, ("http", "https"))
    assert not speaks(HOOK, ("tgram",))
    assert not speaks("https://", ("https",))
    assert not speaks("https://[", ("https",))
    assert not speaks("hooks.example.org", ("https",))
