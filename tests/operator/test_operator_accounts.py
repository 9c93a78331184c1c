"""Bots that share an account, and so its database, under the real operator."""

from __future__ import annotations

import pytest

from support.kubernetes import Json, until
from support.operator_rig import EXTERNAL, OperatorRig, RunningOperator
from support.specs import PAPER, changed

pytestmark = [pytest.mark.kubernetes, pytest.mark.minutes]

SHARED = changed(PAPER, {part: EXTERNAL[part] for part in ("messaging", "timeSeries")})
"""With a database of its account, and no other server."""


def a_bot(name: str, **changes: object) -> Json:
    return changed(SHARED, {path.replace("__", "."): value for path, value in changes.items()}) | {
        "metadata": {"name": name}
    }


def database(rig: OperatorRig) -> Json:
    [found] = [child for key, child in rig.children().items() if key[0] == "statefulsets" and "postgres" in key[1]]
    return found


def owners(rig: OperatorRig) -> set[str]:
    return {each["name"] for each in database(rig)["metadata"]["ownerReferences"]}


def of_the_account(rig: OperatorRig) -> dict[tuple[str, str], Json]:
    return {
        key: child for key, child in rig.children().items() if "tradingbot.dev/account" in child["metadata"]["labels"]
    }


def until_it_has_looked(operator: RunningOperator, times: int) -> None:
    until(lambda: operator.metric("tradingbot_operator_reconciles_total") >= times, "everything is looked at")


def test_two_bots_of_one_account_share_its_database_until_the_last_is_gone(rig: OperatorRig) -> None:
    rig.give_external()
    rig.start()
    # The name says nothing of who is the elder.
    rig.apply(a_bot("zebra"))
    rig.until_ready("zebra")
    uid = database(rig)["metadata"]["uid"]
    assert owners(rig) == {"zebra"}
    rig.apply(a_bot("ant"))
    rig.until_ready("ant")
    until(lambda: owners(rig) == {"ant", "zebra"}, "both own it")
    assert database(rig)["metadata"]["uid"] == uid
    assert not any(each.get("controller") for each in database(rig)["metadata"]["ownerReferences"])
    before = database(rig)["spec"]
    rig.delete("zebra")
    until(lambda: rig.bot("zebra") is None, "the elder is gone")
    until(lambda: owners(rig) == {"ant"}, "the younger owns it alone")
    assert database(rig)["metadata"]["uid"] == uid
    assert database(rig)["spec"] == before
    assert rig.until_ready("ant")["children"]["database"] == "ready"
    rig.delete("ant")
    until(lambda: rig.bot("ant") is None, "the last is gone")
    # The volume, and the Secret that opens it, stay: money is written there.
    until(
        lambda: {key[0] for key in of_the_account(rig)} <= {"persistentvolumeclaims", "secrets"},
        "the database is gone with it",
    )
    until(lambda: not rig.pods("postgres"), "its pod")


def test_a_database_that_was_left_is_taken_up_again(rig: OperatorRig) -> None:
    rig.give_external()
    rig.start()
    rig.apply(a_bot("first"))
    rig.until_ready("first")
    kept = {
        key: child for key, child in of_the_account(rig).items() if key[0] in ("secrets", "persistentvolumeclaims")
    }
    assert {key[0] for key in kept} == {"secrets", "persistentvolumeclaims"}
    rig.delete("first")
    until(lambda: rig.bot("first") is None and not rig.pods(), "gone")
    rig.apply(a_bot("second"))
    rig.until_ready("second")
    now = of_the_account(rig)
    for key, child in kept.items():
        assert now[key]["metadata"]["uid"] == child["metadata"]["uid"]
        assert now[key].get("data") == child.get("data")


def test_the_eldest_bots_settings_count_also_after_a_restart(rig: OperatorRig) -> None:
    rig.give_external()
    operator = rig.start()
    rig.apply(a_bot("zebra"))
    rig.until_ready("zebra")
    # Times of creation are whole seconds; the names decide between equal ones.
    first = rig.bot("zebra")
    assert first is not None
    storage = "database.managed.resources"
    asks = {"requests": {"memory": "300Mi"}, "limits": {"memory": "1Gi"}}
    created = first["metadata"]["creationTimestamp"]
    rig.apply(a_bot("middle"))
    until(lambda: (rig.bot("middle") or first)["metadata"]["creationTimestamp"] >= created, "it is younger")
    rig.until_ready("middle")
    rig.apply(changed(a_bot("ant"), {storage: asks}))
    rig.until_ready("ant")
    until(lambda: owners(rig) == {"ant", "middle", "zebra"}, "all own it")
    before = {key: child["metadata"]["resourceVersion"] for key, child in of_the_account(rig).items()}
    memory = database(rig)["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"]
    assert memory != "300Mi"
    mark = rig.cluster.audit.mark()
    for _ in range(3):
        operator.kill()
        operator = rig.start()
        until_it_has_looked(operator, 4)
    assert [(each.verb, each.resource, each.name) for each in rig.writes(mark) if each.resource != "events"] == []
    after = {key: child["metadata"]["resourceVersion"] for key, child in of_the_account(rig).items()}
    assert {key: after[key] for key in after if key[0] != "statefulsets"} == {
        key: before[key] for key in before if key[0] != "statefulsets"
    }


def test_bots_of_two_accounts_have_nothing_in_common(rig: OperatorRig) -> None:
    rig.give_external()
    rig.start()
    rig.apply(a_bot("one"))
    rig.apply(a_bot("two", account__name="other"))
    rig.until_ready("one")
    rig.until_ready("two")
    sets = [child for key, child in rig.children().items() if key[0] == "statefulsets" and "postgres" in key[1]]
    assert sorted(owner["name"] for each in sets for owner in each["metadata"]["ownerReferences"]) == ["one", "two"]
