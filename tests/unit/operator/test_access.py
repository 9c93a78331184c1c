"""Who a bot's pods are to the API server."""

from __future__ import annotations

from typing import Any

from support.specs import LIVE
from tradingbot_api import load_object
from tradingbot_operator.builders.access import access, has_token
from tradingbot_operator.kinds import Manifest
from tradingbot_operator.names import AGENTS, Component

BOT = load_object(LIVE)
MANIFESTS = access(BOT, "trading")


def of_kind(kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in MANIFESTS if each["kind"] == kind}


def granted(role: Manifest) -> set[tuple[str, str, str | None]]:
    """Each verb on each resource, and the one name that it is limited to."""
    return {
        (verb, ".".join(part for part in (resource, group) if part), (rule.get("resourceNames") or [None])[0])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


OWN = {
    ("get", "tradingbots.tradingbot.dev", "live"),
    ("get", "tradingbots/status.tradingbot.dev", "live"),
    ("patch", "tradingbots/status.tradingbot.dev", "live"),
}
EVIDENCE: set[tuple[str, str, Any]] = {
    ("get", "pods", None),
    ("list", "pods", None),
    ("get", "pods/log", None),
    ("create", "events", None),
}


def test_each_program_has_an_identity_whose_token_no_pod_gets_by_itself() -> None:
    programs = (*AGENTS, Component.MIGRATION, Component.PRUNE, Component.REALITY_CHECK)
    accounts = of_kind("ServiceAccount")
    assert set(accounts) == {f"live-{component}" for component in programs}
    assert {each["automountServiceAccountToken"] for each in accounts.values()} == {False}


def test_risk_and_execution_may_write_the_status_of_their_bot_and_nothing_else() -> None:
    for name in ("live-risk", "live-execution"):
        assert granted(of_kind("Role")[name]) == OWN


def test_the_check_may_read_evidence_and_write_its_verdict_and_nothing_else() -> None:
    assert granted(of_kind("Role")["live-reality-check"]) == OWN | EVIDENCE


def test_who_has_a_role_is_bound_to_it_and_has_a_token() -> None:
    bindings = of_kind("RoleBinding")
    assert set(bindings) == set(of_kind("Role"))
    for name, binding in bindings.items():
        assert binding["roleRef"] == {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
        assert binding["subjects"] == [{"kind": "ServiceAccount", "name": name, "namespace": "trading"}]
    assert {f"live-{component}" for component in Component if has_token(component)} == set(bindings)
