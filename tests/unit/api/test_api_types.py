"""The types are the single source: they say everything that a structural schema and a reference need, and no more."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec
import pytest

import tradingbot_api
from tradingbot_api import defaults, types
from tradingbot_api.building import Field, fields_of, is_struct, take_apart
from tradingbot_api.indicators import IndicatorName
from tradingbot_api.model import Model, Preserved
from tradingbot_api.risk import ProtectionName
from tradingbot_api.scalar import Scalar, ScalarInvalid

SOURCES = Path(tradingbot_api.__file__).parent


def every_type(cls: type[msgspec.Struct] = types.TradingBot) -> Iterator[type[msgspec.Struct]]:
    yield cls
    for field in fields_of(cls):
        base = field.hint.base
        inner = [base] if is_struct(base) else [take_apart(part).base for part in get_args(base)]
        for part in inner:
            if is_struct(part):
                yield from every_type(part)


TYPES = sorted(set(every_type()), key=lambda cls: cls.__name__)
FIELDS = [pytest.param(cls, field, id=f"{cls.__name__}.{field.name}") for cls in TYPES for field in fields_of(cls)]


def structural_mistakes(annotation: Any, preserved: bool = False) -> Iterator[str]:
    """What a structural schema cannot say about an annotation."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner, *marks = parts
        if any(isinstance(mark, Scalar) for mark in marks):
            return
        yield from structural_mistakes(inner, preserved or any(isinstance(mark, Preserved) for mark in marks))
    elif origin in (Union, UnionType):
        if len(parts) != 2 or NoneType not in parts:
            yield f"union {annotation}"
        for part in parts:
            if part is not NoneType:
                yield from structural_mistakes(part, preserved)
    elif origin is Literal:
        if not all(isinstance(part, str) for part in parts):
            yield f"enumeration of something else than text: {annotation}"
    elif origin is tuple:
        if len(parts) != 2 or parts[1] is not Ellipsis:
            yield f"tuple of mixed types: {annotation}"
        yield from structural_mistakes(parts[0], preserved)
    elif origin is dict:
        key = take_apart(parts[0])
        if key.base is not str:
            yield f"keys that are not text: {annotation}"
        if not (preserved and parts[1] is Any):
            yield from structural_mistakes(parts[1])
    elif not (annotation in (str, int, bool) or is_struct(annotation)):
        yield f"{annotation}"


@pytest.mark.parametrize(("cls", "field"), FIELDS)
def test_a_structural_schema_can_say_every_field(cls: type[msgspec.Struct], field: Field) -> None:
    assert list(structural_mistakes(field.annotation)) == []


@pytest.mark.parametrize(
    "annotation",
    [int | str, int | str | None, tuple[int, str], dict[int, str], Any, dict[str, Any], list[int], float, Literal[1]],
)
def test_the_check_finds_what_a_structural_schema_cannot_say(annotation: Any) -> None:
    assert list(structural_mistakes(annotation))


@pytest.mark.parametrize(("cls", "field"), FIELDS)
def test_every_field_says_what_it_is(cls: type[msgspec.Struct], field: Field) -> None:
    description = field.hint.description
    assert description.endswith("."), "a description is made of sentences"
    assert len(description) <= 200


@pytest.mark.parametrize("cls", TYPES)
def test_every_object_is_frozen_and_strict(cls: type[msgspec.Struct]) -> None:
    assert issubclass(cls, Model)
    config = cls.__struct_config__
    assert (config.frozen, config.forbid_unknown_fields, config.omit_defaults) == (True, True, False)
    assert cls.__doc__
    for name, key in zip(cls.__struct_fields__, cls.__struct_encode_fields__, strict=True):
        assert key == re.sub(r"_([a-z])", lambda match: match[1].upper(), name)


def test_msgspec_understands_the_types() -> None:
    assert msgspec.inspect.type_info(types.TradingBot)


def test_defaults_are_written_in_one_place() -> None:
    """Field defaults in the types are names of `defaults`, None, empty or built of such: never a value."""
    found = []
    for path in SOURCES.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef) and any(
                ast.unparse(base).endswith(("Model", "Storage")) for base in node.bases
            ):
                for statement in node.body:
                    if isinstance(statement, ast.AnnAssign) and statement.value is not None:
                        default = ast.unparse(statement.value)
                        if not re.fullmatch(
                            r"defaults\.[A-Z_]+|None|\(\)|DERIVED|msgspec\.field\(default_factory=\w+\)", default
                        ):
                            found.append(f"{node.name}.{ast.unparse(statement.target)} = {default}")
    assert found == []


def test_every_default_is_used_and_has_its_reason() -> None:
    """Each constant of `defaults` is read somewhere, and has a comment on its line, above or below it."""
    lines = (SOURCES / "defaults.py").read_text(encoding="utf-8").splitlines()
    rest = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py"))
    for number, line in enumerate(lines):
        if match := re.match(r"([A-Z][A-Z_]+): Final", line):
            assert len(re.findall(rf"\b{match[1]}\b", rest)) > 1, f"{match[1]} is not used"
            block = []
            for text in lines[number:]:
                if not text.strip():
                    break
                block.append(text)
            assert any("#" in text for text in block), f"{match[1]} has no reason"


def test_catalogues_and_names_agree() -> None:
    assert set(defaults.INDICATOR_PARAMETERS) == set(get_args(IndicatorName))
    assert set(defaults.PROTECTION_PARAMETERS) == set(get_args(ProtectionName))
    assert set(defaults.INDICATORS) <= set(get_args(IndicatorName))
    assert set(defaults.PROTECTIONS) <= set(get_args(ProtectionName))


def test_the_constants_of_the_root_agree_with_its_type() -> None:
    hints = get_type_hints(types.TradingBot)
    assert get_args(hints["api_version"]) == (types.API_VERSION,)
    assert get_args(hints["kind"]) == (types.KIND,)


SCALARS = {
    mark.name: mark
    for cls in TYPES
    for field in fields_of(cls)
    for mark in [field.hint.scalar, *(take_apart(part).scalar for part in get_args(field.hint.base))]
    if mark is not None
}


@pytest.mark.parametrize("scalar", SCALARS.values(), ids=SCALARS.keys())
def test_every_scalar_can_stand_in_a_crd(scalar: Scalar) -> None:
    assert scalar.format(scalar.parse(scalar.example)) == scalar.example
    assert scalar.pattern.startswith("^")
    assert scalar.pattern.endswith("$")
    # RE2 has no look-around, no back-references, and counts to 1000.
    assert not re.search(r"\(\?|\\[1-9bBAZ]", scalar.pattern)
    assert all(int(count) <= 1000 for count in re.findall(r"[{,]([0-9]+)\}", scalar.pattern))
    with pytest.raises(ScalarInvalid) as caught:
        scalar.parse(f"{scalar.example}\n")
    assert caught.value.remedy


def test_importing_the_types_imports_little() -> None:
    script = (
        "import sys, tradingbot_api; "
        "print(*sorted({name.split('.')[0] for name in sys.modules} & "
        "{'yaml', 'pydantic', 'asyncio', 'tradingbot_agents', 'numpy', 'asyncpg', 'kopf'}))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert result.stdout.split() == []


def test_the_public_face_is_what_is_imported() -> None:
    tree = ast.parse((SOURCES / "__init__.py").read_text(encoding="utf-8"))
    imported = {name.name for node in tree.body if isinstance(node, ast.ImportFrom) for name in node.names}
    assert set(tradingbot_api.__all__) == imported
