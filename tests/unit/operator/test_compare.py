"""Whether an object covers its manifest."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot_operator.compare import difference, digest, sealed
from tradingbot_operator.names import Annotation

WANTED: dict[str, Any] = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "a", "namespace": "n", "labels": {"x": "1"}},
    "spec": {
        "replicas": 1,
        "template": {
            "spec": {
                "containers": [
                    {
                        "name": "agent",
                        "image": "i:1",
                        "args": [],
                        "resources": {"limits": {"cpu": "1000m", "memory": "1024Mi"}},
                    }
                ]
            }
        },
    },
}


def as_the_server_has_it() -> dict[str, Any]:
    return {
        **WANTED,
        "metadata": {**WANTED["metadata"], "labels": {"x": "1", "added": "by hand"}, "uid": "u"},
        "spec": {
            "replicas": 1,
            "progressDeadlineSeconds": 600,
            "template": {
                "spec": {
                    "dnsPolicy": "ClusterFirst",
                    "containers": [
                        {
                            "name": "agent",
                            "image": "i:1",
                            "imagePullPolicy": "IfNotPresent",
                            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
                        }
                    ],
                }
            },
        },
        "status": {"replicas": 1},
    }


def test_what_the_server_adds_and_how_it_writes_amounts_is_no_difference() -> None:
    assert difference(as_the_server_has_it(), WANTED) is None


def changed(*path: str | int, to: Any) -> dict[str, Any]:
    found = as_the_server_has_it()
    place: Any = found
    for step in path[:-1]:
        place = place[step]
    if to is ...:
        del place[path[-1]]
    else:
        place[path[-1]] = to
    return found


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        (("spec", "replicas"), 3, "spec.replicas is 3, not 1"),
        (("spec", "replicas"), ..., "spec.replicas is missing"),
        (("metadata", "labels", "x"), "2", "metadata.labels.x is '2', not '1'"),
        (("metadata", "labels"), None, "metadata.labels is missing"),
        (
            ("spec", "template", "spec", "containers", 0, "image"),
            "i:2",
            "spec.template.spec.containers[0].image is 'i:2', not 'i:1'",
        ),
        (("spec", "template", "spec", "containers"), [{}, {}], "spec.template.spec.containers has 2 items, not 1"),
        (
            ("spec", "template", "spec", "containers", 0, "resources", "limits", "memory"),
            "2Gi",
            "spec.template.spec.containers[0].resources.limits.memory is '2Gi', not '1024Mi'",
        ),
    ],
)
def test_a_difference_is_told_with_its_place(path: tuple[str | int, ...], value: Any, told: str) -> None:
    assert difference(changed(*path, to=value), WANTED) == told


def test_a_quantity_is_one_only_among_resources() -> None:
    wanted = {"kind": "ConfigMap", "data": {"limit": "1000m"}}
    assert difference({"kind": "ConfigMap", "data": {"limit": "1"}}, wanted) is not None


def test_of_a_secret_the_keys_are_known() -> None:
    wanted = {"kind": "Secret", "stringData": {"url": "x", "token": "y"}}
    assert difference({"kind": "Secret", "data": {"url": "", "token": ""}}, wanted) is None
    assert difference({"kind": "Secret", "data": {"url": ""}}, wanted) == "token is missing"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("abc", max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("xyz", min_size=1, max_size=2), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(JSON)
def test_everything_covers_itself(value: Any) -> None:
    assert difference({"spec": value}, {"spec": value}) is None


def test_the_seal_changes_with_any_content() -> None:
    owners = [{"uid": "u"}]
    one, other = sealed(WANTED, owners), sealed({**WANTED, "spec": {"replicas": 2}}, owners)
    seal = Annotation.MANIFEST.value
    assert one["metadata"]["annotations"][seal] != other["metadata"]["annotations"][seal]
    assert one["metadata"]["annotations"][seal] != sealed(WANTED, [])["metadata"]["annotations"][seal]
    assert one["metadata"]["ownerReferences"] == owners
    assert "ownerReferences" not in sealed(WANTED, [])["metadata"]
    assert "annotations" not in WANTED["metadata"]
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
