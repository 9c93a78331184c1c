"""The CustomResourceDefinition, as far as it can be judged without an API server: `tests/operator` has one."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tradingbot_api import crd_rules
from tradingbot_api.crd import custom_resource_definition
from tradingbot_api.crd_rules import BY_LIST_TYPE, CEL_RULES, OPERATOR_ONLY
from tradingbot_api.rules import RULES

REPOSITORY = Path(__file__).parents[3]

Json = dict[str, Any]

OF_ITS_OWN = {"immutable", "object_name", "some_cpu"}
"""CEL rules that look at what a single field is, or was: `rules` has no twin of them."""


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_crd", REPOSITORY / "scripts" / "generate_crd.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def root() -> Json:
    schema: Json = custom_resource_definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return schema


def at(path: str) -> Json:
    """The schema of a field below `spec`; `[]` is a list's item."""
    schema: Json = root()["properties"]["spec"]
    for step in path.split("."):
        schema = schema["properties"][step.removesuffix("[]")]
        if step.endswith("[]"):
            schema = schema["items"]
    return schema


def every_schema(schema: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from every_schema(child, f"{path}.{name}")
    if "items" in schema:
        yield from every_schema(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from every_schema(schema["additionalProperties"], f"{path}{{}}")


def test_the_file_is_current(generator: ModuleType) -> None:
    assert not generator.outdated(REPOSITORY / "crds" / "tradingbots.yaml"), "run: make crd"


def test_a_changed_or_missing_file_is_out_of_date(generator: ModuleType, tmp_path: Path) -> None:
    file = tmp_path / "tradingbots.yaml"
    assert generator.outdated(file)
    file.write_text(generator.text() + "\n", encoding="utf-8")
    assert generator.outdated(file)
    file.write_text(generator.text(), encoding="utf-8")
    assert not generator.outdated(file)


def test_kubectl_apply_can_remember_it_in_an_annotation() -> None:
    """Without --server-side kubectl keeps the whole manifest in an annotation of at most 256 KiB."""
    assert len(json.dumps(custom_resource_definition())) < 200_000


def test_every_rule_has_its_place() -> None:
    ours = {rule.__name__ for _, rule in RULES}
    cel = {rule.name for rule in CEL_RULES}
    assert cel - ours == OF_ITS_OWN
    assert ours == (cel - OF_ITS_OWN) | BY_LIST_TYPE | OPERATOR_ONLY
    assert not cel & BY_LIST_TYPE
    assert not cel & OPERATOR_ONLY
    assert not BY_LIST_TYPE & OPERATOR_ONLY


def test_a_rule_stands_at_the_object_of_its_twin() -> None:
    places = {rule.__name__: cls for cls, rule in RULES}
    assert [rule for rule in CEL_RULES if places.get(rule.name, rule.cls) is not rule.cls] == []


def test_every_field_is_explained() -> None:
    standard = {".metadata"}
    missing = [
        path
        for path, schema in every_schema(root())
        if not path.endswith(("[]", "{}")) and path not in standard and not schema.get("description")
    ]
    assert missing == []


def test_whatever_can_grow_is_bounded() -> None:
    for path, schema in every_schema(root()["properties"]["spec"]):
        if schema["type"] == "array":
            assert "maxItems" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path
        if "pattern" in schema:
            assert "maxLength" in schema, path
    for path, schema in every_schema(root()["properties"]["status"]):
        bound = {"array": "maxItems", "string": "maxLength"}.get(schema["type"])
        assert bound is None or bound in schema or "enum" in schema, path


@pytest.mark.parametrize(
    "path",
    [
        "account.quoteStep",
        "strategy.fusion",
        "strategy.window",
        "strategy.indicators[].id",
        "messaging.managed",
        "timeSeries.managed",
        "database.managed",
        "risk.sizing",
        "risk.sizing.method",
        "risk.sizing.fraction",
        "risk.sizing.kelly.cap",
        "risk.sizing.volatility.targetRisk",
        "risk.stopLoss",
        "risk.protections",
        "risk.protections[].limit",
    ],
)
def test_what_is_derived_or_must_be_written_has_no_default(path: str) -> None:
    assert "default" not in at(path)
    *above, last = path.split(".")
    for depth in range(1, len(above) + 1):
        default = at(".".join(above[:depth])).get("default", {})
        for step in above[depth:]:
            default = default.get(step, {})
        assert last not in default, "nor in the default of an object above it"


def test_a_field_without_a_default_says_what_paper_takes() -> None:
    assert at("risk.stopLoss")["description"].endswith(
        'Mode paper takes "0.05" when it is not given; testnet and live must write it out.'
    )
    assert at("risk.protections")["description"].endswith("Testnet and live must write it out.")


def test_defaults_are_written_as_resolved_writes_them() -> None:
    assert at("exchange.pollInterval")["default"] == "30s"
    assert at("exchange.replay.speed")["default"] == "max"
    assert at("messaging.managed.storage.size")["default"] == "1Gi"
    assert at("realityCheck.suspend")["default"] is False
    assert at("strategy.indicators")["default"][0] == {
        "name": "emaCross",
        "id": "emaCross-12-26",
        "weight": "1",
        "fast": 12,
        "slow": 26,
    }


def test_lists_merge_by_what_tells_their_items_apart() -> None:
    kinds = {
        path: (schema["x-kubernetes-list-type"], schema.get("x-kubernetes-list-map-keys"))
        for path, schema in every_schema(root())
        if schema["type"] == "array" and not path.startswith(".spec.agents")
    }
    assert kinds == {
        ".spec.symbols": ("set", None),
        ".spec.strategy.indicators": ("atomic", None),
        ".spec.risk.sizing.caps": ("atomic", None),
        ".spec.risk.protections": ("map", ["name"]),
        ".spec.notifications": ("map", ["name"]),
        ".status.conditions": ("map", ["type"]),
        ".status.positions": ("map", ["symbol"]),
    }
    assert at("agents.risk.env")["x-kubernetes-list-map-keys"] == ["name"]
    assert at("agents.risk.tolerations")["x-kubernetes-list-type"] == "atomic"


def test_a_reference_to_a_secret_has_one_owner() -> None:
    for path, schema in every_schema(root()):
        if path.endswith(("SecretRef", "valueFromSecret")):
            assert schema["x-kubernetes-map-type"] == "atomic", path


def test_values_are_put_into_a_message() -> None:
    rule = crd_rules.CelRule(cls=object, name="n", rule="r", message="it's {{self.a}} of {{self.b}}")  # type: ignore[arg-type]
    assert crd_rules._written(rule) == {"rule": "r", "messageExpression": r"'it\'s ' + self.a + ' of ' + self.b"}
