"""Bots that share an account, and so its database, under the real operator."""

from __future__ import annotations

import pytest

from support.kubernetes import Json, until
from support.operator_rig import EXTERNAL, OperatorRig, RunningOperator
from support.specs import LIVE, PAPER, changed
from tradingbot_api import load_object
from tradingbot_operator.names import Component, account_child, account_id

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


def test_what_keeps_a_database_from_being_made_is_said_on_all_that_wait_for_it(rig: OperatorRig) -> None:
    rig.give_external()
    name = account_child(account_id(load_object(SHARED)), Component.POSTGRES)
    rig.api.create(
        "v1/services",
        {
            "metadata": {"name": name, "namespace": rig.namespace},
            "spec": {"ports": [{"port": 1}], "selector": {"mine": "1"}},
        },
    )
    rig.apply(a_bot("ant"))
    rig.apply(a_bot("zebra"))
    rig.start()
    for bot in ("ant", "zebra"):
        told = rig.until_condition(bot, "Degraded", "True", "DatabaseFailed")
        assert f"postgres: Service {name} is there already, and not made for this account" in told["message"]
    rig.until_at_rest()
    rig.api.delete("v1/services", rig.namespace, name)
    for bot in ("ant", "zebra"):
        rig.until_ready(bot)
        assert rig.condition(bot, "Degraded")["status"] == "False"


def test_a_database_that_is_held_does_not_go_with_the_bot_that_holds_it(rig: OperatorRig) -> None:
    """While positions are open it is not restarted; but whoever comes meanwhile owns it as well."""
    rig.give_external()
    rig.secret("binance-keys", apiKey="key", secret="secret")
    live = changed(
        LIVE, {**{part: EXTERNAL[part] for part in ("messaging", "timeSeries")}, "deletionPolicy": "Retain"}
    )
    rig.apply(live)
    rig.start()
    rig.until_ready("live")
    rig.report("live", positions=1)
    rig.until_condition("live", "Trading", "True")
    rig.apply(live | {"metadata": {"name": "next"}})
    rig.until_ready("next")
    until(lambda: owners(rig) == {"live", "next"}, "both own it")
    before = database(rig)
    rig.delete("live")
    until(lambda: rig.bot("live") is None, "the one that held it is gone")
    until(lambda: owners(rig) == {"next"}, "the other owns it alone")
    rig.until_at_rest()
    assert database(rig)["metadata"]["uid"] == before["metadata"]["uid"]
    assert rig.events("next", "Repaired") == []


def test_a_database_that_is_held_is_told_and_changed_when_the_positions_are_closed(rig: OperatorRig) -> None:
    rig.give_external()
    rig.secret("binance-keys", apiKey="key", secret="secret")
    live = changed(LIVE, {part: EXTERNAL[part] for part in ("messaging", "timeSeries")})
    operator = rig.start()
    for bot, positions in (("ant", 0), ("live", 1)):
        # The eldest one's settings count; of equal ages, the names decide.
        rig.apply(live | {"metadata": {"name": bot}})
        rig.until_ready(bot)
        rig.report(bot, positions=positions)
        rig.until_condition(bot, "Trading", "True")
    before = database(rig)["spec"]["template"]
    rig.edit("ant", database={"managed": {"resources": {"requests": {"memory": "300Mi"}}}})
    told = rig.until_condition("live", "ConfigDrift", "True", "DatabaseHeld")
    assert "StatefulSet" in told["message"]
    assert "updateStrategy: Auto" in told["message"]
    mark = rig.until_at_rest()
    # Another operator says the same, and nothing else in between.
    operator.kill()
    rig.start()
    rig.until_at_rest()
    assert [each.resource for each in rig.writes(mark)] == []
    assert database(rig)["spec"]["template"] == before
    rig.report("live", positions=0)
    rig.until_condition("live", "ConfigDrift", "False", "Applied")
    until(lambda: database(rig)["spec"]["template"] != before, "it is changed")


def test_bots_of_two_accounts_have_nothing_in_common(rig: OperatorRig) -> None:
    rig.give_external()
    rig.start()
    rig.apply(a_bot("one"))
    rig.apply(a_bot("two", account__name="other"))
    rig.until_ready("one")
    rig.until_ready("two")
    sets = [child for key, child in rig.children().items() if key[0] == "statefulsets" and "postgres" in key[1]]
    assert sorted(owner["name"] for each in sets for owner in each["metadata"]["ownerReferences"]) == ["one", "two"]
