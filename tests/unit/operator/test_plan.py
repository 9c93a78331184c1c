"""What a plan changes, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from tradingbot_operator.kinds import Manifest, Ref, ref_of
from tradingbot_operator.plan import Delete, Wanted, Why, owner_reference, plan

BOT: Manifest = {"metadata": {"name": "bot", "uid": "bot-uid"}}
OWNERS = [owner_reference(BOT, controller=True)]
BOTH = [*OWNERS, owner_reference({"metadata": {"name": "other", "uid": "other-uid"}}, controller=False)]


def a_map(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "n"}, "data": data}


def there(*manifests: Manifest, **meta: Any) -> dict[Ref, Manifest]:
    return {
        ref_of(each): {**each, "metadata": {"uid": f"uid-{each['metadata']['name']}", **each["metadata"], **meta}}
        for each in manifests
    }


def made(*wanted: Wanted) -> dict[Ref, Manifest]:
    """As it is after the plan was carried out."""
    return there(*(write.manifest for write in plan(wanted, {}, OWNERS, settled=False).writes))


def test_what_is_missing_is_made_in_its_order() -> None:
    wanted = [Wanted(manifest=a_map("b")), Wanted(manifest=a_map("a"), once=True)]
    found = plan(wanted, {}, OWNERS, settled=False)
    assert [(str(write.ref), write.why, write.once) for write in found.writes] == [
        ("ConfigMap b", Why.NEW, False),
        ("ConfigMap a", Why.NEW, True),
    ]
    assert all(write.manifest["metadata"]["ownerReferences"] == OWNERS for write in found.writes)
    assert found.deletes == []


def test_nothing_is_changed_when_all_is_as_wanted() -> None:
    wanted = [Wanted(manifest=a_map("a", x="1")), Wanted(manifest=a_map("b"), owned=False)]
    assert plan(wanted, made(*wanted), OWNERS, settled=True).empty


def test_what_was_there_and_is_not_was_lost() -> None:
    [write] = plan([Wanted(manifest=a_map("a"))], {}, OWNERS, settled=True).writes
    assert write.why is Why.LOST
    [write] = plan([Wanted(manifest=a_map("a"), comes_and_goes=True)], {}, OWNERS, settled=True).writes
    assert write.why is Why.NEW


def test_our_change_and_somebody_elses_are_told_apart() -> None:
    before = made(Wanted(manifest=a_map("a", x="1")))
    [write] = plan([Wanted(manifest=a_map("a", x="2"))], before, OWNERS, settled=True).writes
    assert (write.why, write.detail) == (Why.CHANGED, "")
    [ref] = before
    before[ref]["data"] = {"x": "3"}
    [write] = plan([Wanted(manifest=a_map("a", x="1"))], before, OWNERS, settled=True).writes
    assert (write.why, write.detail) == (Why.DRIFTED, "data.x is '3', not '1'")


def test_what_is_made_once_is_never_changed() -> None:
    before = made(Wanted(manifest=a_map("a", x="1"), once=True))
    assert plan([Wanted(manifest=a_map("a", x="2"), once=True)], before, OWNERS, settled=True).empty


def test_what_is_made_once_gets_further_owners() -> None:
    """Or it would go with the first of the bots that share it."""
    wanted = [Wanted(manifest=a_map("a"), once=True)]
    [write] = plan(wanted, made(*wanted), BOTH, settled=True).writes
    assert (write.why, write.owners) == (Why.CHANGED, BOTH)


def test_what_is_to_stay_from_now_on_loses_its_owners() -> None:
    """A volume was to be deleted with the bot, and now it stays: so must the Secret that opens it."""
    before = made(Wanted(manifest=a_map("a"), once=True))
    [write] = plan([Wanted(manifest=a_map("a"), once=True, owned=False)], before, OWNERS, settled=True).writes
    assert (write.why, write.owners) == (Why.CHANGED, [])


def test_what_is_going_is_waited_for() -> None:
    before = there(*(each for each in made(Wanted(manifest=a_map("a"))).values()), deletionTimestamp="now")
    assert plan([Wanted(manifest=a_map("a", x="2"))], before, OWNERS, settled=True).empty
    assert plan([], before, OWNERS, settled=True).empty


def test_only_what_belongs_to_this_owner_alone_is_pruned() -> None:
    ours = made(Wanted(manifest=a_map("ours")))
    unowned = there(a_map("kept-volume"))
    others = there(a_map("job"), ownerReferences=[{"uid": "cronjob"}])
    shared = there(a_map("shared"), ownerReferences=[*OWNERS, {"uid": "another"}])
    found = plan([], {**ours, **unowned, **others, **shared}, OWNERS, settled=True)
    assert found.deletes == [Delete(ref=Ref("ConfigMap", "ours"), uid="uid-ours")]
    assert plan([], ours, OWNERS, settled=True, keep=[Ref("ConfigMap", "ours")]).empty


def test_what_is_held_is_not_changed_by_us_but_repaired() -> None:
    before = made(Wanted(manifest=a_map("a", x="1")))
    [ref] = before
    left = plan([Wanted(manifest=a_map("a", x="2"))], before, OWNERS, settled=True, held=[ref])
    assert left.empty
    assert left.held == [ref], "it is told"
    assert plan([Wanted(manifest=a_map("a", x="1"))], before, OWNERS, settled=True, held=[ref]).held == []
    assert plan([Wanted(manifest=a_map("a", x="2"))], {}, OWNERS, settled=True, held=[ref]).writes
    before[ref]["data"] = {"x": "3"}
    [write] = plan([Wanted(manifest=a_map("a", x="1"))], before, OWNERS, settled=True, held=[ref]).writes
    assert write.why is Why.DRIFTED


@pytest.mark.parametrize("data", ["1", "2"])
def test_what_is_held_gets_further_owners(data: str) -> None:
    """Or a database would go, and its volume with it, with the one bot that was there when it began to be held."""
    before = made(Wanted(manifest=a_map("a", x="1")))
    wanted = [Wanted(manifest=a_map("a", x=data))]
    [write] = plan(wanted, before, BOTH, settled=True, held=list(before)).writes
    assert (write.why, write.owners) == (Why.CHANGED, BOTH)
    for each in before.values():
        each["metadata"]["ownerReferences"] = BOTH
    assert plan(wanted, before, BOTH, settled=True, held=list(before)).empty
