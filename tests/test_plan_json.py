"""A plan's JSON form: exact there and back, strict, and as the published schema says."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, Iterator, get_args, get_origin

import jsonschema
import pytest
from fake_cloud import FakeCloud
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cloudfn import plan_json, policy
from cloudfn.exception import InvalidError, VersionError
from cloudfn.plan import make
from cloudfn.plan_spec import Plan
from cloudfn.settings import Settings
from cloudfn.spec import AppSpec, CodeSpec, FunctionSpec, GPUSpec, Resources

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = json.loads((ROOT / "docs" / "plan.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

# st.builds() fills fields with defaults only where told: every field of every dataclass gets a value here.
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=3,
)
TEXT = st.text(max_size=6)


def strategy(kind: Any) -> st.SearchStrategy[Any]:
    """Values of a field's type; short ones, since a plan has many."""
    origin = get_origin(kind)
    if kind is Any:
        return JSON
    if origin is tuple:
        return st.lists(strategy(get_args(kind)[0]), max_size=2).map(tuple)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return st.dictionaries(TEXT, strategy(get_args(kind)[1]), max_size=2)
    if origin is UnionType or origin is not None:
        return st.none() | strategy(get_args(kind)[0])
    if is_dataclass(kind):
        return st.builds(kind, **{name: strategy(of) for name, (_, of) in plan_json.hints(kind).items()})
    floats = st.floats(allow_nan=False, allow_infinity=False)
    return {str: TEXT, int: st.integers(-(2**53), 2**53), float: floats, bool: st.booleans()}[kind]


def plans() -> st.SearchStrategy[Plan]:
    parts = {name: strategy(of) for name, (_, of) in plan_json.hints(Plan).items() if name != "version"}
    return st.builds(Plan, **parts)


def example() -> Plan:
    gpus = (GPUSpec("T4"), GPUSpec("B200"))
    functions = (
        FunctionSpec("f", CodeSpec("m", "f")),
        FunctionSpec("g", CodeSpec("m", "g"), resources=Resources(gpus=gpus)),
    )
    return policy.apply(make(AppSpec("demo", functions), Settings("fake", regions=("west",)), FakeCloud()))


@settings(max_examples=15, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large], deadline=None)
@given(plans())
def test_any_plan_comes_back_equal_and_is_valid(plan: Plan) -> None:
    text = json.dumps(plan_json.to_json(plan))
    assert plan_json.from_json(json.loads(text)) == plan
    VALIDATOR.validate(json.loads(text))


def test_a_real_plan_comes_back_equal_and_is_valid() -> None:
    plan = example()
    assert plan.functions[0].candidates
    text = json.dumps(plan_json.to_json(plan))
    assert plan_json.from_json(json.loads(text)) == plan
    VALIDATOR.validate(json.loads(text))


def objects(value: Any, kind: Any) -> Iterator[dict[str, Any]]:
    """Every object in a plan's JSON that stands for a dataclass, found by the types of the fields."""
    if kind is Any:
        return
    if is_dataclass(kind):
        yield value
        for name, (_, of) in plan_json.hints(kind).items():
            yield from objects(value[name], of)
    elif isinstance(value, list):
        for item in value:
            yield from objects(item, get_args(kind)[0])
    elif isinstance(value, dict):
        for item in value.values():
            yield from objects(item, get_args(kind)[1])


def test_unknown_fields_are_forbidden_everywhere() -> None:
    data = plan_json.to_json(example())
    # One of each sort, as told by its fields.
    targets = list({frozenset(found): found for found in objects(data, Plan)}.values())
    assert len(targets) >= 18
    for target in targets:
        target["surprise"] = 1
        assert not VALIDATOR.is_valid(data)
        with pytest.raises(InvalidError, match="no field 'surprise'"):
            plan_json.from_json(data)
        del target["surprise"]
    VALIDATOR.validate(data)


def test_the_schema_is_a_schema_and_up_to_date() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import make_plan_schema
    finally:
        sys.path.pop(0)
    assert (ROOT / "docs" / "plan.schema.json").read_text() == make_plan_schema.text(), (
        "run scripts/make_plan_schema.py"
    )


@pytest.mark.parametrize(
    "change, match",
    [
        ({"app": 1}, "plan.app: must be text, not int"),
        ({"groups": {}}, "plan.groups: must be a list, not dict"),
        ({"groups": [{}]}, r"plan.groups\[0\]: the field 'name' is missing"),
        ({"tags": {"a": 1}}, "plan.tags.a: must be text"),
        ({"road": None}, "plan.road: must be an object"),
    ],
)
def test_what_is_no_plan_is_refused_with_its_place(change: dict[str, Any], match: str) -> None:
    with pytest.raises(InvalidError, match=match):
        plan_json.from_json({**plan_json.to_json(example()), **change})


def test_a_flag_is_no_number() -> None:
    data = plan_json.to_json(example())
    data["groups"][0]["max_machines"] = True
    with pytest.raises(InvalidError, match="max_machines: must be a whole number, not bool"):
        plan_json.from_json(data)


@pytest.mark.parametrize("data", [None, [], "x", {}])
def test_something_else_is_no_plan(data: Any) -> None:
    with pytest.raises(InvalidError, match="no plan of cloudfn"):
        plan_json.from_json(data)


def test_another_version_is_refused() -> None:
    with pytest.raises(VersionError, match="version 99"):
        plan_json.from_json({**plan_json.to_json(example()), "version": 99})
