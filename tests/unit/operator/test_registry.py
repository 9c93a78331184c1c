"""Which bots are known, and whom a change of one concerns."""

from __future__ import annotations

from typing import Any

from support.specs import LIVE, changed
from tradingbot_operator.bots import Bot, account_owner, owner
from tradingbot_operator.kinds import Owner
from tradingbot_operator.names import account_id
from tradingbot_operator.registry import Registry


def a_bot(name: str = "one", version: int = 1, made: str = "2026-03-01T12:00:00Z", uid: str = "", **spec: Any) -> Bot:
    document = changed(LIVE, spec)
    document["metadata"] = {
        "name": name,
        "namespace": "n",
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": made,
        "managedFields": [{"manager": "kubectl"}],
    }
    return Bot(document)


def account_of(bot: Bot) -> Owner:
    return account_owner("n", account_id(bot.read()))


OTHER_ACCOUNT = {"account.name": "other", "liveConfirmation": "trade real money on binance/other"}


def test_what_is_put_is_there_without_what_nobody_reads() -> None:
    registry = Registry()
    bot = a_bot()
    assert registry.put(bot) == [bot.owner, account_of(bot)]
    found = registry.get(bot.owner)
    assert found is not None
    assert found.read() == bot.read()
    assert "managedFields" not in found.body["metadata"]
    assert len(registry) == 1
    assert registry.get(owner("n", "two")) is None


def test_an_account_is_concerned_by_its_settings_and_by_whether_positions_are_open() -> None:
    registry = Registry()
    bot = a_bot()
    registry.put(bot)
    assert registry.put(a_bot(version=2)) == [bot.owner]
    held = a_bot(version=3)
    held.body["status"] = {"openPositions": 1, "equity": "100"}
    assert registry.put(held) == [bot.owner, account_of(bot)]
    richer = a_bot(version=4)
    richer.body["status"] = {"openPositions": 2, "equity": "101"}
    assert registry.put(richer) == [bot.owner]
    assert registry.put(a_bot(version=5, updateStrategy="Auto")) == [bot.owner, account_of(bot)]


def test_what_is_older_than_what_we_know_is_passed_over() -> None:
    registry = Registry()
    registry.put(a_bot(version=5))
    assert registry.put(a_bot(version=4, state="Paused")) == []
    assert registry.put(a_bot(version=5)) == [], "our own write, told again by the watch"
    # Versions are the server's, of all objects: what is made anew under its name is newer than its forerunner, whose
    # end may be told afterwards.
    again = a_bot(version=7, uid="another")
    assert registry.put(again) == [again.owner, account_of(again)]
    assert registry.put(a_bot(version=6)) == []
    found = registry.get(again.owner)
    assert found is not None
    assert found.uid == "another"


def test_the_eldest_bot_of_an_account_comes_first() -> None:
    registry = Registry()
    for name, made in (("b", "2026-03-01T12:00:01Z"), ("c", "2026-03-01T12:00:00Z"), ("a", "2026-03-01T12:00:01Z")):
        registry.put(a_bot(name, made=made))
    account = account_of(a_bot())
    assert [each.name for each in registry.bots_of(account)] == ["c", "a", "b"]
    assert registry.bots_of(account_owner("elsewhere", account.name)) == []


def test_one_that_goes_leaves_its_account() -> None:
    registry = Registry()
    one, two = a_bot("one"), a_bot("two")
    registry.put(one)
    registry.put(two)
    assert registry.remove(one.owner, one.uid) == [account_of(one)]
    assert registry.remove(one.owner, one.uid) == []
    assert registry.remove(two.owner, "an older one of its name") == []
    assert [each.name for each in registry.bots_of(account_of(two))] == ["two"]
    registry.remove(two.owner, two.uid)
    assert registry.bots_of(account_of(two)) == []
    assert len(registry) == 0


def test_a_change_of_account_concerns_both() -> None:
    """The API server refuses it; one that was made anew under its name has the same effect."""
    registry = Registry()
    before = a_bot()
    registry.put(before)
    after = a_bot(version=2, uid="another", **OTHER_ACCOUNT)
    assert registry.put(after) == [after.owner, account_of(after), account_of(before)]
    assert registry.bots_of(account_of(before)) == []


def test_one_that_can_not_be_read_keeps_its_account() -> None:
    registry = Registry()
    bot = a_bot()
    registry.put(bot)
    broken = a_bot(version=2)
    broken.body["spec"]["timeframe"] = "7m"
    assert registry.put(broken) == [bot.owner, account_of(bot)]
    assert registry.bots_of(account_of(bot)) == [bot.owner]
    alone = Registry()
    assert alone.put(broken) == [bot.owner]


def test_what_metrics_tell_of_each_bot_is_known_and_goes_with_it() -> None:
    registry = Registry()
    bot = a_bot(version=2)
    bot.body["status"] = {"readyAgents": 4, "lastRealityCheck": {"at": "2026-03-01T12:00:40Z", "result": "failed"}}
    registry.put(a_bot())
    assert [(key, known.result) for key, known in registry.checks()] == [(bot.owner, None)]
    assert registry.ready() == [(bot.owner, 0)]
    registry.put(bot)
    assert [(key, known.result) for key, known in registry.checks()] == [(bot.owner, "failed")]
    assert registry.ready() == [(bot.owner, 4)]
    registry.remove(bot.owner, bot.uid)
    assert registry.checks() == registry.ready() == []
